"""Is this folder of YAML a policy set? Parse, validate, cross-check, and bring into the normal form (R22, R27, T-01).

The order of files and rules never matters: the normal form is keyed by id and its digest is taken over the RFC 8785 form. Groups and
members come from the register as a value. Every problem found is reported, not only the first.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from jitaccess.domain.approval import (
    NO_LONGER_WAIT_S,
    ApprovalTerms,
    barred,
    could_sign,
    indispensable,
    satisfiable_without,
)
from jitaccess.domain.register import RegisterView
from jitaccess.policy import schema
from jitaccess.policy.asking import ENTITLEMENT
from jitaccess.policy.conditions import BadCondition, Condition
from jitaccess.policy.course import OWNER, Conflict, Course, Delay, Extensions, notices
from jitaccess.policy.evaluate import PolicySet
from jitaccess.policy.expected import wanted
from jitaccess.policy.problems import Level, PolicyErrors, PolicyProblem, nearest
from jitaccess.policy.yaml import Path, Source, parse
from jitaccess.proof.canonical import JsonValue
from jitaccess.proof.errors import ProofError
from jitaccess.proof.quorum import Step, count
from jitaccess.told import Told, told

MAX_FILES = 200
NOT_BUILT = frozenset(
    {
        "risk", "revoke", "break_glass",
        "change_control", "uses", "idle",
    }
)  # fmt: skip
"""Terms of the language that are not built yet: refused like any unknown key, but said so."""


@dataclass(frozen=True, slots=True)
class _File:
    source: Source
    model: schema.PolicyFile


@dataclass(slots=True)
class _Found:
    """Everything of one kind by id, with where it stands."""

    problems: list[PolicyProblem]

    def gather(self, files: Sequence[_File], section: str) -> dict[str, tuple[_File, object]]:
        found: dict[str, tuple[_File, object]] = {}
        for file in files:
            for key, value in getattr(file.model, section).items():
                if key in found:
                    self.problems.append(
                        file.source.problem((section, key), told('"%(key)s" stands in another file too', key=key))
                    )
                found[key] = (file, value)
        return found


def load(
    files: Mapping[str, str],
    *,
    register: RegisterView | None = None,
    connectors: Mapping[str, type[BaseModel]] = schema.CONNECTORS,
) -> PolicySet:
    """Return the compiled set with its warnings; raises PolicyErrors with every problem found.

    `files` maps file name to text; `connectors` the kinds of target to the models of their configuration. Without a register nothing
    about groups, members and reachable thresholds is checked: a set that is to become active is loaded with it.
    """
    parsed = _parse_all(files)
    checker = _Checker(parsed, register, connectors)
    document = checker.document()
    errors = [problem for problem in checker.problems if problem.level is Level.ERROR]
    if errors:
        raise PolicyErrors(errors)
    policies = PolicySet.from_document(document)
    found = checker.reachability(policies)
    errors = [problem for problem in found if problem.level is Level.ERROR]
    if errors:
        raise PolicyErrors(errors)
    return replace(policies, warnings=tuple(sorted([*checker.shared_audiences(), *found])))


def _parse_all(files: Mapping[str, str]) -> list[_File]:
    problems: list[PolicyProblem] = []
    if not files:
        raise PolicyErrors([PolicyProblem("policies", 1, 1, "-", "no policy file was found")])
    if len(files) > MAX_FILES:
        raise PolicyErrors(
            [PolicyProblem("policies", 1, 1, "-", told("more than %(max_files)s files", max_files=MAX_FILES))]
        )
    parsed: list[_File] = []
    for name, text in sorted(files.items()):
        try:
            source = parse(name, text)
        except PolicyErrors as error:
            problems += error.problems
            continue
        try:
            parsed.append(_File(source, schema.PolicyFile.model_validate(source.value)))
        except ValidationError as error:
            problems += [_told(source, found) for found in error.errors(include_url=False) if not _noise(found)]
    if problems:
        raise PolicyErrors(problems)
    return parsed


_BRANCHES = frozenset({"string", "integer", "boolean", "Approve", "literal['none']", "[key]"})
"""How pydantic names the branches of unions in `loc`: no keys of the file."""


def _noise(error: ErrorDetails) -> bool:
    """Say whether this is the branch of `approve` that the author did not mean."""
    branch = str(error["loc"][-1]) if error["loc"] else ""
    written = isinstance(error["input"], dict)
    return (branch == "literal['none']" and written) or (branch == "Approve" and not written)


def _told(source: Source, error: ErrorDetails, model: type[BaseModel] | None = None) -> PolicyProblem:
    loc, kind, found = error["loc"], error["type"], error["input"]
    path = loc if loc in source.at else tuple(part for part in loc if part not in _BRANCHES)
    if kind == "extra_forbidden":
        name = str(path[-1])
        built = told("this term is not built yet") if name in NOT_BUILT else told("unknown key")
        known = _known_keys(path) if model is None else _keys_of(model)
        return source.problem(
            path, told('%(built)s: "%(name)s"%(near)s', built=built, name=name, near=nearest(name, known))
        )
    if kind == "missing":
        return source.problem(path, told('the key "%(path)s" is missing', path=path[-1]))
    if kind == "value_error":
        raised = error.get("ctx", {}).get("error")
        return source.problem(path, raised.args[0] if raised else error["msg"].removeprefix("Value error, "))
    text = error["msg"].removeprefix("Input should be ").removeprefix("a ")
    if kind == "union_tag_invalid":
        found, text = error["ctx"]["tag"], error["ctx"]["expected_tags"]
    near = nearest(found, re.findall("'([a-z_]+)'", text)) if isinstance(found, str) else ""
    expected = wanted(kind, text[:1].lower() + text[1:], error.get("ctx", {}))
    return source.problem(
        path, told("found %(found)s, expected %(expected)s%(near)s", found=_shown(found), expected=expected, near=near)
    )


_WORDS: Mapping[str, Told] = {
    "target": told("target"),
    "entitlement": told("entitlement"),
    "window": told("window"),
    "group": told("group"),
    "institution": told("institution"),
    "person": told("person"),
}


def _shown(found: object) -> str:
    match found:
        case dict():
            return told("a mapping")
        case list():
            return told("a list")
        case bool():
            return str(found).lower()
        case str():
            return f'"{found[:60]}"'
        case _:
            return str(found)


_Models = tuple[type[BaseModel], ...]
_ENTRIES: Mapping[str, _Models] = {
    "windows": (schema.Window,), "targets": (schema.Target,), "institutions": (schema.Institution,),
    "entitlements": (schema.Entitlement,), "rules": (schema.Rule,), "denials": (schema.Denial,),
    "escalate": (schema.Escalation,), "read_back": (schema.ReadBack,),
    "steps": (schema.ApproveStep,), "conflicts": (schema.ConflictWith,), "exceptions": (schema.ExceptedAccount,),
    "ask": (schema.AskText, schema.AskInteger, schema.AskBoolean),
}  # fmt: skip
"""What an entry of a list or mapping of this name is."""
_PARTS: Mapping[str, _Models] = {
    "reconcile": (schema.Reconcile,),
    "for": (schema.For,), "to": (schema.To,), "duration": (schema.DurationTerms,), "limits": (schema.Limits,),
    "approve": (schema.Approve,), "extensions": (schema.ExtensionTerms,), "delay": (schema.DelayTerms,),
    "notify": (schema.NotifyTerms,), "token": (schema.TokenTerms,),
}  # fmt: skip


def _known_keys(path: Path) -> list[str]:
    """Return the keys that may stand beside the last part of a path."""
    parent = str(path[-2]) if len(path) > 1 else ""
    entry_of = str(path[-3]) if len(path) > 2 else ""
    models = _ENTRIES.get(entry_of) or _PARTS.get(parent) or (schema.PolicyFile,)
    return [name for model in models for name in _keys_of(model)]


def _keys_of(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


class _Checker:
    """Cross-checks that no single file can tell."""

    def __init__(
        self, files: Sequence[_File], register: RegisterView | None, connectors: Mapping[str, type[BaseModel]]
    ) -> None:
        self.problems: list[PolicyProblem] = []
        self._connectors = connectors
        self._files = files
        self._register = register
        self._reaches: dict[ApprovalTerms, _Reach] = {}
        found = _Found(self.problems)
        self._institutions = found.gather(files, "institutions")
        self._holidays = found.gather(files, "holidays")
        self._windows = found.gather(files, "windows")
        self._targets = found.gather(files, "targets")

    def _wrong(self, file: _File, path: Path, message: str) -> None:
        self.problems.append(file.source.problem(path, message))

    def _must_know(
        self, file: _File, path: Path, what: str, name: str, known: Mapping[str, object] | frozenset[str]
    ) -> bool:
        if name in known:
            return True
        self._wrong(
            file,
            path,
            told(
                'unknown %(what)s "%(name)s"%(near)s', what=_WORDS.get(what, what), name=name, near=nearest(name, known)
            ),
        )
        return False

    def document(self) -> JsonValue:
        """Check and return the normal form."""
        rules: dict[str, JsonValue] = {}
        denials: dict[str, JsonValue] = {}
        for file in self._files:
            for number, rule in enumerate(file.model.rules):
                path: Path = ("rules", number)
                if rule.id in rules or rule.id in denials:
                    self._wrong(file, (*path, "id"), told('the id "%(id)s" stands twice', id=rule.id))
                rules[rule.id] = self._rule(file, path, rule)
            for number, denial in enumerate(file.model.denials):
                path = ("denials", number)
                if denial.id in rules or denial.id in denials:
                    self._wrong(file, (*path, "id"), told('the id "%(id)s" stands twice', id=denial.id))
                self._condition(file, (*path, "when"), denial.when, {})
                denials[denial.id] = {"when": denial.when}
        return {
            "v": 1,
            "institutions": {key: {"name": value.name} for key, (_, value) in self._institutions.items()},  # type: ignore[attr-defined] # gathered by section
            "holidays": {key: sorted(value) for key, (_, value) in self._holidays.items()},  # type: ignore[call-overload] # gathered by section
            "windows": {key: self._window(file, key, value) for key, (file, value) in self._windows.items()},
            "targets": {key: self._target(file, key, value) for key, (file, value) in self._targets.items()},
            "rules": rules,
            "denials": denials,
        }

    def _window(self, file: _File, key: str, value: object) -> JsonValue:
        assert isinstance(value, schema.Window)  # noqa: S101 - gathered by section
        if value.except_ is not None:
            self._must_know(file, ("windows", key, "except"), "holiday list", value.except_, self._holidays)
        return {
            "days": sorted(set(value.days), key=schema.DAYS.index),
            "from_min": value.from_,
            "to_min": value.to,
            "zone": value.zone,
            "except": value.except_,
        }

    def _target(self, file: _File, key: str, value: object) -> JsonValue:
        assert isinstance(value, schema.Target)  # noqa: S101 - gathered by section
        self._must_know(file, ("targets", key, "owner"), "institution", value.owner, self._institutions)
        return {
            "name": value.name,
            "owner": value.owner,
            "entitlements": {
                name: {"label": part.label or name, "max_s": part.max_duration, "risk": part.risk}
                for name, part in value.entitlements.items()
            },
            "connector": self._connector(file, ("targets", key, "connector"), value),
            **_reconcile_document(value.reconcile),
        }

    def _connector(self, file: _File, path: Path, target: schema.Target) -> JsonValue:
        """Check what stands under `connector` with the model of its kind, and return its normal form."""
        kind = target.connector.get("kind")
        if not isinstance(kind, str):
            self._wrong(file, path, 'the key "kind" is missing: which kind of target is this?')
            return None
        if not self._must_know(file, (*path, "kind"), "kind of target", kind, self._connectors):
            return None
        model = self._connectors[kind]
        try:
            found = model.model_validate(target.connector).model_dump(mode="json")
        except ValidationError as error:
            for wrong in error.errors(include_url=False):
                placed: ErrorDetails = {**wrong, "loc": (*path, *wrong["loc"])}
                self.problems.append(_told(file.source, placed, model))
            return None
        meant = found.get("entitlements")
        if isinstance(meant, dict):
            # A kind that has to know what each entitlement means says so for all of them, and for no other.
            for name in sorted(target.entitlements.keys() ^ meant.keys()):
                here: Path = (*path, "entitlements", name) if name in meant else (*path, "entitlements")
                if name in meant:
                    self._wrong(file, here, told('"%(name)s" is no entitlement of this target', name=name))
                else:
                    self._wrong(file, here, told('"%(name)s" is missing here', name=name))
        return cast(JsonValue, found)

    def _rule(self, file: _File, path: Path, rule: schema.Rule) -> JsonValue:
        if self._must_know(file, (*path, "to", "target"), "target", rule.to.target, self._targets):
            target = self._targets[rule.to.target][1]
            assert isinstance(target, schema.Target)  # noqa: S101 - gathered by section
            for number, name in enumerate(rule.to.entitlements):
                here = (*path, "to", "entitlements", number)
                if not self._must_know(file, here, "entitlement", name, target.entitlements):
                    continue
                most_s = target.entitlements[name].max_duration
                if rule.duration.max > most_s:
                    most = schema.format_duration(most_s)
                    self._wrong(
                        file,
                        (*path, "duration", "max"),
                        told('longer than the entitlement "%(name)s" allows (%(most)s)', name=name, most=most),
                    )
                self._whole(file, (*path, "duration"), name, rule.duration, most_s)
        for number, name in enumerate(rule.during):
            self._must_know(file, (*path, "during", number), "window", name, self._windows)
        self._groups(file, (*path, "for", "groups"), rule.for_.groups)
        names = [ask.name for ask in rule.ask]
        for number, name in enumerate(names):
            if name in names[:number]:
                self._wrong(file, (*path, "ask", number, "name"), told('the input "%(name)s" stands twice', name=name))
        if rule.when is not None:
            self._condition(file, (*path, "when"), rule.when, {ask.name: ask.type for ask in rule.ask})
        if rule.delay is not None:
            self._groups(file, (*path, "delay", "veto"), rule.delay.veto, besides=OWNER)
        if rule.notify is not None:
            self._groups(file, (*path, "notify", "witnesses"), rule.notify.witnesses)
        approve = rule.approve if isinstance(rule.approve, schema.Approve) else None
        if approve is not None:
            self._approve(file, (*path, "approve"), approve)
            self._asking(file, (*path, "approve"), approve, {ask.name: ask.type for ask in rule.ask})
        return self._course(file, path, rule) | {
            "groups": [*sorted(set(rule.for_.groups))],
            "credential": rule.for_.credential,
            "target": rule.to.target,
            "entitlements": [*sorted(set(rule.to.entitlements))],
            "during": [*sorted(set(rule.during))],
            "ask": [_ask_document(ask) for ask in rule.ask],
            "when": rule.when,
            "min_s": rule.duration.min or 1,
            "default_s": rule.duration.default,
            "max_s": rule.duration.max,
            "activate_within_s": rule.duration.activate_within,
            "active_per_person": rule.limits.active_per_person,
            "per_day": rule.limits.per_day,
            "approve": None if approve is None else _approve_document(approve),
            "token_ttl_s": rule.token.ttl if rule.token else schema.DEFAULT_TOKEN_TTL_S,
        }

    def _course(self, file: _File, path: Path, rule: schema.Rule) -> dict[str, JsonValue]:
        """Check and return the members of `policy.course` that this rule uses."""
        conflicts = [
            self._conflict(file, (*path, "conflicts", n), rule, found) for n, found in enumerate(rule.conflicts)
        ]
        return Course(
            conflicts=tuple(sorted(found for found in conflicts if found is not None)),
            start_within_s=rule.duration.start_within,
            extensions=None
            if rule.duration.extensions is None
            else Extensions(rule.duration.extensions.count, rule.duration.extensions.total),
            grace_s=rule.duration.grace,
            warn_s=rule.duration.warn,
            notify=() if rule.notify is None else notices((event, rule.notify.witnesses) for event in rule.notify.on),
            delay=None if rule.delay is None else Delay(rule.delay.time_lock, tuple(sorted(set(rule.delay.veto)))),
        ).to_document()

    def _whole(self, file: _File, path: Path, name: str, terms: schema.DurationTerms, most_s: int) -> None:
        """Check that neither grace nor extensions let access last longer than the entitlement allows."""
        most = schema.format_duration(most_s)
        if terms.grace is not None and terms.max <= most_s < terms.max + terms.grace:
            self._wrong(
                file,
                (*path, "grace"),
                told('with `max` longer than the entitlement "%(name)s" allows (%(most)s)', name=name, most=most),
            )
        if terms.extensions is not None and terms.extensions.total > most_s:
            self._wrong(
                file,
                (*path, "extensions", "total"),
                told('longer than the entitlement "%(name)s" allows (%(most)s)', name=name, most=most),
            )

    def shared_audiences(self) -> list[PolicyProblem]:
        """Return warnings for targets whose tokens are good at each other's door: a verifier compares the audience and nothing else."""
        first: dict[str, str] = {}
        found: list[PolicyProblem] = []
        for key, (file, value) in self._targets.items():
            assert isinstance(value, schema.Target)  # noqa: S101 - gathered by section
            audience = value.connector.get("audience")
            if value.connector.get("kind") != "token" or not isinstance(audience, str):
                continue
            if first.setdefault(audience, key) != key:
                path: Path = ("targets", key, "connector", "audience")
                message = told('also that of "%(name)s": whoever may use one has tokens for both', name=first[audience])
                found.append(_warning(file, path, message))
        return found

    def _told(self, file: _File, path: Path, rule: schema.Rule) -> list[PolicyProblem]:
        """Check that those who may veto, and those who are told, exist."""
        found: list[PolicyProblem] = []
        register = self._register
        if register is None:
            return found
        owner = self._targets[rule.to.target][1]
        for number, name in enumerate(rule.delay.veto if rule.delay is not None else ()):
            owners = register.of_institution(owner.owner) if isinstance(owner, schema.Target) else frozenset[str]()
            if not (owners if name == OWNER else register.members(name)) & register.able:
                found.append(
                    file.source.problem(
                        (*path, "delay", "veto", number), told('"%(name)s" is nobody who could veto', name=name)
                    )
                )
        for number, name in enumerate(rule.notify.witnesses if rule.notify is not None else ()):
            if not register.members(name) & register.able:
                found.append(
                    _warning(
                        file,
                        (*path, "notify", "witnesses", number),
                        told('nobody is in "%(name)s" to be told', name=name),
                    )
                )
        return found

    def _conflict(self, file: _File, path: Path, rule: schema.Rule, found: schema.ConflictWith) -> Conflict | None:
        target = found.target or rule.to.target
        if not self._must_know(
            file, (*path, "target" if found.target else "entitlement"), "target", target, self._targets
        ):
            return None
        known = self._targets[target][1]
        assert isinstance(known, schema.Target)  # noqa: S101 - gathered by section
        if not self._must_know(file, (*path, "entitlement"), "entitlement", found.entitlement, known.entitlements):
            return None
        if target == rule.to.target and found.entitlement in rule.to.entitlements:
            self._wrong(file, (*path, "entitlement"), "a rule cannot conflict with what it gives itself")
        twins = [
            part
            for part in rule.conflicts
            if (part.target or rule.to.target, part.entitlement) == (target, found.entitlement)
        ]
        if len(twins) > 1 and twins[0] is not found:
            self._wrong(
                file,
                (*path, "entitlement"),
                told('the conflict with "%(entitlement)s" stands twice', entitlement=found.entitlement),
            )
        return Conflict(target, found.entitlement, found.within)

    def _groups(self, file: _File, path: Path, groups: Sequence[str], *, besides: str | None = None) -> None:
        if self._register is not None:
            for number, name in enumerate(groups):
                if name == besides:
                    continue
                self._must_know(file, (*path, number), "group", name, self._register.groups)

    def _approve(self, file: _File, path: Path, approve: schema.Approve) -> None:
        for number, step in enumerate(approve.steps):
            here: Path = (*path, "steps", number)
            self._groups(file, (*here, "groups"), step.groups)
            if step.institution not in (None, "owner"):
                self._must_know(file, (*here, "institution"), "institution", str(step.institution), self._institutions)
        steps = [
            Step(step.name, step.count, tuple(step.groups), step.institution, step.after) for step in approve.steps
        ]
        try:
            count(steps, distinct=frozenset(approve.distinct), requester="", votes=())
        except ProofError as error:
            self._wrong(file, (*path, "steps"), f"{error} ({error.field})" if error.field else str(error))

    def _asking(self, file: _File, path: Path, approve: schema.Approve, inputs: Mapping[str, str]) -> None:
        """Check whom a rule escalates to and what it has read back."""
        steps = {step.name: step for step in approve.steps}
        for number, escalation in enumerate(approve.escalate):
            here: Path = (*path, "escalate", number)
            self._groups(file, (*here, "to"), escalation.to)
            if escalation.step is not None:
                self._must_know(file, (*here, "step"), "step", escalation.step, steps)
            if escalation.after >= approve.pending:
                self._wrong(file, (*here, "after"), "not before the request expires (`pending`)")
        for number, figure in enumerate(approve.read_back):
            here = (*path, "read_back", number)
            known = self._must_know(file, (*here, "figure"), "input", figure.figure, {**inputs, ENTITLEMENT: ""})
            if known and figure.above is not None and inputs.get(figure.figure) != "integer":
                self._wrong(file, (*here, "above"), "only a whole number can be above another")

    def _condition(self, file: _File, path: Path, text: str, inputs: Mapping[str, str]) -> None:
        try:
            Condition(text, inputs)
        except BadCondition as error:
            message = told("in the condition: %(error)s", error=error.args[0])
            self.problems.append(file.source.problem_inside(path, error.line, error.column, message))

    def reachability(self, policies: PolicySet) -> list[PolicyProblem]:
        """Return errors for rules nobody could ever get approved, and warnings for those that one absence would lock."""
        found: list[PolicyProblem] = []
        if self._register is None:
            return found
        for file in self._files:
            for number, rule in enumerate(file.model.rules):
                found += self._told(file, ("rules", number), rule)
                approval = policies.rules[rule.id].terms.approval
                if approval is not None:
                    found += self._reach(file, ("rules", number, "approve", "steps"), rule, approval, self._register)
        return found

    def _reach(
        self, file: _File, path: Path, rule: schema.Rule, approval: ApprovalTerms, register: RegisterView
    ) -> list[PolicyProblem]:
        reach = self._reaches.get(approval)
        if reach is None:
            reach = self._reaches[approval] = _Reach.of(approval, register)
        if not reach.without(frozenset()):
            return [
                file.source.problem(
                    path,
                    told("nobody could ever meet these steps: too few %(different)s", different=_different(approval)),
                )
            ]
        found: list[PolicyProblem] = []
        requesters = frozenset[str]().union(*(register.members(group) for group in rule.for_.groups))
        stuck = sorted(person for person in requesters if not reach.for_requester(person))
        if requesters and len(stuck) == len(requesters):
            message = told("nobody who may ask could ever get these steps met: too few others may sign")
            return [file.source.problem(path, message)]
        if stuck:
            names = ", ".join(register.persons[person].name for person in stuck[:5]) + (
                " ..." if len(stuck) > 5 else ""
            )
            found.append(
                _warning(
                    file,
                    path,
                    told("could never be approved for %(names)s", names=names),
                )
            )
        if reach.alone:
            found.append(
                _warning(file, path, told("a single absence locks this: %(names)s", names=", ".join(reach.alone)))
            )
        return found


@dataclass(frozen=True, slots=True)
class _Reach:
    """Who could meet one set of steps. Rules share few of them, and most requesters bar nobody who signs: each is asked once."""

    approval: ApprovalTerms
    register: RegisterView
    signers: frozenset[str]
    alone: tuple[str, ...]
    """Names of those whose single absence locks the steps."""
    met: dict[frozenset[str], bool] = field(default_factory=dict)

    @classmethod
    def of(cls, approval: ApprovalTerms, register: RegisterView) -> "_Reach":
        steps = could_sign(approval, register=register, requester="", waited_s=NO_LONGER_WAIT_S)
        alone = sorted(register.persons[person].name for person in indispensable(approval, register=register))
        return cls(approval, register, frozenset[str]().union(*steps.values()), tuple(alone))

    def for_requester(self, person: str) -> bool:
        return self.without(barred(person, register=self.register, never=self.approval.never))

    def without(self, absent: frozenset[str]) -> bool:
        absent &= self.signers
        if absent not in self.met:
            self.met[absent] = satisfiable_without(self.approval, register=self.register, absent=absent)
        return self.met[absent]


def _warning(file: _File, path: Path, message: str) -> PolicyProblem:
    return replace(file.source.problem(path, message), level=Level.WARNING)


def _different(approval: ApprovalTerms) -> str:
    return told("different institutions") if "institution" in approval.distinct else told("different people")


def _ask_document(ask: schema.AskText | schema.AskInteger | schema.AskBoolean) -> JsonValue:
    base: dict[str, JsonValue] = {"name": ask.name, "type": ask.type, "label": ask.label or ask.name}
    match ask:
        case schema.AskText():
            return base | {"matches": ask.matches, "max_length": ask.max_length}
        case schema.AskInteger():
            bounds: dict[str, JsonValue] = {"min": ask.min, "max": ask.max}
            return base | bounds | ({"currency": ask.currency} if ask.currency is not None else {})
        case schema.AskBoolean():
            return base


def _approve_document(approve: schema.Approve) -> JsonValue:
    document: dict[str, JsonValue] = {
        "steps": [_step_document(step) for step in approve.steps],
        "distinct": [*sorted({"person", *approve.distinct})],
        "never": [*sorted({"requester", *approve.never})],
        "pending_s": approve.pending,
        **({"deputies_s": approve.deputies} if approve.deputies is not None else {}),
    }
    # Members that a rule does not use are absent: sets without them keep their digest.
    if approve.escalate:
        document["escalate"] = [
            {"after_s": found.after, "groups": [*sorted(set(found.to))], "step": found.step}
            for found in approve.escalate
        ]
    if approve.read_back:
        document["read_back"] = [{"figure": found.figure, "above": found.above} for found in approve.read_back]
    return document


def _step_document(step: schema.ApproveStep) -> JsonValue:
    document: dict[str, JsonValue] = {
        "name": step.name,
        "count": step.count,
        "groups": [*sorted(set(step.groups))],
        "institution": step.institution,
        "after": step.after,
    }
    if step.label is not None:
        document["label"] = step.label
    if step.credential != "any":
        document["credential"] = step.credential
    if step.ask is not None:
        document["ask"] = {"people": step.ask.people, "others": step.ask.others == "may_sign"}
    return document


def _reconcile_document(reconcile: schema.Reconcile | None) -> dict[str, JsonValue]:
    """Return the part, or nothing where it is not written: sets from before it keep their digest."""
    if reconcile is None:
        return {}
    exceptions: list[JsonValue] = [
        {"account": one.account, "rights": None if one.rights is None else [*sorted(set(one.rights))], "why": one.why}
        for one in sorted(reconcile.exceptions, key=lambda one: one.account)
    ]
    found: JsonValue = {
        "every_s": reconcile.every,
        "unknown_account": reconcile.unknown_account,
        "exceptions": exceptions,
    }
    return {"reconcile": found}
