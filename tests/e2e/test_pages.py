"""Are all pages good for everybody: in each language, light and dark, wide and narrow, enlarged, by keyboard alone, and in few taps?

One browser and one served world for all of it. The pages are those of the demo's gallery; axe-core looks at every one of them; nothing is
ever wider than the screen.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from jitaccess.broker.changes import Applied
from jitaccess.broker.clients import add_client
from jitaccess.demo import gallery
from jitaccess.demo.gallery import NOBODY, PHONE, SCENES, WIDE, Left, Scene, Seat, View, faults, open_scene
from jitaccess.domain.events import EventType
from jitaccess.domain.values import SYSTEM
from jitaccess.identity.enrolment import create_link
from jitaccess.identity.people import add_account
from jitaccess.language import Language, catalogue
from jitaccess.settings import Demo
from jitaccess.store.tables import Lease, TargetAccount
from jitaccess.told import called_in
from tests.support.candidates import document_without, proposed
from tests.support.served import Served, served

VIEWS = {
    "en": (View(WIDE, "light"), View(PHONE, "dark")),
    "sq": (View(PHONE, "light"),),
    "sr": (View(WIDE, "dark"),),
}
"""Colours do not depend on words: all rules are tried in each language, and every view in one of them. The demo, asked for all languages
and schemes, tries everything everywhere. Whether a page is too wide does depend on words, and is looked at in each language."""

CALLBACK = "http://127.0.0.1:8001/callback"
ORDERS = (("TR-000418", 4_200_000), ("TR-000419", 1), ("TR-000431", 950_000))
LEFT_OUT = {
    "_closing.html": "an access whose end was brought forward, shown for a minute",
    "_scheduled.html": "an access that begins later",
    "oidc_stronger.html": "an application that asks for a passkey of another class: tests/oidc",
}
"""What no scene shows, and why."""


@pytest.fixture(scope="module")
def house(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Give a served world with some past: releases, looks, requests that wait, an account that nothing explains, a changed record."""
    folder, more = tmp_path_factory.mktemp("pages"), gallery.hosts()
    with served(folder, browser, more=more.policies, secrets=more.secrets, demo=Demo(enabled=True)) as house:
        house.world.released()
        house.world.filed()
        for order, cents in ORDERS:
            house.world.filed(entitlement="releaser", reason="August", inputs={"order": order, "amount_cents": cents})
        _unexplained(house)
        house.world.broker.checkpoints.make()
        yield house


def _unexplained(house: Served) -> None:
    """Let a look at the servers have found an account that no access explains."""
    with house.world.broker.begin(SYSTEM) as tx:
        event = tx.record(EventType.ALARM_RAISED, subject={"target": "hosts"}, body={"what": "unexplained"})
        tx.insert(
            TargetAccount,
            event,
            id="a" * 64,
            target="hosts",
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


def _in_the_night(house: Served, grant_id: str) -> None:
    """Let an end of access be stuck, and changes wait for a second signature: what the administrator's desk is for."""
    world = house.world
    with world.broker.begin(SYSTEM) as tx:
        key = tx.new_id()
        tx.insert(
            Lease,
            tx.record(EventType.LEASE_STUCK),
            id=key,
            grant_id=grant_id,
            person_id=world.person("arta"),
            target="hosts",
            connector="ssh_ca",
            effect={"kind": "ssh_ca", "name": f"jit-{key}", "detail": {}},
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


@pytest.fixture(scope="module")
def left(house: Served) -> Left:
    """Say what there is to look at."""
    world = house.world
    with world.broker.begin(SYSTEM) as tx:
        client, _ = add_client(tx, target="treasury", name="Payments desk", redirect_uris=[CALLBACK])
        account = add_account(tx, person_id=world.person("jelena"), label="jelena.p@audit.example")
        link = create_link(tx, world.broker.site, account_id=account.id, by="a test")
    folder = Path(world.broker.settings.store.url.removeprefix("sqlite:///"))
    gallery.damage(folder, world.person("besa"))
    granted = world.filed().grant
    assert granted is not None
    _in_the_night(house, granted.id)
    done = world.released(inputs={"order": "TR-000400", "amount_cents": 100})
    waiting = world.filed(entitlement="releaser", reason="School", inputs={"order": "TR-000432", "amount_cents": 90})
    return Left(
        request=waiting.request.id,
        done=done.request.id,
        grant=granted.id,
        hosts="",
        person=world.person("arta"),
        damaged=world.person("besa"),
        policy=proposed(world, document_without(world, "look-at-payments")),
        authorize=gallery.authorize_path(client.id, CALLBACK),
        client=client.id,
        enrol=link.rpartition("/")[2],
        genesis="",
    )


@pytest.fixture(scope="module")
def seats(house: Served, left: Left) -> Iterator[dict[str, Seat]]:
    """Let everybody of the gallery sit down at a browser of their own, once all has happened that they look at."""
    people = dict.fromkeys(scene.person for scene in SCENES)
    found = {key: house.seat(None) if key == NOBODY else house.seated(key) for key in people}
    for seat in found.values():
        seat.passkey_answers(False)
    yield found
    for seat in found.values():
        seat.page.context.close()


SHORT, CODE = 9, re.compile(r"[a-z_]+")
"""Shorter sentences stand in other texts by chance, and words that are signed stand beside what they mean."""
AS_THEY_ARE = ("demo/mail", "{genesis}", "new-target", "new-target/{policy}/treasury", "targets/treasury/join")
"""Mails in their readers' languages, and what is pasted elsewhere."""


@pytest.fixture(scope="module")
def english(house: Served) -> dict[str, list[str]]:
    """Give, for each language, what must not stand on its pages: sentences and names that are called otherwise there."""
    with house.world.broker.read() as view:
        policy = house.world.broker.policies.active(view)
    names = [*policy.institutions.values()]
    for target in policy.targets.values():
        names.append(target.name)
        for right in target.entitlements.values():
            names += [right.label, *right.steps.values(), *(ask.label for ask in right.asks.values())]
    found: dict[str, list[str]] = {"en": []}
    for language in (Language.SQ, Language.SR):
        words = catalogue(language)
        sentences = [
            text for text in words._catalog if isinstance(text, str) and "%" not in text and words.gettext(text) != text
        ]
        called = [called_in(name, "en") for name in names if called_in(name, language.short) != called_in(name, "en")]
        found[language.short] = [
            text for text in (*sentences, *called) if len(text) >= SHORT and not CODE.fullmatch(text)
        ]
    return found


def looked_at(scene: Scene, seat: Seat, origin: str, left: Left, language: str, foreign: list[str]) -> list[str]:
    """Open a page in a language and give everything that is wrong with it."""
    gallery.speak(seat.page, language)
    open_scene(scene, seat, origin, left)
    found = faults(seat.page, VIEWS[language], every_rule=False)
    if scene.path not in AS_THEY_ARE:
        shown = seat.page.evaluate("document.body.textContent")
        # Looked for plainly first: a thousand patterns a page were compiled only to find nothing.
        there = (text for text in foreign if text in shown)
        found += [f"not translated: {text}" for text in there if re.search(rf"\b{re.escape(text)}\b", shown)]
    return [f"{scene.called}: {fault}" for fault in found]


@pytest.mark.slow
@pytest.mark.parametrize("language", gallery.LANGUAGES)
def test_every_page_is_for_everybody(
    house: Served, seats: dict[str, Seat], left: Left, english: dict[str, list[str]], language: str
) -> None:
    hosts = gallery.to_open(seats["arta"], house.origin)
    seats["arta"].passkey_answers(False)
    with gallery.genesis_page(house.world.broker.settings) as genesis:
        there = replace(left, hosts=hosts, genesis=genesis)
        wrong = [
            fault
            for scene in SCENES
            for fault in looked_at(scene, seats[scene.person], house.origin, there, language, english[language])
        ]
    assert not wrong, "\n".join(wrong)
    templates = {path.name for path in (Path(house.app.root_path) / "templates").glob("*.html")}
    shown = {name.rpartition("/")[2] for _, name in house.app.jinja_env.cache} | {"genesis.html"}
    assert templates - shown - LEFT_OUT.keys() == set()


@pytest.mark.slow
def test_what_is_wrong_with_a_page_is_found(house: Served, seats: dict[str, Seat]) -> None:
    page = seats[NOBODY].page
    page.goto(f"{house.origin}/sign-in")
    for planted, found in (
        ("document.querySelector('h1').style.color = '#eee'", "color-contrast"),
        ("document.documentElement.lang = ''", "html-has-lang"),
        ("document.body.append(document.createElement('img'))", "image-alt"),
        ("document.querySelector('main').style.width = '340px'", "340"),
    ):
        page.goto(f"{house.origin}/sign-in")
        page.evaluate(planted)
        assert any(found in fault for fault in faults(page, [View(PHONE, "light")], every_rule=False)), planted


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
