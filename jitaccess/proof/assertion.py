"""Did this passkey sign exactly this challenge, here, with the person present and verified? WebAuthn Level 3 section 7.2.

The one exception to "never by hand": py_webauthn checks at the door, this checks the stored evidence again at issue and offline,
with nothing but the standard library and `cryptography`. Both must agree on every vector, except that this one also refuses
`crossOrigin: true` and any `topOrigin` (R2), which py_webauthn ignores, and keys that stand twice in client data and attested
credential data in an assertion (section 6.1), which it takes. Public keys are stored as SubjectPublicKeyInfo DER.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from jitaccess.proof.canonical import JsonValue, b64u_decode, b64u_encode, sha256_b64u
from jitaccess.proof.errors import ProofError
from jitaccess.proof.statements import (
    ApprovalSetStatement,
    ApprovalStatement,
    DeputyStatement,
    FilingStatement,
    Purpose,
    Verdict,
)
from jitaccess.proof.statements import challenge as challenge_of

ES256, EDDSA, RS256 = -7, -8, -257
"""COSE algorithm identifiers (RFC 9053 section 2, RFC 8812 section 2)."""
FLAG_UP, FLAG_UV, FLAG_BE, FLAG_BS, FLAG_AT, FLAG_ED = 0x01, 0x04, 0x08, 0x10, 0x40, 0x80
AUTH_DATA_MIN = 37
"""RP ID hash (32 bytes), flags (1), counter (4): WebAuthn Level 3 section 6.1."""
MAX_CBOR_DEPTH = 8
MAX_CLIENT_DATA = 8 * 1024


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A passkey's public key as stored: SPKI DER and the COSE algorithm it was registered for."""

    public_key_der: bytes
    algorithm: int


@dataclass(frozen=True, slots=True)
class Assertion:
    """What an authenticator answered, as bytes."""

    client_data_json: bytes
    authenticator_data: bytes
    signature: bytes

    def to_json(self) -> dict[str, str]:
        """Return the three parts as base64url."""
        return {
            "client_data_json": b64u_encode(self.client_data_json),
            "authenticator_data": b64u_encode(self.authenticator_data),
            "signature": b64u_encode(self.signature),
        }

    @classmethod
    def from_json(cls, value: JsonValue) -> "Assertion":
        """Read `to_json`; raises ProofError."""
        match value:
            case {
                "client_data_json": str(client),
                "authenticator_data": str(data),
                "signature": str(signature),
                **rest,
            }:
                if rest:
                    raise ProofError("not_an_assertion", "unknown parts")
                return cls(b64u_decode(client), b64u_decode(data), b64u_decode(signature))
            case _:
                raise ProofError("not_an_assertion", "not a stored assertion")

    def digest(self) -> str:
        """Return base64url SHA-256 over the three parts, each with its length as 4 bytes big-endian before it."""
        state = hashlib.sha256()
        for part in (self.client_data_json, self.authenticator_data, self.signature):
            state.update(len(part).to_bytes(4, "big") + part)
        return b64u_encode(state.digest())


@dataclass(frozen=True, slots=True)
class CheckedAssertion:
    """What a good assertion says; only `check_assertion` makes one."""

    sign_count: int
    backup_eligible: bool
    backed_up: bool
    user_verified: bool = True
    """Always: without user verification there is no CheckedAssertion."""


def check_assertion(
    assertion: Assertion, key: StoredKey, *, challenge: bytes, origin: str, rp_id: str
) -> CheckedAssertion:
    """Check one assertion; raises ProofError whose reason names the step that failed. An empty challenge never passes.

    1 client data is JSON without twin keys · 2 type · 3 challenge · 4 origin, exact · 5 not cross-origin, no top origin ·
    6 RP ID hash · 7 user present · 8 user verified · 9 backup flags consistent · 10 no attested data; extensions are one CBOR
    map; no bytes left over · 11 signature.
    The caller still owes: that the key belongs to the person, and what the counter and backup eligibility were before.
    """
    client = _client_data(assertion.client_data_json)  # 1
    if client.get("type") != "webauthn.get":  # 2
        raise ProofError("wrong_type", "not an assertion", "type")
    given = client.get("challenge")
    wanted = b64u_encode(challenge).encode()
    if not isinstance(given, str) or not wanted or not hmac.compare_digest(given.encode(errors="replace"), wanted):  # 3
        raise ProofError("wrong_challenge", "signed for something else", "challenge")
    if client.get("origin") != origin:  # 4
        raise ProofError("wrong_origin", "signed on another site", "origin")
    if client.get("crossOrigin", False) is not False or "topOrigin" in client:  # 5
        raise ProofError("cross_origin", "signed inside another site's page", "crossOrigin")
    data = assertion.authenticator_data
    if len(data) < AUTH_DATA_MIN:
        raise ProofError("bad_authenticator_data", "authenticator data is too short")
    if not hmac.compare_digest(data[:32], hashlib.sha256(rp_id.encode()).digest()):  # 6
        raise ProofError("wrong_rp_id", "signed for another RP ID")
    flags = data[32]
    if not flags & FLAG_UP:  # 7
        raise ProofError("user_not_present", "the person was not present")
    if not flags & FLAG_UV:  # 8
        raise ProofError("user_not_verified", "the authenticator did not verify the person")
    if flags & FLAG_BS and not flags & FLAG_BE:  # 9
        raise ProofError("backup_flags", "backed up although not eligible")
    if flags & FLAG_AT:  # 10
        raise ProofError("attested_data", "an assertion carries no attested credential data")
    if (_extensions_end(data) if flags & FLAG_ED else AUTH_DATA_MIN) != len(data):
        raise ProofError("bad_authenticator_data", "bytes left over")
    _check_signature(key, assertion.signature, data + hashlib.sha256(assertion.client_data_json).digest())  # 11
    return CheckedAssertion(int.from_bytes(data[33:37], "big"), bool(flags & FLAG_BE), bool(flags & FLAG_BS))


def _client_data(data: bytes) -> Mapping[str, JsonValue]:
    if len(data) > MAX_CLIENT_DATA:
        raise ProofError("bad_client_data", "client data is too large")
    try:
        text = data.decode("utf-8-sig")  # "UTF-8 decode" of the Encoding Standard: a byte order mark is dropped
        value = json.loads(text, object_pairs_hook=_no_twins)
    except (ValueError, RecursionError) as error:
        raise ProofError("bad_client_data", "client data is not JSON") from error
    if not isinstance(value, dict):
        raise ProofError("bad_client_data", "client data is not an object")
    return value


def _no_twins(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _extensions_end(data: bytes) -> int:
    """Return where the one CBOR map of extension outputs ends (RFC 8949, definite lengths as CTAP2 writes them)."""
    if len(data) == AUTH_DATA_MIN or data[AUTH_DATA_MIN] >> 5 != 5:
        raise ProofError("bad_authenticator_data", "extension outputs are not a CBOR map")
    return _cbor_end(data, AUTH_DATA_MIN, 0)


def _cbor_end(data: bytes, at: int, depth: int) -> int:
    """Return where the CBOR value at `at` ends; raises ProofError when it is cut off, too deep or of indefinite length."""
    if at >= len(data) or depth > MAX_CBOR_DEPTH:
        raise ProofError("bad_authenticator_data", "extension outputs are cut off or too deep")
    major, short = data[at] >> 5, data[at] & 0x1F
    if short > 27:
        raise ProofError("bad_authenticator_data", "extension outputs are not definite CBOR")
    width = 0 if short < 24 else 1 << (short - 24)
    argument = short if short < 24 else int.from_bytes(data[at + 1 : at + 1 + width], "big")
    end = at + 1 + width
    match major:
        case 2 | 3:
            end += argument
        case 4 | 5 | 6:
            for _ in range({4: argument, 5: 2 * argument, 6: 1}[major]):
                end = _cbor_end(data, end, depth + 1)
        case _:
            pass
    if end > len(data):
        raise ProofError("bad_authenticator_data", "extension outputs are cut off")
    return end


def _check_signature(key: StoredKey, signature: bytes, signed: bytes) -> None:
    try:
        public = load_der_public_key(key.public_key_der)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ProofError("bad_key", "the stored key cannot be read") from error
    try:
        match public, key.algorithm:
            case ec.EllipticCurvePublicKey(), -7 if isinstance(public.curve, ec.SECP256R1):
                public.verify(signature, signed, ec.ECDSA(hashes.SHA256()))
            case ed25519.Ed25519PublicKey(), -8:
                public.verify(signature, signed)
            case rsa.RSAPublicKey(), -257:
                public.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
            case _:
                raise ProofError("bad_key", "the key does not fit its algorithm")
    except InvalidSignature as error:
        raise ProofError("bad_signature", "the signature is not the passkey's") from error


def verify_approval(
    statement: bytes, assertion: Assertion, key: StoredKey, *, origin: str, rp_id: str
) -> ApprovalStatement:
    """Check stored approval evidence; return what was signed. Raises ProofError."""
    parsed = ApprovalStatement.parse(statement)
    check_assertion(assertion, key, challenge=challenge_of(Purpose.APPROVAL, statement), origin=origin, rp_id=rp_id)
    return parsed


def verify_approval_in_set(
    statement: bytes, set_statement: bytes, assertion: Assertion, key: StoredKey, *, origin: str, rp_id: str
) -> ApprovalStatement:
    """Check stored evidence of an approval that was signed as one of a set; return the single one. Raises ProofError.

    1 the assertion is over the set, for the purpose of sets alone · 2 the set lists the digest of exactly these bytes · 3 both are
    of one instance, log, approver and passkey, and the set is not open longer · 4 a set only approves.
    """
    parsed = ApprovalSetStatement.parse(set_statement)
    wanted = challenge_of(Purpose.APPROVAL_SET, set_statement)
    check_assertion(assertion, key, challenge=wanted, origin=origin, rp_id=rp_id)  # 1
    if sha256_b64u(statement) not in parsed.approvals:  # 2
        raise ProofError("not_in_set", "the signed set does not list this approval", "approvals")
    single = ApprovalStatement.parse(statement)
    for name in ("instance", "log_origin", "approver", "credential_id"):  # 3
        if getattr(single, name) != getattr(parsed, name):
            raise ProofError("not_in_set", "the set was signed for something else", name)
    if parsed.approve_by > single.approve_by:
        raise ProofError("not_in_set", "the set is open longer than the approval", "approve_by")
    if single.verdict != Verdict.APPROVE.value:  # 4
        raise ProofError("not_in_set", "a set only approves", "verdict")
    return single


def verify_deputation(
    statement: bytes, assertion: Assertion, key: StoredKey, *, origin: str, rp_id: str
) -> DeputyStatement:
    """Check a stored deputation; return what was signed. Raises ProofError."""
    parsed = DeputyStatement.parse(statement)
    check_assertion(assertion, key, challenge=challenge_of(Purpose.DEPUTY, statement), origin=origin, rp_id=rp_id)
    return parsed


def verify_filing(
    statement: bytes, assertion: Assertion, key: StoredKey, *, origin: str, rp_id: str
) -> FilingStatement:
    """Check stored filing evidence; return what was signed. Raises ProofError."""
    parsed = FilingStatement.parse(statement)
    wanted = challenge_of(Purpose.FILE_REQUEST, statement)
    check_assertion(assertion, key, challenge=wanted, origin=origin, rp_id=rp_id)
    return parsed
