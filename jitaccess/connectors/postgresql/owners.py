"""The two functions that the server's owner may install: called only when they are truly the owner's, and believed only what is seen.

Whoever may create a schema in the database could otherwise write `jitaccess.fingerprints()` and have the broker run it. One that fails or
does nothing stops nothing else: the look goes on without it, and an account that it did not lock is not called locked.
"""

from collections.abc import Iterator

import psycopg
from psycopg import sql

from jitaccess.connectors.postgresql.lines import Connection, run

SCHEMA = "jitaccess"
FINGERPRINTS, DISABLE = "fingerprints", "disable"
_ARGUMENTS = {FINGERPRINTS: "", DISABLE: "25"}
"""Name -> its argument types as `pg_proc.proargtypes` shows them; 25 is text."""
SAFE_PATHS = ("search_path=pg_catalog", "search_path=pg_catalog, pg_temp")
_LOOK = sql.SQL(
    "SELECT o.rolsuper, r.rolsuper, p.prosecdef AND p.prokind = 'f', p.proconfig && %(paths)s::text[], "
    "EXISTS (SELECT FROM aclexplode(n.nspacl) a LEFT JOIN pg_roles g ON g.oid = a.grantee "
    "WHERE a.privilege_type = 'CREATE' AND NOT coalesce(g.rolsuper, false)), "
    "EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0) "
    "FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_roles o ON o.oid = n.nspowner "
    "JOIN pg_roles r ON r.oid = p.proowner "
    "WHERE n.nspname = %(schema)s AND p.proname = %(name)s AND p.proargtypes::text = %(arguments)s"
)


def _faults(connection: Connection, name: str) -> list[str] | None:
    """Return what speaks against calling a function, None where there is none of that name."""
    values = {"paths": [*SAFE_PATHS], "schema": SCHEMA, "name": name, "arguments": _ARGUMENTS[name]}
    rows = connection.execute(_LOOK, values).fetchall()
    if not rows:
        return None
    ((schema_super, owner_super, definer, pinned, writable, public),) = rows
    checks = (
        (schema_super, "its schema does not belong to a superuser"),
        (owner_super, "it does not belong to a superuser"),
        (definer, "it is no function with SECURITY DEFINER"),
        (pinned, "its search_path is not pinned to pg_catalog"),
        (not writable, "others may create things in its schema"),
        (not public, "everybody may call it"),
    )
    return [text for well, text in checks if not well]


def is_owners(connection: Connection, name: str) -> bool:
    """Say whether a function is there and the server's owner alone can have written it."""
    return _faults(connection, name) == []


def suspicions(connection: Connection) -> Iterator[str]:
    """Return why functions that are there are not called."""
    for name in _ARGUMENTS:
        if faults := _faults(connection, name):
            yield f"danger: {SCHEMA}.{name} is not called: {'; '.join(faults)}"


def impostors(connection: Connection) -> dict[str, set[str]]:
    """Return role -> what of the owner's schema belongs to it, though it is no superuser."""
    look = sql.SQL(
        "SELECT r.rolname, 'owner of the schema ' || n.nspname FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner "
        "WHERE n.nspname = %(schema)s AND NOT r.rolsuper UNION "
        "SELECT r.rolname, 'owner of the routine ' || n.nspname || '.' || p.proname FROM pg_proc p "
        "JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_roles r ON r.oid = p.proowner "
        "WHERE n.nspname = %(schema)s AND NOT r.rolsuper"
    )
    found: dict[str, set[str]] = {}
    for role, what in connection.execute(look, {"schema": SCHEMA}).fetchall():
        found.setdefault(str(role), set()).add(str(what))
    return found


def fingerprints(connection: Connection) -> tuple[dict[str, str], list[str]]:
    """Return name -> digest of what proves each role, where the owner installed the function that tells; and what is wrong with that."""
    if not is_owners(connection, FINGERPRINTS):
        return {}, []
    try:
        rows = run(connection, sql.SQL("SELECT name, fingerprint FROM jitaccess.fingerprints()"))
    except psycopg.Error as error:
        if connection.closed:
            raise
        return {}, [f"{SCHEMA}.{FINGERPRINTS} fails with {error.sqlstate}"]
    found = {str(name): str(value) for name, value in rows if name is not None and value is not None}
    return found, [] if found else [f"{SCHEMA}.{FINGERPRINTS} tells of nobody"]


def disable(connection: Connection, account: str) -> bool:
    """Lock a role that the broker may not alter, with the owner's function; False where there is none to trust, or it did not lock."""
    if not is_owners(connection, DISABLE):
        return False
    try:
        run(connection, sql.SQL("SELECT jitaccess.disable(%s::text)"), [account])
    except psycopg.Error:
        if connection.closed:
            raise
        return False
    return not run(connection, sql.SQL("SELECT 1 FROM pg_roles WHERE rolname = %s AND rolcanlogin"), [account])
