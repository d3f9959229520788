"""A start in the future: asked for, signed, waited for, started by the sweep, and never moved."""

from datetime import datetime, timedelta

import pytest

from jitaccess.broker.issue import Opened, open_lease
from jitaccess.broker.request import Ask, Filed, complete_filing
from jitaccess.domain.lifecycle import GrantState
from jitaccess.domain.values import Refused
from jitaccess.store.tables import Grant, Person
from tests.support.policy_swap import Rules, swap
from tests.support.world import RELEASE, World

HOUR = timedelta(hours=1)


def ahead(rules: Rules) -> None:
    """Looking at payments and releasing them may be asked for two days ahead."""
    for name in ("look-at-payments", "release-payments"):
        rules[name]["duration"]["start_within"] = "2d"


def in_an_hour(world: World) -> datetime:
    return world.broker.db.now().replace(microsecond=0) + HOUR


def file_for(world: World, start: datetime, entitlement: str = "viewer") -> Filed | Refused:
    inputs = RELEASE if entitlement == "releaser" else {}
    begun = world.begin_filing("arta", Ask("treasury", entitlement, inputs, 600, "at the end of the month", start))
    if isinstance(begun, Refused):
        return begun
    arta = world.current("arta")
    with world.broker.begin(arta.actor, lock=[(Person, arta.person.id)]) as tx:
        return complete_filing(
            tx, world.broker, arta, challenge_id=begun.challenge_id, response=world.answer("arta", begun)
        )


def filed_for(world: World, start: datetime, entitlement: str = "viewer") -> Filed:
    found = file_for(world, start, entitlement)
    assert isinstance(found, Filed), found
    return found


def read(world: World, grant_id: str) -> Grant:
    with world.broker.read() as view:
        return view.require(Grant, grant_id)


def opening(world: World, grant_id: str) -> str:
    found = open_lease(world.broker, world.current("arta"), grant_id)
    return "opened" if isinstance(found, Opened) else found.code


def test_the_sweep_starts_a_scheduled_grant_and_its_clock_runs_from_the_start_asked_for(world: World) -> None:
    swap(world, ahead)
    start = in_an_hour(world)
    grant = filed_for(world, start).grant
    assert grant is not None
    assert (grant.state, grant.not_before, grant.starts_at) == (GrantState.SCHEDULED, start, None)
    assert opening(world, grant.id) == "not_yet"
    world.advance(HOUR - timedelta(minutes=1))
    world.sweep()
    assert read(world, grant.id).state == GrantState.SCHEDULED
    world.advance(timedelta(minutes=5))
    world.sweep()
    begun = read(world, grant.id)
    assert (begun.state, begun.starts_at, begun.ends_at) == (GrantState.ACTIVE, start, start + timedelta(seconds=600))
    assert opening(world, grant.id) == "opened"


def test_a_scheduled_grant_opens_at_its_start_even_before_the_sweep_and_never_after_its_end(world: World) -> None:
    swap(world, ahead)
    start = in_an_hour(world)
    first, second = filed_for(world, start).grant, filed_for(world, start + HOUR).grant
    assert first is not None
    assert second is not None
    world.advance(HOUR + timedelta(seconds=30))
    assert opening(world, first.id) == "opened"
    assert read(world, first.id).starts_at == start
    world.advance(HOUR + timedelta(minutes=10))
    assert opening(world, second.id) == "grant_ended"
    world.sweep()
    assert [read(world, key).cause for key in (first.id, second.id)] == ["expired", "expired"]


@pytest.mark.covers("R19", "R20", "T-11")
def test_approvers_sign_the_start_and_the_first_use_waits_for_it(world: World) -> None:
    swap(world, ahead)
    start = in_an_hour(world) + HOUR
    request = filed_for(world, start, "releaser").request
    assert request.earliest_start == start
    world.approved("blerim", request.id)
    grant = world.approved("drita", request.id).grant
    assert grant is not None
    assert (grant.not_before, grant.activate_by) == (start, start + timedelta(minutes=15))
    assert opening(world, grant.id) == "not_yet"
    world.advance(2 * HOUR + timedelta(minutes=10))
    world.sweep()
    assert opening(world, grant.id) == "opened"
    opened = read(world, grant.id)
    assert opened.ends_at is not None
    assert opened.ends_at <= request.latest_end


@pytest.mark.covers("R20")
@pytest.mark.parametrize("table", ["access_grant", "access_request"])
def test_an_earlier_start_in_the_database_is_refused(world: World, table: str) -> None:
    swap(world, ahead)
    grant = filed_for(world, in_an_hour(world)).grant
    assert grant is not None
    if table == "access_grant":
        world.sql("UPDATE access_grant SET not_before = NULL")
        with pytest.raises(Exception, match="changed outside"):
            opening(world, grant.id)
    else:
        world.sql("UPDATE access_request SET earliest_start = earliest_start - 3600000000")
        world.advance(HOUR)
        assert opening(world, grant.id) == "differs_from_signed"


def test_a_start_that_no_rule_allows_is_refused(world: World) -> None:
    refused = file_for(world, in_an_hour(world))
    assert isinstance(refused, Refused)
    assert refused.code == "start_too_far"
    swap(world, ahead)
    late = file_for(world, in_an_hour(world) + 2 * 24 * HOUR)
    assert isinstance(late, Refused)
    assert late.code == "start_too_far"
