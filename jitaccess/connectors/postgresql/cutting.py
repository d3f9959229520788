"""How are logins locked and sessions ended, whatever the person does against it, and without the others waiting for it?

A person may change their own password in a transaction that stays open, or prepare it: then the row of their role is locked, and so is
whoever wants to lock the role. So sessions end first and what is prepared is rolled back first; then the role is locked, many at
once with a short patience; where that fails, each stands alone, and while it waits whatever it waits for is taken away. Then
sessions end again. What fails for one role stops nothing for another.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime
from typing import cast

import psycopg
from psycopg import sql

from jitaccess.connectors.contract import CallFailed, Effect
from jitaccess.connectors.postgresql.lines import Connection, Lines, at_once, end_sessions, ending, ident, run
from jitaccess.connectors.postgresql.owners import disable
from jitaccess.connectors.postgresql.prepared import ANY_PREPARED, blocking, roll_back, standing

CHUNK = 100
"""Roles a statement."""
TOGETHER_MS, ALONE_MS = 250, 1_000
"""How long a lock is waited for: by many at once, and by one."""
LOOK_AGAIN_S = 0.02
Failures = dict[str, Exception]
_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,63}")
_ROLES = sql.SQL(
    "SELECT rolname, oid, rolsuper, EXISTS (SELECT FROM pg_prepared_xact()) FROM pg_roles WHERE rolname = ANY(%s)"
)


@dataclass(slots=True)
class LockedOut:
    """What came of locking roles out."""

    there: dict[str, int]
    """Those that exist, name -> oid."""
    failed: Failures = field(default_factory=dict)
    """Why it does not hold, by role."""
    prepared: bool = False
    """Whether anything is prepared on the server when all sessions are gone, whoever's it is."""


def chunks(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cut a list into parts that one statement takes."""
    for start in range(0, len(names), CHUNK):
        yield names[start : start + CHUNK]


def lock_out(connection: Connection, lines: Lines, names: Sequence[str]) -> LockedOut:
    """Lock these roles, end their sessions, roll back what is prepared, read back: two round trips where nobody resists."""
    rows = run(connection, _ROLES, [[*names]])
    found = LockedOut({str(name): int(oid) for name, oid, *_ in rows}, prepared=any(row[3] for row in rows))
    rest = dict(found.there)
    if any(mighty for _, _, mighty, _ in rows):
        supers, found.failed = _superusers(connection, rest)
        rest = {name: oid for name, oid in rest.items() if name not in supers}
    if not rest:
        return found
    if found.prepared:
        _roll_back_standing(connection, lines, rest)
    staying: set[int] = set()
    found.prepared = False
    for part in chunks(sorted(rest)):
        there = {name: rest[name] for name in part}
        looks = (ending(there.values()), ANY_PREPARED, _still_login(there.values()))
        try:
            sessions, prepared, logins = at_once(connection, _locking(there, TOGETHER_MS), looks)
        except psycopg.Error:
            if connection.closed:
                raise
            found.failed |= _one_by_one(connection, lines, there)
            sessions, prepared, logins = (run(connection, look) for look in looks)
        staying |= {int(oid) for oid, _ in sessions}
        found.prepared |= bool(prepared[0][0])
        for (name,) in logins:
            found.failed.setdefault(str(name), CallFailed("still_logs_in"))
    if staying:
        staying = end_sessions(connection, [*staying])
        found.prepared = bool(
            run(connection, ANY_PREPARED)[0][0]
        )  # a session may have prepared something before it was gone
    for name, oid in rest.items():
        if oid in staying:
            found.failed.setdefault(name, CallFailed("still_in_session"))
    if found.prepared:
        for name, error in _roll_back_standing(connection, lines, rest).items():
            found.failed.setdefault(name, error)
    return found


def renamed(
    connection: Connection, effects: Iterable[Effect], there: Mapping[str, int]
) -> tuple[dict[str, str], Failures]:
    """Return what roles are called now that were born for these effects and are not there under their names; and of whom nobody can tell.

    `there`: roles by name, with their numbers. A number alone may be somebody else's, in a server that was restored from an older backup
    or a dump: the role is the lease's only where it also has the lease's end. Any other is left alone, and named.
    """
    numbers = {
        int(cast(int, one.detail["number"])): one
        for one in effects
        if "number" in one.detail and there.get(one.name) != one.detail["number"]
    }
    if not numbers:
        return {}, {}
    look = sql.SQL("SELECT oid, rolname, rolvaliduntil FROM pg_roles WHERE oid = ANY(%s)")
    moved: dict[str, str] = {}
    failed: Failures = {}
    for oid, name, until in run(connection, look, [[*numbers]]):
        effect = numbers[int(oid)]
        if until == datetime.fromisoformat(str(effect.detail["valid_until"])):
            moved[effect.name] = str(name)
        else:
            said = name if _PLAIN.fullmatch(str(name)) else f"number {oid}"
            failed[effect.name] = CallFailed(f"renamed: look at the role {said}")
    return moved, failed


def _still_login(oids: Iterable[int]) -> sql.Composed:
    look = sql.SQL("SELECT rolname FROM pg_roles WHERE oid = ANY({}::oid[]) AND rolcanlogin")
    return look.format(sql.Literal([*oids]))


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


def _locking(oids: Mapping[str, int], patience_ms: int) -> list[sql.Composable]:
    """Return what one transaction does: end the sessions, lock the roles. Nobody gets in between but a login in progress."""
    locked = [sql.SQL("ALTER ROLE {} NOLOGIN PASSWORD NULL CONNECTION LIMIT 0").format(ident(name)) for name in oids]
    patience = sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(f"{patience_ms}ms"))
    return [patience, ending(oids.values()), *locked]


def _one_by_one(connection: Connection, lines: Lines, oids: Mapping[str, int]) -> Failures:
    """Lock each role alone, against whoever stands in the way."""
    failed: Failures = {}
    with lines.line() as other, ThreadPoolExecutor(1, "lock") as pool:
        for name, oid in oids.items():
            waiting = pool.submit(at_once, connection, _locking({name: oid}, ALONE_MS), [ANY_PREPARED])
            why: CallFailed | None = None
            while not wait([waiting], LOOK_AGAIN_S).done:
                # Who logged in again holds it, or nobody does any more who could be ended: a prepared transaction.
                run(other, ending([oid]))
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
