"""Names and secrets nobody can guess: the only reader of randomness in the rooms above proof.

An id is 26 characters of lower-case base32hex: 48 bits of milliseconds, then 80 random bits, so that ids sort by time and
are never used twice. A secret is 256 random bits as base64url; only its SHA-256 is ever stored (R8, R13).
"""

import base64
import hashlib
import secrets
from datetime import datetime

from jitaccess.clock import to_epoch_us

ID_LENGTH = 26
"""Characters in an id; an account name on a target is `jit-` and an id: 30 characters, below every target's limit."""


def new_id(now: datetime) -> str:
    """Return a fresh id whose order is the order of time to the millisecond."""
    raw = (to_epoch_us(now) // 1000).to_bytes(6, "big") + secrets.token_bytes(10)
    return base64.b32hexencode(raw).decode().rstrip("=").lower()


def new_secret() -> str:
    """Return 256 random bits, base64url without padding (43 characters)."""
    return secrets.token_urlsafe(32)


def new_bytes(length: int) -> bytes:
    """Return random bytes for salts, nonces, challenges and keys."""
    return secrets.token_bytes(length)


def hash_secret(secret: str) -> str:
    """Return the hex SHA-256 under which a secret is stored; a slow hash is not needed for 256 random bits."""
    return hashlib.sha256(secret.encode()).hexdigest()
