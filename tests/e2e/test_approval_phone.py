"""Can an approver decide on a phone? The decision fits one screen 360 px wide, and several are signed with one tap of the passkey.

The pages come from the application in this process: what the browser asks for is answered without a port.
"""

from base64 import b64encode
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from playwright.sync_api import Page, Route, expect
from sqlalchemy import select

from jitaccess.demo.soft_passkey import un_b64u
from jitaccess.proof.canonical import sha256_b64u
from jitaccess.proof.statements import ApprovalSetStatement, ApprovalStatement
from jitaccess.store.tables import Approval, ApprovalSet
from tests.support.policy_swap import Rules, swap
from tests.support.world import ORIGIN
from tests.web.conftest import Site, prepared_sqlite, site, sqlite_world
from tests.web.test_approval_page import rebuilt

__all__ = ["prepared_sqlite", "site", "sqlite_world"]
PATIENCE_MS = 30_000
OURS = {"cookie", "accept-encoding", "origin", "sec-fetch-site"}
"""Headers that the client in this process sets itself."""


def plain(raw: bytes) -> str:
    return b64encode(raw).decode()


def seat(phone: Page, site: Site, key: str) -> None:
    """Give the phone a person's session and passkey."""
    site.as_(key)
    phone.set_default_timeout(PATIENCE_MS)

    def answer(route: Route) -> None:
        asked = route.request
        headers = {name: value for name, value in asked.headers.items() if name not in OURS}
        found = site.client.open(
            asked.url.removeprefix(ORIGIN),
            method=asked.method,
            base_url=ORIGIN,
            headers={**headers, "Origin": ORIGIN, "Sec-Fetch-Site": "same-origin"},
            data=asked.post_data_buffer,
        )
        body = found.get_data()
        found.close()
        route.fulfill(status=found.status_code, headers=dict(found.headers), body=body)

    phone.route(f"{ORIGIN}/**", answer)
    session = phone.context.new_cdp_session(phone)
    session.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    made = session.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    soft = site.world.passkey(key)
    credential = {
        "credentialId": plain(soft.credential_id),
        "isResidentCredential": True,
        "rpId": "localhost",
        "privateKey": plain(soft.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())),
        "userHandle": plain(un_b64u(soft.user_handle or "")),
        "signCount": soft.counter + 1,
    }
    session.send("WebAuthn.addCredential", {"authenticatorId": made["authenticatorId"], "credential": credential})


def fits(phone: Page) -> bool:
    return bool(phone.evaluate("document.documentElement.scrollWidth <= 360"))


@pytest.mark.slow
def test_the_decision_is_on_one_screen_and_a_shorter_time_is_signed(phone: Page, site: Site) -> None:
    filed = site.world.filed(entitlement="releaser", duration_s=1800, reason="Road works, section 4, July invoice")
    seat(phone, site, "blerim")
    phone.goto(f"{ORIGIN}/approvals/{filed.request.id}")
    assert fits(phone)
    for name in ("Approve", "Deny: this looks wrong"):
        box = phone.get_by_role("button", name=name).bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= 740, f"the decision needs scrolling: {box}"
    phone.get_by_label("For how long").select_option("600")
    phone.get_by_role("button", name="Approve").tap()
    expect(phone.get_by_text("You signed this. Another signature is still needed.")).to_be_visible(timeout=PATIENCE_MS)
    assert fits(phone)


@pytest.mark.slow
def test_several_are_signed_at_once_and_each_was_shown(phone: Page, site: Site) -> None:
    for number in range(2):
        site.world.filed(entitlement="releaser", inputs={"order": f"TR-00000{number}", "amount_cents": 5})
    seat(phone, site, "blerim")
    phone.goto(f"{ORIGIN}/approvals")
    phone.get_by_role("button", name="Sign several at once").tap()
    expect(phone.get_by_role("button", name="Show what I would sign")).to_be_visible(timeout=PATIENCE_MS)
    assert fits(phone)
    for box in phone.get_by_label("Sign this").all():
        box.check()
    phone.get_by_role("button", name="Show what I would sign").tap()
    expect(phone.get_by_text("Nothing waits for you.")).to_be_visible(timeout=PATIENCE_MS)
    with site.world.broker.read() as view:
        signed = view.all(select(ApprovalSet))
        assert [row.set_id for row in view.all(select(Approval))] == [signed[0].id] * 2


CANCELLED_ONCE = """
if (location.pathname.endsWith("/prepare") && !sessionStorage.getItem("cancelled")) {
  const asked = navigator.credentials.get.bind(navigator.credentials);
  navigator.credentials.get = (options) => {
    navigator.credentials.get = asked;
    sessionStorage.setItem("cancelled", "yes");
    return Promise.reject(new DOMException("cancelled", "NotAllowedError"));
  };
}
"""


def dear(rules: Rules) -> None:
    rules["release-payments"]["approve"]["read_back"] = [{"figure": "amount_cents", "above": 100_000_000}]


def prepared(phone: Page, site: Site) -> str:
    """Choose five minutes with a comment, tap Approve, and cancel the prompt; return the request's id."""
    swap(site.world, dear)
    filed = site.world.filed(entitlement="releaser", duration_s=1800)
    seat(phone, site, "blerim")
    phone.add_init_script(CANCELLED_ONCE)
    phone.goto(f"{ORIGIN}/approvals/{filed.request.id}")
    phone.get_by_label("For how long").select_option("300")
    phone.locator('input[name="read.amount_cents"]').fill("1,250,000.00")
    phone.get_by_text("Add a comment").tap()
    phone.locator('input[name="comment"]').fill("Only as long as needed.")
    phone.get_by_role("button", name="Approve").tap()
    expect(phone.locator("form[data-autostart] .problem")).to_be_visible(timeout=PATIENCE_MS)
    return filed.request.id


def stored(site: Site) -> ApprovalStatement:
    with site.world.broker.read() as view:
        (row,) = view.all(select(Approval))
    return ApprovalStatement.parse(row.statement or b"")


@pytest.mark.slow
@pytest.mark.covers("R24", "R19")
def test_after_a_cancelled_prompt_what_is_signed_is_still_what_is_shown(phone: Page, site: Site) -> None:
    request_id = prepared(phone, site)
    shown = rebuilt(phone.content())
    phone.get_by_role("button", name="Sign with your passkey").tap()
    expect(phone.get_by_text("You signed this. Another signature is still needed.")).to_be_visible(timeout=PATIENCE_MS)
    expect(phone.get_by_text("Only as long as needed.")).to_be_visible()
    assert shown.max_duration_s == 300
    assert stored(site) == shown
    assert stored(site).request_id == request_id


@pytest.mark.slow
@pytest.mark.covers("R24", "R3")
def test_a_prompt_answered_too_late_draws_the_page_anew_with_the_same_choice(phone: Page, site: Site) -> None:
    prepared(phone, site)
    late = rebuilt(phone.content())
    site.world.advance(timedelta(minutes=6))
    sign = phone.get_by_role("button", name="Sign with your passkey")
    with phone.expect_response("**/approval/complete") as refused:
        sign.tap()
    assert refused.value.json()["code"] == "challenge_expired"
    expect(phone.locator("form[data-autostart] .problem")).to_be_visible(timeout=PATIENCE_MS)
    with phone.expect_response("**/prepare") as again:
        sign.tap()
    shown = rebuilt(again.value.text())
    expect(phone.get_by_text("You signed this. Another signature is still needed.")).to_be_visible(timeout=PATIENCE_MS)
    expect(phone.get_by_text("Only as long as needed.")).to_be_visible()
    assert (shown.max_duration_s, shown.nonce == late.nonce) == (300, False)
    assert stored(site) == shown


@pytest.mark.slow
@pytest.mark.covers("R24", "R19")
def test_after_a_cancelled_prompt_a_set_is_still_the_one_that_is_shown(phone: Page, site: Site) -> None:
    for number in range(2):
        site.world.filed(entitlement="releaser", inputs={"order": f"TR-00000{number}", "amount_cents": 5})
    seat(phone, site, "blerim")
    phone.add_init_script(CANCELLED_ONCE)
    phone.goto(f"{ORIGIN}/approvals/set")
    for box in phone.get_by_label("Sign this").all():
        box.check()
    phone.get_by_role("button", name="Show what I would sign").tap()
    expect(phone.locator("form[data-autostart] .problem")).to_be_visible(timeout=PATIENCE_MS)
    digests = tuple(phone.locator("[data-digest]").all_text_contents())
    nonce = phone.locator('dl[data-set] [data-field="nonce"]').text_content()
    phone.get_by_role("button", name="Sign all with your passkey").tap()
    expect(phone.get_by_text("Nothing waits for you.")).to_be_visible(timeout=PATIENCE_MS)
    with site.world.broker.read() as view:
        (signed,) = view.all(select(ApprovalSet))
        singles = {sha256_b64u(row.statement or b"") for row in view.all(select(Approval))}
    found = ApprovalSetStatement.parse(signed.statement)
    assert (found.approvals, found.nonce) == (digests, nonce)
    assert singles == set(digests)
