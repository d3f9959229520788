"""Transactions that were prepared and outlive their sessions: they keep locks, and may be committed by their role at any time."""

from collections.abc import Sequence

from psycopg import sql

from jitaccess.connectors.contract import Effect
from jitaccess.connectors.postgresql.lines import PROTOCOL_16, Connection, run

CLOCKS_S = 60
"""A lease's beginning is by the broker's clock, the preparing by the server's."""
OLD_S = 30
"""A transaction that an application prepares is gone sooner than this."""


def prepared_by_lent_roles(connection: Connection, effects: Sequence[Effect]) -> dict[str, set[tuple[str, str, str]]]:
    """Return account -> (database, role, name) of transactions prepared since it began as a role that it can set.

    Accounts without any are left out. The memberships must still be there.
    """
    right = "SET" if connection.info.server_version >= PROTOCOL_16 else "MEMBER"
    look = sql.SQL(
        "SELECT l.rolname, p.database, p.owner, p.gid FROM pg_prepared_xacts p JOIN pg_roles r ON r.rolname = p.owner "
        "JOIN unnest(%s::text[], %s::timestamptz[]) AS e (name, begins) "
        "ON e.begins IS NULL OR p.prepared >= e.begins - make_interval(secs => %s) "
        "JOIN pg_roles l ON l.rolname = e.name WHERE l.oid <> r.oid AND pg_has_role(l.oid, r.oid, %s)"
    )
    begins = [effect.detail.get("starts_at") for effect in effects]
    found: dict[str, set[tuple[str, str, str]]] = {}
    for name, *xact in run(connection, look, [[effect.name for effect in effects], begins, CLOCKS_S, right]):
        database, owner, gid = (str(part) for part in xact)
        found.setdefault(str(name), set()).add((database, owner, gid))
    return found


def stale(connection: Connection) -> dict[str, set[str]]:
    """Return role -> in words, the old prepared transactions of roles that nobody can log in with: somebody set the role for them."""
    look = sql.SQL(
        "SELECT p.owner, p.database, to_char(p.prepared AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') FROM pg_prepared_xacts p "
        "JOIN pg_roles r ON r.rolname = p.owner WHERE NOT r.rolcanlogin "
        "AND p.prepared <= clock_timestamp() - make_interval(secs => %s)"
    )
    found: dict[str, set[str]] = {}
    for owner, database, when in run(connection, look, [OLD_S]):
        found.setdefault(str(owner), set()).add(f"transaction prepared at {when} UTC in {database}")
    return found
