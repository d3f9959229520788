"""Separation of duties across grants and time, counted per person and checked again at issue."""

from datetime import timedelta

import pytest

from jitaccess.broker.issue import Opened, open_lease
from jitaccess.broker.revoke import hand_back
from jitaccess.domain.values import Refused
from jitaccess.store.tables import Grant
from tests.support.policy_swap import Rules, swap
from tests.support.world import World


def keep_apart(rules: Rules) -> None:
    """Who looks at payments, or looked less than a day ago, releases none."""
    rules["release-payments"]["conflicts"] = [{"entitlement": "viewer", "within": "1d"}]


def returned(world: World, grant: Grant) -> None:
    arta = world.current("arta")
    with world.broker.begin(arta.actor, lock=[(Grant, grant.id)]) as tx:
        hand_back(tx, arta, grant.id)


@pytest.mark.covers("R22")
def test_what_is_held_or_was_held_stands_in_the_way_until_its_time_is_over(world: World) -> None:
    swap(world, keep_apart)
    looking = world.filed(duration_s=600).grant
    assert looking is not None
    refused = world.file(entitlement="releaser")
    assert isinstance(refused, Refused)
    assert refused.code == "conflict"
    assert isinstance(open_lease(world.broker, world.current("arta"), looking.id), Opened)
    returned(world, looking)
    world.advance(timedelta(hours=23, minutes=59))
    assert isinstance(world.file(entitlement="releaser"), Refused)
    world.advance(timedelta(minutes=1))
    world.filed(entitlement="releaser")


@pytest.mark.covers("R22", "T-05")
def test_a_second_account_of_the_person_changes_nothing(world: World) -> None:
    swap(world, keep_apart)
    world.filed("arta-2")
    refused = world.file("arta", entitlement="releaser")
    assert isinstance(refused, Refused)
    assert refused.code == "conflict"


@pytest.mark.covers("R22", "R28")
def test_a_conflict_that_came_up_after_the_request_refuses_the_approval(world: World) -> None:
    swap(world, keep_apart)
    filed = world.filed(entitlement="releaser")
    world.filed()
    refused = world.approve("blerim", filed.request.id)
    assert isinstance(refused, Refused)
    assert refused.code == "conflict"


@pytest.mark.covers("R22", "R28")
def test_the_other_side_is_refused_too_and_issue_looks_again(world: World) -> None:
    swap(world, keep_apart)
    done = world.released()
    assert done.grant is not None
    refused = world.file()
    assert isinstance(refused, Refused)
    assert refused.code == "conflict"
    swap(world, lambda rules: None)
    looking = world.filed().grant
    assert looking is not None
    swap(world, keep_apart)
    late = open_lease(world.broker, world.current("arta"), done.grant.id)
    assert isinstance(late, Refused)
    assert late.code in {"conflict", "terms_changed"}


def test_a_grant_that_was_never_opened_was_never_held(world: World) -> None:
    swap(world, lambda rules: rules["look-at-payments"].update(conflicts=[{"entitlement": "releaser", "within": "1d"}]))
    done = world.released()
    assert done.grant is not None
    assert isinstance(world.file(), Refused)
    returned(world, done.grant)
    world.filed()
