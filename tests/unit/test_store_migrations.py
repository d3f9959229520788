"""Do the migrations make exactly the tables that the program declares?"""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, inspect, text

from jitaccess.errors import JitError, Kind
from jitaccess.proof.merkle import Frontier
from jitaccess.store import migrations
from jitaccess.store.tables import Base


def test_the_migrations_give_exactly_the_declared_tables(database_url: str) -> None:
    migrations.upgrade(database_url)
    engine = create_engine(database_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
        tables = set(inspect(connection).get_table_names())
    engine.dispose()
    assert tables == {*Base.metadata.tables, "alembic_version"}


def test_the_first_migration_leaves_an_empty_log_and_register(database_url: str) -> None:
    migrations.upgrade(database_url)
    engine = create_engine(database_url)
    with engine.connect() as connection:
        size, frontier = connection.execute(text("SELECT size, frontier FROM log_head")).one()
        version = connection.scalar(text("SELECT n FROM register_version"))
    engine.dispose()
    assert (size, Frontier.from_bytes(bytes(frontier)), version) == (0, Frontier(), 0)


def test_upgrading_twice_changes_nothing(database_url: str) -> None:
    migrations.upgrade(database_url)
    migrations.upgrade(database_url)
    assert migrations.current(database_url) == migrations.head()
    migrations.require_current(database_url)


@pytest.mark.covers("R73")
@pytest.mark.parametrize("revision", ["0000", "9999"])
def test_an_older_or_newer_database_is_refused_with_what_to_do(database_url: str, revision: str) -> None:
    migrations.upgrade(database_url)
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :found"), {"found": revision})
    engine.dispose()
    with pytest.raises(JitError, match=f"{revision}.*{migrations.head()}.*jitaccess migrate") as refused:
        migrations.require_current(database_url)
    assert refused.value.kind is Kind.CONFIGURATION


def test_an_empty_database_is_refused_with_what_to_do(database_url: str) -> None:
    with pytest.raises(JitError, match="jitaccess init"):
        migrations.require_current(database_url)


def test_a_database_that_cannot_be_reached_is_said_so() -> None:
    with pytest.raises(JitError) as refused:
        migrations.current("sqlite:////nonexistent/folder/broker.db")
    assert refused.value.kind is Kind.UNAVAILABLE
