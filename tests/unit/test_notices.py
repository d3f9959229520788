"""When may a notice leave, and is a webhook sent only where it may go, signed so that its receiver can tell?"""

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitaccess.broker import webhooks
from jitaccess.broker.channels import channels
from jitaccess.broker.outbound import NotDelivered
from jitaccess.domain.notices import release_at
from jitaccess.errors import JitError, Kind
from jitaccess.settings import Channel, Notify, Settings

BELGRADE = ZoneInfo("Europe/Belgrade")
KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
MORNING = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)  # 10:30 in Belgrade
NIGHT = datetime(2026, 11, 23, 22, 30, tzinfo=UTC)  # 23:30
QUIET = (22 * 60, 7 * 60)


@pytest.mark.parametrize(
    ("now", "chosen", "leaves"),
    [
        (MORNING, {}, MORNING),
        (MORNING, {"quiet": QUIET}, MORNING),
        (NIGHT, {"quiet": QUIET}, datetime(2026, 11, 24, 6, 0, tzinfo=UTC)),
        (NIGHT + timedelta(hours=4), {"quiet": QUIET}, datetime(2026, 11, 24, 6, 0, tzinfo=UTC)),
        (MORNING, {"quiet": (9 * 60, 12 * 60)}, datetime(2026, 11, 23, 11, 0, tzinfo=UTC)),
        (MORNING, {"digest": "hour"}, datetime(2026, 11, 23, 10, 0, tzinfo=UTC)),
        (MORNING, {"digest": "day", "digest_minute": 480}, datetime(2026, 11, 24, 7, 0, tzinfo=UTC)),
        (MORNING, {"digest": "day", "digest_minute": 660}, datetime(2026, 11, 23, 10, 0, tzinfo=UTC)),
        (MORNING, {"digest": "day", "of_use_until": MORNING + timedelta(hours=1)}, MORNING),
        (
            NIGHT,
            {"digest": "day", "of_use_until": NIGHT + timedelta(hours=1), "quiet": QUIET},
            datetime(2026, 11, 24, 6, 0, tzinfo=UTC),
        ),
    ],
)
def test_a_notice_leaves_after_digest_and_quiet_hours(now: datetime, chosen: dict[str, Any], leaves: datetime) -> None:
    assert release_at(now, BELGRADE, **chosen) == leaves


@given(
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 # bounds are naive
    st.integers(0, 1439),
    st.integers(0, 1439),
    st.sampled_from(["", "hour", "day"]),
)
def test_no_notice_leaves_before_it_was_told_or_later_than_two_days(
    now: datetime, start: int, end: int, digest: str
) -> None:
    moment = release_at(now, BELGRADE, digest=digest, digest_minute=end, quiet=(start, end))
    assert now <= moment <= now + timedelta(days=2, hours=2)


# ---------------------------------------------------------------- webhooks


class Receiver(BaseHTTPRequestHandler):
    """Keeps what it gets and answers as told."""

    got: ClassVar[list[tuple[str, dict[str, str], bytes]]] = []
    answer: ClassVar[tuple[int, str]] = (204, "")

    def do_POST(self) -> None:
        """Take a message."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.got.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        status, where = self.answer
        self.send_response(status)
        if where:
            self.send_header("Location", where)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[str]:
    """Give the address of a receiver on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = Thread(target=server.serve_forever)
    thread.start()
    Receiver.got.clear()
    Receiver.answer = (204, "")
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def send(url: str, **more: Any) -> None:
    webhooks.post(url, KEY, message_id="msg_1", timestamp=1_764_000_000, body={"type": "grant_ended"}, **more)


def test_a_webhook_is_signed_as_the_standard_says(receiver: str) -> None:
    send(f"{receiver}/hook")
    ((path, headers, body),) = Receiver.got
    assert path == "/hook"
    assert json.loads(body) == {"type": "grant_ended"}
    assert headers["webhook-id"] == "msg_1"
    expected = hmac.new(KEY, b"msg_1.1764000000." + body, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(expected).decode()
    assert webhooks.secret_bytes(SECRET) == KEY


@pytest.mark.parametrize("answer", [(302, "/elsewhere"), (500, ""), (410, "")])
def test_a_redirect_is_not_followed_and_an_error_is_told(receiver: str, answer: tuple[int, str]) -> None:
    Receiver.answer = answer
    with pytest.raises(NotDelivered, match=f"status_{answer[0]}"):
        send(f"{receiver}/hook")
    assert len(Receiver.got) == 1


def test_nobody_there_is_told_by_kind_and_without_the_address(receiver: str, free_port: int) -> None:
    with pytest.raises(NotDelivered) as refused:
        send(f"http://127.0.0.1:{free_port}/secret-path")
    assert "secret-path" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://hooks.example/x", True),
        ("http://127.0.0.1:9/x", True),
        ("http://localhost/x", True),
        ("http://hooks.example/x", False),
        ("https://user:pw@hooks.example/x", False),
        ("ftp://hooks.example/x", False),
        ("https:///x", False),
        ("http://localhost.hooks.example/x", False),
    ],
)
def test_webhooks_go_over_https_or_stay_on_this_machine(url: str, good: bool) -> None:
    if good:
        webhooks.check_address(url)
    else:
        with pytest.raises(JitError):
            webhooks.check_address(url)


def test_an_address_that_is_not_public_is_not_called() -> None:
    with pytest.raises(NotDelivered, match="address_not_allowed"):
        send("https://0.0.0.0/x")


@pytest.mark.covers("R73")
@pytest.mark.parametrize(
    ("name", "channel"),
    [
        ("mail", {"url": "json://localhost/"}),
        ("a b", {"url": "json://localhost/"}),
        ("chat", {"url": "nonsense"}),
        ("chat", {"url": "json://localhost/", "kinds": ["gossip"]}),
        ("hook", {"kind": "webhook", "url": "http://hooks.example/", "secret": SECRET}),
        ("hook", {"kind": "webhook", "url": "https://hooks.example/", "secret": "short"}),
        ("hook", {"kind": "webhook", "url": "https://hooks.example/", "secret": "whsec_c2hvcnQ="}),
    ],
)
def test_a_channel_that_cannot_work_is_refused_at_the_start(name: str, channel: dict[str, Any]) -> None:
    settings = Settings(notify=Notify(channels={name: Channel(**channel)}))
    with pytest.raises(JitError) as refused:
        channels(settings)
    assert refused.value.kind is Kind.CONFIGURATION
    assert "hooks.example" not in str(refused.value)


def test_settings_do_not_show_addresses_and_secrets() -> None:
    settings = Settings(notify=Notify(channels={"sms": Channel(url="json://user:pw@localhost/{to}", secret=SECRET)}))
    assert "pw" not in repr(settings)
    assert SECRET not in repr(settings)
    assert channels(settings)["sms"].shared is False
