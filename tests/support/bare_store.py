"""A store with keys and nobody in it: what tests of transactions and of the log need."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import create_engine, make_url, text

from jitaccess.audit.checkpoints import Checkpoints
from jitaccess.clock import Clock
from jitaccess.domain.events import EventType
from jitaccess.domain.values import LOCAL, SYSTEM
from jitaccess.store.db import Database
from jitaccess.store.migrations import upgrade
from jitaccess.store.seal import Seals
from jitaccess.store.tables import Group
from jitaccess.tokens.keys import Keyring, Purpose, make_key, store_key

ORIGIN = "test.example/log"
WRAPPING_KEY = bytes(range(32))
OVERLAP = timedelta(hours=1)


@dataclass(slots=True)
class BareStore:
    """A database, its keyring and its checkpoints."""

    url: str
    clock: Clock
    db: Database
    keyring: Keyring
    checkpoints: Checkpoints

    def add_group(self, name: str = "treasury") -> str:
        """Write one sealed row of the register with its event, and return its id."""
        with self.db.begin(SYSTEM) as tx:
            key = tx.new_id()
            event = tx.record(EventType.GROUP_ADDED, subject={"group": key})
            tx.insert(Group, event, id=key, name=name, institution=None, created_at=tx.now)
        return key

    def note(self, number: int = 0, **texts: str) -> str:
        """Write one event alone and return its id."""
        with self.db.begin(SYSTEM) as tx:
            return tx.record(EventType.ALARM_RAISED, body={"number": number}, texts=texts).id

    def sql(self, statement: str, **values: object) -> None:
        """Change the database behind the broker's back, as its owner could."""
        engine = create_engine(self.url)
        with engine.begin() as connection:
            connection.execute(text(statement), values)
        engine.dispose()

    def value(self, statement: str, **values: object) -> object:
        """Read one value past the broker."""
        engine = create_engine(self.url)
        with engine.connect() as connection:
            found = connection.scalar(text(statement), values)
        engine.dispose()
        return found

    def again(self, **options: object) -> "BareStore":
        """Open the same database once more, as another process would."""
        return open_store(self.url, self.clock, **options)

    def close(self) -> None:
        """Give everything back."""
        self.db.close()


@cache
def _empty_file() -> bytes:
    """Return an SQLite database with all tables and nothing in them; the migrations run once a process."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "empty.db"
        upgrade(f"sqlite:///{path}")
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return path.read_bytes()


def _make_tables(url: str) -> None:
    path = make_url(url).database
    if make_url(url).get_backend_name() == "sqlite" and path and Path(path).parent.is_dir() and not Path(path).exists():
        Path(path).write_bytes(_empty_file())
    else:
        upgrade(url)


def create_store(url: str, clock: Clock) -> BareStore:
    """Make tables and keys in an empty database, and open it."""
    _make_tables(url)
    keys = [make_key(purpose, ORIGIN) for purpose in (Purpose.SEAL, Purpose.TOKEN, Purpose.AUDIT)]
    db = Database(url, clock, Seals(keys[0].id, {keys[0].id: keys[0].secret}))
    with db.begin(LOCAL) as tx:
        for key in keys:
            store_key(tx, WRAPPING_KEY, key, first=True)
    db.close()
    return open_store(url, clock)


def open_store(url: str, clock: Clock, *, folder: Path | None = None, **options: object) -> BareStore:
    """Open a database that `create_store` made; `options` are those of `Database`."""
    keyring = Keyring.load(url, WRAPPING_KEY)
    db = Database(url, clock, keyring.seals, **options)  # type: ignore[arg-type] # given by the test as keywords
    checkpoints = Checkpoints(db, keyring, origin=ORIGIN, pilot=False, publish_folder=folder)
    return BareStore(url, clock, db, keyring, checkpoints)
