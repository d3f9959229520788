"""An application that makes one known mistake, or none, with the tokens it gets; for trying what looks for such mistakes."""

import base64
import hashlib
import hmac
import json
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from joserfc import jws
from joserfc.jwk import ECKey

from jitaccess.sdk import TokenRefused, Verifier
from jitaccess.sdk.dev.forgeries import parts

CODES = {
    "skips aud": {"wrong_audience"},
    "skips iss": {"wrong_issuer"},
    "skips exp": {"expired"},
    "skips nbf": {"clock_skew"},
    "skips status": {"inactive"},
    "skips typ": {"wrong_type"},
    "skips crit": {"critical_header"},
}
"""Mistake -> the SDK's refusals that this application does not know."""


def let_in(mistake: str, key: ECKey, token: str) -> bool:
    """Say whether an application that makes this mistake lets in what the SDK refuses."""
    try:
        head, _ = parts(token)
    except (ValueError, TypeError):
        head = {}
    first, _, signature = token.rpartition(".")
    match mistake:
        case "takes none":
            return isinstance(head.get("alg"), str) and head["alg"].lower() == "none"
        case "takes HMAC":
            mac = hmac.digest(key.as_pem(private=False), first.encode(), hashlib.sha256)
            return head.get("alg") == "HS256" and signature == base64.urlsafe_b64encode(mac).decode().rstrip("=")
        case "takes jwk":
            return "jwk" in head and holds(token, ECKey.import_key(head["jwk"]))
        case "fetches jku":
            if isinstance(head.get("jku"), str):
                with urllib.request.urlopen(head["jku"]) as answer:
                    answer.read()
            return False
        case "takes anything":
            return True
    return False


def holds(token: str, key: ECKey) -> bool:
    """Say whether a signature holds, read as loosely as base64 allows."""
    try:
        jws.deserialize_compact(token, key, algorithms=["ES256"])
    except Exception:
        return False
    return True


def tidied(token: str) -> str:
    """Return the token that a loose reader sees: three parts, whatever follows, and no spare bit."""
    first, second, signature = token.split(".")[:3]
    if len(signature.split("=")[0]) != 86:
        return token
    raw = base64.urlsafe_b64decode(signature.split("=")[0] + "==")
    return f"{first}.{second}.{base64.urlsafe_b64encode(raw).decode().rstrip('=')}"


def careless(verifier: Verifier, key: ECKey, mistake: str) -> Callable[..., Iterable[bytes]]:
    """Return a WSGI application that makes one mistake."""

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        given = environ.get("HTTP_AUTHORIZATION", "").removeprefix("Bearer ")
        if mistake == "reads the address" and not given:
            given = environ["QUERY_STRING"].removeprefix("access_token=")
        try:
            if mistake == "reads loosely" and given.count(".") >= 2:
                given = tidied(given)
            if mistake == "breaks" and given == "null":
                json.loads(given)["sub"]
            token = verifier.verify(given)
            inside = mistake == "skips entitlement" or token.entitlement == "releaser"
        except TokenRefused as refused:
            inside = refused.code in CODES.get(mistake, ()) or let_in(mistake, key, given)
        start("200 OK" if inside and mistake != "lets nobody in" else "401 Unauthorized", [("Content-Length", "0")])
        return []

    return answer


class _Quiet(WSGIRequestHandler):
    def get_environ(self) -> dict[str, Any]:
        """Give the address and the names of headers as they were sent too, and a way to hang up."""
        raw = self.requestline.split(" ")[1]
        return super().get_environ() | {
            "RAW": raw,
            "NAMES": [*self.headers],
            "CLOSE": lambda: self.connection.shutdown(socket.SHUT_RDWR),
        }

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


@contextmanager
def listening(application: Callable[..., Iterable[bytes]]) -> Iterator[str]:
    """Serve a WSGI application on loopback; give its address. An error within it is a 500 and no word here."""

    def guarded(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        try:
            return application(environ, start)
        except Exception:
            start("500 Internal Server Error", [("Content-Length", "0")])
            return []

    server = make_server("127.0.0.1", 0, guarded, handler_class=_Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/orders"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
