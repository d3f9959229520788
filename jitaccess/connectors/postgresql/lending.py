"""Could somebody who is lent a role leave code behind that runs as that role? Then it is not lent, and what appears is disarmed.

A member of a role has what its owner has: it may replace a routine or view that the role owns, and write rules for its tables, and all of
them go on with the role's rights. Before version 16 a member may also set the role and make routines in its name wherever the role may
create. So a lent role owns nothing of these, and before version 16 it may create nowhere; an entitlement with `set_role: true` says
that this is meant (ADR 58).
"""

import re
from collections.abc import Collection, Iterator

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from jitaccess.connectors.contract import CallFailed, Unreachable
from jitaccess.connectors.postgresql.inventory import reachable
from jitaccess.connectors.postgresql.lines import PROTOCOL_16, Connection, Lines, ident, run
from jitaccess.connectors.postgresql.prepared import join

PLAIN = re.compile(r"[A-Za-z0-9_.,() ]{1,80}")

_OWNERS = sql.SQL(
    "WITH RECURSIVE reach (oid) AS (SELECT oid FROM pg_roles WHERE rolname = ANY(%s) "
    "UNION SELECT m.roleid FROM pg_auth_members m JOIN reach ON m.member = reach.oid) "
    "SELECT DISTINCT d.datname, has_database_privilege(d.oid, 'CONNECT') AND d.datallowconn FROM pg_shdepend s "
    "JOIN pg_database d ON d.oid = s.dbid JOIN reach ON reach.oid = s.refobjid WHERE s.refclassid = 'pg_authid'::regclass "
    "AND s.deptype = 'o' AND s.classid IN ('pg_proc'::regclass, 'pg_class'::regclass) ORDER BY 1"
)
"""Databases where these roles, or any that they are members of, own something."""
_ROUTINES = sql.SQL(
    "SELECT r.rolname, p.oid::regprocedure::text, p.prosecdef FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner "
    "JOIN pg_namespace n ON n.oid = p.pronamespace WHERE r.rolname = ANY(%s) AND p.oid >= 16384 AND n.nspname !~ '^pg_temp_' "
    "AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e') ORDER BY 1, 2"
)
_RELATIONS = sql.SQL(
    "SELECT r.rolname, CASE WHEN c.relkind IN ('v', 'm') THEN 'view' ELSE 'table' END, c.oid::regclass::text FROM pg_class c "
    "JOIN pg_roles r ON r.oid = c.relowner JOIN pg_namespace n ON n.oid = c.relnamespace WHERE r.rolname = ANY(%s) "
    "AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.oid >= 16384 AND n.nspname !~ '^pg_(toast_)?temp_' "
    "AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e') ORDER BY 1, 3"
)
"""What lies in the temporary schema of a session goes with it."""
_DATABASES = sql.SQL(
    "SELECT d.datname, r.rolname, has_database_privilege(r.oid, d.oid, 'CREATE'), has_database_privilege(d.oid, 'CONNECT') "
    "FROM pg_database d, pg_roles r WHERE d.datallowconn AND r.rolname = ANY(%s) AND has_database_privilege(r.oid, d.oid, 'CONNECT') "
    "ORDER BY 1, 2"
)
_SCHEMAS = sql.SQL(
    "SELECT r.rolname, n.nspname FROM pg_namespace n, pg_roles r WHERE r.rolname = ANY(%s) "
    "AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND has_schema_privilege(r.oid, n.oid, 'CREATE') ORDER BY 1, 2"
)


def objections(connection: Connection, lines: Lines, reach: Collection[str]) -> Iterator[str]:
    """Say why none of these roles (lent ones and all that they reach) is lent without `set_role`; nothing when they are."""
    names = [[*reach]]
    for database, may_enter in run(connection, _OWNERS, names):
        if not may_enter:
            yield f"what is lent owns something in the database {database}, which the broker may not enter"
            continue
        for role, routine, _ in _inside(connection, lines, database, _ROUTINES, names):
            yield f"{role} owns the routine {routine} in {database}: give it another owner"
        for role, kind, relation in _inside(connection, lines, database, _RELATIONS, names):
            yield f"{role} owns the {kind} {relation} in {database}: give it another owner"
    if connection.info.server_version < PROTOCOL_16:
        yield from _places(connection, lines, names)


def _places(connection: Connection, lines: Lines, names: list[list[str]]) -> Iterator[str]:
    """Say where these roles may create: whoever sets one makes things in its name there."""
    enter: dict[str, bool] = {}
    for database, role, creates, may_enter in run(connection, _DATABASES, names):
        enter[str(database)] = bool(may_enter)
        if creates:
            yield f"{role} may create schemas in the database {database}: revoke CREATE on it"
    for database, may_enter in enter.items():
        if not may_enter:
            yield f"the broker may not enter the database {database}, where what is lent may come in"
            continue
        for role, schema in _inside(connection, lines, database, _SCHEMAS, names):
            yield f"{role} may create in the schema {schema} of {database}: revoke CREATE on it, also from PUBLIC"


def _inside(
    connection: Connection, lines: Lines, database: str, look: sql.SQL, names: list[list[str]]
) -> list[TupleRow]:
    """Look in a database; once more where a server that is busy, or a line that flaps, refuses one of several connections."""
    if database == connection.info.dbname:
        return run(connection, look, names)
    try:
        with lines.line(database) as other:
            return run(other, look, names)
    except Unreachable:
        with lines.line(database) as other:
            return run(other, look, names)


def disarm_lent(connection: Connection, lines: Lines, account: str, roles: Collection[str]) -> int:
    """Let routines of these roles, which the account was lent, and of all that they reach run with nobody's rights but their caller's.

    Return how many did not. Raises CallFailed. None of these roles owned a routine when it was lent, so what is there now came
    meanwhile. It is not dropped and given to nobody. The broker acts through the account, which it becomes a member of: it can do what
    the person could, and no longer than the account is there.
    """
    databases = run(connection, _OWNERS, [[*roles]])
    if not databases:
        return 0
    names, done = [[*reachable(connection, roles)]], 0
    for database, may_enter in databases:
        if not may_enter:
            raise CallFailed("routines_not_seen")
        with lines.line(database) as other:
            for role, routine, definer in run(other, _ROUTINES, names):
                if definer:
                    _disarm(connection, other, account, str(role), str(routine))
                    done += 1
    return done


def _disarm(connection: Connection, other: Connection, account: str, role: str, routine: str) -> None:
    try:
        join(connection, account)
        # The server wrote the routine's name, with its quotes, for a search path without anybody's schemas.
        change = sql.SQL("ALTER ROUTINE {} SECURITY INVOKER").format(sql.SQL(routine))
        if connection.info.server_version < PROTOCOL_16:  # later the person could not set it either, but has its rights
            change = sql.SQL("SET ROLE {}; {}; RESET ROLE").format(ident(role), change)
        run(other, change)
    except psycopg.errors.UndefinedFunction:
        return  # it is gone
    except psycopg.Error as error:
        if other.closed or connection.closed:
            raise
        said = routine if PLAIN.fullmatch(routine) else "?"
        raise CallFailed(f"definer: ALTER ROUTINE {said} SECURITY INVOKER") from error
