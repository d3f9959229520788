"""Do the tree and its proofs agree with the recursive definitions of RFC 6962 section 2.1, for every size?"""

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jitaccess.proof.merkle import (
    Frontier,
    consistency_path,
    inclusion_path,
    leaf_hash,
    root_of,
    subtree_of,
    verify_consistency,
    verify_inclusion,
)

LEAVES = st.lists(st.binary(max_size=4), min_size=1, max_size=70)


def split(size: int) -> int:
    """Return the largest power of two smaller than size."""
    power = 1
    while power * 2 < size:
        power *= 2
    return power


def mth(leaves: Sequence[bytes]) -> bytes:
    """MTH(D[n]) of RFC 6962 section 2.1."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = split(len(leaves))
    return hashlib.sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def path(m: int, leaves: Sequence[bytes]) -> list[bytes]:
    """PATH(m, D[n]) of section 2.1.1."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m: int, leaves: Sequence[bytes], whole: bool) -> list[bytes]:
    """SUBPROOF(m, D[n], b) of section 2.1.2."""
    if m == len(leaves):
        return [] if whole else [mth(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*subproof(m, leaves[:k], whole), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), mth(leaves[:k])]


@pytest.mark.covers("R67")
@given(LEAVES, st.data())
def test_roots_are_those_of_the_definition_however_the_tree_grew(leaves: list[bytes], data: st.DataObject) -> None:
    hashes = [leaf_hash(leaf) for leaf in leaves]
    cut = data.draw(st.integers(0, len(leaves)))
    begun = Frontier().extend(hashes[:cut])
    assert root_of(hashes) == mth(leaves)
    assert begun.root() == mth(leaves[:cut])
    assert Frontier.from_bytes(begun.to_bytes()).extend(hashes[cut:]).root() == mth(leaves)
    one_by_one = Frontier()
    for hash_of_leaf in hashes:
        one_by_one = one_by_one.append(hash_of_leaf)
    assert one_by_one == begun.extend(hashes[cut:])


@pytest.mark.covers("R70")
@given(LEAVES, st.data())
def test_inclusion_paths_are_those_of_the_definition(leaves: list[bytes], data: st.DataObject) -> None:
    hashes = [leaf_hash(leaf) for leaf in leaves]
    index = data.draw(st.integers(0, len(leaves) - 1))
    found = inclusion_path(index, len(leaves), subtree_of(hashes))
    assert found == path(index, leaves)
    assert verify_inclusion(hashes[index], index, len(leaves), found, mth(leaves))
    assert not verify_inclusion(leaf_hash(b"other"), index, len(leaves), found, mth(leaves))


@pytest.mark.covers("R70")
@given(LEAVES, st.data())
def test_consistency_paths_are_those_of_the_definition(leaves: list[bytes], data: st.DataObject) -> None:
    hashes = [leaf_hash(leaf) for leaf in leaves]
    old = data.draw(st.integers(1, len(leaves)))
    found = consistency_path(old, len(leaves), subtree_of(hashes))
    assert found == subproof(old, leaves, True)
    assert verify_consistency(old, len(leaves), mth(leaves[:old]), mth(leaves), found)
    other = [*leaves[: old - 1], b"other"]
    assert not verify_consistency(old, len(leaves), mth(other), mth(leaves), found)


@pytest.mark.covers("R70")
@settings(max_examples=50)
@given(st.integers(1, 2**60), st.integers(0, 2**60), st.lists(st.binary(min_size=32, max_size=32), max_size=70))
def test_made_up_proofs_never_hold(size: int, index: int, steps: list[bytes]) -> None:
    root = bytes(32)
    assert not verify_inclusion(leaf_hash(b""), index, size, steps, root)
    assert not verify_consistency(min(index, size - 1), size, bytes(range(32)), root, steps)
