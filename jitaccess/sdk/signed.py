"""Was this JWT signed by the issuer, and is it of the kind it must be? The part of verifying that all kinds share (RFC 8725).

One algorithm (ES256); keys only from the issuer's own set, found by `kid`. Whatever a header says beyond `alg`, `typ` and `kid`
refuses before any key is looked up and without any network call. JSON is read strictly: no key twice, no NaN.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError

from jitaccess.proof.canonical import b64u_decode
from jitaccess.proof.errors import ProofError
from jitaccess.sdk.keys import KeySource
from jitaccess.sdk.refusal import TokenRefused

MAX_TOKEN_BYTES = 16 * 1024
MAX_TIME = 2**53 - 1
_KNOWN_HEADERS = 64
_KEYS_IN_HEADER = frozenset({"jwk", "jku", "x5u", "x5c", "x5t", "x5t#S256"})


class Signed:
    """Reads what one issuer signed. Holds no secret; safe between threads."""

    def __init__(self, keys: KeySource, *, remember: int = 0) -> None:
        """`remember` texts whose signature held are not checked again while their key is still good; what they say about time and
        whether they were revoked is never remembered."""
        self._keys = keys
        self._header_kids: dict[tuple[str, frozenset[str]], str] = {}
        self._remember = remember
        self._held: dict[tuple[bytes, frozenset[str]], tuple[str, dict[str, Any]]] = {}

    def claims(self, token: str, types: frozenset[str], *, most: int = MAX_TOKEN_BYTES) -> dict[str, Any]:
        """Return the claims of a JWT of one of these types; raises TokenRefused.

        1 size and shape · 2 header: ES256, the type, a kid, nothing else · 3 key by kid · 4 signature. Times and names are the
        caller's to check.
        """
        if not isinstance(token, str) or len(token) > most or not token.isascii():  # 1
            raise TokenRefused("malformed", "This is not a token.")
        if not self._remember:
            return self._checked(token, types)[1]
        place = hashlib.sha256(token.encode()).digest(), types
        known = self._held.get(place)
        if known is None:
            if len(self._held) >= self._remember:
                self._held.clear()
            known = self._held[place] = self._checked(token, types)
        elif self._keys(known[0]) is None:
            raise _unknown_key()
        return dict(known[1])

    def _checked(self, token: str, types: frozenset[str]) -> tuple[str, dict[str, Any]]:
        """Return kid and claims of a token whose signature holds."""
        parts = token.split(".")
        if len(parts) != 3:
            raise TokenRefused("malformed", "This is not a signed token.")
        known = self._header_kids.get((parts[0], types))
        kid = known or _check_header(parts[0], types)  # 2
        key = self._keys(kid)  # 3
        if key is None:
            raise _unknown_key()
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
        return kid, _json_object(signed.payload or b"", "claims")


def _unknown_key() -> TokenRefused:
    return TokenRefused("unknown_key", "The issuer has no such key, or it was retired.")


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


def text_of(claims: Mapping[str, Any], name: str) -> str:
    """Return a claim that must be text and not empty."""
    value = claims.get(name)
    if not isinstance(value, str) or not value:
        raise TokenRefused("bad_claim", f"The claim {name} is missing or not text.")
    return value


def time_of(claims: Mapping[str, Any], name: str) -> int:
    """Return a claim that must be whole UTC seconds."""
    value = claims.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= MAX_TIME:
        raise TokenRefused("bad_claim", f"The claim {name} is missing or not whole seconds.")
    return value
