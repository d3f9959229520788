"""How is a change made durable together with its evidence? Engines, reads, and the one transaction type.

`Database.begin(actor)` gives a `Tx`: rows are written only through it, sealed as they are written, and committed in one
transaction with the events that tell of them (R63). It holds the only commit() of the program. No network call to a target
may happen inside a Tx. On SQLite there is one writer at a time and writers that queue share one commit (group commit):
each has a savepoint, and nobody is answered before the fsync. See design.md section 5 and docs/adr/0003.
"""

import fcntl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Any, TypeVar, cast

from sqlalchemy import (
    Connection,
    CursorResult,
    Engine,
    Executable,
    Result,
    Select,
    Table,
    bindparam,
    create_engine,
    delete,
    event,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session, UOWTransaction
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.pool import ConnectionPoolEntry

from jitaccess.clock import Clock, from_epoch_us, to_epoch_us
from jitaccess.domain.events import VERSION_OF, EventType
from jitaccess.domain.values import SYSTEM, Actor
from jitaccess.errors import JitError, Kind
from jitaccess.proof.canonical import JsonValue, b64u_encode, salted_digest
from jitaccess.proof.leaf import Leaf
from jitaccess.proof.merkle import leaf_hash
from jitaccess.store.ids import new_bytes, new_id
from jitaccess.store.log import EVENT_TABLE, Tip, event_digest, number_pending
from jitaccess.store.seal import Seals, row_digest
from jitaccess.store.tables import EVIDENCE_FREE, REGISTER, Base, Event, EventText, RegisterVersion, Sealed

Row = TypeVar("Row", bound=Base)
Found = TypeVar("Found")
BATCH_LIMIT = 64
"""Writers that may share one commit on SQLite; bounds how long the first of them waits."""


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


_SEAL_COLUMNS = frozenset({"version", "event_id", "seal"})


def _shape(model: type[Base]) -> _Shape:
    found = _SHAPES.get(model)
    if found is None:
        table = cast(Table, model.__table__)
        columns = tuple(column.key for column in table.columns)
        sealed: tuple[str, ...] = ()
        if issubclass(model, Sealed):
            sealed = tuple(name for name in columns if name not in _SEAL_COLUMNS and name not in model.UNSEALED)
        found = _SHAPES[model] = _Shape(table, table.name, next(iter(table.primary_key)).key, columns, sealed)
    return found


_SHAPES: dict[type[Base], _Shape] = {}
_REGISTER_VERSION = select(RegisterVersion.n).where(RegisterVersion.id == 1)
_RAISE_REGISTER_VERSION = update(RegisterVersion).where(RegisterVersion.id == 1).values(n=RegisterVersion.n + 1)


class View:
    """Reads. Every sealed row that comes out has been checked, unless the method's name says otherwise."""

    __slots__ = ("_database", "now", "session")

    def __init__(self, database: "Database", session: Session, now: datetime) -> None:
        self._database = database
        self.session = session
        self.now = now

    def get(self, model: type[Row], key: str | None) -> Row | None:
        """Return the row with this key, or None; raises SEAL_BROKEN."""
        if key is None:
            return None
        row = self.session.get(model, key, populate_existing=True)
        return None if row is None else self._checked(row)

    def require(self, model: type[Row], key: str | None, message: str = "There is no such record.") -> Row:
        """Return the row with this key; raises NOT_FOUND or SEAL_BROKEN."""
        row = self.get(model, key)
        if row is None:
            raise JitError(Kind.NOT_FOUND, message)
        return row

    def all(self, statement: Select[Row]) -> list[Row]:
        """Return all rows of a select over one class; raises SEAL_BROKEN for any of them."""
        return [self._checked(row) for row in self.session.scalars(statement)]

    def first(self, statement: Select[Row]) -> Row | None:
        """Return the first row of a select, or None; raises SEAL_BROKEN."""
        row = self.session.scalars(statement.limit(1)).first()
        return None if row is None else self._checked(row)

    def unchecked_get(self, model: type[Row], key: str) -> Row | None:
        """Return the row without looking at its seal: for revocation and for showing that it is broken."""
        return self.session.get(model, key, populate_existing=True)

    def unchecked_all(self, statement: Select[Row]) -> list[Row]:
        """Return rows without looking at their seals: for revocation and for showing that they are broken."""
        return list(self.session.scalars(statement))

    def intact(self, row: Base) -> bool:
        """Say whether a row carries its seal and is not blocked by the register check."""
        shape = _shape(type(row))
        if not shape.sealed:
            return True
        sealed = cast(Sealed, row)
        key = str(getattr(row, shape.key))
        content = {name: getattr(row, name) for name in shape.sealed}
        digest = row_digest(shape.name, key, sealed.version, content)
        return (shape.name, key) not in self._database.blocked and self._database.seals.holds(
            sealed.seal, shape.name, key, sealed.version, sealed.event_id, digest
        )

    def cached(self, name: str, build: Callable[["View"], Found]) -> Found:
        """Return what `build` makes of the register, made once for each version of it."""
        version = self.register_version()
        known = self._database.made.get(name)
        if known is not None and known[0] == version and not self._changes_register():
            return cast(Found, known[1])
        made = build(self)
        if not self._changes_register():
            self._database.made[name] = (version, made)
        return made

    def _changes_register(self) -> bool:
        """Say whether what is read here may hold uncommitted changes of the register."""
        return False

    def register_version(self) -> int:
        """Return the number that grows whenever the register or the active policy changes: a key for caches."""
        return int(self.session.scalar(_REGISTER_VERSION) or 0)

    def sealed_values(self, row: Base) -> dict[str, object]:
        """Return what lies under a row's seal, for sealing it anew."""
        shape = _shape(type(row))
        return {name: getattr(row, name) for name in shape.sealed if name != shape.key}

    def scalar(self, statement: Executable) -> Any:
        """Return the first column of the first row: for counts and maxima."""
        return self.session.scalar(cast(Any, statement))

    def rows(self, statement: Executable) -> Result[*tuple[Any, ...]]:
        """Run a select of columns; what it returns carries no proof of its seal."""
        return self.session.execute(statement)

    def _checked(self, row: Row) -> Row:
        if not self.intact(row):
            shape = _shape(type(row))
            raise SealBroken(shape.name, str(getattr(row, shape.key)))
        return row


class Tx(View):
    """One transaction: reads, sealed writes and the events that tell of them."""

    __slots__ = ("_changed", "_events", "_register_touched", "actor")

    def __init__(self, database: "Database", session: Session, now: datetime, actor: Actor) -> None:
        super().__init__(database, session, now)
        self.actor = actor
        self._events: list[PendingEvent] = []
        self._changed: set[str] = set()
        self._register_touched = False

    def _changes_register(self) -> bool:
        return self._register_touched

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

    def new_id(self) -> str:
        """Return a fresh id."""
        return new_id(self.now)

    # -- writes

    def insert(self, model: type[Row], event: PendingEvent | None = None, **values: object) -> Row:
        """Write a new row, sealed under its event, and return it. Columns not named are NULL."""
        shape = _shape(model)
        full = self._sealed(shape, event, str(values[shape.key]), 1, {**dict.fromkeys(shape.columns), **values})
        self.session.connection().execute(insert(shape.table), full)
        return model(**full)

    def insert_many(self, model: type[Base], rows: Sequence[tuple[PendingEvent | None, Mapping[str, object]]]) -> None:
        """Write many new rows with one statement."""
        shape = _shape(model)
        if rows:
            blank = dict.fromkeys(shape.columns)
            self.session.connection().execute(
                insert(shape.table),
                [self._sealed(shape, event, str(v[shape.key]), 1, {**blank, **v}) for event, v in rows],
            )

    def update(
        self,
        row: Base,
        event: PendingEvent | None = None,
        *,
        expect: Mapping[str, object] | None = None,
        **values: object,
    ) -> None:
        """Change columns of one row; raises CONFLICT unless it still is what was read (version, and `expect`)."""
        shape = _shape(type(row))
        key = str(getattr(row, shape.key))
        wanted = dict(expect or {})
        full: dict[str, object] = dict(values)
        if self._touches_seal(shape, values):
            sealed = cast(Sealed, row)
            wanted["version"] = sealed.version
            content = {name: getattr(row, name) for name in shape.columns} | values
            fresh = self._sealed(shape, event, key, sealed.version + 1, content)
            full |= {name: fresh[name] for name in _SEAL_COLUMNS}
        elif shape.name not in EVIDENCE_FREE and not shape.sealed:
            self._changed.add(shape.name)
        statement = update(shape.table).where(shape.table.c[shape.key] == key)
        for name, value in wanted.items():
            statement = statement.where(shape.table.c[name] == value)
        done = cast("CursorResult[Any]", self.session.connection().execute(statement.values(**full)))
        if done.rowcount != 1:
            raise JitError(
                Kind.CONFLICT, "Somebody else changed this at the same moment; look again.", table=shape.name
            )
        for name, value in full.items():
            set_committed_value(row, name, value)

    def update_many(self, changes: Sequence[tuple[Base, PendingEvent | None, Mapping[str, object]]]) -> None:
        """Change the same columns of many rows of one class with one statement; CONFLICT unless all were as read."""
        if not changes:
            return
        shape = _shape(type(changes[0][0]))
        names = list(changes[0][2])
        parameters: list[dict[str, object]] = []
        for row, pending, values in changes:
            key = str(getattr(row, shape.key))
            full: dict[str, object] = dict(values)
            if self._touches_seal(shape, values):
                sealed = cast(Sealed, row)
                content = {name: getattr(row, name) for name in shape.columns} | dict(values)
                fresh = self._sealed(shape, pending, key, sealed.version + 1, content)
                full |= {name: fresh[name] for name in _SEAL_COLUMNS}
            parameters.append({f"new_{name}": value for name, value in full.items()} | {"row_key": key})
            if shape.sealed:
                parameters[-1]["row_version"] = cast(Sealed, row).version
            if "state" in names:
                parameters[-1]["row_state"] = cast(Any, row).state
        columns = [*names, *(_SEAL_COLUMNS if self._touches_seal(shape, changes[0][2]) else ())]
        statement = update(shape.table).where(shape.table.c[shape.key] == bindparam("row_key"))
        if shape.sealed:
            statement = statement.where(shape.table.c["version"] == bindparam("row_version"))
        if "state" in names:
            statement = statement.where(shape.table.c["state"] == bindparam("row_state"))
        statement = statement.values({name: bindparam(f"new_{name}") for name in columns})
        done = cast("CursorResult[Any]", self.session.connection().execute(statement, parameters))
        if done.rowcount != len(parameters):
            raise JitError(Kind.CONFLICT, "Somebody else changed one of these at the same moment.", table=shape.name)
        for (row, _, _), parameter in zip(changes, parameters, strict=True):
            for name in columns:
                set_committed_value(row, name, parameter[f"new_{name}"])

    def delete(self, model: type[Base], *conditions: Any) -> int:
        """Delete book-keeping rows; a table that carries evidence is never deleted from."""
        shape = _shape(model)
        if shape.name not in EVIDENCE_FREE or shape.name in {"event", "log_head", "checkpoint"}:
            raise Unaudited(f"rows of {shape.name} are never deleted")
        done = cast("CursorResult[Any]", self.session.connection().execute(delete(shape.table).where(*conditions)))
        return done.rowcount

    def _touches_seal(self, shape: _Shape, values: Mapping[str, object]) -> bool:
        return bool(shape.sealed) and any(name in shape.sealed for name in values)

    def _sealed(
        self, shape: _Shape, event: PendingEvent | None, key: str, version: int, values: dict[str, object]
    ) -> dict[str, object]:
        if not shape.sealed:
            if shape.name not in EVIDENCE_FREE:
                self._changed.add(shape.name)
            return values
        if event is None:
            raise Unaudited(f"a row of {shape.name} needs the event that writes it")
        digest = row_digest(shape.name, key, version, {name: values[name] for name in shape.sealed})
        event.rows.append((shape.name, key, version, digest))
        self._register_touched = self._register_touched or shape.name in REGISTER
        values["version"] = version
        values["event_id"] = event.id
        values["seal"] = self._database.seals.make(shape.name, key, version, event.id, digest)
        return values

    # -- the end

    def _finish(self, tip: Tip | None) -> None:
        """Write the events as rows of this transaction; numbered when there is a tip."""
        if self.session.new or self.session.dirty or self.session.deleted:
            raise Unaudited("rows are written through Tx, never by assigning to them")
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
        connection = self.session.connection()
        if self._register_touched:
            connection.execute(_RAISE_REGISTER_VERSION)
        connection.execute(insert(Event.__table__), events)  # type: ignore[arg-type] # __table__ is a Table at run time
        if texts:
            connection.execute(insert(EventText.__table__), texts)  # type: ignore[arg-type] # as above

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
        self.made: dict[str, tuple[int, object]] = {}
        """What `View.cached` keeps: name -> (register version, value)."""
        self._probe = probe or (lambda moment: None)
        self._alarmed: set[tuple[str, str]] = set()
        self._high = 0
        self._high_lock = threading.Lock()
        self._writer = threading.Lock()
        self._waiting = 0
        self._waiting_lock = threading.Lock()
        self._batch: _Batch | None = None
        self._write_connection: Connection | None = None
        self._lock_file: IO[bytes] | None = None
        self.sqlite = make_url(url).get_backend_name() == "sqlite"
        if self.sqlite:
            path = make_url(url).database
            if not path or path == ":memory:":
                raise JitError(Kind.CONFIGURATION, "SQLite needs a file: an in-memory database proves nothing.")
            self._lock_path = Path(path + ".lock")
            self.engine = _sqlite_engine(url, pool_size, writer=False)
            self._write_engine = _sqlite_engine(url, 1, writer=True)
        else:
            self.engine = create_engine(url, pool_size=pool_size, max_overflow=pool_size, pool_pre_ping=True)
            self._write_engine = self.engine

    # -- set-up and time

    def close(self) -> None:
        """Give all connections back."""
        with self._writer:
            if self._write_connection is not None:
                self._write_connection.close()
                self._write_connection = None
            if self._lock_file is not None:
                self._lock_file.close()
                self._lock_file = None
        self.engine.dispose()
        self._write_engine.dispose()

    def now(self) -> datetime:
        """Return the present time, never before one already used (R62: a clock going back revives nothing)."""
        with self._high_lock:
            self._high = max(self._high, to_epoch_us(self.clock.now()))
            return from_epoch_us(self._high)

    def raise_high_water(self) -> None:
        """Take the newest recorded event as a lower bound of time; called once at start."""
        with self.engine.connect() as connection:
            newest = connection.scalar(select(func.max(Event.at)))
        if newest is not None:
            with self._high_lock:
                self._high = max(self._high, to_epoch_us(newest))

    # -- reading

    @contextmanager
    def read(self) -> Iterator[View]:
        """Give one consistent read-only view."""
        try:
            with Session(self.engine, autoflush=False, expire_on_commit=False) as session:
                yield View(self, session, self.now())
        except SealBroken as broken:
            self._alarm(broken)
            raise
        except DBAPIError as error:
            raise _unavailable() from error

    # -- writing

    @contextmanager
    def begin(self, actor: Actor, *, lock: Sequence[tuple[type[Base], str]] = ()) -> Iterator[Tx]:
        """Give a transaction; leaving it commits rows and events together, an exception undoes all of it.

        `lock` names rows (class, key) to lock first; the clock is read after they are held, so that waiting never lets an
        approval land past its expiry. Raises CONFLICT (a unique key, a lost race) and UNAVAILABLE (the store cannot commit).
        """
        try:
            with self._begin_sqlite(actor) if self.sqlite else self._begin_server(actor, lock) as tx:
                yield tx
        except SealBroken as broken:
            self._alarm(broken)
            raise
        except IntegrityError as error:
            raise JitError(Kind.CONFLICT, "This exists already or refers to something that does not.") from error
        except SQLAlchemyError as error:
            raise _unavailable() from error

    @contextmanager
    def _begin_server(self, actor: Actor, lock: Sequence[tuple[type[Base], str]]) -> Iterator[Tx]:
        with self.engine.connect() as connection:
            with _session(connection) as session:
                for model, key in sorted(lock, key=lambda pair: (pair[0].__tablename__, pair[1])):
                    shape = _shape(model)
                    column = shape.table.c[shape.key]
                    connection.execute(select(column).where(column == key).with_for_update())
                tx = Tx(self, session, self.now(), actor)
                yield tx
                tx._finish(None)
                session.commit()
            self._probe("before-commit")
            connection.commit()
        self._probe("after-commit")

    @contextmanager
    def _begin_sqlite(self, actor: Actor) -> Iterator[Tx]:
        with self._waiting_lock:
            self._waiting += 1
        self._writer.acquire()
        with self._waiting_lock:
            self._waiting -= 1
        batch: _Batch | None = None
        try:
            try:
                batch = self._open_batch()
                frontier = batch.tip.frontier
                try:
                    with _session(batch.connection) as session:
                        tx = Tx(self, session, self.now(), actor)
                        yield tx
                        tx._finish(batch.tip)
                        session.commit()
                except BaseException:
                    batch.tip.frontier = frontier
                    raise
                batch.members += 1
            finally:
                if batch is not None:
                    self._close_batch(batch)
        finally:
            self._writer.release()
        batch.done.wait()
        if batch.error is not None:
            raise batch.error

    def _open_batch(self) -> _Batch:
        if self._batch is None:
            if self._write_connection is None:
                self._write_connection = self._write_engine.connect()
                self._lock_file = self._lock_path.open("ab")
            lock_file = cast("IO[bytes]", self._lock_file)
            # A blocking lock: two writing processes that poll gave a p99 over 400 ms (performance.md, finding 3).
            fcntl.flock(lock_file, fcntl.LOCK_EX)
            try:
                self._write_connection.begin()
                self._batch = _Batch(self._write_connection, Tip.load(self._write_connection))
            except BaseException:
                self._undo_write()
                raise
        return self._batch

    def _close_batch(self, batch: _Batch) -> None:
        with self._waiting_lock:
            more = self._waiting > 0
        if more and batch.members < BATCH_LIMIT:
            return  # whoever waits for the lock takes this batch over and is bound to end it
        self._batch = None
        try:
            batch.tip.save(batch.connection)
            self._probe("before-commit")
            batch.connection.commit()
        except BaseException as error:  # kept, and raised for every writer that shared the commit
            batch.error = error
            self._undo_write()
        else:
            fcntl.flock(cast("IO[bytes]", self._lock_file), fcntl.LOCK_UN)
        finally:
            batch.done.set()
        self._probe("after-commit")

    def _undo_write(self) -> None:
        connection = self._write_connection
        self._write_connection = None
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
                return number_pending(connection, self.seals)
        except JitError as error:
            if error.kind is Kind.CONFLICT:
                return 0
            raise
        except DBAPIError as error:
            raise _unavailable() from error

    def _alarm(self, broken: SealBroken) -> None:
        """Tell the log of a broken seal, once a process and row."""
        key = (broken.table, broken.key)
        if key in self._alarmed:
            return
        self._alarmed.add(key)
        with self.begin(SYSTEM) as tx:
            tx.record(EventType.SEAL_BROKEN, body={"table": broken.table, "key": broken.key})


def _unavailable() -> JitError:
    return JitError(Kind.UNAVAILABLE, "The store cannot take this now; nothing was changed. Try again shortly.")


@contextmanager
def _session(connection: Connection) -> Iterator[Session]:
    with Session(
        connection, autoflush=False, expire_on_commit=False, join_transaction_mode="create_savepoint"
    ) as session:
        event.listen(session, "before_flush", _refuse_flush)
        yield session


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
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
            cursor.execute(f"PRAGMA {pragma}")
        if not writer:
            cursor.execute("PRAGMA query_only=ON")
        cursor.close()

    def start(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writer else "BEGIN")

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", start)
    return engine
