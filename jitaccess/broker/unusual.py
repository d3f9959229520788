"""What should an approver notice about a request before signing it? What is unusual, what it could touch, what changed.

Compared with the same person's former requests for the same right and with what came of them, a few, found by index. What was never
open is no access that somebody had. It only shows: no decision reads it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from sqlalchemy import func, select

from jitaccess.broker.context import Broker
from jitaccess.domain.lifecycle import GrantState
from jitaccess.policy.evaluate import EntitlementFacts, TargetFacts, Terms
from jitaccess.proof.canonical import JsonValue
from jitaccess.store.db import View
from jitaccess.store.tables import AccessRequest, Grant

LOOKED_AT = 20
"""How many former requests and grants say what is usual."""
LIVE = (GrantState.SCHEDULED.value, GrantState.ACTIVE.value)
Value = str | int | bool


@dataclass(frozen=True, slots=True)
class Former:
    """A former request, as far as it is compared."""

    id: str
    created_at: datetime
    state: str
    duration_s: int
    inputs: JsonValue


@dataclass(frozen=True, slots=True)
class Changed:
    """One thing that is not as in the person's last request for this right; None where it was not there, or is not."""

    name: str
    """An input's name, or `duration_s`."""
    was: Value | None
    now: Value | None


@dataclass(frozen=True, slots=True)
class Touches:
    """What the right reaches."""

    target: TargetFacts
    entitlement: EntitlementFacts
    owner: str
    """The owning institution's name."""
    held: int
    """Other grants that this person has now, on any target."""
    others: int
    """People who have access to this target now, this person aside."""


@dataclass(frozen=True, slots=True)
class Unusual:
    """What stands out."""

    first_time: bool
    """The person never had this right before: no grant of it was ever open."""
    out_of_hours: bool
    """It would begin outside every window that the policy knows; false where it knows none."""
    usual_s: int | None
    """The longest that this right was given for lately, shortened as it was, where this request is longer."""
    last: Former | None
    """The person's last request for this right."""
    changed: tuple[Changed, ...]
    touches: Touches | None


def unusual(view: View, broker: Broker, request: AccessRequest) -> Unusual:
    """Look a request over; four queries, each over an index and bounded."""
    before = _former(view, request)
    longest = max(_given_s(view, request), default=None)
    last = before[0] if before else None
    return Unusual(
        first_time=longest is None,
        out_of_hours=_out_of_hours(view, broker, request),
        usual_s=longest if longest is not None and request.duration_s > longest else None,
        last=last,
        changed=_changed(last, request) if last is not None else (),
        touches=_touches(view, broker, request),
    )


def _former(view: View, request: AccessRequest) -> list[Former]:
    """Return the person's last requests for the same right, newest first; only the columns that are compared."""
    columns = (
        AccessRequest.id,
        AccessRequest.created_at,
        AccessRequest.state,
        AccessRequest.duration_s,
        AccessRequest.inputs,
    )
    rows = view.rows(
        select(*columns)
        .where(
            AccessRequest.person_id == request.person_id,
            AccessRequest.target == request.target,
            AccessRequest.entitlement == request.entitlement,
            AccessRequest.created_at < request.created_at,
        )
        .order_by(AccessRequest.created_at.desc())
        .limit(LOOKED_AT)
    )
    return [Former(*row) for row in rows]


def _given_s(view: View, request: AccessRequest) -> list[int]:
    """Return for how long the person's last grants of this right were given, those that were open."""
    found = (
        select(Grant.duration_s)
        .where(
            Grant.person_id == request.person_id,
            Grant.target == request.target,
            Grant.entitlement == request.entitlement,
            Grant.request_id != request.id,
            Grant.starts_at.is_not(None),
            Grant.created_at <= (request.decided_at or view.now),
        )
        .order_by(Grant.created_at.desc())
        .limit(LOOKED_AT)
    )
    return list(view.rows(found).scalars())


def _out_of_hours(view: View, broker: Broker, request: AccessRequest) -> bool:
    policies = broker.policies.active_or_none(view)
    windows = policies.windows.values() if policies is not None else ()
    begins = _begins(request)
    return bool(windows) and not any(window.open_at(begins) for window in windows)


def _begins(request: AccessRequest) -> datetime:
    """Return when access would begin at the earliest: at the start asked for, and after the rule's delay."""
    lock = timedelta(seconds=Terms.from_document(request.terms).course.wait_s)
    return max(request.earliest_start, request.created_at + lock)


def _changed(last: Former, request: AccessRequest) -> tuple[Changed, ...]:
    was, now = _said(last), _said(request)
    return tuple(
        Changed(name, was.get(name), now.get(name))
        for name in sorted(set(was) | set(now))
        if was.get(name) != now.get(name)
    )


def _said(request: Former | AccessRequest) -> dict[str, Value]:
    return {**cast("dict[str, Value]", request.inputs), "duration_s": request.duration_s}


def _touches(view: View, broker: Broker, request: AccessRequest) -> Touches | None:
    policies = broker.policies.active_or_none(view)
    target = policies.targets.get(request.target) if policies is not None else None
    entitlement = target.entitlements.get(request.entitlement) if target is not None else None
    if policies is None or target is None or entitlement is None:
        return None
    held = view.scalar(
        select(func.count()).where(
            Grant.person_id == request.person_id, Grant.state.in_(LIVE), Grant.request_id != request.id
        )
    )
    others = view.scalar(
        select(func.count(Grant.person_id.distinct())).where(
            Grant.state == GrantState.ACTIVE.value,
            Grant.ends_at > view.now,
            Grant.target == request.target,
            Grant.person_id != request.person_id,
        )
    )
    owner = policies.institutions.get(target.owner, target.owner)
    return Touches(target, entitlement, owner, int(held), int(others))
