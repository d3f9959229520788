"""`python -m examples.backend`: a page on 127.0.0.1:8090 that trusts only what it can verify.

The plain headers are convenient; the signed `X-Jit-Token` is what makes a forgotten proxy rule harmless: without a good one nothing is
shown. Keys come from the broker's own key set, over the address in BROKER.
"""

import os
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import make_server

from jitaccess.sdk import FetchedKeys, TokenRefused, Verifier

BROKER = os.environ.get("BROKER", "http://localhost:8000")
AUDIENCE = os.environ.get("AUDIENCE", "http://localhost:8081")
PORT = int(os.environ.get("PORT", "8090"))


def application(verifier: Verifier) -> Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]:
    """Return the WSGI application."""

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        try:
            token = verifier.verify(environ.get("HTTP_X_JIT_TOKEN", ""))
        except TokenRefused as error:
            start("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8")])
            return [f"{error}\n".encode()]
        start("200 OK", [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store")])
        return [f"{token.subject} is here as {token.entitlement} of {token.target} (grant {token.grant})\n".encode()]

    return answer


if __name__ == "__main__":
    keys = FetchedKeys(BROKER)
    with make_server("127.0.0.1", PORT, application(Verifier(BROKER, AUDIENCE, keys))) as server:
        print(f"serving on http://127.0.0.1:{PORT}", flush=True)
        server.serve_forever()
