"""Several approvals with one signature: every single one checked and stored, whole or not at all; on both databases."""

import json
from typing import Any

import pytest
from sqlalchemy import func, select

from jitaccess.broker import approval_set, approve, inspection, logview, request
from jitaccess.broker.approval_set import SetCeremony
from jitaccess.broker.approve import Approved
from jitaccess.broker.inspection import Filter
from jitaccess.broker.issue import Opened, open_lease
from jitaccess.broker.revoke import hand_back
from jitaccess.domain.lifecycle import RequestState
from jitaccess.domain.values import Refused
from jitaccess.errors import JitError, Kind
from jitaccess.proof.canonical import b64u_decode, b64u_encode, sha256_b64u
from jitaccess.proof.statements import ApprovalSetStatement, ApprovalStatement, Purpose
from jitaccess.store.tables import AccessRequest, Approval, ApprovalSet, Challenge, Event, Grant
from tests.support.policy_swap import Rules, swap
from tests.support.world import World


def two(world: World) -> list[str]:
    return [
        world.filed(entitlement="releaser", inputs={"order": order, "amount_cents": 5}).request.id
        for order in ("TR-000001", "TR-000002")
    ]


def begun(world: World, key: str, ids: list[str]) -> SetCeremony | Refused:
    current = world.current(key)
    with world.broker.begin(current.actor, lock=approve.lock_of(world.broker, ids)) as tx:
        return approval_set.begin_set(tx, world.broker, current, ids)


def completed(world: World, key: str, ceremony: SetCeremony) -> list[Approved] | Refused:
    current = world.current(key)
    with world.broker.read() as view:
        keys = approval_set.requests_of(view, current, ceremony.ceremony.challenge_id)
    with world.broker.begin(current.actor, lock=approve.lock_of(world.broker, keys)) as tx:
        return approval_set.complete_set(
            tx,
            world.broker,
            current,
            challenge_id=ceremony.ceremony.challenge_id,
            response=world.answer(key, ceremony.ceremony),
        )


def signed(world: World, key: str, ids: list[str]) -> list[Approved]:
    ceremony = begun(world, key, ids)
    assert isinstance(ceremony, SetCeremony), ceremony
    found = completed(world, key, ceremony)
    assert isinstance(found, list), found
    return found


def refusal(found: object) -> str:
    assert isinstance(found, Refused), found
    return found.code


def approvals(world: World) -> int:
    with world.broker.read() as view:
        return int(view.scalar(select(func.count()).select_from(Approval)))


def bodies(world: World, kind: str) -> list[dict[str, Any]]:
    with world.broker.read() as view:
        return [json.loads(row.leaf)["body"] for row in view.all(select(Event).where(Event.type == kind))]


@pytest.mark.covers("R19", "R20", "R22")
def test_a_set_counts_each_of_its_approvals_and_access_is_issued_on_them(world: World) -> None:
    ids = two(world)
    first = signed(world, "blerim", ids)
    assert [done.open_steps for done in first] == [("owner",), ("owner",)]
    second = signed(world, "drita", ids)
    grants = [done.grant for done in second]
    for grant in grants:
        assert grant is not None
        assert isinstance(open_lease(world.broker, world.current("arta"), grant.id), Opened)
    listed = bodies(world, "approval_set.signed")[0]["approvals"]
    assert listed == [sha256_b64u(done.approval.statement or b"") for done in first]


@pytest.mark.covers("R19")
def test_the_set_names_the_exact_bytes_of_every_single_statement_in_the_order_shown(world: World) -> None:
    ids = two(world)
    ceremony = begun(world, "blerim", ids)
    assert isinstance(ceremony, SetCeremony)
    found = ApprovalSetStatement.parse(ceremony.ceremony.statement or b"")
    singles = [ApprovalStatement.parse(data) for data in ceremony.singles]
    assert found.approvals == tuple(sha256_b64u(data) for data in ceremony.singles)
    assert [single.request_id for single in singles] == ids
    assert found.approve_by == min(single.approve_by for single in singles)
    assert len({single.nonce for single in singles} | {found.nonce}) == 3
    assert approvals(world) == 0


@pytest.mark.covers("R22")
def test_single_approvals_and_sets_go_together(world: World) -> None:
    ids = two(world)
    for key in ids:
        world.approved("blerim", key)
    assert all(done.grant is not None for done in signed(world, "drita", ids))


@pytest.mark.covers("R19", "R20", "R24")
def test_one_request_changed_meanwhile_refuses_the_whole_set(world: World) -> None:
    ids = two(world)
    ceremony = begun(world, "blerim", ids)
    assert isinstance(ceremony, SetCeremony)
    world.sql("UPDATE access_request SET duration_s = 3600 WHERE id = :id", id=ids[1])
    found = completed(world, "blerim", ceremony)
    assert isinstance(found, Refused)
    assert (found.code, found.field) == ("differs_from_signed", "max_duration_s")
    assert approvals(world) == 0
    assert bodies(world, "approval_set.refused") == [{"reason": "differs_from_signed", "field": "max_duration_s"}]


@pytest.mark.covers("R22", "T-08")
def test_one_request_withdrawn_meanwhile_refuses_the_whole_set(world: World) -> None:
    ids = two(world)
    ceremony = begun(world, "blerim", ids)
    assert isinstance(ceremony, SetCeremony)
    arta = world.current("arta")
    with world.broker.begin(arta.actor, lock=[(AccessRequest, ids[1])]) as tx:
        request.withdraw(tx, world.broker, arta, ids[1])
    assert refusal(completed(world, "blerim", ceremony)) == "not_pending"
    assert approvals(world) == 0


@pytest.mark.covers("R21", "T-05")
def test_nobody_slips_an_own_request_into_a_set(world: World) -> None:
    ids = two(world)
    assert refusal(begun(world, "arta", ids)) == "own_request"
    assert refusal(begun(world, "drita", ids)) == "not_your_turn"


@pytest.mark.covers("R66")
def test_a_set_has_two_to_twenty_different_requests(world: World) -> None:
    ids = two(world)
    for wrong in ([], ids[:1], [ids[0], ids[0]], [f"{number:026}" for number in range(21)]):
        assert refusal(begun(world, "blerim", wrong)) == "set_size"
    assert refusal(begun(world, "blerim", [ids[0], "0" * 26])) == "no_such_request"


@pytest.mark.covers("R3", "T-09")
def test_a_signed_set_is_taken_once_and_is_no_single_approval(world: World) -> None:
    ids = two(world)
    ceremony = begun(world, "blerim", ids)
    assert isinstance(ceremony, SetCeremony)
    blerim = world.current("blerim")
    with world.broker.begin(blerim.actor, lock=approve.lock_of(world.broker, ids)) as tx:
        found = approve.complete_approval(
            tx,
            world.broker,
            blerim,
            request_id=ids[0],
            challenge_id=ceremony.ceremony.challenge_id,
            response=world.answer("blerim", ceremony.ceremony),
        )
    assert refusal(found) == "challenge_of_another_purpose"
    assert refusal(completed(world, "blerim", ceremony)) == "challenge_spent"
    assert approvals(world) == 0


@pytest.mark.covers("R3", "T-09")
def test_a_set_whose_requests_stand_in_each_others_way_is_spent_and_never_counts_later(world: World) -> None:
    def at_most_two(rules: Rules) -> None:
        rules["release-payments"]["limits"]["active_per_person"] = 2

    swap(world, at_most_two)
    held = world.released(inputs={"order": "TR-000777", "amount_cents": 5}).grant
    assert held is not None
    ids = two(world)
    for key in ids:
        world.approved("blerim", key)
    ceremony = begun(world, "drita", ids)
    assert isinstance(ceremony, SetCeremony)
    drita, answer = world.current("drita"), world.answer("drita", ceremony.ceremony)

    def complete() -> list[Approved] | Refused:
        with world.broker.begin(drita.actor, lock=approve.lock_of(world.broker, ids)) as tx:
            return approval_set.complete_set(
                tx, world.broker, drita, challenge_id=ceremony.ceremony.challenge_id, response=answer
            )

    before = approvals(world)
    with pytest.raises(JitError, match="one by one"):
        complete()
    assert approvals(world) == before, "nothing was counted"
    assert bodies(world, "approval_set.refused") == [{"field": None, "reason": "sign_alone"}]
    arta = world.current("arta")
    with world.broker.begin(arta.actor, lock=[(Grant, held.id)]) as tx:
        hand_back(tx, arta, held.id)
    assert refusal(complete()) == "challenge_spent", "room was made meanwhile"


@pytest.mark.covers("R19")
def test_statements_put_under_a_signed_set_from_outside_are_not_taken(world: World) -> None:
    ids = two(world)
    ceremony = begun(world, "blerim", ids)
    assert isinstance(ceremony, SetCeremony)
    other = b64u_encode(ceremony.singles[0].replace(b'"amount_cents":5', b'"amount_cents":9'))
    extra = json.dumps({"singles": [other, b64u_encode(ceremony.singles[1])]})
    world.sql("UPDATE challenge SET extra = :extra WHERE id = :id", extra=extra, id=ceremony.ceremony.challenge_id)
    with pytest.raises(JitError) as caught:
        completed(world, "blerim", ceremony)
    assert caught.value.kind is Kind.SEAL_BROKEN
    assert approvals(world) == 0


def test_what_has_to_be_read_back_is_signed_by_itself(world: World) -> None:
    def dear(rules: Rules) -> None:
        rules["release-payments"]["approve"]["read_back"] = [{"figure": "amount_cents", "above": 4}]

    swap(world, dear)
    assert refusal(begun(world, "blerim", two(world))) == "sign_alone"


@pytest.mark.covers("R20", "R23")
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE approval SET set_id = NULL",
        "UPDATE approval_set SET passkey_id = 'another'",
        "DELETE FROM approval_set",
    ],
)
def test_a_set_that_was_changed_or_lost_gives_nothing(world: World, statement: str) -> None:
    ids = two(world)
    signed(world, "blerim", ids)
    grant = signed(world, "drita", ids)[0].grant
    assert grant is not None
    world.current("arta")
    world.sql(statement)
    assert gives(world, grant.id) in ("seal_broken", "differs_from_signed")


def gives(world: World, grant_id: str) -> str:
    """Say why nothing is opened."""
    try:
        return refusal(open_lease(world.broker, world.current("arta"), grant_id))
    except JitError as error:
        return error.kind.value


@pytest.mark.covers("R23")
def test_the_evidence_of_one_request_holds_the_set(world: World) -> None:
    ids = two(world)
    signed(world, "blerim", ids)
    with world.broker.read() as view:
        evidence = logview.evidence(view, ids[0])["approvals"][0]
        kept = view.first(select(Challenge).where(Challenge.purpose == Purpose.APPROVAL_SET.value))
        assert view.require(AccessRequest, ids[0]).state == RequestState.PENDING
    single = b64u_decode(evidence["statement_b64u"])
    listed = ApprovalSetStatement.parse(b64u_decode(evidence["set_statement_b64u"])).approvals
    assert sha256_b64u(single) in listed
    assert kept is not None


def test_what_is_taken_along_says_with_which_set_a_request_was_signed(world: World) -> None:
    ids = two(world)
    signed(world, "blerim", ids)
    world.approved("drita", ids[0])
    with world.broker.read() as view:
        [set_id] = view.rows(select(ApprovalSet.id)).scalars().all()
        found = {line.request_id: line for line in inspection.lines(view, Filter())}
    assert [(said.step, said.set_id) for said in found[ids[0]].approvals] == [("line", set_id), ("owner", None)]
    assert [said.set_id for said in found[ids[1]].approvals] == [set_id]
