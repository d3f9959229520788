"""What is on the server: roles, what they may do, in every database that the broker may enter."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from psycopg import sql

from jitaccess.connectors.contract import is_own_account
from jitaccess.connectors.postgresql.config import PostgresqlConfig
from jitaccess.connectors.postgresql.lines import PROTOCOL_16, Connection, Lines, run
from jitaccess.connectors.postgresql.owners import impostors
from jitaccess.connectors.postgresql.prepared import stale

MAX_NAMED = 1_000
"""So many rights of a role in a database are listed one by one; of more only their number and a digest of all of them."""
ATTRIBUTES = ("SUPERUSER", "CREATEDB", "CREATEROLE", "REPLICATION", "BYPASSRLS")
EVERYBODY = "(everybody)"
"""Under this name stands what PUBLIC may do, and with which settings every session begins."""
FIRING = "(what works for others)"
"""Under this name stands what works for whoever comes by: triggers, rules, checks of domains, mappings of users."""
BOOTSTRAP, FIRST_OWN = 10, 16_384
"""The id of the first superuser, and the first one that is not the server's own: a name may be changed to `pg_…`, an id may not."""
_BORN_WITH = {f"member of pg_{name}" for name in ("read_all_settings", "read_all_stats", "stat_scan_tables")}
"""What `pg_monitor` is from the beginning."""


NAME = r'(?:"(?:[^"]|"")+"|[a-z_][a-z0-9_]*)'
"""A name as the server writes it, with its quotes where it needs them."""
_MEMBER = re.compile(
    rf"member of (?P<group>.+?)(?P<admin> with admin option)?(?: granted by (?P<grantor>{NAME}))?"
    r"(?: \((?:not inherited|not set|neither inherited nor set)\))?",
    re.S,
)
TIED = " (neither inherited nor set)"
"""A membership of which nothing but its admin option is of use."""
BY_DEFAULT = sql.SQL(
    "pg_default_acl d JOIN pg_roles r ON r.oid = d.defaclrole LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace, "
    "aclexplode(d.defaclacl) a LEFT JOIN pg_roles g ON g.oid = a.grantee WHERE a.grantee <> d.defaclrole AND NOT (d.defaclnamespace = 0 "
    "AND EXISTS (SELECT FROM aclexplode(acldefault(CASE d.defaclobjtype WHEN 'S' THEN 's' ELSE d.defaclobjtype END, d.defaclrole)) b "
    "WHERE b.grantee = a.grantee AND b.privilege_type = a.privilege_type AND b.is_grantable = a.is_grantable))"
)
"""From here come rights that somebody gives by default, beyond those that everybody gives: role `r`, schema `n`, right `a`, to `g`."""


def group_of(right: str) -> tuple[str, bool, str] | None:
    """Return the role that a right is the membership in, whether with admin option, and its giver (quoted; empty: need not be said)."""
    found = _MEMBER.fullmatch(right)
    return (found["group"], found["admin"] is not None, found["grantor"] or "") if found else None


@dataclass(slots=True)
class Seen:
    """What was seen of one role."""

    rights: set[str]
    owns: set[str]
    enabled: bool
    expires_at: datetime | None
    sessions: int
    oid: int = 0


def accounts(connection: Connection, lines: Lines, config: PostgresqlConfig) -> dict[str, Seen]:
    """Return name -> what was seen, for every role, and for everybody. Of the server's own roles only what they were not born with."""
    names, seen = _roles(connection)
    _memberships(connection, seen)
    databases = _things(connection, names, seen)
    rights = _shared_rights(connection)
    watch = [[*reachable(connection, config.lent())], [config.quarantine]]
    for database in [name for name, may_enter in databases.items() if may_enter]:
        with lines.line(database) as other:
            _merge(rights, _listed(_rights_in(other, watch), database))
    _merge(rights, impostors(connection))
    _merge(rights, stale(connection))
    for nobody in (EVERYBODY, FIRING):
        seen[nobody] = Seen(set(), set(), False, None, 0)
    for name, words in rights.items():
        if name in seen:
            seen[name].rights |= words
    if "pg_monitor" in seen:
        seen["pg_monitor"].rights -= _BORN_WITH
    return {
        name: one
        for name, one in seen.items()
        if one.oid >= FIRST_OWN
        or name in config.lent()
        or name in (EVERYBODY, FIRING)
        or one.oid == BOOTSTRAP
        or one.rights
        or one.owns
        or one.enabled
    }


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
            "FROM pg_roles r"
        ),
    )
    names: dict[int, str] = {}
    seen: dict[str, Seen] = {}
    for oid, name, login, until, *attributes, sessions in rows:
        names[int(oid)] = name
        rights = {word for word, there in zip(ATTRIBUTES, attributes, strict=True) if there}
        end = datetime.fromtimestamp(until, UTC) if until is not None else None
        seen[name] = Seen(rights, set(), bool(login), end, int(sessions), int(oid))
    return names, seen


def _memberships(connection: Connection, seen: Mapping[str, Seen]) -> None:
    """Note memberships. From version 16 on one may lack a part of what is usual, which is said; of a lease's it is said what it has.

    From then on each has a giver, and only who says that name takes it back. The first superuser is not said, nor the broker of its leases.
    """
    modern = connection.info.server_version >= PROTOCOL_16
    parts = "m.inherit_option, m.set_option, nullif(m.grantor, 10)" if modern else "true, true, NULL::oid"
    members = run(
        connection,
        sql.SQL(
            "SELECT u.rolname, g.rolname, bool_or(s.admin_option), bool_or(s.inherits), bool_or(s.sets), quote_ident(w.rolname), "
            "w.rolname = current_user FROM (SELECT m.member, m.roleid, m.admin_option, {parts} FROM pg_auth_members m) "
            "s (member, roleid, admin_option, inherits, sets, giver) JOIN pg_roles u ON u.oid = s.member "
            "JOIN pg_roles g ON g.oid = s.roleid LEFT JOIN pg_roles w ON w.oid = s.giver GROUP BY 1, 2, 6, 7"
        ).format(parts=sql.SQL(parts)),
    )
    for member, group, admin, inherits, sets, giver, own in members:
        if member not in seen:
            continue
        leases = is_own_account(member)
        word = f"member of {group}{' with admin option' if admin else ''}"
        if giver is not None and not (own and leases):
            word += f" granted by {giver}"
        if not leases:
            lacks = {(True, True): "", (True, False): " (not set)", (False, True): " (not inherited)"}
            word += lacks.get((inherits, sets), TIED)
        elif sets and modern:
            seen[member].rights.add(f"may set role {group}")
        seen[member].rights.add(word)


def _things(connection: Connection, names: Mapping[int, str], seen: Mapping[str, Seen]) -> dict[str, bool]:
    """Count what each role owns; return the databases, and whether the broker may enter them.

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
    every = sql.SQL(
        "SELECT datname, datallowconn AND has_database_privilege(oid, 'CONNECT') FROM pg_database WHERE NOT datistemplate"
    )
    found = {str(name): bool(may_enter) for name, may_enter in run(connection, every)}
    for oid, how, what, database, may_enter, count in rows:
        if int(oid) not in names:
            continue
        account = seen[names[int(oid)]]
        if how == "o":
            account.owns.add(f"{count} of {what}{f' in {database}' if database else ''}")
        elif database and not may_enter:
            account.rights.add(f"grants on {count} of {what} in {database}")
    return found


_ACL = sql.SQL(
    "aclexplode(s.acl) a LEFT JOIN pg_roles g ON g.oid = a.grantee LEFT JOIN pg_roles w ON w.oid = a.grantor "
    "CROSS JOIN LATERAL (SELECT '' AS more UNION ALL SELECT ' with grant option' WHERE a.is_grantable) h"
)
"""Rights on `s`: to `g`, by `w` where that is not the owner, once more with grant option where there is one."""
_RIGHT = sql.SQL(
    "a.privilege_type || h.more || CASE WHEN a.grantor <> s.owner THEN ' granted by ' || quote_ident(w.rolname) ELSE '' END || ' on ' || "
)
_KEPT = sql.SQL(
    "EXISTS (SELECT FROM pg_init_privs i WHERE i.classoid = 'pg_proc'::regclass AND i.objoid = p.oid "
    "AND NOT EXISTS (SELECT FROM aclexplode(i.initprivs) b WHERE b.grantee = 0))"
)
"""Whether the server, or an extension, kept a routine from everybody when it was made."""


def _shared_rights(connection: Connection) -> dict[str, set[str]]:
    """Return role -> its rights on databases, tablespaces and parameters, the settings that every session of it begins with, and what it
    subscribes to. Slots, through which somebody elsewhere may read everything that is written, have no owner: they stand with everybody."""
    rows = run(
        connection,
        sql.SQL(
            "WITH s AS (SELECT 'database' AS kind, datname::text AS name, datdba AS owner, datacl AS acl FROM pg_database UNION ALL "
            "SELECT 'tablespace', spcname::text, spcowner, spcacl FROM pg_tablespace UNION ALL "
            "SELECT 'parameter', parname, 10::oid, paracl FROM pg_parameter_acl) "
            "SELECT coalesce(g.rolname, {everybody}), {right} s.kind || ' ' || s.name FROM s, {acl} WHERE a.grantee <> s.owner "
            "AND NOT (a.grantee = 0 AND s.kind = 'database' AND a.privilege_type IN ('CONNECT', 'TEMPORARY')) UNION ALL "
            "SELECT r.rolname, 'owner of ' || s.kind || ' ' || s.name FROM s JOIN pg_roles r ON r.oid = s.owner WHERE NOT r.rolsuper "
            "UNION ALL SELECT coalesce(r.rolname, {everybody}), 'setting ' || c || coalesce(' in ' || d.datname, '') "
            "FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole "
            "LEFT JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) c UNION ALL "
            "SELECT {everybody}, 'replication slot ' || slot_name || ' (' || slot_type "
            "|| coalesce(' ' || plugin || ' in ' || database, '') || ')' FROM pg_replication_slots WHERE NOT temporary UNION ALL "
            "SELECT r.rolname, 'owner of subscription ' || s.subname || ' in ' || d.datname FROM pg_subscription s "
            "JOIN pg_roles r ON r.oid = s.subowner JOIN pg_database d ON d.oid = s.subdbid"
        ).format(everybody=sql.Literal(EVERYBODY), right=_RIGHT, acl=_ACL),
    )
    found: dict[str, set[str]] = defaultdict(set)
    for name, words in rows:
        if not (
            is_own_account(name) and words.startswith("setting ")
        ):  # a person's own matter, and gone with the account
            found[str(name)].add(str(words))
    return dict(found)


_RIGHTS = sql.SQL(
    "SELECT coalesce(g.rolname, {everybody}), o.rolname, {right} s.kind || ' ' || s.name FROM ("
    "SELECT CASE relkind WHEN 'S' THEN 'sequence' ELSE 'table' END AS kind, n.nspname || '.' || relname AS name, relowner AS owner, "
    "relacl AS acl, 'pg_class'::regclass::oid AS class, c.oid AS object, 0 AS part, false AS usual "
    "FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace UNION ALL "
    "SELECT 'column', n.nspname || '.' || relname || '.' || attname, relowner, attacl, 'pg_class'::regclass, c.oid, attnum, false "
    "FROM pg_attribute JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace WHERE NOT attisdropped UNION ALL "
    "SELECT 'routine', oid::regprocedure::text, proowner, CASE WHEN prosecdef THEN coalesce(proacl, acldefault('f', proowner)) "
    "ELSE proacl END, 'pg_proc'::regclass, oid, 0, NOT prosecdef AND NOT {kept} FROM pg_proc p UNION ALL "
    "SELECT 'schema', nspname, nspowner, nspacl, 'pg_namespace'::regclass, oid, 0, false FROM pg_namespace UNION ALL "
    "SELECT 'type', oid::regtype::text, typowner, typacl, 'pg_type'::regclass, oid, 0, true FROM pg_type UNION ALL "
    "SELECT 'language', lanname, lanowner, lanacl, 'pg_language'::regclass, oid, 0, true FROM pg_language UNION ALL "
    "SELECT 'server', srvname, srvowner, srvacl, 'pg_foreign_server'::regclass, oid, 0, false FROM pg_foreign_server UNION ALL "
    "SELECT 'wrapper', fdwname, fdwowner, fdwacl, 'pg_foreign_data_wrapper'::regclass, oid, 0, false FROM pg_foreign_data_wrapper "
    "UNION ALL SELECT 'large object', oid::text, lomowner, lomacl, 'pg_largeobject'::regclass, oid, 0, false "
    "FROM pg_largeobject_metadata) s JOIN pg_roles o ON o.oid = s.owner, {acl} "
    "WHERE s.acl IS NOT NULL AND a.grantee <> s.owner AND NOT (a.grantee = 0 AND s.usual) "
    "AND NOT EXISTS (SELECT FROM pg_init_privs i, aclexplode(i.initprivs) b WHERE i.privtype = 'i' "
    "AND i.objoid = s.object AND i.classoid = s.class AND i.objsubid = s.part "
    "AND b.grantee = a.grantee AND b.privilege_type = a.privilege_type AND b.is_grantable = a.is_grantable)"
).format(everybody=sql.Literal(EVERYBODY), right=_RIGHT, acl=_ACL, kept=_KEPT)
"""Role, the thing's owner, right. What the server gave at its birth is left out. `usual`: everybody has it."""
_DEFAULTS = sql.SQL(
    "SELECT r.rolname, 'gives by default ' || a.privilege_type || CASE WHEN a.is_grantable THEN ' with grant option' ELSE '' END "
    "|| ' on ' || CASE d.defaclobjtype WHEN 'r' THEN 'tables' WHEN 'S' THEN 'sequences' WHEN 'f' THEN 'routines' "
    "WHEN 'T' THEN 'types' WHEN 'n' THEN 'schemas' ELSE 'large objects' END || coalesce(' of schema ' || quote_ident(n.nspname), '') "
    "|| ' to ' || coalesce(quote_ident(g.rolname), 'PUBLIC') FROM {given}"
).format(given=BY_DEFAULT)
_FIRING = sql.SQL(
    "SELECT {firing}, r.rolname, s.words || ' (text ' || left(encode(sha256(convert_to(s.made, 'SQL_ASCII')), 'hex'), 16) || ')' FROM ("
    "SELECT 'trigger ' || quote_ident(tgname) || ' on ' || c.oid::regclass::text AS words, relowner AS owner, relnamespace AS place, "
    "tgenabled::text || pg_get_triggerdef(t.oid) AS made FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid "
    "WHERE NOT tgisinternal AND tgparentid = 0 UNION ALL "
    "SELECT 'rule ' || quote_ident(rulename) || ' on ' || c.oid::regclass::text, relowner, relnamespace, "
    "ev_enabled::text || pg_get_ruledef(w.oid) FROM pg_rewrite w JOIN pg_class c ON c.oid = ev_class WHERE rulename <> '_RETURN' UNION ALL "
    "SELECT 'check ' || quote_ident(conname) || ' of domain ' || contypid::regtype::text, typowner, typnamespace, "
    "pg_get_constraintdef(k.oid) FROM pg_constraint k JOIN pg_type t ON t.oid = contypid) s JOIN pg_roles r ON r.oid = s.owner "
    "JOIN pg_namespace n ON n.oid = s.place WHERE n.nspname !~ '^pg_(toast_)?temp_' UNION ALL "
    "SELECT {firing}, coalesce(r.rolname, 'PUBLIC'), 'mapping of ' || coalesce(quote_ident(r.rolname), 'PUBLIC') || ' on server ' "
    "|| quote_ident(m.srvname) FROM pg_user_mappings m LEFT JOIN pg_roles r ON r.oid = m.umuser"
).format(firing=sql.Literal(FIRING))
"""FIRING, whose the thing is that it hangs on, what it is. Which password a mapping holds only the server's owner sees."""
_ROUTINES = sql.SQL(
    "SELECT r.rolname, CASE WHEN p.prosecdef THEN 'lends itself to routine ' ELSE 'owner of routine ' END "
    "|| p.oid::regprocedure::text || ' (text ' || left(encode(sha256(convert_to(concat_ws(' ', p.prosrc, p.probin, p.proconfig::text, "
    "l.lanname, pg_get_function_sqlbody(p.oid)), 'SQL_ASCII')), 'hex'), 16) || ')' FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner "
    "JOIN pg_language l ON l.oid = p.prolang WHERE r.rolname <> ALL(%s) AND (p.prosecdef OR NOT r.rolsuper AND p.oid >= 16384 "
    "AND (r.rolname = ANY(%s) OR NOT has_schema_privilege(r.oid, p.pronamespace, 'CREATE')) AND NOT EXISTS (SELECT FROM pg_depend e "
    "WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e'))"
)
"""A routine with SECURITY DEFINER gives its owner's rights to whoever may call it, in an extension too; so its text is compared."""
_OWNERS = sql.SQL(
    "SELECT r.rolname, 'owner of ' || s.kind || ' ' || s.name FROM ("
    "SELECT CASE relkind WHEN 'S' THEN 'sequence' WHEN 'v' THEN 'view' ELSE 'table' END AS kind, n.nspname || '.' || relname AS name, "
    "relowner AS owner, relnamespace AS place FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
    "WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname !~ '^pg_' UNION ALL "
    "SELECT 'type', oid::regtype::text, typowner, typnamespace FROM pg_type WHERE typtype IN ('e', 'd', 'r') UNION ALL "
    "SELECT 'schema', nspname, nspowner, NULL FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp_' UNION ALL "
    "SELECT 'language', lanname, lanowner, NULL FROM pg_language UNION ALL SELECT 'extension', extname, extowner, NULL FROM pg_extension "
    "UNION ALL SELECT 'server', srvname, srvowner, NULL FROM pg_foreign_server UNION ALL "
    "SELECT 'publication', pubname, pubowner, NULL FROM pg_publication UNION ALL "
    "SELECT 'event trigger', evtname, evtowner, NULL FROM pg_event_trigger) s JOIN pg_roles r ON r.oid = s.owner "
    "WHERE NOT r.rolsuper AND r.rolname <> ALL(%s) AND r.rolname <> 'pg_database_owner' "
    "AND (s.place IS NULL OR r.rolname = ANY(%s) OR NOT has_schema_privilege(r.oid, s.place, 'CREATE'))"
)
"""Things that a role cannot have made itself where they are: somebody gave them to it. Of lent roles all."""


def _rights_in(connection: Connection, watch: Sequence[list[str]]) -> dict[str, set[str]]:
    """Return role -> its rights, default privileges and what it owns in this database.

    `watch`: roles of which everything that they own is listed, and the role that keeps what people left.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for query in (_RIGHTS, _FIRING):
        for name, owner, words in run(connection, query):
            if name not in (EVERYBODY, FIRING) or not is_own_account(
                str(owner)
            ):  # what a person gives of their own ends with it
                found[str(name)].add(str(words))
    reach, keeper = watch
    for look, values in ((_DEFAULTS, None), (_ROUTINES, [keeper, reach]), (_OWNERS, [keeper, reach])):
        # What the account of a lease makes of its own ends with it (ADR 26).
        for name, words in run(connection, look, values):
            if not is_own_account(str(name)):
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
