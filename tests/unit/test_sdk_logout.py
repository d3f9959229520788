"""Does a logout token end exactly the sign-in it names, once, and nothing when anything about it is wrong?"""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from joserfc.jwk import ECKey

from jitaccess.sdk import LogoutVerifier, SignedOut, TokenRefused
from jitaccess.sdk.dev.forgeries import forgeries, parts, sign
from jitaccess.sdk.logout import LOGOUT_EVENT
from jitaccess.tokens.access import SignIn, mint_id, mint_logout

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
ISSUER, CLIENT = "https://jit.example", "client-1"
KEY = ECKey.generate_key("P-256", {"kid": "key-1"})
JWKS = {"keys": [KEY.as_dict(private=False)]}


def minted(jti: str = "jti-1", **change: Any) -> str:
    token = mint_logout(KEY, issuer=ISSUER, client_id=CLIENT, person_id="person-1", sid="sid-1", jti=jti, now=NOW)
    head, claims = parts(token)
    kept = {name: value for name, value in (claims | change).items() if value is not None}
    return sign(KEY, head, kept) if change else token


def verifier(at: datetime = NOW) -> LogoutVerifier:
    return LogoutVerifier(ISSUER, CLIENT, JWKS, clock=at.timestamp)


def refusal(token: str, at: datetime = NOW) -> str:
    with pytest.raises(TokenRefused) as found:
        verifier(at).verify(token)
    return found.value.code


def test_the_brokers_notice_names_person_and_sign_in() -> None:
    assert verifier().verify(minted()) == SignedOut("person-1", "sid-1", "jti-1")
    assert verifier(NOW + timedelta(seconds=119.9)).verify(minted()).sid == "sid-1"


@pytest.mark.covers("R33", "T-20")
@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"iss": "https://evil.example"}, "wrong_issuer"),
        ({"aud": "client-2"}, "wrong_audience"),
        ({"aud": [CLIENT]}, "bad_claim"),
        ({"sub": None}, "bad_claim"),
        ({"sid": None}, "bad_claim"),
        ({"jti": None}, "bad_claim"),
        ({"events": None}, "bad_claim"),
        ({"events": {}}, "bad_claim"),
        ({"events": {LOGOUT_EVENT: None}}, "bad_claim"),
        ({"events": [LOGOUT_EVENT]}, "bad_claim"),
        ({"events": {"https://other.example/event": {}}}, "bad_claim"),
        ({"nonce": "n"}, "bad_claim"),
        ({"exp": int(NOW.timestamp()) + 3600}, "lives_too_long"),
        ({"exp": "soon"}, "bad_claim"),
        ({"iat": int(NOW.timestamp()) + 61, "exp": int(NOW.timestamp()) + 100}, "clock_skew"),
    ],
)
def test_whatever_is_wrong_ends_nothing(change: dict[str, Any], code: str) -> None:
    assert refusal(minted(**change)) == code


def test_it_is_over_to_the_second() -> None:
    assert refusal(minted(), NOW + timedelta(seconds=120)) == "expired"


@pytest.mark.covers("R33", "T-20")
def test_no_forgery_and_no_other_kind_of_token_is_taken() -> None:
    good = minted()
    assert [attack.name for attack in forgeries(good, KEY, "http://127.0.0.1:9/") if takes(attack.text)] == []
    identity = mint_id(
        KEY, issuer=ISSUER, client_id=CLIENT, person_id="person-1", name="Arta", nonce=None, access_token="x",
        sign_in=SignIn(NOW, "phrh", ("hwk",)), now=NOW, sid="sid-1",
    )  # fmt: skip
    assert refusal(identity) == "wrong_type"
    assert takes(good)


def takes(text: str) -> bool:
    try:
        verifier().verify(text)
    except TokenRefused:
        return False
    return True


def test_a_notice_is_taken_once_and_another_one_all_the_same() -> None:
    mine = verifier()
    mine.verify(minted("one"))
    with pytest.raises(TokenRefused, match="before"):
        mine.verify(minted("one"))
    assert mine.verify(minted("two")).jti == "two"


def test_what_is_remembered_is_bounded_and_forgotten_when_it_is_over() -> None:
    now = [NOW.timestamp()]
    mine = LogoutVerifier(ISSUER, CLIENT, JWKS, clock=lambda: now[0], remember=2)
    mine.verify(minted("one"))
    mine.verify(minted("two"))
    with pytest.raises(TokenRefused, match="Too many"):
        mine.verify(minted("three"))
    later = NOW + timedelta(seconds=121)
    now[0] = later.timestamp()
    fresh = mint_logout(KEY, issuer=ISSUER, client_id=CLIENT, person_id="p", sid="s", jti="four", now=later)
    assert mine.verify(fresh).jti == "four"


@pytest.mark.parametrize(("issuer", "client"), [("", CLIENT), (ISSUER, "")])
def test_a_verifier_needs_an_issuer_and_a_client(issuer: str, client: str) -> None:
    with pytest.raises(ValueError, match="needs"):
        LogoutVerifier(issuer, client, JWKS)
