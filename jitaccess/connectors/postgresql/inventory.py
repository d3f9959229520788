"""What is on the server: roles, what they may do, what they own."""

from dataclasses import dataclass
from datetime import UTC, datetime

from psycopg import sql

from jitaccess.connectors.postgresql.lines import Connection, run
from jitaccess.connectors.postgresql.owners import impostors
from jitaccess.connectors.postgresql.prepared import stale


@dataclass(slots=True)
class Seen:
    """What was seen of one role."""

    rights: set[str]
    owns: set[str]
    enabled: bool
    expires_at: datetime | None
    sessions: int


ATTRIBUTES = ("SUPERUSER", "CREATEDB", "CREATEROLE", "REPLICATION", "BYPASSRLS")


def accounts(connection: Connection) -> dict[str, Seen]:
    """Return name -> what was seen, for every role but the server's own `pg_` ones."""
    rows = run(
        connection,
        sql.SQL(
            "SELECT r.oid, r.rolname, r.rolcanlogin, "
            "CASE WHEN isfinite(r.rolvaliduntil) THEN extract(epoch FROM r.rolvaliduntil)::float8 END, "
            "r.rolsuper, r.rolcreatedb, r.rolcreaterole, r.rolreplication, r.rolbypassrls, "
            "(SELECT count(*) FROM pg_stat_activity a WHERE a.usesysid = r.oid AND a.pid <> pg_backend_pid()) "
            "FROM pg_roles r WHERE r.rolname !~ '^pg_'"
        ),
    )
    names: dict[int, str] = {}
    seen: dict[str, Seen] = {}
    for oid, name, login, until, *attributes, sessions in rows:
        names[int(oid)] = name
        rights = {word for word, there in zip(ATTRIBUTES, attributes, strict=True) if there}
        end = datetime.fromtimestamp(until, UTC) if until is not None else None
        seen[name] = Seen(rights, set(), bool(login), end, int(sessions))
    members = run(
        connection,
        sql.SQL(
            "SELECT u.rolname, g.rolname, bool_or(m.admin_option) FROM pg_auth_members m "
            "JOIN pg_roles u ON u.oid = m.member JOIN pg_roles g ON g.oid = m.roleid GROUP BY 1, 2"
        ),
    )
    for member, group, admin in members:
        if member in seen:
            seen[member].rights.add(f"member of {group}{' with admin option' if admin else ''}")
    traces = run(
        connection,
        sql.SQL(
            "SELECT s.refobjid, s.deptype::text, s.classid::regclass::text, coalesce(d.datname, ''), count(*) "
            "FROM pg_shdepend s LEFT JOIN pg_database d ON d.oid = s.dbid WHERE s.refclassid = 'pg_authid'::regclass "
            "AND s.classid <> 'pg_auth_members'::regclass AND s.deptype IN ('o', 'a') GROUP BY 1, 2, 3, 4"
        ),
    )
    for oid, how, what, database, count in traces:
        if int(oid) in names:
            found = seen[names[int(oid)]]
            place = f" in {database}" if database else ""
            if how == "o":
                found.owns.add(f"{count} of {what}{place}")
            else:
                found.rights.add(f"grants on {count} of {what}{place}")
    for more in (impostors(connection), stale(connection)):
        for name, things in more.items():
            if name in seen:
                seen[name].rights |= things
    return seen
