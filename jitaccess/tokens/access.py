"""What does a token say, and when does it end? Access tokens (RFC 9068) and ID tokens of one grant, signed with ES256.

A token never outlives its grant, its policy's limit or fifteen minutes, whichever is first, to the second (R34, T-16). What it
allows stands in `authorization_details` (RFC 9396): the exact grant that people signed, nothing wider. Every token has a `jti`, by
which it is revoked; its text is never stored.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from joserfc import jwt
from joserfc.jwk import ECKey

from jitaccess.clock import from_epoch_s, to_epoch_s
from jitaccess.errors import JitError, Kind
from jitaccess.proof.canonical import JsonValue
from jitaccess.sdk.logout import LOGOUT_EVENT, LOGOUT_TYPE
from jitaccess.sdk.logout import MAX_LIFE_S as LOGOUT_LIFE_S
from jitaccess.sdk.tokens import DETAILS_TYPE, MAX_LIFE_S, half_hash

ALGORITHM = "ES256"
ACCESS_TYPE = "at+jwt"
PROXIED_TYPE = "jit-proxied+jwt"
"""What a reverse proxy hands on with one request; what takes access tokens does not take it, nor the other way round (RFC 8725 § 3.11)."""
ID_LIFE_S = 300
"""An ID token says that somebody signed in just now; it is used once, at once."""


@dataclass(frozen=True, slots=True)
class SignIn:
    """How the person authenticated for this token (OpenID Connect Core section 2, RFC 8176)."""

    at: datetime
    acr: str
    amr: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GrantClaims:
    """The grant as a token names it."""

    grant_id: str
    target: str
    entitlement: str
    inputs: Mapping[str, str | int | bool]
    approvals_digest: str
    policy_digest: str
    ends_at: datetime

    def to_details(self) -> dict[str, JsonValue]:
        """Return the one entry of `authorization_details`."""
        return {
            "type": DETAILS_TYPE,
            "target": self.target,
            "entitlement": self.entitlement,
            "inputs": dict(self.inputs),
            "grant": self.grant_id,
            "approvals_digest": self.approvals_digest,
            "policy_digest": self.policy_digest,
            "ends_at": to_epoch_s(self.ends_at),
        }


@dataclass(frozen=True, slots=True)
class Minted:
    """A token just made: shown once, never stored."""

    text: str
    jti: str
    expires_at: datetime


def expiry(*, now: datetime, ends_at: datetime, ttl_s: int) -> int:
    """Return a token's `exp` in UTC seconds: the least of grant end, policy limit and fifteen minutes, rounded down.

    Raises GONE when nothing is left.
    """
    begins = to_epoch_s(now)
    ends = min(to_epoch_s(ends_at), begins + min(ttl_s, MAX_LIFE_S))
    if ends <= begins or now >= ends_at:
        raise JitError(Kind.GONE, "This access ends now; ask for it anew.")
    return ends


def mint_access(
    key: ECKey,
    *,
    issuer: str,
    audience: str,
    client_id: str,
    person_id: str,
    jti: str,
    scope: str,
    grant: GrantClaims,
    sign_in: SignIn,
    now: datetime,
    ttl_s: int,
    status: Mapping[str, JsonValue] | None = None,
    typ: str = ACCESS_TYPE,
) -> Minted:
    """Make one access token, or with `typ` what a proxy hands on; raises GONE when the grant has ended. `status` is its claim
    (draft-ietf-oauth-status-list-21)."""
    expires = expiry(now=now, ends_at=grant.ends_at, ttl_s=ttl_s)
    begins = to_epoch_s(now)
    claims: dict[str, JsonValue] = {
        "iss": issuer,
        "aud": audience,
        "sub": person_id,
        "client_id": client_id,
        "jti": jti,
        "iat": begins,
        "nbf": begins,
        "exp": expires,
        "auth_time": to_epoch_s(sign_in.at),
        "acr": sign_in.acr,
        "amr": [*sign_in.amr],
        "scope": scope,
        "authorization_details": [grant.to_details()],
    }
    if status is not None:
        claims["status"] = dict(status)
    return Minted(sign(key, typ, claims), jti, from_epoch_s(expires))


def mint_id(
    key: ECKey,
    *,
    issuer: str,
    client_id: str,
    person_id: str,
    name: str | None,
    nonce: str | None,
    access_token: str,
    sign_in: SignIn,
    now: datetime,
    sid: str | None = None,
) -> str:
    """Make the ID token that goes with an access token (OpenID Connect Core section 2). `sid` names this sign-in for logout; `name`
    is for who asked for the scope profile, None for everybody else."""
    begins = to_epoch_s(now)
    claims: dict[str, JsonValue] = {
        "iss": issuer,
        "aud": client_id,
        "sub": person_id,
        "iat": begins,
        "exp": begins + ID_LIFE_S,
        "auth_time": to_epoch_s(sign_in.at),
        "acr": sign_in.acr,
        "amr": [*sign_in.amr],
        "at_hash": half_hash(access_token),
    }
    if name is not None:
        claims["name"] = name
    if nonce is not None:
        claims["nonce"] = nonce
    if sid is not None:
        claims["sid"] = sid
    return sign(key, "JWT", claims)


def mint_logout(key: ECKey, *, issuer: str, client_id: str, person_id: str, sid: str, jti: str, now: datetime) -> str:
    """Make a logout token: one sign-in of one person at one client is over (Back-Channel Logout 1.0 section 2.4)."""
    begins = to_epoch_s(now)
    claims: dict[str, JsonValue] = {
        "iss": issuer,
        "aud": client_id,
        "sub": person_id,
        "sid": sid,
        "jti": jti,
        "iat": begins,
        "exp": begins + LOGOUT_LIFE_S,
        "events": {LOGOUT_EVENT: {}},
    }
    return sign(key, LOGOUT_TYPE, claims)


def sign(key: ECKey, typ: str, claims: dict[str, JsonValue]) -> str:
    """Return a JWT of one kind, signed with ES256; its header says `alg`, `typ` and `kid`."""
    header = {"alg": ALGORITHM, "typ": typ, "kid": str(key.kid)}
    return jwt.encode(header, claims, key, algorithms=[ALGORITHM])
