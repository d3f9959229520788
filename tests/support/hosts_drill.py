"""A host that fetches, in software, and a broker that is copied for each drill: for targets that are not called but come themselves.

The host obeys what an authority signed that it trusts, and nothing else; somebody comes in with every certificate that it takes, and
stays until the host is told to end it. It can be deaf (what it is told is lost) or dumb (what it says is lost).
"""

import json
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jitaccess.connectors.contract import Publisher, Unreachable
from jitaccess.connectors.ssh_ca.authority import public_line
from jitaccess.connectors.ssh_ca.wire import blob_of_line, sign, verify
from jitaccess.errors import JitError
from jitaccess.store.ids import new_secret
from tests.support import oracle
from tests.support.drill import SECRET, Run, copied, seeded
from tests.support.world import Prepared, World

NAME, ACCOUNT, PRINCIPAL = "db1", "ops", "jit-operator"
EVERY_S = 0.03


class Ear(StrEnum):
    """What of an asking is lost."""

    NOTHING = "nothing"
    REPORT = "report"
    """It never arrives."""
    BULLETIN = "bulletin"
    """The report arrives, the answer is lost."""


class SoftHost:
    """One host, in a thread of its own beside the broker's process."""

    def __init__(self, world: World, key: Ed25519PrivateKey, trusted: str) -> None:
        self._world, self._key = world, key
        self.trusted = [trusted]
        self.live: dict[str, float] = {}
        """Certificate's name -> its end, as the host was told."""
        self.sessions: set[str] = set()
        self.ear = Ear.NOTHING
        self._number, self._at_us = 0, 0
        self._guard = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(EVERY_S):
            with suppress(JitError, Unreachable):
                self.ask()

    def ask(self) -> None:
        """Report, and obey what comes back."""
        with self._guard:
            if self.ear is Ear.REPORT:
                return
            broker = self._world.broker
            broker.db.raise_high_water()  # its broker's time is the one of the process that is being killed
            with broker.read() as view:
                connector = broker.policies.active(view).targets["ledger"].connector
            publisher = cast(Publisher, broker.targets.at("ledger", connector))
            text = json.dumps(self._report())
            bulletin, signature = publisher.exchange(text, sign(self._key, "jitaccess-report", text.encode()))
            if self.ear is Ear.NOTHING:
                self._obey(bulletin, signature)

    def _report(self) -> dict[str, Any]:
        logins = [
            {"account": ACCOUNT, "serial": "1", "key_id": name, "ends": 1, "count": 1} for name in sorted(self.sessions)
        ]
        return {
            "v": 1,
            "target": "ledger",
            "host": NAME,
            "nonce": new_secret()[:20],
            "sequence": self._at_us,
            "number": self._number,
            "logins": logins,
            "clock_off_s": 0.0,
            "wrong": [],
            "authorities": [],
            "keys": [],
            "principals": {ACCOUNT: [PRINCIPAL]},
        }

    def _obey(self, bulletin: str, signature: str) -> None:
        known = {blob_of_line(line) for line in self.trusted}
        if verify(signature, "jitaccess-bulletin", bulletin.encode(), known) is None:
            return
        news = json.loads(bulletin)
        self._at_us = news["at_us"]
        if "live" not in news:
            return
        self.live = {str(one["key_id"]): float(one["ends"]) for one in news["live"].values()}
        self.sessions = (self.sessions & self.live.keys()) | self.live.keys()
        self.trusted = [str(line) for line in news["trusted"]]
        self._number = news["number"]

    def settle(self) -> None:
        """Take in what is posted, and say so."""
        with suppress(JitError, Unreachable):
            self.ask()
            self.ask()

    def close(self) -> None:
        """Ask no more."""
        self._over.set()
        self._thread.join()
        self._world.close()


@dataclass(slots=True)
class HostsDrill:
    """One host, one prepared broker."""

    prepared: Prepared
    key: Ed25519PrivateKey
    secret: str
    kind: str = "ssh_ca"
    host: SoftHost | None = field(default=None)

    def entries(self) -> dict[str, oracle.Role]:
        """Return what the host takes now, and who is in."""
        assert self.host is not None
        live, sessions = dict(self.host.live), set(self.host.sessions)
        return {
            name: oracle.Role(name in live, live.get(name), int(name in sessions), 0)
            for name in live | dict.fromkeys(sessions, 0.0)
        }

    def tracked(self, database: str) -> list[str]:
        """Say what is wrong at any moment: the host as it is, whatever it will hear next."""
        return oracle.tracked_entries(database, self.entries())

    def explained(self, database: str, now: datetime) -> list[str]:
        """Say what is wrong once all should be settled."""
        self.there()
        return oracle.explained_entries(database, self.entries(), now)

    def there(self) -> set[str]:
        """Return what the host takes once it has heard everything."""
        assert self.host is not None
        self.host.settle()
        return set(self.entries())

    def opens(self, secret: str) -> bool:
        """Say whether the host trusts the authority of this secret."""
        assert self.host is not None
        return oracle.authority_line(secret) in self.host.trusted

    def begin(self, folder: Path) -> Run:
        """Copy the broker into a folder, and let a fresh host listen to it."""
        self.close()
        run = copied(self, folder, self.secret)
        self.host = SoftHost(run.world(), self.key, oracle.authority_line(self.secret))
        self.host.settle()
        return run

    def close(self) -> None:
        """Stop the host."""
        if self.host is not None:
            self.host.close()
        self.host = None


def start(folder: Path) -> HostsDrill:
    """Seed the broker."""
    key, secret = Ed25519PrivateKey.generate(), new_secret()
    connector = {
        "kind": "ssh_ca",
        "secret": SECRET,
        "hosts": [{"name": NAME, "key": public_line(key)}],
        "silent_after_s": 20_000,  # a drill jumps by hours; no host goes silent by that
        "entitlements": {"writer": {"principal": PRINCIPAL, "account": ACCOUNT}},
    }
    return HostsDrill(seeded(folder, connector), key, secret)
