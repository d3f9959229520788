"""Are the people, groups, holds and policies in the database those that the log wrote, and is the log itself whole? Freshness.

A seal proves "once valid". Each leaf lists (table, key, version, digest) of the rows it wrote, so the newest version of every row of the
small tables follows from the log alone: one that is older, other, gone, unknown to the log or without its seal is blocked and alarmed.
The log is followed entry by entry and must give the tree of its own head: entries that are gone, changed or slipped in are found, and
while it is not whole nothing is granted. The index of row versions, by which a restored row of any table is refused at its use, is
compared with it and mended (ADR 40). Runs at start and every minute, and reads only what is new of the log since the last run.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from sqlalchemy import Table, func, select, tuple_

from jitaccess.domain.events import EventType
from jitaccess.domain.values import SYSTEM
from jitaccess.proof.merkle import Frontier, leaf_hash
from jitaccess.store.db import Database, SealBroken, View
from jitaccess.store.holds import HOLD_EVENTS
from jitaccess.store.log import HEAD_ID, genuine
from jitaccess.store.seal import row_digest, sealed_content
from jitaccess.store.tables import REDERIVED, Base, Event, LogHead, RowVersion, Sealed

_MODELS: dict[str, type[Base]] = {
    mapper.class_.__tablename__: mapper.class_
    for mapper in Base.registry.mappers
    if mapper.class_.__tablename__ in REDERIVED
}
_NOT_SEALED = frozenset({"version", "event_id", "seal"})
CHUNK = 300
"""Row versions that are looked up with one statement."""
Version = tuple[str, str, int]


class _NotWhole(Exception):
    """The stored log is not the one that was written; says since which entry."""


@dataclass(slots=True)
class RegisterCheck:
    """What the log says of each register row, and up to where it was read."""

    db: Database
    _frontier: Frontier = field(default_factory=Frontier)
    _newest: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    _rewritten: int = 0
    """Row versions after the first that the entries read so far name."""
    _alarmed: set[tuple[str, str, str]] = field(default_factory=set)

    def check(self) -> tuple[tuple[str, str], ...]:
        """Compare; block and alarm what differs; return the (table, key) pairs that do."""
        self.db.number_events()
        with self.db.read() as view:  # one snapshot: entries and rows belong together
            try:
                fresh = self._take_in(view)
            except _NotWhole as error:
                self.db.log_whole = False
                found = {(Event.__tablename__, str(error)): "not_whole"}
                blocked = self.db.blocked
            else:
                self.db.log_whole = True
                pending, found = self._pending(view)
                differing = self._compare(view, {(table, key) for table, key, _ in pending})
                blocked = set(differing)
                found |= differing
                if not self._indexed(view, fresh, pending):
                    found[RowVersion.__tablename__, "index"] = "differs_from_the_log"
                self.db.compared_at = view.now
        if blocked != self.db.blocked:
            self.db.blocked = blocked
            self.db.made.clear()  # what was made of the register before may rest on a row that is now blocked
        if (RowVersion.__tablename__, "index") in found:
            self._mend_index()
        self._alarm(found)
        return tuple(sorted(found))

    def _alarm(self, found: dict[tuple[str, str], str]) -> None:
        fresh = {(table, key, why) for (table, key), why in found.items()} - self._alarmed
        if fresh:
            with self.db.begin(SYSTEM) as tx:
                for table, key, why in sorted(fresh):
                    tx.record(EventType.REGISTER_DIVERGED, body={"table": table, "key": key, "why": why})
            self._alarmed |= fresh

    # -- the log

    def _take_in(self, view: View) -> list[Version]:
        """Follow the log to its head; return the row versions after the first that the new entries name.

        Nothing is kept of entries that do not give the head's tree.
        """
        head = view.rows(select(LogHead.size, LogHead.frontier).where(LogHead.id == HEAD_ID)).one()
        news = (
            select(Event.idx, Event.id, Event.type, Event.leaf, Event.leaf_hash)
            .where(Event.idx >= self._frontier.size)
            .order_by(Event.idx)
            .execution_options(yield_per=2_000)
        )
        hashes: list[bytes] = []
        newest: dict[tuple[str, str], tuple[int, str]] = {}
        fresh: list[Version] = []
        holds: list[str] = []
        expected = self._frontier.size
        with view.rows(news) as found:
            for index, event_id, type_, leaf, hash_of_leaf in found:
                if leaf_hash(leaf.encode()) != hash_of_leaf:
                    self.db.log_whole = False
                    raise SealBroken(Event.__tablename__, event_id)
                if index != expected:
                    raise _NotWhole(str(expected))
                expected += 1
                hashes.append(hash_of_leaf)
                if type_ in HOLD_EVENTS and index > self.db.holds.upto:
                    holds.append(leaf)
                for table, key, version, digest in json.loads(leaf)["rows"]:
                    if table in REDERIVED:
                        newest[table, key] = (version, digest)
                    if version > 1:
                        fresh.append((table, key, version))
        frontier = self._frontier.extend(hashes)
        numbered = view.scalar(select(func.count(Event.idx)))
        if frontier.size != head.size or numbered != head.size or frontier.to_bytes() != bytes(head.frontier):
            raise _NotWhole(str(min(frontier.size, head.size, numbered)))
        self._frontier = frontier
        self._newest |= newest
        self.db.newest = self._newest
        self._rewritten += len(fresh)
        self.db.holds = self.db.holds.after(holds, upto=frontier.size - 1)
        return fresh

    def _pending(self, view: View) -> tuple[list[Version], dict[tuple[str, str], str]]:
        """Return the rows that entries without a number name, and the entries that the broker did not write."""
        rows: list[Version] = []
        strangers: dict[tuple[str, str], str] = {}
        waiting = select(Event.id, Event.leaf, Event.leaf_hash, Event.seal).where(Event.idx.is_(None))
        for one in view.rows(waiting):
            if genuine(one.id, one.leaf, one.leaf_hash, one.seal, self.db.seals):
                rows += [(table, key, version) for table, key, version, _ in json.loads(one.leaf)["rows"]]
            else:
                strangers[Event.__tablename__, one.id] = "slipped_in"
        return rows, strangers

    # -- the index of row versions

    def _indexed(self, view: View, fresh: Sequence[Version], pending: Sequence[Version]) -> bool:
        """Say whether the index holds what new entries name, and as many versions in all as were ever named."""
        waiting = [one for one in pending if one[2] > 1]
        wanted = [*fresh, *waiting]
        columns = (RowVersion.row_table, RowVersion.row_key, RowVersion.version)
        there = 0
        for start in range(0, len(wanted), CHUNK):
            part = tuple_(*columns).in_(wanted[start : start + CHUNK])
            there += int(view.scalar(select(func.count()).select_from(RowVersion).where(part)))
        in_all = view.scalar(select(func.count()).select_from(RowVersion))
        return there == len(wanted) and in_all == self._rewritten + len(waiting)

    def _mend_index(self) -> None:
        """Make the index what the log says: it is derived from it, so a change of it hides nothing for longer than this check."""
        with self.db.read() as view:
            named = {
                (table, key, version)
                for event in view.rows(select(Event.idx, Event.id, Event.leaf, Event.leaf_hash, Event.seal))
                if event.idx is not None or genuine(event.id, event.leaf, event.leaf_hash, event.seal, self.db.seals)
                for table, key, version, _ in json.loads(event.leaf)["rows"]
                if version > 1
            }
            held = {
                (row[0], row[1], row[2])
                for row in view.rows(select(RowVersion.row_table, RowVersion.row_key, RowVersion.version))
            }
        with self.db.begin(SYSTEM) as tx:
            for table, key, version in sorted(held - named):
                tx.delete(
                    RowVersion,
                    RowVersion.row_table == table,
                    RowVersion.row_key == key,
                    RowVersion.version == version,
                )
            tx.insert_many(
                RowVersion,
                [
                    (None, {"row_table": table, "row_key": key, "version": version})
                    for table, key, version in sorted(named - held)
                ],
            )

    # -- the rows

    def _compare(self, view: View, pending: set[tuple[str, str]]) -> dict[tuple[str, str], str]:
        left = {pair for pair in self._newest if pair not in pending}
        found: dict[tuple[str, str], str] = {}
        for name, model in _MODELS.items():
            key_name = next(iter(cast(Table, model.__table__).primary_key)).key
            sealed_model = cast("type[Sealed]", model)
            columns = [
                column.key
                for column in cast(Table, model.__table__).columns
                if column.key not in _NOT_SEALED and column.key not in sealed_model.UNSEALED
            ]
            for row in view.unchecked_all(select(model)):
                key = str(getattr(row, key_name))
                if (name, key) in pending:
                    continue  # written after what was read: its own transaction checked it
                left.discard((name, key))
                known = self._newest.get((name, key))
                sealed = cast(Sealed, row)
                version = sealed.version
                values = {column: getattr(row, column) for column in columns}
                digest = row_digest(name, key, version, sealed_content(columns, sealed_model.LATER, values))
                if known is None:
                    found[name, key] = "unknown_to_the_log"
                elif version < known[0]:
                    found[name, key] = "older_than_the_log"
                elif (version, digest) != known:
                    found[name, key] = "differs_from_the_log"
                elif not self.db.seals.holds(sealed.seal, name, key, version, sealed.event_id, digest):
                    found[name, key] = "seal_does_not_hold"
        for pair in left:
            found[pair] = "gone"
        return found
