"""Which bytes stand for this value? RFC 8785 (JCS), restricted so that every implementation agrees.

Floats, integers outside +-(2^53-1), keys that are not text, lone surrogates and more than 32 levels are refused: RFC 8785 could
write some of them, but two languages would not read them alike. What is signed or logged is always `canonical(value)`.
"""

import binascii
import hashlib
import json
from typing import Any, TypeAlias

import rfc8785

from jitaccess.proof.errors import ProofError

JsonValue: TypeAlias = "dict[str, JsonValue] | list[JsonValue] | str | int | bool | None"
MAX_INTEGER = 2**53 - 1
"""The largest integer that every JSON implementation reads exactly (RFC 7493 section 2.2)."""
SALT_BYTES = 16
MAX_DEPTH = 32
"""How many objects and arrays may stand inside each other; deeper bytes are refused before they exhaust a reader's stack."""


_write = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, check_circular=False
).encode
"""Writes the same bytes as RFC 8785 for what is let through here, but for the order of keys beyond the basic plane (its section
3.2.3 sorts by UTF-16 code units). A property test compares both. Cycles end at MAX_DEPTH."""


def canonical(value: object) -> bytes:
    """Return the RFC 8785 form; raises ProofError for what is refused."""
    if _plain(value, 0):
        return _write(value).encode()
    _check(value, "", 0)  # the long way names what is refused
    text = _write(value)
    if max(text) <= "\uffff":
        return text.encode()
    return rfc8785.dumps(value)  # type: ignore[arg-type] # _check has just proven the type


def _plain(value: Any, depth: int) -> bool:
    """Say at once whether a value is one that nobody would refuse: exact JSON types, ASCII text, few levels."""
    kind = type(value)
    if kind is str:
        return bool(value.isascii())
    if kind is int:
        return bool(-MAX_INTEGER <= value <= MAX_INTEGER)
    if value is None or kind is bool:
        return True
    if depth >= MAX_DEPTH:
        return False
    inner = depth + 1
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str or not key.isascii():
                return False
            # Most values are text: they are spared the call.
            if not (item.isascii() if type(item) is str else _plain(item, inner)):
                return False
        return True
    if kind is list or kind is tuple:
        return all(item.isascii() if type(item) is str else _plain(item, inner) for item in value)
    return False


def _check(value: object, path: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ProofError("too_deep", f"more than {MAX_DEPTH} levels stand inside each other", path)
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise ProofError("integer_too_large", f"{path or 'value'} is beyond 2^53-1", path)
    elif isinstance(value, str):
        _check_text(value, path)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ProofError("key_not_text", f"a key of {path or 'value'} is not text", path)
            _check_text(key, path)
            _check(item, f"{path}.{key}" if path else key, depth + 1)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            _check(item, f"{path}[{number}]", depth + 1)
    else:
        raise ProofError("type_refused", f"{path or 'value'} is a {type(value).__name__}", path)


def _check_text(value: str, path: str) -> None:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ProofError("lone_surrogate", f"{path or 'value'} is not Unicode text", path) from None


def parse_canonical(data: bytes) -> JsonValue:
    """Return the value whose canonical form is exactly these bytes; raises ProofError for any other bytes."""
    try:
        value: JsonValue = json.loads(
            data, object_pairs_hook=_no_twins, parse_float=_no_float, parse_constant=_no_float
        )
    except ProofError:
        raise
    except (ValueError, RecursionError) as error:
        raise ProofError("not_json", "these bytes are not JSON") from error
    if canonical(value) != data:
        raise ProofError("not_canonical", "these bytes are JSON, but not in canonical form")
    return value


def _no_twins(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ProofError("duplicate_key", "a key stands twice")
    return found


def _no_float(text: str) -> JsonValue:
    raise ProofError("float_refused", f"{text} is not an integer")


def b64u_encode(data: bytes) -> str:
    """Return base64url without padding."""
    return _b64u(data).decode()


def _b64u(data: bytes) -> bytes:
    return binascii.b2a_base64(data, newline=False).translate(_URL_SAFE).rstrip(b"=")


_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_STANDARD = bytes.maketrans(b"-_", b"+/")


def b64u_decode(text: str) -> bytes:
    """Return the bytes; refuses padding, white space, other alphabets and non-zero trailing bits."""
    try:
        raw = text.encode()
        data = binascii.a2b_base64(raw.translate(_STANDARD) + b"==")
    except ValueError as error:
        raise ProofError("not_base64url", "not base64url without padding") from error
    # The decoder skips what it does not know; there is one text only that stands for these bytes.
    if _b64u(data) != raw:
        raise ProofError("not_base64url", "not base64url without padding")
    return data


def sha256_b64u(data: bytes) -> str:
    """Return base64url SHA-256 of bytes."""
    return b64u_encode(hashlib.sha256(data).digest())


def digest_b64u(value: object) -> str:
    """Return base64url SHA-256 of the canonical form."""
    return sha256_b64u(canonical(value))


def salted_digest(text: str, salt: bytes) -> str:
    """Return base64url SHA-256(salt || UTF-8 text); the 16-byte salt keeps short texts from being guessed."""
    if len(salt) != SALT_BYTES:
        raise ProofError("bad_salt", "a salt has 16 bytes")
    _check_text(text, "")
    return sha256_b64u(salt + text.encode())
