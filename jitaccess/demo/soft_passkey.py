"""How do the demo and the tests sign without a browser? A software passkey that answers WebAuthn options.

Every dishonesty that a check must notice is a switch: flags, origin, embedding, counter. It works on the JSON
that the browser's script would get and returns the JSON that it would post.
"""

import hashlib
import json
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from jitaccess.store.ids import new_bytes

UP, UV, BE, BS, AT = 0x01, 0x04, 0x08, 0x10, 0x40
"""Flags of authenticator data (WebAuthn Level 3 section 6.1)."""


def b64u(raw: bytes) -> str:
    """Return base64url without padding."""
    return urlsafe_b64encode(raw).decode().rstrip("=")


def un_b64u(text: str) -> bytes:
    """Return the bytes of base64url without padding."""
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass(slots=True)
class SoftPasskey:
    """One P-256 credential for one RP ID and origin."""

    rp_id: str
    origin: str
    user_present: bool = True
    user_verified: bool = True
    backup_eligible: bool = False
    backed_up: bool = False
    cross_origin: bool = False
    top_origin: str | None = None
    counter: int = 0
    """The last counter sent; set it back to imitate a clone. Negative: always 0, as synced passkeys do."""
    aaguid: bytes = bytes(16)
    user_handle: str | None = None
    """base64url, as given at registration."""
    credential_id: bytes = field(default_factory=lambda: new_bytes(32))
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def cose_key(self) -> bytes:
        """Return the public key as COSE (ES256)."""
        point = self.key.public_key().public_numbers()
        x, y = (number.to_bytes(32, "big") for number in (point.x, point.y))
        return cbor2.dumps({1: 2, 3: -7, -1: 1, -2: x, -3: y})

    def create(self, options: Mapping[str, Any] | str) -> dict[str, Any]:
        """Answer `navigator.credentials.create` with attestation "none"."""
        wanted = _public_key(options)
        self.user_handle = wanted["user"]["id"]
        attested = self.aaguid + struct.pack(">H", len(self.credential_id)) + self.credential_id + self.cose_key
        data = self._authenticator_data(attested, AT)
        response = {
            "clientDataJSON": b64u(self._client_data("webauthn.create", wanted["challenge"])),
            "attestationObject": b64u(cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data})),
            "transports": ["internal"],
        }
        return self._credential(response)

    def get(self, options: Mapping[str, Any] | str) -> dict[str, Any]:
        """Answer `navigator.credentials.get`."""
        return self.sign(un_b64u(_public_key(options)["challenge"]))

    def sign(self, challenge: bytes) -> dict[str, Any]:
        """Answer `navigator.credentials.get` for a bare challenge."""
        client_data = self._client_data("webauthn.get", b64u(challenge))
        data = self._authenticator_data()
        signature = self.key.sign(data + hashlib.sha256(client_data).digest(), ec.ECDSA(hashes.SHA256()))
        response: dict[str, Any] = {
            "clientDataJSON": b64u(client_data),
            "authenticatorData": b64u(data),
            "signature": b64u(signature),
            "userHandle": self.user_handle,
        }
        return self._credential(response)

    def _client_data(self, ceremony: str, challenge: str) -> bytes:
        content = {
            "type": ceremony,
            "challenge": challenge,
            "origin": self.origin,
            "crossOrigin": self.cross_origin,
        }
        return json.dumps(content | ({"topOrigin": self.top_origin} if self.top_origin else {})).encode()

    def _authenticator_data(self, attested: bytes = b"", flags: int = 0) -> bytes:
        switches = (
            (self.user_present, UP),
            (self.user_verified, UV),
            (self.backup_eligible, BE),
            (self.backed_up, BS),
        )
        flags |= sum(bit for on, bit in switches if on)
        if self.counter >= 0:
            self.counter += 1
        head = hashlib.sha256(self.rp_id.encode()).digest() + bytes([flags])
        return head + struct.pack(">I", max(self.counter, 0)) + attested

    def _credential(self, response: dict[str, Any]) -> dict[str, Any]:
        name = b64u(self.credential_id)
        return {
            "id": name,
            "rawId": name,
            "type": "public-key",
            "authenticatorAttachment": "platform",
            "clientExtensionResults": {},
            "response": response,
        }


def _public_key(options: Mapping[str, Any] | str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(options) if isinstance(options, str) else options
    inner: Mapping[str, Any] = found.get("publicKey", found)
    return inner
