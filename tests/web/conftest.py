"""A Flask client with somebody's session, over a world on SQLite (the doors do not depend on the database)."""

from dataclasses import dataclass
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from jitaccess.app import create_app
from jitaccess.web.doors import SESSION_COOKIE
from tests.support.world import ORIGIN, World
from tests.support.worlds import prepared_sqlite, sqlite_world

__all__ = ["prepared_sqlite", "sqlite_world"]


@dataclass(slots=True)
class Site:
    """The application and a browser at its doors."""

    world: World
    app: Flask
    client: FlaskClient

    def as_(self, key: str) -> "Site":
        """Sit down at the browser of another person."""
        current = self.world.current(key)
        self.client.set_cookie(SESSION_COOKIE, self.world.secrets[current.session.id], domain="localhost", secure=True)
        return self

    def out(self) -> "Site":
        """Sit down at a browser without a session."""
        self.client.delete_cookie(SESSION_COOKIE, domain="localhost")
        return self

    def get(self, path: str, **headers: str) -> TestResponse:
        """GET a page."""
        return self.client.get(path, base_url=ORIGIN, headers=headers)

    def post(self, path: str, body: Any = None, **headers: str) -> TestResponse:
        """POST JSON from our own origin."""
        return self.client.post(path, base_url=ORIGIN, json=body or {}, headers={"Origin": ORIGIN, **headers})

    def form(self, path: str, **fields: Any) -> TestResponse:
        """POST a plain form from our own origin."""
        return self.client.post(path, base_url=ORIGIN, data=fields, headers={"Origin": ORIGIN})

    def ceremony(self, key: str, path: str, body: Any = None) -> TestResponse:
        """Begin, answer with a person's passkey, complete."""
        begun = self.post(f"{path}/begin", body)
        if begun.status_code != 200:
            return begun
        answer = self.world.passkey(key).get(begun.json["options"])
        return self.post(f"{path}/complete", {"challenge_id": begun.json["challenge_id"], "response": answer})


@pytest.fixture
def site(sqlite_world: World) -> Site:
    """Give the application with nobody signed in."""
    app = create_app(sqlite_world.broker)
    return Site(sqlite_world, app, app.test_client(use_cookies=True))
