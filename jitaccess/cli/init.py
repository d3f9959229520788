"""`jitaccess init`: genesis on this machine (design.md section 6a).

Makes the wrapping key, opens a one-time page on the loopback address under a random path, lets each founder make the passkeys, and then
writes leaf 0 and prints the paper recovery keys once. `--pilot` takes one founder with one passkey and marks the instance for ever.
"""

import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from flask import Flask, Response, abort, jsonify, render_template, request
from flask_babel import Babel
from werkzeug.serving import make_server

from jitaccess.clock import Clock, SystemClock
from jitaccess.errors import JitError, Kind
from jitaccess.identity.genesis import (
    FOUNDERS_WANTED,
    PAPER_THRESHOLD,
    PASSKEYS_WANTED,
    FounderDraft,
    genesis,
    new_user_handle,
)
from jitaccess.identity.passkeys import RegisteredKey, check_registration, registration_options
from jitaccess.identity.site import Site
from jitaccess.policy.decision_tests import REGISTER_FILE, read_register
from jitaccess.policy.evaluate import PolicySet
from jitaccess.policy.load import load as load_policies
from jitaccess.policy.problems import PolicyErrors
from jitaccess.settings import Settings, load
from jitaccess.store.ids import new_bytes, new_secret
from jitaccess.tokens.keys import create_wrapping_key, read_wrapping_key


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
        Babel(app, default_locale="en")
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


@click.command()
@click.option(
    "--pilot", is_flag=True, help="One founder with one passkey; marked on every page and in every checkpoint."
)
@click.option(
    "--founders",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help='JSON list of {"name", "email", "institution", "unit"}; asked for when absent.',
)
@click.option(
    "--policies", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A folder to activate first."
)
def init(pilot: bool, file: Path | None, policies: Path | None) -> None:
    """Create the instance: founders make their passkeys on a one-time page of this machine."""
    settings = load()
    count = 1 if pilot else FOUNDERS_WANTED
    founders = _founders(file, count)
    policy = _policy(policies)
    page = GenesisPage(settings, founders, passkeys=1 if pilot else PASSKEYS_WANTED, pilot=pilot)
    server = make_server("127.0.0.1", settings.server.port, page.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    click.echo("Open this page on this machine; each founder makes the passkeys there:")
    click.echo(f"  {settings.server.public_url}/genesis/{page.secret}")
    page.complete.wait()
    server.shutdown()
    thread.join()
    click.echo(finish(settings, SystemClock(), page.drafts(), pilot=pilot, policy=policy))


def finish(
    settings: Settings, clock: Clock, drafts: list[FounderDraft], *, pilot: bool, policy: PolicySet | None
) -> str:
    """Write the instance and return what is printed once."""
    path = settings.keys.wrapping_key_file
    wrapping_key = read_wrapping_key(path) if path.exists() else create_wrapping_key(path)
    made = genesis(settings, clock, wrapping_key, drafts, pilot=pilot, policy=policy)
    lines = [
        f"Instance {made.instance_id} was created{' as a pilot' if pilot else ''}.",
        f"Wrapping key: {path} (back it up, apart from the database)",
        f"Paper recovery keys, any {PAPER_THRESHOLD} of these {len(made.paper_keys)}; print them, give each to another person,",
        "and clear this screen. They are shown once:",
        *(f"  {number}. {text}" for number, text in enumerate(made.paper_keys, start=1)),
        "Next: jitaccess serve",
    ]
    return "\n".join(lines)


def _founders(file: Path | None, count: int) -> list[Founder]:
    if file is None:
        return [
            Founder(
                name=click.prompt(f"Founder {number}: name"),
                email=click.prompt("  mail address"),
                institution=click.prompt("  institution (short id)"),
                unit=click.prompt("  unit"),
            )
            for number in range(1, count + 1)
        ]
    try:
        found = [
            Founder(str(entry["name"]), str(entry["email"]), str(entry["institution"]), str(entry["unit"]))
            for entry in json.loads(file.read_text())
        ]
    except (ValueError, TypeError, KeyError) as error:
        raise JitError(Kind.INVALID, f"{file} must be a JSON list of name, email, institution and unit.") from error
    if len(found) != count:
        raise JitError(Kind.INVALID, f"This profile starts with {count} founder(s); {file} names {len(found)}.")
    return found


def _policy(folder: Path | None) -> PolicySet | None:
    if folder is None:
        return None
    texts = {path.name: path.read_text() for path in sorted(folder.glob("*.yaml"))}
    people = folder / "tests" / REGISTER_FILE
    try:
        return load_policies(texts, register=read_register(people.read_text()) if people.exists() else None)
    except PolicyErrors as error:
        raise JitError(Kind.INVALID, str(error)) from error
