"""Is an address called only where it may be, in bounds, and signed so that the receiver can tell who speaks?"""

import base64
import hashlib
import hmac
import json
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from jitaccess.errors import JitError
from jitaccess.outbound import guard, webhooks
from jitaccess.outbound.guard import Bounds, NotDelivered, Reach
from jitaccess.outbound.webhooks import Scheme, Signer
from jitaccess.store.ids import new_secret
from tests.support.certificates import write_certificates

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
HERE = Reach(loopback=True)


# ---------------------------------------------------------------- where


@pytest.mark.covers("R46")
@pytest.mark.parametrize(
    ("address", "local", "elsewhere"),
    [
        ("93.184.216.34", True, True),
        ("2606:4700::1111", True, True),
        ("127.0.0.1", True, False),
        ("::1", True, False),
        ("::ffff:127.0.0.1", True, False),
        ("10.1.2.3", False, False),
        ("10.20.0.7", True, True),
        ("192.168.1.1", False, False),
        ("172.16.0.1", False, False),
        ("100.64.0.1", False, False),
        ("169.254.169.254", False, False),
        ("::ffff:169.254.169.254", False, False),
        ("64:ff9b::a9fe:a9fe", False, False),
        ("2002:a9fe:a9fe::", False, False),
        ("fe80::1%eth0", False, False),
        ("fd00::1", False, False),
        ("0.0.0.0", False, False),
        ("::", False, False),
        ("224.0.0.1", False, False),
        ("255.255.255.255", False, False),
    ],
)
def test_only_public_and_named_addresses_are_called(address: str, local: bool, elsewhere: bool) -> None:
    assert Reach.of(["10.20.0.0/16"], loopback=True).allows(address) is local
    assert Reach.of(["10.20.0.0/16"], loopback=False).allows(address) is elsewhere


# ---------------------------------------------------------------- what


DRIPPING = 999


class Receiver(BaseHTTPRequestHandler):
    """Keeps what it gets and answers as told."""

    got: ClassVar[list[tuple[str, dict[str, str], bytes]]] = []
    answer: ClassVar[tuple[int, str]] = (204, "")

    def do_POST(self) -> None:
        """Take a message."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.got.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        status, where = self.answer
        if status == DRIPPING:
            self.drip()
            return
        self.send_response(status)
        if where:
            self.send_header("Location", where)
        if self.path == "/long":
            self.send_header("Content-Type", "Application/JSON; charset=utf-8")
        self.end_headers()
        if self.path == "/long":
            self.wfile.write(b"x" * 100_000)

    def drip(self) -> None:
        """Send a byte now and then, for ever."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        try:
            while True:
                self.wfile.write(b"x-drop: 1\r\n")
                time.sleep(0.05)
        except OSError:
            return

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextmanager
def receiving(context: ssl.SSLContext | None = None) -> Iterator[str]:
    """Give the address of a receiver on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever)
    thread.start()
    Receiver.got.clear()
    Receiver.answer = (204, "")
    yield f"{'http' if context is None else 'https'}://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def receiver() -> Iterator[str]:
    """Give a receiver without TLS."""
    with receiving() as address:
        yield address


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


@pytest.mark.parametrize(
    ("url", "reach", "code"),
    [
        ("https://127.0.0.1:1/x", HERE, "ConnectionRefusedError"),
        ("https:///x", HERE, "unknown_host|address_not_allowed|Refused"),
        ("https://0.0.0.0/x", HERE, "address_not_allowed"),
        ("http://127.0.0.1:99999/", HERE, "bad_address"),
        ("ftp://127.0.0.1/x", HERE, "not_https"),
    ],
)
def test_what_never_left_is_told_apart(url: str, reach: Reach, code: str) -> None:
    with pytest.raises(NotDelivered, match=code) as refused:
        guard.post(url, b"", {}, reach)
    assert not refused.value.begun


def test_an_answer_is_cut_off_at_its_limit_and_its_kind_is_told(receiver: str) -> None:
    Receiver.answer = (200, "")
    answer = guard.call(f"{receiver}/long", b"", {}, HERE, Bounds(answer_bytes=1000))
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert len(answer.unverified_body) == 1001


def test_an_answer_that_drips_holds_nobody(receiver: str) -> None:
    Receiver.answer = (DRIPPING, "")
    begun = time.monotonic()
    with pytest.raises(NotDelivered) as refused:
        guard.call(receiver, b"", {}, HERE, Bounds(wait_s=5, whole_s=0.5))
    assert refused.value.begun
    assert time.monotonic() - begun < 4


@pytest.mark.covers("R58")
def test_only_a_certificate_of_the_named_authority_is_believed(tmp_path: Path) -> None:
    write_certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    with receiving(context) as address:
        trusting = Bounds(root_ca=str(tmp_path / "ca.pem"))
        assert guard.call(address, b"", {}, HERE, trusting).status == 204
        elsewhere = address.replace("127.0.0.1", "localhost")
        for url, bounds in ((address, guard.ORDINARY), (elsewhere, trusting), (address, Bounds(root_ca="/no/such"))):
            with pytest.raises(NotDelivered) as refused:
                guard.call(url, b"", {}, HERE, bounds)
            assert not refused.value.begun
        assert len(Receiver.got) == 1


# ---------------------------------------------------------------- signatures


def test_the_standards_own_example_comes_out_the_same() -> None:
    key = webhooks.secret_bytes("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    found = webhooks.signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b'{"test": 2432232314}')
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_an_asymmetric_signature_is_checked_with_the_public_key_alone() -> None:
    private = Ed25519PrivateKey.from_private_bytes(KEY)
    public = private.public_key().public_bytes_raw()
    for text in (KEY, KEY + public):
        signer = Signer(Scheme.ED25519, "whsk_" + base64.b64encode(text).decode())
        assert signer.shared == "whpk_" + base64.b64encode(public).decode()
        version, _, found = signer.sign("msg_1", 7, b"{}").partition(",")
        assert version == "v1a"
        Ed25519PublicKey.from_public_bytes(public).verify(base64.b64decode(found), b"msg_1.7.{}")
        with pytest.raises(InvalidSignature):
            Ed25519PublicKey.from_public_bytes(public).verify(base64.b64decode(found), b"msg_1.8.{}")


def test_both_keys_sign_while_one_is_being_exchanged() -> None:
    old, new = Signer(Scheme.HMAC, SECRET), Signer(Scheme.HMAC, new_secret())
    headers = webhooks.headers_of([old, new], "msg_1", 7, b"{}")
    assert headers["webhook-signature"] == f"{old.sign('msg_1', 7, b'{}')} {new.sign('msg_1', 7, b'{}')}"
    assert old.shared == SECRET


def test_an_id_cannot_be_taken_for_part_of_a_time() -> None:
    with pytest.raises(ValueError, match="full stop"):
        Signer(Scheme.HMAC, SECRET).sign("msg.1", 7, b"{}")


@pytest.mark.parametrize(
    ("scheme", "secret"),
    [
        (Scheme.HMAC, "whsec_c2hvcnQ="),
        (Scheme.HMAC, "whsk_" + base64.b64encode(KEY).decode()),
        (Scheme.HMAC, "not base64!" * 4),
        (Scheme.ED25519, SECRET),
        (Scheme.ED25519, "whsk_" + base64.b64encode(KEY + b"x").decode()),
        (Scheme.ED25519, "whsk_" + base64.b64encode(KEY + KEY).decode()),
    ],
)
def test_a_key_that_cannot_be_used_is_refused_without_repeating_it(scheme: Scheme, secret: str) -> None:
    with pytest.raises(ValueError, match="webhook") as refused:
        Signer(scheme, secret)
    assert secret not in str(refused.value)
