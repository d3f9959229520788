"""A deputy signs in somebody's place: named by signature, counted as both, checked again at issue, ended by a hold of either."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from jitaccess.broker import approve, deputies, hold, logview
from jitaccess.broker.deputies import Naming
from jitaccess.broker.hold import HoldKind
from jitaccess.broker.issue import Opened, open_lease
from jitaccess.domain.values import LOCAL, Refused
from jitaccess.errors import JitError
from jitaccess.identity import people
from jitaccess.proof.assertion import Assertion, StoredKey, verify_deputation
from jitaccess.proof.canonical import b64u_decode, sha256_b64u
from jitaccess.proof.statements import ApprovalStatement
from jitaccess.store.tables import AccessRequest, Approval, Deputation, Event, Outbox
from tests.support.policy_swap import Rules, swap
from tests.support.world import ORIGIN, World

DAY = timedelta(days=1)
DAY_S = 86_400


def lending(rules: Rules) -> None:
    rules["release-payments"]["approve"]["deputies"] = "7d"


def name(world: World, delegator: str, deputy: str, **parts: object) -> Deputation | Refused:
    current = world.current(delegator)
    naming = Naming(world.person(deputy), parts.get("start"), int(str(parts.get("lasts_s", DAY_S))))  # type: ignore[arg-type] # a time or None
    with world.broker.begin(current.actor) as tx:
        begun = deputies.begin_naming(tx, world.broker, current, naming)
    if isinstance(begun, Refused):
        return begun
    with world.broker.begin(current.actor) as tx:
        return deputies.complete_naming(
            tx, world.broker, current, challenge_id=begun.challenge_id, response=world.answer(delegator, begun)
        )


def named(world: World, delegator: str = "blerim", deputy: str = "agim", **parts: object) -> Deputation:
    found = name(world, delegator, deputy, **parts)
    assert isinstance(found, Deputation), found
    return found


def code(found: object) -> str:
    assert isinstance(found, Refused), found
    return found.code


def told(world: World, kind: str) -> set[str]:
    with world.broker.read() as view:
        names = {key: who for who, key in world.seeded.people.items()}
        return {names[row.person_id] for row in view.all(select(Outbox).where(Outbox.kind == kind))}


def approvals(world: World) -> list[Approval]:
    with world.broker.read() as view:
        return view.all(select(Approval).order_by(Approval.given_at, Approval.id))


def opening(world: World, grant_id: str) -> str:
    found = open_lease(world.broker, world.current("arta"), grant_id)
    return "opened" if isinstance(found, Opened) else found.code


@pytest.mark.covers("R19", "R20", "R21")
def test_a_deputy_signs_in_the_delegators_place_and_the_grant_is_issued(world: World) -> None:
    swap(world, lending)
    deputation = named(world)
    filed = world.filed(entitlement="releaser")
    assert {"blerim", "agim"} <= told(world, "approval_wanted")
    agim = world.current("agim")
    with world.broker.read() as view:
        assert [row.id for row in approve.inbox(view, world.broker, agim)] == [filed.request.id]
    world.approved("agim", filed.request.id)
    (vote,) = approvals(world)
    signed = ApprovalStatement.parse(vote.statement or b"")
    assert (vote.deputy_of, signed.deputy_of, signed.step) == (world.person("blerim"), world.person("blerim"), "line")
    assert signed.deputation_digest == sha256_b64u(deputation.statement)
    grant = world.approved("drita", filed.request.id).grant
    assert grant is not None
    assert opening(world, grant.id) == "opened"


@pytest.mark.covers("R21", "R22", "T-04")
def test_after_the_deputy_the_delegator_signs_no_more(world: World) -> None:
    swap(world, lending)
    named(world)
    filed = world.filed(entitlement="releaser")
    world.approved("agim", filed.request.id)
    assert code(world.approve("blerim", filed.request.id)) == "already_signed"
    assert code(world.approve("agim", filed.request.id)) == "already_signed"


@pytest.mark.covers("R22")
@pytest.mark.parametrize("terms", [None, "23h"])
def test_where_the_rule_allows_no_deputy_or_none_named_for_so_long_nobody_signs_for_another(
    world: World, terms: str | None
) -> None:

    def edit(rules: Rules) -> None:
        del rules["release-payments"]["approve"]["deputies"]
        if terms is not None:
            rules["release-payments"]["approve"]["deputies"] = terms

    swap(world, edit)
    named(world)
    filed = world.filed(entitlement="releaser")
    assert "agim" not in told(world, "approval_wanted")
    assert code(world.approve("agim", filed.request.id)) == "no_such_request"


@pytest.mark.covers("R21")
def test_the_requester_is_nobodys_deputy_for_his_own_request(world: World) -> None:
    swap(world, lending)
    named(world, "blerim", "arta")
    filed = world.filed(entitlement="releaser")
    assert code(world.approve("arta", filed.request.id)) == "own_request"
    assert code(world.approve("arta-2", filed.request.id)) == "own_request"


def test_a_deputation_holds_only_in_its_time(world: World) -> None:
    swap(world, lending)
    start = world.broker.db.now() + DAY
    named(world, start=start)
    early = world.filed(entitlement="releaser", duration_s=600)
    assert code(world.approve("agim", early.request.id)) == "no_such_request"
    world.advance(DAY)
    world.approved("agim", world.filed(entitlement="releaser", duration_s=700).request.id)
    world.advance(DAY)
    late = world.filed(entitlement="releaser", duration_s=800)
    assert code(world.approve("agim", late.request.id)) == "no_such_request"


def test_what_was_signed_in_time_stays_signed_when_the_time_is_over(world: World) -> None:
    swap(world, lending)
    named(world, lasts_s=3600)
    filed = world.filed(entitlement="releaser")
    world.approved("agim", filed.request.id)
    world.advance(timedelta(minutes=55))
    grant = world.approved("drita", filed.request.id).grant
    assert grant is not None
    world.advance(timedelta(minutes=10))
    assert opening(world, grant.id) == "opened"


@pytest.mark.covers("R12", "R28")
@pytest.mark.parametrize("who", ["blerim", "agim"])
def test_a_hold_on_either_ends_it_and_nothing_is_issued_on_its_signature(world: World, who: str) -> None:
    swap(world, lending)
    deputation = named(world)
    grant_of = world.filed(entitlement="releaser")
    world.approved("agim", grant_of.request.id)
    grant = world.approved("drita", grant_of.request.id).grant
    assert grant is not None
    with world.broker.begin(LOCAL) as tx:
        hold.place(tx, world.broker, kind=HoldKind.PERSON, subject_id=world.person(who), cause="odd", by="local")
    assert opening(world, grant.id).startswith(("approver_", "deputy_"))
    with world.broker.read() as view:
        assert view.require(Deputation, deputation.id).ended_by == "local"


@pytest.mark.covers("R28")
def test_a_delegator_who_lost_the_right_lends_none(world: World) -> None:
    swap(world, lending)
    named(world)
    filed = world.filed(entitlement="releaser")
    world.approved("agim", filed.request.id)
    grant = world.approved("drita", filed.request.id).grant
    assert grant is not None
    with world.broker.begin(LOCAL) as tx:
        people.end_member(tx, group_id="treasury-heads", member_id=world.person("blerim"))
    assert opening(world, grant.id) == "approver_lost_right"


@pytest.mark.parametrize(
    ("delegator", "deputy", "parts", "why"),
    [
        ("blerim", "blerim", {}, "own_deputy"),
        ("blerim", "drita", {}, "other_institution"),
        ("blerim", "agim", {"lasts_s": 91 * DAY_S}, "deputy_time"),
    ],
)
def test_whom_one_cannot_name(world: World, delegator: str, deputy: str, parts: dict[str, object], why: str) -> None:
    assert code(name(world, delegator, deputy, **parts)) == why


@pytest.mark.covers("R26")
def test_who_may_sign_nothing_names_nobody_and_sends_no_notice(world: World) -> None:
    assert code(name(world, "arta", "agim")) == "nothing_to_lend"
    assert told(world, "deputy_named") == set()


@pytest.mark.covers("R26")
def test_a_deputy_is_named_a_few_times_a_day_and_more_than_six_notices_an_hour_leave_together(world: World) -> None:
    blerim = world.current("blerim")
    for _ in range(deputies.NAMED_A_DAY):
        found = named(world)
        with world.broker.begin(blerim.actor) as tx:
            deputies.end(tx, blerim, found.id)
    assert code(name(world, "blerim", "agim")) == "deputies_often"
    with world.broker.read() as view:
        wanted = select(Outbox).where(Outbox.person_id == world.person("agim"), Outbox.kind.startswith("deputy_"))
        later = [row.next_at > view.now for row in view.all(wanted.order_by(Outbox.created_at, Outbox.id))]
    assert later == [False] * 6 + [True] * 4
    world.advance(DAY)
    named(world)


def test_one_deputy_at_a_time_and_either_ends_it(world: World) -> None:
    first = named(world)
    assert told(world, "deputy_named") == {"agim", "blerim"}
    assert code(name(world, "blerim", "arta")) == "deputy_already"
    drita, agim = world.current("drita"), world.current("agim")
    with pytest.raises(JitError, match="no such deputy"), world.broker.begin(drita.actor) as tx:
        deputies.end(tx, drita, first.id)
    with world.broker.begin(agim.actor) as tx:
        deputies.end(tx, agim, first.id)
    assert told(world, "deputy_ended") == {"agim", "blerim"}
    with pytest.raises(JitError, match="ended already"), world.broker.begin(agim.actor) as tx:
        deputies.end(tx, agim, first.id)
    named(world, "blerim", "arta")
    with world.broker.read() as view:
        assert view.scalar(select(func.count()).where(Event.type == "deputy.named")) == 2


@pytest.mark.covers("R23")
def test_the_evidence_holds_the_deputation_with_its_signature(world: World) -> None:
    swap(world, lending)
    named(world)
    filed = world.filed(entitlement="releaser")
    world.approved("agim", filed.request.id)
    with world.broker.read() as view:
        (found,) = logview.evidence(view, filed.request.id)["deputations"]
    key = StoredKey(b64u_decode(found["public_key_der_b64u"]), found["algorithm"])
    signed = verify_deputation(
        b64u_decode(found["statement_b64u"]),
        Assertion.from_json(found["assertion"]),
        key,
        origin=ORIGIN,
        rp_id="localhost",
    )
    assert (signed.delegator, signed.deputy) == (world.person("blerim"), world.person("agim"))


@pytest.mark.covers("R20")
def test_a_lent_signature_moved_to_somebody_else_in_the_database_is_refused(world: World) -> None:
    swap(world, lending)
    named(world)
    filed = world.filed(entitlement="releaser")
    world.approved("agim", filed.request.id)
    grant = world.approved("drita", filed.request.id).grant
    assert grant is not None
    world.sql("UPDATE approval SET deputy_of = NULL, deputation_id = NULL WHERE deputy_of IS NOT NULL")
    with pytest.raises(JitError, match="changed outside"):
        opening(world, grant.id)


def test_a_deputy_refuses_with_one_tap_too(world: World) -> None:
    swap(world, lending)
    named(world)
    filed = world.filed(entitlement="releaser")
    agim = world.current("agim")
    with world.broker.begin(agim.actor, lock=[(AccessRequest, filed.request.id)]) as tx:
        assert isinstance(approve.deny(tx, world.broker, agim, filed.request.id), AccessRequest)
    (vote,) = approvals(world)
    assert (vote.verdict, vote.deputy_of) == ("deny", world.person("blerim"))
    with world.broker.begin(agim.actor) as tx:
        begun = approve.begin_denial_signature(tx, world.broker, agim, filed.request.id)
    assert not isinstance(begun, Refused)
    with world.broker.begin(agim.actor) as tx:
        signed = approve.complete_denial_signature(
            tx,
            world.broker,
            agim,
            request_id=filed.request.id,
            challenge_id=begun.challenge_id,
            response=world.answer("agim", begun),
        )
    assert isinstance(signed, Approval)
    assert ApprovalStatement.parse(signed.statement or b"").deputy_of == world.person("blerim")


@pytest.mark.covers("R26")
def test_the_deputy_of_several_is_told_within_the_same_limits(world: World) -> None:
    swap(world, lending)
    named(world)
    settings = world.broker.settings
    limits = settings.limits.model_copy(update={"messages_per_approver_hour": 1})
    for number in range(2):
        world.filed(entitlement="releaser", inputs={"order": f"TR-00000{number}", "amount_cents": 5})
        world.broker = replace(world.broker, settings=settings.model_copy(update={"limits": limits}))
        with world.broker.begin(LOCAL) as tx:  # somebody who is free, so that the next request is taken
            if number == 0:
                people.add_member(tx, group_id="treasury-heads", member_id=world.person("milan"))
    with world.broker.read() as view:
        agim = select(Outbox).where(Outbox.person_id == world.person("agim"), Outbox.kind == "approval_wanted")
        rows = view.all(agim.order_by(Outbox.created_at, Outbox.id))
        assert [row.next_at > view.now for row in rows] == [False, True]
