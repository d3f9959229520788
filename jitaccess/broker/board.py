"""What is posted for hosts that come and fetch, and what did they say? A board for each target whose kind `publishes`.

An entry is a sealed row with an event: what is announced or revoked stands in the log. The number of a board rises with every change
and is never below the microseconds since the epoch: a board that was restored from a backup goes on above every number that hosts
have seen. Reports are kept as they came; their signature is checked by the connector at every use, so they need no seal.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from sqlalchemy import or_, select

from jitaccess.clock import to_epoch_us
from jitaccess.connectors.contract import NotDone, Posted, Report
from jitaccess.domain.events import EventType
from jitaccess.domain.values import SYSTEM
from jitaccess.errors import JitError, Kind
from jitaccess.proof.canonical import JsonValue
from jitaccess.store.db import Database, PendingEvent, Tx, View
from jitaccess.store.tables import HostReport, Posting

HEAD = ""
"""Name of the row that holds a board's number; it is locked while anything is posted."""
TRIES = 5
READ_AGAIN = timedelta(seconds=5)
CHUNK = 500
Entry = tuple[Mapping[str, JsonValue], datetime | None]


def key_of(target: str, name: str) -> str:
    """Return the row's key of an entry or a host."""
    return hashlib.sha256(f"{target}\0{name}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class _Known:
    """What a process read last."""

    number: int
    read_at: datetime
    entries: Mapping[str, Entry]
    broken: frozenset[str]


class SqlBoard:
    """The board of one target, in the broker's database."""

    def __init__(self, db: Database, target: str) -> None:
        self._db = db
        self.target = target
        self._known: _Known | None = None

    def read(self) -> Posted:
        """Return everything that is still to be kept, in one view; an entry whose seal is broken only by name.

        Hosts ask every second, each: what has not changed since the last look is read, and its seals checked, anew only every few
        seconds. Numbers are given one after the other under the head's lock, so nothing appears below one that was seen.
        """
        with self._db.read() as view:
            head = view.unchecked_get(Posting, key_of(self.target, HEAD))
            number = head.number if head is not None else 0
            known = self._known
            if known is None or number < known.number or view.now - known.read_at >= READ_AGAIN:
                known = self._known = self._read(view, number, _Known(0, view.now, {}, frozenset()))
            elif number > known.number:
                known = self._known = self._read(view, number, known)
            reports = view.all(select(HostReport).where(HostReport.target == self.target))
            said = {row.host: Report(row.text, row.signature, row.received_at) for row in reports}
            entries = {
                name: value for name, (value, until) in known.entries.items() if until is None or until > view.now
            }
            return Posted(view.now, known.number, entries, known.broken, said)

    def _read(self, view: View, number: int, since: "_Known") -> "_Known":
        """Read what changed since a look."""
        kept = or_(Posting.until.is_(None), Posting.until > view.now)
        wanted = select(Posting).where(Posting.target == self.target, Posting.number > since.number, kept)
        entries, broken = dict(since.entries), set(since.broken)
        for row in view.unchecked_all(wanted):
            entries.pop(row.name, None)
            if not view.intact(row):
                broken.add(row.name)
            elif row.name != HEAD:
                entries[row.name] = (cast("Mapping[str, JsonValue]", row.value), row.until)
        return _Known(number, since.read_at, entries, frozenset(broken - {HEAD}))

    def post(self, entries: Mapping[str, Entry], *, only_before: datetime | None = None) -> int:
        """Put entries on the board; raises NotDone (with `only_before`), or JitError when the store cannot commit."""
        for left in reversed(range(TRIES)):
            try:
                return self._post(entries, only_before)
            except JitError as error:
                if error.kind is not Kind.CONFLICT or not left:  # the board's first entries, of two processes at once
                    raise
        raise JitError(Kind.UNAVAILABLE, "Too much is being posted at once. Try again in a moment.")

    def _post(self, entries: Mapping[str, Entry], only_before: datetime | None) -> int:
        with self._db.begin(SYSTEM, lock=[(Posting, key_of(self.target, HEAD))]) as tx:
            known = self._rows(tx, [HEAD, *entries])
            head = known.pop(HEAD, None)
            if only_before is not None and (tx.now >= only_before or known):
                raise NotDone("too late, or the name was used")
            number = max((head.number if head is not None else 0) + 1, to_epoch_us(tx.now))
            event = tx.record(
                EventType.TARGET_POSTED,
                subject={"target": self.target},
                body={"number": number, "entries": len(entries), "announced": only_before is not None},
            )
            self._write(tx, event, {HEAD: head} if head is not None else {}, {HEAD: ({}, None)}, number)
            self._write(tx, event, known, entries, number)
            return number

    def _rows(self, tx: Tx, names: list[str]) -> dict[str, Posting]:
        keys = [key_of(self.target, name) for name in names]
        found: dict[str, Posting] = {}
        for start in range(0, len(keys), CHUNK):
            part = tx.unchecked_all(select(Posting).where(Posting.id.in_(keys[start : start + CHUNK])))
            found |= {row.id: row for row in part}
        return {name: found[key] for name, key in zip(names, keys, strict=True) if key in found}

    def _write(
        self,
        tx: Tx,
        event: PendingEvent,
        known: Mapping[str, Posting],
        entries: Mapping[str, Entry],
        number: int,
    ) -> None:
        fresh: list[tuple[PendingEvent | None, Mapping[str, object]]] = []
        changed: list[tuple[Posting, PendingEvent | None, Mapping[str, object]]] = []
        for name, (value, until) in entries.items():
            columns: dict[str, object] = {"name": name, "number": number, "value": dict(value), "until": until}
            if name in known:
                changed.append((known[name], event, columns))
            else:
                fresh.append((event, {"id": key_of(self.target, name), "target": self.target, **columns}))
        tx.insert_many(Posting, fresh)
        tx.update_many(changed)

    def take(self, host: str, sequence: int, report: tuple[str, str]) -> bool:
        """Keep a report that is not older than the last one; two at once: one of them comes again."""
        key = key_of(self.target, host)
        with self._db.begin(SYSTEM, lock=[(HostReport, key)]) as tx:
            row = tx.get(HostReport, key)
            text, signature = report
            if row is None:
                tx.insert(
                    HostReport,
                    id=key,
                    target=self.target,
                    host=host,
                    sequence=sequence,
                    text=text,
                    signature=signature,
                    received_at=tx.now,
                )
            elif sequence < row.sequence:
                return False
            else:
                tx.update(row, sequence=sequence, text=text, signature=signature, received_at=tx.now)
            return True
