"""What a person left behind in a database: data is kept, code is not (ADR 26)."""

from collections.abc import Mapping

from psycopg import sql

from jitaccess.connectors.postgresql.lines import Connection, ident, run


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


_OWNED: Mapping[str, str] = {
    "TABLE": (
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relowner = %s "
        "AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND NOT c.relispartition AND NOT EXISTS (SELECT FROM pg_depend d "
        "WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND c.relkind = 'S' AND d.deptype IN ('a', 'i')) "
        "AND n.nspname !~ '^pg_' ORDER BY c.relispartition, c.oid"
    ),
    "TYPE": (
        "SELECT n.nspname, t.typname FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace "
        "LEFT JOIN pg_class c ON c.oid = t.typrelid WHERE t.typowner = %s AND n.nspname !~ '^pg_' "
        "AND (t.typtype IN ('e', 'd', 'r') OR c.relkind = 'c')"
    ),
}
"""What is kept: kind of ALTER statement -> schema and name of everything that a role owns. Code is not among it."""


def neutralise(connection: Connection, name: str, oid: int, quarantine: str) -> int:
    """Keep a role's data under the quarantine role, drop its code and its grants in this database; return how much was kept.

    Nobody can be that role any more; it keeps its memberships until it is dropped, because without them its things cannot be named.
    """
    keeper, place = ident(quarantine), ident(name)
    kept = 0
    with connection.transaction():
        schemas = run(connection, sql.SQL("SELECT nspname FROM pg_namespace WHERE nspowner = %s"), [oid])
        own = {str(schema) for (schema,) in schemas if not str(schema).startswith("pg_")}
        for schema in own:
            run(connection, sql.SQL("ALTER SCHEMA {} OWNER TO {}").format(ident(schema), keeper))
        made = False
        for kind, look in _OWNED.items():
            for schema, thing in run(connection, sql.SQL(look), [oid]):
                if schema not in own:
                    if not made:
                        run(
                            connection, sql.SQL("CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {}").format(place, keeper)
                        )
                        made = True
                    move = sql.SQL("ALTER {} {} SET SCHEMA {}")
                    run(connection, move.format(sql.SQL(kind), ident(schema, thing), place))
                there = ident(schema if schema in own else name, thing)
                run(connection, sql.SQL("ALTER {} {} OWNER TO {}").format(sql.SQL(kind), there, keeper))
                kept += 1
        run(connection, sql.SQL("DROP OWNED BY {} CASCADE").format(place))
    return kept + len(own)
