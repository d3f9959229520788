"""Does the tree give the published roots, and do proofs hold only for what they prove?"""

import pytest

from jitaccess.proof.errors import ProofError
from jitaccess.proof.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_path,
    inclusion_path,
    leaf_hash,
    root_of,
    subtree_of,
    verify_consistency,
    verify_inclusion,
)

# The tree of eight leaves that RFC 6962 implementations share (certificate-transparency, merkletree test data).
LEAVES = [bytes.fromhex(text) for text in
          ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")]  # fmt: skip
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
HASHES = [leaf_hash(leaf) for leaf in LEAVES]
SUBTREE = subtree_of(HASHES)


@pytest.mark.covers("R67", "R70")
def test_the_published_tree_has_the_published_roots() -> None:
    assert [root_of(HASHES[:size]).hex() for size in range(9)] == ROOTS
    assert EMPTY_ROOT.hex() == ROOTS[0]


@pytest.mark.covers("R70")
def test_a_published_inclusion_path_is_ours() -> None:
    # d0 in the tree of 8, as in RFC 6962 section 2.1.3: [b, h, l].
    b, h, l_ = HASHES[1], SUBTREE(2, 4), SUBTREE(4, 8)
    assert inclusion_path(0, 8, SUBTREE) == [b, h, l_]
    # d6 in the tree of 7: [i, k].
    assert inclusion_path(6, 7, SUBTREE) == [SUBTREE(4, 6), SUBTREE(0, 4)]


@pytest.mark.covers("R70")
def test_published_consistency_paths_are_ours() -> None:
    # RFC 6962 section 2.1.3: PROOF(3, D[7]) = [c, d, g, l], PROOF(4, D[7]) = [l], PROOF(6, D[7]) = [i, j, k].
    assert consistency_path(3, 7, SUBTREE) == [HASHES[2], HASHES[3], SUBTREE(0, 2), SUBTREE(4, 7)]
    assert consistency_path(4, 7, SUBTREE) == [SUBTREE(4, 7)]
    assert consistency_path(6, 7, SUBTREE) == [SUBTREE(4, 6), HASHES[6], SUBTREE(0, 4)]


@pytest.mark.covers("R70")
def test_an_inclusion_proof_holds_for_its_entry_place_and_tree_only() -> None:
    for size in range(1, 9):
        root = root_of(HASHES[:size])
        for index in range(size):
            path = inclusion_path(index, size, SUBTREE)
            assert verify_inclusion(HASHES[index], index, size, path, root)
            assert not verify_inclusion(HASHES[index - 1], index, size, path, root) or size == 1
            assert not any(verify_inclusion(HASHES[index], at, size, path, root) for at in range(size) if at != index)
            assert not verify_inclusion(HASHES[index], index, size, [*path, root], root)
            assert not path or not verify_inclusion(HASHES[index], index, size, path[:-1], root)
            assert not path or not verify_inclusion(HASHES[index], index, size, [*path[:-1], path[-1][:31]], root)
            assert not verify_inclusion(HASHES[index], index, size, path, EMPTY_ROOT)
    assert not verify_inclusion(HASHES[0], 0, 0, [], HASHES[0])
    assert not verify_inclusion(HASHES[0], -1, 1, [], HASHES[0])
    assert not verify_inclusion(HASHES[0], 1, 1, [], HASHES[0])


@pytest.mark.covers("R70")
def test_a_consistency_proof_holds_for_its_two_trees_only() -> None:
    roots = [root_of(HASHES[:size]) for size in range(9)]
    for new in range(1, 9):
        for old in range(1, new + 1):
            path = consistency_path(old, new, SUBTREE)
            assert verify_consistency(old, new, roots[old], roots[new], path)
            assert not verify_consistency(old, new, EMPTY_ROOT, roots[new], path)
            assert not verify_consistency(old, new, roots[old], EMPTY_ROOT, path)
            assert not verify_consistency(old, new, roots[old], roots[new], [*path, EMPTY_ROOT])
            assert not path or not verify_consistency(old, new, roots[old], roots[new], path[:-1])
            assert not path or not verify_consistency(old, new, roots[old], roots[new], [*path[:-1], b"short"])
    assert not verify_consistency(0, 3, EMPTY_ROOT, roots[3], [])
    assert not verify_consistency(3, 2, roots[3], roots[2], [])
    assert not verify_consistency(3, 5, roots[3], roots[5], [])


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0)])
def test_no_path_leads_from_outside(index: int, size: int) -> None:
    with pytest.raises(ProofError, match="not in a tree"):
        inclusion_path(index, size, SUBTREE)


@pytest.mark.parametrize(("old", "new"), [(0, 3), (4, 3), (-1, 3)])
def test_no_proof_joins_trees_that_do_not_grow(old: int, new: int) -> None:
    with pytest.raises(ProofError, match="not inside a tree"):
        consistency_path(old, new, SUBTREE)


@pytest.mark.parametrize("data", [b"", bytes(7), bytes(8) + bytes(32), b"\x00" * 7 + b"\x03" + bytes(32)])
def test_a_frontier_of_another_size_is_refused(data: bytes) -> None:
    with pytest.raises(ProofError) as caught:
        Frontier.from_bytes(data)
    assert caught.value.reason == "bad_frontier"


def test_the_root_of_many_leaves_is_that_of_a_tree_grown_leaf_by_leaf() -> None:
    hashes = [number.to_bytes(32, "big") for number in range(5_000)]
    grown = Frontier()
    for leaf in hashes:
        grown = grown.extend([leaf])
    assert root_of(hashes) == grown.root()
