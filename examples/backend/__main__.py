"""`python -m examples.backend`: a page on 127.0.0.1:8090 that trusts only what it can verify.

The plain headers are convenient; the signed `X-Jit-Token` is what makes a forgotten proxy rule harmless: without a good one nothing is
shown. Keys come from the broker's own key set, over the address in BROKER.
"""

import os
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import make_server

from jitaccess.sdk import FetchedKeys, VerifiedToken, Verifier
from jitaccess.sdk.door import PROXIED, TOKEN_KEY
from jitaccess.sdk.wsgi import JitMiddleware

BROKER = os.environ.get("BROKER", "http://localhost:8000")
AUDIENCE = os.environ.get("AUDIENCE", "http://localhost:8081")
PORT = int(os.environ.get("PORT", "8090"))
ALLOW_DEV = os.environ.get("ALLOW_DEV") == "1"  # test tokens of `jitaccess dev`: for trying out only


def page(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    """Say who is there; nothing comes here without a verified token."""
    token: VerifiedToken = environ[TOKEN_KEY]
    start("200 OK", [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store")])
    return [f"{token.subject} is here as {token.entitlement} of {token.target} (grant {token.grant})\n".encode()]


def application(verifier: Verifier) -> JitMiddleware:
    """Return the guarded application: the token comes from the proxy, which asks about every request anew."""
    return JitMiddleware(page, verifier, token_from=PROXIED)


if __name__ == "__main__":
    keys = FetchedKeys(BROKER, allow_dev=ALLOW_DEV)
    with make_server(
        "127.0.0.1", PORT, application(Verifier(BROKER, AUDIENCE, keys, status=None, allow_dev=ALLOW_DEV))
    ) as server:
        print(f"serving on http://127.0.0.1:{PORT}", flush=True)
        server.serve_forever()
