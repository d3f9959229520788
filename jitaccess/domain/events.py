"""What can happen, as one closed and versioned list.

An event's name and version are part of the leaf format (`proof.leaf`) and can never change meaning; a new meaning is a new
name or a new version. Bodies carry codes, counts, ids and digests, never personal text (R71, design.md section 5).
"""

from collections.abc import Mapping
from enum import StrEnum


class EventType(StrEnum):
    """Every act that the log can tell of."""

    INSTANCE_CREATED = "instance.created"
    PERSON_ADDED = "person.added"
    PERSON_CHANGED = "person.changed"
    PERSON_DISABLED = "person.disabled"
    PERSON_ENABLED = "person.enabled"
    ACCOUNT_ADDED = "account.added"
    GROUP_ADDED = "group.added"
    MEMBERSHIP_ADDED = "membership.added"
    MEMBERSHIP_ENDED = "membership.ended"
    ENROLMENT_CREATED = "enrolment.created"
    ENROLMENT_USED = "enrolment.used"
    ENROLMENT_REFUSED = "enrolment.refused"
    PASSKEY_ADDED = "passkey.added"
    PASSKEY_RENAMED = "passkey.renamed"
    PASSKEY_REMOVED = "passkey.removed"
    PASSKEY_BLOCKED = "passkey.blocked"
    SIGN_IN_SUCCEEDED = "sign_in.succeeded"
    SIGN_IN_REFUSED = "sign_in.refused"
    STEP_UP_SUCCEEDED = "step_up.succeeded"
    STEP_UP_REFUSED = "step_up.refused"
    SESSION_ENDED = "session.ended"
    REQUEST_FILED = "request.filed"
    REQUEST_REFUSED = "request.refused"
    REQUEST_APPROVED = "request.approved"
    REQUEST_DENIED = "request.denied"
    REQUEST_WITHDRAWN = "request.withdrawn"
    REQUEST_EXPIRED = "request.expired"
    REQUEST_SUPERSEDED = "request.superseded"
    REQUEST_REDECIDED = "request.redecided"
    APPROVAL_ASKED = "approval.asked"
    APPROVAL_ESCALATED = "approval.escalated"
    APPROVAL_SIGNED = "approval.signed"
    APPROVAL_REFUSED = "approval.refused"
    DENIAL_GIVEN = "denial.given"
    DENIAL_SIGNED = "denial.signed"
    GRANT_CREATED = "grant.created"
    GRANT_ACTIVATED = "grant.activated"
    GRANT_ENDED = "grant.ended"
    VETO_GIVEN = "veto.given"
    VETO_SIGNED = "veto.signed"
    VETO_REFUSED = "veto.refused"
    LEASE_ISSUING = "lease.issuing"
    LEASE_ACTIVE = "lease.active"
    LEASE_FAILED = "lease.failed"
    LEASE_REVOKING = "lease.revoking"
    LEASE_REVOKED = "lease.revoked"
    LEASE_STUCK = "lease.stuck"
    LEASE_CLOSED = "lease.closed"
    ISSUE_REFUSED = "issue.refused"
    CODE_ISSUED = "code.issued"
    CODE_REDEEMED = "code.redeemed"
    CODE_REFUSED = "code.refused"
    CODE_REUSED = "code.reused"
    TOKEN_ISSUED = "token.issued"  # noqa: S105 - the name of an event, not a secret
    TOKEN_REFRESHED = "token.refreshed"  # noqa: S105 - the name of an event
    TOKEN_REFUSED = "token.refused"  # noqa: S105 - the name of an event
    TOKEN_REVOKED = "token.revoked"  # noqa: S105 - the name of an event
    TOKEN_REUSED = "token.reused"  # noqa: S105 - the name of an event
    HOLD_PLACED = "hold.placed"
    HOLD_RELEASED = "hold.released"
    CHANGE_PROPOSED = "change.proposed"
    CHANGE_SIGNED = "change.signed"
    CHANGE_APPLIED = "change.applied"
    CHANGE_REJECTED = "change.rejected"
    POLICY_PROPOSED = "policy.proposed"
    POLICY_ACTIVATED = "policy.activated"
    POLICY_REFUSED = "policy.refused"
    CLIENT_ADDED = "client.added"
    CLIENT_CHANGED = "client.changed"
    KEYS_CREATED = "keys.created"
    KEYS_ROTATED = "keys.rotated"
    KEYS_RETIRED = "keys.retired"
    RECOVERY_STARTED = "recovery.started"
    RECOVERY_VETOED = "recovery.vetoed"
    RECOVERY_FINISHED = "recovery.finished"
    LOG_EXPORTED = "log.exported"
    ADMIN_READ = "admin.read"
    SEAL_BROKEN = "seal.broken"
    REGISTER_DIVERGED = "register.diverged"
    CLOCK_JUMPED = "clock.jumped"
    ALARM_RAISED = "alarm.raised"


VERSION_OF: Mapping[EventType, int] = dict.fromkeys(EventType, 1)
"""The version of each event's body that this program writes."""
