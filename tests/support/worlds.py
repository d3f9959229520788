"""The fixture `world`: a ready broker on each database; `sqlite_world` for what does not depend on the database."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import postgres
from tests.support.world import Prepared, World, open_world, prepare


@pytest.fixture(scope="session")
def prepared_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Seed one SQLite database."""
    folder = tmp_path_factory.mktemp("prepared")
    return prepare(f"sqlite:///{folder / 'broker.db'}", folder)


@pytest.fixture(scope="session")
def prepared_postgres(
    postgres_server: postgres.Server, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Prepared, str]:
    """Seed one PostgreSQL database that others are copied from; return it with its name."""
    url = postgres_server.create_database()
    found = prepare(url, tmp_path_factory.mktemp("prepared-pg"))
    return found, url.rsplit("/", 1)[-1].split("?")[0]


def copy_of(prepared: Prepared, folder: Path) -> str:
    """Copy a seeded SQLite database into a folder; return its URL."""
    for file in prepared.folder.glob("broker.db*"):
        shutil.copy(file, folder / file.name)
    return f"sqlite:///{folder / 'broker.db'}"


@pytest.fixture
def sqlite_world(prepared_sqlite: Prepared, tmp_path: Path) -> Iterator[World]:
    """Give a world on SQLite."""
    world = open_world(copy_of(prepared_sqlite, tmp_path), prepared_sqlite, tmp_path)
    yield world
    world.close()


@pytest.fixture
def postgres_world(
    prepared_postgres: tuple[Prepared, str], postgres_server: postgres.Server, tmp_path: Path
) -> Iterator[World]:
    """Give a world on PostgreSQL."""
    prepared, name = prepared_postgres
    url = postgres_server.create_database(template=name)
    world = open_world(url, prepared, tmp_path)
    yield world
    world.close()
    postgres_server.drop_database(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest) -> World:
    """Give a world on each database in turn."""
    chosen = request.config.getoption("--db")
    if chosen not in ("all", request.param):
        pytest.skip("--db")
    found: World = request.getfixturevalue("sqlite_world" if request.param == "sqlite" else "postgres_world")
    return found
