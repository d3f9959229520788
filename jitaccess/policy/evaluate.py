"""May this person have this entitlement now, and on what terms? The pure decision (R22, R28).

Default deny; deny beats permit. A rule *speaks* of a person when the person is in one of its groups, all its hours are open and its
`when` is true; everything else in it is a term. Of all rules that speak the strictest of each term wins, and a term that is not
kept denies: nobody slips out of a stricter rule by a weaker passkey, another duration or a spent limit, and two rules never add up
to more than either. Whatever cannot be evaluated denies. A `PolicySet` is the active document compiled: rules are indexed by
(target, entitlement), and the merged terms of each set of rules are computed once.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from typing import Any, assert_never, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from jitaccess.domain.approval import ApprovalTerms, Reach
from jitaccess.domain.register import PersonView
from jitaccess.policy import asking
from jitaccess.policy import course as courses
from jitaccess.policy.conditions import BadCondition, Circumstances, Condition, ConditionFailed
from jitaccess.policy.course import PLAIN, Conflict, Course
from jitaccess.policy.problems import PolicyErrors, PolicyProblem
from jitaccess.policy.schema import DAYS, MAX_DURATION_S, MAX_TOKEN_TTL_S
from jitaccess.proof.canonical import JsonValue, digest_b64u
from jitaccess.proof.errors import ProofError
from jitaccess.proof.quorum import Step, count
from jitaccess.told import called

Inputs = Mapping[str, str | int | bool]
MAX_INPUT_CHARS = 200
MAX_MERGED = 4096
"""How many sets of rules keep their merged terms; beyond that the memory is cleared and filled anew."""
_PASSES = 3


class CredentialClass(IntEnum):
    """How strong the passkey is that the person signed in with; higher is stronger."""

    ANY = 0
    SYNCED = 1
    DEVICE_BOUND = 2
    ATTESTED = 3


class Effect(StrEnum):
    """What a decision says."""

    PERMIT = "permit"
    DENY = "deny"


class Flag(StrEnum):
    """What an operator should look at."""

    CONDITION_FAILED = "condition_failed"
    """A condition gave no boolean; denied for that (TRAP-8)."""


class Code(StrEnum):
    """Why a rule did not permit, or why the decision is DENY."""

    NOT_IN_GROUP = "not_in_group"
    CREDENTIAL_TOO_WEAK = "credential_too_weak"
    OUTSIDE_HOURS = "outside_hours"
    UNKNOWN_INPUT = "unknown_input"
    MISSING_INPUT = "missing_input"
    INVALID_INPUT = "invalid_input"
    CONDITION_FALSE = "condition_false"
    CONDITION_FAILED = "condition_failed"
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    ACTIVE_LIMIT = "active_limit"
    DAY_LIMIT = "day_limit"
    CONFLICT = "conflict"
    START_TOO_FAR = "start_too_far"
    NOT_EXTENDABLE = "not_extendable"
    EXTENSION_LIMIT = "extension_limit"
    EXTENSION_TOTAL = "extension_total"
    TERMS_CONTRADICT = "terms_contradict"
    DENIED = "denied"
    NO_RULE = "no_rule"
    UNKNOWN_TARGET = "unknown_target"
    NOT_ACTIVE = "not_active"
    ACCOUNT_NEW = "account_new"


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason: a code, the rule or denial it comes from, and what it is about (a name, a bound)."""

    code: Code
    rule: str | None = None
    about: str = ""


class AskKind(StrEnum):
    """What kind of value an input is."""

    STRING = "string"
    INTEGER = "integer"
    BOOLEAN = "boolean"


@dataclass(frozen=True, slots=True)
class AskTerm:
    """One input that the requester gives; `low` and `high` are inclusive, `pattern` matches the whole text."""

    name: str
    kind: AskKind
    label: str
    pattern: re.Pattern[str] | None = None
    max_length: int = MAX_INPUT_CHARS
    low: int = 0
    high: int = 0
    currency: str | None = None
    """ISO 4217: the whole number counts the smallest unit of this money."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a permission allows, merged over all permitting rules."""

    min_s: int
    default_s: int
    max_s: int
    activate_within_s: int | None
    pending_s: int | None
    credential: CredentialClass
    token_ttl_s: int
    active_per_person: int | None
    per_day: int | None
    approval: ApprovalTerms | None
    course: Course = PLAIN

    @property
    def steps(self) -> tuple[Step, ...]:
        """Return the approval steps; none means that no approval is needed."""
        return self.approval.steps if self.approval else ()

    @property
    def distinct(self) -> frozenset[str]:
        """Return in what the signers must differ."""
        return self.approval.distinct if self.approval else frozenset()

    @property
    def never(self) -> frozenset[str]:
        """Return who may not sign."""
        return self.approval.never if self.approval else frozenset()

    def to_document(self) -> dict[str, JsonValue]:
        """Return the canonical JSON that approvers sign."""
        document: dict[str, JsonValue] = {
            "min_s": self.min_s,
            "max_s": self.max_s,
            "default_s": self.default_s,
            "activate_within_s": self.activate_within_s,
            "pending_s": self.pending_s,
            "credential": self.credential.name.lower(),
            "token_ttl_s": self.token_ttl_s,
            "active_per_person": self.active_per_person,
            "per_day": self.per_day,
        }
        if self.approval is not None:
            document["approve"] = {
                "steps": [_step_document(step) for step in self.approval.steps],
                "distinct": [*sorted(self.approval.distinct)],
                "never": [*sorted(self.approval.never)],
                **asking.to_document(self.approval),
                **({"deputies_s": self.approval.deputies_s} if self.approval.deputies_s is not None else {}),
            }
        return document if self.course is PLAIN else document | self.course.to_document()

    @classmethod
    def from_document(cls, document: JsonValue) -> "Terms":
        """Read what `to_document` wrote; raises KeyError, TypeError or ValueError for anything else."""
        value = cast("dict[str, Any]", document)
        approve = value.get("approve")
        return cls(
            min_s=value["min_s"],
            default_s=value["default_s"],
            max_s=value["max_s"],
            activate_within_s=value["activate_within_s"],
            pending_s=value["pending_s"],
            credential=CredentialClass[value["credential"].upper()],
            token_ttl_s=value["token_ttl_s"],
            active_per_person=value["active_per_person"],
            per_day=value["per_day"],
            approval=None
            if approve is None
            else ApprovalTerms(
                tuple(
                    Step(step["name"], step["count"], tuple(step["groups"]), step["institution"], step["after"])
                    for step in approve["steps"]
                ),
                frozenset(approve["distinct"]),
                frozenset(approve["never"]),
                asking.reach_from(approve),
                asking.read_back_of(approve),
                deputies_s=approve.get("deputies_s"),
                credentials=asking.credentials_from(approve),
            ),
            course=Course.from_document(value),
        )


def _step_document(step: Step) -> dict[str, JsonValue]:
    return {
        "name": step.name,
        "count": step.count,
        "groups": list(step.groups),
        "institution": step.institution,
        "after": step.after,
    }


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided, and why. PERMIT with approval steps is not access yet: they are obligations."""

    effect: Effect
    policy_digest: str
    matched: tuple[str, ...] = ()
    terms: Terms | None = None
    duration_s: int = 0
    """What was asked for, or the default; 0 when denied."""
    reasons: tuple[Reason, ...] = ()
    denied_by: str | None = None
    """The denial that beat a permission."""
    flags: tuple[Flag, ...] = ()

    def to_document(self) -> dict[str, JsonValue]:
        """Return what is stored with the request."""
        return {
            "effect": self.effect.value,
            "policy_digest": self.policy_digest,
            "matched": list(self.matched),
            "duration_s": self.duration_s,
            "terms": self.terms.to_document() if self.terms else None,
            "reasons": [{"code": r.code.value, "rule": r.rule, "about": r.about} for r in self.reasons],
            "denied_by": self.denied_by,
            "flags": [flag.value for flag in self.flags],
        }


@dataclass(frozen=True, slots=True)
class Holding:
    """What a person has or had: `until` is when it ended, None while it is live."""

    target: str
    entitlement: str
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Extending:
    """The access that a request would continue: how often it was continued, and how long it lasts already, in all."""

    count: int
    lasted_s: int


@dataclass(frozen=True, slots=True)
class AccessContext:
    """Everything a decision depends on."""

    person: PersonView
    credential: CredentialClass
    target: str
    entitlement: str
    inputs: Inputs
    duration_s: int | None
    """What is asked for; None means the default."""
    now: datetime
    active_count: int = 0
    """Live grants of this person for this target and entitlement."""
    today_count: int = 0
    """Grants of the last 24 hours of the same."""
    held: tuple[Holding, ...] = ()
    """What the person has or had of all that `PolicySet.watched` names."""
    start: datetime | None = None
    """When access shall begin; None, or a time that is over, means now."""
    extending: Extending | None = None
    new: bool = False
    """Whether the account was made or switched on too short a time ago to ask for what is of high risk (R10)."""

    @property
    def begins(self) -> datetime:
        """Return when access would begin: hours and conditions are those of then."""
        return self.now if self.start is None or self.start < self.now else self.start


@dataclass(frozen=True, slots=True)
class Window:
    """Hours in which a rule holds."""

    days: frozenset[int]
    start_min: int
    end_min: int
    zone: ZoneInfo
    closed: frozenset[str]
    """ISO dates on which it does not open."""

    def open_at(self, now: datetime) -> bool:
        """Say whether the window is open at an instant."""
        local = now.astimezone(self.zone)
        minute = local.hour * 60 + local.minute
        return (
            local.weekday() in self.days
            and self.start_min <= minute < self.end_min
            and not (self.closed and local.date().isoformat() in self.closed)
        )


@dataclass(slots=True)
class CompiledRule:
    """One rule, ready to be asked."""

    id: str
    target: str
    entitlements: frozenset[str]
    groups: frozenset[str]
    credential: CredentialClass
    windows: tuple[tuple[str, Window], ...]
    ask: tuple[AskTerm, ...]
    when_text: str | None
    terms: Terms
    _condition: Condition | None = None

    def condition(self) -> Condition | None:
        """Return the compiled condition, made at first use."""
        if self.when_text is not None and self._condition is None:
            self._condition = Condition(self.when_text, {term.name: term.kind for term in self.ask})
        return self._condition


@dataclass(frozen=True, slots=True)
class EntitlementFacts:
    """An entitlement as the document names it."""

    id: str
    label: str
    max_s: int
    risk: str
    asks: dict[str, AskTerm] = field(default_factory=dict, compare=False)
    """Input name -> how the first rule that asks for it words it; for showing, never for deciding."""
    steps: dict[str, str] = field(default_factory=dict, compare=False)
    """Name of an approval step -> what people call it; steps without a label are absent."""


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """A target as the document names it."""

    id: str
    name: str
    owner: str
    entitlements: Mapping[str, EntitlementFacts]
    connector: Mapping[str, JsonValue]
    config_digest: str
    """Digest of the target's part of the document: what approvers sign as `target_config_digest`. How the target is watched is no
    part of it: an exception for an account there takes nobody's access away."""
    reconcile: Mapping[str, JsonValue]
    """How the target is watched; empty where the policy does not say."""


@dataclass(frozen=True, slots=True)
class Merged:
    """Several rules as one: the strictest terms, None when they contradict, and all inputs they ask for."""

    terms: Terms | None
    asks: tuple[AskTerm, ...]
    conditional: bool
    """Whether any of them has a condition."""
    permit: Decision | None
    """The permission for the default duration, made once; whether it is due only `decide` tells."""


@dataclass(frozen=True, slots=True)
class PolicySet:
    """A policy set in its normal form, compiled."""

    document: Mapping[str, JsonValue]
    digest: str
    """base64url SHA-256 of the RFC 8785 form of the document; every decision carries it."""
    targets: Mapping[str, TargetFacts]
    institutions: Mapping[str, str]
    """Institution id -> name."""
    rules: Mapping[str, CompiledRule]
    denials: Sequence[tuple[str, Condition]]
    warnings: tuple[PolicyProblem, ...] = ()
    windows: Mapping[str, Window] = field(default_factory=dict, repr=False)
    """Window id -> hours; what of a rule is bound to them stands in the rule."""
    _index: Mapping[tuple[str, str], tuple[CompiledRule, ...]] = field(default_factory=dict, repr=False)
    _merged: dict[tuple[str, ...], Merged] = field(default_factory=dict, repr=False, compare=False)
    _watched: Mapping[tuple[str, str], tuple[Conflict, ...]] = field(default_factory=dict, repr=False)

    @classmethod
    def from_document(cls, document: JsonValue, *, warnings: tuple[PolicyProblem, ...] = ()) -> "PolicySet":
        """Compile a normal form that `load` wrote; raises PolicyErrors for any other document.

        Conditions of rules are compiled at first use, those of denials at once.
        """
        try:
            return cls._compiled(document, warnings)
        except (KeyError, TypeError, ValueError, AttributeError, ZoneInfoNotFoundError, ProofError, re.error) as error:
            message = f"not the normal form of a policy set ({type(error).__name__})"
            raise PolicyErrors([PolicyProblem("document", 1, 1, "-", message)]) from error

    @classmethod
    def _compiled(cls, document: JsonValue, warnings: tuple[PolicyProblem, ...]) -> "PolicySet":
        value = cast("dict[str, Any]", document)
        targets = {key: _target(key, found) for key, found in value["targets"].items()}
        windows = {key: _window(found, value["holidays"]) for key, found in value["windows"].items()}
        rules = {key: _rule(key, found, targets, windows) for key, found in sorted(value["rules"].items())}
        index: dict[tuple[str, str], list[CompiledRule]] = defaultdict(list)
        for rule in rules.values():
            for entitlement in rule.entitlements:
                index[rule.target, entitlement].append(rule)
                _name_parts(targets[rule.target].entitlements[entitlement], rule, value["rules"][rule.id])
        return cls(
            document=value,
            digest=digest_b64u(value),
            targets=targets,
            institutions={key: called(found["name"]) for key, found in value["institutions"].items()},
            rules=rules,
            denials=tuple((key, Condition(found["when"], {})) for key, found in sorted(value["denials"].items())),
            warnings=warnings,
            windows=windows,
            _index={key: tuple(found) for key, found in index.items()},
            _watched=_watched(rules.values()),
        )

    def target(self, target: str) -> TargetFacts | None:
        """Return a target by id, or None."""
        return self.targets.get(target)

    def target_config_digest(self, target: str) -> str | None:
        """Return the digest of a target's part of the document, base64url, or None."""
        found = self.targets.get(target)
        return found.config_digest if found else None

    def rules_for(self, target: str, entitlement: str) -> tuple[CompiledRule, ...]:
        """Return the rules about an entitlement, in the order of their ids."""
        return self._index.get((target, entitlement), ())

    @property
    def kept_apart(self) -> tuple[Conflict, ...]:
        """Return everything that any rule keeps apart from anything, each for the longest time."""
        return courses.longest([conflict for found in self._watched.values() for conflict in found])

    def watched(self, target: str, entitlement: str) -> tuple[Conflict, ...]:
        """Return everything that any rule keeps apart from an entitlement, from whichever side it is written."""
        return self._watched.get((target, entitlement), ())

    def merged(self, rules: Sequence[CompiledRule]) -> Merged:
        """Return several rules as one; `rules` is not empty and in the order of their ids."""
        key = tuple([rule.id for rule in rules])
        found = self._merged.get(key)
        if found is None:
            if len(self._merged) >= MAX_MERGED:
                self._merged.clear()
            terms = _strictest([rule.terms for rule in rules])
            found = self._merged[key] = Merged(
                terms,
                _all_asks(rules),
                any(rule.when_text is not None for rule in rules),
                _permit(self.digest, rules, terms, terms.default_s) if terms is not None else None,
            )
        return found


@dataclass(frozen=True, slots=True)
class Offer:
    """An entitlement that rules speak of for a person now, before conditions and limits: what a form has to ask."""

    target: TargetFacts
    entitlement: EntitlementFacts
    terms: Terms
    asks: tuple[AskTerm, ...]


def offers(policies: PolicySet, *, person: PersonView, now: datetime) -> tuple[Offer, ...]:
    """Return what a person could ask for now, by target and entitlement; whether it is permitted only `decide` tells."""
    found: list[Offer] = []
    if not person.active:
        return ()
    for target in policies.targets.values():
        for entitlement in target.entitlements.values():
            rules = [rule for rule in policies.rules_for(target.id, entitlement.id) if speaks(rule, person, now)]
            merged = policies.merged(rules) if rules else None
            if merged is not None and merged.terms is not None:
                found.append(Offer(target, entitlement, merged.terms, merged.asks))
    return tuple(sorted(found, key=lambda offer: (offer.target.id, offer.entitlement.id)))


def decide(policies: PolicySet, context: AccessContext) -> Decision:
    """Decide; whatever goes wrong inside denies.

    1. The target and the entitlement exist, the person is active, and a new account asks for nothing of high risk (R10).
    2. Rules speak of the person: a group, all hours open.
    3. The inputs keep every constraint of every such rule, before any condition reads them.
    4. Conditions are evaluated over the resolved duration; an error denies, a false one silences its rule.
    5. The strictest terms of the rules left are kept: credential, duration, limits; nothing that any rule keeps apart is in one hand.
    6. No denial holds, and none fails.
    """
    target = policies.targets.get(context.target)
    if target is None or context.entitlement not in target.entitlements:
        return _deny(policies, Reason(Code.UNKNOWN_TARGET, None, context.target))  # 1
    person = context.person
    if not person.active:
        return _deny(policies, Reason(Code.NOT_ACTIVE))
    early = newness_failure(target, context)
    if early is not None:
        return _deny(policies, early)
    asked_s = context.duration_s
    if asked_s is not None and not 0 < asked_s <= MAX_DURATION_S:
        return _deny(policies, Reason(Code.TOO_SHORT if asked_s <= 0 else Code.TOO_LONG))
    now = context.begins
    rules = policies.rules_for(context.target, context.entitlement)
    speaking = [rule for rule in rules if speaks(rule, person, now)]  # 2
    if not speaking:
        return _deny(policies, *_why_silent(policies, context))
    merged = policies.merged(speaking)
    if merged.asks or context.inputs:  # 3
        wrong = input_problem(merged.asks, context.inputs)
        if wrong is not None:
            return _deny(policies, wrong)
    if merged.conditional:  # 4
        kept = _holding(policies, speaking, context, target)
        if isinstance(kept, Decision):
            return kept
        speaking, merged = kept, policies.merged(kept)
    terms = merged.terms
    if terms is None:
        return _deny(policies, *[Reason(Code.TERMS_CONTRADICT, rule.id) for rule in speaking])
    duration_s = terms.default_s if asked_s is None else asked_s
    outside = bound_failure(terms, duration_s, context)  # 5
    if outside is None and context.held:
        outside = conflict_failure(policies.watched(context.target, context.entitlement), context)
    if outside is not None:
        return _deny(policies, outside)
    if policies.denials:  # 6
        at = circumstances(context, target, duration_s)
        for name, condition in policies.denials:
            try:
                holds = condition.holds(at)
            except ConditionFailed:
                return _deny(policies, Reason(Code.CONDITION_FAILED, name), denied_by=name)
            if holds:
                return _deny(policies, Reason(Code.DENIED, name), denied_by=name)
    if merged.permit is not None and duration_s == terms.default_s:
        return merged.permit
    return _permit(policies.digest, speaking, terms, duration_s)


def _permit(digest: str, rules: Sequence[CompiledRule], terms: Terms, duration_s: int) -> Decision:
    return Decision(Effect.PERMIT, digest, tuple([rule.id for rule in rules]), terms, duration_s)


def _deny(policies: PolicySet, *reasons: Reason, denied_by: str | None = None) -> Decision:
    failed = any(reason.code is Code.CONDITION_FAILED for reason in reasons)
    return Decision(
        Effect.DENY,
        policies.digest,
        reasons=reasons,
        denied_by=denied_by,
        flags=(Flag.CONDITION_FAILED,) if failed else (),
    )


def speaks(rule: CompiledRule, person: PersonView, now: datetime) -> bool:
    """Say whether a rule speaks of this person now, conditions aside."""
    if rule.groups.isdisjoint(person.groups):
        return False
    return not rule.windows or all(window.open_at(now) for _, window in rule.windows)


def silence(rule: CompiledRule, person: PersonView, now: datetime) -> Reason | None:
    """Return why a rule does not speak of this person now, conditions aside; None exactly if `speaks`."""
    if rule.groups.isdisjoint(person.groups):
        return Reason(Code.NOT_IN_GROUP, rule.id, ", ".join(sorted(rule.groups)))
    for name, window in rule.windows:
        if not window.open_at(now):
            return Reason(Code.OUTSIDE_HOURS, rule.id, name)
    return None


def _why_silent(policies: PolicySet, context: AccessContext) -> tuple[Reason, ...]:
    rules = policies.rules_for(context.target, context.entitlement)
    reasons = [silence(rule, context.person, context.begins) for rule in rules]
    return tuple(reason for reason in reasons if reason) or (Reason(Code.NO_RULE, None, context.entitlement),)


def _holding(
    policies: PolicySet, speaking: list[CompiledRule], context: AccessContext, target: TargetFacts
) -> list[CompiledRule] | Decision:
    """Return the rules whose conditions hold, or the denial.

    A condition may speak of the duration, and the default duration depends on which rules are left: it is assumed, and the
    conditions are evaluated again until what follows is what was assumed. If it never is, that is a contradiction.
    """
    terms = policies.merged(speaking).terms
    for _ in range(_PASSES):
        assumed_s = context.duration_s or (terms.default_s if terms else 0)
        at = circumstances(context, target, assumed_s)
        failures = [(rule, condition_failure(rule, at)) for rule in speaking]
        broken = [failure for _, failure in failures if failure and failure.code is Code.CONDITION_FAILED]
        if broken:
            return _deny(policies, *broken)
        kept = [rule for rule, failure in failures if failure is None]
        if not kept:
            return _deny(policies, *[failure for _, failure in failures if failure])
        terms = policies.merged(kept).terms
        if context.duration_s is not None or terms is None or terms.default_s == assumed_s:
            return kept
    return _deny(policies, *[Reason(Code.TERMS_CONTRADICT, rule.id) for rule in speaking])


def circumstances(context: AccessContext, target: TargetFacts, duration_s: int) -> Circumstances:
    """Return the values that conditions speak of."""
    return Circumstances(
        context.person, target.id, target.owner, context.entitlement, context.inputs, duration_s, context.begins
    )


def condition_failure(rule: CompiledRule, at: Circumstances) -> Reason | None:
    """Return why the rule's condition does not hold, or None."""
    try:
        condition = rule.condition()
        if condition is None or condition.holds(at):
            return None
    except (ConditionFailed, BadCondition):
        return Reason(Code.CONDITION_FAILED, rule.id)
    return Reason(Code.CONDITION_FALSE, rule.id)


def newness_failure(target: TargetFacts, context: AccessContext) -> Reason | None:
    """Return that the account is too new for this, or None."""
    high = target.entitlements[context.entitlement].risk == "high"
    return Reason(Code.ACCOUNT_NEW, None, context.entitlement) if context.new and high else None


def bound_failure(terms: Terms, duration_s: int, context: AccessContext) -> Reason | None:
    """Return which term is not kept, or None."""
    if context.credential < terms.credential:
        return Reason(Code.CREDENTIAL_TOO_WEAK, None, terms.credential.name.lower())
    if duration_s < terms.min_s:
        return Reason(Code.TOO_SHORT, None, str(terms.min_s))
    if duration_s > terms.max_s:
        return Reason(Code.TOO_LONG, None, str(terms.max_s))
    if terms.active_per_person is not None and context.active_count >= terms.active_per_person:
        return Reason(Code.ACTIVE_LIMIT, None, str(terms.active_per_person))
    if terms.per_day is not None and context.today_count >= terms.per_day:
        return Reason(Code.DAY_LIMIT, None, str(terms.per_day))
    if context.extending is not None:
        return _extension_failure(terms, duration_s, context.extending)
    if context.start is not None and context.begins > context.now:
        ahead_s = terms.course.start_within_s or 0
        if context.begins > context.now + timedelta(seconds=ahead_s):
            return Reason(Code.START_TOO_FAR, None, str(ahead_s))
    return None


def _extension_failure(terms: Terms, duration_s: int, extending: Extending) -> Reason | None:
    """Return why this access is not continued, or None; its start is the end of what it continues."""
    allowed = terms.course.extensions
    if allowed is None:
        return Reason(Code.NOT_EXTENDABLE)
    if extending.count >= allowed.count:
        return Reason(Code.EXTENSION_LIMIT, None, str(allowed.count))
    if extending.lasted_s + duration_s > allowed.total_s:
        return Reason(Code.EXTENSION_TOTAL, None, str(allowed.total_s))
    return None


def conflict_failure(conflicts: Sequence[Conflict], context: AccessContext) -> Reason | None:
    """Return what stands in the way of separate duties, or None. What ended exactly `within_s` ago stands in nobody's way."""
    for conflict in conflicts:
        since = context.begins - timedelta(seconds=conflict.within_s)
        for holding in context.held:
            same = (holding.target, holding.entitlement) == (conflict.target, conflict.entitlement)
            if same and (holding.until is None or holding.until > since):
                return Reason(Code.CONFLICT, None, f"{conflict.target}/{conflict.entitlement}")
    return None


def _watched(rules: Iterable[CompiledRule]) -> Mapping[tuple[str, str], tuple[Conflict, ...]]:
    """Return (target, entitlement) -> what it is kept apart from; a conflict written on one side holds on both."""
    found: dict[tuple[str, str], list[Conflict]] = defaultdict(list)
    for rule in rules:
        for conflict in rule.terms.course.conflicts:
            for entitlement in rule.entitlements:
                found[rule.target, entitlement].append(conflict)
                found[conflict.target, conflict.entitlement].append(
                    Conflict(rule.target, entitlement, conflict.within_s)
                )
    return {pair: courses.longest(conflicts) for pair, conflicts in found.items()}


def input_problem(asks: Sequence[AskTerm], inputs: Inputs) -> Reason | None:
    """Return what is wrong with the inputs, or None. True is not 1; every constraint of every rule holds."""
    names = {term.name for term in asks}
    for name in inputs:
        if name not in names:
            return Reason(Code.UNKNOWN_INPUT, None, name)
    for term in asks:
        if term.name not in inputs:
            return Reason(Code.MISSING_INPUT, None, term.name)
        if not _fits(term, inputs[term.name]):
            return Reason(Code.INVALID_INPUT, None, term.name)
    return None


def _fits(term: AskTerm, value: str | int | bool) -> bool:
    kind = term.kind  # compared by identity: this runs for every decision
    if kind is AskKind.INTEGER:
        return type(value) is int and term.low <= value <= term.high
    if kind is AskKind.STRING:
        return (
            type(value) is str
            and 0 < len(value) <= term.max_length
            and value.isprintable()
            and (term.pattern is None or term.pattern.fullmatch(value) is not None)
        )
    if kind is AskKind.BOOLEAN:
        return type(value) is bool
    assert_never(kind)


def _strictest(all_terms: Sequence[Terms]) -> Terms | None:
    """Merge; None when what is left is empty."""
    merged = Terms(
        min_s=max(terms.min_s for terms in all_terms),
        default_s=min(terms.default_s for terms in all_terms),
        max_s=min(terms.max_s for terms in all_terms),
        activate_within_s=_soonest([terms.activate_within_s for terms in all_terms]),
        pending_s=_least([terms.pending_s for terms in all_terms]),
        credential=max(terms.credential for terms in all_terms),
        token_ttl_s=min(terms.token_ttl_s for terms in all_terms),
        active_per_person=_least([terms.active_per_person for terms in all_terms]),
        per_day=_least([terms.per_day for terms in all_terms]),
        approval=_all_approvals([terms.approval for terms in all_terms if terms.approval is not None]),
        course=courses.strictest([terms.course for terms in all_terms]),
    )
    if merged.min_s > merged.max_s:
        return None
    if merged.default_s >= merged.min_s:
        return merged
    return replace(merged, default_s=merged.min_s)


def _least(values: Sequence[int | None]) -> int | None:
    return min((value for value in values if value is not None), default=None)


def _soonest(values: Sequence[int | None]) -> int | None:
    """Return the least; None, where the clock starts with the grant, is sooner than any wait for the first use."""
    present = [value for value in values if value is not None]
    return min(present) if len(present) == len(values) else None


def _all_approvals(approvals: Sequence[ApprovalTerms]) -> ApprovalTerms | None:
    """Ask for every step of every rule.

    Steps of two rules that differ only in count become one with the larger count; steps that share a name but not their
    people or their place both stay, the later one with a `+` to its name.
    """
    if not approvals:
        return None
    steps: dict[str, Step] = {}
    reach: dict[str, Reach] = {}
    credentials: dict[str, CredentialClass] = {}
    for approval in approvals:
        named: dict[str | None, str | None] = {None: None}
        for step in _in_order(approval.steps):
            name, after = step.name, named[step.after]
            while (known := steps.get(name)) is not None:
                if (known.groups, known.institution, known.after) == (step.groups, step.institution, after):
                    break
                name += "+"
            named[step.name] = name
            most = max(known.count, step.count) if known else step.count
            steps[name] = Step(name, most, step.groups, step.institution, after)
            own = replace(approval.reach_of(step.name), step=name)
            reach[name] = asking.both(reach[name], own) if known else own
            needed = approval.credential_of(step.name)
            if needed is not None:
                credentials[name] = max(credentials.get(name, CredentialClass.ANY), CredentialClass[needed.upper()])
    return ApprovalTerms(
        tuple(steps.values()),
        frozenset[str]().union(*(approval.distinct for approval in approvals)),
        frozenset[str]().union(*(approval.never for approval in approvals)),
        tuple(found for name, found in reach.items() if found != Reach(name)),
        asking.all_read_back(approvals),
        deputies_s=courses.only_where_all([approval.deputies_s for approval in approvals]),
        credentials=tuple((name, credentials[name].name.lower()) for name in steps if name in credentials),
    )


def _in_order(steps: Sequence[Step]) -> list[Step]:
    """Return the steps, each behind the one it comes after; `load` has refused circles and unknown names."""
    by_name = {step.name: step for step in steps}

    def depth(step: Step) -> int:
        return 0 if step.after is None else 1 + depth(by_name[step.after])

    return sorted(steps, key=depth)


def _all_asks(rules: Sequence[CompiledRule]) -> tuple[AskTerm, ...]:
    found: dict[AskTerm, None] = {}
    for rule in rules:
        found.update(dict.fromkeys(rule.ask))
    return tuple(found)


def _target(key: str, found: Mapping[str, Any]) -> TargetFacts:
    return TargetFacts(
        id=key,
        name=called(found["name"]),
        owner=found["owner"],
        entitlements={
            name: EntitlementFacts(name, called(part["label"]), part["max_s"], part["risk"])
            for name, part in found["entitlements"].items()
        },
        connector=found["connector"],
        config_digest=digest_b64u({key: {name: part for name, part in found.items() if name != "reconcile"}}),
        reconcile=found.get("reconcile", {}),
    )


def _name_parts(right: EntitlementFacts, rule: CompiledRule, found: Mapping[str, Any]) -> None:
    """Remember with an entitlement how its inputs and steps are called; of several rules the first by id says it."""
    for term in rule.ask:
        right.asks.setdefault(term.name, term)
    for step in (found["approve"] or {}).get("steps", ()):
        if "label" in step:
            right.steps.setdefault(step["name"], called(step["label"]))


def _window(found: Mapping[str, Any], holidays: Mapping[str, Sequence[str]]) -> Window:
    return Window(
        frozenset(DAYS.index(day) for day in found["days"]),
        found["from_min"],
        found["to_min"],
        ZoneInfo(found["zone"]),
        frozenset(holidays[found["except"]]) if found["except"] else frozenset(),
    )


def _rule(
    key: str, found: Mapping[str, Any], targets: Mapping[str, TargetFacts], windows: Mapping[str, Window]
) -> CompiledRule:
    target = targets[found["target"]]
    credential = CredentialClass[found["credential"].upper()]
    approve = found["approve"]
    approval = None
    if approve is not None:
        steps = tuple(
            Step(
                step["name"],
                step["count"],
                tuple(step["groups"]),
                target.owner if step["institution"] == "owner" else step["institution"],
                step["after"],
            )
            for step in approve["steps"]
        )
        if not steps:
            raise ValueError("`approve` without steps")
        # Raises for steps that cannot mean anything, such as a count of 0 (T-01).
        count(steps, distinct=frozenset(approve["distinct"]), requester="", votes=())
        approval = ApprovalTerms(
            steps,
            frozenset(approve["distinct"]) | {"person"},
            frozenset(approve["never"]) | {"requester"},
            asking.reach_of_rule(approve, steps),
            asking.read_back_of(approve),
            deputies_s=approve.get("deputies_s"),
            credentials=asking.credentials_of_rule(approve),
        )
        for _, needed in approval.credentials:
            CredentialClass[needed.upper()]
    caps = [target.entitlements[name].max_s for name in found["entitlements"]]
    return CompiledRule(
        id=key,
        target=target.id,
        entitlements=frozenset(found["entitlements"]),
        groups=frozenset(found["groups"]),
        credential=credential,
        windows=tuple((name, windows[name]) for name in found["during"]),
        ask=tuple(_ask(part) for part in found["ask"]),
        when_text=found["when"],
        terms=Terms(
            min_s=found["min_s"],
            default_s=found["default_s"],
            max_s=min([found["max_s"], *caps]),
            activate_within_s=found["activate_within_s"],
            pending_s=approve["pending_s"] if approve is not None else None,
            credential=credential,
            token_ttl_s=min(found["token_ttl_s"], MAX_TOKEN_TTL_S),
            active_per_person=found["active_per_person"],
            per_day=found["per_day"],
            approval=approval,
            course=Course.from_document(found),
        ),
    )


def _ask(found: Mapping[str, Any]) -> AskTerm:
    return AskTerm(
        name=found["name"],
        kind=AskKind(found["type"]),
        label=called(found["label"]),
        pattern=re.compile(found["matches"], re.ASCII) if found.get("matches") else None,
        max_length=found.get("max_length", MAX_INPUT_CHARS),
        low=found.get("min", 0),
        high=found.get("max", 0),
        currency=found.get("currency"),
    )
