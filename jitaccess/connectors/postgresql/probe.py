"""What the broker's own account lacks, or can do beyond need."""

from collections.abc import Iterator

from psycopg import sql

from jitaccess.connectors.contract import is_own_account
from jitaccess.connectors.postgresql.config import PostgresqlConfig
from jitaccess.connectors.postgresql.inventory import ATTRIBUTES, accounts
from jitaccess.connectors.postgresql.lines import PROTOCOL_16, Connection, run
from jitaccess.connectors.postgresql.owners import suspicions


def findings(connection: Connection, config: PostgresqlConfig) -> Iterator[str]:
    """Compare the broker's own role, the keeping role and the lent roles with what is needed."""
    seen = accounts(connection)
    own, keeper = seen[config.user], seen.get(config.quarantine)
    modern = connection.info.server_version >= PROTOCOL_16
    for word in ("SUPERUSER", "CREATEDB", "REPLICATION", "BYPASSRLS"):
        if word in own.rights:
            yield f"too mighty: {config.user} is {word}"
    if not {"CREATEROLE", "SUPERUSER"} & own.rights:
        yield f"missing: {config.user} needs CREATEROLE"
    if not modern:
        yield "note: before version 16 CREATEROLE reaches every role that is not a superuser"
    set_up = {"pg_database", f"pg_namespace in {config.database}", f"pg_proc in {config.database}"}
    needed = {"pg_signal_backend", config.quarantine}
    meant = {role for meaning in config.entitlements.values() for role in meaning.roles}
    for right in sorted(own.rights):
        group = right.removeprefix("member of ").removesuffix(" with admin option")
        if right.startswith("member of ") and group not in needed | meant and not is_own_account(group):
            yield f"too mighty: {config.user} is {right}"
        if right.startswith("grants on ") and right.rpartition(" of ")[2] not in set_up:
            yield f"too mighty: {config.user} has {right}"
    yield from suspicions(connection)
    if own.owns:
        yield f"too mighty: {config.user} owns {', '.join(sorted(own.owns))}"
    for group in sorted(needed):
        if not any(right.startswith(f"member of {group}") for right in own.rights):
            yield f"missing: {config.user} is no member of {group}"
    if keeper is None:
        yield f"missing: there is no role {config.quarantine}"
    elif keeper.enabled or {*ATTRIBUTES} & keeper.rights or any(r.startswith("member of") for r in keeper.rights):
        yield f"too mighty: {config.quarantine} must not log in and must have no rights of its own"
    for role in sorted(meant):
        if role not in seen:
            yield f"missing: there is no role {role}"
        elif {"SUPERUSER", "CREATEROLE", "REPLICATION"} & seen[role].rights:
            yield f"too mighty: a lease of {role} could give itself rights that outlive it"
        elif modern and f"member of {role} with admin option" not in own.rights:
            yield f"missing: {config.user} may not grant {role}"
    for (database,) in run(
        connection,
        sql.SQL(
            "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate AND NOT "
            "has_database_privilege(%s, oid, 'CREATE') ORDER BY 1"
        ),
        [config.quarantine if keeper is not None else config.user],
    ):
        yield f"missing: {config.quarantine} may not create a schema in the database {database}"
