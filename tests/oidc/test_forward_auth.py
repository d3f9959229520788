"""Does the door for reverse proxies let through exactly who holds live access, and nobody on any doubt?"""

from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import EnvironBuilder, TestResponse, run_wsgi_app
from werkzeug.wrappers import Request

from jitaccess.app import create_app
from jitaccess.broker import hold
from jitaccess.broker.clients import add_proxied, registered
from jitaccess.broker.context import Broker
from jitaccess.broker.hold import HoldKind
from jitaccess.domain.forwarded import APP_COOKIE, HEADERS
from jitaccess.domain.values import LOCAL
from jitaccess.errors import JitError
from jitaccess.oidc.forward_auth import MAX_STARTS, METHODS, START_COOKIE
from jitaccess.oidc.light import LightDoor
from jitaccess.proof.canonical import b64u_decode
from jitaccess.sdk import TokenRefused, VerifiedToken
from jitaccess.sdk.dev.forgeries import parts, sign
from jitaccess.sdk.door import Door, Refusal
from tests.oidc.conftest import Treasury
from tests.support.world import ORIGIN

APP = "https://app.example"
OTHER = "https://other.example"


@pytest.fixture
def proxied(treasury: Treasury) -> Treasury:
    """Give the treasury behind a reverse proxy, and Arta signed in at the broker."""
    with treasury.world.broker.begin(LOCAL) as tx:
        add_proxied(tx, target="treasury", name="Treasury", origin=APP)
    treasury.app.extensions["tests.broker"] = treasury.world.broker
    return treasury


def name_of(app: Flask, origin: str) -> str:
    """Return the client id that the configuration of this application's proxy holds."""
    broker: Broker = app.extensions["tests.broker"]
    with broker.read() as view:
        return next(key for key, client in registered(view).items() if client.proxied_origin == origin)


def headers(method: str = "GET", uri: str = "/pay", host: str = "app.example", **more: str) -> dict[str, str]:
    """Return what the proxy says."""
    return {
        "X-Forwarded-Method": method,
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": host,
        "X-Forwarded-Uri": uri,
    } | more


def at(app: FlaskClient, path: str, origin: str = APP) -> str:
    """Return a path of the broker for an application: `/proxied/start` is `/proxied/<client id>/start`."""
    name = name_of(app.application, origin)
    if path.startswith("/forward-auth"):
        return path.replace("/forward-auth", f"/forward-auth/{name}", 1)
    return path.replace("/proxied", f"/proxied/{name}", 1)


def ask(app: FlaskClient, path: str = "/forward-auth", **kwargs: Any) -> TestResponse:
    """Ask as the proxy of an application does."""
    peer = kwargs.pop("peer", "127.0.0.1")
    return app.open(
        at(app, path, kwargs.pop("proxy", APP)),
        method=kwargs.pop("send", "GET"),
        base_url=ORIGIN,
        headers=headers(**kwargs),
        environ_overrides={"REMOTE_ADDR": peer},
    )


def jar(proxied: Treasury, **cookies: str) -> FlaskClient:
    """Return a browser at the application's address."""
    found = proxied.app.test_client()
    for name, value in cookies.items():
        found.set_cookie(name, value, domain="localhost")
    return found


def enter(proxied: Treasury, uri: str = "/pay?x=1") -> FlaskClient:
    """Sign a browser in to the proxied application; return it."""
    app = proxied.app.test_client()
    grant = proxied.grant()
    started = ask(app, "/proxied/start", uri=uri)
    assert started.status_code == 303
    query = urlsplit(started.location).query
    begun = proxied.post("/oidc/authorize/begin", {"grant_id": grant.id, "query": query})
    assert begun.status_code == 200, begun.text
    back = proxied.finish(begun.json).json["redirect"]
    assert back.startswith(f"{APP}/.jitaccess/callback?")
    done = ask(app, f"/proxied/callback?{urlsplit(back).query}", uri="/.jitaccess/callback")
    assert done.status_code == 303, done.text
    assert done.location == uri
    return app


def begun_in(app: FlaskClient) -> dict[str, str]:
    """Return the cookies of what this browser has begun, by name, the oldest first."""
    cookies = (app._cookies or {}).values()  # the test client has no other way to list them
    return {one.key: one.value for one in cookies if one.key.startswith(START_COOKIE)}


def put_on_hold(proxied: Treasury, kind: HoldKind, subject: str) -> None:
    """Put somebody or something on hold, from the broker's own shell."""
    with proxied.world.broker.begin(LOCAL) as tx:
        hold.place(tx, proxied.world.broker, kind=kind, subject_id=subject, cause="odd", by="test")


def closed(answer: TestResponse, *statuses: int) -> bool:
    """Say whether an answer lets nobody through and names nobody."""
    return answer.status_code in (statuses or (401, 403)) and all(answer.headers[name] == "" for name in HEADERS)


@pytest.mark.covers("R43", "R45")
def test_who_goes_through_is_answered_before_the_application_and_everybody_else_by_it(proxied: Treasury) -> None:
    app, door = enter(proxied), proxied.app.wsgi_app
    assert isinstance(door, LightDoor)
    through = ask(app)
    passed: list[str] = []
    inner = door.inner

    def application(environ: Any, start_response: Any) -> Any:
        passed.append(environ["PATH_INFO"])
        return inner(environ, start_response)

    door.inner = application
    again = ask(app)
    assert (again.status_code, passed) == (200, [])
    assert ask(app, send="HEAD").status_code == ask(app, "/forward-auth?login=redirect", send="POST").status_code == 200
    assert passed == []
    blank = proxied.app.test_client()
    assert closed(ask(blank), 401)
    assert closed(ask(app, peer="192.0.2.1"), 403)
    assert len(passed) == 2
    proxied.app.wsgi_app = inner  # type: ignore[method-assign] # the application alone
    whole = ask(app)
    ours = {name: value for name, value in whole.headers if name in HEADERS and name != "X-Jit-Token"}
    assert ours == {name: again.headers[name] for name in ours} == {name: through.headers[name] for name in ours}
    assert again.headers["Cache-Control"] == whole.headers["Cache-Control"] == "no-store"


@pytest.mark.covers("R43", "R45")
@pytest.mark.parametrize(
    ("method", "status"),
    [
        *((known, 200) for known in METHODS),
        ("TRACE", 403),
        ("PROPFIND", 403),
        ("CONNECT", 403),
        ("FOO", 403),
    ],
)
def test_a_proxy_may_ask_with_the_methods_of_the_route_only(proxied: Treasury, method: str, status: int) -> None:
    app, door = enter(proxied), proxied.app.wsgi_app
    assert isinstance(door, LightDoor)
    question = {"path": at(app, "/forward-auth"), "base_url": ORIGIN, "headers": headers()}
    environ = EnvironBuilder(**question, environ_overrides={"REMOTE_ADDR": "127.0.0.1"}).get_environ()
    environ |= {"REQUEST_METHOD": method, "HTTP_COOKIE": f"{APP_COOKIE}={app.get_cookie(APP_COOKIE).value}"}
    for application in (door, door.inner):
        answer = TestResponse(*run_wsgi_app(application, dict(environ)), request=Request(environ))
        assert answer.status_code == status
        assert bool(answer.headers.get("X-Jit-User")) is bool(answer.headers.get("X-Jit-Token")) is (status == 200)


@pytest.mark.covers("R43", "R45")
def test_who_opened_live_access_goes_through_with_every_header_and_a_signed_one(proxied: Treasury) -> None:
    app = enter(proxied)
    answer = ask(app, method="POST", uri="/pay/1")
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    said = {name: answer.headers[name] for name in HEADERS}
    assert said["X-Jit-User"] == proxied.world.person("arta")
    assert (said["X-Jit-Target"], said["X-Jit-Entitlement"]) == ("treasury", "viewer")
    token = proxied.verifier().verify_proxied(said["X-Jit-Token"])
    assert (token.subject, token.grant) == (said["X-Jit-User"], said["X-Jit-Grant"])
    assert str(token.ends_at) == said["X-Jit-Ends-At"]
    assert token.expires_at - int(proxied.world.clock.now().timestamp()) <= 30


@pytest.mark.covers("R33")
def test_what_a_proxy_hands_on_is_no_access_token_and_the_other_way_round(proxied: Treasury) -> None:
    handed = ask(enter(proxied)).headers["X-Jit-Token"]
    access = proxied.tokens(proxied.grant())["access_token"]
    assert proxied.introspect(handed) == {"active": False}
    bearer = {"Authorization": f"Bearer {handed}"}
    assert proxied.app.test_client().get("/oidc/userinfo", base_url=ORIGIN, headers=bearer).status_code == 401
    proxied.call("/oidc/revoke", {"token": handed})
    verifier = proxied.verifier()
    opened = {
        "handed on, in Authorization": Door(verifier).enter([f"Bearer {handed}"]),
        "handed on, in its header": Door(verifier, token_from="X-Jit-Token").enter([handed]),
        "access token, in Authorization": Door(verifier).enter([f"Bearer {access}"]),
        "access token, in the other header": Door(verifier, token_from="X-Jit-Token").enter([access]),
    }
    assert {name for name, found in opened.items() if isinstance(found, VerifiedToken)} == {
        "handed on, in its header",
        "access token, in Authorization",
    }
    refused = [found.code for found in opened.values() if isinstance(found, Refusal)]
    assert refused == ["wrong_type", "wrong_type"]


@pytest.mark.covers("R33", "R34")
def test_what_a_proxy_hands_on_lives_a_minute_at_most(proxied: Treasury) -> None:
    text = ask(enter(proxied)).headers["X-Jit-Token"]
    head, body = parts(text)
    key, door = proxied.world.broker.keyring.token_key(), Door(proxied.verifier(), token_from="X-Jit-Token")
    for life_s, let_in in ((60, True), (61, False)):
        found = door.enter([sign(key, head, body | {"exp": body["iat"] + life_s})])
        assert isinstance(found, VerifiedToken) is let_in, life_s


@pytest.mark.covers("R43")
def test_each_request_gets_a_token_of_its_own_so_that_a_backend_can_take_it_once(proxied: Treasury) -> None:
    app, verifier = enter(proxied), proxied.verifier()
    taken = {verifier.verify_proxied(ask(app).headers["X-Jit-Token"]).jti for _ in range(3)}
    assert len(taken) == 3


def test_the_signed_header_is_over_after_half_a_minute(proxied: Treasury) -> None:
    text = ask(enter(proxied)).headers["X-Jit-Token"]
    proxied.world.clock.advance(timedelta(seconds=30))
    with pytest.raises(TokenRefused, match="expired"):
        proxied.verifier().verify_proxied(text)


@pytest.mark.covers("R42")
def test_without_a_cookie_a_page_is_led_to_sign_in_and_an_act_is_refused(proxied: Treasury) -> None:
    app = proxied.app.test_client()
    assert closed(ask(app), 401)
    led = ask(app, "/forward-auth?login=redirect", uri="/pay?a=b&c=d")
    assert closed(led, 302)
    assert led.headers["Location"] == f"{APP}/.jitaccess/start?to=%2Fpay%3Fa%3Db%26c%3Dd"
    assert closed(ask(app, "/forward-auth?login=redirect", method="POST"), 401)


@pytest.mark.covers("R45")
@pytest.mark.parametrize(
    "how", ["handed back", "expired", "held", "target held", "signed out at the broker", "signed out"]
)
def test_the_end_shows_at_the_next_request(proxied: Treasury, how: str) -> None:
    app, world = enter(proxied), proxied.world
    assert ask(app).status_code == 200
    match how:
        case "handed back":
            grant = ask(app).headers["X-Jit-Grant"]
            assert proxied.post(f"/api/grants/{grant}/hand-back", {}).status_code == 200
        case "expired":
            world.clock.advance(timedelta(hours=5))
        case "held":
            put_on_hold(proxied, HoldKind.PERSON, world.person("arta"))
        case "target held":
            put_on_hold(proxied, HoldKind.TARGET, "treasury")
        case "signed out at the broker":
            assert proxied.post("/api/sign-out", {}).status_code == 200
        case _:
            left = app.post(
                at(app, "/proxied/sign-out"),
                base_url=ORIGIN,
                headers=headers(method="POST", uri="/.jitaccess/sign-out", Origin=APP),
            )
            assert left.status_code == 303
    assert closed(ask(app), 401)


@pytest.mark.covers("R42")
@pytest.mark.parametrize(
    "cookie", ["", "x", "é", "a" * 129, "a" * 8000, "../../etc", "' OR 1=1 --", "%00", '"', "null", "\t"]
)
def test_a_cookie_that_is_not_ours_lets_nobody_through(proxied: Treasury, cookie: str) -> None:
    answer = proxied.app.test_client(use_cookies=False).get(
        at(proxied.browser, "/forward-auth"), base_url=ORIGIN, headers=headers(Cookie=f"{APP_COOKIE}={cookie}")
    )
    assert closed(answer)


def test_a_cookie_that_stands_twice_counts_as_none(proxied: Treasury) -> None:
    app = enter(proxied)
    good = app.get_cookie(APP_COOKIE, domain="localhost")
    assert good is not None
    twice = f"{APP_COOKIE}=x; {APP_COOKIE}={good.value}"
    blank = proxied.app.test_client(use_cookies=False)
    assert closed(blank.get(at(blank, "/forward-auth"), base_url=ORIGIN, headers=headers(Cookie=twice)))


def test_a_cookie_opens_only_the_application_it_was_made_for(proxied: Treasury) -> None:
    app = enter(proxied)
    with proxied.world.broker.begin(LOCAL) as tx:
        add_proxied(tx, target="treasury", name="Another", origin=OTHER)
    assert closed(ask(app, proxy=OTHER, host="other.example"), 401)
    assert closed(ask(app, host="unknown.example"), 403)


@pytest.mark.covers("R41")
def test_a_proxy_that_passes_on_the_host_of_another_application_opens_nothing(proxied: Treasury) -> None:
    app = enter(proxied)
    with proxied.world.broker.begin(LOCAL) as tx:
        add_proxied(tx, target="treasury", name="Another", origin=OTHER)
    assert ask(app).status_code == 200
    assert closed(ask(app, proxy=OTHER), 403), "asked by the proxy of the other one, with the address of this one"
    assert ask(app, "/proxied/start", proxy=OTHER).status_code == 403
    assert ask(app, "/proxied/callback", proxy=OTHER, uri="/.jitaccess/callback").status_code == 403
    left = app.post(
        at(app, "/proxied/sign-out", OTHER), base_url=ORIGIN, headers=headers(method="POST", uri="/x", Origin=APP)
    )
    assert left.status_code == 403
    assert ask(app).status_code == 200


@pytest.mark.parametrize("name", ["nothing", "treasury", "..", "%00"])
def test_a_proxy_that_names_no_application_opens_nothing(proxied: Treasury, name: str) -> None:
    app = enter(proxied)
    for found in (name, proxied.credential.client_id):
        answer = app.get(f"/forward-auth/{found}", base_url=ORIGIN, headers=headers())
        assert answer.status_code in (403, 404)
    assert app.get("/forward-auth", base_url=ORIGIN, headers=headers()).status_code == 404


@pytest.mark.covers("R12")
def test_the_brokers_own_cookie_is_nothing_here(proxied: Treasury) -> None:
    secret = proxied.world.secrets[proxied.world.current("arta").session.id]
    assert closed(ask(jar(proxied, **{APP_COOKIE: secret, "__Host-jit": secret})), 401)


@pytest.mark.covers("R41")
@pytest.mark.parametrize("peer", ["10.0.0.1", "::2", "", "not an address"])
def test_only_configured_proxies_are_heard(proxied: Treasury, peer: str) -> None:
    assert closed(ask(enter(proxied), peer=peer), 403)


@pytest.mark.covers("R41")
def test_behind_the_brokers_own_front_the_address_that_it_names_must_be_a_configured_proxy(proxied: Treasury) -> None:
    app, broker = enter(proxied), proxied.world.broker
    server = broker.settings.server.model_copy(update={"trusted_proxies": ("127.0.0.1",)})
    fronted = create_app(replace(broker, settings=broker.settings.model_copy(update={"server": server})))
    fronted.extensions["tests.broker"] = broker
    good = app.get_cookie(APP_COOKIE, domain="localhost")
    assert good is not None
    there = fronted.test_client()
    there.set_cookie(APP_COOKIE, good.value, domain="localhost")
    assert ask(there, **{"X-Forwarded-For": "127.0.0.1"}).status_code == 200
    for address in ("203.0.113.9", "127.0.0.1, 203.0.113.9", "not an address"):
        assert closed(ask(there, **{"X-Forwarded-For": address}), 403)


@pytest.mark.covers("R41", "R44")
@pytest.mark.parametrize("uri", ["/a/../b", "/a%2fb", "//x", "/a;b", "/a%00", "/a#b", ""])
def test_an_ambiguous_path_is_refused_even_with_access(proxied: Treasury, uri: str) -> None:
    assert closed(ask(enter(proxied), uri=uri), 403)


def test_a_row_changed_by_hand_lets_nobody_through(proxied: Treasury) -> None:
    app = enter(proxied)
    assert ask(app).status_code == 200
    proxied.world.sql("UPDATE token SET session_id = :another", another="another")
    assert closed(ask(app), 401)


@pytest.mark.covers("R36")
def test_a_code_is_taken_once_and_only_by_the_browser_that_began(proxied: Treasury) -> None:
    app, grant = proxied.app.test_client(), proxied.grant()
    query = urlsplit(ask(app, "/proxied/start").location).query
    begun = proxied.post("/oidc/authorize/begin", {"grant_id": grant.id, "query": query})
    back = urlsplit(proxied.finish(begun.json).json["redirect"]).query
    elsewhere = proxied.app.test_client()
    assert ask(elsewhere, f"/proxied/callback?{back}", uri="/.jitaccess/callback").status_code == 403
    [(start, begun_cookie)] = begun_in(app).items()
    assert ask(app, f"/proxied/callback?{back}", uri="/.jitaccess/callback").status_code == 303
    assert ask(app).status_code == 200
    app.set_cookie(start, begun_cookie, domain="localhost")
    again = ask(app, f"/proxied/callback?{back}", uri="/.jitaccess/callback")
    assert again.status_code == 403
    assert closed(ask(app), 401), "a code that was used twice ends what it gave"


def come_back(proxied: Treasury, app: FlaskClient, started: TestResponse) -> TestResponse:
    """Let Arta open a grant for a beginning; return the application's answer to the code."""
    begun = proxied.post(
        "/oidc/authorize/begin", {"grant_id": proxied.grant().id, "query": urlsplit(started.location).query}
    )
    back = urlsplit(proxied.finish(begun.json).json["redirect"]).query
    return ask(app, f"/proxied/callback?{back}", uri="/.jitaccess/callback")


@pytest.mark.covers("R46")
def test_each_of_several_tabs_comes_back_to_what_it_wanted(proxied: Treasury) -> None:
    app = proxied.app.test_client()
    tabs = {uri: ask(app, "/proxied/start", uri=uri) for uri in ("/one", "/two?x=1", "/three")}
    for uri, started in tabs.items():
        done = come_back(proxied, app, started)
        assert (done.status_code, done.headers["Location"]) == (303, uri)
    assert begun_in(app) == {}


def test_what_a_browser_began_and_never_finished_does_not_pile_up(proxied: Treasury) -> None:
    app = proxied.app.test_client()
    tabs = [ask(app, "/proxied/start", uri=f"/{n}" + "?q=" + "%20" * 800) for n in range(MAX_STARTS + 3)]
    kept = begun_in(app)
    assert len(kept) == MAX_STARTS
    assert sum(len(name) + len(value) for name, value in kept.items()) < 10_000, "all of them fit into one request"
    assert come_back(proxied, app, tabs[-1]).status_code == 303


@pytest.mark.covers("R42")
def test_only_who_goes_to_a_page_is_led_to_sign_in(proxied: Treasury) -> None:
    app = proxied.app.test_client()
    for mode in ("cors", "no-cors", "same-origin", "websocket", "nested-navigate"):
        sent = {"Sec-Fetch-Mode": mode}
        assert closed(ask(app, "/forward-auth?login=redirect", **sent), 401), mode
        assert ask(app, "/proxied/start", **sent).status_code == 401, mode
    assert begun_in(app) == {}
    for sent in ({"Sec-Fetch-Mode": "navigate"}, {}):
        assert closed(ask(app, "/forward-auth?login=redirect", **sent), 302)
        assert ask(app, "/proxied/start", **sent).status_code == 303


@pytest.mark.parametrize("change", ["state", "iss", "code"])
def test_an_answer_with_another_value_is_not_taken(proxied: Treasury, change: str) -> None:
    app, grant = proxied.app.test_client(), proxied.grant()
    query = urlsplit(ask(app, "/proxied/start").location).query
    begun = proxied.post("/oidc/authorize/begin", {"grant_id": grant.id, "query": query})
    values = {
        name: found[0] for name, found in parse_qs(urlsplit(proxied.finish(begun.json).json["redirect"]).query).items()
    }
    values[change] = "https://evil.example"
    sent = "&".join(f"{name}={value}" for name, value in values.items())
    assert ask(app, f"/proxied/callback?{sent}", uri="/.jitaccess/callback").status_code == 403
    assert closed(ask(app), 401)


@pytest.mark.covers("R46")
@pytest.mark.parametrize(
    "to", ["https://evil.example/", "//evil.example", "/\\evil.example", "/.jitaccess/sign-out", "/a/../b"]
)
def test_the_way_back_leads_only_into_the_application(proxied: Treasury, to: str) -> None:
    app = proxied.app.test_client()
    started = app.get(
        at(app, "/proxied/start"), query_string={"to": to}, base_url=ORIGIN, headers=headers(uri="/.jitaccess/start")
    )
    assert started.status_code == 303
    [kept] = begun_in(app).values()
    assert b64u_decode(kept.partition(".")[2]) == b"/"


@pytest.mark.covers("R16")
def test_another_site_cannot_sign_out(proxied: Treasury) -> None:
    app = enter(proxied)
    sent = headers(method="POST", uri="/.jitaccess/sign-out", Origin="https://evil.example")
    assert app.post(at(app, "/proxied/sign-out"), base_url=ORIGIN, headers=sent).status_code == 403
    assert ask(app).status_code == 200


@pytest.mark.parametrize(
    "origin",
    ["https://app.example/", "https://App.example", "http://app.example", "app.example", "https://a@app.example", APP],
)
def test_only_a_plain_new_origin_is_registered(proxied: Treasury, origin: str) -> None:
    with pytest.raises(JitError), proxied.world.broker.begin(LOCAL) as tx:
        add_proxied(tx, target="treasury", name="Treasury", origin=origin)


def test_a_proxied_application_cannot_authenticate_as_a_client(proxied: Treasury) -> None:
    with proxied.world.broker.begin(LOCAL) as tx:
        client = add_proxied(tx, target="treasury", name="Treasury", origin="https://third.example")
    answer = proxied.app.test_client().post(
        "/oidc/introspect", base_url=ORIGIN, data={"token": "x"}, auth=(client.id, "")
    )
    assert answer.status_code == 401
