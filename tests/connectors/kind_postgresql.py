"""PostgreSQL on the bench: Debian's 15 over TLS with a certificate authority of its own, and 18 from a wheel, built without TLS."""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy.engine import make_url

from jitaccess.connectors.contract import Credential, Secret
from jitaccess.connectors.postgresql import KIND
from jitaccess.store.ids import new_secret
from tests.support import postgres
from tests.support.bench import Bench, LoginRefused, NotInstalled
from tests.support.certificates import write_certificates
from tests.support.ports import free_port

MODERN = 160_000
"""From this version on a membership says whether its role is inherited and may be set."""


class PostgresqlSession:
    """A person's connection."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection

    def alive(self) -> bool:
        """Read what the entitlement allows."""
        try:
            self.connection.execute("SELECT count(*) FROM data.thing").fetchone()
        except psycopg.Error:
            return False
        return True

    def leave_behind(self, names: Sequence[str]) -> None:
        """Make a table, a view, a type, a function and a schema for each name."""
        for name in names:
            there = sql.Identifier(name[:60])
            for statement in (
                "CREATE SCHEMA {0}",
                "CREATE TABLE {0}.{0} (id serial PRIMARY KEY, note text)",
                "CREATE TABLE data.{0} (id serial PRIMARY KEY, note text)",
                "CREATE VIEW data.{1} AS SELECT note FROM data.{0}",
                "CREATE TYPE data.{2} AS ENUM ('a', 'b')",
                "CREATE FUNCTION data.{0}(text) RETURNS int LANGUAGE sql AS 'SELECT 1'",
                "ALTER DEFAULT PRIVILEGES IN SCHEMA data GRANT ALL ON TABLES TO PUBLIC",
            ):
                text = sql.SQL(statement).format(
                    there, sql.Identifier(f"v{name}"[:60]), sql.Identifier(f"t{name}"[:60])
                )
                self.connection.execute(text)


class PostgresqlBench:
    """One server."""

    kind = KIND
    entitlement = "writer"

    def __init__(self, source: str, *, tls: bool, durable: bool = False) -> None:
        self.label = f"postgresql ({source})"
        self._source = source
        self._tls = tls
        self._durable = durable
        self._secret = new_secret()
        self.server: postgres.Server
        self._folder: Path

    def start(self, folder: Path) -> None:
        """Start it with a database `app`, a schema `data` and two roles, and run what `setup` prints."""
        self._folder = folder
        settings = {"max_prepared_transactions": "5", "authentication_timeout": "5s"}
        if self._durable:
            settings |= {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
        if self._tls:
            settings |= {
                "ssl": "on",
                "ssl_cert_file": "{folder}/tls/server.pem",
                "ssl_key_file": "{folder}/tls/server.key",
            }
        try:
            self.server = postgres.start_of(self._source, settings, self._certify if self._tls else None)
        except postgres.NoPostgres as missing:
            raise NotInstalled(str(missing)) from missing
        with self.owner("postgres") as connection:
            (version,) = connection.execute("SHOW server_version").fetchone() or ("",)
            self.label = f"postgresql {version.split()[0]}{' over TLS' if self._tls else ''}"
            connection.execute("CREATE DATABASE app")
            connection.execute("CREATE DATABASE other")
            connection.execute("CREATE ROLE app_write NOLOGIN")
            connection.execute("GRANT CREATE ON DATABASE app, other TO app_write")
        with self.owner() as connection:
            connection.execute("CREATE SCHEMA data; CREATE TABLE data.thing (id int, note text)")
            connection.execute("GRANT USAGE, CREATE ON SCHEMA data TO app_write")
            connection.execute("GRANT SELECT, INSERT, UPDATE ON data.thing TO app_write")
        self._run_setup()

    def _certify(self, folder: Path) -> None:
        """Write a certificate authority and a server certificate for 127.0.0.1."""
        place = folder / "tls"
        place.mkdir()
        write_certificates(place)
        (self._folder / "ca.pem").write_bytes((place / "ca.pem").read_bytes())
        if os.geteuid() == 0:
            owner = postgres.unprivileged()
            for path in (place, *place.iterdir()):
                os.chown(path, owner.pw_uid, owner.pw_gid)

    def _run_setup(self) -> None:
        """Run the printed script with the server's own psql; the broker's password is typed twice, as a person would."""
        assert self.server.binaries is not None
        script = self._folder / "setup.sql"
        text = KIND.setup(KIND.config.model_validate(dict(self.config())))
        script.write_text(f"{text}\nGRANT CREATE ON DATABASE postgres, other TO jit_quarantine;\n")
        url = self.server.admin_url
        psql = [self.server.binaries / "psql", "-X", "-q", "-f", script]
        done = subprocess.run(
            [*psql, "-h", "127.0.0.1", "-p", str(url.port), "-U", "postgres", "-d", "app"],
            input=f"{self._secret}\n{self._secret}\n",
            env={"PGPASSWORD": str(url.password), "PATH": os.environ["PATH"]},
            text=True,
            capture_output=True,
            start_new_session=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def stop(self) -> None:
        """Stop it."""
        self.server.stop()

    def config(self) -> Mapping[str, object]:
        """Return its configuration."""
        where = {"tls": "verify-full", "root_ca": str(self._folder / "ca.pem")} if self._tls else {"tls": "none"}
        return {
            "kind": "postgresql",
            "host": "127.0.0.1",
            "port": self.server.admin_url.port,
            "database": "app",
            "secret": "bench",
            "entitlements": {"writer": {"roles": ["app_write"], "connection_limit": 20, "set_role": True}},
            **where,
        }

    def secret(self) -> Secret:
        """Return the broker's password."""
        return Secret(self._secret)

    def nowhere(self) -> Mapping[str, object]:
        """Name a port where nothing listens."""
        return {**self.config(), "port": free_port()}

    def given(self) -> Mapping[str, str]:
        """Nothing is handed in."""
        return {}

    @contextmanager
    def login(self, credential: Credential) -> Iterator[PostgresqlSession]:
        """Come in with the command that the person is shown, and the password."""
        assert credential.secret is not None
        conninfo = re.fullmatch(r'psql "(.*)"', credential.command)
        assert conninfo is not None
        assert credential.secret.reveal() not in credential.command
        place = self._folder / new_secret()
        place.mkdir()
        for name, text in credential.files.items():
            (place / name).write_text(text.reveal())
        command = conninfo[1].replace("sslrootcert=", f"sslrootcert={place}/")
        try:
            connection = psycopg.connect(command, password=credential.secret.reveal(), autocommit=True)
        except psycopg.OperationalError as error:
            raise LoginRefused(str(error)) from error
        with connection:
            yield PostgresqlSession(connection)

    @contextmanager
    def lending(self, setup: str, undo: str, roles: str) -> Iterator[int]:
        """Make what a test needs as the server's owner and let the broker lend these roles; give the server's version. Undo it after."""
        with self.owner() as owner:
            owner.execute(setup)
            version = owner.info.server_version
            if version >= MODERN:
                owner.execute(f"GRANT {roles} TO jit_broker WITH ADMIN TRUE, INHERIT FALSE, SET FALSE")
            yield version
            owner.execute(undo)

    @contextmanager
    def owner(self, database: str = "app") -> Iterator[psycopg.Connection[Any]]:
        """Come in as the server's owner."""
        url = make_url(self.server.url(database)).set(drivername="postgresql")
        with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as connection:
            yield connection

    def accounts(self) -> set[str]:
        """List the roles that were not there at the start."""
        known = {"postgres", "app_write", "jit_broker", "jit_quarantine"}
        with self.owner() as connection:
            rows = connection.execute("SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_'").fetchall()
        return {str(name) for (name,) in rows} - known

    def stray(self) -> str:
        """Make a login role."""
        name = f'stray "{new_secret()[:6]}'
        with self.owner() as connection:
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))
        return name

    def can_log_in(self, account: str) -> bool:
        """Look at the role."""
        with self.owner() as connection:
            found = connection.execute("SELECT rolcanlogin FROM pg_roles WHERE rolname = %s", [account]).fetchone()
        return bool(found and found[0])


def benches() -> list[Bench]:
    """Return 15 from Debian and 18 from the wheel."""
    return [PostgresqlBench("system", tls=True), PostgresqlBench("wheel", tls=False)]
