"""Who may ask about tokens, and does every attack on a token end in "not active"? The broker's side of R32-R35 and R39."""

import base64
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from authlib.oauth2.rfc7523 import private_key_jwt_sign
from joserfc import jws
from joserfc.jwk import ECKey
from sqlalchemy import select
from werkzeug.test import TestResponse

from jitaccess.app import create_app
from jitaccess.domain.values import LOCAL, SYSTEM
from jitaccess.errors import JitError, Kind
from jitaccess.oidc.clients import add_client, disable_client
from jitaccess.sdk import ClientSecret
from jitaccess.sdk.client import ASSERTION_TYPE
from jitaccess.store.tables import Client, KeyRecord
from jitaccess.tokens.keys import Purpose, retire_due, rotate
from tests.oidc.conftest import CALLBACK, Treasury, open_treasury
from tests.support.world import ORIGIN, World

INACTIVE = {"active": False}
CLIENT_COLUMNS = [column.name for column in Client.__table__.columns]


def b64u(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    head, body = (json.loads(base64.urlsafe_b64decode(part + "===")) for part in token.split(".")[:2])
    return head, body


def sign(key: ECKey, header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
    """Sign with the broker's own key past every check: what a stolen signing oracle could make."""
    text = f"{b64u(json.dumps(header).encode())}.{b64u(json.dumps(claims).encode())}"
    return f"{text}.{b64u(jws.JWSRegistry(algorithms=['ES256']).get_alg('ES256').sign(text.encode(), key))}"


@pytest.mark.covers("R32", "R33", "R39", "T-20", "TRAP-3")
def test_every_attack_on_a_token_is_not_active_and_nothing_more(treasury: Treasury) -> None:
    token = treasury.tokens(treasury.grant())["access_token"]
    head, body = parts(token)
    key, foreign = treasury.world.broker.keyring.token_key(), ECKey.generate_key("P-256", {"kid": head["kid"]})
    assert treasury.introspect(sign(key, head, body))["active"] is True, "the oracle itself works"
    attacks = [
        f"{b64u(json.dumps(head | {'alg': 'none'}).encode())}.{token.split('.')[1]}.",
        sign(foreign, head, body),
        sign(foreign, head | {"jwk": foreign.as_dict(private=False)}, body),
        sign(key, head | {"jku": "http://127.0.0.1:9/"}, body),
        sign(key, head | {"crit": ["exp"]}, body),
        sign(key, head | {"typ": "JWT"}, body),
        sign(key, head | {"kid": "another"}, body),
        sign(key, head, body | {"aud": "https://payroll.mof.example"}),
        sign(key, head, body | {"exp": float(body["exp"])}),
        sign(key, head, body | {"exp": body["exp"] + 3600}),
        sign(key, head, body | {"jti": "unknown"}),
        sign(key, head, body | {"sub": treasury.world.person("blerim")}),
        token[:-3],
        token + ".",
        "",
        "x" * 10_000,
        treasury.tokens(treasury.grant())["refresh_token"],
    ]
    for attack in attacks:
        assert treasury.introspect(attack) == INACTIVE


@pytest.mark.covers("R34", "TRAP-5")
def test_a_client_may_end_its_own_token_at_once(treasury: Treasury) -> None:
    tokens = treasury.tokens(treasury.grant())
    other = open_treasury(treasury.world)
    assert other.call("/oidc/revoke", {"token": tokens["access_token"]}).json == {}
    assert treasury.introspect(tokens["access_token"])["active"] is True, "a stranger ends nothing"
    assert treasury.call("/oidc/revoke", {"token": tokens["access_token"]}).status_code == 200
    assert treasury.introspect(tokens["access_token"]) == INACTIVE
    assert treasury.refresh(tokens["refresh_token"]).status_code == 200
    assert treasury.call("/oidc/revoke", {"token": "unknown"}).status_code == 200


@pytest.mark.covers("R34", "R40")
def test_ending_a_refresh_token_ends_its_family(treasury: Treasury) -> None:
    tokens = treasury.tokens(treasury.grant())
    treasury.call("/oidc/revoke", {"token": tokens["refresh_token"], "token_type_hint": "refresh_token"})
    assert treasury.introspect(tokens["access_token"]) == INACTIVE
    assert treasury.refresh(tokens["refresh_token"]).json["error"] == "invalid_grant"


@pytest.mark.covers("R39")
def test_a_client_learns_only_about_its_own_target(treasury: Treasury) -> None:
    token = treasury.tokens(treasury.grant())["access_token"]
    payroll = open_treasury(treasury.world, target="payroll")
    assert payroll.introspect(token) == INACTIVE
    assert open_treasury(treasury.world).introspect(token)["active"] is True


@pytest.mark.covers("R34", "R49", "T-16")
def test_time_comes_first_whatever_the_rows_say(treasury: Treasury) -> None:
    token = treasury.tokens(treasury.grant(duration_s=120))["access_token"]
    treasury.world.advance(timedelta(seconds=119))
    assert treasury.introspect(token)["active"] is True
    treasury.world.advance(timedelta(seconds=1))
    assert treasury.introspect(token) == INACTIVE, "no sweep has run"


@pytest.mark.covers("R20")
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE token SET expires_at = expires_at + 1000",
        "UPDATE lease SET ends_at = ends_at + 1000",
        "UPDATE access_grant SET ends_at = ends_at + 1000",
    ],
)
def test_a_row_changed_in_the_database_is_not_active_and_alarmed(treasury: Treasury, statement: str) -> None:
    token = treasury.tokens(treasury.grant())["access_token"]
    treasury.world.sql(statement)
    assert treasury.introspect(token) == INACTIVE
    assert len(treasury.events("seal.broken")) == 1


@pytest.mark.covers("R35")
def test_a_rotated_key_verifies_for_its_overlap_and_a_retired_one_never(treasury: Treasury) -> None:
    world = treasury.world
    grant = treasury.grant(duration_s=14_400)
    old = treasury.tokens(grant)
    overlap = timedelta(seconds=960)
    with world.broker.begin(LOCAL) as tx:
        rotate(tx, world.broker.keyring, Purpose.TOKEN, origin=world.broker.site.log_origin, overlap=overlap)
    new = treasury.refresh(old["refresh_token"]).json
    assert parts(new["access_token"])[0]["kid"] != parts(old["access_token"])[0]["kid"]
    for tokens in (old, new):
        assert treasury.introspect(tokens["access_token"])["active"] is True
        assert treasury.verifier().verify(tokens["access_token"])
    world.advance(overlap)
    with world.broker.begin(SYSTEM) as tx:
        assert retire_due(tx) == 1
    kept = treasury.browser.get("/.well-known/jwks.json", base_url=ORIGIN).json["keys"]
    assert [key["kid"] for key in kept] == [parts(new["access_token"])[0]["kid"]]
    with world.broker.read() as view:
        retired = view.all(select(KeyRecord).where(KeyRecord.status == "retired"))
    assert [key.purpose for key in retired] == ["token"]


# ---------------------------------------------------------------- client authentication


@pytest.mark.covers("R39")
@pytest.mark.parametrize("path", ["/oidc/token", "/oidc/introspect", "/oidc/revoke"])
def test_without_being_a_client_nobody_asks_anything(treasury: Treasury, path: str) -> None:
    browser = treasury.app.test_client()
    token = treasury.tokens(treasury.grant())["access_token"]
    form = {"token": token, "grant_type": "refresh_token", "refresh_token": "x"}
    wrong = ClientSecret(treasury.credential.client_id, "wrong")
    for headers in ({}, {"Authorization": "Bearer x"}, dict(wrong.prove()[0]), dict(ClientSecret("x", "y").prove()[0])):
        answer = browser.post(path, base_url=ORIGIN, data=form, headers=headers)
        assert (answer.status_code, answer.json["error"]) == (401, "invalid_client")
        assert answer.headers["WWW-Authenticate"].startswith("Basic")
    secret = treasury.credential.secret if isinstance(treasury.credential, ClientSecret) else ""
    in_body = form | {"client_id": treasury.credential.client_id, "client_secret": secret}
    assert browser.post(path, base_url=ORIGIN, data=in_body).json["error"] == "invalid_request"
    assert len(treasury.events("token.refused")) == 5


@pytest.mark.covers("R66")
def test_many_failures_from_one_address_are_turned_away(treasury: Treasury) -> None:
    browser = treasury.app.test_client()
    answers = [browser.post("/oidc/introspect", base_url=ORIGIN, data={"token": "x"}).status_code for _ in range(40)]
    assert answers == [401] * 30 + [429] * 10
    assert len(treasury.events("token.refused")) == 30, "nobody fills the log by failing"
    treasury.world.advance(timedelta(minutes=1))
    assert browser.post("/oidc/introspect", base_url=ORIGIN, data={"token": "x"}).status_code == 401


@pytest.mark.covers("R66")
def test_whoever_proves_to_be_a_client_is_heard_however_often_others_at_its_address_fail(treasury: Treasury) -> None:
    tokens = treasury.tokens(treasury.grant())
    own = ClientSecret(treasury.credential.client_id, "wrong")
    for n in range(400):
        treasury.call("/oidc/introspect", {"token": "x"}, own if n % 2 else ClientSecret(f"nobody-{n}", "x"))
    assert treasury.call("/oidc/introspect", {"token": "x"}, own).status_code == 429
    assert treasury.call("/oidc/introspect", {"token": "x"}, ClientSecret("new", "x")).status_code == 429
    assert treasury.introspect(tokens["access_token"])["active"] is True
    renewed = treasury.refresh(tokens["refresh_token"])
    assert renewed.status_code == 200
    assert treasury.call("/oidc/revoke", {"token": renewed.json["refresh_token"]}).status_code == 200
    assert treasury.introspect(renewed.json["access_token"]) == INACTIVE


@pytest.mark.covers("R66")
def test_behind_a_proxy_failures_count_for_the_address_that_it_names(sqlite_world: World) -> None:
    server = sqlite_world.broker.settings.server
    behind = sqlite_world.broker.settings.model_copy(
        update={"server": server.model_copy(update={"trusted_proxies": ("127.0.0.1",)})}
    )
    app = create_app(replace(sqlite_world.broker, settings=behind))

    def fails(address: str) -> int:
        sent = {"X-Forwarded-For": f"198.51.100.9, {address}"}
        return app.test_client().post("/oidc/token", base_url=ORIGIN, data={"x": "y"}, headers=sent).status_code

    assert [fails("192.0.2.1") for _ in range(31)] == [401] * 30 + [429]
    assert fails("192.0.2.2") == 401


def test_a_client_that_asks_wrongly_is_no_failed_client(treasury: Treasury) -> None:
    answers = {treasury.redeem("nothing", "x" * 43).status_code for _ in range(40)}
    assert answers == {400}
    reasons = {event["body"].get("reason") for event in treasury.events("token.refused")}
    assert "client_authentication" not in reasons


@pytest.mark.covers("R66")
def test_sizes_and_doubles_are_bounded_before_any_work(treasury: Treasury) -> None:
    headers = dict(treasury.credential.prove()[0])
    browser = treasury.app.test_client()
    form = "application/x-www-form-urlencoded"
    for body, content_type, status in (
        ("token=" + "a" * 40_000, form, 413),
        ("token=a&token=b", form, 400),
        ("token=%00", form, 400),
        ('{"token": "a"}', "application/json", 400),
        ("&".join(f"f{n}=1" for n in range(30)), form, 400),
    ):
        answer = browser.post(
            "/oidc/introspect", base_url=ORIGIN, data=body, headers=headers | {"Content-Type": content_type}
        )
        assert answer.status_code == status
        assert answer.json["error"] == "invalid_request"


@dataclass(slots=True)
class Assertions:
    """Client assertions of a treasury with a key of its own."""

    treasury: Treasury
    key: ECKey

    def ask(self, header: Mapping[str, Any] | None = None, key: ECKey | None = None, **claims: Any) -> int:
        """Introspect with a client assertion; return the status."""
        return self.send(self.make(header, key, **claims))

    def make(self, header: Mapping[str, Any] | None = None, key: ECKey | None = None, **claims: Any) -> str:
        """Make an assertion; None leaves a claim out."""
        now = int(self.treasury.world.clock.now().timestamp())
        client = self.treasury.credential.client_id
        full: dict[str, Any] = {
            "iss": client, "sub": client, "aud": ORIGIN, "iat": now, "exp": now + 60, "jti": str(time.perf_counter_ns()),
        }  # fmt: skip
        full = {name: value for name, value in (full | claims).items() if value is not None}
        return sign(key or self.key, {"alg": "ES256", "kid": "treasury-1"} | dict(header or {}), full)

    def send(self, assertion: str, **fields: str) -> int:
        """Send an assertion; return the status."""
        return self.answer(assertion, **fields).status_code

    def answer(self, assertion: str, **fields: str) -> TestResponse:
        """Send an assertion."""
        form = {"token": "x", "client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion} | fields
        return self.treasury.app.test_client().post("/oidc/introspect", base_url=ORIGIN, data=form)

    def told(self, assertion: str, **fields: str) -> str:
        """Return why an assertion is refused."""
        answer = self.answer(assertion, **fields)
        assert (answer.status_code, answer.json["error"]) == (401, "invalid_client")
        found: str = answer.json["error_description"]
        return found


@pytest.fixture
def assertions(world: World) -> Assertions:
    """Give a treasury that signs."""
    key = ECKey.generate_key("P-256", {"kid": "treasury-1"})
    return Assertions(open_treasury(world, key=key), key)


@pytest.mark.covers("R39", "R33")
def test_a_client_assertion_is_good_once_short_and_for_us(assertions: Assertions) -> None:
    now = int(assertions.treasury.world.clock.now().timestamp())
    assertion = assertions.make()
    assert assertions.send(assertion) == 200
    assert assertions.send(assertion) == 401, "a jti is good once"
    for audience in (f"{ORIGIN}/oidc/token", [ORIGIN], [f"{ORIGIN}/oidc/token"]):
        assert assertions.ask(aud=audience) == 200, audience
    for claims in (
        {"aud": f"{ORIGIN}/oidc/introspect"},
        {"aud": f"{ORIGIN}/"},
        {"aud": "https://other.example"},
        {"aud": [ORIGIN, "https://other.example"]},
        {"aud": [ORIGIN, f"{ORIGIN}/oidc/token"]},
        {"aud": [[ORIGIN]]},
        {"aud": []},
        {"aud": None},
        {"iss": "other"},
        {"sub": "other"},
        {"exp": now},
        {"exp": now + 301},
        {"exp": now + 60.5},
        {"exp": True},
        {"exp": None},
        {"iat": now + 61},
        {"nbf": now + 61},
        {"jti": None},
        {"jti": ""},
        {"jti": 7},
        {"jti": "x" * 200},
        {"jti": "\ud800"},
        {"jti": "é"},
        {"sub": "\ud800", "iss": "\ud800"},
    ):
        assert assertions.ask(**claims) == 401, claims


@pytest.mark.covers("R32", "R39")
def test_a_client_assertion_of_a_strange_form_is_refused(assertions: Assertions) -> None:
    stranger = ECKey.generate_key("P-256", {"kid": "treasury-1"})
    for header in ({"alg": "none"}, {"alg": "HS256"}, {"kid": "x"}, {"kid": None}, {"crit": ["exp"]}):
        assert assertions.ask(header) == 401, header
    assert assertions.ask(key=stranger) == 401
    assert assertions.ask({"jwk": stranger.as_dict(private=False)}, key=stranger) == 401
    assert assertions.send("a.b") == 401
    assert assertions.send("x" * 9000) == 401
    assert assertions.send(assertions.make(), client_id="another") == 401
    assert assertions.send(assertions.make(), client_assertion_type="urn:other") == 401


@pytest.mark.covers("R39")
def test_who_holds_the_key_is_told_what_to_mend(assertions: Assertions) -> None:
    now = int(assertions.treasury.world.clock.now().timestamp())
    used = assertions.make()
    assert assertions.send(used) == 200
    cases = {
        "aud must be": assertions.make(aud="https://other.example"),
        "exp must be": assertions.make(exp=now + 3600),
        "iat must be": assertions.make(iat=now + 61),
        "iss and sub": assertions.make(iss="other"),
        "jti must be": assertions.make(jti=None),
        "jti was used before": used,
        "alg ES256": assertions.make({"alg": "RS256"}),
        "typ must be": assertions.make({"typ": "at+jwt"}),
        "no signed JWT": "a.b",
        "cannot be read": "a.b.c",
    }
    for words, assertion in cases.items():
        assert words in assertions.told(assertion), words
    assert "client_assertion_type must be" in assertions.told(assertions.make(), client_assertion_type="urn:other")
    assert "client_id names another" in assertions.told(assertions.make(), client_id="another")


@pytest.mark.covers("R39")
def test_who_holds_no_key_learns_nothing_about_clients_and_keys(assertions: Assertions) -> None:
    world, stranger = assertions.treasury.world, ECKey.generate_key("P-256", {"kid": "treasury-1"})
    with world.broker.begin(LOCAL) as tx:
        by_secret, _ = add_client(tx, target="treasury", name="x", redirect_uris=["https://a.example/"])
    told = {
        assertions.told(assertions.make(key=stranger)),
        assertions.told(assertions.make({"kid": "x"})),
        assertions.told(assertions.make({"kid": 7})),
        assertions.told(assertions.make(sub="nobody", iss="nobody")),
        assertions.told(assertions.make(sub=by_secret.id, iss=by_secret.id)),
        assertions.told(assertions.make(key=stranger, exp=1, aud="https://other.example")),
        assertions.told(assertions.make().rpartition(".")[0] + ".AAAA"),
    }
    assert len(told) == 1, told


@pytest.mark.covers("R39")
def test_a_kid_may_be_left_out_where_one_key_fits(assertions: Assertions) -> None:
    treasury, other = assertions.treasury, ECKey.generate_key("P-256", {"kid": "treasury-2"})

    def without_kid(key: ECKey, client_id: str) -> str:
        now = int(treasury.world.clock.now().timestamp())
        claims = {
            "iss": client_id,
            "sub": client_id,
            "aud": ORIGIN,
            "exp": now + 60,
            "jti": str(time.perf_counter_ns()),
        }
        return sign(key, {"alg": "ES256"}, claims)

    assert assertions.send(without_kid(assertions.key, treasury.credential.client_id)) == 200
    assert assertions.send(without_kid(other, treasury.credential.client_id)) == 401
    assert assertions.ask({"kid": None}) == 401, "a kid that is null is not left out"
    public = [key.as_dict(private=False) for key in (assertions.key, other)]
    with treasury.world.broker.begin(LOCAL) as tx:
        both, _ = add_client(
            tx, target="treasury", name="two keys", redirect_uris=["https://a.example/"], jwks={"keys": public}
        )
        useless, _ = add_client(
            tx,
            target="treasury",
            name="one that fits",
            redirect_uris=["https://a.example/"],
            jwks={"keys": [public[0], {"kty": "EC", "crv": "P-384", "kid": "big", "x": "AA", "y": "AA"}]},
        )
    assert assertions.send(without_kid(assertions.key, both.id)) == 401
    assert assertions.ask(sub=both.id, iss=both.id) == 200
    assert assertions.send(without_kid(assertions.key, useless.id)) == 200


@pytest.mark.covers("R39")
def test_authlibs_own_private_key_jwt_is_taken_for_the_token_endpoint_and_told_of_its_long_life(
    sqlite_world: World,
) -> None:
    key = ECKey.generate_key("P-256", {"kid": "treasury-1"})
    assertions = Assertions(open_treasury(sqlite_world, key=key), key)
    endpoint, now = f"{ORIGIN}/oidc/token", int(sqlite_world.clock.now().timestamp())

    def signed(**given: Any) -> str:
        client_id = assertions.treasury.credential.client_id
        made: str = private_key_jwt_sign(key, client_id, endpoint, alg="ES256", issued_at=now, **given)
        return made

    assert assertions.send(signed(expires_in=60)) == 200
    assert "300 at most" in assertions.told(signed())


def test_two_ways_at_once_are_refused(assertions: Assertions) -> None:
    headers = dict(ClientSecret("x", "y").prove()[0])
    form = {"token": "x", "client_assertion_type": ASSERTION_TYPE, "client_assertion": assertions.make()}
    answer = assertions.treasury.app.test_client().post("/oidc/introspect", base_url=ORIGIN, data=form, headers=headers)
    assert (answer.status_code, answer.json["error"]) == (400, "invalid_request")


def test_a_client_that_was_switched_off_is_nobody(treasury: Treasury) -> None:
    tokens = treasury.tokens(treasury.grant())
    with treasury.world.broker.begin(LOCAL) as tx:
        disable_client(tx, treasury.credential.client_id)
    assert treasury.refresh(tokens["refresh_token"]).status_code == 401
    assert treasury.page("x" * 43).status_code == 400


# ---------------------------------------------------------------- registering


@pytest.mark.covers("R37")
@pytest.mark.parametrize(
    "uri",
    [
        "http://treasury.example/cb",
        "https://treasury.example/cb#x",
        "https://*.example/cb",
        "https://u:p@treasury.example/cb",
        "javascript:alert(1)",
        "/callback",
        "https:///cb",
        "https://treasury.example/ cb",
        "http://localhost:80@evil.example/",
        "https://treasury.example:99999/",
        "custom.app:/cb",
        "",
    ],
)
def test_an_address_that_could_be_read_in_two_ways_is_not_registered(sqlite_world: World, uri: str) -> None:
    with pytest.raises(JitError) as caught, sqlite_world.broker.begin(LOCAL) as tx:
        add_client(tx, target="treasury", name="Treasury", redirect_uris=[uri])
    assert caught.value.kind is Kind.INVALID
    assert caught.value.details["field"] == "redirect_uris"


def test_registering_takes_public_keys_and_plain_names_alone(sqlite_world: World) -> None:
    private = ECKey.generate_key("P-256", {"kid": "k"})
    broken: list[dict[str, Any]] = [
        {"jwks": {"keys": [{**private.as_dict(private=True), "kid": "k"}]}},
        {"jwks": {"keys": []}},
        {"jwks": {"keys": [{"kty": "oct", "k": "AAAA", "kid": "k"}]}},
        {"name": ""},
        {"name": "a\u202eb"},
        {"redirect_uris": []},
        {"redirect_uris": [CALLBACK, CALLBACK]},
        {"initiate_login_uri": "ftp://x"},
    ]
    good: dict[str, Any] = {"target": "treasury", "name": "Treasury", "redirect_uris": [CALLBACK]}
    for change in broken:
        with pytest.raises(JitError), sqlite_world.broker.begin(LOCAL) as tx:
            add_client(tx, **(good | change))


@pytest.mark.covers("R55")
def test_a_secret_is_shown_once_and_kept_only_as_a_hash(sqlite_world: World) -> None:
    with sqlite_world.broker.begin(LOCAL) as tx:
        client, secret = add_client(tx, target="treasury", name="Treasury", redirect_uris=[CALLBACK])
    assert secret is not None
    assert len(secret) == 43
    assert secret not in json.dumps({column: str(getattr(client, column)) for column in CLIENT_COLUMNS})


def test_a_secret_may_be_sent_form_encoded_as_the_standard_wants(treasury: Treasury) -> None:
    credential = treasury.credential
    assert isinstance(credential, ClientSecret)
    strict = "".join(f"%{ord(letter):02X}" for letter in credential.secret)
    for secret, status in ((strict, 200), (credential.secret, 200), (f"{credential.secret}%00", 401), ("%ZZ", 401)):
        pair = base64.b64encode(f"{credential.client_id}:{secret}".encode()).decode()
        answer = treasury.app.test_client().post(
            "/oidc/introspect", base_url=ORIGIN, data={"token": "x"}, headers={"Authorization": f"Basic {pair}"}
        )
        assert answer.status_code == status, secret
