"""How long is "revoked" not yet everywhere? From the revocation's answer to the refusal by each way in which a target learns of it.

A real broker (`jitaccess serve`: granian, SQLite with synchronous=FULL, its own sweep) on loopback, asked over HTTP as a target asks. Each
run opens a grant, lets an administrator revoke it through the API, and then looks every few milliseconds: introspection, the refresh
token, the status list fetched at each look, the status list through the SDK as shipped (refetch after 3 s), forward-auth as a proxy asks
it about a browser that is signed in to a proxied application, and the application's back-channel logout endpoint. The clock starts when
the revocation's answer arrives: nothing before that was promised.
"""

import argparse
import base64
import hashlib
import http.client
import json
import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2

from benchmarks.measure import machine_line, quantile
from jitaccess.broker.clients import add_client, add_proxied
from jitaccess.clock import SystemClock
from jitaccess.demo.staff import Staff
from jitaccess.demo.stage import Stage, build
from jitaccess.domain.forwarded import APP_COOKIE
from jitaccess.domain.values import LOCAL
from jitaccess.sdk import ClientSecret, FetchedKeys, StatusCheck, TokenRefused, Verifier
from jitaccess.sdk.status import REFRESH_S
from jitaccess.store.db import Database
from jitaccess.tokens.keys import Keyring, read_wrapping_key

LOOK_EVERY_S = 0.005
LIMIT_S = 60.0
CALLBACK = "http://127.0.0.1:8001/callback"
PROXIED = "http://localhost:8082"
"""The address of a proxied application; no proxy stands there: the questions that one would ask are asked directly."""


@dataclass(slots=True)
class Told:
    """An application's logout endpoint: when each sign-in's end arrived."""

    url: str = ""
    at: dict[str, float] = field(default_factory=dict)


@contextmanager
def listening() -> Iterator[Told]:
    """Listen on loopback."""
    told = Told()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            told.at.setdefault(unverified(parse_qs(body)["logout_token"][0])["sid"], time.perf_counter())
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    told.url = f"http://127.0.0.1:{server.server_address[1]}/logout"
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()


def unverified(token: str) -> dict[str, Any]:
    """Return a token's claims."""
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    return found


def register(stage: Stage, told: Told) -> tuple[ClientSecret, str]:
    """Register the measuring client, and a proxied application of the same target; return the one and the id of the other."""
    keys = Keyring.load(stage.settings.store.url, read_wrapping_key(stage.settings.keys.wrapping_key_file))
    db = Database(stage.settings.store.url, SystemClock(), keys.seals)
    with db.begin(LOCAL) as tx:
        client, secret = add_client(
            tx, target="treasury", name="Measuring", redirect_uris=[CALLBACK], backchannel_logout_uri=told.url
        )
        proxied = add_proxied(tx, target="treasury", name="Proxied", origin=PROXIED)
    db.close()
    return ClientSecret(client.id, secret or ""), proxied.id


@dataclass(slots=True)
class Target:
    """A target system: it gets tokens and asks about them."""

    stage: Stage
    credential: ClientSecret
    proxied_id: str
    told: Told
    arta: Staff
    agim: Staff
    sdk: Verifier
    eager: Verifier
    local: threading.local = field(default_factory=threading.local)
    opened: list[http.client.HTTPConnection] = field(default_factory=list)

    def post(self, path: str, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """POST a form on this thread's kept-alive connection; one that the server closed meanwhile is opened anew."""
        headers = dict(self.credential.prove()[0]) | {"Content-Type": "application/x-www-form-urlencoded"}
        for fresh in (False, True):
            connection = self.line("target", fresh=fresh)
            try:
                connection.request("POST", path, urlencode(form), headers)
                response = connection.getresponse()
                return response.status, json.loads(response.read())
            except (ConnectionError, http.client.HTTPException):
                if fresh:
                    raise
        raise AssertionError("two tries, and no answer")

    def open(self) -> tuple[str, dict[str, Any]]:
        """Ask for access, open it, redeem the code; return the grant's id and the tokens."""
        filed = self.arta.ask("treasury", "viewer", duration_s=600, reason="measuring")
        assert filed.status == 200, filed
        grant = str(filed.body["grant_id"])
        verifier = secrets.token_urlsafe(48)
        query = urlencode(
            {
                "response_type": "code",
                "client_id": self.credential.client_id,
                "redirect_uri": CALLBACK,
                "scope": "openid",
                "code_challenge": challenge(verifier),
                "code_challenge_method": "S256",
            }
        )
        opened = self.arta.ceremony("/oidc/authorize", {"query": query, "grant_id": grant})
        assert opened.status == 200, opened
        code = parse_qs(urlsplit(str(opened.body["redirect"])).query)["code"][0]
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "code_verifier": verifier}
        status, tokens = self.post("/oidc/token", form)
        assert status == 200, tokens
        return grant, tokens

    def forwarded(self, path: str, uri: str, cookie: str) -> tuple[int, http.client.HTTPMessage]:
        """Ask as a proxy does about one request of the proxied application; return status and headers."""
        headers = {
            "X-Forwarded-Method": "GET",
            "X-Forwarded-Proto": "http",
            "X-Forwarded-Host": urlsplit(PROXIED).netloc,
            "X-Forwarded-Uri": uri,
            **({"Cookie": cookie} if cookie else {}),
        }
        for fresh in (False, True):
            connection = self.line("proxy", fresh=fresh)
            try:
                connection.request("GET", path, headers=headers)
                response = connection.getresponse()
                response.read()
                return response.status, response.headers
            except (ConnectionError, http.client.HTTPException):
                if fresh:
                    raise
        raise AssertionError("two tries, and no answer")

    def line(self, asker: str, *, fresh: bool) -> http.client.HTTPConnection:
        """Return this thread's kept-alive connection of the target or its proxy, or a new one."""
        known: http.client.HTTPConnection | None = getattr(self.local, asker, None)
        if known is None or fresh:
            port = urlsplit(self.stage.origin).port or 80
            known = http.client.HTTPConnection("localhost", port, timeout=LIMIT_S)
            setattr(self.local, asker, known)
            self.opened.append(known)
        return known

    def close(self) -> None:
        """Close the connections of all threads."""
        for connection in self.opened:
            connection.close()

    def enter(self, grant: str) -> str:
        """Sign a browser in to the proxied application under a grant; return the cookie that it gets there."""
        status, led = self.forwarded(f"/proxied/{self.proxied_id}/start", "/", "")
        assert status == 303, led
        query = urlsplit(str(led["Location"])).query
        opened = self.arta.ceremony("/oidc/authorize", {"query": query, "grant_id": grant})
        assert opened.status == 200, opened
        back = urlsplit(str(opened.body["redirect"]))
        start = str(led["Set-Cookie"]).partition(";")[0]
        status, found = self.forwarded(
            f"/proxied/{self.proxied_id}/callback?{back.query}", f"{back.path}?{back.query}", start
        )
        assert status == 303, found
        cookies = (line.partition(";")[0] for line in found.get_all("Set-Cookie", []))
        return next(cookie for cookie in cookies if cookie.startswith(f"{APP_COOKIE}="))

    def passes(self, cookie: str) -> bool:
        """Say whether a proxy would let a request with this cookie through."""
        return self.forwarded(f"/forward-auth/{self.proxied_id}", "/inside", cookie)[0] == 200

    def looks(self, tokens: dict[str, Any], cookie: str) -> dict[str, Callable[[], bool]]:
        """Return each way, as a look that says whether the token, or the browser at the proxy, is refused by now."""
        access, renewing, sid = tokens["access_token"], [tokens["refresh_token"]], unverified(tokens["id_token"])["sid"]

        def introspected() -> bool:
            return self.post("/oidc/introspect", {"token": access})[1] == {"active": False}

        def renewed() -> bool:
            status, answer = self.post("/oidc/token", {"grant_type": "refresh_token", "refresh_token": renewing[0]})
            if status == 200:
                renewing[0] = answer["refresh_token"]
            return status == 400

        return {
            "introspection": introspected,
            "refresh": renewed,
            "forward-auth, asked about each request": lambda: not self.passes(cookie),
            "status list, fetched at each look": lambda: refused(self.eager, access),
            f"status list, SDK as shipped ({REFRESH_S:.0f} s)": lambda: refused(self.sdk, access),
            "back-channel logout": lambda: sid in self.told.at,
        }


def challenge(verifier: str) -> str:
    """Return the S256 challenge."""
    return base64.urlsafe_b64encode(_sha256(verifier)).decode().rstrip("=")


def _sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def refused(verifier: Verifier, token: str) -> bool:
    """Say whether a verifier refuses a token as ended."""
    try:
        verifier.verify(token)
    except TokenRefused as found:
        if found.code != "inactive":
            raise
        return True
    return False


def one_run(target: Target, pool: ThreadPoolExecutor) -> dict[str, float]:
    """Open, revoke, look; return seconds from the revocation's answer to the refusal, by way."""
    grant, tokens = target.open()
    cookie = target.enter(grant)
    assert target.passes(cookie)
    looks = target.looks(tokens, cookie)
    for verifier in (target.sdk, target.eager):
        verifier.verify(tokens["access_token"])
    revoked = target.agim.post(f"/api/grants/{grant}/revoke")
    began = time.perf_counter()
    assert revoked.status == 200, revoked

    def watch(look: Callable[[], bool]) -> float:
        while not look():
            if time.perf_counter() - began > LIMIT_S:
                raise RuntimeError("the end did not arrive")
            time.sleep(LOOK_EVERY_S)
        return time.perf_counter() - began

    waiting = {name: pool.submit(watch, look) for name, look in looks.items()}
    found = {name: future.result() for name, future in waiting.items()}
    sid = unverified(tokens["id_token"])["sid"]
    found["back-channel logout"] = max(0.0, target.told.at[sid] - began)
    return found


@contextmanager
def standing(*, database: str | None = None, workers: int = 1) -> Iterator[Target]:
    """Start a broker, on its own SQLite file or an empty database elsewhere, and sign two people in."""
    with listening() as told:
        stage = build(enrolled=frozenset({"arta"}), database=database)
        stage.broker.environment = {
            **stage.broker.environment,
            "JIT_SERVER__WORKERS": str(workers),
            "JIT_LIMITS__REQUESTS_PER_PERSON_HOUR": "1000000",  # a person may ask as often as it takes here
        }
        try:
            credential, proxied_id = register(stage, told)
            stage.broker.start()
            with httpx2.Client(timeout=LIMIT_S) as one, httpx2.Client(timeout=LIMIT_S) as two:
                arta = Staff("Arta", stage.origin, stage.seeded.passkeys["arta"], one)
                agim = Staff("Agim", stage.origin, stage.seeded.passkeys["agim"], two)
                for person in (arta, agim):
                    assert person.sign_in().status == 200
                keys = FetchedKeys(stage.origin)
                target = Target(
                    stage,
                    credential,
                    proxied_id,
                    told,
                    arta,
                    agim,
                    _verifier(stage, keys, StatusCheck(stage.origin, keys)),
                    _verifier(stage, keys, StatusCheck(stage.origin, keys, refresh_s=0)),
                )
                try:
                    yield target
                finally:
                    target.close()
        finally:
            stage.clear()


def _verifier(stage: Stage, keys: FetchedKeys, status: StatusCheck) -> Verifier:
    return Verifier(stage.origin, stage.treasury_origin, keys, status=status)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    runs = parser.parse_args().runs
    print(machine_line())
    found: dict[str, list[float]] = defaultdict(list)
    with standing() as target, ThreadPoolExecutor(8) as pool:
        one_run(target, pool)
        for _ in range(runs):
            for name, seconds in one_run(target, pool).items():
                found[name].append(seconds)
    print(f'| seconds from "revoke" to refusal, {runs} runs | p50 | p99 | max |\n|---|---|---|---|')
    for name, values in found.items():
        ordered = sorted(values)
        print(f"| {name} | {quantile(ordered, 0.5):.3f} | {quantile(ordered, 0.99):.3f} | {ordered[-1]:.3f} |")


if __name__ == "__main__":
    main()
