"""A target in memory that misbehaves when told to: for tests and fault drills, never for people.

Faults: `fail` (an error before anything), `lost_reply` (done, then an error), `not_done` (NotDone), `hang` (waits for `release`).
"""

import threading
from collections.abc import Mapping, Sequence
from datetime import datetime

from jitaccess.connectors.contract import (
    Account,
    Credential,
    Effect,
    EnforcesExpiry,
    Inventory,
    LeaseSpec,
    NotDone,
    Secret,
)
from jitaccess.proof.canonical import JsonValue

HANG_LIMIT_S = 30.0


class FakeConnector:
    """The kind `fake`."""

    kind = "fake"
    outside = True
    enforces_expiry = EnforcesExpiry.NOTHING

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.faults: dict[str, str] = {}
        """Verb -> fault, until removed."""
        self.calls: list[tuple[str, str]] = []
        self.released = threading.Event()
        self._guard = threading.Lock()

    def _enter(self, verb: str, name: str) -> str | None:
        with self._guard:
            self.calls.append((verb, name))
        fault = self.faults.get(verb)
        if fault == "fail":
            raise ConnectionError(f"the target refused {verb}")
        if fault == "not_done":
            raise NotDone(verb)
        if fault == "hang":
            self.released.wait(HANG_LIMIT_S)
        return fault

    def probe(self) -> tuple[str, ...]:
        """Report the faults that are set."""
        return tuple(f"{verb}: {fault}" for verb, fault in self.faults.items())

    def plan(self, spec: LeaseSpec) -> Effect:
        """Plan one account."""
        return Effect(self.kind, f"jit-{spec.lease_id}", {"entitlement": spec.entitlement})

    def apply(self, effect: Effect, deadline: datetime) -> Credential:
        """Make the account."""
        fault = self._enter("apply", effect.name)
        with self._guard:
            self.accounts[effect.name] = Account(effect.name, frozenset({str(effect.detail["entitlement"])}))
        if fault == "lost_reply":
            raise ConnectionError("the reply was lost")
        return Credential(Secret(f"secret-of-{effect.name}"))

    def cut(self, effects: Sequence[Effect]) -> Mapping[str, JsonValue]:
        """End the sessions of the accounts."""
        for effect in effects:
            self._enter("cut", effect.name)
            with self._guard:
                known = self.accounts.get(effect.name)
                if known is not None:
                    self.accounts[effect.name] = Account(known.name, known.rights, 0)
        return {"sessions": 0}

    def clean(self, effect: Effect) -> Mapping[str, JsonValue]:
        """Delete the account and read back."""
        fault = self._enter("clean", effect.name)
        with self._guard:
            self.accounts.pop(effect.name, None)
        if fault == "lost_reply":
            raise ConnectionError("the reply was lost")
        return {"absent": effect.name not in self.accounts}

    def observe(self) -> Inventory:
        """List the accounts."""
        self._enter("observe", "")
        return Inventory(dict(self.accounts), frozenset({"accounts", "rights"}))

    def quarantine(self, account: str) -> None:
        """Take all rights from an account."""
        self._enter("quarantine", account)
        self.accounts[account] = Account(account)

    def rotate_own(self, old: Secret, new: Secret) -> None:
        """Accept any new secret."""
        self._enter("rotate_own", "")

    def close(self) -> None:
        """Nothing is open."""
