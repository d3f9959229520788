"""How are logins locked and sessions ended, whatever the person does against it, and without the others waiting for it?

A person may change their own password in a transaction that stays open, or prepare it: then the row of their role is locked, and so is
whoever wants to lock the role. So sessions end first and what is prepared is rolled back first; then the role is locked, many at
once with a short patience; where that fails, each stands alone, and while it waits whatever it waits for is taken away. Then
sessions end again. What fails for one role stops nothing for another.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import psycopg
from psycopg import sql

from jitaccess.connectors.contract import CallFailed
from jitaccess.connectors.postgresql.lines import Connection, Lines, end_sessions, ident, run
from jitaccess.connectors.postgresql.owners import disable
from jitaccess.connectors.postgresql.prepared import blocking, roll_back, standing

CHUNK = 100
"""Roles a statement."""
TOGETHER_MS, ALONE_MS = 250, 1_000
"""How long a lock is waited for: by many at once, and by one."""
LOOK_AGAIN_S = 0.02
Failures = dict[str, Exception]
_END = sql.SQL(
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usesysid IN ({}) AND pid <> pg_backend_pid()"
)


def chunks(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cut a list into parts that one statement takes."""
    for start in range(0, len(names), CHUNK):
        yield names[start : start + CHUNK]


def lock_out(connection: Connection, lines: Lines, oids: Mapping[str, int]) -> Failures:
    """Lock these roles, end their sessions, roll back what is prepared, read back; return by role why that does not hold."""
    mighty, failed = _superusers(connection, oids)
    rest = {name: oid for name, oid in oids.items() if name not in mighty}
    if not rest:
        return failed
    _roll_back_standing(connection, lines, rest)
    for part in chunks(sorted(rest)):
        there = {name: rest[name] for name in part}
        try:
            run(connection, _lock(there, TOGETHER_MS))
        except psycopg.Error:
            if connection.closed:
                raise
            failed |= _one_by_one(connection, lines, there)
    staying = end_sessions(connection, [*rest.values()])
    for name, oid in rest.items():
        if oid in staying:
            failed.setdefault(name, CallFailed("still_in_session"))
    for name, error in _roll_back_standing(connection, lines, rest).items():
        failed.setdefault(name, error)
    look = sql.SQL("SELECT rolname FROM pg_roles WHERE oid = ANY(%s) AND rolcanlogin")
    for (name,) in run(connection, look, [[*rest.values()]]):
        failed.setdefault(str(name), CallFailed("still_logs_in"))
    return failed


def _superusers(connection: Connection, oids: Mapping[str, int]) -> tuple[set[str], Failures]:
    """Lock roles that somebody made superusers, through the owner's function; return which they are, and why one is not locked."""
    look = sql.SQL(
        "SELECT r.rolname, (SELECT count(*) FROM pg_stat_activity a WHERE a.usesysid = r.oid) FROM pg_roles r "
        "WHERE r.oid = ANY(%s) AND r.rolsuper AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)"
    )
    found = {str(name) for name, _ in run(connection, look, [[*oids.values()]])}
    failed: Failures = {}
    for name in found:
        if not disable(connection, name):
            failed[name] = CallFailed(f'superuser: ALTER ROLE "{name}" NOSUPERUSER')
    for name, sessions in run(connection, look, [[*oids.values()]]) if found else ():
        if sessions:
            failed.setdefault(str(name), CallFailed("still_in_session"))
    return found, failed


def _lock(oids: Mapping[str, int], patience_ms: int) -> sql.Composed:
    """Return one string for one transaction: end the sessions, lock the roles. Nobody gets in between but a login in progress."""
    locked = [sql.SQL("ALTER ROLE {} NOLOGIN PASSWORD NULL CONNECTION LIMIT 0").format(ident(name)) for name in oids]
    return sql.SQL("; ").join(
        [
            sql.SQL("SELECT set_config('lock_timeout', {}, true)").format(sql.Literal(f"{patience_ms}ms")),
            _END.format(sql.SQL(", ").join(sql.Literal(oid) for oid in oids.values())),
            *locked,
        ]
    )


def _one_by_one(connection: Connection, lines: Lines, oids: Mapping[str, int]) -> Failures:
    """Lock each role alone, against whoever stands in the way."""
    failed: Failures = {}
    with lines.line() as other, ThreadPoolExecutor(1, "lock") as pool:
        for name, oid in oids.items():
            waiting = pool.submit(run, connection, _lock({name: oid}, ALONE_MS))
            why: CallFailed | None = None
            while not wait([waiting], LOOK_AGAIN_S).done:
                # Who logged in again holds it, or nobody does any more who could be ended: a prepared transaction.
                run(other, _END.format(sql.Literal(oid)))
                for xact in blocking(other, connection.info.backend_pid):
                    try:
                        roll_back(other, lines, name, xact)
                    except CallFailed as left:
                        why = left
            try:
                waiting.result()
            except psycopg.Error as error:
                if connection.closed:
                    raise
                failed[name] = why or error
    return failed


def _roll_back_standing(connection: Connection, lines: Lines, oids: Mapping[str, int]) -> Failures:
    failed: Failures = {}
    for name, xacts in standing(connection, oids).items():
        for xact in sorted(xacts):
            try:
                roll_back(connection, lines, name, xact)
            except CallFailed as error:
                failed[name] = error
    return failed
