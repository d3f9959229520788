"""In which order does a person read terms? By the question that they answer, the decisive ones first; what is not set comes last, folded.

Nothing is left out: every signed term stands in exactly one group, also one that this module does not know.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from flask import Flask

from jitaccess.web.display import NOTHING
from jitaccess.web.speech import lazy_gettext

PLACES: tuple[tuple[str, object, tuple[str, ...]], ...] = (
    ("who", lazy_gettext("Who may have it"), ("credential", "active_per_person", "per_day", "conflicts")),
    ("when", lazy_gettext("When"), ("start_within_s", "activate_within_s", "delay")),
    ("how_long", lazy_gettext("How long"), ("max_s", "default_s", "min_s", "extensions")),
    ("approves", lazy_gettext("Who approves"), ("approve", "pending_s")),
    ("afterwards", lazy_gettext("Afterwards"), ("warn_s", "grace_s", "notify", "token_ttl_s")),
)
"""Group, its title, and the first parts of the names in it, in the order in which they are read."""
OTHERS, UNSET = "others", "unset"
_IN_A_BLOCK = ("name", "step", "count", "people", "groups", "institution", "others", "after", "after_s")
"""How the parts of a step are read; others after them."""


@dataclass(frozen=True, slots=True)
class Row:
    """One term: the dotted name that is signed, what of it makes the label, and the value as text."""

    name: str
    label: str
    text: str


@dataclass(frozen=True, slots=True)
class Block:
    """Terms of one thing: of a step, or with an empty label of the group itself."""

    label: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Terms that answer one question."""

    key: str
    title: object
    blocks: tuple[Block, ...]

    @property
    def rows(self) -> tuple[Row, ...]:
        """Return all its terms in the order in which they are read."""
        return tuple(row for block in self.blocks for row in block.rows)


def in_groups(terms: Iterable[tuple[str, str]]) -> list[Group]:
    """Return terms (`display.terms_rows`) in groups; groups without any are left out."""
    rows = list(terms)
    known = {part: (group, place) for group, _, parts in PLACES for place, part in enumerate(parts)}
    found: list[Group] = []
    for key, title, _ in (*PLACES, (OTHERS, "", ())):
        mine = [
            (name, text) for name, text in rows if text != NOTHING and known.get(_parts(name)[0], (OTHERS, 0))[0] == key
        ]
        mine.sort(key=lambda row: (known.get(_parts(row[0])[0], (OTHERS, 0))[1], _within(row[0])))
        if mine:
            found.append(Group(key, title, _blocks(mine)))
    unset = tuple(Row(name, name, text) for name, text in rows if text == NOTHING)
    return [*found, Group(UNSET, "", (Block("", unset),))] if unset else found


def _blocks(rows: Iterable[tuple[str, str]]) -> tuple[Block, ...]:
    """Put what belongs to one numbered thing under one label, so that no row repeats it."""
    made: list[Block] = []
    for label, mine in groupby(rows, key=lambda row: _owner(row[0])):
        made.append(Block(label, tuple(Row(name, _label(name, label), text) for name, text in mine)))
    return tuple(made)


def _owner(name: str) -> str:
    """Return the name of the numbered thing that a term belongs to, without what the group's title says; empty for none."""
    parts = _parts(name)
    last = max((place for place, part in enumerate(parts) if part.isdigit()), default=-1)
    return ".".join(parts[: last + 1]).removeprefix("approve.")


def _label(name: str, owner: str) -> str:
    short = ".".join(_parts(name)).removeprefix("approve.")
    return short.removeprefix(f"{owner}.") if owner else short


def _parts(name: str) -> Sequence[str]:
    return name.removeprefix("terms.").split(".")


def _within(name: str) -> tuple[tuple[int, str], ...]:
    """Order within a first part: steps before what else is said of approval, their parts as people read them."""
    return tuple(_place(part) for part in _parts(name)[1:])


def _place(part: str) -> tuple[int, str]:
    if part.isdigit():
        return int(part), ""
    if part == "steps":
        return -1, ""
    return (_IN_A_BLOCK.index(part), "") if part in _IN_A_BLOCK else (len(_IN_A_BLOCK), part)


def install(app: Flask) -> None:
    """Let templates write terms in groups."""
    app.add_template_filter(in_groups, "in_groups")
