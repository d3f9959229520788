"""An issuer is stopped at its call, or its request is held up on the way; its lease is revoked; then it wakes. Nothing is left of it.

A fence in our own rows cannot stop it: while the target would still take the request the name is taken by a tombstone, and afterwards the
target's own clock refuses it (design.md section 6, late births).
"""

import json
import os
import signal
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jitaccess.broker import reconcile
from jitaccess.broker.compare import What
from jitaccess.domain.values import Refused
from tests.support.cutting import Loss
from tests.support.drill import Drill, Run
from tests.support.mortal import open_one

STALE = timedelta(seconds=61)
"""A lease is ISSUING for no longer than a minute."""
CLEANED = timedelta(seconds=30)
"""With this much more the deadline and the minute after it are past: a tombstone goes."""
LATE = timedelta(hours=1)
SHORT_S = 3
"""An access that ends so soon cannot be made later than that, by the target's clock."""
WAIT_S = 60.0


def await_stop(pid: int) -> None:
    """Wait until a process has stopped."""
    waited = 0.0
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        time.sleep(0.01)
        waited += 0.01
        assert waited < WAIT_S, "the issuer does not stop"


def stopped(drill: Drill, folder: Path, moment: str, lasts_s: int) -> tuple[Run, Any]:
    """Return an issuer that stopped itself at that moment, and its broker."""
    counted = drill.begin(folder / "counted")
    first = counted.child(only_open=True)
    first.join()
    assert first.exitcode == 0
    number = json.loads((counted.folder / "moments").read_text()).index(moment) + 1
    run = drill.begin(folder / "stopped")
    child = run.child(only_open=True, lasts_s=lasts_s, moment=number, sign=signal.SIGSTOP)
    await_stop(child.pid)
    return run, child


@pytest.mark.slow
@pytest.mark.covers("R47", "R60")
@pytest.mark.parametrize(
    ("moment", "lasts_s", "cleaned"),
    [
        ("before-apply", 600, False),
        ("before-apply", SHORT_S, True),
        ("after-apply", 600, False),
        ("after-apply", 600, True),
    ],
    ids=["buried", "past the deadline", "made, cut", "made, gone"],
)
def test_an_issuer_that_was_stopped_wakes_after_the_revocation(
    drill: Drill, tmp_path: Path, moment: str, lasts_s: int, cleaned: bool
) -> None:
    run, child = stopped(drill, tmp_path, moment, lasts_s)
    try:
        world = run.world(STALE)
        world.sweep()
        if cleaned:
            world.advance(CLEANED)
            world.sweep()
        assert run.states() == (["REVOKED"] if cleaned else ["REVOKING"])
        assert run.tracked() == []
        if lasts_s == SHORT_S:
            time.sleep(SHORT_S)  # until the deadline is past on the server, whose clock is the machine's
    finally:
        os.kill(child.pid, signal.SIGCONT)
        child.join(WAIT_S)
    assert child.exitcode == 0
    assert (run.folder / "opened").read_text() == "Refused"
    world.advance(LATE)
    world.sweep()
    assert run.explained(world.clock.now()) == []
    assert run.there() == set()
    world.close()


@pytest.mark.covers("R47", "R60")
@pytest.mark.parametrize("cleaned", [False, True], ids=["buried", "past the deadline"])
def test_a_request_that_was_held_up_arrives_after_the_revocation(drill: Drill, run: Run, cleaned: bool) -> None:
    world = run.world()
    drill.proxy.arm(b"CREATE ROLE", Loss.LATE)
    assert isinstance(open_one(world, SHORT_S if cleaned else 600), Refused)
    world.sweep()
    if cleaned:
        world.advance(STALE + CLEANED)
        world.sweep()
    assert run.states() == (["REVOKED"] if cleaned else ["REVOKING"])
    if cleaned:
        time.sleep(SHORT_S)  # until the deadline is past on the server, whose clock is the machine's
    reply = drill.proxy.deliver()
    assert (b"division by zero" if cleaned else b"already exists") in reply, "the target itself refused it"
    assert run.tracked() == []
    world.advance(LATE)
    world.sweep()
    assert run.explained(world.clock.now()) == []
    assert run.there() == set()
    world.close()


@pytest.mark.covers("R47", "R57", "R60")
def test_the_oracle_sees_a_late_birth_and_the_next_look_removes_it(drill: Drill, run: Run) -> None:
    world = run.world(defect="timeless")
    drill.proxy.arm(b"CREATE ROLE", Loss.LATE)
    assert isinstance(open_one(world, SHORT_S), Refused)
    world.advance(STALE + CLEANED)
    world.sweep()
    assert b"CREATE ROLE" in drill.proxy.deliver()
    assert any("its lease is REVOKED" in line for line in run.tracked())
    with world.broker.read() as view:
        (ledger,) = reconcile.outside_targets(view, world.broker)
    looked = reconcile.look(world.broker, ledger)
    assert What.LEFTOVER in {one.what for one in looked.findings}
    assert run.tracked() == []
    world.close()
