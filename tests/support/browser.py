"""How does a test drive a real browser with a passkey? Fixtures over Playwright and a virtual authenticator.

The browser is the one installed on the machine; nothing is ever downloaded. Pages are opened as
`http://localhost:PORT`, because passkeys refuse addresses in numbers (WebAuthn Level 3 section 5.1.3: the RP
ID is a domain).
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, BrowserContext, CDPSession, Page, sync_playwright

from tests.support.chromium import MISSING, find_chromium

LAUNCH_ARGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE localhost , EXCLUDE *.localhost , EXCLUDE 127.0.0.1",
)


@dataclass(frozen=True, slots=True)
class VirtualPasskey:
    """A virtual authenticator attached to one page."""

    session: CDPSession
    authenticator_id: str

    def set_user_verified(self, verified: bool, /) -> None:
        """Let the person's fingerprint match, or not."""
        self._send("setUserVerified", {"isUserVerified": verified})

    def set_presence(self, present: bool, /) -> None:
        """Answer requests at once, or leave them pending."""
        self._send("setAutomaticPresenceSimulation", {"enabled": present})

    def credentials(self) -> list[dict[str, object]]:
        """Return the stored credentials, private keys included."""
        found = self._send("getCredentials", {})["credentials"]
        assert isinstance(found, list)
        return found

    def add(self, credential: dict[str, object]) -> None:
        """Store a credential that another page's authenticator made."""
        self._send("addCredential", {"credential": credential})

    def _send(self, method: str, params: dict[str, object]) -> dict[str, object]:
        answer: dict[str, object] = self.session.send(
            f"WebAuthn.{method}", {"authenticatorId": self.authenticator_id, **params}
        )
        return answer


def attach_passkey(page: Page, *, transport: str = "internal", resident: bool = True) -> VirtualPasskey:
    """Give a page an authenticator that answers by itself with user verification."""
    session = page.context.new_cdp_session(page)
    session.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": transport,
        "hasResidentKey": resident,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    made = session.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    return VirtualPasskey(session, made["authenticatorId"])


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, object]:
    """Return the arguments of Playwright's `chromium.launch`."""
    chromium = find_chromium()
    if chromium is None:
        pytest.skip(MISSING)
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    return {"executable_path": str(chromium), "args": [*LAUNCH_ARGS, *sandbox]}


@pytest.fixture(scope="session")
def browser(browser_type_launch_args: dict[str, object]) -> Iterator[Browser]:
    """Give one browser for the session."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(**browser_type_launch_args)  # type: ignore[arg-type] # plain options
        yield running
        running.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """Give a fresh profile: no cookies, no passkeys."""
    fresh = browser.new_context(locale="en-GB", timezone_id="Europe/Belgrade")
    fresh.set_default_timeout(10_000)
    yield fresh
    fresh.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """Give a page of the fresh profile."""
    return context.new_page()


@pytest.fixture
def phone(browser: Browser) -> Iterator[Page]:
    """Give a page 360 CSS pixels wide, with touch."""
    fresh = browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    fresh.set_default_timeout(10_000)
    yield fresh.new_page()
    fresh.close()


@pytest.fixture
def passkey(page: Page) -> VirtualPasskey:
    """Give the page an authenticator."""
    return attach_passkey(page)
