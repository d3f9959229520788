"""What would this person need for that, and why? Every rule with its first failing term, and who would have to sign.

The decision is `evaluate.decide`'s own: nothing here decides. Takes its time: `decide` serves requests, this serves readers.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from jitaccess.domain.approval import NO_LONGER_WAIT_S, ApprovalTerms, could_sign, satisfiable
from jitaccess.domain.register import PersonView, RegisterView
from jitaccess.policy import course
from jitaccess.policy.evaluate import (
    AccessContext,
    Decision,
    PolicySet,
    Reason,
    bound_failure,
    circumstances,
    condition_failure,
    conflict_failure,
    decide,
    input_problem,
    silence,
)


@dataclass(frozen=True, slots=True)
class RuleVerdict:
    """One rule: it permits, or the first term that failed."""

    rule: str
    failure: Reason | None


@dataclass(frozen=True, slots=True)
class Later:
    """Who may sign a step too, and is asked, once a request has waited so long."""

    after_s: int
    people: tuple[PersonView, ...]
    """Only those who could not sign before, by name."""


@dataclass(frozen=True, slots=True)
class AskedFor:
    """Who is told of a step."""

    drawn: int | None
    """How many of those who could sign are drawn by lot; None: all of them are told."""
    others: bool
    """Whether those who were not drawn may sign too."""
    later: tuple[Later, ...]
    """In the order in which they come."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision with its whole story."""

    decision: Decision
    rules: tuple[RuleVerdict, ...]
    """Every rule about the entitlement, by id."""
    origins: Mapping[str, tuple[str, ...]]
    """Term (as in `Terms.to_document`, steps as `step:<name>`) -> the rules that set it to what it is."""
    signers: Mapping[str, tuple[PersonView, ...]]
    """Approval step -> all who could sign it for this requester, by name."""
    asked: Mapping[str, AskedFor]
    """Approval step -> who is told of it, at once and later."""
    reachable: bool
    """Whether enough different people exist to sign every step; true when nothing has to be signed."""


def explain(policies: PolicySet, context: AccessContext, register: RegisterView) -> Explanation:
    """Explain; rules about other entitlements are left out, every rule about this one is listed."""
    decision = decide(policies, context)
    verdicts = tuple(
        RuleVerdict(rule.id, _first_failure(policies, rule.id, context))
        for rule in policies.rules_for(context.target, context.entitlement)
    )
    approval = decision.terms.approval if decision.terms is not None else None
    if approval is None:
        return Explanation(decision, verdicts, _origins(policies, decision), {}, {}, reachable=True)
    requester = context.person.id
    signers = {
        step: _by_name(register, people)
        for step, people in could_sign(approval, register=register, requester=requester).items()
    }
    asked = {step.name: _asked_for(approval, step.name, register, requester) for step in approval.steps}
    waited_s = decision.terms.pending_s if decision.terms is not None else None
    reachable = satisfiable(approval, register=register, requester=requester, waited_s=waited_s or NO_LONGER_WAIT_S)
    return Explanation(decision, verdicts, _origins(policies, decision), signers, asked, reachable=reachable)


def _by_name(register: RegisterView, people: Iterable[str]) -> tuple[PersonView, ...]:
    return tuple(sorted((register.persons[key] for key in people), key=lambda found: (found.name, found.id)))


def _asked_for(approval: ApprovalTerms, step: str, register: RegisterView, requester: str) -> AskedFor:
    reach = approval.reach_of(step)
    known = could_sign(approval, register=register, requester=requester)[step]
    later: list[Later] = []
    for after_s in sorted({found.after_s for found in reach.escalate}):
        able = could_sign(approval, register=register, requester=requester, waited_s=after_s)[step]
        later.append(Later(after_s, _by_name(register, able - known)))
        known |= able
    return AskedFor(reach.people, reach.others, tuple(later))


def _origins(policies: PolicySet, decision: Decision) -> Mapping[str, tuple[str, ...]]:
    if decision.terms is None:
        return {}
    alone = {rule: policies.rules[rule].terms for rule in decision.matched}
    documents = {rule: terms.to_document() for rule, terms in alone.items()}
    origins = {
        name: tuple(
            rule
            for rule, found in documents.items()
            if (name in found if name in course.MEMBERS else found.get(name) == value)
        )
        for name, value in decision.terms.to_document().items()
        if value is not None and name != "approve"
    }
    for step in decision.terms.steps:
        people = (step.groups, step.institution)
        origins[f"step:{step.name}"] = tuple(
            rule
            for rule, terms in alone.items()
            if any(
                found.name == step.name.rstrip("+") and (found.groups, found.institution) == people
                for found in terms.steps
            )
        )
    return origins


def _first_failure(policies: PolicySet, rule_id: str, context: AccessContext) -> Reason | None:
    rule = policies.rules[rule_id]
    failure = silence(rule, context.person, context.begins)
    if failure is None:
        asked = {term.name for term in rule.ask}
        own = {name: value for name, value in context.inputs.items() if name in asked}
        failure = input_problem(rule.ask, own)
    duration_s = rule.terms.default_s if context.duration_s is None else context.duration_s
    if failure is None:
        failure = condition_failure(rule, circumstances(context, policies.targets[context.target], duration_s))
    if failure is None:
        failure = bound_failure(rule.terms, duration_s, context)
    if failure is None:
        failure = conflict_failure(rule.terms.course.conflicts, context)
    if failure is None or failure.rule is not None:
        return failure
    return Reason(failure.code, rule_id, failure.about)
