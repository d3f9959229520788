"""Which bytes stand for a value, which values and which bytes are refused, and what base64url and salted digests accept."""

import hashlib
from typing import Any

import pytest

from jitaccess.proof.canonical import (
    MAX_DEPTH,
    MAX_INTEGER,
    b64u_decode,
    b64u_encode,
    canonical,
    digest_b64u,
    parse_canonical,
    salted_digest,
)
from jitaccess.proof.errors import ProofError


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.covers("R19")
def test_keys_are_sorted_by_utf_16_as_in_rfc_8785_section_3_2_3() -> None:
    letters = {"€": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\u0080": 6, "ö": 7}
    wanted = '{"\\r":2,"1":4,"\u0080":6,"ö":7,"€":1,"\U0001f600":5,"\ufb33":3}'
    assert canonical(letters) == wanted.encode()


@pytest.mark.covers("R19")
def test_text_and_literals_are_written_as_in_rfc_8785_section_3_2_2() -> None:
    assert canonical(['€$\x0f\nA\'B"\\\\"/', None, True, False, -0, (1,)]) == (
        b'["\xe2\x82\xac$\\u000f\\nA\'B\\"\\\\\\\\\\"/",null,true,false,0,[1]]'
    )


@pytest.mark.covers("R19")
@pytest.mark.parametrize(
    ("value", "reason", "field"),
    [
        ({"a": {"b": [0, 1.5]}}, "type_refused", "a.b[1]"),
        (float("nan"), "type_refused", ""),
        ({"a": MAX_INTEGER + 1}, "integer_too_large", "a"),
        ([-MAX_INTEGER - 1], "integer_too_large", "[0]"),
        ({"a": {1: 2}}, "key_not_text", "a"),
        ({"a": "\ud800"}, "lone_surrogate", "a"),
        ({"\udc00": 1}, "lone_surrogate", ""),
        ({"a": b"bytes"}, "type_refused", "a"),
        ({"a": {1, 2}}, "type_refused", "a"),
        (nested(MAX_DEPTH + 1), "too_deep", "[0]" * (MAX_DEPTH + 1)),
    ],
)
def test_what_two_languages_would_not_read_alike_is_refused(value: object, reason: str, field: str) -> None:
    with pytest.raises(ProofError) as caught:
        canonical(value)
    assert (caught.value.reason, caught.value.field) == (reason, field)


def test_the_largest_integers_and_the_deepest_value_are_written() -> None:
    assert canonical([MAX_INTEGER, -MAX_INTEGER]) == b"[9007199254740991,-9007199254740991]"
    assert parse_canonical(canonical(nested(MAX_DEPTH))) == nested(MAX_DEPTH)


@pytest.mark.covers("R19", "R66")
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"a":1,"a":1}', "duplicate_key"),
        (b'{"a":{"b":1,"b":2}}', "duplicate_key"),
        (b"1.0", "float_refused"),
        (b"1e2", "float_refused"),
        (b"NaN", "float_refused"),
        (b"-Infinity", "float_refused"),
        (b"9007199254740992", "integer_too_large"),
        (b"9" * 5000, "not_json"),
        (b'"\\ud800"', "lone_surrogate"),
        (b'{"b":1,"a":2}', "not_canonical"),
        (b'{"a": 1}', "not_canonical"),
        (b"-0", "not_canonical"),
        (b'"\\u0041"', "not_canonical"),
        (b"1\n", "not_canonical"),
        ('"a"'.encode("utf-16"), "not_canonical"),
        (b'\xef\xbb\xbf"a"', "not_canonical"),
        (b"", "not_json"),
        (b"\xff", "not_json"),
        (b"[" * 200_000, "not_json"),
        (b"[" * 500 + b"]" * 500, "too_deep"),
    ],
)
def test_only_the_one_form_is_read(data: bytes, reason: str) -> None:
    with pytest.raises(ProofError) as caught:
        parse_canonical(data)
    assert caught.value.reason == reason


def test_base64url_is_read_back_and_has_one_spelling() -> None:
    for length in range(40):
        raw = bytes(range(200, 200 + length))
        assert b64u_decode(b64u_encode(raw)) == raw
    assert b64u_encode(b"\xfb\xff") == "-_8"


@pytest.mark.parametrize("text", ["YQ==", "YQ ", " YQ", "YR", "Y", "-/8", "+_8", "YQ\n", "Y=Q", "é", "YWI="])
def test_other_spellings_of_base64url_are_refused(text: str) -> None:
    with pytest.raises(ProofError) as caught:
        b64u_decode(text)
    assert caught.value.reason == "not_base64url"


def test_digests_are_sha_256_of_the_canonical_form() -> None:
    assert b64u_decode(digest_b64u({"b": 1, "a": "x"})) == hashlib.sha256(b'{"a":"x","b":1}').digest()


@pytest.mark.covers("R72")
def test_personal_text_is_bound_by_salt_and_text() -> None:
    salt = bytes(16)
    assert b64u_decode(salted_digest("Gjakovë", salt)) == hashlib.sha256(salt + "Gjakovë".encode()).digest()
    assert salted_digest("Gjakovë", salt) != salted_digest("Gjakovë", bytes(15) + b"\x01")


@pytest.mark.parametrize(
    ("text", "salt", "reason"), [("a", bytes(15), "bad_salt"), ("\ud800", bytes(16), "lone_surrogate")]
)
def test_a_short_salt_and_broken_text_are_refused(text: str, salt: bytes, reason: str) -> None:
    with pytest.raises(ProofError) as caught:
        salted_digest(text, salt)
    assert caught.value.reason == reason
