"""Do decision tests fail when they should, and is a file that cannot be read refused at its place?"""

import json
from typing import Any

import pytest

from jitaccess.policy.decision_tests import read_register, run_tests, untested_rules
from jitaccess.policy.problems import PolicyErrors, PolicyProblem
from tests.support.policy_sets import approve, policies, register, rule, text

PEOPLE = {
    "groups": {"staff": ["juniors"], "juniors": [], "heads": []},
    "people": {
        "ana": {"name": "Ana", "institution": "mof", "unit": "u", "manager": "ben", "groups": ["juniors"]},
        "ben": {
            "name": "Ben",
            "institution": "mof",
            "unit": "u",
            "groups": ["heads"],
            "on_hold": True,
            "active": False,
        },
    },
}
CASE = {
    "name": "staff",
    "person": "ana",
    "target": "vault",
    "entitlement": "use",
    "at": "2026-11-23T09:00:00+01:00",
    "expect": {"effect": "permit"},
}
RULE = rule(
    duration={"min": "1m", "default": "30m", "max": "1h", "activate_within": "5m"},
    limits={"active_per_person": 2, "per_day": 3},
    approve=approve({"name": "head", "groups": ["heads"], "count": 1}, pending="2h", distinct=["institution"]),
    ask=[{"name": "n", "type": "integer", "min": 1, "max": 9}],
)
TERMS: dict[str, Any] = {
    "rules": ["ask"],
    "min": "1m",
    "default": "30m",
    "max": "1h",
    "activate_within": "5m",
    "pending": "2h",
    "ttl": "5m",
    "active_per_person": 2,
    "per_day": 3,
    "credential": "any",
    "distinct": ["institution", "person"],
    "never": ["requester"],
    "steps": [{"name": "head", "groups": ["heads"], "count": 1}],
}


def run(**parts: Any) -> tuple[str, ...]:
    case = CASE | {"inputs": {"n": 5}} | parts
    case["expect"] = {"effect": "permit"} | case["expect"]
    (result,) = run_tests(policies(RULE), {"t.yaml": text({"cases": [case]})}, read_register(text(PEOPLE)))
    assert (result.file, result.name, result.passed) == ("t.yaml", "staff", not result.failures)
    return result.failures


def refusals(value: dict[str, Any], *, institutions: frozenset[str] = frozenset()) -> tuple[PolicyProblem, ...]:
    with pytest.raises(PolicyErrors) as caught:
        read_register(text(value), institutions=institutions)
    return caught.value.problems


def test_a_case_passes_when_everything_is_as_expected() -> None:
    assert run(expect=TERMS) == ()


@pytest.mark.parametrize(
    ("term", "other"),
    [
        ("rules", ["other"]), ("min", "2m"), ("default", "31m"), ("max", "2h"), ("activate_within", "6m"),
        ("pending", "1h"), ("ttl", "4m"), ("active_per_person", 1), ("per_day", 4), ("credential", "synced"),
        ("distinct", ["person"]), ("never", []), ("steps", []),
        ("steps", [{"name": "head", "groups": ["heads"], "count": 2}]),
        ("steps", [{"name": "head", "groups": ["heads"], "count": 1, "institution": "mof"}]),
        ("effect", "deny"), ("reason", "too_long"), ("about", "n"),
    ],
)  # fmt: skip
def test_a_case_fails_on_any_other_term(term: str, other: object) -> None:
    (failure,) = run(expect=TERMS | {term: other})
    assert failure.startswith(f"{term}: expected ")


def test_a_denial_is_expected_with_its_reason_and_what_it_is_about() -> None:
    assert run(inputs={"n": 10}, expect={"effect": "deny", "reason": "invalid_input", "about": "n"}) == ()
    assert run(active=2, expect={"effect": "deny", "reason": "active_limit"}) == ()
    assert run(today=3, expect={"effect": "deny", "reason": "day_limit"}) == ()
    assert run(duration="2h", expect={"effect": "deny", "reason": "too_long", "about": "3600"}) == ()
    assert len(run(inputs={"n": 10}, expect={"effect": "deny", "reason": "too_long", "about": "m"})) == 2
    assert len(run(inputs={"n": 10}, expect={"effect": "deny", "rules": ["ask"], "max": "1h"})) == 2


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"person": "eve"}, "cases[0].person"),
        ({"at": "2026-11-23T09:00:00"}, "cases[0].at"),
        ({"at": "Monday"}, "cases[0].at"),
        ({"expcet": {}}, "cases[0].expcet"),
        ({"credential": "strong"}, "cases[0].credential"),
        ({"active": -1}, "cases[0].active"),
        ({"duration": 30}, "cases[0].duration"),
        ({"expect": {"effect": "allow"}}, "cases[0].expect.effect"),
        ({"expect": {"effect": "permit", "maximum": "1h"}}, "cases[0].expect.maximum"),
    ],
)
def test_a_case_that_cannot_be_read_is_refused_at_its_place(change: dict[str, Any], path: str) -> None:
    with pytest.raises(PolicyErrors) as caught:
        run_tests(policies(RULE), {"t.yaml": text({"cases": [CASE | change]})}, read_register(text(PEOPLE)))
    (problem,) = caught.value.problems
    assert (problem.file, problem.path) == ("t.yaml", path)
    assert problem.line > 1


def test_yaml_is_strict_here_too() -> None:
    with pytest.raises(PolicyErrors, match="found no"):
        run_tests(policies(RULE), {"t.yaml": "cases: no\n"}, register())


def test_a_rule_or_denial_without_a_case_is_told() -> None:
    found = policies(
        RULE, rule("other"), denials=[{"id": "held", "when": "person.on_hold"}, {"id": "x", "when": "false"}]
    )
    cases = [CASE | {"inputs": {"n": 5}}, CASE | {"person": "ben"}]
    known = read_register(text(PEOPLE))
    assert untested_rules(found, []) == ("ask", "other", "held", "x")
    assert untested_rules(found, run_tests(found, {"t.yaml": text({"cases": cases[:1]})}, known)) == ("held", "x")


@pytest.mark.covers("T-02")
def test_the_register_of_a_folder_is_read_with_groups_in_groups() -> None:
    found = read_register(text(PEOPLE), institutions=frozenset({"mof"}))
    assert found.persons["ana"].groups == {"juniors", "staff"}
    assert found.members("staff") == {"ana"}
    assert found.persons["ana"].manager_id == "ben"
    assert (found.persons["ben"].on_hold, found.persons["ben"].active) == (True, False)
    assert found.groups == {"staff", "juniors", "heads"}
    assert found.institutions == {"mof"}


@pytest.mark.parametrize(
    ("part", "value", "path", "message"),
    [
        ("groups", ["junior"], "people.ana.groups[0]", 'unknown group "junior"; did you mean "juniors"?'),
        ("manager", "bem", "people.ana.manager", 'unknown person "bem"; did you mean "ben"?'),
        ("institution", "infra", "people.ana.institution", 'unknown institution "infra"'),
        ("on_hold", "yes", "people.ana.on_hold", "boolean"),
        ("extra", "x", "people.ana.extra", "not permitted"),
    ],
)
def test_a_register_that_means_nothing_is_refused(part: str, value: object, path: str, message: str) -> None:
    wrong = json.loads(json.dumps(PEOPLE))
    wrong["people"]["ana"][part] = value
    (problem,) = refusals(wrong, institutions=frozenset({"mof"}))
    assert problem.path == path
    assert message in problem.message


def test_a_group_holds_known_groups() -> None:
    wrong = json.loads(json.dumps(PEOPLE))
    wrong["groups"]["heads"] = ["chiefs"]
    (problem,) = refusals(wrong)
    assert (problem.path, problem.message) == ("groups.heads[0]", 'unknown group "chiefs"')
