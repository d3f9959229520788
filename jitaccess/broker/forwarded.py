"""May this browser's request go through to an application behind a reverse proxy? Asked for every request anew.

The proxied host's own cookie names a row that was made when the person opened the grant with the passkey; row, lease, grant, person and
holds are looked at as they are now, so an end shows at the next request, also on a connection that is kept alive (R45). What goes through
carries a signed, audience-bound assertion that any backend can verify with the SDK (R43).
"""

from dataclasses import dataclass
from typing import cast

from sqlalchemy import select

from jitaccess.broker.clients import ClientFacts
from jitaccess.broker.context import Broker
from jitaccess.broker.verify import audience_of, stands
from jitaccess.clock import to_epoch_s
from jitaccess.domain.events import EventType
from jitaccess.errors import JitError
from jitaccess.sdk.tokens import Inputs
from jitaccess.store.db import Tx, View
from jitaccess.store.ids import hash_secret
from jitaccess.store.tables import AccessRequest, Grant, Token
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
    token = session_row(view, client, secret)
    grant = stands(view, token) if token is not None else None
    return None if token is None or grant is None else _passage(view, broker, client, token, grant)


def session_row(view: View, client: ClientFacts, secret: str) -> Token | None:
    """Return the row behind a proxied application's cookie; that of another application is none."""
    row = view.first(select(Token).where(Token.secret_hash == hash_secret(secret), Token.kind == "refresh"))
    return row if row is not None and row.client_id == client.id else None


def _passage(view: View, broker: Broker, client: ClientFacts, token: Token, grant: Grant) -> Passage | None:
    audience = audience_of(view, broker, grant.target)
    request = view.get(AccessRequest, grant.request_id)
    if audience is None or request is None or client.target != grant.target or grant.ends_at is None:
        return None
    named = GrantClaims(
        grant.id,
        grant.target,
        grant.entitlement,
        cast(Inputs, request.inputs),
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
            jti=token.id,
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
    row = session_row(tx, client, secret)
    if row is None or row.ended_at is not None:
        return
    event = tx.record(
        EventType.TOKEN_REVOKED,
        subject={"client": row.client_id, "token": row.id, "grant": row.grant_id, "lease": row.lease_id},
        body={"cause": "signed_out"},
    )
    tx.update(row, event, ended_at=tx.now)
