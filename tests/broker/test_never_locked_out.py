"""Nobody is ever locked out for good: holds that would do it take a signature, and paper keys always lead back (design.md section 6a)."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from jitaccess.broker import hold, returning
from jitaccess.broker.changes import Applied
from jitaccess.broker.hold import HoldKind
from jitaccess.demo.soft_passkey import SoftPasskey
from jitaccess.domain.values import LOCAL, SYSTEM, Refused
from jitaccess.errors import JitError
from jitaccess.identity import enrolment, passkeys, people, recovery, replacing
from jitaccess.identity.standing import able_administrators
from jitaccess.store.tables import Event, Passkey, RecoveryKey
from tests.support.world import World, open_world, prepare

HOURS_72 = timedelta(hours=72)


@pytest.fixture
def pilot(tmp_path: Path) -> Iterator[World]:
    """Give a pilot: one founder."""
    url = f"sqlite:///{tmp_path / 'broker.db'}"
    world = open_world(url, prepare(url, tmp_path, pilot=True), tmp_path)
    yield world
    world.close()


def able(world: World) -> set[str]:
    names = {person: key for key, person in world.seeded.people.items()}
    with world.broker.read() as view:
        return {names[person] for person in able_administrators(people.staff(view))}


def tap(world: World, kind: HoldKind, subject: str, by: str = "agim") -> hold.Hold | Refused:
    """Place a hold as a page does."""
    with world.broker.begin(SYSTEM) as tx:
        placed, _ = hold.place(tx, world.broker, kind=kind, subject_id=subject, cause="a tap", by=world.person(by))
    return placed


def recovered(world: World, key: str, *, papers: slice = slice(0, 3)) -> Passkey:
    """Recover a founder with paper keys, and sign in with the new passkey from here on."""
    site = world.broker.site
    with world.broker.begin(LOCAL) as tx:
        row = recovery.start(tx, account_id=world.seeded.accounts[key], paper_keys=world.seeded.paper_keys[papers])
    world.advance(HOURS_72)
    with world.broker.begin(LOCAL) as tx:
        token = recovery.link(tx, site, row.id).rsplit("/", 1)[-1]
    fresh = SoftPasskey(site.rp_id, site.origin)
    with world.broker.begin(SYSTEM) as tx:
        begun = enrolment.begin(tx, site, token)
    assert not isinstance(begun, Refused)
    with world.broker.begin(SYSTEM) as tx:
        made = returning.complete(
            tx, world.broker, token, challenge_id=begun.challenge_id, response=fresh.create(begun.options), name="New"
        )
    assert isinstance(made, Passkey), made
    world.seeded.passkeys[key] = fresh  # type: ignore[index] # the world's own copy
    return made


def sign(world: World, key: str, kind: str, subject: str, payload: dict[str, Any] | None = None) -> Applied:
    found = world.change(key, kind, subject, payload)
    assert isinstance(found, Applied), found
    return found


@pytest.mark.covers("R12", "R15")
@pytest.mark.parametrize("kind", [HoldKind.PERSON, HoldKind.INSTITUTION])
def test_a_tap_ends_everything_of_the_sole_founder_but_holds_him_only_with_a_signature(
    pilot: World, kind: HoldKind
) -> None:
    agim = pilot.current("agim")
    subject = agim.person.id if kind is HoldKind.PERSON else agim.person.institution
    placed = tap(pilot, kind, subject)
    assert placed == hold.LAST_ADMINISTRATOR
    with pilot.broker.read() as view:
        assert hold.in_force(view) == []
        alarm = view.first(select(Event).where(Event.type == "alarm.raised"))
    assert alarm is not None
    assert "hold_would_lock_out" in alarm.leaf
    assert pilot.sign_in("agim").session.id != agim.session.id  # the old sessions are over
    assert sign(pilot, "agim", "hold.place", subject, {"kind": kind.value}).ready
    assert able(pilot) == set()
    recovered(pilot, "agim")
    assert able(pilot) == {"agim"}
    pilot.sign_in("agim")


@pytest.mark.covers("R12")
def test_blocking_the_last_passkey_of_the_last_founder_takes_a_signature_too(pilot: World) -> None:
    with pilot.broker.read() as view:
        keys = [key.id for key in passkeys.list_for(view, pilot.seeded.accounts["agim"])]
    for key in keys[:-1]:
        assert not isinstance(tap(pilot, HoldKind.PASSKEY, key), Refused)
    assert tap(pilot, HoldKind.PASSKEY, keys[-1]) == hold.LAST_ADMINISTRATOR
    assert able(pilot) == {"agim"}


@pytest.mark.covers("R12", "R21")
def test_with_three_founders_a_tap_holds_any_but_the_last(sqlite_world: World) -> None:
    world = sqlite_world
    for key in ("besa", "milan"):
        assert not isinstance(tap(world, HoldKind.PERSON, world.person(key)), Refused)
    assert tap(world, HoldKind.PERSON, world.person("agim")) == hold.LAST_ADMINISTRATOR
    assert able(world) == {"agim"}
    assert sign(world, "agim", "hold.place", world.person("agim"), {"kind": "person"}).ready
    assert able(world) == set()
    recovered(world, "besa")
    assert able(world) == {"besa"}
    held = {one.subject_id: one.id for one in _holds(world)}
    assert sign(world, "besa", "hold.release", held[world.person("milan")]).ready


def _holds(world: World) -> list[hold.Hold]:
    with world.broker.read() as view:
        return hold.in_force(view)


@pytest.mark.covers("R12", "R21")
def test_an_institution_of_all_founders_is_held_by_two_signatures(sqlite_world: World) -> None:
    world = sqlite_world
    with world.broker.begin(LOCAL) as tx:
        for key in ("agim", "besa", "milan"):
            people.change_person(tx, world.person(key), institution="mof")
    assert tap(world, HoldKind.INSTITUTION, "mof") == hold.LAST_ADMINISTRATOR
    assert not sign(world, "agim", "hold.place", "mof", {"kind": "institution"}).ready
    assert sign(world, "besa", "hold.place", "mof", {"kind": "institution"}).ready
    assert able(world) == set()
    recovered(world, "milan")
    assert able(world) == {"milan"}  # the others stay on hold, by name
    with world.broker.read() as view:
        register = people.register(view)
    assert register.persons[world.person("arta")].on_hold
    assert {one.kind for one in _holds(world)} == {"person"}


@pytest.mark.covers("R12")
def test_the_shell_holds_anybody_and_paper_keys_lift_it(pilot: World) -> None:
    pilot.hold("agim")
    assert able(pilot) == set()
    with pytest.raises(AssertionError):
        pilot.sign_in("agim")
    recovered(pilot, "agim")
    pilot.sign_in("agim")


@pytest.mark.covers("R21")
def test_signed_changes_leave_enough_administrators(sqlite_world: World) -> None:
    world = sqlite_world
    founders = "jit-founders"
    assert sign(world, "agim", "member.end", founders, {"member_id": world.person("milan")}).ready
    for kind, subject, payload in (
        ("member.end", founders, {"member_id": world.person("besa")}),
        ("person.disable", world.person("besa"), {}),
    ):
        found = world.begin_change("agim", kind, subject, payload)
        assert isinstance(found, Refused)
        assert found.code == "too_few_administrators"
    assert able(world) == {"agim", "besa"}


@pytest.mark.covers("R9")
def test_leaf_0_names_who_is_recovered_and_where_nobody_else_is_left_he_is_a_founder_again(sqlite_world: World) -> None:
    world = sqlite_world
    with world.broker.read() as view:
        named = recovery.genesis_accounts(view)
    assert named == {world.seeded.accounts[key] for key in ("agim", "besa", "milan")}
    with world.broker.begin(LOCAL) as tx:  # as an older release let it happen
        for key in ("agim", "besa", "milan"):
            people.end_member(tx, group_id="jit-founders", member_id=world.person(key))
        people.disable_person(tx, world.person("agim"))
    assert able(world) == set()
    with pytest.raises(JitError), world.broker.begin(LOCAL) as tx:
        recovery.start(tx, account_id=world.seeded.accounts["arta"], paper_keys=world.seeded.paper_keys[:3])
    recovered(world, "agim")
    assert able(world) == {"agim"}


@pytest.mark.covers("R9")
def test_a_dismissed_founder_is_not_made_one_again_while_others_are_there(sqlite_world: World) -> None:
    world = sqlite_world
    assert sign(world, "agim", "member.end", "jit-founders", {"member_id": world.person("milan")}).ready
    recovered(world, "milan")
    assert able(world) == {"agim", "besa"}


@pytest.mark.covers("R9")
def test_neither_a_veto_nor_a_missed_link_spends_paper_keys(sqlite_world: World) -> None:
    world = sqlite_world
    account = world.seeded.accounts["agim"]
    with world.broker.begin(LOCAL) as tx:
        first = recovery.start(tx, account_id=account, paper_keys=world.seeded.paper_keys[:3])
    assert sign(world, "besa", "recovery.veto", first.id).ready
    with world.broker.begin(LOCAL) as tx:
        second = recovery.start(tx, account_id=account, paper_keys=world.seeded.paper_keys[:3])
    world.advance(HOURS_72)
    links: list[str] = []
    for _ in range(2):
        with world.broker.begin(LOCAL) as tx:
            links.append(recovery.link(tx, world.broker.site, second.id))
        world.advance(timedelta(minutes=11))
    with world.broker.read() as view:
        assert all(isinstance(enrolment.find(view, link.rsplit("/", 1)[-1]), Refused) for link in links)
        assert recovery.keys_left(view) == 5
    assert sign(world, "besa", "recovery.veto", second.id).ready
    recovered(world, "agim")
    with world.broker.read() as view:
        assert recovery.keys_left(view) == 2
        assert replacing.under_way(view) == []


@pytest.mark.covers("R9")
def test_new_paper_keys_take_two_signatures_and_end_the_old_ones(sqlite_world: World) -> None:
    world = sqlite_world
    assert not sign(world, "agim", "recovery.print_keys", "paper").ready
    printed = sign(world, "besa", "recovery.print_keys", "paper").shown
    assert printed is not None
    fresh = printed.splitlines()
    assert len(set(fresh)) == 5
    with pytest.raises(JitError), world.broker.begin(LOCAL) as tx:
        recovery.start(tx, account_id=world.seeded.accounts["agim"], paper_keys=world.seeded.paper_keys[:3])
    with world.broker.begin(LOCAL) as tx:
        recovery.start(tx, account_id=world.seeded.accounts["agim"], paper_keys=fresh[:3])
    with world.broker.read() as view:
        texts = [row.leaf for row in view.all(select(Event))] + [
            row.secret_hash for row in view.all(select(RecoveryKey))
        ]
    assert not any(key in text for key in fresh for text in texts)


@pytest.mark.covers("R9", "R21")
def test_whoever_put_a_founder_on_hold_does_not_veto_the_recovery(sqlite_world: World) -> None:
    world = sqlite_world
    assert not isinstance(tap(world, HoldKind.PERSON, world.person("besa")), Refused)
    with world.broker.begin(LOCAL) as tx:
        row = recovery.start(tx, account_id=world.seeded.accounts["besa"], paper_keys=world.seeded.paper_keys[:3])
    refused = world.begin_change("agim", "recovery.veto", row.id)
    assert isinstance(refused, Refused)
    assert refused.code == "held_by_you"
    assert sign(world, "milan", "recovery.veto", row.id).ready
