"""Do the browser's fixtures work? A page of our own, a virtual passkey, and no way out of the machine."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import Error, Page

from tests.support.browser import VirtualPasskey

REGISTER = """async () => {
  const text = new TextEncoder();
  const made = await navigator.credentials.create({publicKey: {
    rp: {id: "localhost", name: "bench"}, user: {id: text.encode("u"), name: "u", displayName: "u"},
    challenge: text.encode("challenge"), pubKeyCredParams: [{type: "public-key", alg: -7}],
    authenticatorSelection: {userVerification: "required", residentKey: "required"}}});
  return made.id;
}"""


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>bench</title>")

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """Give the address of an empty page."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://localhost:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def test_a_passkey_is_made_in_the_page(page: Page, passkey: VirtualPasskey, site: str) -> None:
    page.goto(site)
    made = page.evaluate(REGISTER)
    assert made
    assert len(passkey.credentials()) == 1


def test_without_verification_the_page_is_refused(page: Page, passkey: VirtualPasskey, site: str) -> None:
    passkey.set_user_verified(False)
    page.goto(site)
    with pytest.raises(Error, match="NotAllowedError"):
        page.evaluate(REGISTER)


def test_the_phone_is_narrow(phone: Page, site: str) -> None:
    phone.goto(site)
    assert phone.evaluate("innerWidth") <= 980
    assert phone.viewport_size == {"width": 360, "height": 740}


def test_the_browser_reaches_no_other_host(page: Page) -> None:
    with pytest.raises(Error, match="ERR_NAME_NOT_RESOLVED"):
        page.goto("http://example.org/")
