"""Does this new set take something away, or might it give something? Decides how many must sign a change (R29).

Conservative: whatever is not provably narrowing is widening. What restricts *of whom* a rule speaks (groups, entitlements, hours,
condition) is only narrowing when no other rule is about the same entitlement: where rules overlap their strictness adds up, so a rule
that falls silent may leave a laxer one alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, cast

from jitaccess.policy import course
from jitaccess.policy.evaluate import CredentialClass, PolicySet


class ChangeClass(StrEnum):
    """What a change can do."""

    EQUAL = "equal"
    NARROWING = "narrowing"
    WIDENING = "widening"


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """The class of a change, and what differs, dotted."""

    kind: ChangeClass
    differences: tuple[str, ...]
    widening: tuple[str, ...]


def classify(old: PolicySet | None, new: PolicySet) -> PolicyChange:
    """Compare two sets; a first set is widening."""
    if old is None:
        return PolicyChange(ChangeClass.WIDENING, ("first set",), ("first set",))
    if old.digest == new.digest:
        return PolicyChange(ChangeClass.EQUAL, (), ())
    before, after = cast("Mapping[str, Any]", old.document), cast("Mapping[str, Any]", new.document)
    differences: list[str] = []
    widening: list[str] = []

    def note(path: str, *, narrows: bool) -> None:
        differences.append(path)
        if not narrows:
            widening.append(path)

    for section in ("institutions", "holidays", "windows"):
        for key in sorted(set(before[section]) | set(after[section])):
            if before[section].get(key) != after[section].get(key):
                note(f"{section}.{key}", narrows=False)
    for key in sorted(set(before["denials"]) | set(after["denials"])):
        if before["denials"].get(key) != after["denials"].get(key):
            note(f"denials.{key}", narrows=key not in before["denials"])
    for key in sorted(set(before["targets"]) | set(after["targets"])):
        _targets(key, before["targets"].get(key), after["targets"].get(key), note)
    for key in sorted(set(before["rules"]) | set(after["rules"])):
        was, now = before["rules"].get(key), after["rules"].get(key)
        if was == now:
            continue
        alone = not _overlapped(key, (was, now), (before["rules"], after["rules"]))
        if was is None:
            note(f"rules.{key}", narrows=False)
        elif now is None:
            note(f"rules.{key}", narrows=alone)
        else:
            for name in sorted(set(was) | set(now)):
                left, right = was.get(name), now.get(name)
                if left != right:
                    note(f"rules.{key}.{name}", narrows=_narrows(name, left, right, alone=alone))
    kind = ChangeClass.WIDENING if widening else ChangeClass.NARROWING
    return PolicyChange(kind, tuple(differences), tuple(widening))


class _Note(Protocol):
    def __call__(self, path: str, *, narrows: bool) -> None: ...


def _targets(key: str, was: Mapping[str, Any] | None, now: Mapping[str, Any] | None, note: _Note) -> None:
    if was == now:
        return
    if was is None or now is None:
        note(f"targets.{key}", narrows=now is None)
        return
    for name in ("name", "owner", "connector"):
        if was[name] != now[name]:
            note(f"targets.{key}.{name}", narrows=False)
    if was.get("reconcile") != now.get("reconcile"):
        note(f"targets.{key}.reconcile", narrows=False)
    for part in sorted(set(was["entitlements"]) | set(now["entitlements"])):
        left, right = was["entitlements"].get(part), now["entitlements"].get(part)
        if left != right:
            shorter = left is not None and right is not None and {**left, "max_s": 0} == {**right, "max_s": 0}
            narrows = right is None or (shorter and right["max_s"] <= left["max_s"])
            note(f"targets.{key}.entitlements.{part}", narrows=narrows)


def _overlapped(
    key: str, shapes: Sequence[Mapping[str, Any] | None], sets: Sequence[Mapping[str, Mapping[str, Any]]]
) -> bool:
    mine = {(rule["target"], name) for rule in shapes if rule is not None for name in rule["entitlements"]}
    return any(
        (rule["target"], name) in mine
        for rules in sets
        for other, rule in rules.items()
        if other != key
        for name in rule["entitlements"]
    )


def _narrows(name: str, was: Any, now: Any, *, alone: bool) -> bool:
    match name:
        case "groups" | "entitlements":
            return alone and set(now) <= set(was)
        case "during":
            return alone and set(now) >= set(was)
        case "credential":
            return CredentialClass[now.upper()] >= CredentialClass[was.upper()]
        case "when":
            return alone and was is None
        case "max_s" | "default_s" | "token_ttl_s":
            return bool(now <= was)
        case "activate_within_s":
            # None starts the clock at once, a value lets access end later: only a shorter wait, or none, narrows.
            return was is not None and (now is None or now <= was)
        case "active_per_person" | "per_day":
            return now is not None and (was is None or now <= was)
        case "approve":
            return _approve_narrows(was, now)
        case _:
            return course.narrows(name, was, now)


def _approve_narrows(was: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> bool:
    if now is None:
        return False
    if was is None:
        return True
    after = {step["name"]: step for step in now["steps"]}
    for step in was["steps"]:
        kept = after.get(step["name"])
        if kept is None or _besides(kept) != _besides(step) or kept["count"] < step["count"]:
            return False
        if _signs(kept) < _signs(step):
            return False
    # More people who may sign after a time, or less that is read back, widens; so does, above, any change in whom a step asks.
    escalations = was.get("escalate", [])
    if any(found not in escalations for found in now.get("escalate", [])):
        return False
    if any(found not in now.get("read_back", []) for found in was.get("read_back", [])):
        return False
    return (
        set(now["distinct"]) >= set(was["distinct"])
        and set(now["never"]) >= set(was["never"])
        and bool(now["pending_s"] <= was["pending_s"])
        and (now.get("deputies_s") or 0) <= (was.get("deputies_s") or 0)
    )


def _besides(step: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a step has no order of strictness."""
    return {name: value for name, value in step.items() if name not in ("count", "credential")}


def _signs(step: Mapping[str, Any]) -> CredentialClass:
    return CredentialClass[step.get("credential", "any").upper()]
