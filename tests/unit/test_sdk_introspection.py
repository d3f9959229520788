"""Does a target notice within a second that access has ended, and refuse whenever it cannot know?"""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from jitaccess.sdk import ClientKey, ClientSecret, IntrospectionCheck, TokenRefused


class Broker:
    """An introspection endpoint that answers what the test says."""

    def __init__(self) -> None:
        self.status = 200
        self.answer: bytes = b'{"active": true, "jti": "jti-1"}'
        self.forms: list[dict[str, list[str]]] = []
        self.authorizations: list[str | None] = []
        broker = self

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                broker.forms.append(parse_qs(self.rfile.read(length).decode()))
                broker.authorizations.append(self.headers["Authorization"])
                self.send_response(broker.status)
                self.send_header("Content-Length", str(len(broker.answer)))
                self.end_headers()
                self.wfile.write(broker.answer)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Answer)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/oidc/introspect"

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def broker() -> Iterator[Broker]:
    found = Broker()
    yield found
    found.close()


def check(broker: Broker, at: list[float], *, max_age_s: float = 1.0) -> IntrospectionCheck:
    return IntrospectionCheck(broker.url, ClientSecret("client 1", "s:ecret"), max_age_s=max_age_s, clock=lambda: at[0])


@pytest.mark.covers("R34")
def test_a_good_answer_counts_for_a_second_and_an_end_is_noticed_after_it(broker: Broker) -> None:
    at = [100.0]
    asks = check(broker, at)
    asks("token-text", "jti-1")
    broker.answer = b'{"active": false}'
    at[0] += 0.9
    asks("token-text", "jti-1")
    assert len(broker.forms) == 1
    at[0] += 0.2
    with pytest.raises(TokenRefused, match="has ended") as caught:
        asks("token-text", "jti-1")
    assert caught.value.code == "inactive"
    broker.answer = b'{"active": true, "jti": "jti-1"}'
    at[0] -= 60
    asks("token-text", "jti-1")
    assert len(broker.forms) == 3, "a clock that went back asks again"


@pytest.mark.covers("R42")
@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (500, b'{"active": true, "jti": "jti-1"}'),
        (401, b'{"active": true, "jti": "jti-1"}'),
        (200, b'{"active": "true", "jti": "jti-1"}'),
        (200, b'{"active": 1, "jti": "jti-1"}'),
        (200, b'{"active": true}'),
        (200, b'{"active": true, "jti": "jti-2"}'),
        (200, b"[]"),
        (200, b"not json"),
        (200, b'{"active": true, "jti": "jti-1", "pad": "' + b"a" * 70_000 + b'"}'),
    ],
)
def test_anything_but_a_plain_yes_refuses(broker: Broker, status: int, answer: bytes) -> None:
    broker.status, broker.answer = status, answer
    with pytest.raises(TokenRefused) as caught:
        check(broker, [100.0])("token-text", "jti-1")
    assert caught.value.code == "unreachable"


@pytest.mark.covers("R42")
def test_a_broker_that_is_down_refuses() -> None:
    asks = IntrospectionCheck("http://127.0.0.1:1/oidc/introspect", ClientSecret("c", "s"), timeout_s=0.5)
    with pytest.raises(TokenRefused) as caught:
        asks("token-text", "jti-1")
    assert caught.value.code == "unreachable"


def test_the_secret_goes_into_the_header_and_nowhere_else(broker: Broker) -> None:
    check(broker, [100.0])("token-text", "jti-1")
    assert broker.forms == [{"token": ["token-text"]}]
    scheme, _, pair = (broker.authorizations[0] or "").partition(" ")
    assert (scheme, base64.b64decode(pair)) == ("Basic", b"client+1:s%3Aecret")
    assert "s:ecret" not in repr(ClientSecret("client", "s:ecret"))


def test_a_private_key_proves_itself_anew_each_time() -> None:
    key = ECKey.generate_key("P-256", {"kid": "k"})
    credential = ClientKey("client-1", key, "https://jit.example", clock=lambda: 1000.9)
    seen = set()
    for _ in range(3):
        headers, form = credential.prove()
        assert headers == {}
        token = jwt.decode(form["client_assertion"], key, algorithms=["ES256"])
        assert token.header == {"alg": "ES256", "typ": "JWT", "kid": "k"}
        assert (token.claims["iss"], token.claims["sub"]) == ("client-1", "client-1")
        assert (token.claims["aud"], token.claims["exp"]) == ("https://jit.example", 1060)
        seen.add(token.claims["jti"])
    assert len(seen) == 3
    assert json.dumps(key.as_dict(private=True)["d"]) not in repr(credential)


def test_many_tokens_do_not_fill_the_memory(broker: Broker) -> None:
    asks = check(broker, [100.0])
    asks._active_at.update({f"old-{n}": 1.0 for n in range(10_000)})
    asks("token-text", "jti-1")
    assert list(asks._active_at) == ["jti-1"]
