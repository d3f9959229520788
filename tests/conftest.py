"""What may every test ask for (databases, a frozen clock, a free port), and what may none do? Leave the
machine.

The browser's fixtures are in `tests.support.browser`, loaded by `tests/e2e/conftest.py` alone.
"""

import gc
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from jinja2 import Environment
from ruamel.yaml import YAML
from ruamel.yaml.events import Event, StreamEndEvent
from sqlalchemy import Dialect
from sqlalchemy.sql import ClauseElement
from sqlalchemy.util import LRUCache
from werkzeug.routing import Rule

from jitaccess.clock import FrozenClock
from tests.support import network, ports, postgres, recording

with (
    warnings.catch_warnings()
):  # ldap3 asks pyasn1 for names that it will drop; here, because it is said once, at the first import
    warnings.simplefilter("ignore", DeprecationWarning)
    import ldap3  # noqa: F401

DATABASES = ("sqlite", "postgresql")

hypothesis_settings.register_profile("full", max_examples=100, deadline=None)
hypothesis_settings.register_profile("fast", max_examples=20, deadline=None)
hypothesis_settings.load_profile("full")


def remember_route_builders() -> None:
    """Compile each route once a process: Werkzeug compiles two small programs a route, and hundreds of tests make the same app."""
    compiled: dict[tuple[object, ...], object] = {}
    original = Rule._compile_builder

    def remembered(self: Rule, append_unknown: bool = True) -> object:
        key = (self.rule, self.subdomain, self.host, repr(self.defaults), append_unknown)
        if key not in compiled:
            compiled[key] = original(self, append_unknown)
        return compiled[key]

    Rule._compile_builder = remembered  # type: ignore[assignment, method-assign] # the library's; ours are never replaced


def remember_statements() -> None:
    """Compile each statement of SQLAlchemy once a process and kind of server: each test opens engines of its own."""
    compiled: dict[tuple[object, ...], tuple[Dialect, LRUCache[Any, Any]]] = {}
    original = ClauseElement._compile_w_cache

    def remembered(self: ClauseElement, dialect: Dialect, *, compiled_cache: Any, **given: Any) -> Any:
        if compiled_cache is not None:
            kind = (type(dialect), dialect.server_version_info)
            dialect, compiled_cache = compiled.setdefault(kind, (dialect, LRUCache(2_000)))
        return original(self, dialect, compiled_cache=compiled_cache, **given)

    ClauseElement._compile_w_cache = remembered  # type: ignore[method-assign] # the library's, as above


def remember_yaml() -> None:
    """Read each YAML text once a process; what was read is never changed, and what cannot be read is tried anew."""
    known: LRUCache[str, list[Event]] = LRUCache(500)
    original = YAML.parse

    def remembered(self: YAML, stream: Any) -> Iterator[Event]:
        if not isinstance(stream, str) or not self.pure:
            yield from original(self, stream)
            return
        if stream in known:
            yield from known[stream]
            return
        read: list[Event] = []
        for event in original(self, stream):
            read.append(event)
            if isinstance(event, StreamEndEvent):
                known[stream] = read
            yield event

    YAML.parse = remembered  # type: ignore[method-assign] # the library's, as above


def remember_templates() -> None:
    """Compile each template once a process: each test makes an application, and each application compiled its own."""
    compiled: dict[tuple[object, ...], CodeType] = {}
    original = Environment.compile

    def remembered(self: Environment, source: Any, name: Any = None, filename: Any = None, *more: Any) -> Any:
        if not isinstance(source, str) or more:
            return original(self, source, name, filename, *more)
        rules = (tuple(self.extensions), tuple(self.filters), tuple(self.tests), self.trim_blocks, self.lstrip_blocks)
        key = (type(self), rules, source, name, filename)
        if key not in compiled:
            compiled[key] = original(self, source, name, filename)
        return compiled[key]

    Environment.compile = remembered  # type: ignore[method-assign] # the library's, as above


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --db, --long and --record."""
    parser.addoption("--db", choices=("all", *DATABASES), default="all", help="run database tests on this kind only")
    parser.addoption("--long", action="store_true", help="try every moment of the fault tests, not a sample")
    parser.addoption(recording.RECORD_OPTION, type=Path, help="write one JSON record a test into this file")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, close the network, start recording in the controlling process."""
    config.addinivalue_line("markers", "covers(*ids): the requirements (R1, T-01, TRAP-1) that this test proves")
    config.addinivalue_line("markers", "slow: takes seconds; left out of `./jit test fast`")
    network.guard()
    remember_route_builders()
    remember_statements()
    remember_yaml()
    remember_templates()
    path = config.getoption(recording.RECORD_OPTION)
    if path is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(recording.Recorder(path))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Read the `covers` marks; with --db sqlite leave out what needs the other server."""
    recording.attach_covers(items)
    if config.getoption("--db") == "sqlite":
        left = [item for item in items if "postgres_server" in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


def pytest_collection_finish() -> None:
    """Let the garbage collector leave alone what stays to the end: it went through thousands of tests again and again."""
    gc.collect()
    gc.freeze()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that uses `database_url` once a kind of database."""
    if "database_url" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--db")
        kinds = DATABASES if chosen == "all" else (chosen,)
        metafunc.parametrize("database_url", kinds, indirect=True, ids=kinds)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    """Give this process's PostgreSQL; skips when there is none to be had."""
    try:
        server = postgres.start()
    except postgres.NoPostgres as missing:
        pytest.skip(str(missing))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_template() -> str:
    """Name the database that fresh ones are copied from; override it to begin with one that has tables."""
    return "template0"


@pytest.fixture(scope="session")
def postgres_url(postgres_server: postgres.Server, postgres_template: str) -> Iterator[str]:
    """Give the SQLAlchemy URL of one database that lives as long as this process."""
    url = postgres_server.create_database(template=postgres_template)
    yield url
    postgres_server.drop_database(url)


@pytest.fixture
def fresh_postgres_url(postgres_server: postgres.Server, postgres_template: str) -> Iterator[str]:
    """Give the SQLAlchemy URL of a database of this test's own."""
    url = postgres_server.create_database(template=postgres_template)
    yield url
    postgres_server.drop_database(url)


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the URL of an empty database of this test's own: SQLite and PostgreSQL in turn (see --db)."""
    if request.param == "postgresql":
        url: str = request.getfixturevalue("fresh_postgres_url")
        return url
    return f"sqlite:///{tmp_path / 'broker.db'}"


@pytest.fixture
def clock() -> FrozenClock:
    """Give a clock that stands at nine in the morning, UTC, of a Monday until it is advanced."""
    return FrozenClock(datetime(2026, 11, 23, 9, 0, tzinfo=UTC))


@pytest.fixture
def free_port() -> int:
    """Give a TCP port of 127.0.0.1 that is free, below the ephemeral range."""
    return ports.free_port()
