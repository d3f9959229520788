"""Separation of duties across grants and time, counted per person and checked again at issue."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from jitaccess.broker.approval_set import SetCeremony, begin_set, complete_set
from jitaccess.broker.approve import Approved, begin_approval, complete_approval, lock_of
from jitaccess.broker.issue import Opened, open_lease
from jitaccess.broker.revoke import hand_back
from jitaccess.domain.values import Refused
from jitaccess.errors import JitError
from jitaccess.identity.passkeys import Ceremony
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


# ---------------------------------------------------------------- two at the same instant


def both_need_signatures(rules: Rules) -> None:
    """Looking and releasing are kept apart, and each takes one signature."""
    keep_apart(rules)
    rules["look-at-payments"]["approve"] = {"steps": [{"name": "line", "groups": ["treasury-heads"], "count": 1}]}
    rules["release-payments"]["approve"] = {"steps": [{"name": "owner", "groups": ["infra-finance"], "count": 1}]}


def begun_by(world: World, key: str, request_id: str) -> tuple[str, dict[str, Any]]:
    current = world.current(key)
    with world.broker.begin(current.actor) as tx:
        begun = begin_approval(tx, world.broker, current, request_id=request_id)
    assert isinstance(begun, Ceremony)
    return begun.challenge_id, world.answer(key, begun)


def grants_of(world: World) -> list[str]:
    with world.broker.read() as view:
        return [str(key) for key in view.rows(select(Grant.entitlement).order_by(Grant.id)).scalars()]


@pytest.mark.covers("R22", "T-07")
def test_of_two_that_are_kept_apart_only_one_is_granted_though_both_are_signed_at_the_same_instant(
    world: World,
) -> None:
    swap(world, both_need_signatures)
    looking, releasing = world.filed().request, world.filed(entitlement="releaser").request
    begun = {key: begun_by(world, key, request.id) for key, request in (("blerim", looking), ("drita", releasing))}
    counted, go_on = threading.Event(), threading.Event()
    found: dict[str, Approved | Refused] = {}

    def sign(key: str, request_id: str, *, first: bool) -> None:
        current, (challenge_id, response) = world.current(key), begun[key]
        with world.broker.begin(current.actor, lock=lock_of(world.broker, [request_id])) as tx:
            found[key] = complete_approval(
                tx, world.broker, current, request_id=request_id, challenge_id=challenge_id, response=response
            )
            if first:
                counted.set()
                assert go_on.wait(30)

    early = threading.Thread(target=sign, args=("blerim", looking.id), kwargs={"first": True})
    late = threading.Thread(target=sign, args=("drita", releasing.id), kwargs={"first": False})
    early.start()
    assert counted.wait(30)
    late.start()
    late.join(0.5)  # it must wait for the first, whose grant nobody else can see yet
    assert late.is_alive()
    go_on.set()
    early.join(30)
    late.join(30)
    assert isinstance(found["blerim"], Approved)
    refused = found["drita"]
    assert isinstance(refused, Refused)
    assert refused.code == "conflict"
    assert grants_of(world) == ["viewer"]


@pytest.mark.covers("R22", "T-07")
def test_a_set_that_holds_two_that_are_kept_apart_counts_for_neither(world: World) -> None:
    def one_head_signs_both(rules: Rules) -> None:
        both_need_signatures(rules)
        rules["release-payments"]["approve"] = rules["look-at-payments"]["approve"]

    swap(world, one_head_signs_both)
    keys = [world.filed().request.id, world.filed(entitlement="releaser").request.id]
    blerim = world.current("blerim")
    with world.broker.begin(blerim.actor, lock=lock_of(world.broker, keys)) as tx:
        begun = begin_set(tx, world.broker, blerim, keys)
    assert isinstance(begun, SetCeremony)
    response = world.answer("blerim", begun.ceremony)
    with (
        pytest.raises(JitError, match="stand in each other's way"),
        world.broker.begin(blerim.actor, lock=lock_of(world.broker, keys)) as tx,
    ):
        complete_set(tx, world.broker, blerim, challenge_id=begun.ceremony.challenge_id, response=response)
    assert grants_of(world) == []
    assert isinstance(world.approve("blerim", keys[0]), Approved)
    refused = world.approve("blerim", keys[1])
    assert isinstance(refused, Refused)
    assert refused.code == "conflict"
