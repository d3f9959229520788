"""Transactions that were prepared and outlive their sessions: they keep locks, and may be committed by their role at any time.

The server writes down the role that was set when one was prepared, not who had logged in. Only that role may roll it back, in its
database: the broker becomes a member of the lease's account, which goes with that, and so can set every role that the person could.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from jitaccess.connectors.contract import CallFailed, Effect, Unreachable
from jitaccess.connectors.postgresql.lines import PROTOCOL_16, Connection, Lines, ident, run

CLOCKS_S = 60
"""A lease's beginning is by the broker's clock, the preparing by the server's."""
OLD_S = 30
"""A transaction that an application prepares is gone sooner than this."""
_PLAIN = re.compile(r"[A-Za-z0-9_.:-]{1,40}")


@dataclass(frozen=True, slots=True, order=True)
class Prepared:
    """One prepared transaction."""

    database: str
    owner: str
    gid: str
    number: str

    def undoing(self) -> str:
        """Return what the server's owner has to run, short; names that are no plain words are not repeated."""
        plain = _PLAIN.fullmatch(self.gid) is not None
        what = f"'{self.gid}'" if plain else f"of transaction {self.number}"
        where = self.database if _PLAIN.fullmatch(self.database) else "?"
        return f"ROLLBACK PREPARED {what} in {where}"


def join(connection: Connection, name: str) -> None:
    """Make the broker a member of a lease's role, so that it may act for it; the membership goes with the role."""
    how = " WITH INHERIT TRUE, SET TRUE" if connection.info.server_version >= PROTOCOL_16 else ""
    run(connection, sql.SQL("GRANT {} TO CURRENT_USER" + how).format(ident(name)))


def leave(connection: Connection, name: str) -> None:
    """Take that membership back, where the role stays for now: the broker is to have nobody's rights while it waits."""
    run(connection, sql.SQL("REVOKE {} FROM CURRENT_USER").format(ident(name)))


def roll_back(connection: Connection, lines: Lines, account: str, xact: Prepared) -> None:
    """Roll one back, through what this account may set; raises CallFailed with the statement that is left to the server's owner."""
    try:
        join(connection, account)
        with lines.line(xact.database) as other:
            run(other, sql.SQL("SET ROLE {}").format(ident(xact.owner)))
            run(other, sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(xact.gid)))
            run(other, sql.SQL("RESET ROLE"))
    except psycopg.errors.UndefinedObject:
        return  # it ended meanwhile
    except (psycopg.Error, Unreachable) as error:
        if connection.closed:
            raise
        raise CallFailed(f"prepared: {xact.undoing()}") from error


ANY_PREPARED = sql.SQL("SELECT EXISTS (SELECT FROM pg_prepared_xact())")
"""Whether anybody at all has prepared anything: hardly ever, and then nothing more is asked. The function under `pg_prepared_xacts`."""


def standing(connection: Connection, oids: Mapping[str, int]) -> dict[str, set[Prepared]]:
    """Return account -> what is prepared as it, or by whoever made things for it in the same transaction and set another role then."""
    look = sql.SQL(
        "SELECT r.rolname, p.database, p.owner, p.gid, p.transaction::text FROM pg_prepared_xacts p "
        "JOIN pg_roles r ON r.rolname = p.owner WHERE r.oid = ANY(%s) UNION "
        "SELECT r.rolname, p.database, p.owner, p.gid, p.transaction::text FROM pg_locks h JOIN pg_roles r ON r.oid = h.objid "
        "JOIN pg_locks x ON x.virtualtransaction = h.virtualtransaction AND x.pid IS NULL "
        "AND x.locktype = 'transactionid' JOIN pg_prepared_xacts p ON p.transaction = x.transactionid "
        "WHERE h.pid IS NULL AND h.locktype = 'object' "
        "AND h.classid = 'pg_authid'::regclass AND h.objid = ANY(%s)"
    )
    return _by_account(run(connection, look, [[*oids.values()], [*oids.values()]]))


def blocking(connection: Connection, pid: int) -> set[Prepared]:
    """Return what a session of this process waits for and no session holds."""
    look = sql.SQL(
        "SELECT p.database, p.owner, p.gid, p.transaction::text FROM pg_locks w JOIN pg_locks h ON h.granted AND h.pid IS NULL AND "
        "(w.locktype, w.database, w.relation, w.page, w.tuple, w.transactionid, w.classid, w.objid, w.objsubid) IS NOT DISTINCT FROM "
        "(h.locktype, h.database, h.relation, h.page, h.tuple, h.transactionid, h.classid, h.objid, h.objsubid) "
        "JOIN pg_locks x ON x.virtualtransaction = h.virtualtransaction AND x.pid IS NULL "
        "AND x.locktype = 'transactionid' JOIN pg_prepared_xacts p ON p.transaction = x.transactionid WHERE w.pid = %s AND NOT w.granted"
    )
    return {Prepared(*(str(part) for part in row)) for row in run(connection, look, [pid])}


def prepared_by_lent_roles(connection: Connection, effects: Sequence[Effect]) -> dict[str, set[Prepared]]:
    """Return account -> transactions prepared since it began as a role that it can set.

    Accounts without any are left out. The memberships must still be there.
    """
    right = "SET" if connection.info.server_version >= PROTOCOL_16 else "MEMBER"
    look = sql.SQL(
        "SELECT l.rolname, p.database, p.owner, p.gid, p.transaction::text FROM pg_prepared_xacts p "
        "JOIN pg_roles r ON r.rolname = p.owner JOIN unnest(%s::text[], %s::timestamptz[]) AS e (name, begins) "
        "ON e.begins IS NULL OR p.prepared >= e.begins - make_interval(secs => %s) "
        "JOIN pg_roles l ON l.rolname = e.name WHERE l.oid <> r.oid AND pg_has_role(l.oid, r.oid, %s)"
    )
    begins = [effect.detail.get("starts_at") for effect in effects]
    return _by_account(run(connection, look, [[effect.name for effect in effects], begins, CLOCKS_S, right]))


def _by_account(rows: Sequence[tuple[object, ...]]) -> dict[str, set[Prepared]]:
    found: dict[str, set[Prepared]] = {}
    for name, *xact in rows:
        found.setdefault(str(name), set()).add(Prepared(*(str(part) for part in xact)))
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
