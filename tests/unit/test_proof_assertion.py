"""Is stored evidence checked as WebAuthn Level 3 section 7.2 says, and does py_webauthn agree on every vector?

The differences are declared, one by one: what py_webauthn 3 takes and this check refuses. The other way round there are none.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from webauthn import verify_authentication_response
from webauthn.helpers.exceptions import WebAuthnException

from jitaccess.proof.assertion import (
    EDDSA,
    ES256,
    RS256,
    Assertion,
    StoredKey,
    check_assertion,
    verify_approval,
    verify_approval_in_set,
    verify_filing,
)
from jitaccess.proof.canonical import b64u_decode, b64u_encode, sha256_b64u
from jitaccess.proof.errors import ProofError
from jitaccess.proof.statements import ApprovalSetStatement, ApprovalStatement, FilingStatement, Purpose
from jitaccess.proof.statements import challenge as challenge_of

RP_ID, ORIGIN = "jit.example.org", "https://jit.example.org"
CHALLENGE = bytes(range(32))
UP, UV, BE, BS, AT, ED = 0x01, 0x04, 0x08, 0x10, 0x40, 0x80
Private = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
KEYS: tuple[tuple[int, Private], ...] = ((ES256, EC_KEY), (EDDSA, ED_KEY), (RS256, RSA_KEY))


def stored(key: Private, algorithm: int) -> StoredKey:
    return StoredKey(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), algorithm)


def cose(key: Private) -> bytes:
    match key:
        case ec.EllipticCurvePrivateKey():
            point = key.public_key().public_numbers()
            return cbor2.dumps({1: 2, 3: -7, -1: 1, -2: point.x.to_bytes(32, "big"), -3: point.y.to_bytes(32, "big")})
        case ed25519.Ed25519PrivateKey():
            return cbor2.dumps({1: 1, 3: -8, -1: 6, -2: key.public_key().public_bytes_raw()})
        case rsa.RSAPrivateKey():
            numbers = key.public_key().public_numbers()
            return cbor2.dumps({1: 3, 3: -257, -1: numbers.n.to_bytes(256, "big"), -2: b"\x01\x00\x01"})


def signature(key: Private, signed: bytes) -> bytes:
    match key:
        case ec.EllipticCurvePrivateKey():
            return key.sign(signed, ec.ECDSA(hashes.SHA256()))
        case ed25519.Ed25519PrivateKey():
            return key.sign(signed)
        case rsa.RSAPrivateKey():
            return key.sign(signed, padding.PKCS1v15(), hashes.SHA256())


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """What an authenticator and a browser might answer; every default is honest."""

    client: Mapping[str, Any] = field(default_factory=dict)
    raw_client: bytes | None = None
    rp_id: str = RP_ID
    flags: int = UP | UV
    counter: int = 7
    tail: bytes = b""
    cut: int | None = None
    tamper: str = ""
    challenge: bytes = CHALLENGE

    def answer(self, key: Private = EC_KEY) -> Assertion:
        honest = {
            "type": "webauthn.get",
            "challenge": b64u_encode(self.challenge),
            "origin": ORIGIN,
            "crossOrigin": False,
        }
        merged = {name: value for name, value in {**honest, **self.client}.items() if value is not ...}
        client = json.dumps(merged).encode() if self.raw_client is None else self.raw_client
        data = hashlib.sha256(self.rp_id.encode()).digest() + bytes([self.flags]) + self.counter.to_bytes(4, "big")
        data = (data + self.tail)[: self.cut]
        signed = signature(key, data + hashlib.sha256(client).digest())
        match self.tamper:
            case "signature":
                signed = signed[:-1] + bytes([signed[-1] ^ 1])
            case "client":
                client = client.replace(b'"crossOrigin": false', b'"crossOrigin":false')
            case "data":
                data = data[:-1] + bytes([data[-1] ^ 1])
            case "empty":
                signed = b""
        return Assertion(client, data, signed)


def ours(vector: Vector, key: Private = EC_KEY, algorithm: int = ES256) -> str | None:
    """Return why our check refuses, or None."""
    try:
        check_assertion(vector.answer(key), stored(key, algorithm), challenge=CHALLENGE, origin=ORIGIN, rp_id=RP_ID)
    except ProofError as error:
        return error.reason
    return None


def theirs(vector: Vector, key: Private = EC_KEY) -> bool:
    """Say whether py_webauthn takes it."""
    answer = vector.answer(key)
    response = {
        "clientDataJSON": b64u_encode(answer.client_data_json),
        "authenticatorData": b64u_encode(answer.authenticator_data),
        "signature": b64u_encode(answer.signature),
    }
    try:
        verify_authentication_response(
            credential={"id": "Y3JlZA", "rawId": "Y3JlZA", "type": "public-key", "response": response},
            expected_challenge=CHALLENGE,
            expected_rp_id=RP_ID,
            expected_origin=ORIGIN,
            credential_public_key=cose(key),
            credential_current_sign_count=0,
            require_user_verification=True,
        )
    except WebAuthnException:
        return False
    return True


EXTENSIONS = cbor2.dumps({"hmac-secret": bytes(32), "credProtect": 2, "nested": [{"a": 1.5}, True, "x" * 300, -1]})
GOOD = {
    "plain": Vector(),
    "counter zero": Vector(counter=0),
    "synced": Vector(flags=UP | UV | BE | BS),
    "eligible": Vector(flags=UP | UV | BE),
    "no crossOrigin": Vector(client={"crossOrigin": ...}),
    "unknown client data": Vector(client={"other_keys_can_be_added_here": "do not compare"}),
    "extensions": Vector(flags=UP | UV | ED, tail=EXTENSIONS),
    "no extension outputs": Vector(flags=UP | UV | ED, tail=cbor2.dumps({})),
}
BAD = {
    "registration": (Vector(client={"type": "webauthn.create"}), "wrong_type"),
    "payment": (Vector(client={"type": "payment.get"}), "wrong_type"),
    "other challenge": (Vector(challenge=bytes(32)), "wrong_challenge"),
    "no challenge": (Vector(client={"challenge": ...}), "wrong_challenge"),
    "empty challenge": (Vector(client={"challenge": ""}), "wrong_challenge"),
    "other origin": (Vector(client={"origin": "https://jit.example.org.evil.example"}), "wrong_origin"),
    "other port": (Vector(client={"origin": ORIGIN + ":8443"}), "wrong_origin"),
    "plain http": (Vector(client={"origin": "http://jit.example.org"}), "wrong_origin"),
    "other case": (Vector(client={"origin": "https://JIT.example.org"}), "wrong_origin"),
    "no origin": (Vector(client={"origin": ...}), "wrong_origin"),
    "other RP ID": (Vector(rp_id="example.org"), "wrong_rp_id"),
    "user not present": (Vector(flags=UV), "user_not_present"),
    "user not verified": (Vector(flags=UP), "user_not_verified"),
    "backed up, not eligible": (Vector(flags=UP | UV | BS), "backup_flags"),
    "left over": (Vector(tail=b"\x00"), "bad_authenticator_data"),
    "extensions without their flag": (Vector(tail=EXTENSIONS), "bad_authenticator_data"),
    "flag without extensions": (Vector(flags=UP | UV | ED), "bad_authenticator_data"),
    "extensions and more": (Vector(flags=UP | UV | ED, tail=EXTENSIONS + b"\x00"), "bad_authenticator_data"),
    "extensions cut off": (Vector(flags=UP | UV | ED, tail=EXTENSIONS[:-1]), "bad_authenticator_data"),
    "extension text cut off": (Vector(flags=UP | UV | ED, tail=b"\xa1\x61a\x78\xff"), "bad_authenticator_data"),
    "too short": (Vector(cut=36), "bad_authenticator_data"),
    "tampered signature": (Vector(tamper="signature"), "bad_signature"),
    "tampered client data": (Vector(tamper="client"), "bad_signature"),
    "tampered authenticator data": (Vector(tamper="data"), "bad_signature"),
    "no signature": (Vector(tamper="empty"), "bad_signature"),
    "not JSON": (Vector(raw_client=b"{"), "bad_client_data"),
    "not an object": (Vector(raw_client=b"[]"), "bad_client_data"),
    "not UTF-8": (Vector(raw_client=b'{"type":"\xff"}'), "bad_client_data"),
}
TWINS = (b'{"type":"webauthn.get","challenge":"' + b64u_encode(bytes(32)).encode() + b'","challenge":"'
         + b64u_encode(CHALLENGE).encode() + b'","origin":"' + ORIGIN.encode() + b'"}')  # fmt: skip
ATTESTED = bytes(16) + (4).to_bytes(2, "big") + b"cred" + cose(EC_KEY)
DECLARED = {
    "crossOrigin": (Vector(client={"crossOrigin": True}), "cross_origin"),
    "crossOrigin that is no boolean": (Vector(client={"crossOrigin": 0}), "cross_origin"),
    "topOrigin": (Vector(client={"crossOrigin": True, "topOrigin": "https://news.example"}), "cross_origin"),
    "topOrigin alone": (Vector(client={"topOrigin": ORIGIN}), "cross_origin"),
    "keys that stand twice": (Vector(raw_client=TWINS), "bad_client_data"),
    "attested data in an assertion": (Vector(flags=UP | UV | AT, tail=ATTESTED), "attested_data"),
    "too large": (Vector(client={"padding": "x" * 8192}), "bad_client_data"),
}


@pytest.mark.covers("R1", "R2", "R19")
@pytest.mark.parametrize("vector", GOOD.values(), ids=GOOD)
@pytest.mark.parametrize(("algorithm", "key"), KEYS, ids=["ES256", "EdDSA", "RS256"])
def test_both_take_an_honest_answer(vector: Vector, algorithm: int, key: Private) -> None:
    assert ours(vector, key, algorithm) is None
    assert theirs(vector, key)


@pytest.mark.covers("R1", "R2", "R19", "TRAP-6")
@pytest.mark.parametrize(("vector", "reason"), BAD.values(), ids=BAD)
def test_both_refuse_and_the_reason_says_why(vector: Vector, reason: str) -> None:
    assert ours(vector) == reason
    assert not theirs(vector)


@pytest.mark.covers("R1", "R19")
@pytest.mark.parametrize(("algorithm", "key"), KEYS, ids=["ES256", "EdDSA", "RS256"])
def test_no_algorithm_takes_a_tampered_signature(algorithm: int, key: Private) -> None:
    for tamper in ("signature", "client", "data", "empty"):
        assert ours(Vector(tamper=tamper), key, algorithm) == "bad_signature"
        assert not theirs(Vector(tamper=tamper), key)


@pytest.mark.covers("R2", "TRAP-6")
@pytest.mark.parametrize(("vector", "reason"), DECLARED.values(), ids=DECLARED)
def test_the_declared_differences_are_refused_here_and_taken_there(vector: Vector, reason: str) -> None:
    assert ours(vector) == reason
    assert theirs(vector)


@pytest.mark.parametrize("tail", [b"\xbf\x61a\x01\xff", b"\xa1\x61a" + b"\x81" * 20 + b"\x01", b"\xfc", b"\x01"],
                         ids=["indefinite", "too deep", "reserved", "no map"])  # fmt: skip
def test_extension_outputs_are_one_plain_map(tail: bytes) -> None:
    assert ours(Vector(flags=UP | UV | ED, tail=tail)) == "bad_authenticator_data"


def test_client_data_may_begin_with_a_byte_order_mark() -> None:
    marked = b"\xef\xbb\xbf" + Vector().answer().client_data_json
    assert ours(Vector(raw_client=marked)) is None
    assert theirs(Vector(raw_client=marked))


@pytest.mark.covers("R66")
def test_deeply_nested_client_data_is_refused() -> None:
    assert ours(Vector(raw_client=b'{"a":' + b"[" * 8000)) == "bad_client_data"


@pytest.mark.covers("R19")
def test_an_empty_challenge_never_passes() -> None:
    answer = Vector(challenge=b"").answer()
    with pytest.raises(ProofError) as caught:
        check_assertion(answer, stored(EC_KEY, ES256), challenge=b"", origin=ORIGIN, rp_id=RP_ID)
    assert caught.value.reason == "wrong_challenge"


def test_what_the_authenticator_said_is_returned() -> None:
    answer = Vector(flags=UP | UV | BE, counter=0x01020304).answer()
    checked = check_assertion(answer, stored(EC_KEY, ES256), challenge=CHALLENGE, origin=ORIGIN, rp_id=RP_ID)
    assert (checked.sign_count, checked.backup_eligible, checked.backed_up, checked.user_verified) == (
        0x01020304, True, False, True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (stored(EC_KEY, EDDSA), "bad_key"), (stored(EC_KEY, RS256), "bad_key"), (stored(ED_KEY, ES256), "bad_key"),
        (stored(RSA_KEY, -37), "bad_key"), (stored(ec.generate_private_key(ec.SECP384R1()), ES256), "bad_key"),
        (StoredKey(b"no key", ES256), "bad_key"), (StoredKey(b"", ES256), "bad_key"),
        (stored(ec.generate_private_key(ec.SECP256R1()), ES256), "bad_signature"),
    ],
)  # fmt: skip
def test_a_key_that_does_not_fit_is_refused(key: StoredKey, reason: str) -> None:
    with pytest.raises(ProofError) as caught:
        check_assertion(Vector().answer(), key, challenge=CHALLENGE, origin=ORIGIN, rp_id=RP_ID)
    assert caught.value.reason == reason


@pytest.mark.covers("R19")
def test_an_assertion_is_stored_and_read_back() -> None:
    answer = Vector().answer()
    value = answer.to_json()
    assert Assertion.from_json({**value}) == answer
    for wrong in ({**value, "more": "x"}, {"signature": "YQ"}, {**value, "signature": 1}, [], None):
        with pytest.raises(ProofError) as caught:
            Assertion.from_json(wrong)
        assert caught.value.reason == "not_an_assertion"
    with pytest.raises(ProofError):
        Assertion.from_json({**value, "signature": "YQ=="})


@pytest.mark.covers("R19")
def test_the_digest_of_an_assertion_keeps_its_parts_apart() -> None:
    def long(part: bytes) -> bytes:
        return len(part).to_bytes(4, "big") + part

    assert Assertion(b"ab", b"c", b"").digest() == sha256_b64u(long(b"ab") + long(b"c") + long(b""))
    assert Assertion(b"ab", b"c", b"").digest() != Assertion(b"a", b"bc", b"").digest()


DIGEST, NONCE = b64u_encode(bytes(32)), b64u_encode(bytes(16))
APPROVAL = ApprovalStatement(
    instance="i", log_origin="o", request_id="r", requester="arta", requester_assertion_digest=DIGEST, target="t",
    target_config_digest=DIGEST, entitlement="e", inputs={"amount_cents": 5}, terms={}, policy_digest=DIGEST,
    holder_jkt=None, earliest_start=1, latest_end=9, max_duration_s=3, approve_by=5, approver="blerim",
    credential_id="Y3JlZA", step="line", verdict="approve", nonce=NONCE,
)  # fmt: skip
FILING = FilingStatement(
    instance="i", log_origin="o", request_id="r", requester="arta", credential_id="Y3JlZA", target="t",
    target_config_digest=DIGEST, entitlement="e", inputs={}, reason_digest=DIGEST, duration_s=3, policy_digest=DIGEST,
    holder_jkt=None, earliest_start=1, file_by=5, nonce=NONCE,
)  # fmt: skip


@pytest.mark.covers("R19", "R20", "R23")
def test_evidence_holds_for_its_statement_and_purpose_only() -> None:
    key, place = stored(EC_KEY, ES256), {"origin": ORIGIN, "rp_id": RP_ID}
    approval, filing = APPROVAL.to_bytes(), FILING.to_bytes()
    signed = Vector(challenge=challenge_of(Purpose.APPROVAL, approval)).answer()
    filed = Vector(challenge=challenge_of(Purpose.FILE_REQUEST, filing)).answer()
    assert verify_approval(approval, signed, key, **place) == APPROVAL
    assert verify_filing(filing, filed, key, **place) == FILING
    other = replace(APPROVAL, inputs={"amount_cents": 6}).to_bytes()
    as_change = Vector(challenge=challenge_of(Purpose.CHANGE, approval)).answer()
    for statement, assertion in ((other, signed), (approval, filed), (approval, as_change)):
        with pytest.raises(ProofError) as caught:
            verify_approval(statement, assertion, key, **place)
        assert caught.value.reason == "wrong_challenge"
    with pytest.raises(ProofError) as caught:
        verify_filing(filing, signed, key, **place)
    assert caught.value.reason == "wrong_challenge"
    with pytest.raises(ProofError) as caught:
        verify_approval(filing, filed, key, **place)
    assert caught.value.reason == "not_a_statement"
    assert b64u_decode(json.loads(signed.client_data_json)["challenge"]) == challenge_of(Purpose.APPROVAL, approval)


@pytest.mark.covers("R19", "R23")
def test_an_approval_holds_through_a_set_only_where_the_set_lists_its_exact_bytes() -> None:
    key, place = stored(EC_KEY, ES256), {"origin": ORIGIN, "rp_id": RP_ID}
    single = APPROVAL.to_bytes()
    other = replace(APPROVAL, request_id="other").to_bytes()

    def held(
        refusing: str | None = None, data: bytes = single, purpose: Purpose = Purpose.APPROVAL_SET, **values: Any
    ) -> None:
        shape: dict[str, Any] = {
            "instance": APPROVAL.instance,
            "log_origin": APPROVAL.log_origin,
            "approver": APPROVAL.approver,
            "credential_id": APPROVAL.credential_id,
            "approvals": (sha256_b64u(single), sha256_b64u(other)),
            "approve_by": APPROVAL.approve_by,
            "nonce": APPROVAL.nonce,
        }
        signed_set = ApprovalSetStatement(**(shape | values)).to_bytes()
        signed = Vector(challenge=challenge_of(purpose, signed_set)).answer()
        if refusing is None:
            assert verify_approval_in_set(data, signed_set, signed, key, **place).to_bytes() == data
            return
        with pytest.raises(ProofError) as caught:
            verify_approval_in_set(data, signed_set, signed, key, **place)
        assert caught.value.reason == refusing

    held()
    held(data=other)
    held("wrong_challenge", purpose=Purpose.APPROVAL)
    held("not_in_set", approvals=(sha256_b64u(other), sha256_b64u(b"x")))
    for name in ("instance", "log_origin", "approver"):
        held("not_in_set", **{name: "another"})
    held("not_in_set", credential_id="YW5vdGhlcg")
    held("not_in_set", approve_by=APPROVAL.approve_by + 1)
    denial = replace(APPROVAL, verdict="deny").to_bytes()
    held("not_in_set", data=denial, approvals=(sha256_b64u(denial), sha256_b64u(other)))
