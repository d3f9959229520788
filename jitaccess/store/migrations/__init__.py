"""Is the database's shape the one that this program knows? Alembic, driven from code.

A program never guesses: it runs on exactly its own revision, and `jitaccess init` or `jitaccess migrate` brings a database there.
"""

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError

from jitaccess.errors import JitError, Kind
from jitaccess.store.private import keep_private

HERE = Path(__file__).parent


def _config(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(HERE).replace("%", "%%"))
    config.attributes["url"] = url
    return config


@cache
def head() -> str:
    """Return the revision that this program knows as newest; all scripts are read for it, once a process."""
    found = ScriptDirectory.from_config(_config("")).get_current_head()
    if found is None:
        raise JitError(Kind.INTERNAL, "The program carries no migrations.")
    return found


def current(url: str) -> str | None:
    """Return the revision of a database, or None for an empty one."""
    keep_private(url)
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    except SQLAlchemyError as error:
        raise JitError(
            Kind.UNAVAILABLE, "The database cannot be reached: check store.url and that it is running."
        ) from error
    finally:
        engine.dispose()


def upgrade(url: str) -> None:
    """Bring a database to the newest revision; an empty one gets all tables and the head of an empty log."""
    keep_private(url)
    command.upgrade(_config(url), "head")


def require_current(url: str) -> None:
    """Raise CONFIGURATION unless the database is at exactly this program's revision."""
    found, wanted = current(url), head()
    if found is None:
        raise JitError(Kind.CONFIGURATION, "This database is empty: run `jitaccess init` first.")
    if found != wanted:
        raise JitError(
            Kind.CONFIGURATION,
            f"The database is at revision {found}, this program needs {wanted}: run `jitaccess migrate`, or the program "
            "that wrote it.",
        )
