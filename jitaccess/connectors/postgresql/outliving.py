"""Which rights outlive a lease, or beat its end? The one list: a role that has, or reaches, one is not lent (ADR 58 and 70).

A lease ends for certain only where its person can neither leave code, rights or files behind that the end does not find, nor keep the
broker from ending it. Both are rights of the *role* that is lent, so they are asked for before an account is made, of the role
and of all that it is a member of, in every database it may come into; and what is not known is refused. Some of them are what
`set_role: true` is for, which says that people make lasting things in the role's name (`meant`); nothing says that the others are meant.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from psycopg import sql
from psycopg.rows import TupleRow

from jitaccess.connectors.contract import Unreachable
from jitaccess.connectors.postgresql.config import PostgresqlConfig
from jitaccess.connectors.postgresql.inventory import BOOTSTRAP, BY_DEFAULT, FIRST_OWN
from jitaccess.connectors.postgresql.lines import PROTOCOL_16, Connection, Lines

ATTRIBUTES = ("SUPERUSER", "CREATEROLE", "CREATEDB", "REPLICATION")
"""With these a lease could make what stays when it has ended: roles, databases, slots. (BYPASSRLS only reads and writes more.)"""
HARMLESS = frozenset(
    {
        "pg_checkpoint",
        "pg_monitor",
        "pg_read_all_data",
        "pg_read_all_settings",
        "pg_read_all_stats",
        "pg_signal_autovacuum_worker",
        "pg_stat_scan_tables",
        "pg_write_all_data",
    }
)
"""Roles of the server's own, as of version 18, that reach data and figures, but leave nothing behind and end nobody else's session."""
REFUSED: Mapping[str, str] = {
    "pg_create_subscription": "subscriptions go on when the lease has ended",
    "pg_execute_server_program": "programs run on the server's machine",
    "pg_maintain": "the server's own tables are locked, so that nobody can be locked out and nobody comes in",
    "pg_read_server_files": "files of the server's machine are read, passwords and keys among them",
    "pg_signal_backend": "the broker's own sessions are ended, so that it ends no other",
    "pg_use_reserved_connections": "the connections are taken that are kept for the broker",
    "pg_write_server_files": "files are left on the server's machine",
}
"""Others of the server's own, and what one does with them. A role of the server that stands in neither list is refused too."""
NOTED: Mapping[str, str] = {
    "pg_read_all_data": "reads what the server keeps of all passwords, and the passwords kept for other servers"
}
"""Lent, but worth knowing."""
CALLED = (
    "^(pg_(stat|log|get|show|control|buffercache|visibility|freespace|backup|ls_(log|wal|archive_status|tmp|logical))_?|pgstat"
    "|pg_(reload_conf|rotate_logfile|switch_wal|create_restore_point|start_backup|stop_backup)$)"
)
"""Functions that the server gives to nobody at its birth, and that leave nothing behind: these may be lent."""
NAMED = 3
"""So many things of a kind are named, with the number of the others."""


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a role is not lent."""

    text: str
    """What it has, and what its owner has to change."""
    meant: bool
    """Whether `set_role: true` says that this is meant."""


@dataclass(frozen=True, slots=True)
class _Reach:
    """Roles that are lent, and all that they are members of."""

    oids: Mapping[int, str]
    modern: bool

    def values(self) -> dict[str, object]:
        """Return what every look below is told."""
        return {"oids": [*self.oids], "names": [*self.oids.values()], "called": CALLED, "modern": self.modern}


_REACH = sql.SQL(
    "WITH RECURSIVE reach (oid) AS (SELECT oid FROM pg_roles WHERE rolname = ANY(%(lent)s) "
    "UNION SELECT m.roleid FROM pg_auth_members m JOIN reach ON m.member = reach.oid) "
    "SELECT r.oid::int8, r.rolname, r.rolcanlogin, r.rolsuper, r.rolcreaterole, r.rolcreatedb, r.rolreplication "
    "FROM reach JOIN pg_roles r USING (oid) ORDER BY r.rolname"
)
_ADMINS = sql.SQL(
    "SELECT DISTINCT u.rolname, g.rolname FROM pg_auth_members m JOIN pg_roles u ON u.oid = m.member "
    "JOIN pg_roles g ON g.oid = m.roleid WHERE m.admin_option AND m.member = ANY(%(oids)s) ORDER BY 1, 2"
)
_OWNED = (
    "SELECT r.rolname, i.type, i.identity FROM pg_shdepend s JOIN pg_roles r ON r.oid = s.refobjid, "
    "pg_identify_object(s.classid, s.objid, s.objsubid) i WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = ANY(%(oids)s) "
    "AND s.deptype = 'o' AND s.classid NOT IN ('pg_default_acl'::regclass, 'pg_largeobject'::regclass) AND i.identity IS NOT NULL "
    "AND coalesce(i.schema, '') !~ '^pg_(toast_)?temp' AND s.dbid = {} ORDER BY 1, 2, 3"
)
"""What lies in the temporary schema of a session goes with it. A large object is data alone, and everybody who sets a role may make one."""
_OWNED_HERE = sql.SQL(_OWNED.format("(SELECT oid FROM pg_database WHERE datname = current_database())"))
_OWNED_SHARED = sql.SQL(_OWNED.format("0"))
_GRANTED_SHARED = sql.SQL(
    "WITH s AS (SELECT 'database' AS kind, datname::text AS name, datdba AS owner, datacl AS acl FROM pg_database UNION ALL "
    "SELECT 'tablespace', spcname::text, spcowner, spcacl FROM pg_tablespace UNION ALL "
    "SELECT 'parameter', parname, 10::oid, paracl FROM pg_parameter_acl) "
    "SELECT coalesce(g.rolname, 'PUBLIC'), CASE WHEN a.is_grantable THEN 'hand on' ELSE 'configure' END, a.privilege_type, s.kind, s.name "
    "FROM s, aclexplode(s.acl) a LEFT JOIN pg_roles g ON g.oid = a.grantee WHERE a.grantee <> s.owner "
    "AND (a.grantee = ANY(%(oids)s) OR a.grantee = 0) AND (a.is_grantable OR a.privilege_type = 'ALTER SYSTEM') ORDER BY 1, 2, 3, 4, 5"
)
_GRANTED = sql.SQL(
    "SELECT coalesce(g.rolname, 'PUBLIC'), x.may, a.privilege_type, s.kind, s.name FROM ("
    "SELECT CASE relkind WHEN 'S' THEN 'sequence' ELSE 'table' END AS kind, c.oid::regclass::text AS name, relowner AS owner, "
    "relacl AS acl, 'pg_class'::regclass::oid AS class, c.oid AS object FROM pg_class c WHERE relacl IS NOT NULL UNION ALL "
    "SELECT 'column', c.oid::regclass::text || '.' || quote_ident(attname), relowner, attacl, 'pg_attribute'::regclass, c.oid "
    "FROM pg_attribute JOIN pg_class c ON c.oid = attrelid WHERE attacl IS NOT NULL AND NOT attisdropped UNION ALL "
    "SELECT 'routine', p.oid::regprocedure::text, proowner, coalesce(proacl, acldefault('f', proowner)), 'pg_proc'::regclass, p.oid "
    "FROM pg_proc p WHERE proacl IS NOT NULL OR EXISTS (SELECT FROM pg_init_privs i WHERE i.classoid = 'pg_proc'::regclass "
    "AND i.objoid = p.oid) UNION ALL "
    "SELECT 'schema', nspname, nspowner, nspacl, 'pg_namespace'::regclass, oid FROM pg_namespace UNION ALL "
    "SELECT 'type', oid::regtype::text, typowner, typacl, 'pg_type'::regclass, oid FROM pg_type UNION ALL "
    "SELECT 'language', lanname, lanowner, lanacl, 'pg_language'::regclass, oid FROM pg_language UNION ALL "
    "SELECT 'server', srvname, srvowner, srvacl, 'pg_foreign_server'::regclass, oid FROM pg_foreign_server UNION ALL "
    "SELECT 'wrapper', fdwname, fdwowner, fdwacl, 'pg_foreign_data_wrapper'::regclass, oid FROM pg_foreign_data_wrapper UNION ALL "
    "SELECT 'large object', oid::text, lomowner, lomacl, 'pg_largeobject'::regclass, oid FROM pg_largeobject_metadata) s, "
    "aclexplode(s.acl) a LEFT JOIN pg_roles g ON g.oid = a.grantee, LATERAL (SELECT CASE WHEN a.is_grantable THEN 'hand on' "
    "WHEN s.kind = 'table' AND a.privilege_type = 'TRIGGER' THEN 'put triggers' "
    "WHEN s.kind = 'table' AND a.privilege_type = 'MAINTAIN' AND s.object < 16384 THEN 'lock' "
    "WHEN s.kind = 'wrapper' AND NOT %(modern)s THEN 'make servers' "
    "WHEN s.kind = 'routine' AND (SELECT proname FROM pg_proc WHERE oid = s.object) !~ %(called)s "
    "AND EXISTS (SELECT FROM pg_init_privs i WHERE i.classoid = s.class AND i.objoid = s.object) "
    "AND NOT EXISTS (SELECT FROM pg_init_privs i, aclexplode(i.initprivs) b WHERE i.classoid = s.class AND i.objoid = s.object "
    "AND b.grantee = a.grantee AND b.privilege_type = a.privilege_type) THEN 'call' END AS may) x "
    "WHERE x.may IS NOT NULL AND a.grantee <> s.owner AND (a.grantee = ANY(%(oids)s) OR a.grantee = 0) ORDER BY 1, 2, 3, 4, 5"
)
_DEFAULTS = sql.SQL(
    "SELECT DISTINCT r.rolname FROM {given} AND r.oid = ANY(%(oids)s) "
    "AND NOT EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles l ON l.oid = m.member "
    "WHERE m.roleid = ANY(%(oids)s) AND l.rolname ~ '^jit-[0-9a-v]{{26}}$') ORDER BY 1"
).format(given=BY_DEFAULT)
"""While somebody has such a role it may be their doing, which ends with their lease: it keeps nobody else out."""
_DATABASES = sql.SQL(
    "SELECT d.datname, d.datallowconn AND has_database_privilege(d.oid, 'CONNECT') FROM pg_database d WHERE d.oid IN ("
    "SELECT s.dbid FROM pg_shdepend s WHERE s.refclassid = 'pg_authid'::regclass AND s.deptype = 'o' AND s.refobjid = ANY(%(oids)s)) "
    "OR d.datallowconn AND EXISTS (SELECT FROM unnest(%(oids)s::oid[]) r (oid) WHERE has_database_privilege(r.oid, d.oid, 'CONNECT')) "
    "ORDER BY 1"
)
_CREATE_HERE = sql.SQL(
    "SELECT r.rolname FROM pg_database d, pg_roles r WHERE d.datallowconn AND d.datname = current_database() AND r.oid = ANY(%(oids)s) "
    "AND has_database_privilege(r.oid, d.oid, 'CONNECT') AND has_database_privilege(r.oid, d.oid, 'CREATE') ORDER BY 1"
)
_SCHEMAS = sql.SQL(
    "SELECT r.rolname, n.nspname FROM pg_namespace n, pg_roles r WHERE r.oid = ANY(%(oids)s) "
    "AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND has_schema_privilege(r.oid, n.oid, 'CREATE') ORDER BY 1, 2"
)
_KINDS: Mapping[str, str] = {"function": "routine", "procedure": "routine", "aggregate": "routine"}
_MAY: Mapping[str, tuple[str, bool]] = {
    "put triggers": (
        "{who} may put triggers, which run as whoever writes there, on {things}: "
        "revoke TRIGGER (grant SELECT, INSERT, UPDATE, DELETE rather than ALL)",
        True,
    ),
    "hand on": ("{who} may hand {right} on to others, on {things}: revoke the grant option", True),
    "make servers": ("{who} may make servers with {things}: revoke USAGE", True),
    "configure": ("{who} may change the server's configuration, of {things}: revoke ALTER SYSTEM", False),
    "lock": ("{who} may lock tables of the server's own, {things}: revoke MAINTAIN", False),
    "call": ("{who} may call what the server keeps from everybody, {things}: revoke EXECUTE", False),
}
"""What may be done -> how it is said, and whether `set_role: true` says that it is meant."""


def objections(
    connection: Connection, lines: Lines, config: PostgresqlConfig, lent: Collection[str], *, set_role: bool
) -> Iterator[Objection]:
    """Say why these roles are not lent, with `set_role` or without; nothing when they are. What costs little is asked first."""
    for objection in _all(connection, lines, config, lent, settable=set_role):
        if not (set_role and objection.meant):
            yield objection


def _all(
    connection: Connection, lines: Lines, config: PostgresqlConfig, lent: Collection[str], *, settable: bool
) -> Iterator[Objection]:
    modern = connection.info.server_version >= PROTOCOL_16
    roles = connection.execute(_REACH, {"lent": [*lent]}).fetchall()
    reach = _Reach({int(oid): str(name) for oid, name, *_ in roles}, modern)
    yield from _of_roles(roles, config, settable=settable or not modern)
    values = reach.values()
    for member, group in connection.execute(_ADMINS, values).fetchall():
        yield Objection(f"{member} may make others members of {group}: revoke the admin option", meant=False)
    yield from _owners(connection.execute(_OWNED_SHARED, values).fetchall(), "")
    yield from _grants(connection.execute(_GRANTED_SHARED, values).fetchall(), "")
    for database, may_enter in connection.execute(_DATABASES, values).fetchall():
        if not may_enter:
            text = f"the broker may not enter the database {database}, where what is lent may come in or owns something: grant CONNECT"
            yield Objection(text, meant=False)
            continue
        found = _inside(connection, lines, str(database), values)
        where = f" in {database}"
        yield from _owners(found[0], where)
        yield from _grants(found[1], where)
        for (role,) in found[2]:
            text = f"{role} gives rights by default on what it makes{where}: ALTER DEFAULT PRIVILEGES FOR ROLE {role} REVOKE them"
            yield Objection(text, meant=True)
        for (role,) in found[3]:
            yield Objection(f"{role} may create schemas in the database {database}: revoke CREATE on it", meant=True)
        for role, schema in found[4]:
            text = f"{role} may create in the schema {schema} of {database}: revoke CREATE on it, also from PUBLIC"
            yield Objection(text, meant=True)


def noted(connection: Connection, lent: Collection[str]) -> Iterator[str]:
    """Say what else is worth knowing of roles that are lent."""
    for _, name, *_ in connection.execute(_REACH, {"lent": [*lent]}).fetchall():
        if name in NOTED:
            yield f"what is lent reaches {name}, which {NOTED[str(name)]}"


def _of_roles(roles: Iterable[TupleRow], config: PostgresqlConfig, *, settable: bool) -> Iterator[Objection]:
    """Judge each role by what it is. `settable`: whether a lease can set it, and so change its password."""
    for oid, name, login, *attributes in roles:
        for word, there in zip(ATTRIBUTES, attributes, strict=True):
            if there:
                yield Objection(
                    f"what is lent reaches {name}, which is {word}: ALTER ROLE {name} NO{word}", meant=False
                )
        if BOOTSTRAP != oid < FIRST_OWN and name not in HARMLESS:
            why = REFUSED.get(str(name), "nobody knows here what a session does against its end")
            yield Objection(f"what is lent reaches {name}, with which {why}: revoke it", meant=False)
        if name in (config.user, config.quarantine):
            yield Objection(f"what is lent reaches {name}, a role of the broker's own: revoke it", meant=False)
        elif login and settable:
            yield Objection(f"{name} can log in, and whoever sets it gives it a password: make it NOLOGIN", meant=False)


def _owners(rows: Iterable[TupleRow], where: str) -> Iterator[Objection]:
    for (role, kind), things in groupby(rows, lambda row: (row[0], _KINDS.get(row[1], row[1]))):
        names = _some([str(name) for *_, name in things])
        yield Objection(f"{role} owns the {kind} {names}{where}: give it another owner", meant=True)


def _grants(rows: Iterable[TupleRow], where: str) -> Iterator[Objection]:
    for (who, may, right, kind), things in groupby(rows, lambda row: row[:4]):
        words, meant = _MAY[str(may)]
        names = f"the {kind} {_some([str(name) for *_, name in things])}{where}"
        yield Objection(words.format(who=who, right=right, things=names), meant)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _inside(connection: Connection, lines: Lines, database: str, values: Mapping[str, object]) -> list[list[TupleRow]]:
    """Look in a database; once more where a server that is busy, or a line that flaps, refuses one of several connections."""
    looks: list[sql.SQL | sql.Composed] = [_OWNED_HERE, _GRANTED, _DEFAULTS]
    if not values["modern"]:
        looks += [_CREATE_HERE, _SCHEMAS]  # whoever sets a role makes things in its name there

    def asked(other: Connection) -> list[list[TupleRow]]:
        found = [other.execute(look, values).fetchall() for look in looks]
        return [*found, [], []] if values["modern"] else found

    if database == connection.info.dbname:
        return asked(connection)
    try:
        with lines.line(database) as other:
            return asked(other)
    except Unreachable:
        with lines.line(database) as other:
            return asked(other)
