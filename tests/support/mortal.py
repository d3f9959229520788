"""A child process that asks for access on a target, opens it and gives it back, and dies by SIGKILL at one chosen moment of that.

`python -m tests.support.mortal FOLDER MOMENT`: MOMENT counts commits (just before and just after each) and target calls (the same)
from the request on; 0 lives to the end and writes how many there were into FOLDER/moments. The target is a file, so that it outlives both.
"""

import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from jitaccess.broker import revoke
from jitaccess.broker.issue import Opened, open_lease
from jitaccess.connectors.contract import Account, ConnectorKind, Credential, Effect, Proofs
from jitaccess.connectors.fake import FakeConnector, fake_kind
from jitaccess.policy.schema import TokenConnector
from jitaccess.store.db import Database
from jitaccess.store.tables import Grant
from tests.support.world import World, open_world, prepare


class Death:
    """Counts moments and kills this process at one of them."""

    def __init__(self, at: int) -> None:
        self.at, self.passed, self.counting = at, 0, False

    def moment(self, name: str) -> None:
        """Pass a moment, or die at it."""
        if self.counting:
            self.passed += 1
            if self.passed == self.at:
                os.kill(os.getpid(), signal.SIGKILL)


class FileTarget(FakeConnector):
    """A target whose accounts are in a file."""

    def __init__(self, file: Path, death: Death | None = None) -> None:
        super().__init__()
        self._file = file
        self._death = death

    def _moment(self, name: str) -> None:
        if self._death is not None:
            self._death.moment(name)

    def _load(self) -> None:
        names = json.loads(self._file.read_text()) if self._file.exists() else []
        self.accounts = {name: Account(name) for name in names}

    def _save(self) -> None:
        beside = self._file.with_suffix(".new")
        beside.write_text(json.dumps(sorted(self.accounts)))
        os.replace(beside, self._file)

    def apply(self, effect: Effect, deadline: datetime) -> Credential:
        """Make the account."""
        self._moment("before-apply")
        self._load()
        found = super().apply(effect, deadline)
        self._save()
        self._moment("after-apply")
        return found

    def bury(self, effect: Effect) -> None:
        """Take the name."""
        self._load()
        super().bury(effect)
        self._save()

    def cut(self, effects: Sequence[Effect]) -> Proofs:
        """End sessions."""
        self._moment("before-cut")
        self._load()
        found = super().cut(effects)
        self._moment("after-cut")
        return found

    def clean(self, effects: Sequence[Effect]) -> Proofs:
        """Delete."""
        self._moment("before-clean")
        self._load()
        found = super().clean(effects)
        self._save()
        self._moment("after-clean")
        return found


def kind_of(target: FileTarget) -> ConnectorKind:
    """Let the treasury be this target."""
    return fake_kind(target, "token", config=TokenConnector)


def live(folder: Path, at: int) -> None:
    """Do all of it, or die on the way."""
    url = f"sqlite:///{folder / 'broker.db'}"
    world = open_world(url, prepare(url, folder), folder)
    death = Death(at)
    broker = world.broker
    db = Database(url, broker.clock, broker.keyring.seals, probe=death.moment)
    broker.db.close()
    world.broker = replace(
        broker,
        db=db,
        checkpoints=type(broker.checkpoints)(
            db, broker.keyring, origin=broker.site.log_origin, pilot=False, publish_folder=None
        ),
    )
    world.use_kind(kind_of(FileTarget(folder / "target.json", death)))
    arta = world.current("arta")
    death.counting = True
    scenario(world, arta.person.id)
    (folder / "moments").write_text(str(death.passed))


def scenario(world: World, person_id: str) -> None:
    """Ask, open, give back, and let the sweep take it away."""
    grant = world.filed(duration_s=600).grant
    assert grant is not None
    arta = world.current("arta")
    opened = open_lease(world.broker, arta, grant.id)
    assert isinstance(opened, Opened)
    with world.broker.begin(arta.actor, lock=[(Grant, grant.id)]) as tx:
        revoke.hand_back(tx, arta, grant.id)
    world.sweep()


if __name__ == "__main__":
    live(Path(sys.argv[1]), int(sys.argv[2]))
