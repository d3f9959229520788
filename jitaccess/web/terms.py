"""In which order does a person read terms? By the question that they answer, the decisive ones first; what is not set comes last, folded.

Nothing is left out: every signed term stands in exactly one group, also one that this module does not know.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flask import Flask
from flask_babel import lazy_gettext

from jitaccess.web.display import NOTHING

PLACES: tuple[tuple[str, object, tuple[str, ...]], ...] = (
    ("who", lazy_gettext("Who may have it"), ("credential", "active_per_person", "per_day", "conflicts")),
    ("when", lazy_gettext("When"), ("start_within_s", "activate_within_s", "delay")),
    ("how_long", lazy_gettext("How long"), ("max_s", "default_s", "min_s", "extensions")),
    ("approves", lazy_gettext("Who approves"), ("approve", "pending_s")),
    ("afterwards", lazy_gettext("Afterwards"), ("warn_s", "grace_s", "notify", "token_ttl_s")),
)
"""Group, its title, and the first parts of the names in it, in the order in which they are read."""
OTHERS, UNSET = "others", "unset"
_IN_A_STEP = ("name", "step", "count", "people", "groups", "institution")
"""How the parts of a step are read; others after them, as they come."""


@dataclass(frozen=True, slots=True)
class Row:
    """One term: the dotted name that is signed, what of it makes the label, and the value as text."""

    name: str
    label: str
    text: str


@dataclass(frozen=True, slots=True)
class Group:
    """Terms that answer one question."""

    key: str
    title: object
    rows: tuple[Row, ...]


def in_groups(terms: Iterable[tuple[str, str]]) -> list[Group]:
    """Return terms (`display.terms_rows`) in groups; groups without any are left out."""
    rows = list(terms)
    known = {part: (group, place) for group, _, parts in PLACES for place, part in enumerate(parts)}
    sets = [(name, text) for name, text in rows if text != NOTHING]
    found: list[Group] = []
    for key, title, _ in (*PLACES, (OTHERS, "", ())):
        mine = [(name, text) for name, text in sets if known.get(_first(name), (OTHERS, 0))[0] == key]
        mine.sort(key=lambda row: (known.get(_first(row[0]), (OTHERS, 0))[1], *_within(row[0])))
        if mine:
            found.append(Group(key, title, tuple(Row(name, _short(name), text) for name, text in mine)))
    unset = tuple(Row(name, name, text) for name, text in rows if text == NOTHING)
    return [*found, Group(UNSET, "", unset)] if unset else found


def _parts(name: str) -> Sequence[str]:
    return name.removeprefix("terms.").split(".")


def _first(name: str) -> str:
    return _parts(name)[0]


def _within(name: str) -> tuple[tuple[int, str], ...]:
    """Order within a first part: steps before what else is said of approval, their parts as people read them."""
    return tuple(
        (int(part), "")
        if part.isdigit()
        else (_IN_A_STEP.index(part) if part in _IN_A_STEP else len(_IN_A_STEP), "")
        if part != "steps"
        else (-1, "")
        for part in _parts(name)[1:]
    )


def _short(name: str) -> str:
    """Return the name without what the group's title says already."""
    return name.removeprefix("terms.").removeprefix("approve.")


def install(app: Flask) -> None:
    """Let templates write terms in groups."""
    app.add_template_filter(in_groups, "in_groups")
