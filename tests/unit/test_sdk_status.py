"""Does the target's status check refuse what ended, and everything when it cannot know?"""

import base64
import json
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from joserfc.jwk import ECKey

from jitaccess.sdk import StatusCheck, TokenRefused
from jitaccess.sdk.keys import static_keys
from jitaccess.sdk.signed import Signed
from jitaccess.sdk.status import MAX_BITS_BYTES, pack, read_list
from jitaccess.tokens.access import sign
from jitaccess.tokens.status import mint_status_list

NOW = 1_800_000_000
KEY = ECKey.generate_key("P-256", {"kid": "k1"})
KEYS = static_keys({"keys": [{**KEY.as_dict(private=False), "kid": "k1"}]})


@dataclass(slots=True)
class Lists:
    """An issuer that serves whatever a test gives it."""

    issuer: str = ""
    now: float = NOW
    answer: Callable[[str], tuple[int, bytes]] = field(default=lambda path: (404, b""))
    asked: list[str] = field(default_factory=list)

    def signed(
        self, ended: set[int], *, at: float | None = None, size: int = 64, path: str = "/oidc/status/a"
    ) -> bytes:
        """Return a list as the broker makes it."""
        moment = datetime.fromtimestamp(self.now if at is None else at, UTC)
        uri = f"{self.issuer}{path}"
        return mint_status_list(KEY, issuer=self.issuer, uri=uri, ended=ended, size=size, now=moment).encode()

    def check(self, **changes: Any) -> StatusCheck:
        """Return a check whose clock the test moves."""
        return StatusCheck(self.issuer, KEYS, clock=lambda: self.now, **changes)

    def claims(self, index: object, list_id: str = "a") -> dict[str, Any]:
        """Return the claims of a token with this bit."""
        return {"status": {"status_list": {"idx": index, "uri": f"{self.issuer}/oidc/status/{list_id}"}}}


@pytest.fixture
def lists() -> Iterator[Lists]:
    """Give an issuer on a real socket."""
    found = Lists()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            status, body = found.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    found.issuer = f"http://127.0.0.1:{server.server_address[1]}"
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


def code_of(check: StatusCheck, claims: dict[str, Any]) -> str | None:
    """Return why a token is refused, or None."""
    try:
        check(claims)
    except TokenRefused as refused:
        return refused.code
    return None


def test_the_first_bits_are_packed_as_in_the_draft() -> None:
    # Section 4.1 of the draft, one-bit statuses: B9 A3.
    ended = {0, 3, 4, 5, 7, 8, 9, 13, 15}
    packed = pack(ended, 16)
    assert zlib.decompress(base64.urlsafe_b64decode(packed + "==")) == bytes([0xB9, 0xA3])


@pytest.mark.covers("R34")
def test_a_set_bit_refuses_and_others_do_not(lists: Lists) -> None:
    lists.answer = lambda path: (200, lists.signed({3, 63}))
    check = lists.check()
    codes = [code_of(check, lists.claims(index)) for index in (0, 3, 62, 63, 64, 10**9)]
    assert codes == [None, "inactive", None, "inactive", "no_status", "no_status"]
    assert len(lists.asked) == 1, "one list tells of all"


@pytest.mark.covers("R34")
def test_an_end_is_seen_when_the_list_is_due_again(lists: Lists) -> None:
    lists.answer = lambda path: (200, lists.signed(set()))
    check = lists.check()
    assert code_of(check, lists.claims(5)) is None
    lists.answer = lambda path: (200, lists.signed({5}))
    lists.now += 2.9
    assert code_of(check, lists.claims(5)) is None
    lists.now += 0.1
    assert code_of(check, lists.claims(5)) == "inactive"


@pytest.mark.covers("R42")
@pytest.mark.parametrize("answer", [(503, b""), (200, b"junk"), (200, b""), (404, b"{}")])
def test_without_the_broker_the_list_at_hand_counts_until_its_own_end_and_then_nothing(
    lists: Lists, answer: tuple[int, bytes]
) -> None:
    lists.answer = lambda path: (200, lists.signed({1}))
    check = lists.check()
    assert code_of(check, lists.claims(0)) is None
    lists.answer = lambda path: answer
    lists.now += 59
    assert [code_of(check, lists.claims(index)) for index in (0, 1)] == [None, "inactive"]
    lists.now += 1
    assert [code_of(check, lists.claims(index)) for index in (0, 1)] == ["unreachable"] * 2
    assert len(lists.asked) == 2, "and a broker in trouble is not asked for each token"
    lists.answer = lambda path: (200, lists.signed({1}))
    lists.now += 3
    assert code_of(check, lists.claims(0)) is None


@pytest.mark.covers("R42")
def test_a_broker_that_was_never_reached_lets_nobody_in(lists: Lists) -> None:
    assert code_of(lists.check(), lists.claims(0)) == "unreachable"


def test_an_older_list_takes_nothing_back_and_a_clock_that_went_back_asks_anew(lists: Lists) -> None:
    lists.answer = lambda path: (200, lists.signed({5}))
    check = lists.check()
    assert code_of(check, lists.claims(5)) == "inactive"
    lists.now += 10
    lists.answer = lambda path: (200, lists.signed(set(), at=NOW - 20))
    assert code_of(check, lists.claims(5)) == "inactive"
    lists.now = NOW - 5
    asked = len(lists.asked)
    assert code_of(check, lists.claims(5)) == "inactive"
    assert len(lists.asked) > asked


@pytest.mark.covers("R32", "R33")
@pytest.mark.parametrize(
    "status",
    [
        None,
        {},
        {"status_list": None},
        {"status_list": {"idx": 0}},
        {"status_list": {"idx": -1, "uri": "{base}a"}},
        {"status_list": {"idx": True, "uri": "{base}a"}},
        {"status_list": {"idx": 0.0, "uri": "{base}a"}},
        {"status_list": {"idx": "0", "uri": "{base}a"}},
        {"status_list": {"idx": 0, "uri": "https://evil.example/oidc/status/a"}},
        {"status_list": {"idx": 0, "uri": "{base}"}},
        {"status_list": {"idx": 0, "uri": "{base}../a"}},
        {"status_list": {"idx": 0, "uri": "{base}a?x=1"}},
        {"status_list": {"idx": 0, "uri": "{base}a\n"}},
    ],
)
def test_a_token_that_names_no_list_of_its_issuer_is_refused_without_a_question(lists: Lists, status: Any) -> None:
    text = json.dumps(status).replace("{base}", f"{lists.issuer}/oidc/status/")
    assert code_of(lists.check(), {"status": json.loads(text)}) == "no_status"
    assert lists.asked == []


@pytest.mark.covers("R32", "R33", "T-20")
def test_a_list_of_another_kind_address_time_or_size_is_not_used(lists: Lists) -> None:
    uri = f"{lists.issuer}/oidc/status/a"
    good: dict[str, Any] = {
        "iss": lists.issuer, "sub": uri, "iat": NOW, "exp": NOW + 60, "ttl": 5,
        "status_list": {"bits": 1, "lst": pack({1}, 64)},
    }  # fmt: skip
    bomb = base64.urlsafe_b64encode(zlib.compress(bytes(MAX_BITS_BYTES + 1))).decode().rstrip("=")

    def read(text: str) -> bytes:
        return read_list(Signed(KEYS), text.encode(), issuer=lists.issuer, uri=uri, now=NOW).bits

    assert read(sign(KEY, "statuslist+jwt", good)) == bytes([2, 0, 0, 0, 0, 0, 0, 0])
    stranger = ECKey.generate_key("P-256", {"kid": "k1"})
    attacks = [
        sign(stranger, "statuslist+jwt", good),
        sign(KEY, "at+jwt", good),
        sign(KEY, "JWT", good),
        *(
            sign(KEY, "statuslist+jwt", good | change)
            for change in (
                {"sub": uri + "b"},
                {"iss": "https://other.example"},
                {"exp": NOW},
                {"exp": None},
                {"iat": NOW + 61},
                {"status_list": {"bits": 2, "lst": pack({1}, 64)}},
                {"status_list": {"bits": 1, "lst": "AAAA"}},
                {"status_list": {"bits": 1, "lst": bomb}},
                {"status_list": {"bits": 1, "lst": pack({1}, 64)[:-4]}},
                {"status_list": {"bits": 1}},
                {"status_list": []},
            )
        ),
    ]
    for attack in attacks:
        with pytest.raises(TokenRefused):
            read(attack)
