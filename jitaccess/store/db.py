"""How is a change made durable together with its evidence? Engines, reads, and the one transaction type.

`Database.begin(actor)` gives a `Tx`: rows are written only through it, sealed as they are written, and committed in one
transaction with the events that tell of them (R63). It holds the only commit() of the program. No network call to a target
may happen inside a Tx. On SQLite there is one writer at a time and writers that queue share one commit (group commit):
each has a savepoint, and nobody is answered before the fsync. See design.md section 5 and docs/adr/0003.
"""

import fcntl
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import psycopg
from sqlalchemy import (
    BigInteger,
    Connection,
    CursorResult,
    Dialect,
    Engine,
    Executable,
    Result,
    ScalarSelect,
    Select,
    Table,
    TableValuedAlias,
    bindparam,
    create_engine,
    delete,
    event,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session, UOWTransaction
from sqlalchemy.orm.attributes import instance_state, manager_of_class
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.types import TypeEngine

from jitaccess.clock import Clock, from_epoch_us, to_epoch_us
from jitaccess.domain.events import VERSION_OF, EventType
from jitaccess.domain.values import SYSTEM, Actor
from jitaccess.errors import JitError, Kind
from jitaccess.proof.canonical import JsonValue, b64u_encode, salted_digest
from jitaccess.proof.leaf import Leaf
from jitaccess.proof.merkle import leaf_hash
from jitaccess.store.find import Count, Find, Joined, Matching
from jitaccess.store.holds import HOLD_EVENTS, LoggedHold, LoggedHolds
from jitaccess.store.ids import new_bytes, new_id
from jitaccess.store.log import EVENT_TABLE, LogStatements, Tip, event_digest, genuine, number_pending
from jitaccess.store.prepared import Arrays, Convert, Cursor, Prepared, Raw, Reading, from_driver
from jitaccess.store.private import keep_private, open_lock
from jitaccess.store.seal import Seals, row_digest, sealed_content
from jitaccess.store.tables import (
    EVIDENCE_FREE,
    OBSERVED,
    REGISTER,
    Base,
    Event,
    EventText,
    RegisterVersion,
    RowVersion,
    Sealed,
)
from jitaccess.store.turnstile import Turnstile

log = logging.getLogger(__name__)
Row = TypeVar("Row", bound=Base)
Found = TypeVar("Found")
Lock = tuple[type[Base], str] | Matching
"""A row to lock, by class and key, or those that answer a question."""
BATCH_LIMIT = 64
"""Writers that may share one commit on SQLite; bounds how long the first of them waits."""
WAL_PAGES = "wal_autocheckpoint=4000"
"""Pages (16 MB) after which SQLite copies its journal into the file: the same few pages are written by every commit, so a longer
journal saves copying and costs only its size on disk."""
PLACE_TIMEOUT_S = 30.0
"""So long a writer waits for its turn on a server (PostgreSQL) before it is told that the store is not available."""
_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
"""How a view begins on a server: what it reads of several tables belongs together."""
ABANDONED_S = 1.0
"""After this long a waiting writer looks whether the one who was to end their batch is gone (an interrupt)."""


class Unaudited(Exception):
    """A transaction changed evidence without telling the log. A defect of ours: nothing is committed."""


class SealBroken(JitError):
    """A row that confers power does not carry its seal: somebody changed it outside the broker."""

    def __init__(self, table: str, key: str) -> None:
        super().__init__(
            Kind.SEAL_BROKEN,
            "A record that this depends on was changed outside the broker. It is not used; the alarm was raised.",
            table=table,
            key=key,
        )
        self.table = table
        self.key = key


@dataclass(slots=True)
class PendingEvent:
    """An event of a running transaction; becomes a leaf when it commits."""

    id: str
    type: EventType
    subject: dict[str, str]
    body: dict[str, JsonValue]
    texts: dict[str, str]
    rows: list[tuple[str, str, int, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Shape:
    """What the store needs to know of one mapped class."""

    table: Table
    name: str
    key: str
    columns: tuple[str, ...]
    sealed: tuple[str, ...]
    """Columns under the seal; empty for a table without seals."""
    later: frozenset[str]
    """Those of them that are left out while NULL."""
    eventless: bool
    """Sealed under its own key: it carries no evidence (ADR 0038)."""
    read: tuple[Any, ...]
    """What is selected: the columns and, of a sealed table, the newest version that the log names of the row (ADR 40)."""

    def content(self, values: Mapping[str, object]) -> dict[str, object]:
        """Return what the seal is made over."""
        if not self.later:
            return {name: values[name] for name in self.sealed}
        return sealed_content(self.sealed, self.later, values)


_SEAL_COLUMNS = frozenset({"version", "event_id", "seal"})


def _shape(model: type[Base]) -> _Shape:
    found = _SHAPES.get(model)
    if found is None:
        table = cast(Table, model.__table__)
        columns = tuple(str(column.key) for column in table.columns)
        sealed: tuple[str, ...] = ()
        later: frozenset[str] = frozenset()
        eventless = False
        if issubclass(model, Sealed):
            eventless = model.EVENTLESS
            sealed = tuple(name for name in columns if name not in _SEAL_COLUMNS and name not in model.UNSEALED)
            later = model.LATER
        key = str(next(iter(table.primary_key)).key)
        read = (*table.columns, _newest(table, key)) if sealed and not eventless else tuple(table.columns)
        found = _SHAPES[model] = _Shape(table, str(table.name), key, columns, sealed, later, eventless, read)
    return found


def _newest(table: Table, key: str) -> ScalarSelect[int]:
    return (
        select(func.max(RowVersion.version))
        .where(RowVersion.row_table == literal(str(table.name)), RowVersion.row_key == table.c[key])
        .correlate(table)
        .scalar_subquery()
    )


_SHAPES: dict[type[Base], _Shape] = {}
_REGISTER_VERSION = select(RegisterVersion.n).where(RegisterVersion.id == bindparam("row_key"))
_VERSION_NOW = select(RegisterVersion.n).where(RegisterVersion.id == literal(1)).scalar_subquery()
_RAISE_REGISTER_VERSION = (
    update(RegisterVersion)
    .where(RegisterVersion.id == bindparam("row_key"))
    .values(n=RegisterVersion.n + bindparam("step", type_=BigInteger))
)


def _numbered(dialect: Dialect) -> Dialect:
    """Return a server's dialect with its own numbered placeholders: text that the driver does not have to read and rewrite each time."""
    return dialect if dialect.name == "sqlite" else cast(Any, type(dialect))(paramstyle="numeric_dollar")


def _cursor_of(raw: object) -> Cursor:
    """Return a cursor that takes prepared statements as they stand."""
    return cast(Cursor, psycopg.RawCursor(raw)) if isinstance(raw, psycopg.Connection) else cast(Raw, raw).cursor()


@dataclass(frozen=True, slots=True)
class _Join:
    """How a joining question is asked."""

    prepared: Prepared
    glance: Prepared
    """The same with the register's version as the last column."""
    places: tuple[tuple[int, Convert], ...]
    """At which places the further columns stand and what they become."""


class _Statements:
    """The prepared statements of one kind of database, each made at its first use."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = _numbered(dialect)
        self._quoted = dialect
        """For what goes into one message with other statements: the driver quotes the values into the text."""
        self._made: dict[object, Prepared] = {}
        self._readings: dict[str, Reading] = {}
        self._joins: dict[Joined, _Join] = {}
        self.log = LogStatements(self.dialect)
        self.raise_register_version = Prepared(_RAISE_REGISTER_VERSION, self.dialect)
        self.register_version = Prepared(_REGISTER_VERSION, self._quoted)

    def insert(self, shape: _Shape) -> Prepared:
        """Insert every column."""

        def build() -> Prepared:
            kinds = {name: shape.table.c[name].type for name in shape.columns}
            many = self._arrays(
                kinds,
                lambda given: insert(shape.table).from_select(
                    list(shape.columns), select(*[given.c[name] for name in shape.columns])
                ),
            )
            return Prepared(insert(shape.table), self.dialect, shape.columns, many)

        return self._get(("insert", shape.name), build)

    def select(self, shape: _Shape) -> Prepared:
        """Select every column of the row with key `row_key`."""

        def build() -> Prepared:
            return Prepared(select(*shape.read).where(shape.table.c[shape.key] == bindparam("row_key")), self.dialect)

        return self._get(("select", shape.name), build)

    def lock(self, shape: _Shape) -> Prepared:
        """Lock the row with key `row_key`. Nothing of it is read: what counts is read afterwards."""

        def build() -> Prepared:
            key = shape.table.c[shape.key]
            return Prepared(select(key).where(key == bindparam("row_key")).with_for_update(), self._quoted)

        return self._get(("lock", shape.name), build)

    def lock_found(self, question: Find[Any], shape: _Shape) -> Prepared:
        """Lock the rows that answer a question."""

        def build() -> Prepared:
            statement = question.statement.with_only_columns(shape.table.c[shape.key]).with_for_update()
            return Prepared(statement, self._quoted)

        return self._get(("lock", question), build)

    def update(
        self, shape: _Shape, names: tuple[str, ...], where: tuple[str, ...], absent: tuple[str, ...] = ()
    ) -> Prepared:
        """Set columns to `new_<name>` in the row with key `row_key`, if columns still are `old_<name>`, or NULL."""

        def build() -> Prepared:
            columns = shape.table.c
            statement = update(shape.table).where(columns[shape.key] == bindparam("row_key"))
            for name in where:
                statement = statement.where(columns[name] == bindparam(f"old_{name}"))
            for name in absent:
                statement = statement.where(columns[name].is_(None))
            values = {name: bindparam(f"new_{name}", type_=columns[name].type) for name in names}
            kinds = {"row_key": columns[shape.key].type}
            kinds |= {f"new_{name}": columns[name].type for name in names}
            kinds |= {f"old_{name}": columns[name].type for name in where}

            def all_at_once(given: TableValuedAlias) -> Executable:
                known = [columns[shape.key] == given.c.row_key]
                known += [columns[name] == given.c[f"old_{name}"] for name in where]
                known += [columns[name].is_(None) for name in absent]
                return update(shape.table).where(*known).values({name: given.c[f"new_{name}"] for name in names})

            return Prepared(statement.values(values), self.dialect, many=self._arrays(kinds, all_at_once))

        return self._get(("update", shape.name, names, where, absent), build)

    def find(self, question: Find[Any], shape: _Shape) -> Prepared:
        """Select every column of the rows that answer a question."""
        return self._get(question, lambda: Prepared(question.statement.with_only_columns(*shape.read), self.dialect))

    def count(self, question: Count) -> Prepared:
        """Count what a question asks for."""
        return self._get(question, lambda: Prepared(question.statement, self.dialect))

    def reading(self, shape: _Shape) -> Reading:
        """Return how the columns of a selected row become values."""
        found = self._readings.get(shape.name)
        if found is None:
            found = self._readings[shape.name] = Reading(shape.table, self.dialect)
        return found

    def joined(self, question: Joined) -> "_Join":
        """Select the rows that answer a question together."""
        found = self._joins.get(question)
        if found is None:
            columns = [column for model in question.models for column in _shape(model).read] + list(question.columns)
            statement = question.statement.with_only_columns(*columns, maintain_column_froms=True)
            glance = question.statement.with_only_columns(*columns, _VERSION_NOW, maintain_column_froms=True)
            converts = [from_driver(column.type, self.dialect) for column in question.columns]
            places = tuple(enumerate(converts, len(columns) - len(converts)))
            found = _Join(Prepared(statement, self.dialect), Prepared(glance, self.dialect), places)
            self._joins[question] = found
        return found

    def _arrays(
        self, kinds: Mapping[str, TypeEngine[Any]], build: Callable[[TableValuedAlias], Executable]
    ) -> Arrays | None:
        """Return the statement over arrays where the database has them."""
        return None if self.dialect.name == "sqlite" else Arrays(kinds, build, self.dialect)

    def _get(self, key: object, build: Callable[[], Prepared]) -> Prepared:
        found = self._made.get(key)
        if found is None:
            found = self._made[key] = build()
        return found


_STATEMENTS: dict[type[Dialect], _Statements] = {}
"""They depend on nothing but the kind: who opens several databases, or one again, does not make them anew."""


def _statements(dialect: Dialect) -> _Statements:
    found = _STATEMENTS.get(type(dialect))
    if found is None:
        found = _STATEMENTS[type(dialect)] = _Statements(dialect)
    return found


def _instance(model: type[Row], values: dict[str, object]) -> Row:
    """Return a row object that holds these values, as one loaded would."""
    made: Row = manager_of_class(model).new_instance()
    made.__dict__.update(values)
    return made


class View:
    """Reads. Every sealed row that comes out has been checked, unless the method's name says otherwise.

    One row is one object within a view: reading it again refreshes that object.
    """

    __slots__ = (
        "_broken",
        "_connection",
        "_cursor",
        "_database",
        "_known",
        "_made",
        "_read",
        "_session",
        "_trusted",
        "_version",
        "now",
    )

    def __init__(self, database: "Database", connection: Connection, now: datetime) -> None:
        self._connection = connection
        self._cursor = _cursor_of(connection.connection.dbapi_connection)
        self._begin(database, now)

    def _begin(self, database: "Database", now: datetime) -> None:
        self._database = database
        self._session: Session | None = None
        self._known: dict[tuple[type[Base], str], Base] = {}
        self._trusted: dict[int, Base] = {}
        self._read: dict[int, Sequence[Any]] = {}
        """Object id -> its row as it was read; the newest version that the log names stands last."""
        self._made: dict[str, object] = {}
        self._version: int | None = None
        self._broken: list[tuple[str, str]] = []
        """(table, key) of broken rows that were met and left out; alarmed at the end."""
        self.now = now

    @property
    def session(self) -> Session:
        """Return the ORM session of this view, made at its first use."""
        self._settle()
        if self._session is None:
            if not self._connection.in_transaction():
                self._connection.begin()  # by SQLAlchemy's own book: a session that finds none open would end ours with itself
            self._session = Session(
                self._connection, autoflush=False, expire_on_commit=False, join_transaction_mode="rollback_only"
            )
            event.listen(self._session, "before_flush", _refuse_flush)
        return self._session

    def get(self, model: type[Row], key: str | None) -> Row | None:
        """Return the row with this key, or None; raises SEAL_BROKEN."""
        if key is None:
            return None
        row = self.unchecked_get(model, key)
        return None if row is None else self._checked(row)

    def require(self, model: type[Row], key: str | None, message: str = "There is no such record.") -> Row:
        """Return the row with this key; raises NOT_FOUND or SEAL_BROKEN."""
        row = self.get(model, key)
        if row is None:
            raise JitError(Kind.NOT_FOUND, message)
        return row

    def all(self, statement: Select[Row]) -> list[Row]:
        """Return all rows of a select over one class; raises SEAL_BROKEN for any of them."""
        return [self._checked(row) for row in self.unchecked_all(statement)]

    def first(self, statement: Select[Row]) -> Row | None:
        """Return the first row of a select, or None; raises SEAL_BROKEN."""
        found = self.unchecked_all(statement.limit(1))
        return self._checked(found[0]) if found else None

    def unchecked_get(self, model: type[Row], key: str) -> Row | None:
        """Return the row without looking at its seal: for revocation and for showing that it is broken."""
        shape = _shape(model)
        found = self._ask(self._database.statements.select(shape), {"row_key": key}, frozenset({shape.name}))
        return self._one(model, shape, found[0]) if found else None

    def find(self, question: Find[Row], **values: object) -> list[Row]:
        """Return the rows that answer a question; raises SEAL_BROKEN for any of them."""
        return [self._checked(row) for row in self.unchecked_find(question, **values)]

    def unchecked_find(self, question: Find[Row], **values: object) -> list[Row]:
        """Return the rows that answer a question without looking at their seals: for revocation."""
        model, shape = question.model, _shape(question.model)
        found = self._ask(self._database.statements.find(question, shape), values, question.tables)
        return [self._one(model, shape, row) for row in found]

    def joined(self, question: Joined, **values: object) -> list[tuple[Any, ...]]:
        """Return the rows that answer a question together, class by class (None for one that an outer join did not find), then its
        further columns; raises SEAL_BROKEN for any of the rows."""
        join = self._database.statements.joined(question)
        answers: list[tuple[Any, ...]] = []
        for row in self._ask(join.prepared, values, question.tables):
            found: list[Any] = []
            at = 0
            for model in question.models:
                shape = _shape(model)
                mine = row[at : at + len(shape.read)]
                at += len(shape.read)
                there = mine[shape.columns.index(shape.key)] is not None
                found.append(self._checked(self._one(model, shape, mine)) if there else None)
            found += [row[place] if convert is None else convert(row[place]) for place, convert in join.places]
            answers.append(tuple(found))
        return answers

    def count(self, question: Count, **values: object) -> tuple[int, ...]:
        """Return the numbers that a question asks for."""
        return tuple(self._ask(self._database.statements.count(question), values, question.tables)[0])

    def unchecked_all(self, statement: Select[Row]) -> list[Row]:
        """Return rows without looking at their seals: for revocation and for showing that they are broken."""
        model = cast("type[Row]", statement.column_descriptions[0]["entity"])
        shape = _shape(model)
        self._settle()
        found = self._connection.execute(statement.with_only_columns(*shape.read))
        cursor = found.cursor
        assert cursor is not None  # noqa: S101 - a select has one until it is closed; says so to the type checker
        # The driver's own rows, so that those found good before are known byte by byte.
        rows = cursor.fetchall()
        found.close()
        return [self._one(model, shape, row) for row in rows]

    def usable(self, statement: Select[Row]) -> list[Row]:
        """Return the rows of a select that are intact; the others are left out and alarmed. For what must not stop for one row."""
        return [row for row in self.unchecked_all(statement) if self.whole(row)]

    def whole(self, row: Base) -> bool:
        """Say whether a row is intact; one that is not is alarmed when the view ends."""
        if self.intact(row):
            return True
        self.broken(type(row), str(row.__dict__[_shape(type(row)).key]))
        return False

    def broken(self, model: type[Base], key: str) -> None:
        """Alarm, when the view ends, a row that cannot be what the broker wrote."""
        self._broken.append((_shape(model).name, key))

    def blocked(self, model: type[Base]) -> frozenset[str]:
        """Return the keys of rows of a class that contradict the log, as of the last check; of rows that are gone as well."""
        name = _shape(model).name
        return frozenset(key for table, key in self._database.blocked if table == name)

    def doubted(self, model: type[Base]) -> frozenset[str]:
        """Return the keys of rows of a class that the last check found, or that did not hold when this process used them since."""
        name = _shape(model).name
        return frozenset(key for table, key in self._database.blocked | self._database.alarmed if table == name)

    def compared_at(self) -> datetime | None:
        """Return when every register row was last compared with the log and its seal, in this process; None for never."""
        return self._database.compared_at

    def newest_version(self, model: type[Base], key: str) -> int:
        """Return the newest version after the first that the log names of a row, there or gone; 0 for none."""
        wanted = select(func.max(RowVersion.version)).where(
            RowVersion.row_table == _shape(model).name, RowVersion.row_key == key
        )
        return int(self.scalar(wanted) or 0)

    def known_content(self, model: type[Base], key: str) -> tuple[int, str] | None:
        """Return (version, digest) that the log last named of a row of a small table, as of the last check."""
        return self._database.newest.get((_shape(model).name, key))

    def digest_of(self, model: type[Base], key: str, version: int, values: Mapping[str, object]) -> str:
        """Return the digest of a row with these columns, as leaves name it."""
        shape = _shape(model)
        return row_digest(shape.name, key, version, shape.content(values))

    def logged_holds(self) -> Mapping[str, LoggedHold]:
        """Return the holds in force by the log: hold id -> hold. Rows are not asked (ADR 40)."""
        known, seals = self._database.holds, self._database.seals
        news = self.rows(
            select(Event.id, Event.leaf, Event.leaf_hash, Event.seal)
            .where(Event.type.in_(HOLD_EVENTS), or_(Event.idx.is_(None), Event.idx > known.upto))
            .order_by(Event.idx.is_(None), Event.idx, Event.id)
        )
        return known.after(leaf for key, leaf, digest, seal in news if genuine(key, leaf, digest, seal, seals)).in_force

    def _one(self, model: type[Row], shape: _Shape, row: Sequence[Any]) -> Row:
        """Return the one object of this view for a row of the driver. One that was found good before, byte by byte, is known."""
        reading = self._database.statements.reading(shape)
        known = self._database.seals.checked.get(shape.name, row) if shape.sealed else None
        if known is None:
            return self._object(model, shape, reading.values(row), row)
        found = self._object(model, shape, reading.again(row, known), row)
        if (shape.name, str(known[shape.key])) not in self._database.blocked:
            self._trusted[id(found)] = found
        return found

    def _object(self, model: type[Row], shape: _Shape, values: dict[str, object], row: Sequence[Any]) -> Row:
        """Return the one object of this view for a row just read, and keep the row for the look at its seal."""
        name = (model, str(values[shape.key]))
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = _instance(model, values)
        else:
            self._trusted.pop(id(known), None)
            known.__dict__.update(values)
        if shape.sealed:
            self._read[id(known)] = row
        return cast(Row, known)

    def intact(self, row: Base) -> bool:
        """Say whether a row carries its seal, is the newest that the log knows of, and is not blocked by the register check."""
        shape = _shape(type(row))
        if not shape.sealed or id(row) in self._trusted:
            return True
        database, read = self._database, self._read.get(id(row))
        # The driver's own row, and nothing was written over it since: what holds for it holds for these bytes.
        raw = read if type(read) is tuple else None
        values: Mapping[str, Any] = row.__dict__ if raw is None else database.statements.reading(shape).values(raw)
        version, key = int(values["version"]), str(values[shape.key])
        if read is not None and len(read) > len(shape.columns) and (read[-1] or 0) > version:
            return False  # an older row was put back: its seal was good once
        if (shape.name, key) in database.blocked:
            return False
        digest = row_digest(shape.name, key, version, shape.content(values))
        if not database.seals.holds(values["seal"], shape.name, key, version, values["event_id"], digest):
            return False
        self._trusted[id(row)] = row
        if raw is not None:
            database.seals.checked.keep(shape.name, raw, values)
        return True

    def cached(self, name: str, build: Callable[["View"], Found]) -> Found:
        """Return what `build` makes of the register, made once for each version of it. The version is asked once a view:
        what one view decides rests on one register. A transaction that changes the register makes it anew each time."""
        if self._changes_register():
            return build(self)
        mine = self._made.get(name)
        if mine is not None:
            return cast(Found, mine)
        version = self.register_version()
        known = self._database.made.get(name)
        if known is not None and known[0] == version:
            made = cast(Found, known[1])
        else:
            made = build(self)
            self._database.made[name] = (version, made)
        self._made[name] = made
        return made

    def _changes_register(self) -> bool:
        """Say whether what is read here may hold uncommitted changes of the register."""
        return False

    def register_version(self) -> int:
        """Return the number that grows whenever the register or the active policy changes: a key for caches."""
        if self._version is None:
            found = self._database.statements.register_version.rows(self._cursor, {"row_key": 1})
            self._version = int(found[0][0]) if found else 0
        return self._version

    def scalar(self, statement: Executable) -> Any:
        """Return the first column of the first row: for counts and maxima."""
        self._settle()
        return self._connection.scalar(cast(Any, statement))

    def rows(self, statement: Executable) -> Result[*tuple[Any, ...]]:
        """Run a select of columns; what it returns carries no proof of its seal."""
        self._settle()
        return cast("Result[*tuple[Any, ...]]", self._connection.execute(statement))

    def _settle(self) -> None:
        """Make sure that a read sees what was written before; a view writes nothing."""

    def _ask(self, question: Prepared, values: Mapping[str, object], tables: frozenset[str]) -> Sequence[Sequence[Any]]:
        """Return the rows of a question about these tables; it sees what was written to them before."""
        return question.rows(self._cursor, values)

    def _close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None
        # Not left to the garbage collector: sqlite3 resets a statement with the cursor that ran it last, and by then another
        # thread may be running that statement on the same connection.
        self._cursor.close()

    def _checked(self, row: Row) -> Row:
        if not self.intact(row):
            shape = _shape(type(row))
            raise SealBroken(shape.name, str(getattr(row, shape.key)))
        return row


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A write that a server has not been sent yet."""

    statement: Prepared
    rows: Sequence[Mapping[str, object]]
    table: str
    counted: bool = False
    """Whether it is a change of one row that must still be as it was read: CONFLICT where it is not."""


class _Beyond(Exception):
    """More is asked than what a glance holds."""


class _Glance(View):
    """What one statement gave of the rows behind one question, and the register as it was at that moment; it asks for nothing more."""

    __slots__ = ("_asked", "_rows", "_values")

    def __init__(
        self, database: "Database", asked: Prepared, values: Mapping[str, object], rows: Sequence[Sequence[Any]]
    ) -> None:
        self._begin(database, database.now())
        self._asked = asked
        self._values = values
        self._rows = rows
        self._version = int(rows[0][-1] or 0)

    def _settle(self) -> None:
        raise _Beyond

    def _ask(self, question: Prepared, values: Mapping[str, object], tables: frozenset[str]) -> Sequence[Sequence[Any]]:
        if question is not self._asked or values != self._values:
            raise _Beyond
        return self._rows


class Tx(View):
    """One transaction: reads, sealed writes and the events that tell of them."""

    __slots__ = (
        "_changed",
        "_counted",
        "_events",
        "_if_undone",
        "_mine",
        "_queue",
        "_queued",
        "_register_touched",
        "actor",
    )

    def __init__(self, database: "Database", connection: Connection, now: datetime, actor: Actor) -> None:
        super().__init__(database, connection, now)
        self.actor = actor
        self._events: list[PendingEvent] = []
        self._changed: set[str] = set()
        self._mine: set[tuple[type[Base], str]] = set()
        """Rows that this transaction wrote first: nobody else can see or change them before it ends."""
        self._queue: list[_Waiting] = []
        self._queued: set[str] = set()
        """Writes that a server has not been sent yet, and their tables."""
        self._counted: list[tuple[Cursor, str]] = []
        """Where the answers to changes just sent stand, and their tables."""
        self._register_touched = False
        self._if_undone: list[Callable[[Tx], object]] = []

    def if_undone(self, act: Callable[["Tx"], object]) -> None:
        """Do this in a transaction of its own where an exception undoes this one: for what must outlast it, as a spent challenge.

        It must look first: this one may have been kept after all.
        """
        self._if_undone.append(act)

    def unchecked_get(self, model: type[Row], key: str) -> Row | None:
        """As in every view; a row that this transaction made is known without asking."""
        if (model, key) in self._mine:
            return cast(Row, self._known[model, key])
        return super().unchecked_get(model, key)

    def _changes_register(self) -> bool:
        return self._register_touched

    def logged_holds(self) -> Mapping[str, LoggedHold]:
        """As in every view, after what this transaction places and releases."""
        mine = [self._leaf(one)[0].decode() for one in self._events if one.type.value in HOLD_EVENTS]
        return LoggedHolds(in_force=super().logged_holds()).after(mine).in_force

    def touch_register(self) -> None:
        """Make everybody read the register anew, where an entry alone changes what holds."""
        self._register_touched = True

    # -- evidence

    def record(
        self,
        type_: EventType,
        *,
        subject: Mapping[str, str | None] | None = None,
        body: Mapping[str, JsonValue] | None = None,
        texts: Mapping[str, str] | None = None,
    ) -> PendingEvent:
        """Tell the log of one act. `subject` names ids (None values are left out), `body` holds codes, counts and digests,
        `texts` personal text that stays outside the leaf and is bound to it by a salted hash."""
        found = PendingEvent(
            self.new_id(),
            type_,
            {name: value for name, value in (subject or {}).items() if value is not None},
            dict(body or {}),
            dict(texts or {}),
        )
        self._events.append(found)
        return found

    def told_of(self, type_: EventType) -> bool:
        """Say whether this transaction told the log of an act of this type."""
        return any(event.type is type_ for event in self._events)

    def new_id(self) -> str:
        """Return a fresh id."""
        return new_id(self.now)

    # -- writes

    def insert(self, model: type[Row], event: PendingEvent | None = None, **values: object) -> Row:
        """Write a new row, sealed under its event, and return it. Columns not named are NULL."""
        return self.insert_again(model, event, 0, **values)

    def insert_again(self, model: type[Row], event: PendingEvent | None, newest: int, /, **values: object) -> Row:
        """Write a row anew that is gone; `newest` is the newest version that the log knows of it (`newest_version`)."""
        shape = _shape(model)
        key = str(values[shape.key])
        full = self._sealed(shape, event, key, newest + 1, {**dict.fromkeys(shape.columns), **values})
        self._write(shape, [full])
        self._mine.add((model, key))
        made = self._known[model, key] = _instance(model, full)
        self._trusted[id(made)] = made
        return made

    def insert_many(self, model: type[Base], rows: Sequence[tuple[PendingEvent | None, Mapping[str, object]]]) -> None:
        """Write many new rows with one statement."""
        shape = _shape(model)
        if rows:
            blank = dict.fromkeys(shape.columns)
            full = [self._sealed(shape, event, str(v[shape.key]), 1, {**blank, **v}) for event, v in rows]
            self._write(shape, full)

    def _write(self, shape: _Shape, rows: Sequence[Mapping[str, object]]) -> None:
        """Insert rows: at once where the database is in this process, else with all others in one message before the next read
        that could miss them. A server refuses them then, or at the end, as it would now."""
        statement = self._database.statements.insert(shape)
        if self._database.sqlite:
            statement.run_many(self._cursor, rows)
        else:
            self._wait(_Waiting(statement, rows, shape.name))

    def _wait(self, write: "_Waiting") -> None:
        self._queue.append(write)
        self._queued.add(write.table)

    def _settle(self) -> None:
        if self._queue:
            with self._together():
                self._send()

    def _end(self) -> None:
        """Send a server what waits, and commit: in one message where no answer has to be looked at before the commit."""
        connection = self._server
        if self._queue and not any(write.counted for write in self._queue):
            with connection.pipeline():
                self._send()
                connection.commit()
            return
        self._settle()
        connection.commit()

    def _ask(self, question: Prepared, values: Mapping[str, object], tables: frozenset[str]) -> Sequence[Sequence[Any]]:
        if self._queued.isdisjoint(tables):
            return question.rows(self._cursor, values)
        with self._together():
            self._send()
            question.run(self._cursor, values)
        found: Sequence[Sequence[Any]] = self._cursor.fetchall()
        return found

    def _run(self, statement: Prepared, values: Mapping[str, object]) -> int:
        """Run a change; return how many rows were touched."""
        self._settle()
        return statement.run(self._cursor, values)

    def _change(self, statement: Prepared, values: Mapping[str, object], table: str) -> None:
        """Change exactly one row: at once where the database is in this process, else with what waits. Raises CONFLICT."""
        if self._database.sqlite:
            if statement.run(self._cursor, values) != 1:
                raise _changed_meanwhile(table)
        else:
            self._wait(_Waiting(statement, [values], table, counted=True))

    @property
    def _server(self) -> "psycopg.Connection[Any]":
        """Return the driver's connection to a server."""
        return cast("psycopg.Connection[Any]", self._connection.connection.dbapi_connection)

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Let what a server is sent go out in one message and its answers come back in one; then look whether all changes took place."""
        self._counted = []
        with self._server.pipeline():
            yield
        for cursor, table in self._counted:
            if cursor.rowcount != 1:
                raise _changed_meanwhile(table)

    def _send(self) -> None:
        queue, self._queue = self._queue, []
        self._queued.clear()
        for write in queue:
            if write.counted:
                cursor = _cursor_of(self._server)  # an answer of its own
                self._counted.append((cursor, write.table))
                write.statement.run(cursor, write.rows[0])
            else:
                write.statement.run_many(self._cursor, write.rows)

    def update(
        self,
        row: Base,
        event: PendingEvent | None = None,
        *,
        expect: Mapping[str, object] | None = None,
        **values: object,
    ) -> None:
        """Change columns of one row; raises CONFLICT unless it still is what was read (version, and `expect`).

        A server may be asked at the next read of that table or at the end only, and refuses then: the transaction is undone all the same.
        """
        shape = _shape(type(row))
        wanted = dict(expect or {})
        full = self._new_values(shape, row, event, values)
        if "version" in full:
            wanted["version"] = cast(Sealed, row).version
        parameters: dict[str, object] = {f"new_{name}": value for name, value in full.items()}
        parameters |= {f"old_{name}": value for name, value in wanted.items()}
        parameters["row_key"] = getattr(row, shape.key)
        where = tuple(name for name, value in wanted.items() if value is not None)
        absent = tuple(name for name, value in wanted.items() if value is None)
        statement = self._database.statements.update(shape, tuple(full), where, absent)
        self._change(statement, parameters, shape.name)
        self._take_over(row, full)

    def settle(self) -> None:
        """Send a server what was written so far. From here on others wait for the rows that were changed; raises CONFLICT as `update`.

        For who changes one row so that another transaction waits for it, and only then looks at what that one writes.
        """
        self._settle()

    def update_many(self, changes: Sequence[tuple[Base, PendingEvent | None, Mapping[str, object]]]) -> None:
        """Change the same columns of many rows of one class with one statement; CONFLICT unless all were as read."""
        if not changes:
            return
        shape = _shape(type(changes[0][0]))
        names = list(changes[0][2])
        wanted = [name for name in ("version", "state") if (name == "version" and shape.sealed) or name in names]
        fulls = [self._new_values(shape, row, pending, values) for row, pending, values in changes]
        parameters: list[dict[str, object]] = []
        for (row, _, _), full in zip(changes, fulls, strict=True):
            one: dict[str, object] = {f"new_{name}": value for name, value in full.items()}
            one |= {f"old_{name}": getattr(row, name) for name in wanted}
            parameters.append(one | {"row_key": getattr(row, shape.key)})
        statement = self._database.statements.update(shape, tuple(fulls[0]), tuple(wanted))
        self._settle()
        if statement.run_many(self._cursor, parameters) != len(parameters):
            raise _changed_meanwhile(shape.name)
        for (row, _, _), full in zip(changes, fulls, strict=True):
            self._take_over(row, full)

    def seal_anew(self, rows: Sequence[Base]) -> int:
        """Put intact rows of one class under the seal key that is active now, all else unchanged; return how many.

        Broken rows are left as they are: nothing ever heals what somebody changed.
        """
        parameters: list[dict[str, object]] = []
        for row in rows:
            shape, sealed = _shape(type(row)), cast(Sealed, row)
            if not self.intact(row) or sealed.event_id is None:
                continue
            key = str(getattr(row, shape.key))
            content = shape.content({name: getattr(row, name) for name in shape.sealed})
            digest = row_digest(shape.name, key, sealed.version, content)
            seal = self._database.seals.make(shape.name, key, sealed.version, sealed.event_id, digest)
            parameters.append({"new_seal": seal, "old_seal": sealed.seal, "row_key": key})
        if not parameters:
            return 0
        shape = _shape(type(rows[0]))
        self._changed.add(shape.name)
        self._settle()
        # A row that another transaction changes meanwhile is not touched: the next pass finds it.
        return self._database.statements.update(shape, ("seal",), ("seal",)).run_many(self._cursor, parameters)

    def put_right(self, model: type[Base], event: PendingEvent, key: str, values: Mapping[str, object]) -> None:
        """Write a damaged or lost row of a small table again, sealed, as the log last knew it; raises SEAL_BROKEN for any other content.

        The only road on which a broken row that gives a right gets a good seal again: the log itself says what it was.
        """
        shape = _shape(model)
        known = self.known_content(model, key)
        if known is None or self.digest_of(model, key, known[0], values) != known[1]:
            raise SealBroken(shape.name, key)
        self._write_anew(model, event, key, values)

    def observe_anew(self, model: type[Base], event: PendingEvent, key: str, values: Mapping[str, object]) -> None:
        """Write a damaged or lost row of what was seen outside again, from what is seen now; raises SEAL_BROKEN for other tables."""
        if _shape(model).name not in OBSERVED:
            raise SealBroken(_shape(model).name, key)
        self._write_anew(model, event, key, values)

    def _write_anew(self, model: type[Base], event: PendingEvent, key: str, values: Mapping[str, object]) -> None:
        shape = _shape(model)
        known = self.known_content(model, key) or (0, "")
        row = super().unchecked_get(model, key)
        stands = cast(Sealed, row).version if row is not None else 0
        version = max(known[0], stands, self.newest_version(model, key)) + 1
        full = self._sealed(shape, event, key, version, {name: values[name] for name in shape.columns})
        self._database.blocked.discard((shape.name, key))
        if row is None:
            self._write(shape, [full])
            self._settle()
            return
        names = tuple(name for name in full if name != shape.key)
        statement = self._database.statements.update(shape, names, ())
        parameters: dict[str, object] = {f"new_{name}": full[name] for name in names}
        self._change(statement, parameters | {"row_key": key}, shape.name)
        self._take_over(row, full)

    def _take_over(self, row: Base, values: Mapping[str, object]) -> None:
        """Show in a row object what was just written: it is not what was read any more."""
        self._read.pop(id(row), None)
        row.__dict__.update(values)

    def delete(self, model: type[Base], *conditions: Any) -> int:
        """Delete book-keeping rows; a table that carries evidence is never deleted from."""
        shape = _shape(model)
        if shape.name not in EVIDENCE_FREE or shape.name in {"event", "log_head", "checkpoint"}:
            raise Unaudited(f"rows of {shape.name} are never deleted")
        self._settle()
        done = cast("CursorResult[Any]", self._connection.execute(delete(shape.table).where(*conditions)))
        return done.rowcount

    def _new_values(
        self, shape: _Shape, row: Base, event: PendingEvent | None, values: Mapping[str, object]
    ) -> dict[str, object]:
        """Return the columns to write: those that change and, where they are under the seal, the new seal."""
        full = dict(values)
        if not shape.sealed:
            if shape.name not in EVIDENCE_FREE:
                self._changed.add(shape.name)
            return full
        if not any(name in shape.sealed for name in values):
            return full
        key = str(getattr(row, shape.key))
        version = cast(Sealed, row).version + 1
        if self.intact(row):
            content = {name: row.__dict__[name] for name in shape.columns} | full
            fresh = self._sealed(shape, event, key, version, content)
            return full | {name: fresh[name] for name in _SEAL_COLUMNS}
        # Somebody changed this row behind our back and a revocation moves it on: it must not be healed by a good seal.
        if event is None:
            raise _no_event(shape.name)
        self._broken.append((shape.name, key))
        self._register_touched = self._register_touched or shape.name in REGISTER
        return full | {"version": version, "event_id": event.id, "seal": None}

    def _sealed(
        self, shape: _Shape, event: PendingEvent | None, key: str, version: int, values: dict[str, object]
    ) -> dict[str, object]:
        if not shape.sealed:
            if shape.name not in EVIDENCE_FREE:
                self._changed.add(shape.name)
            return values
        digest = row_digest(shape.name, key, version, shape.content(values))
        if event is not None:
            event.rows.append((shape.name, key, version, digest))
        elif not shape.eventless:
            raise _no_event(shape.name)
        named = event.id if event is not None else key
        self._register_touched = self._register_touched or shape.name in REGISTER
        values["version"] = version
        values["event_id"] = named
        values["seal"] = self._database.seals.make(shape.name, key, version, named, digest)
        return values

    # -- the end

    def _finish(self, tip: Tip | None) -> None:
        """Write the events as rows of this transaction; numbered when there is a tip. A server is sent them by `_settle`."""
        used = self._session
        if used is not None and (used.new or used.dirty or used.deleted):
            raise Unaudited("rows are written through Tx, never by assigning to them")
        if any(instance_state(row).modified for row in self._known.values()):
            raise Unaudited("rows are written through Tx, never by assigning to them")
        for table, key in dict.fromkeys(self._broken):
            if (table, key) not in self._database.alarmed:
                self.record(EventType.SEAL_BROKEN, body={"table": table, "key": key})
        if not self._events:
            if self._changed:
                raise Unaudited(f"changed {sorted(self._changed)} without an event")
            return
        events: list[dict[str, object]] = []
        texts: list[dict[str, object]] = []
        for pending in self._events:
            leaf, spoken = self._leaf(pending)
            texts += spoken
            digest = leaf_hash(leaf)
            events.append(
                {
                    "id": pending.id,
                    "idx": None if tip is None else tip.take(digest),
                    "at": self.now,
                    "type": pending.type.value,
                    "person_id": self.actor.person_id,
                    "request_id": pending.subject.get("request"),
                    "grant_id": pending.subject.get("grant"),
                    "target": pending.subject.get("target"),
                    "leaf": leaf.decode(),
                    "leaf_hash": digest,
                    "seal": self._database.seals.make(EVENT_TABLE, pending.id, 0, pending.id, event_digest(leaf)),
                }
            )
        statements = self._database.statements
        if self._register_touched:
            self._change(statements.raise_register_version, {"row_key": 1, "step": 1}, RegisterVersion.__tablename__)
        self._write(_shape(Event), events)
        rewritten = [
            {"row_table": table, "row_key": key, "version": version}
            for pending in self._events
            for table, key, version, _ in pending.rows
            if version > 1
        ]
        if rewritten:
            self._write(_shape(RowVersion), rewritten)
        if texts:
            self._write(_shape(EventText), texts)

    def _leaf(self, pending: PendingEvent) -> tuple[bytes, list[dict[str, object]]]:
        spoken: list[dict[str, object]] = []
        digests: dict[str, str] = {}
        for name, text in pending.texts.items():
            salt = new_bytes(16)
            digests[name] = salted_digest(text, salt)
            spoken.append({"event_id": pending.id, "name": name, "salt": b64u_encode(salt), "text": text})
        leaf = Leaf(
            id=pending.id,
            at_us=to_epoch_us(self.now),
            type=pending.type.value,
            ev=VERSION_OF[pending.type],
            actor={
                "kind": self.actor.kind.value,
                "person": self.actor.person_id,
                "account": self.actor.account_id,
                "client": self.actor.client_id,
            },
            subject=pending.subject,
            body=pending.body,
            texts=digests,
            rows=tuple(pending.rows),
        )
        return leaf.to_bytes(), spoken


@dataclass(slots=True)
class _Batch:
    """Writers that share one commit on SQLite."""

    connection: Connection
    raw: sqlite3.Connection
    tip: Tip
    members: int = 0
    done: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None


class Database:
    """The store: engines, seals, and the way to read and to write."""

    def __init__(
        self,
        url: str,
        clock: Clock,
        seals: Seals,
        *,
        pool_size: int = 8,
        probe: Callable[[str], None] | None = None,
    ) -> None:
        """Open the store. `probe` is told "before-commit" and "after-commit" at each commit: fault tests stop there."""
        self.clock = clock
        self.seals = seals
        self.blocked: set[tuple[str, str]] = set()
        """(table, key) of register rows that contradict the log; kept by `audit.register`."""
        self.compared_at: datetime | None = None
        """When every register row was last compared with the log and its seal; kept by `audit.register`."""
        self.newest: Mapping[tuple[str, str], tuple[int, str]] = {}
        """(table, key) -> (version, digest) of the small tables by what was last checked of the log; kept by `audit.register`."""
        self.log_whole = True
        """Whether the stored log is the one that was written, as of the last check; kept by `audit.register`."""
        self.holds = LoggedHolds()
        """The holds in force by what was last checked of the log; kept by `audit`."""
        self.made: dict[str, tuple[int, object]] = {}
        """What `View.cached` keeps: name -> (register version, value)."""
        self._probe = probe or (lambda moment: None)
        self.alarmed: set[tuple[str, str]] = set()
        """(table, key) of broken rows that this process told the log of."""
        self._high = 0
        self._high_monotonic = int(clock.monotonic() * 1_000_000)
        """What the monotonic clock showed when the highest time was read."""
        self._high_lock = threading.Lock()
        self._writer = threading.Lock()
        self._turnstile = Turnstile(pool_size)
        self._inside = threading.local()
        self._waiting = 0
        self._waiting_lock = threading.Lock()
        self._batch: _Batch | None = None
        self._write_connection: Connection | None = None
        self._readers: list[Connection] = []
        """Connections that no view uses now, the last used one last."""
        self._writers: list[Connection] = []
        """Connections that no transaction uses now, the last used one last (a server)."""
        self._lock_file: IO[bytes] | None = None
        self.sqlite = make_url(url).get_backend_name() == "sqlite"
        # On a server writers have the same pool: what waits for readers must not be missing to them.
        self._most_readers = pool_size if self.sqlite else max(1, pool_size // 2)
        if self.sqlite:
            path = make_url(url).database
            if not path or path == ":memory:":
                raise JitError(Kind.CONFIGURATION, "SQLite needs a file: an in-memory database proves nothing.")
            keep_private(url)
            self._lock_path = Path(path + ".lock")
            self.engine = _sqlite_engine(url, pool_size, writer=False)
            self._write_engine = _sqlite_engine(url, 1, writer=True)
        else:
            self.engine = create_engine(url, pool_size=pool_size, max_overflow=pool_size)
            self._write_engine = self.engine
            # The driver begins nothing by itself: `_open_server` does.
            self._opened_engine = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self.statements = _statements(self.engine.dialect)
        driver = self.engine.dialect.loaded_dbapi
        self._driver_error = cast("type[Exception]", driver.Error)
        self._refused_by_rule = (IntegrityError, cast("type[Exception]", driver.IntegrityError))
        # Half a surrogate pair, which JSON can write, fails before any driver sees it.
        self._refused_value = (DataError, cast("type[Exception]", driver.DataError), UnicodeEncodeError)
        self._failed = (SQLAlchemyError, self._driver_error)

    # -- set-up and time

    def close(self) -> None:
        """Give all connections back."""
        with self._writer:
            self._undo_write()
        while self._readers:
            self._readers.pop().close()
        while self._writers:
            self._writers.pop().close()
        self.engine.dispose()
        self._write_engine.dispose()

    def now(self) -> datetime:
        """Return the present time: the wall clock's, but never before one already used, and never slower than the monotonic clock.

        A clock that went forward and was corrected revives nothing, stretches nothing and stops nothing (R62): the broker's time runs
        on from the highest it has seen, at the monotonic clock's pace, until the wall clock catches up (ADR 42).
        """
        with self._high_lock:
            wall, monotonic_us = to_epoch_us(self.clock.now()), int(self.clock.monotonic() * 1_000_000)
            self._high = max(wall, self._high + max(monotonic_us - self._high_monotonic, 0))
            self._high_monotonic = monotonic_us
            return from_epoch_us(self._high)

    def ahead(self) -> timedelta:
        """Return by how much the broker's time is ahead of the wall clock; zero while that is right."""
        return max(self.now() - self.clock.now(), timedelta())

    def raise_high_water(self) -> None:
        """Take the newest recorded time as a lower bound of time; called once at start.

        An entry `clock.set_back` says that the times before it were wrong: only what was recorded after it counts.
        """
        with self.engine.connect() as connection:
            set_back = connection.execute(
                select(Event.idx, Event.at)
                .where(Event.type == EventType.CLOCK_SET_BACK.value, Event.idx.is_not(None))
                .order_by(Event.idx.desc())
                .limit(1)
            ).one_or_none()
            newest = select(func.max(Event.at))
            if set_back is not None:  # all entries of one transaction bear one time
                newest = newest.where(or_(Event.idx > set_back.idx, Event.idx.is_(None)), Event.at != set_back.at)
            found = connection.scalar(newest)
        if found is not None:
            with self._high_lock:
                self._high = max(self._high, to_epoch_us(found))

    # -- reading

    @contextmanager
    def read(self) -> Iterator[View]:
        """Give one consistent read-only view. Raises INVALID (a value that no database takes) and UNAVAILABLE."""
        with self._read_errors(), self._reader() as connection:
            view: View | None = None
            try:
                version = None
                if self.sqlite:
                    connection.begin()
                else:
                    version = self._open_server(connection, _SNAPSHOT)
                view = View(self, connection, self.now())
                view._version = version
                yield view
            except self._failed as error:
                self._forget_if_lost(connection, error)
                raise
            finally:
                if view is not None:
                    view._close()
            met = view._broken
        self._alarm_all(met)

    def at_a_glance(self, question: Joined, act: Callable[[View], Found], **values: object) -> Found:
        """Return what an act returns that reads the answer to one question, and of the register only what is at hand of its version now.

        That is one statement and so one moment, without a transaction around it. Where the act needs more, or there is no answer, it is
        done once more in a view as `read` gives it: it may change nothing. Raises as `read`.
        """
        with self._read_errors():
            rows = self._glance(question, values)
            if rows:
                view = _Glance(self, self.statements.joined(question).prepared, values, rows)
                try:
                    found = act(view)
                except _Beyond:
                    pass
                else:
                    self._alarm_all(view._broken)
                    return found
        with self.read() as whole:
            return act(whole)

    def _glance(self, question: Joined, values: Mapping[str, object]) -> Sequence[Sequence[Any]]:
        connection = self._take_reader()
        try:
            cursor = _cursor_of(connection.connection.dbapi_connection)
            try:
                rows = self.statements.joined(question).glance.rows(cursor, values)
            finally:
                cursor.close()
        except BaseException as error:
            self._forget_if_lost(connection, error)
            connection.close()
            raise
        self._keep_reader(connection)
        return rows

    @contextmanager
    def _read_errors(self) -> Iterator[None]:
        """Alarm a broken seal, and say in our words what a database says."""
        try:
            yield
        except SealBroken as broken:
            self._alarm(broken)
            raise
        except self._refused_value as error:
            raise _not_storable() from error
        except self._failed as error:
            raise _unavailable() from error

    def _alarm_all(self, met: Sequence[tuple[str, str]]) -> None:
        for table, key in dict.fromkeys(met):
            self._alarm(SealBroken(table, key))

    @contextmanager
    def _reader(self) -> Iterator[Connection]:
        """Give a connection for one view, and end what was begun on it."""
        connection = self._take_reader()
        undo = True
        try:
            yield connection
            # Nothing was written. On a server the driver prepares every statement anew after a rollback.
            undo = self.sqlite
        finally:
            try:
                self._end_view(connection, undo=undo)
            except BaseException:
                connection.close()
                raise
            self._keep_reader(connection)

    def _end_view(self, connection: Connection, *, undo: bool) -> None:
        """End what was begun, by SQLAlchemy's own book and on the driver's connection, where `_open_server` began it."""
        if connection.in_transaction():
            (connection.rollback if undo else connection.commit)()
        if not self.sqlite and not connection.invalidated:
            raw = cast("psycopg.Connection[Any]", connection.connection.dbapi_connection)
            (raw.rollback if undo else raw.commit)()

    def _take_reader(self) -> Connection:
        """Return a connection for reading: the one that was used last, if there is one. A pool's own bookkeeping costs more than a read."""
        try:
            return self._readers.pop()
        except IndexError:
            return self.engine.connect() if self.sqlite else self._opened_engine.connect()

    def _keep_reader(self, connection: Connection) -> None:
        if connection.invalidated or len(self._readers) >= self._most_readers:
            connection.close()
        else:
            self._readers.append(connection)

    # -- writing

    @contextmanager
    def begin(self, actor: Actor, *, lock: Sequence[Lock] = ()) -> Iterator[Tx]:
        """Give a transaction; leaving it commits rows and events together, an exception undoes all of it (but see `Tx.if_undone`).

        `lock` names rows to lock first, by class and key or by a question; the clock is read after they are held, so that waiting
        never lets an approval land past its expiry. Raises CONFLICT (a unique key, a lost race), INVALID (a value that no database
        takes) and UNAVAILABLE (the store cannot commit). A transaction inside another of the same thread is a defect: RuntimeError.
        """
        if getattr(self._inside, "tx", False):
            raise RuntimeError("a transaction was opened inside another one of the same thread")
        self._inside.tx = True
        tx: Tx | None = None
        kept = False
        try:
            with self._begin_sqlite(actor) if self.sqlite else self._begin_server(actor, lock) as tx:
                yield tx
            kept = True
            self.alarmed.update(tx._broken)
        except SealBroken as broken:
            self._inside.tx = False
            self._alarm(broken)
            raise
        except self._refused_by_rule as error:
            raise JitError(Kind.CONFLICT, "This exists already or refers to something that does not.") from error
        except self._refused_value as error:
            raise _not_storable() from error
        except self._failed as error:
            raise _unavailable() from error
        finally:
            self._inside.tx = False
            if tx is not None and not kept and tx._if_undone:
                self._outlast(tx)

    def _outlast(self, undone: Tx) -> None:
        """Do what must outlast an undone transaction. The error that undid it goes on, whatever becomes of this."""
        try:
            with self.begin(undone.actor) as tx:
                for act in undone._if_undone:
                    act(tx)
        except Exception as error:  # the first error goes on, whatever becomes of this
            log.error("what had to outlast an undone transaction could not be kept (%s)", type(error).__name__)

    @contextmanager
    def _place(self) -> Iterator[None]:
        if not self._turnstile.enter(PLACE_TIMEOUT_S):
            raise _unavailable()
        try:
            yield
        finally:
            self._turnstile.leave()

    @contextmanager
    def _begin_server(self, actor: Actor, lock: Sequence[Lock]) -> Iterator[Tx]:
        with self._place(), self._writing() as connection:
            tx: Tx | None = None
            try:
                version = self._open_server(connection, "BEGIN", lock)
                tx = Tx(self, connection, self.now(), actor)
                tx._version = version
                yield tx
                tx._finish(None)
                self._probe("before-commit")
                tx._end()
                tx._close()
            except self._failed as error:
                self._forget_if_lost(connection, error)
                raise
            finally:
                if tx is not None:
                    tx._close()
        self._probe("after-commit")

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """Give a server's connection for one transaction, the one that was used last: its server process knows the statements.

        They are kept outside the pool, whose bookkeeping costs more than a statement. What is still open when it comes back is undone.
        """
        try:
            connection = self._writers.pop()
        except IndexError:
            connection = self._opened_engine.connect()
        try:
            yield connection
        finally:
            self._take_back(connection)

    def _take_back(self, connection: Connection) -> None:
        try:
            if not connection.invalidated:
                if connection.in_transaction():  # by SQLAlchemy's own book
                    connection.rollback()
                cast("psycopg.Connection[Any]", connection.connection.dbapi_connection).rollback()
        except self._failed:
            connection.invalidate()
        if connection.invalidated:
            connection.close()
        else:
            self._writers.append(connection)

    def _open_server(self, connection: Connection, begin: str, lock: Sequence[Lock] = ()) -> int:
        """Begin on a server, lock rows, then ask the register's version, all in one message; return the version."""
        raw = cast("psycopg.Connection[Any]", connection.connection.dbapi_connection)
        asked = [*self._locks(lock), (self.statements.register_version, {"row_key": 1})]
        # Several statements in one message take no parameters: the driver quotes the values into the text.
        with psycopg.ClientCursor(raw) as cursor:
            texts = [cursor.mogrify(one.sql, one.parameters(values)) for one, values in asked]
            cursor.execute("; ".join([begin, *texts]).encode())
            while cursor.nextset():
                pass
            found = cursor.fetchall()
        return int(found[0][0]) if found else 0

    def _locks(self, lock: Sequence[Lock]) -> list[tuple[Prepared, Mapping[str, object]]]:
        """Return the statements that lock rows: by key in one order everywhere, so that two transactions never wait for each other."""
        keys: list[tuple[str, str, type[Base]]] = []
        asked: list[tuple[Prepared, Mapping[str, object]]] = []
        for one in lock:
            if isinstance(one, Matching):
                asked.append((self.statements.lock_found(one.question, _shape(one.question.model)), one.values))
            else:
                keys.append((one[0].__tablename__, one[1], one[0]))
        keys.sort(key=lambda named: named[:2])
        return [*[(self.statements.lock(_shape(model)), {"row_key": key}) for _, key, model in keys], *asked]

    def _forget_if_lost(self, connection: Connection, error: BaseException) -> None:
        """Drop all pooled connections when the server went away: the next caller gets a fresh one."""
        cause = error.__cause__ if isinstance(error, SQLAlchemyError) else error
        dialect = self.engine.dialect
        if connection.closed or connection.invalidated or not isinstance(cause, self._driver_error):
            return
        if dialect.is_disconnect(cast(Any, cause), cast(Any, connection.connection.dbapi_connection), None):
            connection.invalidate()
            self._drop_writers()
            while self._readers:
                self._readers.pop().close()
            self.engine.dispose()

    def _drop_writers(self) -> None:
        while self._writers:
            connection = self._writers.pop()
            connection.invalidate()
            connection.close()

    @contextmanager
    def _begin_sqlite(self, actor: Actor) -> Iterator[Tx]:
        self._take_writer()
        batch: _Batch | None = None
        try:
            batch = self._open_batch()
            with self._member(batch):
                tx = Tx(self, batch.connection, self.now(), actor)
                try:
                    yield tx
                    tx._finish(batch.tip)
                finally:
                    tx._close()
        finally:
            try:
                if batch is not None:
                    self._leave_batch(batch)
            finally:
                self._writer.release()
        while not batch.done.wait(ABANDONED_S):
            with self._writer:
                self._end_batch(batch)
        if batch.error is not None:
            raise _unavailable() from batch.error

    def _take_writer(self) -> None:
        with self._waiting_lock:
            self._waiting += 1
        try:
            self._writer.acquire()
        finally:
            with self._waiting_lock:
                self._waiting -= 1

    @contextmanager
    def _member(self, batch: _Batch) -> Iterator[None]:
        """Let one writer into the batch. Its failure undoes what it wrote and nothing of the others."""
        frontier = batch.tip.frontier
        alone = batch.members == 0
        if not alone:
            batch.raw.execute("SAVEPOINT member")
        try:
            yield
            if not alone:
                batch.raw.execute("RELEASE member")
            batch.members += 1
        except BaseException:
            batch.tip.frontier = frontier
            if alone:
                self._cancel_batch(batch)
            else:
                self._undo_member(batch)
            raise

    def _cancel_batch(self, batch: _Batch) -> None:
        """Undo a batch that nobody is in; the connection stays good."""
        self._batch = None
        try:
            batch.connection.rollback()
            fcntl.flock(cast("IO[bytes]", self._lock_file), fcntl.LOCK_UN)
        except (SQLAlchemyError, OSError):
            self._undo_write()

    def _undo_member(self, batch: _Batch) -> None:
        try:
            batch.raw.execute("ROLLBACK TO member")
            batch.raw.execute("RELEASE member")
        except sqlite3.Error as error:
            # A full disk or an I/O error makes SQLite undo the whole transaction: everybody's work is gone.
            self._drop_batch(batch, error)

    def _open_batch(self) -> _Batch:
        if self._batch is None:
            try:
                if self._lock_file is None:
                    self._lock_file = os.fdopen(open_lock(self._lock_path), "ab")
                # A blocking lock: two writing processes that poll gave a p99 over 400 ms (performance.md, finding 3).
                fcntl.flock(self._lock_file, fcntl.LOCK_EX)
                if self._write_connection is None:
                    self._write_connection = self._write_engine.connect()
                connection = self._write_connection
                connection.begin()
                raw = cast(sqlite3.Connection, connection.connection.dbapi_connection)
                self._batch = _Batch(connection, raw, Tip.load(cast(Raw, raw).cursor(), self.statements.log))
            except OSError as error:
                self._undo_write()
                raise _unavailable() from error
            except BaseException:
                self._undo_write()
                raise
        return self._batch

    def _leave_batch(self, batch: _Batch) -> None:
        with self._waiting_lock:
            more = self._waiting > 0
        if not more or batch.members >= BATCH_LIMIT:
            self._end_batch(batch)
        # Otherwise whoever waits for the lock takes this batch over and is bound to end it.

    def _end_batch(self, batch: _Batch) -> None:
        """Commit a batch, unless it is over already. The caller holds the writer's lock."""
        if self._batch is not batch:
            return
        try:
            if not batch.raw.in_transaction:
                raise sqlite3.OperationalError("the transaction was undone by the database")
            batch.tip.save(cast(Raw, batch.raw).cursor(), self.statements.log)
            self._probe("before-commit")
            batch.connection.commit()
        except BaseException as error:  # whatever it was, nobody in this batch may be told that it was kept
            self._drop_batch(batch, error)
            if not isinstance(error, Exception):
                raise
            return
        # A crash from here on leaves a change that is durable and that nobody was told of: callers look before they repeat.
        self._batch = None
        fcntl.flock(cast("IO[bytes]", self._lock_file), fcntl.LOCK_UN)
        try:
            self._probe("after-commit")
        finally:
            batch.done.set()

    def _drop_batch(self, batch: _Batch, error: BaseException) -> None:
        """Undo a batch and tell all who are in it that nothing of theirs was kept."""
        batch.error = error
        self._batch = None
        # Somebody in this batch may have seen a version of the register that never came to be.
        self.made.clear()
        self._undo_write()
        batch.done.set()

    def _undo_write(self) -> None:
        connection = self._write_connection
        self._write_connection = None
        self._batch = None
        if connection is not None:
            connection.invalidate()
            connection.close()
        if self._lock_file is not None:
            self._lock_file.close()  # gives the lock back
            self._lock_file = None

    def number_events(self) -> int:
        """Number committed events that have none (PostgreSQL); return how many. A lost race counts as none."""
        if self.sqlite:
            return 0
        try:
            with self.engine.begin() as connection:
                cursor = _cursor_of(connection.connection.dbapi_connection)
                return number_pending(connection, cursor, self.statements.log, self.seals)
        except JitError as error:
            if error.kind is Kind.CONFLICT:
                return 0
            raise
        except self._failed as error:
            raise _unavailable() from error

    def _alarm(self, broken: SealBroken) -> None:
        """Tell the log of a broken seal, once a process and row; inside a transaction its own end does it."""
        key = (broken.table, broken.key)
        if key in self.alarmed or getattr(self._inside, "tx", False):
            return
        try:
            with self.begin(SYSTEM) as tx:
                tx.record(EventType.SEAL_BROKEN, body={"table": broken.table, "key": broken.key})
        except JitError as error:
            log.error("a broken seal of %s could not be recorded: %s", broken.table, error.message)
        else:
            self.alarmed.add(key)


def _not_storable() -> JitError:
    return JitError(Kind.INVALID, "A value holds characters or numbers that cannot be stored.")


def _unavailable() -> JitError:
    return JitError(Kind.UNAVAILABLE, "The store cannot take this now; nothing was changed. Try again shortly.")


def _changed_meanwhile(table: str) -> JitError:
    return JitError(Kind.CONFLICT, "Somebody else changed this at the same moment; look again.", table=table)


def _no_event(table: str) -> Unaudited:
    return Unaudited(f"a row of {table} needs the event that writes it")


def _refuse_flush(session: Session, context: UOWTransaction, instances: object) -> None:
    if session.new or session.dirty or session.deleted:
        raise Unaudited("rows are written through Tx, never by assigning to them")


def _sqlite_engine(url: str, pool_size: int, *, writer: bool) -> Engine:
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0 if writer else pool_size,
        connect_args={"check_same_thread": False, "timeout": 30, "isolation_level": None},
    )

    def prepare(connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000", WAL_PAGES):
            cursor.execute(f"PRAGMA {pragma}")
        if not writer:
            cursor.execute("PRAGMA query_only=ON")
        cursor.close()

    def start(connection: Connection) -> None:
        raw = cast(sqlite3.Connection, connection.connection.dbapi_connection)
        raw.execute("BEGIN IMMEDIATE" if writer else "BEGIN")

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", start)
    return engine
