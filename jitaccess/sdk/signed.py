"""Was this JWT signed by the issuer, and is it of the kind it must be? The part of verifying that all kinds share (RFC 8725).

One algorithm (ES256); keys only from the issuer's own set, found by `kid`. Whatever a header says beyond `alg`, `typ` and `kid`
refuses before any key is looked up and without any network call. JSON is read strictly: UTF-8, no key twice, no NaN.
"""

import hashlib
import json
import string
from collections.abc import Mapping
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError, UnsupportedHeaderError

from jitaccess.proof.canonical import b64u_decode
from jitaccess.proof.errors import ProofError
from jitaccess.sdk.keys import KeySource
from jitaccess.sdk.refusal import TokenRefused

MAX_TOKEN_BYTES = 16 * 1024
MAX_TIME = 2**53 - 1
_KNOWN_HEADERS = 64
_KEYS_IN_HEADER = frozenset({"jwk", "jku", "x5u", "x5c", "x5t", "x5t#S256"})
_HEADER = frozenset({"alg", "typ", "kid"})
_B64U = (string.ascii_letters + string.digits + "-_").encode()


class _OneAlgorithm(jws.JWSRegistry):
    """What joserfc takes in a header: what `_check_header` lets through, and nothing else. Looking through every name that it knows
    would cost more than the rest of its checks."""

    def check_header(self, header: dict[str, Any]) -> None:
        """Refuse whatever has not exactly our three names."""
        if header.keys() != _HEADER:
            raise UnsupportedHeaderError("The header must be alg, typ and kid.")


_ES256 = _OneAlgorithm(algorithms=["ES256"])


class Signed:
    """Reads what one issuer signed. Holds no secret; safe between threads."""

    def __init__(self, keys: KeySource, *, remember: int = 0) -> None:
        """`remember` texts whose signature held are not checked again while their key is still good; what they say about time and
        whether they were revoked is never remembered."""
        self._keys = keys
        self._headers: dict[tuple[bytes, frozenset[str]], dict[str, Any]] = {}
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
        raw = token.encode()
        # Two dots and letters of base64url: nothing that another reader could skip, such as a line or padding.
        if raw.translate(None, _B64U) != b"..":
            raise TokenRefused("malformed", "This is not a signed token.")
        first, second, third = raw.split(b".")
        known = self._headers.get((first, types))
        header = known or _check_header(first, types)  # 2
        key = self._keys(header["kid"])  # 3
        if key is None:
            raise _unknown_key()
        try:
            # Each part is decoded once; a second text for one signature, and one that is not of 64 bytes, joserfc refuses.
            signed = jws.CompactSignature(header, b64u_decode(second.decode()))
            signed.segments.update({"header": first, "payload": second, "signature": third})
            if not jws.validate_compact(signed, key, registry=_ES256):  # 4
                raise _bad_signature()
        except ProofError as error:
            raise TokenRefused("malformed", "This is not a token.") from error
        except (JoseError, ValueError) as error:
            raise _bad_signature() from error
        if known is None and len(self._headers) < _KNOWN_HEADERS:
            self._headers[first, types] = header  # only headers that were signed, so nobody else can fill this
        return header["kid"], _json_object(signed.payload, "claims")


def _bad_signature() -> TokenRefused:
    return TokenRefused("bad_signature", "The signature does not hold.")


def _unknown_key() -> TokenRefused:
    return TokenRefused("unknown_key", "The issuer has no such key, or it was retired.")


def _check_header(segment: bytes, types: frozenset[str]) -> dict[str, Any]:
    """Return a header that says nothing but alg, typ and kid."""
    try:
        header = _json_object(b64u_decode(segment.decode()), "header")
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
    if header.keys() != _HEADER or not isinstance(header["kid"], str) or not header["kid"]:
        raise TokenRefused("bad_header", "The header must be alg, typ and kid.")
    return header


def _json_object(raw: bytes, what: str) -> dict[str, Any]:
    try:
        text = raw.decode()
        value, end = _JSON.raw_decode(text)
        if end != len(text):
            raise ValueError("something stands behind it")
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


_JSON = json.JSONDecoder(object_pairs_hook=_no_twins, parse_constant=_no_constant)


def text_of(claims: Mapping[str, Any], name: str) -> str:
    """Return a claim that must be text and not empty."""
    value = claims.get(name)
    if type(value) is not str or not value:
        raise TokenRefused("bad_claim", f"The claim {name} is missing or not text.")
    return value


def time_of(claims: Mapping[str, Any], name: str) -> int:
    """Return a claim that must be whole UTC seconds."""
    value = claims.get(name)
    if type(value) is not int or not 0 < value <= MAX_TIME:
        raise TokenRefused("bad_claim", f"The claim {name} is missing or not whole seconds.")
    return value
