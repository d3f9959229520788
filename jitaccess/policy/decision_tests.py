"""Do the policies decide what their authors wrote down? Decision tests beside the policies (R29: they never run code).

`policies/tests/register.yaml` holds people and groups; every other file holds `cases`: person, target, entitlement, at, credential,
duration, inputs, active, today, held, starts_in, extending -> `expect` {effect, rules, reason, and any of the terms}.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jitaccess.domain.register import PersonView, RegisterView, expand_groups
from jitaccess.policy.evaluate import AccessContext, CredentialClass, Decision, Extending, Holding, PolicySet, decide
from jitaccess.policy.problems import PolicyErrors, nearest
from jitaccess.policy.schema import Credential, Duration, Id
from jitaccess.policy.yaml import parse
from jitaccess.proof.canonical import JsonValue
from jitaccess.told import told

REGISTER_FILE = "register.yaml"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Person(_Model):
    name: str
    institution: Id
    unit: str
    manager: Id | None = None
    groups: list[Id] = Field(default_factory=list)
    on_hold: bool = False
    active: bool = True


class _Register(_Model):
    groups: dict[Id, list[Id]]
    """Group id -> the groups inside it."""
    people: dict[Id, _Person]


class _Step(_Model):
    name: str
    count: int
    groups: list[str] = Field(default_factory=list)
    institution: str | None = None
    after: str | None = None


class _Held(_Model):
    """What the person has, or had: `ended` is how long ago, left out while it is live."""

    target: Id
    entitlement: Id
    ended: Duration | None = None


class _Conflict(_Model):
    target: Id
    entitlement: Id
    within_s: Annotated[Duration, Field(alias="within")]


class _Extending(_Model):
    """What the request would continue: how often it was continued, and how long it lasts in all."""

    count: Annotated[int, Field(ge=0)] = 0
    lasted: Duration


class _Extensions(_Model):
    count: int
    total_s: Annotated[Duration, Field(alias="total")]


class _Delay(_Model):
    time_lock_s: Annotated[Duration, Field(alias="time_lock")]
    veto: list[str] = Field(default_factory=list)


class _Escalation(_Model):
    after_s: int
    group: str


class _Reach(_Model):
    step: str
    people: int | None = None
    others: bool = True
    escalate: list[_Escalation] = Field(default_factory=list)


class _Signs(_Model):
    step: str
    credential: Credential


class _ReadBack(_Model):
    figure: str
    above: int | None = None


class _Expect(_Model):
    effect: Literal["permit", "deny"]
    rules: list[str] | None = None
    reason: str | None = None
    about: str | None = None
    min: Duration | None = None
    default: Duration | None = None
    max: Duration | None = None
    activate_within: Duration | None = None
    pending: Duration | None = None
    ttl: Duration | None = None
    active_per_person: int | None = None
    per_day: int | None = None
    credential: str | None = None
    distinct: list[str] | None = None
    never: list[str] | None = None
    steps: list[_Step] | None = None
    conflicts: list[_Conflict] | None = None
    start_within: Duration | None = None
    extensions: _Extensions | None = None
    grace: Duration | None = None
    warn: Duration | None = None
    notify: dict[str, list[str]] | None = None
    delay: _Delay | None = None
    reach: list[_Reach] | None = None
    read_back: list[_ReadBack] | None = None
    credentials: list[_Signs] | None = None
    deputies: Duration | None = None


class _Case(_Model):
    name: str
    person: Id
    target: Id
    entitlement: Id
    at: str
    credential: Credential = "synced"
    duration: Duration | None = None
    inputs: dict[Id, str | int | bool] = Field(default_factory=dict)
    active: Annotated[int, Field(ge=0)] = 0
    today: Annotated[int, Field(ge=0)] = 0
    held: list[_Held] = Field(default_factory=list)
    starts_in: Duration | None = None
    extending: _Extending | None = None
    expect: _Expect


class _Cases(_Model):
    cases: list[_Case]


@dataclass(frozen=True, slots=True)
class TestResult:
    """One case: what was expected and is not so; empty when it passed."""

    __test__ = False
    file: str
    name: str
    failures: tuple[str, ...]
    decision: Decision

    @property
    def passed(self) -> bool:
        """Say whether everything was as expected."""
        return not self.failures


def read_register(text: str, *, institutions: frozenset[str] = frozenset(), file: str = REGISTER_FILE) -> RegisterView:
    """Return the register of a test folder; raises PolicyErrors."""
    source = parse(file, text)
    try:
        model = _Register.model_validate(source.value)
    except ValidationError as error:
        raise PolicyErrors([source.problem(found["loc"], found["msg"]) for found in error.errors()]) from error
    closed = expand_groups(
        [(group, key) for key, person in model.people.items() for group in person.groups],
        [(group, inner) for group, inners in model.groups.items() for inner in inners],
    )
    unknown = [
        source.problem(
            ("people", key, "groups", number),
            told('unknown group "%(group)s"%(near)s', group=group, near=nearest(group, model.groups)),
        )
        for key, person in model.people.items()
        for number, group in enumerate(person.groups)
        if group not in model.groups
    ]
    unknown += [
        source.problem(
            ("groups", key, number),
            told('unknown group "%(inner)s"%(near)s', inner=inner, near=nearest(inner, model.groups)),
        )
        for key, inners in model.groups.items()
        for number, inner in enumerate(inners)
        if inner not in model.groups
    ]
    unknown += [
        source.problem(
            ("people", key, "manager"),
            told(
                'unknown person "%(manager)s"%(near)s',
                manager=person.manager,
                near=nearest(person.manager, model.people),
            ),
        )
        for key, person in model.people.items()
        if person.manager is not None and person.manager not in model.people
    ]
    unknown += [
        source.problem(
            ("people", key, "institution"),
            told('unknown institution "%(institution)s"', institution=person.institution),
        )
        for key, person in model.people.items()
        if institutions and person.institution not in institutions
    ]
    if unknown:
        raise PolicyErrors(unknown)
    return RegisterView(
        {
            key: PersonView(
                key,
                person.name,
                person.institution,
                person.unit,
                person.manager,
                closed.get(key, frozenset()),
                on_hold=person.on_hold,
                active=person.active,
            )
            for key, person in model.people.items()
        },
        frozenset(model.groups),
        institutions,
    )


def run_tests(policies: PolicySet, files: Mapping[str, str], register: RegisterView) -> list[TestResult]:
    """Run every case of every file; raises PolicyErrors for a file that cannot be read."""
    results: list[TestResult] = []
    for file, text in sorted(files.items()):
        source = parse(file, text)
        try:
            model = _Cases.model_validate(source.value)
        except ValidationError as error:
            raise PolicyErrors([source.problem(found["loc"], found["msg"]) for found in error.errors()]) from error
        for number, case in enumerate(model.cases):
            if case.person not in register.persons:
                raise PolicyErrors(
                    [
                        source.problem(
                            ("cases", number, "person"), told('unknown person "%(person)s"', person=case.person)
                        )
                    ]
                )
            at = _instant(case.at)
            if at is None:
                raise PolicyErrors([source.problem(("cases", number, "at"), "expected a time with its zone offset")])
            decision = decide(policies, _context(case, at, register))
            results.append(TestResult(file, case.name, _failures(case.expect, decision), decision))
    return results


def untested_rules(policies: PolicySet, results: Sequence[TestResult]) -> tuple[str, ...]:
    """Return the rules and denials that decided no case."""
    seen = {rule for result in results for rule in result.decision.matched}
    seen |= {reason.rule for result in results for reason in result.decision.reasons if reason.rule}
    return tuple(name for name in (*policies.rules, *(name for name, _ in policies.denials)) if name not in seen)


def _instant(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if at.tzinfo is None else at


def _context(case: _Case, at: datetime, register: RegisterView) -> AccessContext:
    return AccessContext(
        person=register.persons[case.person],
        credential=CredentialClass[case.credential.upper()],
        target=case.target,
        entitlement=case.entitlement,
        inputs=case.inputs,
        duration_s=case.duration,
        now=at,
        active_count=case.active,
        today_count=case.today,
        held=tuple(
            Holding(
                found.target, found.entitlement, None if found.ended is None else at - timedelta(seconds=found.ended)
            )
            for found in case.held
        ),
        start=None if case.starts_in is None else at + timedelta(seconds=case.starts_in),
        extending=None if case.extending is None else Extending(case.extending.count, case.extending.lasted),
    )


def _failures(expect: _Expect, decision: Decision) -> tuple[str, ...]:
    """Compare everything that the case names; `reason` and `about` name one of the reasons, together."""
    found: dict[str, JsonValue] = {"effect": decision.effect.value}
    if expect.rules is not None:
        found["rules"] = list(decision.matched)
    told = [reason for reason in decision.reasons if expect.about in (None, reason.about)]
    if expect.reason is not None:
        codes = [reason.code.value for reason in told]
        found["reason"] = expect.reason if expect.reason in codes else ", ".join(codes)
    if expect.about is not None:
        found["about"] = expect.about if told else ", ".join(reason.about for reason in decision.reasons)
    if decision.terms is not None:
        terms = decision.terms.to_document()
        approve = terms.get("approve")
        approve = approve if isinstance(approve, dict) else {"steps": [], "distinct": [], "never": []}
        found |= {
            "min": terms["min_s"],
            "default": terms["default_s"],
            "max": terms["max_s"],
            "activate_within": terms["activate_within_s"],
            "pending": terms["pending_s"],
            "ttl": terms["token_ttl_s"],
            "active_per_person": terms["active_per_person"],
            "per_day": terms["per_day"],
            "credential": terms["credential"],
            "steps": approve["steps"],
            "distinct": approve["distinct"],
            "never": approve["never"],
            "conflicts": terms.get("conflicts", []),
            "start_within": terms.get("start_within_s"),
            "extensions": terms.get("extensions"),
            "grace": terms.get("grace_s"),
            "warn": terms.get("warn_s"),
            "notify": terms.get("notify"),
            "delay": terms.get("delay"),
            "reach": approve.get("reach", []),
            "read_back": approve.get("read_back", []),
            "credentials": approve.get("credentials", []),
            "deputies": approve.get("deputies_s"),
        }
    lists = ("steps", "reach", "read_back", "credentials")
    wanted = expect.model_dump(exclude_unset=True, exclude=set(lists))
    for name in lists:
        rows = getattr(expect, name)
        if rows is not None:
            wanted[name] = [row.model_dump() for row in rows]
    return tuple(
        f"{name}: expected {wanted[name]!r}, found {found.get(name)!r}"
        for name in wanted
        if wanted[name] != found.get(name)
    )
