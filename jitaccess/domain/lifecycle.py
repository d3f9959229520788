"""What can become what: the state machines as data.

Expiry is a cause, not a state of a grant or lease. The diagrams in the README are generated from these tables, and
`broker.context.advance` is the only code that moves a row along them (design.md section 4).
"""

from collections.abc import Mapping
from enum import StrEnum

from jitaccess.domain.events import EventType


class RequestState(StrEnum):
    """Where an access request stands."""

    PENDING = "PENDING"
    APPROVED = "APPROVED"
    DENIED = "DENIED"
    WITHDRAWN = "WITHDRAWN"
    EXPIRED = "EXPIRED"
    SUPERSEDED = "SUPERSEDED"


class GrantState(StrEnum):
    """Where a grant stands."""

    SCHEDULED = "SCHEDULED"
    ACTIVE = "ACTIVE"
    ENDED = "ENDED"


class LeaseState(StrEnum):
    """Where one issued credential stands."""

    ISSUING = "ISSUING"
    ACTIVE = "ACTIVE"
    FAILED = "FAILED"
    REVOKING = "REVOKING"
    REVOKED = "REVOKED"
    STUCK = "STUCK"
    CLOSED = "CLOSED"


class EndCause(StrEnum):
    """Why a grant or lease ended."""

    EXPIRED = "expired"
    RETURNED = "returned"
    REVOKED = "revoked"
    HELD = "held"
    SUPERSEDED = "superseded"
    POLICY = "policy"
    RISK = "risk"
    UNUSED = "unused"
    FAILED = "failed"
    VETOED = "vetoed"


State = RequestState | GrantState | LeaseState

# Two machines share names such as ACTIVE and a StrEnum equals its text, so each machine has a table of its own.
TRANSITIONS: Mapping[type[State], Mapping[State, frozenset[State]]] = {
    RequestState: {
        RequestState.PENDING: frozenset(
            {
                RequestState.APPROVED,
                RequestState.DENIED,
                RequestState.WITHDRAWN,
                RequestState.EXPIRED,
                RequestState.SUPERSEDED,
            }
        ),
        RequestState.APPROVED: frozenset(),
        RequestState.DENIED: frozenset(),
        RequestState.WITHDRAWN: frozenset(),
        RequestState.EXPIRED: frozenset(),
        RequestState.SUPERSEDED: frozenset(),
    },
    GrantState: {
        GrantState.SCHEDULED: frozenset({GrantState.ACTIVE, GrantState.ENDED}),
        GrantState.ACTIVE: frozenset({GrantState.ENDED}),
        GrantState.ENDED: frozenset(),
    },
    LeaseState: {
        LeaseState.ISSUING: frozenset({LeaseState.ACTIVE, LeaseState.FAILED, LeaseState.REVOKING}),
        LeaseState.ACTIVE: frozenset({LeaseState.REVOKING}),
        LeaseState.FAILED: frozenset(),
        LeaseState.REVOKING: frozenset({LeaseState.REVOKED, LeaseState.STUCK}),
        LeaseState.STUCK: frozenset({LeaseState.REVOKING, LeaseState.CLOSED}),
        LeaseState.REVOKED: frozenset(),
        LeaseState.CLOSED: frozenset(),
    },
}

EVENT_OF: Mapping[type[State], Mapping[State, EventType]] = {
    RequestState: {
        RequestState.APPROVED: EventType.REQUEST_APPROVED,
        RequestState.DENIED: EventType.REQUEST_DENIED,
        RequestState.WITHDRAWN: EventType.REQUEST_WITHDRAWN,
        RequestState.EXPIRED: EventType.REQUEST_EXPIRED,
        RequestState.SUPERSEDED: EventType.REQUEST_SUPERSEDED,
    },
    GrantState: {
        GrantState.ACTIVE: EventType.GRANT_ACTIVATED,
        GrantState.ENDED: EventType.GRANT_ENDED,
    },
    LeaseState: {
        LeaseState.ACTIVE: EventType.LEASE_ACTIVE,
        LeaseState.FAILED: EventType.LEASE_FAILED,
        LeaseState.REVOKING: EventType.LEASE_REVOKING,
        LeaseState.REVOKED: EventType.LEASE_REVOKED,
        LeaseState.STUCK: EventType.LEASE_STUCK,
        LeaseState.CLOSED: EventType.LEASE_CLOSED,
    },
}
"""The event that tells of each state being entered by a transition."""


def may_become(now: State, to: State) -> bool:
    """Say whether the table of this machine allows the step; a step between two machines is never allowed."""
    return type(now) is type(to) and to in TRANSITIONS[type(now)][now]


def event_of(to: State) -> EventType:
    """Return the event that tells of entering a state."""
    return EVENT_OF[type(to)][to]
