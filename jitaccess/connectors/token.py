"""Targets that take short-lived signed tokens: nothing is put on the target, so nothing has to be taken away.

The token's own `exp` ends it when the broker is dead; the lease's row ends it before, through introspection and refresh.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from jitaccess.connectors.contract import Credential, Effect, EnforcesExpiry, Inventory, LeaseSpec, NotDone, Secret
from jitaccess.proof.canonical import JsonValue


class TokenConnector:
    """The kind `token`."""

    kind = "token"
    outside = False
    enforces_expiry = EnforcesExpiry.LOGINS_AND_SESSIONS

    def probe(self) -> tuple[str, ...]:
        """There is nothing to probe."""
        return ()

    def plan(self, spec: LeaseSpec) -> Effect:
        """Name the lease; no account is made."""
        return Effect(self.kind, spec.lease_id)

    def apply(self, effect: Effect, deadline: datetime) -> Credential:
        """Make nothing: tokens are minted by `tokens.access`."""
        return Credential()

    def cut(self, effects: Sequence[Effect]) -> Mapping[str, JsonValue]:
        """Nothing is on the target; the row's state ended it."""
        return {"outside": False}

    def clean(self, effect: Effect) -> Mapping[str, JsonValue]:
        """Nothing is on the target."""
        return {"outside": False}

    def observe(self) -> Inventory:
        """Nothing can be listed."""
        return Inventory({}, frozenset())

    def quarantine(self, account: str) -> None:
        """Tokens have no accounts."""
        raise NotDone("a token target has no accounts")

    def rotate_own(self, old: Secret, new: Secret) -> None:
        """The broker has no account on a token target."""
        raise NotDone("a token target has no broker account")

    def close(self) -> None:
        """Nothing is open."""
