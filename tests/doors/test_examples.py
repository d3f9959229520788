"""Do the examples run as their READMEs say: against a real broker with a person's access, and against every known bad token?"""

import base64
import hashlib
import os
import secrets
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
import pytest

from jitaccess.broker.clients import add_client
from jitaccess.broker.logout import deliveries
from jitaccess.clock import SystemClock
from jitaccess.demo.staff import Staff
from jitaccess.demo.stage import Stage, build
from jitaccess.domain.values import LOCAL
from jitaccess.sdk import ClientSecret
from jitaccess.sdk.dev.issuer import DevIssuer
from jitaccess.sdk.dev.probes import Trial, Verdict, run
from jitaccess.sdk.dev.serving import serving
from jitaccess.sdk.door import AUTHORIZATION, PROXIED
from jitaccess.sdk.mark import MARK
from jitaccess.sdk.wall import wall_time
from jitaccess.store.db import Database
from jitaccess.tokens.keys import Keyring, read_wrapping_key
from tests.support.node import install, node
from tests.support.ports import free_port
from tests.support.sources import ROOT

pytestmark = pytest.mark.slow
EXAMPLES = ROOT / "examples"
LIMIT_S = 60
PAUSE = threading.Event()
Started = Callable[..., str]


@dataclass(slots=True)
class House:
    """A real broker, and Arta signed in to it."""

    stage: Stage
    arta: Staff

    def database(self) -> Database:
        """Open the broker's database beside it, as its own shell does."""
        settings = self.stage.settings
        keyring = Keyring.load(settings.store.url, read_wrapping_key(settings.keys.wrapping_key_file))
        return Database(settings.store.url, SystemClock(), keyring.seals)

    def register(self, origin: str, **more: Any) -> ClientSecret:
        """Register a client, as `jitaccess clients add` does."""
        db = self.database()
        with db.begin(LOCAL) as tx:
            client, secret = add_client(
                tx, target="treasury", name="Orders", redirect_uris=[f"{origin}/callback"], **more
            )
        db.close()
        return ClientSecret(client.id, secret or "")

    def ask(self) -> str:
        """Let Arta get access to look; return the grant's id."""
        asked = self.arta.ask("treasury", "viewer", duration_s=900, reason="look")
        assert asked.status == 200, asked.text
        return str(asked.body["grant_id"])

    def hand_back(self, grant: str) -> None:
        """Let Arta give it back."""
        assert self.arta.post(f"/api/grants/{grant}/hand-back").status == 200

    def token(self, grant: str, client: ClientSecret, callback: str) -> str:
        """Return an access token, got by the code flow."""
        verifier = secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        query = {
            "response_type": "code",
            "client_id": client.client_id,
            "redirect_uri": callback,
            "scope": "openid",
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        opened = self.arta.ceremony("/oidc/authorize", {"query": urlencode(query), "grant_id": grant})
        code = parse_qs(urlsplit(str(opened.body["redirect"])).query)["code"][0]
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": callback, "code_verifier": verifier}
        answer = self.arta.http.post(f"{self.stage.origin}/oidc/token", data=form, headers=dict(client.prove()[0]))
        return str(answer.json()["access_token"])


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    """Start a broker."""
    stage = build(enrolled=frozenset({"arta"}), port=free_port(), treasury_port=free_port())
    with ExitStack() as stack:
        stack.callback(stage.clear)
        stage.broker.start()
        http = stack.enter_context(httpx2.Client(timeout=LIMIT_S))
        arta = Staff("arta", stage.origin, stage.seeded.passkeys["arta"], http)
        assert arta.sign_in().status == 200
        yield House(stage, arta)


def environment(**given: str) -> dict[str, str]:
    """Return the environment of an example."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **given}


def allowed(issuer: str) -> str:
    """Return what an example is told of test tokens: 1 where the test's own issuer signs."""
    return "1" if MARK in issuer else ""


def start_fastapi(started: Started, folder: Path, issuer: str, audience: str) -> str:
    """Start the FastAPI example; return its address."""
    port = str(free_port())
    command = [sys.executable, "-m", "granian", "--interface", "asgi", "--working-dir", str(EXAMPLES / "fastapi")]
    given = environment(BROKER=issuer, AUDIENCE=audience, ALLOW_DEV=allowed(issuer))
    origin = f"http://127.0.0.1:{port}"
    started([*command, "--port", port, "app:app"], f"{origin}/livez", folder / "fastapi.log", env=given)
    return origin


def start_node(started: Started, folder: Path, issuer: str, audience: str) -> str:
    """Start the Node example; return its address."""
    origin = f"http://127.0.0.1:{free_port()}"
    given = environment(ISSUER=issuer, AUDIENCE=audience, PORT=origin.rpartition(":")[2])
    place = install(EXAMPLES / "node")
    return started([str(node()), str(place / "server.mjs")], origin, folder / "node.log", env=given, cwd=place)


def start_backend(started: Started, folder: Path, issuer: str, audience: str) -> str:
    """Start the backend for proxies; return its address."""
    origin = f"http://127.0.0.1:{free_port()}"
    given = environment(BROKER=issuer, AUDIENCE=audience, PORT=origin.rpartition(":")[2], ALLOW_DEV=allowed(issuer))
    return started([sys.executable, "-m", "examples.backend"], origin, folder / "backend.log", env=given, cwd=ROOT)


def status(url: str, token: str) -> int:
    """Return what a page answers to a token."""
    return httpx2.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=LIMIT_S).status_code


def wait_for(held: Callable[[], bool]) -> None:
    """Wait until something holds."""
    limit = SystemClock().monotonic() + LIMIT_S
    while not held():
        assert SystemClock().monotonic() < limit, "it did not come"
        PAUSE.wait(0.1)


# ---------------------------------------------------------------- with a real broker


@pytest.mark.covers("R38")
def test_the_flask_example_signs_in_and_is_told_of_the_end(house: House, started: Started, tmp_path: Path) -> None:
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    client = house.register(
        origin, backchannel_logout_uri=f"{origin}/logged-out", post_logout_redirect_uris=[f"{origin}/"]
    )
    (tmp_path / "secret").write_text(f"{client.secret}\n")
    given = environment(
        BROKER=house.stage.origin,
        CLIENT_ID=client.client_id,
        CLIENT_SECRET_FILE=str(tmp_path / "secret"),
        AUDIENCE=house.stage.treasury_origin,
        PORT=str(port),
    )
    started([sys.executable, str(EXAMPLES / "oidc-flask" / "app.py")], origin, tmp_path / "flask.log", env=given)
    arta = house.arta
    assert arta.get(f"{origin}/").status == 401
    grant = house.ask()
    page = arta.open_target(f"{origin}/sign-in")
    assert (page.status, "Arta Krasniqi is here as viewer of treasury." in page.text) == (200, True)
    assert arta.http.post(f"{origin}/logged-out", data={"logout_token": "x.y.z"}).status_code == 400
    assert arta.get(f"{origin}/").status == 200
    house.hand_back(grant)
    db = house.database()

    def told() -> bool:
        with db.read() as view:
            return any(row.client_id == client.client_id and row.delivered for row in deliveries(view))

    wait_for(told)
    db.close()
    assert arta.get(f"{origin}/").status == 401
    # Signing out from the application's side leads to the broker, which asks the person.
    again = house.ask()
    assert arta.open_target(f"{origin}/sign-in").status == 200
    assert arta.http.post(f"{origin}/sign-out").status_code == 403
    left = arta.send("POST", f"{origin}/sign-out")
    assert left.location.startswith(f"{house.stage.origin}/oidc/logout?")
    assert arta.get(f"{origin}/").status == 401
    house.hand_back(again)


@pytest.mark.covers("R38")
def test_an_answer_that_this_browser_did_not_ask_for_signs_nobody_in(
    house: House, started: Started, tmp_path: Path
) -> None:
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    (tmp_path / "secret").write_text("x")
    given = environment(
        BROKER=house.stage.origin, CLIENT_ID="x", CLIENT_SECRET_FILE=str(tmp_path / "secret"), PORT=str(port)
    )
    started([sys.executable, str(EXAMPLES / "oidc-flask" / "app.py")], origin, tmp_path / "flask.log", env=given)
    issuer = house.stage.origin
    assert httpx2.get(f"{origin}/callback", params={"code": "x", "state": "y", "iss": issuer}).status_code == 403
    assert httpx2.get(f"{origin}/callback", params={"code": "x", "state": "y"}).status_code == 400


@pytest.mark.parametrize("start", [start_fastapi, start_node], ids=["fastapi", "node"])
def test_an_api_takes_the_brokers_token_until_its_access_ends(
    house: House, started: Started, tmp_path: Path, start: Callable[..., str]
) -> None:
    client = house.register("http://127.0.0.1:9")
    url = f"{start(started, tmp_path, house.stage.origin, house.stage.treasury_origin)}/orders"
    grant = house.ask()
    token = house.token(grant, client, "http://127.0.0.1:9/callback")
    assert [status(url, token), status(url, "x"), status(url, token[:-4])] == [200, 401, 401]
    house.hand_back(grant)
    wait_for(lambda: status(url, token) == 401)


# ---------------------------------------------------------------- with every known bad token


@pytest.mark.covers("R32", "R33", "T-20")
@pytest.mark.parametrize("start", [start_fastapi, start_node, start_backend], ids=["fastapi", "node", "backend"])
def test_every_example_refuses_every_known_bad_token(
    started: Started, tmp_path: Path, start: Callable[..., str]
) -> None:
    issuer = DevIssuer.open(tmp_path / "dev", free_port())
    proxied = start is start_backend
    with serving(issuer):
        origin = start(started, tmp_path, issuer.issuer, "https://treasury.example")
        trial = Trial(
            issuer,
            f"{origin}/orders",
            "https://treasury.example",
            other_entitlement=start is start_fastapi,
            token_from=PROXIED if proxied else AUTHORIZATION,
            status=not proxied,
        )
        found = list(run(trial))
    assert [one for one in found if one.verdict is not Verdict.HELD] == []
    assert len(found) > 15


def test_the_fastapi_example_holds_to_what_people_signed_for(started: Started, tmp_path: Path) -> None:
    issuer = DevIssuer.open(tmp_path / "dev", free_port())
    with serving(issuer):
        origin = start_fastapi(started, tmp_path, issuer.issuer, "https://treasury.example")

        def release(number: str, order: str, cents: int, **change: Any) -> int:
            claims = issuer.claims(
                audience="https://treasury.example",
                target="treasury",
                entitlement="releaser",
                now=wall_time(),
                inputs={"order": order, "amount_cents": cents},
            )
            headers = {"Authorization": f"Bearer {issuer.mint(claims | change)}"}
            return httpx2.post(f"{origin}/orders/{number}/release", headers=headers, timeout=LIMIT_S).status_code

        assert release("TR-000418", "TR-000417", 10_000) == 403
        assert release("TR-000418", "TR-000418", 4_199) == 403
        assert release("TR-000418", "TR-000418", 4_200, auth_time=int(wall_time()) - 901) == 401
        assert release("TR-000418", "TR-000418", 4_200) == 200
        assert release("TR-000418", "TR-000418", 4_200) == 409
        assert release("TR-999999", "TR-999999", 1) == 404


def test_the_node_verifier_is_short() -> None:
    assert len((EXAMPLES / "node" / "verify.mjs").read_text().splitlines()) <= 40
