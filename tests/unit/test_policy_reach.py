"""Who could obtain an entitlement, with whose help, and how few together?"""

from collections.abc import Mapping
from typing import Any

import pytest

from jitaccess.domain.approval import Lent
from jitaccess.domain.register import PersonView, RegisterView
from jitaccess.policy.evaluate import PolicySet
from jitaccess.policy.load import load
from jitaccess.policy.reach import Reach, reach, variants

HEAD = """
version: 1
institutions: {mof: {name: Finance}, infra: {name: Infrastructure}}
windows:
  day: {days: [mon], from: "08:00", to: "16:00", zone: UTC}
  morning: {days: [mon], from: "08:00", to: "12:00", zone: UTC}
targets:
  t:
    name: T
    owner: infra
    entitlements: {e: {label: E, max_duration: 2h}}
    connector: {kind: token, audience: "https://t.example"}
rules:
"""


def policy(rules: str) -> PolicySet:
    """Load a set with these rules."""
    return load({"p.yaml": HEAD + rules}, register=None)


def rule(name: str, group: str, *, approve: str = "none", more: str = "") -> str:
    """Write one rule."""
    return f"""
  - id: {name}
    for: {{groups: [{group}]}}
    to: {{target: t, entitlements: [e]}}
    duration: {{default: 30m, max: 1h}}
    approve: {approve}
    {more}
"""


TWO = "{steps: [{name: line, groups: [heads], count: 1}, {name: owner, institution: owner, count: 1}], distinct: [institution]}"
ONE = "{steps: [{name: line, groups: [heads], count: 1}]}"


def register(people: Mapping[str, tuple[str, set[str]]], **changes: Any) -> RegisterView:
    """Build a register of id -> (institution, groups)."""
    views = {
        key: PersonView(key, key, institution, "u", None, frozenset(groups), **changes.get(key, {}))
        for key, (institution, groups) in people.items()
    }
    return RegisterView(views, frozenset({"staff", "heads", "clerks"}))


STAFF = register({"a": ("mof", {"staff"}), "h": ("mof", {"heads"}), "o": ("infra", set()), "c": ("mof", {"clerks"})})


def answer(rules: str, people: RegisterView = STAFF) -> Reach:
    """Ask about the one entitlement."""
    return reach(policy(rules), people, target="t", entitlement="e")


def test_without_signatures_everybody_in_the_groups_is_alone_enough() -> None:
    found = answer(rule("r", "staff"))
    assert found.fewest == 1
    assert found.requesters == {"a"}
    assert found.ways[0].examples == (frozenset({"a"}),)
    assert found.helpers == frozenset()


def test_signatures_add_the_people_that_they_take() -> None:
    found = answer(rule("r", "staff", approve=TWO))
    assert found.fewest == 3
    assert found.ways[0].examples == (frozenset({"a", "h", "o"}),)
    assert [(step.name, step.signers) for step in found.ways[0].steps] == [("line", {"h"}), ("owner", {"o"})]
    assert found.helpers == {"h", "o"}


def test_somebody_who_may_ask_but_whom_nobody_can_sign_for_is_named_as_stuck() -> None:
    people = register({"a": ("mof", {"staff"}), "h": ("mof", {"staff", "heads"})})
    found = answer(rule("r", "staff", approve=ONE), people)
    assert found.requesters == {"a"}
    assert found.ways[0].stuck == {"h"}
    nobody = answer(rule("r", "staff", approve=TWO), people)
    assert nobody.fewest is None
    assert nobody.ways[0].stuck == {"a", "h"}


def test_people_who_cannot_act_count_neither_as_requesters_nor_as_helpers() -> None:
    people = register(
        {"a": ("mof", {"staff"}), "b": ("mof", {"staff"}), "h": ("mof", {"heads"})},
        b={"on_hold": True},
        h={"active": False},
    )
    found = answer(rule("r", "staff", approve=ONE), people)
    assert found.requesters == frozenset()
    assert found.ways[0].stuck == {"a"}


def test_rules_that_speak_together_are_one_way_with_the_strictest_terms() -> None:
    found = answer(rule("easy", "staff") + rule("hard", "staff", approve=ONE))
    assert [way.rules for way in found.ways] == [("easy", "hard")]
    assert found.fewest == 2


@pytest.mark.parametrize("silent", ["when: request.duration_s > 60", "during: [day]"])
def test_a_rule_that_may_be_silent_does_not_protect(silent: str) -> None:
    found = answer(rule("easy", "staff") + rule("hard", "staff", approve=ONE, more=silent))
    assert found.fewest == 1
    assert found.ways[0].rules == ("easy",)


def test_hours_within_hours_speak_together() -> None:
    rules = policy(
        rule("wide", "staff", approve=ONE, more="during: [day]") + rule("both", "staff", more="during: [day, morning]")
    ).rules
    found = variants(list(rules.values()))
    assert [tuple(one.id for one in together) for together in found] == [("wide",)]


def test_only_conditional_rules_may_each_speak_alone() -> None:
    found = answer(
        rule("small", "staff", more="when: request.duration_s <= 600")
        + rule("large", "staff", approve=ONE, more="when: request.duration_s > 600")
    )
    assert [(way.rules, way.people) for way in found.ways] == [(("small",), 1), (("large",), 2)]


def test_different_groups_are_different_ways() -> None:
    found = answer(rule("r", "staff", approve=TWO) + rule("s", "clerks", approve=ONE))
    assert [(way.rules, way.people, way.requesters) for way in found.ways] == [(("s",), 2, {"c"}), (("r",), 3, {"a"})]


def test_an_entitlement_without_rules_is_out_of_reach() -> None:
    assert reach(policy(rule("r", "staff")), STAFF, target="t", entitlement="other") == Reach("t", "other", ())


LATER = (
    "{steps: [{name: line, groups: [heads], count: 1}, {name: owner, institution: owner, count: 1}], distinct: [institution],"
    " pending: 1h, deputies: 7d, escalate: [{after: 20m, to: [clerks], step: line}]}"
)


def test_whoever_is_asked_after_a_wait_counts_as_a_signer() -> None:
    people = register(
        {"h": ("mof", {"staff", "heads"}), "o": ("infra", set()), "c": ("mof", {"clerks"}), "d": ("mof", set())}
    )
    found = answer(rule("r", "staff", approve=LATER), people)
    (way,) = found.ways
    assert (way.requesters, way.stuck) == ({"h"}, frozenset())
    assert way.examples == (frozenset({"h", "c", "o"}),)
    assert found.helpers == {"c", "o"}


def test_whoever_stands_in_for_a_signer_counts_as_one() -> None:
    people = register(
        {
            "a": ("mof", {"staff"}), "h": ("mof", {"heads"}), "d": ("mof", set()), "e": ("mof", set()),
            "o": ("infra", set()),
        }
    )  # fmt: skip
    rules = policy(rule("r", "staff", approve=LATER))
    week = 7 * 86_400
    lent = (Lent("h", "d", week), Lent("h", "e", week + 1), Lent("h", "o", week), Lent("h", "a", week))
    found = reach(rules, people, target="t", entitlement="e", lent=lent)
    assert [(step.name, step.signers) for step in found.ways[0].steps] == [("line", {"h", "d"}), ("owner", {"o"})]
    assert found.ways[0].examples == (frozenset({"a", "h", "o"}),)
