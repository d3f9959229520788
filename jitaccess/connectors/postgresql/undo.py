"""With which statement does the server's owner take a right back? Pure: rights in the words of the inventory -> SQL.

Names in these words come from the server, where anybody may have chosen them: each is quoted, and what cannot be told apart for certain
becomes a comment. What PostgreSQL itself wrote as a name (routines, types) is quoted already.
"""

import re
from collections.abc import Sequence

from psycopg import sql

from jitaccess.connectors.postgresql.inventory import ATTRIBUTES, EVERYBODY, NAME, group_of
from jitaccess.connectors.postgresql.lines import ident

_PRIVILEGE = re.compile(
    rf"(?P<word>[A-Z ]+?)(?P<option> with grant option)?(?: granted by (?P<grantor>{NAME}))? on "
    r"(?P<kind>table|sequence|column|schema|language|server|wrapper|routine|type|large object|database|tablespace|parameter) "
    r"(?P<name>.+?)(?: in (?P<place>[^ ]+))?",
    re.S,
)
_SETTING = re.compile(r"setting (?P<name>[A-Za-z0-9_.]+)=.*?(?: in (?P<place>[^ ]+))?", re.S)
_SLOT = re.compile(r"replication slot (?P<name>[a-z0-9_]{1,63}) \(.*\)", re.S)
_SUBSCRIPTION = re.compile(r"owner of subscription (?P<name>.+) in (?P<place>[^ ]+)", re.S)
_DEFINER = re.compile(r"lends itself to routine (?P<name>.+?)(?: \(text [0-9a-f]{16}\))? in (?P<place>[^ ]+)", re.S)
_BY_DEFAULT = re.compile(
    rf"gives by default (?P<word>[A-Z ]+?)(?P<option> with grant option)? "
    rf"on (?P<kind>tables|sequences|routines|types|schemas|large objects)(?: of schema (?P<schema>{NAME}))? "
    rf"to (?P<grantee>PUBLIC|{NAME}) in (?P<place>[^ ]+)",
    re.S,
)
_FIRES = re.compile(
    rf"(?P<kind>trigger|rule|check) (?P<name>{NAME}) (?:on|of domain) (?P<thing>.+) \(text [0-9a-f]{{16}}\) in (?P<place>[^ ]+)",
    re.S,
)
_MAPPING = re.compile(rf"mapping of (?P<role>PUBLIC|{NAME}) on server (?P<server>{NAME}) in (?P<place>[^ ]+)", re.S)
_FIRING_GONE = {
    "trigger": "DROP TRIGGER {name} ON {thing};",
    "rule": "DROP RULE {name} ON {thing};",
    "check": "ALTER DOMAIN {thing} DROP CONSTRAINT {name};",
}
_KINDS = {"wrapper": "FOREIGN DATA WRAPPER", "server": "FOREIGN SERVER"}
_SHARED = frozenset({"database", "tablespace", "parameter"})
"""Kinds of things that lie in no database: there `in` belongs to the name."""
_WRITTEN = frozenset({"routine", "type", "large object"})
"""Kinds whose names PostgreSQL wrote, with their quotes, or a number."""
_SOUND = re.compile(r'(?:"(?:[^"]|"")*"|[\w$ .,\[\]()])+')
"""What such a name may be: quoted names, words, brackets; nothing that could end a statement."""


def statements(role: str, rights: Sequence[str]) -> str:
    """Return a line for each right: the statement that takes it from the role, or what to look at."""
    name = "PUBLIC" if role == EVERYBODY else ident(role).as_string()
    return "\n".join(_statement(name, right) for right in rights)


def _statement(role: str, right: str) -> str:
    if right in (*ATTRIBUTES, "LOGIN"):
        return f"ALTER ROLE {role} NO{right};"
    if member := group_of(right):
        group, admin, giver = member
        by = f" GRANTED BY {giver}" if giver else ""  # from version 16 on nobody else's is taken back
        return f"REVOKE {ident(group).as_string()} FROM {role}{by}{' CASCADE' if admin else ''};"
    if right.startswith("may set role "):
        return f"GRANT {ident(right.removeprefix('may set role ')).as_string()} TO {role} WITH SET FALSE;"
    if found := _SETTING.fullmatch(right):
        if role == "PUBLIC":
            whose = f"DATABASE {ident(found['place']).as_string()}" if found["place"] else "ROLE ALL"
            return f"ALTER {whose} RESET {_dotted(found['name'])};"
        place = f" IN DATABASE {ident(found['place']).as_string()}" if found["place"] else ""
        return f"ALTER ROLE {role}{place} RESET {_dotted(found['name'])};"
    if found := _SLOT.fullmatch(right):
        return f"SELECT pg_drop_replication_slot('{found['name']}');"
    if found := _SUBSCRIPTION.fullmatch(right):
        return f"/* in the database {_quiet(found['place'])} */ DROP SUBSCRIPTION {ident(found['name']).as_string()};"
    if found := _PRIVILEGE.fullmatch(right):
        return _revoke(role, found)
    if (found := _DEFINER.fullmatch(right)) and _SOUND.fullmatch(found["name"]):
        return f"/* in the database {_quiet(found['place'])} */ ALTER ROUTINE {found['name']} SECURITY INVOKER;"
    return _of_others(role, right) or f"/* look at: {_quiet(right)} */"


def _of_others(role: str, right: str) -> str | None:
    """Return what takes back what works for others than the role."""
    if found := _BY_DEFAULT.fullmatch(right):
        schema = f" IN SCHEMA {found['schema']}" if found["schema"] else ""
        return (
            f"/* in the database {_quiet(found['place'])} */ ALTER DEFAULT PRIVILEGES FOR ROLE {role}{schema} "
            f"REVOKE {found['word']} ON {found['kind'].upper()} FROM {found['grantee']};"
        )
    if (found := _FIRES.fullmatch(right)) and _SOUND.fullmatch(found["thing"]):
        gone = _FIRING_GONE[found["kind"]].format(name=found["name"], thing=found["thing"])
        return f"/* in the database {_quiet(found['place'])}; or bring its former text back */ {gone}"
    if found := _MAPPING.fullmatch(right):
        where = f"/* in the database {_quiet(found['place'])} */"
        return f"{where} DROP USER MAPPING FOR {found['role']} SERVER {found['server']};"
    return None


def _revoke(role: str, found: re.Match[str]) -> str:
    kind, name, place = found["kind"], found["name"], found["place"]
    if kind in _SHARED:
        name, place = (f"{name} in {place}" if place else name), None
    columns = ""
    if kind == "column":
        kind, (name, _, column) = "table", name.rpartition(".")
        columns = f" ({ident(column).as_string()})"
    if kind in _WRITTEN and not _SOUND.fullmatch(name):
        return f"/* look at: {_quiet(found[0])} */"
    if kind not in _WRITTEN:
        name = _dotted(name) if kind in ("table", "sequence", "parameter") else ident(name).as_string()
    where = f"/* in the database {_quiet(place)} */ " if place else ""
    option = "GRANT OPTION FOR " if found["option"] else ""
    revoke = f"REVOKE {option}{found['word']}{columns} ON {_KINDS.get(kind, kind.upper())} {name} FROM {role} CASCADE;"
    # Who gave it takes it back: a superuser's own REVOKE is the owner's, and leaves what somebody else gave.
    return f"{where}SET ROLE {found['grantor']}; {revoke} RESET ROLE;" if found["grantor"] else f"{where}{revoke}"


def _dotted(name: str) -> str:
    """Quote a name with the schema before its first dot."""
    first, dot, rest = name.partition(".")
    return sql.Identifier(first, rest).as_string() if dot and first and rest else ident(name).as_string()


def _quiet(text: str) -> str:
    """Return a text that does not end the comment it stands in."""
    shown = "".join(character if character.isprintable() else " " for character in text)
    return shown.replace("*/", "* /").replace("/*", "/ *")
