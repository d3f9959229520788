"""A target in memory that misbehaves when told to: for tests and fault drills, never for people.

Faults: `fail` (an error before anything), `lost_reply` (done, then an error), `not_done` (NotDone), `not_ready` (NotReady),
`unreachable`, `hang` (waits for `released`).
"""

import threading
from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel

from jitaccess.connectors.contract import (
    Account,
    ConnectorKind,
    Credential,
    Effect,
    EnforcesExpiry,
    Given,
    Inventory,
    KindConfig,
    LeaseSpec,
    NotDone,
    NotReady,
    Proofs,
    Quarantined,
    Secret,
    Surroundings,
    Unreachable,
)

HANG_LIMIT_S = 30.0


class FakeConfig(KindConfig):
    """Where it is: nowhere."""

    kind: str
    at: str = ""


class FakeConnector:
    """A target of the kind `fake`."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.faults: dict[str, str] = {}
        """Verb -> fault, until removed."""
        self.poisoned: set[str] = set()
        """Accounts that cannot be cut or cleaned, whoever they come with."""
        self.cannot: set[str] = set()
        """Accounts that the broker may not lock."""
        self.calls: list[tuple[str, str]] = []
        self.note = ""
        """What goes with each credential."""
        self.released = threading.Event()
        self._guard = threading.Lock()

    def _enter(self, verb: str, *names: str) -> str | None:
        with self._guard:
            self.calls.append((verb, " ".join(names)))
        fault = self.faults.get(verb)
        if fault == "fail" or not self.poisoned.isdisjoint(names):
            raise ConnectionError(f"the target refused {verb}")
        if fault == "not_done":
            raise NotDone(verb)
        if fault == "not_ready":
            raise NotReady(verb)
        if fault == "unreachable":
            raise Unreachable(verb)
        if fault == "hang":
            self.released.wait(HANG_LIMIT_S)
        return fault

    def probe(self) -> tuple[str, ...]:
        """Report the faults that are set."""
        return tuple(f"{verb}: {fault}" for verb, fault in self.faults.items())

    def plan(self, spec: LeaseSpec) -> Effect:
        """Plan one account."""
        return Effect("fake", spec.account, {"entitlement": spec.entitlement})

    def apply(self, effect: Effect, deadline: datetime) -> Credential:
        """Make the account."""
        fault = self._enter("apply", effect.name)
        with self._guard:
            if effect.name in self.accounts:
                raise NotDone("the name is taken")
            right = str(effect.detail.get("entitlement", ""))
            number = f"number of {effect.name}"
            self.accounts[effect.name] = Account(effect.name, frozenset({right}), number=number)
        if fault == "lost_reply":
            raise ConnectionError("the reply was lost")
        secret = Secret(f"secret-of-{effect.name}")
        return Credential(
            secret, username=effect.name, command=f"fake {effect.name}", note=self.note, handle={"number": number}
        )

    def bury(self, effect: Effect) -> None:
        """Take the name."""
        self._enter("bury", effect.name)
        with self._guard:
            self.accounts.setdefault(effect.name, Account(effect.name, enabled=False))

    def cut(self, effects: Sequence[Effect]) -> Proofs:
        """End the sessions of the accounts."""
        self._enter("cut", *(effect.name for effect in effects))
        with self._guard:
            for effect in effects:
                known = self.accounts.get(effect.name)
                if known is not None:
                    self.accounts[effect.name] = Account(known.name, known.rights, enabled=False)
        return {effect.name: {"login": "locked", "sessions": 0} for effect in effects}

    def clean(self, effects: Sequence[Effect]) -> Proofs:
        """Delete the accounts and read back."""
        fault = self._enter("clean", *(effect.name for effect in effects))
        with self._guard:
            for effect in effects:
                self.accounts.pop(effect.name, None)
        if fault == "lost_reply":
            raise ConnectionError("the reply was lost")
        return {effect.name: {"account": "absent"} for effect in effects}

    def expects(self, effect: Effect, ends_at: datetime) -> Account:
        """Return the account with its one right."""
        rights = frozenset({str(effect.detail.get("entitlement", ""))})
        return Account(effect.name, rights, expires_at=ends_at, number=str(effect.detail.get("number", "")))

    def observe(self) -> Inventory:
        """List the accounts."""
        self._enter("observe")
        with self._guard:
            return Inventory(dict(self.accounts), frozenset({"accounts", "memberships"}))

    def quarantine(self, account: str, *, remove: bool) -> Quarantined:
        """Take all rights from an account, or the account itself."""
        self._enter("quarantine", account)
        if account in self.cannot:
            return Quarantined(False, f"LOCK {account}")
        with self._guard:
            self.accounts.pop(account, None)
            if not remove:
                self.accounts[account] = Account(account, enabled=False)
        return Quarantined(True)

    def rotate_own(self, old: Secret, new: Secret) -> None:
        """Accept any new secret."""
        self._enter("rotate_own")

    def close(self) -> None:
        """Nothing is open."""


def fake_kind(
    connector: FakeConnector,
    name: str = "fake",
    *,
    config: type[BaseModel] = FakeConfig,
    shared: bool = False,
    gives: tuple[Given, ...] = (),
) -> ConnectorKind:
    """Return a kind whose every target is this one connector; `name` and `config` let it stand in for another kind."""

    def open_it(config: BaseModel, around: Surroundings) -> FakeConnector:
        return connector

    def setup(config: BaseModel | None) -> str:
        return "# Nothing: it lives in memory.\n"

    return ConnectorKind(name, config, open_it, setup, EnforcesExpiry.NOTHING, shared=shared, gives=gives)
