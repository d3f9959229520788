"""How does an approved request become a grant, and what may stand in its way? Shared by filing and approving.

A grant's window never reaches beyond what was signed: `ends_at <= latest_end`, also when it starts only at activation. Holds on
the target or the whole instance refuse new acts. Overlapping grants are rows of their own: the end of one neither cuts nor
prolongs another (R56).
"""

from collections.abc import Sequence
from datetime import timedelta

from jitaccess.broker.context import Broker
from jitaccess.domain.events import EventType
from jitaccess.domain.lifecycle import GrantState
from jitaccess.domain.values import Refused
from jitaccess.errors import Kind
from jitaccess.identity.enrolment import tell
from jitaccess.identity.people import on_hold
from jitaccess.policy.evaluate import Terms
from jitaccess.proof.assertion import Assertion
from jitaccess.proof.canonical import digest_b64u, sha256_b64u
from jitaccess.store.db import Tx, View
from jitaccess.store.tables import AccessRequest, Approval, Grant


def held(view: View, broker: Broker, target: str) -> Refused | None:
    """Say whether a hold stands in the way of anything new on this target."""
    if on_hold(view, "target", target):
        return Refused(Kind.FORBIDDEN, "target_on_hold", "This target is on hold. Ask an administrator.")
    if on_hold(view, "instance", broker.site.instance_id):
        return Refused(
            Kind.UNAVAILABLE, "instance_on_hold", "Nothing new is given out at the moment. Ask an administrator."
        )
    return None


def latest_end(request_created: float, terms: Terms, duration_s: int, *, start: int = 0) -> int:
    """Return the absolute bound (UTC seconds) that approvers sign: waiting, activation and duration, and not a second more.

    A start in the future waits as well, beside the waiting for approval, not after it.
    """
    waiting = terms.pending_s or 0 if terms.steps else 0
    begins = max(int(request_created) + waiting, start)
    return begins + (terms.activate_within_s or 0) + duration_s + 1


def approvals_digest(approvals: Sequence[Approval]) -> str:
    """Return base64url SHA-256 over the RFC 8785 form of the sorted [statement digest, assertion digest] pairs of the approvals."""
    pairs = sorted(
        [sha256_b64u(found.statement), Assertion.from_json(found.assertion).digest()]
        for found in approvals
        if found.verdict == "approve" and found.statement is not None
    )
    return digest_b64u(pairs)


def create_grant(tx: Tx, broker: Broker, request: AccessRequest, approvals: Sequence[Approval]) -> Grant:
    """Write the grant of an approved request. Its clock starts now, at the start asked for, or at activation (T-11)."""
    terms = Terms.from_document(request.terms)
    key = tx.new_id()
    not_before = request.earliest_start if request.earliest_start > tx.now else None
    later = terms.activate_within_s is not None or not_before is not None
    starts_at = None if later else tx.now
    ends_at = None if later else min(tx.now + timedelta(seconds=request.duration_s), request.latest_end)
    digest = approvals_digest(approvals)
    state = GrantState.SCHEDULED if later else GrantState.ACTIVE
    event = tx.record(
        EventType.GRANT_CREATED,
        subject={
            "request": request.id,
            "grant": key,
            "person": request.person_id,
            "target": request.target,
            "entitlement": request.entitlement,
        },
        body={
            "state": state.value,
            "duration_s": request.duration_s,
            "approvals": len(approvals),
            "approvals_digest": digest,
            "policy_digest": request.policy_digest,
        },
    )
    grant = tx.insert(
        Grant,
        event,
        id=key,
        request_id=request.id,
        person_id=request.person_id,
        account_id=request.account_id,
        target=request.target,
        entitlement=request.entitlement,
        state=state.value,
        duration_s=request.duration_s,
        starts_at=starts_at,
        ends_at=ends_at,
        activate_by=None
        if terms.activate_within_s is None
        else (not_before or tx.now) + timedelta(seconds=terms.activate_within_s),
        latest_end=request.latest_end,
        policy_digest=request.policy_digest,
        approvals_digest=digest,
        created_at=tx.now,
        not_before=not_before,
    )
    if approvals:
        tell(tx, "grant_ready" if not_before is None else "grant_scheduled", request.person_id, key)
    return grant
