"""What does a token cost? Verify against the bare signature, and a person's whole way to a token against OpenBao's leased token.

1 `Verifier.verify` and the bare ES256 verify of the same bytes (goal: at most twice). 2 In one process, each act durable (SQLite, FULL): a
signed, automatically approved request with its grant, its opening with lease and code, and the redeemed tokens: three commits, four
signatures checked. 3 One renewal: evidence verified anew, one commit. 4 One introspection: no commit. Peer: `auth/token/create`.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc.jwk import ECKey

from benchmarks.measure import Figure, run_for
from jitaccess.sdk import Verifier
from jitaccess.tokens.access import GrantClaims, SignIn, mint_access

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 4.0


def bare_and_verified() -> tuple[Figure, Figure]:
    """Measure the bare signature check and the verifier on one token."""
    key, now = ECKey.generate_key("P-256", {"kid": "k"}), datetime.now(UTC)
    grant = GrantClaims(
        "g", "treasury", "releaser", {"order": "TR-000417"}, "a" * 43, "p" * 43, now + timedelta(hours=1)
    )
    text = mint_access(
        key, issuer="https://j", audience="https://t", client_id="c", person_id="p", jti="j", scope="openid", grant=grant,
        sign_in=SignIn(now, "phrh", ("hwk", "user")), now=now, ttl_s=900,
    ).text  # fmt: skip
    verifier = Verifier("https://j", "https://t", {"keys": [{**key.as_dict(private=False), "kid": "k"}]})
    private = key.private_key
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    signed, public = text.rpartition(".")[0].encode(), private.public_key()
    signature = private.sign(signed, ec.ECDSA(hashes.SHA256()))
    return (
        run_for(
            "bare ES256 verify",
            lambda n: public.verify(signature, signed, ec.ECDSA(hashes.SHA256())),
            clients=1,
            seconds=2,
        ),
        run_for("Verifier.verify", lambda n: verifier.verify(text), clients=1, seconds=2),
    )
