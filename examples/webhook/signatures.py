"""Did jitaccess say this, just now? Standard Webhooks 1.0, both schemes. Copy this file into your provisioner.

`check_with` is what you were given: `whsec_` and base64 (a shared key, HMAC-SHA256), or `whpk_` and base64 (a public key, Ed25519). Whoever
uses the shared key alone can leave out all that concerns Ed25519, and needs nothing but Python then.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

TOLERANCE_S = 300
"""A message that is older, or that much ahead of our clock, is refused: it might be played again."""


class Refused(Exception):
    """Not from jitaccess, or not from just now. Answer 401 and nothing else."""


def verify(headers: Mapping[str, str], body: bytes, check_with: Sequence[str], now_s: float) -> str:
    """Return the message's id; raises Refused. `body` is what came in, byte for byte, before any parsing."""
    message_id, sent_at, found = (headers.get(f"webhook-{part}", "") for part in ("id", "timestamp", "signature"))
    if not message_id or "." in message_id or not (sent_at.isascii() and sent_at.isdigit() and len(sent_at) < 12):
        raise Refused
    if abs(now_s - int(sent_at)) > TOLERANCE_S:
        raise Refused
    signed = f"{message_id}.{sent_at}.".encode() + body
    # While a key is being exchanged a message carries two signatures; one that is good is enough.
    for one in found.split(" ")[:4]:
        version, _, text = one.partition(",")
        if any(_good(version, text, signed, key) for key in check_with):
            return message_id
    raise Refused


def _good(version: str, text: str, signed: bytes, check_with: str) -> bool:
    # The key decides which scheme is taken, never the message.
    mark, key = check_with[:6], check_with[6:]
    try:
        given = base64.b64decode(text, validate=True)
        if (version, mark) == ("v1", "whsec_"):
            return hmac.compare_digest(given, hmac.new(base64.b64decode(key), signed, hashlib.sha256).digest())
        if (version, mark[:5]) == ("v1a", "whpk_"):
            Ed25519PublicKey.from_public_bytes(base64.b64decode(check_with[5:])).verify(given, signed)
            return True
    except (ValueError, InvalidSignature):
        return False
    return False
