"""Does an explanation list every rule with its first failing term, where each term came from, and who could sign?"""

import pytest

from jitaccess.domain.register import RegisterView
from jitaccess.policy.evaluate import Code, Effect, decide
from jitaccess.policy.explain import RuleVerdict, explain
from tests.support.policy_sets import approve, context, person, policies, register, rule

HEAD = {"name": "head", "groups": ["heads"], "count": 1}
OWNER = {"name": "owner", "institution": "owner", "count": 1, "after": "head"}
ANA = person("ana", "staff", manager="ben")


def people() -> RegisterView:
    return register(
        ANA,
        person("ben", "heads"),
        person("cem", "heads"),
        person("zoe", institution="infra"),
        person("yan", institution="infra", on_hold=True),
    )


def failures(*verdicts: RuleVerdict) -> dict[str, tuple[Code, str] | None]:
    assert all(verdict.failure is None or verdict.failure.rule == verdict.rule for verdict in verdicts)
    return {
        verdict.rule: (verdict.failure.code, verdict.failure.about) if verdict.failure else None for verdict in verdicts
    }


@pytest.mark.covers("R28")
def test_every_rule_is_listed_with_its_first_failing_term() -> None:
    weak = {"groups": ["staff"], "credential": "device_bound"}
    found = policies(
        rule("a-plain"),
        rule("b-group", **{"for": {"groups": ["heads", "boards"]}}, when="false"),
        rule("c-hours", during=["night"], when="false"),
        rule("d-input", ask=[{"name": "n", "type": "integer", "min": 6, "max": 9}], when="false"),
        rule("e-missing", ask=[{"name": "m", "type": "boolean"}]),
        rule("f-false", when="person.unit == 'other'", limits={"per_day": 1}),
        rule("g-fails", when="1 / (request.duration_s - 60) == 1"),
        rule("h-weak", **{"for": weak}, duration={"min": "2m", "default": "2m", "max": "1h"}),
        rule("i-short", duration={"min": "2m", "default": "2m", "max": "1h"}),
        rule("j-long", duration={"default": "30s", "max": "30s"}),
        rule("k-active", limits={"active_per_person": 1, "per_day": 1}),
        rule("l-day", limits={"per_day": 1}),
        rule("m-other", to={"target": "vault", "entitlements": ["own"]}),
        windows={"night": {"days": ["sun"], "from": "00:00", "to": "06:00", "zone": "UTC"}},
    )
    asked = context(inputs={"n": 5}, duration_s=60, active_count=1, today_count=1)
    explained = explain(found, asked, people())
    assert failures(*explained.rules) == {
        "a-plain": None,
        "b-group": (Code.NOT_IN_GROUP, "boards, heads"),
        "c-hours": (Code.OUTSIDE_HOURS, "night"),
        "d-input": (Code.INVALID_INPUT, "n"),
        "e-missing": (Code.MISSING_INPUT, "m"),
        "f-false": (Code.CONDITION_FALSE, ""),
        "g-fails": (Code.CONDITION_FAILED, ""),
        "h-weak": (Code.CREDENTIAL_TOO_WEAK, "device_bound"),
        "i-short": (Code.TOO_SHORT, "120"),
        "j-long": (Code.TOO_LONG, "30"),
        "k-active": (Code.ACTIVE_LIMIT, "1"),
        "l-day": (Code.DAY_LIMIT, "1"),
    }
    assert explained.decision == decide(found, asked)
    assert explained.decision.effect is Effect.DENY
    assert (explained.origins, explained.signers, explained.reachable) == ({}, {}, True)


@pytest.mark.covers("R28")
def test_each_term_names_the_rules_it_came_from() -> None:
    found = policies(
        rule("long", duration={"default": "30m", "max": "1h"}, limits={"per_day": 4}, approve=approve(HEAD)),
        rule("short", duration={"default": "30m", "max": "40m"}, approve=approve(HEAD | {"groups": ["owners"]})),
    )
    origins = explain(found, context(ANA), people()).origins
    assert origins["max_s"] == ("short",)
    assert origins["default_s"] == ("long", "short")
    assert origins["per_day"] == ("long",)
    assert (origins["step:head"], origins["step:head+"]) == (("long",), ("short",))
    assert "active_per_person" not in origins


@pytest.mark.covers("R21", "R28")
def test_who_could_sign_is_named_by_step() -> None:
    found = policies(rule(approve=approve(HEAD, OWNER, never=["managers_of_requester"])))
    explained = explain(found, context(ANA), people())
    assert {step: [one.id for one in able] for step, able in explained.signers.items()} == {
        "head": ["cem"],
        "owner": ["zoe"],
    }
    assert explained.reachable


def test_too_few_signers_are_told() -> None:
    found = policies(rule(approve=approve(HEAD | {"count": 2}, never=["managers_of_requester"])))
    assert not explain(found, context(ANA), people()).reachable


def test_an_unknown_target_has_no_rules() -> None:
    explained = explain(policies(rule()), context(ANA, target="other"), people())
    assert explained.rules == ()
    assert explained.decision.reasons[0].code is Code.UNKNOWN_TARGET


def test_who_is_asked_and_who_is_asked_later_are_named() -> None:
    asked = approve(
        {**HEAD, "ask": {"people": 1, "others": "may_not_sign"}},
        escalate=[{"after": "20m", "to": ["staff"]}, {"after": "40m", "to": ["heads"]}],
    )
    found = explain(policies(rule("one", approve=asked)), context(ANA), people())
    head = found.asked["head"]
    assert (head.drawn, head.others) == (1, False)
    assert [(later.after_s, [one.id for one in later.people]) for later in head.later] == [(1200, []), (2400, [])]
    with_boards = register(*people().persons.values(), person("bea", "boards"))
    later = approve(HEAD, escalate=[{"after": "20m", "to": ["boards"]}])
    told = explain(policies(rule("one", approve=later)), context(ANA), with_boards).asked["head"]
    assert (told.drawn, told.others) == (None, True)
    assert [(one.after_s, [who.id for who in one.people]) for one in told.later] == [(1200, ["bea"])]
