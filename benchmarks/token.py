"""What does a token cost? Verify against the bare signature, and a person's way to a token against OpenBao's leased token.

In one process, each act durable (SQLite, synchronous=FULL) and in the log: a signed, automatically approved request with its grant, lease
and token (three commits); lease and token under a grant; a renewal (evidence verified anew, one commit); an introspection. The callers
are threads of the measuring process, which also signs as the passkey. The peer is `auth/token/create` over HTTP.
"""

import argparse
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc.jwk import ECKey

from benchmarks.measure import Figure, machine_line, run_for, table
from benchmarks.openbao import binary, leased_tokens, running
from jitaccess.app import open_broker
from jitaccess.broker import issue, request, strictness, verify
from jitaccess.broker.clients import ClientFacts, registered
from jitaccess.broker.context import Broker
from jitaccess.broker.request import Ask, Filed
from jitaccess.clock import SystemClock
from jitaccess.demo.seed import read_policies, seed
from jitaccess.demo.soft_passkey import SoftPasskey
from jitaccess.domain.values import LOCAL, SYSTEM, Actor, ActorKind, Refused
from jitaccess.identity import passkeys, sessions
from jitaccess.identity.sessions import Current
from jitaccess.oidc.clients import OAuthClient, add_client
from jitaccess.oidc.provider import FormRequest, Provider
from jitaccess.sdk import Verifier
from jitaccess.settings import Keys, Limits, Log, Settings, Store
from jitaccess.store.tables import Grant, Person
from jitaccess.tokens.access import GrantClaims, SignIn, mint_access
from jitaccess.tokens.keys import create_wrapping_key

ROOT = Path(__file__).resolve().parents[1]


def bare_and_verified(seconds: float) -> tuple[Figure, Figure]:
    """Measure the bare signature check and the verifier on one token."""
    key, now = ECKey.generate_key("P-256", {"kid": "k"}), datetime.now(UTC)
    ends_at = now + timedelta(hours=1)
    grant = GrantClaims("g", "treasury", "releaser", {"order": "TR-000417"}, "a" * 43, "p" * 43, ends_at)
    text = mint_access(
        key, issuer="https://j", audience="https://t", client_id="c", person_id="p", jti="j", scope="openid", grant=grant,
        sign_in=SignIn(now, "phrh", ("hwk", "user")), now=now, ttl_s=900,
    ).text  # fmt: skip
    verifier = Verifier("https://j", "https://t", {"keys": [{**key.as_dict(private=False), "kid": "k"}]}, status=None)
    private = key.private_key
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    signed, public = text.rpartition(".")[0].encode(), private.public_key()
    signature = private.sign(signed, ec.ECDSA(hashes.SHA256()))

    def bare(client: int) -> None:
        public.verify(signature, signed, ec.ECDSA(hashes.SHA256()))

    return (
        run_for("bare ES256 verify", bare, clients=1, seconds=seconds),
        run_for("Verifier.verify", lambda client: verifier.verify(text), clients=1, seconds=seconds),
    )


class Town:
    """A broker on SQLite with one signed-in person; every act is the verbs' own."""

    def __init__(self, folder: Path) -> None:
        """Seed it."""
        settings = Settings(
            store=Store(url=f"sqlite:///{folder / 'broker.db'}"),
            keys=Keys(wrapping_key_file=folder / "wrapping.key"),
            log=Log(origin="bench.example/jitaccess"),
            limits=Limits(requests_per_person_hour=1_000_000),
        )
        key = create_wrapping_key(settings.keys.wrapping_key_file)
        seeded = seed(settings, SystemClock(), key, read_policies(ROOT / "policies"), enrolled=frozenset({"arta"}))
        self.broker: Broker = open_broker(settings)
        self.broker.may_grant.set()
        self.passkey: SoftPasskey = seeded.passkeys["arta"]
        with self.broker.begin(LOCAL) as tx:
            client, _ = add_client(tx, target="treasury", name="T", redirect_uris=["http://127.0.0.1:8001/callback"])
        with self.broker.read() as view:
            self.client: ClientFacts = registered(view)[client.id]
        self.current = self._sign_in()

    def _sign_in(self) -> Current:
        site = self.broker.site
        with self.broker.begin(SYSTEM) as tx:
            ceremony = passkeys.begin_sign_in(tx, site)
        with self.broker.begin(SYSTEM) as tx:
            response = self.passkey.get(ceremony.options)
            found = passkeys.complete_sign_in(tx, site, challenge_id=ceremony.challenge_id, response=response)
            assert not isinstance(found, Refused), found
            staff = strictness.of(site.sessions, strict=False)
            _, secret = sessions.open_session(tx, found.passkey, staff)
        with self.broker.read() as view:
            current = sessions.resolve(view, secret, lambda *_: staff)
        assert current is not None
        return current

    def file(self) -> Grant:
        """Ask, sign and be granted: two commits, one signature checked by both verifiers."""
        broker, current = self.broker, self.current
        with broker.begin(current.actor) as tx:
            begun = request.begin_filing(tx, broker, current, Ask("treasury", "viewer", {}, 3600, "a look"))
        assert not isinstance(begun, Refused), begun
        with broker.begin(current.actor, lock=[(Person, current.person.id)]) as tx:
            # Signed inside, in the writer's turn, so that the one counter of the one passkey rises in order.
            response = self.passkey.get(begun.options)
            filed = request.complete_filing(tx, broker, current, challenge_id=begun.challenge_id, response=response)
        assert isinstance(filed, Filed), filed
        assert filed.grant is not None
        return filed.grant

    def issue(self, grant: Grant) -> issue.Issued:
        """Open a grant and mint: one commit, the evidence verified."""
        broker = self.broker
        covered = issue.covered_approvals(broker, grant.id)
        with broker.begin(self.current.actor, lock=[(Grant, grant.id)]) as tx:
            opened = issue.open_in(tx, broker, self.current, grant.id, covered=covered)
            assert not isinstance(opened, Refused), opened
            return issue.mint(
                tx,
                broker,
                found=opened.evidence,
                lease=opened.lease,
                client_id=self.client.id,
                family=tx.new_id(),
                scope="",
                sign_in=SignIn(tx.now, "phrh", ("hwk", "user")),
                passkey_id=self.current.passkey.id,
                session_id=None,
            )

    def whole_way(self, client: int) -> None:
        """From asking to the token."""
        self.issue(self.file())

    def renew(self, refresh: str) -> str:
        """Renew: one commit, the evidence verified anew."""
        form = {"grant_type": "refresh_token", "refresh_token": refresh}
        client = OAuthClient(self.client)
        with self.broker.begin(Actor(ActorKind.CLIENT, client_id=self.client.id)) as tx:
            provider = Provider(self.broker, tx, client)
            answer: Any = provider.create_token_response(FormRequest(self.broker.site.origin, form, client))
        assert answer.status_code == 200, answer.text
        found: str = answer.json["refresh_token"]
        return found


def measure(town: Town, clients: int, seconds: float) -> list[Figure]:
    """Measure the broker's own acts."""
    found = [run_for("ask, grant, lease, token", town.whole_way, clients=clients, seconds=seconds)]
    grants = [town.file() for _ in range(clients)]
    for grant in grants:
        town.issue(grant)
    found.append(
        run_for("token under a grant", lambda client: town.issue(grants[client]), clients=clients, seconds=seconds)
    )
    chains = [town.issue(grant).refresh for grant in grants]

    def renew(client: int) -> None:
        chains[client] = town.renew(chains[client])

    found.append(run_for("renewal", renew, clients=clients, seconds=seconds))
    text = town.issue(grants[0]).access.text
    assert verify.answer(town.broker, town.client.id, text)["active"] is True
    found.append(
        run_for(
            "introspection",
            lambda client: verify.answer(town.broker, town.client.id, text),
            clients=clients,
            seconds=seconds,
        )
    )
    return found


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 8, 32])
    given = parser.parse_args()
    print(machine_line())
    bare, verified = bare_and_verified(given.seconds)
    print(table([bare, verified]))
    print(f"Verifier.verify takes {bare.per_s / verified.per_s:.2f} times the bare signature check (goal: at most 2)")
    folder = Path(tempfile.mkdtemp(prefix="bench-token-"))
    figures: list[Figure] = []
    try:
        if binary() is not None:
            with running() as peer:
                figures += [leased_tokens(peer, clients, given.seconds) for clients in given.clients]
        town = Town(folder)
        for clients in given.clients:
            figures += measure(town, clients, given.seconds)
        town.broker.db.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    peers = {figure.clients: figure for figure in figures if figure.name.startswith("OpenBao")}
    print(table(figures, baseline=lambda figure: peers.get(figure.clients)))


if __name__ == "__main__":
    main()
