"""What do minting and verifying a token cost apart from everything else, beside the bare signature and the peer's? (performance.md goal 17)

Ours are calls within one process: `mint_access` builds and signs the claims (it stores nothing; the durable act is `grant_issue`),
`Verifier.verify` is what a target pays for each request. The peer signs identity tokens (ES256) and answers introspection over
kept-alive HTTP, its audit on: that is how its targets get and check a token. All are measured in turn.
"""

import sys
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc.jwk import ECKey

from benchmarks.measure import Figure, in_turn, machine_line, run_for, table
from benchmarks.openbao import binary, running
from jitaccess.sdk import Verifier
from jitaccess.tokens.access import GrantClaims, Minted, SignIn, mint_access

SECONDS = 1.0
ALGORITHM = ec.ECDSA(hashes.SHA256())


def run(seconds: float = SECONDS) -> list[Figure]:
    """Return all figures."""
    key = ECKey.generate_key("P-256", {"kid": "k"})
    private = key.private_key
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    now = datetime.now(UTC)
    inputs = {"order": "TR-000417", "amount_cents": 125_000_000}
    grant = GrantClaims("g" * 26, "treasury", "releaser", inputs, "a" * 43, "p" * 43, now + timedelta(hours=1))

    def mint(client: int) -> Minted:
        return mint_access(
            key, issuer="https://j", audience="https://t", client_id="c" * 26, person_id="p" * 26, jti="j" * 26,
            scope="openid", grant=grant, sign_in=SignIn(now, "phrh", ("hwk", "user")), now=now, ttl_s=900,
        )  # fmt: skip

    text = mint(0).text
    verifier = Verifier("https://j", "https://t", {"keys": [{**key.as_dict(private=False), "kid": "k"}]})
    signed, public = text.rpartition(".")[0].encode(), private.public_key()
    signature = private.sign(signed, ALGORITHM)
    ours = [
        ("bare ES256 signature", lambda client: private.sign(signed, ALGORITHM)),
        ("mint an access token", mint),
        ("bare ES256 check", lambda client: public.verify(signature, signed, ALGORITHM)),
        ("verify an access token (SDK)", lambda client: verifier.verify(text)),
    ]
    measures = [partial(run_for, name, act, clients=1, seconds=seconds) for name, act in ours]
    with ExitStack() as stack:
        if binary() is not None:
            peer = stack.enter_context(running())
            peer.offer_identity_tokens()
            theirs = peer.identity_token(0)
            pids = (peer.pid,)
            measures += [
                partial(
                    run_for, "OpenBao identity token (HTTP)", peer.identity_token, clients=1, seconds=seconds, pids=pids
                ),
                partial(
                    run_for,
                    "OpenBao introspection (HTTP)",
                    lambda client: peer.introspect(theirs, client),
                    clients=1,
                    seconds=seconds,
                    pids=pids,
                ),
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
    sys.exit(main())
