"""How is another program told so that it can be sure who speaks? Signed webhooks (Standard Webhooks 1.0).

Headers webhook-id (the same at each attempt), webhook-timestamp, webhook-signature (HMAC-SHA256 over id.timestamp.body). The address is
https, or http on this machine; where it may lie, and that no redirect is followed, is `broker.outbound`'s guard.
"""

import base64
import hashlib
import hmac
import ipaddress
import json
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from jitaccess.broker import outbound
from jitaccess.broker.outbound import NotDelivered
from jitaccess.errors import JitError, Kind
from jitaccess.told import told

SECRET_PREFIX = "whsec_"  # noqa: S105 # the standard's mark of a secret, itself none
MIN_SECRET_BYTES = 24


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
    """Return the value of webhook-signature."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def check_address(url: str) -> None:
    """Refuse an address that is neither https nor on this machine; raises CONFIGURATION."""
    parts = urlsplit(url)
    secure = parts.scheme == "https" or (parts.scheme == "http" and _is_loopback_name(parts.hostname or ""))
    if not secure or not parts.hostname or parts.username or parts.password or parts.fragment:
        raise JitError(Kind.CONFIGURATION, told("A webhook's address is https, without name, password or #."))


def _is_loopback_name(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def post(
    url: str, key: bytes, *, message_id: str, timestamp: int, body: Mapping[str, object], networks: Sequence[str] = ()
) -> None:
    """Send one message; raises NotDelivered unless the receiver answers 2xx."""
    text = json.dumps(body, separators=(",", ":"), sort_keys=True).encode()
    headers = {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(key, message_id, timestamp, text),
    }
    reach = outbound.Reach.of(networks, loopback=_is_loopback_name(urlsplit(url).hostname or ""))
    status = outbound.post(url, text, headers, reach)
    if not 200 <= status < 300:
        raise NotDelivered(f"status_{status}")
