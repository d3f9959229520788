"""A machine's clock that was wrong lengthens nothing, stops what is new, and has a way back."""

from datetime import timedelta

import pytest
from click.testing import CliRunner
from sqlalchemy import func, select

from jitaccess.broker import health, hold, restore, wrong_clock
from jitaccess.broker.health import Finding, Level
from jitaccess.broker.issue import Opened, open_lease
from jitaccess.broker.sweep import Ticker
from jitaccess.cli import root
from jitaccess.clock import FrozenClock
from jitaccess.domain.events import EventType
from jitaccess.domain.lifecycle import GrantState, LeaseState
from jitaccess.domain.values import LOCAL, Refused
from jitaccess.errors import JitError, Kind
from jitaccess.store.tables import Event, Grant, Lease
from tests.support.world import Prepared, World, open_world

MINUTE = timedelta(minutes=1)


def granted(world: World, duration_s: int = 600) -> Grant:
    grant = world.filed(duration_s=duration_s).grant
    assert grant is not None
    assert isinstance(open_lease(world.broker, world.current("arta"), grant.id), Opened)
    return grant


def state(world: World, grant: Grant) -> str:
    with world.broker.read() as view:
        return view.require(Grant, grant.id).state


def count(world: World, kind: EventType) -> int:
    with world.broker.read() as view:
        return int(view.scalar(select(func.count()).where(Event.type == kind.value)))


def watching(world: World) -> Ticker:
    ticker = Ticker(world.broker)
    ticker._note_clock()
    world.ticker = ticker
    return ticker


def glitch(world: World, ticker: Ticker, by: timedelta) -> None:
    """Let the clock go forward, be seen so, and be corrected."""
    world.clock.jump(by)
    ticker._watch_clock()
    world.clock.jump(-by)
    ticker._watch_clock()


def restarted(world: World) -> World:
    """Close the broker and open it again, as after a restart."""
    url = world.broker.settings.store.url
    world.broker.db.close()
    again = open_world(url, Prepared(world.folder, world.seeded), world.folder, clock=world.clock)
    again.broker.may_grant.clear()
    again.ticker = Ticker(again.broker)
    again.ticker.permit()
    return again


def lift(world: World) -> None:
    with world.broker.read() as view:
        held = hold.in_force(view)
    with world.broker.begin(LOCAL) as tx:
        for row in held:
            hold.release(tx, row.id, by="test")


@pytest.mark.covers("R62")
def test_a_clock_that_goes_back_revives_and_lengthens_nothing(world: World) -> None:
    grant = granted(world, duration_s=600)
    world.clock.jump(timedelta(hours=-2))
    world.advance(timedelta(seconds=599))
    world.sweep()
    assert state(world, grant) == GrantState.ACTIVE
    world.advance(timedelta(seconds=1))
    assert isinstance(open_lease(world.broker, world.current("arta"), grant.id), Refused)
    world.sweep()
    assert state(world, grant) == GrantState.ENDED


@pytest.mark.covers("R62", "TRAP-9")
def test_a_jump_of_the_clock_stops_issuing_and_alarms(world: World) -> None:
    ticker = watching(world)
    world.clock.jump(timedelta(minutes=10))
    ticker._watch_clock()
    assert count(world, EventType.CLOCK_JUMPED) == 1
    refused = world.file()
    assert isinstance(refused, Refused)
    assert refused.code == "instance_on_hold"


@pytest.mark.covers("R62")
@pytest.mark.parametrize("by", [30 * MINUTE, timedelta(days=3650)])
def test_after_a_clock_went_forward_and_was_corrected_nothing_new_is_given(world: World, by: timedelta) -> None:
    ticker = watching(world)
    glitch(world, ticker, by)
    lift(world)  # the hold alone is not what keeps it
    refused = world.file()
    assert isinstance(refused, Refused)
    assert refused.code == "clock_wrong"
    with world.broker.read() as view:
        found = {one.what: one for one in health.findings(view, world.broker, restore.damaged(view))}[Finding.CLOCK]
    assert (found.level, found.count) == (Level.ACT, int(by.total_seconds()))
    world.clock.jump(by)  # the wall clock caught up
    assert world.filed().grant is not None


@pytest.mark.covers("R62")
def test_what_was_given_under_a_wrong_clock_ends_when_that_is_seen(world: World) -> None:
    ticker = watching(world)
    before = granted(world, duration_s=7200)
    world.clock.jump(30 * MINUTE)
    wrong = granted(world, duration_s=700)
    session = world.sign_in("blerim").session
    world.clock.jump(-30 * MINUTE)
    ticker._watch_clock()  # within both looks: the drift is as before, but time is ahead
    world.sweep()
    assert (state(world, before), state(world, wrong)) == (GrantState.ACTIVE, GrantState.ENDED)
    with world.broker.read() as view:
        assert view.require(Grant, wrong.id).cause == "risk"
        assert [row.state for row in view.all(select(Lease).where(Lease.grant_id == wrong.id))] == [LeaseState.REVOKED]
    assert world.resolved(session.id) is None


@pytest.mark.covers("R62", "R60")
def test_a_process_ends_what_another_gave_with_a_clock_that_was_wrong(world: World) -> None:
    ahead = FrozenClock(world.clock.now() + 30 * MINUTE)
    prepared = Prepared(world.folder, world.seeded)
    other = open_world(world.broker.settings.store.url, prepared, world.folder, clock=ahead)
    grant = granted(other)
    other.close()
    assert state(world, grant) == GrantState.ACTIVE
    Ticker(world.broker).housekeeping()
    assert state(world, grant) == GrantState.ENDED


@pytest.mark.covers("R62", "R59")
def test_a_start_with_a_clock_behind_the_log_alarms_holds_and_ends_what_was_given_meanwhile(
    sqlite_world: World,
) -> None:
    world = sqlite_world
    world.clock.jump(timedelta(days=3650))
    grant = granted(world)
    world.clock.jump(-timedelta(days=3650))
    again = restarted(world)
    assert count(again, EventType.CLOCK_JUMPED) == 1
    assert state(again, grant) == GrantState.ENDED
    with again.broker.read() as view:
        assert [row.kind for row in hold.in_force(view)] == ["instance"]
    again.close()


@pytest.mark.covers("R62")
def test_an_operator_sets_the_time_back_once_everything_live_is_ended(world: World) -> None:
    ticker = watching(world)
    waiting = world.filed(entitlement="releaser").request
    glitch(world, ticker, timedelta(days=3650))
    live = world.sign_in("arta").session
    assert wrong_clock.set_back(world.broker, "battery of the host replaced", by="test") == 3650 * 86_400
    again = restarted(world)
    assert again.broker.db.now() == again.clock.now()
    again.secrets.update(world.secrets)
    assert again.resolved(live.id) is None
    with again.broker.read() as view:
        told = view.all(select(Event).where(Event.type == EventType.CLOCK_SET_BACK.value))
        assert len(told) == 1
        assert "battery" not in told[0].leaf
    lift(again)
    refused = again.approve("blerim", waiting.id)
    assert isinstance(refused, Refused)
    grant = granted(again, duration_s=600)
    again.advance(10 * MINUTE)
    again.sweep()
    assert state(again, grant) == GrantState.ENDED
    again = restarted(again)
    assert again.broker.db.now() == again.clock.now()
    again.close()


def test_a_time_that_is_right_is_not_set_back(world: World) -> None:
    with pytest.raises(JitError) as refused:
        wrong_clock.set_back(world.broker, "just so", by="test")
    assert refused.value.kind is Kind.CONFLICT


def test_the_command_asks_for_a_reason_and_a_confirmation() -> None:
    without = CliRunner().invoke(root, ["clock", "set-back"])
    assert without.exit_code != 0
    assert "--reason" in without.output
    unsure = CliRunner().invoke(root, ["clock", "set-back", "--reason", "battery"], input="n\n")
    assert unsure.exit_code != 0
    assert "Is every broker stopped" in unsure.output
