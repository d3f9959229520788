"""Can an administrator register a client in a browser with a passkey, see its secret once, paste what it needs, and test it?"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from jitaccess.broker.clients import registered
from tests.support.served import Served, served

pytestmark = pytest.mark.slow


@pytest.fixture
def house(browser: Browser, tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path, browser) as found:
        yield found


@pytest.mark.covers("R15")
def test_a_client_is_registered_with_a_passkey_and_its_system_tested(house: Served) -> None:
    page = house.signed_in("agim", viewport={"width": 360, "height": 740})
    page.goto(f"{house.origin}/targets/registry")
    page.get_by_role("link", name="Register a client").click()
    page.get_by_text("Register an application that signs people in", exact=True).click()
    page.get_by_label("Name that people see").first.fill("Registry desk")
    page.get_by_label("Addresses it comes back to").fill("http://127.0.0.1:9/callback")
    page.get_by_label("Address that is told when access ends").fill("http://registry.example/logged-out")
    page.get_by_role("button", name="Check the client").first.click()
    # What cannot be registered is told, and what was typed is still there.
    expect(page.get_by_role("alert").first).to_contain_text("must be a full https address")
    expect(page.get_by_label("Addresses it comes back to")).to_have_value("http://127.0.0.1:9/callback")
    page.get_by_label("Address that is told when access ends").fill("")
    page.get_by_role("button", name="Check the client").first.click()
    expect(page.get_by_role("main")).to_contain_text("http://127.0.0.1:9/callback")
    page.get_by_role("button", name="Sign exactly this").click()
    shown = page.locator("#shown output")
    expect(shown).to_contain_text("client_secret")
    told = dict(line.split(" ") for line in shown.inner_text().splitlines())
    with house.world.broker.read() as view:
        client = registered(view)[told["client_id"]]
    assert client.knows_secret(told["client_secret"])
    page.get_by_role("link", name="Back to the clients").click()
    expect(page.get_by_role("main")).not_to_contain_text(told["client_secret"])
    page.get_by_text("An application that signs people in (OpenID Connect)").click()
    expect(page.locator('[data-snippet="client"]')).to_contain_text(client.id)
    page.get_by_text("nginx", exact=True).click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.get_by_role("button", name="Test it now").click()
    # Nobody listens there; the broker is really asked at its own address.
    expect(page.locator(".finding").first).to_contain_text("The broker's own address leads here.")
    expect(page.locator(".finding.act")).to_have_count(1)
    page.get_by_role("button", name="Switch Registry desk off").click()
    expect(page.get_by_role("main")).to_contain_text("switched off")


@pytest.mark.covers("R28")
def test_a_system_is_added_on_a_phone_as_a_proposal(house: Served) -> None:
    page = house.signed_in("agim", viewport={"width": 360, "height": 740})
    page.goto(f"{house.origin}/targets")
    page.get_by_role("link", name="Add a system").click()
    page.get_by_label("Short name in rules and logs").first.fill("land")
    page.get_by_label("Name that people see, in English").fill("Land registry")
    page.get_by_label("Address of the application").fill("https://land.example")
    page.get_by_label("Short name in rules and logs: small letters, digits, - and _: Right 1").fill("viewer")
    page.get_by_label("The group that signs").select_option("treasury-heads")
    page.get_by_label("Who may ask").select_option("treasury-staff")
    page.get_by_label("What one may do with it, in English: Right 1").fill("Look at parcels")
    page.get_by_label("How long at most").select_option("1d")
    page.get_by_role("button", name="Check the system").click()
    # A mistake has its place in the lines that are shown, and what was typed is still there.
    expect(page.get_by_role("alert")).to_contain_text("land.yaml:")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.get_by_label("How long at most").select_option("1h")
    page.get_by_role("button", name="Check the system").click()
    expect(page.locator("[data-written]")).to_contain_text('name: "Land registry"')
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.get_by_role("button", name="Propose it").click()
    expect(page.get_by_role("main")).to_contain_text("2 different persons")
    page.get_by_role("button", name="Sign its activation").click()
    page.wait_for_load_state()
    with house.world.broker.read() as view:
        assert "land" not in house.world.broker.policies.active(view).targets, "one signature is not enough"
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
