"""Are the people, groups, holds and policies in the database those that the log wrote? Freshness of the small register.

A seal proves "once valid". Each leaf lists (table, key, version, digest) of the rows it wrote, so the newest version of every register row
follows from the log alone. A row that is older, other, gone or unknown to the log is blocked and alarmed. Runs at start and
every minute, and reads only what is new since the last run. An entry that is not what its hash says stops the check.
"""

import json
from dataclasses import dataclass, field
from typing import cast

from sqlalchemy import Table, select

from jitaccess.domain.events import EventType
from jitaccess.domain.values import SYSTEM
from jitaccess.proof.merkle import leaf_hash
from jitaccess.store.db import Database, SealBroken, View
from jitaccess.store.seal import row_digest, sealed_content
from jitaccess.store.tables import REGISTER, Base, Event, Sealed

_MODELS: dict[str, type[Base]] = {
    mapper.class_.__tablename__: mapper.class_
    for mapper in Base.registry.mappers
    if mapper.class_.__tablename__ in REGISTER
}
_NOT_SEALED = frozenset({"version", "event_id", "seal"})


@dataclass(slots=True)
class RegisterCheck:
    """What the log says of each register row, and up to where it was read."""

    db: Database
    _seen: int = -1
    _newest: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    _alarmed: set[tuple[str, str, str]] = field(default_factory=set)

    def check(self) -> tuple[tuple[str, str], ...]:
        """Compare; block and alarm what differs; return the (table, key) pairs that do."""
        self.db.number_events()
        with self.db.read() as view:  # one snapshot: entries and rows belong together
            self._take_in(view)
            found = self._compare(view)
        self.db.blocked = set(found)
        fresh = {(table, key, why) for (table, key), why in found.items()} - self._alarmed
        if fresh:
            with self.db.begin(SYSTEM) as tx:
                for table, key, why in sorted(fresh):
                    tx.record(EventType.REGISTER_DIVERGED, body={"table": table, "key": key, "why": why})
            self._alarmed |= fresh
        return tuple(sorted(found))

    def _take_in(self, view: View) -> None:
        news = (
            select(Event.idx, Event.id, Event.leaf, Event.leaf_hash)
            .where(Event.idx > self._seen)
            .order_by(Event.idx)
            .execution_options(yield_per=2_000)
        )
        with view.rows(news) as found:
            for index, event_id, leaf, hash_of_leaf in found:
                if leaf_hash(leaf.encode()) != hash_of_leaf:
                    raise SealBroken(Event.__tablename__, event_id)
                self._seen = index
                for table, key, version, digest in json.loads(leaf)["rows"]:
                    if table in REGISTER:
                        self._newest[table, key] = (version, digest)

    def _compare(self, view: View) -> dict[tuple[str, str], str]:
        pending = {
            (table, key)
            for leaf in view.rows(select(Event.leaf).where(Event.idx.is_(None))).scalars()
            for table, key, _, _ in json.loads(leaf)["rows"]
        }
        left = {key for key in self._newest if key not in pending}
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
                version = cast(Sealed, row).version
                values = {column: getattr(row, column) for column in columns}
                digest = row_digest(name, key, version, sealed_content(columns, sealed_model.LATER, values))
                if known is None:
                    found[name, key] = "unknown_to_the_log"
                elif version < known[0]:
                    found[name, key] = "older_than_the_log"
                elif (version, digest) != known:
                    found[name, key] = "differs_from_the_log"
        for pair in left:
            found[pair] = "gone"
        return found
