"""Do the laws of the policy language hold for any set of rules? Default deny, deny wins, strictest wins, order never matters."""

import copy
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from jitaccess.domain.approval import ApprovalTerms
from jitaccess.policy.change import ChangeClass, classify
from jitaccess.policy.conditions import Circumstances, Condition, ConditionFailed
from jitaccess.policy.evaluate import AccessContext, CredentialClass, Effect, PolicySet, Terms, decide, silence, speaks
from jitaccess.policy.load import load
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

LEAVES = (
    ("for", "groups"), ("for", "credential"), ("during",), ("when",), ("approve",), ("token", "ttl"), ("duration", "default"),
    ("duration", "max"), ("duration", "min"), ("duration", "activate_within"), ("limits", "per_day"), ("limits", "active_per_person"),
)  # fmt: skip
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
        steps[draw(st.integers(0, 1))]["after"] = names[1] if steps[0].get("after") else names[0]
        if steps[0].get("after") == names[0]:
            steps[0]["after"] = names[1]
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
                "credential": draw(st.sampled_from(["any", "synced", "device_bound", "attested"])),
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


def put(rule: dict[str, Any], other: dict[str, Any], path: tuple[str, ...]) -> None:
    """Take one term over from another rule; what is absent there is absent then."""
    for part in path[:-1]:
        rule, other = rule.setdefault(part, {}), other.get(part, {})
    rule.pop(path[-1], None)
    if path[-1] in other:
        rule[path[-1]] = other[path[-1]]


def loaded(given_rules: list[dict[str, Any]], **sections: Any) -> PolicySet:
    return sets.policies(*given_rules, windows=WINDOWS, **sections)


def optional_at_most(left: int | None, right: int | None) -> bool:
    return right is None or (left is not None and left <= right)


def asks_for_all(merged: ApprovalTerms | None, alone: ApprovalTerms | None) -> bool:
    """Say whether whoever meets the merged steps has met those of one rule."""
    if alone is None:
        return True
    return (
        merged is not None
        and merged.distinct >= alone.distinct
        and merged.never >= alone.never
        and all(
            any(
                (found.groups, found.institution) == (step.groups, step.institution) and found.count >= step.count
                for found in merged.steps
            )
            for step in alone.steps
        )
    )


def no_laxer(merged: Terms, alone: Terms) -> bool:
    return (
        merged.max_s <= alone.max_s
        and merged.min_s >= alone.min_s
        and merged.token_ttl_s <= alone.token_ttl_s
        and merged.credential >= alone.credential
        and optional_at_most(merged.pending_s, alone.pending_s)
        and optional_at_most(merged.active_per_person, alone.active_per_person)
        and optional_at_most(merged.per_day, alone.per_day)
        and (merged.activate_within_s or 0) <= (alone.activate_within_s or 0)
        and asks_for_all(merged.approval, alone.approval)
    )


@pytest.mark.covers("R22")
@given(rule_lists(), st.randoms(use_true_random=False), contexts())
def test_the_order_of_files_and_rules_never_matters(
    given_rules: list[dict[str, Any]], chance: Any, asked: AccessContext
) -> None:
    one = loaded(given_rules)
    shuffled = copy.deepcopy(given_rules)
    chance.shuffle(shuffled)
    cut = chance.randrange(len(shuffled) + 1)
    base = sets.document(*shuffled[:cut], windows=WINDOWS)
    more = {"version": 1, "rules": shuffled[cut:]}
    names = ["a.yaml", "b.yaml"]
    chance.shuffle(names)
    other = load({names[0]: sets.text(base), names[1]: sets.text(more)})
    assert one.digest == other.digest
    assert decide(one, asked) == decide(other, asked)


@pytest.mark.covers("R22")
@given(rule_lists(calm=True), contexts(calm=True))
def test_rules_together_never_permit_more_than_each_that_speaks(
    given_rules: list[dict[str, Any]], asked: AccessContext
) -> None:
    together = decide(loaded(given_rules), asked)
    event(together.effect.value)
    if together.effect is Effect.DENY:
        return
    assert together.terms is not None
    fixed = replace(asked, duration_s=together.duration_s)
    for one in given_rules:
        alone = decide(loaded([one]), fixed)
        if one["id"] in together.matched:
            assert alone.effect is Effect.PERMIT
            assert alone.terms is not None
            assert no_laxer(together.terms, alone.terms)
        else:
            assert alone.effect is Effect.DENY


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
@given(rule_lists(), contexts(), st.sampled_from(["true", "person.id == 'ana'", FAILS]))
def test_deny_wins(given_rules: list[dict[str, Any]], asked: AccessContext, when: str) -> None:
    policies = loaded(given_rules, denials=[{"id": "stop", "when": when}])
    decision = decide(policies, asked)
    assert decision.effect is Effect.DENY
    if decide(loaded(given_rules), asked).effect is Effect.PERMIT:
        assert decision.denied_by == "stop"


@pytest.mark.covers("TRAP-8")
@given(rule_lists(), contexts())
def test_a_condition_that_fails_never_permits(given_rules: list[dict[str, Any]], asked: AccessContext) -> None:
    failing = [sets.rule("broken", **{"for": {"groups": list(GROUPS)}, "when": FAILS}), *given_rules]
    assert decide(loaded(failing), asked).effect is Effect.DENY


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


@pytest.mark.covers("R22", "R29")
@given(rule_lists(3, calm=True), st.data(), contexts(calm=True))
def test_what_is_called_narrowing_never_permits_more(
    given_rules: list[dict[str, Any]], draw: st.DataObject, asked: AccessContext
) -> None:
    changed = copy.deepcopy(given_rules)
    number = draw.draw(st.integers(0, len(changed) - 1))
    if draw.draw(st.integers(0, 9)) == 0:
        del changed[number]
    else:
        other = draw.draw(rules(changed[number]["id"], calm=True))
        path = draw.draw(st.sampled_from(LEAVES))
        put(changed[number], other, path)
    before, after = loaded(given_rules), loaded(changed)
    kind = classify(before, after).kind
    now = decide(after, asked)
    event(f"{kind.value} {now.effect.value}")
    if kind is ChangeClass.NARROWING and now.effect is Effect.PERMIT:
        was = decide(before, replace(asked, duration_s=now.duration_s))
        assert was.effect is Effect.PERMIT
        assert was.terms is not None
        assert now.terms is not None
        assert asks_for_all(now.terms.approval, was.terms.approval)
        assert now.terms.max_s <= was.terms.max_s
        assert now.terms.token_ttl_s <= was.terms.token_ttl_s
