"""How does access begin, wait, go on and end, and who hears of it? The terms around a grant, as one value.

Pure: no clock, no store. A member that no rule uses is absent from every document, so what was signed before a term existed reads
on unchanged. Merging takes the strictest of each; `narrows` tells whether a change of one member only takes away.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from jitaccess.proof.canonical import JsonValue
from jitaccess.told import told as said

MEMBERS = frozenset({"conflicts", "start_within_s", "extensions", "grace_s", "warn_s", "notify", "delay"})
"""The members of a terms document (and of a rule's normal form) that this module reads and writes."""
NOTICES = ("filed", "granted", "ended", "held")
"""What witnesses can be told of."""
OWNER = "owner"
"""Among those who may veto: the people of the institution that owns the target. Every other word is a group."""


@dataclass(frozen=True, slots=True, order=True)
class Conflict:
    """What must not be in one hand with this: whoever holds it, or held it less than `within_s` ago, is denied."""

    target: str
    entitlement: str
    within_s: int


@dataclass(frozen=True, slots=True)
class Extensions:
    """How often access may be continued by a new request, and how long it may last in all, from its first start."""

    count: int
    total_s: int


@dataclass(frozen=True, slots=True)
class Delay:
    """How long a grant waits after its approval, and who may stop it meanwhile: `owner` or group ids."""

    time_lock_s: int
    veto: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Course:
    """The terms around a grant."""

    conflicts: tuple[Conflict, ...] = ()
    start_within_s: int | None = None
    """How far ahead a start may lie; None: it is now."""
    extensions: Extensions | None = None
    grace_s: int | None = None
    """A soft end: so long what is open runs on after the end, while nothing new is opened. None: a hard end."""
    warn_s: int | None = None
    """How long before the end the person is told."""
    notify: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """What happened -> groups that are told of it."""
    delay: Delay | None = None

    @property
    def wait_s(self) -> int:
        """Return how long a grant waits after its approval; 0 without a delay."""
        return self.delay.time_lock_s if self.delay is not None else 0

    def to_document(self) -> dict[str, JsonValue]:
        """Return what is used, and nothing else."""
        document: dict[str, JsonValue] = {}
        if self.conflicts:
            document["conflicts"] = [
                {"target": found.target, "entitlement": found.entitlement, "within_s": found.within_s}
                for found in self.conflicts
            ]
        for name in ("start_within_s", "grace_s", "warn_s"):
            if getattr(self, name) is not None:
                document[name] = getattr(self, name)
        if self.extensions is not None:
            document["extensions"] = {"count": self.extensions.count, "total_s": self.extensions.total_s}
        if self.notify:
            document["notify"] = {event: [*groups] for event, groups in self.notify}
        if self.delay is not None:
            document["delay"] = {"time_lock_s": self.delay.time_lock_s, "veto": [*self.delay.veto]}
        return document

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Course":
        """Read the members out of a document that may hold others; raises KeyError, TypeError or ValueError."""
        if not MEMBERS & document.keys():
            return PLAIN
        extensions, delay = document.get("extensions"), document.get("delay")
        conflicts = [
            Conflict(found["target"], found["entitlement"], found["within_s"])
            for found in document.get("conflicts", ())
        ]
        return cls(
            conflicts=tuple(sorted(conflicts)),
            start_within_s=document.get("start_within_s"),
            extensions=None if extensions is None else Extensions(extensions["count"], extensions["total_s"]),
            grace_s=document.get("grace_s"),
            warn_s=document.get("warn_s"),
            notify=notices(document.get("notify", {}).items()),
            delay=None if delay is None else Delay(delay["time_lock_s"], tuple(delay["veto"])),
        )


PLAIN = Course()
"""The course of a grant about which no rule says anything; compared by identity on the hot path."""


def notices(told: Iterable[tuple[str, Iterable[str]]]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return (what happened, groups) as one group list for each, both in order; raises ValueError for an unknown notice."""
    found: dict[str, set[str]] = {}
    for event, groups in told:
        if event not in NOTICES:
            raise ValueError(said("nobody is told of %(event)s", event=event))
        found.setdefault(event, set()).update(groups)
    return tuple((event, tuple(sorted(groups))) for event, groups in sorted(found.items()))


def strictest(courses: Sequence[Course]) -> Course:
    """Merge all rules that speak.

    Every conflict for its longest time, every witness, the longest delay that most may end, the earliest warning; and only where all of
    them allow it the nearest start, the fewest extensions and the shortest grace.
    """
    if all(course is PLAIN for course in courses):
        return PLAIN
    extensions = [course.extensions for course in courses if course.extensions is not None]
    delays = [course.delay for course in courses if course.delay is not None]
    merged = Course(
        conflicts=longest([found for course in courses for found in course.conflicts]),
        start_within_s=only_where_all([course.start_within_s for course in courses]),
        extensions=None
        if len(extensions) < len(courses)
        else Extensions(min(found.count for found in extensions), min(found.total_s for found in extensions)),
        grace_s=only_where_all([course.grace_s for course in courses]),
        warn_s=max((course.warn_s for course in courses if course.warn_s is not None), default=None),
        notify=notices(pair for course in courses for pair in course.notify),
        delay=None
        if not delays
        else Delay(
            max(delay.time_lock_s for delay in delays), tuple(sorted({name for delay in delays for name in delay.veto}))
        ),
    )
    return PLAIN if merged == PLAIN else merged


def only_where_all(values: Sequence[int | None]) -> int | None:
    """Return the least of what every rule allows; nothing where one rule allows nothing."""
    present = [value for value in values if value is not None]
    return min(present) if len(present) == len(values) else None


def longest(conflicts: Sequence[Conflict]) -> tuple[Conflict, ...]:
    """Return one conflict for each entitlement, with its longest time."""
    found: dict[tuple[str, str], int] = {}
    for conflict in conflicts:
        pair = (conflict.target, conflict.entitlement)
        found[pair] = max(found.get(pair, 0), conflict.within_s)
    return tuple(sorted(Conflict(*pair, within_s) for pair, within_s in found.items()))


def narrows(name: str, was: Any, now: Any) -> bool:
    """Say whether one member's change surely takes away; `None` where a rule does not use it."""
    match name:
        case "conflicts":
            before, after = _pairs(was), _pairs(now)
            return all(after.get(pair, 0) >= within_s for pair, within_s in before.items())
        case "start_within_s" | "grace_s":
            return was is not None and (now is None or bool(now <= was))
        case "extensions":
            fewer = now is None or was is None or (now["count"] <= was["count"] and now["total_s"] <= was["total_s"])
            return was is not None and bool(fewer)
        case "warn_s":
            return now is not None and (was is None or bool(now >= was))
        case "notify":
            return all(set((now or {}).get(event, ())) >= set(groups) for event, groups in (was or {}).items())
        case "delay":
            longer = now is not None and (was is None or now["time_lock_s"] >= was["time_lock_s"])
            return longer and (was is None or set(now["veto"]) >= set(was["veto"]))
        case _:
            return False


def _pairs(conflicts: object) -> dict[tuple[str, str], int]:
    found = cast("Sequence[Mapping[str, Any]]", conflicts or ())
    return {(part["target"], part["entitlement"]): part["within_s"] for part in found}
