"""Which number does each committed event get? The sequencing half of the log (design.md section 5).

On SQLite, where there is one writer, events are numbered inside the transaction that records them (`Tip`). On PostgreSQL a
sequencer takes the committed, not yet numbered events (`idx IS NULL`; never `id > last`, ids commit out of order), gives them
consecutive numbers and extends the RFC 6962 tree by compare-and-set on its size: a zombie that lost its lock loses the
compare-and-set and is harmless. Signing and proving live in `audit`.
"""

import hashlib
from dataclasses import dataclass

from sqlalchemy import Connection, Dialect, bindparam, select, update

from jitaccess.errors import JitError, Kind
from jitaccess.proof.errors import ProofError
from jitaccess.proof.merkle import Frontier, leaf_hash
from jitaccess.store.prepared import Arrays, Cursor, Prepared
from jitaccess.store.seal import Seals
from jitaccess.store.tables import Event, LogHead

HEAD_ID = 1
EVENT_TABLE = "event"


def event_digest(leaf: bytes) -> str:
    """Return the hex SHA-256 of a leaf's bytes, the content that an event's seal covers until it is in the tree."""
    return hashlib.sha256(leaf).hexdigest()


class LogStatements:
    """The log's own statements, prepared for one dialect."""

    def __init__(self, dialect: Dialect) -> None:
        self.load = Prepared(select(LogHead.size, LogHead.frontier).where(LogHead.id == bindparam("row_key")), dialect)
        self.save = Prepared(
            update(LogHead)
            .where(LogHead.id == bindparam("row_key"), LogHead.size == bindparam("old_size"))
            .values(size=bindparam("new_size"), frontier=bindparam("new_frontier")),
            dialect,
        )
        self.number = Prepared(
            update(Event).where(Event.id == bindparam("row_key"), Event.idx.is_(None)).values(idx=bindparam("new_idx")),
            dialect,
            many=None
            if dialect.name == "sqlite"
            else Arrays(
                {"row_key": Event.id.type, "new_idx": Event.idx.type},
                lambda given: (
                    update(Event).where(Event.id == given.c.row_key, Event.idx.is_(None)).values(idx=given.c.new_idx)
                ),
                dialect,
            ),
        )


@dataclass(slots=True)
class Tip:
    """The growing end of the log inside one commit."""

    started_at: int
    frontier: Frontier

    @classmethod
    def load(cls, cursor: Cursor, statements: LogStatements) -> "Tip":
        """Read the head; a store without one is not initialised."""
        found = statements.load.rows(cursor, {"row_key": HEAD_ID})
        if not found:
            raise JitError(Kind.CONFIGURATION, "This database has no log head: run `jitaccess init` first.")
        size, stored = found[0]
        try:
            frontier = Frontier.from_bytes(bytes(stored))
        except ProofError as error:
            raise _contradiction() from error
        if frontier.size != size:
            raise _contradiction()
        return cls(size, frontier)

    def take(self, hash_of_leaf: bytes) -> int:
        """Append one leaf hash and return its number."""
        index = self.frontier.size
        self.frontier = self.frontier.append(hash_of_leaf)
        return index

    def save(self, cursor: Cursor, statements: LogStatements) -> None:
        """Write the head back; raises CONFLICT when somebody else extended the tree meanwhile."""
        if self.frontier.size == self.started_at:
            return
        values = {
            "row_key": HEAD_ID,
            "old_size": self.started_at,
            "new_size": self.frontier.size,
            "new_frontier": self.frontier.to_bytes(),
        }
        if statements.save.run(cursor, values) != 1:
            raise JitError(Kind.CONFLICT, "Another process extended the log first; try again.")
        self.started_at = self.frontier.size


def _contradiction() -> JitError:
    return JitError(Kind.SEAL_BROKEN, "The log head contradicts itself; verify an export of the log.")


def number_pending(
    connection: Connection, cursor: Cursor, statements: LogStatements, seals: Seals, *, limit: int = 5_000
) -> int:
    """Number committed events that have none; return how many. Runs in the caller's transaction.

    Each event's seal is checked first: an event slipped in by SQL never becomes part of the tree; it stays without a number
    and `audit.register` alarms it.
    """
    pending = connection.execute(_PENDING.limit(limit)).all()
    if not pending:
        return 0
    tip = Tip.load(cursor, statements)
    numbers: list[dict[str, object]] = []
    for event in pending:
        if genuine(event.id, event.leaf, event.leaf_hash, event.seal, seals):
            numbers.append({"row_key": event.id, "new_idx": tip.take(event.leaf_hash)})
    if not numbers:
        return 0
    tip.save(cursor, statements)
    if statements.number.run_many(cursor, numbers) != len(numbers):
        raise JitError(Kind.CONFLICT, "Another process numbered the same events first; try again.")
    return len(numbers)


_PENDING = select(Event.id, Event.leaf, Event.leaf_hash, Event.seal).where(Event.idx.is_(None)).order_by(Event.id)


def genuine(event_id: str, leaf: str, hash_of_leaf: bytes, seal: str, seals: Seals) -> bool:
    """Say whether the broker wrote this event: its hash is that of its leaf and its seal holds under a key that is still accepted."""
    data = leaf.encode()
    return leaf_hash(data) == hash_of_leaf and seals.holds(seal, EVENT_TABLE, event_id, 0, event_id, event_digest(data))
