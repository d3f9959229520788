"""Does the one verifier accept what the broker signs, and refuse every trick that tokens are known for?"""

import base64
import hmac
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

from jitaccess.sdk import FetchedKeys, TokenRefused, Verifier, static_keys
from jitaccess.sdk.tokens import half_hash
from jitaccess.tokens.access import GrantClaims, SignIn, mint_access, mint_id

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
ISSUER, AUDIENCE = "https://jit.example", "https://treasury.example"
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
KEY = ECKey.generate_key("P-256", {"kid": "key-1"})
OTHER = ECKey.generate_key("P-256", {"kid": "key-1"})
SIGN_IN = SignIn(NOW, "phrh", ("hwk", "user"))


def public(key: ECKey, kid: str = "key-1") -> dict[str, Any]:
    return {**key.as_dict(private=False), "kid": kid, "use": "sig", "alg": "ES256"}


def verifier(*keys: dict[str, Any], at: datetime = NOW, audience: str = AUDIENCE) -> Verifier:
    return Verifier(ISSUER, audience, {"keys": list(keys) or [public(KEY)]}, status=None, clock=lambda: at.timestamp())


def minted(key: ECKey = KEY, *, ttl_s: int = 300) -> str:
    grant = GrantClaims(
        "grant-1",
        "treasury",
        "releaser",
        {"order": "TR-000417", "amount_cents": 125_000_000},
        "a" * 43,
        "p" * 43,
        NOW + timedelta(minutes=30),
    )
    return mint_access(
        key,
        issuer=ISSUER,
        audience=AUDIENCE,
        client_id="client-1",
        person_id="person-1",
        jti="jti-1",
        scope="openid",
        grant=grant,
        sign_in=SIGN_IN,
        now=NOW,
        ttl_s=ttl_s,
    ).text


def b64u(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def claims_of(token: str) -> dict[str, Any]:
    segment = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    return found


def signed(
    payload: dict[str, Any] | bytes | None = None, header: dict[str, Any] | None = None, key: ECKey = KEY
) -> str:
    """Sign anything under any header with a key of the issuer, past every check of the minting side."""
    head = {"alg": "ES256", "typ": "at+jwt", "kid": "key-1"} if header is None else header
    raw = payload if isinstance(payload, bytes) else json.dumps(payload or claims_of(minted())).encode()
    return of_text(f"{b64u(json.dumps(head).encode())}.{b64u(raw)}", key)


def of_text(signing_input: str, key: ECKey = KEY) -> str:
    model = jws.JWSRegistry(algorithms=["ES256"]).get_alg("ES256")
    return f"{signing_input}.{b64u(model.sign(signing_input.encode(), key))}"


def changed(**claims: object) -> str:
    return signed(claims_of(minted()) | claims)


def without(name: str) -> str:
    claims = claims_of(minted())
    del claims[name]
    return signed(claims)


def refusal(token: str, by: Verifier | None = None) -> str:
    with pytest.raises(TokenRefused) as caught:
        (by or verifier()).verify(token)
    assert token not in caught.value.message or not token
    return caught.value.code


@pytest.mark.covers("R32", "R33")
def test_a_minted_token_says_exactly_what_was_granted() -> None:
    token = verifier().verify(minted())
    assert (token.subject, token.client_id, token.jti) == ("person-1", "client-1", "jti-1")
    assert (token.grant, token.target, token.entitlement) == ("grant-1", "treasury", "releaser")
    assert token.inputs == {"order": "TR-000417", "amount_cents": 125_000_000}
    assert token.expires_at == int(NOW.timestamp()) + 300
    assert token.claims["acr"] == "phrh"


def forged_with_public_key() -> str:
    """HS256 with the public key's PEM as the secret: the classic confusion (T-20)."""
    head = b64u(json.dumps({"alg": "HS256", "typ": "at+jwt", "kid": "key-1"}).encode())
    signing_input = f"{head}.{minted().split('.')[1]}"
    mac = hmac.digest(KEY.as_pem(private=False), signing_input.encode(), "sha256")
    return f"{signing_input}.{b64u(mac)}"


def unsigned(alg: str) -> str:
    head = b64u(json.dumps({"alg": alg, "typ": "at+jwt", "kid": "key-1"}).encode())
    return f"{head}.{minted().split('.')[1]}."


def with_trailing_bits(token: str) -> str:
    """Return another text for the same claims: the last letter carries bits that mean nothing."""
    head, _, _ = token.split(".")
    for name in ("a", "ab", "abc"):  # two lengths of three leave such bits
        claims = b64u(json.dumps(claims_of(token) | {"name": name}).encode())
        if len(claims) % 4:
            letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
            return of_text(f"{head}.{claims[:-1]}{letters[letters.index(claims[-1]) | 1]}")
    raise AssertionError("one of three lengths has no spare bits")


def header(**members: object) -> Callable[[], str]:
    return lambda: signed(header={"alg": "ES256", "typ": "at+jwt", "kid": "key-1"} | members)


ATTACKS: list[tuple[str, Callable[[], str], str]] = [
    ("alg none", lambda: unsigned("none"), "wrong_algorithm"),
    ("alg None", lambda: unsigned("None"), "wrong_algorithm"),
    ("ES256 without a signature", lambda: unsigned("ES256"), "bad_signature"),
    ("HS256 with the public key", forged_with_public_key, "wrong_algorithm"),
    ("alg is a list", header(alg=["ES256"]), "wrong_algorithm"),
    ("own key in the header", header(jwk=public(OTHER)), "key_in_header"),
    ("certificate in the header", header(x5c=["AAAA"]), "key_in_header"),
    ("unknown crit", header(crit=["exp"], exp=1), "critical_header"),
    ("empty crit", header(crit=[]), "critical_header"),
    ("b64 false", header(crit=["b64"], b64=False), "critical_header"),
    ("no typ", lambda: signed(header={"alg": "ES256", "kid": "key-1"}), "wrong_type"),
    ("typ JWT", header(typ="JWT"), "wrong_type"),
    ("typ of another case", header(typ="AT+JWT"), "wrong_type"),
    ("typ is a list", header(typ=["at+jwt"]), "wrong_type"),
    ("no kid", lambda: signed(header={"alg": "ES256", "typ": "at+jwt"}), "bad_header"),
    ("kid is a number", header(kid=1), "bad_header"),
    ("one header more", header(zip="DEF"), "bad_header"),
    ("another kid", header(kid="key-2"), "unknown_key"),
    ("kid as a path", header(kid="../../dev/null"), "unknown_key"),
    ("another key under our kid", lambda: minted(OTHER), "bad_signature"),
    ("two parts", lambda: ".".join(minted().split(".")[:2]), "malformed"),
    ("encrypted form", lambda: minted() + ".a.b", "malformed"),
    ("empty", lambda: "", "malformed"),
    ("too large", lambda: "a" * 20_000, "malformed"),
    ("not ASCII", lambda: minted() + "é", "malformed"),
    ("a cut signature", lambda: minted()[:-2], "bad_signature"),
    ("a line between two parts", lambda: minted().replace(".", ".\n", 1), "malformed"),
    ("padding", lambda: minted() + "==", "malformed"),
    ("letters of plain base64", lambda: minted()[:-3] + "+/A", "malformed"),
    ("claims with a bit too many", lambda: with_trailing_bits(minted()), "malformed"),
    ("claims in UTF-16", lambda: signed(json.dumps(claims_of(minted())).encode("utf-16")), "malformed"),
    ("claims with a byte that is no UTF-8", lambda: signed(b'{"a":"\xff"}'), "malformed"),
    ("something behind the claims", lambda: signed(json.dumps(claims_of(minted())).encode() + b" {}"), "malformed"),
    ("another issuer", lambda: changed(iss="https://jit.example.evil"), "wrong_issuer"),
    ("issuer is a list", lambda: changed(iss=[ISSUER]), "bad_claim"),
    ("another audience", lambda: changed(aud="https://payroll.example"), "wrong_audience"),
    ("audience as a list", lambda: changed(aud=[AUDIENCE]), "bad_claim"),
    ("audience null", lambda: changed(aud=None), "bad_claim"),
    ("exp as a float", lambda: changed(exp=NOW.timestamp() + 100.5), "bad_claim"),
    ("exp as text", lambda: changed(exp="99999999999"), "bad_claim"),
    ("exp as true", lambda: changed(exp=True), "bad_claim"),
    ("exp infinite", lambda: signed(json.dumps(claims_of(minted()) | {"exp": float("inf")}).encode()), "malformed"),
    ("exp as 1e999", lambda: signed(
        json.dumps(claims_of(minted()) | {"exp": 77}).replace('"exp": 77', '"exp": 1e999').encode()
    ), "bad_claim"),
    ("exp beyond every clock", lambda: changed(exp=2**70), "bad_claim"),
    ("exp an hour away", lambda: changed(exp=int(NOW.timestamp()) + 3600), "lives_too_long"),
    ("iat as a float", lambda: changed(iat=NOW.timestamp() + 0.5), "bad_claim"),
    ("two exp claims", lambda: signed(
        json.dumps(claims_of(minted())).replace("{", '{"exp": 1, ', 1).encode()
    ), "malformed"),
    ("claims are a list", lambda: signed(b"[1]"), "malformed"),
    ("no details", lambda: without("authorization_details"), "bad_claim"),
    ("two details", lambda: changed(authorization_details=claims_of(minted())["authorization_details"] * 2), "bad_claim"),
    ("details of another type", lambda: changed(authorization_details=[{"type": "other"}]), "bad_claim"),
    ("details that end before the token", lambda: changed(
        authorization_details=[claims_of(minted())["authorization_details"][0] | {"ends_at": int(NOW.timestamp()) + 1}]
    ), "outlives_grant"),
    ("inputs with a list", lambda: changed(
        authorization_details=[claims_of(minted())["authorization_details"][0] | {"inputs": {"order": ["TR"]}}]
    ), "bad_claim"),
    *[(f"no {name}", lambda name=name: without(name), "bad_claim")
      for name in ("iss", "aud", "sub", "exp", "iat", "jti", "client_id")],
]  # fmt: skip


@pytest.mark.covers("R32", "R33", "T-20", "TRAP-3")
@pytest.mark.parametrize(("attack", "code"), [a[1:] for a in ATTACKS], ids=[a[0] for a in ATTACKS])
def test_an_attack_is_refused(attack: Callable[[], str], code: str) -> None:
    assert refusal(attack()) == code


class Trap:
    """A listener that counts who comes."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        trap = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                trap.paths.append(self.path)
                body = json.dumps({"keys": [public(OTHER)]}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Answer)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def trap() -> Iterator[Trap]:
    found = Trap()
    yield found
    found.close()


@pytest.mark.covers("R32", "T-20")
@pytest.mark.parametrize("name", ["jku", "x5u"])
def test_an_address_in_the_header_is_never_visited(trap: Trap, name: str) -> None:
    token = signed(header={"alg": "ES256", "typ": "at+jwt", "kid": "key-1", name: f"{trap.url}/keys"}, key=OTHER)
    assert refusal(token) == "key_in_header"
    assert trap.paths == []


@pytest.mark.covers("R35")
def test_a_retired_kid_is_refused_and_its_successor_verifies() -> None:
    successor = ECKey.generate_key("P-256", {"kid": "key-2"})
    both = verifier(public(KEY), public(successor, "key-2"))
    after = verifier(public(successor, "key-2"))
    assert both.verify(minted()).jti == after.verify(minted(successor)).jti
    assert refusal(minted(), after) == "unknown_key"


@pytest.mark.covers("T-20")
def test_twin_texts_of_one_token_have_one_jti() -> None:
    """(r, n - s) is a second valid ECDSA signature: harmless, because nothing is keyed on a token's text."""
    token = minted()
    head, body, signature = token.split(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    twin = f"{head}.{body}.{b64u(r.to_bytes(32, 'big') + (P256_ORDER - s).to_bytes(32, 'big'))}"
    assert twin != token
    assert verifier().verify(twin).jti == verifier().verify(token).jti
    loose = token[:-1] + chr(ord(token[-1]) + 1)
    assert refusal(loose) in {"malformed", "bad_signature"}


@pytest.mark.covers("R34", "T-21")
def test_no_leeway_on_the_end() -> None:
    token = minted()
    end = NOW + timedelta(seconds=300)
    assert verifier(at=end - timedelta(milliseconds=1)).verify(token)
    assert refusal(token, verifier(at=end)) == "expired"


@pytest.mark.covers("T-21")
def test_a_clock_up_to_a_minute_behind_is_forgiven_and_more_is_named() -> None:
    token = minted()
    assert verifier(at=NOW - timedelta(seconds=60)).verify(token)
    with pytest.raises(TokenRefused, match="begins in 61 s") as caught:
        verifier(at=NOW - timedelta(seconds=61)).verify(token)
    assert caught.value.code == "clock_skew"
    late = changed(nbf=int(NOW.timestamp()) + 90)
    assert refusal(late) == "clock_skew"


@pytest.mark.covers("R33")
def test_an_id_token_is_no_access_token_and_the_other_way_round() -> None:
    access = minted()
    id_token = mint_id(
        KEY,
        issuer=ISSUER,
        client_id="client-1",
        person_id="person-1",
        name="Arta Krasniqi",
        nonce="n-1",
        access_token=access,
        sign_in=SIGN_IN,
        now=NOW,
    )
    assert refusal(id_token) == "wrong_type"
    checks = verifier()
    claims = checks.verify_id_token(id_token, client_id="client-1", nonce="n-1", access_token=access)
    assert (claims["sub"], claims["name"], claims["acr"]) == ("person-1", "Arta Krasniqi", "phrh")
    for wrong, code in (
        ({"client_id": "client-2"}, "wrong_audience"),
        ({"nonce": "n-2"}, "wrong_nonce"),
        ({"nonce": ""}, "wrong_nonce"),
        ({"access_token": minted(ttl_s=200)}, "wrong_at_hash"),
    ):
        with pytest.raises(TokenRefused) as caught:
            checks.verify_id_token(id_token, **({"client_id": "client-1", "nonce": "n-1"} | wrong))
        assert caught.value.code == code
    with pytest.raises(TokenRefused, match="another kind"):
        checks.verify_id_token(access, client_id="client-1", nonce="n-1")


def test_introspection_is_asked_last_and_its_refusal_holds() -> None:
    asked: list[str] = []

    def inactive(token: str, jti: str) -> None:
        asked.append(jti)
        raise TokenRefused("inactive", "This access has ended.")

    checks = Verifier(ISSUER, AUDIENCE, {"keys": [public(KEY)]}, status=None, clock=NOW.timestamp, introspect=inactive)
    assert refusal(changed(aud="x"), checks) == "wrong_audience"
    assert asked == []
    assert refusal(minted(), checks) == "inactive"
    assert asked == ["jti-1"]


@pytest.mark.parametrize(
    "jwks",
    [
        {},
        {"keys": []},
        {"keys": "x"},
        [],
        {"keys": [{"kty": "oct", "k": "AAAA", "kid": "key-1"}]},
        {"keys": [public(KEY) | {"use": "enc"}]},
        {"keys": [public(KEY) | {"alg": "ES384"}]},
        {"keys": [{**KEY.as_dict(private=True), "kid": "key-1"}]},
        {"keys": [public(KEY) | {"x": "AAAA"}]},
        {"keys": [{**RSAKey.generate_key(2048).as_dict(private=False), "kid": "key-1"}]},
        {"keys": [{name: value for name, value in public(KEY).items() if name != "kid"}]},
        {"keys": [public(KEY)] * 33},
    ],
)
def test_a_key_set_without_a_usable_key_is_refused(jwks: object) -> None:
    with pytest.raises(TokenRefused) as caught:
        static_keys(jwks)
    assert caught.value.code == "no_keys"


@pytest.mark.covers("R35")
def test_fetched_keys_are_kept_for_a_while_and_asked_again_for_an_unknown_kid(trap: Trap) -> None:
    at = [1000.0]
    keys = FetchedKeys(trap.url, clock=lambda: at[0])
    assert keys("key-1") is not None
    assert keys("key-1") is not None
    assert trap.paths == ["/.well-known/jwks.json"]
    assert keys("key-9") is None
    assert len(trap.paths) == 1, "not more often than every five seconds"
    at[0] += 6
    assert keys("key-9") is None
    assert len(trap.paths) == 2
    at[0] += 301
    assert keys("key-1") is not None
    assert len(trap.paths) == 3
    at[0] -= 500
    assert keys("key-1") is not None
    assert len(trap.paths) == 4, "a clock that went back makes the set old"


@pytest.mark.covers("R42")
@pytest.mark.parametrize(
    "issuer",
    ["http://127.0.0.1:1", "http://jit.example", "ftp://127.0.0.1", "https://user@localhost", "http://localhost:x"],
)
def test_keys_that_cannot_be_had_refuse(issuer: str) -> None:
    with pytest.raises(TokenRefused) as caught:
        FetchedKeys(issuer, timeout_s=0.5)("key-1")
    assert caught.value.code == "unreachable"


def test_the_hash_of_an_access_token_is_the_left_half_of_its_digest() -> None:
    assert half_hash("abc") == "ungWv48Bz-pBQUDeXa4iIw"  # SHA-256("abc") begins ba7816bf 8f01cfea 414140de 5dae2223
