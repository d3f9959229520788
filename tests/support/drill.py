"""A real PostgreSQL as target behind a proxy that fails on purpose, and a broker that is copied for each drill."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import psycopg
from psycopg import sql

from jitaccess.broker.rotate import rotate
from jitaccess.connectors.postgresql import KIND
from jitaccess.store.ids import new_secret
from tests.support import mortal, oracle, postgres
from tests.support.cutting import CuttingProxy, Mode
from tests.support.world import Prepared, World, prepare

SECRET = "bench"
SIGKILLED = -9
SOON, MUCH_LATER = timedelta(minutes=3), timedelta(hours=1)
"""When a broker starts again: with the lease that began still there, and when everything is long over."""


def present() -> datetime:
    """Return this moment: the target's own clock cannot be frozen, so the broker's goes with that one."""
    return datetime.now(UTC)


class Target(Protocol):
    """A target, a broker that is copied for each drill, and the oracle's view of both."""

    kind: str
    prepared: Prepared

    def begin(self, folder: Path) -> "Run":
        """Copy the broker into a folder, and put the target and the proxy right."""
        ...

    def tracked(self, database: str) -> list[str]:
        """Say what is wrong at any moment."""
        ...

    def explained(self, database: str, now: datetime) -> list[str]:
        """Say what is wrong once all should be settled."""
        ...

    def there(self) -> set[str]:
        """Return what leases made."""
        ...

    def opens(self, secret: str) -> bool:
        """Say whether the target takes this for the broker's secret."""
        ...


@dataclass(slots=True)
class Drill:
    """A PostgreSQL server, its proxy, a prepared broker."""

    server: postgres.Server
    proxy: CuttingProxy
    prepared: Prepared
    password: str
    connector: Mapping[str, Any]
    kind: str = "postgresql"
    elsewhere: Prepared | None = None
    """The same broker, seeded in a database of the server itself."""
    elsewhere_url: str = ""

    def tracked(self, database: str) -> list[str]:
        """Say what is wrong at any moment."""
        return oracle.tracked(database, self.owner)

    def explained(self, database: str, now: datetime) -> list[str]:
        """Say what is wrong once all should be settled."""
        return oracle.explained(database, self.owner, now)

    def there(self) -> set[str]:
        """Return the accounts that leases made."""
        return set(oracle.roles(self.owner))

    def opens(self, secret: str) -> bool:
        """Say whether the server takes this for the broker's password."""
        where = f"host=127.0.0.1 port={self.server.admin_url.port} dbname=app user=jit_broker"
        return oracle.opens_postgresql(where, secret)

    @property
    def owner(self) -> str:
        """Return the conninfo of the target's owner, past the proxy."""
        return self.server.admin_url.set(drivername="postgresql", database="app").render_as_string(hide_password=False)

    def sql(self, statement: str, *names: str) -> None:
        """Run a statement as the target's owner."""
        with psycopg.connect(self.owner, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    def begin(self, folder: Path, *, on_server: bool = False) -> "Run":
        """Copy the broker into a folder, or into a database of the server, and put the target and the proxy right."""
        self.proxy.disarm()
        self.proxy.become(Mode.PASS)
        for name in oracle.roles(self.owner):
            self.sql("DROP OWNED BY {0} CASCADE; DROP ROLE {0}".replace("{0}", "{}"), name, name)
        with psycopg.connect(self.owner, autocommit=True) as connection:
            connection.execute("ALTER ROLE jit_broker CREATEROLE")
            connection.execute(sql.SQL("ALTER ROLE jit_broker PASSWORD {}").format(sql.Literal(self.password)))
        if not on_server:
            return copied(self, folder, self.password)
        if self.elsewhere is None:
            self.elsewhere_url = self.server.create_database()
            self.elsewhere = seeded(folder / "seeded", self.connector, self.elsewhere_url)
        name = self.elsewhere_url.rsplit("/", 1)[-1]
        run = copied(self, folder, self.password, self.elsewhere)
        run.url = self.server.create_database(template=name)
        return run

    def close(self) -> None:
        """Stop both."""
        self.proxy.close()
        self.server.stop()


def copied(target: Target, folder: Path, password: str, prepared: Prepared | None = None) -> "Run":
    """Copy a prepared broker into a folder."""
    prepared = prepared or target.prepared
    (folder / "secrets").mkdir(parents=True)
    secret = folder / "secrets" / SECRET
    secret.write_text(password)
    secret.chmod(0o600)
    for file in ("wrapping.key", *(one.name for one in prepared.folder.glob("broker.db*"))):
        shutil.copy(prepared.folder / file, folder / file)
    return Run(target, prepared, folder, f"sqlite:///{folder / 'broker.db'}", present())


@dataclass(slots=True)
class Run:
    """One drill."""

    drill: Target
    prepared: Prepared
    folder: Path
    url: str
    """The broker's database, as SQLAlchemy writes it."""
    now: datetime
    """When it began."""

    @property
    def database(self) -> str:
        """Return the broker's database as the oracle reads it."""
        return self.url.removeprefix("sqlite:///").replace("postgresql+psycopg:", "postgresql:")

    def child(self, **orders: Any) -> Any:
        """Start a child with these orders."""
        keys = mortal.as_words(self.prepared.seeded)
        return mortal.child(mortal.Orders(self.folder, self.url, keys, kind=self.drill.kind, **orders))

    def world(self, later: timedelta = timedelta(), *, defect: str = "") -> World:
        """Open the broker in this process."""
        return mortal.world_in(self.folder, self.url, self.prepared.seeded, later, self.drill.kind, defect=defect)

    def tracked(self) -> list[str]:
        """Ask the oracle what is wrong right now."""
        return self.drill.tracked(self.database)

    def explained(self, now: datetime) -> list[str]:
        """Ask the oracle what is wrong once all should be settled."""
        return self.drill.explained(self.database, now)

    def there(self) -> set[str]:
        """Return what leases made on the target."""
        return self.drill.there()

    def states(self) -> list[str]:
        """Return the states of all leases."""
        return sorted(oracle.states(self.database))

    def secret_wrong(self, *, settled: bool) -> list[str]:
        """Ask the oracle about the broker's own secret."""
        look = oracle.exchanged if settled else oracle.reachable
        return look(self.folder / "secrets", SECRET, self.drill.opens)


def recover(run: Run) -> list[str]:
    """Start a broker where a dead one stood, minutes and an hour later; return what the oracle finds wrong."""
    world = run.world(SOON)
    world.sweep()
    wrong = run.tracked() + run.secret_wrong(settled=False)
    rotate(world.broker, "ledger")
    wrong += run.secret_wrong(settled=True)
    world.advance(MUCH_LATER)
    world.sweep()
    world.close()
    return wrong + run.explained(world.clock.now())


def policy(connector: Mapping[str, Any]) -> dict[str, Any]:
    """Return a policy with one target."""
    target = {"name": "Ledger", "owner": "infra", "entitlements": {"writer": {"max_duration": "1h"}}}
    rule = {
        "id": "write",
        "for": {"groups": ["treasury-staff"]},
        "to": {"target": "ledger", "entitlements": ["writer"]},
        "duration": {"default": "10m", "max": "1h"},
        "approve": "none",
    }
    return {
        "version": 1,
        "institutions": {key: {"name": key} for key in ("mof", "infra", "nao")},
        "targets": {"ledger": {**target, "connector": connector}},
        "rules": [rule],
    }


def start(folder: Path) -> Drill:
    """Start the server, give the broker its account as `setup` prints it, seed the broker; raises NoPostgres."""
    kind = os.environ.get("TEST_POSTGRES", "system")
    server = postgres.start_of(kind, {"max_prepared_transactions": "5"})
    proxy = CuttingProxy(int(server.admin_url.port or 0))
    password = new_secret()
    owner = server.admin_url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute("CREATE DATABASE app")
        connection.execute("CREATE ROLE app_write NOLOGIN")
    connector = {
        "kind": "postgresql",
        "host": "127.0.0.1",
        "port": proxy.port,
        "tls": "none",
        "database": "app",
        "secret": SECRET,
        "entitlements": {"writer": {"roles": ["app_write"]}},
    }
    script = folder / "setup.sql"
    setup = KIND.setup(KIND.config.model_validate(connector))
    script.write_text(f"{setup}\nGRANT CREATE ON DATABASE postgres TO jit_quarantine;\n")
    assert server.binaries is not None
    url = server.admin_url
    done = subprocess.run(
        [
            server.binaries / "psql",
            "-X",
            "-q",
            "-f",
            script,
            "-h",
            "127.0.0.1",
            "-p",
            str(url.port),
            "-U",
            "postgres",
            "app",
        ],
        input=f"{password}\n{password}\n",
        env={"PGPASSWORD": str(url.password), "PATH": os.environ["PATH"]},
        text=True,
        capture_output=True,
        start_new_session=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Drill(server, proxy, seeded(folder, connector), password, connector)


def seeded(folder: Path, connector: Mapping[str, Any], url: str = "") -> Prepared:
    """Seed a broker with one target, in a folder or in the database of this URL."""
    policies = folder / "policies"
    policies.mkdir(parents=True)
    (policies / "policy.yaml").write_text(json.dumps(policy(connector)))
    return prepare(
        url or f"sqlite:///{folder / 'broker.db'}", folder, policies=policies, now=present() - timedelta(minutes=1)
    )
