"""Who is asked, how many at once, and who next: drawn by lot, limited, escalated; on both databases."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from jitaccess.broker import approve, asking, hold, notify, request
from jitaccess.broker.approve import Choice
from jitaccess.broker.issue import Opened, open_lease
from jitaccess.clock import from_epoch_s
from jitaccess.domain.lifecycle import RequestState
from jitaccess.domain.values import LOCAL, Refused
from jitaccess.errors import JitError, Kind
from jitaccess.identity import people
from jitaccess.proof.quorum import Step
from jitaccess.store.tables import AccessRequest, Asked, Event, Hold, Outbox
from tests.support.policy_swap import Rules, swap
from tests.support.world import World


def refusal(found: object) -> tuple[Kind, str]:
    assert isinstance(found, Refused), found
    return found.kind, found.code


def told(world: World, request_id: str, *, due: bool = False) -> set[str]:
    """Give who has a notice about a request; `due`: whose is sent now."""
    with world.broker.read() as view:
        rows = view.all(select(Outbox).where(Outbox.kind == "approval_wanted", Outbox.subject_id == request_id))
        return {row.person_id for row in rows if not due or row.next_at <= view.now}


def bodies(world: World, kind: str) -> list[dict[str, Any]]:
    with world.broker.read() as view:
        return [json.loads(row.leaf)["body"] for row in view.all(select(Event).where(Event.type == kind))]


def more_heads(world: World, *keys: str, group: str = "treasury-heads") -> None:
    with world.broker.begin(LOCAL) as tx:
        for key in keys:
            people.add_member(tx, group_id=group, member_id=world.person(key))


def limited(world: World, **limits: int) -> None:
    settings = world.broker.settings
    changed = settings.model_copy(update={"limits": settings.limits.model_copy(update=limits)})
    world.broker = replace(world.broker, settings=changed)


def lot(**ask: Any) -> Any:
    def edit(rules: Rules) -> None:
        rules["release-payments"]["approve"]["steps"][0]["ask"] = ask

    return edit


def keys_of(world: World, ids: set[str]) -> set[str]:
    return {key for key, person in world.seeded.people.items() if person in ids}


# ---------------------------------------------------------------- drawn by lot


@pytest.mark.covers("R22", "R26")
def test_only_those_who_were_drawn_are_told_and_the_others_may_sign_from_their_list(world: World) -> None:
    more_heads(world, "milan", "besa")
    swap(world, lot(people=1))
    filed = world.filed(entitlement="releaser")
    drawn = keys_of(world, told(world, filed.request.id))
    assert len(drawn) == 1
    assert drawn < {"blerim", "milan", "besa"}
    assert bodies(world, "approval.asked")[0]["how"] == "drawn"
    other = sorted({"blerim", "milan"} - drawn)[0]
    with world.broker.read() as view:
        waiting = approve.waiting_for(view, world.person(other))
    assert [(found.request.id, found.asked) for found in waiting] == [(filed.request.id, False)]
    world.approved(other, filed.request.id)
    grant = world.approved("drita", filed.request.id).grant
    assert grant is not None
    assert isinstance(open_lease(world.broker, world.current("arta"), grant.id), Opened)


def withdraw(world: World, request_id: str) -> None:
    arta = world.current("arta")
    with world.broker.begin(arta.actor, lock=[(AccessRequest, request_id)]) as tx:
        request.withdraw(tx, world.broker, arta, request_id)


@pytest.mark.covers("R22", "R26")
def test_withdrawing_and_asking_again_draws_the_same_people_until_the_day_is_over(world: World) -> None:
    more_heads(world, "milan", "besa")
    swap(world, lot(people=1, others="may_not_sign"))
    drawn: list[set[str]] = []
    for number in range(8):
        filed = world.filed(entitlement="releaser", inputs={"order": f"TR-00000{number}", "amount_cents": 5})
        drawn.append(keys_of(world, told(world, filed.request.id)))
        withdraw(world, filed.request.id)
    assert len(drawn[0]) == 1
    assert drawn == [drawn[0]] * 8
    orders = set()
    for day in range(24):
        row = AccessRequest(person_id="p", target="t", entitlement="e", created_at=from_epoch_s(day * 86_400))
        orders.add(tuple(asking._drawn_order(world.broker, row, Step("s", 1, ("g",)), frozenset("abc"))))
    assert len(orders) > 1, "another day draws anew"


@pytest.mark.covers("R22")
def test_where_no_others_may_sign_the_lot_decides_who_may(world: World) -> None:
    more_heads(world, "milan")
    swap(world, lot(people=1, others="may_not_sign"))
    filed = world.filed(entitlement="releaser")
    drawn = keys_of(world, told(world, filed.request.id)).pop()
    other = ({"blerim", "milan"} - {drawn}).pop()
    assert refusal(world.approve(other, filed.request.id)) == (Kind.FORBIDDEN, "not_asked")
    with world.broker.read() as view:
        assert approve.waiting_for(view, world.person(other)) == []
        assert [found.asked for found in approve.waiting_for(view, world.person(drawn))] == [True]
    world.approved(drawn, filed.request.id)
    grant = world.approved("drita", filed.request.id).grant
    assert grant is not None
    assert isinstance(open_lease(world.broker, world.current("arta"), grant.id), Opened)


@pytest.mark.covers("R20", "R22")
def test_who_was_drawn_cannot_be_changed_in_the_database(world: World) -> None:
    more_heads(world, "milan")
    swap(world, lot(people=1, others="may_not_sign"))
    filed = world.filed(entitlement="releaser")
    drawn = keys_of(world, told(world, filed.request.id)).pop()
    other = ({"blerim", "milan"} - {drawn}).pop()
    world.sql("UPDATE asked SET people = :people", people=json.dumps([world.person(other)]))
    with pytest.raises(JitError) as caught:
        world.approve(other, filed.request.id)
    assert caught.value.kind is Kind.SEAL_BROKEN


def test_with_distinct_institutions_the_lot_falls_on_different_ones(world: World) -> None:
    more_heads(world, "milan", "agim")

    def edit(rules: Rules) -> None:
        line = rules["release-payments"]["approve"]["steps"][0]
        line |= {"count": 2, "ask": {"people": 2, "others": "may_not_sign"}}

    swap(world, edit)
    for number in range(4):
        filed = world.filed(entitlement="releaser", inputs={"order": f"TR-00000{number}", "amount_cents": 5})
        assert "milan" in keys_of(world, told(world, filed.request.id)), "blerim and agim are of one institution"


# ---------------------------------------------------------------- escalation


@pytest.mark.covers("R22")
def test_after_its_time_other_people_are_asked_and_may_sign_and_as_many_as_before_have_to(world: World) -> None:
    more_heads(world, "milan", group="duty-officers")
    filed = world.filed(entitlement="releaser")
    assert refusal(world.approve("milan", filed.request.id)) == (Kind.NOT_FOUND, "no_such_request")
    world.advance(timedelta(minutes=19, seconds=59))
    world.sweep()
    assert told(world, filed.request.id) == {world.person("blerim")}
    world.advance(timedelta(seconds=1))
    world.sweep()
    world.sweep()
    assert told(world, filed.request.id) == {world.person("blerim"), world.person("milan")}
    assert bodies(world, "approval.escalated") == [{"waited_s": 1200, "people": 1}]
    assert world.approved("milan", filed.request.id).open_steps == ("owner",)
    grant = world.approved("drita", filed.request.id).grant
    assert grant is not None
    assert isinstance(open_lease(world.broker, world.current("arta"), grant.id), Opened)


@pytest.mark.covers("R20", "R22")
def test_whoever_signed_before_the_escalation_had_no_right_then(world: World) -> None:
    more_heads(world, "milan", group="duty-officers")
    more_heads(world, "milan")
    filed = world.filed(entitlement="releaser")
    world.approved("milan", filed.request.id)
    grant = world.approved("drita", filed.request.id).grant
    assert grant is not None
    world.advance(timedelta(minutes=5))
    with world.broker.begin(LOCAL) as tx:
        people.end_member(tx, group_id="treasury-heads", member_id=world.person("milan"))
    found = open_lease(world.broker, world.current("arta"), grant.id)
    assert refusal(found) == (Kind.FORBIDDEN, "approver_lost_right")


def test_an_answered_request_is_not_escalated(world: World) -> None:
    more_heads(world, "milan", group="duty-officers")
    filed = world.filed(entitlement="releaser")
    world.approved("blerim", filed.request.id)
    world.advance(timedelta(minutes=20))
    world.sweep()
    assert world.person("milan") not in told(world, filed.request.id)


# ---------------------------------------------------------------- limits


@pytest.mark.covers("R26")
def test_one_requester_has_a_bounded_number_of_requests_waiting(world: World) -> None:
    limited(world, open_per_requester=1)
    world.filed(entitlement="releaser")
    other = {"order": "TR-000431", "amount_cents": 5}
    assert refusal(world.file(entitlement="releaser", inputs=other)) == (Kind.RATE_LIMITED, "too_many_open")
    assert bodies(world, "request.refused")[0]["reason"] == "too_many_open"
    world.filed()
    world.advance(timedelta(hours=1))
    world.filed(entitlement="releaser", inputs=other)


@pytest.mark.covers("R26")
def test_withdrawn_requests_count_for_an_hour_like_waiting_ones(world: World) -> None:
    limited(world, open_per_requester=2)
    for number in range(2):
        filed = world.filed(entitlement="releaser", inputs={"order": f"TR-00000{number}", "amount_cents": 5})
        withdraw(world, filed.request.id)
    other = {"order": "TR-000431", "amount_cents": 5}
    assert refusal(world.file(entitlement="releaser", inputs=other)) == (Kind.RATE_LIMITED, "too_many_open")
    world.advance(timedelta(hours=1))
    world.filed(entitlement="releaser", inputs=other)


@pytest.mark.covers("R26")
def test_a_large_group_of_approvers_has_the_same_limits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "COUNTED_AT_ONCE", 2)
    monkeypatch.setattr(asking, "NAMED_AT_MOST", 2)
    more_heads(world, "milan", "besa", "agim")
    limited(world, messages_per_approver_hour=1)
    first = world.filed(entitlement="releaser")
    asked = told(world, first.request.id)
    assert len(asked) > 2, "several parts are counted"
    other = {"order": "TR-000431", "amount_cents": 5}
    assert refusal(world.file(entitlement="releaser", inputs=other)) == (Kind.RATE_LIMITED, "approvers_busy")


@pytest.mark.covers("R26")
@pytest.mark.parametrize("limit", ["open_per_approver", "messages_per_approver_hour"])
def test_who_fills_the_limits_of_everybody_who_could_sign_is_refused_and_told_so(world: World, limit: str) -> None:
    limited(world, **{limit: 1})
    world.filed(entitlement="releaser")
    other = {"order": "TR-000431", "amount_cents": 5}
    assert refusal(world.file(entitlement="releaser", inputs=other)) == (Kind.RATE_LIMITED, "approvers_busy")


@pytest.mark.covers("R26")
@pytest.mark.parametrize("limit", ["open_per_approver", "messages_per_approver_hour"])
def test_what_others_asked_closes_the_way_to_nobody(world: World, limit: str) -> None:
    """Above the approvers' limits a colleague's urgent request is filed; its notices wait, and it stands in the inbox at once."""
    more_heads(world, "agim", group="treasury-releasers")
    limited(world, **{limit: 1})
    world.filed(entitlement="releaser")
    other = world.filed("agim", entitlement="releaser", inputs={"order": "TR-000431", "amount_cents": 5})
    assert told(world, other.request.id)
    assert not told(world, other.request.id, due=True)
    with world.broker.read() as view:
        waiting = {found.request.id for found in approve.waiting_for(view, world.person("blerim"))}
    assert other.request.id in waiting


@pytest.mark.covers("R26")
def test_one_requester_whose_requests_are_refused_at_once_keeps_nobody_elses_notice_back(world: World) -> None:
    more_heads(world, "agim", group="treasury-releasers")
    limited(world, messages_per_approver_hour=4, messages_per_requester_hour=2, denials_before_hold=50)
    at_once: list[int] = []
    for number in range(4):
        filed = world.filed(entitlement="releaser", inputs={"order": f"TR-00000{number}", "amount_cents": 5})
        at_once.append(len(told(world, filed.request.id, due=True)))
        deny(world, "blerim", filed.request.id)
    assert [count > 0 for count in at_once] == [True, True, False, False]
    fifth = {"order": "TR-000004", "amount_cents": 5}
    assert refusal(world.file(entitlement="releaser", inputs=fifth)) == (Kind.RATE_LIMITED, "approvers_busy")
    other = world.filed("agim", entitlement="releaser", inputs={"order": "TR-000431", "amount_cents": 5})
    assert world.person("blerim") in told(world, other.request.id, due=True)


@pytest.mark.covers("R26")
def test_with_the_shipped_limits_an_approver_gets_five_messages_of_one_requester_at_once(world: World) -> None:
    requests = [
        world.filed(entitlement="releaser", inputs={"order": f"TR-00000{number}", "amount_cents": 5}).request.id
        for number in range(7)
    ]
    blerim = world.person("blerim")
    assert [blerim in told(world, key, due=True) for key in requests] == [True] * 5 + [False] * 2
    assert all(blerim in told(world, key) for key in requests), "none is lost"
    world.advance(timedelta(hours=1))
    assert blerim in told(world, world.filed(entitlement="releaser").request.id, due=True)


@pytest.mark.covers("R26")
def test_one_target_has_a_bounded_number_of_requests_waiting(world: World) -> None:
    limited(world, open_per_target=1)
    world.filed(entitlement="releaser")
    other = {"order": "TR-000431", "amount_cents": 5}
    assert refusal(world.file(entitlement="releaser", inputs=other)) == (Kind.RATE_LIMITED, "target_busy")


@pytest.mark.covers("R26")
def test_a_busy_approver_is_told_later_and_a_free_one_at_once(world: World) -> None:
    first = world.filed(entitlement="releaser")
    more_heads(world, "milan")
    limited(world, messages_per_approver_hour=1)
    second = world.filed(entitlement="releaser", inputs={"order": "TR-000431", "amount_cents": 5})
    assert told(world, second.request.id, due=True) == {world.person("milan")}
    assert told(world, second.request.id) == {world.person("milan"), world.person("blerim")}
    assert bodies(world, "approval.asked")[-1]["kept_back"] == 1
    with world.broker.read() as view:
        waiting = {found.request.id for found in approve.waiting_for(view, world.person("blerim"))}
    assert waiting == {first.request.id, second.request.id}


@pytest.mark.covers("R26")
def test_a_notice_that_was_kept_back_is_not_sent_once_the_request_was_answered(world: World) -> None:
    filed = world.filed(entitlement="releaser")
    deny(world, "drita", filed.request.id)
    with world.broker.read() as view:
        row = view.first(select(Outbox).where(Outbox.kind == "approval_wanted"))
        assert row is not None
        assert notify.render(view, world.broker, row) is None


def deny(world: World, key: str, request_id: str) -> None:
    current = world.current(key)
    with world.broker.begin(current.actor, lock=[(AccessRequest, request_id)]) as tx:
        assert isinstance(approve.deny(tx, world.broker, current, request_id), AccessRequest)


def refused_by(world: World, *approvers: str) -> list[int]:
    """Let Arta be refused by one approver after the other; return how many holds were on her after each."""
    held: list[int] = []
    for number, approver in enumerate(approvers):
        filed = world.filed(entitlement="releaser", inputs={"order": f"TR-00000{number}", "amount_cents": 5})
        deny(world, approver, filed.request.id)
        with world.broker.read() as view:
            held.append(len(view.all(select(Hold).where(Hold.subject_id == world.person("arta")))))
    return held


@pytest.mark.covers("R26")
def test_a_requester_whom_different_approvers_refuse_again_and_again_is_put_on_hold(world: World) -> None:
    limited(world, denials_before_hold=3)
    assert refused_by(world, "drita", "drita", "blerim") == [0, 0, 1]
    assert bodies(world, "alarm.raised")[-1] == {"what": "refused_often", "count": 3}


@pytest.mark.covers("R26")
def test_a_refusal_after_an_approval_counts_like_any_other(world: World) -> None:
    limited(world, denials_before_hold=2)
    assert refused_by(world, "drita") == [0]
    filed = world.filed(entitlement="releaser", inputs={"order": "TR-000009", "amount_cents": 5})
    world.approved("blerim", filed.request.id)
    deny(world, "blerim", filed.request.id)
    with world.broker.read() as view:
        assert len(view.all(select(Hold).where(Hold.subject_id == world.person("arta")))) == 1


@pytest.mark.covers("R26")
def test_one_approver_alone_puts_nobody_on_hold_but_administrators_are_told_once(world: World) -> None:
    limited(world, denials_before_hold=2)
    assert refused_by(world, "drita", "drita", "drita") == [0, 0, 0]
    assert [body for body in bodies(world, "alarm.raised") if "count" in body] == [
        {"what": "refused_often_by_one", "count": 2}
    ]
    assert refused_by(world, "blerim") == [1]


def test_refusals_of_yesterday_are_forgotten(world: World) -> None:
    limited(world, denials_before_hold=2)
    assert refused_by(world, "drita") == [0]
    world.advance(timedelta(days=1))
    assert refused_by(world, "blerim") == [0]


# ---------------------------------------------------------------- reading the figure


def dear(rules: Rules) -> None:
    rules["release-payments"]["approve"]["read_back"] = [{"figure": "amount_cents", "above": 100_000_000}]


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({}, False),
        ({"amount_cents": "12500000"}, False),
        ({"order": "TR-000417"}, False),
        ({"amount_cents": "125000000"}, True),
        ({"amount_cents": "1,250,000.00"}, True),
        ({"amount_cents": " 1 250 000,00 "}, True),
    ],
)
def test_above_the_threshold_the_figure_is_given_back_before_anything_is_signed(
    world: World, given: Mapping[str, str], taken: bool
) -> None:
    swap(world, dear)
    filed = world.filed(entitlement="releaser")
    found = world.approve("blerim", filed.request.id, Choice(read_back=given))
    if taken:
        assert not isinstance(found, Refused)
        assert bodies(world, "approval.signed")[0]["read_back"] == ["amount_cents"]
        return
    assert isinstance(found, Refused)
    assert (found.code, found.field) == ("read_back", "read_back.amount_cents")
    with world.broker.read() as view:
        assert view.require(AccessRequest, filed.request.id).state == RequestState.PENDING


def test_below_it_nothing_is_asked(world: World) -> None:
    swap(world, dear)
    filed = world.filed(entitlement="releaser", inputs={"order": "TR-000417", "amount_cents": 100_000_000})
    world.approved("blerim", filed.request.id)
    assert "read_back" not in bodies(world, "approval.signed")[0]


def test_refusing_needs_no_reading(world: World) -> None:
    swap(world, dear)
    filed = world.filed(entitlement="releaser")
    deny(world, "blerim", filed.request.id)


def test_everybody_who_was_asked_is_recorded_under_a_seal(world: World) -> None:
    filed = world.filed(entitlement="releaser")
    world.approved("blerim", filed.request.id)
    with world.broker.read() as view:
        rows = view.all(select(Asked).order_by(Asked.id))
    assert [(row.step, row.how, row.people) for row in rows] == [
        ("line", "everybody", [world.person("blerim")]),
        ("owner", "everybody", [world.person("drita")]),
    ]


# ---------------------------------------------------------------- drawn, and gone


def asked_in_turn(world: World) -> list[tuple[str, int]]:
    return [(body["how"], body["people"]) for body in bodies(world, "approval.asked") if body["step"] == "line"]


@pytest.mark.covers("R22", "R26")
@pytest.mark.parametrize("gone", ["hold", "group"])
def test_the_sweep_draws_another_in_the_place_of_who_was_drawn_and_cannot_sign_any_more(
    world: World, gone: str
) -> None:
    more_heads(world, "milan", "besa")

    def edit(rules: Rules) -> None:
        lot(people=1, others="may_not_sign")(rules)
        rules["release-payments"]["approve"]["distinct"] = ["person"]

    swap(world, edit)
    filed = world.filed(entitlement="releaser")
    (drawn,) = keys_of(world, told(world, filed.request.id))
    world.sweep()
    assert asked_in_turn(world) == [("drawn", 1)], "who was drawn can sign"
    if gone == "hold":
        world.hold(drawn)
    else:
        with world.broker.begin(LOCAL) as tx:
            people.end_member(tx, group_id="treasury-heads", member_id=world.person(drawn))
    world.sweep()
    world.sweep()
    assert asked_in_turn(world) == [("drawn", 1), ("drawn", 1)], "once"
    (other,) = keys_of(world, told(world, filed.request.id, due=True)) - {drawn}
    order = asking._drawn_order(
        world.broker,
        filed.request,
        Step("line", 1, ("treasury-heads",)),
        frozenset(world.person(key) for key in ("blerim", "milan", "besa")),
    )
    assert order[:2] == [world.person(drawn), world.person(other)], "the next of the same lot"
    world.approved(other, filed.request.id)
    grant = world.approved("drita", filed.request.id).grant
    assert grant is not None
    assert isinstance(open_lease(world.broker, world.current("arta"), grant.id), Opened)


@pytest.mark.covers("R22", "R26")
def test_nobody_is_drawn_for_who_left_the_group_undrawn_or_for_a_place_that_is_signed(world: World) -> None:
    more_heads(world, "milan", "besa")

    def two(rules: Rules) -> None:
        line = rules["release-payments"]["approve"]["steps"][0]
        line |= {"count": 2, "ask": {"people": 2, "others": "may_not_sign"}}
        rules["release-payments"]["approve"]["distinct"] = ["person"]

    swap(world, two)
    filed = world.filed(entitlement="releaser")
    first, second = sorted(keys_of(world, told(world, filed.request.id)))
    (left,) = {"blerim", "milan", "besa"} - {first, second}
    on_hold = world.hold(left)
    world.sweep()
    assert asked_in_turn(world) == [("drawn", 2)]
    with world.broker.begin(LOCAL) as tx:
        hold.release(tx, on_hold.id, by="test")
    world.approved(first, filed.request.id)
    world.sweep()
    assert asked_in_turn(world) == [("drawn", 2)], "who signed keeps the place"
    world.hold(second)
    world.sweep()
    assert asked_in_turn(world) == [("drawn", 2), ("drawn", 1)]
    world.approved(left, filed.request.id)


def test_a_damaged_draw_holds_up_no_other_request(world: World) -> None:
    more_heads(world, "milan")
    swap(world, lot(people=1))
    first = world.filed(entitlement="releaser")
    second = world.filed(entitlement="releaser", inputs={"order": "TR-000431", "amount_cents": 5})
    (drawn,) = keys_of(world, told(world, second.request.id))
    world.sql("UPDATE asked SET how = 'everybody' WHERE request_id = :id", id=first.request.id)
    world.hold(drawn)
    world.sweep()
    with world.broker.read() as view:
        rows = view.rows(select(Asked.request_id).where(Asked.step == "line", Asked.id.like("%/1"))).scalars().all()
    assert rows == [second.request.id]


def test_only_requests_by_lot_are_looked_at_when_the_register_changes(
    sqlite_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = sqlite_world.filed(entitlement="releaser").request
    sqlite_world.filed(entitlement="releaser", duration_s=900)
    sqlite_world.sql("UPDATE access_request SET terms = '[]' WHERE id = :id", id=damaged.id)
    looked: list[str] = []
    monkeypatch.setattr(asking, "_redraw", lambda broker, key: looked.append(key))
    assert asking.redraw(sqlite_world.broker) == 0
    assert looked == []
