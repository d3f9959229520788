"""A real provisioner as target behind the proxy that fails on purpose, and a broker that is copied for each drill."""

import base64
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from jitaccess.store.ids import new_secret
from tests.support import oracle
from tests.support.cutting import CuttingProxy, Mode
from tests.support.drill import SECRET, Run, copied, seeded
from tests.support.ports import free_port
from tests.support.sources import ROOT
from tests.support.world import Prepared


@dataclass(slots=True)
class WebhookDrill:
    """One provisioner, one proxy, one prepared broker."""

    process: "subprocess.Popen[str]"
    proxy: CuttingProxy
    prepared: Prepared
    view: oracle.Provisioner
    secret: str
    kind: str = "webhook"
    refuses: bytes = b"not_made"

    def birth(self, piece: bytes) -> bool:
        """Say whether a request makes an account."""
        return b"access.apply" in piece

    def end(self, piece: bytes) -> bool:
        """Say whether a request ends access."""
        return b"access.cut" in piece

    def exchange(self, piece: bytes) -> bool:
        """Say whether a request changes the key that messages are checked with."""
        return b"access.rotate" in piece

    def tracked(self, database: str) -> list[str]:
        """Say what is wrong at any moment."""
        return oracle.tracked_entries(database, self.view.accounts())

    def explained(self, database: str, now: datetime) -> list[str]:
        """Say what is wrong once all should be settled."""
        return oracle.explained_entries(database, self.view.accounts(), now)

    def there(self) -> set[str]:
        """Return the accounts that leases made."""
        return set(self.view.accounts())

    def opens(self, secret: str) -> bool:
        """Say whether the provisioner takes what this key signs."""
        return self.view.opens(secret)

    def begin(self, folder: Path) -> Run:
        """Copy the broker into a folder, and put the provisioner and the proxy right."""
        self.proxy.disarm()
        self.proxy.become(Mode.PASS)
        self.view.forget()
        (self.view.folder / "check_with").write_text(as_shared(self.secret))
        return copied(self, folder, self.secret)

    def close(self) -> None:
        """Stop both."""
        self.proxy.close()
        self.process.kill()
        self.process.communicate()


def as_shared(drawn: str) -> str:
    """Return a key as the standard writes it."""
    return "whsec_" + base64.b64encode(base64.urlsafe_b64decode(drawn + "=")).decode()


def start(folder: Path) -> WebhookDrill:
    """Start the shipped example of a provisioner, which follows no clock of a drill, and seed the broker."""
    port, secret = free_port(), new_secret()
    (folder / "check_with").write_text(as_shared(secret))
    command = [sys.executable, "-m", "tests.support.patient_provisioner", "--port", str(port), "--state", str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert "listens" in process.stdout.readline()
    proxy = CuttingProxy(port, whole=lambda reply: reply.endswith(b"}"))  # an answer is one object of JSON
    connector = {
        "kind": "webhook",
        "url": f"http://127.0.0.1:{proxy.port}/jitaccess",
        "secret": SECRET,
        "timeout_s": 5,
        "ends_by_itself": "logins_and_sessions",
        "entitlements": {"writer": {"grants": ["open:vault"]}},
    }
    return WebhookDrill(process, proxy, seeded(folder, connector), oracle.Provisioner(folder, port), secret)
