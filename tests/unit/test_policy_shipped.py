"""Do the shipped policies decide what they say, and would a case notice if any single term of them were gone?"""

import copy
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from jitaccess.domain.register import RegisterView
from jitaccess.policy import schema
from jitaccess.policy.decision_tests import REGISTER_FILE, TestResult, read_register, run_tests, untested_rules
from jitaccess.policy.evaluate import PolicySet
from jitaccess.policy.load import load
from jitaccess.policy.problems import PolicyErrors
from jitaccess.policy.yaml import parse

FOLDER = Path(__file__).resolve().parents[2] / "policies"
FILES = {path.name: path.read_text() for path in sorted(FOLDER.glob("*.yaml"))}
CASES = {path.name: path.read_text() for path in sorted(FOLDER.glob("tests/*.yaml")) if path.name != REGISTER_FILE}
SOURCES: dict[str, Any] = {name: parse(name, text).value for name, text in FILES.items()}

Path_ = tuple[str | int, ...]


@cache
def register() -> RegisterView:
    return read_register((FOLDER / "tests" / REGISTER_FILE).read_text())


@cache
def shipped() -> PolicySet:
    return load(FILES, register=register())


@dataclass(frozen=True, slots=True)
class Mutation:
    """One term taken away, or given another value."""

    file: str
    path: Path_
    value: object = None
    """The other value; None takes the term away."""

    def __str__(self) -> str:
        where = ".".join(str(part) for part in self.path)
        return f"{self.file}:{where}" + ("" if self.value is None else f"={self.value}")

    def files(self) -> dict[str, str]:
        """Return the folder with this one change."""
        changed = copy.deepcopy(SOURCES[self.file])
        parent = changed
        for part in self.path[:-1]:
            parent = parent[part]
        if self.value is None:
            del parent[self.path[-1]]
        else:
            parent[self.path[-1]] = self.value
        return FILES | {self.file: json.dumps(changed)}


def removals(file: str, value: object, path: Path_ = ()) -> Iterator[Mutation]:
    """Give the removal of every key and every element, at every depth."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield Mutation(file, (*path, key))
        yield from removals(file, part, (*path, key))


def shifts(file: str, value: object, path: Path_ = ()) -> Iterator[Mutation]:
    """Give every scalar that has a size or a kind a neighbouring value."""
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from shifts(file, part, (*path, key))
        return
    others: list[object] = []
    match value:
        case bool():
            others = [not value]
        case int():
            others = [value + 1, value - 1]
        case str() if path[-1] == "when":
            others = ["true", "false"]
        case str() if path[-1] == "matches":
            others = [".+", f"{value}x"]
        case str() if path[-1] == "credential":
            others = [name for name in ("any", "synced", "device_bound") if name != value]
        case str() if path[-1] == "zone":
            others = ["UTC"]
        case str() if path[-1] == "institution":
            others = ["nao"]
        case str() if path[-2:-1] == ("groups",):
            others = ["jit-auditors"]
        case str() if re.fullmatch(r"[0-9]+[smhd]", value):
            seconds = schema.parse_duration(value)
            others = [schema.format_duration(seconds + 1), schema.format_duration(seconds - 1)]
        case str() if re.fullmatch(r"[0-9]{2}:[0-9]{2}", value):
            minute = int(value[:2]) * 60 + int(value[3:])
            others = [f"{near // 60:02}:{near % 60:02}" for near in (minute - 1, minute + 1)]
    yield from (Mutation(file, path, other) for other in others)


def meaning(policies: PolicySet) -> object:
    """Return everything a decision depends on; texts for people are no part of it."""
    return (
        {key: (target.owner, sorted(target.entitlements)) for key, target in policies.targets.items()},
        {
            key: (
                rule.target,
                rule.entitlements,
                rule.groups,
                rule.credential,
                rule.windows,
                tuple(replace(ask, label="") for ask in rule.ask),
                rule.when_text,
                rule.terms,
            )
            for key, rule in policies.rules.items()
        },
        policies.document["denials"],
    )


@cache
def loaded(mutation: Mutation) -> PolicySet | None:
    """Return the changed set, or None when it does not load: then it is noticed."""
    try:
        return load(mutation.files(), register=register())
    except PolicyErrors:
        return None


def without_meaning(mutation: Mutation) -> bool:
    changed = loaded(mutation)
    return changed is not None and meaning(changed) == meaning(shipped())


REMOVALS = [mutation for name, value in SOURCES.items() for mutation in removals(name, value)]
SHIFTS = [mutation for name, value in SOURCES.items() for mutation in shifts(name, value)]

SAYS_THE_DEFAULT = {
    "ministry.yaml:institutions.nao",
    "other-systems.yaml:rules.1.approve.never.0",
    "treasury.yaml:rules.1.approve.distinct.0",
    "treasury.yaml:rules.1.approve.never.0",
    "treasury.yaml:rules.1.approve.pending",
    "treasury.yaml:rules.1.for.credential",
    "treasury.yaml:rules.1.token",
}
"""Terms whose absence means the same; all others are decided by at least one case."""
BOUNDED_ELSEWHERE = {
    "bastion.yaml:targets.bastion.entitlements.operator.max_duration=3h59m59s",
    "bastion.yaml:targets.bastion.entitlements.operator.max_duration=4h1s",
    "ministry.yaml:targets.payroll.entitlements.editor.max_duration=1h1s",
    "ministry.yaml:targets.payroll.entitlements.reader.max_duration=3h59m59s",
    "ministry.yaml:targets.payroll.entitlements.reader.max_duration=4h1s",
    "ministry.yaml:targets.registry.entitlements.search.max_duration=1h59m59s",
    "ministry.yaml:targets.registry.entitlements.search.max_duration=2h1s",
    "ministry.yaml:targets.treasury.entitlements.releaser.max_duration=1h59m59s",
    "ministry.yaml:targets.treasury.entitlements.releaser.max_duration=2h1s",
    "ministry.yaml:targets.treasury.entitlements.viewer.max_duration=8h1s",
}
"""Values that mean the same as the one that stands there, because another term bounds it; all others are decided by at least one case."""
FOR_PEOPLE = {"label", "name", "initiate_login", "risk", "currency", "sq", "sr", "en"}
"""Keys that no decision reads; the test of the shipped texts does."""


@cache
def results() -> list[TestResult]:
    return run_tests(shipped(), CASES, register())


@pytest.mark.parametrize("result", results(), ids=lambda result: f"{result.file}: {result.name}")
def test_every_case_is_decided_as_written(result: TestResult) -> None:
    assert result.passed, result.failures


def test_the_shipped_set_loads_without_a_warning() -> None:
    assert shipped().warnings == ()


def test_every_rule_and_denial_decides_a_case() -> None:
    assert untested_rules(shipped(), results()) == ()


@pytest.mark.covers("R22", "R27")
@pytest.mark.parametrize("mutation", [m for m in REMOVALS if m.path[-1] not in FOR_PEOPLE], ids=str)
def test_a_missing_term_is_noticed(mutation: Mutation) -> None:
    changed = loaded(mutation)
    if str(mutation) in SAYS_THE_DEFAULT:
        assert changed is not None
        assert meaning(changed) == meaning(shipped())
        return
    assert changed is None or failed_cases(changed), "no case fails without this term"


@pytest.mark.covers("R22")
@pytest.mark.parametrize("mutation", SHIFTS, ids=str)
def test_another_value_is_noticed(mutation: Mutation) -> None:
    changed = loaded(mutation)
    assert without_meaning(mutation) == (str(mutation) in BOUNDED_ELSEWHERE)
    if str(mutation) not in BOUNDED_ELSEWHERE:
        assert changed is None or failed_cases(changed), "no case fails with this value"


def test_what_is_bounded_elsewhere_is_among_the_values_tried() -> None:
    assert {str(mutation) for mutation in SHIFTS} >= BOUNDED_ELSEWHERE


def failed_cases(policies: PolicySet) -> bool:
    """Say whether any case fails; one file of cases after the other, as most mutations are noticed early."""
    each = (run_tests(policies, {name: text}, register()) for name, text in CASES.items())
    return any(not result.passed for results in each for result in results)


def test_high_risk_entitlements_are_marked_and_everything_has_a_text() -> None:
    found = {(t.id, e.id): e for t in shipped().targets.values() for e in t.entitlements.values()}
    assert {key for key, part in found.items() if part.risk == "high"} == {
        ("treasury", "releaser"),
        ("payroll", "editor"),
        ("bastion", "operator"),
    }
    assert all(part.label != part.id for part in found.values())
    assert all(ask.label != ask.name for rule in shipped().rules.values() for ask in rule.ask)


def test_the_published_schema_is_the_one_of_the_program() -> None:
    assert json.loads((FOLDER / "schema.json").read_text()) == schema.json_schema()


@pytest.mark.parametrize("name", FILES)
def test_the_shipped_files_fit_the_published_schema(name: str) -> None:
    jsonschema.Draft202012Validator(schema.json_schema()).validate(SOURCES[name])


@pytest.mark.parametrize("path", [("version",), ("rules", 0, "approve"), ("rules", 0, "duration", "max")])
def test_the_published_schema_misses_what_is_missing(path: Path_) -> None:
    changed = json.loads(Mutation("treasury.yaml", path).files()["treasury.yaml"])
    assert not jsonschema.Draft202012Validator(schema.json_schema()).is_valid(changed)


def test_the_published_schema_knows_no_other_key() -> None:
    changed = SOURCES["treasury.yaml"] | {"ruels": []}
    assert not jsonschema.Draft202012Validator(schema.json_schema()).is_valid(changed)
