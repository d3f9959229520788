"""What a person left behind in a database: code goes first, data is kept, and nothing of anybody else is lost (ADR 26, 46 and 65).

`disarm` takes what would run with the rights of others; `keep` gives tables with their partitions, sequences, types and large objects to
a rightless role, in new schemas, one for each schema they come from, so that no two names meet. Both work in small transactions: a
call that is broken off, or one thing that cannot be dealt with, leaves nothing of the rest undone. Extensions are the server's code and are
kept too: columns of the application may be of their types; but nothing that the person made belongs to one. What would take a column, a
table or a routine along that is to stay waits, and the names are said.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import psycopg
from psycopg import sql

from jitaccess.connectors.contract import CallFailed
from jitaccess.connectors.postgresql.lines import LOCK_LIMIT_MS, Connection, ident, run

Part = TypeVar("Part")
PLAIN = re.compile(r"[A-Za-z0-9_.]{1,60}")
NAMED = 3
"""So many names of what would be lost are said."""
PIECE = 100
"""So many things are dealt with in one transaction."""
PATIENCE_MS = 500
"""How long a lock is waited for; what stays locked is left for the next call."""


@dataclass(frozen=True, slots=True)
class Left:
    """A role that is there."""

    oid: int
    traces: bool
    """Whether it owns something or was granted something besides memberships."""


def left_by(connection: Connection, names: Sequence[str]) -> dict[str, Left]:
    """Return those of these roles that exist."""
    look = sql.SQL(
        "SELECT rolname, oid, EXISTS (SELECT FROM pg_shdepend s WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = r.oid "
        "AND s.classid <> 'pg_auth_members'::regclass) FROM pg_roles r WHERE rolname = ANY(%s)"
    )
    return {str(name): Left(int(oid), bool(some)) for name, oid, some in run(connection, look, [[*names]])}


def traces(connection: Connection, oids: Mapping[str, int]) -> dict[str, set[str | None]]:
    """Return, for roles that own something or were granted something, the databases where, None for what is shared; the least first."""
    rows = run(
        connection,
        sql.SQL(
            "SELECT s.refobjid, d.datname, sum(count(*)) OVER (PARTITION BY s.refobjid) AS things "
            "FROM pg_shdepend s LEFT JOIN pg_database d ON d.oid = s.dbid "
            "WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = ANY(%s) "
            "AND s.classid <> 'pg_auth_members'::regclass GROUP BY 1, 2 ORDER BY things"
        ),
        [[*oids.values()]],
    )
    names = {oid: name for name, oid in oids.items()}
    found: dict[str, set[str | None]] = {}
    for oid, database, _ in rows:
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


class Work:
    """What is done about one role in one database."""

    def __init__(self, leaver: Leaver, late: Callable[[], bool]) -> None:
        self.leaver = leaver
        self.late = late
        """Whether this call has taken long enough."""
        self.failures: list[Exception] = []
        self.kept = 0
        self.connection: Connection

    def on(self, connection: Connection, act: Callable[["Work"], None]) -> None:
        """Do it over this connection; what failed alone is in `failures`, and so is what stopped it."""
        self.connection = connection
        patience = sql.SQL("SET lock_timeout = {}")
        run(connection, patience.format(sql.Literal(f"{PATIENCE_MS}ms")))
        try:
            act(self)
        except (psycopg.Error, CallFailed) as error:
            if connection.closed:
                raise
            self.failures.append(error)
        run(connection, patience.format(sql.Literal(f"{LOCK_LIMIT_MS}ms")))

    def look(self, statement: str) -> list[tuple[object, ...]]:
        """Return rows of a question about the leaver, `%(leaver)s`, and the keeper, `%(keeper)s`."""
        values = {"leaver": self.leaver.oid, "keeper": self.leaver.keeper}
        return [*self.connection.execute(sql.SQL(statement), values).fetchall()]

    def each(self, statements: Iterable[sql.Composable], *, must: bool = True) -> int:
        """Run statements that know nothing of each other, many in one transaction; those that fail stand alone. Return how many did not."""

        def act(part: Sequence[sql.Composable]) -> None:
            run(self.connection, sql.SQL("; ").join(part))

        return self.apart([*statements], act, must=must)

    def apart(self, things: Sequence[Part], act: Callable[[Sequence[Part]], None], *, must: bool = True) -> int:
        """Act on pieces; halve a piece that fails until the culprit stands alone. Return how many did not fail."""
        left = [things[start : start + PIECE] for start in range(0, len(things), PIECE)]
        done = 0
        while left:
            if self.late():
                raise CallFailed("unfinished")
            part = left.pop(0)
            try:
                act(part)
            except (psycopg.Error, CallFailed) as error:
                if self.connection.closed:
                    raise
                if len(part) > 1:
                    left[:0] = [part[: len(part) // 2], part[len(part) // 2 :]]
                elif must:
                    self.failures.append(error)
            else:
                done += len(part)
        return done


# ---------------------------------------------------------------- code


def disarm(work: Work) -> None:
    """Take away what would run as somebody else, in the order of what it takes to be harmless.

    1. Nothing that the role owns belongs to an extension: what does is not dropped with its owner's things.
    2. Functions of triggers do nothing, others have no rights of the role any more: that waits for no lock on anybody's table.
    3. Nobody has rights on anything of the role.
    4. Rules and triggers of its tables go, and their foreign keys to tables of others, who could delete nothing any more.
    5. Routines and all other code go, with triggers, policies, defaults and checks of whomever that call them; of views the text is kept.
    """
    work.each(_out_of_extensions(work))  # 1
    work.each(_defused(work), must=False)  # 2
    work.each(_revoked(work))  # 3
    work.each(_rules_and_triggers(work))  # 4
    work.each(_foreign_keys(work))  # 4
    _drop_code(work)  # 5


_MEMBERS = (
    "SELECT x.extname, i.type, i.identity FROM pg_depend d JOIN pg_extension x ON x.oid = d.refobjid "
    "JOIN pg_shdepend s ON s.classid = d.classid AND s.objid = d.objid "
    "AND s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()), pg_identify_object(d.classid, d.objid, 0) i "
    "WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' "
    "AND s.refclassid = 'pg_authid'::regclass AND s.refobjid = %(leaver)s AND s.deptype = 'o'"
)
_SAID: Mapping[str, str] = {"foreign-data wrapper": "FOREIGN DATA WRAPPER", "statistics object": "STATISTICS"}
"""Kind as `pg_identify_object` says it -> as statements take it, where it is not the same word."""


def _said(kind: object) -> sql.SQL:
    return sql.SQL(_SAID.get(str(kind), str(kind).upper()))


def _written(name: object) -> sql.SQL:
    """Return a name that the server wrote, with its quotes."""
    return sql.SQL(str(name))


def _out_of_extensions(work: Work) -> Iterable[sql.Composable]:
    for extension, kind, name in work.look(_MEMBERS):
        out = sql.SQL("ALTER EXTENSION {} DROP {} {}")
        yield out.format(ident(str(extension)), _said(kind), _written(name))


_NOTHING = sql.SQL(
    "CREATE OR REPLACE FUNCTION {} RETURNS trigger LANGUAGE plpgsql AS "
    "'BEGIN IF TG_OP = ''DELETE'' THEN RETURN OLD; END IF; RETURN NEW; END'"
)


def _defused(work: Work) -> Iterable[sql.Composable]:
    look = (
        "SELECT oid::regprocedure::text, prorettype = 'trigger'::regtype FROM pg_proc "
        "WHERE proowner = %(leaver)s AND prokind <> 'a' AND (prosecdef OR prorettype = 'trigger'::regtype)"
    )
    for name, trigger in work.look(look):
        kind = _NOTHING if trigger else sql.SQL("ALTER ROUTINE {} SECURITY INVOKER")
        yield kind.format(_written(name))


_GIVEN = (
    "SELECT DISTINCT s.kind, s.name, g.rolname, s.narrow FROM ("
    "SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind, c.oid::regclass::text AS name, relowner AS owner, "
    "relacl AS acl, false AS narrow FROM pg_class c UNION ALL "
    "SELECT 'TABLE', c.oid::regclass::text, relowner, attacl, false FROM pg_attribute JOIN pg_class c ON c.oid = attrelid UNION ALL "
    "SELECT 'SCHEMA', quote_ident(nspname), nspowner, nspacl, EXISTS (SELECT FROM pg_extension WHERE extnamespace = n.oid) "
    "FROM pg_namespace n WHERE nspname !~ '^pg_' UNION ALL "
    "SELECT 'TYPE', oid::regtype::text, typowner, typacl, false FROM pg_type WHERE typtype <> 'm' UNION ALL "
    "SELECT 'LARGE OBJECT', oid::text, lomowner, lomacl, false FROM pg_largeobject_metadata) s, "
    "aclexplode(s.acl) a LEFT JOIN pg_roles g ON g.oid = a.grantee WHERE s.owner = %(leaver)s AND a.grantee <> s.owner"
)


def _revoked(work: Work) -> Iterable[sql.Composable]:
    """Take back what others were given. Names in the schema of an extension can still be found: columns may be of its types."""
    for kind, name, grantee, narrow in work.look(_GIVEN):
        yield sql.SQL("REVOKE {} ON {} {} FROM {} CASCADE").format(
            sql.SQL("CREATE" if narrow else "ALL"),
            _said(kind),
            _written(name),
            sql.SQL("PUBLIC") if grantee is None else ident(str(grantee)),
        )


def _rules_and_triggers(work: Work) -> Iterable[sql.Composable]:
    look = (
        "SELECT 'RULE', rulename, c.oid::regclass::text FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class "
        "WHERE c.relowner = %(leaver)s AND rulename <> '_RETURN' UNION ALL "
        "SELECT 'TRIGGER', tgname, c.oid::regclass::text FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
        "WHERE c.relowner = %(leaver)s AND NOT tgisinternal AND tgparentid = 0"
    )
    for kind, name, table in work.look(look):
        yield sql.SQL("DROP {} IF EXISTS {} ON {} CASCADE").format(_said(kind), ident(str(name)), _written(table))


def _foreign_keys(work: Work) -> Iterable[sql.Composable]:
    look = (
        "SELECT k.conname, c.oid::regclass::text FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid "
        "JOIN pg_class f ON f.oid = k.confrelid WHERE k.contype = 'f' AND k.conparentid = 0 AND c.relowner = %(leaver)s "
        "AND f.relowner NOT IN (%(leaver)s, to_regrole(quote_ident(%(keeper)s)))"
    )
    for name, table in work.look(look):
        yield sql.SQL("ALTER TABLE {} DROP CONSTRAINT IF EXISTS {}").format(_written(table), ident(str(name)))


_CODE = frozenset(
    {
        "function",
        "procedure",
        "aggregate",
        "operator",
        "operator class",
        "operator family",
        "conversion",
        "statistics object",
        "text search configuration",
        "text search dictionary",
        "server",
        "foreign-data wrapper",
        "publication",
        "language",
        "view",
    }
)
_LEFT = (
    "SELECT DISTINCT i.type, i.identity FROM pg_shdepend s, pg_identify_object(s.classid, s.objid, 0) i "
    "WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = %(leaver)s AND s.deptype = 'o' "
    "AND s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    "AND s.classid <> 'pg_default_acl'::regclass ORDER BY 1, 2"
)
"""Kind and quoted name of what the role still owns here, without default privileges."""


def _drop_code(work: Work) -> None:
    code = [
        (str(kind), str(name))
        for kind, name in work.look(_LEFT)
        if kind in _CODE and not str(name).startswith("pg_temp")
    ]
    if not code:
        return
    work.each(_plain_columns(work))
    texts = _place_of_texts(work) if any(kind == "view" for kind, _ in code) else None
    stay: list[str] = []

    def act(part: Sequence[tuple[str, str]]) -> None:
        views = [name for kind, name in part if kind == "view"]
        drop = sql.SQL("DROP {} IF EXISTS {} CASCADE")
        try:
            with unless_lost(work):
                if views and texts is not None:
                    run(work.connection, _KEEP_TEXT.format(texts), [views])
                run(work.connection, sql.SQL("; ").join(drop.format(_said(k), _written(n)) for k, n in part))
        except CallFailed:
            if len(part) > 1:
                raise
            stay.extend(name for _, name in part)  # what would go with it is named at the end
        else:
            work.kept += len(views)

    work.apart(code, act)
    invoker = sql.SQL("ALTER VIEW {} SET (security_invoker = true)")
    work.each(invoker.format(_written(name)) for kind, name in code if kind == "view" and name in stay)


_KEEP_TEXT = sql.SQL(
    "INSERT INTO {} SELECT n.nspname, c.relname, pg_get_viewdef(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE c.relkind = 'v' AND c.oid = ANY(%s::text[]::regclass[])"
)


def _place_of_texts(work: Work) -> sql.Composable:
    """Make the table where the text of views is kept; return its name."""
    schema, keeper = f"{work.leaver.place}-text", ident(work.leaver.keeper)
    make = sql.SQL(
        "CREATE SCHEMA {0} AUTHORIZATION {1}; CREATE TABLE {2} (schema_name text, view_name text, definition text); "
        "ALTER TABLE {2} OWNER TO {1}"
    )
    table = ident(schema, "views")
    run(work.connection, make.format(ident(schema), keeper, table))
    return table


def _plain_columns(work: Work) -> Iterable[sql.Composable]:
    """Make stored generated columns of the role's tables plain ones: the routine that computed them may be about to go, the values stay."""
    look = (
        "SELECT a.attrelid::regclass::text, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
        "WHERE c.relowner = %(leaver)s AND a.attgenerated = 's' AND a.attinhcount = 0 AND NOT a.attisdropped"
    )
    for table, column in work.look(look):
        yield sql.SQL("ALTER TABLE {} ALTER COLUMN {} DROP EXPRESSION").format(_written(table), ident(str(column)))


_TO_STAY = (
    "SELECT a.attrelid::int8, a.attnum::int8, n.nspname || '.' || c.relname || '.' || a.attname "
    "FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE a.attnum > 0 AND NOT a.attisdropped AND n.nspname !~ '^(pg_|information_schema$)' "
    "AND CASE WHEN c.relowner IN (%(leaver)s, to_regrole(quote_ident(%(keeper)s))) THEN c.relkind IN ('r', 'p', 'm', 'S') "
    "AND a.attgenerated <> 'v' ELSE c.relkind IN ('r', 'p', 'm', 'f', 'S', 'v', 'c') END "
    "UNION ALL SELECT c.oid::int8, 0, n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE c.relkind IN ('r', 'p', 'm', 'S') AND n.nspname !~ '^(pg_|information_schema$)' "
    "UNION ALL SELECT p.oid::int8, -1, n.nspname || '.' || p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace "
    "WHERE p.proowner <> %(leaver)s AND p.proowner <> to_regrole(quote_ident(%(keeper)s)) AND n.nspname !~ '^(pg_|information_schema$)' "
    "AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e')"
)
"""Every column, table and routine that is to stay, with its name: all of others, and the data of the leaver."""


@contextmanager
def unless_lost(work: Work) -> Iterator[None]:
    """Undo everything that is done meanwhile when something is gone that was to stay; raises CallFailed with the names."""
    with work.connection.transaction():
        # One snapshot for both looks at what is there: what others drop meanwhile is not taken for our doing.
        run(work.connection, sql.SQL("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        before = {*work.look(_TO_STAY)}
        yield
        if lost := before - {*work.look(_TO_STAY)}:
            raise CallFailed(_would_lose(sorted(str(name) for _, _, name in lost)))


def _would_lose(lost: Sequence[str]) -> str:
    """Return the record's word for what would go; names that are no plain words are not repeated."""
    said = [name if PLAIN.fullmatch(name) else "?" for name in lost[:NAMED]]
    return f"would_lose {len(lost)}: {', '.join(said)}"


# ---------------------------------------------------------------- data

_KEPT: Mapping[str, str] = {
    "TABLE": (
        "SELECT n.nspname, c.relname, true FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relowner = %(leaver)s "
        "AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND NOT EXISTS (SELECT FROM pg_depend d "
        "WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND c.relkind = 'S' AND d.deptype IN ('a', 'i')) "
        "AND n.nspname !~ '^pg_' ORDER BY c.relispartition, c.oid"
    ),
    "TYPE": (
        "SELECT n.nspname, t.typname, t.typtype <> 'm' FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace "
        "LEFT JOIN pg_class c ON c.oid = t.typrelid WHERE t.typowner = %(leaver)s AND n.nspname !~ '^pg_' "
        "AND (t.typtype IN ('e', 'd', 'r', 'm') OR c.relkind = 'c')"
    ),
    "COLLATION": (
        "SELECT n.nspname, c.collname, true FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace "
        "WHERE c.collowner = %(leaver)s AND n.nspname !~ '^pg_'"
    ),
}
"""What is kept: kind of ALTER statement -> schema, name, and whether its owner is changed by itself: a multirange's goes with its range."""


def keep(work: Work) -> None:
    """Give the data to the keeper, then take away what is left: grants, and code that could not be dropped before."""
    work.kept += work.each(_schemas(work))
    for kind in _KEPT:
        work.kept += work.each(_things(work, kind))
    work.each(_multiranges(work))
    work.kept += work.each(_large_objects(work))
    _finish(work)


def _schemas(work: Work) -> Iterable[sql.Composable]:
    for (schema,) in work.look("SELECT nspname FROM pg_namespace WHERE nspowner = %(leaver)s AND nspname !~ '^pg_'"):
        yield sql.SQL("ALTER SCHEMA {} OWNER TO {}").format(ident(str(schema)), ident(work.leaver.keeper))


def _things(work: Work, kind: str) -> Iterable[sql.Composable]:
    """Move things out of the schemas of others, into new ones that are made for them, and give them to the keeper."""
    mine = work.look("SELECT nspname FROM pg_namespace WHERE nspowner = to_regrole(quote_ident(%(keeper)s))")
    there = {str(schema): str(schema) for (schema,) in mine}
    made = kind.lower()
    for schema, thing, apart in work.look(_KEPT[kind]):
        before, name = str(schema), str(thing)
        if before not in there:
            there[before] = f"{work.leaver.place}-{made}-{len(there)}"
            make = sql.SQL("CREATE SCHEMA {} AUTHORIZATION {}")
            run(work.connection, make.format(ident(there[before]), ident(work.leaver.keeper)))
        steps: list[sql.Composable] = []
        if there[before] != before:
            steps.append(
                sql.SQL("ALTER {} {} SET SCHEMA {}").format(_said(kind), ident(before, name), ident(there[before]))
            )
        if apart:
            owner = sql.SQL("ALTER {} {} OWNER TO {}")
            steps.append(owner.format(_said(kind), ident(there[before], name), ident(work.leaver.keeper)))
        if steps:
            yield sql.SQL("; ").join(steps)


def _multiranges(work: Work) -> Iterable[sql.Composable]:
    """Give those to the keeper that did not go with their range, as on version 15."""
    for (name,) in work.look("SELECT oid::regtype::text FROM pg_type WHERE typtype = 'm' AND typowner = %(leaver)s"):
        yield sql.SQL("ALTER TYPE {} OWNER TO {}").format(_written(name), ident(work.leaver.keeper))


def _large_objects(work: Work) -> Iterable[sql.Composable]:
    for (oid,) in work.look("SELECT oid FROM pg_largeobject_metadata WHERE lomowner = %(leaver)s"):
        yield sql.SQL("ALTER LARGE OBJECT {} OWNER TO {}").format(sql.Literal(int(str(oid))), ident(work.leaver.keeper))


def _finish(work: Work) -> None:
    """Take grants and default privileges away, and whatever is left; extensions alone are given to the keeper before."""
    names = (ident(work.leaver.name), ident(work.leaver.keeper))
    left = [kind for kind, _ in work.look(_LEFT)]
    if left and {*left} == {"extension"}:
        # No routine is among what is given away: a routine would run as the keeper.
        run(work.connection, sql.SQL("REASSIGN OWNED BY {} TO {}").format(*names))
        work.kept += len(left)
        left = []
    if left:
        with unless_lost(work):
            run(work.connection, sql.SQL("DROP OWNED BY {} CASCADE").format(names[0]))
    else:
        run(work.connection, sql.SQL("DROP OWNED BY {}").format(names[0]))
