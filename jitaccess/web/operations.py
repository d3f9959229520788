"""What does each address of the JSON API take and answer? Declared beside the view, read by the OpenAPI document.

`documented` marks a view; nothing here checks a request: `schemas.body` does, with the same model that is declared here, and refuses to run
where the two differ. A view of the API without this mark fails a house test.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel

from jitaccess.errors import Kind

View = TypeVar("View", bound=Callable[..., object])
_MARK = "jitaccess_operation"


@dataclass(frozen=True, slots=True)
class Operation:
    """One address and method, for people and programs who do not read our source."""

    summary: str
    tag: str
    answers: Any
    """A pydantic model, or a list of one: the JSON of a 200."""
    takes: type[BaseModel] | None
    """The JSON body of a POST; None for a GET."""
    query: type[BaseModel] | None
    kinds: frozenset[Kind]
    """What may be refused here besides what every address may refuse."""
    public: bool
    """Needs no session."""
    paged: bool
    """Answers a page of a list and links to the next one."""
    repeatable: bool
    """An `Idempotency-Key` is kept with its answer; False where the answer sets a cookie or shows a secret once."""


def documented(
    tag: str,
    summary: str,
    *,
    answers: Any,
    takes: type[BaseModel] | None = None,
    query: type[BaseModel] | None = None,
    kinds: tuple[Kind, ...] = (),
    public: bool = False,
    paged: bool = False,
    repeatable: bool | None = None,
) -> Callable[[View], View]:
    """Mark a view with what it takes and answers; a POST behind sign-in is repeatable unless said otherwise."""
    keeps = takes is not None and not public if repeatable is None else repeatable
    found = Operation(summary, tag, answers, takes, query, frozenset(kinds), public, paged, keeps)

    def mark(view: View) -> View:
        setattr(view, _MARK, found)
        return view

    return mark


def operation_of(view: object) -> Operation | None:
    """Return what a view is marked with, or None."""
    found: Operation | None = getattr(view, _MARK, None)
    return found
