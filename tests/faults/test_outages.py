"""The target is down, hangs, flaps, or lets the broker do nothing any more: nothing is called over that is not, and in the end it is."""

from datetime import timedelta
from typing import Any

import pytest

from jitaccess.broker.issue import Opened
from jitaccess.domain.values import Refused
from tests.support.cutting import Loss, Mode
from tests.support.drill import Drill, Run
from tests.support.mortal import give_back, open_one

TRIES = 6
"""More than it takes until a revocation is called stuck."""
MOMENTS = ("connecting", "calling")
BETWEEN = timedelta(minutes=20)
"""More than the longest wait between two tries."""


def lose_permission(drill: Drill) -> None:
    """Take from the broker what it needs, as an owner might by mistake."""
    drill.sql("ALTER ROLE jit_broker NOCREATEROLE")


def give_permission(drill: Drill) -> None:
    """Give it back."""
    drill.sql("ALTER ROLE jit_broker CREATEROLE")


def keep_trying(run: Run, world: Any, times: int) -> None:
    """Sweep again and again; at no moment does the broker say what is not so."""
    for _ in range(times):
        world.sweep()
        assert run.tracked() == []
        assert "REVOKED" not in run.states()
        world.advance(BETWEEN)


@pytest.mark.covers("R51", "T-13")
@pytest.mark.parametrize("trouble", ["down", "permission lost"])
def test_an_end_that_does_not_succeed_is_stuck_until_it_does(drill: Drill, run: Run, trouble: str) -> None:
    world = run.world()
    opened = open_one(world, 600)
    assert isinstance(opened, Opened)
    give_back(world, opened)
    if trouble == "down":
        drill.proxy.become(Mode.DOWN)
    else:
        lose_permission(drill)
    keep_trying(run, world, TRIES)
    assert run.states() == ["STUCK"], "listed and alarmed, and still tried"
    assert isinstance(open_one(world, 600), Refused), "nothing is opened there meanwhile"
    assert run.tracked() == []
    drill.proxy.become(Mode.PASS)
    give_permission(drill)
    world.advance(BETWEEN)
    world.sweep()
    world.advance(BETWEEN)
    world.sweep()
    assert run.explained(world.clock.now()) == []
    assert run.there() == set()
    world.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let a target hang in the middle of a call as well where there is time: each kind's own limit has to run out."""
    if "moment" in metafunc.fixturenames:
        metafunc.parametrize("moment", MOMENTS if metafunc.config.getoption("--long") else MOMENTS[:1])


@pytest.mark.slow
@pytest.mark.covers("R51", "R61")
def test_a_target_that_hangs_is_given_up_in_time_and_tried_again(drill: Drill, run: Run, moment: str) -> None:
    world = run.world()
    opened = open_one(world, 600)
    assert isinstance(opened, Opened)
    if moment == "connecting":
        drill.proxy.become(Mode.HANG)
    else:
        drill.proxy.arm(b"NOLOGIN PASSWORD NULL", Loss.SILENT)
    give_back(world, opened)
    keep_trying(run, world, 1)
    assert run.states() == ["REVOKING"]
    drill.proxy.become(Mode.PASS)
    world.sweep()
    assert run.explained(world.clock.now()) == []
    world.close()


@pytest.mark.covers("R51")
def test_a_target_that_flaps_ends_everything_all_the_same(drill: Drill, run: Run) -> None:
    drill.proxy.become(Mode.FLAP)
    world = run.world()
    opened = [found for found in (open_one(world, 600) for _ in range(4)) if isinstance(found, Opened)]
    assert opened, "one of two connections holds"
    assert run.tracked() == []
    for one in opened:
        give_back(world, one)
    for _ in range(TRIES):
        drill.proxy.become(Mode.FLAP)
        world.sweep()
        assert run.tracked() == []
        world.advance(BETWEEN)
    assert run.explained(world.clock.now()) == []
    assert run.there() == set()
    world.close()


@pytest.mark.covers("R51")
@pytest.mark.parametrize("trouble", ["down", "permission lost"])
def test_the_oracle_sees_a_broker_that_takes_an_error_for_an_end(drill: Drill, run: Run, trouble: str) -> None:
    world = run.world(defect="shrugs")
    opened = open_one(world, 600)
    assert isinstance(opened, Opened)
    give_back(world, opened)
    if trouble == "down":
        drill.proxy.become(Mode.DOWN)
    else:
        lose_permission(drill)
    world.sweep()
    assert any("its lease is REVOKED" in line for line in run.tracked())
    world.close()
