"""How long until 10,000 grants that end in one second are ended, revoked and told, beside the peer's leases? (performance.md goal 5)

Grants and leases are written directly, all with one end; then the sweep looks once. Lag is counted from that end. The peer's leases are
created over HTTP by eight clients with one common end; what it could not make in time is missing from its count.
"""

import sys
import time
from datetime import timedelta

from benchmarks.grant_issue import world_on
from benchmarks.measure import machine_line
from benchmarks.openbao import binary, mass_expiry, running
from jitaccess.broker.cut import Revoker
from jitaccess.broker.sweep import sweep_once
from jitaccess.clock import FrozenClock
from jitaccess.domain.events import EventType
from jitaccess.domain.values import SYSTEM
from jitaccess.store.tables import Grant, Lease
from tests.support.world import World

COUNT = 10_000
BATCH = 500


def fill(world: World, count: int) -> None:
    """Write live grants with a lease each, all ending one second from now."""
    filed = world.filed(duration_s=600)
    grant = filed.grant
    assert grant is not None
    for start in range(0, count, BATCH):
        with world.broker.begin(SYSTEM) as tx:
            event = tx.record(EventType.ALARM_RAISED, body={"what": "benchmark"})
            ends_at = tx.now + timedelta(days=1)
            grants, leases = [], []
            for _ in range(min(BATCH, count - start)):
                key, lease = tx.new_id(), tx.new_id()
                grants.append(
                    (event, {"id": key, "request_id": filed.request.id, "person_id": grant.person_id,
                             "account_id": grant.account_id, "target": "treasury", "entitlement": "viewer",
                             "state": "ACTIVE", "duration_s": 600, "starts_at": tx.now, "ends_at": ends_at,
                             "latest_end": ends_at, "policy_digest": grant.policy_digest,
                             "approvals_digest": grant.approvals_digest, "created_at": tx.now})
                )  # fmt: skip
                leases.append(
                    (event, {"id": lease, "grant_id": key, "person_id": grant.person_id, "target": "treasury",
                             "connector": "token", "effect": {"kind": "token", "name": lease, "detail": {}},
                             "state": "ACTIVE", "created_at": tx.now, "ends_at": ends_at, "attempts": 0})
                )  # fmt: skip
            tx.insert_many(Grant, grants)
            tx.insert_many(Lease, leases)


def timed(kind: str) -> tuple[float, int]:
    """Return (seconds, ended)."""
    with world_on(kind) as world:
        fill(world, COUNT)
        world.broker.db.clock = FrozenClock(world.broker.db.now() + timedelta(days=2))
        revoker = Revoker(world.broker, "benchmark")
        begun = time.perf_counter()
        report = sweep_once(world.broker, revoker)
        return time.perf_counter() - begun, report.grants


def main() -> None:
    """Print the table."""
    print(machine_line())
    print("| what | ended | seconds |\n|---|---|---|")
    if binary() is not None and "--no-peer" not in sys.argv:
        with running() as peer:
            seconds, made = mass_expiry(peer, COUNT)
        print(f"| OpenBao, leased tokens | {made:,} | {seconds:.2f} |")
    for kind in ("sqlite", "postgresql"):
        seconds, ended = timed(kind)
        print(f"| grants and leases, {kind} | {ended:,} | {seconds:.2f} |")


if __name__ == "__main__":
    main()
