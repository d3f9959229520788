"""Access goes on by a new signed request; no stored end ever moves."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import select

from jitaccess.broker import hold
from jitaccess.broker.hold import HoldKind
from jitaccess.broker.issue import Opened, open_lease
from jitaccess.broker.offers import choice
from jitaccess.broker.request import Ask, Filed, complete_filing, lock_of
from jitaccess.broker.revoke import hand_back
from jitaccess.domain.lifecycle import GrantState, RequestState
from jitaccess.domain.values import LOCAL, Refused
from jitaccess.proof.statements import ApprovalStatement, FilingStatement
from jitaccess.store.tables import AccessRequest, Approval, Grant, Outbox, Person
from tests.support.policy_swap import Rules, swap
from tests.support.world import World

MINUTE = timedelta(minutes=1)


def extendable(rules: Rules) -> None:
    """Looking may go on once, for half an hour in all, one at a time; a release once for an hour."""
    rules["look-at-payments"]["duration"]["extensions"] = {"count": 1, "total": "70m"}
    rules["look-at-payments"]["limits"] = {"active_per_person": 1, "per_day": 1}
    rules["release-payments"]["duration"]["extensions"] = {"count": 1, "total": "1h"}


def extend(world: World, grant: Grant, duration_s: int = 900) -> Filed | Refused:
    begun = world.begin_filing("arta", Ask("", "", {}, duration_s, "not finished yet", extends=grant.id))
    if isinstance(begun, Refused):
        return begun
    arta = world.current("arta")
    with world.broker.begin(arta.actor, lock=lock_of(arta, extends=grant.id)) as tx:
        return complete_filing(
            tx, world.broker, arta, challenge_id=begun.challenge_id, response=world.answer("arta", begun)
        )


def extended(world: World, grant: Grant, duration_s: int = 900) -> Filed:
    found = extend(world, grant, duration_s)
    assert isinstance(found, Filed), found
    return found


def looking(world: World, duration_s: int = 600) -> Grant:
    grant = world.filed(duration_s=duration_s).grant
    assert grant is not None
    assert isinstance(open_lease(world.broker, world.current("arta"), grant.id), Opened)
    return grant


def read(world: World, grant_id: str) -> Grant:
    with world.broker.read() as view:
        return view.require(Grant, grant_id)


def opening(world: World, grant_id: str) -> str:
    found = open_lease(world.broker, world.current("arta"), grant_id)
    return "opened" if isinstance(found, Opened) else found.code


def told(world: World, kind: str) -> list[str]:
    """Return what the person who asked was told about."""
    with world.broker.read() as view:
        mine = (Outbox.kind == kind, Outbox.person_id == world.person("arta"))
        return list(view.rows(select(Outbox.subject_id).where(*mine).order_by(Outbox.id)).scalars())


def code(found: object) -> str:
    assert isinstance(found, Refused), found
    return found.code


@pytest.mark.covers("R19", "R56", "T-10", "T-18")
def test_an_extension_begins_where_the_first_ends_and_moves_no_end(world: World) -> None:
    swap(world, extendable)
    first = looking(world)
    filed = extended(world, first)
    second = filed.grant
    assert second is not None
    assert (second.state, second.extends, second.not_before) == (GrantState.SCHEDULED, first.id, first.ends_at)
    assert FilingStatement.parse(filed.request.filing_statement).extends == first.id
    assert opening(world, second.id) == "not_yet"
    assert opening(world, first.id) == "opened"
    world.advance(10 * MINUTE)
    world.sweep()
    assert read(world, first.id).ends_at == first.ends_at
    assert read(world, first.id).cause == "expired"
    begun = read(world, second.id)
    assert first.ends_at is not None
    assert (begun.starts_at, begun.ends_at) == (first.ends_at, first.ends_at + 15 * MINUTE)
    assert opening(world, second.id) == "opened"
    world.advance(15 * MINUTE)
    world.sweep()
    assert read(world, second.id).cause == "expired"


def test_number_and_sum_are_limited_and_only_one_extension_waits(world: World) -> None:
    swap(world, extendable)
    first = looking(world, 3_600)
    assert code(extend(world, first)) == "extension_total"
    second = extended(world, first, 600).grant
    assert second is not None
    assert code(extend(world, first, 600)) == "extended_already"
    world.advance(timedelta(hours=1))
    world.sweep()
    assert code(extend(world, read(world, second.id), 60)) == "extension_limit"
    assert code(extend(world, first, 60)) == "not_open"


def test_nobody_extends_what_is_not_his_or_not_extendable(world: World) -> None:
    grant = world.filed("blerim").grant if isinstance(world.file("blerim"), Filed) else None
    assert grant is not None
    assert code(extend(world, grant)) == "no_such_grant"
    swap(world, lambda rules: rules["look-at-payments"]["duration"].pop("extensions"))
    assert code(extend(world, looking(world))) == "not_extendable"


@pytest.mark.covers("R19", "R20")
def test_approvers_sign_what_is_extended_and_answer_before_it_ends(world: World) -> None:
    swap(world, extendable)
    done = world.released(duration_s=600)
    assert done.grant is not None
    assert opening(world, done.grant.id) == "opened"
    base = read(world, done.grant.id)
    request = extended(world, base).request
    assert request.approve_by == base.ends_at
    assert request.inputs == done.request.inputs
    world.approved("blerim", request.id)
    following = world.approved("drita", request.id).grant
    assert following is not None
    assert (following.activate_by, following.not_before) == (None, base.ends_at)
    with world.broker.read() as view:
        votes = [vote.statement for vote in view.all(select(Approval))]
    assert [ApprovalStatement.parse(vote or b"").extends for vote in votes].count(base.id) == 2
    world.advance(10 * MINUTE)
    world.sweep()
    assert opening(world, following.id) == "opened"


@pytest.mark.parametrize("how", ["returned", "held"])
def test_what_was_to_go_on_ends_with_what_it_continues(world: World, how: str) -> None:
    swap(world, extendable)
    first = looking(world)
    second = extended(world, first).grant
    assert second is not None
    arta = world.current("arta")
    with world.broker.begin(LOCAL, lock=[(Grant, first.id)]) as tx:
        if how == "held":
            hold.place(tx, world.broker, kind=HoldKind.GRANT, subject_id=first.id, cause="odd", by="local")
        else:
            hand_back(tx, arta, first.id)
    assert (read(world, second.id).state, read(world, second.id).cause) == (GrantState.ENDED, how)


def test_a_pending_extension_ends_with_what_it_would_extend(world: World) -> None:
    swap(world, extendable)
    done = world.released(duration_s=600)
    assert done.grant is not None
    opening(world, done.grant.id)
    request = extended(world, read(world, done.grant.id)).request
    arta = world.current("arta")
    with world.broker.begin(arta.actor, lock=[(Grant, done.grant.id)]) as tx:
        hand_back(tx, arta, done.grant.id)
    with world.broker.read() as view:
        assert view.require(AccessRequest, request.id).state == RequestState.DENIED
    assert told(world, "request_decided") == [request.id], "the person who asked hears of it"


@pytest.mark.parametrize("wanted", [True, False])
def test_who_extends_by_name_and_at_one_moment_hands_back_keeps_neither(postgres_world: World, *, wanted: bool) -> None:
    """An end while an extension is being filed waits for it and ends it too, whoever locked what."""
    world = postgres_world
    swap(world, extendable)
    base, arta = looking(world), world.current("arta")
    begun = world.begin_filing("arta", Ask("", "", {}, 900, "not finished yet", extends=base.id))
    assert not isinstance(begun, Refused)
    answer, done = world.answer("arta", begun), threading.Event()

    def back() -> None:
        with world.broker.begin(arta.actor, lock=[(Grant, base.id)]) as tx:
            hand_back(tx, arta, base.id)
        done.set()

    thread = threading.Thread(target=back)
    rows = lock_of(arta, extends=base.id) if wanted else [(Person, arta.person.id)]
    with world.broker.begin(arta.actor, lock=rows) as tx:
        filed = complete_filing(tx, world.broker, arta, challenge_id=begun.challenge_id, response=answer)
        assert isinstance(filed, Filed)
        thread.start()
        assert not done.wait(1), "the end waits for the filing"
    thread.join(30)
    assert filed.grant is not None
    assert [(read(world, key).state, read(world, key).cause) for key in (base.id, filed.grant.id)] == [
        (GrantState.ENDED, "returned"),
        (GrantState.ENDED, "returned"),
    ]


def test_an_end_before_the_extension_is_filed_refuses_it(world: World) -> None:
    swap(world, extendable)
    base, arta = looking(world), world.current("arta")
    begun = world.begin_filing("arta", Ask("", "", {}, 900, "not finished yet", extends=base.id))
    assert not isinstance(begun, Refused)
    with world.broker.begin(arta.actor, lock=[(Grant, base.id)]) as tx:
        hand_back(tx, arta, base.id)
    with world.broker.begin(arta.actor, lock=lock_of(arta, extends=base.id)) as tx:
        filed = complete_filing(
            tx, world.broker, arta, challenge_id=begun.challenge_id, response=world.answer("arta", begun)
        )
    assert code(filed) == "not_open"


@pytest.mark.covers("R56")
def test_a_chain_counts_once_a_day_also_when_its_first_link_has_ended(world: World) -> None:
    def twice(rules: Rules) -> None:
        extendable(rules)
        rules["look-at-payments"]["limits"] = {"per_day": 2}

    swap(world, twice)
    first = looking(world)
    following = extended(world, first).grant
    assert following is not None
    second = looking(world, 1800)
    world.advance(11 * MINUTE)
    world.sweep()
    assert read(world, first.id).state == GrantState.ENDED
    assert [opening(world, following.id), opening(world, second.id)] == ["opened", "opened"]
    assert code(world.file()) == "day_limit"


def test_a_page_offers_what_the_day_still_allows_beside_a_chain(world: World) -> None:
    def twice(rules: Rules) -> None:
        extendable(rules)
        rules["look-at-payments"]["limits"] = {"per_day": 2}

    swap(world, twice)
    extended(world, looking(world))
    world.advance(11 * MINUTE)
    world.sweep()
    with world.broker.read() as view:
        offered = choice(view, world.broker, world.current("arta"), target="treasury", entitlement="viewer")
    assert offered.missing is None


@pytest.mark.covers("R56")
def test_what_goes_on_in_an_extension_has_not_ended_for_its_person(world: World) -> None:
    swap(world, extendable)
    first = looking(world)
    following = extended(world, first).grant
    assert following is not None
    world.advance(10 * MINUTE)
    world.sweep()
    assert (read(world, first.id).state, told(world, "grant_ended")) == (GrantState.ENDED, [])
    world.advance(15 * MINUTE)
    world.sweep()
    assert told(world, "grant_ended") == [following.id]


@pytest.mark.covers("R20")
def test_a_link_changed_in_the_database_is_refused(world: World) -> None:
    swap(world, extendable)
    first = looking(world)
    second = extended(world, first).grant
    assert second is not None
    world.sql("UPDATE access_request SET extends = NULL WHERE extends IS NOT NULL")
    world.advance(10 * MINUTE)
    world.sweep()
    assert opening(world, second.id) in {"differs_from_signed", "start_too_far"}
