"""The same faults on a directory, which has no transactions: deaths, lost and late replies, and memberships that were there before."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from jitaccess.broker.issue import Opened
from jitaccess.broker.rotate import rotate
from jitaccess.domain.values import Refused
from jitaccess.errors import JitError
from tests.support import directory
from tests.support.bench import NotInstalled
from tests.support.cutting import Loss, Mode
from tests.support.directory import ARTA, DirectoryDrill
from tests.support.drill import Run
from tests.support.mortal import give_back, open_one

SIGKILLED = -9
SOON, MUCH_LATER = timedelta(minutes=3), timedelta(hours=1)
MODIFY, EXTENDED = 0x66, 0x77
"""Tags of requests (RFC 4511 appendix B); they stand within the first bytes of a message."""
ASSERTION_FAILED = b"\x0a\x01\x7a"
BOTH = pytest.mark.parametrize("loss", [Loss.BEFORE, Loss.AFTER])


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "dynamic"])
def drill(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DirectoryDrill]:
    """Give a directory of each way; skips where slapd is not installed."""
    try:
        found = directory.start(tmp_path_factory.mktemp("directory"), dynamic=request.param)
    except NotInstalled as missing:
        pytest.skip(str(missing))
    yield found
    found.close()


@pytest.fixture
def run(drill: DirectoryDrill, tmp_path: Path) -> Run:
    """Give a broker of this test's own."""
    return drill.begin(tmp_path / "run")


def changes_arta(piece: bytes) -> bool:
    """Say whether a request changes an entry and names arta."""
    return MODIFY in piece[:12] and ARTA.encode() in piece


def dynamic(drill: DirectoryDrill) -> bool:
    return bool(drill.bench.config()["dynamic"])


def recover(run: Run) -> list[str]:
    """Start a broker where the dead one stood, minutes and an hour later; return what the oracle finds wrong."""
    world = run.world(SOON)
    world.sweep()
    wrong = run.tracked() + run.secret_wrong(settled=False)
    rotate(world.broker, "ledger")
    wrong += run.secret_wrong(settled=True)
    world.advance(MUCH_LATER)
    world.sweep()
    world.close()
    return wrong + run.explained(world.clock.now())


@pytest.mark.slow
@pytest.mark.covers("R47", "R50", "R52", "R56")
def test_death_at_any_call_leaves_no_member_that_no_live_lease_explains(
    drill: DirectoryDrill, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    long = pytestconfig.getoption("--long")
    whole = drill.begin(tmp_path / "whole")
    first = whole.child()
    first.join()
    assert first.exitcode == 0
    assert whole.explained(whole.now + MUCH_LATER) == []
    moments: list[str] = json.loads((whole.folder / "moments").read_text())
    # The sample is what the target was just told: there its state and ours differ most.
    wanted = [n for n, name in enumerate(moments, 1) if long or (name.startswith("after-") and "commit" not in name)]
    for number in wanted:
        run = drill.begin(tmp_path / str(number))
        child = run.child(moment=number)
        child.join()
        where = f"after death at moment {number} ({moments[number - 1]})"
        assert child.exitcode == SIGKILLED, where
        assert run.tracked() == [], where
        assert run.secret_wrong(settled=False) == [], where
        assert recover(run) == [], where


@BOTH
@pytest.mark.covers("R47", "R51")
def test_the_reply_to_the_change_that_gives_access_is_lost(drill: DirectoryDrill, run: Run, loss: Loss) -> None:
    world = run.world()
    drill.proxy.arm(changes_arta, loss)
    assert isinstance(open_one(world, 600), Refused)
    assert drill.proxy.fired.is_set()
    assert run.there() == ({ARTA} if loss is Loss.AFTER else set())
    assert run.tracked() == []
    world.close()
    assert recover(run) == []
    assert run.there() == set()


@BOTH
@pytest.mark.covers("R50", "R51")
def test_the_reply_to_the_change_that_ends_access_is_lost(drill: DirectoryDrill, run: Run, loss: Loss) -> None:
    world = run.world()
    opened = open_one(world, 600)
    assert isinstance(opened, Opened)
    give_back(world, opened)
    drill.proxy.arm(lambda piece: MODIFY in piece[:12], loss)
    world.sweep()
    assert drill.proxy.fired.is_set()
    assert run.tracked() == []
    assert "REVOKED" not in run.states()
    world.close()
    assert recover(run) == []
    assert run.states() == ["REVOKED"]


@BOTH
@pytest.mark.covers("R52")
def test_the_reply_to_the_exchange_of_the_brokers_password_is_lost(drill: DirectoryDrill, run: Run, loss: Loss) -> None:
    world = run.world()
    drill.proxy.arm(lambda piece: EXTENDED in piece[:12], loss)
    with pytest.raises(JitError):
        rotate(world.broker, "ledger")
    assert drill.proxy.fired.is_set()
    assert run.secret_wrong(settled=False) == []
    assert isinstance(open_one(world, 600), Opened)
    world.close()
    assert recover(run) == []


@pytest.mark.covers("R47", "R60")
def test_a_change_that_was_held_up_arrives_after_the_revocation(drill: DirectoryDrill, run: Run) -> None:
    world = run.world()
    drill.proxy.arm(changes_arta, Loss.LATE)
    assert isinstance(open_one(world, 600), Refused)
    world.sweep()
    assert run.states() == ["REVOKING"]
    assert ASSERTION_FAILED in drill.proxy.deliver(), "the directory itself refused it"
    assert run.tracked() == []
    assert run.there() == set()
    world.close()
    assert recover(run) == []


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
    world.close()
    assert recover(run) == []


@pytest.mark.covers("R47", "R56")
def test_the_oracle_sees_the_planted_defects(drill: DirectoryDrill, tmp_path: Path) -> None:
    run = drill.begin(tmp_path / "too sure")
    world = run.world(defect="too sure")
    drill.proxy.arm(changes_arta, Loss.AFTER)
    open_one(world, 600)
    assert run.tracked() == [f"{ARTA} is a member, and no unfinished lease says so"]
    world.close()
    if dynamic(drill):
        return  # its entries are named after leases: what was there before and late changes are met otherwise
    run = drill.begin(tmp_path / "unfenced")
    world = run.world(defect="unfenced")
    drill.proxy.arm(changes_arta, Loss.LATE)
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
