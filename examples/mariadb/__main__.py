"""Before, during and after access to a database: `python -m examples.mariadb`. Exit code 0 only when all of it held.

Starts a throw-away server (Debian's mariadb-server-core), lets arta ask and blerim approve, opens the access, and shows on the server
itself what is there and what is not.
"""

import os
import subprocess
import sys
import tempfile
from contextlib import closing, suppress
from getpass import getuser
from pathlib import Path
from typing import Any

import pymysql

from examples.office import Office, held, say
from jitaccess.broker import reconcile
from jitaccess.connectors.contract import Credential
from jitaccess.demo.servers import free_port

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
Rows = tuple[tuple[Any, ...], ...]


class Database:
    """The server as its owner sees it."""

    def __init__(self, folder: Path) -> None:
        self._socket = str(folder / "server" / "socket")

    def ask(self, statement: str) -> Rows:
        """Run a statement as the owner; return its rows."""
        with pymysql.connect(unix_socket=self._socket, user=getuser(), autocommit=True) as connection:
            return run(connection, statement)

    def logins(self) -> list[str]:
        """Return who could log in, but for the server's owner and the broker."""
        locked = "COALESCE(JSON_VALUE(Priv, '$.account_locked'), '0') IN ('1', 'true')"
        roles = "COALESCE(JSON_VALUE(Priv, '$.is_role'), '0') IN ('1', 'true')"
        known = f"User IN ('root', 'mysql', 'jit_broker', '{getuser()}')"
        rows = self.ask(f"SELECT User FROM mysql.global_priv WHERE NOT ({locked} OR {roles} OR {known})")  # noqa: S608 - our own text
        return [str(name) for (name,) in rows]


def run(connection: "pymysql.Connection[Any]", statement: str) -> Rows:
    """Run a statement; return its rows."""
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return tuple(cursor.fetchall())


def log_in(port: int, credential: Credential) -> "pymysql.Connection[Any]":
    """Come in as the person, with what they were shown."""
    assert credential.secret is not None  # noqa: S101 - this kind has one
    secret = credential.secret.reveal()
    return pymysql.connect(
        host="127.0.0.1", port=port, user=credential.username, password=secret, database="app", autocommit=True
    )


def main() -> None:
    """Play it."""
    with tempfile.TemporaryDirectory(prefix="jitaccess-mariadb-", ignore_cleanup_errors=True) as scratch:
        folder, port = Path(scratch), free_port(23306)
        environment = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
        subprocess.run([HERE / "start.sh", folder, str(port)], check=True, env=environment)  # noqa: S603 - our own script
        policies = folder / "policies"
        policies.mkdir()
        (policies / "policy.yaml").write_text((HERE / "policy.yaml").read_text().replace("23306", str(port)))
        try:
            with closing(Office(policies, folder / "secrets")) as office:
                play(office, Database(folder), port)
        finally:
            subprocess.run([HERE / "stop.sh", folder], check=False, env=environment)  # noqa: S603 - our own script


def play(office: Office, database: Database, port: int) -> None:
    """Show before, during and after; then an account that nobody signed for."""
    say("Before")
    held("nobody but the owner can log in", database.logins() == [])
    say("During: arta asks for two minutes, blerim signs, arta opens it with her passkey")
    filed = office.ask("arta", "ledger", "reader", 120, "balance does not add up")
    grant = office.approve("blerim", filed.request.id).grant
    assert grant is not None  # noqa: S101 - one signature was enough
    opened = office.open("arta", grant.id)
    credential = opened.credential
    say(f"       {credential.command}")
    held("one account more, named after the lease", database.logins() == [credential.username])
    person = log_in(port, credential)
    held("arta reads the ledger with her password", run(person, "SELECT what FROM entry") == (("opening balance",),))
    with suppress(pymysql.Error):
        run(person, "DELETE FROM entry")
        held("arta may not change it", False)
    run(person, "CREATE DEFINER = CURRENT_ROLE EVENT later ON SCHEDULE EVERY 1 SECOND DO SELECT what FROM entry")
    events = "SELECT name FROM mysql.event WHERE db = 'app'"
    held("she leaves an EVENT behind that runs as the role, not as her", database.ask(events) == (("later",),))
    say("After: arta hands it back, with her session still open")
    office.hand_back("arta", grant.id)
    proof = office.proof(opened.lease.id)
    say(f"       the server says: {proof['cut']}, {proof['clean']}, {proof['lag_ms']} ms after the end")
    held("nobody but the owner can log in", database.logins() == [])
    held("her session is dead", not alive(person))
    held("her password opens nothing", refused(port, credential))
    held("the EVENT is gone", database.ask(events) == ())
    say("Somebody makes an administrator by hand")
    database.ask("CREATE USER shadow@'%' IDENTIFIED BY 'x'")
    database.ask("GRANT SUPER ON *.* TO shadow@'%'")
    with office.broker.read() as view:
        (ledger,) = reconcile.outside_targets(view, office.broker)
    looked = reconcile.look(office.broker, ledger)
    found = ", ".join(f"{one.account} is {one.what.value} with {', '.join(one.extra)}" for one in looked.findings)
    held(f"it is found at the next look: {found}", [one.account for one in looked.findings] == ["shadow@%"])
    held("and locked, as the policy says, through the owner's own procedure", database.logins() == [])


def alive(connection: "pymysql.Connection[Any]") -> bool:
    """Say whether a session still answers."""
    try:
        run(connection, "SELECT 1")
    except pymysql.Error:
        return False
    return True


def refused(port: int, credential: Credential) -> bool:
    """Say whether the server lets nobody in."""
    try:
        log_in(port, credential).close()
    except pymysql.OperationalError:
        return True
    return False


if __name__ == "__main__":
    main()
