"""Connections to one server, and the few ways in which statements are sent over them."""

import os
import select as poll
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import repeat
from typing import Any, cast

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from jitaccess.connectors.contract import CallFailed, Secret, Surroundings, Unreachable
from jitaccess.connectors.postgresql.config import PostgresqlConfig

CONNECT_LIMIT_S = 5
CALL_LIMIT_S = 20.0
"""A connection that is not done by then is closed under its caller: a server that hangs holds no thread for ever."""
STATEMENT_LIMIT_MS = 10_000
LOCK_LIMIT_MS = 3_000
LOOK_AGAIN_S = (0.0005, 0.001, 0.002, *repeat(0.005, 600))
"""Pauses between looks at sessions that are ending, three seconds in all. Most are gone after the first or second."""
KEEP_IDLE = 6
"""As many as one process has in use at once: those that make (`targets.at_once`), and the two lanes that end."""
UNCERTAIN_CLASSES = ("08", "57P")
"""SQLSTATEs after which nobody knows whether the transaction committed: the connection broke, the server is stopping."""
PROTOCOL_16 = 160_000
Connection = psycopg.Connection[TupleRow]


def ident(*names: str) -> sql.Identifier:
    """Return a name, or schema and name, quoted."""
    return sql.Identifier(*names)


def stamp(at: datetime) -> sql.Literal:
    """Return a time as text: a Literal of a datetime carries a cast that CREATE ROLE does not take."""
    return sql.Literal(at.astimezone(UTC).isoformat())


class Lines:
    """Connections to one server; a few to the database where people log in are kept for the next call."""

    def __init__(self, config: PostgresqlConfig, around: Surroundings) -> None:
        self._config = config
        self._around = around
        self._idle: list[Connection] = []
        self._guard = threading.Lock()

    @contextmanager
    def line(self, database: str | None = None) -> Iterator[Connection]:
        """Give a connection with a limit on all of its use; after an error it is closed, else kept. Raises Unreachable."""
        name = database or self._config.database
        connection = (self._take() if name == self._config.database else None) or self._connect(name)
        watch = threading.Timer(CALL_LIMIT_S, _shut, (connection,))
        watch.daemon = True
        watch.start()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        finally:
            watch.cancel()
        with self._guard:
            if name == self._config.database and not connection.closed and len(self._idle) < KEEP_IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def _take(self) -> Connection | None:
        """Return a kept connection that the server has not closed meanwhile."""
        while True:
            with self._guard:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            if not connection.closed and not poll.select([connection.fileno()], [], [], 0)[0]:
                return connection
            connection.close()

    def _connect(self, database: str) -> Connection:
        failure: psycopg.Error | None = None
        for secret in self._around.secrets(self._config.secret):
            try:
                return self.connect(secret, database)
            except psycopg.Error as error:
                failure = error
        raise Unreachable("the server cannot be reached or refuses the broker") from failure

    def connect(self, secret: Secret, database: str | None = None) -> Connection:
        """Open a connection with this secret of the broker's own."""
        config = self._config
        settings = {
            "search_path": "pg_catalog,pg_temp",
            "statement_timeout": STATEMENT_LIMIT_MS,
            "lock_timeout": LOCK_LIMIT_MS,
            "idle_in_transaction_session_timeout": STATEMENT_LIMIT_MS,
            "jit": "off",  # a look at the server's books takes milliseconds, compiling it seconds
        }
        local = config.tls == "none"
        return psycopg.connect(
            host=config.host,
            port=config.port,
            dbname=database or config.database,
            user=config.user,
            password=secret.reveal(),
            sslmode="disable" if local else "verify-full",
            sslrootcert="" if local else config.root_ca or "system",
            gssencmode="disable",
            require_auth="scram-sha-256",
            connect_timeout=CONNECT_LIMIT_S,
            options=" ".join(f"-c {name}={value}" for name, value in settings.items()),
            application_name="jitaccess",
            autocommit=True,
            prepare_threshold=None,
        )

    def close(self) -> None:
        """Close what is kept."""
        with self._guard:
            for connection in self._idle:
                connection.close()
            self._idle.clear()


def _shut(connection: Connection) -> None:
    """Break a connection under a caller that waits on it."""
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as twin:
        twin.shutdown(socket.SHUT_RDWR)


def run(connection: Connection, statement: sql.Composable, values: Sequence[object] | None = None) -> list[TupleRow]:
    """Run a statement, or a string of them as one transaction of the server; return the last rows."""
    cursor = connection.execute(cast(Any, statement), values)
    while cursor.nextset():
        pass
    return _rows(cursor)


def _rows(cursor: psycopg.Cursor[TupleRow]) -> list[TupleRow]:
    """Return the rows of the present result; `description` would make an object for each column only to say that there are some."""
    return cursor.fetchall() if cursor.pgresult is not None and cursor.pgresult.nfields else []


def at_once(
    connection: Connection, acts: Sequence[sql.Composable], looks: Sequence[sql.Composable]
) -> list[list[TupleRow]]:
    """Do `acts` in one transaction and look at what came of it when that is committed, all in one round trip; return the rows of each look.

    Where it fails nothing of it was done.
    """
    string = sql.SQL("; ").join([sql.SQL("BEGIN"), *acts, sql.SQL("COMMIT"), *looks])
    try:
        cursor = connection.execute(cast(Any, string))
    except psycopg.Error:
        if not connection.closed:
            connection.rollback()
        raise
    found: list[list[TupleRow]] = []
    while True:
        found.append(_rows(cursor))
        if not cursor.nextset():
            return found[-len(looks) :]


def roles_of(connection: Connection, names: Sequence[str]) -> dict[str, int]:
    """Return name -> oid of those roles that exist."""
    rows = run(connection, sql.SQL("SELECT rolname, oid FROM pg_roles WHERE rolname = ANY(%s)"), [list(names)])
    return {str(name): int(oid) for name, oid in rows}


def ending(oids: Iterable[int]) -> sql.Composed:
    """Return what ends every session of these roles, whatever role they set, and says which roles had one.

    The function under `pg_stat_activity`: the view joins names to it, which costs more than the look.
    """
    end = sql.SQL(
        "SELECT usesysid, count(pg_terminate_backend(pid)) FROM pg_stat_get_activity(NULL) "
        "WHERE usesysid = ANY({}::oid[]) AND pid <> pg_backend_pid() GROUP BY 1"
    )
    return end.format(sql.Literal([*oids]))


def end_sessions(connection: Connection, oids: Sequence[int]) -> set[int]:
    """End every session of these roles and wait until none is left; return the roles of which one stays.

    A login in progress shows only once it is through: so the look is repeated until nothing is there, and again after the role is gone.
    """
    end, left = ending(oids), {*oids}
    for pause in LOOK_AGAIN_S:
        left = {int(oid) for oid, _ in run(connection, end)}
        if not left:
            break
        time.sleep(pause)
    return left


def require_no_sessions(connection: Connection, oids: Sequence[int]) -> None:
    """End every session of these roles; raises when one stays."""
    if end_sessions(connection, oids):
        raise CallFailed("still_in_session")
