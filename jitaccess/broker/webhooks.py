"""How is another program told so that it can be sure who speaks? Signed webhooks (Standard Webhooks 1.0).

Headers webhook-id (the same at each attempt), webhook-timestamp, webhook-signature (HMAC-SHA256 over id.timestamp.body). The address is
https, or http on this machine; redirects are never followed, proxies never asked. The name is resolved once, every address it has must be
public (or the host be named in `notify.private_hosts`), and the connection goes to exactly that address: no name can move in between.
"""

import base64
import hashlib
import hmac
import ipaddress
import json
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

import httpx2

from jitaccess.errors import JitError, Kind
from jitaccess.told import told

LIMIT_S = 5.0
SECRET_PREFIX = "whsec_"  # noqa: S105 # the standard's mark of a secret, itself none
MIN_SECRET_BYTES = 24


class NotDelivered(Exception):
    """The receiver did not take it; the message is a kind, without addresses or secrets."""


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


def address_of(host: str, port: int, *, private: bool) -> str:
    """Return the one address to connect to; raises NotDelivered for a name with any address that is not public."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise NotDelivered("NoSuchHost") from error
    addresses = [str(entry[4][0]).partition("%")[0] for entry in found]
    allowed = private or _is_loopback_name(host)
    for address in addresses:
        known = ipaddress.ip_address(address)
        mapped = getattr(known, "ipv4_mapped", None) or known
        if not allowed and (not mapped.is_global or mapped.is_multicast):
            raise NotDelivered("PrivateAddress")
        if _is_loopback_name(host) and not mapped.is_loopback:
            raise NotDelivered("PrivateAddress")
    return addresses[0]


def post(
    url: str, key: bytes, *, message_id: str, timestamp: int, body: Mapping[str, object], private: bool = False
) -> None:
    """Send one message; raises NotDelivered unless the receiver answers 2xx within the limit."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    address = address_of(host, port, private=private)
    text = json.dumps(body, separators=(",", ":"), sort_keys=True).encode()
    target = httpx2.URL(url).copy_with(host=address)
    headers = {
        "Host": parts.netloc,
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(key, message_id, timestamp, text),
    }
    try:
        with (
            httpx2.Client(timeout=LIMIT_S, follow_redirects=False, trust_env=False) as client,
            client.stream("POST", target, content=text, headers=headers, extensions={"sni_hostname": host}) as answer,
        ):
            status = answer.status_code  # the body is never read
    except (httpx2.HTTPError, OSError) as error:
        raise NotDelivered(type(error).__name__) from error
    if not 200 <= status < 300:
        raise NotDelivered(f"Status{status}")
