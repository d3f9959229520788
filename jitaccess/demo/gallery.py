"""Every page once, in a language and a colour scheme, on a wide screen and a phone; and what is wrong with any of them.

Looks, and decides nothing that was asked for: a page is a GET, or what a form shows before anything is signed. The one thing that is
signed is an access of its own, because what is shown once can be seen in no other way. The tests look at the same scenes.
"""

import base64
import hashlib
import importlib
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jitaccess.connectors.ssh_ca.authority import public_line
from jitaccess.demo.cast import FOUNDERS, ORDER, ORDER_CENTS
from jitaccess.demo.servers import free_port
from jitaccess.demo.stage import Extra
from jitaccess.errors import JitError, Kind
from jitaccess.settings import Settings
from jitaccess.store.ids import new_secret
from jitaccess.web.genesis import Founder, GenesisPage, served

LANGUAGES = ("en", "sq", "sr")
SCHEMES = ("light", "dark")
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 760}
ENLARGED, SMALLEST = {"width": 640, "height": 450}, {"width": 320, "height": 568}
"""The wide screen at 200 %, and at 400 % (WCAG 2.2 success criteria 1.4.4 and 1.4.10)."""
COOKIE = "__Host-jit-language"
NOBODY = "nobody"
"""Who looks at pages without having signed in."""
BY_SIGHT = ("color-contrast", "link-in-text-block", "scrollable-region-focusable", "target-size")
"""The rules of axe-core that another width or colour scheme can break; all others see the same in each."""
MORE_RULES = {"target-size": {"enabled": True}}
"""Of WCAG 2.2 (success criterion 2.5.8), which axe-core leaves out unless it is asked."""

HOSTS = """
version: 1
targets:
  hosts:
    name: {en: Ministry servers, sq: Serverët e ministrisë, sr: Serveri ministarstva}
    owner: mof
    entitlements:
      operator:
        label: {en: Sign in to the servers, sq: Hyrja në serverë, sr: Prijava na servere}
        max_duration: 1h
    connector:
      kind: ssh_ca
      secret: authority
      confirm: none
      hosts: [{name: db1.mof.example, key: "%s"}]
      entitlements:
        operator: {principal: jit-operator, account: ops, extensions: [permit-pty]}
rules:
  - id: sign-in-to-servers
    for: {groups: [treasury-staff]}
    to: {target: hosts, entitlements: [operator]}
    duration: {default: 30m, max: 1h}
    approve: none
"""


def hosts() -> Extra:
    """Return a system whose credentials the broker makes by itself, without touching anything: for the pages on which one is shown."""
    return Extra({"hosts.yaml": HOSTS % public_line(Ed25519PrivateKey.generate())}, {"authority": new_secret()})


@dataclass(frozen=True, slots=True)
class Left:
    """What is there to look at: ids and addresses by which scenes name it."""

    request: str
    """Waits for signatures; two more do that can be signed together."""
    done: str
    """Was asked for, signed, and handed back or is open."""
    grant: str
    """An open access of Arta's to the treasury."""
    hosts: str
    """One to the servers, not opened yet."""
    person: str
    damaged: str
    """A person whose record was changed in the database."""
    policy: str
    """A candidate."""
    authorize: str
    """Where an application sends who signs in."""
    client: str
    enrol: str
    genesis: str
    """The address of a genesis page; it has a server of its own."""


@dataclass(frozen=True, slots=True)
class Seat:
    """A person at a browser. The passkey waits when told to, as it does while a finger is looked for."""

    page: Any
    passkey_answers: Callable[[bool], None]


Act = Callable[[Seat], None]


@dataclass(frozen=True, slots=True)
class Scene:
    """One page: who looks, where, what is pressed there first, and with what status it answers."""

    person: str
    path: str
    act: Act | None = None
    name: str = ""
    status: int = 200

    @property
    def called(self) -> str:
        """Return the name of its picture."""
        return f"{self.person}-{self.name or re.sub(r'[^a-z]+', '-', self.path.lower()).strip('-') or 'my-access'}"


@dataclass(frozen=True, slots=True)
class View:
    """How a page is looked at."""

    size: Mapping[str, int]
    scheme: str


# ---------------------------------------------------------------- what is pressed


def _answers(seat: Seat) -> None:
    seat.page.fill("#input-order", ORDER)
    seat.page.fill("#input-amount_cents", str(ORDER_CENTS))
    seat.page.fill("#reason", "Road works, section 5, August invoice")
    seat.page.locator('form[action="/request/check"] button').last.click()
    seat.page.locator('form[data-ceremony="/api/requests"]').wait_for()


def _prepared(seat: Seat) -> None:
    seat.page.locator(".decide .row button").first.click()
    seat.page.locator("form[data-autostart] button").wait_for()


def _prepared_set(seat: Seat) -> None:
    for box in seat.page.locator('input[form="choose"]').all():
        box.check()
    seat.page.locator("#choose button").click()
    seat.page.locator("form[data-autostart] button").wait_for()


def _person_changed(seat: Seat) -> None:
    seat.page.fill("#f-unit", "treasury, payments")
    seat.page.locator('form[action$="/check"] button').click()
    seat.page.locator('form[data-ceremony="/api/changes"]').wait_for()


def _client_checked(seat: Seat) -> None:
    seat.page.locator("details:has(#p-name) summary").click()
    seat.page.fill("#p-name", "Treasury archive")
    seat.page.fill("#p-origin", "https://archive.mof.example")
    seat.page.locator("details:has(#p-name) form button").click()
    seat.page.locator('form[data-ceremony="/api/changes"]').wait_for()


def _system_checked(seat: Seat) -> None:
    for name, text in (
        ("id", "land-registry"),
        ("name_en", "Land registry"),
        ("audience", "https://land.example"),
        ("right1_id", "viewer"),
        ("right1_en", "Look at parcels"),
    ):
        seat.page.fill(f"#n-{name}", text)
    for name in ("group", "signers"):
        seat.page.select_option(f"#n-{name}", "treasury-staff")
    seat.page.locator('form[action="/new-target"] button').click()
    seat.page.locator("[data-written]").wait_for()


def _unfolded(seat: Seat) -> None:
    seat.page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")


def _shown_once(seat: Seat) -> None:
    seat.page.locator('[name="given.public_key"]').fill(public_line(Ed25519PrivateKey.generate()))
    seat.passkey_answers(True)
    seat.page.locator('form[data-ceremony$="/open"] button').click()
    seat.page.locator("#credential:visible, .problem:visible").first.wait_for()
    seat.passkey_answers(False)
    for told in seat.page.locator(".problem:visible").all_inner_texts():
        raise JitError(Kind.INTERNAL, f"Nothing is shown once: {told}")


# ---------------------------------------------------------------- the scenes

FORM = "request?target=treasury&entitlement=releaser"
SCENES: tuple[Scene, ...] = (
    Scene(NOBODY, "sign-in"),
    Scene(NOBODY, "lost"),
    Scene(NOBODY, "no-such-page", status=404),
    Scene(NOBODY, "enrol/{enrol}"),
    Scene(NOBODY, "{genesis}", name="genesis"),
    Scene(NOBODY, "oidc/logout", name="signed-out"),
    Scene("arta", ""),
    Scene("arta", "request"),
    Scene("arta", "request?q=zeppelin", name="nothing-found"),
    Scene("arta", FORM, name="form"),
    Scene("arta", FORM, _answers, "check-answers"),
    Scene("arta", "request?again={done}", name="again"),
    Scene("arta", "requests/{request}"),
    Scene("arta", "grants/{grant}/extend"),
    Scene("arta", "{authorize}", name="authorize"),
    Scene("arta", "grants/{hosts}/open"),
    Scene("arta", "grants/{hosts}/open", _shown_once, "shown-once"),
    Scene("arta", "passkeys"),
    Scene("arta", "settings"),
    Scene("arta", "policy"),
    Scene("arta", "lost"),
    Scene("arta", "admin", status=403),
    Scene("blerim", "approvals"),
    Scene("blerim", "approvals/{request}"),
    Scene("blerim", "approvals/{request}", _prepared, "approval-prepared"),
    Scene("blerim", "approvals/set"),
    Scene("blerim", "approvals/set", _prepared_set, "approvals-set-prepared"),
    Scene("blerim", "requests/{request}"),
    Scene("blerim", "deputies"),
    Scene("blerim", "{authorize}", name="authorize-without-access"),
    Scene("agim", "admin"),
    Scene("agim", "admin/record?table=person&key={damaged}&unit=it", name="record"),
    Scene("agim", "people"),
    Scene("agim", "people?passkeys=one"),
    Scene("agim", "people/{person}"),
    Scene("agim", "people/{person}", _person_changed, "person-check"),
    Scene("agim", "groups"),
    Scene("agim", "groups/treasury-staff?q=drita"),
    Scene("agim", "targets"),
    Scene("agim", "targets/treasury"),
    Scene("agim", "targets/treasury/join"),
    Scene("agim", "targets/treasury/join", _unfolded, "join-unfolded"),
    Scene("agim", "targets/treasury/join", _client_checked, "client-check"),
    Scene("agim", "new-target"),
    Scene("agim", "new-target", _system_checked, "new-target-check"),
    Scene("agim", "new-target/{policy}/treasury", name="new-target-proposed"),
    Scene("agim", "holds"),
    Scene("agim", "board"),
    Scene("agim", "watch"),
    Scene("agim", "notices"),
    Scene("agim", "clients/logouts"),
    Scene("agim", "policy"),
    Scene("agim", "policy/explain?right=treasury/releaser", name="policy-explained"),
    Scene("agim", "policy/sets/{policy}/replay"),
    Scene("agim", "oidc/logout?client_id={client}", name="sign-out"),
    Scene("agim", "demo/mail"),
    Scene("jelena", "log"),
    Scene("jelena", "audit"),
    Scene("jelena", "audit/requests/{request}"),
    Scene("jelena", "audit/requests/{done}"),
    Scene("jelena", "audit/sample?n=2", name="sample"),
    Scene("jelena", "audit/pictures"),
    Scene("jelena", "approvals/pace"),
    Scene("jelena", "witness/requests/{request}"),
    Scene("jelena", "witness/grants/{grant}"),
)


def open_scene(scene: Scene, seat: Seat, origin: str, left: Left) -> None:
    """Go to a scene and do what it does; raises INTERNAL where the page answers otherwise than it should."""
    path = scene.path.format(**asdict(left))
    answer = seat.page.goto(path if path.startswith("http") else f"{origin}/{path}")
    if answer is None or answer.status != scene.status:
        raise JitError(Kind.INTERNAL, f"/{path} answers {scene.person} with {answer and answer.status}.")
    if scene.act is not None:
        scene.act(seat)


def speak(page: Any, language: str) -> None:
    """Choose a language as the switch on every page does: by its cookie."""
    cookie = {"name": COOKIE, "value": language, "domain": "localhost", "path": "/", "secure": True, "httpOnly": True}
    page.context.add_cookies([{**cookie, "sameSite": "Lax"}])


# ---------------------------------------------------------------- what is wrong with a page


def faults(page: Any, views: Sequence[View], *, every_rule: bool) -> list[str]:
    """Say what axe-core finds on the page that is open, and on which screens it is too wide.

    In the first view all rules are tried; in the others those that see, or all again.
    """
    page.evaluate(importlib.import_module("axe_playwright_python.base").AXE_SCRIPT)
    # What sticks to the screen's edge covers what is scrolled beneath it, which is no target that is too small.
    page.evaluate("document.querySelectorAll('.within-reach').forEach(one => { one.style.position = 'static' })")
    found: list[str] = []
    for number, view in enumerate(views):
        page.set_viewport_size(view.size)
        page.emulate_media(color_scheme=view.scheme, reduced_motion="reduce")
        options: dict[str, Any] = {"resultTypes": ["violations"], "preload": False, "rules": MORE_RULES}
        if number and not every_rule:
            options["runOnly"] = list(BY_SIGHT)
        violations = page.evaluate("async options => (await axe.run(options)).violations", options)
        found += [
            f"{view.scheme} {view.size['width']}: {one['id']} {node['html'][:160]}"
            for one in violations
            for node in one["nodes"][:3]
        ]
    return found + too_wide(page)


def too_wide(page: Any) -> list[str]:
    """Say on which screens the page must be scrolled sideways: phones, and the wide one enlarged."""
    found: list[str] = []
    for size in (PHONE, ENLARGED, SMALLEST):
        page.set_viewport_size(size)
        wide = page.evaluate("document.documentElement.scrollWidth")
        if wide > size["width"]:
            found.append(f"{wide} px wide on a screen of {size['width']}")
    page.set_viewport_size(WIDE)
    return found


# ---------------------------------------------------------------- the demo's own pictures


def visit(
    seats: Mapping[str, Seat], origin: str, folder: Path, left: Left, *, language: str, scheme: str
) -> Iterator[str]:
    """Take the pictures of one language and scheme into a folder of their own; give what is wrong with any page."""
    into = folder / f"{language}-{scheme}"
    into.mkdir(parents=True, exist_ok=True)
    for scene in SCENES:
        seat = seats[scene.person]
        speak(seat.page, language)
        seat.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        open_scene(scene, seat, origin, left)
        for label, size in (("desktop", WIDE), ("phone", PHONE)):
            seat.page.set_viewport_size(size)
            draw(seat.page, into / f"{scene.called}-{label}.png", whole=label == "phone")
        views = [View(WIDE, scheme), View(PHONE, scheme)]
        for fault in faults(seat.page, views, every_rule=True):
            yield f"{scene.called} in {language}: {fault}"
    click.echo(f"  {language}, {scheme}: {len(SCENES)} pages")


def draw(page: Any, path: Path, *, whole: bool) -> None:
    """Take one picture. On a busy machine Chromium may refuse just after its window changed; asked again, it does."""
    for again in (True, True, False):
        try:
            page.screenshot(path=str(path), full_page=whole)
            return
        except Exception as error:  # Playwright's own, which this module does not import: it is a development package
            if not again or "Unable to capture screenshot" not in str(error):
                raise
            page.wait_for_timeout(200)


# ---------------------------------------------------------------- what must be there first


def asked(seat: Seat, origin: str, target: str, entitlement: str, reason: str, order: str = "", cents: str = "") -> str:
    """Ask for something, signed; return the id of the grant, or of the request where signatures are missing."""
    page, kept = seat.page, "data-request" if order else "data-grant"
    page.goto(f"{origin}/")
    before = {one.get_attribute(kept) for one in page.locator(f"[{kept}]").all()}
    page.goto(f"{origin}/request?target={target}&entitlement={entitlement}")
    if order:
        page.fill("#input-order", order)
        page.fill("#input-amount_cents", cents)
    page.fill("#reason", reason)
    page.locator('form[action="/request/check"] button').last.click()
    seat.passkey_answers(True)
    page.locator('form[data-ceremony="/api/requests"] button').click()
    page.wait_for_url(f"{origin}/")
    page.locator(f"[{kept}]").first.wait_for()
    made = {one.get_attribute(kept) for one in page.locator(f"[{kept}]").all()} - before
    return str(made.pop())


def to_open(seat: Seat, origin: str) -> str:
    """Hand back what was open on the servers, and ask for it anew: what was shown once can be seen again in no other way."""
    seat.page.goto(f"{origin}/")
    for given in seat.page.locator("article.grant:has(a[href$='/open'])").all():
        given.locator('form[action$="/hand-back"] button').click()
        seat.page.wait_for_load_state()
    return asked(seat, origin, "hosts", "operator", "A full disk on db1")


def authorize_path(client_id: str, redirect_uri: str) -> str:
    """Return where an application sends who signs in (RFC 6749 section 4.1.1, RFC 7636)."""
    challenge = base64.urlsafe_b64encode(hashlib.sha256(new_secret().encode()).digest()).rstrip(b"=").decode()
    return "oidc/authorize?" + urlencode(
        {
            "response_type": "code",
            "client_id": client_id,
            "redirect_uri": redirect_uri,
            "scope": "openid",
            "state": new_secret(),
            "nonce": new_secret(),
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
    )


def damage(database: Path, person_id: str) -> None:
    """Change a person's record behind the broker's back, as the owner of the database could."""
    connection = sqlite3.connect(database, timeout=20)
    with connection:
        connection.execute("UPDATE person SET unit = 'cellar' WHERE id = ?", (person_id,))
        connection.execute("UPDATE register_version SET n = n + 1")
    connection.close()


@contextmanager
def genesis_page(settings: Settings) -> Iterator[str]:
    """Serve a genesis page of its own while the block runs; give its address."""
    founders = [Founder(role.name, role.email, role.institution, role.unit) for role in FOUNDERS]
    page = GenesisPage(settings, founders, passkeys=2, pilot=False)
    port = free_port(0)
    with served(page, port):
        yield f"http://localhost:{port}/genesis/{page.secret}"
