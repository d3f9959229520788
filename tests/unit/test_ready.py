"""Does `jitaccess ready` say what a supervisor needs to know?"""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from jitaccess.cli.ready import ask
from jitaccess.errors import JitError, Kind
from jitaccess.settings import Server, Settings


class Answering(BaseHTTPRequestHandler):
    """Answers /readyz with the status that the server holds, if the host is the public one."""

    def do_GET(self) -> None:
        """Answer."""
        right = self.path == "/readyz" and self.headers["Host"] == "jit.example.org"
        self.send_response(self.server.status if right else 400)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Be quiet."""


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    found = HTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    yield found
    found.shutdown()
    thread.join()
    found.server_close()


def settings(port: int, host: str = "127.0.0.1") -> Settings:
    return Settings(server=Server(public_url="https://jit.example.org", host=host, port=port))


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_ready_broker_is_ready_wherever_it_listens(server: HTTPServer, host: str) -> None:
    server.status = 200  # type: ignore[attr-defined]
    assert ask(settings(server.server_port, host)) == "ready"


def test_a_broker_that_may_not_grant_yet_is_not_ready(server: HTTPServer) -> None:
    server.status = 503  # type: ignore[attr-defined]
    with pytest.raises(JitError, match="not ready") as caught:
        ask(settings(server.server_port))
    assert caught.value.kind is Kind.UNAVAILABLE


def test_where_nothing_answers_the_refusal_names_the_place(free_port: int) -> None:
    with pytest.raises(JitError, match=f"127.0.0.1 port {free_port}"):
        ask(settings(free_port))
