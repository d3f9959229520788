"""Does a page's work grow with the past and the staff? Counted, not timed: what each page asks the database at N and at ten times N.

SQLite's virtual machine tells how many steps a page's questions took, and its trace how many statements there were. Every page is
asked three times: the first looks may make what later ones remember of the register, and only the last is counted.
"""

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from benchmarks.pages import fill, paths
from jitaccess.app import create_app
from jitaccess.settings import Limits
from jitaccess.web.doors import SESSION_COOKIE
from tests.support.world import ORIGIN, Prepared, open_world

SMALL = {"persons": 30, "requests": 120}
TIMES = 10
STEP = 50
"""Steps of SQLite's virtual machine between two counts."""
SLACK = 60
"""Counts that a page may take more: the pages of an index that is ten times as long."""
GROWING = {
    "/audit/sample": "draws from the ids of all grants, each of them hashed",
    "/audit/pictures": "counts what happened on the first and the last day of a span, and adds up what months were open",
    "/policy/sets": "decides a hundred requests anew over all that those persons held",
}
"""Pages whose questions touch more rows where there are more, and why; at most in proportion."""


@dataclass(slots=True)
class Asked:
    """What a page asked of the database."""

    statements: int = 0
    counts: int = 0


def asked_by_pages(folder: Path, prepared: Prepared, size: dict[str, int]) -> dict[str, Asked]:
    """Return path, without what differs between two databases -> what its third look asked."""
    now = Asked()

    def tell(text: str) -> None:
        now.statements += 1

    def tick() -> int:
        now.counts += 1
        return 0

    def opened(connection: Any, entry: Any) -> None:
        assert isinstance(connection, sqlite3.Connection)
        connection.set_trace_callback(tell)
        connection.set_progress_handler(tick, STEP)

    url = f"sqlite:///{folder / 'broker.db'}"
    for file in prepared.folder.glob("broker.db*"):
        (folder / file.name).write_bytes(file.read_bytes())
    event.listen(Engine, "connect", opened)
    try:
        world = open_world(url, prepared, folder, limits=Limits(calls_per_person_minute=1_000_000))
        fill(world, **size)
        app = create_app(world.broker)
        found: dict[str, Asked] = {}
        for number, (who, path) in enumerate(paths(world)):
            client, current = app.test_client(use_cookies=True), world.current(who)
            client.set_cookie(SESSION_COOKIE, world.secrets[current.session.id], domain="localhost", secure=True)
            for _ in range(3):
                now.statements = now.counts = 0
                assert client.get(path, base_url=ORIGIN).status_code in (200, 204), path
            found[f"{number} {path.split('/06')[0].split('=06')[0]}"] = Asked(now.statements, now.counts)
        world.close()
    finally:
        event.remove(Engine, "connect", opened)
    return found


@pytest.fixture(scope="module")
def both(
    prepared_sqlite: Prepared, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Asked], dict[str, Asked]]:
    """Give what every page asks at N and at ten times N."""
    many = {name: count * TIMES for name, count in SMALL.items()}
    return (
        asked_by_pages(tmp_path_factory.mktemp("few"), prepared_sqlite, SMALL),
        asked_by_pages(tmp_path_factory.mktemp("many"), prepared_sqlite, many),
    )


def test_no_page_asks_more_questions_where_there_is_more(both: tuple[dict[str, Asked], dict[str, Asked]]) -> None:
    few, many = both
    more = {path: many[path].statements for path in few if many[path].statements > few[path].statements}
    assert not more, {path: (few[path].statements, count) for path, count in more.items()}


def test_no_page_looks_at_more_rows_where_there_is_more(both: tuple[dict[str, Asked], dict[str, Asked]]) -> None:
    few, many = both
    more = {}
    for path in few:
        grows = any(f" {known}" in path for known in GROWING)
        most = (TIMES if grows else 2) * few[path].counts + SLACK
        if many[path].counts > most:
            more[path] = (few[path].counts, many[path].counts, most)
    assert not more
