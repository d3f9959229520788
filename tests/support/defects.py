"""Connectors with one defect each, planted to prove that the oracle can fail. None of them is reachable from the product."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from ldap3 import MODIFY_ADD

from jitaccess.connectors.contract import Credential, Effect, LeaseSpec, NotDone, Proofs, Secret, Unreachable
from jitaccess.connectors.ldap import LdapConnector, Line
from jitaccess.connectors.mariadb import MariadbConnector
from jitaccess.connectors.postgresql import PostgresqlConnector
from jitaccess.connectors.ssh_ca import SshCaConnector
from jitaccess.connectors.webhook import WebhookConnector


class _TooSure:
    """Takes a lost reply for proof that nothing was made."""

    def apply(self, effect: Effect, deadline: datetime) -> Credential:
        """Make it; every error counts as not done."""
        try:
            return super().apply(effect, deadline)  # type: ignore[misc] # of the kind beside it
        except Exception as error:
            raise NotDone(str(type(error))) from None


class _Shrugs:
    """Takes an error of the target for success."""

    def cut(self, effects: Sequence[Effect]) -> Proofs:
        """Try, and prove whatever came."""
        with suppress(Exception):
            return super().cut(effects)  # type: ignore[misc] # of the kind beside it
        return {effect.name: {"login": "absent"} for effect in effects}

    def clean(self, effects: Sequence[Effect]) -> Proofs:
        """Try, and prove whatever came."""
        with suppress(Exception):
            return super().clean(effects)  # type: ignore[misc] # of the kind beside it
        return {effect.name: {"account": "absent"} for effect in effects}


class _Forgets:
    """Gives the target another new secret than the one that was written down."""

    def rotate_own(self, old: Secret, new: Secret) -> None:
        """Draw one of its own."""
        super().rotate_own(old, Secret(new.reveal()[::-1]))  # type: ignore[misc] # of the kind beside it


class ActsFirst(PostgresqlConnector):
    """Makes the account while it plans: before the intent is committed."""

    def plan(self, spec: LeaseSpec) -> Effect:
        """Plan, and do it at once."""
        effect = super().plan(spec)
        super().apply(effect, spec.starts_at + timedelta(seconds=20))
        return effect

    def apply(self, effect: Effect, deadline: datetime) -> Credential:
        """Pretend."""
        return Credential(Secret("x"), username=effect.name)


class TooSure(_TooSure, PostgresqlConnector):
    """Takes a lost reply for proof that nothing was made."""


class Timeless(PostgresqlConnector):
    """Knows neither deadlines nor tombstones."""

    def apply(self, effect: Effect, deadline: datetime) -> Credential:
        """Make it, whenever."""
        return super().apply(effect, deadline + timedelta(days=1))

    def bury(self, effect: Effect) -> None:
        """Leave the name free."""


class Shrugs(_Shrugs, PostgresqlConnector):
    """Takes an error of the target for success."""


class Forgets(_Forgets, PostgresqlConnector):
    """Gives the target another new secret than the one that was written down."""


class Unfenced(LdapConnector):
    """Adds a member without looking whether anything happened since the deadline was checked."""

    def _join(self, line: Line, effect: Effect, deadline: datetime) -> None:
        group, member = self._place(effect)
        line.change(group, {"member": [(MODIFY_ADD, [member])]})


class Believes(_TooSure, LdapConnector):
    """Takes a lost reply for proof that nothing was made."""


class Credulous(_TooSure, MariadbConnector):
    """Takes a lost reply for proof that nothing was made."""


class Gullible(_TooSure, WebhookConnector):
    """Takes a lost reply for proof that nothing was made."""


class Content(_Shrugs, WebhookConnector):
    """Takes an error of the provisioner for success."""


class Absent(_Forgets, WebhookConnector):
    """Tells the provisioner another new key than the one that was written down."""


class Assumes(SshCaConnector):
    """Takes a certificate for ended once that is posted, whatever its hosts say."""

    def cut(self, effects: Sequence[Effect]) -> Proofs:
        """Post, and prove whatever came."""
        with suppress(Unreachable):
            return super().cut(effects)
        return {effect.name: {"login": "refused"} for effect in effects}

    def clean(self, effects: Sequence[Effect]) -> Proofs:
        """Post, and prove whatever came."""
        with suppress(Unreachable):
            return super().clean(effects)
        return {effect.name: {"account": "absent"} for effect in effects}


class Misnames(SshCaConnector):
    """Announces a certificate under another name than the one that was planned."""

    def apply(self, effect: Effect, deadline: datetime) -> Credential:
        """Announce what is not the lease's own name."""
        return super().apply(replace(effect, name=f"jit-{effect.name[:3:-1]}"), deadline)


class Hasty(SshCaConnector):
    """Uses a new authority before any host trusts it."""

    def rotate_own(self, old: Secret, new: Secret) -> None:
        """Do nothing; the secret is exchanged all the same."""


class Greedy(LdapConnector):
    """Takes away whatever membership it finds, also one that was there before."""

    def plan(self, spec: LeaseSpec) -> Effect:
        """Plan as if nothing had been there."""
        effect = super().plan(spec)
        return replace(effect, detail={**effect.detail, "existed": False, "shared": True})


DEFECTS: dict[tuple[str, str], Any] = {
    ("postgresql", "acts first"): ActsFirst,
    ("postgresql", "too sure"): TooSure,
    ("postgresql", "timeless"): Timeless,
    ("postgresql", "shrugs"): Shrugs,
    ("postgresql", "forgets"): Forgets,
    ("ldap", "unfenced"): Unfenced,
    ("ldap", "too sure"): Believes,
    ("ldap", "greedy"): Greedy,
    ("mariadb", "too sure"): Credulous,
    ("webhook", "too sure"): Gullible,
    ("webhook", "shrugs"): Content,
    ("webhook", "forgets"): Absent,
    ("ssh_ca", "shrugs"): Assumes,
    ("ssh_ca", "misnames"): Misnames,
    ("ssh_ca", "forgets"): Hasty,
}
"""Kind and name of the defect -> connector."""
