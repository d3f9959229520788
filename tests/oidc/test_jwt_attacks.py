"""Does every place that takes a JWT refuse every known forgery, without fetching anything that a token names?

One list of attacks (`jitaccess.sdk.dev.forgeries`), eleven consumers: the SDK's verifiers of access tokens, of what a proxy hands on, ID
tokens, logout tokens and status lists, a developer's own list among them; the broker's introspection, revocation, userinfo, sign-out and
client authentication.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from joserfc.jwk import ECKey

from jitaccess.broker.forwarded import ASSERTION_LIFE_S
from jitaccess.broker.status import signed_list
from jitaccess.domain.values import LOCAL
from jitaccess.sdk import ClientKey, LogoutVerifier, TokenRefused
from jitaccess.sdk.client import ASSERTION_TYPE
from jitaccess.sdk.dev.forgeries import Listener, forgeries, listener, parts, sign
from jitaccess.sdk.dev.issuer import DevIssuer
from jitaccess.sdk.keys import static_keys
from jitaccess.sdk.signed import Signed
from jitaccess.sdk.status import read_list
from jitaccess.tokens.access import PROXIED_TYPE, mint_logout
from jitaccess.tokens.keys import Purpose, retire_due, rotate
from tests.oidc.conftest import Treasury, open_treasury
from tests.support.world import ORIGIN, World


@dataclass(slots=True)
class Consumer:
    """One place that takes a JWT: a good one, the key behind it, and whether a text is accepted."""

    good: Callable[[], str]
    key: ECKey
    accepts: Callable[[str], bool]


def quietly(check: Callable[[str], object]) -> Callable[[str], bool]:
    """Turn a check that raises TokenRefused into one that says yes or no."""

    def accepts(text: str) -> bool:
        try:
            check(text)
        except TokenRefused:
            return False
        return True

    return accepts


@dataclass(slots=True)
class Place:
    """A treasury that signs, its tokens, and every consumer by name."""

    treasury: Treasury
    key: ECKey
    folder: Path
    addresses: int = 0

    def consumers(self) -> dict[str, Consumer]:
        """Return them all."""
        treasury = self.treasury
        tokens: dict[str, Any] = treasury.tokens(treasury.grant())
        access, id_token = tokens["access_token"], tokens["id_token"]
        broker_key = treasury.world.broker.keyring.token_key()
        client_id = treasury.credential.client_id
        uri = parts(access)[1]["status"]["status_list"]["uri"]
        listed = signed_list(treasury.world.broker, uri.rpartition("/")[2])
        jwks = treasury.world.broker.keyring.jwks()
        now = treasury.world.clock.now().timestamp()
        verifier = treasury.verifier()

        def status_list(text: str) -> object:
            return read_list(Signed(static_keys(jwks)), text.encode(), issuer=ORIGIN, uri=uri, now=now)

        dev = DevIssuer.open(self.folder, 8765)
        moment = treasury.world.clock.now()
        notice = mint_logout(
            broker_key, issuer=ORIGIN, client_id=client_id, person_id="p", sid="s", jti="notice-1", now=moment
        )

        head, body = parts(access)
        handed = sign(broker_key, head | {"typ": PROXIED_TYPE}, body | {"exp": body["iat"] + ASSERTION_LIFE_S})

        def dev_list(text: str) -> object:
            keys = static_keys(dev.jwks())
            return read_list(Signed(keys), text.encode(), issuer=dev.issuer, uri=dev.list_uri, now=now)

        return {
            "Verifier.verify": Consumer(lambda: access, broker_key, quietly(verifier.verify)),
            "Verifier.verify_proxied": Consumer(lambda: handed, broker_key, quietly(verifier.verify_proxied)),
            "Verifier.verify_id_token": Consumer(
                lambda: id_token,
                broker_key,
                quietly(lambda text: verifier.verify_id_token(text, client_id=client_id, nonce="nonce-1")),
            ),
            "StatusCheck": Consumer(lambda: listed, broker_key, quietly(status_list)),
            "dev status list": Consumer(lambda: dev.status_list(now), dev.key, quietly(dev_list)),
            "LogoutVerifier": Consumer(
                lambda: notice,
                broker_key,
                quietly(lambda text: LogoutVerifier(ORIGIN, client_id, jwks, clock=lambda: now).verify(text)),
            ),
            "/oidc/introspect": Consumer(lambda: access, broker_key, self.introspects),
            "/oidc/userinfo": Consumer(lambda: access, broker_key, self.shows),
            "/oidc/logout": Consumer(lambda: id_token, broker_key, self.signs_out),
            "client authentication": Consumer(self.assertion, self.key, self.authenticates),
        }

    def introspects(self, text: str) -> bool:
        """Ask whether a token is active."""
        answer = self.treasury.call("/oidc/introspect", {"token": text})
        return answer.status_code == 200 and answer.json["active"] is True

    def shows(self, text: str) -> bool:
        """Ask who somebody is."""
        try:
            text.encode("latin-1")
            headers = {"Authorization": f"Bearer {text}"}
            answer = self.treasury.app.test_client().get("/oidc/userinfo", base_url=ORIGIN, headers=headers)
        except ValueError:  # cannot stand in a header at all
            return False
        return answer.status_code == 200

    def signs_out(self, text: str) -> bool:
        """Send the browser to sign out with a hint; the page names the client only for a true one."""
        query = urlencode({"id_token_hint": text})
        answer = self.treasury.browser.get(f"/oidc/logout?{query}", base_url=ORIGIN)
        return answer.status_code == 200 and "Treasury payments" in answer.text

    def assertion(self) -> str:
        """Return a fresh client assertion."""
        credential = self.treasury.credential
        assert isinstance(credential, ClientKey)
        return credential.prove()[1]["client_assertion"]

    def authenticates(self, text: str) -> bool:
        """Authenticate with an assertion, each time from another address, so that not the limit of failures answers."""
        self.addresses += 1
        where = {"REMOTE_ADDR": f"192.0.2.{self.addresses}"}
        form = {"token": "x", "client_assertion_type": ASSERTION_TYPE, "client_assertion": text}
        anybody = self.treasury.app.test_client()
        answer = anybody.post("/oidc/introspect", base_url=ORIGIN, data=form, environ_overrides=where)
        return answer.status_code == 200


@pytest.fixture
def place(sqlite_world: World, tmp_path: Path) -> Place:
    """Give a treasury with a key of its own."""
    key = ECKey.generate_key("P-256", {"kid": "treasury-1"})
    treasury = open_treasury(sqlite_world, key=key)
    treasury.sign_in("arta")
    return Place(treasury, key, tmp_path / "dev")


@pytest.fixture
def listening(place: Place) -> Iterator[Listener]:
    """Give a listener that serves an attacker's keys."""
    with listener({"keys": [ECKey.generate_key("P-256", {"kid": "theirs"}).as_dict(private=False)]}) as found:
        yield found


@pytest.mark.covers("R32", "R33", "T-20", "TRAP-3")
@pytest.mark.parametrize(
    "name",
    [
        "Verifier.verify",
        "Verifier.verify_proxied",
        "Verifier.verify_id_token",
        "StatusCheck",
        "dev status list",
        "LogoutVerifier",
        "/oidc/introspect",
        "/oidc/userinfo",
        "/oidc/logout",
        "client authentication",
    ],
)
def test_no_forgery_is_taken_anywhere_and_nothing_is_fetched(place: Place, listening: Listener, name: str) -> None:
    consumer = place.consumers()[name]
    head, body = parts(consumer.good())
    attacks = forgeries(consumer.good(), consumer.key, listening.url)
    assert len(attacks) > 60
    taken = [attack.name for attack in attacks if consumer.accepts(attack.text)]
    # A client of one key need not name it (RFC 7515 section 4.1.4).
    assert taken == (["kid missing, the true signature"] if name == "client authentication" else [])
    assert listening.asked == [], "nothing that a token names is ever fetched"
    fresh = consumer.good() if name == "client authentication" else sign(consumer.key, head, body)
    assert consumer.accepts(fresh), "and a true one is taken all the same"


@pytest.mark.covers("R33")
def test_one_kind_of_token_never_passes_for_another(place: Place) -> None:
    consumers = place.consumers()
    for name, consumer in consumers.items():
        own = consumer.good()
        for other, giver in consumers.items():
            text = giver.good()
            if parts(text)[0]["typ"] != parts(own)[0]["typ"]:
                assert not consumer.accepts(text), f"{name} took what {other} takes"


@pytest.mark.covers("R32", "R34")
def test_no_forgery_revokes_anything(place: Place, listening: Listener) -> None:
    treasury = place.treasury
    token = treasury.tokens(treasury.grant())["access_token"]
    for attack in forgeries(token, treasury.world.broker.keyring.token_key(), listening.url):
        treasury.call("/oidc/revoke", {"token": attack.text})
    assert place.introspects(token)
    assert listening.asked == []


# ---------------------------------------------------------------- with a key of ours


def rotated_elsewhere(place: Place) -> None:
    """Rotate and retire the token key as another process does: only the rows change."""
    broker = place.treasury.world.broker
    with broker.begin(LOCAL) as tx:
        rotate(tx, broker.keyring, Purpose.TOKEN, origin="x", overlap=timedelta(0))
    place.treasury.world.clock.advance(timedelta(seconds=1))
    with broker.begin(LOCAL) as tx:
        assert retire_due(tx) == 1


@pytest.mark.covers("R35")
@pytest.mark.parametrize("name", ["/oidc/introspect", "/oidc/userinfo", "/oidc/logout"])
def test_a_key_that_another_process_retired_signs_for_nobody_from_then_on(place: Place, name: str) -> None:
    consumer = place.consumers()[name]
    text = consumer.good()
    assert consumer.accepts(text)
    rotated_elsewhere(place)
    assert not consumer.accepts(text)


@pytest.mark.covers("R34", "R35")
def test_a_key_that_another_process_retired_revokes_nothing(place: Place) -> None:
    tokens = place.treasury.tokens(place.treasury.grant())
    rotated_elsewhere(place)
    place.treasury.call("/oidc/revoke", {"token": tokens["access_token"]})
    assert place.treasury.events("token.revoked") == []
    place.treasury.call("/oidc/revoke", {"token": tokens["refresh_token"]})
    assert len(place.treasury.events("token.revoked")) > 0


@pytest.mark.covers("R32")
@pytest.mark.parametrize(
    "change",
    [
        {"entitlement": "releaser"},
        {"inputs": {"order": "TR-1", "amount_cents": 10**9}},
        {"approvals_digest": "x"},
        {"policy_digest": "x"},
        {"target": "registry"},
        {"grant": "x"},
        {"client_id": "another"},
        {"sub": "another"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_token_that_says_more_than_its_rows_is_not_active_whoever_signed_it(
    place: Place, change: dict[str, Any]
) -> None:
    text = place.treasury.tokens(place.treasury.grant())["access_token"]
    assert place.introspects(text)
    head, body = parts(text)
    top = {name: value for name, value in change.items() if name in body}
    [details] = body["authorization_details"]
    changed = body | top | {"authorization_details": [details | {k: v for k, v in change.items() if k not in top}]}
    forged = sign(place.treasury.world.broker.keyring.token_key(), head, changed)
    assert not place.introspects(forged)
    assert not place.shows(forged)
