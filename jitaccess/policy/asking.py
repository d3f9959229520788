"""Whom does an approval ask, whom later, and what must be read back? These terms from document to value and merged (R22).

Merging takes the strictest of each: a step that two rules share asks as many people as the greater of both, lets others sign only if
both do, and is escalated only to whom both name, after the longer wait. Figures to be read back add up.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jitaccess.domain.approval import ApprovalTerms, Escalation, Reach, ReadBack
from jitaccess.proof.canonical import JsonValue
from jitaccess.proof.quorum import Step

ENTITLEMENT = "entitlement"
"""The figure that is the entitlement itself."""


def reach_of_rule(approve: Mapping[str, Any], steps: Sequence[Step]) -> tuple[Reach, ...]:
    """Return whom the steps of one rule ask, from the rule's normal form."""
    asks = {step["name"]: step.get("ask") for step in approve["steps"]}
    found: list[Reach] = []
    for step in steps:
        ask = asks[step.name] or {"people": None, "others": True}
        escalations = [
            Escalation(part["after_s"], group)
            for part in approve.get("escalate", ())
            if part["step"] in (None, step.name)
            for group in part["groups"]
        ]
        found.append(Reach(step.name, ask["people"], ask["others"], _soonest(escalations)))
    return tuple(reach for reach in found if reach != Reach(reach.step))


def _soonest(escalations: Iterable[Escalation]) -> tuple[Escalation, ...]:
    """Return one escalation a group, the soonest, in order."""
    soonest: dict[str, int] = {}
    for found in escalations:
        soonest[found.group] = min(found.after_s, soonest.get(found.group, found.after_s))
    return tuple(sorted((Escalation(after, group) for group, after in soonest.items()), key=_order))


def _order(escalation: Escalation) -> tuple[int, str]:
    return escalation.after_s, escalation.group


def both(left: Reach, right: Reach) -> Reach:
    """Return the stricter of two about one step."""
    people = None if left.people is None or right.people is None else max(left.people, right.people)
    waits = {found.group: found.after_s for found in right.escalate}
    shared = [Escalation(max(e.after_s, waits[e.group]), e.group) for e in left.escalate if e.group in waits]
    return Reach(left.step, people, left.others and right.others, tuple(sorted(shared, key=_order)))


def all_read_back(approvals: Sequence[ApprovalTerms]) -> tuple[ReadBack, ...]:
    """Return every figure that any of the rules has read back, each from the least bound."""
    least: dict[str, int | None] = {}
    for found in (part for approval in approvals for part in approval.read_back):
        known = least.get(found.figure, found.above)
        least[found.figure] = None if known is None or found.above is None else min(known, found.above)
    return tuple(ReadBack(figure, above) for figure, above in sorted(least.items()))


def read_back_of(approve: Mapping[str, Any]) -> tuple[ReadBack, ...]:
    """Return the figures to be read back from a normal form or from signed terms."""
    found = [ReadBack(part["figure"], part["above"]) for part in approve.get("read_back", ())]
    return tuple(sorted(found, key=lambda part: (part.figure, part.above or 0)))


def to_document(approval: ApprovalTerms) -> dict[str, JsonValue]:
    """Return the members of the signed terms; absent where they are not used."""
    document: dict[str, JsonValue] = {}
    if approval.reach:
        document["reach"] = [
            {
                "step": found.step,
                "people": found.people,
                "others": found.others,
                "escalate": [{"after_s": part.after_s, "group": part.group} for part in found.escalate],
            }
            for found in approval.reach
        ]
    if approval.credentials:
        document["credentials"] = [{"step": step, "credential": found} for step, found in approval.credentials]
    if approval.read_back:
        document["read_back"] = [{"figure": found.figure, "above": found.above} for found in approval.read_back]
    return document


def reach_from(approve: Mapping[str, Any]) -> tuple[Reach, ...]:
    """Read what `to_document` wrote."""
    return tuple(
        Reach(
            part["step"],
            part["people"],
            part["others"],
            tuple(Escalation(found["after_s"], found["group"]) for found in part["escalate"]),
        )
        for part in approve.get("reach", ())
    )


def credentials_from(approve: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Read what `to_document` wrote of the passkeys that sign."""
    return tuple((part["step"], part["credential"]) for part in approve.get("credentials", ()))


def credentials_of_rule(approve: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return which passkeys sign the steps of one rule, from the rule's normal form."""
    return tuple((step["name"], step["credential"]) for step in approve["steps"] if step.get("credential"))
