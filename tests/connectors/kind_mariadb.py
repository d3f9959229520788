"""MariaDB on the bench: Debian's server, once over TLS and showing every session, once by a Unix socket and without performance_schema."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pymysql
from pymysql.converters import escape_string

from jitaccess.connectors.contract import Credential, Secret
from jitaccess.connectors.mariadb import KIND
from jitaccess.store.ids import new_secret
from tests.support import mariadb
from tests.support.bench import Bench, LoginRefused, NotInstalled
from tests.support.certificates import write_certificates
from tests.support.ports import free_port


def ident(name: str) -> str:
    """Quote a name."""
    return "`" + name.replace("`", "``") + "`"


def quoted(name: str) -> str:
    """Return an odd name as the connector's labels show it."""
    return f"'{escape_string(name)}'"


class MariadbSession:
    """A person's connection."""

    def __init__(self, connection: "pymysql.Connection[Any]") -> None:
        self.connection = connection

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement; return its rows."""
        with self.connection.cursor() as cursor:
            cursor.execute(statement)
            return [*cursor.fetchall()]

    def alive(self) -> bool:
        """Read what the entitlement allows."""
        try:
            self.run("SELECT COUNT(*) FROM app.thing")
        except (pymysql.Error, OSError):
            return False
        return True

    def leave_behind(self, names: Sequence[str]) -> None:
        """Make a table, a view, a routine, a trigger and an EVENT for each name, as the person and as the role."""
        for name in names:
            there = ident(name.strip()[:60] if name.endswith(" ") else name[:60])  # no name may end in a blank
            definer = "DEFINER = CURRENT_ROLE"
            for statement in (
                f"CREATE TABLE {there} (id INT)",
                f"CREATE VIEW {ident('v' + name.strip()[:60])} AS SELECT note FROM thing",
                f"CREATE {definer} FUNCTION {there}() RETURNS INT RETURN 1",
                f"CREATE PROCEDURE {there}() SQL SECURITY INVOKER SELECT 1",
                f"CREATE TRIGGER {there} BEFORE INSERT ON {there} FOR EACH ROW SET NEW.id = 1",
                f"CREATE {definer} EVENT {there} ON SCHEDULE EVERY 1 HOUR DO SELECT 1",
            ):
                self.run(statement)


class MariadbBench:
    """One server."""

    kind = KIND
    entitlement = "writer"

    def __init__(self, *, tls: bool) -> None:
        self.label = f"mariadb{' over TLS' if tls else ''}"
        self.tls = tls
        self._secret = new_secret()
        self.server: mariadb.Server
        self._folder: Path

    def start(self, folder: Path) -> None:
        """Start it with a database `app` and a role, and run what `setup` prints."""
        self._folder = folder
        if not mariadb.installed():
            raise NotInstalled(mariadb.MISSING)
        options = ["--event-scheduler=ON"]
        if self.tls:
            options += ["--performance-schema=ON", "--ssl-cert=tls/server.pem", "--ssl-key=tls/server.key"]
            options = [part.replace("=tls/", "=../tls/") for part in options]  # seen from the data folder
        self.server = mariadb.Server(options, self._certify if self.tls else None)
        ((version,),) = self.server.run("SELECT VERSION()")
        self.label = f"mariadb {version.split('-')[0]}{' over TLS' if self.tls else ''}"
        self.server.run(
            "CREATE DATABASE app",
            "CREATE DATABASE other",
            "CREATE TABLE app.thing (id INT, note TEXT)",
            "CREATE ROLE app_write",
            "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, CREATE VIEW, CREATE ROUTINE, EXECUTE, EVENT, TRIGGER ON app.* TO app_write",
            "GRANT SELECT, CREATE, CREATE ROUTINE, EVENT ON other.* TO app_write",
        )
        self.server.script(KIND.setup(KIND.config.model_validate(dict(self.config()))))
        with self.server.owner() as owner, owner.cursor() as cursor:
            cursor.execute("SET PASSWORD FOR jit_broker@'%%' = PASSWORD(%s)", [self._secret])

    def _certify(self, folder: Path) -> None:
        place = folder / "tls"
        place.mkdir()
        write_certificates(place)
        (self._folder / "ca.pem").write_bytes((place / "ca.pem").read_bytes())

    def stop(self) -> None:
        """Stop it."""
        self.server.stop()

    def config(self) -> Mapping[str, object]:
        """Return its configuration."""
        if self.tls:
            where = {"host": "127.0.0.1", "port": self.server.port, "root_ca": str(self._folder / "ca.pem")}
        else:
            where = {"host": str(self.server.socket), "tls": "none", "sessions": "visible", "roll_back_prepared": True}
        return {
            "kind": "mariadb",
            "database": "app",
            "secret": "bench",
            "entitlements": {"writer": {"role": "app_write", "connection_limit": 20}},
            **where,
        }

    def secret(self) -> Secret:
        """Return the broker's password."""
        return Secret(self._secret)

    def nowhere(self) -> Mapping[str, object]:
        """Name a place where nothing listens."""
        return {**self.config(), "host": "127.0.0.1", "port": free_port()}

    def given(self) -> Mapping[str, str]:
        """Nothing is handed in."""
        return {}

    @contextmanager
    def login(self, credential: Credential, database: str | None = None) -> Iterator[MariadbSession]:
        """Come in with what stands in the command that the person is shown, and the password."""
        assert credential.secret is not None
        assert credential.secret.reveal() not in credential.command
        program, *words = shlex.split(credential.command)
        options = dict(word.removeprefix("--").partition("=")[::2] for word in words if word.startswith("--"))
        assert program == "mariadb"
        place = self._folder / new_secret()
        place.mkdir()
        for name, text in credential.files.items():
            (place / name).write_text(text.reveal())
        trusted = str(place / options["ssl-ca"]) if "ssl-ca" in options else None
        try:
            connection = mariadb.connect(
                options["socket"] if "socket" in options else (options["host"], int(options["port"])),
                user=options["user"],
                password=credential.secret.reveal(),
                database=database or words[-1],
                ssl_ca=trusted,
                ssl_verify_identity="ssl-verify-server-cert" in options,
                ssl_disabled="skip-ssl" in options,
            )
        except (pymysql.Error, OSError) as error:
            raise LoginRefused(str(error)) from error
        try:
            yield MariadbSession(connection)
        finally:
            if connection.open:
                connection.close()

    def accounts(self) -> set[str]:
        """List accounts that were not there at the start, and whatever runs as one of a lease or as the role."""
        known = {"root", "mysql", "mariadb.sys", "jit_broker", "jit_keeper", "app_write"}
        with self.server.owner() as owner, owner.cursor() as cursor:
            cursor.execute("SELECT User FROM mysql.global_priv")
            users = {str(user) for (user,) in cursor.fetchall()} - known
            found = {user if user.startswith("jit-") else f"{quoted(user)}@%" for user in users}
        things = self.server.run(
            "SELECT db, name, definer FROM mysql.event UNION SELECT db, name, definer FROM mysql.proc UNION "
            "SELECT TRIGGER_SCHEMA, TRIGGER_NAME, DEFINER FROM information_schema.TRIGGERS UNION "
            "SELECT TABLE_SCHEMA, TABLE_NAME, DEFINER FROM information_schema.VIEWS"
        )
        left = {f"{db}.{name}" for db, name, definer in things if str(definer).startswith(("jit-", "app_write"))}
        return found | left

    def stray(self) -> str:
        """Make an account that can log in."""
        name = f"stray \"'`{new_secret()[:6]}"
        with self.server.owner() as owner, owner.cursor() as cursor:
            cursor.execute("CREATE USER %s@'%%' IDENTIFIED BY 'x'", [name])
        return f"{quoted(name)}@%"

    def can_log_in(self, account: str) -> bool:
        """Look at the account."""
        with self.server.owner() as owner, owner.cursor() as cursor:
            cursor.execute("SELECT User, JSON_VALUE(Priv, '$.account_locked') FROM mysql.global_priv")
            states = {str(user): str(locked) for user, locked in cursor.fetchall()}
            names = {quoted(user) + "@%": user for user in states} | {user: user for user in states}
        return account in names and states[names[account]] not in ("1", "true")


def benches() -> list[Bench]:
    """Return both."""
    return [MariadbBench(tls=True), MariadbBench(tls=False)]
