"""What was ended, refused or held stays so, whatever somebody puts back into the database or deletes from it."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from jitaccess.audit.register import RegisterCheck
from jitaccess.broker import approve, hold, revoke, veto
from jitaccess.broker.hold import HoldKind
from jitaccess.broker.issue import open_lease, reverify
from jitaccess.domain.events import EventType
from jitaccess.domain.values import LOCAL, Refused
from jitaccess.errors import JitError, Kind
from jitaccess.identity import people, sessions
from jitaccess.store.tables import Approval, Event, Grant, Hold, Lease, Membership
from tests.support.policy_swap import Rules, swap
from tests.support.restored import Kept
from tests.support.world import World


def granted(world: World) -> Grant:
    grant = world.filed().grant
    assert grant is not None
    return grant


def told(world: World, kind: EventType, **body: str) -> bool:
    with world.broker.read() as view:
        found = view.all(select(Event).where(Event.type == kind.value))
    return any(all(f'"{name}":"{value}"' in event.leaf for name, value in body.items()) for event in found)


@pytest.mark.covers("R20", "R67")
def test_a_grant_and_a_lease_put_back_after_their_end_give_nothing_and_alarm(world: World) -> None:
    grant = granted(world)
    arta = world.current("arta")
    open_lease(world.broker, arta, grant.id)
    kept = Kept(world, ("access_grant", "lease"))
    with world.broker.begin(arta.actor) as tx:
        revoke.hand_back(tx, arta, grant.id)
    world.sweep()
    kept.put_back()
    with pytest.raises(JitError) as raised:
        open_lease(world.broker, arta, grant.id)
    assert raised.value.kind is Kind.SEAL_BROKEN
    assert told(world, EventType.SEAL_BROKEN, table="access_grant", key=grant.id)
    with world.broker.read() as view:
        assert not any(view.intact(row) for row in view.unchecked_all(select(Lease)))


@pytest.mark.covers("R59", "T-12")
def test_a_grant_put_back_still_ends_when_its_time_is_over(world: World) -> None:
    grant = granted(world)
    arta = world.current("arta")
    open_lease(world.broker, arta, grant.id)
    kept = Kept(world, ("access_grant", "lease"))
    with world.broker.begin(arta.actor) as tx:
        revoke.hand_back(tx, arta, grant.id)
    kept.put_back()
    world.advance(timedelta(hours=1))
    world.sweep()
    with world.broker.read() as view:
        assert [row.state for row in view.unchecked_all(select(Grant))] == ["ENDED"]
        assert [row.state for row in view.unchecked_all(select(Lease))] == ["REVOKED"]


@pytest.mark.covers("R13")
def test_a_session_put_back_after_signing_out_is_nobodys(world: World) -> None:
    arta = world.current("arta")
    kept = Kept(world, ("web_session",))
    with world.broker.begin(arta.actor) as tx:
        sessions.end(tx, arta.session, "signed_out")
    kept.put_back()
    assert world.resolved(arta.session.id) is None
    assert told(world, EventType.SEAL_BROKEN, table="web_session", key=arta.session.id)


@pytest.mark.covers("R12", "R30")
@pytest.mark.parametrize("how", ["deleted", "released", "emptied"])
def test_a_hold_that_somebody_takes_out_of_the_database_still_holds(world: World, how: str) -> None:
    arta = world.person("arta")
    with world.broker.begin(LOCAL) as tx:
        held, _ = hold.place(tx, world.broker, kind=HoldKind.PERSON, subject_id=arta, cause="x", by="local")
    change = {
        "deleted": "DELETE FROM hold",
        "released": "UPDATE hold SET released_at = placed_at, released_by = 'me'",
        "emptied": "UPDATE hold SET subject_id = 'nobody'",
    }[how]
    world.sql(change)
    world.sql("UPDATE register_version SET n = n + 1")
    with world.broker.read() as view:
        refused = people.may_act(view, person_id=arta)
        assert isinstance(refused, Refused)
        assert refused.code == "on_hold"
        assert [(row.id, row.subject_id) for row in hold.in_force(view)] == [(held.id, arta)]
        assert hold.concerns(view, hold.find(view, held.id), arta)
    assert ("hold", held.id) in RegisterCheck(world.broker.db).check()
    with world.broker.begin(LOCAL) as tx:
        hold.release(tx, held.id, by="somebody else")
    with world.broker.read() as view:
        assert people.may_act(view, person_id=arta) is None
        assert hold.in_force(view) == []


@pytest.mark.covers("R30")
def test_a_release_that_the_broker_did_not_write_lifts_no_hold(world: World) -> None:
    arta = world.person("arta")
    with world.broker.begin(LOCAL) as tx:
        held, _ = hold.place(tx, world.broker, kind=HoldKind.PERSON, subject_id=arta, cause="x", by="local")
        released = tx.record(EventType.HOLD_RELEASED, subject={"hold": "another", "person": arta}, body={"by": "x"})
    with world.broker.read() as view:
        genuine = view.require(Event, released.id)
        leaf = genuine.leaf.replace("another", held.id)
    world.sql(
        "INSERT INTO event (id, idx, at, type, leaf, leaf_hash, seal)"
        " SELECT 'x', idx + 1000, at, type, :leaf, leaf_hash, seal FROM event WHERE id = :id",
        leaf=leaf,
        id=released.id,
    )
    world.sql("DELETE FROM hold")
    world.sql("UPDATE register_version SET n = n + 1")
    with world.broker.read() as view:
        assert isinstance(people.may_act(view, person_id=arta), Refused)


@pytest.mark.covers("R20", "R28")
def test_a_refusal_that_somebody_deletes_still_refuses(world: World) -> None:
    filed = world.filed(entitlement="releaser")
    blerim = world.current("blerim")
    with world.broker.begin(blerim.actor) as tx:
        approve.deny(tx, world.broker, blerim, filed.request.id)
    world.sql("DELETE FROM approval")
    world.sql("UPDATE access_request SET state = 'PENDING', decided_at = NULL")
    for key in ("blerim", "drita"):
        refused = world.approve(key, filed.request.id)
        assert isinstance(refused, Refused)
        assert refused.code == "decided_in_log"


@pytest.mark.covers("R20", "T-07")
def test_an_approved_request_that_is_made_to_wait_again_gives_no_second_grant(world: World) -> None:
    done = world.released()
    world.sql("UPDATE access_request SET state = 'PENDING', decided_at = NULL")
    world.sql("DELETE FROM approval WHERE person_id = :id", id=world.person("drita"))
    refused = world.approve("drita", done.request.id)
    assert isinstance(refused, Refused)
    assert refused.code == "decided_in_log"
    with world.broker.read() as view:
        assert len(view.all(select(Grant))) == 1
        assert len(view.all(select(Approval))) == 1


@pytest.mark.covers("R20")
def test_a_veto_that_somebody_deletes_still_stops_the_grant(world: World) -> None:
    def delayed(rules: Rules) -> None:
        rules["look-at-payments"]["delay"] = {"time_lock": "10m", "veto": ["owner", "cert"]}

    swap(world, delayed)
    grant = granted(world)
    kept = Kept(world, ("access_grant",))
    drita = world.current("drita")
    with world.broker.begin(drita.actor) as tx:
        assert isinstance(veto.give(tx, world.broker, drita, grant.id), Grant)
    world.sql("DELETE FROM veto")
    kept.put_back()
    world.sql("DELETE FROM row_version")
    world.advance(timedelta(minutes=10))
    with world.broker.read() as view:
        found = reverify(view, world.broker, view.require(Grant, grant.id))
    assert isinstance(found, Refused)
    assert found.code == "decided_in_log"


@pytest.mark.covers("R21", "R28")
def test_whoever_loses_a_membership_to_a_deletion_may_not_act(world: World) -> None:
    arta = world.person("arta")
    check = RegisterCheck(world.broker.db)
    check.check()
    world.sql("DELETE FROM membership WHERE id = :id", id=f"treasury-staff/{arta}")
    check.check()
    with world.broker.read() as view:
        refused = people.may_act(view, person_id=arta)
        assert isinstance(refused, Refused)
        assert refused.code == "record_changed"
        assert people.may_act(view, person_id=world.person("blerim")) is None
    with world.broker.begin(LOCAL) as tx:
        people.add_member(tx, group_id="treasury-staff", member_id=arta)
    assert check.check() == ()
    with world.broker.read() as view:
        assert people.may_act(view, person_id=arta) is None
        assert view.require(Membership, f"treasury-staff/{arta}").version == 1


# ---------------------------------------------------------------- the index and the log themselves


@pytest.mark.covers("R67")
@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM row_version",
        "INSERT INTO row_version (row_table, row_key, version) VALUES ('access_grant', 'x', 2)",
    ],
)
def test_the_index_of_versions_is_made_what_the_log_says(world: World, change: str) -> None:
    grant = granted(world)
    arta = world.current("arta")
    kept = Kept(world, ("access_grant",))
    with world.broker.begin(arta.actor) as tx:
        revoke.hand_back(tx, arta, grant.id)
    check = RegisterCheck(world.broker.db)
    assert check.check() == ()
    world.sql(change)
    assert check.check() == (("row_version", "index"),)
    assert check.check() == ()
    assert told(world, EventType.REGISTER_DIVERGED, table="row_version")
    kept.put_back()
    with world.broker.read() as view:
        row = view.unchecked_get(Grant, grant.id)
        assert row is not None
        assert not view.intact(row)


@pytest.mark.covers("R64", "R68")
@pytest.mark.parametrize("when", ["before the first look", "afterwards"])
def test_while_entries_of_the_log_are_missing_nothing_is_given_out(world: World, when: str) -> None:
    grant = granted(world)
    check = RegisterCheck(world.broker.db)
    world.broker.db.number_events()
    if when == "afterwards":
        assert check.check() == ()
    world.sql("DELETE FROM event WHERE type = 'sign_in.succeeded'")
    assert [table for table, _ in check.check()] == ["event"]
    refused = open_lease(world.broker, world.current("arta"), grant.id)
    assert isinstance(refused, Refused)
    assert refused.code == "log_not_whole"
    assert told(world, EventType.REGISTER_DIVERGED, table="event", why="not_whole")


@pytest.mark.covers("R67", "R71")
def test_an_entry_slipped_in_by_sql_is_alarmed(world: World) -> None:
    check = RegisterCheck(world.broker.db)
    world.sql(
        "INSERT INTO event (id, at, type, leaf, leaf_hash, seal) VALUES ('slipped', 1, 'grant.created', '{}', :hash, 'a.b')",
        hash=b"x" * 32,
    )
    assert ("event", "slipped") in check.check()
    assert told(world, EventType.REGISTER_DIVERGED, table="event", key="slipped", why="slipped_in")


def test_a_hold_shows_its_row_while_that_is_as_it_was_written(world: World) -> None:
    with world.broker.begin(LOCAL) as tx:
        hold.place(tx, world.broker, kind=HoldKind.TARGET, subject_id="treasury", cause="odd sums", by="local")
    with world.broker.read() as view:
        (shown,) = hold.in_force(view)
        assert shown.cause == "odd sums"
        assert view.require(Hold, shown.id).id == shown.id
