"""Do the shipped front of the broker and the shipped proxies of applications work together, and is nobody else heard there?"""

import http.client
from collections.abc import Iterator

import httpx2
import pytest

from jitaccess.demo.staff import Staff
from jitaccess.demo.stage import build
from jitaccess.oidc.forward_auth import APP_COOKIE, HEADERS
from tests.doors.proxies import Application, Line, start_deployed
from tests.doors.test_forward_auth import LIMIT_S, House, client_id_of, proxied
from tests.support.ports import free_port

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Give a broker behind `deploy/nginx.conf`, and an application whose proxy asks it there, at its public address."""
    stage = build(enrolled=frozenset({"arta"}), port=free_port(), treasury_port=free_port())
    public, inner = stage.settings.server.port, free_port()
    text = stage.config.read_text()
    assert f"port = {public}\n" in text
    stage.config.write_text(text.replace(f"port = {public}\n", f'port = {inner}\ntrusted_proxies = ["127.0.0.1"]\n'))
    application = Application()
    application.start()
    front = start_deployed(tmp_path_factory.mktemp("front"), port=public, broker=inner)
    proxy = proxied(stage, request.param, tmp_path_factory.mktemp(request.param), application)
    try:
        stage.broker.start()  # its health is asked for at the public address, so through the front
        with httpx2.Client(timeout=LIMIT_S) as http:
            staff = Staff("arta", stage.origin, stage.seeded.passkeys["arta"], http)
            assert staff.sign_in().status == 200
            yield House(stage, application, proxy, staff)
    finally:
        proxy.stop()
        front.stop()
        stage.clear()
        application.stop()


@pytest.fixture(scope="module")
def cookie(house: House) -> str:
    """Give the cookie of Arta's live access."""
    return house.enter()


def ask(house: House, cookie: str, path: str, *, source: str, **more: str) -> tuple[int, str]:
    """Ask the broker's public address what a proxy asks, from an address of this machine; return the status and X-Jit-User."""
    headers = {
        "X-Forwarded-Method": "GET",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Host": house.proxy.origin.removeprefix("http://"),
        "X-Forwarded-Uri": "/pay",
        "Cookie": cookie,
    } | more
    port = house.stage.settings.server.port
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S, source_address=(source, 0))
    try:
        connection.request("GET", path, headers=headers | {"Host": f"localhost:{port}"})
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers.get("X-Jit-User", "")
    finally:
        connection.close()


@pytest.mark.covers("R41", "R43")
def test_a_person_gets_through_and_the_end_shows(house: House) -> None:
    cookie = house.enter()
    with Line(house.proxy) as line:
        assert line.ask("/pay?a=b", {"Cookie": cookie})[0] == 200
        [reached] = house.application.log
        assert all(reached.values(name) != [""] for name in HEADERS)
        assert house.staff.post(f"/api/grants/{reached.values('X-Jit-Grant')[0]}/hand-back").status == 200
        house.application.log.clear()
        assert line.ask("/pay?a=b", {"Cookie": cookie})[0] in (302, 303)
    assert house.application.log == []


@pytest.mark.covers("R41")
def test_at_the_public_address_only_the_proxies_of_applications_are_heard(house: House, cookie: str) -> None:
    name = client_id_of(house.stage, house.proxy.origin)
    path = f"/forward-auth/{name}"
    assert ask(house, cookie, path, source="127.0.0.1")[0] == 200
    for tried in (
        path,
        f"//forward-auth/{name}",
        f"/x/../forward-auth/{name}",
        f"/forward-auth%2f{name}",
        f"/./forward-auth/{name}",
    ):
        for more in ({}, {"X-Forwarded-For": "127.0.0.1"}, {"Forwarded": "for=127.0.0.1"}):
            status, user = ask(house, cookie, tried, source="127.0.0.2", **more)
            assert (status >= 400, user) == (True, ""), (tried, more)
    for tried in (f"/proxied/{name}/start", f"/proxied/{name}/callback?code=x&state=y"):
        assert ask(house, cookie, tried, source="127.0.0.2")[0] == 403
    assert cookie.startswith(f"{APP_COOKIE}=")
