"""Who was put on the register or switched on a moment ago approves nothing and asks for nothing of high risk for a while (R10)."""

from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest

from jitaccess.broker import approve, deputies, offers
from jitaccess.broker.approve import Approved
from jitaccess.broker.deputies import Naming
from jitaccess.broker.issue import Opened, open_lease
from jitaccess.broker.request import Filed
from jitaccess.demo.seed import soft_key
from jitaccess.demo.soft_passkey import SoftPasskey
from jitaccess.domain.values import LOCAL, Refused
from jitaccess.identity import people
from jitaccess.identity.passkeys import store_passkey
from jitaccess.settings import Sessions
from jitaccess.store.tables import Account
from tests.support.world import World

DAY = timedelta(days=1)


def cooling(world: World, seconds: int = 86_400) -> World:
    """Let new accounts wait for a day."""
    site = world.broker.site
    world.broker = replace(world.broker, site=replace(site, sessions=Sessions(new_account_s=seconds)))
    return world


@pytest.fixture
def slow(world: World) -> World:
    """Give a world in which new accounts wait, a moment after everybody was seeded."""
    return cooling(world)


def join(world: World, key: str, *, person_of: str = "", groups: tuple[str, ...] = ()) -> None:
    """Give somebody an account with a passkey: a new person, or `person_of` one more account."""
    site = world.broker.site
    with world.broker.begin(LOCAL) as tx:
        if person_of:
            person = world.person(person_of)
        else:
            person = people.add_person(
                tx, name=f"New {key}", email=f"{key}@mof.example", institution="mof", unit="treasury"
            ).id
        cast("dict[str, str]", world.seeded.people)[key] = person
        for group in groups:
            people.add_member(tx, group_id=group, member_id=person)
        account = people.add_account(tx, person_id=person, label=f"{key}@mof.example")
    with world.broker.begin(LOCAL) as tx:
        row = tx.require(Account, account.id)
        passkey = SoftPasskey(site.rp_id, site.origin)
        found = soft_key(site, passkey, user_handle=row.user_handle, label=row.label)
        store_passkey(tx, row, found, "Software passkey")
    cast("dict[str, Any]", world.seeded.passkeys)[key] = passkey


def code(found: object) -> str:
    assert isinstance(found, Refused), found
    return found.code


@pytest.mark.covers("R10")
@pytest.mark.parametrize("second_account", [False, True], ids=["a new person", "a second account"])
def test_a_new_account_approves_nothing_for_a_day_but_may_refuse(slow: World, second_account: bool) -> None:
    world = slow
    join(world, "nora", person_of="blerim" if second_account else "", groups=("treasury-heads",))
    filed = world.filed(entitlement="releaser")
    assert code(world.approve("nora", filed.request.id)) == "account_new"
    world.advance(DAY - timedelta(minutes=1))
    filed = world.filed(entitlement="releaser", inputs={"order": "TR-000418", "amount_cents": 100})
    assert code(world.approve("nora", filed.request.id)) == "account_new"
    world.advance(timedelta(minutes=1))
    assert isinstance(world.approve("nora", filed.request.id), Approved)
    join(world, "second", groups=("treasury-heads",))
    later = world.filed(entitlement="releaser", inputs={"order": "TR-000419", "amount_cents": 100})
    current = world.current("second")
    with world.broker.begin(current.actor) as tx:
        assert not isinstance(approve.deny(tx, world.broker, current, request_id=later.request.id), Refused)


@pytest.mark.covers("R10")
def test_a_new_account_asks_for_nothing_of_high_risk_for_a_day(slow: World) -> None:
    world = slow
    join(world, "nora", groups=("treasury-staff", "treasury-releasers"))
    assert isinstance(world.file("nora"), Filed), "what is of low risk it may ask for"
    assert code(world.file("nora", entitlement="releaser")) == "account_new"
    with world.broker.read() as view:
        shown = offers.choice(view, world.broker, world.current("nora"), target="treasury", entitlement="releaser")
    assert not shown.open
    assert shown.missing is not None
    assert shown.missing.code == "account_new"
    world.advance(DAY)
    assert isinstance(world.file("nora", entitlement="releaser"), Filed)


@pytest.mark.covers("R10")
def test_who_was_switched_on_again_is_new_again(slow: World) -> None:
    world = slow
    world.advance(DAY)
    with world.broker.begin(LOCAL) as tx:
        people.disable_person(tx, world.person("blerim"))
    with world.broker.begin(LOCAL) as tx:
        people.enable_person(tx, world.person("blerim"))
    filed = world.filed(entitlement="releaser")
    assert code(world.approve("blerim", filed.request.id)) == "account_new"
    blerim = world.current("blerim")
    with world.broker.begin(blerim.actor) as tx:
        lent = deputies.begin_naming(tx, world.broker, blerim, Naming(world.person("agim"), None, 86_400))
    assert code(lent) == "account_new", "nor does somebody else approve in the name of a new account"


@pytest.mark.covers("R10", "R20")
def test_what_a_new_account_signed_before_it_waited_counts_for_nothing_at_issue(world: World) -> None:
    join(world, "nora", groups=("treasury-heads",))
    filed = world.filed(entitlement="releaser")
    world.approved("nora", filed.request.id)
    grant = world.approved("drita", filed.request.id).grant
    assert grant is not None
    cooling(world)
    assert code(open_lease(world.broker, world.current("arta"), grant.id)) == "approver_account_new"
    cooling(world, 0)
    assert isinstance(open_lease(world.broker, world.current("arta"), grant.id), Opened)


@pytest.mark.covers("R10", "R28")
def test_a_request_of_a_new_account_is_approved_by_nobody(world: World) -> None:
    join(world, "nora", groups=("treasury-releasers",))
    filed = world.filed("nora", entitlement="releaser")
    cooling(world)
    assert code(world.approve("blerim", filed.request.id)) == "account_new"


@pytest.mark.covers("R10", "R74")
def test_the_founders_of_genesis_and_the_one_of_a_pilot_are_not_new(slow: World) -> None:
    world = slow
    with world.broker.read() as view:
        who = {"person_id": world.person("agim"), "account_id": world.seeded.accounts["agim"]}
        assert people.new_until(view, world.broker.site, **who, at=view.now) is None
    join(world, "nora")
    nora = {"person_id": world.person("nora"), "account_id": world.current("nora").account.id}
    with world.broker.read() as view:
        assert people.new_until(view, world.broker.site, **nora, at=view.now) == view.now + DAY
        assert people.new_until(view, replace(world.broker.site, pilot=True), **nora, at=view.now) is None
