"""What is on the server: roles, what they may do, in every database that the broker may enter."""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from psycopg import sql

from jitaccess.connectors.contract import is_own_account
from jitaccess.connectors.postgresql.lines import Connection, Lines, run
from jitaccess.connectors.postgresql.owners import impostors
from jitaccess.connectors.postgresql.prepared import stale

MAX_NAMED = 1_000
"""So many rights of a role in a database are listed one by one; of more only their number and a digest of all of them."""
ATTRIBUTES = ("SUPERUSER", "CREATEDB", "CREATEROLE", "REPLICATION", "BYPASSRLS")


@dataclass(slots=True)
class Seen:
    """What was seen of one role."""

    rights: set[str]
    owns: set[str]
    enabled: bool
    expires_at: datetime | None
    sessions: int


def accounts(connection: Connection, lines: Lines, lent: Collection[str]) -> dict[str, Seen]:
    """Return name -> what was seen, for every role but the server's own `pg_` ones. `lent`: roles that entitlements give."""
    names, seen = _roles(connection)
    _memberships(connection, seen)
    databases = _things(connection, names, seen)
    reach = reachable(connection, lent)
    rights = _shared_rights(connection)
    for database in [name for name, may_enter in databases.items() if may_enter]:
        with lines.line(database) as other:
            _merge(rights, _listed(_rights_in(other, reach), database))
    _merge(rights, impostors(connection))
    _merge(rights, stale(connection))
    for name, words in rights.items():
        if name in seen:
            seen[name].rights |= words
    return seen


def reachable(connection: Connection, lent: Collection[str]) -> set[str]:
    """Return these roles and all that they are members of, through however many others."""
    look = sql.SQL(
        "WITH RECURSIVE reach (oid) AS (SELECT oid FROM pg_roles WHERE rolname = ANY(%s) "
        "UNION SELECT m.roleid FROM pg_auth_members m JOIN reach ON m.member = reach.oid) "
        "SELECT r.rolname FROM reach JOIN pg_roles r USING (oid)"
    )
    return {str(name) for (name,) in run(connection, look, [[*lent]])}


def _merge(into: dict[str, set[str]], more: Mapping[str, set[str]]) -> None:
    for name, words in more.items():
        into.setdefault(name, set()).update(words)


def _roles(connection: Connection) -> tuple[dict[int, str], dict[str, Seen]]:
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
    return names, seen


def _memberships(connection: Connection, seen: Mapping[str, Seen]) -> None:
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


def _things(connection: Connection, names: Mapping[int, str], seen: Mapping[str, Seen]) -> dict[str, bool]:
    """Count what each role owns; return the databases with rights of roles, and whether the broker may enter them.

    In a database that it may not enter, rights are known by their number only.
    """
    rows = run(
        connection,
        sql.SQL(
            "SELECT s.refobjid, s.deptype::text, s.classid::regclass::text, coalesce(d.datname, ''), "
            "coalesce(d.datallowconn AND has_database_privilege(d.oid, 'CONNECT'), false), count(*) "
            "FROM pg_shdepend s LEFT JOIN pg_database d ON d.oid = s.dbid WHERE s.refclassid = 'pg_authid'::regclass "
            "AND s.classid <> 'pg_auth_members'::regclass AND s.deptype IN ('o', 'a') GROUP BY 1, 2, 3, 4, 5"
        ),
    )
    found: dict[str, bool] = {}
    for oid, how, what, database, may_enter, count in rows:
        if int(oid) not in names:
            continue
        account = seen[names[int(oid)]]
        if how == "o":
            account.owns.add(f"{count} of {what}{f' in {database}' if database else ''}")
        elif database and not may_enter:
            account.rights.add(f"grants on {count} of {what} in {database}")
        if database:
            found[database] = bool(may_enter)
    return found


def _shared_rights(connection: Connection) -> dict[str, set[str]]:
    """Return role -> its rights on databases, tablespaces and parameters, and the settings that every session of it begins with."""
    rows = run(
        connection,
        sql.SQL(
            "SELECT g.rolname, a.privilege_type || CASE WHEN a.is_grantable THEN ' with grant option' ELSE '' END "
            "|| ' on ' || s.kind || ' ' || s.name FROM ("
            "SELECT 'database' AS kind, datname::text AS name, datdba AS owner, datacl AS acl FROM pg_database UNION ALL "
            "SELECT 'tablespace', spcname::text, spcowner, spcacl FROM pg_tablespace UNION ALL "
            "SELECT 'parameter', parname, 10::oid, paracl FROM pg_parameter_acl) s, aclexplode(s.acl) a "
            "JOIN pg_roles g ON g.oid = a.grantee WHERE a.grantee <> s.owner UNION ALL "
            "SELECT r.rolname, 'setting ' || c || coalesce(' in ' || d.datname, '') FROM pg_db_role_setting s "
            "JOIN pg_roles r ON r.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) c"
        ),
    )
    found: dict[str, set[str]] = defaultdict(set)
    for name, words in rows:
        if not (
            is_own_account(name) and words.startswith("setting ")
        ):  # a person's own matter, and gone with the account
            found[str(name)].add(str(words))
    return dict(found)


_RIGHTS = sql.SQL(
    "SELECT g.rolname, a.privilege_type || CASE WHEN a.is_grantable THEN ' with grant option' ELSE '' END "
    "|| ' on ' || s.kind || ' ' || s.name FROM ("
    "SELECT CASE relkind WHEN 'S' THEN 'sequence' ELSE 'table' END AS kind, n.nspname || '.' || relname AS name, "
    "relowner AS owner, relacl AS acl FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace UNION ALL "
    "SELECT 'column', n.nspname || '.' || relname || '.' || attname, relowner, attacl FROM pg_attribute "
    "JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace WHERE NOT attisdropped UNION ALL "
    "SELECT 'routine', oid::regprocedure::text, proowner, proacl FROM pg_proc UNION ALL "
    "SELECT 'schema', nspname, nspowner, nspacl FROM pg_namespace UNION ALL "
    "SELECT 'type', oid::regtype::text, typowner, typacl FROM pg_type UNION ALL "
    "SELECT 'language', lanname, lanowner, lanacl FROM pg_language UNION ALL "
    "SELECT 'server', srvname, srvowner, srvacl FROM pg_foreign_server UNION ALL "
    "SELECT 'wrapper', fdwname, fdwowner, fdwacl FROM pg_foreign_data_wrapper UNION ALL "
    "SELECT 'large object', oid::text, lomowner, lomacl FROM pg_largeobject_metadata) s, aclexplode(s.acl) a "
    "JOIN pg_roles g ON g.oid = a.grantee WHERE s.acl IS NOT NULL AND a.grantee <> s.owner"
)
_DEFAULTS = sql.SQL(
    "SELECT r.rolname, 'gives by default ' || a.privilege_type || CASE WHEN a.is_grantable THEN ' with grant option' ELSE '' END "
    "|| ' on ' || CASE d.defaclobjtype WHEN 'r' THEN 'tables' WHEN 'S' THEN 'sequences' WHEN 'f' THEN 'routines' "
    "WHEN 'T' THEN 'types' WHEN 'n' THEN 'schemas' ELSE 'large objects' END || coalesce(' of schema ' || n.nspname, '') "
    "|| ' to ' || coalesce(g.rolname, 'PUBLIC') FROM pg_default_acl d JOIN pg_roles r ON r.oid = d.defaclrole "
    "LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace, aclexplode(d.defaclacl) a LEFT JOIN pg_roles g ON g.oid = a.grantee "
    "WHERE a.grantee <> d.defaclrole"
)
_ROUTINES = sql.SQL(
    "SELECT r.rolname, CASE WHEN p.prosecdef THEN 'lends itself to routine ' ELSE 'owner of routine ' END "
    "|| p.oid::regprocedure::text FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner "
    "WHERE (p.prosecdef OR r.rolname = ANY(%s)) AND NOT EXISTS (SELECT FROM pg_depend e "
    "WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e') AND p.oid >= 16384"
)
"""A routine with SECURITY DEFINER gives its owner's rights to whoever may call it; 16384 is the first id that is not the server's own."""


def _rights_in(connection: Connection, reach: Collection[str]) -> dict[str, set[str]]:
    """Return role -> its rights, default privileges and routines in this database. `reach`: roles whose every routine is listed."""
    found: dict[str, set[str]] = defaultdict(set)
    rows = [*run(connection, _RIGHTS)]
    for look, values in ((_DEFAULTS, None), (_ROUTINES, [[*reach]])):
        # What the account of a lease makes of its own ends with it (ADR 26).
        rows += [row for row in run(connection, look, values) if not is_own_account(str(row[0]))]
    for name, words in rows:
        found[str(name)].add(str(words))
    return found


def _listed(found: Mapping[str, set[str]], database: str) -> dict[str, set[str]]:
    """Say the database with each right; a list that is too long becomes its number and a digest."""
    listed: dict[str, set[str]] = {}
    for name, words in found.items():
        if len(words) > MAX_NAMED:
            digest = hashlib.sha256("\n".join(sorted(words)).encode()).hexdigest()[:16]
            words = {f"{len(words)} rights, {digest}"}
        listed[name] = {f"{word} in {database}" for word in words}
    return listed
