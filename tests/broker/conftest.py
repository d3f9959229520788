"""Tests of the broker's verbs run on SQLite and PostgreSQL."""

import pytest

from jitaccess.store.migrations import upgrade
from tests.support import postgres
from tests.support.worlds import (
    postgres_world,
    prepared_postgres,
    prepared_sqlite,
    sqlite_world,
    world,
)

__all__ = ["postgres_world", "prepared_postgres", "prepared_sqlite", "sqlite_world", "world"]


@pytest.fixture(scope="session")
def postgres_template(postgres_server: postgres.Server) -> str:
    """Copy fresh databases from one that has all tables: the migrations run once a process."""
    url = postgres_server.create_database()
    upgrade(url)
    return url.rsplit("/", 1)[-1]
