"""How is another program told so that it can be sure who speaks? Signed webhooks (Standard Webhooks 1.0).

Headers webhook-id (the same at each attempt), webhook-timestamp, webhook-signature over id.timestamp.body: `v1` HMAC-SHA256 under a shared
key, or `v1a` Ed25519, where the receiver knows the public key alone. While a key is being exchanged a message carries both signatures.
The address is https, or http on this machine; where it may lie, and that no redirect is followed, is the guard's.
"""

import base64
import hashlib
import hmac
import ipaddress
import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jitaccess.errors import JitError, Kind
from jitaccess.outbound import guard
from jitaccess.outbound.guard import NotDelivered
from jitaccess.told import told

SECRET_PREFIX = "whsec_"  # noqa: S105 # the standard's mark of a secret, itself none
PRIVATE_PREFIX = "whsk_"
PUBLIC_PREFIX = "whpk_"
MIN_SECRET_BYTES = 24
SEED_BYTES = 32
DRAWN_LENGTH = 43
"""Characters of a secret that the broker drew: 32 bytes of base64url without padding."""


class Scheme(StrEnum):
    """How messages are signed."""

    HMAC = "hmac"
    ED25519 = "ed25519"


def secret_bytes(secret: str) -> bytes:
    """Return the key of `whsec_` + base64 (24 to 64 bytes); raises CONFIGURATION."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except ValueError:
        key = b""
    if not secret.startswith(SECRET_PREFIX) or not MIN_SECRET_BYTES <= len(key) <= 64:
        raise JitError(
            Kind.CONFIGURATION, "A webhook's secret is whsec_ followed by the base64 of 24 to 64 random bytes."
        )
    return key


def signature(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """Return one `v1` signature of webhook-signature."""
    return (
        "v1," + base64.b64encode(hmac.new(key, signed(message_id, timestamp, body), hashlib.sha256).digest()).decode()
    )


def signed(message_id: str, timestamp: int, body: bytes) -> bytes:
    """Return the bytes that are signed: `id.timestamp.body`. An id holds no full stop, so no two messages are the same bytes."""
    if "." in message_id:
        raise ValueError("a webhook's id holds no full stop")
    return f"{message_id}.{timestamp}.".encode() + body


class Signer:
    """A key of ours, of either scheme."""

    def __init__(self, scheme: Scheme, secret: str) -> None:
        """Read `whsec_` or `whsk_` and base64; without the mark 43 characters of base64url, as the broker draws them.

        Ed25519: 32 bytes of seed, or 64 with the public key behind it. Raises ValueError without saying what it was given.
        """
        self._scheme = scheme
        mark = SECRET_PREFIX if scheme is Scheme.HMAC else PRIVATE_PREFIX
        raw = _decoded(secret, mark)
        if scheme is Scheme.HMAC:
            if not MIN_SECRET_BYTES <= len(raw) <= 64:
                raise ValueError("the webhook's secret is not 24 to 64 bytes long")
            self._key = raw
            self.shared = SECRET_PREFIX + base64.b64encode(raw).decode()
            return
        if len(raw) not in (SEED_BYTES, 2 * SEED_BYTES):
            raise ValueError("the webhook's private key is not 32 or 64 bytes long")
        self._private = Ed25519PrivateKey.from_private_bytes(raw[:SEED_BYTES])
        public = self._private.public_key().public_bytes_raw()
        if raw[SEED_BYTES:] not in (b"", public):
            raise ValueError("the webhook's private key does not go with its public key")
        self.shared = PUBLIC_PREFIX + base64.b64encode(public).decode()
        """What the receiver checks with: the shared key itself, or the public key."""

    def sign(self, message_id: str, timestamp: int, body: bytes) -> str:
        """Return one signature of webhook-signature."""
        if self._scheme is Scheme.HMAC:
            return signature(self._key, message_id, timestamp, body)
        made = self._private.sign(signed(message_id, timestamp, body))
        return "v1a," + base64.b64encode(made).decode()


def _decoded(secret: str, mark: str) -> bytes:
    try:
        if secret.startswith(mark):
            return base64.b64decode(secret.removeprefix(mark), validate=True)
        if len(secret) == DRAWN_LENGTH:
            return base64.b64decode(secret + "=", altchars=b"-_", validate=True)
    except ValueError:
        pass
    raise ValueError("the webhook's secret cannot be read")


def headers_of(signers: Sequence[Signer], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the standard's headers, with a signature by each key."""
    return {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signer.sign(message_id, timestamp, body) for signer in signers),
    }


def check_address(url: str) -> None:
    """Refuse an address that is neither https nor on this machine; raises CONFIGURATION."""
    parts = urlsplit(url)
    secure = parts.scheme == "https" or (parts.scheme == "http" and is_loopback_name(parts.hostname or ""))
    if not secure or not parts.hostname or parts.username or parts.password or parts.fragment:
        raise JitError(Kind.CONFIGURATION, told("A webhook's address is https, without name, password or #."))


def is_loopback_name(host: str) -> bool:
    """Say whether a host of an address names this very machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def reach_of(url: str, networks: Sequence[str]) -> guard.Reach:
    """Return where this address may lead: this machine only where it names it; raises CONFIGURATION."""
    return guard.Reach.of(networks, loopback=is_loopback_name(urlsplit(url).hostname or ""))


def encoded(body: Mapping[str, object]) -> bytes:
    """Return a body as compact JSON with sorted keys."""
    return json.dumps(body, separators=(",", ":"), sort_keys=True).encode()


def post(
    url: str, key: bytes, *, message_id: str, timestamp: int, body: Mapping[str, object], networks: Sequence[str] = ()
) -> None:
    """Send one message; raises NotDelivered unless the receiver answers 2xx."""
    text = encoded(body)
    signer = Signer(Scheme.HMAC, SECRET_PREFIX + base64.b64encode(key).decode())
    headers = headers_of([signer], message_id, timestamp, text)
    status = guard.post(url, text, headers, reach_of(url, networks))
    if not 200 <= status < 300:
        raise NotDelivered(f"status_{status}")
