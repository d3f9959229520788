"""From asking to the grant, through every gate: on both databases."""

import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from jitaccess.broker import approve, request
from jitaccess.broker.approve import Approved
from jitaccess.broker.request import Ask, Filed
from jitaccess.domain.events import EventType
from jitaccess.domain.lifecycle import GrantState, RequestState
from jitaccess.domain.values import LOCAL, Refused
from jitaccess.errors import JitError
from jitaccess.identity import people
from jitaccess.store.tables import AccessRequest, Event, Grant, Outbox, Passkey
from tests.support.world import World


def grants(world: World) -> list[Grant]:
    with world.broker.read() as view:
        return view.all(select(Grant).order_by(Grant.created_at))


def events(world: World, kind: str) -> int:
    with world.broker.read() as view:
        return int(view.scalar(select(func.count()).where(Event.type == kind)))


def refusal(found: object) -> str:
    assert isinstance(found, Refused), found
    return found.code


@pytest.mark.covers("R19", "T-11")
def test_access_without_approval_is_granted_in_the_same_transaction_and_its_clock_starts_now(world: World) -> None:
    filed = world.filed(duration_s=600)
    assert filed.request.state == RequestState.APPROVED
    assert filed.grant is not None
    assert filed.grant.state == GrantState.ACTIVE
    assert filed.grant.ends_at == filed.grant.starts_at + timedelta(seconds=600)


@pytest.mark.covers("R19", "R22", "R56", "T-11")
def test_two_people_of_two_institutions_make_a_grant_whose_clock_waits_for_activation(world: World) -> None:
    filed = world.filed(entitlement="releaser", duration_s=1800)
    assert filed.grant is None
    first = world.approved("blerim", filed.request.id)
    assert (first.grant, first.open_steps) == (None, ("owner",))
    world.advance(timedelta(minutes=30))
    done = world.approved("drita", filed.request.id)
    assert done.grant is not None
    assert (done.grant.state, done.grant.starts_at, done.grant.duration_s) == (GrantState.SCHEDULED, None, 1800)


@pytest.mark.covers("R21", "T-05")
@pytest.mark.parametrize("account", ["arta", "arta-2"])
def test_nobody_approves_their_own_request_through_whatever_account(world: World, account: str) -> None:
    filed = world.filed(entitlement="releaser")
    assert refusal(world.approve(account, filed.request.id)) == "own_request"
    assert events(world, "approval.refused") == 1
    assert grants(world) == []


@pytest.mark.covers("R22")
def test_the_owner_signs_only_after_the_line(world: World) -> None:
    filed = world.filed(entitlement="releaser")
    assert refusal(world.approve("drita", filed.request.id)) == "not_your_turn"


@pytest.mark.covers("R22", "T-04", "T-09")
def test_a_person_counts_once(world: World) -> None:
    filed = world.filed(entitlement="releaser")
    world.approved("blerim", filed.request.id)
    assert refusal(world.approve("blerim", filed.request.id)) == "already_signed"


@pytest.mark.covers("R25")
def test_a_person_outside_the_request_learns_nothing(world: World) -> None:
    filed = world.filed(entitlement="releaser")
    arta2 = world.current("drita")
    with world.broker.read() as view:
        assert refusal(approve.facts(view, world.broker, "0" * 26, arta2)) == "no_such_request"
    with world.broker.begin(LOCAL) as tx:
        people.end_member(tx, group_id="infra-finance", member_id=world.person("drita"))
    with world.broker.read() as view:
        assert refusal(approve.facts(view, world.broker, filed.request.id, arta2)) == "no_such_request"


@pytest.mark.covers("T-06", "R28")
def test_an_approver_who_lost_the_group_while_the_request_waited_is_refused(world: World) -> None:
    filed = world.filed(entitlement="releaser")
    world.current("blerim")
    with world.broker.begin(LOCAL) as tx:
        people.end_member(tx, group_id="treasury-heads", member_id=world.person("blerim"))
    assert refusal(world.approve("blerim", filed.request.id)) == "no_such_request"


@pytest.mark.covers("T-06")
def test_a_group_in_a_group_counts_for_approvers(world: World) -> None:
    filed = world.filed(entitlement="releaser")
    with world.broker.begin(LOCAL) as tx:
        people.add_group(tx, group_id="inner", name="Inner")
        people.end_member(tx, group_id="treasury-heads", member_id=world.person("blerim"))
        people.add_member(tx, group_id="inner", member_id=world.person("blerim"))
    with world.broker.begin(LOCAL) as tx:
        people.add_member(tx, group_id="treasury-heads", member_id="inner", kind="group")
    assert world.approved("blerim", filed.request.id).open_steps == ("owner",)


@pytest.mark.covers("T-08")
def test_an_approval_after_the_request_expired_is_refused_even_before_the_sweep(world: World) -> None:
    filed = world.filed(entitlement="releaser")
    world.advance(timedelta(hours=1))
    assert refusal(world.approve("blerim", filed.request.id)) == "too_late"
    world.sweep()
    assert refusal(world.approve("blerim", filed.request.id)) == "not_pending"


@pytest.mark.covers("T-08", "R25")
def test_an_approval_after_withdrawal_is_refused(world: World) -> None:
    filed = world.filed(entitlement="releaser")
    arta = world.current("arta")
    with world.broker.begin(arta.actor, lock=[(AccessRequest, filed.request.id)]) as tx:
        request.withdraw(tx, world.broker, arta, filed.request.id)
    assert refusal(world.approve("blerim", filed.request.id)) == "not_pending"


def test_only_the_requester_withdraws(world: World) -> None:
    filed = world.filed(entitlement="releaser")
    blerim = world.current("blerim")
    with pytest.raises(JitError), world.broker.begin(blerim.actor) as tx:
        request.withdraw(tx, world.broker, blerim, filed.request.id)


@pytest.mark.covers("R20", "R24")
def test_a_request_changed_between_showing_and_signing_is_refused_with_the_field(world: World) -> None:
    filed = world.filed(entitlement="releaser")
    blerim = world.current("blerim")
    with world.broker.begin(blerim.actor) as tx:
        begun = approve.begin_approval(tx, world.broker, blerim, request_id=filed.request.id)
    assert not isinstance(begun, Refused)
    world.sql("UPDATE access_request SET duration_s = 3600 WHERE id = :id", id=filed.request.id)
    with world.broker.begin(blerim.actor, lock=[(AccessRequest, filed.request.id)]) as tx:
        found = approve.complete_approval(
            tx,
            world.broker,
            blerim,
            request_id=filed.request.id,
            challenge_id=begun.challenge_id,
            response=world.answer("blerim", begun),
        )
    assert isinstance(found, Refused)
    assert (found.code, found.field) == ("differs_from_signed", "max_duration_s")


@pytest.mark.covers("R3", "T-09")
def test_a_signature_is_taken_once(world: World) -> None:
    filed = world.filed(entitlement="releaser")
    blerim = world.current("blerim")
    with world.broker.begin(blerim.actor) as tx:
        begun = approve.begin_approval(tx, world.broker, blerim, request_id=filed.request.id)
    assert not isinstance(begun, Refused)
    answer = world.answer("blerim", begun)
    results = []
    for _ in range(2):
        with world.broker.begin(blerim.actor, lock=[(AccessRequest, filed.request.id)]) as tx:
            results.append(
                approve.complete_approval(
                    tx,
                    world.broker,
                    blerim,
                    request_id=filed.request.id,
                    challenge_id=begun.challenge_id,
                    response=answer,
                )
            )
    assert isinstance(results[0], Approved)
    assert refusal(results[1]) == "challenge_spent"


@pytest.mark.covers("T-07", "R22")
def test_two_last_approvals_in_the_same_second_make_exactly_one_grant(world: World) -> None:
    with world.broker.begin(LOCAL) as tx:
        for key in ("blerim", "drita"):
            people.add_member(tx, group_id="payroll-heads", member_id=world.person(key))
    filed = world.filed(entitlement="releaser")
    world.approved("blerim", filed.request.id)
    drita = world.current("drita")
    begun = []
    for _ in range(4):
        with world.broker.begin(drita.actor) as tx:
            found = approve.begin_approval(tx, world.broker, drita, request_id=filed.request.id)
        assert not isinstance(found, Refused)
        begun.append((found, world.answer("drita", found)))
    results: list[object] = []

    def sign(number: int) -> None:
        ceremony, answer = begun[number]
        try:
            with world.broker.begin(drita.actor, lock=[(AccessRequest, filed.request.id)]) as tx:
                results.append(
                    approve.complete_approval(
                        tx,
                        world.broker,
                        drita,
                        request_id=filed.request.id,
                        challenge_id=ceremony.challenge_id,
                        response=answer,
                    )
                )
        except JitError as error:
            results.append(error)

    threads = [threading.Thread(target=sign, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(found, Approved) for found in results) == 1
    assert len(grants(world)) == 1


@pytest.mark.covers("T-07")
def test_two_requests_approved_together_both_start(world: World) -> None:
    first = world.filed(entitlement="releaser")
    second = world.filed(entitlement="releaser", inputs={"order": "TR-000431", "amount_cents": 5})
    for approver in ("blerim", "drita"):
        for filed in (first, second):
            world.approved(approver, filed.request.id)
    assert len(grants(world)) == 2


@pytest.mark.covers("R56", "T-10")
def test_overlapping_and_back_to_back_grants_end_each_for_itself(world: World) -> None:
    first = world.filed(duration_s=600).grant
    world.advance(timedelta(seconds=300))
    second = world.filed(duration_s=900).grant
    assert first is not None
    assert second is not None
    world.advance(timedelta(seconds=300))
    world.sweep()
    assert [grant.state for grant in grants(world)] == [GrantState.ENDED, GrantState.ACTIVE]
    world.advance(timedelta(seconds=600))
    world.sweep()
    assert [grant.cause for grant in grants(world)] == ["expired", "expired"]


def test_equal_pending_requests_merge(world: World) -> None:
    filed = world.filed(entitlement="releaser")
    again = world.file(entitlement="releaser")
    assert isinstance(again, Refused)
    assert (again.code, again.field) == ("already_pending", filed.request.id)


@pytest.mark.covers("R71")
def test_a_refused_request_is_in_the_log_with_its_reason(world: World) -> None:
    assert refusal(world.file("jelena", entitlement="viewer")) == "not_in_group"
    assert events(world, "request.refused") == 1


@pytest.mark.covers("R18")
@pytest.mark.parametrize("reason", ["", "ok", "x" * 501, "turn\u202e around", "bell\x07"])
def test_reasons_are_bounded_and_printable(world: World, reason: str) -> None:
    assert refusal(world.begin_filing("arta", Ask("treasury", "viewer", {}, 600, reason))).startswith("reason_")


def test_denying_is_one_tap_and_takes_effect_before_it_is_signed(world: World) -> None:
    filed = world.filed(entitlement="releaser")
    drita = world.current("drita")
    with world.broker.begin(drita.actor, lock=[(AccessRequest, filed.request.id)]) as tx:
        denied = approve.deny(tx, world.broker, drita, filed.request.id)
    assert isinstance(denied, AccessRequest)
    assert refusal(world.approve("blerim", filed.request.id)) == "not_pending"
    with world.broker.begin(drita.actor) as tx:
        begun = approve.begin_denial_signature(tx, world.broker, drita, filed.request.id)
    assert not isinstance(begun, Refused)
    with world.broker.begin(drita.actor, lock=[(AccessRequest, filed.request.id)]) as tx:
        signed = approve.complete_denial_signature(
            tx,
            world.broker,
            drita,
            request_id=filed.request.id,
            challenge_id=begun.challenge_id,
            response=world.answer("drita", begun),
        )
    assert not isinstance(signed, Refused)
    assert signed.signed_at is not None
    assert (events(world, "denial.given"), events(world, "denial.signed")) == (1, 1)


def test_the_requester_cannot_deny_and_so_not_vote(world: World) -> None:
    filed = world.filed(entitlement="releaser")
    arta = world.current("arta")
    with world.broker.begin(arta.actor) as tx:
        assert refusal(approve.deny(tx, world.broker, arta, filed.request.id)) == "no_such_request"


def test_approvers_hear_of_it_when_it_is_their_turn(world: World) -> None:
    filed = world.filed(entitlement="releaser")

    def told() -> set[str]:
        with world.broker.read() as view:
            rows = view.all(
                select(Outbox).where(Outbox.kind == "approval_wanted", Outbox.subject_id == filed.request.id)
            )
        return {row.person_id for row in rows}

    assert told() == {world.person("blerim")}
    world.approved("blerim", filed.request.id)
    assert told() == {world.person("blerim"), world.person("drita")}


def test_a_filing_signed_by_another_persons_session_is_refused(world: World) -> None:
    begun = world.begin_filing("arta", Ask("treasury", "viewer", {}, 600, "quarterly payments"))
    assert not isinstance(begun, Refused)
    blerim = world.current("blerim")
    with world.broker.begin(blerim.actor) as tx:
        found = request.complete_filing(
            tx,
            world.broker,
            blerim,
            challenge_id=begun.challenge_id,
            response=world.answer("arta", begun),
        )
    assert refusal(found) == "challenge_of_another_session"


@pytest.mark.covers("R3")
def test_a_filing_answered_after_five_minutes_is_refused(world: World) -> None:
    begun = world.begin_filing("arta", Ask("treasury", "viewer", {}, 600, "quarterly payments"))
    assert not isinstance(begun, Refused)
    world.advance(timedelta(minutes=5))
    arta = world.current("arta")
    with world.broker.begin(arta.actor) as tx:
        found = request.complete_filing(
            tx, world.broker, arta, challenge_id=begun.challenge_id, response=world.answer("arta", begun)
        )
    assert refusal(found) == "challenge_expired"
    assert grants(world) == []


def test_preview_names_who_would_have_to_sign_before_anything_is_filed(world: World) -> None:
    arta = world.current("arta")
    inputs = {"order": "TR-000417", "amount_cents": 5}
    with world.broker.read() as view:
        found = request.preview(view, world.broker, arta, Ask("treasury", "releaser", inputs, None, "x"))
    assert found.signers == {"line": {world.person("blerim")}, "owner": {world.person("drita")}}


def test_requests_are_limited_by_the_hour(world: World) -> None:
    limits = world.broker.settings.limits.model_copy(update={"requests_per_person_hour": 2})
    world.broker = replace(world.broker, settings=world.broker.settings.model_copy(update={"limits": limits}))
    for _ in range(2):
        assert isinstance(world.file(), Filed)
    assert refusal(world.file()) == "too_many_requests"


@pytest.mark.covers("R26")
def test_requests_that_were_begun_before_the_limit_do_not_slip_past_it(world: World) -> None:
    limits = world.broker.settings.limits.model_copy(update={"requests_per_person_hour": 1})
    world.broker = replace(world.broker, settings=world.broker.settings.model_copy(update={"limits": limits}))
    arta = world.current("arta")
    begun = [world.begin_filing("arta", Ask("treasury", "viewer", {}, length, "month end")) for length in (600, 700)]
    found = []
    for one in begun:
        assert not isinstance(one, Refused)
        answer = world.answer("arta", one)
        with world.broker.begin(arta.actor, lock=request.lock_of(arta)) as tx:
            found.append(
                request.complete_filing(tx, world.broker, arta, challenge_id=one.challenge_id, response=answer)
            )
    assert isinstance(found[0], Filed)
    assert refusal(found[1]) == "too_many_requests"


@pytest.mark.covers("R12", "R28")
def test_nothing_is_approved_for_somebody_whose_passkey_is_gone_since(world: World) -> None:
    filed = world.filed(entitlement="releaser")
    with world.broker.begin(LOCAL) as tx:
        passkey = tx.require(Passkey, filed.request.filing_passkey_id)
        told = tx.record(EventType.PASSKEY_REMOVED, subject={"passkey": passkey.id})
        tx.update(passkey, told, status="removed")
    assert refusal(world.approve("blerim", filed.request.id)) == "requester_passkey_not_active"
