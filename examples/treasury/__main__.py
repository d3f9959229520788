"""Run the treasury: `python -m examples.treasury --issuer http://localhost:8000 --client-id ... --client-secret-file ...`.

Every argument may come from the environment instead (TREASURY_ISSUER, TREASURY_CLIENT_ID, TREASURY_CLIENT_SECRET, ...).
"""

import argparse
import os
from pathlib import Path

from joserfc.jwk import ECKey
from werkzeug.serving import WSGIRequestHandler, make_server

from examples.treasury.application import create_app
from examples.treasury.ledger import Ledger
from examples.treasury.sign_on import SignOn, renew_in_background
from jitaccess.sdk import ClientCredential, ClientKey, ClientSecret


class Quiet(WSGIRequestHandler):
    """Writes no addresses into logs: they may carry codes."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""


def arguments() -> argparse.Namespace:
    """Read the command line, with the environment as defaults."""
    parser = argparse.ArgumentParser(prog="python -m examples.treasury", description=__doc__)
    given = os.environ.get
    parser.add_argument("--issuer", default=given("TREASURY_ISSUER", "http://localhost:8000"))
    parser.add_argument("--client-id", default=given("TREASURY_CLIENT_ID"))
    parser.add_argument("--client-secret-file", type=Path, default=given("TREASURY_CLIENT_SECRET_FILE"))
    parser.add_argument("--client-key-file", type=Path, default=given("TREASURY_CLIENT_KEY_FILE"), help="PEM, P-256")
    parser.add_argument(
        "--client-key-id", default=given("TREASURY_CLIENT_KEY_ID"), help="kid of that key at the broker"
    )
    parser.add_argument("--host", default=given("TREASURY_HOST", "127.0.0.1"))
    parser.add_argument("--port", type=int, default=int(given("TREASURY_PORT", "8001")))
    parser.add_argument(
        "--origin", default=given("TREASURY_ORIGIN"), help="as browsers see it; default http://host:port"
    )
    parser.add_argument(
        "--audience", default=given("TREASURY_AUDIENCE"), help="as in the broker's policy; default origin"
    )
    found = parser.parse_args()
    if not found.client_id:
        parser.error("--client-id is missing: register the treasury with `jitaccess clients add` first")
    return found


def credential(found: argparse.Namespace) -> ClientCredential:
    """Return the treasury's own credential: a key, or a secret from a file or the environment; never from the command line."""
    if found.client_key_file:
        key = ECKey.import_key(Path(found.client_key_file).read_bytes(), {"kid": found.client_key_id})
        return ClientKey(found.client_id, key, found.issuer)
    if found.client_secret_file:
        return ClientSecret(found.client_id, Path(found.client_secret_file).read_text().strip())
    secret = os.environ.get("TREASURY_CLIENT_SECRET")
    if not secret:
        raise SystemExit("give --client-key-file, --client-secret-file or TREASURY_CLIENT_SECRET")
    return ClientSecret(found.client_id, secret)


def main() -> None:
    """Serve until interrupted."""
    found = arguments()
    origin = found.origin or f"http://{found.host}:{found.port}"
    sign_on = SignOn(found.issuer, origin, credential(found), audience=found.audience)
    renew_in_background(sign_on)
    app = create_app(sign_on, Ledger(), origin=origin, issuer=found.issuer)
    server = make_server(found.host, found.port, app, threaded=True, request_handler=Quiet)
    print(f"treasury on {origin}, opened by {found.issuer}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.shutdown()


if __name__ == "__main__":
    main()
