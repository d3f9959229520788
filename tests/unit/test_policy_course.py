"""The terms around a grant: are they read, merged to the strictest, explained, and is a change of them classified?"""

import copy
from datetime import timedelta
from typing import Any

import pytest

from jitaccess.policy.change import ChangeClass, classify
from jitaccess.policy.course import PLAIN, Course
from jitaccess.policy.evaluate import Code, Effect, Extending, Holding, Terms, decide
from jitaccess.policy.explain import explain
from tests.support.policy_sets import MONDAY, context, person, policies, problems, register, rule

NARROWING, WIDENING = ChangeClass.NARROWING, ChangeClass.WIDENING
OWN = {"target": "vault", "entitlements": ["own"]}


def conflict(within: str = "30d", **parts: Any) -> dict[str, Any]:
    return {"entitlement": "own", "within": within} | parts


def had(ago: timedelta = timedelta(), entitlement: str = "own") -> tuple[Holding, ...]:
    return (Holding("vault", entitlement, MONDAY - ago if ago else None),)


def told(*rules: dict[str, Any], **parts: Any) -> list[str]:
    return [f"{found.path}: {found.message}" for found in problems(*rules, **parts)]


def kind(was: dict[str, Any], now: dict[str, Any]) -> ChangeClass:
    return classify(policies(rule(**was)), policies(rule(**now))).kind


def test_what_no_rule_uses_is_in_no_document() -> None:
    found = decide(policies(rule()), context())
    assert found.terms is not None
    assert found.terms.course is PLAIN
    assert set(found.terms.to_document()) == {
        "min_s", "max_s", "default_s", "activate_within_s", "pending_s", "credential", "token_ttl_s", "active_per_person",
        "per_day",
    }  # fmt: skip
    assert Course.from_document({}) is PLAIN


# ---------------------------------------------------------------- conflicts


@pytest.mark.covers("R22")
@pytest.mark.parametrize(
    ("ago", "effect"),
    [
        (timedelta(), Effect.DENY),
        (timedelta(days=30) - timedelta(seconds=1), Effect.DENY),
        (timedelta(days=30), Effect.PERMIT),
    ],
)
def test_what_must_not_be_in_one_hand_is_denied_for_its_time(ago: timedelta, effect: Effect) -> None:
    found = decide(policies(rule(conflicts=[conflict()])), context(held=had(ago)))
    assert found.effect is effect
    if effect is Effect.DENY:
        assert [(reason.code, reason.about) for reason in found.reasons] == [(Code.CONFLICT, "vault/own")]


@pytest.mark.covers("R22")
def test_a_conflict_holds_also_on_the_side_where_it_is_not_written() -> None:
    found = policies(rule(conflicts=[conflict()]), rule("other", to=OWN))
    asked = context(entitlement="own", held=had(timedelta(days=1), "use"))
    assert decide(found, asked).reasons[0].about == "vault/use"
    assert {(one.target, one.entitlement) for one in found.watched("vault", "own")} == {("vault", "use")}


def test_the_longest_time_of_all_rules_wins_and_the_terms_name_every_conflict() -> None:
    found = policies(rule("a", conflicts=[conflict("1d")]), rule("b", conflicts=[conflict("2d")]), rule("c"))
    permitted = decide(found, context())
    assert permitted.terms is not None
    document = permitted.terms.to_document()
    assert document["conflicts"] == [{"target": "vault", "entitlement": "own", "within_s": 172_800}]
    assert Terms.from_document(document) == permitted.terms
    assert decide(found, context(held=had(timedelta(hours=36)))).effect is Effect.DENY


def test_a_conflict_is_explained_as_the_term_that_failed_and_with_its_origin() -> None:
    found = policies(rule("a", conflicts=[conflict()]), rule("b"))
    people = register(person("ana", "staff"))
    denied = explain(found, context(held=had()), people)
    assert [(verdict.rule, verdict.failure.code if verdict.failure else None) for verdict in denied.rules] == [
        ("a", Code.CONFLICT),
        ("b", None),
    ]
    assert explain(found, context(), people).origins["conflicts"] == ("a",)


@pytest.mark.covers("R27")
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (conflict(entitlement="onw"), 'conflicts[0].entitlement: unknown entitlement "onw"; did you mean "own"?'),
        (conflict(target="vualt"), 'conflicts[0].target: unknown target "vualt"; did you mean "vault"?'),
        (conflict(entitlement="use"), "conflicts[0].entitlement: a rule cannot conflict with what it gives itself"),
        (conflict(within="0d"), "conflicts[0].within: a duration is more than zero and at most 90d"),
        (conflict(withn="1d"), 'conflicts[0].withn: unknown key: "withn"; did you mean "within"?'),
    ],
)
def test_a_conflict_that_cannot_mean_what_it_says_is_refused(wrong: dict[str, Any], message: str) -> None:
    assert f"rules[0].{message}" in told(rule(conflicts=[wrong]))


def test_a_conflict_that_stands_twice_is_refused() -> None:
    twice = rule(conflicts=[conflict(), conflict("1d", target="vault")])
    assert told(twice) == ['rules[0].conflicts[1].entitlement: the conflict with "own" stands twice']


@pytest.mark.covers("R29")
@pytest.mark.parametrize(
    ("was", "now", "expected"),
    [
        ([], [conflict()], NARROWING),
        ([conflict("1d")], [conflict("2d")], NARROWING),
        ([conflict("2d")], [conflict("1d")], WIDENING),
        ([conflict()], [], WIDENING),
    ],
)
def test_more_and_longer_conflicts_narrow(was: list[Any], now: list[Any], expected: ChangeClass) -> None:
    assert kind({"conflicts": was}, {"conflicts": now}) is expected


# ---------------------------------------------------------------- a start in the future

NIGHTS = {"hours": {"days": ["tue"], "from": "20:00", "to": "22:00", "zone": "UTC"}}
SOON = {"default": "30m", "max": "1h", "start_within": "2d"}


@pytest.mark.parametrize(
    ("terms", "ahead", "code"),
    [
        ({}, timedelta(), None),
        ({}, timedelta(seconds=1), Code.START_TOO_FAR),
        ({"start_within": "2d"}, timedelta(days=2), None),
        ({"start_within": "2d"}, timedelta(days=2, seconds=1), Code.START_TOO_FAR),
        ({"start_within": "2d"}, timedelta(days=-2), None),
    ],
)
def test_a_start_lies_no_farther_ahead_than_the_rule_says(terms: dict[str, Any], ahead: timedelta, code: Any) -> None:
    one = rule(duration={"default": "30m", "max": "1h", **terms})
    found = decide(policies(one), context(start=MONDAY + ahead))
    assert (found.reasons[0].code if found.reasons else None) is code


def test_hours_and_conditions_are_those_of_the_start() -> None:
    night = policies(
        rule(during=["hours"], duration=SOON, when="now > timestamp('2026-11-24T00:00:00Z')"), windows=NIGHTS
    )
    tuesday = MONDAY + timedelta(days=1, hours=11)
    assert decide(night, context()).reasons[0].code is Code.OUTSIDE_HOURS
    assert decide(night, context(start=tuesday)).effect is Effect.PERMIT
    assert decide(night, context(start=tuesday + timedelta(hours=2))).reasons[0].code is Code.OUTSIDE_HOURS


def test_a_conflict_is_counted_up_to_the_start_and_what_is_live_always_counts() -> None:
    found = policies(rule(conflicts=[conflict("1d")], duration=SOON))
    start = MONDAY + timedelta(days=2)
    assert decide(found, context(start=start, held=had(timedelta(hours=1)))).effect is Effect.PERMIT
    assert decide(found, context(start=start, held=had())).reasons[0].code is Code.CONFLICT


def test_the_nearest_start_of_all_rules_counts_and_silence_means_now() -> None:
    week = SOON | {"start_within": "7d"}
    both = decide(policies(rule("a", duration=SOON), rule("b", duration=week)), context())
    assert both.terms is not None
    assert both.terms.to_document()["start_within_s"] == 172_800
    one = decide(policies(rule("a", duration=SOON), rule("b")), context())
    assert one.terms is not None
    assert one.terms.course is PLAIN


@pytest.mark.covers("R29")
@pytest.mark.parametrize(
    ("was", "now", "expected"),
    [("2d", "1d", NARROWING), ("1d", "2d", WIDENING), ("1d", None, NARROWING), (None, "1d", WIDENING)],
)
def test_a_farther_start_widens(was: str | None, now: str | None, expected: ChangeClass) -> None:
    def terms(within: str | None) -> dict[str, Any]:
        return {"duration": {"default": "30m", "max": "1h"} | ({"start_within": within} if within else {})}

    assert kind(terms(was), terms(now)) is expected


# ---------------------------------------------------------------- extensions, ends, witnesses, delays

FULL: dict[str, Any] = {
    "duration": {
        "default": "30m", "max": "1h", "extensions": {"count": 2, "total": "3h"}, "end": "soft", "grace": "10m",
        "warn": "5m",
    },
    "notify": {"witnesses": ["heads"], "on": ["filed", "ended"]},
    "delay": {"time_lock": "15m", "veto": ["owner", "heads"]},
}  # fmt: skip
FULL_DOCUMENT = {
    "extensions": {"count": 2, "total_s": 10_800},
    "grace_s": 600,
    "warn_s": 300,
    "notify": {"ended": ["heads"], "filed": ["heads"]},
    "delay": {"time_lock_s": 900, "veto": ["heads", "owner"]},
}
PEOPLE = register(person("ana", "staff"), person("hed", "heads"), person("own", institution="infra"))


def course(*rules: dict[str, Any]) -> dict[str, Any]:
    found = decide(policies(*rules), context())
    assert found.terms is not None
    assert Terms.from_document(found.terms.to_document()) == found.terms
    return found.terms.course.to_document()


def test_every_term_is_read_and_written() -> None:
    assert course(rule(**FULL)) == FULL_DOCUMENT
    assert policies(rule(**FULL), register=PEOPLE).warnings == ()


def test_what_gives_is_merged_to_the_least_and_what_restricts_to_the_most() -> None:
    other = {
        "duration": {
            "default": "30m", "max": "1h", "extensions": {"count": 3, "total": "2h"}, "end": "soft", "grace": "5m",
            "warn": "9m",
        },
        "notify": {"witnesses": ["owners"], "on": ["ended"]},
        "delay": {"time_lock": "5m", "veto": ["owners"]},
    }  # fmt: skip
    assert course(rule("a", **FULL), rule("b", **other)) == {
        "extensions": {"count": 2, "total_s": 7_200},
        "grace_s": 300,
        "warn_s": 540,
        "notify": {"ended": ["heads", "owners"], "filed": ["heads"]},
        "delay": {"time_lock_s": 900, "veto": ["heads", "owner", "owners"]},
    }
    # A rule that says nothing of extensions and of a soft end allows none.
    assert course(rule("a", **FULL), rule("b")) == {
        name: value for name, value in FULL_DOCUMENT.items() if name not in ("extensions", "grace_s")
    }


@pytest.mark.parametrize(
    ("extending", "duration_s", "code"),
    [
        (Extending(0, 3_600), 3_600, None),
        (Extending(1, 7_200), 3_600, None),
        (Extending(1, 7_201), 3_600, Code.EXTENSION_TOTAL),
        (Extending(2, 3_600), 60, Code.EXTENSION_LIMIT),
        (Extending(0, 3_600), 3_601, Code.TOO_LONG),
    ],
)
def test_extensions_are_bounded_in_number_length_and_sum(extending: Extending, duration_s: int, code: Any) -> None:
    asked = context(extending=extending, duration_s=duration_s, start=MONDAY + timedelta(hours=1))
    found = decide(policies(rule(**FULL)), asked)
    assert (found.reasons[0].code if found.reasons else None) is code


def test_without_the_term_nothing_is_extended() -> None:
    assert decide(policies(rule()), context(extending=Extending(0, 60))).reasons[0].code is Code.NOT_EXTENDABLE


def duration(**parts: Any) -> dict[str, Any]:
    return rule(duration={"default": "30m", "max": "1h"} | parts)


@pytest.mark.covers("R27")
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (duration(end="soft"), "duration: `end: soft` and `grace` go together"),
        (duration(grace="5m"), "duration: `end: soft` and `grace` go together"),
        (duration(end="weak"), "duration.end: found \"weak\", expected 'hard' or 'soft'"),
        (
            duration(end="soft", grace="7h1m"),
            'duration.grace: with `max` longer than the entitlement "use" allows (8h)',
        ),
        (duration(extensions={"count": 0, "total": "2h"}), "duration.extensions.count: found 0, expected greater than"),
        (duration(extensions={"count": 1, "total": "30m"}), "duration: the `total` of `extensions` leaves no room"),
        (duration(extensions={"count": 1, "total": "9h"}), "duration.extensions.total: longer than the entitlement"),
        (
            duration(extensions={"cout": 1, "total": "2h"}),
            'duration.extensions.cout: unknown key: "cout"; did you mean',
        ),
        (rule(delay={"time_lock": "5"}), "delay.time_lock: found '5', expected a duration with units"),
        (rule(delay={"time_lock": "5m", "vetoes": []}), 'delay.vetoes: unknown key: "vetoes"; did you mean "veto"?'),
        (
            rule(delay={"time_lock": "5m", "veto": ["haeds"]}),
            'delay.veto[0]: unknown group "haeds"; did you mean "heads"?',
        ),
        (rule(delay={"time_lock": "5m", "veto": ["owners"]}), 'delay.veto[0]: "owners" is nobody who could veto'),
        (rule(notify={"witnesses": []}), "notify.witnesses: found a list, expected"),
        (rule(notify={"witnesses": ["haeds"]}), 'notify.witnesses[0]: unknown group "haeds"; did you mean "heads"?'),
        (rule(notify={"witnesses": ["heads"], "on": ["opened"]}), "notify.on[0]: found \"opened\", expected 'filed'"),
    ],
)
def test_terms_that_cannot_mean_what_they_say_are_refused_at_their_place(wrong: dict[str, Any], message: str) -> None:
    found = "\n".join(told(wrong, register=PEOPLE))
    assert f"rules[0].{message}" in found
    assert all(problem.line > 1 and problem.column > 1 for problem in problems(wrong, register=PEOPLE))


def test_witnesses_that_nobody_is_among_are_a_warning() -> None:
    (warning,) = policies(rule(notify={"witnesses": ["owners"]}), register=PEOPLE).warnings
    assert 'nobody is in "owners" to be told' in warning.message


@pytest.mark.covers("R29")
@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("duration.extensions", None, NARROWING),
        ("duration.extensions", {"count": 1, "total": "3h"}, NARROWING),
        ("duration.extensions", {"count": 3, "total": "2h"}, WIDENING),
        ("duration.grace", "9m", NARROWING),
        ("duration.grace", "11m", WIDENING),
        ("duration.warn", "6m", NARROWING),
        ("duration.warn", None, WIDENING),
        ("notify", None, WIDENING),
        ("notify", {"witnesses": ["heads"], "on": ["filed", "ended", "held"]}, NARROWING),
        ("notify", {"witnesses": ["owners"], "on": ["filed", "ended"]}, WIDENING),
        ("delay", None, WIDENING),
        ("delay", {"time_lock": "20m", "veto": ["owner", "heads", "owners"]}, NARROWING),
        ("delay", {"time_lock": "20m", "veto": ["owner"]}, WIDENING),
        ("delay", {"time_lock": "10m", "veto": ["owner", "heads"]}, WIDENING),
    ],
)
def test_changes_of_the_course_are_classified(path: str, value: Any, expected: ChangeClass) -> None:
    changed = copy.deepcopy(FULL)
    *parents, last = path.split(".")
    place = changed[parents[0]] if parents else changed
    if value is None:
        del place[last]
    else:
        place[last] = value
    assert kind(FULL, changed) is expected
    if path != "duration.warn":
        assert kind({}, FULL) is WIDENING
