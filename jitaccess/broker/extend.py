"""May an access go on beyond its end? Extensions: a new signed request that continues a grant (ADR 0015).

A stored end never moves. The continuing grant has its own request, approvals, lease and end, begins where the other one closes, and
ends with it when that one does not run out by itself. What is counted is the chain: how often it was continued, and how long it
lasts in all.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.orm import aliased

from jitaccess.broker.ask import Ask
from jitaccess.domain.lifecycle import EndCause, GrantState, RequestState
from jitaccess.domain.values import Refused
from jitaccess.errors import Kind
from jitaccess.policy.course import Course
from jitaccess.policy.evaluate import Extending
from jitaccess.store.db import View
from jitaccess.store.find import one_of
from jitaccess.store.tables import AccessRequest, Grant

LIVE = (GrantState.SCHEDULED.value, GrantState.ACTIVE.value)
MAX_CHAIN = 64
"""More links than any policy allows; a longer chain is a circle that somebody made in the database."""
_BASE = aliased(Grant)
_APART = or_(
    Grant.extends.is_(None),
    ~select(_BASE.id).where(_BASE.id == Grant.extends, one_of(_BASE.state, LIVE)).exists(),
)
"""Nothing that only continues a live one; made once, because every page that offers anything asks."""
BEGINS = Grant.extends.is_(None)
"""Where a chain begins: however often it was continued, somebody had this access once."""


def closes(grant: Grant) -> datetime | None:
    """Return when a grant closes to anything new; None while its clock does not run."""
    return grant.closes_at or grant.ends_at


def chain_of(view: View, grant_id: str | None) -> tuple[Grant, ...]:
    """Return a grant and all that it continues, newest first."""
    found: list[Grant] = []
    grant = view.get(Grant, grant_id)
    while grant is not None and len(found) < MAX_CHAIN:
        found.append(grant)
        grant = view.get(Grant, grant.extends)
    return tuple(found)


def extending(chain: Sequence[Grant]) -> Extending:
    """Return what policy counts of a chain; one that cannot be measured lasts for ever."""
    start, end = (chain[-1].starts_at, closes(chain[0])) if chain else (None, None)
    if start is None or end is None or len(chain) >= MAX_CHAIN:
        return Extending(MAX_CHAIN, 2**31)
    return Extending(len(chain) - 1, int((end - start).total_seconds()))


def own_access(chain: Sequence[Grant]) -> ColumnElement[bool]:
    """Return which grants count as accesses of their own now: not the chain at hand, and nothing that only continues a live one.

    What is counted over a time is `BEGINS` beside it: a chain counts once, from where it began, also when its first links have ended.
    """
    return and_(_APART, Grant.id.not_in([grant.id for grant in chain])) if chain else _APART


def prepare(view: View, person_id: str, ask: Ask) -> Ask | Refused:
    """Return what is really asked for: an extension is for exactly what it continues, from where that one closes."""
    if ask.extends is None:
        return ask
    grant = view.get(Grant, ask.extends) if len(ask.extends) <= 64 else None
    refused = _base_refused(view, person_id, grant)
    if refused is not None or grant is None:
        return cast(Refused, refused)
    request = view.require(AccessRequest, grant.request_id)
    inputs = cast("dict[str, str | int | bool]", request.inputs)
    return replace(
        ask, target=grant.target, entitlement=grant.entitlement, inputs=inputs, start=_whole_second(closes(grant))
    )


def _whole_second(at: datetime | None) -> datetime | None:
    return None if at is None else at.replace(microsecond=0)


def _base_refused(view: View, person_id: str, grant: Grant | None) -> Refused | None:
    """Say why this grant cannot be continued by a new request now, or None."""
    if grant is None or grant.person_id != person_id:
        return Refused(Kind.NOT_FOUND, "no_such_grant", "There is no such access of yours.", "extends")
    end = closes(grant)
    if grant.state != GrantState.ACTIVE.value or end is None or view.now >= end:
        return Refused(Kind.CONFLICT, "not_open", "Only an access that is open now can be extended.", "extends")
    following = view.first(select(Grant).where(Grant.extends == grant.id, Grant.state.in_(LIVE)))
    waiting = view.first(
        select(AccessRequest).where(
            AccessRequest.extends == grant.id,
            AccessRequest.state == RequestState.PENDING.value,
            AccessRequest.approve_by > view.now,
        )
    )
    if following is not None or waiting is not None:
        return Refused(Kind.CONFLICT, "extended_already", "You asked already to extend this access.", "extends")
    return None


def begins(view: View, grant: Grant, course: Course) -> datetime | None:
    """Return when an extension of a grant begins at the earliest, were it signed by all now (`grants.first_start`)."""
    end = closes(grant)
    return None if end is None else max(end, view.now + timedelta(seconds=course.wait_s))


def changed_base(view: View, person_id: str, ask: Ask) -> Refused | None:
    """Say why a signed extension cannot be filed now, or None: what it continues is as it was when it was shown.

    What it continues is locked: an end at the same moment comes before, and is seen here, or after, and finds what follows.
    """
    if ask.extends is not None:
        view.rows(select(Grant.id).where(Grant.id == ask.extends).with_for_update())
    now = prepare(view, person_id, ask)
    if isinstance(now, Refused) or now == ask:
        return now if isinstance(now, Refused) else None
    return Refused(Kind.CONFLICT, "differs_from_signed", "What you extend has changed. Look again.", "extends")


def answer_by(view: View, usual: datetime, extends: str | None) -> datetime:
    """Return until when approvers may answer: an extension is of no use once what it continues has closed."""
    grant = view.get(Grant, extends)
    end = closes(grant) if grant is not None else None
    return usual if end is None else min(usual, end)


def base_gone(view: View, request: AccessRequest) -> Refused | None:
    """Say why a pending extension leads nowhere, or None."""
    if request.extends is None:
        return None
    grant = view.get(Grant, request.extends)
    if grant is not None and grant.state == GrantState.ACTIVE.value and view.now < (closes(grant) or view.now):
        return None
    return Refused(Kind.GONE, "base_ended", "The access that this would extend has ended.", "extends")


def continues(view: View, grant: Grant) -> Refused | None:
    """Say why a continuing grant is not what was signed, or None: it follows a grant of the same person for the same, that ran out."""
    if grant.extends is None:
        return None
    base = view.get(Grant, grant.extends)
    end = closes(base) if base is not None else None
    if base is not None and end is not None:
        same = (base.person_id, base.target, base.entitlement) == (grant.person_id, grant.target, grant.entitlement)
        ran_out = base.state == GrantState.ACTIVE.value or base.cause == EndCause.EXPIRED.value
        if same and ran_out and (grant.starts_at or grant.not_before or end) >= end:
            return None
    return Refused(
        Kind.CONFLICT, "differs_from_signed", "What this access continues is not what was signed. Ask anew.", "extends"
    )


def offered(view: View, grant: Grant) -> bool:
    """Say whether a page should offer to extend a grant: its terms allow it once more, and nobody asked yet."""
    request = view.get(AccessRequest, grant.request_id) if grant.state == GrantState.ACTIVE.value else None
    allowed = Course.from_document(cast("dict[str, Any]", request.terms)).extensions if request is not None else None
    if allowed is None or _base_refused(view, grant.person_id, grant) is not None:
        return False
    sofar = extending(chain_of(view, grant.id))
    return sofar.count < allowed.count and sofar.lasted_s < allowed.total_s
