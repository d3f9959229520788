"""A world served over HTTP on a free port, for tests that need a real browser at real pages."""

import base64
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from flask import Flask
from playwright.sync_api import Browser, Page
from werkzeug.serving import WSGIRequestHandler, make_server

from jitaccess.app import create_app
from jitaccess.clock import FrozenClock
from jitaccess.connectors import config_models
from jitaccess.demo.gallery import Seat
from jitaccess.demo.seed import seed
from jitaccess.policy.load import load
from jitaccess.settings import Server, Targets
from jitaccess.tokens.keys import create_wrapping_key
from tests.support.browser import attach_passkey
from tests.support.ports import free_port
from tests.support.world import EVERYBODY, ROOT, START, Prepared, World, open_world, settings_for

NOTHING: Mapping[str, str] = {}
SLOW_MS = 60_000
"""How long a page may take on a busy machine before a test gives up."""


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        return


@dataclass(slots=True)
class Served:
    """A world and where it is served."""

    world: World
    origin: str
    browser: Browser
    app: Flask

    def page(self, key: str | None, **context: Any) -> Page:
        """Give a page of a person with the person's own passkey; nobody is signed in yet."""
        page: Page = self.seat(key, **context).page
        return page

    def seat(self, key: str | None, **context: Any) -> Seat:
        """Give a page likewise, with a say in when its passkey answers."""
        # Colours that fade would be looked at half-way.
        fresh = self.browser.new_context(locale="en-GB", timezone_id="UTC", reduced_motion="reduce", **context)
        fresh.set_default_timeout(SLOW_MS)
        page = fresh.new_page()
        attached = attach_passkey(page)
        if key is not None:
            passkey = self.world.passkey(key)
            raw = passkey.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
            handle = passkey.user_handle or ""
            # A copy of a passkey whose counter does not rise is blocked: each copy counts in a range of its own.
            passkey.counter += 10_000
            count, passkey.counter = passkey.counter, passkey.counter + 5_000
            attached.add(
                {
                    "credentialId": base64.b64encode(passkey.credential_id).decode(),
                    "isResidentCredential": True,
                    "rpId": passkey.rp_id,
                    "privateKey": base64.b64encode(raw).decode(),
                    "userHandle": base64.b64encode(
                        base64.urlsafe_b64decode(handle + "=" * (-len(handle) % 4))
                    ).decode(),
                    "signCount": count,
                }
            )
        return Seat(page, attached.set_presence)

    def signed_in(self, key: str, **context: Any) -> Page:
        """Give a page of a person who is signed in."""
        page: Page = self.seated(key, **context).page
        return page

    def seated(self, key: str, **context: Any) -> Seat:
        """Give a page likewise, with a say in when its passkey answers."""
        seat = self.seat(key, **context)
        seat.page.goto(f"{self.origin}/sign-in?next=/passkeys")
        self.finish_sign_in(seat.page, "/passkeys")
        return seat

    def finish_sign_in(self, page: Page, path: str) -> None:
        """Let the browser's own menu sign in, which the virtual passkey answers at once, or press the button."""
        try:
            page.wait_for_url(f"{self.origin}{path}", timeout=5_000)
        except Exception:
            page.get_by_role("button", name="Sign in with a passkey").click()
            page.wait_for_url(f"{self.origin}{path}")


@contextmanager
def served(
    folder: Path,
    browser: Browser,
    *,
    more: Mapping[str, str] = NOTHING,
    secrets: Mapping[str, str] = NOTHING,
    **changes: Any,
) -> Iterator[Served]:
    """Serve a fresh world while the block runs.

    `more` is policy text (file name -> YAML) beside the shipped one, `secrets` what the broker knows of targets, `changes` settings.
    """
    port = free_port()
    origin = f"http://localhost:{port}"
    url = f"sqlite:///{folder / 'broker.db'}"
    wrapping_key = create_wrapping_key(folder / "wrapping.key")
    place = Server(public_url=origin, port=port)
    settings = settings_for(url, folder, server=place)
    texts = {file.name: file.read_text() for file in sorted((ROOT / "policies").glob("*.yaml"))}
    policy = load({**texts, **more}, register=None, connectors=config_models())
    seeded = seed(settings, FrozenClock(START), wrapping_key, policy, enrolled=EVERYBODY)
    targets = Targets(secrets_dir=folder / "secrets")
    targets.secrets_dir.mkdir(mode=0o700)
    for name, text in secrets.items():
        kept = targets.secrets_dir / name
        kept.touch(mode=0o600)
        kept.write_text(text)
    world = open_world(url, Prepared(folder, seeded), folder, server=place, targets=targets, **changes)
    app = create_app(world.broker)
    server = make_server("127.0.0.1", port, app, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield Served(world, origin, browser, app)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        world.close()
