"""Which holds are in force? The log alone says: those that it placed and did not release (ADR 40).

A hold is a negative fact: deleting its row must not lift it. So the rows of `hold` are only what pages show of it; who is held is
derived from the entries `hold.placed` and `hold.released`. What was read under a verified tree is remembered, the rest is read anew.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from jitaccess.clock import from_epoch_us
from jitaccess.domain.events import EventType

HOLD_EVENTS = (EventType.HOLD_PLACED.value, EventType.HOLD_RELEASED.value)


@dataclass(frozen=True, slots=True)
class LoggedHold:
    """A hold as the entry that placed it tells of it."""

    id: str
    kind: str
    subject_id: str
    placed_by: str
    placed_at: datetime


@dataclass(frozen=True, slots=True)
class LoggedHolds:
    """Holds in force by the entries up to and including number `upto`; -1 before the first."""

    upto: int = -1
    in_force: Mapping[str, LoggedHold] = field(default_factory=lambda: MappingProxyType({}))

    def after(self, leaves: Iterable[str], upto: int | None = None) -> "LoggedHolds":
        """Return what is in force after these entries, in the order of the log; `leaves` are leaves of hold events."""
        held = dict(self.in_force)
        for text in leaves:
            leaf = json.loads(text)
            key = leaf["subject"]["hold"]
            if leaf["type"] == EventType.HOLD_RELEASED.value:
                held.pop(key, None)
                continue
            kind = leaf["body"]["kind"]
            held[key] = LoggedHold(
                key, kind, leaf["subject"][kind], str(leaf["body"]["by"]), from_epoch_us(leaf["at_us"])
            )
        return LoggedHolds(self.upto if upto is None else upto, held)
