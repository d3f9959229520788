"""One more system in the policy: which lines say so, and is the active set with them a set? For the page on which a system is added.

The answers to a form become values, the values YAML by the library (`yaml.written`), and the YAML is read by the loader as any policy file
is: no second reader, no text pasted together. What is added is one system and one rule about it; it changes nothing that is there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

from pydantic import BaseModel

from jitaccess.domain.register import RegisterView
from jitaccess.policy.evaluate import PolicySet
from jitaccess.policy.load import load
from jitaccess.policy.problems import PolicyErrors, PolicyProblem
from jitaccess.policy.yaml import parse, written
from jitaccess.told import told

BESIDE = "active.yaml"
"""The name under which the loader gets what the addition may refer to; no file of ours is named so."""


class Signing(StrEnum):
    """Who signs before somebody gets in: the choices of the form."""

    ONE = "one"
    TWO = "two"
    OWNER = "owner"
    BOTH = "both"
    NONE = "none"


STEP_LABELS: Mapping[str, Mapping[str, str]] = {
    "colleague": {"en": "Colleague", "sq": "Kolegu", "sr": "Kolega"},
    "owner": {"en": "Owner of the system", "sq": "Pronari i sistemit", "sr": "Vlasnik sistema"},
}


@dataclass(frozen=True, slots=True)
class NewRight:
    """A right of the new system, as it was typed."""

    id: str
    labels: Mapping[str, str]
    """By language; an empty text is none."""
    longest: str
    risk: str


@dataclass(frozen=True, slots=True)
class NewSystem:
    """What the form says, unchecked: the loader checks it."""

    id: str
    names: Mapping[str, str]
    owner: str
    connector: Mapping[str, Any]
    rights: Sequence[NewRight]
    group: str
    """Who may ask."""
    usual: str
    longest: str
    signing: Signing
    signers: str
    """The group that signs, where one does."""

    @property
    def file(self) -> str:
        """Return the name of its file in a policy folder."""
        plain = self.id.isascii() and self.id.replace("-", "").replace("_", "").isalnum()
        return f"{self.id}.yaml" if plain and f"{self.id}.yaml" != BESIDE else "new-system.yaml"

    def text(self) -> str:
        """Return the file; raises PolicyErrors where a right stands twice, which a mapping cannot say."""
        right_ids = [right.id for right in self.rights]
        for name in sorted({name for name in right_ids if right_ids.count(name) > 1}):
            message = told('the right "%(name)s" stands twice', name=name)
            raise PolicyErrors([PolicyProblem(self.file, 1, 1, "-", message)])
        return written(
            {
                "version": 1,
                "targets": {
                    self.id: {
                        "name": _label(self.names),
                        "owner": self.owner,
                        "entitlements": {
                            right.id: {
                                "label": _label(right.labels) or right.id,
                                "max_duration": right.longest,
                                "risk": right.risk,
                            }
                            for right in self.rights
                        },
                        "connector": dict(self.connector),
                    }
                },
                "rules": [
                    {
                        "id": f"use-{self.id}",
                        "for": {"groups": [self.group]},
                        "to": {"target": self.id, "entitlements": right_ids},
                        "duration": {"default": self.usual, "max": self.longest},
                        "approve": self._approve(),
                    }
                ],
            }
        )

    def _approve(self) -> str | dict[str, Any]:
        if self.signing is Signing.NONE:
            return "none"
        colleagues = {"groups": [self.signers], "count": 2 if self.signing is Signing.TWO else 1}
        steps = [] if self.signing is Signing.OWNER else [_step("colleague", colleagues)]
        if self.signing in (Signing.OWNER, Signing.BOTH):
            steps.append(_step("owner", {"institution": "owner", "count": 1}))
        return {"steps": steps, "distinct": ["person"], "never": ["requester"]}


def _step(name: str, who: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "label": dict(STEP_LABELS[name]), **who}


def _label(texts: Mapping[str, str]) -> str | dict[str, str]:
    """Return a text, or texts by language where there is more than English."""
    there = {language: text for language, text in texts.items() if text}
    return there.get("en", "") if there.keys() <= {"en"} else there


def settings_of(kind: str, text: str) -> dict[str, Any]:
    """Read what a kind of target wants to know, as YAML; raises PolicyErrors. The kind is the one that was chosen."""
    source = parse("settings", text or "{}")
    if not isinstance(source.value, dict):
        raise PolicyErrors([source.problem((), "write one setting a line, such as host: db.example")])
    return {"kind": kind, **{name: value for name, value in source.value.items() if name != "kind"}}


def added(
    active: PolicySet, file: str, text: str, *, register: RegisterView, connectors: Mapping[str, type[BaseModel]]
) -> PolicySet:
    """Return the active set with one more file; raises PolicyErrors with every problem found.

    1 the file is read by the loader, with the institutions of the active set beside it · 2 nothing that is there is said anew, and no
    audience that another system has: its tokens would open that one too · 3 the two are put together by id and compiled as one set.
    """
    institutions = cast("Mapping[str, Any]", active.document)["institutions"]
    beside = written({"version": 1, "institutions": institutions})
    alone = load({BESIDE: beside, file: text}, register=register, connectors=connectors)  # 1
    source = parse(file, text)
    new, old = cast("Mapping[str, Any]", alone.document), cast("Mapping[str, Any]", active.document)
    rules = cast("Mapping[str, Any]", source.value).get("rules", [])
    twice = [
        source.problem(("targets", key), told('there is a system "%(name)s" already', name=key))
        for key in new["targets"]
        if key in old["targets"]
    ]
    twice += [
        source.problem(("rules", number, "id"), told('there is a rule "%(name)s" already', name=rule["id"]))
        for number, rule in enumerate(rules)
        if rule["id"] in old["rules"] or rule["id"] in old["denials"]
    ]
    taken = {audience: key for key, audience in _audiences(old).items()}
    twice += [
        source.problem(
            ("targets", key, "connector", "audience"),
            told('also that of "%(name)s": whoever may use one has tokens for both', name=taken[audience]),
        )
        for key, audience in _audiences(new).items()
        if audience in taken
    ]
    if twice:
        raise PolicyErrors(twice)  # 2
    together = {**old, "targets": {**old["targets"], **new["targets"]}, "rules": {**old["rules"], **new["rules"]}}
    return PolicySet.from_document(together, warnings=alone.warnings)  # 3


def _audiences(document: Mapping[str, Any]) -> dict[str, str]:
    """Return target -> audience of its tokens, where it takes some."""
    connectors = {key: target["connector"] for key, target in document["targets"].items()}
    return {key: found["audience"] for key, found in connectors.items() if found["kind"] == "token"}
