"""Which public keys may be certified, and what does the certificate say? PROTOCOL.certkeys of OpenSSH.

`cryptography` builds the certificates of ordinary keys. Keys of security keys (`sk-`) it would turn into ordinary ones that nobody can
use, so their certificates are written here, from the same parts; tests let a real sshd and `ssh-keygen -L` read both.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    SSHCertificateBuilder,
    SSHCertificateType,
    load_ssh_public_key,
)

from jitaccess.connectors.contract import Unusable
from jitaccess.connectors.ssh_ca.wire import ED25519, BadWire, Reader, blob_of, blob_of_line, line_of, string
from jitaccess.told import told

PLAIN = frozenset({"ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa"})
HARDWARE: Mapping[str, bytes] = {
    "sk-ssh-ed25519@openssh.com": b"sk-ssh-ed25519-cert-v01@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com": b"sk-ecdsa-sha2-nistp256-cert-v01@openssh.com",
}
"""Type of a security key's public key -> type of its certificate."""
MIN_RSA_BITS, MAX_RSA_BITS = 3072, 8192
MAX_LINE = 4_000
_USER = 1
_WORDS = struct.Struct(">QQ")


@dataclass(frozen=True, slots=True)
class Content:
    """What a certificate says beside its key."""

    serial: int
    key_id: str
    principal: str
    valid_after: datetime
    valid_before: datetime
    """The first moment at which it is refused; whole seconds."""
    critical: Mapping[str, str]
    """Option -> value, empty for options without one."""
    extensions: tuple[str, ...]


def public_key(text: str, *, hardware: bool = False) -> str:
    """Return a person's public key as a line without comment; raises Unusable with a sentence for them."""
    line = text.strip()
    if "PRIVATE KEY" in line.upper():
        raise Unusable(
            told(
                "This is a private key, which nobody else may see. Make a new key, and give the line of its .pub file."
            )
        )
    parts = line.split()
    if len(line) > MAX_LINE or not line.isprintable() or len(parts) < 2:
        raise Unusable(told("Give one line: the content of your .pub file, for instance ~/.ssh/id_ed25519.pub."))
    kind = parts[0]
    if "-cert-v0" in kind:
        raise Unusable(told("This is a certificate. Give the public key that it was made for."))
    if kind not in PLAIN and kind not in HARDWARE:
        raise Unusable(
            told(
                "This type of key is not accepted. Make a new one: ssh-keygen -t ed25519, or -t ed25519-sk for a security key."
            )
        )
    if hardware and kind not in HARDWARE:
        raise Unusable(
            told("This access needs a key that lives in a security key. Make one: ssh-keygen -t ed25519-sk.")
        )
    return _whole(f"{kind} {parts[1]}")


def _whole(line: str) -> str:
    """Return a line whose key is of its type, on its curve, long enough and nothing more."""
    try:
        blob = blob_of_line(line)
        key = load_ssh_public_key(line.encode())
        if line.startswith("sk-"):
            _check_application(blob)
    except (BadWire, ValueError, UnsupportedAlgorithm) as error:
        raise Unusable(told("This public key is damaged. Copy the whole line of your .pub file again.")) from error
    if isinstance(key, RSAPublicKey) and not (
        MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS and key.public_numbers().e >= 65537
    ):
        raise Unusable(told("This RSA key is too weak. Make a new key: ssh-keygen -t ed25519."))
    if line_of(blob) != line:
        raise Unusable(told("This public key is damaged. Copy the whole line of your .pub file again."))
    return line


def _check_application(blob: bytes) -> None:
    """Refuse a security key whose application is not one of SSH: it would not sign for ssh."""
    reader = Reader(blob)
    for _ in range(2 if b"ed25519" in reader.string() else 3):
        application = reader.string()
    reader.end()
    if not application.startswith(b"ssh:"):
        raise BadWire("not made for ssh")


def sign(key: Ed25519PrivateKey, line: str, content: Content, nonce: bytes) -> str:
    """Return the line of a certificate over a key that `public_key` returned."""
    kind = HARDWARE.get(line.partition(" ")[0])
    if kind is not None:
        return line_of(_certificate(key, kind, blob_of_line(line), content, nonce), content.key_id)
    builder = (
        SSHCertificateBuilder()
        .public_key(load_ssh_public_key(line.encode()))  # type: ignore[arg-type] # DSA, which it does not take, was refused
        .serial(content.serial)
        .type(SSHCertificateType.USER)
        .key_id(content.key_id.encode())
        .valid_principals([content.principal.encode()])
        .valid_after(int(content.valid_after.timestamp()))
        .valid_before(int(content.valid_before.timestamp()))
    )
    for name, value in content.critical.items():
        builder = builder.add_critical_option(name.encode(), value.encode())
    for name in content.extensions:
        builder = builder.add_extension(name.encode(), b"")
    return f"{builder.sign(key).public_bytes().decode().strip()} {content.key_id}"


def _certificate(key: Ed25519PrivateKey, kind: bytes, blob: bytes, content: Content, nonce: bytes) -> bytes:
    """Return a certificate over a public key: the key's own fields, for a security key its application too, stand after the nonce."""
    reader = Reader(blob)
    reader.string()
    body = string(kind) + string(nonce) + reader.rest()
    body += struct.pack(">QI", content.serial, _USER) + string(content.key_id.encode())
    body += string(string(content.principal.encode()))
    body += _WORDS.pack(int(content.valid_after.timestamp()), int(content.valid_before.timestamp()))
    body += string(_options(content.critical)) + string(_options(dict.fromkeys(content.extensions, "")))
    body += string(b"") + string(blob_of(key.public_key()))
    return body + string(string(ED25519) + string(key.sign(body)))


def _options(options: Mapping[str, str]) -> bytes:
    """Write options in the order of their names; a value is a string in a string, none an empty one."""
    return b"".join(
        string(name.encode()) + string(string(value.encode()) if value else b"")
        for name, value in sorted(options.items())
    )
