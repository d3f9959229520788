"""Is this token good, for me, now? The one verifier of access tokens (RFC 9068, RFC 8725), on targets and in the broker alike.

One algorithm (ES256), one issuer, one audience, one kind of token; keys only from the issuer's own set, found by `kid`. Whatever
a header says beyond `alg`, `typ` and `kid` refuses the token before any key is looked up and without any network call. No leeway
on `exp`; at most 60 s on `iat` and `nbf`, and beyond that the refusal names the difference between the clocks (T-21).
"""

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jitaccess.sdk.keys import KeySource, static_keys
from jitaccess.sdk.mark import check_issuer
from jitaccess.sdk.refusal import TokenRefused
from jitaccess.sdk.signed import Signed, text_of, time_of
from jitaccess.sdk.wall import wall_time

ACCESS_TYPES = frozenset({"at+jwt", "application/at+jwt"})
PROXIED_TYPES = frozenset({"jit-proxied+jwt"})
"""What a reverse proxy hands on in X-Jit-Token. No access token: it is for the one request that it came with."""
ID_TYPES = frozenset({"JWT"})
MAX_SKEW_S = 60
MAX_LIFE_S = 15 * 60
"""No token of this issuer lives longer; one that claims to is not its work as intended (R34)."""
MAX_PROXIED_LIFE_S = 60
DETAILS_TYPE = "jit_access"
Inputs = Mapping[str, str | int | bool]
_PLAIN = frozenset({str, int, bool})


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """A token that passed; only a `Verifier` makes one."""

    subject: str
    """Id of the person."""
    client_id: str
    jti: str
    expires_at: int
    """UTC seconds, exclusive."""
    grant: str
    target: str
    entitlement: str
    inputs: Inputs
    """What was asked for and signed, exactly; a target must not allow more."""
    ends_at: int
    """When the grant ends, UTC seconds, exclusive."""
    authorization_details: Mapping[str, Any]
    claims: Mapping[str, Any]


class Verifier:
    """Verifies tokens of one issuer for one audience. Holds no secret; safe between threads."""

    def __init__(
        self,
        issuer: str,
        audience: str,
        jwks: KeySource | Mapping[str, object],
        *,
        clock: Callable[[], float] = wall_time,
        introspect: Callable[[str, str], None] | None = None,
        status: Callable[[Mapping[str, Any]], None] | None,
        remember: int = 0,
        allow_dev: bool = False,
    ) -> None:
        """`jwks` is a JWK Set or a source of keys by kid. `status(claims)` (a `StatusCheck`) and `introspect(token, jti)` are
        asked last and raise TokenRefused. Without either, an access token counts until its `exp` although the access has ended:
        `status=None` says that this is wanted (offline), or that only what proxies hand on and ID tokens are verified. `remember` as in
        `Signed`. With `allow_dev` an issuer of `jitaccess dev` is taken too; without, it is a ValueError."""
        if not issuer or not audience:
            raise ValueError("a verifier needs an issuer and an audience")
        check_issuer(issuer, allow_dev=allow_dev)
        self._issuer = issuer
        self._audience = audience
        self._signed = Signed(jwks if callable(jwks) else static_keys(jwks), remember=remember)
        self._clock = clock
        self._introspect = introspect
        self._status = status

    def verify(self, token: str) -> VerifiedToken:
        """Verify an access token; raises TokenRefused.

        1 size and shape · 2 header: ES256, at+jwt, a kid, nothing else · 3 key by kid from the issuer's own set · 4 signature ·
        5 issuer, audience, times, names, each of its exact type · 6 the details of the grant · 7 status list and introspection, where
        configured.
        """
        claims = self._signed.claims(token, ACCESS_TYPES)  # 1-4
        self._check_issued(claims, self._audience, MAX_LIFE_S)  # 5
        verified = _verified(claims)  # 5, 6
        if self._status is not None:
            self._status(claims)  # 7
        if self._introspect is not None:
            self._introspect(token, verified.jti)  # 7
        return verified

    def verify_proxied(self, token: str) -> VerifiedToken:
        """Verify what a reverse proxy handed on in X-Jit-Token for this one request; raises TokenRefused.

        As `verify`, with a kind of its own and a minute of life at most; it stands in no list, because the proxy asked a moment ago.
        """
        claims = self._signed.claims(token, PROXIED_TYPES)
        self._check_issued(claims, self._audience, MAX_PROXIED_LIFE_S)
        return _verified(claims)

    def verify_id_token(
        self, token: str, *, client_id: str, nonce: str, access_token: str | None = None
    ) -> Mapping[str, Any]:
        """Verify an ID token (OpenID Connect Core section 3.1.3.7) for a client that sent this nonce; return its claims."""
        claims = self._signed.claims(token, ID_TYPES)
        self._check_issued(claims, client_id, MAX_LIFE_S)
        text_of(claims, "sub")
        if not nonce or not hmac.compare_digest(text_of(claims, "nonce").encode(), nonce.encode()):
            raise TokenRefused("wrong_nonce", "This ID token answers another sign-in.")
        if access_token is not None and claims.get("at_hash") != half_hash(access_token):
            raise TokenRefused("wrong_at_hash", "This ID token belongs to another access token.")
        return claims

    def _check_issued(self, claims: Mapping[str, Any], audience: str, max_life_s: int) -> None:
        # What equals our text is text: claims come from JSON.
        if claims.get("iss") != self._issuer:
            text_of(claims, "iss")
            raise TokenRefused("wrong_issuer", "This token comes from another issuer.")
        # One audience, as text: a token for several targets would let each use it at the others.
        if claims.get("aud") != audience:
            text_of(claims, "aud")
            raise TokenRefused("wrong_audience", "This token is meant for another system.")
        now = self._clock()
        expires_at, issued_at = time_of(claims, "exp"), time_of(claims, "iat")
        if now >= expires_at:
            raise TokenRefused("expired", "This token has expired.")
        _check_begun(now, "iat", issued_at)
        if "nbf" in claims:
            _check_begun(now, "nbf", time_of(claims, "nbf"))
        if not 0 < expires_at - issued_at <= max_life_s:
            raise TokenRefused("lives_too_long", "This token claims a longer life than any token has.")


def _check_begun(now: float, name: str, at: int) -> None:
    ahead = at - now
    if ahead > MAX_SKEW_S:
        raise TokenRefused(
            "clock_skew",
            f"By this machine's clock the token begins in {ahead:.0f} s ({name}); at most {MAX_SKEW_S} s are "
            "allowed. Set the clocks.",
        )


def half_hash(text: str) -> str:
    """Return `at_hash` of a token: base64url of the left half of its SHA-256 (OpenID Connect Core section 3.1.3.6, ES256)."""
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()[:16]).decode().rstrip("=")


def _verified(claims: dict[str, Any]) -> VerifiedToken:
    details = _details(claims.get("authorization_details"))
    expires_at, ends_at = time_of(claims, "exp"), time_of(details, "ends_at")
    if expires_at > ends_at:
        raise TokenRefused("outlives_grant", "This token claims to outlive its grant.")
    return VerifiedToken(
        subject=text_of(claims, "sub"),
        client_id=text_of(claims, "client_id"),
        jti=text_of(claims, "jti"),
        expires_at=expires_at,
        grant=text_of(details, "grant"),
        target=text_of(details, "target"),
        entitlement=text_of(details, "entitlement"),
        inputs=_inputs(details.get("inputs")),
        ends_at=ends_at,
        authorization_details=details,
        claims=claims,
    )


def _details(value: object) -> Mapping[str, Any]:
    if (
        isinstance(value, list)
        and len(value) == 1
        and isinstance(value[0], dict)
        and value[0].get("type") == DETAILS_TYPE
    ):
        return value[0]
    raise TokenRefused("bad_claim", "The claim authorization_details does not name one grant.")


def _inputs(value: object) -> Inputs:
    if not isinstance(value, dict) or not _PLAIN.issuperset(map(type, value.values())):
        raise TokenRefused("bad_claim", "The inputs of the grant are not text, whole numbers or yes and no.")
    return value
