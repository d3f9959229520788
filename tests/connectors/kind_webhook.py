"""A provisioner on the bench: the shipped example as a process of its own, over TLS with a shared key, and on loopback with Ed25519."""

import base64
import json
import os
import sqlite3
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from jitaccess.connectors.contract import Credential, Secret
from jitaccess.connectors.webhook import KIND
from jitaccess.outbound.webhooks import Scheme, Signer
from jitaccess.store.ids import new_secret
from tests.support.bench import Bench, LoginRefused
from tests.support.certificates import write_certificates
from tests.support.ports import free_port
from tests.support.sources import ROOT


class WebhookSession:
    """A person who signed in to the application."""

    def __init__(self, bench: "WebhookBench", token: str) -> None:
        self._bench = bench
        self._token = token

    def alive(self) -> bool:
        """Open the vault."""
        try:
            return bool(self._bench.speak("/vault", None, {"Authorization": f"Bearer {self._token}"})["vault"])
        except (OSError, KeyError):
            return False

    def leave_behind(self, names: Sequence[str]) -> None:
        """Nothing can be made there."""


class WebhookBench:
    """One provisioner."""

    kind = KIND
    entitlement = "writer"

    def __init__(self, *, tls: bool) -> None:
        self.tls = tls
        self.label = f"webhook ({'HMAC over TLS' if tls else 'Ed25519'})"
        self._secret = "whsec_" + base64.b64encode(os.urandom(32)).decode() if tls else new_secret()
        self._folder: Path
        self.port: int
        self.process: subprocess.Popen[str]

    def start(self, folder: Path) -> None:
        """Start it; it knows what to check with."""
        self._folder = folder
        self.port = free_port()
        command = [
            sys.executable,
            "-m",
            "examples.webhook.provisioner",
            "--port",
            str(self.port),
            "--state",
            str(folder),
        ]
        if self.tls:
            write_certificates(folder)
            command += ["--certificate", str(folder / "server.pem"), "--key", str(folder / "server.key")]
        (folder / "check_with").write_text(self.signer().shared)
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert "listens" in self.process.stdout.readline()

    def signer(self) -> Signer:
        """Return the broker's key."""
        return Signer(Scheme.HMAC if self.tls else Scheme.ED25519, self._secret)

    def stop(self) -> None:
        """Stop it."""
        self.process.kill()
        self.process.communicate()

    def config(self) -> Mapping[str, object]:
        """Return its configuration."""
        where: dict[str, object] = (
            {"url": f"https://127.0.0.1:{self.port}/jitaccess", "root_ca": str(self._folder / "ca.pem")}
            if self.tls
            else {"url": f"http://127.0.0.1:{self.port}/jitaccess", "signature": "ed25519"}
        )
        return {
            "kind": "webhook",
            "secret": "bench",
            "ends_by_itself": "logins_and_sessions",
            "command": "curl -X POST --user {username} https://doors.example/sign-in",
            "entitlements": {"writer": {"grants": ["open:vault"]}},
            **where,
        }

    def secret(self) -> Secret:
        """Return the broker's key."""
        return Secret(self._secret)

    def nowhere(self) -> Mapping[str, object]:
        """Name a port where nothing listens."""
        return {**self.config(), "url": f"https://127.0.0.1:{free_port()}/jitaccess"}

    def given(self) -> Mapping[str, str]:
        """Nothing is handed in."""
        return {}

    def speak(self, path: str, body: object, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Speak to the application as people do."""
        scheme = "https" if self.tls else "http"
        text = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(f"{scheme}://127.0.0.1:{self.port}{path}", text, {**(headers or {})})
        context = ssl.create_default_context(cafile=self._folder / "ca.pem") if self.tls else None
        with urllib.request.urlopen(asked, timeout=10, context=context) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    @contextmanager
    def login(self, credential: Credential) -> Iterator[WebhookSession]:
        """Sign in with what the person was shown."""
        assert credential.secret is not None
        assert credential.secret.reveal() not in credential.command
        assert credential.username in credential.command
        try:
            basic = base64.b64encode(f"{credential.username}:{credential.secret.reveal()}".encode()).decode()
            found = self.speak("/sign-in", {}, {"Authorization": f"Basic {basic}"})
        except urllib.error.HTTPError as error:
            raise LoginRefused(str(error)) from error
        yield WebhookSession(self, found["token"])

    def owner(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Look into the application's own file, or change it."""
        with closing(sqlite3.connect(self._folder / "accounts.db", timeout=10)) as store, store:
            return store.execute(statement, values).fetchall()

    def accounts(self) -> set[str]:
        """List the accounts."""
        return {str(name) for (name,) in self.owner("SELECT name FROM account")}

    def stray(self) -> str:
        """Make an account by hand."""
        name = f"stray \"'<{new_secret()[:6]}"
        self.owner("INSERT INTO account VALUES (?, 'x', '[\"open:vault\"]', NULL, 0)", name)
        return name

    def can_log_in(self, account: str) -> bool:
        """Look at the account."""
        return self.owner("SELECT locked FROM account WHERE name = ?", account) == [(0,)]


def benches() -> list[Bench]:
    """Return both."""
    return [WebhookBench(tls=True), WebhookBench(tls=False)]
