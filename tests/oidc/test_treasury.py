"""Does the sample treasury let in exactly who was granted, for exactly that, and for no second longer? Over real HTTP."""

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server

from examples.treasury.application import create_app as treasury_app
from examples.treasury.ledger import Ledger
from examples.treasury.sign_on import SignOn
from jitaccess.app import create_app, open_broker
from jitaccess.broker import revoke
from jitaccess.clock import FrozenClock
from jitaccess.demo.seed import read_policies, seed
from jitaccess.domain.values import LOCAL
from jitaccess.oidc.clients import add_client
from jitaccess.sdk import ClientSecret
from jitaccess.settings import Server
from jitaccess.store.tables import Grant
from jitaccess.tokens.keys import create_wrapping_key
from tests.support.ports import free_port
from tests.support.world import EVERYBODY, ROOT, START, World, settings_for

AUDIENCE = "http://127.0.0.1:8001"


class Quiet(WSGIRequestHandler):
    """Writes nothing."""

    def log(self, type: str, message: str, *args: object) -> None:
        """Say nothing."""


@dataclass(slots=True)
class Serving:
    """A Flask application on a real socket of loopback."""

    app: Flask
    port: int
    thread: threading.Thread = field(init=False)
    server: Any = field(init=False)

    def __post_init__(self) -> None:
        """Begin to serve."""
        self.server = make_server("127.0.0.1", self.port, self.app, threaded=True, request_handler=Quiet)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """Stop serving; a second time is harmless."""
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@dataclass(slots=True)
class Town:
    """Broker and treasury on two ports, and Arta's browser."""

    world: World
    broker: Serving
    treasury: Serving
    issuer: str
    origin: str
    sign_on: SignOn
    browser: httpx2.Client

    def session_at_broker(self) -> dict[str, str]:
        """Return the headers of Arta's page at the broker."""
        current = self.world.current("arta")
        return {"Cookie": f"__Host-jit={self.world.secrets[current.session.id]}", "Origin": self.issuer}

    def come_in(self, grant: Grant) -> httpx2.Response:
        """Follow "Open" from the broker's page until the treasury shows a page."""
        start = self.browser.get(f"{self.origin}/start", params={"iss": self.issuer, "login_hint": grant.id})
        assert start.status_code == 303
        query = urlsplit(start.headers["Location"]).query
        page = httpx2.get(start.headers["Location"], headers=self.session_at_broker())
        assert grant.id in page.text
        body = {"grant_id": grant.id, "query": query}
        begun = httpx2.post(f"{self.issuer}/oidc/authorize/begin", json=body, headers=self.session_at_broker()).json()
        response = self.world.passkey("arta").get(begun["options"])
        done = httpx2.post(
            f"{self.issuer}/oidc/authorize/complete",
            json={"challenge_id": begun["challenge_id"], "response": response},
            headers=self.session_at_broker(),
        ).json()
        back = self.browser.get(done["redirect"])
        assert back.status_code == 303, back.text
        return self.browser.get(f"{self.origin}/")

    def release(self, number: str, *, csrf: str | None = None, origin: str | None = None) -> httpx2.Response:
        """Press "Release" for an order, whether or not the page shows the button."""
        found = re.search(r'name="csrf" value="([^"]+)"', self.browser.get(f"{self.origin}/").text)
        token = csrf if csrf is not None else found[1] if found else ""
        headers = {"Origin": origin or self.origin}
        return self.browser.post(f"{self.origin}/orders/{number}/release", data={"csrf": token}, headers=headers)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    """Build both."""
    port, at = free_port(), free_port()
    issuer, origin = f"http://localhost:{port}", f"http://127.0.0.1:{at}"
    settings = settings_for(f"sqlite:///{tmp_path / 'broker.db'}", tmp_path, server=Server(public_url=issuer))
    clock = FrozenClock(START)
    policy = read_policies(ROOT / "policies")
    seeded = seed(settings, clock, create_wrapping_key(tmp_path / "wrapping.key"), policy, enrolled=EVERYBODY)
    broker = open_broker(settings, clock)
    broker.may_grant.set()
    world = World(broker, clock, seeded, tmp_path)
    with broker.begin(LOCAL) as tx:
        client, secret = add_client(
            tx, target="treasury", name="Treasury payments", redirect_uris=[f"{origin}/callback"]
        )
    credential = ClientSecret(client.id, secret or "")
    sign_on = SignOn(issuer, origin, credential, audience=AUDIENCE, clock=lambda: clock.now().timestamp())
    serving = Serving(create_app(broker), port)
    treasury = Serving(treasury_app(sign_on, Ledger(), origin=origin, issuer=issuer), at)
    with httpx2.Client() as browser:
        yield Town(world, serving, treasury, issuer, origin, sign_on, browser)
    serving.stop()
    treasury.stop()
    world.close()


def look(town: Town) -> Grant:
    grant = town.world.filed().grant
    assert grant is not None
    return grant


def release_grant(town: Town) -> Grant:
    grant = town.world.released().grant
    assert grant is not None
    return grant


def test_nobody_is_inside_without_access(town: Town) -> None:
    for path in ("/", "/status"):
        answer = town.browser.get(f"{town.origin}{path}")
        assert answer.status_code == 401
        assert "Nobody is inside" in answer.text
    assert town.release("TR-000417").status_code == 401


@pytest.mark.covers("R19", "R34")
def test_a_releaser_releases_exactly_the_signed_order_once(town: Town) -> None:
    grant = release_grant(town)
    page = town.come_in(grant)
    assert "Arta Krasniqi" in page.text
    assert grant.approvals_digest in page.text
    assert page.text.count("<button>Release") == 1
    for other in ("TR-000123", "TR-000388", "TR-999999"):
        refused = town.release(other)
        assert refused.status_code == 403
        assert "for another order" in refused.text
    assert "TR-000417 was released" in town.release("TR-000417").text
    session = next(iter(town.sign_on._sessions.values()))
    again = town.release("TR-000417", csrf=session.csrf)
    assert again.status_code == 403
    assert "released already" in again.text


def test_a_viewer_looks_and_releases_nothing(town: Town) -> None:
    page = town.come_in(look(town))
    assert "You may look" in page.text
    assert "<button>Release" not in page.text
    session = next(iter(town.sign_on._sessions.values()))
    refused = town.release("TR-000417", csrf=session.csrf)
    assert refused.status_code == 403
    assert "look, not release" in refused.text


def test_an_order_above_the_signed_amount_is_not_released(town: Town) -> None:
    grant = town.world.released(inputs={"order": "TR-000417", "amount_cents": 124_999_999}).grant
    assert grant is not None
    town.come_in(grant)
    refused = town.release("TR-000417")
    assert refused.status_code == 403
    assert "larger than what was approved" in refused.text


@pytest.mark.covers("R34", "R45", "T-17")
def test_when_the_grant_ends_early_the_session_is_refused_within_two_seconds(town: Town) -> None:
    grant = release_grant(town)
    town.come_in(grant)
    current = town.world.current("arta")
    with town.world.broker.begin(current.actor) as tx:
        revoke.hand_back(tx, current, grant.id)
    session = next(iter(town.sign_on._sessions.values()))
    town.world.advance(timedelta(seconds=1.1))
    refused = town.release("TR-000417", csrf=session.csrf)
    assert refused.status_code == 401
    assert town.browser.get(f"{town.origin}/").status_code == 401
    assert town.sign_on._sessions == {}


@pytest.mark.covers("R34", "R40", "T-16")
def test_a_session_is_renewed_in_the_background_and_ends_with_the_grant_to_the_second(town: Town) -> None:
    grant = look(town)
    assert grant.ends_at is not None
    town.come_in(grant)
    session = next(iter(town.sign_on._sessions.values()))
    first = session.access_token
    town.world.advance(timedelta(seconds=250))
    assert town.sign_on.renew_due() == 0
    assert session.access_token != first
    town.world.advance(grant.ends_at - town.world.clock.now() - timedelta(seconds=1))
    assert town.browser.get(f"{town.origin}/").status_code == 200
    town.world.advance(timedelta(seconds=1))
    assert town.browser.get(f"{town.origin}/").status_code == 401


@pytest.mark.covers("R42")
def test_with_the_broker_out_of_reach_nothing_is_accepted_and_then_it_goes_on(town: Town) -> None:
    town.come_in(look(town))
    town.broker.stop()
    town.world.advance(timedelta(seconds=2))
    assert town.browser.get(f"{town.origin}/").status_code == 503
    town.broker = Serving(town.broker.app, town.broker.port)
    session = next(iter(town.sign_on._sessions))
    town.browser.cookies.set("treasury_session", session, domain="127.0.0.1")
    assert town.browser.get(f"{town.origin}/").status_code == 200
    town.broker.stop()
    town.broker = Serving(town.broker.app, town.broker.port)


@pytest.mark.covers("R16")
def test_a_release_comes_from_the_treasurys_own_page(town: Town) -> None:
    town.come_in(release_grant(town))
    session = next(iter(town.sign_on._sessions.values()))
    assert town.release("TR-000417", origin="https://evil.example").status_code == 401
    town.browser.cookies.set("treasury_session", session.id, domain="127.0.0.1")
    assert town.release("TR-000417", csrf="wrong").status_code == 401
    orders = town.treasury.app.test_client().get("/")
    assert orders.status_code == 401


@pytest.mark.covers("R36", "R37")
def test_an_answer_that_this_browser_did_not_ask_for_is_refused(town: Town) -> None:
    start = town.browser.get(f"{town.origin}/start")
    state = parse_qs(urlsplit(start.headers["Location"]).query)["state"][0]
    for query in (
        {"code": "x", "iss": town.issuer},
        {"state": "other", "code": "x", "iss": town.issuer},
        {"state": state, "code": "x", "iss": "https://evil.example"},
        {"state": state, "code": "x", "iss": town.issuer},
        {"state": state, "error": "access_denied"},
    ):
        answer = town.browser.get(f"{town.origin}/callback", params=query)
        assert answer.status_code == 401
    stranger = httpx2.get(f"{town.origin}/callback", params={"state": state, "code": "x", "iss": town.issuer})
    assert stranger.status_code == 401
    assert town.browser.get(f"{town.origin}/start", params={"iss": "https://evil.example"}).status_code == 401


def test_every_answer_is_dressed_and_no_secret_stands_in_an_address(town: Town) -> None:
    page = town.come_in(look(town))
    session = next(iter(town.sign_on._sessions.values()))
    assert "unsafe-inline" not in page.headers["Content-Security-Policy"]
    assert page.headers["Cache-Control"] == "no-store"
    for secret in (session.access_token, session.refresh_token):
        assert secret not in page.text
    assert str(page.url) == f"{town.origin}/"
    out = town.browser.post(f"{town.origin}/sign-out", headers={"Origin": town.origin})
    assert out.status_code == 303
    assert town.browser.get(f"{town.origin}/").status_code == 401
