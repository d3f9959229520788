"""How does OpenSSH write strings, keys and signatures of files? RFC 4251 section 5, and PROTOCOL.sshsig of OpenSSH.

Only Ed25519 (RFC 8709) signs here: the authority of a target, and the host keys with which hosts sign what they report.
"""

import base64
import hashlib
import struct
import textwrap
from collections.abc import Collection

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ED25519 = b"ssh-ed25519"
_MAGIC = b"SSHSIG"
_HASH = b"sha512"
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
MAX_ARMOUR = 2_000
"""Characters; one of Ed25519 has about 300."""


class BadWire(ValueError):
    """Bytes that are not what they should be."""


def string(value: bytes) -> bytes:
    """Write a string: its length as uint32, then its bytes."""
    return struct.pack(">I", len(value)) + value


class Reader:
    """Reads what `string` and its like wrote; raises BadWire."""

    def __init__(self, raw: bytes) -> None:
        self._left = raw

    def take(self, count: int) -> bytes:
        """Take so many bytes."""
        if count > len(self._left):
            raise BadWire("too short")
        found, self._left = self._left[:count], self._left[count:]
        return found

    def uint32(self) -> int:
        """Read a uint32."""
        return int.from_bytes(self.take(4))

    def string(self) -> bytes:
        """Read a string."""
        return self.take(self.uint32())

    def rest(self) -> bytes:
        """Take what is left."""
        return self.take(len(self._left))

    def end(self) -> None:
        """Refuse anything that is left."""
        if self._left:
            raise BadWire("too long")


def blob_of(key: Ed25519PublicKey) -> bytes:
    """Return a public key as SSH writes it."""
    return string(ED25519) + string(key.public_bytes(Encoding.Raw, PublicFormat.Raw))


def line_of(blob: bytes, comment: str = "") -> str:
    """Return a public key as a line for files of OpenSSH."""
    kind = Reader(blob).string().decode("ascii")
    return f"{kind} {base64.b64encode(blob).decode()} {comment}".strip()


def blob_of_line(line: str) -> bytes:
    """Return the public key of such a line; raises BadWire unless the type before it is its own."""
    parts = line.split()
    try:
        blob = base64.b64decode(parts[1], validate=True)
        if Reader(blob).string().decode("ascii") == parts[0]:
            return blob
    except (IndexError, ValueError):
        pass
    raise BadWire("not a public key of OpenSSH")


def fingerprint(blob: bytes) -> str:
    """Return a key's name as OpenSSH shows it: `SHA256:` and base64 without padding."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def _signed(namespace: str, hash_name: bytes, digest: bytes) -> bytes:
    return _MAGIC + string(namespace.encode()) + string(b"") + string(hash_name) + string(digest)


def sign(key: Ed25519PrivateKey, namespace: str, message: bytes) -> str:
    """Sign a message as `ssh-keygen -Y sign -n NAMESPACE` does; return the armoured signature."""
    signature = key.sign(_signed(namespace, _HASH, hashlib.sha512(message).digest()))
    parts = [blob_of(key.public_key()), namespace.encode(), b"", _HASH, string(ED25519) + string(signature)]
    body = base64.b64encode(_MAGIC + struct.pack(">I", 1) + b"".join(map(string, parts))).decode()
    return "\n".join([_BEGIN, *textwrap.wrap(body, 70), _END, ""])


def verify(armour: str, namespace: str, message: bytes, trusted: Collection[bytes]) -> bytes | None:
    """Return which of the trusted keys signed a message under this namespace; None when it was none of them."""
    lines = armour.strip().splitlines() if len(armour) <= MAX_ARMOUR else []
    if len(lines) < 3 or lines[0] != _BEGIN or lines[-1] != _END:
        return None
    try:
        reader = Reader(base64.b64decode("".join(lines[1:-1]), validate=True))
        if reader.take(len(_MAGIC)) != _MAGIC or reader.uint32() != 1:
            return None
        blob, named, _reserved, hash_name, signature = (reader.string() for _ in range(5))
        reader.end()
        inner = Reader(signature)
        kind, raw = inner.string(), inner.string()
        inner.end()
        if blob not in trusted or named != namespace.encode() or hash_name not in (b"sha256", b"sha512"):
            return None
        public = Reader(blob)
        if kind != ED25519 or public.string() != ED25519:
            return None
        digest = hashlib.new(hash_name.decode(), message).digest()
        Ed25519PublicKey.from_public_bytes(public.string()).verify(raw, _signed(namespace, hash_name, digest))
    except (ValueError, InvalidSignature):
        return None
    return blob
