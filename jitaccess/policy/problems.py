"""How is a mistake in a policy told? `file:line:column  path  what was found, what was expected, nearest known name`."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from jitaccess.told import Told, told


class Level(StrEnum):
    """Whether the set can be used all the same."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, order=True)
class PolicyProblem:
    """One thing that is wrong or risky, and where. Line and column count from 1."""

    file: str
    line: int
    column: int
    path: str
    message: str
    level: Level = Level.ERROR

    def __str__(self) -> str:
        """Return the line that editors understand."""
        return str(self.line_told())

    def line_told(self) -> str:
        """Return the same line, told: place and path stay, the sentence goes into the reader's language."""
        mark = told("warning: ") if self.level is Level.WARNING else ""
        place = f"{self.file}:{self.line}:{self.column}  {self.path}"
        return told("%(place)s  %(mark)s%(message)s", place=place, mark=mark, message=_told(self.message))


def _told(message: str) -> Told:
    return message if isinstance(message, Told) else told(message)


class PolicyErrors(Exception):
    """A set that cannot be used; holds every problem found."""

    def __init__(self, problems: Iterable[PolicyProblem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean "x"?` for the nearest known name, or nothing."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return told('; did you mean "%(found)s"?', found=found[0]) if found else ""
