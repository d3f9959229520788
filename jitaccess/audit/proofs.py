"""Where does this entry stand in the signed tree? Inclusion and consistency proofs from the database (RFC 9162 section 2.1.3-2.1.4)."""

from collections.abc import Iterator

from sqlalchemy import select

from jitaccess.errors import JitError, Kind
from jitaccess.proof.canonical import JsonValue, b64u_encode
from jitaccess.proof.merkle import Subtree, consistency_path, inclusion_path, root_of
from jitaccess.store.db import View
from jitaccess.store.tables import CheckpointRow, Event


def hashes_between(view: View, lo: int, hi: int) -> Iterator[bytes]:
    """Give the stored hashes of entries lo (inclusive) to hi (exclusive), in order."""
    if lo < hi:
        statement = select(Event.leaf_hash).where(Event.idx >= lo, Event.idx < hi).order_by(Event.idx)
        with view.rows(statement.execution_options(yield_per=5_000)) as found:
            for part in found.scalars().partitions():
                yield from part


def subtree(view: View) -> Subtree:
    """Return a function that gives the hash over entries lo (inclusive) to hi (exclusive), read from the stored leaf hashes."""

    def over(lo: int, hi: int) -> bytes:
        return root_of(hashes_between(view, lo, hi))

    return over


def inclusion(view: View, event_id: str) -> dict[str, JsonValue]:
    """Return the proof that an event is under the newest checkpoint: leaf, index, path (base64url) and the signed note."""
    event = view.require(Event, event_id, "There is no such entry.")
    checkpoint = view.first(select(CheckpointRow).order_by(CheckpointRow.size.desc()))
    if event.idx is None or checkpoint is None or event.idx >= checkpoint.size:
        raise JitError(Kind.UNAVAILABLE, "This entry is not under a signed checkpoint yet; ask again in a second.")
    path: list[JsonValue] = [b64u_encode(step) for step in inclusion_path(event.idx, checkpoint.size, subtree(view))]
    return {"leaf": event.leaf, "index": event.idx, "path": path, "checkpoint": checkpoint.note}


def consistency(view: View, old: int, new: int) -> list[str]:
    """Return the proof (base64url) that the tree of `old` entries is a prefix of that of `new`."""
    return [b64u_encode(step) for step in consistency_path(old, new, subtree(view))]
