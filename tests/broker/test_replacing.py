"""No administrator alone becomes somebody else: two sign, the owner is told, and it can be stopped until it is done (R9, R10)."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from jitaccess.broker.changes import Applied
from jitaccess.cli.people import people as commands
from jitaccess.demo.soft_passkey import SoftPasskey
from jitaccess.domain.values import LOCAL, SYSTEM, Refused
from jitaccess.errors import JitError
from jitaccess.identity import enrolment, passkeys, people, recovery, replacing
from jitaccess.store.tables import Event, Outbox, Passkey, Recovery
from tests.support.world import World

REPLACE = {"purpose": "recover"}
DAY = timedelta(hours=24)


def applied(found: Applied | Refused) -> Applied:
    assert isinstance(found, Applied), found
    return found


def replacement(world: World, key: str = "blerim") -> Recovery:
    """Let two administrators begin replacing somebody's passkeys."""
    account = world.seeded.accounts[key]
    assert not applied(world.change("agim", "enrolment.create", account, REPLACE)).ready
    done = applied(world.change("besa", "enrolment.create", account, REPLACE))
    assert (done.ready, done.shown) == (True, None)
    with world.broker.read() as view:
        found = replacing.of_account(view, account)
    assert found is not None
    return found


def use(world: World, link: str) -> Passkey | Refused:
    """Make a passkey with a link."""
    site, token = world.broker.site, link.rsplit("/", 1)[-1]
    with world.broker.begin(SYSTEM) as tx:
        begun = enrolment.begin(tx, site, token)
    if isinstance(begun, Refused):
        return begun
    response = SoftPasskey(site.rp_id, site.origin).create(begun.options)
    with world.broker.begin(SYSTEM) as tx:
        return enrolment.complete(tx, site, token, challenge_id=begun.challenge_id, response=response, name="New")


def told_of(world: World, kind: str) -> set[str]:
    with world.broker.read() as view:
        return {row.person_id for row in view.all(select(Outbox).where(Outbox.kind == kind))}


@pytest.mark.covers("R9", "R10")
def test_one_administrator_gets_no_link_for_an_account_that_has_a_passkey(sqlite_world: World) -> None:
    world = sqlite_world
    for key in ("blerim", "drita", "besa"):
        plain = world.begin_change("agim", "enrolment.create", world.seeded.accounts[key], {"purpose": "enrol"})
        assert isinstance(plain, Refused)
        assert plain.code == "has_passkey"
        alone = applied(world.change("agim", "enrolment.create", world.seeded.accounts[key], REPLACE))
        assert (alone.ready, alone.shown) == (False, None)
        again = world.change("agim", "enrolment.create", world.seeded.accounts[key], REPLACE)
        assert isinstance(again, Refused)
        assert again.code == "same_person"
    with pytest.raises(JitError), world.broker.begin(LOCAL) as tx:
        enrolment.create_link(tx, world.broker.site, account_id=world.seeded.accounts["blerim"], by="agim")


@pytest.mark.covers("R10", "R21")
def test_whatever_lets_somebody_in_or_gives_a_right_takes_two(sqlite_world: World) -> None:
    world = sqlite_world
    arta = world.person("arta")
    with world.broker.begin(LOCAL) as tx:
        people.disable_person(tx, world.person("jelena"))
    new = {"name": "Nora", "email": "nora@mof.example", "institution": "mof", "unit": "x", "groups": ["treasury-heads"]}
    acts: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("person.add", "new", new),
        ("person.enable", world.person("jelena"), {}),
        ("account.add", world.person("blerim"), {"label": "once more"}),
        ("member.add", "treasury-heads", {"member_id": arta}),
        ("person.change", arta, {"values": {"institution": "infra"}}),
        ("person.change", arta, {"values": {"email": "other@mof.example"}}),
    )
    for kind, subject, payload in acts:
        assert not applied(world.change("agim", kind, subject, payload)).ready, kind
        assert applied(world.change("besa", kind, subject, payload)).ready, kind
    assert applied(world.change("agim", "person.change", arta, {"values": {"name": "Arta K."}})).ready
    assert applied(world.change("agim", "member.end", "treasury-heads", {"member_id": arta})).ready


@pytest.mark.covers("R9", "T-25")
def test_a_replacement_waits_is_told_and_then_ends_what_was(sqlite_world: World) -> None:
    world = sqlite_world
    old = world.current("blerim")
    row = replacement(world)
    told = told_of(world, "replacement_started")
    assert world.person("blerim") in told
    assert {world.person(key) for key in ("agim", "besa", "milan")} <= told
    with pytest.raises(JitError):
        world.change("milan", "recovery.link", row.id)
    world.advance(DAY)
    first = applied(world.change("milan", "recovery.link", row.id)).shown
    world.advance(timedelta(minutes=11))  # missed: made anew
    second = applied(world.change("agim", "recovery.link", row.id)).shown
    assert first is not None
    assert second is not None
    assert isinstance(use(world, first), Refused)
    made = use(world, second)
    assert isinstance(made, Passkey)
    with world.broker.read() as view:
        assert [key.id for key in passkeys.list_for(view, old.account.id)] == [made.id]
        assert replacing.under_way(view) == []
    assert isinstance(use(world, second), Refused)


@pytest.mark.covers("R9", "R10")
def test_a_stopped_replacement_gives_no_link_and_kills_the_one_that_was_given(sqlite_world: World) -> None:
    world = sqlite_world
    row = replacement(world)
    world.advance(DAY)
    link = applied(world.change("milan", "recovery.link", row.id)).shown
    assert link is not None
    with world.broker.begin(LOCAL) as tx:
        recovery.stop(tx, row.id, by=world.person("blerim"))
    assert isinstance(use(world, link), Refused)
    with pytest.raises(JitError):
        world.change("milan", "recovery.link", row.id)
    assert world.sign_in("blerim").person.id == world.person("blerim")


@pytest.mark.covers("R10", "R21")
def test_nobody_signs_or_fetches_the_replacement_of_his_own(sqlite_world: World) -> None:
    world = sqlite_world
    own = world.begin_change("besa", "enrolment.create", world.seeded.accounts["besa"], REPLACE)
    assert isinstance(own, Refused)
    account = world.seeded.accounts["besa"]
    world.change("agim", "enrolment.create", account, REPLACE)
    assert applied(world.change("milan", "enrolment.create", account, REPLACE)).ready
    with world.broker.read() as view:
        row = replacing.of_account(view, account)
    assert row is not None
    world.advance(DAY)
    mine = world.begin_change("besa", "recovery.link", row.id)
    assert isinstance(mine, Refused)
    assert mine.code == "own_rights"


@pytest.mark.covers("R9")
def test_a_held_person_who_lost_the_device_comes_in_again_and_stays_on_hold_until_released(sqlite_world: World) -> None:
    world = sqlite_world
    row = replacement(world)
    hold = world.hold("blerim")
    world.advance(DAY)
    link = applied(world.change("milan", "recovery.link", row.id)).shown
    assert link is not None
    made = use(world, link)
    assert isinstance(made, Passkey)
    with world.broker.read() as view:
        refused = people.may_act(view, person_id=made.person_id, passkey_id=made.id)
    assert refused is not None
    assert refused.code == "on_hold"
    assert applied(world.change("milan", "hold.release", hold.id)).ready
    with world.broker.read() as view:
        assert people.may_act(view, person_id=made.person_id, passkey_id=made.id) is None


@pytest.mark.covers("R8")
def test_the_shell_makes_no_link_for_anybody() -> None:
    assert sorted(commands.commands) == ["list"]


@pytest.mark.covers("R10", "R71")
def test_each_step_of_a_replacement_is_in_the_log(sqlite_world: World) -> None:
    world = sqlite_world
    row = replacement(world)
    with world.broker.begin(LOCAL) as tx:
        recovery.stop(tx, row.id, by=world.person("blerim"))
    with world.broker.read() as view:
        types = [event.type for event in view.all(select(Event).order_by(Event.idx))]
    wanted = [
        "change.proposed",
        "change.signed",
        "change.signed",
        "recovery.started",
        "change.applied",
        "recovery.vetoed",
    ]
    assert [kind for kind in types if kind in wanted] == wanted
