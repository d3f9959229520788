"""What would another policy have decided about the past, and what do the desks read of the register?"""

from datetime import timedelta
from typing import Any

import pytest

from jitaccess.broker import health, offers, replay, restore, roster
from jitaccess.broker.health import Finding, Level
from jitaccess.broker.replay import Difference
from jitaccess.broker.request import Ask, Filed, complete_filing
from jitaccess.broker.sweep import Ticker
from jitaccess.errors import JitError
from jitaccess.identity import people
from jitaccess.identity.passkeys import Ceremony
from jitaccess.policy.evaluate import PolicySet
from jitaccess.store.tables import Person
from tests.support.candidates import document_without
from tests.support.world import World


def replayed(world: World, document: dict[str, Any]) -> replay.Replay:
    """Replay the past under a document."""
    with world.broker.read() as view:
        active = world.broker.policies.active(view)
        return replay.replay(view, active=active, candidate=PolicySet.from_document(document))


def active_document(world: World) -> dict[str, Any]:
    """Give a copy of the active document."""
    return document_without(world)


def test_the_same_policy_decides_alike(world: World) -> None:
    world.filed()
    world.filed(entitlement="releaser")
    found = replayed(world, active_document(world))
    assert (found.looked_at, found.same, found.changed) == (2, 2, ())


def test_each_difference_is_named(world: World) -> None:
    world.filed(duration_s=7200)
    world.filed(entitlement="releaser")
    rules = active_document(world)["rules"]

    def with_(rule: str, **terms: Any) -> dict[Difference, int]:
        document = active_document(world)
        document["rules"][rule] = rules[rule] | terms
        counts = replayed(world, document).counts()
        return {difference: count for difference, count in counts.items() if count}

    assert replayed(world, document_without(world, "look-at-payments")).counts()[Difference.REFUSED] == 1
    assert with_("look-at-payments", max_s=3600, default_s=3600) == {Difference.REFUSED: 1}
    assert with_("look-at-payments", token_ttl_s=60) == {Difference.OTHER_TERMS: 1}
    fewer = rules["release-payments"]["approve"] | {"steps": rules["release-payments"]["approve"]["steps"][:1]}
    assert with_("release-payments", approve=fewer) == {Difference.FEWER_SIGNATURES: 1}
    assert with_("look-at-payments", approve=rules["release-payments"]["approve"]) == {Difference.MORE_SIGNATURES: 1}


def test_limits_count_what_was_live_then(world: World) -> None:
    for _ in range(2):
        world.filed(reason="first or second look")
        world.advance(timedelta(minutes=1))
    document = active_document(world)
    document["rules"]["look-at-payments"]["active_per_person"] = 1
    found = replayed(world, document)
    # The newest first: the second came while the first was open.
    assert [one.difference for one in found.changed] == [Difference.REFUSED, Difference.OTHER_TERMS]
    assert found.changed[0].then.reasons[0].code == "active_limit"


def test_extensions_starts_and_separate_duties_are_those_of_then(world: World) -> None:
    current = world.current("arta")
    first = world.filed().grant
    assert first is not None
    begun = world.begin_filing("arta", Ask("", "", {}, 900, "not finished yet", extends=first.id))
    assert isinstance(begun, Ceremony)
    with world.broker.begin(current.actor, lock=[(Person, current.person.id)]) as tx:
        done = complete_filing(
            tx, world.broker, current, challenge_id=begun.challenge_id, response=world.answer("arta", begun)
        )
    assert isinstance(done, Filed)
    world.advance(timedelta(minutes=1))
    world.filed(entitlement="releaser")
    assert replayed(world, active_document(world)).changed == ()
    document = active_document(world)
    document["rules"]["look-at-payments"] |= {"active_per_person": 1, "per_day": 1}
    assert replayed(world, document).counts()[Difference.REFUSED] == 0
    del document["rules"]["look-at-payments"]["extensions"]
    assert replayed(world, document).counts()[Difference.REFUSED] == 1
    document = active_document(world)
    document["rules"]["release-payments"]["conflicts"] = [
        {"target": "treasury", "entitlement": "viewer", "within_s": 60}
    ]
    (refused,) = [one for one in replayed(world, document).changed if one.difference is Difference.REFUSED]
    assert (refused.entitlement, refused.then.reasons[0].code) == ("releaser", "conflict")


def test_the_past_is_looked_at_page_by_page_the_newest_first(world: World) -> None:
    for number in range(3):
        world.filed(duration_s=600 + 60 * number)
    with world.broker.read() as view:
        active = world.broker.policies.active(view)
        first = replay.replay(view, active=active, candidate=active, most=2)
        rest = replay.replay(view, active=active, candidate=active, most=2, before=first.older or "")
    assert (first.looked_at, first.total, rest.looked_at, rest.total) == (2, 3, 1, 3)
    assert rest.older is None
    assert first.oldest_at is not None
    assert rest.newest_at is not None
    assert first.oldest_at >= rest.newest_at


def test_what_ended_long_before_a_page_still_counts_where_it_is_kept_apart(world: World) -> None:
    world.filed(duration_s=600)
    world.advance(timedelta(minutes=20))
    world.sweep()
    world.advance(timedelta(days=3))
    world.filed(entitlement="releaser")

    def refused(within: timedelta) -> int:
        document = active_document(world)
        document["rules"]["release-payments"]["conflicts"] = [
            {"target": "treasury", "entitlement": "viewer", "within_s": int(within.total_seconds())}
        ]
        with world.broker.read() as view:
            active, candidate = world.broker.policies.active(view), PolicySet.from_document(document)
            found = replay.replay(view, active=active, candidate=candidate, most=1)
        return found.counts()[Difference.REFUSED]

    assert refused(timedelta(days=30)) == 1
    assert refused(timedelta(days=2)) == 0


def test_choices_know_limits_holds_and_waiting_requests(world: World) -> None:
    current = world.current("arta")

    def choice(entitlement: str) -> offers.Choice:
        with world.broker.read() as view:
            return offers.choice(view, world.broker, current, target="treasury", entitlement=entitlement)

    assert choice("releaser").open
    waiting = world.filed(entitlement="releaser")
    assert choice("releaser").pending_id == waiting.request.id
    assert choice("releaser").used == 1
    for number in range(3):
        filed = world.filed(entitlement="releaser", duration_s=660 + 60 * number)
        world.approved("blerim", filed.request.id)
        world.approved("drita", filed.request.id)
    locked = choice("releaser")
    assert not locked.open
    assert locked.missing is not None
    assert locked.missing.code == "active_limit"


def test_hours_say_when_they_open_next(world: World) -> None:
    with world.broker.read() as view:
        rule = world.broker.policies.active(view).rules["read-payroll"]
        monday_noon = view.now.replace(hour=12, minute=0)
        opens = offers.next_opening([rule], monday_noon + timedelta(hours=8))
        assert opens == (monday_noon + timedelta(days=1)).replace(hour=7)  # eight in Belgrade
        friday_night = monday_noon + timedelta(days=4, hours=8)
        assert offers.next_opening([rule], friday_night) == (monday_noon + timedelta(days=7)).replace(hour=7)
        assert offers.next_opening([], view.now) is None


def test_health_names_what_is_wrong_and_what_is_well(world: World) -> None:
    def levels() -> dict[Finding, Level]:
        with world.broker.read() as view:
            return {found.what: found.level for found in health.findings(view, world.broker, restore.damaged(view))}

    world.broker.checkpoints.make()  # what was seeded waits to be numbered on PostgreSQL
    found = levels()
    assert set(found) == set(Finding) - {Finding.PILOT}
    assert found[Finding.GRANTING] == found[Finding.LOG] == found[Finding.STUCK] == Level.WELL
    assert found[Finding.SWEEP] == Level.ACT  # nothing ticks here
    assert found[Finding.SINGLE_PASSKEY] == Level.LOOK
    assert found[Finding.INDISPENSABLE] == Level.LOOK
    world.broker.may_grant.clear()
    found = levels()
    assert found[Finding.GRANTING] == Level.ACT


def test_the_register_is_searched_paged_and_compared(world: World) -> None:
    with world.broker.begin(world.current("agim").actor) as tx:
        for number in range(30):
            people.add_person(
                tx, name=f"Clerk {number:02d}", email=f"c{number}@mof.example", institution="mof", unit="desk"
            )
    with world.broker.read() as view:
        first = roster.search(view, "clerk")
        second = roster.search(view, "clerk", number=1)
        assert (first.total, len(first.persons), first.more) == (30, 25, True)
        assert (len(second.persons), second.more) == (5, False)
        assert roster.search(view, "CLERK c7@").persons[0].name == "Clerk 07"
        found = roster.dossier(view, world.person("arta"))
        assert found.manager is not None
        assert found.manager.id == world.person("blerim")
        assert len(found.accounts) == 2
        assert roster.changed_fields(found, {"unit": found.row.unit, "name": "Arta K", "manager_id": None}) == {
            "name": "Arta K",
            "manager_id": None,
        }
        assert roster.person_by_mail(view, "BLERIM.gashi@mof.example") == world.person("blerim")
        assert roster.person_by_mail(view, "nobody@example.org") is None
        with pytest.raises(JitError, match="no such person"):
            roster.dossier(view, "nobody")
        with pytest.raises(JitError, match="no such system"):
            roster.who_can_reach(view, world.broker, "nothing")


def test_the_clockwork_is_well_from_its_start_and_silent_once_it_stopped(world: World) -> None:
    def level() -> Level:
        with world.broker.read() as view:
            return next(
                one.level
                for one in health.findings(view, world.broker, restore.damaged(view))
                if one.what is Finding.SWEEP
            )

    assert level() is Level.ACT
    ticker = Ticker(world.broker)
    ticker.start()
    try:
        assert level() is Level.WELL
    finally:
        ticker.stop()
    world.advance(health.SILENT_SWEEP + timedelta(seconds=1))
    assert level() is Level.ACT
