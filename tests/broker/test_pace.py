"""Is it noticed when approvals are waved through, without ever blocking one? And what stands out about a request?"""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select

from jitaccess.broker import approve, notify, pace, request
from jitaccess.broker.approve import Approved, Choice
from jitaccess.broker.issue import Opened, open_lease
from jitaccess.broker.request import Ask, Filed
from jitaccess.broker.unusual import Changed, unusual
from jitaccess.domain.values import Refused
from jitaccess.proof.statements import Verdict
from jitaccess.store.tables import AccessRequest, DecisionPace, Outbox
from tests.support.policy_swap import Rules, swap
from tests.support.world import RELEASE, World


def ask(world: World, number: int, **parts: object) -> str:
    inputs = {"order": f"TR-{number:06}", "amount_cents": 5}
    return world.filed(entitlement="releaser", inputs=inputs, **parts).request.id


def opened(world: World, key: str, about: str) -> str:
    return pace.mark(world.broker, about, world.current(key).session.id, world.clock.now())


def times(world: World) -> list[tuple[str, int]]:
    with world.broker.read() as view:
        rows = view.all(select(DecisionPace).order_by(DecisionPace.id))
    return [(row.verdict, row.took_ms) for row in rows]


def noted(world: World) -> list[str]:
    with world.broker.read() as view:
        rows = view.all(select(Outbox).where(Outbox.kind == pace.HURRIED).order_by(Outbox.id))
    return [key for row in rows for key, person in world.seeded.people.items() if person == row.person_id]


def test_the_time_from_the_opened_page_to_the_signature_is_kept(world: World) -> None:
    request_id = ask(world, 1)
    mark = opened(world, "blerim", request_id)
    world.advance(timedelta(seconds=42))
    world.approved("blerim", request_id, Choice(opened=mark))
    assert times(world) == [("approve", 42_000)]
    with world.broker.read() as view:
        found = pace.pace_of(view, world.broker, world.person("blerim"))
    assert found == pace.Pace(world.person("blerim"), 1, 42.0, 0)


@pytest.mark.parametrize("wrong", ["another request", "another session", "made up", "too old", "none"])
def test_a_mark_that_is_not_of_this_page_counts_as_none(world: World, wrong: str) -> None:
    request_id = ask(world, 1)
    mark = opened(world, "blerim", request_id)
    world.advance(timedelta(minutes=2))
    match wrong:
        case "another request":
            mark = opened(world, "blerim", "0" * 26)
        case "another session":
            mark = opened(world, "drita", request_id)
        case "made up":
            mark = f"{int(mark.partition('.')[0]) - 9}.{mark.partition('.')[2]}"
        case "none":
            mark = ""
        case _:
            mark = pace.mark(
                world.broker,
                request_id,
                world.current("blerim").session.id,
                world.clock.now() - pace.LOOKS_AT_MOST - timedelta(seconds=1),
            )
    world.approved("blerim", request_id, Choice(opened=mark))
    assert times(world) == [("approve", 0)]


def test_a_refusal_is_timed_too_and_is_never_called_hurried(world: World) -> None:
    request_id = ask(world, 1)
    drita = world.current("drita")
    mark = opened(world, "drita", request_id)
    with world.broker.begin(drita.actor, lock=[(AccessRequest, request_id)]) as tx:
        assert isinstance(approve.deny(tx, world.broker, drita, request_id, mark=mark), AccessRequest)
    assert times(world) == [("deny", 0)]
    with world.broker.read() as view:
        assert pace.overview(view, world.broker) == []


def hurried_world(world: World, **limits: int) -> None:
    settings = world.broker.settings
    changed = settings.limits.model_copy(update={"hurried_least": 2} | limits)
    world.broker = replace(world.broker, settings=settings.model_copy(update={"limits": changed}))


def test_administrators_get_one_quiet_note_and_nothing_is_blocked(world: World) -> None:
    hurried_world(world)
    for number in range(4):
        assert isinstance(world.approve("blerim", ask(world, number)), Approved)
    assert sorted(noted(world)) == ["agim", "besa", "milan"]
    with world.broker.read() as view:
        row = view.first(select(Outbox).where(Outbox.kind == pace.HURRIED))
        assert row is not None
        letter = notify.render(view, world.broker, row)
    assert letter is not None
    assert "gave 4 of the last 4 approvals within 5 seconds. Nothing was blocked." in letter
    world.advance(pace.NOTE_EVERY + timedelta(seconds=1))
    world.approved("blerim", ask(world, 9))
    assert len(noted(world)) == 6


def test_who_looks_longer_half_of_the_time_is_not_spoken_of(world: World) -> None:
    hurried_world(world, hurried_percent=60, hurried_least=4)
    for number in range(4):
        request_id = ask(world, number)
        mark = opened(world, "blerim", request_id)
        world.advance(timedelta(seconds=5 if number % 2 else 4))
        world.approved("blerim", request_id, Choice(opened=mark))
    assert noted(world) == []
    with world.broker.read() as view:
        assert [(found.hurried, found.percent) for found in pace.overview(view, world.broker)] == [(2, 50)]


def test_old_times_are_forgotten(world: World) -> None:
    world.approved("blerim", ask(world, 1))
    world.advance(pace.KEPT + timedelta(seconds=1))
    blerim = world.current("blerim")
    with world.broker.begin(blerim.actor) as tx:
        assert pace.forget_old(tx) == 1
    with world.broker.begin(blerim.actor) as tx:
        pace.note(tx, world.broker, person_id="p", request_id="r", verdict=Verdict.APPROVE, opened=tx.now)
    assert len(times(world)) == 1


# ---------------------------------------------------------------- what stands out


def opening(world: World, done: Approved) -> None:
    assert done.grant is not None
    assert isinstance(open_lease(world.broker, world.current("arta"), done.grant.id), Opened)


def stands_out(world: World, request_id: str) -> tuple[bool, int | None]:
    with world.broker.read() as view:
        found = unusual(view, world.broker, view.require(AccessRequest, request_id))
    return found.first_time, found.usual_s


def test_a_first_request_says_so_and_shows_what_it_could_touch(world: World) -> None:
    world.filed(duration_s=600)
    request_id = ask(world, 1)
    with world.broker.read() as view:
        found = unusual(view, world.broker, view.require(AccessRequest, request_id))
    assert (found.first_time, found.usual_s, found.last, found.changed) == (True, None, None, ())
    assert found.touches is not None
    assert (found.touches.owner, found.touches.entitlement.risk) == ("Ministry of Infrastructure", "high")
    assert (found.touches.held, found.touches.others) == (1, 0)


def test_a_later_request_is_compared_with_the_last_and_the_longest(world: World) -> None:
    first = ask(world, 1, duration_s=600)
    world.approved("blerim", first)
    opening(world, world.approved("drita", first))
    world.advance(timedelta(minutes=1))
    second = ask(world, 2, duration_s=1800)
    with world.broker.read() as view:
        found = unusual(view, world.broker, view.require(AccessRequest, second))
    assert (found.first_time, found.usual_s) == (False, 600)
    assert found.last is not None
    assert found.last.id == first
    assert found.changed == (Changed("duration_s", 600, 1800), Changed("order", "TR-000001", "TR-000002"))


def test_what_is_filed_at_night_is_out_of_hours(world: World) -> None:
    day = ask(world, 1)
    world.advance(timedelta(hours=12))
    night = ask(world, 2)
    with world.broker.read() as view:
        said = [unusual(view, world.broker, view.require(AccessRequest, key)).out_of_hours for key in (day, night)]
    assert said == [False, True]


def test_longer_than_usual_is_longer_than_was_given_not_than_was_asked_for(world: World) -> None:
    first = ask(world, 1, duration_s=3600)
    world.approved("blerim", first, Choice(max_duration_s=60))
    opening(world, world.approved("drita", first))
    again = ask(world, 2, duration_s=3600)
    assert stands_out(world, again) == (False, 60)


def test_what_was_approved_and_never_opened_is_no_access_that_somebody_had(world: World) -> None:
    first = ask(world, 1, duration_s=3600)
    world.approved("blerim", first)
    world.approved("drita", first)
    world.advance(timedelta(minutes=15))
    world.sweep()
    assert stands_out(world, ask(world, 2, duration_s=3600)) == (True, None)


@pytest.mark.parametrize(("start", "out"), [("2026-11-29T02:00Z", True), ("2026-11-30T09:00Z", False)])
def test_out_of_hours_is_asked_of_the_time_when_it_would_begin(world: World, start: str, out: bool) -> None:
    def edit(rules: Rules) -> None:
        rules["release-payments"]["duration"]["start_within"] = "14d"

    swap(world, edit)
    wanted = Ask("treasury", "releaser", RELEASE, 600, "quarterly", datetime.fromisoformat(start))
    begun = world.begin_filing("arta", wanted)
    assert not isinstance(begun, Refused), begun
    arta = world.current("arta")
    with world.broker.begin(arta.actor, lock=request.lock_of(arta)) as tx:
        filed = request.complete_filing(
            tx, world.broker, arta, challenge_id=begun.challenge_id, response=world.answer("arta", begun)
        )
    assert isinstance(filed, Filed)
    with world.broker.read() as view:
        assert unusual(view, world.broker, view.require(AccessRequest, filed.request.id)).out_of_hours is out


def test_a_refused_approver_is_not_timed(world: World) -> None:
    request_id = ask(world, 1)
    assert isinstance(world.approve("drita", request_id), Refused)
    assert times(world) == []
