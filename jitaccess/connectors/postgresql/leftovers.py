"""What a person left behind in a database: data is kept, code is not, and nothing of anybody else is lost (ADR 26 and 46).

Kept are tables with their partitions, views, sequences, types and large objects, in new schemas, one for each schema they come from, so
that no two names meet. Extensions are the server's code and are kept too: columns of the application may be of their types. Everything
else that the role made goes. Should that take a column, a table or a routine along that is to stay, all of it is undone and the names
are said.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psycopg import sql

from jitaccess.connectors.contract import CallFailed
from jitaccess.connectors.postgresql.lines import Connection, ident, run

PLAIN = re.compile(r"[A-Za-z0-9_.]{1,60}")
NAMED = 3
"""So many names of what would be lost are said."""


def traces(connection: Connection, oids: Mapping[str, int]) -> dict[str, set[str | None]]:
    """Return, for roles that own something or were granted something, the databases where; None for what is shared."""
    rows = run(
        connection,
        sql.SQL(
            "SELECT s.refobjid, d.datname FROM pg_shdepend s LEFT JOIN pg_database d ON d.oid = s.dbid "
            "WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = ANY(%s) "
            "AND s.classid <> 'pg_auth_members'::regclass GROUP BY 1, 2"
        ),
        [[*oids.values()]],
    )
    names = {oid: name for name, oid in oids.items()}
    found: dict[str, set[str | None]] = {}
    for oid, database in rows:
        found.setdefault(names[int(oid)], set()).add(database)
    return found


@dataclass(frozen=True, slots=True)
class Leaver:
    """The role that is to go."""

    name: str
    oid: int
    keeper: str
    """The rightless role that gets its data."""
    place: str
    """Begin of the names of the schemas that are made for it; nobody can have taken them, because part of it is random."""


_OWNED: Mapping[str, str] = {
    "TABLE": (
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relowner = %s "
        "AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND NOT EXISTS (SELECT FROM pg_depend d "
        "WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND c.relkind = 'S' AND d.deptype IN ('a', 'i')) "
        "AND n.nspname !~ '^pg_' AND NOT EXISTS (SELECT FROM pg_depend e "
        "WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e') ORDER BY c.relispartition, c.oid"
    ),
    "TYPE": (
        "SELECT n.nspname, t.typname FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace "
        "LEFT JOIN pg_class c ON c.oid = t.typrelid WHERE t.typowner = %s AND n.nspname !~ '^pg_' "
        "AND (t.typtype IN ('e', 'd', 'r') OR c.relkind = 'c') AND NOT EXISTS (SELECT FROM pg_depend e "
        "WHERE e.classid = 'pg_type'::regclass AND e.objid = t.oid AND e.deptype = 'e')"
    ),
    "COLLATION": (
        "SELECT n.nspname, c.collname FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace "
        "WHERE c.collowner = %s AND n.nspname !~ '^pg_' AND NOT EXISTS (SELECT FROM pg_depend e "
        "WHERE e.classid = 'pg_collation'::regclass AND e.objid = c.oid AND e.deptype = 'e')"
    ),
}
"""What is kept: kind of ALTER statement -> schema and name of everything that a role owns. Code is not among it."""

_CODE: Mapping[str, str] = {
    "function": "FUNCTION",
    "procedure": "PROCEDURE",
    "aggregate": "AGGREGATE",
    "operator": "OPERATOR",
    "operator class": "OPERATOR CLASS",
    "operator family": "OPERATOR FAMILY",
    "conversion": "CONVERSION",
    "statistics object": "STATISTICS",
    "text search configuration": "TEXT SEARCH CONFIGURATION",
    "text search dictionary": "TEXT SEARCH DICTIONARY",
    "server": "SERVER",
    "foreign-data wrapper": "FOREIGN DATA WRAPPER",
    "publication": "PUBLICATION",
    "language": "LANGUAGE",
}
"""Kind as `pg_identify_object` says it -> as DROP takes it."""


def neutralise(connection: Connection, leaver: Leaver) -> int:
    """Keep a role's data under the quarantine role, drop its code and its grants in this database; return how much was kept.

    Nobody can be that role any more; it keeps its memberships until it is dropped, because without them its things cannot be named.
    Raises CallFailed, with everything as it was, when something that is to stay would go.
    """
    with connection.transaction():
        # One snapshot for both looks at what is there: what others drop meanwhile is not taken for our doing.
        run(connection, sql.SQL("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        kept = _keep_schemas(connection, leaver)
        kept += _keep_things(connection, leaver)
        kept += _keep_large_objects(connection, leaver)
        left = _left(connection, leaver)
        if left:
            _keep_values(connection, leaver)
            before = _to_stay(connection, leaver)
            kept += _drop_code(connection, leaver, left)
            run(connection, sql.SQL("DROP OWNED BY {} CASCADE").format(ident(leaver.name)))
            if lost := before - _to_stay(connection, leaver):
                raise CallFailed(_would_lose(sorted(lost)))
        else:
            # Only grants and default privileges are there to go.
            run(connection, sql.SQL("DROP OWNED BY {}").format(ident(leaver.name)))
    return kept


def _keep_schemas(connection: Connection, leaver: Leaver) -> int:
    look = sql.SQL(
        "SELECT nspname FROM pg_namespace n WHERE nspowner = %s AND nspname !~ '^pg_' AND NOT EXISTS (SELECT FROM pg_depend e "
        "WHERE e.classid = 'pg_namespace'::regclass AND e.objid = n.oid AND e.deptype = 'e')"
    )
    rows = run(connection, look, [leaver.oid])
    for (schema,) in rows:
        give = sql.SQL("ALTER SCHEMA {} OWNER TO {}")
        run(connection, give.format(ident(schema), ident(leaver.keeper)))
    return len(rows)


def _keep_things(connection: Connection, leaver: Leaver) -> int:
    """Move tables, partitions, views, sequences and types out of the schemas of others, and give them to the keeper."""
    mine = sql.SQL("SELECT nspname FROM pg_namespace WHERE nspowner = to_regrole(quote_ident(%s))")
    there = {str(schema): str(schema) for (schema,) in run(connection, mine, [leaver.keeper])}
    kept = 0
    for kind, look in _OWNED.items():
        for schema, thing in run(connection, sql.SQL(look), [leaver.oid]):
            if schema not in there:
                there[schema] = f"{leaver.place}-{len(there)}"
                make = sql.SQL("CREATE SCHEMA {} AUTHORIZATION {}")
                run(connection, make.format(ident(there[schema]), ident(leaver.keeper)))
            if there[schema] != schema:
                move = sql.SQL("ALTER {} {} SET SCHEMA {}")
                run(connection, move.format(sql.SQL(kind), ident(schema, thing), ident(there[schema])))
            give = sql.SQL("ALTER {} {} OWNER TO {}")
            run(connection, give.format(sql.SQL(kind), ident(there[schema], thing), ident(leaver.keeper)))
            kept += 1
    return kept


def _keep_large_objects(connection: Connection, leaver: Leaver) -> int:
    rows = run(connection, sql.SQL("SELECT oid FROM pg_largeobject_metadata WHERE lomowner = %s"), [leaver.oid])
    for (oid,) in rows:
        give = sql.SQL("ALTER LARGE OBJECT {} OWNER TO {}")
        run(connection, give.format(sql.Literal(int(oid)), ident(leaver.keeper)))
    return len(rows)


def _left(connection: Connection, leaver: Leaver) -> list[tuple[str, str]]:
    """Return kind and quoted name of what the role still owns here, without members of extensions and default privileges."""
    look = sql.SQL(
        "SELECT DISTINCT i.type, i.identity FROM pg_shdepend s, pg_identify_object(s.classid, s.objid, 0) i "
        "WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = %s AND s.deptype = 'o' "
        "AND s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) "
        "AND s.classid <> 'pg_default_acl'::regclass AND NOT EXISTS (SELECT FROM pg_depend e "
        "WHERE e.classid = s.classid AND e.objid = s.objid AND e.deptype = 'e') ORDER BY 1, 2"
    )
    return [(str(kind), str(name)) for kind, name in run(connection, look, [leaver.oid])]


def _keep_values(connection: Connection, leaver: Leaver) -> None:
    """Make stored generated columns of kept tables plain ones: the routine that computed them may be about to go, the values stay."""
    look = sql.SQL(
        "SELECT a.attrelid::regclass::text, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
        "WHERE c.relowner = to_regrole(quote_ident(%s)) AND a.attgenerated = 's' AND a.attinhcount = 0 AND NOT a.attisdropped "
        "AND c.relnamespace IN (SELECT oid FROM pg_namespace WHERE nspowner = c.relowner)"
    )
    for table, column in run(connection, look, [leaver.keeper]):
        plain = sql.SQL("ALTER TABLE {} ALTER COLUMN {} DROP EXPRESSION")
        run(connection, plain.format(sql.SQL(table), ident(column)))


def _drop_code(connection: Connection, leaver: Leaver, left: Sequence[tuple[str, str]]) -> int:
    """Where there are extensions, drop everything else by name and give the extensions to the keeper; return how many there are."""
    extensions = [name for kind, name in left if kind == "extension"]
    if not extensions:
        return 0
    for kind, name in left:
        if kind in _CODE:
            # The server quoted the name. Something may have gone with something else already.
            run(connection, sql.SQL("DROP {} IF EXISTS {} CASCADE").format(sql.SQL(_CODE[kind]), sql.SQL(name)))
    if any(kind != "extension" for kind, _ in _left(connection, leaver)):
        return 0  # DROP OWNED takes the extensions along, and is undone if that loses anything
    run(
        connection,
        sql.SQL("REASSIGN OWNED BY {} TO {}").format(ident(leaver.name), ident(leaver.keeper)),
    )
    return len(extensions)


_TO_STAY = sql.SQL(
    "SELECT a.attrelid::int8, a.attnum::int8, n.nspname || '.' || c.relname || '.' || a.attname "
    "FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE a.attnum > 0 AND NOT a.attisdropped AND n.nspname !~ '^(pg_|information_schema$)' AND c.relowner <> %(leaver)s "
    "AND CASE WHEN c.relowner = to_regrole(quote_ident(%(keeper)s)) THEN c.relkind IN ('r', 'p', 'm', 'S') "
    "AND a.attgenerated <> 'v' ELSE c.relkind IN ('r', 'p', 'm', 'f', 'S', 'v', 'c') END "
    "UNION ALL SELECT c.oid::int8, 0, n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE c.relkind IN ('r', 'p', 'm', 'S') AND n.nspname !~ '^(pg_|information_schema$)' AND c.relowner <> %(leaver)s "
    "UNION ALL SELECT p.oid::int8, -1, n.nspname || '.' || p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace "
    "WHERE p.proowner <> %(leaver)s AND p.proowner <> to_regrole(quote_ident(%(keeper)s)) AND n.nspname !~ '^(pg_|information_schema$)' "
    "AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e')"
)


def _to_stay(connection: Connection, leaver: Leaver) -> set[tuple[str, int, int]]:
    """Return every column, table and routine that is not the leaver's, with its name."""
    rows = connection.execute(_TO_STAY, {"leaver": leaver.oid, "keeper": leaver.keeper}).fetchall()
    return {(str(name), int(oid), int(number)) for oid, number, name in rows}


def _would_lose(lost: Sequence[tuple[str, int, int]]) -> str:
    """Return the record's word for what would go; names that are no plain words are not repeated."""
    said = [name if PLAIN.fullmatch(name) else "?" for name, _, _ in lost[:NAMED]]
    return f"would_lose {len(lost)}: {', '.join(said)}"
