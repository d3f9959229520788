"""UserInfo, resource indicators, step-up, prompt, max_age and what the answers say about the sign-in: all true, or refused."""

from datetime import timedelta
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from jitaccess.broker import revoke
from jitaccess.sdk import Level, StepUpNeeded, require_level, www_authenticate
from jitaccess.sdk.step_up import check_level
from tests.oidc.conftest import AUDIENCE, Treasury, open_treasury, verifier_pair
from tests.support.world import ORIGIN, World

BEARER = 'Bearer realm="jitaccess"'


def error_of(location: str) -> str:
    """Return the error that goes back to the client."""
    return parse_qs(urlsplit(location).query)["error"][0]


# ---------------------------------------------------------------- userinfo


@pytest.mark.covers("R33", "R34")
def test_userinfo_says_who_it_is_while_the_access_lasts(any_treasury: Treasury) -> None:
    grant = any_treasury.grant()
    token = any_treasury.tokens(grant)["access_token"]
    anybody = any_treasury.app.test_client()
    headers = {"Authorization": f"Bearer {token}"}
    who = {"sub": any_treasury.world.person("arta"), "name": "Arta Krasniqi"}
    assert anybody.get("/oidc/userinfo", base_url=ORIGIN, headers=headers).json == who
    assert anybody.post("/oidc/userinfo", base_url=ORIGIN, headers=headers).json == who
    assert anybody.post("/oidc/userinfo", base_url=ORIGIN, data={"access_token": token}).json == who
    current = any_treasury.world.current("arta")
    with any_treasury.world.broker.begin(current.actor) as tx:
        revoke.hand_back(tx, current, grant.id)
    ended = anybody.get("/oidc/userinfo", base_url=ORIGIN, headers=headers)
    assert (ended.status_code, ended.json["error"]) == (401, "invalid_token")
    assert ended.headers["WWW-Authenticate"].startswith(f'{BEARER}, error="invalid_token"')


def test_userinfo_takes_one_access_token_in_one_place(treasury: Treasury) -> None:
    tokens = treasury.tokens(treasury.grant())
    anybody, token = treasury.app.test_client(), tokens["access_token"]
    bare = anybody.get("/oidc/userinfo", base_url=ORIGIN)
    assert (bare.status_code, bare.headers["WWW-Authenticate"]) == (401, BEARER)
    assert anybody.get(f"/oidc/userinfo?access_token={token}", base_url=ORIGIN).status_code == 401
    headers = {"Authorization": f"Bearer {token}"}
    both = anybody.post("/oidc/userinfo", base_url=ORIGIN, headers=headers, data={"access_token": token})
    assert (both.status_code, both.json["error"]) == (400, "invalid_request")
    for wrong in (tokens["id_token"], tokens["refresh_token"], token[:-4], "x"):
        answer = anybody.get("/oidc/userinfo", base_url=ORIGIN, headers={"Authorization": f"Bearer {wrong}"})
        assert answer.status_code == 401
    assert anybody.get("/oidc/userinfo", base_url=ORIGIN, headers={"Authorization": "Basic eDp5"}).status_code == 400


def test_userinfo_says_no_more_than_was_asked_for(treasury: Treasury) -> None:
    tokens = treasury.tokens(treasury.grant())
    for scope, status in (("openid", 200), ("profile", 403)):
        narrow = treasury.refresh(tokens["refresh_token"], scope=scope).json
        headers = {"Authorization": f"Bearer {narrow['access_token']}"}
        answer = treasury.app.test_client().get("/oidc/userinfo", base_url=ORIGIN, headers=headers)
        assert answer.status_code == status
        if status == 200:
            assert set(answer.json) == {"sub"}
            tokens = treasury.tokens(treasury.grant())


# ---------------------------------------------------------------- resource indicators (RFC 8707)


def test_a_client_gets_tokens_for_its_own_resource_alone(treasury: Treasury) -> None:
    grant = treasury.grant()
    verifier, challenge = verifier_pair()
    location = treasury.authorize(grant, challenge, resource=AUDIENCE)
    code = parse_qs(urlsplit(location).query)["code"][0]
    refused = treasury.redeem(code, verifier, resource="https://payroll.mof.example")
    assert (refused.status_code, refused.json["error"]) == (400, "invalid_target")
    tokens = treasury.redeem(code, verifier, resource=AUDIENCE)
    assert tokens.status_code == 200, "a wrong resource did not spend the code"
    renewed = treasury.refresh(tokens.json["refresh_token"], resource="https://payroll.mof.example")
    assert renewed.json["error"] == "invalid_target"
    answer = treasury.page(challenge, resource="https://payroll.mof.example")
    assert error_of(answer.location) == "invalid_target"


# ---------------------------------------------------------------- how somebody signed in


@pytest.mark.covers("R38")
def test_what_a_target_asks_of_the_sign_in_is_met_or_refused(treasury: Treasury) -> None:
    grant = treasury.grant()
    for values in ("phrh", "phr", "urn:other phrh", "urn:only:other"):
        location = treasury.authorize(grant, verifier_pair()[1], acr_values=values)
        assert "code" in parse_qs(urlsplit(location).query), values


@pytest.mark.covers("R38")
@pytest.mark.parametrize(
    "wish", [{"prompt": "login"}, {"max_age": "0"}, {"max_age": "10000"}, {"prompt": "login consent"}]
)
def test_each_opening_is_a_sign_in_of_its_own(treasury: Treasury, wish: dict[str, str]) -> None:
    grant = treasury.grant()
    before = treasury.world.clock.now()
    treasury.world.advance(timedelta(minutes=3))
    verifier, challenge = verifier_pair()
    code = parse_qs(urlsplit(treasury.authorize(grant, challenge, **wish)).query)["code"][0]
    token = treasury.verifier().verify(treasury.redeem(code, verifier).json["access_token"])
    assert token.claims["auth_time"] == int(before.timestamp()) + 180


@pytest.mark.covers("R38")
def test_a_refreshed_token_keeps_the_time_of_the_sign_in(treasury: Treasury) -> None:
    tokens = treasury.tokens(treasury.grant())
    signed_in = treasury.verifier().verify(tokens["access_token"]).claims["auth_time"]
    treasury.world.advance(timedelta(minutes=2))
    renewed = treasury.refresh(tokens["refresh_token"]).json
    assert treasury.verifier().verify(renewed["access_token"]).claims["auth_time"] == signed_in


def test_prompt_none_is_answered_truly(sqlite_world: World) -> None:
    treasury = open_treasury(sqlite_world)
    assert error_of(treasury.page("x" * 43, prompt="none").location) == "login_required"
    treasury.sign_in("arta")
    assert error_of(treasury.page("x" * 43, prompt="none").location) == "interaction_required"
    assert error_of(treasury.page("x" * 43, prompt="none login").location) == "invalid_request"


def test_a_posted_authorization_request_is_shown_like_any_other(treasury: Treasury) -> None:
    treasury.grant()
    query = treasury.query("x" * 43)
    form = {name: values[0] for name, values in parse_qs(query).items()}
    answer = treasury.browser.post(
        "/oidc/authorize", base_url=ORIGIN, data=form, headers={"Origin": AUDIENCE, "Sec-Fetch-Site": "cross-site"}
    )
    assert answer.status_code == 303
    assert answer.location == f"/oidc/authorize?{query}"
    assert treasury.browser.get(answer.location, base_url=ORIGIN).status_code == 200


# ---------------------------------------------------------------- the step-up challenge (RFC 9470)


@pytest.mark.covers("R38")
def test_a_target_can_ask_for_a_fresher_sign_in_and_gets_it(treasury: Treasury) -> None:
    world, grant = treasury.world, treasury.grant()
    tokens = treasury.tokens(grant)
    clock = lambda: world.clock.now().timestamp()  # noqa: E731
    level = Level(("phrh",), 120)
    require_level(treasury.verifier().verify(tokens["access_token"]), level, clock=clock)
    world.advance(timedelta(seconds=121))
    renewed = treasury.refresh(tokens["refresh_token"]).json["access_token"]
    with pytest.raises(StepUpNeeded) as needed:
        require_level(treasury.verifier().verify(renewed), level, clock=clock)
    header = www_authenticate(needed.value)
    for part in ('error="insufficient_user_authentication"', 'acr_values="phrh"', 'max_age="120"'):
        assert part in header
    asked = treasury.introspect(renewed)
    with pytest.raises(StepUpNeeded):
        check_level(asked, level, clock=clock)
    verifier, challenge = verifier_pair()
    location = treasury.authorize(grant, challenge, acr_values="phrh", max_age="120")
    code = parse_qs(urlsplit(location).query)["code"][0]
    again = treasury.redeem(code, verifier).json["access_token"]
    require_level(treasury.verifier().verify(again), level, clock=clock)


@pytest.mark.covers("R66")
@pytest.mark.parametrize("text", ["\ud800", "a\x00b", "\x00", "nobody"])
def test_an_id_that_nothing_can_have_is_refused_and_breaks_nothing(any_treasury: Treasury, text: str) -> None:
    """As JSON may carry it: half a surrogate pair, and the character that PostgreSQL takes in no text."""
    any_treasury.grant()
    answers = [
        any_treasury.post("/oidc/authorize/complete", {"challenge_id": text, "response": {}}),
        any_treasury.post("/oidc/authorize/begin", {"grant_id": text, "query": any_treasury.query(verifier_pair()[1])}),
        any_treasury.post("/oidc/authorize/begin", {"grant_id": "a", "query": text}),
    ]
    assert all(400 <= answer.status_code < 500 for answer in answers), [answer.text for answer in answers]
    form = "application/x-www-form-urlencoded"
    forms = [("/oidc/authorize/resume", "pending"), ("/approvals/set/prepare", "request")]
    for path, name in forms:
        answer = any_treasury.browser.post(
            path,
            data=urlencode({name: [text, "x"]}, doseq=True, errors="surrogatepass"),
            content_type=form,
            base_url=ORIGIN,
            headers={"Origin": ORIGIN},
        )
        assert 400 <= answer.status_code < 500, (path, answer.status_code)
