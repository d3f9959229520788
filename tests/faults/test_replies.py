"""A reply of the target is lost, before or after the target did it: nobody believes what is not so, and everything ends.

The proxy cuts the connection at the very request, and the oracle looks at the target past it.
"""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jitaccess.broker.issue import Opened
from jitaccess.broker.rotate import rotate
from jitaccess.domain.values import Refused
from jitaccess.errors import JitError
from tests.support.cutting import Loss
from tests.support.drill import Drill, Run
from tests.support.mortal import give_back, open_one

BOTH = pytest.mark.parametrize("loss", [Loss.BEFORE, Loss.AFTER])
SOON, MUCH_LATER = timedelta(minutes=3), timedelta(hours=1)


def settle(run: Run, world: Any) -> list[str]:
    """Let the broker look again and again; return what the oracle finds wrong at the end."""
    for later in (SOON, SOON, MUCH_LATER):
        world.sweep()
        world.advance(later)
    world.sweep()
    return run.explained(world.clock.now())


@BOTH
@pytest.mark.covers("R47", "R51")
def test_the_reply_to_the_birth_is_lost(drill: Drill, run: Run, loss: Loss) -> None:
    world = run.world()
    drill.proxy.arm(b"CREATE ROLE", loss)
    found = open_one(world, 600)
    assert isinstance(found, Refused), "nobody is shown a credential of which nobody knows"
    assert drill.proxy.fired.is_set()
    assert len(run.there()) == (1 if loss is Loss.AFTER else 0), "the loss was what it was to be"
    assert run.tracked() == []
    assert settle(run, world) == []
    assert run.there() == set()
    world.close()


@BOTH
@pytest.mark.parametrize("words", [b"NOLOGIN PASSWORD NULL", b"DROP ROLE"], ids=["cut", "clean"])
@pytest.mark.covers("R50", "R51")
def test_the_reply_to_an_end_is_lost(drill: Drill, run: Run, words: bytes, loss: Loss) -> None:
    world = run.world()
    opened = open_one(world, 600)
    assert isinstance(opened, Opened)
    give_back(world, opened)
    drill.proxy.arm(words, loss)
    world.sweep()
    assert drill.proxy.fired.is_set()
    assert run.tracked() == [], "nothing is called revoked that is not"
    assert "REVOKED" not in run.states()
    assert settle(run, world) == []
    assert run.states() == ["REVOKED"]
    world.close()


@BOTH
@pytest.mark.covers("R52")
def test_the_reply_to_the_exchange_of_the_brokers_secret_is_lost(drill: Drill, run: Run, loss: Loss) -> None:
    world = run.world()
    drill.proxy.arm(b"ALTER ROLE", loss)
    with pytest.raises(JitError):
        rotate(world.broker, "ledger")
    assert drill.proxy.fired.is_set()
    assert run.secret_wrong(settled=False) == []
    assert isinstance(open_one(world, 600), Opened), "the broker gets in with whichever is valid"
    rotate(world.broker, "ledger")
    assert run.secret_wrong(settled=True) == []
    assert settle(run, world) == []
    world.close()


@pytest.mark.covers("R47")
def test_the_oracle_sees_a_broker_that_takes_a_lost_reply_for_no(drill: Drill, run: Run) -> None:
    world = run.world(defect="too sure")
    drill.proxy.arm(b"CREATE ROLE", Loss.AFTER)
    open_one(world, 600)
    assert any("its lease is FAILED" in line for line in run.tracked())
    assert settle(run, world) != []
    world.close()


@pytest.mark.covers("R50", "R51")
def test_the_oracle_sees_a_broker_that_takes_a_lost_request_for_done(drill: Drill, tmp_path: Path) -> None:
    run = drill.begin(tmp_path / "run")
    world = run.world(defect="shrugs")
    opened = open_one(world, 600)
    assert isinstance(opened, Opened)
    give_back(world, opened)
    drill.proxy.arm(b"DROP ROLE", Loss.BEFORE)
    world.sweep()
    assert any("its lease is REVOKED" in line for line in run.tracked())
    world.close()
