"""What came into the hands of a lent role while it was lent is made harmless at the end of the lease (ADR 58 and 70).

What could not be told apart afterwards is kept apart beforehand (`outliving`): a role owned no routine and gave nothing by default when it
was lent, so what is there at the end came meanwhile. A routine is not dropped and given to nobody; it runs with its caller's rights.
What is given by default is taken back. An entitlement with `set_role: true` says that people make lasting things in the role's name:
its leases are not asked.
"""

import re
from collections.abc import Collection

import psycopg
from psycopg import sql

from jitaccess.connectors.contract import CallFailed
from jitaccess.connectors.postgresql.inventory import BY_DEFAULT, reachable
from jitaccess.connectors.postgresql.lines import PROTOCOL_16, Connection, Lines, ident, run
from jitaccess.connectors.postgresql.prepared import join

PLAIN = re.compile(r"[A-Za-z0-9_.,() ]{1,80}")

_OWNERS = sql.SQL(
    "WITH RECURSIVE reach (oid) AS (SELECT oid FROM pg_roles WHERE rolname = ANY(%s) "
    "UNION SELECT m.roleid FROM pg_auth_members m JOIN reach ON m.member = reach.oid) "
    "SELECT DISTINCT d.datname, has_database_privilege(d.oid, 'CONNECT') AND d.datallowconn FROM pg_shdepend s "
    "JOIN pg_database d ON d.oid = s.dbid JOIN reach ON reach.oid = s.refobjid WHERE s.refclassid = 'pg_authid'::regclass "
    "AND s.deptype = 'o' AND s.classid IN ('pg_proc'::regclass, 'pg_default_acl'::regclass) ORDER BY 1"
)
"""Databases where these roles, or any that they are members of, own routines, or give something by default."""
_ROUTINES = sql.SQL(
    "SELECT r.rolname, p.oid::regprocedure::text, p.prosecdef FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner "
    "JOIN pg_namespace n ON n.oid = p.pronamespace WHERE r.rolname = ANY(%s) AND p.oid >= 16384 AND n.nspname !~ '^pg_temp_' "
    "AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e') ORDER BY 1, 2"
)
_DEFAULTS = sql.SQL(
    "SELECT r.rolname, n.nspname, a.privilege_type, CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' "
    "WHEN 'f' THEN 'ROUTINES' WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS' ELSE 'LARGE OBJECTS' END, g.rolname "
    "FROM {given} AND r.rolname = ANY(%s)"
).format(given=BY_DEFAULT)


def disarm_lent(connection: Connection, lines: Lines, account: str, roles: Collection[str]) -> int:
    """Let routines of these roles, which the account was lent, and of all that they reach run with nobody's rights but their caller's.

    What they give by default is taken back. Return how many things did not stay as they were. Raises CallFailed. None of these roles owned
    a routine or gave anything by default when it was lent, so what is there now came meanwhile. The broker acts through the account,
    which it becomes a member of: it can do what the person could, and no longer than the account is there.
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
            for given in run(other, _DEFAULTS, names):
                _take_back(connection, other, account, *given)
                done += 1
    return done


def _take_back(
    connection: Connection,
    other: Connection,
    account: str,
    role: str,
    schema: str | None,
    right: str,
    kind: str,
    grantee: str | None,
) -> None:
    try:
        join(connection, account)
        run(
            other,
            sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {}{} REVOKE {} ON {} FROM {}").format(
                ident(role),
                sql.SQL("") if schema is None else sql.SQL(" IN SCHEMA {}").format(ident(schema)),
                sql.SQL(right),
                sql.SQL(kind),
                sql.SQL("PUBLIC") if grantee is None else ident(grantee),
            ),
        )
    except psycopg.Error as error:
        if other.closed or connection.closed:
            raise
        said = role if PLAIN.fullmatch(role) else "?"
        raise CallFailed(f"defaults: ALTER DEFAULT PRIVILEGES FOR ROLE {said} REVOKE {right} ON {kind}") from error


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
