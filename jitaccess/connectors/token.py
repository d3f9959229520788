"""Targets that take short-lived signed tokens: nothing is put on the target, so nothing has to be taken away.

The token's own `exp` ends it when the broker is dead; the lease's row ends it before, through introspection and refresh.
"""

from collections.abc import Sequence
from datetime import datetime

from jitaccess.connectors.contract import (
    Account,
    ConnectorKind,
    Credential,
    Effect,
    EnforcesExpiry,
    Inventory,
    LeaseSpec,
    NotDone,
    Proofs,
    Quarantined,
    Secret,
    Surroundings,
)
from jitaccess.policy.schema import TokenConnector as TokenConfig


class TokenConnector:
    """A target of the kind `token`."""

    def __init__(self, config: TokenConfig, around: Surroundings) -> None:
        self._config = config

    def probe(self) -> tuple[str, ...]:
        """There is nothing to probe."""
        return ()

    def plan(self, spec: LeaseSpec) -> Effect:
        """Name the lease; no account is made."""
        return Effect("token", spec.lease_id)

    def apply(self, effect: Effect, deadline: datetime) -> Credential:
        """Make nothing: tokens are minted by `tokens.access`."""
        return Credential()

    def bury(self, effect: Effect) -> None:
        """Nothing could be born late."""

    def cut(self, effects: Sequence[Effect]) -> Proofs:
        """Nothing is on the target; the row's state ended it."""
        return {effect.name: {"outside": False} for effect in effects}

    def clean(self, effects: Sequence[Effect]) -> Proofs:
        """Nothing is on the target."""
        return {effect.name: {"outside": False} for effect in effects}

    def expects(self, effect: Effect, ends_at: datetime) -> Account:
        """A lease explains no account."""
        return Account(effect.name, expires_at=ends_at)

    def observe(self) -> Inventory:
        """Nothing can be listed."""
        return Inventory({}, frozenset())

    def quarantine(self, account: str, *, remove: bool) -> Quarantined:
        """Tokens have no accounts."""
        return Quarantined(False)

    def rotate_own(self, old: Secret, new: Secret) -> None:
        """The broker has no account on a token target."""
        raise NotDone("a token target has no broker account")

    def close(self) -> None:
        """Nothing is open."""


def setup(config: TokenConfig | None) -> str:
    """Say that there is nothing to set up on the target's side but its token check."""
    return "# Nothing: the target checks tokens with the SDK (jitaccess.sdk) or by introspection.\n"


KIND = ConnectorKind(
    "token", TokenConfig, TokenConnector, setup, enforces_expiry=EnforcesExpiry.LOGINS_AND_SESSIONS, outside=False
)
