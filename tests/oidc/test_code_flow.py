"""Does the code flow give exactly the access that was granted, once, and end with it?"""

import re
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from joserfc.jwk import ECKey

from jitaccess.broker import revoke
from jitaccess.broker.hold import HoldKind, place
from jitaccess.broker.request import Ask
from jitaccess.domain.values import SYSTEM
from jitaccess.identity.passkeys import Ceremony
from jitaccess.identity.people import disable_person
from jitaccess.sdk import TokenRefused
from jitaccess.store.tables import Grant
from tests.oidc.conftest import CALLBACK, Treasury, open_treasury, verifier_pair
from tests.support.world import ORIGIN, World


@pytest.mark.covers("R19", "R32", "R33", "R38")
def test_a_release_that_two_people_signed_becomes_a_token_for_exactly_that(any_treasury: Treasury) -> None:
    grant = any_treasury.world.released().grant
    assert grant is not None
    tokens = any_treasury.tokens(grant)
    verifier = any_treasury.verifier()
    token = verifier.verify(tokens["access_token"])
    assert (token.subject, token.entitlement) == (any_treasury.world.person("arta"), "releaser")
    assert dict(token.inputs) == {"order": "TR-000417", "amount_cents": 125_000_000}
    assert token.authorization_details["approvals_digest"] == grant.approvals_digest
    who = verifier.verify_id_token(
        tokens["id_token"],
        client_id=any_treasury.credential.client_id,
        nonce="nonce-1",
        access_token=tokens["access_token"],
    )
    assert who["name"] == "Arta Krasniqi"
    now = int(any_treasury.world.clock.now().timestamp())
    for claims in (who, token.claims):
        assert (claims["acr"], claims["amr"], claims["auth_time"]) == ("phrh", ["hwk", "user"], now)


@pytest.mark.covers("T-11")
def test_the_clock_of_a_grant_with_activation_starts_when_it_is_opened(treasury: Treasury) -> None:
    grant = treasury.world.released().grant
    assert grant is not None
    assert grant.state == "SCHEDULED"
    treasury.world.advance(timedelta(minutes=10))
    token = treasury.verifier().verify(treasury.tokens(grant)["access_token"])
    assert token.ends_at == int((treasury.world.clock.now() + timedelta(seconds=600)).timestamp())


def test_the_answer_names_state_and_issuer(treasury: Treasury) -> None:
    _, challenge = verifier_pair()
    location = urlsplit(treasury.authorize(treasury.grant(), challenge))
    answer = parse_qs(location.query)
    assert f"{location.scheme}://{location.netloc}{location.path}" == CALLBACK
    assert (answer["state"], answer["iss"]) == (["state-1"], [ORIGIN])
    assert set(answer) == {"code", "state", "iss"}


@pytest.mark.covers("R36", "TRAP-4")
def test_a_code_used_twice_ends_what_came_from_it(any_treasury: Treasury) -> None:
    code, verifier = any_treasury.code(any_treasury.grant())
    tokens = any_treasury.redeem(code, verifier).json
    assert any_treasury.introspect(tokens["access_token"])["active"] is True
    again = any_treasury.redeem(code, verifier)
    assert (again.status_code, again.json["error"]) == (400, "invalid_grant")
    assert any_treasury.introspect(tokens["access_token"]) == {"active": False}
    assert any_treasury.refresh(tokens["refresh_token"]).json["error"] == "invalid_grant"
    assert any_treasury.events("code.reused")[0]["body"]["ended"] == 2


@pytest.mark.covers("R36")
def test_a_code_lives_a_minute(treasury: Treasury) -> None:
    grant = treasury.grant()
    code, verifier = treasury.code(grant)
    treasury.world.advance(timedelta(seconds=59))
    assert treasury.redeem(code, verifier).status_code == 200
    code, verifier = treasury.code(grant)
    treasury.world.advance(timedelta(seconds=60))
    assert treasury.redeem(code, verifier).json["error"] == "invalid_grant"


@pytest.mark.covers("R36", "TRAP-2")
@pytest.mark.parametrize("wrong", ["", "a" * 43, "short", "a" * 200])
def test_a_wrong_verifier_gives_nothing_and_spends_the_code(treasury: Treasury, wrong: str) -> None:
    code, verifier = treasury.code(treasury.grant())
    refused = treasury.redeem(code, verifier, code_verifier=wrong)
    assert refused.status_code == 400
    assert refused.json["error"] in {"invalid_grant", "invalid_request"}
    assert treasury.redeem(code, verifier).json["error"] == "invalid_grant"


@pytest.mark.covers("R36", "TRAP-2")
@pytest.mark.parametrize(
    "changes",
    [
        {"code_challenge": None, "code_challenge_method": None},
        {"code_challenge_method": None},
        {"code_challenge_method": "plain"},
        {"code_challenge": "a" * 42},
        {"code_challenge": None},
    ],
)
def test_a_request_without_s256_goes_back_with_an_error(treasury: Treasury, changes: dict[str, str | None]) -> None:
    treasury.grant()
    answer = treasury.page("x" * 43, **changes)
    assert answer.status_code == 303
    sent = parse_qs(urlsplit(answer.location).query)
    assert answer.location.startswith(f"{CALLBACK}?")
    assert (sent["error"], sent["state"], sent["iss"]) == (["invalid_request"], ["state-1"], [ORIGIN])


@pytest.mark.covers("R37")
@pytest.mark.parametrize(
    "address",
    [
        None,
        "",
        CALLBACK + "/",
        CALLBACK + "?x=1",
        CALLBACK.upper(),
        CALLBACK.replace("127.0.0.1", "127.0.0.1.evil.example"),
        CALLBACK.replace("127.0.0.1", "localhost"),
        "http://127.0.0.1:8001@evil.example/callback",
        "https://evil.example/callback",
        "javascript:alert(1)",
        CALLBACK + "\n",
        f"{CALLBACK}#x",
        f'{CALLBACK}"',
    ],
)
def test_nothing_goes_to_an_address_that_is_not_registered(treasury: Treasury, address: str | None) -> None:
    for changes in ({}, {"response_type": "token"}, {"prompt": "none"}, {"request": "x"}):
        answer = treasury.page("x" * 43, redirect_uri=address, **changes)
        assert answer.status_code == 400
        assert "Location" not in answer.headers
        # The choice of language comes back to this very page: our own path, in which the parameter stands as it was sent.
        assert "evil.example" not in re.sub(r'<input type="hidden" name="next" value="/oidc/[^"]*">', "", answer.text)


@pytest.mark.covers("R37")
def test_an_unknown_client_or_a_doubled_parameter_stays_on_our_page(treasury: Treasury) -> None:
    assert treasury.page("x" * 43, client_id="nobody").status_code == 400
    assert treasury.page("x" * 43, client_id=None).status_code == 400
    query = treasury.query("x" * 43)
    for doubled in ("redirect_uri=https%3A%2F%2Fevil.example", "client_id=x", "state=2"):
        answer = treasury.browser.get(f"/oidc/authorize?{query}&{doubled}", base_url=ORIGIN)
        assert answer.status_code == 400
        assert "Location" not in answer.headers


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code id_token"}, "unsupported_response_type"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"request": "eyJ"}, "request_not_supported"),
        ({"request_uri": "https://evil.example/r"}, "request_uri_not_supported"),
        ({"prompt": "none"}, "interaction_required"),
        ({"max_age": "soon"}, "invalid_request"),
    ],
)
def test_what_is_not_supported_goes_back_as_an_error(treasury: Treasury, changes: dict[str, str], error: str) -> None:
    answer = treasury.page("x" * 43, **changes)
    assert answer.status_code == 303
    assert parse_qs(urlsplit(answer.location).query)["error"] == [error]


@pytest.mark.covers("R38")
def test_every_opening_takes_a_fresh_assertion(treasury: Treasury) -> None:
    grant = treasury.grant()
    first = treasury.verifier().verify(treasury.tokens(grant)["access_token"])
    treasury.world.advance(timedelta(minutes=3))
    _, challenge = verifier_pair()
    for prompt in ({}, {"prompt": "login"}, {"max_age": "0"}, {"max_age": "3600"}):
        begun = treasury.begin(grant, challenge, **prompt)
        assert begun.json["options"]["userVerification"] == "required"
    second = treasury.verifier().verify(treasury.tokens(grant)["access_token"])
    assert second.claims["auth_time"] == first.claims["auth_time"] + 180


@pytest.mark.covers("R15")
def test_a_stolen_cookie_alone_opens_nothing(treasury: Treasury) -> None:
    begun = treasury.begin(treasury.grant(), verifier_pair()[1]).json
    thief = treasury.world.passkey("blerim").get(begun["options"])
    answer = treasury.post("/oidc/authorize/complete", {"challenge_id": begun["challenge_id"], "response": thief})
    assert answer.status_code == 403
    assert treasury.finish(begun).status_code == 403, "the first answer spent the challenge"
    assert treasury.events("code.issued") == []


@pytest.mark.covers("R15")
def test_a_challenge_of_another_purpose_opens_nothing(treasury: Treasury) -> None:
    treasury.grant()
    world = treasury.world
    filing = world.begin_filing("arta", Ask("treasury", "viewer", {}, 700, "another look"))
    assert isinstance(filing, Ceremony)
    answer = treasury.post(
        "/oidc/authorize/complete",
        {"challenge_id": filing.challenge_id, "response": world.answer("arta", filing)},
    )
    assert answer.status_code == 403


@pytest.mark.covers("R16")
def test_looking_at_the_page_changes_nothing(treasury: Treasury) -> None:
    treasury.grant()
    before = _size(treasury.world)
    page = treasury.page("x" * 43)
    assert page.status_code == 200
    treasury.browser.head(f"/oidc/authorize?{treasury.query('x' * 43)}", base_url=ORIGIN)
    assert _size(treasury.world) == before
    for path in ("/oidc/authorize/begin", "/oidc/authorize/complete"):
        assert treasury.browser.post(path, json={}, base_url=ORIGIN).status_code == 403, "no Origin, no act"


def _size(world: World) -> list[int]:
    with world.broker.db.engine.connect() as connection:
        tables = ("event", "challenge", "lease", "token", "authorization_code", "access_grant")
        return [connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one() for table in tables]


def test_the_page_shows_exactly_what_would_be_opened(treasury: Treasury) -> None:
    grant = treasury.world.released().grant
    assert grant is not None
    text = treasury.page("x" * 43).text
    for shown in ("TR-000417", grant.id, grant.approvals_digest, "Treasury payments", "quarterly payments"):
        assert shown in text


def test_the_hint_puts_its_grant_first(treasury: Treasury) -> None:
    first, second = treasury.grant(), treasury.grant(duration_s=900)
    for hint, order in ((first, [first, second]), (second, [second, first])):
        text = treasury.page("x" * 43, login_hint=hint.id).text
        places = [text.index(f'data-grant="{grant.id}"') for grant in order]
        assert places == sorted(places)


def test_without_access_the_page_says_where_to_ask(treasury: Treasury) -> None:
    text = treasury.page("x" * 43).text
    assert 'data-entitlement="viewer"' in text
    assert "data-ceremony" not in text


def test_who_is_not_signed_in_is_sent_to_sign_in_and_back(sqlite_world: World) -> None:
    treasury = open_treasury(sqlite_world)
    answer = treasury.page("x" * 43)
    assert answer.status_code == 303
    assert answer.location.startswith("/sign-in?next=%2Foidc%2Fauthorize%3F")


@pytest.mark.covers("R25")
def test_nobody_opens_what_belongs_to_somebody_else(treasury: Treasury) -> None:
    grant = treasury.grant()
    treasury.sign_in("blerim")
    assert treasury.begin(grant, verifier_pair()[1]).status_code == 404
    assert grant.id not in treasury.page("x" * 43).text


@pytest.mark.covers("R39", "R36")
def test_a_code_is_good_for_its_own_client_alone(treasury: Treasury) -> None:
    other = open_treasury(treasury.world)
    code, verifier = treasury.code(treasury.grant())
    assert other.redeem(code, verifier).json["error"] == "invalid_grant"
    assert treasury.redeem(code, verifier).status_code == 200, "and a stranger does not spend it"
    assert treasury.events("code.refused")[0]["body"]["reason"] == "another_client"


@pytest.mark.covers("R36", "R37")
def test_a_code_is_bound_to_its_address(treasury: Treasury) -> None:
    code, verifier = treasury.code(treasury.grant())
    assert treasury.redeem(code, verifier, redirect_uri=CALLBACK + "/").json["error"] == "invalid_grant"


@pytest.mark.covers("R40", "R34", "TRAP-1")
def test_refresh_rotates_and_never_outlives_the_grant(any_treasury: Treasury) -> None:
    grant = any_treasury.grant(duration_s=600)
    assert grant.ends_at is not None
    ends = int(grant.ends_at.timestamp())
    tokens = any_treasury.tokens(grant)
    seen = {tokens["refresh_token"]}
    for _ in range(4):
        any_treasury.world.advance(timedelta(seconds=140))
        tokens = any_treasury.refresh(tokens["refresh_token"]).json
        token = any_treasury.verifier().verify(tokens["access_token"])
        assert token.expires_at <= ends
        assert tokens["refresh_token"] not in seen
        seen.add(tokens["refresh_token"])
    any_treasury.world.advance(timedelta(seconds=40))
    assert any_treasury.refresh(tokens["refresh_token"]).json["error"] == "invalid_grant"
    with pytest.raises(TokenRefused, match="expired"):
        any_treasury.verifier().verify(tokens["access_token"])
    assert any_treasury.introspect(tokens["access_token"]) == {"active": False}


@pytest.mark.covers("R40")
def test_a_refresh_token_used_twice_ends_the_family(any_treasury: Treasury) -> None:
    first = any_treasury.tokens(any_treasury.grant())
    second = any_treasury.refresh(first["refresh_token"]).json
    assert any_treasury.refresh(first["refresh_token"]).json["error"] == "invalid_grant"
    for tokens in (first, second):
        assert any_treasury.introspect(tokens["access_token"]) == {"active": False}
    assert any_treasury.refresh(second["refresh_token"]).json["error"] == "invalid_grant"
    assert len(any_treasury.events("token.reused")) == 1


@pytest.mark.covers("R40", "R39")
def test_a_refresh_token_of_another_client_is_refused_and_stays_good(treasury: Treasury) -> None:
    other = open_treasury(treasury.world)
    tokens = treasury.tokens(treasury.grant())
    assert other.refresh(tokens["refresh_token"]).json["error"] == "invalid_grant"
    assert treasury.refresh(tokens["refresh_token"]).status_code == 200


def test_a_refresh_may_narrow_the_scope_and_never_widen_it(treasury: Treasury) -> None:
    tokens = treasury.tokens(treasury.grant())
    assert treasury.refresh(tokens["refresh_token"], scope="openid admin").json["error"] == "invalid_scope"
    narrow = treasury.refresh(tokens["refresh_token"], scope="profile").json
    assert "id_token" not in narrow
    assert narrow["scope"] == "profile"


@pytest.mark.covers("R40", "R12", "R34", "T-17")
@pytest.mark.parametrize("how", ["hand_back", "disable", "hold"])
def test_when_access_ends_early_nothing_is_renewed_and_introspection_says_so(treasury: Treasury, how: str) -> None:
    world = treasury.world
    grant = treasury.grant()
    tokens = treasury.tokens(grant)
    current = world.current("arta")
    if how == "hand_back":
        with world.broker.begin(current.actor) as tx:
            revoke.hand_back(tx, current, grant.id)
    else:
        with world.broker.begin(SYSTEM) as tx:
            if how == "disable":
                disable_person(tx, current.person.id)
            else:
                place(tx, world.broker, kind=HoldKind.PERSON, subject_id=current.person.id, cause="odd", by="test")
    assert treasury.introspect(tokens["access_token"]) == {"active": False}
    assert treasury.refresh(tokens["refresh_token"]).json["error"] == "invalid_grant"


@pytest.mark.covers("R56", "T-10")
def test_overlapping_grants_do_not_touch_each_other(treasury: Treasury) -> None:
    world = treasury.world
    first, second = treasury.grant(), treasury.grant(duration_s=900)
    one, two = treasury.tokens(first), treasury.tokens(second)
    current = world.current("arta")
    with world.broker.begin(current.actor) as tx:
        revoke.hand_back(tx, current, first.id)
    assert treasury.introspect(one["access_token"]) == {"active": False}
    assert treasury.introspect(two["access_token"])["active"] is True
    with world.broker.read() as view:
        kept = view.require(Grant, second.id)
    assert kept.ends_at == second.ends_at


def test_a_key_of_the_targets_own_works_as_well(sqlite_world: World) -> None:
    treasury = open_treasury(sqlite_world, key=ECKey.generate_key("P-256", {"kid": "treasury-1"}))
    treasury.sign_in("arta")
    tokens = treasury.tokens(treasury.grant())
    assert treasury.introspect(tokens["access_token"])["active"] is True


def test_discovery_says_only_what_is_so(treasury: Treasury) -> None:
    for path in ("openid-configuration", "oauth-authorization-server"):
        found = treasury.browser.get(f"/.well-known/{path}", base_url=ORIGIN).json
        assert found["issuer"] == ORIGIN
        assert found["code_challenge_methods_supported"] == ["S256"]
        rules = {rule.rule for rule in treasury.app.url_map.iter_rules()}
        for name, value in found.items():
            if name.endswith(("_endpoint", "_uri")):
                assert value.removeprefix(ORIGIN) in rules
    jwks = treasury.browser.get("/.well-known/jwks.json", base_url=ORIGIN).json
    assert all(key["alg"] == "ES256" and "d" not in key for key in jwks["keys"])
