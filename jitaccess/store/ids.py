"""Names and secrets nobody can guess: the only reader of randomness in the rooms above proof.

An id is 26 characters of lower-case base32hex: 48 bits of milliseconds, then 80 random bits, so that ids sort by time and
are never used twice. Within a process ids of one millisecond sort in the order in which they were made: rows written at one
instant (a clock that stood still or went back) keep their order. A secret is 256 random bits as
base64url; only its SHA-256 is ever stored (R8, R13).
"""

import hashlib
import secrets
import threading
from datetime import datetime

from jitaccess.clock import to_epoch_us

ID_LENGTH = 26
"""Characters in an id; an account name on a target is `jit-` and an id: 30 characters, below every target's limit."""


_RANDOM_BITS = 80
_LETTERS = "0123456789abcdefghijklmnopqrstuv"
_PAIRS = tuple(high + low for high in _LETTERS for low in _LETTERS)
_SHIFTS = tuple(range(120, -1, -10))
_guard = threading.Lock()
_newest = [0]


def new_id(now: datetime) -> str:
    """Return a fresh id whose order is the order of time to the millisecond, and of making within one."""
    ms = to_epoch_us(now) // 1000
    # The first of a millisecond leaves the top bit free, so that the steps of those after it never overflow.
    number = (ms << _RANDOM_BITS) | int.from_bytes(secrets.token_bytes(10), "big") >> 1
    with _guard:
        if _newest[0] >> _RANDOM_BITS == ms and number <= _newest[0]:
            number = _newest[0] + 1 + (number & 0xFFFFFFFF)
        _newest[0] = number
    # 128 bits and two bits of padding, ten bits at a time.
    number <<= 2
    return "".join([_PAIRS[number >> shift & 0x3FF] for shift in _SHIFTS])


def new_secret() -> str:
    """Return 256 random bits, base64url without padding (43 characters)."""
    return secrets.token_urlsafe(32)


def new_bytes(length: int) -> bytes:
    """Return random bytes for salts, nonces, challenges and keys."""
    return secrets.token_bytes(length)


def hash_secret(secret: str) -> str:
    """Return the hex SHA-256 under which a secret is stored; a slow hash is not needed for 256 random bits."""
    return hashlib.sha256(secret.encode()).hexdigest()
