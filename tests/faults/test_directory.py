"""What is a directory's own: memberships that were there before, and the defects that the oracle must see."""

from datetime import timedelta
from pathlib import Path

import pytest

from jitaccess.broker.issue import Opened
from tests.support.cutting import Loss, Mode
from tests.support.directory import ARTA, DirectoryDrill
from tests.support.mortal import give_back, open_one

MUCH_LATER = timedelta(hours=1)


@pytest.fixture(params=["plain_directory", "dynamic_directory"])
def drill(request: pytest.FixtureRequest) -> DirectoryDrill:
    """Give a directory of each way."""
    found: DirectoryDrill = request.getfixturevalue(request.param)
    return found


@pytest.mark.covers("R56")
def test_who_was_a_member_before_stays_one_whatever_breaks(drill: DirectoryDrill, tmp_path: Path) -> None:
    run = drill.begin(tmp_path / "run", member_before=True)
    world = run.world()
    first, second = open_one(world, 600), open_one(world, 600)
    assert isinstance(first, Opened)
    assert isinstance(second, Opened)
    give_back(world, first)
    drill.proxy.become(Mode.FLAP)
    world.sweep()
    assert run.tracked() == []
    drill.proxy.become(Mode.PASS)
    world.advance(MUCH_LATER)
    world.sweep()
    assert run.explained(world.clock.now()) == []
    world.close()


@pytest.mark.covers("R47", "R56")
def test_the_oracle_sees_the_planted_defects(drill: DirectoryDrill, tmp_path: Path) -> None:
    if drill.bench.config()["dynamic"]:
        return  # its entries are named after leases: there the other defects cannot be planted
    run = drill.begin(tmp_path / "unfenced")
    world = run.world(defect="unfenced")
    drill.proxy.arm(drill.birth, Loss.LATE)
    open_one(world, 600)
    world.advance(MUCH_LATER)
    world.sweep()
    drill.proxy.deliver()
    assert run.tracked() == [f"{ARTA} is a member, and no unfinished lease says so"]
    world.close()
    run = drill.begin(tmp_path / "greedy", member_before=True)
    world = run.world(defect="greedy")
    opened = open_one(world, 600)
    assert isinstance(opened, Opened)
    give_back(world, opened)
    world.sweep()
    assert run.tracked() == [f"{ARTA} was a member before any lease, and is none now"]
    world.close()
