"""Is the software passkey what py_webauthn takes for a real one, and each of its dishonesties one that can be
seen?"""

from typing import Any

import pytest
from webauthn import verify_authentication_response, verify_registration_response
from webauthn.helpers.exceptions import WebAuthnException

from jitaccess.demo.soft_passkey import SoftPasskey, b64u

ORIGIN = "http://localhost:8000"
CHALLENGE = bytes(range(32))


def register(passkey: SoftPasskey) -> None:
    options = {"publicKey": {"challenge": b64u(CHALLENGE), "user": {"id": b64u(b"person")}}}
    verified = verify_registration_response(
        credential=passkey.create(options),
        expected_challenge=CHALLENGE,
        expected_rp_id="localhost",
        expected_origin=ORIGIN,
        require_user_verification=True,
    )
    assert verified.credential_id == passkey.credential_id
    assert verified.credential_public_key == passkey.cose_key


def sign_in(passkey: SoftPasskey, *, known_count: int = 0, challenge: bytes = CHALLENGE) -> int:
    answer: dict[str, Any] = passkey.get({"challenge": b64u(challenge)})
    verified = verify_authentication_response(
        credential=answer,
        expected_challenge=CHALLENGE,
        expected_rp_id="localhost",
        expected_origin=ORIGIN,
        credential_public_key=passkey.cose_key,
        credential_current_sign_count=known_count,
        require_user_verification=True,
    )
    return verified.new_sign_count


def test_an_honest_passkey_registers_and_signs_in() -> None:
    passkey = SoftPasskey("localhost", ORIGIN)
    register(passkey)
    assert sign_in(passkey, known_count=1) == 2


def test_a_synced_passkey_keeps_its_counter_at_zero() -> None:
    passkey = SoftPasskey("localhost", ORIGIN, backup_eligible=True, backed_up=True, counter=-1)
    register(passkey)
    assert sign_in(passkey) == 0


@pytest.mark.parametrize(
    "lie",
    [
        {"user_present": False},
        {"user_verified": False},
        {"backed_up": True},
        {"origin": "http://localhost:9000"},
        {"rp_id": "elsewhere"},
    ],
    ids=lambda lie: next(iter(lie)),
)
def test_a_dishonest_passkey_is_refused(lie: dict[str, Any]) -> None:
    passkey = SoftPasskey(**{"rp_id": "localhost", "origin": ORIGIN, **lie})
    with pytest.raises(WebAuthnException):
        sign_in(passkey)


def test_a_clone_and_another_challenge_are_refused() -> None:
    passkey = SoftPasskey("localhost", ORIGIN)
    with pytest.raises(WebAuthnException):
        sign_in(passkey, known_count=5)
    with pytest.raises(WebAuthnException):
        sign_in(passkey, challenge=bytes(32))
