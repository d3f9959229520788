"""Hosts that fetch: what they are told is lost, what they say is lost, the issuer sleeps. Nothing is called over that they still take."""

import json
import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from jitaccess.broker.issue import Opened
from jitaccess.broker.rotate import rotate
from jitaccess.errors import JitError
from tests.faults.test_late_issuer import STALE, WAIT_S, await_stop
from tests.support.drill import Run
from tests.support.hosts_drill import Ear, HostsDrill, SoftHost
from tests.support.mortal import give_back, open_one

AGAIN, MUCH_LATER = timedelta(minutes=20), timedelta(hours=1)
DEAF = pytest.mark.parametrize("ear", [Ear.REPORT, Ear.BULLETIN])


@pytest.fixture
def run(ssh_hosts: HostsDrill, tmp_path: Path) -> Iterator[Run]:
    """Give a broker of this test's own."""
    yield ssh_hosts.begin(tmp_path / "run")
    ssh_hosts.close()


@pytest.fixture
def host(ssh_hosts: HostsDrill, run: Run) -> SoftHost:
    """Give the host that listens to it."""
    assert ssh_hosts.host is not None
    return ssh_hosts.host


@DEAF
@pytest.mark.covers("R50", "R51")
def test_an_end_of_which_hosts_say_nothing_is_not_called_an_end(run: Run, host: SoftHost, ear: Ear) -> None:
    world = run.world()
    opened = open_one(world, 600)
    assert isinstance(opened, Opened)
    assert len(run.there()) == 1
    host.ear = ear
    give_back(world, opened)
    world.sweep()
    assert run.states() == ["REVOKING"]
    assert run.tracked() == [], "somebody is still in, and the lease says so"
    host.ear = Ear.NOTHING
    world.advance(AGAIN)
    world.sweep()
    assert run.states() == ["REVOKED"]
    assert run.explained(world.clock.now()) == []
    assert run.there() == set()
    world.close()


@DEAF
@pytest.mark.covers("R47", "R51")
def test_a_certificate_that_no_host_heard_of_ends_as_any_other(run: Run, host: SoftHost, ear: Ear) -> None:
    host.ear = ear
    world = run.world()
    assert isinstance(open_one(world, 600), Opened), "it is theirs; the hosts will know it in a moment"
    assert run.tracked() == []
    host.ear = Ear.NOTHING
    assert len(run.there()) == 1
    world.advance(MUCH_LATER)
    world.sweep()
    assert run.explained(world.clock.now()) == []
    assert run.there() == set()
    world.close()


@DEAF
@pytest.mark.covers("R35", "R52")
def test_an_authority_that_hosts_have_not_heard_of_is_not_used(run: Run, host: SoftHost, ear: Ear) -> None:
    world = run.world()
    host.ear = ear
    with pytest.raises(JitError):
        rotate(world.broker, "ledger")
    assert run.secret_wrong(settled=False) == []
    host.ear = Ear.NOTHING
    assert isinstance(open_one(world, 600), Opened)
    rotate(world.broker, "ledger")
    assert run.secret_wrong(settled=True) == []
    world.close()


@pytest.mark.slow
@pytest.mark.covers("R47", "R60")
@pytest.mark.parametrize("moment", ["before-apply", "after-apply"])
def test_an_issuer_that_was_stopped_wakes_after_the_revocation(
    ssh_hosts: HostsDrill, tmp_path: Path, moment: str
) -> None:
    counted = ssh_hosts.begin(tmp_path / "counted")
    first = counted.child(only_open=True)
    first.join()
    assert first.exitcode == 0
    number = json.loads((counted.folder / "moments").read_text()).index(moment) + 1
    run = ssh_hosts.begin(tmp_path / "stopped")
    child = run.child(only_open=True, lasts_s=600, moment=number, sign=signal.SIGSTOP)
    await_stop(child.pid)
    try:
        world = run.world(STALE)
        world.sweep()
        assert run.tracked() == []
    finally:
        os.kill(child.pid, signal.SIGCONT)
        child.join(WAIT_S)
    assert child.exitcode == 0
    assert (run.folder / "opened").read_text() == "Refused"
    assert run.there() == set(), "its serial is refused, whoever signs it"
    world.advance(MUCH_LATER)
    world.sweep()
    assert run.explained(world.clock.now()) == []
    world.close()
    ssh_hosts.close()


@pytest.mark.covers("R50", "R51")
def test_the_oracle_sees_a_broker_that_takes_what_is_posted_for_done(run: Run, host: SoftHost) -> None:
    world = run.world(defect="shrugs")
    opened = open_one(world, 600)
    assert isinstance(opened, Opened)
    assert len(run.there()) == 1
    host.ear = Ear.BULLETIN
    give_back(world, opened)
    world.sweep()
    assert any("its lease is REVOKED" in line for line in run.tracked())
    world.close()


@pytest.mark.covers("R47", "R48")
def test_the_oracle_sees_a_certificate_that_no_lease_names(run: Run, host: SoftHost) -> None:
    world = run.world(defect="misnames")
    open_one(world, 600)
    run.there()
    assert any("no lease names it" in line for line in run.tracked())
    world.close()


@pytest.mark.covers("R52")
def test_the_oracle_sees_an_authority_that_was_exchanged_before_hosts_trust_it(run: Run, host: SoftHost) -> None:
    world = run.world(defect="forgets")
    rotate(world.broker, "ledger")
    assert run.secret_wrong(settled=True) == ["the broker's secret does not open the target"]
    world.close()
