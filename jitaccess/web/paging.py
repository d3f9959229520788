"""Which part of a list is wanted, and where does the next part begin?

The answer is a plain JSON array; a `Link` header (RFC 8288) leads to the next page. The cursor is opaque to callers and confers nothing:
it holds the key of the last member shown, is read strictly, and only ever becomes a bound value of a comparison within what the
caller may see anyway. It must never name a person, a filter or a statement.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlencode

from flask import Response, jsonify, request
from pydantic import BaseModel, ConfigDict, Field

from jitaccess.errors import JitError, Kind
from jitaccess.proof.canonical import b64u_decode, b64u_encode

T = TypeVar("T")
Key = tuple[str | int, ...]
"""What a list is ordered by: never two members alike."""
MOST = 200


class PageQuery(BaseModel):
    """Which page."""

    model_config = ConfigDict(extra="forbid")
    limit: int = Field(default=50, ge=1, le=MOST)
    cursor: str = Field(default="", max_length=300, pattern=r"^[A-Za-z0-9_-]*$")


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a list: at most `limit` members after the key `after`."""

    limit: int
    after: Key | None
    query: PageQuery


def window(query: PageQuery, *shape: type) -> Window:
    """Return the part that is asked for; `shape` are the types of the list's key. Raises INVALID for a cursor not of ours."""
    return Window(query.limit, _key(query.cursor, shape) if query.cursor else None, query)


def _key(cursor: str, shape: tuple[type, ...]) -> Key:
    try:
        found = json.loads(b64u_decode(cursor))
    except (ValueError, RecursionError) as error:
        raise _not_ours() from error
    if not isinstance(found, list) or [type(part) for part in found] != list(shape):
        raise _not_ours()
    if any(isinstance(part, str) and not part.isprintable() for part in found):
        raise _not_ours()
    if any(isinstance(part, int) and abs(part) >= 2**63 for part in found):
        raise _not_ours()
    return tuple(found)


def _not_ours() -> JitError:
    return JitError(Kind.INVALID, "This cursor is not one of ours. Begin with the first page.", field="cursor")


def part_of(rows: Sequence[T], part: Window, key: Callable[[T], Key], *, falling: bool = False) -> list[T]:
    """Return what of a whole list is wanted, and one more if there is more; `falling` for the largest key first."""
    ordered = sorted(rows, key=key, reverse=falling)
    if part.after is not None:
        after = part.after
        ordered = [row for row in ordered if (key(row) < after if falling else key(row) > after)]
    return ordered[: part.limit + 1]


def page(rows: Sequence[T], part: Window, key: Callable[[T], Key], shown: Callable[[T], Any]) -> Response:
    """Answer a page; `rows` holds one more than the limit if there is more."""
    given = rows[: part.limit]
    response = jsonify([shown(row) for row in given])
    if len(rows) > part.limit:
        cursor = b64u_encode(json.dumps(key(given[-1])).encode())
        asked = part.query.model_dump(exclude_defaults=True, exclude={"cursor"}, mode="json")
        words = {name: str(value).lower() if isinstance(value, bool) else value for name, value in asked.items()}
        response.headers["Link"] = f'<{request.path}?{urlencode({**words, "cursor": cursor})}>; rel="next"'
    return response
