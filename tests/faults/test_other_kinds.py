"""The same faults on targets without transactions, MariaDB, directories, provisioners and hosts that fetch: deaths, lost and late
replies."""

import json
from pathlib import Path

import pytest

from jitaccess.broker.issue import Opened
from jitaccess.broker.rotate import rotate
from jitaccess.domain.values import Refused
from jitaccess.errors import JitError
from tests.support.cutting import Loss, Mode
from tests.support.directory import DirectoryDrill
from tests.support.drill import MUCH_LATER, SIGKILLED, Run, recover
from tests.support.hosts_drill import HostsDrill
from tests.support.mariadb_drill import MariadbDrill
from tests.support.mortal import give_back, open_one
from tests.support.webhook_drill import WebhookDrill

Other = DirectoryDrill | MariadbDrill | WebhookDrill
MOMENTS = ("away", "calling")
"""Of the target: not there, or silent in the middle of a call. The second takes as long as a kind waits, and is for --long."""
BOTH = pytest.mark.parametrize("loss", [Loss.BEFORE, Loss.AFTER])


CALLED = ("plain_directory", "dynamic_directory", "mariadb", "webhook")


@pytest.fixture(params=CALLED)
def other(request: pytest.FixtureRequest) -> Other:
    """Give each of the other targets in turn."""
    found: Other = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=[*CALLED, "ssh_hosts"])
def mortal(request: pytest.FixtureRequest) -> Other | HostsDrill:
    """Give each of them, and the one that is not called but comes."""
    found: Other | HostsDrill = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def run(other: Other, tmp_path: Path) -> Run:
    """Give a broker of this test's own."""
    return other.begin(tmp_path / "run")


@pytest.mark.slow
@pytest.mark.covers("R47", "R50", "R52", "R56")
def test_death_at_any_call_leaves_nothing_that_no_live_lease_explains(
    mortal: Other | HostsDrill, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    long = pytestconfig.getoption("--long")
    whole = mortal.begin(tmp_path / "whole")
    first = whole.child()
    first.join()
    assert first.exitcode == 0
    assert whole.explained(whole.now + MUCH_LATER) == []
    moments: list[str] = json.loads((whole.folder / "moments").read_text())
    calls = {name.removeprefix("after-"): n for n, name in enumerate(moments, 1) if name.startswith("after-")}
    assert {"apply", "cut", "clean", "rotate_own"} <= calls.keys()
    # The sample is what the target was just told, of each call the last: there its state and ours differ most.
    sample = sorted(n for name, n in calls.items() if name != "commit")
    for number in range(1, len(moments) + 1) if long else sample:
        run = mortal.begin(tmp_path / str(number))
        child = run.child(moment=number)
        child.join()
        where = f"after death at moment {number} ({moments[number - 1]})"
        assert child.exitcode == SIGKILLED, where
        assert run.tracked() == [], where
        assert run.secret_wrong(settled=False) == [], where
        assert recover(run) == [], where


@BOTH
@pytest.mark.covers("R47", "R51")
def test_the_reply_to_the_change_that_gives_access_is_lost(other: Other, run: Run, loss: Loss) -> None:
    world = run.world()
    other.proxy.arm(other.birth, loss)
    assert isinstance(open_one(world, 600), Refused)
    assert other.proxy.fired.is_set()
    assert len(run.there()) == (1 if loss is Loss.AFTER else 0)
    assert run.tracked() == []
    world.close()
    assert recover(run) == []
    assert run.there() == set()


@BOTH
@pytest.mark.covers("R50", "R51")
def test_the_reply_to_the_change_that_ends_access_is_lost(other: Other, run: Run, loss: Loss) -> None:
    world = run.world()
    opened = open_one(world, 600)
    assert isinstance(opened, Opened)
    give_back(world, opened)
    other.proxy.arm(other.end, loss)
    world.sweep()
    assert other.proxy.fired.is_set()
    assert run.tracked() == []
    assert "REVOKED" not in run.states()
    world.close()
    assert recover(run) == []
    assert run.states() == ["REVOKED"]


@BOTH
@pytest.mark.covers("R52")
def test_the_reply_to_the_exchange_of_the_brokers_password_is_lost(other: Other, run: Run, loss: Loss) -> None:
    world = run.world()
    other.proxy.arm(other.exchange, loss)
    with pytest.raises(JitError):
        rotate(world.broker, "ledger")
    assert other.proxy.fired.is_set()
    assert run.secret_wrong(settled=False) == []
    assert isinstance(open_one(world, 600), Opened)
    world.close()
    assert recover(run) == []


@pytest.mark.covers("R47", "R60")
def test_a_change_that_was_held_up_arrives_after_the_revocation(other: Other, run: Run) -> None:
    world = run.world()
    other.proxy.arm(other.birth, Loss.LATE)
    assert isinstance(open_one(world, 600), Refused)
    world.sweep()
    assert run.states() == ["REVOKING"]
    assert other.refuses in other.proxy.deliver(), "the target itself refused it"
    assert run.tracked() == [], "what is there is a tombstone"
    world.close()
    assert recover(run) == []
    assert run.there() == set()


@pytest.mark.covers("R47")
def test_the_oracle_sees_a_broker_that_takes_a_lost_reply_for_no(other: Other, run: Run) -> None:
    world = run.world(defect="too sure")
    other.proxy.arm(other.birth, Loss.AFTER)
    open_one(world, 600)
    assert len(run.tracked()) == 1
    world.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let a target hang in the middle of a call where there is time: each kind's own limit has to run out."""
    if "moment" in metafunc.fixturenames:
        metafunc.parametrize("moment", MOMENTS if metafunc.config.getoption("--long") else MOMENTS[:1])


@pytest.mark.slow
@pytest.mark.covers("R51", "R61")
def test_a_target_that_is_away_or_hangs_is_given_up_in_time_and_tried_again(
    other: Other, run: Run, moment: str
) -> None:
    world = run.world()
    opened = open_one(world, 600)
    assert isinstance(opened, Opened)
    if moment == "calling":
        other.proxy.arm(other.end, Loss.SILENT)
    else:
        other.proxy.become(Mode.DOWN)
    give_back(world, opened)
    world.sweep()
    assert run.tracked() == []
    assert run.states() == ["REVOKING"], "given up for now"
    other.proxy.become(Mode.PASS)
    world.close()
    assert recover(run) == []
