"""Is everything refused that no rule permits, whatever is written and whoever asks? Default deny, deny wins, no text breaks the loader."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitaccess.policy.conditions import Circumstances, Condition, ConditionFailed
from jitaccess.policy.evaluate import AccessContext, CredentialClass, Effect, PolicySet, Terms, decide, silence, speaks
from tests.support import policy_sets as sets

STEPS = ("line", "owner")
GROUPS = ("staff", "heads", "owners")
WINDOWS = {
    "early": {"days": ["mon", "tue"], "from": "00:00", "to": "11:00", "zone": "Europe/Belgrade"},
    "late": {"days": ["mon", "fri"], "from": "09:30", "to": "24:00", "zone": "UTC"},
}
CONDITIONS = (
    None,
    "true",
    "false",
    "person.on_hold",
    "request.duration_s <= 1200",
    "person.institution == target.owner",
    "1 / (request.duration_s - request.duration_s) == 1",
)
"""The last one is an ERROR whenever it is evaluated."""
FAILS = CONDITIONS[-1]

minutes = st.integers(1, 60)


@st.composite
def approvals(draw: st.DrawFn) -> Any:
    """Give `none`, or one or two steps that may share names but not people."""
    if draw(st.booleans()):
        return "none"
    names = draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=2, unique=True))
    steps = [
        {
            "name": name,
            "groups": draw(st.sampled_from([["heads"], ["heads", "owners"]])),
            "count": draw(st.integers(1, 3)),
        }
        for name in names
    ]
    if len(steps) == 2 and draw(st.booleans()):
        steps[1]["after"] = names[0]
    distinct = draw(st.lists(st.sampled_from(["person", "institution"]), max_size=2, unique=True))
    never = draw(
        st.lists(st.sampled_from(["subordinates_of_requester", "managers_of_requester"]), max_size=2, unique=True)
    )
    return {"steps": steps, "distinct": distinct, "never": never, "pending": f"{draw(minutes)}m"}


@st.composite
def rules(draw: st.DrawFn, name: str, *, calm: bool = False) -> dict[str, Any]:
    """Give one rule about `use` of `vault`; a calm one has no condition that fails, and leaves room beside others."""
    low, default, most = sorted(draw(st.tuples(minutes, minutes, minutes)))
    if calm:
        low, default, most = low % 5 + 1, default % 30 + 5, most % 30 + 35
    duration: dict[str, Any] = {"min": f"{low}m", "default": f"{default}m", "max": f"{most}m"}
    if draw(st.booleans()):
        duration["activate_within"] = f"{draw(minutes)}m"
    limits: dict[str, Any] = {}
    for limit in ("active_per_person", "per_day"):
        if draw(st.booleans()):
            limits[limit] = draw(st.integers(1, 4))
    return sets.rule(
        name,
        **{
            "for": {
                "groups": sorted(draw(st.sets(st.sampled_from(GROUPS), min_size=1, max_size=2))),
                "credential": draw(st.sampled_from(["any", "synced", "device_bound"])),
            },
            "during": draw(st.lists(st.sampled_from(sorted(WINDOWS)), max_size=1)),
            "duration": duration,
            "limits": limits,
            "when": draw(st.sampled_from(CONDITIONS[:-1] if calm else CONDITIONS)),
            "approve": draw(approvals()),
            "token": {"ttl": f"{draw(st.integers(1, 15))}m"},
        },
    )


@st.composite
def rule_lists(draw: st.DrawFn, most: int = 4, *, calm: bool = False) -> list[dict[str, Any]]:
    """Give some rules with ids of their own."""
    return [draw(rules(f"r{number}", calm=calm)) for number in range(draw(st.integers(1, most)))]


@st.composite
def contexts(draw: st.DrawFn, *, calm: bool = False) -> AccessContext:
    """Give somebody asking for `use` of `vault` some time on Monday; a calm one is often permitted."""
    if calm:
        who = sets.person("ana", *sorted(draw(st.sets(st.sampled_from(GROUPS), min_size=2))), institution="infra")
        return sets.context(
            who,
            credential=CredentialClass.ATTESTED,
            duration_s=draw(st.none() | st.integers(300, 2100)),
            now=sets.MONDAY + timedelta(minutes=draw(st.integers(0, 120))),
        )
    who = sets.person(
        "ana",
        *sorted(draw(st.sets(st.sampled_from(GROUPS)))),
        institution=draw(st.sampled_from(["mof", "infra"])),
        on_hold=draw(st.booleans()),
    )
    return sets.context(
        who,
        credential=draw(st.sampled_from(list(CredentialClass))),
        duration_s=draw(st.none() | st.integers(-60, 4000)),
        now=sets.MONDAY + timedelta(minutes=draw(st.integers(-540, 899))),
        active_count=draw(st.integers(0, 4)),
        today_count=draw(st.integers(0, 4)),
    )


def loaded(given_rules: list[dict[str, Any]], **sections: Any) -> PolicySet:
    return sets.policies(*given_rules, windows=WINDOWS, **sections)


@pytest.mark.covers("R22", "R27")
@given(rule_lists(), contexts(), st.data())
def test_what_is_permitted_was_permitted_by_a_rule(
    given_rules: list[dict[str, Any]], asked: AccessContext, draw: st.DataObject
) -> None:
    policies = loaded(given_rules)
    decision = decide(policies, asked)
    permitted = [one for one in given_rules if decide(loaded([one]), asked).effect is Effect.PERMIT]
    if decision.effect is Effect.PERMIT and asked.duration_s is not None:
        assert permitted
    if decision.effect is Effect.DENY:
        assert decision.reasons
        assert decision.terms is None
    else:
        assert decision.matched
        assert decision.terms is not None
        assert decision.terms.min_s <= decision.duration_s <= decision.terms.max_s
        assert asked.credential >= decision.terms.credential
        assert Terms.from_document(decision.terms.to_document()) == decision.terms
    for rule in policies.rules.values():
        assert speaks(rule, asked.person, asked.now) == (silence(rule, asked.person, asked.now) is None)
    stranger = replace(asked, entitlement=draw.draw(st.sampled_from(["own", "other"])))
    assert decide(policies, stranger).effect is Effect.DENY


@pytest.mark.covers("R22")
@given(rule_lists(calm=True), contexts(calm=True), st.sampled_from(["true", "person.id == 'ana'", FAILS]))
def test_deny_wins(given_rules: list[dict[str, Any]], asked: AccessContext, when: str) -> None:
    policies = loaded(given_rules, denials=[{"id": "stop", "when": when}])
    decision = decide(policies, asked)
    assert decision.effect is Effect.DENY
    if decide(loaded(given_rules), asked).effect is Effect.PERMIT:
        assert decision.denied_by == "stop"


@pytest.mark.covers("TRAP-8")
@given(
    st.sampled_from(
        ["input.x == {0}", "input.x > {0}", "[{0}, 1][input.x] == 1", "1 / input.x > {0}", "input.x % {0} == 0"]
    ),
    st.integers(-3, 3),
    st.one_of(st.none(), st.integers(-(2**70), 2**70), st.text(max_size=3), st.booleans()),
)
def test_a_condition_is_true_only_as_a_boolean(pattern: str, number: int, value: Any) -> None:
    condition = Condition(pattern.format(number), {"x": "integer"})
    inputs = {} if value is None else {"x": value}
    at = Circumstances(sets.person("ana"), "vault", "infra", "use", inputs, 60, sets.MONDAY)
    try:
        found = condition.holds(at)
    except ConditionFailed:
        return
    assert found in (True, False)
    assert isinstance(found, bool)
    assert isinstance(value, int), "a missing or mistyped input gave an answer"


@pytest.mark.covers("R27")
@given(st.text(max_size=200) | st.text(alphabet="abc:-[]{}#&*!|>'\"%@`, \n\t?019~<", max_size=200))
def test_any_text_loads_or_is_refused_with_a_place(text: str) -> None:
    assert all(problem.line >= 1 and problem.column >= 1 for problem in sets.load_problems({"p.yaml": text}))
