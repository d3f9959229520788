"""Is this folder of YAML a policy set? Parse, validate, cross-check, and bring into the normal form (R22, R27, T-01).

The order of files and rules never matters: the normal form is keyed by id and its digest is taken over the RFC 8785 form. Groups and
members come from the register as a value. Every problem found is reported, not only the first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import BaseModel, ValidationError

from jitaccess.domain.approval import ApprovalTerms, eligible, satisfiable
from jitaccess.domain.register import RegisterView
from jitaccess.policy import schema
from jitaccess.policy.conditions import BadCondition, Condition
from jitaccess.policy.evaluate import PolicySet
from jitaccess.policy.problems import Level, PolicyErrors, PolicyProblem, nearest
from jitaccess.policy.yaml import Source, parse
from jitaccess.proof.canonical import JsonValue
from jitaccess.proof.errors import ProofError
from jitaccess.proof.quorum import Step, count

MAX_FILES = 200
NOT_BUILT = frozenset(
    {
        "conflicts", "extensions", "end", "escalate", "delay", "risk", "notify", "revoke", "break_glass",
        "change_control", "reconcile", "uses", "idle",
    }
)  # fmt: skip
"""Terms of the language that are not built yet: refused like any unknown key, but said so."""
Path = tuple[str | int, ...]


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
                    self.problems.append(file.source.problem((section, key), f'"{key}" stands in another file too'))
                found[key] = (file, value)
        return found


def load(files: Mapping[str, str], *, register: RegisterView | None = None) -> PolicySet:
    """Return the compiled set with its warnings; raises PolicyErrors. `files` maps file name to text."""
    parsed = _parse_all(files)
    checker = _Checker(parsed, register)
    document = checker.document()
    errors = [problem for problem in checker.problems if problem.level is Level.ERROR]
    if errors:
        raise PolicyErrors(errors)
    policies = PolicySet.from_document(document)
    warnings = checker.reachability(policies)
    errors = [problem for problem in warnings if problem.level is Level.ERROR]
    if errors:
        raise PolicyErrors(errors)
    policies.warnings = tuple(sorted(warnings))
    return policies


def _parse_all(files: Mapping[str, str]) -> list[_File]:
    problems: list[PolicyProblem] = []
    if not files:
        raise PolicyErrors([PolicyProblem("policies", 1, 1, "-", "no policy file was found")])
    if len(files) > MAX_FILES:
        raise PolicyErrors([PolicyProblem("policies", 1, 1, "-", f"more than {MAX_FILES} files")])
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
            problems += [_told(source, found["loc"], found["type"], found["msg"]) for found in error.errors()]
    if problems:
        raise PolicyErrors(problems)
    return parsed


_BRANCHES = frozenset({"string", "integer", "boolean", "Approve", "literal['none']"})


def _told(source: Source, loc: Path, kind: str, message: str) -> PolicyProblem:
    # pydantic names the branch of a union in `loc`; such a part is no key of the file.
    path = loc if loc in source.at else tuple(part for part in loc if part not in _BRANCHES)
    if kind == "extra_forbidden":
        name = str(path[-1])
        known = _known_keys(path)
        built = "this term is not built yet" if name in NOT_BUILT else "unknown key"
        return source.problem(path, f'{built}: "{name}"{nearest(name, known)}')
    if kind == "missing":
        return source.problem(path, f'the key "{path[-1]}" is missing')
    return source.problem(path, message.removeprefix("Value error, "))


_MODELS: tuple[type[BaseModel], ...] = (
    schema.PolicyFile, schema.Window, schema.Target, schema.Entitlement, schema.TokenConnector, schema.Rule, schema.For,
    schema.To, schema.AskText, schema.AskInteger, schema.AskBoolean, schema.DurationTerms, schema.Limits,
    schema.Approve, schema.ApproveStep, schema.TokenTerms, schema.Denial, schema.Institution,
)  # fmt: skip
_PARENTS: Mapping[str, type[BaseModel]] = {
    "for": schema.For, "to": schema.To, "duration": schema.DurationTerms, "limits": schema.Limits,
    "approve": schema.Approve, "token": schema.TokenTerms, "connector": schema.TokenConnector,
}  # fmt: skip


def _known_keys(path: Path) -> list[str]:
    parent = path[-2] if len(path) > 1 else None
    models: Sequence[type[BaseModel]] = _MODELS
    if isinstance(parent, str) and parent in _PARENTS:
        models = (_PARENTS[parent],)
    return [field.alias or name for model in models for name, field in model.model_fields.items()]


class _Checker:
    """Cross-checks that no single file can tell."""

    def __init__(self, files: Sequence[_File], register: RegisterView | None) -> None:
        self.problems: list[PolicyProblem] = []
        self._files = files
        self._register = register
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
        self._wrong(file, path, f'unknown {what} "{name}"{nearest(name, known)}')
        return False

    def document(self) -> JsonValue:
        """Check and return the normal form."""
        rules: dict[str, JsonValue] = {}
        denials: dict[str, JsonValue] = {}
        for file in self._files:
            for number, rule in enumerate(file.model.rules):
                path: Path = ("rules", number)
                if rule.id in rules or rule.id in denials:
                    self._wrong(file, (*path, "id"), f'the id "{rule.id}" stands twice')
                rules[rule.id] = self._rule(file, path, rule)
            for number, denial in enumerate(file.model.denials):
                path = ("denials", number)
                if denial.id in rules or denial.id in denials:
                    self._wrong(file, (*path, "id"), f'the id "{denial.id}" stands twice')
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
            "connector": {
                "kind": value.connector.kind,
                "audience": value.connector.audience,
                "initiate_login": value.connector.initiate_login,
            },
        }

    def _rule(self, file: _File, path: Path, rule: schema.Rule) -> JsonValue:
        if self._must_know(file, (*path, "to", "target"), "target", rule.to.target, self._targets):
            target = self._targets[rule.to.target][1]
            assert isinstance(target, schema.Target)  # noqa: S101 - gathered by section
            for number, name in enumerate(rule.to.entitlements):
                here = (*path, "to", "entitlements", number)
                if (
                    self._must_know(file, here, "entitlement", name, target.entitlements)
                    and rule.duration.max > target.entitlements[name].max_duration
                ):
                    most = schema.format_duration(target.entitlements[name].max_duration)
                    self._wrong(
                        file, (*path, "duration", "max"), f'longer than the entitlement "{name}" allows ({most})'
                    )
        for number, name in enumerate(rule.during):
            self._must_know(file, (*path, "during", number), "window", name, self._windows)
        self._groups(file, (*path, "for", "groups"), rule.for_.groups)
        names = [ask.name for ask in rule.ask]
        for number, name in enumerate(names):
            if name in names[:number]:
                self._wrong(file, (*path, "ask", number, "name"), f'the input "{name}" stands twice')
        if rule.when is not None:
            self._condition(file, (*path, "when"), rule.when, {ask.name: ask.type for ask in rule.ask})
        approve = rule.approve if isinstance(rule.approve, schema.Approve) else None
        if approve is not None:
            self._approve(file, (*path, "approve"), approve)
        return {
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
            "token_ttl_s": rule.token.ttl if rule.token else None,
        }

    def _groups(self, file: _File, path: Path, groups: Sequence[str]) -> None:
        if self._register is not None:
            for number, name in enumerate(groups):
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

    def _condition(self, file: _File, path: Path, text: str, inputs: Mapping[str, str]) -> None:
        try:
            Condition(text, inputs)
        except BadCondition as error:
            line, column = file.source.at.get(path, (1, 1))
            shown = file.source.problem(path, f"in the condition, column {error.column}: {error}")
            self.problems.append(replace(shown, line=line, column=column))

    def reachability(self, policies: PolicySet) -> list[PolicyProblem]:
        """Return errors for rules nobody could ever get approved, and warnings for those that one absence would lock."""
        found: list[PolicyProblem] = []
        if self._register is None:
            return found
        for file in self._files:
            for number, rule in enumerate(file.model.rules):
                approval = policies.rules[rule.id].terms.approval
                if approval is not None:
                    found += self._reach(file, ("rules", number, "approve", "steps"), rule, approval, self._register)
        return found

    def _reach(
        self, file: _File, path: Path, rule: schema.Rule, approval: ApprovalTerms, register: RegisterView
    ) -> list[PolicyProblem]:
        requesters = sorted(frozenset().union(*(register.members(group) for group in rule.for_.groups)))
        able = [person for person in requesters if satisfiable(approval, register=register, requester=person)]
        if not able and (requesters or not satisfiable(approval, register=register, requester="")):
            return [file.source.problem(path, "nobody could ever meet these steps: too few different people")]
        found: list[PolicyProblem] = []
        for person in requesters:
            if person not in able:
                message = f"{register.persons[person].name} could never get this approved"
                found.append(replace(file.source.problem(path, message), level=Level.WARNING))
        for number, step in enumerate(approval.steps):
            people = eligible(step, register=register, requester="", never=approval.never)
            if len(people) == step.count:
                message = f'one absence locks the step "{step.name}": only {len(people)} could sign it'
                found.append(replace(file.source.problem((*path, number), message), level=Level.WARNING))
        return found


def _ask_document(ask: schema.AskText | schema.AskInteger | schema.AskBoolean) -> JsonValue:
    base: dict[str, JsonValue] = {"name": ask.name, "type": ask.type, "label": ask.label or ask.name}
    match ask:
        case schema.AskText():
            return base | {"matches": ask.matches, "max_length": ask.max_length}
        case schema.AskInteger():
            return base | {"min": ask.min, "max": ask.max}
        case schema.AskBoolean():
            return base


def _approve_document(approve: schema.Approve) -> JsonValue:
    return {
        "steps": [
            {
                "name": step.name,
                "count": step.count,
                "groups": [*sorted(set(step.groups))],
                "institution": step.institution,
                "after": step.after,
            }
            for step in approve.steps
        ],
        "distinct": [*sorted(set(approve.distinct))],
        "never": [*sorted(set(approve.never))],
        "pending_s": approve.pending,
    }
