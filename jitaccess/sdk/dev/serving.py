"""Where does an application find a test issuer's keys and status list? On this machine's own loopback, and nowhere else."""

import errno
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from jitaccess.sdk.dev.issuer import STATUS_PATH, DevIssuer, NoIssuer
from jitaccess.sdk.mark import MARK
from jitaccess.sdk.refusal import TokenRefused
from jitaccess.sdk.wall import wall_time
from jitaccess.sdk.wire import exchange

PATIENCE_S = 5.0
POLL_S = 0.02
"""How soon it notices that it is to stop."""


@contextmanager
def serving(issuer: DevIssuer) -> Iterator[None]:
    """Serve an issuer while the block runs, or rely on a process that serves this very key already; raises NoIssuer."""
    try:
        server = ThreadingHTTPServer(("127.0.0.1", issuer.port), _answering(issuer))
    except OSError as error:
        if error.errno != errno.EADDRINUSE or not _is_ours(issuer):
            raise NoIssuer(
                f"Port {issuer.port} of this machine is taken by something else. Give another one with --port, and tell "
                "your application that issuer."
            ) from error
        yield
        return
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(POLL_S,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _is_ours(issuer: DevIssuer) -> bool:
    try:
        return exchange(issuer.metadata()["jwks_uri"], timeout_s=PATIENCE_S) == (200, issuer.jwks())
    except TokenRefused:
        return False


def _answering(issuer: DevIssuer) -> type[BaseHTTPRequestHandler]:
    def found(path: str) -> tuple[str, str] | None:
        """Return (media type, text) of an address."""
        match path.partition("?")[0].removeprefix(f"/{MARK}"):
            case "/.well-known/jwks.json":
                return "application/json", json.dumps(issuer.jwks())
            case "/.well-known/openid-configuration" | "/.well-known/oauth-authorization-server":
                return "application/json", json.dumps(issuer.metadata())
            case "/oidc/status":
                return "application/json", json.dumps({"status_lists": [issuer.list_uri]})
            case path if path == STATUS_PATH:
                return "application/statuslist+jwt", issuer.status_list(wall_time())
            case _:
                return None

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = found(self.path)
            media_type, text = answer or ("text/plain", "There is nothing here.\n")
            self.send_response(404 if answer is None else 200)
            self.send_header("Content-Type", media_type)
            self.send_header("Cache-Control", "no-store")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: Any) -> None:
            """Keep quiet."""

    return Answering
