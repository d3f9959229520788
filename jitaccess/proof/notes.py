"""Who signed this text? C2SP signed-note 1.0 with Ed25519 (algorithm byte 0x01).

A note is a text ending in a newline, an empty line, then lines `- <name> <base64(key id || signature)>` that begin with an em dash. A
verifier key is written `<name>+<key id as 8 hex digits>+<base64(0x01 || public key)>`. Signatures by unknown keys are ignored;
a known key whose signature does not hold makes the whole note bad. Several keys may sign one note: during a key rotation the old and
the new one do. Spec: c2sp.org/signed-note.
"""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from jitaccess.proof.errors import ProofError

ED25519 = b"\x01"
MAX_NOTE_BYTES = 64 * 1024
_DASH = "\u2014 "


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A name and an Ed25519 public key (32 bytes)."""

    name: str
    public: bytes

    @property
    def key_id(self) -> bytes:
        """Return the first 4 bytes of SHA-256(name || "\\n" || 0x01 || public key)."""
        return hashlib.sha256(self.name.encode() + b"\n" + ED25519 + self.public).digest()[:4]

    def to_text(self) -> str:
        """Return the vkey text."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(ED25519 + self.public).decode()}"

    @classmethod
    def parse(cls, text: str) -> "VerifierKey":
        """Read a vkey text; raises ProofError."""
        text = text.strip()
        name, _, rest = text.partition("+")
        key_id, _, encoded = rest.partition("+")
        try:
            raw = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ProofError("bad_vkey", "not a verifier key") from error
        if not _good_name(name) or raw[:1] != ED25519 or len(raw) != 33:
            raise ProofError("bad_vkey", "not an Ed25519 verifier key")
        key = cls(name, raw[1:])
        if key.key_id.hex() != key_id or key.to_text() != text:
            raise ProofError("bad_vkey", "the key id does not belong to the key")
        return key


def _good_name(name: str) -> bool:
    return bool(name) and "+" not in name and name.isprintable() and not any(letter.isspace() for letter in name)


def sign_note(text: str, name: str, *keys: Ed25519PrivateKey) -> str:
    """Return the note signed by each of the keys (one or more) in one name; `text` ends in a newline."""
    if not text.endswith("\n") or _forbidden(text) or not _good_name(name) or not keys:
        raise ProofError("bad_note", "a note's text ends in a newline and its signer has a plain name and a key")
    return f"{text}\n" + "".join(_signature_line(text, name, key) for key in keys)


def _signature_line(text: str, name: str, key: Ed25519PrivateKey) -> str:
    vkey = VerifierKey(name, key.public_key().public_bytes_raw())
    return f"{_DASH}{name} {base64.b64encode(vkey.key_id + key.sign(text.encode())).decode()}\n"


def _forbidden(text: str) -> bool:
    """Say whether a text is none that a note may hold: ASCII control characters, or not Unicode."""
    control = any(letter < " " and letter != "\n" for letter in text)
    return control or any("\ud800" <= letter <= "\udfff" for letter in text)


def text_of(note: str) -> str:
    """Return the text of a note without checking any signature: nobody vouches for it."""
    at = note.rfind("\n\n")
    if at < 0 or not note.endswith("\n") or _forbidden(note) or len(note.encode()) > MAX_NOTE_BYTES:
        raise ProofError("bad_note", "not a signed note: too large, control characters in it, or no signatures")
    return note[: at + 1]


def open_note(note: str, keys: Sequence[VerifierKey]) -> tuple[str, tuple[VerifierKey, ...]]:
    """Return the text and the keys whose signatures hold (at least one); raises ProofError."""
    text = text_of(note)
    lines = note[len(text) + 1 :].split("\n")[:-1]
    known = {(key.name, key.key_id): key for key in keys}
    good: list[VerifierKey] = []
    for line in lines:
        name, _, encoded = line.removeprefix(_DASH).partition(" ")
        if not line.startswith(_DASH) or not _good_name(name):
            raise ProofError("bad_note", "not a signature line")
        try:
            raw = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ProofError("bad_note", "not a signature line") from error
        if len(raw) < 5:
            raise ProofError("bad_note", "a signature is a key id of 4 bytes and at least one more")
        key = known.get((name, raw[:4]))
        if key is None:
            continue
        try:
            Ed25519PublicKey.from_public_bytes(key.public).verify(raw[4:], text.encode())
        except InvalidSignature as error:
            raise ProofError("bad_signature", f"the signature of {name} does not hold") from error
        if key not in good:
            good.append(key)
    if not good:
        raise ProofError("unknown_signer", "signed by none of the known keys")
    return text, tuple(good)
