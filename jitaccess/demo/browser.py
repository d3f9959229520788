"""The story in a real browser: Chromium with one virtual passkey a person, and a picture of each step at two widths.

Playwright is a development package and Chromium the system's own; without either one sentence says what to install. The virtual
authenticator is Chromium's (CDP `WebAuthn`): a real ceremony, the browser's real path.
"""

import importlib
import re
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click

from jitaccess.demo.cast import CAST, FOUNDERS, ORDER, ORDER_CENTS
from jitaccess.demo.gallery import (
    NOBODY,
    PHONE,
    WIDE,
    Left,
    Seat,
    asked,
    authorize_path,
    damage,
    draw,
    genesis_page,
    hosts,
    speak,
    to_open,
    visit,
)
from jitaccess.demo.stage import NOTHING_MORE, SECOND_CALLBACK, Stage, staged
from jitaccess.errors import JitError, Kind

NAMES = {role.key: role.name for role in (*CAST, *FOUNDERS)}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@dataclass(slots=True)
class Film:
    """A browser with a context for each person."""

    stage: Stage
    browser: Any
    folder: Path
    scheme: str = "light"
    seats: dict[str, Seat] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    steps: int = 0

    def page(self, key: str) -> Any:
        """Return a person's page, with a virtual passkey of its own."""
        return self.seat(key).page

    def seat(self, key: str) -> Seat:
        """Return where a person sits: the page, and whether the passkey answers."""
        if key not in self.seats:
            context = self.browser.new_context(viewport=WIDE, color_scheme=self.scheme, locale="en-GB")
            page = context.new_page()
            page.on("console", lambda message: self._listen(message))
            page.on("pageerror", lambda error: self.errors.append(str(error)))
            session = context.new_cdp_session(page)
            session.send("WebAuthn.enable")
            options = {
                "protocol": "ctap2",
                "transport": "internal",
                "hasResidentKey": True,
                "hasUserVerification": True,
                "isUserVerified": True,
                "automaticPresenceSimulation": True,
            }
            made = session.send("WebAuthn.addVirtualAuthenticator", {"options": options})["authenticatorId"]

            def answers(enabled: bool) -> None:
                given = {"authenticatorId": made, "enabled": enabled}
                session.send("WebAuthn.setAutomaticPresenceSimulation", given)

            self.seats[key] = Seat(page, answers)
        return self.seats[key]

    def _listen(self, message: Any) -> None:
        if message.type == "error" and "Content Security Policy" in message.text:
            self.errors.append(message.text)

    def shot(self, key: str, name: str) -> None:
        """Take the pictures of one step, and claim that nothing is wider than the phone."""
        page = self.page(key)
        self.steps += 1
        for label, size in (("desktop", WIDE), ("phone", PHONE)):
            page.set_viewport_size(size)
            draw(page, self.folder / f"{self.steps:02d}-{name}-{label}.png", whole=label == "phone")
            wide = page.evaluate("document.documentElement.scrollWidth")
            if wide > size["width"]:
                raise JitError(Kind.INTERNAL, f"{name}: {wide} px wide on a screen of {size['width']}.")
        page.set_viewport_size(WIDE)
        click.echo(f"  {self.steps:02d} {NAMES[key]}: {name.replace('-', ' ')}")

    # -- what people do

    def enrol(self, key: str, link: str) -> None:
        """Open the link, make the passkey; the page goes on to sign-in, where autofill or the button completes it."""
        page = self.page(key)
        page.goto(link)
        page.fill("#name", "My phone")
        if key == "arta":
            self.shot(key, "make-a-passkey")
        page.click("text=Make the passkey")
        page.wait_for_url(re.compile(r"/(sign-in.*)?$"))
        self.sign_in(key)

    def sign_in(self, key: str) -> None:
        """Wait for conditional sign-in to complete by itself, or press the button."""
        page = self.page(key)
        for _ in range(40):
            if page.url.rstrip("/") == self.stage.origin:
                break
            page.wait_for_timeout(100)
        else:
            page.click("text=Sign in with a passkey")
            page.wait_for_url(f"{self.stage.origin}/")
        page.get_by_role("heading", name="My access", exact=True).wait_for()

    def ask(self, key: str) -> None:
        """What, how long, why; check the answers; sign."""
        page = self.page(key)
        page.click("text=Ask for access")
        self.shot(key, "what-to-ask-for")
        page.click("text=Release a payment")
        page.fill("#input-order", ORDER)
        page.fill("#input-amount_cents", str(ORDER_CENTS))
        page.fill("#reason", "Road works, section 4, July invoice")
        self.shot(key, "what-how-long-why")
        page.click("text=Check your answers")
        self.shot(key, "check-your-answers")
        page.click("text=Sign and send with your passkey")
        page.get_by_text("waits for signatures").wait_for()
        self.shot(key, "waiting")

    def approve(self, key: str) -> None:
        """Open the mail's link, look, tap Approve; the passkey prompt opens by itself."""
        page = self.page(key)
        page.goto(f"{self.stage.origin}/approvals")
        page.locator("a.choice").first.click()
        self.shot(key, "approval")
        page.get_by_role("button", name="Approve").click()
        page.get_by_text(re.compile("Another signature is still needed|approved")).first.wait_for()
        self.shot(key, "signed")


def film(
    folder: Path,
    *,
    port: int,
    treasury_port: int,
    languages: tuple[str, ...] = (),
    schemes: tuple[str, ...] = (),
) -> int:
    """Drive the story and leave the pictures; exit code 0 only if all of it happened without a script or policy error.

    With languages or schemes every page is then visited once in each of them, in a folder of its own.
    """
    try:
        playwright = importlib.import_module("playwright.sync_api")
    except ImportError as error:
        raise JitError(
            Kind.CONFIGURATION, "Playwright is missing: run this as ./jit demo --browser, which installs it."
        ) from error
    chromium = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if chromium is None:
        raise JitError(Kind.CONFIGURATION, "Chromium is missing: on Debian or Ubuntu `apt install chromium`.")
    folder.mkdir(parents=True, exist_ok=True)
    looks = [(language, scheme) for language in languages for scheme in schemes]
    more = hosts() if looks else NOTHING_MORE
    with (
        staged(enrolled=frozenset(), port=port, treasury_port=treasury_port, more=more) as stage,
        playwright.sync_playwright() as driver,
    ):
        browser = driver.chromium.launch(executable_path=chromium, args=list(FLAGS))
        tale = Film(stage, browser, folder)
        _tell(tale, looks)
        browser.close()
    for told in tale.errors:
        click.echo(f"in the browser: {told}", err=True)
    click.echo(f"{tale.steps} steps, pictures in {folder}")
    return 1 if tale.errors else 0


def _tell(tale: Film, looks: list[tuple[str, str]]) -> None:
    stage = tale.stage
    links = stage.links(("arta", "blerim", "drita", "jelena", "agim"))
    page = tale.page("arta")
    page.goto(f"{stage.origin}/sign-in")
    tale.shot("arta", "sign-in")
    for key, link in links.items():
        tale.enrol(key, link)
    tale.shot("arta", "my-access-empty")
    tale.ask("arta")
    tale.approve("blerim")
    tale.approve("drita")
    page.goto(f"{stage.origin}/")
    page.get_by_text("ready").first.wait_for()
    tale.shot("arta", "access-is-ready")
    page.get_by_role("button", name="Open Treasury payments").click()
    page.get_by_role("button", name="Open with your passkey").wait_for()
    tale.shot("arta", "open-the-treasury")
    page.get_by_role("button", name="Open with your passkey").click()
    page.wait_for_url(f"{stage.treasury_origin}/")
    tale.shot("arta", "inside-the-treasury")
    page.locator(f'form[action*="{ORDER}"] button').click()
    page.get_by_text(f"{ORDER} was released").wait_for()
    tale.shot("arta", "payment-released")
    page.goto(f"{stage.origin}/")
    tale.shot("arta", "access-is-open")
    page.get_by_role("button", name="Hand back").click()
    page.goto(f"{stage.treasury_origin}/")
    tale.shot("arta", "after-handing-back")
    if looks:
        _gallery(tale, looks)
    agim = tale.page("agim")
    agim.goto(f"{stage.origin}/people")
    tale.shot("agim", "people-and-holds")
    agim.locator("article", has=agim.get_by_role("heading", name="Arta Krasniqi")).locator(
        'form[action="/holds"] button'
    ).click()
    agim.get_by_text("on hold").first.wait_for()
    tale.shot("agim", "arta-on-hold")
    agim.goto(f"{stage.origin}/policy/explain?right=treasury/releaser")
    tale.shot("agim", "policy-explained")
    agim.goto(f"{stage.origin}/passkeys")
    tale.shot("agim", "my-passkeys")
    page.goto(f"{stage.origin}/")
    tale.shot("arta", "signed-out-by-the-hold")
    jelena = tale.page("jelena")
    jelena.goto(f"{stage.origin}/log")
    tale.shot("jelena", "the-log")
    jelena.goto(f"{stage.origin}/demo/mail")
    tale.shot("jelena", "demo-mail")


def _gallery(tale: Film, looks: list[tuple[str, str]]) -> None:
    """Leave an access that is open and requests that wait, and visit every page in each language and scheme."""
    stage = tale.stage
    tale.page(NOBODY)
    damage(stage.database, stage.seeded.people["besa"])
    with genesis_page(stage.settings) as genesis:
        left = _left(tale, genesis)
        for language, scheme in looks:
            # A link lives ten minutes, and what is shown once is shown once.
            fresh = replace(left, enrol=_link(stage), hosts=to_open(tale.seat("arta"), stage.origin))
            for seat in tale.seats.values():
                seat.passkey_answers(False)
            tale.errors += visit(tale.seats, stage.origin, tale.folder, fresh, language=language, scheme=scheme)
            for seat in tale.seats.values():
                seat.passkey_answers(True)
                speak(seat.page, "en")
                seat.page.emulate_media(color_scheme=tale.scheme)


def _link(stage: Stage) -> str:
    return stage.links(("arta-2",))["arta-2"].rpartition("/")[2]


def _left(tale: Film, genesis: str) -> Left:
    arta, stage = tale.seat("arta"), tale.stage
    arta.page.goto(f"{stage.origin}/")
    done = str(arta.page.locator('#before a[href^="/requests/"]').first.get_attribute("href"))
    grant = asked(arta, stage.origin, "treasury", "viewer", "Payments of the last quarter")
    # Two, so that they can be signed together.
    asked(arta, stage.origin, "treasury", "releaser", "School heating", "TR-000418", "4200000")
    waiting = asked(
        arta, stage.origin, "treasury", "releaser", "School heating, advance for December", "TR-000431", "950000"
    )
    return Left(
        request=waiting,
        done=done.rpartition("/")[2],
        grant=grant,
        hosts="",
        person=stage.seeded.people["arta"],
        damaged=stage.seeded.people["besa"],
        policy=stage.candidate("look-at-payments"),
        authorize=authorize_path(stage.second.client_id, f"{stage.treasury_origin}{SECOND_CALLBACK}"),
        client=stage.second.client_id,
        enrol="",
        genesis=genesis,
    )
