"""Which broker is this, as passkeys and statements name it? Facts fixed at genesis, checked against settings at start."""

from dataclasses import dataclass

from jitaccess.settings import Sessions


@dataclass(frozen=True, slots=True)
class Site:
    """The names under which this broker signs people in and lets them sign."""

    instance_id: str
    log_origin: str
    rp_id: str
    """WebAuthn RP ID, exact."""
    origin: str
    """The one WebAuthn and CSRF origin, exact: scheme, host and port."""
    name: str
    pilot: bool
    sessions: Sessions
