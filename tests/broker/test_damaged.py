"""A record that was changed outside the broker stops whom it is about and nobody else, and comes back only as the log knew it."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from jitaccess.audit.register import RegisterCheck
from jitaccess.broker import approve, hold, restore
from jitaccess.broker.health import Finding, Level, findings
from jitaccess.broker.hold import HoldKind
from jitaccess.domain.events import EventType
from jitaccess.domain.lifecycle import GrantState
from jitaccess.domain.values import LOCAL, Refused
from jitaccess.errors import JitError, Kind
from jitaccess.identity import people
from jitaccess.identity.changes import pending
from jitaccess.identity.people import may_act
from jitaccess.store.db import SealBroken
from jitaccess.store.tables import Event, Grant, Membership, Person
from tests.support.candidates import document_without, proposed
from tests.support.world import World


def looked(world: World) -> RegisterCheck:
    check = RegisterCheck(world.broker.db)
    check.check()
    return check


def hit(world: World, statement: str, key: str) -> None:
    world.sql(statement, id=key)
    world.sql("UPDATE register_version SET n = n + 1")


def unit_of(world: World, key: str) -> str:
    with world.broker.read() as view:
        return view.require(Person, world.person(key)).unit


def able(world: World, key: str) -> bool:
    with world.broker.read() as view:
        return may_act(view, person_id=world.person(key)) is None


@pytest.mark.covers("R12", "R67")
def test_one_altered_person_stops_that_person_and_nobody_else(world: World) -> None:
    looked(world)
    hit(world, "UPDATE person SET unit = 'x' WHERE id = :id", world.person("jelena"))
    assert not able(world, "jelena")
    assert all(able(world, key) for key in ("arta", "blerim", "agim"))
    assert world.filed().grant is not None
    with world.broker.read() as view:
        found = {one.what: one for one in findings(view, world.broker, restore.damaged(view))}[Finding.RECORDS]
        told = view.all(select(Event).where(Event.type == "seal.broken"))
    assert (found.level, found.count) == (Level.ACT, 1)
    assert len(told) == 1


@pytest.mark.covers("R12", "R51")
def test_ending_everything_of_an_institution_needs_no_intact_record(world: World) -> None:
    grant = world.filed().grant
    assert grant is not None
    hit(world, "UPDATE person SET unit = 'x' WHERE id = :id", world.person("arta"))
    with world.broker.begin(LOCAL) as tx:
        ended = hold.end_everything(tx, world.broker, kind=HoldKind.INSTITUTION, subject_id="mof", by="test")
    assert ended.grants == 1
    with world.broker.begin(LOCAL) as tx:
        people.disable_person(tx, world.person("arta"))
    with world.broker.read() as view:
        assert view.require(Grant, grant.id).state == GrantState.ENDED
        assert not people.register(view).persons[world.person("arta")].active


@pytest.mark.covers("R10", "R67")
def test_two_administrators_restore_a_record_as_the_log_knew_it(world: World) -> None:
    unit, jelena = unit_of(world, "jelena"), world.person("jelena")
    check = looked(world)
    hit(world, "UPDATE person SET unit = 'x' WHERE id = :id", jelena)
    assert check.check() == (("person", jelena),)
    with world.broker.read() as view:
        (record,) = restore.damaged(view)
        assert (record.table, record.key, record.gone) == ("person", jelena, False)
        assert dict(record.fields)["unit"] == "x"
        assert restore.matches(view, "person", jelena, {"unit": unit})
        assert not restore.matches(view, "person", jelena, {"unit": "y"})
    first = world.change("agim", "record.restore", f"person/{jelena}", {"values": {"unit": unit}})
    assert not isinstance(first, Refused)
    assert not first.ready
    assert not able(world, "jelena")
    second = world.change("besa", "record.restore", f"person/{jelena}", {"values": {"unit": unit}})
    assert not isinstance(second, Refused)
    assert second.ready
    assert able(world, "jelena")
    assert unit_of(world, "jelena") == unit
    assert check.check() == ()
    with world.broker.read() as view:
        assert restore.damaged(view) == []


@pytest.mark.covers("R67")
def test_a_record_never_comes_back_as_something_else(world: World) -> None:
    jelena = world.person("jelena")
    looked(world)
    hit(world, "UPDATE person SET unit = 'x', institution = 'nao' WHERE id = :id", jelena)
    for values in ({}, {"unit": "treasury"}, {"institution": "mof", "unit": "x"}):
        with pytest.raises(JitError) as refused, world.broker.begin(LOCAL) as tx:
            restore.restore(tx, "person", jelena, values)
        assert refused.value.kind is Kind.CONFLICT
    with world.broker.read() as view:
        row = view.unchecked_get(Person, jelena)
        assert row is not None
        content = {name: getattr(row, name) for name in Person.__table__.columns.keys()}  # noqa: SIM118
    with pytest.raises(SealBroken), world.broker.begin(LOCAL) as tx:
        tx.put_right(Person, tx.record(EventType.RECORD_RESTORED), jelena, content)
    assert not able(world, "jelena")


@pytest.mark.covers("R21")
def test_nobody_restores_a_record_of_his_own(world: World) -> None:
    agim, unit = world.person("agim"), unit_of(world, "agim")
    current = world.current("agim")
    looked(world)
    with world.broker.read() as view:
        assert agim in restore.concerns(view, "person", agim, {})
        assert agim in restore.concerns(view, "membership", f"jit-admins/{agim}", {})
        assert agim in restore.concerns(view, "passkey", current.passkey.id, {})
    refused = world.change("agim", "record.restore", f"person/{agim}", {"values": {"unit": unit}})
    assert isinstance(refused, Refused)
    assert refused.code == "own_rights"


@pytest.mark.covers("R67")
def test_a_deleted_record_comes_back_with_all_its_fields(world: World) -> None:
    arta = world.person("arta")
    key = f"treasury-staff/{arta}"
    with world.broker.read() as view:
        row = view.require(Membership, key)
        values = {
            "group_id": row.group_id,
            "member_kind": row.member_kind,
            "member_id": row.member_id,
            "status": row.status,
            "since_at": int(row.since_at.timestamp() * 1_000_000),
        }
    check = looked(world)
    hit(world, "DELETE FROM membership WHERE id = :id", key)
    check.check()
    assert not able(world, "arta")
    with world.broker.read() as view:
        assert [(one.key, one.gone) for one in restore.damaged(view)] == [(key, True)]
    with world.broker.begin(LOCAL) as tx:
        restore.restore(tx, "membership", key, values)
    assert able(world, "arta")
    assert check.check() == ()


def test_a_record_that_is_right_is_not_restored(world: World) -> None:
    looked(world)
    with pytest.raises(JitError) as refused, world.broker.begin(LOCAL) as tx:
        restore.restore(tx, "person", world.person("arta"), {})
    assert refused.value.kind is Kind.CONFLICT
    with pytest.raises(JitError) as refused, world.broker.begin(LOCAL) as tx:
        restore.restore(tx, "event", "x", {})
    assert refused.value.kind is Kind.INVALID


@pytest.mark.covers("R12", "R27")
def test_a_policy_set_made_active_by_hand_and_a_broken_change_stop_nobody(world: World) -> None:
    with world.broker.read() as view:
        active = world.broker.policies.active(view).digest
    proposed(world, document_without(world, "release-payments"))
    world.sql("UPDATE policy_set SET status = 'active'")
    first = world.change("agim", "account.add", world.person("arta"), {"label": "another"})
    assert not isinstance(first, Refused)
    hit(world, "UPDATE change SET status = 'pending', required = 1 WHERE id = :id", first.change.id)
    with world.broker.read() as view:
        assert world.broker.policies.active(view).digest == active
        assert pending(view) == []
    assert world.filed().grant is not None


@pytest.mark.covers("R67")
def test_the_overview_rests_on_the_last_comparison_and_says_so(world: World) -> None:
    check = looked(world)
    jelena = world.person("jelena")
    with world.broker.read() as view:
        assert view.compared_at() == view.now
        assert restore.noted(view) == []
    world.sql("UPDATE passkey SET name = 'x' WHERE person_id = :id", id=jelena)
    with world.broker.read() as view:
        assert restore.noted(view) == [], "nobody compared or used it since"
        assert len(restore.damaged(view)) == 1
    world.advance(timedelta(minutes=1))
    check.check()
    with world.broker.read() as view:
        assert restore.noted(view) == restore.damaged(view) != []


@pytest.mark.covers("R67")
def test_what_did_not_hold_at_its_use_is_told_before_the_next_comparison(world: World) -> None:
    looked(world)
    hit(world, "UPDATE person SET unit = 'x' WHERE id = :id", world.person("jelena"))
    assert not able(world, "jelena")
    with world.broker.read() as view:
        (found,) = restore.noted(view)
        assert (found.table, found.key, found.about) == ("person", world.person("jelena"), "Jelena Petrović")
        assert restore.one(view, "person", found.key) == found
        assert restore.one(view, "person", world.person("arta")) is None
        assert restore.one(view, "event", "x") is None


@pytest.mark.covers("R67")
@pytest.mark.parametrize("since", [None, timedelta(minutes=4)])
def test_a_comparison_that_is_not_made_never_passes_for_health(world: World, since: timedelta | None) -> None:
    if since is not None:
        looked(world)
        world.advance(since)
    world.sql("UPDATE passkey SET name = 'x' WHERE person_id = :id", id=world.person("jelena"))
    with world.broker.read() as view:
        assert [one.table for one in restore.noted(view)] == ["passkey"]


@pytest.mark.covers("R67")
def test_the_comparison_finds_a_seal_that_does_not_hold_under_content_that_does(world: World) -> None:
    check = looked(world)
    jelena = world.person("jelena")
    world.sql("UPDATE person SET seal = 'forged.x' WHERE id = :id", id=jelena)
    assert check.check() == (("person", jelena),)
    with world.broker.read() as view:
        assert [one.key for one in restore.noted(view)] == [jelena]


@pytest.mark.covers("R63", "R71")
@pytest.mark.parametrize(
    "change",
    ["approval SET institution = 'x' WHERE request_id = :id", "access_request SET terms = '{' WHERE id = :id"],
)
def test_one_damaged_request_leaves_the_others_in_the_inbox_and_is_alarmed(world: World, change: str) -> None:
    hurt = world.filed(entitlement="releaser").request.id
    well = world.filed(entitlement="releaser", inputs={"order": "TR-000431", "amount_cents": 5}).request.id
    for key in (hurt, well):
        world.approved("blerim", key)
    world.sql(f"UPDATE {change}", id=hurt)
    for _ in range(2):
        with world.broker.read() as view:
            found = approve.inbox_of(view, world.person("drita"))
        assert ([one.request.id for one in found.waiting], found.damaged) == ([well], (hurt,))
    with world.broker.read() as view:
        assert len(view.all(select(Event).where(Event.type == "seal.broken"))) == 1
        assert approve.inbox_of(view, world.person("arta")).waiting == ()
    assert world.approved("drita", well).grant is not None
    with pytest.raises((JitError, ValueError)):
        world.approve("drita", hurt)


def test_whom_a_damaged_request_does_not_concern_hears_nothing_of_it(world: World) -> None:
    hurt = world.filed(entitlement="releaser").request.id
    world.approved("blerim", hurt)
    world.sql("UPDATE approval SET institution = 'x' WHERE request_id = :id", id=hurt)
    with world.broker.read() as view:
        assert approve.inbox_of(view, world.person("jelena")).damaged == ()
