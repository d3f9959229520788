"""Before, during and after access by a provisioner of one's own: `python -m examples.webhook`. Exit code 0 only when all of it held.

Starts the small application of this folder, lets arta ask and blerim approve, opens the access, and shows in the application itself what is
there and what is not.
"""

import base64
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

from examples.office import Office, held, say
from jitaccess.broker import reconcile
from jitaccess.demo.servers import free_port
from jitaccess.outbound.webhooks import Scheme, Signer, encoded, headers_of

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


class Application:
    """The application as people see it, and as its owner does."""

    def __init__(self, folder: Path, port: int) -> None:
        self._file = folder / "accounts.db"
        self._address = f"http://127.0.0.1:{port}"

    def _speak(self, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        asked = urllib.request.Request(f"{self._address}{path}", body, headers)  # noqa: S310 - our own address
        try:
            with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310 - our own address
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, {}

    def sign_in(self, name: str, secret: str) -> str | None:
        """Return a session, or None where nobody is let in."""
        basic = base64.b64encode(f"{name}:{secret}".encode()).decode()
        _, said = self._speak("/sign-in", b"", {"Authorization": f"Basic {basic}"})
        return said.get("token")

    def opens(self, token: str | None) -> bool:
        """Say whether a session opens the vault."""
        return self._speak("/vault", None, {"Authorization": f"Bearer {token}"})[0] == 200

    def tell(self, signer: Signer, message: dict[str, object]) -> int:
        """Send a message to the provisioner; return the status."""
        body = encoded(message)
        return self._speak("/jitaccess", body, headers_of([signer], "read_forged", int(time.time()), body))[0]

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        """Look into the application's own file, or change it."""
        with closing(sqlite3.connect(self._file, timeout=10)) as store, store:
            return store.execute(statement).fetchall()

    def accounts(self) -> list[str]:
        """Return who could sign in."""
        return [str(name) for (name,) in self.ask("SELECT name FROM live ORDER BY name")]


def main() -> None:
    """Play it."""
    with tempfile.TemporaryDirectory(prefix="jitaccess-webhook-") as scratch:
        folder, port = Path(scratch), free_port(28100)
        environment = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
        subprocess.run([HERE / "start.sh", folder, str(port)], check=True, env=environment, cwd=ROOT)  # noqa: S603 - our own script
        policies = folder / "policies"
        policies.mkdir()
        (policies / "policy.yaml").write_text((HERE / "policy.yaml").read_text().replace("28100", str(port)))
        try:
            with closing(Office(policies, folder / "secrets")) as office:
                play(office, Application(folder, port))
        finally:
            subprocess.run([HERE / "stop.sh", folder], check=False, env=environment)  # noqa: S603 - our own script


def play(office: Office, doors: Application) -> None:
    """Show before, during and after; then a forged message, and an account that nobody signed for."""
    say("Before")
    held("the application has no accounts", doors.accounts() == [])
    say("During: arta asks for two minutes, blerim signs, arta opens it with her passkey")
    filed = office.ask("arta", "doors", "opener", 120, "the new seal has to go in")
    grant = office.approve("blerim", filed.request.id).grant
    assert grant is not None  # noqa: S101 - one signature was enough
    opened = office.open("arta", grant.id)
    credential = opened.credential
    assert credential.secret is not None  # noqa: S101 - this kind has one
    say(f"       {credential.command}")
    held("one account, named after the lease", doors.accounts() == [credential.username])
    session = doors.sign_in(credential.username, credential.secret.reveal())
    held("arta signs in with the name and the secret, and the vault opens", doors.opens(session))
    say("Somebody without the key tells the provisioner to look")
    stranger = Signer(Scheme.HMAC, "whsec_" + base64.b64encode(os.urandom(32)).decode())
    forged = {"type": "access.read", "account": credential.username}
    held("it answers 401, and nothing else", doors.tell(stranger, forged) == 401)
    say("After: arta hands it back, with her session still open")
    office.hand_back("arta", grant.id)
    proof = office.proof(opened.lease.id)
    say(f"       the provisioner says: {proof['cut']}, {proof['clean']}, {proof['lag_ms']} ms after the end")
    held("the application has no accounts", doors.accounts() == [])
    held("her session opens nothing", not doors.opens(session))
    held("her secret lets nobody in", doors.sign_in(credential.username, credential.secret.reveal()) is None)
    say("Somebody makes an account by hand")
    doors.ask("INSERT INTO account VALUES ('shadow', '', '[\"open:vault\"]', NULL, 0)")
    with office.broker.read() as view:
        (target,) = reconcile.outside_targets(view, office.broker)
    looked = reconcile.look(office.broker, target)
    found = ", ".join(f"{one.account} is {one.what.value} with {', '.join(one.extra)}" for one in looked.findings)
    held(f"it is found at the next look: {found}", [one.account for one in looked.findings] == ["shadow"])
    held("and locked, as the policy says", doors.accounts() == [])


if __name__ == "__main__":
    main()
