"""PostgreSQL: a login role for one lease, ended with its sessions, its leftovers and its name (versions 15 to 18 are tested).

The role is born in one statement string, sent at once, whose last statement raises when the *server's* clock is past the deadline: the
server does all of it or nothing. The password reaches the server only as a SCRAM verifier that libpq computes. `VALID UNTIL`
binds password logins only and no open session: `cut` ends those. What the person left behind: tables, views, sequences and types are kept
under a rightless role, in a schema named after the lease; everything that is code (routines, and the triggers that call them) is dropped.
Every name goes through `psycopg.sql`. No statement runs with another search path than `pg_catalog`.
"""

import os
import select as poll
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, cast

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow
from pydantic import Field, StringConstraints, model_validator

from jitaccess.connectors.contract import (
    Account,
    ConnectorKind,
    Credential,
    Effect,
    EnforcesExpiry,
    Inventory,
    KindConfig,
    LeaseSpec,
    NotDone,
    Proofs,
    Quarantined,
    Secret,
    SecretName,
    Surroundings,
    Unreachable,
    is_own_account,
)
from jitaccess.told import told

Name = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z_][a-zA-Z0-9_$-]{0,62}$")]
"""A role or database. PostgreSQL cuts names at 63 bytes, so that two longer ones would be the same."""
Host = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:/-]{1,253}$")]
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
CONNECT_LIMIT_S = 5
CALL_LIMIT_S = 20.0
"""A connection that is not done by then is closed under its caller: a server that hangs holds no thread for ever."""
STATEMENT_LIMIT_MS = 10_000
LOCK_LIMIT_MS = 3_000
SESSIONS_GONE_LIMIT_S = 5.0
LOOK_AGAIN_S = 0.005
CHUNK = 100
"""Roles a statement."""
KEEP_IDLE = 4
UNCERTAIN_CLASSES = ("08", "57P")
"""SQLSTATEs after which nobody knows whether the transaction committed: the connection broke, the server is stopping."""
PROTOCOL_16 = 160_000
Connection = psycopg.Connection[TupleRow]


class Meaning(KindConfig):
    """What an entitlement is on a PostgreSQL server: membership in these roles."""

    roles: list[Name] = Field(min_length=1, max_length=20)
    connection_limit: int = Field(default=8, ge=1, le=1000)


class PostgresqlConfig(KindConfig):
    """Where the server is, how the broker gets in, what each entitlement means."""

    kind: Literal["postgresql"]
    host: Host
    """A name or address, or the folder of a Unix socket."""
    port: int = Field(default=5432, ge=1, le=65535)
    database: Name
    """Where people log in; the broker looks into every database of the server when it cleans."""
    tls: Literal["verify-full", "none"] = "verify-full"
    """`none` only for this very machine: a Unix socket or a loopback address."""
    root_ca: str = Field(default="", max_length=500)
    """File with the certificate authorities that may sign the server's certificate; empty: those of the system."""
    user: Name = "jit_broker"
    secret: SecretName
    quarantine: Name = "jit_quarantine"
    """The rightless role that keeps what people leave behind."""
    entitlements: dict[str, Meaning]

    @model_validator(mode="after")
    def _verified(self) -> "PostgresqlConfig":
        if self.tls == "none" and not self.host.startswith("/") and self.host not in LOOPBACK:
            raise ValueError("`tls: none` is for a Unix socket or a loopback address only")
        return self


def _ident(*names: str) -> sql.Identifier:
    return sql.Identifier(*names)


def _stamp(at: datetime) -> sql.Literal:
    """Return a time as text: a Literal of a datetime carries a cast that CREATE ROLE does not take."""
    return sql.Literal(at.astimezone(UTC).isoformat())


class Lines:
    """Connections to one server; a few to the database where people log in are kept for the next call."""

    def __init__(self, config: PostgresqlConfig, around: Surroundings) -> None:
        self._config = config
        self._around = around
        self._idle: list[Connection] = []
        self._guard = threading.Lock()

    @contextmanager
    def line(self, database: str | None = None) -> Iterator[Connection]:
        """Give a connection with a limit on all of its use; after an error it is closed, else kept. Raises Unreachable."""
        name = database or self._config.database
        connection = (self._take() if name == self._config.database else None) or self._connect(name)
        watch = threading.Timer(CALL_LIMIT_S, _shut, (connection,))
        watch.daemon = True
        watch.start()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        finally:
            watch.cancel()
        with self._guard:
            if name == self._config.database and not connection.closed and len(self._idle) < KEEP_IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def _take(self) -> Connection | None:
        """Return a kept connection that the server has not closed meanwhile."""
        while True:
            with self._guard:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            if not connection.closed and not poll.select([connection.fileno()], [], [], 0)[0]:
                return connection
            connection.close()

    def _connect(self, database: str) -> Connection:
        failure: psycopg.Error | None = None
        for secret in self._around.secrets(self._config.secret):
            try:
                return self.connect(secret, database)
            except psycopg.Error as error:
                failure = error
        raise Unreachable("the server cannot be reached or refuses the broker") from failure

    def connect(self, secret: Secret, database: str | None = None) -> Connection:
        """Open a connection with this secret of the broker's own."""
        config = self._config
        settings = {
            "search_path": "pg_catalog",
            "statement_timeout": STATEMENT_LIMIT_MS,
            "lock_timeout": LOCK_LIMIT_MS,
            "idle_in_transaction_session_timeout": STATEMENT_LIMIT_MS,
        }
        local = config.tls == "none"
        return psycopg.connect(
            host=config.host,
            port=config.port,
            dbname=database or config.database,
            user=config.user,
            password=secret.reveal(),
            sslmode="disable" if local else "verify-full",
            sslrootcert="" if local else config.root_ca or "system",
            gssencmode="disable",
            require_auth="scram-sha-256",
            connect_timeout=CONNECT_LIMIT_S,
            options=" ".join(f"-c {name}={value}" for name, value in settings.items()),
            application_name="jitaccess",
            autocommit=True,
            prepare_threshold=None,
        )

    def close(self) -> None:
        """Close what is kept."""
        with self._guard:
            for connection in self._idle:
                connection.close()
            self._idle.clear()


def _shut(connection: Connection) -> None:
    """Break a connection under a caller that waits on it."""
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as twin:
        twin.shutdown(socket.SHUT_RDWR)


def _run(connection: Connection, statement: sql.Composable, values: Sequence[object] | None = None) -> list[TupleRow]:
    """Run a statement, or a string of them as one transaction of the server; return the last rows."""
    cursor = connection.execute(cast(Any, statement), values)
    while cursor.nextset():
        pass
    return cursor.fetchall() if cursor.description is not None else []


def _roles(connection: Connection, names: Sequence[str]) -> dict[str, int]:
    """Return name -> oid of those roles that exist."""
    rows = _run(connection, sql.SQL("SELECT rolname, oid FROM pg_roles WHERE rolname = ANY(%s)"), [list(names)])
    return {str(name): int(oid) for name, oid in rows}


class PostgresqlConnector:
    """One PostgreSQL server."""

    def __init__(self, config: PostgresqlConfig, around: Surroundings) -> None:
        self._config = config
        self._around = around
        self._lines = Lines(config, around)

    # -- making

    def plan(self, spec: LeaseSpec) -> Effect:
        """Plan one login role with memberships."""
        meaning = self._config.entitlements[spec.entitlement]
        return Effect(
            "postgresql",
            spec.account,
            {
                "roles": [*meaning.roles],
                "connection_limit": meaning.connection_limit,
                "valid_until": spec.ends_at.astimezone(UTC).isoformat(),
            },
        )

    def apply(self, effect: Effect, deadline: datetime) -> Credential:
        """Create the role, grant the memberships and check the deadline on the server, in one transaction."""
        _own(effect.name)
        password = self._around.draw()
        with self._lines.line() as connection:
            verifier = connection.pgconn.encrypt_password(password.encode(), effect.name.encode(), b"scram-sha-256")
            born = sql.SQL(
                "CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS INHERIT "
                "CONNECTION LIMIT {limit} PASSWORD {verifier} VALID UNTIL {until}; {grants}; "
                "SELECT 1 / (clock_timestamp() < {deadline}::timestamptz)::int"
            ).format(
                role=_ident(effect.name),
                limit=sql.Literal(cast(int, effect.detail["connection_limit"])),
                verifier=sql.Literal(verifier.decode()),
                until=sql.Literal(str(effect.detail["valid_until"])),
                grants=sql.SQL("; ").join(
                    sql.SQL("GRANT {} TO {}").format(_ident(role), _ident(effect.name))
                    for role in cast("list[str]", effect.detail["roles"])
                ),
                deadline=_stamp(deadline),
            )
            try:
                _run(connection, born)
            except psycopg.Error as error:
                # The server undid all of it, unless it was stopping or the line broke: then nobody knows.
                if error.sqlstate is None or error.sqlstate.startswith(UNCERTAIN_CLASSES):
                    raise
                raise NotDone(f"the server refused with {error.sqlstate}") from None
        return Credential(
            secret=Secret(password),
            username=effect.name,
            command=self._command(effect.name),
            note=told("Paste the password when psql asks for it."),
        )

    def _command(self, user: str) -> str:
        config = self._config
        parts = {"host": config.host, "port": str(config.port), "dbname": config.database, "user": user}
        parts["sslmode"] = "disable" if config.tls == "none" else "verify-full"
        if config.root_ca:
            parts["sslrootcert"] = config.root_ca
        return f'psql "{psycopg.conninfo.make_conninfo(**parts)}"'

    def bury(self, effect: Effect) -> None:
        """Take the name: a birth in progress is waited for, a later one fails on the name."""
        _own(effect.name)
        with self._lines.line() as connection, suppress(psycopg.errors.DuplicateObject):
            _run(connection, sql.SQL("CREATE ROLE {} NOLOGIN CONNECTION LIMIT 0").format(_ident(effect.name)))

    # -- ending

    def cut(self, effects: Sequence[Effect]) -> Proofs:
        """Lock the logins, end the sessions, roll prepared transactions back, read back."""
        names = [_own(effect.name) for effect in effects]
        with self._lines.line() as connection:
            return self._cut(connection, names)

    def _cut(self, connection: Connection, names: Sequence[str]) -> Proofs:
        oids = _roles(connection, names)
        for part in _chunks(sorted(oids)):
            locked = [
                sql.SQL("ALTER ROLE {} NOLOGIN PASSWORD NULL CONNECTION LIMIT 0").format(_ident(name)) for name in part
            ]
            _run(connection, sql.SQL("; ").join(locked))
        if oids:
            _end_sessions(connection, [*oids.values()])
            self._roll_back_prepared(connection, [*oids])
        found = _run(
            connection, sql.SQL("SELECT rolname FROM pg_roles WHERE rolname = ANY(%s) AND rolcanlogin"), [[*names]]
        )
        if found:
            raise RuntimeError("a role can still log in")
        return {name: {"login": "locked" if name in oids else "absent", "sessions": 0, "prepared": 0} for name in names}

    def _roll_back_prepared(self, connection: Connection, names: Sequence[str]) -> None:
        """Roll back prepared transactions: they keep locks and rights, and only their own role may, in their database."""
        look = sql.SQL("SELECT database, owner, gid FROM pg_prepared_xacts WHERE owner = ANY(%s)")
        for database, owner, gid in _run(connection, look, [[*names]]):
            self._join(connection, owner)
            with self._lines.line(database) as other:
                _run(other, sql.SQL("SET ROLE {}").format(_ident(owner)))
                _run(other, sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid)))
                _run(other, sql.SQL("RESET ROLE"))
        if _run(connection, look, [[*names]]):
            raise RuntimeError("a prepared transaction is left")

    def _join(self, connection: Connection, name: str) -> None:
        """Make the broker a member of a role, so that it may act for it; the membership goes with the role."""
        how = " WITH INHERIT TRUE, SET TRUE" if connection.info.server_version >= PROTOCOL_16 else ""
        _run(
            connection,
            sql.SQL("GRANT {} TO {}" + how).format(_ident(name), _ident(self._config.user)),
        )

    def clean(self, effects: Sequence[Effect]) -> Proofs:
        """Neutralise what was left behind, take rights away in every database, drop the roles, read back."""
        names = [_own(effect.name) for effect in effects]
        with self._lines.line() as connection:
            return self._clean(connection, names)

    def _clean(self, connection: Connection, names: Sequence[str]) -> Proofs:
        oids = _roles(connection, names)
        kept: dict[str, int] = {}
        for name, databases in _traces(connection, oids).items():
            self._join(connection, name)
            kept[name] = 0
            for database in sorted({database or self._config.database for database in databases}):
                with self._lines.line(database) as other:
                    kept[name] += _neutralise(other, name, oids[name], self._config.quarantine)
        for part in _chunks(sorted(oids)):
            _run(connection, sql.SQL("DROP ROLE {}").format(sql.SQL(", ").join(map(_ident, part))))
        if _roles(connection, names):
            raise RuntimeError("a role is still there")
        _end_sessions(connection, [*oids.values()])  # one that was logging in while its role was being locked
        return {name: {"account": "absent", **({"kept": kept[name]} if name in kept else {})} for name in names}

    # -- looking

    def expects(self, effect: Effect, ends_at: datetime) -> Account:
        """Return the role with its memberships and no other right."""
        rights = frozenset(f"member of {role}" for role in cast("list[str]", effect.detail["roles"]))
        return Account(effect.name, rights, expires_at=ends_at)

    def observe(self) -> Inventory:
        """List roles with attributes, memberships, sessions, ends, and in which databases they own or may do something."""
        with self._lines.line() as connection:
            seen = _accounts(connection)
            prints = _fingerprints(connection)
        coverage = {"accounts", "attributes", "memberships", "expiry", "sessions", "owned objects", "grants"}
        if prints:
            coverage.add("keys")
        accounts = {
            name: Account(
                name,
                frozenset(found.rights),
                found.sessions,
                found.enabled,
                found.expires_at,
                prints.get(name, ""),
                frozenset(found.owns),
            )
            for name, found in seen.items()
        }
        return Inventory(accounts, frozenset(coverage), own=self._config.user)

    def quarantine(self, account: str, *, remove: bool) -> Quarantined:
        """Lock a role and end its sessions, or drop it; say what the owner has to run where the broker may not."""
        if account in (self._config.user, self._config.quarantine):
            return Quarantined(False)
        text = "DROP ROLE {};" if remove else "ALTER ROLE {} NOLOGIN;"
        statement = sql.SQL(text).format(_ident(account))
        with self._lines.line() as connection:
            try:
                self._cut(connection, [account])
                if remove:
                    self._clean(connection, [account])
                return Quarantined(True)
            except psycopg.errors.InsufficientPrivilege:
                if _run(connection, sql.SQL("SELECT to_regprocedure('jitaccess.disable(text)') IS NOT NULL"))[0][0]:
                    _run(connection, sql.SQL("SELECT jitaccess.disable(%s)"), [account])
                    _end_sessions(connection, [*_roles(connection, [account]).values()])
                    return Quarantined(True, statement.as_string(connection) if remove else "")
                return Quarantined(False, statement.as_string(connection))

    # -- the broker's own account

    def probe(self) -> tuple[str, ...]:
        """Compare the broker's own role with what it needs."""
        with self._lines.line() as connection:
            return tuple(_findings(connection, self._config))

    def rotate_own(self, old: Secret, new: Secret) -> None:
        """Set the new password as a verifier; with the old one, or with the new one when that was done before."""
        for secret in (old, new):
            try:
                connection = self._lines.connect(secret)
            except psycopg.OperationalError:
                continue
            with connection:
                user = self._config.user
                verifier = connection.pgconn.encrypt_password(new.reveal().encode(), user.encode(), b"scram-sha-256")
                change = sql.SQL("ALTER ROLE {} PASSWORD {}").format(_ident(user), sql.Literal(verifier.decode()))
                _run(connection, change)
            self._lines.connect(new).close()
            return
        raise Unreachable("the server takes neither the old nor the new secret of the broker")

    def close(self) -> None:
        """Close kept connections."""
        self._lines.close()


# ---------------------------------------------------------------- pieces


def _own(name: str) -> str:
    """Return a name that a lease made; anything else is a defect or an attack, and nothing is done to it."""
    if not is_own_account(name):
        raise ValueError("not the name of a lease's account")
    return name


def _chunks(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), CHUNK):
        yield names[start : start + CHUNK]


def _end_sessions(connection: Connection, oids: Sequence[int]) -> None:
    """End every session of these roles, whatever role they set, and wait until none is left; raises when one stays.

    A login in progress shows only once it is through: so the look is repeated until nothing is there, and again after the role is gone.
    """
    end = sql.SQL(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usesysid = ANY(%s) AND pid <> pg_backend_pid()"
    )
    for _ in range(int(SESSIONS_GONE_LIMIT_S / LOOK_AGAIN_S)):
        if _run(connection, end, [[*oids]])[0][0] == 0:
            return
        time.sleep(LOOK_AGAIN_S)
    raise RuntimeError("a session does not end")


def _traces(connection: Connection, oids: Mapping[str, int]) -> dict[str, set[str | None]]:
    """Return, for roles that own something or were granted something, the databases where; None for what is shared."""
    rows = _run(
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


def _neutralise(connection: Connection, name: str, oid: int, quarantine: str) -> int:
    """Keep a role's data under the quarantine role, drop its code and its grants in this database; return how much was kept.

    Nobody can be that role any more; it keeps its memberships until it is dropped, because without them its things cannot be named.
    """
    keeper, place = _ident(quarantine), _ident(name)
    kept = 0
    with connection.transaction():
        schemas = _run(connection, sql.SQL("SELECT nspname FROM pg_namespace WHERE nspowner = %s"), [oid])
        own = {str(schema) for (schema,) in schemas if not str(schema).startswith("pg_")}
        for schema in own:
            _run(connection, sql.SQL("ALTER SCHEMA {} OWNER TO {}").format(_ident(schema), keeper))
        made = False
        for kind, look in _OWNED.items():
            for schema, thing in _run(connection, sql.SQL(look), [oid]):
                if schema not in own:
                    if not made:
                        _run(
                            connection, sql.SQL("CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {}").format(place, keeper)
                        )
                        made = True
                    move = sql.SQL("ALTER {} {} SET SCHEMA {}")
                    _run(connection, move.format(sql.SQL(kind), _ident(schema, thing), place))
                there = _ident(schema if schema in own else name, thing)
                _run(connection, sql.SQL("ALTER {} {} OWNER TO {}").format(sql.SQL(kind), there, keeper))
                kept += 1
        _run(connection, sql.SQL("DROP OWNED BY {} CASCADE").format(place))
    return kept + len(own)


@dataclass(slots=True)
class _Seen:
    rights: set[str]
    owns: set[str]
    enabled: bool
    expires_at: datetime | None
    sessions: int


_ATTRIBUTES = ("SUPERUSER", "CREATEDB", "CREATEROLE", "REPLICATION", "BYPASSRLS")


def _accounts(connection: Connection) -> dict[str, _Seen]:
    rows = _run(
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
    seen: dict[str, _Seen] = {}
    for oid, name, login, until, *attributes, sessions in rows:
        names[int(oid)] = name
        rights = {word for word, there in zip(_ATTRIBUTES, attributes, strict=True) if there}
        end = datetime.fromtimestamp(until, UTC) if until is not None else None
        seen[name] = _Seen(rights, set(), bool(login), end, int(sessions))
    members = _run(
        connection,
        sql.SQL(
            "SELECT u.rolname, g.rolname, bool_or(m.admin_option) FROM pg_auth_members m "
            "JOIN pg_roles u ON u.oid = m.member JOIN pg_roles g ON g.oid = m.roleid GROUP BY 1, 2"
        ),
    )
    for member, group, admin in members:
        if member in seen:
            seen[member].rights.add(f"member of {group}{' with admin option' if admin else ''}")
    traces = _run(
        connection,
        sql.SQL(
            "SELECT s.refobjid, s.deptype::text, s.classid::regclass::text, coalesce(d.datname, ''), count(*) "
            "FROM pg_shdepend s LEFT JOIN pg_database d ON d.oid = s.dbid WHERE s.refclassid = 'pg_authid'::regclass "
            "AND s.classid <> 'pg_auth_members'::regclass AND s.deptype IN ('o', 'a') GROUP BY 1, 2, 3, 4"
        ),
    )
    for oid, how, what, database, count in traces:
        if int(oid) in names:
            found = seen[names[int(oid)]]
            place = f" in {database}" if database else ""
            if how == "o":
                found.owns.add(f"{count} of {what}{place}")
            else:
                found.rights.add(f"grants on {count} of {what}{place}")
    return seen


def _fingerprints(connection: Connection) -> dict[str, str]:
    """Return name -> digest of what proves each role, where the owner installed the function that tells."""
    if not _run(connection, sql.SQL("SELECT to_regprocedure('jitaccess.fingerprints()') IS NOT NULL"))[0][0]:
        return {}
    rows = _run(connection, sql.SQL("SELECT name, fingerprint FROM jitaccess.fingerprints()"))
    return {str(name): str(value) for name, value in rows}


def _findings(connection: Connection, config: PostgresqlConfig) -> Iterator[str]:
    seen = _accounts(connection)
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
    if own.owns:
        yield f"too mighty: {config.user} owns {', '.join(sorted(own.owns))}"
    for group in sorted(needed):
        if not any(right.startswith(f"member of {group}") for right in own.rights):
            yield f"missing: {config.user} is no member of {group}"
    if keeper is None:
        yield f"missing: there is no role {config.quarantine}"
    elif keeper.enabled or {*_ATTRIBUTES} & keeper.rights or any(r.startswith("member of") for r in keeper.rights):
        yield f"too mighty: {config.quarantine} must not log in and must have no rights of its own"
    for role in sorted(meant):
        if role not in seen:
            yield f"missing: there is no role {role}"
        elif {"SUPERUSER", "CREATEROLE", "REPLICATION"} & seen[role].rights:
            yield f"too mighty: a lease of {role} could give itself rights that outlive it"
        elif modern and f"member of {role} with admin option" not in own.rights:
            yield f"missing: {config.user} may not grant {role}"
    for (database,) in _run(
        connection,
        sql.SQL(
            "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate AND NOT "
            "has_database_privilege(%s, oid, 'CREATE') ORDER BY 1"
        ),
        [config.quarantine if keeper is not None else config.user],
    ):
        yield f"missing: {config.quarantine} may not create a schema in the database {database}"


EXAMPLE = PostgresqlConfig(
    kind="postgresql",
    host="db.example",
    database="app",
    secret="app-broker",  # noqa: S106 - the name of a file, not a secret
    entitlements={"reader": Meaning(roles=["app_read"])},
)


def setup(config: PostgresqlConfig | None) -> str:
    """Return a psql script for the server's owner: the least that the broker needs, and what may be added."""
    config = config or EXAMPLE
    roles = sorted({role for meaning in config.entitlements.values() for role in meaning.roles})
    user, keeper = _ident(config.user).as_string(), _ident(config.quarantine).as_string()
    grants = "\n".join(
        f"GRANT {_ident(role).as_string()} TO {user} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE;" for role in roles
    )
    return _SETUP.format(
        user=user,
        keeper=keeper,
        database=_ident(config.database).as_string(),
        grants=grants,
        secret=config.secret,
        user_text=sql.Literal(config.user).as_string(),
        keeper_text=sql.Literal(config.quarantine).as_string(),
    )


_SETUP = """\
-- Run with psql as a superuser of the server. The roles that entitlements name must be there already.
\\set ON_ERROR_STOP on
CREATE ROLE {keeper} NOLOGIN;
CREATE ROLE {user} LOGIN CREATEROLE CONNECTION LIMIT 20;
-- Put the same password into the file {secret} of targets.secrets_dir (chmod 600); `jitaccess targets rotate` changes it.
\\password {user}
GRANT pg_signal_backend TO {user};
SELECT current_setting('server_version_num')::int >= 160000 AS jit_16 \\gset
\\if :jit_16
GRANT {keeper} TO {user} WITH INHERIT TRUE, SET TRUE;
{grants}
\\else
GRANT {keeper} TO {user};
\\endif
-- For every database of the server in which people could leave something behind:
GRANT CONNECT ON DATABASE {database} TO {user};
GRANT CREATE ON DATABASE {database} TO {keeper};

-- Optional, in the database {database}: let the broker see that a password was changed, and lock roles that it may not alter
-- (superusers that nothing explains). Both functions run with your rights; only the broker may call them.
CREATE SCHEMA jitaccess;
REVOKE ALL ON SCHEMA jitaccess FROM PUBLIC;
GRANT USAGE ON SCHEMA jitaccess TO {user};
CREATE FUNCTION jitaccess.fingerprints() RETURNS TABLE (name text, fingerprint text)
  LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS
  $$ SELECT rolname::text, encode(sha256(convert_to(coalesce(rolpassword, '') || oid::text, 'UTF8')), 'hex') FROM pg_authid $$;
CREATE FUNCTION jitaccess.disable(account text) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
  IF account IN (session_user, current_user, {user_text}, {keeper_text}) OR (SELECT oid FROM pg_authid WHERE rolname = account) = 10 THEN
    RAISE EXCEPTION 'this account is never disabled';
  END IF;
  EXECUTE format('ALTER ROLE %I NOLOGIN', account);
  PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = account;
END $$;
REVOKE ALL ON FUNCTION jitaccess.fingerprints(), jitaccess.disable(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION jitaccess.fingerprints(), jitaccess.disable(text) TO {user};
"""


KIND = ConnectorKind(
    "postgresql",
    PostgresqlConfig,
    PostgresqlConnector,
    setup,
    enforces_expiry=EnforcesExpiry.LOGINS,
    place=("host", "port"),
)
