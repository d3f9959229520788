"""What the broker's own account lacks, or can do beyond need."""

from collections.abc import Iterator

from psycopg import sql

from jitaccess.connectors.contract import is_own_account
from jitaccess.connectors.postgresql.config import PostgresqlConfig
from jitaccess.connectors.postgresql.inventory import ATTRIBUTES, TIED, Seen, accounts, group_of
from jitaccess.connectors.postgresql.lines import PROTOCOL_16, Connection, Lines, run
from jitaccess.connectors.postgresql.outliving import noted, objections
from jitaccess.connectors.postgresql.owners import fingerprints, suspicions

RESERVED = "pg_use_reserved_connections"
"""Whose members come in, from version 16 on, when others have taken all connections."""


def findings(connection: Connection, lines: Lines, config: PostgresqlConfig) -> Iterator[str]:
    """Compare the broker's own role, the keeping role and the lent roles with what is needed."""
    meant = config.lent()
    seen = accounts(connection, lines, config)
    modern = connection.info.server_version >= PROTOCOL_16
    if not modern:
        yield "note: before version 16 CREATEROLE reaches every role that is not a superuser"
    yield from _own(seen[config.user], config)
    yield from _room(connection, config)
    yield from suspicions(connection)
    yield from (f"missing: {fault}" for fault in fingerprints(connection)[1])
    yield from _keeper(connection, seen.get(config.quarantine), config)
    for role in sorted(meant):
        if role not in seen:
            yield f"missing: there is no role {role}"
            continue
        if modern and not any(
            (found := group_of(right)) and found[:2] == (role, True) for right in seen[config.user].rights
        ):
            yield f"missing: {config.user} may not grant {role}"
    yield from _lent(connection, lines, config)
    for meaning in config.entitlements.values():
        if meaning.set_role:
            yield f"note: leases of {', '.join(meaning.roles)} can make things in its name, which stay: set_role"


def _room(connection: Connection, config: PostgresqlConfig) -> Iterator[str]:
    """Say when a few leases could take all connections, so that the broker cannot come in to end them."""
    look = sql.SQL(
        "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int, "
        "coalesce(current_setting('reserved_connections', true)::int, 0) > 0 "
        "AND EXISTS (SELECT FROM pg_roles WHERE rolname = {reserved} AND pg_has_role(oid, 'USAGE'))"
    )
    ((room, reserved),) = run(connection, look.format(reserved=sql.Literal(RESERVED)))
    limits = sum(meaning.connection_limit for meaning in config.entitlements.values())
    if reserved or limits * 2 <= room:
        return
    modern = connection.info.server_version >= PROTOCOL_16
    how = f"set reserved_connections and grant {RESERVED} to {config.user}" if modern else "lower connection_limit"
    yield f"note: one lease of each entitlement may take {limits} of {room} connections, and the broker then cannot come in: {how}"


def _own(own: Seen, config: PostgresqlConfig) -> Iterator[str]:
    for word in ("SUPERUSER", "CREATEDB", "REPLICATION", "BYPASSRLS"):
        if word in own.rights:
            yield f"too mighty: {config.user} is {word}"
    if not {"CREATEROLE", "SUPERUSER"} & own.rights:
        yield f"missing: {config.user} needs CREATEROLE"
    needed = {"pg_signal_backend", config.quarantine}
    for right in sorted(own.rights):
        member = group_of(right)
        if member and member[0] not in needed | config.lent() | {RESERVED} and not is_own_account(member[0]):
            yield f"too mighty: {config.user} is {right}"
        if member and is_own_account(member[0]) and not right.endswith(TIED):
            yield f"note: {config.user} has the rights of {member[0]}, whose end is not finished"
        if " on " in right and not right.startswith(("member of ", "CONNECT on database ", *_set_up(config))):
            yield f"too mighty: {config.user} has {right}"
    if own.owns:
        yield f"too mighty: {config.user} owns {', '.join(sorted(own.owns))}"
    for group in sorted(needed):
        if not any(right.startswith(f"member of {group}") for right in own.rights):
            yield f"missing: {config.user} is no member of {group}"


def _set_up(config: PostgresqlConfig) -> tuple[str, ...]:
    """Return the rights on things that the printed script gives the broker."""
    things = (
        "USAGE on schema jitaccess",
        *(f"EXECUTE on routine jitaccess.{name}" for name in ("fingerprints()", "disable(text)")),
    )
    return tuple(f"{thing} in {config.database}" for thing in things)


def _keeper(connection: Connection, keeper: Seen | None, config: PostgresqlConfig) -> Iterator[str]:
    if keeper is None:
        yield f"missing: there is no role {config.quarantine}"
    elif keeper.enabled or {*ATTRIBUTES} & keeper.rights or any(r.startswith("member of") for r in keeper.rights):
        yield f"too mighty: {config.quarantine} must not log in and must have no rights of its own"
    for (database,) in run(
        connection,
        sql.SQL(
            "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate AND NOT "
            "has_database_privilege(%s, oid, 'CREATE') ORDER BY 1"
        ),
        [config.quarantine if keeper is not None else config.user],
    ):
        yield f"missing: {config.quarantine} may not create a schema in the database {database}"


def _lent(connection: Connection, lines: Lines, config: PostgresqlConfig) -> Iterator[str]:
    """Say which lent roles have a right that outlives a lease or beats its end, so that nothing is opened."""
    for set_role in (False, True):
        lent = {
            role for meaning in config.entitlements.values() if meaning.set_role is set_role for role in meaning.roles
        }
        for against in objections(connection, lines, config, lent, set_role=set_role) if lent else ():
            yield f"too mighty: nothing is opened: {against.text}{', or say set_role: true' if against.meant else ''}"
    yield from (f"note: {text}" for text in noted(connection, config.lent()))
