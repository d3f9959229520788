"""Which number does each committed event get? The sequencing half of the log (design.md section 5).

On SQLite, where there is one writer, events are numbered inside the transaction that records them (`Tip`). On PostgreSQL a
sequencer takes the committed, not yet numbered events (`idx IS NULL`; never `id > last`, ids commit out of order), gives them
consecutive numbers and extends the RFC 6962 tree by compare-and-set on its size: a zombie that lost its lock loses the
compare-and-set and is harmless. Signing and proving live in `audit`.
"""

import hashlib
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, insert, select, update

from jitaccess.errors import JitError, Kind
from jitaccess.proof.merkle import Frontier, leaf_hash
from jitaccess.store.seal import Seals
from jitaccess.store.tables import Event, LogHead

HEAD_ID = 1
EVENT_TABLE = "event"


def event_digest(leaf: bytes) -> str:
    """Return the hex SHA-256 of a leaf's bytes, the content that an event's seal covers until it is in the tree."""
    return hashlib.sha256(leaf).hexdigest()


@dataclass(slots=True)
class Tip:
    """The growing end of the log inside one commit."""

    started_at: int
    frontier: Frontier

    @classmethod
    def load(cls, connection: Connection) -> "Tip":
        """Read the head; a store without one is not initialised."""
        row = connection.execute(select(LogHead.size, LogHead.frontier).where(LogHead.id == HEAD_ID)).one_or_none()
        if row is None:
            raise JitError(Kind.CONFIGURATION, "This database has no log head: run `jitaccess init` first.")
        frontier = Frontier.from_bytes(row.frontier)
        if frontier.size != row.size:
            raise JitError(Kind.SEAL_BROKEN, "The log head contradicts itself; verify an export of the log.")
        return cls(row.size, frontier)

    def take(self, hash_of_leaf: bytes) -> int:
        """Append one leaf hash and return its number."""
        index = self.frontier.size
        self.frontier = self.frontier.append(hash_of_leaf)
        return index

    def save(self, connection: Connection) -> None:
        """Write the head back; raises CONFLICT when somebody else extended the tree meanwhile."""
        if self.frontier.size == self.started_at:
            return
        done = connection.execute(
            update(LogHead)
            .where(LogHead.id == HEAD_ID, LogHead.size == self.started_at)
            .values(size=self.frontier.size, frontier=self.frontier.to_bytes())
        )
        if done.rowcount != 1:
            raise JitError(Kind.CONFLICT, "Another process extended the log first; try again.")
        self.started_at = self.frontier.size


def create_head(connection: Connection) -> None:
    """Write the head of an empty tree; used once, at genesis."""
    empty = Frontier(0, ())
    connection.execute(insert(LogHead).values(id=HEAD_ID, size=0, frontier=empty.to_bytes()))


_NUMBER = update(Event).where(Event.id == bindparam("event_key"), Event.idx.is_(None)).values(idx=bindparam("number"))


def number_pending(connection: Connection, seals: Seals, *, limit: int = 5_000) -> int:
    """Number committed events that have none; return how many. Runs in the caller's transaction.

    Each event's seal is checked first: an event slipped in by SQL never becomes part of the tree, it stays un-numbered and
    is reported by `unnumbered_strangers`.
    """
    pending = connection.execute(
        select(Event.id, Event.leaf, Event.leaf_hash, Event.seal)
        .where(Event.idx.is_(None))
        .order_by(Event.id)
        .limit(limit)
    ).all()
    tip: Tip | None = None
    numbers: list[dict[str, object]] = []
    for event in pending:
        leaf = event.leaf.encode()
        genuine = seals.holds(event.seal, EVENT_TABLE, event.id, 0, event.id, event_digest(leaf))
        if not genuine or leaf_hash(leaf) != event.leaf_hash:
            continue
        tip = tip or Tip.load(connection)
        numbers.append({"event_key": event.id, "number": tip.take(event.leaf_hash)})
    if tip is None:
        return 0
    tip.save(connection)
    done = connection.execute(_NUMBER, numbers)
    if done.rowcount not in (len(numbers), -1):
        raise JitError(Kind.CONFLICT, "Another process numbered the same events first; try again.")
    return len(numbers)
