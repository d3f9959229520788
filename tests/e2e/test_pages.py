"""Are all pages good for everybody: light and dark, wide and narrow, enlarged, by keyboard alone, and in few taps?

One browser and one served world for all of it. axe-core looks at every page; nothing is ever wider than the screen.
"""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from jitaccess.broker import inspection, revoke
from jitaccess.broker.changes import Applied
from jitaccess.domain.events import EventType
from jitaccess.domain.values import SYSTEM
from jitaccess.store.tables import Lease, TargetAccount
from tests.support.candidates import document_without, proposed
from tests.support.served import Served, served

WIDE, PHONE, ENLARGED = {"width": 1280, "height": 900}, {"width": 360, "height": 740}, {"width": 640, "height": 450}
"""`ENLARGED` is the wide screen at 200 %: half as many CSS pixels."""
VIEWS = ((WIDE, "light"), (WIDE, "dark"), (PHONE, "light"), (PHONE, "dark"))


LEDGER = """
version: 1
targets:
  ledger:
    name: Ledger database
    owner: mof
    entitlements:
      reader: {label: Read the ledger, max_duration: 2h}
    connector:
      kind: postgresql
      host: ledger.mof.example
      database: ledger
      secret: ledger
      entitlements:
        reader: {roles: [ledger_reader]}
rules:
  - id: read-ledger
    for: {groups: [treasury-staff]}
    to: {target: ledger, entitlements: [reader]}
    duration: {default: 30m, max: 1h}
    approve: none
"""
"""A system on which accounts are made: its access is handed over on a page of its own."""


@pytest.fixture(scope="module")
def house(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Give a served world with some past: releases, looks, access to hand over, requests that wait, an account that nothing explains."""
    with served(tmp_path_factory.mktemp("pages"), browser, more={"ledger.yaml": LEDGER}) as house:
        house.world.released()
        house.world.filed()
        house.world.filed(target="ledger", entitlement="reader", reason="closing of the month")
        house.world.filed(entitlement="releaser", reason="August invoice")
        house.world.filed(entitlement="releaser", reason="September", inputs={"order": "TR-000419", "amount_cents": 1})
        _unexplained(house)
        house.world.broker.checkpoints.make()
        yield house


def _unexplained(house: Served) -> None:
    """Let a look at the ledger have found an account that no access explains."""
    with house.world.broker.begin(SYSTEM) as tx:
        event = tx.record(EventType.ALARM_RAISED, subject={"target": "ledger"}, body={"what": "unexplained"})
        tx.insert(
            TargetAccount,
            event,
            id="a" * 64,
            target="ledger",
            name="shadow",
            rights=[],
            fingerprint="-",
            first_seen_at=tx.now,
            finding="new",
            extra=["SUPERUSER", "member of a_role_with_a_rather_long_name_that_somebody_chose"],
            found_at=tx.now,
            acted="cannot",
            statement='ALTER ROLE "shadow" WITH NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;',
        )


def _in_the_night(house: Served) -> None:
    """Let an end of access be stuck, and changes wait for a second signature: what the administrator's desk is for."""
    world = house.world
    with world.broker.begin(SYSTEM) as tx:
        key = tx.new_id()
        tx.insert(
            Lease,
            tx.record(EventType.LEASE_STUCK),
            id=key,
            grant_id=grant_of(house, "treasury"),
            person_id=world.person("arta"),
            target="ledger",
            connector="postgresql",
            effect={"kind": "postgresql", "name": f"jit-{key}", "detail": {}},
            state="STUCK",
            cause="expired",
            created_at=tx.now,
            ends_at=tx.now,
            ended_at=tx.now,
            attempts=7,
            next_at=tx.now + timedelta(hours=1),
            last_error="CallFailed would_lose 3: a_table_with_a_rather_long_name_that_somebody_chose, another_one_like_it",
        )
    for kind, subject, payload in (
        ("member.add", "treasury-heads", {"member_id": world.person("arta")}),
        (
            "client.add",
            "treasury",
            {"name": "Ledger", "redirect_uris": ["https://ledger.mof.example/a/rather/long/path/to/come/back/to"]},
        ),
    ):
        assert isinstance(world.change("agim", kind, subject, payload), Applied)


def grant_of(house: Served, target: str) -> str:
    """Return Arta's live access on a system that was looked at or is handed over."""
    with house.world.broker.read() as view:
        grants = revoke.grants_of(view, house.world.person("arta"))
    return next(grant.id for grant in grants if grant.target == target and grant.state == "ACTIVE")


def looked_at(page: Page, address: str) -> list[str]:
    """Open a page and give everything that is wrong with it, in all four views and enlarged."""
    wrong: list[str] = []
    page.set_viewport_size(WIDE)
    page.goto(address)
    for size, scheme in VIEWS:
        page.set_viewport_size(size)
        page.emulate_media(color_scheme=scheme)
        found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
        wrong += [
            f"{scheme} {size['width']}: {one['id']} {node['html'][:160]}" for one in found for node in one["nodes"][:3]
        ]
    for size in (PHONE, ENLARGED):
        page.set_viewport_size(size)
        wide = page.evaluate("document.documentElement.scrollWidth")
        if wide > size["width"]:
            wrong.append(f"{wide} px wide on {size['width']}")
    page.set_viewport_size(WIDE)
    return wrong


def all_right(page: Page, origin: str, paths: list[str]) -> None:
    """Look at pages and list what is wrong with any of them."""
    wrong = {path: found for path in paths if (found := looked_at(page, f"{origin}{path}"))}
    assert not wrong, "\n".join(f"{path}: {line}" for path, lines in wrong.items() for line in lines)


@pytest.mark.slow
def test_pages_without_a_session_are_for_everybody(house: Served) -> None:
    all_right(house.page(None), house.origin, ["/sign-in", "/lost", "/lost?held=1", "/no-such-page"])


@pytest.mark.slow
def test_pages_of_requester_and_approver_are_for_everybody(house: Served) -> None:
    with house.world.broker.read() as view:
        lines = inspection.lines(view, inspection.Filter())
    waiting = next(line.request_id for line in lines if line.state == "PENDING")
    done = next(line.request_id for line in lines if line.approvals)
    arta = house.signed_in("arta")
    all_right(
        arta,
        house.origin,
        [
            "/", "/request", "/request?q=zeppelin", "/request?target=treasury&entitlement=releaser",
            f"/request?again={done}", f"/requests/{waiting}", "/passkeys", "/settings", "/lost", "/policy",
            "/policy/explain?right=treasury/releaser", f"/grants/{grant_of(house, 'treasury')}/extend",
            f"/grants/{grant_of(house, 'ledger')}/open",
        ],
    )  # fmt: skip
    arta.context.close()
    blerim = house.signed_in("blerim")
    all_right(blerim, house.origin, ["/approvals", f"/approvals/{waiting}", "/approvals/set", "/deputies"])
    blerim.context.close()


@pytest.mark.slow
def test_pages_of_administrator_and_auditor_are_for_everybody(house: Served) -> None:
    _in_the_night(house)
    policy_id = proposed(house.world, document_without(house.world, "look-at-payments"))
    arta = house.world.person("arta")
    with house.world.broker.read() as view:
        done = next(line.request_id for line in inspection.lines(view, inspection.Filter()) if line.approvals)
    agim = house.signed_in("agim")
    all_right(
        agim,
        house.origin,
        [
            "/admin", "/admin?records=now", "/people", "/people?passkeys=one", f"/people/{arta}", "/policy", "/settings",
            "/groups", "/groups/treasury-staff?q=drita", "/targets",
            "/targets/treasury", "/targets/treasury/join", "/new-target", f"/new-target/{policy_id}/treasury", "/holds",
            "/board",
            f"/policy/sets/{policy_id}/replay", "/audit", f"/audit/requests/{done}",
            "/audit/sample?n=2", "/audit/pictures", "/log", "/approvals/pace", "/watch", "/notices", "/clients/logouts",
            f"/witness/requests/{done}",
        ],
    )  # fmt: skip
    agim.context.close()


# ---------------------------------------------------------------- by keyboard, and in few taps


class Taps:
    """Counts what a person does: a tap, a key that presses, a field that is filled in."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.count = 0

    def tap(self, role: str, name: str) -> None:
        """Tap one thing."""
        self.page.get_by_role(role, name=name).first.click()  # type: ignore[arg-type]
        self.count += 1

    def fill(self, label: str, text: str) -> None:
        """Fill one field in."""
        self.page.get_by_label(label, exact=True).fill(text)
        self.count += 1


@pytest.mark.slow
def test_asking_takes_four_interactions_after_sign_in_and_handing_back_one(house: Served) -> None:
    page = house.signed_in("arta", viewport=PHONE)
    page.goto(f"{house.origin}/")
    taps = Taps(page)
    taps.tap("link", "Treasury payments Look at payments")
    taps.fill("Why", "quarterly payments, second look")
    taps.tap("button", "Check your answers")
    taps.tap("button", "Sign and send with your passkey")
    page.wait_for_url(f"{house.origin}/")
    assert taps.count <= 4
    open_ = page.locator("article.grant", has_text="open")
    before = open_.count()
    back = Taps(page)
    back.tap("button", "Hand back")
    expect(open_).to_have_count(before - 1)
    assert back.count == 1
    page.context.close()


def waiting_link(house: Served, order: str) -> str:
    """File a request that waits and give the address that the approver's mail holds."""
    filed = house.world.filed(entitlement="releaser", inputs={"order": order, "amount_cents": 5_000})
    return f"/approvals/{filed.request.id}"


@pytest.mark.slow
@pytest.mark.covers("R25")
def test_approving_from_the_mails_link_takes_three_taps_without_a_session_and_two_with_one(house: Served) -> None:
    first, second = waiting_link(house, "TR-500001"), waiting_link(house, "TR-500002")
    page = house.page("blerim", viewport=PHONE)
    page.goto(f"{house.origin}{first}")  # leads to sign-in: at most one tap, the browser's own menu
    house.finish_sign_in(page, first)
    taps = Taps(page)
    taps.count = 1
    _approve(page, taps)
    assert taps.count <= 3
    page.goto(f"{house.origin}{second}")
    again = Taps(page)
    _approve(page, again)
    assert again.count <= 2
    page.context.close()


def _approve(page: Page, taps: Taps) -> None:
    taps.tap("button", "Approve")
    taps.count += 1  # the device's own prompt, which opens by itself
    expect(page.get_by_text("Another signature is still needed")).to_be_visible()


def tabbed_to(page: Page, role: str, name: str) -> None:
    """Press Tab until the wanted thing has the focus."""
    wanted = page.get_by_role(role, name=name).first  # type: ignore[arg-type]
    for _ in range(80):
        page.keyboard.press("Tab")
        if wanted.evaluate("element => element === document.activeElement"):
            return
    raise AssertionError(f"Tab never reaches {role} {name!r}")


@pytest.mark.slow
def test_request_and_approval_work_by_keyboard_alone(house: Served) -> None:
    page = house.signed_in("arta")
    page.goto(f"{house.origin}/request?target=treasury&entitlement=releaser")
    for label, text in (("Payment order", "TR-000418"), ("Amount in cents", "4200"), ("Why", "by keyboard")):
        tabbed_to(page, "textbox", label)
        page.keyboard.type(text)
    tabbed_to(page, "button", "Check your answers")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Check your answers")).to_be_visible()
    tabbed_to(page, "button", "Sign and send with your passkey")
    page.keyboard.press("Enter")
    page.wait_for_url(f"{house.origin}/")
    page.context.close()
    approver = house.signed_in("blerim")
    approver.goto(f"{house.origin}/approvals")
    newest = approver.get_by_role("link", name="Arta Krasniqi").last.get_attribute("href")
    approver.goto(f"{house.origin}{newest}")
    tabbed_to(approver, "button", "Approve")
    approver.keyboard.press("Enter")
    expect(approver.get_by_text("Another signature is still needed")).to_be_visible()
    approver.context.close()
