"""A vote lasts as long as the right behind it, until the request is decided (ADR 0062); on both databases."""

import pytest
from sqlalchemy import or_, select

from jitaccess.broker import approve, hold, logview, notify
from jitaccess.broker.approve import Approved
from jitaccess.domain.events import EventType
from jitaccess.domain.lifecycle import RequestState
from jitaccess.domain.values import LOCAL, Refused
from jitaccess.identity import people, preferences
from jitaccess.language import Language
from jitaccess.proof.canonical import b64u_decode
from jitaccess.proof.statements import ApprovalStatement
from jitaccess.store.tables import AccessRequest, Account, Approval, Event, Outbox, Person
from tests.broker.test_asking import bodies, keys_of, lot, more_heads, told
from tests.broker.test_dead_passkey import removed
from tests.broker.test_deputies import lending, named, opening
from tests.support.policy_swap import Rules, swap
from tests.support.world import World


def code(found: object) -> str:
    assert isinstance(found, Refused), found
    return found.code


def waiting_for(world: World, key: str) -> list[str]:
    with world.broker.read() as view:
        return [found.request.id for found in approve.waiting_for(view, world.person(key))]


def released(world: World, hold_id: str) -> None:
    with world.broker.begin(LOCAL) as tx:
        hold.release(tx, hold_id, by="test")


def left(world: World, key: str, group: str) -> None:
    with world.broker.begin(LOCAL) as tx:
        people.end_member(tx, group_id=group, member_id=world.person(key))


def told_ready(world: World) -> int:
    with world.broker.read() as view:
        return len(view.all(select(Outbox).where(Outbox.kind == "grant_ready")))


def lost(world: World) -> list[tuple[str, str]]:
    return [(body["step"], body["reason"]) for body in bodies(world, "approval.lost")]


@pytest.mark.covers("R22", "R28", "T-06")
def test_the_last_approver_completes_nothing_on_the_signature_of_somebody_on_hold(world: World) -> None:
    more_heads(world, "milan")
    filed = world.filed(entitlement="releaser")
    world.approved("blerim", filed.request.id)
    world.hold("blerim")
    assert code(world.approve("drita", filed.request.id)) == "not_your_turn"
    assert lost(world) == [("line", "approver_on_hold")]
    assert told_ready(world) == 0
    assert waiting_for(world, "milan") == [filed.request.id]
    world.approved("milan", filed.request.id)
    grant = world.approved("drita", filed.request.id).grant
    assert grant is not None
    assert told_ready(world) == 1
    assert opening(world, grant.id) == "opened"


def test_the_sweep_opens_the_step_again_and_tells_those_who_may_sign(world: World) -> None:
    more_heads(world, "milan")
    filed = world.filed(entitlement="releaser")
    world.approved("blerim", filed.request.id)
    world.sweep()
    assert (lost(world), waiting_for(world, "milan")) == ([], []), "the right is there: nothing is lost"
    world.hold("blerim")
    world.sweep()
    assert lost(world) == [("line", "approver_on_hold")]
    assert (waiting_for(world, "milan"), waiting_for(world, "drita")) == ([filed.request.id], [])
    with world.broker.read() as view:
        wanted = Outbox.kind == "approval_wanted", Outbox.person_id == world.person("milan")
        assert len(view.all(select(Outbox).where(*wanted))) == 2, "at filing, and again"
    world.sweep()
    assert len(lost(world)) == 1


@pytest.mark.covers("R20", "R23")
def test_who_has_the_right_again_signs_again_and_the_evidence_holds_what_counted(world: World) -> None:
    filed = world.filed(entitlement="releaser")
    world.approved("blerim", filed.request.id)
    on_hold = world.hold("blerim")
    world.sweep()
    released(world, on_hold.id)
    assert code(world.approve("drita", filed.request.id)) == "not_your_turn", "a vote never comes back by itself"
    world.approved("blerim", filed.request.id)
    grant = world.approved("drita", filed.request.id).grant
    assert grant is not None
    assert opening(world, grant.id) == "opened"
    with world.broker.read() as view:
        votes = view.all(select(Approval).order_by(Approval.given_at, Approval.id))
        evidence = logview.evidence(view, filed.request.id)
    assert [vote.lost_at is not None for vote in votes] == [True, False, False]
    proven = [ApprovalStatement.parse(b64u_decode(one["statement_b64u"])) for one in evidence["approvals"]]
    assert [one.approver for one in proven] == [world.person("blerim"), world.person("drita")]


@pytest.mark.covers("R28", "T-06")
def test_who_left_the_group_or_whose_deputation_a_hold_ended_has_signed_nothing(world: World) -> None:
    swap(world, lending)
    more_heads(world, "milan")
    first = world.filed(entitlement="releaser")
    second = world.filed(entitlement="releaser", inputs={"order": "TR-000431", "amount_cents": 5})
    named(world, "blerim", "agim")
    world.approved("agim", first.request.id)
    world.approved("milan", second.request.id)
    left(world, "milan", "treasury-heads")
    world.hold("blerim")
    world.sweep()
    assert sorted(lost(world)) == [("line", "approver_lost_right"), ("line", "deputy_lost_right")]


@pytest.mark.covers("R22")
def test_a_vote_is_not_counted_for_an_institution_that_the_signer_has_left(world: World) -> None:
    filed = world.filed(entitlement="releaser")
    world.approved("blerim", filed.request.id)
    with world.broker.begin(LOCAL) as tx:
        person = tx.require(Person, world.person("blerim"))
        event = tx.record(EventType.PERSON_CHANGED, subject={"person": person.id})
        tx.update(person, event, institution="infra")
    assert code(world.approve("drita", filed.request.id)) == "not_your_turn"
    assert lost(world) == [("line", "approver_lost_right")]


def test_what_was_signed_on_top_of_a_lost_signature_is_signed_again(world: World) -> None:
    def two_owners(rules: Rules) -> None:
        rules["release-payments"]["approve"]["steps"][1]["count"] = 2
        rules["release-payments"]["approve"]["distinct"] = ["person"]

    swap(world, two_owners)
    more_heads(world, "milan")
    filed = world.filed(entitlement="releaser")
    world.approved("blerim", filed.request.id)
    world.approved("drita", filed.request.id)
    world.hold("blerim")
    world.sweep()
    assert lost(world) == [("line", "approver_on_hold"), ("owner", "too_early")]
    world.approved("milan", filed.request.id)
    assert waiting_for(world, "drita") == [filed.request.id]
    assert isinstance(world.approve("drita", filed.request.id), Approved)


@pytest.mark.covers("R26")
def test_another_is_drawn_in_the_place_of_who_lost_the_right(world: World) -> None:
    more_heads(world, "milan", "besa")
    swap(world, lot(people=1, others="may_not_sign"))
    filed = world.filed(entitlement="releaser")
    (drawn,) = keys_of(world, told(world, filed.request.id))
    world.approved(drawn, filed.request.id)
    before = keys_of(world, told(world, filed.request.id))
    world.hold(drawn)
    world.sweep()
    (other,) = keys_of(world, told(world, filed.request.id)) - before
    assert other in {"blerim", "milan", "besa"}
    assert isinstance(world.approve(other, filed.request.id), Approved)


def test_once_it_is_approved_nothing_is_dropped_and_issuing_refuses_it_whole(world: World) -> None:
    done = world.released()
    assert done.grant is not None
    world.hold("blerim")
    world.sweep()
    assert lost(world) == []
    assert opening(world, done.grant.id) == "approver_on_hold"


def test_a_damaged_signature_holds_up_no_other_request(world: World) -> None:
    more_heads(world, "milan")
    first = world.filed(entitlement="releaser")
    second = world.filed(entitlement="releaser", inputs={"order": "TR-000431", "amount_cents": 5})
    for one in (first, second):
        world.approved("blerim", one.request.id)
    world.sql(f"UPDATE approval SET step = 'owner' WHERE request_id = '{first.request.id}'")
    world.hold("blerim")
    world.sweep()
    with world.broker.read() as view:
        (event,) = view.all(select(Event).where(Event.type == "approval.lost"))
    assert event.request_id == second.request.id


@pytest.mark.covers("R20")
def test_a_lost_vote_made_to_count_again_in_the_database_is_refused(world: World) -> None:
    filed = world.filed(entitlement="releaser")
    world.approved("blerim", filed.request.id)
    on_hold = world.hold("blerim")
    world.sweep()
    released(world, on_hold.id)
    world.sql("UPDATE approval SET lost_at = NULL")
    with pytest.raises(Exception, match="changed"):
        world.approve("drita", filed.request.id)
    with world.broker.read() as view:
        assert view.require(AccessRequest, filed.request.id).state == RequestState.PENDING


def ended_account(world: World, key: str) -> None:
    with world.broker.begin(LOCAL) as tx:
        event = tx.record(EventType.PERSON_CHANGED, subject={"person": world.person(key)})
        tx.update(tx.require(Account, world.seeded.accounts[key]), event, status="ended")


@pytest.mark.parametrize("end", ["account", "group"])
def test_a_lost_vote_is_told_to_who_asked_and_to_who_can_sign_now_in_three_languages(world: World, end: str) -> None:
    more_heads(world, "milan")
    filed = world.filed(entitlement="releaser")
    world.approved("blerim", filed.request.id)
    assert told_of(world, "approval_lost") == []
    if end == "account":
        ended_account(world, "blerim")
    else:
        left(world, "blerim", "treasury-heads")
    world.sweep()
    world.sweep()
    assert [step for step, _ in lost(world)] == ["line"]
    assert [row.person_id for row in told_of(world, "approval_lost")] == [world.person("arta")], "once"
    wanted = [row for row in told_of(world, "approval_wanted") if row.person_id == world.person("milan")]
    assert len(wanted) == 2, "at filing, and again"
    [mine] = told_of(world, "approval_lost")
    for language, (lost_words, again_words) in WORDS.items():
        for key in ("arta", "milan"):
            with world.broker.begin(LOCAL) as tx:
                preferences.change(tx, world.person(key), language=language.value)
        with world.broker.read() as view:
            letter, again = (notify.render(view, world.broker, row) or "" for row in (mine, wanted[-1]))
        assert lost_words in letter
        assert f"/requests/{filed.request.id}" in letter
        assert again_words in again
    world.approved("milan", filed.request.id)
    world.approved("drita", filed.request.id)
    with world.broker.read() as view:
        assert notify.render(view, world.broker, mine) is None, "moot: the request is decided"


def test_a_request_that_ends_with_the_passkey_of_who_signed_it_is_told_as_decided(world: World) -> None:
    filed = world.filed(entitlement="releaser")
    world.approved("blerim", filed.request.id)
    removed(world, world.current("blerim").passkey.id)
    world.sweep()
    assert [row.person_id for row in told_of(world, "request_decided")] == [world.person("arta")]
    assert told_of(world, "approval_lost") == []


WORDS = {
    Language.EN: ("A signature on your request does not count any more", "so it is asked about anew"),
    Language.SQ: ("Një nënshkrim në kërkesën tuaj nuk vlen më", "prandaj pyetet përsëri"),
    Language.SR: ("Jedan potpis na vašem zahtevu više ne važi", "zato se pita ponovo"),
}


def told_of(world: World, kind: str) -> list[Outbox]:
    with world.broker.read() as view:
        wanted = select(Outbox).where(Outbox.kind == kind, or_(Outbox.channel.is_(None), Outbox.channel == "mail"))
        return view.all(wanted.order_by(Outbox.id))
