"""May this browser's request go through to an application behind a reverse proxy? Asked for every request anew.

The proxied host's own cookie names a row that was made when the person opened the grant with the passkey; row, lease, grant, person and
holds are looked at as they are now, so an end shows at the next request, also on a connection that is kept alive (R45). What goes through
carries a signed, audience-bound assertion that any backend can verify with the SDK (R43).
"""

from dataclasses import dataclass
from typing import cast

from jitaccess.broker.clients import ClientFacts
from jitaccess.broker.context import Broker
from jitaccess.broker.verify import BY_SECRET, REFRESH_BY_SECRET, Behind, audience_of, behind, stands
from jitaccess.clock import to_epoch_s
from jitaccess.domain.events import EventType
from jitaccess.errors import JitError
from jitaccess.sdk.tokens import Inputs
from jitaccess.store.db import Tx, View
from jitaccess.store.ids import hash_secret, new_id
from jitaccess.tokens.access import PROXIED_TYPE, GrantClaims, SignIn, mint_access

ASSERTION_LIFE_S = 30
"""An assertion belongs to one request; a backend that keeps it may not use it for longer."""
MAX_SECRET = 128


@dataclass(frozen=True, slots=True)
class Passage:
    """Who goes through, under which grant."""

    person_id: str
    target: str
    entitlement: str
    grant_id: str
    ends_at_s: int
    """UTC seconds, exclusive."""
    assertion: str
    """A JWT of the kind that `Verifier.verify_proxied` of the SDK takes, for the target's audience."""


def passage(view: View, broker: Broker, client: ClientFacts, secret: str) -> Passage | None:
    """Return who goes through to this application with this cookie, or None. Raises SEAL_BROKEN, which the view alarms when it is left."""
    if not 0 < len(secret) <= MAX_SECRET:
        return None
    broker.keyring.refresh(view)
    found = behind(view, BY_SECRET, secret_hash=hash_secret(secret))
    if found is None or found.token.client_id != client.id or not stands(view, found):
        return None
    return _passage(view, broker, client, found)


def _passage(view: View, broker: Broker, client: ClientFacts, found: Behind) -> Passage | None:
    token, grant = found.token, found.grant
    audience = audience_of(view, broker, grant.target)
    if audience is None or client.target != grant.target or grant.ends_at is None:
        return None
    named = GrantClaims(
        grant.id,
        grant.target,
        grant.entitlement,
        cast(Inputs, found.inputs),
        grant.approvals_digest,
        grant.policy_digest,
        grant.ends_at,
    )
    try:
        minted = mint_access(
            broker.keyring.token_key(),
            issuer=broker.site.origin,
            audience=audience,
            client_id=client.id,
            person_id=grant.person_id,
            jti=new_id(view.now),  # one for each request (RFC 7519 section 4.1.7)
            scope=token.scope,
            grant=named,
            sign_in=SignIn(token.auth_at, token.acr, tuple(cast("list[str]", token.amr))),
            now=view.now,
            ttl_s=ASSERTION_LIFE_S,
            typ=PROXIED_TYPE,
        )
    except JitError:  # less than a second is left
        return None
    return Passage(grant.person_id, grant.target, grant.entitlement, grant.id, to_epoch_s(grant.ends_at), minted.text)


def leave(tx: Tx, client: ClientFacts, secret: str) -> None:
    """End a browser's session at a proxied application; the grant itself goes on. Unknown ones end nothing."""
    row = next(iter(tx.find(REFRESH_BY_SECRET, secret_hash=hash_secret(secret))), None)
    if row is None or row.client_id != client.id or row.ended_at is not None:
        return
    event = tx.record(
        EventType.TOKEN_REVOKED,
        subject={"client": row.client_id, "token": row.id, "grant": row.grant_id, "lease": row.lease_id},
        body={"cause": "signed_out"},
    )
    tx.update(row, event, ended_at=tx.now)
