"""A world with a registered target and a browser for every test of the provider."""

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from joserfc.jwk import ECKey
from werkzeug.test import TestResponse

from jitaccess.app import create_app
from jitaccess.domain.values import LOCAL
from jitaccess.oidc.clients import add_client
from jitaccess.sdk import ClientKey, ClientSecret, Verifier
from jitaccess.store.tables import Grant
from tests.support.world import ORIGIN, World
from tests.support.worlds import postgres_world, prepared_postgres, prepared_sqlite, sqlite_world, world

__all__ = ["postgres_world", "prepared_postgres", "prepared_sqlite", "sqlite_world", "world"]
AUDIENCE = "http://127.0.0.1:8001"
CALLBACK = f"{AUDIENCE}/callback"


def verifier_pair() -> tuple[str, str]:
    """Return a PKCE verifier and its S256 challenge."""
    verifier = secrets.token_urlsafe(48)
    digest = hashlib.sha256(verifier.encode()).digest()
    return verifier, base64.urlsafe_b64encode(digest).decode().rstrip("=")


@dataclass(slots=True)
class Treasury:
    """The registered target, with the one browser that tests drive."""

    world: World
    app: Flask
    browser: FlaskClient
    credential: ClientSecret | ClientKey
    signed_in: str | None = None

    def sign_in(self, key: str) -> None:
        """Give the browser a person's session."""
        current = self.world.current(key)
        self.browser.set_cookie("__Host-jit", self.world.secrets[current.session.id], domain="localhost")
        self.signed_in = key

    def query(self, challenge: str, **changes: str | None) -> str:
        """Return an authorization request's query."""
        values: dict[str, str | None] = {
            "response_type": "code",
            "client_id": self.credential.client_id,
            "redirect_uri": CALLBACK,
            "scope": "openid profile",
            "state": "state-1",
            "nonce": "nonce-1",
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return urlencode({name: value for name, value in (values | changes).items() if value is not None})

    def page(self, challenge: str, **changes: str | None) -> TestResponse:
        """Open the authorization page."""
        return self.browser.get(f"/oidc/authorize?{self.query(challenge, **changes)}", base_url=ORIGIN)

    def post(self, path: str, body: Mapping[str, Any]) -> TestResponse:
        """Post JSON as the page's script does."""
        return self.browser.post(path, json=body, base_url=ORIGIN, headers={"Origin": ORIGIN})

    def begin(self, grant: Grant, challenge: str, **changes: str | None) -> TestResponse:
        """Begin the ceremony."""
        query = self.query(challenge, **changes)
        return self.post("/oidc/authorize/begin", {"grant_id": grant.id, "query": query})

    def authorize(self, grant: Grant, challenge: str, **changes: str | None) -> str:
        """Open a grant with the signed-in person's passkey; return where the browser goes."""
        begun = self.begin(grant, challenge, **changes)
        assert begun.status_code == 200, begun.text
        answer = self.finish(begun.json)
        assert answer.status_code == 200, answer.text
        location: str = answer.json["redirect"]
        return location

    def finish(self, begun: Any) -> TestResponse:
        """Complete the ceremony."""
        response = self.world.passkey(self.signed_in or "arta").get(begun["options"])
        return self.post("/oidc/authorize/complete", {"challenge_id": begun["challenge_id"], "response": response})

    def code(self, grant: Grant) -> tuple[str, str]:
        """Return a fresh code and its PKCE verifier."""
        verifier, challenge = verifier_pair()
        location = self.authorize(grant, challenge)
        return parse_qs(urlsplit(location).query)["code"][0], verifier

    def call(self, path: str, form: Mapping[str, str], credential: Any = None) -> TestResponse:
        """Post a form with client authentication."""
        headers, fields = (credential or self.credential).prove()
        return self.app.test_client().post(path, base_url=ORIGIN, data={**fields, **form}, headers=dict(headers))

    def redeem(self, code: str, verifier: str, **changes: str) -> TestResponse:
        """Redeem a code."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": CALLBACK,
            "code_verifier": verifier,
        }
        return self.call("/oidc/token", form | changes)

    def tokens(self, grant: Grant) -> dict[str, Any]:
        """Run the whole code flow."""
        answer = self.redeem(*self.code(grant))
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json
        return found

    def refresh(self, refresh_token: str, **changes: str) -> TestResponse:
        """Redeem a refresh token."""
        return self.call("/oidc/token", {"grant_type": "refresh_token", "refresh_token": refresh_token} | changes)

    def introspect(self, token: str, credential: Any = None) -> dict[str, Any]:
        """Ask about a token."""
        answer = self.call("/oidc/introspect", {"token": token}, credential)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json
        return found

    def verifier(self) -> Verifier:
        """Return the verifier that the treasury would run."""
        jwks = self.browser.get("/.well-known/jwks.json", base_url=ORIGIN).json
        return Verifier(ORIGIN, AUDIENCE, jwks, status=None, clock=lambda: self.world.clock.now().timestamp())

    def grant(self, **kwargs: Any) -> Grant:
        """Give Arta a viewer's grant, which needs no approval."""
        grant = self.world.filed(**kwargs).grant
        assert grant is not None
        return grant

    def events(self, type_: str) -> list[dict[str, Any]]:
        """Return the leaves of one type, oldest first."""
        with self.world.broker.db.engine.connect() as connection:
            rows = connection.exec_driver_sql("SELECT leaf FROM event ORDER BY id").scalars().all()
        leaves = [json.loads(leaf) for leaf in rows]
        return [leaf for leaf in leaves if leaf["type"] == type_]


def open_treasury(world: World, *, key: ECKey | None = None, target: str = "treasury") -> Treasury:
    """Register a target and open a browser."""
    with world.broker.begin(LOCAL) as tx:
        jwks = None if key is None else {"keys": [{**key.as_dict(private=False), "kid": key.kid}]}
        client, secret = add_client(tx, target=target, name="Treasury payments", redirect_uris=[CALLBACK], jwks=jwks)
    credential: ClientSecret | ClientKey
    if key is not None:
        credential = ClientKey(client.id, key, ORIGIN, clock=lambda: world.clock.now().timestamp())
    else:
        credential = ClientSecret(client.id, secret or "")
    app = create_app(world.broker)
    return Treasury(world, app, app.test_client(), credential)


@pytest.fixture
def treasury(sqlite_world: World) -> Treasury:
    """Give the treasury with a client secret, and Arta signed in."""
    found = open_treasury(sqlite_world)
    found.sign_in("arta")
    return found


@pytest.fixture
def any_treasury(world: World) -> Treasury:
    """Give the same on each kind of database."""
    found = open_treasury(world)
    found.sign_in("arta")
    return found
