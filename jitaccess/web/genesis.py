"""The one-time genesis page: founders make their passkeys before there is a database (design.md section 6a).

It lives under a random path on the loopback address, is served once by `jitaccess init`, and ends when everybody has enough passkeys.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from flask import Flask, Response, abort, jsonify, render_template, request
from werkzeug.serving import WSGIRequestHandler, make_server

from jitaccess.identity.genesis import FounderDraft, new_user_handle
from jitaccess.identity.passkeys import RegisteredKey, check_registration, registration_options
from jitaccess.identity.site import Site
from jitaccess.settings import Settings
from jitaccess.store.ids import new_bytes, new_secret
from jitaccess.web import ceremony_words, speech, transfer


@dataclass(slots=True)
class Founder:
    """A founder while the genesis page is open."""

    name: str
    email: str
    institution: str
    unit: str
    handle: str = field(default_factory=new_user_handle)
    challenge: bytes = b""
    keys: list[RegisteredKey] = field(default_factory=list)


class GenesisPage:
    """The one-time page: each founder makes passkeys until all have enough."""

    def __init__(self, settings: Settings, founders: list[Founder], *, passkeys: int, pilot: bool) -> None:
        self.secret = new_secret()
        self.complete = threading.Event()
        self._founders = founders
        self._wanted = passkeys
        self._settings = settings.language
        self._site = Site(
            instance_id="genesis",
            log_origin=settings.log.origin,
            rp_id=settings.rp_id,
            origin=settings.server.public_url,
            name="jitaccess",
            pilot=pilot,
            sessions=settings.sessions,
        )
        self.app = self._make()

    def _make(self) -> Flask:
        app = Flask("jitaccess.web")
        speech.install(app, self._settings)
        transfer.install(app)
        ceremony_words.install(app)
        path = f"/genesis/{self.secret}"

        @app.get(path)
        def page() -> Response:
            nonce = new_secret()
            text = render_template(
                "genesis.html", founders=self._founders, wanted=self._wanted, path=path, nonce=nonce, site=self._site
            )
            response = Response(text)
            response.headers["Content-Security-Policy"] = (
                f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self'; img-src data:; connect-src 'self'; "
                "base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
            )
            response.headers["Cache-Control"] = "no-store"
            return response

        @app.post(f"{path}/<int:number>/begin")
        def begin(number: int) -> Response:
            founder = self._founder(number)
            founder.challenge = new_bytes(32)
            options = registration_options(
                self._site,
                challenge=founder.challenge,
                user_handle=founder.handle,
                label=founder.email,
                name=founder.name,
                exclude=[key.credential_id for key in founder.keys],
            )
            return jsonify({"challenge_id": str(number), "options": options})

        @app.post(f"{path}/<int:number>/complete")
        def complete(number: int) -> tuple[Response, int]:
            founder = self._founder(number)
            body: dict[str, Any] = request.get_json()
            challenge, founder.challenge = founder.challenge, b""
            found = (
                check_registration(self._site, challenge=challenge, response=body["response"]) if challenge else "spent"
            )
            if isinstance(found, str):
                return jsonify({"detail": "The passkey could not be registered. Start again.", "code": found}), 403
            if any(found.credential_id == key.credential_id for one in self._founders for key in one.keys):
                return jsonify({"detail": "This passkey is registered already."}), 409
            founder.keys.append(found)
            if all(len(one.keys) >= self._wanted for one in self._founders):
                self.complete.set()
            return jsonify({}), 200

        return app

    def _founder(self, number: int) -> Founder:
        if request.headers.get("Origin") != self._site.origin or not 0 <= number < len(self._founders):
            abort(403)
        return self._founders[number]

    def drafts(self) -> list[FounderDraft]:
        """Return what genesis takes."""
        return [
            FounderDraft(one.name, one.email, one.institution, one.unit, one.handle, tuple(one.keys))
            for one in self._founders
        ]


class _Quiet(WSGIRequestHandler):
    """Writes no line for each request: the address is a secret while the page is open."""

    def log(self, type: str, message: str, *args: Any) -> None:
        return


@contextmanager
def served(page: GenesisPage, port: int) -> Iterator[None]:
    """Serve the page on the loopback address while the block runs."""
    server = make_server("127.0.0.1", port, page.app, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
