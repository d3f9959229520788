"""What can go wrong, as one closed list, and how each door says it.

Every refusal that is an exception is a `JitError` of one `Kind`. The table `DOORS` below is the only place that turns a
kind into an HTTP status, an RFC 9457 problem type and a CLI exit code; doors read it and add nothing.
A JitError means "nothing happened": what must be recorded (a DENY, a wrong approver) is a value and is committed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The kinds of error that a caller can act on differently."""

    INVALID = "invalid"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    GONE = "gone"
    TOO_LARGE = "too_large"
    KEY_REUSED = "key_reused"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    SEAL_BROKEN = "seal_broken"
    CONFIGURATION = "configuration"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Door:
    """How one kind looks from outside."""

    status: int
    problem: str
    """RFC 9457 `type`: a stable URN, never an address that must resolve."""
    exit_code: int


DOORS: Mapping[Kind, Door] = {
    Kind.INVALID: Door(400, "urn:jitaccess:problem:invalid", 2),
    Kind.UNAUTHENTICATED: Door(401, "urn:jitaccess:problem:unauthenticated", 3),
    Kind.FORBIDDEN: Door(403, "urn:jitaccess:problem:forbidden", 4),
    Kind.NOT_FOUND: Door(404, "urn:jitaccess:problem:not-found", 5),
    Kind.CONFLICT: Door(409, "urn:jitaccess:problem:conflict", 6),
    Kind.GONE: Door(410, "urn:jitaccess:problem:gone", 7),
    Kind.TOO_LARGE: Door(413, "urn:jitaccess:problem:too-large", 8),
    Kind.KEY_REUSED: Door(422, "urn:jitaccess:problem:key-reused", 12),
    Kind.RATE_LIMITED: Door(429, "urn:jitaccess:problem:rate-limited", 9),
    Kind.UNAVAILABLE: Door(503, "urn:jitaccess:problem:unavailable", 10),
    Kind.SEAL_BROKEN: Door(503, "urn:jitaccess:problem:seal-broken", 11),
    Kind.CONFIGURATION: Door(500, "urn:jitaccess:problem:configuration", 78),
    Kind.INTERNAL: Door(500, "urn:jitaccess:problem:internal", 70),
}


class JitError(Exception):
    """One refusal: its kind, one plain sentence that says what to do, and machine-readable details."""

    def __init__(self, kind: Kind, message: str, **details: object) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.details: Mapping[str, object] = details

    @property
    def door(self) -> Door:
        """Say how this error looks from outside."""
        return DOORS[self.kind]
