"""Whose key signs for a target's hosts, and which keys do they trust while it is being exchanged? (R35, R52)

The secret in the broker's folder is 256 random bits, from which an Ed25519 key is derived; so it is exchanged as every other secret
of the broker is. An Ed25519 private key as OpenSSH writes it is taken too: it is replaced by a derived one at the first exchange.
What hosts trust stands on the board, under the name `authority`, once an exchange has begun.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from jitaccess.connectors.contract import Posted, Secret, Unreachable
from jitaccess.connectors.ssh_ca.wire import blob_of, line_of
from jitaccess.proof.canonical import JsonValue

ENTRY = "authority"
_INFO = b"jitaccess ssh_ca authority v1"
_RANDOM = re.compile(r"[A-Za-z0-9_-]{43,}")
_PEM = "-----BEGIN OPENSSH PRIVATE KEY-----"


def key_of(secret: Secret) -> Ed25519PrivateKey:
    """Return the key of a secret; raises Unreachable, without the secret, for one that holds none."""
    text = secret.reveal().strip()
    if text.startswith(_PEM):
        try:
            found = load_ssh_private_key(text.encode(), None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            found = None
        if not isinstance(found, Ed25519PrivateKey):
            raise Unreachable("the secret of the authority is not an Ed25519 key without passphrase")
        return found
    if not _RANDOM.fullmatch(text):
        raise Unreachable(
            "the secret of the authority is neither 256 random bits in base64url nor an OpenSSH private key"
        )
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    return Ed25519PrivateKey.from_private_bytes(HKDF(SHA256(), 32, None, _INFO).derive(raw))


def public_line(key: Ed25519PrivateKey) -> str:
    """Return a key's public half as a line of OpenSSH."""
    return line_of(blob_of(key.public_key()))


@dataclass(frozen=True, slots=True)
class Authority:
    """Which key is in use, and which others hosts trust: one that comes, and some that go."""

    current: str
    next: str | None = None
    retiring: Mapping[str, int] | None = None
    """Public line -> epoch second at which the last certificate that it signed has ended."""

    def trusted(self, now_s: int) -> list[str]:
        """Return the lines that hosts trust now, the one in use first."""
        going = [line for line, until in (self.retiring or {}).items() if until > now_s]
        found = [self.current, *([self.next] if self.next else []), *going]
        return [*dict.fromkeys(found)]

    def to_json(self) -> dict[str, JsonValue]:
        """Return it as it stands on the board."""
        return {"current": self.current, "next": self.next, "retiring": dict(self.retiring or {})}


def authority_on(posted: Posted, keys: Sequence[Ed25519PrivateKey]) -> Authority:
    """Return what stands on the board; before any exchange, or when somebody changed it there: the key of the first secret."""
    entry = posted.entries.get(ENTRY)
    if entry is None:
        return Authority(public_line(keys[0]))
    retiring = cast("Mapping[str, int]", entry["retiring"])
    following = entry["next"]
    return Authority(str(entry["current"]), None if following is None else str(following), retiring)


def in_use(posted: Posted, keys: Sequence[Ed25519PrivateKey]) -> Ed25519PrivateKey:
    """Return the key that signs certificates now; raises Unreachable when the folder no longer holds it."""
    current = authority_on(posted, keys).current
    for key in keys:
        if public_line(key) == current:
            return key
    raise Unreachable("the secret in the folder is not that of the authority that hosts trust")


def trusted_of(posted: Posted, keys: Sequence[Ed25519PrivateKey]) -> tuple[Ed25519PrivateKey, list[str]]:
    """Return a key of ours that hosts trust, for signing bulletins, and all that they trust."""
    trusted = authority_on(posted, keys).trusted(int(posted.at.timestamp()))
    for key in keys:
        if public_line(key) in trusted:
            return key, trusted
    raise Unreachable("no secret in the folder is that of an authority that hosts trust")


def exchanged(before: Authority, new: str, *, last_end_s: int) -> Authority:
    """Return the authority with the new key in use; the old one is trusted until what it signed has ended."""
    going = {**(before.retiring or {}), before.current: last_end_s}
    return Authority(new, None, {line: until for line, until in going.items() if line != new})


def without_expired(before: Authority, now_s: int) -> Authority | None:
    """Return the authority without keys that have gone; None when there are none such."""
    left = {line: until for line, until in (before.retiring or {}).items() if until > now_s}
    return None if len(left) == len(before.retiring or {}) else Authority(before.current, before.next, left)
