"""MariaDB: an account for one lease, ended with its sessions, its leftovers and its name (10.6 and later; 10.11 is tested).

The broker's own account may do nothing but call six procedures, which `targets setup` installs (mariadb.sql beside this file): they run as
an account nobody can log in with, touch only accounts named after a lease, and quote every name themselves (ADR 28). An account is born
locked and unlocked last, when the *server's* clock is before the deadline. An EVENT of the server locks it and ends its sessions at
the lease's end, also when the broker is dead. `PASSWORD EXPIRE` counts in days and is set as well, as a second line.
"""

import hashlib
import re
import shlex
import socket
import ssl
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, cast

import pymysql
from pydantic import Field, StringConstraints, model_validator
from pymysql.converters import escape_string
from pymysql.cursors import DictCursor

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
    NotReady,
    Proofs,
    Quarantined,
    Secret,
    SecretName,
    Surroundings,
    Unreachable,
    is_own_account,
)
from jitaccess.proof.canonical import JsonValue
from jitaccess.told import told

Name = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z_][a-zA-Z0-9_$-]{0,63}$")]
"""A role, account or database. MariaDB takes 128 characters for accounts (80 before 10.5) and 64 for databases."""
Host = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:/-]{1,253}$")]
HostPattern = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:/%-]{1,253}$")]
"""From where an account may log in: an address, a name, a network such as `10.1.2.0/255.255.255.0`, or with `%`."""
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
KEEPER = "jit_keeper"
CLOCK = "(the server's clock)"
"""Under this name a clock that is wrong is found, as an account that nothing explains."""
CLOCK_OFF = timedelta(seconds=5)
CA_FILE = "server-ca.pem"
"""What the file with the server's authorities is called when a person gets it."""
CONNECT_LIMIT_S = 5
CALL_LIMIT_S = 20.0
"""A connection that is not done by then is closed under its caller: a server that hangs holds no thread for ever."""
SESSION = (
    "SET time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_CREATE_USER,NO_ENGINE_SUBSTITUTION', "
    "lock_wait_timeout = 3, innodb_lock_wait_timeout = 3, max_statement_time = 15, wait_timeout = 60"
)
KEEP_IDLE = 4
CHUNK = 100
"""Accounts a call."""
DAY_S = 86_400
SCRIPT = 5
"""Which edition of mariadb.sql this file speaks to."""
NOTHING_MADE = 31_001
NOT_READY = 31_004
NO_PROCEDURE = frozenset({1305, 1370})
NOT_ALLOWED = frozenset({1227, *NO_PROCEDURE})
NATIVE = "mysql_native_password"
IN_MEMORY = "in memory only"
"""An account without a row: the server lets it in until it reads its tables again."""
NO_ACCOUNT = "session without an account"
Row = Mapping[str, Any]
Connection: TypeAlias = "pymysql.Connection[DictCursor]"


class Meaning(KindConfig):
    """What an entitlement is on a MariaDB server: one role, which is on from the login; it may hold others."""

    role: Name
    connection_limit: int = Field(default=8, ge=1, le=1000)


class MariadbConfig(KindConfig):
    """Where the server is, how the broker gets in, what each entitlement means."""

    kind: Literal["mariadb"]
    host: Host
    """A name or address, or the path of a Unix socket."""
    port: int = Field(default=3306, ge=1, le=65535)
    database: Name
    """What people's command opens; their rights are those of the role, in whatever database."""
    tls: Literal["verify-full", "none"] = "verify-full"
    """`none` only for this very machine: a Unix socket or a loopback address."""
    root_ca: str = Field(default="", max_length=500)
    """File with the certificate authorities that may sign the server's certificate; empty: those of the system."""
    user: Name = "jit_broker"
    user_host: HostPattern = "%"
    secret: SecretName
    account_host: HostPattern = "%"
    """From where people may log in."""
    sessions: Literal["all", "visible"] = "all"
    """`visible`: be content without performance_schema, which alone shows a session inside somebody else's routine."""
    roll_back_prepared: bool = False
    """True where no application uses XA: prepared transactions, which carry no name, are rolled back when a lease ends."""
    entitlements: dict[str, Meaning]

    @model_validator(mode="after")
    def _verified(self) -> "MariadbConfig":
        if self.tls == "none" and not self.host.startswith("/") and self.host not in LOOPBACK:
            raise ValueError("`tls: none` is for a Unix socket or a loopback address only")
        return self


def verifier(password: str) -> str:
    """Return what the server stores of a password: `*` and SHA1(SHA1(password)) in hex, 41 characters (mysql_native_password)."""
    inner = hashlib.sha1(password.encode(), usedforsecurity=False).digest()
    return "*" + hashlib.sha1(inner, usedforsecurity=False).hexdigest().upper()


class Lines:
    """Connections to one server; a few are kept for the next call."""

    def __init__(self, config: MariadbConfig, around: Surroundings) -> None:
        self._config = config
        self._around = around
        self._idle: list[tuple[Connection, socket.socket]] = []
        self._guard = threading.Lock()

    @contextmanager
    def line(self) -> Iterator[Connection]:
        """Give a connection with a limit on all of its use; after an error it is closed, else kept. Raises Unreachable."""
        connection, plain = self._take() or self._connect()
        watch = threading.Timer(CALL_LIMIT_S, _shut, (plain,))
        watch.daemon = True
        watch.start()
        try:
            yield connection
        except BaseException:
            _close(connection, plain)
            raise
        finally:
            watch.cancel()
        with self._guard:
            if len(self._idle) < KEEP_IDLE:
                self._idle.append((connection, plain))
                return
        _close(connection, plain)

    def _take(self) -> tuple[Connection, socket.socket] | None:
        """Return a kept connection that still answers."""
        while True:
            with self._guard:
                if not self._idle:
                    return None
                connection, plain = self._idle.pop()
            with suppress(pymysql.Error):
                connection.ping(reconnect=False)
                return connection, plain
            _close(connection, plain)

    def _connect(self) -> tuple[Connection, socket.socket]:
        failure: Exception | None = None
        for secret in self._around.secrets(self._config.secret):
            try:
                return self.connect(secret)
            except (pymysql.Error, OSError) as error:
                failure = error
        raise Unreachable("the server cannot be reached or refuses the broker") from failure

    def connect(self, secret: Secret) -> tuple[Connection, socket.socket]:
        """Open a connection with this secret of the broker's own; also returns a twin of its socket, to break it with."""
        config = self._config
        plain = _socket(config)
        twin = plain.dup()
        try:
            connection: Connection = pymysql.connect(
                host=config.host,
                user=config.user,
                password=secret.reveal(),
                # With a context PyMySQL insists on TLS: a server that offers none is refused before anything secret is said.
                ssl=_context(config),
                ssl_disabled=config.tls == "none",
                charset="utf8mb4",
                autocommit=True,
                local_infile=False,
                read_timeout=CALL_LIMIT_S,
                write_timeout=CALL_LIMIT_S,
                init_command=SESSION,
                cursorclass=DictCursor,
                defer_connect=True,
            )
            connection.connect(plain)
        except BaseException:
            plain.close()
            twin.close()
            raise
        return connection, twin

    def close(self) -> None:
        """Close what is kept."""
        with self._guard:
            for connection, plain in self._idle:
                _close(connection, plain)
            self._idle.clear()


def _socket(config: MariadbConfig) -> socket.socket:
    if config.host.startswith("/"):
        found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        found.settimeout(CONNECT_LIMIT_S)
        found.connect(config.host)
        return found
    found = socket.create_connection((config.host, config.port), CONNECT_LIMIT_S)
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return found


def _context(config: MariadbConfig) -> ssl.SSLContext | None:
    if config.tls == "none":
        return None
    context = ssl.create_default_context(cafile=config.root_ca or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _shut(plain: socket.socket) -> None:
    """Break a connection under a caller that waits on it."""
    with suppress(OSError):
        plain.shutdown(socket.SHUT_RDWR)


def _close(connection: Connection, plain: socket.socket) -> None:
    with suppress(pymysql.Error):
        connection.close()
    plain.close()


def _run(connection: Connection, statement: str, values: Sequence[object] = ()) -> list[list[Row]]:
    """Run a statement; return every set of rows that it gave."""
    found: list[list[Row]] = []
    with connection.cursor() as cursor:
        cursor.execute(statement, tuple(values))
        while True:
            if cursor.description is not None:
                found.append([*cursor.fetchall()])
            if not cursor.nextset():
                return found


def _call(connection: Connection, procedure: str, *values: object) -> list[list[Row]]:
    """Call one of the broker's procedures."""
    return _run(connection, f"CALL jitaccess.{procedure}({', '.join(['%s'] * len(values))})", values)


def _code(error: pymysql.Error) -> int:
    return error.args[0] if error.args and isinstance(error.args[0], int) else 0


def _clock_found(connection: Connection, around: Surroundings) -> list[str]:
    """Return that the clocks of server and broker differ, or nothing: ends and deadlines are told in the one and kept by the other."""
    before = around.now()
    there = cast(datetime, _run(connection, "SELECT UTC_TIMESTAMP(6) AS there")[0][0]["there"]).replace(tzinfo=UTC)
    if max(before - there, there - around.now()) <= CLOCK_OFF:
        return []
    way = "behind" if there < before else "ahead of"
    return [f"clock: the server is more than {int(CLOCK_OFF.total_seconds())} s {way} the broker"]


class MariadbConnector:
    """One MariaDB server."""

    def __init__(self, config: MariadbConfig, around: Surroundings) -> None:
        self._config = config
        self._around = around
        self._lines = Lines(config, around)

    # -- making

    def plan(self, spec: LeaseSpec) -> Effect:
        """Plan one account with a role."""
        meaning = self._config.entitlements[spec.entitlement]
        seconds = int((spec.ends_at - spec.starts_at).total_seconds())
        detail: dict[str, JsonValue] = {
            "role": meaning.role,
            "connection_limit": meaning.connection_limit,
            "ends_at": spec.ends_at.astimezone(UTC).isoformat(),
            "days": max(1, -(-seconds // DAY_S)),
            "host": self._config.account_host,
        }
        return Effect("mariadb", spec.account, detail)

    def apply(self, effect: Effect, deadline: datetime) -> Credential:
        """Make the account; the server refuses after the deadline by its own clock."""
        _own(effect.name)
        password, authority = self._around.draw(), self._authority()
        detail = cast("Mapping[str, Any]", effect.detail)
        with self._lines.line() as connection:
            if _clock_found(connection, self._around):
                raise NotDone("the clocks of server and broker differ")
            try:
                _call(
                    connection,
                    "make",
                    effect.name,
                    detail["host"],
                    detail["role"],
                    verifier(password),
                    _stamp(datetime.fromisoformat(detail["ends_at"])),
                    _stamp(deadline),
                    detail["connection_limit"],
                    detail["days"],
                    self._config.tls != "none",
                    self._config.sessions == "all",
                )
            except pymysql.Error as error:
                if _code(error) == NOTHING_MADE and f": {NOT_READY} " in str(error.args[1]):
                    raise NotReady(f"the server refused: {error.args[1]}") from None
                if _code(error) == NOTHING_MADE or _code(error) in NO_PROCEDURE:
                    raise NotDone(f"the server refused: {error.args[1]}") from None
                raise
        note = (
            told("Save the file, open a terminal in its folder, and paste the password when the client asks for it.")
            if authority
            else told("Paste the password when the client asks for it.")
        )
        files = {CA_FILE: Secret(authority)} if authority else {}
        return Credential(Secret(password), effect.name, self._command(effect.name), files, note)

    def _authority(self) -> str:
        """Return the text of the file with the server's authorities, which the person needs too; empty where it is the system's."""
        if self._config.tls == "none" or not self._config.root_ca:
            return ""
        try:
            return Path(self._config.root_ca).read_text()
        except (OSError, UnicodeDecodeError):
            raise NotDone("the file of root_ca cannot be read") from None

    def _command(self, user: str) -> str:
        config = self._config
        there = (
            ["--protocol=socket", f"--socket={config.host}"]
            if config.host.startswith("/")
            else ["--protocol=tcp", f"--host={config.host}", f"--port={config.port}"]
        )
        trust = ["--skip-ssl"] if config.tls == "none" else ["--ssl", "--ssl-verify-server-cert"]
        if config.tls != "none" and config.root_ca:
            trust.append(f"--ssl-ca={CA_FILE}")
        return shlex.join(["mariadb", *there, *trust, f"--user={user}", "--password", config.database])

    def bury(self, effect: Effect) -> None:
        """Take the name: a birth in progress undoes itself, a later one fails on the name."""
        _own(effect.name)
        with self._lines.line() as connection:
            _call(connection, "bury", effect.name, str(effect.detail.get("host", self._config.account_host)))

    # -- ending

    def cut(self, effects: Sequence[Effect]) -> Proofs:
        """Lock the accounts, stop their events, end their sessions, read back."""
        names = [_own(effect.name) for effect in effects]
        there: set[str] = set()
        with self._lines.line() as connection:
            if self._config.sessions == "all" and not _run(connection, "SELECT @@performance_schema AS p")[0][0]["p"]:
                raise RuntimeError("the server does not show all sessions: performance_schema is off")
            for part in _chunks(names):
                (rows,) = _call(connection, "cut", ",".join(part))
                there |= {str(row["account"]) for row in rows}
            prepared = self._prepared(connection)
        proof = {"sessions": 0, "sessions_seen": self._config.sessions, "prepared_by_anybody": prepared}
        return {name: {"login": "locked" if name in there else "absent", **proof} for name in names}

    def _prepared(self, connection: Connection) -> int:
        """Return how many prepared transactions are left; the server does not know whose they are."""
        rows = _run(connection, "XA RECOVER FORMAT='SQL'")[0]
        if not self._config.roll_back_prepared:
            return len(rows)
        for row in rows:
            with suppress(pymysql.Error):  # ended meanwhile, or still in somebody's hands: then it is counted below
                _run(connection, f"XA ROLLBACK {row['data']}")  # a hexadecimal literal that the server wrote
        return len(_run(connection, "XA RECOVER FORMAT='SQL'")[0])

    def clean(self, effects: Sequence[Effect]) -> Proofs:
        """Drop the code that was left behind and the accounts, read back in every table of rights."""
        names = [_own(effect.name) for effect in effects]
        dropped: dict[str, int] = {}
        with self._lines.line() as connection:
            for part in _chunks(names):
                (rows,) = _call(connection, "clean", ",".join(part))
                dropped |= {str(row["account"]): int(row["left_"]) for row in rows}
        return {
            name: {"account": "absent", "sessions": 0, **({"dropped": dropped[name]} if name in dropped else {})}
            for name in names
        }

    # -- looking

    def expects(self, effect: Effect, ends_at: datetime) -> Account:
        """Return the account with its role and no other right."""
        role = str(effect.detail["role"])
        rights = {f"member of {role}", f"default role {role}", f"signs in by {NATIVE}"}
        if self._config.tls == "none":
            rights.add("without TLS")
        return Account(effect.name, frozenset(rights), expires_at=ends_at)

    def observe(self) -> Inventory:
        """List accounts and roles with rights, sessions, ends, ways of signing in, and what runs as them."""
        with self._lines.line() as connection:
            seen = _look(connection)
            clock = _clock_found(connection, self._around)
        accounts = dict(seen.accounts())
        if clock:
            accounts[CLOCK] = Account(CLOCK, frozenset(clock))
        coverage = {"accounts", "roles", "memberships", "grants", "expiry", "sessions", "keys", "definers"}
        own = seen.broker(self._config)
        helpers = frozenset({f"{KEEPER}@localhost"})
        return Inventory(accounts, frozenset(coverage), own.label if own is not None else "", helpers)

    def quarantine(self, account: str, *, remove: bool) -> Quarantined:
        """Lock an account and end its sessions, or drop it; say what the owner has to run where the broker may not."""
        if is_own_account(account):
            effect = Effect("mariadb", account)
            self.cut([effect])
            if remove:
                self.clean([effect])
            return Quarantined(True)
        if account == CLOCK:
            return Quarantined(False, "set the clock of the server or of the broker, and let a time service keep both")
        with self._lines.line() as connection:
            seen = _look(connection)
            found = next((one for one in seen.principals.values() if one.label == account), None)
            unknown = next((user for user in seen.sessions if _part(user) == account), None)
            if found is None and unknown is not None:
                return Quarantined(False, f"KILL HARD USER {_ident(unknown)};")
            if found is None or found is seen.broker(self._config) or found.user == KEEPER:
                return Quarantined(False)
            if found.in_memory:  # there is no row that could be locked
                return Quarantined(False, f"FLUSH PRIVILEGES; KILL HARD USER {_ident(found.user)};")
            if found.is_role:
                return Quarantined(False, f"DROP ROLE {_ident(found.user)};")
            who = f"{_ident(found.user)}@{_ident(found.host)}"
            try:
                _call(connection, "disable", found.user, found.host)
            except pymysql.Error as error:
                if _code(error) not in NOT_ALLOWED:
                    raise
                return Quarantined(False, f"DROP USER {who};" if remove else f"ALTER USER {who} ACCOUNT LOCK;")
        return Quarantined(True, f"DROP USER {who};" if remove else "")

    def undoing(self, account: str, rights: Sequence[str]) -> str:
        """Return the statements with which the server's owner takes these rights back; where there is none, what to look at."""
        with self._lines.line() as connection:
            seen = _look(connection)
        found = next((one for one in seen.principals.values() if one.label == account), None)
        known = found.undo if found is not None else {}
        return "\n".join(known.get(right, f"-- look at: {_one_line(right)}") for right in rights)

    # -- the broker's own account

    def probe(self) -> tuple[str, ...]:
        """Compare the broker's own account with what it needs, and the server with what the broker relies on."""
        with self._lines.line() as connection:
            try:
                seen = _look(connection)
                clock = _clock_found(connection, self._around)
            except pymysql.Error as error:
                if _code(error) not in NO_PROCEDURE:
                    raise
                return ("missing: the broker's procedures; run what `jitaccess targets setup mariadb` prints",)
        return (*clock, *_findings(seen, self._config))

    def rotate_own(self, old: Secret, new: Secret) -> None:
        """Set the new password as a verifier; with the old one, or with the new one when that was done before."""
        for secret in (old, new):
            try:
                connection, plain = self._lines.connect(secret)
            except (pymysql.OperationalError, OSError):
                continue
            try:
                _run(connection, "SET PASSWORD = %s", [verifier(new.reveal())])
            finally:
                _close(connection, plain)
            _close(*self._lines.connect(new))
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


def _stamp(at: datetime) -> str:
    """Return a time as the server's DATETIME(6), in UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def _ident(name: str) -> str:
    """Return a name as an identifier, for statements that people run."""
    return "`" + name.replace("`", "``") + "`"


def _one_line(text: str) -> str:
    """Return a text that does not end the comment it stands in."""
    return "".join(character if character.isprintable() else " " for character in text)


def _text(value: str) -> str:
    """Return a text as a literal of the setup script."""
    return f"'{escape_string(value)}'"


_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:%$-/")


def _part(name: str) -> str:
    """Return a name as it is where it is plain, else in quotes: so no two accounts have one label."""
    return name if name and _PLAIN.issuperset(name) else f"'{escape_string(name)}'"


_PRIVILEGES = (
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "CREATE",
    "DROP",
    "RELOAD",
    "SHUTDOWN",
    "PROCESS",
    "FILE",
    "GRANT OPTION",
    "REFERENCES",
    "INDEX",
    "ALTER",
    "SHOW DATABASES",
    "SUPER",
    "CREATE TEMPORARY TABLES",
    "LOCK TABLES",
    "EXECUTE",
    "REPLICATION SLAVE",
    "BINLOG MONITOR",
    "CREATE VIEW",
    "SHOW VIEW",
    "CREATE ROUTINE",
    "ALTER ROUTINE",
    "CREATE USER",
    "EVENT",
    "TRIGGER",
    "CREATE TABLESPACE",
    "DELETE HISTORY",
    "SET USER",
    "FEDERATED ADMIN",
    "CONNECTION ADMIN",
    "READ ONLY ADMIN",
    "REPLICATION SLAVE ADMIN",
    "REPLICATION MASTER ADMIN",
    "BINLOG ADMIN",
    "BINLOG REPLAY",
    "SLAVE MONITOR",
    "SHOW CREATE ROUTINE",
)
"""Bits of `access` in mysql.global_priv, lowest first (sql/privilege.h); a bit beyond them is shown by its number."""
_ALL = 2**64 - 1
_HARMLESS = frozenset(
    (
        "SELECT",
        "PROCESS",
        "REFERENCES",
        "SHOW DATABASES",
        "CREATE TEMPORARY TABLES",
        "EXECUTE",
        "BINLOG MONITOR",
        "SHOW VIEW",
        "DELETE HISTORY",
        "SLAVE MONITOR",
        "SHOW CREATE ROUTINE",
    )
)
"""What is lent also on everything of the server: with it nobody makes, changes, locks or stops what ends accounts."""
_SPELT = {
    "GRANT": "GRANT OPTION",
    "CREATE TMP TABLE": "CREATE TEMPORARY TABLES",
    "DELETE VERSIONING ROWS": "DELETE HISTORY",
}
"""How a privilege is shown in mysql.db and mysql.tables_priv -> how statements say it."""
_WRITTEN = {"GRANT OPTION": "GRANT", "CREATE TEMPORARY TABLES": "CREATE TMP TABLE"}
"""How memory says a privilege on a database -> how mysql.db shows it."""


def _global(access: int) -> Iterator[str]:
    if access == _ALL:  # how mariadb-install-db writes the first administrator down
        yield "ALL PRIVILEGES"
        return
    for bit in range(access.bit_length()):
        if access >> bit & 1:
            yield _PRIVILEGES[bit] if bit < len(_PRIVILEGES) else f"privilege {bit}"


@dataclass(slots=True)
class _Principal:
    """An account or a role as the server has it."""

    user: str
    host: str
    is_role: bool
    row: Row
    label: str
    rights: set[str] = field(default_factory=set)
    owns: set[str] = field(default_factory=set)
    in_memory: bool = False
    """It has no row, but the server still knows it."""
    undo: dict[str, str] = field(default_factory=dict)
    """Right -> the statement that takes it away."""

    def give(self, word: str, on: str, shown: str) -> None:
        """Note a privilege, as it is granted (`on`) and as it is shown."""
        right = f"{word} on {shown}"
        self.rights.add(right)
        self.undo[right] = f"REVOKE {_SPELT.get(word, word)} ON {on} FROM {self.who};"

    @property
    def who(self) -> str:
        """Return it as statements name it."""
        return _ident(self.user) if self.is_role else f"{_ident(self.user)}@{_ident(self.host)}"


@dataclass(slots=True)
class _Seen:
    """What one look brought."""

    server: Row
    principals: dict[tuple[str, str], _Principal]
    leases: Mapping[str, Row]
    sessions: Mapping[str, int]
    strays: dict[str, set[str]]
    """Lease's name without an account -> what still runs as it."""
    against: Mapping[str, str | None]
    """Lent role -> why it is not lent, a line each."""

    def without_row(self) -> set[str]:
        """Return who can act, or does, without being written down; also whoever came or went while this was looked at."""
        users = {one.user for one in self.principals.values()}
        unknown = {_part(user) for user in self.sessions if user not in users}
        return unknown | self.missing() | {one.label for one in self.principals.values() if one.in_memory}

    def missing(self) -> set[str]:
        """Return the leases whose accounts somebody dropped or gave another name."""
        users = {one.user for one in self.principals.values() if not one.is_role}
        return {name for name, row in self.leases.items() if row["print"] and not row["ended"] and name not in users}

    def bearers(self, name: str) -> list[str]:
        """Return which accounts have the password that a lease was born with."""
        born = self.leases[name]["print"]
        return sorted(one.label for one in self.principals.values() if born and one.row["verifier"] == born)

    def broker(self, config: MariadbConfig) -> _Principal | None:
        return self.principals.get((config.user, config.user_host))

    def does_not_end(self) -> str:
        """Say why the server does not end accounts by itself at present; empty where it does."""
        return str(self.server.get("tick_wrong", "the procedures are of another version"))

    def accounts(self) -> dict[str, Account]:
        born = {row["print"]: name for name, row in self.leases.items() if row["print"]}
        found = {one.label: self._account(one, born) for one in self.principals.values()}
        for name, things in self.strays.items():
            found[name] = Account(name, enabled=False, owns=frozenset(things))
        users = {one.user for one in self.principals.values()}
        for user, count in self.sessions.items():
            if user not in users:
                owns = frozenset(self.strays.get(user, ()))
                found[_part(user)] = Account(_part(user), frozenset({NO_ACCOUNT}), sessions=count, owns=owns)
        for name in self.missing():
            moved = self.bearers(name)
            right = f"renamed to {', '.join(moved)}" if moved else "dropped by hand"
            found[name] = Account(
                name,
                frozenset({right}),
                self.sessions.get(name, 0),
                enabled=False,
                owns=frozenset(self.strays.get(name, ())),
            )
        return found

    def _account(self, one: _Principal, born: Mapping[str, str]) -> Account:
        lease = self.leases.get(one.user) if one.label == one.user else None
        end = None
        # Without the EVENT or without the days nothing of the end is enforced: then it has none.
        if (
            lease is not None
            and lease["ends_at"] is not None
            and not self.does_not_end()
            and one.row["lifetime"] not in ("", "0")
        ):
            end = cast(datetime, lease["ends_at"]).replace(tzinfo=UTC)
        rights = set(one.rights)
        if lease is not None and not lease["ended"] and lease["print"] != one.row["verifier"]:
            rights.add("password changed by hand")
        if (other := born.get(one.row["verifier"], one.label)) != one.label:
            rights.add(f"has the password of {other}")
        enabled = not one.is_role and not one.row["locked"]
        sessions = self.sessions.get(one.user, 0)
        return Account(one.label, frozenset(rights), sessions, enabled, end, str(one.row["print"]), frozenset(one.owns))


def _look(connection: Connection) -> _Seen:
    seen = _look_once(connection)
    if not (doubted := seen.without_row()):
        return seen
    # The tables are not read in the same moment as memory and sessions: who came or went between them is not there a second time.
    again = _look_once(connection)
    passing = again.without_row() - doubted
    again.principals = {
        key: one for key, one in again.principals.items() if not (one.in_memory and one.label in passing)
    }
    again.leases = {name: row for name, row in again.leases.items() if name not in again.missing() & passing}
    again.sessions = {user: count for user, count in again.sessions.items() if _part(user) not in passing}
    return again


def _look_once(connection: Connection) -> _Seen:
    # The last sets are not there yet where the procedures are of an earlier version, which is told by itself.
    sets = [*_call(connection, "look"), [], [], []][:13]
    (
        server, accounts, dbs, tables, routines, members, proxies, leases, sessions, things, memory, places, against,
    ) = sets  # fmt: skip
    accounts = [*accounts, *_in_memory(accounts, memory)]
    principals: dict[tuple[str, str], _Principal] = {}
    for row in accounts:
        user, host, is_role = str(row["user"]), str(row["host"]), bool(row["is_role"])
        if is_role:
            label = f"role {_part(user)}"
        else:
            # An account of a lease goes by its name; one of that name at a second host does not, and is found as a stranger.
            mine = is_own_account(user) and sum(other["user"] == user for other in accounts) == 1
            label = user if mine else f"{_part(user)}@{_part(host)}"
        one = _Principal(user, host, is_role, row, label, in_memory=IN_MEMORY in row)
        for privilege in _global(int(row["access"])):
            one.give(privilege, "*.*", "*.*")
        one.rights |= {*_ways(row, is_role=is_role)}
        principals[user, host] = one
    _add_rights(principals, dbs, tables, routines)
    _add_places(principals, places, members)
    _add_memory(principals, memory)
    for row in members:
        member = principals.get((row["User"], row["Host"]))
        if member is not None:
            right = f"member of {row['Role']}{' with admin option' if row['Admin_option'] == 'Y' else ''}"
            member.rights.add(right)
            member.undo[right] = f"REVOKE {_ident(str(row['Role']))} FROM {member.who};"
    for row in proxies:
        if (one_ := principals.get((row["User"], row["Host"]))) is not None:
            one_.rights.add(f"PROXY of {_part(row['Proxied_user'])}@{_part(row['Proxied_host'])}")
    strays = _add_things(principals, things)
    counts = {str(row["user"]): int(row["sessions"]) for row in sessions}
    lent = {str(row["role"]): row["against"] for row in against}
    return _Seen(server[0], principals, {str(row["account"]): row for row in leases}, counts, strays, lent)


def _in_memory(accounts: Sequence[Row], memory: Sequence[Row]) -> Iterator[Row]:
    """Yield what stands for the row of each account that the server knows and has no row of."""
    written = {(row["user"], row["host"]) for row in accounts}
    bare = {"is_role": 0, "locked": 0, "access": "0", "tls": "0", "plugin": "", "plugins": "[]", "lifetime": ""}
    for user, host in sorted({(str(row["user"]), str(row["host"])) for row in memory} - written):
        yield {**bare, "user": user, "host": host, "default_role": "", "verifier": "", "print": "", IN_MEMORY: True}


def _add_memory(principals: Mapping[tuple[str, str], _Principal], memory: Sequence[Row]) -> None:
    """Put down the rights on everything that the server goes by, where the row of the account does not show them."""
    for row in memory:
        one = principals[row["user"], row["host"]]
        if "ALL PRIVILEGES on *.*" in one.rights:
            continue
        if row["privilege"] != "USAGE":
            one.give(str(row["privilege"]), "*.*", "*.*")
        if row["grantable"]:
            one.give("GRANT OPTION", "*.*", "*.*")
    for one in principals.values():
        if one.in_memory:
            one.rights.add(IN_MEMORY)
            one.undo = dict.fromkeys(one.rights, "FLUSH PRIVILEGES;")


def _add_places(
    principals: Mapping[tuple[str, str], _Principal], places: Sequence[Row], members: Sequence[Row]
) -> None:
    """Put down the rights on single databases that the server goes by without a row: mysql.db was changed, and not read again since.

    In memory a role has what the roles have that it holds; that is told with them.
    """
    held: dict[str, set[str]] = defaultdict(set)
    for row in members:
        if row["Host"] == "":
            held[row["User"]].add(str(row["Role"]))
    written = {key: {*one.rights} for key, one in principals.items()}
    for row in places:
        one = principals.get((row["user"], row["host"]))
        if one is None:
            continue
        inherits = _holds(one.user, held) if one.is_role else set[str]()
        known = set[str]().union(written[one.user, one.host], *(written.get((role, ""), set()) for role in inherits))
        for word in {str(row["privilege"]), *(("GRANT OPTION",) if row["grantable"] else ())} - {"USAGE"}:
            right = f"{_WRITTEN.get(word, word)} on {_part(row['place'])}.*"
            if right not in known:
                one.rights.add(right)
                one.undo[right] = "FLUSH PRIVILEGES;"


def _holds(role: str, held: Mapping[str, set[str]]) -> set[str]:
    """Return the roles that a role holds, through however many others."""
    todo, found = [role], set[str]()
    while todo:
        for other in held.get(todo.pop(), set()) - found:
            found.add(other)
            todo.append(other)
    return found


def _ways(row: Row, *, is_role: bool) -> Iterator[str]:
    """Yield how an account signs in, and what is on from the login."""
    if not is_role:
        others = [part.strip(' "') for part in str(row["plugins"]).strip("[]").split(",")]
        for plugin in {str(row["plugin"]), *others} - {""}:
            yield f"signs in by {plugin}"
        if not int(row["tls"]):
            yield "without TLS"
    if row["default_role"]:
        yield f"default role {row['default_role']}"


def _add_rights(
    principals: Mapping[tuple[str, str], _Principal], dbs: Sequence[Row], tables: Sequence[Row], routines: Sequence[Row]
) -> None:
    for row in dbs:
        if (one := principals.get((row["User"], row["Host"]))) is not None:
            given = [key.removesuffix("_priv") for key, value in row.items() if key.endswith("_priv") and value == "Y"]
            for word in given:
                one.give(word.replace("_", " ").upper(), f"{_ident(row['Db'])}.*", f"{_part(row['Db'])}.*")
    for row in tables:
        if (one := principals.get((row["User"], row["Host"]))) is not None:
            place = f"{_part(row['Db'])}.{_part(row['Table_name'])}"
            for word in row["Table_priv"].split(","):
                if word:
                    one.give(word.upper(), f"{_ident(row['Db'])}.{_ident(row['Table_name'])}", place)
            one.rights |= {f"{word.upper()} on columns of {place}" for word in row["Column_priv"].split(",") if word}
    for row in routines:
        if (one := principals.get((row["User"], row["Host"]))) is not None:
            place = f"{row['Routine_type'].lower()} {_part(row['Db'])}.{_part(row['Routine_name'])}"
            on = f"{row['Routine_type']} {_ident(row['Db'])}.{_ident(row['Routine_name'])}"
            for word in row["Proc_priv"].split(","):
                if word:
                    one.give(word.upper(), on, place)


def _add_things(principals: Mapping[tuple[str, str], _Principal], things: Sequence[Row]) -> dict[str, set[str]]:
    """Put down what runs as whom; return what runs as a lease's account that is not there any more.

    An EVENT acts by itself, and whatever has a *role* as its definer outlives every person: both count as rights, so that a new one is a
    finding. What an account of a lease made is taken away with it.
    """
    strays: dict[str, set[str]] = defaultdict(set)
    for row in things:
        what = f"{row['kind']} {_part(row['place'])}.{_part(row['name'])}"
        user, _, host = str(row["definer"]).rpartition("@") if "@" in row["definer"] else (row["definer"], "", "")
        one = principals.get((user, host))
        if one is None:
            if is_own_account(user):
                strays[user].add(what)
            continue
        one.owns.add(what)
        if one.is_role or (row["kind"] == "event" and one.label != one.user):
            one.rights.add(f"runs {what}")
            one.undo[f"runs {what}"] = f"DROP {row['kind'].upper()} {_ident(row['place'])}.{_ident(row['name'])};"
    for name in {one.user for one in principals.values() if one.label == one.user} & strays.keys():
        del strays[name]
    return strays


_CLOSED = ("mysql", "jitaccess", "sys", "performance_schema")
_CALLS = frozenset(
    f"EXECUTE on procedure jitaccess.{name}" for name in ("make", "bury", "cut", "clean", "look", "disable")
)


def _findings(seen: _Seen, config: MariadbConfig) -> Iterator[str]:
    if seen.server["script"] != SCRIPT:
        yield "missing: the procedures are of another version; run again what `jitaccess targets setup mariadb` prints"
    if why := seen.does_not_end():
        yield f"missing: event_scheduler=ON and the event jitaccess.tick as installed; no account is made meanwhile: {why}"
    if not seen.server["all_seen"]:
        word = (
            "missing: performance_schema=ON; no account is made" if config.sessions == "all" else "note: as configured"
        )
        yield f"{word}: a session inside somebody else's routine is not seen"
    if not config.roll_back_prepared:
        yield "note: prepared XA transactions carry no name and are only counted; see roll_back_prepared"
    yield from _own_findings(seen, config)
    for one in seen.principals.values():
        if not one.is_role and not one.user and not one.row["locked"]:
            yield f"too mighty: {one.label} lets anybody in and comes before accounts at %; drop it"
    for role in sorted({meaning.role for meaning in config.entitlements.values()}):
        yield from _role_findings(seen, role)
        yield from _definer_findings(seen, role)


def _definer_findings(seen: _Seen, role: str) -> Iterator[str]:
    """Yield what runs as a role: nothing may when it is lent, so that the end of a lease takes nothing of the owner's away (ADR 48)."""
    one = seen.principals.get((role, ""))
    lent = any(row.get("role") == role for row in seen.leases.values())
    for thing in sorted(one.owns) if one is not None else ():
        if lent:
            yield f"note: {thing} runs as {role}, made since it was lent; it goes when a lease of {role} ends"
        else:
            yield f"missing: {role} is not lent while {thing} runs as it, since before: give it another definer"


def _own_findings(seen: _Seen, config: MariadbConfig) -> Iterator[str]:
    own, keeper = seen.broker(config), seen.principals.get((KEEPER, "localhost"))
    if own is None:
        yield f"missing: there is no account {config.user}@{config.user_host}"
        return
    meant = {*_CALLS, f"signs in by {NATIVE}", *(("without TLS",) if config.tls == "none" else ())}
    for right in sorted(own.rights - meant):
        yield f"too mighty: {own.label} has {right}"
    for right in sorted(_CALLS - own.rights - {"EXECUTE on procedure jitaccess.disable"}):
        yield f"missing: {own.label} needs {right}"
    if keeper is None or not keeper.row["locked"]:
        yield f"too mighty: {KEEPER}@localhost must be there and locked: nobody may log in with it"
    for role in sorted({meaning.role for meaning in config.entitlements.values()}):
        if keeper is not None and f"member of {role} with admin option" not in keeper.rights:
            yield f"missing: the broker may not lend the role {role}"


def _role_findings(seen: _Seen, role: str) -> Iterator[str]:
    """Yield why a role is not lent, which its procedure decides anew for each lease, and what else it reaches."""
    for line in str(seen.against.get(role) or "").splitlines():
        yield f"too mighty: {role} is not lent, since it has a right that outlives a lease or beats its end: {line}"
    todo, done = [role], set[str]()
    while todo:
        name = todo.pop()
        one = seen.principals.get((name, ""))
        done.add(name)
        if one is None:
            yield f"missing: there is no role {name}"
            continue
        for right in sorted(one.rights):
            held = right.removeprefix("member of ").removesuffix(" with admin option")
            word, _, place = right.partition(" on ")
            if right.startswith("member of "):
                todo += [held] if held not in done else []
            if right.startswith("runs "):
                continue  # told beside the role itself
            closed = place.endswith("*.*") or place.strip("'").partition(".")[0].strip("'") in _CLOSED
            if closed and word in _HARMLESS:
                yield f"too mighty: a lease of {role} reaches the server's own tables: {right}"
            elif place.endswith(".*") and "_" in place.replace("\\_", "").replace("\\\\_", ""):
                yield f"note: in {right} of {name} the _ stands for any character; write \\_"


EXAMPLE = MariadbConfig(
    kind="mariadb",
    host="db.example",
    database="app",
    secret="app-broker",  # noqa: S106 - the name of a file, not a secret
    entitlements={"reader": Meaning(role="app_read")},
)


def _print_of(script: str, head: str) -> str:
    """Return a digest of the body of a routine; without comments and spaces, of which a client may keep as many as it likes."""
    body = script.partition(f"{head}\n")[2].partition(" //\n")[0]
    return hashlib.sha256(re.sub(r"-- [^\n]*|\s+", "", body).encode()).hexdigest()


def setup(config: MariadbConfig | None) -> str:
    """Return a script of the `mariadb` client for the server's owner: the procedures, and an account that may call them."""
    config = config or EXAMPLE
    keeper = f"{_ident(KEEPER)}@{_ident('localhost')}"
    roles = sorted({meaning.role for meaning in config.entitlements.values()})
    parts = {
        "keeper": keeper,
        "keeper_text": _text(KEEPER),
        "user": f"{_ident(config.user)}@{_ident(config.user_host)}",
        "user_text": _text(config.user),
        "grants": "\n".join(f"GRANT {_ident(role)} TO {keeper} WITH ADMIN OPTION;" for role in roles),
        "secured": "" if config.tls == "none" else " REQUIRE SSL",
        "secret": config.secret,
        "version": str(SCRIPT),
        "harmless": str(sum(1 << bit for bit, word in enumerate(_PRIVILEGES) if word in _HARMLESS)),
        "privileges": ", ".join(
            _text(word) for word in (*_PRIVILEGES, *map("privilege {}".format, range(len(_PRIVILEGES), 64)))
        ),
    }
    text = files(__package__).joinpath("mariadb.sql").read_text()
    parts["expire"] = _text(_print_of(text, "PROCEDURE jitaccess.expire() SQL SECURITY DEFINER"))
    for name, value in parts.items():
        text = text.replace(f"<<{name}>>", value)
    return text


KIND = ConnectorKind(
    "mariadb",
    MariadbConfig,
    MariadbConnector,
    setup,
    enforces_expiry=EnforcesExpiry.LOGINS_AND_SESSIONS,
    place=("host", "port"),
)
