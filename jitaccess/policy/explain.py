"""What would this person need for that, and why? Every rule with its first failing term, and who would have to sign."""

from collections.abc import Mapping
from dataclasses import dataclass

from jitaccess.domain.approval import could_sign
from jitaccess.domain.register import RegisterView
from jitaccess.policy.evaluate import (
    AccessContext,
    Decision,
    PolicySet,
    Reason,
    bound_failure,
    circumstances,
    condition_failure,
    decide,
    input_problem,
    reaches,
)


@dataclass(frozen=True, slots=True)
class RuleVerdict:
    """One rule: it permits, or the first term that failed."""

    rule: str
    failure: Reason | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision with its whole story."""

    decision: Decision
    rules: tuple[RuleVerdict, ...]
    origins: Mapping[str, tuple[str, ...]]
    """Term -> the rules that set it to what it is."""
    signers: Mapping[str, frozenset[str]]
    """Approval step -> ids of all who could sign it."""


def explain(policies: PolicySet, context: AccessContext, register: RegisterView) -> Explanation:
    """Explain; rules of other entitlements are left out, every rule of this one is listed."""
    decision = decide(policies, context)
    verdicts = tuple(
        RuleVerdict(rule.id, _first_failure(policies, rule.id, context))
        for rule in policies.rules_for(context.target, context.entitlement)
    )
    origins: dict[str, tuple[str, ...]] = {}
    signers: Mapping[str, frozenset[str]] = {}
    if decision.terms is not None:
        merged = decision.terms.to_document()
        for name, value in merged.items():
            origins[name] = tuple(
                rule
                for rule in decision.matched
                if policies.rules[rule].terms.to_document().get(name) == value and value is not None
            )
        if decision.terms.approval is not None:
            signers = could_sign(decision.terms.approval, register=register, requester=context.person.id)
    return Explanation(decision, verdicts, origins, signers)


def _first_failure(policies: PolicySet, rule_id: str, context: AccessContext) -> Reason | None:
    rule = policies.rules[rule_id]
    failure = reaches(rule, context)
    if failure is None:
        failure = input_problem(rule.ask, context.inputs)
    duration_s = rule.terms.default_s if context.duration_s is None else context.duration_s
    if failure is None:
        failure = condition_failure(rule, circumstances(context, policies.targets[context.target], duration_s))
    if failure is None:
        failure = bound_failure(rule.terms, duration_s, context)
    if failure is None or failure.rule is not None:
        return failure
    return Reason(failure.code, rule_id, failure.about)
