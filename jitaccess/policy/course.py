"""How does access begin, wait, go on and end, and who hears of it? The terms around a grant, as one value.

Pure: no clock, no store. A member that no rule uses is absent from every document, so what was signed before a term existed reads
on unchanged. Merging takes the strictest of each; `narrows` tells whether a change of one member only takes away.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from jitaccess.proof.canonical import JsonValue

MEMBERS = frozenset({"conflicts", "start_within_s"})
"""The members of a terms document (and of a rule's normal form) that this module reads and writes."""


@dataclass(frozen=True, slots=True, order=True)
class Conflict:
    """What must not be in one hand with this: whoever holds it, or held it less than `within_s` ago, is denied."""

    target: str
    entitlement: str
    within_s: int


@dataclass(frozen=True, slots=True)
class Course:
    """The terms around a grant."""

    conflicts: tuple[Conflict, ...] = ()
    start_within_s: int | None = None
    """How far ahead a start may lie; None: it is now."""

    def to_document(self) -> dict[str, JsonValue]:
        """Return what is used, and nothing else."""
        document: dict[str, JsonValue] = {}
        if self.conflicts:
            document["conflicts"] = [
                {"target": found.target, "entitlement": found.entitlement, "within_s": found.within_s}
                for found in self.conflicts
            ]
        if self.start_within_s is not None:
            document["start_within_s"] = self.start_within_s
        return document

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Course":
        """Read the members out of a document that may hold others; raises KeyError, TypeError or ValueError."""
        if not MEMBERS & document.keys():
            return PLAIN
        return cls(
            conflicts=tuple(
                sorted(
                    Conflict(found["target"], found["entitlement"], found["within_s"])
                    for found in document.get("conflicts", ())
                )
            ),
            start_within_s=document.get("start_within_s"),
        )


PLAIN = Course()
"""The course of a grant about which no rule says anything; compared by identity on the hot path."""


def strictest(courses: Sequence[Course]) -> Course:
    """Merge: every conflict of every rule, for the longest time; the nearest start, and now where any rule says nothing of it."""
    if all(course is PLAIN for course in courses):
        return PLAIN
    merged = Course(
        conflicts=longest([found for course in courses for found in course.conflicts]),
        start_within_s=_only_where_all([course.start_within_s for course in courses]),
    )
    return PLAIN if merged == PLAIN else merged


def _only_where_all(values: Sequence[int | None]) -> int | None:
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


def narrows(name: str, was: object, now: object) -> bool:
    """Say whether one member's change surely takes away; `None` where a rule does not use it."""
    match name:
        case "conflicts":
            before, after = _pairs(was), _pairs(now)
            return all(after.get(pair, 0) >= within_s for pair, within_s in before.items())
        case "start_within_s":
            return was is not None and (now is None or cast(int, now) <= cast(int, was))
        case _:
            return False


def _pairs(conflicts: object) -> dict[tuple[str, str], int]:
    found = cast("Sequence[Mapping[str, Any]]", conflicts or ())
    return {(part["target"], part["entitlement"]): part["within_s"] for part in found}
