"""A real PostgreSQL as target behind a proxy that fails on purpose, and a broker that is copied for each drill."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from jitaccess.connectors.postgresql import KIND
from jitaccess.store.ids import new_secret
from tests.support import mortal, oracle, postgres
from tests.support.cutting import CuttingProxy, Mode
from tests.support.world import Prepared, World, prepare

SECRET = "bench"


def present() -> datetime:
    """Return this moment: the target's own clock cannot be frozen, so the broker's stands where that one is."""
    return datetime.now(UTC)


@dataclass(slots=True)
class Drill:
    """One server, one proxy, one prepared broker."""

    server: postgres.Server
    proxy: CuttingProxy
    prepared: Prepared
    password: str

    @property
    def owner(self) -> str:
        """Return the conninfo of the target's owner, past the proxy."""
        return self.server.admin_url.set(drivername="postgresql", database="app").render_as_string(hide_password=False)

    @property
    def broker_login(self) -> str:
        """Return the conninfo of the broker's own account, past the proxy and without its password."""
        return f"host=127.0.0.1 port={self.server.admin_url.port} dbname=app user=jit_broker"

    def sql(self, statement: str, *names: str) -> None:
        """Run a statement as the target's owner."""
        with psycopg.connect(self.owner, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    def begin(self, folder: Path) -> "Run":
        """Copy the broker into a folder, and put the target and the proxy right."""
        self.proxy.disarm()
        self.proxy.become(Mode.PASS)
        for name in oracle.roles(self.owner):
            self.sql("DROP OWNED BY {0} CASCADE; DROP ROLE {0}".replace("{0}", "{}"), name, name)
        with psycopg.connect(self.owner, autocommit=True) as connection:
            connection.execute("ALTER ROLE jit_broker CREATEROLE")
            connection.execute(sql.SQL("ALTER ROLE jit_broker PASSWORD {}").format(sql.Literal(self.password)))
        (folder / "secrets").mkdir(parents=True)
        secret = folder / "secrets" / SECRET
        secret.write_text(self.password)
        secret.chmod(0o600)
        for file in ("wrapping.key", *(one.name for one in self.prepared.folder.glob("broker.db*"))):
            shutil.copy(self.prepared.folder / file, folder / file)
        return Run(self, folder, present())

    def close(self) -> None:
        """Stop both."""
        self.proxy.close()
        self.server.stop()


@dataclass(slots=True)
class Run:
    """One drill."""

    drill: Drill
    folder: Path
    now: datetime
    """Where the broker's clock stands at first."""

    def child(self, **orders: Any) -> Any:
        """Start a child with these orders."""
        keys = mortal.as_words(self.drill.prepared.seeded)
        return mortal.child(mortal.Orders(self.folder, orders.pop("now", self.now), keys, **orders))

    def world(self, later: timedelta = timedelta(), *, defect: str = "") -> World:
        """Open the broker in this process."""
        return mortal.world_in(self.folder, self.drill.prepared.seeded, self.now + later, defect=defect)

    def tracked(self) -> list[str]:
        """Ask the oracle what is wrong right now."""
        return oracle.tracked(self.folder / "broker.db", self.drill.owner)

    def explained(self, now: datetime) -> list[str]:
        """Ask the oracle what is wrong once all should be settled."""
        return oracle.explained(self.folder / "broker.db", self.drill.owner, now)

    def roles(self) -> set[str]:
        """Return the accounts on the target that a lease made."""
        return set(oracle.roles(self.drill.owner))

    def states(self) -> list[str]:
        """Return the states of all leases."""
        return sorted(lease.state for lease in oracle.leases(self.folder / "broker.db").values())

    def secret_wrong(self, *, settled: bool) -> list[str]:
        """Ask the oracle about the broker's own secret."""
        look = oracle.exchanged if settled else oracle.reachable
        return look(self.folder / "secrets", SECRET, self.drill.broker_login)


def policy(port: int) -> dict[str, Any]:
    """Return a policy with the target behind the proxy."""
    connector: Mapping[str, Any] = {
        "kind": "postgresql",
        "host": "127.0.0.1",
        "port": port,
        "tls": "none",
        "database": "app",
        "secret": SECRET,
        "entitlements": {"writer": {"roles": ["app_write"]}},
    }
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
    config = policy(proxy.port)
    script = folder / "setup.sql"
    setup = KIND.setup(KIND.config.model_validate(config["targets"]["ledger"]["connector"]))
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
    policies = folder / "policies"
    policies.mkdir()
    (policies / "policy.yaml").write_text(json.dumps(config))
    seeded = prepare(
        f"sqlite:///{folder / 'broker.db'}", folder, policies=policies, now=present() - timedelta(minutes=1)
    )
    return Drill(server, proxy, seeded, password)
