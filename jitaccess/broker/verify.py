"""Is this token good now? Introspection for targets (RFC 7662): time first, then state (R34, R39).

The token is verified by the very verifier that targets run (`sdk`), for the asking client's own audience, and then looked up by `jti`:
token, lease, grant, person and holds as they are now. Whatever is wrong, the answer is the same: not active. No audit row per
question. Reads only, so a target may ask as often as it likes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import bindparam, select

from jitaccess.broker.clients import ClientFacts, registered
from jitaccess.broker.context import Broker
from jitaccess.domain.lifecycle import GrantState, LeaseState
from jitaccess.domain.values import Refused
from jitaccess.identity.people import may_act, on_hold
from jitaccess.proof.canonical import JsonValue, b64u_decode
from jitaccess.proof.errors import ProofError
from jitaccess.sdk import TokenRefused, VerifiedToken, Verifier
from jitaccess.store.db import SealBroken, View
from jitaccess.store.find import Find, Joined
from jitaccess.store.ids import ID_LENGTH
from jitaccess.store.tables import AccessRequest, Grant, Lease, Token

INACTIVE: Mapping[str, JsonValue] = {"active": False}
REMEMBERED = 2_000
"""Tokens of one audience whose signature is not checked again at each question."""
_SHOWN = ("iss", "sub", "aud", "exp", "nbf", "iat", "jti", "client_id", "scope", "auth_time", "acr", "amr")


def answer(broker: Broker, client_id: str, token: str) -> dict[str, JsonValue]:
    """Return `introspect` of this moment; a broken seal was alarmed and is "not active" like everything else that is wrong."""
    try:
        with broker.read() as view:
            return introspect(view, broker, client_id, token)
    except SealBroken:
        return dict(INACTIVE)


def introspect(view: View, broker: Broker, client_id: str, token: str) -> dict[str, JsonValue]:
    """Return the RFC 7662 answer to one client; `{"active": false}` for every token that is not for its target and good now.

    1 the keys of now: another process may have retired the one that signed · 2 the token alone, for this client's target · 3 what stands
    behind it. Raises SEAL_BROKEN, which the view alarms when it is left.
    """
    broker.keyring.refresh(view)  # 1
    client = registered(view).get(client_id)
    if client is None:
        return dict(INACTIVE)
    verified = _verified(view, broker, client, token)  # 2
    if verified is None or not active(view, verified):  # 3
        return dict(INACTIVE)
    shown: dict[str, JsonValue] = {name: verified.claims[name] for name in _SHOWN}
    details: JsonValue = [dict(verified.authorization_details)]
    return {"active": True, "token_type": "Bearer", **shown, "authorization_details": details}


def unverified_jti(token: str) -> str:
    """Return the `jti` that a text names, "" for none: it says which rows to have at hand, and nobody believes it."""
    parts = token.split(".")
    try:
        claims = json.loads(b64u_decode(parts[1])) if len(parts) == 3 else None
    except (ProofError, ValueError, RecursionError):
        return ""
    jti = claims.get("jti") if isinstance(claims, dict) else None
    return jti if isinstance(jti, str) and len(jti) == ID_LENGTH and jti.isalnum() and jti.isascii() else ""


def audience_of(view: View, broker: Broker, target: str) -> str | None:
    """Return the audience of tokens for a target, or None where it takes none."""
    policies = broker.policies.active_or_none(view)
    facts = policies.targets.get(target) if policies is not None else None
    return str(facts.connector["audience"]) if facts is not None and facts.connector["kind"] == "token" else None


def verifier_of(broker: Broker, audience: str) -> Verifier:
    """Return the verifier for an audience; made once. Its keys are those of now, its clock is the store's."""
    known = broker.verifiers.get(audience)
    if known is None:
        known = broker.verifiers[audience] = Verifier(
            broker.site.origin,
            audience,
            lambda kid: broker.keyring.token_keys().get(kid),
            status=None,  # the rows themselves are asked
            clock=lambda: broker.db.now().timestamp(),
            remember=REMEMBERED,
        )
    return known


def _verified(view: View, broker: Broker, client: ClientFacts, token: str) -> VerifiedToken | None:
    """Time first: the claims alone, as the target itself would read them."""
    audience = audience_of(view, broker, client.target)
    if audience is None:
        return None
    try:
        verified = verifier_of(broker, audience).verify(token)
    except TokenRefused:
        return None
    # Two targets may share one audience; a client still learns only about its own.
    return verified if verified.target == client.target else None


@dataclass(frozen=True, slots=True)
class Behind:
    """What stands behind a token's row: every seal was checked, no state was."""

    token: Token
    lease: Lease
    grant: Grant
    inputs: JsonValue
    """What was asked for and signed."""


_TOGETHER = (
    select(Token)
    .join(Lease, Lease.id == Token.lease_id)
    .join(Grant, Grant.id == Token.grant_id)
    .join(AccessRequest, AccessRequest.id == Grant.request_id)
)
_ROWS, _COLUMNS = (Token, Lease, Grant), (AccessRequest.inputs,)
BY_JTI = Joined(_TOGETHER.where(Token.id == bindparam("jti")), _ROWS, _COLUMNS)
BY_SECRET = Joined(
    _TOGETHER.where(Token.secret_hash == bindparam("secret_hash"), Token.kind == "refresh"), _ROWS, _COLUMNS
)

REFRESH_BY_SECRET = Find(
    Token, select(Token).where(Token.secret_hash == bindparam("secret_hash"), Token.kind == "refresh")
)


def behind(view: View, question: Joined, **values: object) -> Behind | None:
    """Return what stands behind one token, read in one statement; None where any of it is missing; raises SEAL_BROKEN."""
    found = view.joined(question, **values)
    return Behind(*found[0]) if found else None


def active(view: View, verified: VerifiedToken) -> bool:
    """Say whether what stands behind a verified token is live now and is what the token says; raises SEAL_BROKEN.

    A token can only say more than its rows when somebody else signed it with a key of ours; then the rows are right.
    """
    found = behind(view, BY_JTI, jti=verified.jti)
    if found is None or not stands(view, found):
        return False
    token, grant, details = found.token, found.grant, verified.authorization_details
    return (
        verified.client_id,
        verified.grant,
        verified.subject,
        verified.target,
        verified.entitlement,
        dict(verified.inputs),
        details.get("approvals_digest"),
        details.get("policy_digest"),
    ) == (
        token.client_id,
        grant.id,
        grant.person_id,
        grant.target,
        grant.entitlement,
        found.inputs,
        grant.approvals_digest,
        grant.policy_digest,
    )


def signers_refused(
    view: View, person_id: str, account_id: str | None, opened: str | None, signed: str | None
) -> Refused | None:
    """Say why nothing stands now on the passkey that opened a lease and the one that signed in under it, or None (R12).

    The passkey that signed in may be of another account of the person. In rows from before either is not known: then the other counts.
    """
    refused = may_act(view, person_id=person_id, account_id=account_id, passkey_id=opened)
    if refused is None and signed not in (None, opened):
        refused = may_act(view, person_id=person_id, passkey_id=signed)
    return refused


def stands(view: View, found: Behind) -> bool:
    """Say whether a token's row, lease, grant, person, both passkeys behind it (`signers_refused`) and holds are good now.

    A refresh token's row counts until it is spent: that of a proxied application is never spent, its browser session is that row.
    """
    token, lease, grant = found.token, found.lease, found.grant
    return (
        token.ended_at is None
        and token.used_at is None
        and view.now < token.expires_at
        and lease.grant_id == grant.id
        and lease.state == LeaseState.ACTIVE.value
        and view.now < lease.ends_at
        and grant.state == GrantState.ACTIVE.value
        and grant.ends_at is not None
        and view.now < grant.ends_at
        and signers_refused(view, grant.person_id, grant.account_id, lease.passkey_id, token.passkey_id) is None
        and not on_hold(view, "grant", grant.id)
        and not on_hold(view, "target", grant.target)
    )
