"""Who could obtain this, with whose help, and how few people would have to act together? A question to the rules and the register.

For each person only the rules of the person's groups count, and a rule that has hours or a condition may be silent: the ways are the
weakest sets of rules that can speak alone together. So the answer never claims more protection than there is; it may name a way that
no moment really opens. Denials only take away and are left out. Signatures needed = the sum over the steps; whether enough
different people exist is a matching (`domain.approval`). Signers are all who could sign before the request expires: escalated to
after the longest wait, or standing in for somebody.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from jitaccess.domain.approval import NO_LONGER_WAIT_S, ApprovalTerms, Lent, could_sign, deputies_for, one_quorum
from jitaccess.domain.register import RegisterView
from jitaccess.policy.evaluate import CompiledRule, PolicySet

MOST_EXAMPLES = 10


@dataclass(frozen=True, slots=True)
class WayStep:
    """One step that others have to sign."""

    name: str
    count: int
    signers: frozenset[str]
    """Everybody who could sign it for at least one of the requesters."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to the entitlement: who may go it and whose signatures it takes."""

    rules: tuple[str, ...]
    requesters: frozenset[str]
    """Those for whom enough different signers exist."""
    stuck: frozenset[str]
    """Those who may ask but for whom the steps cannot be met."""
    steps: tuple[WayStep, ...]
    people: int
    """How many have to act together, the requester among them; 1 means alone."""
    examples: tuple[frozenset[str], ...]
    """Some smallest sets of people, each with its requester."""


@dataclass(frozen=True, slots=True)
class Reach:
    """All ways to one entitlement, the shortest first."""

    target: str
    entitlement: str
    ways: tuple[Way, ...]

    @property
    def fewest(self) -> int | None:
        """Return how few people could obtain it together; None when nobody can."""
        return min((way.people for way in self.ways if way.requesters), default=None)

    @property
    def requesters(self) -> frozenset[str]:
        """Return everybody who could obtain it with whatever help."""
        return frozenset[str]().union(*(way.requesters for way in self.ways))

    @property
    def helpers(self) -> frozenset[str]:
        """Return everybody whose signature could count."""
        return frozenset[str]().union(*(step.signers for way in self.ways if way.requesters for step in way.steps))


def reach(
    policies: PolicySet, register: RegisterView, *, target: str, entitlement: str, lent: Sequence[Lent] = ()
) -> Reach:
    """Answer for one entitlement, with the rights to sign that are lent now."""
    rules = policies.rules_for(target, entitlement)
    classes: dict[tuple[str, ...], set[str]] = defaultdict(set)
    by_ids: dict[tuple[str, ...], Sequence[CompiledRule]] = {}
    for person in register.able:
        groups = register.persons[person].groups
        mine = [rule for rule in rules if not rule.groups.isdisjoint(groups)]
        for variant in variants(mine):
            key = tuple(rule.id for rule in variant)
            by_ids[key] = variant
            classes[key].add(person)
    ways = [_way(policies, register, by_ids[key], people, lent) for key, people in classes.items()]
    return Reach(target, entitlement, tuple(sorted((way for way in ways if way is not None), key=_shortness)))


def _shortness(way: Way) -> tuple[bool, int, tuple[str, ...]]:
    return not way.requesters, way.people, way.rules


def variants(rules: Sequence[CompiledRule]) -> list[tuple[CompiledRule, ...]]:
    """Return the weakest sets of rules that can speak together while every other one is silent.

    A rule without a condition speaks whenever its hours are open; so with the hours of any one rule open, all such rules whose
    hours lie within them speak too.
    """
    found: dict[tuple[str, ...], tuple[CompiledRule, ...]] = {}
    for rule in rules:
        hours = {name for name, _ in rule.windows}
        sure = [other for other in rules if other.when_text is None and {name for name, _ in other.windows} <= hours]
        together = tuple(sure) if sure else (rule,)
        found[tuple(one.id for one in together)] = together
    weakest = [
        together for together in found.values() if not any(set(other) < {one.id for one in together} for other in found)
    ]
    return sorted(weakest, key=lambda together: tuple(one.id for one in together))


def _way(
    policies: PolicySet,
    register: RegisterView,
    rules: Sequence[CompiledRule],
    people: set[str],
    lent: Sequence[Lent],
) -> Way | None:
    ids = tuple(rule.id for rule in rules)
    terms = policies.merged(rules).terms
    if terms is None:
        return None  # they contradict each other: `decide` refuses
    if terms.approval is None:
        alone = tuple(frozenset({person}) for person in sorted(people)[:MOST_EXAMPLES])
        return Way(ids, frozenset(people), frozenset(), (), 1, alone)
    approval = terms.approval
    waited_s = terms.pending_s or NO_LONGER_WAIT_S
    able: set[str] = set()
    examples: list[frozenset[str]] = []
    signers: dict[str, frozenset[str]] = defaultdict(frozenset)
    for person in sorted(people):
        quorum = one_quorum(approval, register=register, requester=person, waited_s=waited_s)
        if quorum is None:
            continue
        able.add(person)
        for step, could in could_sign(approval, register=register, requester=person, waited_s=waited_s).items():
            signers[step] |= could | deputies_for(could, approval, lent, register=register, requester=person)
        if len(examples) < MOST_EXAMPLES:
            examples.append(quorum | {person})
    return Way(
        ids,
        frozenset(able),
        frozenset(people - able),
        _steps(approval, signers),
        1 + sum(step.count for step in approval.steps),
        tuple(dict.fromkeys(examples)),
    )


def _steps(approval: ApprovalTerms, signers: dict[str, frozenset[str]]) -> tuple[WayStep, ...]:
    return tuple(WayStep(step.name, step.count, signers[step.name]) for step in approval.steps)
