"""Tests of the broker's verbs run on SQLite and PostgreSQL."""

from tests.support.worlds import (
    postgres_world,
    prepared_postgres,
    prepared_sqlite,
    sqlite_world,
    world,
)

__all__ = ["postgres_world", "prepared_postgres", "prepared_sqlite", "sqlite_world", "world"]
