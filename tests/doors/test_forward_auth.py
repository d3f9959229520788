"""Real nginx and Caddy with the shipped configurations: does anything reach the application that should not?

The proof is the application's own access log: whatever is tried without live access, it stays empty.
"""

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from jitaccess.broker import joining, knocks
from jitaccess.broker.clients import add_proxied, registered
from jitaccess.clock import SystemClock
from jitaccess.demo.staff import Staff
from jitaccess.demo.stage import Stage, build
from jitaccess.domain.forwarded import APP_COOKIE, FOREIGN_NAMES, HEADERS, spellings
from jitaccess.domain.values import LOCAL
from jitaccess.outbound.guard import Reach
from jitaccess.sdk import FetchedKeys, Verifier
from jitaccess.store.db import Database
from jitaccess.tokens.keys import Keyring, read_wrapping_key
from tests.doors.proxies import Application, Line, Proxy, start_proxy
from tests.support import postgres
from tests.support.ports import free_port

pytestmark = pytest.mark.slow
LIMIT_S = 60


SPOOFED = {spelling: "evil" for name in HEADERS for spelling in spellings(name)}


@dataclass(slots=True)
class House:
    """A broker, an application, a proxy between the world and it, and Arta with access."""

    stage: Stage
    application: Application
    proxy: Proxy
    staff: Staff

    def enter(self) -> str:
        """Let Arta ask for access and sign in through the proxy; return the Cookie header of the application's host."""
        asked = self.staff.ask("treasury", "viewer", duration_s=900, reason="look")
        assert asked.status == 200, asked.text
        self.staff.cookies.pop(self.proxy.origin.removeprefix("http://"), None)
        page = f"{self.proxy.origin}/inside?x=1"
        led = self.staff.get(page).location
        done = self.staff.open_target(led if led.startswith(self.proxy.origin) else page)
        assert done.status == 200, done.text
        assert done.text == "inside"
        assert self.application.log[-1].line == "GET /inside?x=1 HTTP/1.1"
        self.application.log.clear()
        return f"{APP_COOKIE}={self.staff.cookies[self.proxy.origin.removeprefix('http://')][APP_COOKIE]}"

    def refused(self, target: str, headers: Mapping[str, str], *, method: str = "GET") -> int:
        """Send one request that must not reach the application; return the status."""
        with Line(self.proxy) as line:
            status, _, body = line.ask(target, headers, method=method)
        assert self.application.log == [], target
        assert b"inside" not in body
        assert status == 0 or status >= 300, (target, status)
        return status


@contextmanager
def opened(name: str, folder: Path, *, database: str | None = None) -> Iterator[House]:
    """Start an application, a broker and one of the proxies between them; SQLite unless another database is named."""
    application = Application()
    application.start()
    stage = build(enrolled=frozenset({"arta"}), port=free_port(), treasury_port=free_port(), database=database)
    proxy = proxied(stage, name, folder, application)
    try:
        stage.broker.start()
        with httpx2.Client(timeout=LIMIT_S) as http:
            staff = Staff("arta", stage.origin, stage.seeded.passkeys["arta"], http)
            assert staff.sign_in().status == 200
            yield House(stage, application, proxy, staff)
    finally:
        proxy.stop()
        stage.clear()
        application.stop()


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Give a running house with each of the proxies."""
    with opened(request.param, tmp_path_factory.mktemp(request.param)) as found:
        yield found


def proxied(stage: Stage, name: str, folder: Path, application: Application) -> Proxy:
    """Register an application, as `jitaccess clients add-proxied` does, and start its proxy with the id that was given to it."""
    port = free_port()
    keyring = Keyring.load(stage.settings.store.url, read_wrapping_key(stage.settings.keys.wrapping_key_file))
    db = Database(stage.settings.store.url, SystemClock(), keyring.seals)
    with db.begin(LOCAL) as tx:
        client = add_proxied(tx, target="treasury", name="Treasury", origin=f"http://localhost:{port}")
    db.close()
    broker = stage.settings.server.port
    return start_proxy(name, folder, port=port, client_id=client.id, broker=broker, application=application.port)


def client_id_of(stage: Stage, origin: str) -> str:
    """Return the id under which a proxied application is registered."""
    keyring = Keyring.load(stage.settings.store.url, read_wrapping_key(stage.settings.keys.wrapping_key_file))
    db = Database(stage.settings.store.url, SystemClock(), keyring.seals)
    with db.read() as view:
        found = next(key for key, client in registered(view).items() if client.proxied_origin == origin)
    db.close()
    return found


@pytest.fixture(scope="module")
def other(house: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Give another application of the same broker behind a proxy of its own; Arta opened the first one only."""
    application = Application()
    application.start()
    proxy = proxied(house.stage, house.proxy.name, tmp_path_factory.mktemp("other"), application)
    try:
        yield House(house.stage, application, proxy, house.staff)
    finally:
        proxy.stop()
        application.stop()


@pytest.fixture(scope="module")
def cookie(house: House) -> str:
    """Give the cookie of Arta's live access."""
    return house.enter()


@pytest.fixture(autouse=True)
def _empty(house: House) -> None:
    house.application.log.clear()


@pytest.mark.covers("R42")
def test_without_access_a_page_leads_to_sign_in_and_an_act_is_refused(house: House) -> None:
    with Line(house.proxy) as line:
        status, headers, _ = line.ask("/pay?a=b", SPOOFED)
        assert status in (302, 303)
        if headers["location"].startswith(f"{house.proxy.origin}/.jitaccess/start"):
            status, headers, _ = line.ask(headers["location"].removeprefix(house.proxy.origin))
            assert status == 303
    assert headers["location"].startswith(f"{house.stage.origin}/oidc/authorize?")
    assert headers["set-cookie"].startswith("__Host-jit-start-")
    assert house.refused("/pay", SPOOFED, method="POST") == 401


@pytest.mark.covers("R43")
@pytest.mark.parametrize("connection", ["keep-alive", "close", "keep-alive, X-Jit-User, X-Jit-Token, X-Jit-Grant"])
def test_what_a_client_says_about_itself_is_replaced(house: House, cookie: str, connection: str) -> None:
    with Line(house.proxy) as line:
        status, _, body = line.ask("/pay?a=b", {**SPOOFED, "Cookie": cookie, "Connection": connection})
    assert (status, body) == (200, b"inside")
    [reached] = house.application.log
    assert reached.line.startswith("GET /pay?a=b ")
    for name in HEADERS:
        [value] = reached.values(name)
        assert value not in ("", "evil")
    assert reached.values("X-Jit-Entitlement") == ["viewer"]
    verifier = Verifier(house.stage.origin, house.stage.treasury_origin, FetchedKeys(house.stage.origin), status=None)
    token = verifier.verify_proxied(reached.values("X-Jit-Token")[0])
    assert [token.subject] == reached.values("X-Jit-User")


AMBIGUOUS = [
    "/a/../pay",
    "/a/./pay",
    "/a/%2e%2e/pay",
    "/a%2fpay",
    "/a%5cpay",
    "//pay",
    "/a//pay",
    "/a;b/pay",
    "/pay%00",
    "/pay#x",
    "/a\\pay",
    "/pay%2",
    "/a%252fpay",
]


@pytest.mark.covers("R41", "R43", "R44")
def test_what_the_test_of_a_target_tries_finds_nothing_at_the_shipped_configurations(house: House) -> None:
    origin, others = house.proxy.origin, ["https://other.example"]
    tried = {
        joining.Step.NAMES: knocks.names(origin, house.stage.origin, others),
        joining.Step.STORIES: knocks.stories(origin, others),
        joining.Step.PATHS: knocks.paths(),
    }
    found = {
        step: joining.knocked(step, origin, several, Reach(loopback=True), lambda: False)
        for step, several in tried.items()
    }
    assert {one.outcome for one in found.values()} == {joining.Outcome.WELL}, found
    assert house.application.log == []


@pytest.mark.covers("R41")
def test_a_configuration_whose_client_id_is_not_filled_in_answers_403_to_everybody(
    house: House, tmp_path: Path
) -> None:
    """What the test of a target takes for a door that is dead, from the real servers."""
    broker = house.stage.settings.server.port
    bare = start_proxy(
        house.proxy.name,
        tmp_path,
        port=free_port(),
        client_id="CLIENT_ID",
        broker=broker,
        application=house.application.port,
    )
    try:
        with Line(bare) as line:
            assert line.ask("/")[0] == 403
    finally:
        bare.stop()
    assert house.application.log == []


@pytest.mark.covers("R44")
def test_an_ambiguous_path_reaches_nobody_even_with_access(house: House, cookie: str) -> None:
    for target in (*AMBIGUOUS, *knocks.AMBIGUOUS):
        house.refused(target, {"Cookie": cookie})


@pytest.mark.covers("R41")
def test_a_client_cannot_say_where_it_goes(house: House, cookie: str) -> None:
    for name in ("X-Forwarded-Uri", "X-Original-Url", "X-Rewrite-Url"):
        for spelling in spellings(name):
            house.refused("/a/../pay", {"Cookie": cookie, spelling: "/pay"})
    for name, value in (
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-For", "10.0.0.1"),
    ):
        with Line(house.proxy) as line:
            status, _, _ = line.ask("/pay", {"Cookie": cookie} | dict.fromkeys(spellings(name), value))
        assert status == 200, name
        assert value not in house.application.log[-1].values(name), name
        assert "evil.example" not in house.application.log[-1].values("X-Forwarded-Host")
    house.application.log.clear()
    assert house.refused("/pay", {"X-Forwarded-Host": "evil.example"}) in (302, 303)


@pytest.mark.covers("R41", "R43")
def test_access_to_one_application_opens_no_other(house: House, other: House, cookie: str) -> None:
    with Line(house.proxy) as line:
        assert line.ask("/pay", {"Cookie": cookie})[0] == 200
    first = house.proxy.origin.removeprefix("http://")
    own = other.proxy.origin.removeprefix("http://")
    for host in (
        own,
        own.upper(),
        first,
        f"{first},{own}",
        "localhost",
        "localhost.",
        "evil.example",
        f"[::1]:{house.proxy.port}",
    ):
        for more in ({}, dict.fromkeys(spellings("X-Forwarded-Host"), first), {"Forwarded": f"host={first}"}):
            for target in ("/pay", f"http://{first}/pay"):
                with Line(other.proxy, host=host) as line:
                    status, _, body = line.ask(target, {"Cookie": cookie, **more})
                assert (other.application.log, b"inside" in body) == ([], False), (host, more, target)
                assert status != 200, (host, more, target)
    with Line(
        house.proxy, host=own
    ) as line:  # the name is right, the port another one: still asked about as what it is
        line.ask("/pay", {"Cookie": cookie})
    for reached in house.application.log:
        assert reached.values("Host") == [first]
        assert reached.values("X-Forwarded-Host") == [first]


@pytest.mark.covers("R43")
def test_the_application_gets_its_own_cookies_and_no_second_story(house: House, cookie: str) -> None:
    secret = cookie.partition("=")[2]
    for sent in (
        cookie,
        f"a=b; {cookie}; c=d",
        f"a=b;{cookie}",
        f"a=b; c=d; {cookie.replace('=', ' = ')}",
        f"{cookie};a=b; c=d",
    ):
        with Line(house.proxy) as line:
            assert line.ask("/pay", {"Cookie": sent})[0] == 200, sent
        got = house.application.log[-1].values("Cookie")
        assert secret not in "".join(got), sent
        kept = {part.strip() for part in "".join(got).split(";")} - {""}
        assert kept == {part for part in ("a=b", "c=d") if part in sent}, sent
    stories = {
        "Forwarded": "host=evil.example",
        "X-Original-Url": "/evil",
        "X-Rewrite-Url": "/evil",
        "X-Http-Method-Override": "DELETE",
        "X-Http-Method": "DELETE",
        "X-Method-Override": "DELETE",
        "X-Forwarded-Method": "DELETE",
        "X-Forwarded-Uri": "/evil",
        "X-Forwarded-Prefix": "/evil",
        "X-Forwarded-Port": "1",
        "X-Real-Ip": "10.0.0.1",
        "X-Original-Host": "evil.example",
    }
    sent_too = {spelling: value for name, value in stories.items() for spelling in spellings(name)}
    with Line(house.proxy) as line:
        assert line.ask("/pay", {"Cookie": cookie, **sent_too})[0] == 200
    told = house.application.log[-1]
    assert [name for name, value in stories.items() if value in told.values(name)] == []


@pytest.mark.covers("R43")
def test_what_other_proxies_say_of_a_person_is_taken_from_the_client(house: House, cookie: str) -> None:
    for twins in (False, True):
        sent = {name.replace("-", "_") if twins else name: "mallory" for name in FOREIGN_NAMES}
        with Line(house.proxy) as line:
            assert line.ask("/pay", {"Cookie": cookie, **sent})[0] == 200
        told = house.application.log[-1]
        assert [name for name in FOREIGN_NAMES if "mallory" in told.values(name)] == []


@pytest.mark.covers("R43")
@pytest.mark.parametrize("name", ["nginx", "caddy"])
def test_a_signed_header_as_long_as_inputs_may_be_comes_through(name: str, tmp_path: Path) -> None:
    long = "t" * 12_000  # twenty inputs of 200 characters, each of three bytes in base64
    broker, application = Application(says=dict.fromkeys(HEADERS, "x") | {"X-Jit-Token": long}), Application()
    for each in (broker, application):
        each.start()
    proxy = start_proxy(
        name, tmp_path, port=free_port(), client_id="c", broker=broker.port, application=application.port
    )
    try:
        with Line(proxy) as line:
            assert line.ask("/pay")[0] == 200
    finally:
        proxy.stop()
        for each in (broker, application):
            each.stop()
    assert application.log[-1].values("X-Jit-Token") == [long]


@pytest.mark.covers("R42")
def test_a_cookie_that_is_not_ours_reaches_nobody(house: House) -> None:
    garbage = ["x", "a" * 128, "a" * 8192, "\xff\xfe", '"', "%00", f"x; {APP_COOKIE}=y"]
    for value in garbage:
        house.refused("/pay", {"Cookie": f"{APP_COOKIE}={value}"})


@pytest.mark.covers("R45")
def test_an_end_shows_on_a_connection_that_is_kept_alive(house: House) -> None:
    cookie = house.enter()
    with Line(house.proxy) as line:
        assert line.ask("/pay", {"Cookie": cookie})[0] == 200
        grant = house.application.log[-1].values("X-Jit-Grant")[0]
        assert house.staff.post(f"/api/grants/{grant}/hand-back").status == 200
        house.application.log.clear()
        assert line.ask("/pay", {"Cookie": cookie})[0] in (302, 303)
    assert house.application.log == []


def await_stopped(group: int) -> None:
    """Wait until every thread of a process group stands still: a stop takes effect once each of them is given a core."""
    while set(states_of(group)) != {"T"}:
        time.sleep(0.01)


def states_of(group: int) -> Iterator[str]:
    """Give the state of each thread of a process group (Linux)."""
    for path in Path("/proc").glob("[0-9]*/task/*/stat"):
        with suppress(OSError):  # it ended meanwhile
            state, _, of, *_ = path.read_text().rpartition(")")[2].split()
            if int(of) == group:
                yield state


@pytest.mark.covers("R42")
def test_a_broker_that_hangs_or_is_gone_lets_nobody_through(house: House, cookie: str) -> None:
    process = house.stage.broker.process
    assert process is not None
    os.killpg(process.pid, signal.SIGSTOP)
    try:
        await_stopped(process.pid)
        assert house.refused("/pay", {"Cookie": cookie}) >= 500
    finally:
        os.killpg(process.pid, signal.SIGCONT)
    os.killpg(process.pid, signal.SIGKILL)
    assert house.refused("/pay", {"Cookie": cookie}) >= 500
    house.stage.broker.stop()
    house.stage.broker.start()
    with Line(house.proxy) as line:
        assert line.ask("/pay", {"Cookie": cookie})[0] == 200


@pytest.mark.covers("R42")
def test_a_broker_without_its_database_lets_nobody_through(house: House, tmp_path: Path) -> None:
    try:
        server = postgres.start()
    except postgres.NoPostgres as missing:
        pytest.skip(str(missing))
    stopped = False
    try:
        with opened(house.proxy.name, tmp_path, database=server.create_database()) as other:
            cookie = other.enter()
            with Line(other.proxy) as line:
                assert line.ask("/pay", {"Cookie": cookie})[0] == 200
                other.application.log.clear()
                server.stop()
                stopped = True
                for _ in range(3):  # kept alive and new, with access that is good as far as anybody knows
                    status, _, body = line.ask("/pay", {"Cookie": cookie})
                    assert status == 0 or status >= 500, status
                    assert b"inside" not in body
                    assert other.refused("/pay", {"Cookie": cookie}) >= 500
                other.refused("/pay", {**SPOOFED, "Cookie": cookie}, method="POST")
            assert other.application.log == []
    finally:
        if not stopped:
            server.stop()
