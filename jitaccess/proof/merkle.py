"""Is this entry in that tree, and does this tree grow from that one? RFC 6962 section 2.1, RFC 9162 sections 2.1.3-2.1.4.

A `Frontier` is the compact range [0, size): the roots of the perfect subtrees that a size's binary form names, largest first. It
is all that is needed to append and to know the root. Proofs are computed from a `subtree(lo, hi)` function that returns the
hash of the tree over leaves lo (inclusive) to hi (exclusive), so a caller decides what it stores.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from jitaccess.proof.errors import ProofError

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
Subtree = Callable[[int, int], bytes]


def leaf_hash(leaf: bytes) -> bytes:
    """Return SHA-256(0x00 || leaf)."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Frontier:
    """The compact range of a tree."""

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def append(self, hash_of_leaf: bytes) -> "Frontier":
        """Return the frontier with one more leaf."""
        return self.extend((hash_of_leaf,))

    def extend(self, hashes_of_leaves: Iterable[bytes]) -> "Frontier":
        """Return the frontier with more leaves."""
        stack, size = list(self.hashes), self.size
        for hash_of_leaf in hashes_of_leaves:
            node, ones = hash_of_leaf, size
            while ones & 1:
                node = node_hash(stack.pop(), node)
                ones >>= 1
            stack.append(node)
            size += 1
        return Frontier(size, tuple(stack))

    def root(self) -> bytes:
        """Return the root; of the empty tree SHA-256 of nothing."""
        if not self.hashes:
            return EMPTY_ROOT
        node = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            node = node_hash(left, node)
        return node

    def to_bytes(self) -> bytes:
        """Return size as 8 bytes big-endian, then the hashes."""
        return self.size.to_bytes(8, "big") + b"".join(self.hashes)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Frontier":
        """Read `to_bytes`; the number of hashes must be what the size asks for."""
        size, body = int.from_bytes(data[:8], "big"), data[8:]
        if len(data) < 8 or len(body) != HASH_BYTES * size.bit_count():
            raise ProofError("bad_frontier", "not the frontier of a tree of this size")
        return cls(size, tuple(body[at : at + HASH_BYTES] for at in range(0, len(body), HASH_BYTES)))


def root_of(leaf_hashes: Iterable[bytes]) -> bytes:
    """Return the root over leaf hashes."""
    return Frontier().extend(leaf_hashes).root()


def subtree_of(leaf_hashes: Sequence[bytes]) -> Subtree:
    """Return a `subtree` function over a sequence of leaf hashes."""
    return lambda lo, hi: root_of(leaf_hashes[lo:hi])


def _split(size: int) -> int:
    """Return the largest power of two below size (size > 1)."""
    return 1 << ((size - 1).bit_length() - 1)


def inclusion_path(index: int, size: int, subtree: Subtree) -> list[bytes]:
    """Return the audit path of leaf `index` in the tree of `size` leaves, from the leaf up (RFC 9162 section 2.1.3.1)."""
    if not 0 <= index < size:
        raise ProofError("index_outside", f"entry {index} is not in a tree of {size}")
    path: list[bytes] = []
    lo, hi = 0, size
    while hi - lo > 1:
        middle = lo + _split(hi - lo)
        if index < middle:
            path.append(subtree(middle, hi))
            hi = middle
        else:
            path.append(subtree(lo, middle))
            lo = middle
    return path[::-1]


def verify_inclusion(hash_of_leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Say whether the path leads from the leaf to the root (RFC 9162 section 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    fn, sn, node = index, size - 1, hash_of_leaf
    for step in path:
        if sn == 0 or len(step) != HASH_BYTES:
            return False
        if fn & 1 or fn == sn:
            node = node_hash(step, node)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            node = node_hash(node, step)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and node == root


def consistency_path(old: int, new: int, subtree: Subtree) -> list[bytes]:
    """Return the proof that the tree of `old` leaves is a prefix of that of `new` (RFC 9162 section 2.1.4.1)."""
    if not 0 < old <= new:
        raise ProofError("index_outside", f"a tree of {old} is not inside a tree of {new}")
    path: list[bytes] = []
    lo, hi, whole = 0, new, True
    while old != hi:
        middle = lo + _split(hi - lo)
        if old <= middle:
            path.append(subtree(middle, hi))
            hi = middle
        else:
            path.append(subtree(lo, middle))
            lo, whole = middle, False
    if not whole:
        path.append(subtree(lo, hi))
    return path[::-1]


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]) -> bool:
    """Say whether the proof joins the two roots (RFC 9162 section 2.1.4.2)."""
    if not 0 < old <= new or any(len(step) != HASH_BYTES for step in path):
        return False
    if old == new:
        return not path and old_root == new_root
    steps = list(path) if old & (old - 1) else [old_root, *path]
    if not steps:
        return False
    fn, sn = old - 1, new - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    first = second = steps[0]
    for step in steps[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            first, second = node_hash(step, first), node_hash(step, second)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            second = node_hash(second, step)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and first == old_root and second == new_root
