"""How long does a decision take, and does it stay so with ten thousand rules? Prints a Markdown table.

Each row is one act, timed alone on one thread; the acts go round over many people and entitlements, so that no single path stays warm.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from benchmarks.measure import machine_line, quantile
from jitaccess.domain.register import PersonView, RegisterView
from jitaccess.policy.evaluate import AccessContext, CredentialClass, Effect, PolicySet, decide
from jitaccess.policy.explain import explain
from jitaccess.policy.load import load
from jitaccess.proof.canonical import JsonValue

SIZES = (10, 1_000, 10_000)
PER_TARGET = 10
ROUND = 500
"""How many different requests the acts go round over, at most."""
NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
WHEN = "input.amount <= 200000000 || 'heads' in person.groups"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table."""

    act: str
    rules: int
    runs: int
    p50_us: float
    p99_us: float


def files(rules: int, *, when: bool) -> dict[str, str]:
    """Return a folder: ten rules a target, each with hours, an input, limits and a two-step approval; a file for every 1,000."""
    head = {
        "version": 1,
        "institutions": {"mof": {"name": "Finance"}, "infra": {"name": "Infrastructure"}},
        "windows": {
            "week": {
                "days": ["mon", "tue", "wed", "thu", "fri"],
                "from": "08:00",
                "to": "17:00",
                "zone": "Europe/Belgrade",
            }
        },
    }
    found = {"head.yaml": json.dumps(head)}
    for first in range(0, rules, 1_000):
        numbers = range(first, min(first + 1_000, rules))
        targets = sorted({number // PER_TARGET for number in numbers})
        part = {
            "version": 1,
            "targets": {f"t{number}": _target(number) for number in targets},
            "rules": [_rule(number, when=when) for number in numbers],
        }
        found[f"rules-{first}.yaml"] = json.dumps(part, indent=1)
    return found


def _target(number: int) -> dict[str, JsonValue]:
    return {
        "name": f"Target {number}",
        "owner": "infra",
        "entitlements": {f"e{part}": {"max_duration": "8h"} for part in range(PER_TARGET)},
        "connector": {"kind": "token", "audience": f"https://t{number}.example"},
    }


def _rule(number: int, *, when: bool) -> dict[str, JsonValue]:
    rule: dict[str, JsonValue] = {
        "id": f"r{number}",
        "for": {"groups": [f"g{number % 50}"], "credential": "synced"},
        "to": {"target": f"t{number // PER_TARGET}", "entitlements": [f"e{number % PER_TARGET}"]},
        "during": ["week"],
        "ask": [{"name": "amount", "type": "integer", "min": 1, "max": 500_000_000}],
        "duration": {"min": "1m", "default": "30m", "max": "1h"},
        "limits": {"active_per_person": 3, "per_day": 10},
        "approve": {
            "steps": [
                {"name": "line", "groups": ["heads"], "count": 1},
                {"name": "owner", "institution": "owner", "count": 1, "after": "line"},
            ],
            "distinct": ["person", "institution"],
        },
    }
    return rule | {"when": WHEN} if when else rule


def contexts(rules: int) -> list[AccessContext]:
    """Return up to ROUND requests, spread over all rules."""
    step = max(1, rules // ROUND)
    return [
        AccessContext(
            person=PersonView(f"p{number}", "Person", "mof", "unit", None, frozenset({f"g{number % 50}", "all", "x"})),
            credential=CredentialClass.SYNCED,
            target=f"t{number // PER_TARGET}",
            entitlement=f"e{number % PER_TARGET}",
            inputs={"amount": 1000 + number},
            duration_s=1800,
            now=NOW,
        )
        for number in range(0, rules, step)
    ]


def register() -> RegisterView:
    """Return a register of 1,000 people, 20 of them heads."""
    groups = [frozenset({f"g{number % 50}"} | ({"heads"} if number % 50 == 0 else set())) for number in range(1_000)]
    persons = {
        f"p{number}": PersonView(
            f"p{number}", f"Person {number}", "mof" if number % 4 else "infra", "unit", None, found
        )
        for number, found in enumerate(groups)
    }
    return RegisterView(persons, frozenset().union(*groups))


def timed(act: str, rules: int, runs: int, do: Callable[[int], object]) -> Row:
    """Time `do(number)` one by one."""
    samples: list[float] = []
    for number in range(runs):
        begun = time.perf_counter()
        do(number)
        samples.append(time.perf_counter() - begun)
    samples.sort()
    return Row(act, rules, runs, quantile(samples, 0.5) * 1e6, quantile(samples, 0.99) * 1e6)


def _rows(rules: int) -> list[Row]:
    rows: list[Row] = []
    known = register()
    asked = contexts(rules)
    for name, when in (("decide", False), ("decide with `when`", True)):
        folder = files(rules, when=when)
        policies = load(folder)
        assert all(decide(policies, one).effect is Effect.PERMIT for one in asked)
        rows.append(timed(name, rules, 20_000, lambda number, it=policies: decide(it, asked[number % len(asked)])))
        if when:
            continue
        rows.append(
            timed("explain", rules, 1_000, lambda number, it=policies: explain(it, asked[number % len(asked)], known))
        )
        loads = 1 if rules > 1_000 else 5
        rows.append(timed("load YAML", rules, loads, lambda _, it=folder: load(it)))
        document = json.loads(json.dumps(policies.document))
        rows.append(timed("from_document", rules, 5, lambda _, it=document: PolicySet.from_document(it)))
    return rows


def run(sizes: Sequence[int] = SIZES) -> list[Row]:
    """Measure every size."""
    return [row for size in sizes for row in _rows(size)]


def table(rows: Sequence[Row]) -> str:
    """Return a Markdown table."""
    lines = ["| what | rules | runs | p50 µs | p99 µs |", "|---|---|---|---|---|"]
    lines += [f"| {row.act} | {row.rules:,} | {row.runs:,} | {row.p50_us:,.1f} | {row.p99_us:,.1f} |" for row in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    print(machine_line())
    print()
    print(table(run()))
