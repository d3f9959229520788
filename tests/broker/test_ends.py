"""Access ends: on time, at once, for certain, and before anything new is given after a start."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from jitaccess.broker import hold, revoke
from jitaccess.broker.cut import Revoker
from jitaccess.broker.hold import HoldKind
from jitaccess.broker.issue import Opened, open_lease
from jitaccess.broker.sweep import Ticker, sweep_once
from jitaccess.domain.events import EventType
from jitaccess.domain.lifecycle import EndCause, GrantState, LeaseState, RequestState
from jitaccess.domain.values import LOCAL, SYSTEM, Refused
from jitaccess.errors import JitError
from jitaccess.identity import people
from jitaccess.store.tables import AccessRequest, Event, Grant, Lease, Outbox, WebSession
from tests.support.world import World


def opened(world: World, **kwargs: Any) -> Opened:
    filed = world.filed(**kwargs)
    assert filed.grant is not None
    found = open_lease(world.broker, world.current("arta"), filed.grant.id)
    assert isinstance(found, Opened), found
    return found


def states(world: World, model: type[Any]) -> list[str]:
    with world.broker.read() as view:
        return [row.state for row in view.all(select(model).order_by(model.created_at, model.id))]


def told(world: World, kind: str) -> list[str]:
    """Return what the person who asked was told about."""
    with world.broker.read() as view:
        mine = (Outbox.kind == kind, Outbox.person_id == world.person("arta"))
        return list(view.rows(select(Outbox.subject_id).where(*mine).order_by(Outbox.id)).scalars())


def count(world: World, kind: EventType) -> int:
    with world.broker.read() as view:
        return int(view.scalar(select(func.count()).where(Event.type == kind.value)))


@pytest.mark.covers("R59", "R60", "TRAP-9")
def test_expiry_ends_grant_and_lease_once_however_many_look(world: World) -> None:
    opened(world, duration_s=600)
    world.advance(timedelta(seconds=599))
    world.sweep()
    assert states(world, Grant) == [GrantState.ACTIVE]
    world.advance(timedelta(seconds=1))
    revokers = [Revoker(world.broker, f"worker-{number}") for number in range(4)]
    threads = [threading.Thread(target=sweep_once, args=(world.broker, one)) for one in revokers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    world.sweep()
    for one in revokers:
        one.close()
    assert (states(world, Grant), states(world, Lease)) == ([GrantState.ENDED], [LeaseState.REVOKED])
    assert [
        count(world, kind) for kind in (EventType.GRANT_ENDED, EventType.LEASE_REVOKING, EventType.LEASE_REVOKED)
    ] == [1, 1, 1]
    assert len(told(world, "grant_ended")) == 1


@pytest.mark.covers("R59", "TRAP-9")
def test_after_a_start_what_is_overdue_ends_before_anything_may_be_granted(world: World) -> None:
    first = opened(world, duration_s=600)
    world.broker.may_grant.clear()
    world.advance(timedelta(hours=1))
    refused = open_lease(world.broker, world.current("arta"), first.lease.grant_id)
    assert isinstance(refused, Refused)
    ticker = Ticker(world.broker)
    ticker.permit()
    assert world.broker.may_grant.is_set()
    assert (states(world, Grant), states(world, Lease)) == ([GrantState.ENDED], [LeaseState.REVOKED])
    ticker.stop()


def test_a_grant_that_nobody_activates_ends_unused(world: World) -> None:
    done = world.released()
    assert done.grant is not None
    world.advance(timedelta(minutes=15))
    assert isinstance(open_lease(world.broker, world.current("arta"), done.grant.id), Refused)
    world.sweep()
    with world.broker.read() as view:
        assert view.require(Grant, done.grant.id).cause == EndCause.UNUSED
    assert told(world, "grant_ended") == [done.grant.id], "whose it was hears of it"


@pytest.mark.covers("T-11")
def test_the_clock_of_a_scheduled_grant_starts_when_it_is_opened(world: World) -> None:
    done = world.released(duration_s=1800)
    assert done.grant is not None
    world.advance(timedelta(minutes=14))
    found = open_lease(world.broker, world.current("arta"), done.grant.id)
    assert isinstance(found, Opened)
    with world.broker.read() as view:
        grant = view.require(Grant, done.grant.id)
    assert grant.ends_at is not None
    assert grant.ends_at - view.now == timedelta(seconds=1800)
    assert grant.ends_at <= grant.latest_end


@pytest.mark.covers("R59")
def test_a_part_that_fails_keeps_no_other_part_from_running(world: World) -> None:
    filed = world.filed(entitlement="releaser")
    opened(world, duration_s=60)
    world.advance(timedelta(hours=2))
    world.sql("ALTER TABLE access_request RENAME TO gone")
    revoker = Revoker(world.broker, "worker")
    sweep_once(world.broker, revoker)
    revoker.close()
    world.sql("ALTER TABLE gone RENAME TO access_request")
    assert states(world, Grant) == [GrantState.ENDED]
    with world.broker.read() as view:
        assert view.require(AccessRequest, filed.request.id).state == RequestState.PENDING


def test_handing_back_ends_everything_under_the_grant_at_once(world: World) -> None:
    found = opened(world)
    arta = world.current("arta")
    with world.broker.begin(arta.actor, lock=[(Grant, found.lease.grant_id)]) as tx:
        revoke.hand_back(tx, arta, found.lease.grant_id)
    assert states(world, Lease) == [LeaseState.REVOKING]
    with pytest.raises(JitError), world.broker.begin(arta.actor) as tx:
        revoke.hand_back(tx, arta, found.lease.grant_id)
    world.sweep()
    assert states(world, Lease) == [LeaseState.REVOKED]


def test_an_approver_or_the_owner_may_end_somebodys_access_and_a_stranger_may_not(world: World) -> None:
    done = world.released()
    assert done.grant is not None
    jelena, drita = world.current("jelena"), world.current("drita")
    with pytest.raises(JitError), world.broker.begin(jelena.actor) as tx:
        revoke.revoke(tx, world.broker, jelena, done.grant.id)
    with world.broker.begin(drita.actor) as tx:
        ended = revoke.revoke(tx, world.broker, drita, done.grant.id)
    assert isinstance(ended, Grant)
    assert ended.cause == EndCause.REVOKED


def test_whoever_could_have_signed_after_a_wait_may_end_the_access_too(world: World) -> None:
    done, jelena = world.released(), world.current("jelena")
    assert done.grant is not None
    with pytest.raises(JitError), world.broker.begin(jelena.actor) as tx:
        revoke.revoke(tx, world.broker, jelena, done.grant.id)
    with world.broker.begin(LOCAL) as tx:
        people.add_member(tx, group_id="duty-officers", member_id=world.person("jelena"))
    with world.broker.begin(jelena.actor) as tx:
        ended = revoke.revoke(tx, world.broker, jelena, done.grant.id)
    assert isinstance(ended, Grant)


@pytest.mark.covers("R12")
def test_a_hold_on_a_person_ends_sessions_requests_and_grants_in_one_transaction(world: World) -> None:
    opened(world)
    filed = world.filed(entitlement="releaser")
    with world.broker.begin(SYSTEM) as tx:
        row, ended = hold.place(
            tx, world.broker, kind=HoldKind.PERSON, subject_id=world.person("arta"), cause="x", by="test"
        )
    assert (ended.requests, ended.grants) == (1, 1)
    assert ended.sessions >= 1
    with world.broker.read() as view:
        assert view.require(AccessRequest, filed.request.id).state == RequestState.DENIED
        assert (
            view.all(
                select(WebSession).where(WebSession.person_id == world.person("arta"), WebSession.ended_at.is_(None))
            )
            == []
        )
        assert people.register(view).persons[world.person("arta")].on_hold
        assert hold.concerns(view, row, world.person("arta"))
    with world.broker.begin(LOCAL) as tx:
        hold.release(tx, row.id, by="test")
    assert world.filed().grant is not None


@pytest.mark.parametrize("kind", [HoldKind.TARGET, HoldKind.INSTITUTION, HoldKind.GRANT, HoldKind.PASSKEY])
def test_holds_of_every_kind_refuse_what_is_new_or_end_what_is_live(world: World, kind: HoldKind) -> None:
    found = opened(world)
    current = world.current("arta")
    subject = {
        HoldKind.TARGET: "treasury",
        HoldKind.INSTITUTION: "mof",
        HoldKind.GRANT: found.lease.grant_id,
        HoldKind.PASSKEY: current.passkey.id,
    }[kind]
    with world.broker.begin(SYSTEM) as tx:
        _, ended = hold.place(tx, world.broker, kind=kind, subject_id=subject, cause="x", by="test")
    assert ended.grants == 1
    assert ended.sessions >= (1 if kind in (HoldKind.PASSKEY, HoldKind.INSTITUTION) else 0)
    with pytest.raises(JitError), world.broker.begin(SYSTEM) as tx:
        hold.place(tx, world.broker, kind=kind, subject_id="nothing", cause="x", by="test")


@pytest.mark.parametrize("kind", [HoldKind.TARGET, HoldKind.INSTITUTION, HoldKind.PERSON, HoldKind.PASSKEY])
def test_whose_access_and_requests_a_hold_ends_is_told_of_each_once(world: World, kind: HoldKind) -> None:
    grant, waiting = opened(world).lease.grant_id, world.filed(entitlement="releaser").request.id
    current = world.current("arta")
    subject = {
        HoldKind.TARGET: "treasury",
        HoldKind.INSTITUTION: "mof",
        HoldKind.PERSON: current.person.id,
        HoldKind.PASSKEY: current.passkey.id,
    }[kind]
    with world.broker.begin(SYSTEM) as tx:
        hold.place(tx, world.broker, kind=kind, subject_id=subject, cause="x", by="test")
    assert (told(world, "request_decided"), told(world, "grant_ended")) == ([waiting], [grant])


def test_revocation_needs_no_intact_seal(world: World) -> None:
    opened(world)
    world.sql("UPDATE access_grant SET entitlement = 'other'")
    world.sql("UPDATE lease SET target = 'other'")
    with world.broker.begin(SYSTEM) as tx:
        hold.end_everything(tx, world.broker, kind=HoldKind.PERSON, subject_id=world.person("arta"), by="test")
    world.sweep()
    with world.broker.read() as view:
        assert [row.state for row in view.unchecked_all(select(Lease))] == [LeaseState.REVOKED]
