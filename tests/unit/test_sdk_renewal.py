"""Does a broker that hangs cost a request a moment at most, however many threads ask and whatever keys their tokens name?"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from joserfc.jwk import ECKey

from jitaccess.sdk import FetchedKeys, StatusCheck, TokenRefused
from jitaccess.sdk.keys import REFETCH_AFTER_S, static_keys
from jitaccess.sdk.renewal import REST_S, Renewal
from jitaccess.tokens.status import mint_status_list

NOW = 1_800_000_000
KEY = ECKey.generate_key("P-256", {"kid": "k1"})
JWKS = {"keys": [{**KEY.as_dict(private=False), "kid": "k1"}]}
TIMEOUT_S = 0.4
MANY = 12


@dataclass(slots=True)
class Hanging:
    """A broker that takes every connection and, while it hangs, answers none."""

    issuer: str = ""
    now: float = NOW
    asked: list[str] = field(default_factory=list)
    hangs: bool = True
    body: Callable[[str], bytes] = field(default=lambda path: b"")
    gone: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def broker() -> Iterator[Hanging]:
    """Give one on a real socket."""
    found = Hanging()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            if found.hangs:
                found.gone.wait(60)
                return
            body = found.body(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    found.issuer = f"http://127.0.0.1:{server.server_address[1]}"
    yield found
    found.gone.set()
    server.shutdown()
    thread.join()
    server.server_close()


def at_once(act: Callable[[int], object]) -> list[str | None]:
    """Let many threads do the same; return why each was refused, or None."""

    def tried(number: int) -> str | None:
        try:
            act(number)
        except TokenRefused as refused:
            return refused.code
        return None

    with ThreadPoolExecutor(MANY) as pool:
        return list(pool.map(tried, range(MANY)))


def status_check(broker: Hanging) -> tuple[StatusCheck, dict[str, Any]]:
    """Return a check whose clock the test moves, and the claims of a token that has not ended."""
    check = StatusCheck(broker.issuer, static_keys(JWKS), timeout_s=TIMEOUT_S, clock=lambda: broker.now)
    uri = f"{broker.issuer}/oidc/status/a"
    broker.body = lambda path: mint_status_list(
        KEY, issuer=broker.issuer, uri=uri, ended=set(), size=64, now=datetime.fromtimestamp(broker.now, UTC)
    ).encode()
    return check, {"status": {"status_list": {"idx": 1, "uri": uri}}}


@pytest.mark.covers("R42")
def test_a_list_at_hand_serves_everybody_while_one_thread_asks_a_broker_that_hangs(broker: Hanging) -> None:
    check, claims = status_check(broker)
    broker.hangs = False
    check(claims)
    broker.hangs = True
    broker.now += 10
    assert at_once(lambda _: check(claims)) == [None] * MANY
    assert len(broker.asked) == 2, "one asked, for all of them"
    assert at_once(lambda _: check(claims)) == [None] * MANY
    assert len(broker.asked) == 2, "and a failure is kept for some seconds"
    broker.now += REST_S
    assert at_once(lambda _: check(claims)) == [None] * MANY
    assert len(broker.asked) == 3
    broker.now += 60
    assert at_once(lambda _: check(claims)) == ["unreachable"] * MANY, "the list is over"
    broker.hangs = False
    broker.now += REST_S
    check(claims)


@pytest.mark.covers("R42")
def test_without_any_list_everybody_is_refused_after_one_question(broker: Hanging) -> None:
    check, claims = status_check(broker)
    assert at_once(lambda _: check(claims)) == ["unreachable"] * MANY
    assert len(broker.asked) == 1


@pytest.mark.covers("R35", "R42")
def test_kids_that_somebody_made_up_ask_the_broker_once_and_keep_nobody_else_waiting(broker: Hanging) -> None:
    keys = FetchedKeys(broker.issuer, timeout_s=TIMEOUT_S, clock=lambda: broker.now)
    broker.body = lambda path: str(JWKS).replace("'", '"').encode()
    broker.hangs = False
    assert keys("k1") is not None
    broker.hangs = True
    broker.now += REFETCH_AFTER_S
    assert at_once(lambda n: keys(f"made-up-{n}")) == [None] * MANY
    assert len(broker.asked) == 2
    assert at_once(lambda n: keys(f"made-up-{n}" if n % 2 else "k1")) == [None] * MANY
    assert len(broker.asked) == 2
    broker.now += 250  # old enough to be renewed, and still good
    assert at_once(lambda _: keys("k1")) == [None] * MANY
    assert len(broker.asked) == 3
    broker.now += 100
    assert at_once(lambda _: keys("k1")) == ["unreachable"] * MANY
    assert len(broker.asked) == 4


def test_the_rest_after_a_failure_begins_when_it_ended() -> None:
    now = [0.0]
    renewal = Renewal(lambda: now[0])

    def slow() -> bool:
        now[0] += 10
        return False

    renewal.run(slow, patience_s=0)
    now[0] += REST_S - 0.1
    renewal.run(slow, patience_s=0)
    assert (now[0], renewal.failing) == (10 + REST_S - 0.1, True)
    now[0] += 0.2
    renewal.run(lambda: True, patience_s=0)
    assert not renewal.failing


def test_what_a_fetch_raises_comes_through_and_counts() -> None:
    renewal = Renewal(lambda: 0.0)

    def broken() -> bool:
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        renewal.run(broken, patience_s=0)
    assert renewal.failing
    renewal.run(broken, patience_s=0)
