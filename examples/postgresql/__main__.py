"""Before, during and after access to a database: `python -m examples.postgresql`. Exit code 0 only when all of it held.

Starts a throw-away server (Debian's PostgreSQL; PG_BIN names another one's programs), lets arta ask and blerim approve, opens the access,
and shows on the server itself what is there and what is not.
"""

import os
import subprocess
import sys
import tempfile
from contextlib import closing, suppress
from pathlib import Path

import psycopg

from examples.office import Office, held, say
from jitaccess.broker import reconcile
from jitaccess.demo.servers import free_port
from jitaccess.policy.evaluate import TargetFacts

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


class Database:
    """The server as its owner sees it."""

    def __init__(self, folder: Path, port: int) -> None:
        self._conninfo = {"host": "127.0.0.1", "port": port, "dbname": "app"}
        self._owner = (folder / "owner").read_text()

    def ask(self, statement: str) -> list[tuple[object, ...]]:
        """Run a statement as the owner; return its rows."""
        with psycopg.connect(**self._conninfo, user="postgres", password=self._owner, autocommit=True) as connection:  # type: ignore[arg-type] # host, port, dbname
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def logins(self) -> list[str]:
        """Return who could log in."""
        rows = self.ask("SELECT rolname FROM pg_roles WHERE rolcanlogin AND rolname <> 'jit_broker' ORDER BY 1")
        return [str(name) for (name,) in rows]


def main() -> None:
    """Play it."""
    with tempfile.TemporaryDirectory(prefix="jitaccess-postgresql-") as scratch:
        folder, port = Path(scratch), free_port(25432)
        environment = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
        subprocess.run([HERE / "start.sh", folder, str(port)], check=True, env=environment)  # noqa: S603 - our own script
        policies = folder / "policies"
        policies.mkdir()
        (policies / "policy.yaml").write_text((HERE / "policy.yaml").read_text().replace("25432", str(port)))
        try:
            with closing(Office(policies, folder / "secrets")) as office:
                play(office, Database(folder, port))
        finally:
            subprocess.run([HERE / "stop.sh", folder], check=False, env=environment)  # noqa: S603 - our own script


def play(office: Office, database: Database) -> None:
    """Show before, during and after; then an account that nobody signed for."""
    say("Before")
    held("nobody but the owner can log in", database.logins() == ["postgres"])
    say("During: arta asks for two minutes, blerim signs, arta opens it with her passkey")
    filed = office.ask("arta", "ledger", "reader", 120, "balance does not add up")
    grant = office.approve("blerim", filed.request.id).grant
    assert grant is not None  # noqa: S101 - one signature was enough
    opened = office.open("arta", grant.id)
    credential = opened.credential
    assert credential.secret is not None  # noqa: S101 - this kind has one
    say(f"       {credential.command}")
    held("one login role more, named after the lease", database.logins() == [credential.username, "postgres"])
    conninfo = credential.command.removeprefix('psql "').removesuffix('"')
    person = psycopg.connect(conninfo, password=credential.secret.reveal(), autocommit=True)
    rows = person.execute("SELECT what FROM entry").fetchall()
    held("arta reads the ledger with the command and the password", rows == [("opening balance",)])
    with suppress(psycopg.errors.InsufficientPrivilege):
        person.execute("DELETE FROM entry")
        held("arta may not change it", False)
    say("After: arta hands it back, with her session still open")
    office.hand_back("arta", grant.id)
    proof = office.proof(opened.lease.id)
    say(f"       the server says: {proof['cut']}, {proof['clean']}, {proof['lag_ms']} ms after the end")
    held("nobody but the owner can log in", database.logins() == ["postgres"])
    held("her session is dead", not alive(person))
    person.close()
    held("her password opens nothing", refused(conninfo, credential.secret.reveal()))
    say("Somebody makes a superuser by hand")
    database.ask("CREATE ROLE shadow SUPERUSER")
    with office.broker.read() as view:
        (ledger,) = reconcile.outside_targets(view, office.broker)
    look(office, ledger)
    with office.broker.read() as view:
        (row,) = reconcile.open_findings(view)
    held(f"nobody can log in with it yet; its owner is told to run {row.statement}", row.acted == "cannot")
    database.ask("ALTER ROLE shadow LOGIN")
    look(office, ledger)
    held("now it could log in, and is locked through the owner's own function", database.logins() == ["postgres"])
    database.ask(str(row.statement))
    database.ask("DROP ROLE shadow")


def look(office: Office, target: TargetFacts) -> None:
    """Look at the target as the broker does every few minutes, and say what was found."""
    looked = reconcile.look(office.broker, target)
    found = ", ".join(f"{one.account} is {one.what.value} with {', '.join(one.extra)}" for one in looked.findings)
    held(f"it is found at the next look: {found}", [one.account for one in looked.findings] == ["shadow"])


def alive(connection: "psycopg.Connection[tuple[object, ...]]") -> bool:
    """Say whether a session still answers."""
    try:
        connection.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True


def refused(conninfo: str, password: str) -> bool:
    """Say whether the server lets nobody in."""
    try:
        psycopg.connect(conninfo, password=password).close()
    except psycopg.OperationalError:
        return True
    return False


if __name__ == "__main__":
    main()
