"""Small policy sets and registers for tests: YAML text, put together from the parts that a test speaks of."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from jitaccess.domain.register import PersonView, RegisterView
from jitaccess.policy.evaluate import AccessContext, CredentialClass, PolicySet
from jitaccess.policy.load import load
from jitaccess.policy.problems import PolicyErrors, PolicyProblem

MONDAY = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)

Parts = dict[str, Any]


def rule(id: str = "ask", **parts: Any) -> Parts:
    """Return one rule: staff get `use` of `vault` for 30 minutes to an hour without approval, but for `parts`."""
    shape: Parts = {
        "id": id,
        "for": {"groups": ["staff"]},
        "to": {"target": "vault", "entitlements": ["use"]},
        "duration": {"default": "30m", "max": "1h"},
        "approve": "none",
    }
    return {key: value for key, value in (shape | parts).items() if value is not None}


def approve(*steps: Parts, **parts: Any) -> Parts:
    """Return the value of `approve`; without steps one of the heads signs."""
    return {"steps": list(steps) or [{"name": "head", "groups": ["heads"], "count": 1}], **parts}


def document(*rules: Parts, **sections: Any) -> Parts:
    """Return a file with one institution, target and rule, but for what is given."""
    return {
        "version": 1,
        "institutions": {"mof": {"name": "Ministry"}, "infra": {"name": "Infrastructure"}},
        "targets": {
            "vault": {
                "name": "Vault",
                "owner": "infra",
                "entitlements": {"use": {"max_duration": "8h"}, "own": {"max_duration": "2h", "risk": "high"}},
                "connector": {"kind": "token", "audience": "https://vault.example"},
            }
        },
        "rules": list(rules),
    } | sections


def text(value: Parts) -> str:
    """Return a file as YAML: JSON is YAML, and quotes keep every text a text."""
    return json.dumps(value, indent=1)


def policies(*rules: Parts, register: RegisterView | None = None, **sections: Any) -> PolicySet:
    """Load one file of these rules."""
    return load({"p.yaml": text(document(*rules, **sections))}, register=register)


def problems(*rules: Parts, register: RegisterView | None = None, **sections: Any) -> tuple[PolicyProblem, ...]:
    """Return what is wrong with one file of these rules; nothing when it loads."""
    return load_problems({"p.yaml": text(document(*rules, **sections))}, register=register)


def load_problems(files: Mapping[str, str], *, register: RegisterView | None = None) -> tuple[PolicyProblem, ...]:
    """Return what is wrong with a folder; nothing when it loads."""
    try:
        load(files, register=register)
    except PolicyErrors as errors:
        return errors.problems
    return ()


def person(
    id: str = "ana", *groups: str, institution: str = "mof", manager: str | None = None, **state: bool
) -> PersonView:
    """Return a person, named like the id."""
    return PersonView(id, id.title(), institution, "unit", manager, frozenset(groups), **state)


def register(*persons: PersonView, groups: Sequence[str] = ("staff", "heads", "owners")) -> RegisterView:
    """Return a register with these persons and groups."""
    return RegisterView({one.id: one for one in persons}, frozenset(groups), frozenset({"mof", "infra"}))


def context(who: PersonView | None = None, **parts: Any) -> AccessContext:
    """Return the context of a member of staff asking for `use` of `vault` on Monday, but for `parts`."""
    shape: Parts = {
        "person": who or person("ana", "staff"),
        "credential": CredentialClass.SYNCED,
        "target": "vault",
        "entitlement": "use",
        "inputs": {},
        "duration_s": None,
        "now": MONDAY,
    }
    return AccessContext(**(shape | parts))
