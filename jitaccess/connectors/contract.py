"""How does one kind of target apply, cut and clean an effect? The contract of a connector (design.md section 6).

A connector knows neither the store nor the log nor the broker; it gets a plan and does it. `apply` may succeed, raise `NotDone`, which
*proves* that nothing was made, or be uncertain (anything else). It must not take effect after its deadline. `cut` ends login and
sessions and reads back; `clean` neutralises what is left, deletes and reads back; "absent" is success only on the target's own word.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol, cast

from jitaccess.proof.canonical import JsonValue


class EnforcesExpiry(StrEnum):
    """What the target ends by itself when the broker is dead; shown to people."""

    NOTHING = "nothing"
    LOGINS = "logins"
    LOGINS_AND_SESSIONS = "logins_and_sessions"


class NotDone(Exception):
    """Proof that a target call made nothing; any other error leaves it uncertain."""


class Secret:
    """A value that never shows itself."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value; for the one place that hands it over."""
        return self._value

    def __repr__(self) -> str:
        """Return stars."""
        return "***"


@dataclass(frozen=True, slots=True)
class LeaseSpec:
    """What a lease is about, for planning its effect."""

    lease_id: str
    person_id: str
    target: str
    entitlement: str
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class Effect:
    """What a lease puts on a target: planned and committed before it is applied."""

    kind: str
    name: str
    """The account, membership or serial; `jit-` and the lease id where an account is made."""
    detail: Mapping[str, JsonValue] = field(default_factory=dict)

    def to_json(self) -> dict[str, JsonValue]:
        """Return the effect as it is stored with its lease."""
        return {"kind": self.kind, "name": self.name, "detail": dict(self.detail)}

    @classmethod
    def from_json(cls, value: JsonValue) -> "Effect":
        """Read `to_json`."""
        found = cast("dict[str, JsonValue]", value)
        return cls(str(found["kind"]), str(found["name"]), cast("dict[str, JsonValue]", found["detail"]))


@dataclass(frozen=True, slots=True)
class Credential:
    """What the person gets, shown once."""

    secret: Secret | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """One account as a target shows it."""

    name: str
    rights: frozenset[str] = frozenset()
    sessions: int = 0


@dataclass(frozen=True, slots=True)
class Inventory:
    """What is on a target, and which of it this kind can see."""

    accounts: Mapping[str, Account]
    coverage: frozenset[str]


class Connector(Protocol):
    """One kind of target."""

    kind: str
    outside: bool
    """Whether leases put anything on the target at all; tokens do not."""
    enforces_expiry: EnforcesExpiry

    def probe(self) -> tuple[str, ...]:
        """Return what is wrong, or too mighty, about the broker's own access; empty when all is well."""
        ...

    def plan(self, spec: LeaseSpec) -> Effect:
        """Return the effect of a lease; pure."""
        ...

    def apply(self, effect: Effect, deadline: datetime) -> Credential:
        """Put the effect on the target; cannot take effect after the deadline. Raises NotDone, or is uncertain."""
        ...

    def cut(self, effects: Sequence[Effect]) -> Mapping[str, JsonValue]:
        """End login and sessions of many effects and read back; return the proof. Doing it twice is harmless."""
        ...

    def clean(self, effect: Effect) -> Mapping[str, JsonValue]:
        """Neutralise what is left, delete, read back; return the proof. Absent is success on the target's own word."""
        ...

    def observe(self) -> Inventory:
        """Return what is on the target."""
        ...

    def quarantine(self, account: str) -> None:
        """Lock an account that no lease explains."""
        ...

    def rotate_own(self, old: Secret, new: Secret) -> None:
        """Change the broker's own credential on the target; safe to repeat after a crash."""
        ...

    def close(self) -> None:
        """Give connections back."""
        ...
