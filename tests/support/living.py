"""A broker that runs by the real clock with one bench as its target, and a person who opens an access on it."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jitaccess.broker import handover
from jitaccess.broker.issue import Opened
from jitaccess.broker.sweep import Ticker
from jitaccess.clock import SystemClock
from jitaccess.settings import Targets
from jitaccess.store.tables import Lease
from tests.support.bench import Bench
from tests.support.world import World, open_world, prepare


@contextmanager
def living(bench: Bench, folder: Path) -> Iterator[World]:
    """Give a broker with its heartbeat; arta of the treasury staff gets `writer` on `ledger` without anybody's signature."""
    with living_with({"ledger": bench}, folder) as world:
        yield world


@contextmanager
def living_with(benches: Mapping[str, Bench], folder: Path, **changes: Any) -> Iterator[World]:
    """Give the same with several targets, a bench each; `changes` are sections of the settings."""
    policies = folder / "policies"
    policies.mkdir()
    about = {"name": "Ledger", "owner": "infra", "entitlements": {"writer": {"max_duration": "1h"}}}
    rules = [
        {
            "id": f"write-{target}",
            "for": {"groups": ["treasury-staff"]},
            "to": {"target": target, "entitlements": ["writer"]},
            "duration": {"default": "2s", "max": "1h"},
            "approve": "none",
        }
        for target in benches
    ]
    document = {
        "version": 1,
        "institutions": {key: {"name": key} for key in ("mof", "infra", "nao")},
        "targets": {target: {**about, "connector": _with_secret(bench, target)} for target, bench in benches.items()},
        "rules": rules,
    }
    (policies / "policy.yaml").write_text(json.dumps(document))
    secrets = folder / "secrets"
    secrets.mkdir()
    for target, bench in benches.items():
        (secrets / target).write_text(bench.secret().reveal())
        (secrets / target).chmod(0o600)
    url = f"sqlite:///{folder / 'broker.db'}"
    clock = SystemClock()
    prepared = prepare(url, folder, policies=policies, now=clock.now())
    world = open_world(url, prepared, folder, clock=clock, targets=Targets(secrets_dir=secrets), **changes)
    world.ticker = Ticker(world.broker)
    world.ticker.start()
    try:
        yield world
    finally:
        world.close()


def _with_secret(bench: Bench, target: str) -> dict[str, object]:
    """Return a bench's configuration; each target has a secret of its own name."""
    config = dict(bench.config())
    return config | {"secret": target} if "secret" in config else config


def hand_over(world: World, duration_s: int, target: str = "ledger") -> Opened:
    """Let arta ask for the access and open it."""
    grant = world.filed(target=target, entitlement="writer", duration_s=duration_s).grant
    assert grant is not None
    arta = world.current("arta")
    begun = handover.begin(world.broker, arta, grant.id)
    found = handover.complete(
        world.broker, arta, grant.id, challenge_id=begun.challenge_id, response=world.answer("arta", begun)
    )
    assert isinstance(found, Opened), found
    return found


def lease(world: World, key: str) -> Lease:
    """Return a lease as it is now."""
    with world.broker.read() as view:
        return view.require(Lease, key)
