"""What do minting and verifying a token cost apart from everything else, beside the bare signature and the peer's? (performance.md goal 17)

Ours are calls within one process: `mint_access` builds and signs the claims (it stores nothing; the durable act is `grant_issue`),
`Verifier.verify` is what a target pays for each request, also with the status list as the SDK uses it:
fetched over HTTP every few seconds, looked up each time. The peer signs identity tokens (ES256) and answers introspection over
kept-alive HTTP, its audit on: that is how its targets get and check a token. All are measured in turn.
"""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc.jwk import ECKey

from benchmarks.measure import Figure, in_turn, machine_line, run_for, table
from benchmarks.openbao import binary, running
from jitaccess.sdk import StatusCheck, Verifier
from jitaccess.sdk.keys import static_keys
from jitaccess.tokens.access import GrantClaims, Minted, SignIn, mint_access
from jitaccess.tokens.status import LIST_BITS, MEDIA_TYPE, StatusRef, mint_status_list

SECONDS = 1.0
ALGORITHM = ec.ECDSA(hashes.SHA256())


@contextmanager
def listing(key: ECKey, ended: range) -> Iterator[str]:
    """Serve one status list, signed anew at each fetch, and give the issuer's address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            uri, now = f"{issuer}{self.path}", datetime.now(UTC)
            text = mint_status_list(key, issuer=issuer, uri=uri, ended=ended, size=LIST_BITS, now=now)
            self.send_response(200)
            self.send_header("Content-Type", MEDIA_TYPE)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield issuer
    finally:
        server.shutdown()
        server.server_close()


def run(seconds: float = SECONDS) -> list[Figure]:
    """Return all figures."""
    with ExitStack() as stack:
        return _measured(stack, seconds)


def _measured(stack: ExitStack, seconds: float) -> list[Figure]:
    key = ECKey.generate_key("P-256", {"kid": "k"})
    private = key.private_key
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    now = datetime.now(UTC)
    inputs: dict[str, str | int | bool] = {"order": "TR-000417", "amount_cents": 125_000_000}
    grant = GrantClaims("g" * 26, "treasury", "releaser", inputs, "a" * 43, "p" * 43, now + timedelta(hours=1))
    issuer = stack.enter_context(listing(key, range(1000, 2000)))
    status = StatusRef("a", 17, f"{issuer}/oidc/status/a").to_claim()

    def mint(client: int) -> Minted:
        return mint_access(
            key, issuer=issuer, audience="https://t", client_id="c" * 26, person_id="p" * 26, jti="j" * 26,
            scope="openid", grant=grant, sign_in=SignIn(now, "phrh", ("hwk", "user")), now=now, ttl_s=900, status=status,
        )  # fmt: skip

    text = mint(0).text
    keys = static_keys({"keys": [{**key.as_dict(private=False), "kid": "k"}]})
    alone = Verifier(issuer, "https://t", keys, status=None)
    whole = Verifier(issuer, "https://t", keys, status=StatusCheck(issuer, keys))
    signed, public = text.rpartition(".")[0].encode(), private.public_key()
    signature = private.sign(signed, ALGORITHM)
    ours = [
        ("bare ES256 signature", lambda client: private.sign(signed, ALGORITHM)),
        ("mint an access token", mint),
        ("bare ES256 check", lambda client: public.verify(signature, signed, ALGORITHM)),
        ("verify an access token (SDK)", lambda client: alone.verify(text)),
        ("verify an access token and its status (SDK)", lambda client: whole.verify(text)),
    ]
    measures = [partial(run_for, name, act, clients=1, seconds=seconds) for name, act in ours]
    if binary() is not None:
        peer = stack.enter_context(running())
        peer.offer_identity_tokens()
        theirs, over_http = peer.identity_token(0), partial(run_for, clients=1, seconds=seconds, pids=(peer.pid,))
        measures += [
            partial(over_http, "OpenBao identity token (HTTP)", peer.identity_token),
            partial(over_http, "OpenBao introspection (HTTP)", lambda client: peer.introspect(theirs, client)),
        ]
    return in_turn(*measures, rounds=5)


def main() -> None:
    """Print the table; the baseline of each is the bare act."""
    figures = run()
    bare = {
        "mint": figures[0],
        "OpenBao identity": figures[0],
        "verify": figures[2],
        "OpenBao introspection": figures[2],
    }
    print(machine_line())
    print(
        table(
            figures,
            baseline=lambda figure: next((bare[name] for name in bare if figure.name.startswith(name)), None),
        )
    )


if __name__ == "__main__":
    main()
