"""Does the SDK's middleware let in nobody but who brings one good token, in every framework alike?"""

import asyncio
import base64
import hmac
import http.client
import io
import json
import re
import threading
import types
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit
from wsgiref.util import FileWrapper, setup_testing_defaults

import pytest
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.test import Client
from django.test.utils import override_settings
from django.urls import path
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from flask import Flask, request
from joserfc.jwk import ECKey
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse as FileResponseOfStarlette
from starlette.websockets import WebSocket, WebSocketDisconnect

from jitaccess.sdk import Door, Level, TokenRefused, VerifiedToken, Verifier, www_authenticate
from jitaccess.sdk import django as sdk_django
from jitaccess.sdk import fastapi as sdk_fastapi
from jitaccess.sdk import flask as sdk_flask
from jitaccess.sdk.asgi import THREADS, JitAsgiMiddleware
from jitaccess.sdk.door import AccessEnded, Watch
from jitaccess.sdk.wsgi import JitMiddleware
from jitaccess.tokens.access import GrantClaims, SignIn, mint_access
from tests.support.careless import listening
from tests.support.sources import ROOT

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
ISSUER, AUDIENCE = "https://jit.example", "https://treasury.example"
ASK = "https://jit.example/request?target=treasury&entitlement=releaser"
KEY = ECKey.generate_key("P-256", {"kid": "key-1"})
JWKS = {"keys": [{**KEY.as_dict(private=False), "kid": "key-1", "use": "sig", "alg": "ES256"}]}
SECRET_TEXT = "password=hunter2"
Headers = Sequence[tuple[str, str]]


def minted(
    entitlement: str = "releaser",
    *,
    audience: str = AUDIENCE,
    now: datetime = NOW,
    acr: str = "phr",
    typ: str = "at+jwt",
    life_s: int = 300,
) -> str:
    grant = GrantClaims(
        "grant-1", "treasury", entitlement, {"order": "TR-1"}, "a" * 43, "p" * 43, now + timedelta(minutes=30)
    )
    return mint_access(
        KEY,
        issuer=ISSUER,
        audience=audience,
        client_id="client-1",
        person_id="person-1",
        jti="jti-1",
        scope="openid",
        grant=grant,
        sign_in=SignIn(now, acr, ("hwk", "user")),
        now=now,
        ttl_s=life_s,
        typ=typ,
    ).text


def with_public_key_as_secret() -> str:
    """Return HS256 with the public key's PEM as the secret (T-20)."""
    head = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "typ": "at+jwt", "kid": "key-1"}).encode())
    text = f"{head.decode().rstrip('=')}.{minted().split('.')[1]}"
    mac = hmac.digest(KEY.as_pem(private=False), text.encode(), "sha256")
    return f"{text}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def verifier(*, at: datetime = NOW, status: Callable[[Mapping[str, Any]], None] | None = None) -> Verifier:
    return Verifier(ISSUER, AUDIENCE, JWKS, clock=lambda: at.timestamp(), status=status)


def ended(_: Mapping[str, Any]) -> None:
    raise TokenRefused("inactive", "This access has ended.")


def silent(_: Mapping[str, Any]) -> None:
    raise TokenRefused("unreachable", "The broker cannot be reached, so nothing is accepted now.")


def broken(_: Mapping[str, Any]) -> None:
    raise OSError(SECRET_TEXT)


@dataclass(slots=True)
class Answer:
    """What a client got, and the tokens that the application saw."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    seen: list[VerifiedToken | None] = field(default_factory=list)


def by_wsgi(checks: Verifier, headers: Headers, **options: Any) -> Answer:
    answer = Answer()

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        answer.seen.append(environ["jitaccess.token"])
        start("200 OK", [])
        return [b"in"]

    def start(line: str, given: list[tuple[str, str]], _: object = None) -> Callable[[bytes], object]:
        answer.status, answer.headers = int(line[:3]), {name.lower(): value for name, value in given}
        return io.BytesIO().write

    environ: dict[str, Any] = {"REQUEST_METHOD": options.pop("method", "GET"), "PATH_INFO": "/"}
    environ |= joined(headers)
    answer.body = b"".join(JitMiddleware(app, checks, ask_url=ASK, **options)(environ, start))
    return answer


def joined(headers: Headers) -> dict[str, str]:
    """Return headers as servers put them into an environ: twins joined with a comma."""
    found: dict[str, str] = {}
    for name, value in headers:
        key = f"HTTP_{name.upper().replace('-', '_')}"
        found[key] = f"{found[key]},{value}" if key in found else value
    return found


def by_asgi(checks: Verifier, headers: Headers, **options: Any) -> Answer:
    answer = Answer()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        answer.seen.append(scope["jitaccess.token"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"in"})

    scope = {
        "type": "http",
        "method": options.pop("method", "GET"),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
    }
    sent = asgi(JitAsgiMiddleware(app, checks, ask_url=ASK, **options), scope)
    answer.status = sent[0]["status"]
    answer.headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    answer.body = sent[1]["body"]
    return answer


def asgi(app: Any, scope: Mapping[str, Any], incoming: Sequence[Mapping[str, Any]] = ()) -> list[dict[str, Any]]:
    """Call an ASGI application once; return what it sent."""
    sent: list[dict[str, Any]] = []
    waiting = list(incoming)

    async def receive() -> Any:
        return waiting.pop(0)

    async def send(message: Any) -> None:
        sent.append(dict(message))

    asyncio.run(app(dict(scope), receive, send))
    return sent


def by_flask(checks: Verifier, headers: Headers, **options: Any) -> Answer:
    answer = Answer()
    app = Flask(__name__)

    @app.get("/")
    @sdk_flask.requires("releaser")
    def release() -> str:
        answer.seen.append(sdk_flask.current_token())
        return "in"

    app.wsgi_app = JitMiddleware(app.wsgi_app, checks, ask_url=ASK, **options)  # type: ignore[method-assign] # as Flask says
    with app.test_client() as client:
        got = client.get("/", headers=list(headers))
    answer.status, answer.body = got.status_code, got.data
    answer.headers = {name.lower(): value for name, value in got.headers.items()}
    return answer


def by_fastapi(checks: Verifier, headers: Headers, **options: Any) -> Answer:
    answer = Answer()
    app = FastAPI()
    app.add_middleware(JitAsgiMiddleware, verifier=checks, ask_url=ASK, **options)

    @app.get("/")
    def release(token: Annotated[VerifiedToken, Depends(sdk_fastapi.requires("releaser"))]) -> str:
        answer.seen.append(token)
        return "in"

    with TestClient(app) as client:
        got = client.get("/", headers=list(headers))
    answer.status, answer.body, answer.headers = got.status_code, got.content, dict(got.headers)
    return answer


DJANGO_URLS = types.ModuleType("urls_of_a_guarded_project")
DJANGO_URLS.urlpatterns = []  # type: ignore[attr-defined] # a URL configuration is any module with this name
if not django_settings.configured:
    django_settings.configure(
        ALLOWED_HOSTS=["testserver"],
        MIDDLEWARE=["jitaccess.sdk.django.JitDjangoMiddleware"],
        ROOT_URLCONF=DJANGO_URLS,
        SECRET_KEY="only for this test",
        USE_TZ=True,
    )
DJANGO_SEEN: list[VerifiedToken | None] = []


@sdk_django.requires("releaser")
def django_release(request: Any) -> Any:
    DJANGO_SEEN.append(request.META["jitaccess.token"])
    return HttpResponse(b"in")


DJANGO_URLS.urlpatterns.append(path("", django_release))


def by_django(checks: Verifier, headers: Headers, **options: Any) -> Answer:
    DJANGO_SEEN.clear()
    with override_settings(JITACCESS_DOOR=Door(checks, ask_url=ASK, **options)):
        got = Client().get("/", **joined(headers))
    found = {name.lower(): value for name, value in got.headers.items()}
    return Answer(got.status_code, found, got.content, list(DJANGO_SEEN))


FRONTS = [by_wsgi, by_asgi, by_flask, by_fastapi, by_django]
every_front = pytest.mark.parametrize("front", FRONTS, ids=lambda front: front.__name__[3:])


def bearer(token: str) -> Headers:
    return [("Authorization", f"Bearer {token}")]


REFUSED: list[tuple[str, Callable[[], Headers], Verifier, int, str]] = [
    ("none", list, verifier(), 401, "no_token"),
    ("empty", lambda: [("Authorization", "")], verifier(), 401, "no_token"),
    ("in the other header", lambda: [("X-Jit-Token", minted())], verifier(), 401, "no_token"),
    ("twice", lambda: [*bearer(minted()), *bearer(minted())], verifier(), 401, "unclear"),
    ("two in one", lambda: bearer(f"{minted()} {minted()}"), verifier(), 401, "unclear"),
    ("too long", lambda: bearer("a" * 17_000), verifier(), 401, "malformed"),
    ("wrong scheme", lambda: [("Authorization", f"Basic {minted()}")], verifier(), 401, "unclear"),
    ("no scheme", lambda: [("Authorization", minted())], verifier(), 401, "unclear"),
    ("no token", lambda: bearer("x"), verifier(), 401, "malformed"),
    ("expired", lambda: bearer(minted()), verifier(at=NOW + timedelta(seconds=300)), 401, "expired"),
    ("wrong audience", lambda: bearer(minted(audience="https://other.example")), verifier(), 401, "wrong_audience"),
    ("HS256", lambda: bearer(with_public_key_as_secret()), verifier(), 401, "wrong_algorithm"),
    ("revoked", lambda: bearer(minted()), verifier(status=ended), 401, "inactive"),
    ("broker silent", lambda: bearer(minted()), verifier(status=silent), 503, "unreachable"),
    ("check broken", lambda: bearer(minted()), verifier(status=broken), 503, "unreachable"),
]


def said(answer: Answer) -> dict[str, Any]:
    """Return what the body says; FastAPI wraps it into `detail`."""
    found: dict[str, Any] = json.loads(answer.body)
    inner = found.get("detail", found)
    assert isinstance(inner, dict)
    return inner


@pytest.mark.covers("R32", "T-20")
@every_front
@pytest.mark.parametrize(("headers", "checks", "status", "code"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_who_brings_no_good_token_is_told_why_and_where_to_ask(
    front: Callable[..., Answer],
    headers: Callable[[], Headers],
    checks: Verifier,
    status: int,
    code: str,
) -> None:
    # The thin pieces guard single views: there the rest of the application may be open.
    options = {} if front in (by_wsgi, by_asgi) else {"required": False}
    answer = front(checks, headers(), **options)
    assert (answer.status, said(answer)["error"], answer.seen) == (status, code, [])
    assert said(answer)["ask"] == ASK
    assert said(answer)["message"].endswith(".")
    assert SECRET_TEXT.encode() not in answer.body
    assert answer.headers["cache-control"] == "no-store"
    challenge = answer.headers.get("www-authenticate", "")
    assert challenge.startswith('Bearer realm="jitaccess"') is (status == 401)
    assert ("error=" in challenge) is (status == 401 and code != "no_token")
    assert (f'error_uri="{ASK}"' in challenge) is ("error=" in challenge)


@every_front
def test_a_good_token_comes_to_the_application(front: Callable[..., Answer]) -> None:
    for scheme in ("Bearer", "bearer"):
        answer = front(verifier(), [("Authorization", f"{scheme} {minted()}")])
        assert answer.status == 200
        assert [token.inputs for token in answer.seen if token] == [{"order": "TR-1"}]


@every_front
def test_behind_a_proxy_only_the_proxys_header_counts(front: Callable[..., Answer]) -> None:
    behind = {"token_from": "X-Jit-Token"}
    handed = minted(typ="jit-proxied+jwt", life_s=30)
    assert front(verifier(), [("X-Jit-Token", handed)], **behind).status == 200
    wrong = [bearer(handed), bearer(minted())]
    wrong += [
        [("X-Jit-Token", text)] for text in (f"Bearer {handed}", minted(), minted(typ="jit-proxied+jwt", life_s=61))
    ]
    for headers in (*wrong, [("X-Jit-Token", handed)] * 2):
        answer = front(verifier(), headers, **behind)
        assert (answer.status, answer.seen) == (401, [])


@every_front
def test_access_for_something_else_is_forbidden(front: Callable[..., Answer]) -> None:
    options = {"entitlement": "releaser"} if front in (by_wsgi, by_asgi) else {}
    answer = front(verifier(), bearer(minted("viewer")), **options)
    assert (answer.status, said(answer)["error"], answer.seen) == (403, "not_entitled", [])
    assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]


@pytest.mark.covers("R38")
@every_front
def test_a_sign_in_that_is_too_weak_or_too_old_is_asked_to_step_up(front: Callable[..., Answer]) -> None:
    at = NOW + timedelta(seconds=61)
    options = {"level": Level(("phrh",), max_age_s=60)}
    for acr, now, status in (("phrh", NOW, 200), ("phr", NOW, 401), ("phrh", at, 401)):
        moment = now.timestamp()
        answer = front(verifier(), bearer(minted(acr=acr)), clock=partial(float, moment), **options)
        assert answer.status == status
        if status == 401:
            challenge = answer.headers["www-authenticate"]
            assert 'error="insufficient_user_authentication"' in challenge
            assert 'acr_values="phrh", max_age="60"' in challenge


@pytest.mark.parametrize("front", [by_wsgi, by_asgi])
def test_where_none_is_required_the_application_sees_that_there_is_none(front: Callable[..., Answer]) -> None:
    answer = front(verifier(), [], required=False)
    assert (answer.status, answer.seen) == (200, [None])


@pytest.mark.parametrize("front", [by_wsgi, by_asgi])
def test_an_answer_to_head_has_no_body(front: Callable[..., Answer]) -> None:
    answer = front(verifier(), [], method="HEAD")
    assert (answer.status, answer.body) == (401, b"")


def test_a_guarded_view_past_the_middleware_fails() -> None:
    app = Flask(__name__)
    app.testing = True
    app.add_url_rule("/", view_func=sdk_flask.requires("releaser")(lambda: "in"))
    with app.test_client() as client, pytest.raises(RuntimeError, match="put the middleware"):
        client.get("/", headers=list(bearer(minted())), environ_overrides={"jitaccess.token": "anything"})
    with pytest.raises(ImproperlyConfigured, match="JITACCESS_DOOR"):
        sdk_django.JitDjangoMiddleware(lambda request: HttpResponse())


def test_an_open_view_has_no_current_token() -> None:
    app = Flask(__name__)
    app.testing = True
    app.add_url_rule("/", view_func=lambda: sdk_flask.current_token().subject)
    app.wsgi_app = JitMiddleware(app.wsgi_app, verifier(), required=False)  # type: ignore[method-assign] # as Flask says
    with app.test_client() as client, pytest.raises(RuntimeError, match="no token"):
        client.get("/")


@pytest.mark.parametrize(
    "options",
    [
        {"token_from": "Cookie"},
        {"required": False, "entitlement": "releaser"},
        {"required": False, "level": Level(("phr",))},
        {"ask_url": "javascript:alert(1)"},
        {"ask_url": 'https://jit.example/"'},
        {"ask_url": "https://jit.example/\r\nSet-Cookie: a"},
    ],
)
def test_a_door_that_cannot_hold_is_not_built(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"token_from|required|ask_url"):
        Door(verifier(), **options)


def test_no_wording_of_a_refusal_breaks_the_header() -> None:
    header = www_authenticate(TokenRefused("odd", 'a"b\\c\r\nSet-Cookie: é'), realm='x", y="')
    assert header == 'Bearer realm="x?, y=?", error="invalid_token", error_description="a?b?c??Set-Cookie: ?"'


@dataclass(slots=True)
class Talk:
    """A WebSocket application that says back what it hears."""

    heard: list[str] = field(default_factory=list)
    hear: Callable[[], None] = lambda: None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Talk until the other side is gone."""
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] != "websocket.disconnect":
            if "text" in message:
                self.heard.append(message["text"])
                self.hear()
                await send({"type": "websocket.send", "text": message["text"]})
        await send({"type": "websocket.send", "text": "too late"})


def socket(*headers: tuple[bytes, bytes], **more: Any) -> dict[str, Any]:
    return {"type": "websocket", "headers": list(headers), **more}


def test_a_websocket_without_a_token_is_refused_before_the_application() -> None:
    talk = Talk()
    app = JitAsgiMiddleware(talk, verifier())
    sent = asgi(app, socket())
    assert [(m["type"], m.get("code")) for m in sent] == [("websocket.close", 1008)]
    sent = asgi(app, socket(extensions={"websocket.http.response": {}}))
    assert [m["type"] for m in sent] == ["websocket.http.response.start", "websocket.http.response.body"]
    assert sent[0]["status"] == 401
    assert talk.heard == []


def test_nothing_passes_a_websocket_after_its_token() -> None:
    times = [NOW.timestamp()]
    talk = Talk()
    app = JitAsgiMiddleware(talk, verifier(), clock=lambda: times[0])
    said_in = [{"type": "websocket.receive", "text": text} for text in ("one", "two")]

    def later() -> None:
        times[0] += 300

    talk.hear = later
    sent = asgi(app, socket((b"authorization", f"Bearer {minted()}".encode())), said_in)
    assert talk.heard == ["one"]
    assert [m["type"] for m in sent] == ["websocket.accept", "websocket.close"]


class Ending:
    """A status that a test lets end."""

    ended = False

    def __call__(self, claims: Mapping[str, Any]) -> None:
        if self.ended:
            raise TokenRefused("inactive", "This access has ended.")


@pytest.mark.covers("R34", "R45")
def test_a_websocket_is_closed_when_its_access_ends_early_even_if_nobody_says_anything() -> None:
    status, sent, heard = Ending(), [], []
    verified = verifier(status=status)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        status.ended = True
        heard.append(await receive())  # nothing ever comes in
        await send({"type": "websocket.send", "text": "after the end"})

    async def silence() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    app = JitAsgiMiddleware(application, verified, clock=lambda: NOW.timestamp(), look_again_s=0.01)
    scope = socket((b"authorization", f"Bearer {minted()}".encode()))
    asyncio.run(asyncio.wait_for(app(scope, silence, send), 60))
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.close"]
    assert [message["type"] for message in heard] == ["websocket.disconnect"]


@pytest.mark.covers("R34")
@pytest.mark.parametrize("tidies_up", [False, True])
def test_a_streamed_answer_breaks_off_when_its_access_ends_early(tidies_up: bool) -> None:
    """And never looks whole to who reads it, whatever the application does about the end."""
    status, sent = Ending(), []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"before", "more_body": True})
        status.ended = True
        await asyncio.sleep(0.02)
        try:
            await send({"type": "http.response.body", "body": b"after", "more_body": True})
        except AccessEnded:
            if not tidies_up:
                raise
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def nothing() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    app = JitAsgiMiddleware(application, verifier(status=status), look_again_s=0.01)
    scope = {"type": "http", "method": "GET", "headers": [(b"authorization", f"Bearer {minted()}".encode())]}
    with pytest.raises(AccessEnded):
        asyncio.run(app(scope, nothing, send))
    assert [message.get("body") for message in sent] == [None, b"before"]


# ---------------------------------------------------------------- answers that go on, under WSGI


class Steady:
    """A clock that goes on by itself, for watches."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def wsgi_environ(**more: Any) -> dict[str, Any]:
    environ: dict[str, Any] = {"HTTP_AUTHORIZATION": f"Bearer {minted()}", **more}
    setup_testing_defaults(environ)
    return environ


class Parts:
    """An answer in parts, that notes whether it was closed; its access ends before the third."""

    def __init__(self, status: Ending) -> None:
        self.closed = False
        self._status = status
        self._left = [b"one", b"two", b"three", b"four"]

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self._left:
            raise StopIteration
        if len(self._left) == 2:
            self._status.ended = True
        return self._left.pop(0)

    def close(self) -> None:
        """Note it."""
        self.closed = True


@pytest.mark.covers("R34")
def test_a_streamed_answer_breaks_off_under_wsgi_too_and_is_closed() -> None:
    status = Ending()
    parts = Parts(status)

    def application(environ: Any, start: Any) -> Any:
        assert "wsgi.file_wrapper" not in environ, "a server that sends a file by itself asks nobody in between"
        start("200 OK", [])
        return parts

    guarded = JitMiddleware(application, verifier(status=status), look_again_s=0.0)
    answer: Any = guarded(wsgi_environ(**{"wsgi.file_wrapper": FileWrapper}), lambda *_: None)
    sent: list[bytes] = []
    with pytest.raises(AccessEnded):
        sent.extend(iter(lambda: next(answer), None))
    answer.close()
    assert parts.closed
    with pytest.raises(AccessEnded):
        next(answer)  # not even for a server that asks again


@pytest.mark.covers("R34")
def test_a_server_cuts_the_connection_so_that_a_part_does_not_pass_for_the_whole() -> None:
    status = Ending()

    def application(environ: Any, start: Any) -> Iterable[bytes]:
        start("200 OK", [("Content-Length", "15")])
        return Parts(status)

    guarded = JitMiddleware(application, verifier(status=status), look_again_s=0.0)
    with listening(guarded) as url:
        line = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
        line.request("GET", "/", headers={"Authorization": f"Bearer {minted()}"})
        with pytest.raises(http.client.IncompleteRead) as cut:
            line.getresponse().read()
        line.close()
    assert cut.value.partial == b"onetwo"


@pytest.mark.covers("R34")
def test_what_an_application_writes_by_the_old_way_ends_too() -> None:
    status, written = Ending(), []

    def application(environ: Any, start: Any) -> Any:
        write = start("200 OK", [])
        write(b"before")
        status.ended = True
        write(b"after")
        return []

    guarded = JitMiddleware(application, verifier(status=status), look_again_s=0.0)
    with pytest.raises(AccessEnded):
        guarded(wsgi_environ(), lambda *_: written.append)  # type: ignore[arg-type] # a `write` that keeps
    assert written == [b"before"]


@pytest.mark.parametrize("whole", [[b"x"], (b"x",), []])
def test_an_answer_that_is_there_already_is_handed_on_as_it_is(whole: Any) -> None:
    guarded = JitMiddleware(lambda environ, start: whole, verifier(), look_again_s=0.0)
    assert guarded(wsgi_environ(), lambda *_: None) is whole, "servers read its length"


def test_what_a_proxy_handed_on_is_for_one_request_and_not_looked_at_again() -> None:
    parts = iter([b"x", b"y"])
    at = {"at": NOW}
    checks = Verifier(ISSUER, AUDIENCE, JWKS, status=None, clock=lambda: at["at"].timestamp())
    guarded = JitMiddleware(lambda environ, start: parts, checks, token_from="X-Jit-Token", look_again_s=0.0)
    environ: dict[str, Any] = {"HTTP_X_JIT_TOKEN": minted(typ="jit-proxied+jwt", life_s=30)}
    setup_testing_defaults(environ)
    answer = guarded(environ, lambda *_: None)
    at["at"] += timedelta(hours=1)
    assert list(answer) == [b"x", b"y"]


def test_a_watch_looks_every_few_seconds_and_not_at_every_part() -> None:
    looks: list[Any] = []
    clock = Steady()
    watch = Watch(Door(verifier(status=looks.append)), [f"Bearer {minted()}"], clock=clock)
    for _ in range(100):
        watch.step()
    assert looks == []
    for at in (2.9, 3.0, 3.1, 5.9, 6.0):
        clock.at = at
        watch.step()
    assert len(looks) == 2


def django_streamed(response: Any, status: Ending) -> tuple[Any, Parts]:
    """Send a streamed answer through Django's whole WSGI handler; give what the server got."""
    with override_settings(JITACCESS_DOOR=Door(verifier(status=status), look_again_s=0.0)):
        handler = WSGIHandler()
        handler._middleware_chain = sdk_django.JitDjangoMiddleware(lambda request: response)
        return handler(wsgi_environ(**{"wsgi.file_wrapper": FileWrapper}), lambda *_: None)


@pytest.mark.covers("R34")
def test_a_streamed_answer_of_django_breaks_off_and_is_closed() -> None:
    status = Ending()
    parts = Parts(status)
    answer: Any = django_streamed(StreamingHttpResponse(parts), status)
    sent: list[bytes] = []
    with pytest.raises(AccessEnded):
        sent.extend(answer)
    answer.close()
    assert (sent, parts.closed) == ([b"one", b"two"], True)


@pytest.mark.covers("R34")
def test_a_file_of_django_is_not_left_to_the_server() -> None:
    status, file = Ending(), io.BytesIO(b"x" * 100_000)
    answer: Any = django_streamed(FileResponse(file), status)
    assert not isinstance(answer, FileWrapper)
    parts = iter(answer)
    assert next(parts)
    status.ended = True
    with pytest.raises(AccessEnded):
        next(parts)
    answer.close()
    assert file.closed


@pytest.mark.covers("R34")
def test_an_asynchronous_answer_of_django_breaks_off() -> None:
    status = Ending()

    async def parts() -> AsyncIterator[bytes]:
        for part in Parts(status):
            yield part

    async def read() -> list[bytes]:
        middleware = sdk_django.JitDjangoMiddleware(lambda request: StreamingHttpResponse(parts()))
        answer = middleware(WSGIRequest(wsgi_environ()))
        assert answer.is_async
        sent: list[bytes] = []

        async def take() -> None:
            async for part in answer:
                sent.append(part)

        with pytest.raises(AccessEnded):
            await take()
        return sent

    with override_settings(JITACCESS_DOOR=Door(verifier(status=status), look_again_s=0.0)):
        assert asyncio.run(read()) == [b"one", b"two"]


@pytest.mark.covers("R34")
@pytest.mark.parametrize("how", ["read", "readline", "readlines", "iteration"])
def test_a_body_that_is_held_back_until_the_access_ended_is_not_read_under_wsgi(how: str) -> None:
    status, acted = Ending(), []

    class Slow(io.BytesIO):
        def read(self, *sizes: Any) -> bytes:
            status.ended = True
            return super().read(*sizes)

        def readline(self, *sizes: Any) -> bytes:
            status.ended = True
            return super().readline(*sizes)

        def __next__(self) -> bytes:
            status.ended = True
            return super().__next__()

        def readlines(self, *hints: Any) -> list[bytes]:
            status.ended = True
            return super().readlines(*hints)

    def application(environ: Any, start: Any) -> Any:
        body = environ["wsgi.input"]
        assert not hasattr(body, "readinto"), "a way to read past the watch"
        assert next(iter(body)) if how == "iteration" else getattr(body, how)()
        acted.append(True)
        return []

    guarded = JitMiddleware(application, verifier(status=status), look_again_s=0.0)
    with pytest.raises(AccessEnded):
        guarded(wsgi_environ(**{"wsgi.input": Slow(b"amount=1\n")}), lambda *_: None)
    assert acted == []


@pytest.mark.covers("R34")
def test_a_body_that_is_held_back_is_not_read_by_flask_either() -> None:
    status, acted = Ending(), []
    app = Flask(__name__)

    @app.post("/pay")
    def pay() -> str:
        acted.append(request.form["amount"])
        return "paid"

    class Slow(io.BytesIO):
        def readinto(self, into: Any) -> int:
            status.ended = True
            return super().readinto(into)

        def read(self, *sizes: Any) -> bytes:
            status.ended = True
            return super().read(*sizes)

    guarded = JitMiddleware(app.wsgi_app, verifier(status=status), look_again_s=0.0)
    environ = wsgi_environ(
        **{"wsgi.input": Slow(b"amount=1"), "CONTENT_LENGTH": "8", "REQUEST_METHOD": "POST", "PATH_INFO": "/pay"},
        CONTENT_TYPE="application/x-www-form-urlencoded",
    )
    began: list[str] = []
    with suppress(AccessEnded):
        b"".join(guarded(environ, lambda line, *_: began.append(line)))  # type: ignore[arg-type, func-returns-value] # takes note
    assert acted == []
    assert began != ["200 OK"]


@pytest.mark.covers("R34")
def test_a_body_that_is_held_back_until_the_access_ended_is_not_read_under_asgi() -> None:
    status, acted = Ending(), []
    app = FastAPI()

    @app.post("/pay")
    async def pay(request: Request) -> None:
        acted.append(await request.body())

    parts = iter([{"body": b"amount", "more_body": True}, {"body": b"=1", "more_body": False}])

    async def receive() -> Any:
        part = next(parts)
        status.ended = not part["more_body"]
        return {"type": "http.request", **part}

    async def send(message: Any) -> None:
        assert message.get("status", 500) >= 400
        assert not message.get("body"), "nobody is told anything any more"

    guarded = JitAsgiMiddleware(app, verifier(status=status), look_again_s=0.0)
    headers = [(b"authorization", f"Bearer {minted()}".encode())]
    scope = {"type": "http", "method": "POST", "path": "/pay", "query_string": b"", "headers": headers}
    with pytest.raises((AccessEnded, ClientDisconnect)):
        asyncio.run(guarded(scope, receive, send))
    assert acted == []


@pytest.mark.covers("R34")
def test_a_file_under_asgi_is_not_left_to_the_server(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 200_000)
    sent: list[Any] = []
    status = Ending()

    async def send(message: Any) -> None:
        sent.append(message["type"])
        status.ended = message["type"] == "http.response.body"

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    guarded = JitAsgiMiddleware(FileResponseOfStarlette(file), verifier(status=status), look_again_s=0.0)
    headers = [(b"authorization", f"Bearer {minted()}".encode())]
    offered: dict[str, Any] = {"http.response.pathsend": {}, "http.response.debug": {}}
    scope = {"type": "http", "method": "GET", "headers": headers, "extensions": offered}
    with pytest.raises(AccessEnded):
        asyncio.run(guarded(scope, receive, send))
    assert sent == ["http.response.start", "http.response.body"]
    assert offered.keys() == {"http.response.pathsend", "http.response.debug"}, "the server's own scope is left alone"


def test_a_websocket_route_of_fastapi_asks_for_its_entitlement() -> None:
    app = FastAPI()
    at = NOW.timestamp()
    app.add_middleware(JitAsgiMiddleware, verifier=verifier(), required=False, clock=lambda: at)

    @app.websocket("/talk")
    async def talk(
        socket: WebSocket, token: Annotated[VerifiedToken, Depends(sdk_fastapi.requires("releaser"))]
    ) -> None:
        await socket.accept()
        await socket.send_text(token.entitlement)
        await socket.close()

    with TestClient(app) as client:
        with client.websocket_connect("/talk", headers=dict(bearer(minted()))) as found:
            assert found.receive_text() == "releaser"
        for headers in ({}, dict(bearer(minted("viewer")))):
            with pytest.raises(WebSocketDisconnect), client.websocket_connect("/talk", headers=headers):
                pass


def test_checks_that_wait_for_the_broker_hold_up_nobody_who_brings_no_token() -> None:
    hangs, waiting = threading.Event(), threading.Semaphore(0)

    def keys(_: str) -> None:
        waiting.release()
        assert hangs.wait(60)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"alive"})

    guarded = JitAsgiMiddleware(app, Verifier(ISSUER, AUDIENCE, keys, status=None), required=False)

    async def ask(*headers: tuple[bytes, bytes]) -> int:
        sent: list[dict[str, Any]] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": "/livez", "headers": list(headers)}
        await guarded(scope, asyncio.Future, send)
        return int(sent[0]["status"])

    async def crowd() -> None:
        made_up = [
            asyncio.create_task(ask((b"authorization", f"Bearer {minted()}".encode()))) for _ in range(3 * THREADS)
        ]
        try:
            for _ in range(THREADS):
                assert await asyncio.to_thread(waiting.acquire, timeout=60)
            assert await ask() == 200
            assert await ask((b"authorization", b"Bearer")) == 401
            assert await asyncio.to_thread(lambda: "the application's own threads are free")
        finally:
            hangs.set()
        assert {await one for one in made_up} == {401}

    asyncio.run(crowd())


def test_the_servers_start_is_handed_on_and_unknown_scopes_are_refused() -> None:
    called: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        called.append(scope["type"])

    guarded = JitAsgiMiddleware(app, verifier())
    asgi(guarded, {"type": "lifespan"})
    with pytest.raises(RuntimeError, match="nothing else"):
        asgi(guarded, {"type": "webtransport", "headers": []})
    assert called == ["lifespan"]


def test_the_examples_of_the_guide_run_and_refuse() -> None:
    guide = (ROOT / "docs/how-to/join-a-target.md").read_text()
    found = []
    for text in re.findall(r"```python\n(.*?)```", guide, re.DOTALL):
        names: dict[str, Any] = {"__name__": "guide"}
        exec(compile(text, "join-a-target.md", "exec"), names)
        found.append(names)
    whole, flask, fastapi, django = found
    lines: list[str] = []
    whole["application"]({"REQUEST_METHOD": "GET"}, lambda line, _: lines.append(line))
    assert lines == ["401 Unauthorized"]
    with flask["app"].test_client() as client:
        assert client.post("/release").status_code == 401
    with TestClient(fastapi["app"]) as client:
        assert client.post("/release").status_code == 401
    with override_settings(JITACCESS_DOOR=django["JITACCESS_DOOR"], MIDDLEWARE=django["MIDDLEWARE"]):
        assert Client().get("/").status_code == 401
