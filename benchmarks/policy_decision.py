"""How long does a policy decision take, and does it stay flat as rules are added?

Sets of 10, 1,000 and 10,000 rules, spread over targets with two entitlements each; one requester in ten is not meant by any rule.
A decision includes the deciding rules and the merged terms. `when` counts apart: it runs CEL. Prints a table and the machine.
"""

import gc
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from benchmarks.measure import machine_line, quantile
from jitaccess.domain.register import PersonView, RegisterView
from jitaccess.policy.evaluate import AccessContext, CredentialClass, PolicySet, decide
from jitaccess.policy.explain import explain
from jitaccess.policy.load import load

SIZES = (10, 1_000, 10_000)
RULES_PER_ENTITLEMENT = 3
GROUPS = 200
NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
CALLS = 20_000
BATCH = 20
"""Decisions between two looks at the clock, which costs 0.1 us itself."""


@dataclass(frozen=True, slots=True)
class Row:
    """One measured line; microseconds, or milliseconds where `unit` says so."""

    act: str
    rules: int
    p50: float
    p99: float
    unit: str


def policy_text(rules: int, *, conditions: bool = False) -> str:
    """Return a policy file with so many rules."""
    targets = max(1, rules // (2 * RULES_PER_ENTITLEMENT))
    lines = ["version: 1", "institutions:", "  mof: {name: Ministry}", "targets:"]
    for number in range(targets):
        lines += [
            f"  t{number}:",
            f"    name: Target {number}",
            "    owner: mof",
            "    entitlements: {look: {max_duration: 8h}, change: {max_duration: 2h, risk: high}}",
            f'    connector: {{kind: token, audience: "https://t{number}.example"}}',
        ]
    lines.append("rules:")
    for number in range(rules):
        target = (number // 2) % targets
        lines += [
            f"  - id: r{number}",
            f"    for: {{groups: [g{number % GROUPS}, g{(number * 7 + 1) % GROUPS}], credential: synced}}",
            f"    to: {{target: t{target}, entitlements: [{'change' if number % 2 else 'look'}]}}",
            "    duration: {min: 1m, default: 30m, max: 1h}",
            "    approve:",
            "      steps:",
            "        - {name: line, groups: [heads], count: 1}",
            "        - {name: owner, groups: [owners], institution: owner, count: 1, after: line}",
            "      distinct: [person]",
        ]
        if conditions:
            lines.append('    when: "person.institution == target.owner && request.duration_s <= 3600"')
    return "\n".join(lines) + "\n"


def staff() -> RegisterView:
    """Return a register of a thousand people in twenty groups each."""
    chance = random.Random(7)
    people = {
        f"p{number}": PersonView(
            f"p{number}",
            f"Person {number}",
            "mof",
            "unit",
            f"p{number // 10}" if number else None,
            frozenset({f"g{chance.randrange(GROUPS)}" for _ in range(20)} | ({"heads", "owners"} if number < 20 else set())),
        )
        for number in range(1000)
    }
    return RegisterView(people, frozenset({"heads", "owners", *(f"g{number}" for number in range(GROUPS))}), frozenset({"mof"}))


def contexts(policies: PolicySet, register: RegisterView) -> list[AccessContext]:
    """Return requests over all targets; in nine of ten some rule speaks of the person."""
    chance = random.Random(11)
    people = list(register.persons.values())
    rules = list(policies.rules.values())
    members = {group: [person for person in people if group in person.groups] for group in register.groups}
    found = []
    for number in range(500):
        rule = chance.choice(rules)
        group = chance.choice(sorted(rule.groups))
        person = chance.choice(people if number % 10 == 0 else members[group])
        entitlement = next(iter(rule.entitlements))
        found.append(AccessContext(person, CredentialClass.DEVICE_BOUND, rule.target, entitlement, {}, None, NOW))
    return found


def timed(act: Callable[[AccessContext], object], asked: Sequence[AccessContext], calls: int) -> tuple[float, float]:
    """Return p50 and p99 of one call in microseconds, over batches of calls."""
    batch = min(BATCH, calls)
    samples = []
    for start in range(0, calls, batch):
        part = [asked[(start + number) % len(asked)] for number in range(batch)]
        begun = time.perf_counter_ns()
        for context in part:
            act(context)
        samples.append((time.perf_counter_ns() - begun) / batch / 1000)
    samples.sort()
    return quantile(samples, 0.5), quantile(samples, 0.99)


def once_ms(act: Callable[[], object], times: int) -> tuple[float, float]:
    """Return the median and the worst of a few runs, milliseconds."""
    samples = []
    for _ in range(times):
        gc.collect()
        begun = time.perf_counter()
        act()
        samples.append((time.perf_counter() - begun) * 1000)
    samples.sort()
    return quantile(samples, 0.5), samples[-1]


def run(*, sizes: Sequence[int] = SIZES, calls: int = CALLS) -> list[Row]:
    """Measure and return the rows."""
    register = staff()
    rows = []
    for size in sizes:
        text = policy_text(size)
        begun = time.perf_counter()
        policies = load({"bench.yaml": text}, register=register)
        yaml_ms = (time.perf_counter() - begun) * 1000
        stored = json.dumps(policies.document)
        document_ms = once_ms(lambda stored=stored: PolicySet.from_document(json.loads(stored)), 3)  # type: ignore[misc] # mypy cannot infer a lambda with a default
        asked = contexts(policies, register)
        timed(lambda context: decide(policies, context), asked, 2000)  # noqa: B023 - called at once
        plain = timed(lambda context: decide(policies, context), asked, calls)  # noqa: B023 - called at once
        told = timed(lambda context: explain(policies, context, register), asked, calls // 20)  # noqa: B023 - called at once
        with_when = load({"bench.yaml": policy_text(size, conditions=True)}) if size <= 1000 else None
        rows += [
            Row("decide", size, *plain, "us"),
            Row("explain", size, *told, "us"),
            Row("load from YAML", size, yaml_ms, yaml_ms, "ms"),
            Row("load from document", size, *document_ms, "ms"),
        ]
        if with_when is not None:
            timed(lambda context: decide(with_when, context), asked, 2000)  # noqa: B023 - called at once
            conditional = timed(lambda context: decide(with_when, context), asked, calls // 4)  # noqa: B023 - called at once
            rows.append(Row("decide with `when`", size, *conditional, "us"))
    return rows


def main() -> None:
    """Print the table."""
    print(f"{'act':<22}{'rules':>8}{'p50':>10}{'p99':>10}  unit")
    for row in sorted(run(), key=lambda row: (row.act, row.rules)):
        print(f"{row.act:<22}{row.rules:>8}{row.p50:>10.1f}{row.p99:>10.1f}  {row.unit}")
    print(machine_line())


if __name__ == "__main__":
    main()
