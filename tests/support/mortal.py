"""A child process that opens access on a real target, gives it back, lets it expire and exchanges the broker's own secret; and dies, or is
stopped, at one chosen moment of that.

A moment is just before or just after a commit, a call to the target, or a step of writing the broker's new secret to the disk. Moment 0
lives to the end and writes the names of all moments, in order, into FOLDER/moments. Children are forked from a server that has imported
everything already (multiprocessing's forkserver), so that a death costs a fraction of a second.
"""

import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from jitaccess.broker import revoke, rotate
from jitaccess.broker.board import SqlBoard
from jitaccess.broker.issue import Opened, open_lease
from jitaccess.connectors import OWN, load_kinds
from jitaccess.connectors.contract import Connector, ConnectorKind
from jitaccess.demo.seed import Seeded
from jitaccess.demo.soft_passkey import SoftPasskey
from jitaccess.settings import Targets
from jitaccess.store.db import Database
from jitaccess.store.tables import Grant
from tests.support.defects import DEFECTS
from tests.support.running import RunningClock
from tests.support.world import Prepared, World, open_world

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["pytest", "tests.support.mortal", *(place.partition(":")[0] for place in OWN.values())])
STEPS = frozenset({"write", "fsync", "replace"})
CALLS = frozenset({"apply", "bury", "cut", "clean", "rotate_own"})
SHORT_S, LONG_S = 300, 900
STOPPED_LIMIT_S = 120.0
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJvkua8TjYlubbYxhtRv+vv9BnTCAnuKTMS5a1bLRSmw"
"""Of somebody's own key, for kinds that ask for one; whose private half nobody kept."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What a child is to do."""

    folder: Path
    url: str
    """The broker's database."""
    keys: Mapping[str, Mapping[str, Any]]
    """Person's key -> id and passkey, as `as_words` gives them."""
    moment: int = 0
    sign: int = signal.SIGKILL
    """What it does to itself at that moment: SIGKILL or SIGSTOP."""
    defect: str = ""
    kind: str = "postgresql"
    only_open: bool = False
    lasts_s: int = LONG_S
    """For how long the access is asked that `only_open` opens."""


class Death:
    """Counts moments, and signals this process at one of them."""

    def __init__(self, at: int, sign: int) -> None:
        self.at, self.sign = at, sign
        self.passed: list[str] = []
        self.counting = False
        self._guard = threading.Lock()

    def moment(self, name: str) -> None:
        """Pass a moment, or end there."""
        with self._guard:
            if not self.counting:
                return
            self.passed.append(name)
            mine = len(self.passed) == self.at
        if mine:
            os.kill(os.getpid(), self.sign)


class Counted:
    """A connector whose calls to the target are moments."""

    def __init__(self, inner: Connector, death: Death) -> None:
        self._inner, self._death = inner, death

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in CALLS:
            return found

        def call(*given: Any, **named: Any) -> Any:
            self._death.moment(f"before-{name}")
            done = found(*given, **named)
            self._death.moment(f"after-{name}")
            return done

        return call


class Disk:
    """`os`, as the exchange of a secret uses it: each step towards the disk is a moment; writes come in halves."""

    def __init__(self, death: Death) -> None:
        self._death = death

    def __getattr__(self, name: str) -> Any:
        found = getattr(os, name)
        if name not in STEPS:
            return found

        def step(*given: Any) -> Any:
            self._death.moment(f"before-{name}")
            if name == "write":
                given = (given[0], given[1][: max(1, len(given[1]) // 2)])  # a disk may take less than it is given
            done = found(*given)
            self._death.moment(f"after-{name}")
            return done

        return step


def kind_of(name: str, defect: str = "", death: Death | None = None) -> ConnectorKind:
    """Return a kind, with a defect, with its calls counted."""
    known = load_kinds()[name]
    made = DEFECTS[name, defect] if defect else known.open

    def open_it(config: Any, around: Any) -> Any:
        connector = made(config, around)
        return connector if death is None else Counted(connector, death)

    return replace(known, open=open_it)


def as_words(seeded: Seeded) -> dict[str, dict[str, Any]]:
    """Return people and their passkeys as text, for a child."""
    found: dict[str, dict[str, Any]] = {}
    for key, passkey in seeded.passkeys.items():
        pem = passkey.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())  # type: ignore[union-attr] # EC
        found[key] = {
            "person": seeded.people[key.removesuffix("-2")],
            "counter": passkey.counter,
            "handle": passkey.user_handle,
            "id": passkey.credential_id,
            "key": pem,
            "origin": passkey.origin,
            "rp": passkey.rp_id,
        }
    return found


def _seeded(words: Mapping[str, Mapping[str, Any]]) -> Seeded:
    passkeys: dict[str, SoftPasskey] = {}
    for key, word in words.items():
        private: Any = load_pem_private_key(word["key"], None)
        passkeys[key] = SoftPasskey(
            word["rp"],
            word["origin"],
            counter=word["counter"],
            user_handle=word["handle"],
            credential_id=word["id"],
            key=private,
        )
    return Seeded({key: word["person"] for key, word in words.items()}, {}, passkeys, ())


def world_in(
    folder: Path, url: str, seeded: Seeded, ahead: timedelta, kind: str, *, defect: str = "", death: Death | None = None
) -> World:
    """Open the broker of a folder, `ahead` of the machine's time; its target is reached through whatever the signed policy names."""
    world = open_world(
        url,
        Prepared(folder, seeded),
        folder,
        clock=RunningClock(ahead),
        targets=Targets(secrets_dir=folder / "secrets"),
    )
    if death is not None:
        broker = world.broker
        db = Database(url, broker.clock, broker.keyring.seals, probe=death.moment)
        broker.db.close()
        made = type(broker.checkpoints)(
            db, broker.keyring, origin=broker.site.log_origin, pilot=False, publish_folder=None
        )
        world.broker = replace(broker, db=db, checkpoints=made)
    world.use_kind(kind_of(kind, defect, death))
    targets, db = world.broker.targets, world.broker.db
    targets.boards = lambda target: SqlBoard(db, target)  # what is posted is a commit of this process like any other
    return world


def live(orders: Orders) -> None:
    """Do all of it, or end on the way."""
    death = Death(orders.moment, orders.sign)
    world = world_in(
        orders.folder, orders.url, _seeded(orders.keys), timedelta(), orders.kind, defect=orders.defect, death=death
    )
    world.current("arta")
    vars(rotate)["os"] = Disk(death)  # of this process alone
    death.counting = True
    if orders.only_open:
        opened = open_one(world, orders.lasts_s)
        (orders.folder / "opened").write_text(type(opened).__name__)
    else:
        scenario(world)
    (orders.folder / "moments").write_text(json.dumps(death.passed))
    world.close()


def open_one(world: World, duration_s: int) -> Any:
    """Ask and open; return what came of it."""
    grant = world.filed(target="ledger", entitlement="writer", duration_s=duration_s).grant
    assert grant is not None
    with world.broker.read() as view:
        kind = str(world.broker.policies.active(view).targets["ledger"].connector["kind"])
    given = {one.name: PUBLIC_KEY for one in world.broker.targets.kind(kind).gives}
    return open_lease(world.broker, world.current("arta"), grant.id, given=given)


def give_back(world: World, opened: Opened) -> None:
    """Hand access back; the sweep does the rest."""
    arta = world.current("arta")
    with world.broker.begin(arta.actor, lock=[(Grant, opened.lease.grant_id)]) as tx:
        revoke.hand_back(tx, arta, opened.lease.grant_id)


def scenario(world: World) -> None:
    """Open two, give one back, let the other expire, exchange the broker's own secret."""
    first, second = open_one(world, LONG_S), open_one(world, SHORT_S)
    assert isinstance(first, Opened)
    assert isinstance(second, Opened)
    give_back(world, first)
    world.sweep()
    rotate.rotate(world.broker, "ledger")
    world.advance(timedelta(seconds=SHORT_S + 1))
    world.sweep()


def child(orders: Orders) -> Any:
    """Start a child; the caller joins it, and may stop and wake it."""
    process = FORKS.Process(target=live, args=(orders,))
    process.start()
    return process
