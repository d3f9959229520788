"""Is this token good, for me, now? The one verifier of access tokens (RFC 9068, RFC 8725), on targets and in the broker alike.

One algorithm (ES256), one issuer, one audience, one kind of token; keys only from the issuer's own set, found by `kid`. Whatever
a header says beyond `alg`, `typ` and `kid` refuses the token before any key is looked up and without any network call. No leeway
on `exp`; at most 60 s on `iat` and `nbf`, and beyond that the refusal names the difference between the clocks (T-21).
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError

from jitaccess.proof.canonical import b64u_decode
from jitaccess.proof.errors import ProofError
from jitaccess.sdk.keys import KeySource, static_keys
from jitaccess.sdk.refusal import TokenRefused
from jitaccess.sdk.wall import wall_time

ACCESS_TYPES = frozenset({"at+jwt", "application/at+jwt"})
ID_TYPES = frozenset({"JWT"})
MAX_TOKEN_BYTES = 16 * 1024
MAX_SKEW_S = 60
MAX_LIFE_S = 15 * 60
"""No token of this issuer lives longer; one that claims to is not its work as intended (R34)."""
MAX_TIME = 2**53 - 1
DETAILS_TYPE = "jit_access"
_KNOWN_HEADERS = 64
_KEYS_IN_HEADER = frozenset({"jwk", "jku", "x5u", "x5c", "x5t", "x5t#S256"})
Inputs = Mapping[str, str | int | bool]


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """A token that passed; only `Verifier.verify` makes one."""

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
    ) -> None:
        """`jwks` is a JWK Set or a source of keys by kid; `introspect(token, jti)` is asked last and raises TokenRefused."""
        if not issuer or not audience:
            raise ValueError("a verifier needs an issuer and an audience")
        self._issuer = issuer
        self._audience = audience
        self._keys = jwks if callable(jwks) else static_keys(jwks)
        self._clock = clock
        self._introspect = introspect
        self._header_kids: dict[tuple[str, frozenset[str]], str] = {}

    def verify(self, token: str) -> VerifiedToken:
        """Verify an access token; raises TokenRefused.

        1 size and shape · 2 header: ES256, at+jwt, a kid, nothing else · 3 key by kid from the issuer's own set · 4 signature ·
        5 issuer, audience, times, names, each of its exact type · 6 the details of the grant · 7 introspection, where configured.
        """
        claims = self._signed_claims(token, ACCESS_TYPES)  # 1-4
        self._check_issued(claims, self._audience)  # 5
        verified = _verified(claims)  # 5, 6
        if self._introspect is not None:
            self._introspect(token, verified.jti)  # 7
        return verified

    def verify_id_token(
        self, token: str, *, client_id: str, nonce: str, access_token: str | None = None
    ) -> Mapping[str, Any]:
        """Verify an ID token (OpenID Connect Core section 3.1.3.7) for a client that sent this nonce; return its claims."""
        claims = self._signed_claims(token, ID_TYPES)
        self._check_issued(claims, client_id)
        _text(claims, "sub")
        if not nonce or not hmac.compare_digest(_text(claims, "nonce").encode(), nonce.encode()):
            raise TokenRefused("wrong_nonce", "This ID token answers another sign-in.")
        if access_token is not None and claims.get("at_hash") != half_hash(access_token):
            raise TokenRefused("wrong_at_hash", "This ID token belongs to another access token.")
        return claims

    def _signed_claims(self, token: str, types: frozenset[str]) -> dict[str, Any]:
        if not isinstance(token, str) or len(token) > MAX_TOKEN_BYTES or not token.isascii():  # 1
            raise TokenRefused("malformed", "This is not a token.")
        parts = token.split(".")
        if len(parts) != 3:
            raise TokenRefused("malformed", "This is not a signed token.")
        known = self._header_kids.get((parts[0], types))
        kid = known or _check_header(parts[0], types)  # 2
        key = self._keys(kid)  # 3
        if key is None:
            raise TokenRefused("unknown_key", "The issuer has no such key, or it was retired.")
        try:
            b64u_decode(parts[1])
            if len(b64u_decode(parts[2])) != 64:
                raise TokenRefused("bad_signature", "The signature does not hold.")
            signed = jws.deserialize_compact(token, key, algorithms=["ES256"])  # 4
        except ProofError as error:
            raise TokenRefused("malformed", "This is not a token.") from error
        except (JoseError, ValueError) as error:
            raise TokenRefused("bad_signature", "The signature does not hold.") from error
        if known is None and len(self._header_kids) < _KNOWN_HEADERS:
            self._header_kids[parts[0], types] = kid  # only headers that were signed, so nobody else can fill this
        return _json_object(signed.payload or b"", "claims")

    def _check_issued(self, claims: Mapping[str, Any], audience: str) -> None:
        if _text(claims, "iss") != self._issuer:
            raise TokenRefused("wrong_issuer", "This token comes from another issuer.")
        # One audience, as text: a token for several targets would let each use it at the others.
        if _text(claims, "aud") != audience:
            raise TokenRefused("wrong_audience", "This token is meant for another system.")
        now = self._clock()
        expires_at, issued_at = _time(claims, "exp"), _time(claims, "iat")
        if now >= expires_at:
            raise TokenRefused("expired", "This token has expired.")
        for name in ("iat", "nbf"):
            if name == "nbf" and name not in claims:
                continue
            ahead = _time(claims, name) - now
            if ahead > MAX_SKEW_S:
                raise TokenRefused(
                    "clock_skew",
                    f"By this machine's clock the token begins in {ahead:.0f} s ({name}); at most {MAX_SKEW_S} s are "
                    "allowed. Set the clocks.",
                )
        if not 0 < expires_at - issued_at <= MAX_LIFE_S:
            raise TokenRefused("lives_too_long", "This token claims a longer life than any token has.")


def half_hash(text: str) -> str:
    """Return `at_hash` of a token: base64url of the left half of its SHA-256 (OpenID Connect Core section 3.1.3.6, ES256)."""
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()[:16]).decode().rstrip("=")


def _check_header(segment: str, types: frozenset[str]) -> str:
    """Return the kid of a header that says nothing but alg, typ and kid."""
    try:
        header = _json_object(b64u_decode(segment), "header")
    except ProofError as error:
        raise TokenRefused("malformed", "This is not a token.") from error
    if header.get("alg") != "ES256":
        raise TokenRefused("wrong_algorithm", "Only ES256 is accepted.")
    if "crit" in header:
        raise TokenRefused("critical_header", "This token asks for something that is not understood.")
    if _KEYS_IN_HEADER & header.keys():
        raise TokenRefused("key_in_header", "A token may not bring or name its own key.")
    typ = header.get("typ")
    if not isinstance(typ, str) or typ not in types:
        raise TokenRefused("wrong_type", "This is another kind of token.")
    if header.keys() != {"alg", "typ", "kid"} or not isinstance(header["kid"], str) or not header["kid"]:
        raise TokenRefused("bad_header", "The header must be alg, typ and kid.")
    return str(header["kid"])


def _json_object(raw: bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(raw, object_pairs_hook=_no_twins, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise TokenRefused("malformed", f"The {what} cannot be read.") from error
    if not isinstance(value, dict):
        raise TokenRefused("malformed", f"The {what} are not an object.")
    return value


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not value:
        raise TokenRefused("bad_claim", f"The claim {name} is missing or not text.")
    return value


def _time(claims: Mapping[str, Any], name: str) -> int:
    value = claims.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= MAX_TIME:
        raise TokenRefused("bad_claim", f"The claim {name} is missing or not whole seconds.")
    return value


def _verified(claims: dict[str, Any]) -> VerifiedToken:
    details = _details(claims.get("authorization_details"))
    expires_at, ends_at = _time(claims, "exp"), _time(details, "ends_at")
    if expires_at > ends_at:
        raise TokenRefused("outlives_grant", "This token claims to outlive its grant.")
    return VerifiedToken(
        subject=_text(claims, "sub"),
        client_id=_text(claims, "client_id"),
        jti=_text(claims, "jti"),
        expires_at=expires_at,
        grant=_text(details, "grant"),
        target=_text(details, "target"),
        entitlement=_text(details, "entitlement"),
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
    if not isinstance(value, dict) or not all(isinstance(part, str | int) for part in value.values()):
        raise TokenRefused("bad_claim", "The inputs of the grant are not text, whole numbers or yes and no.")
    return value
