"""Every page of the demo once, in a language and a colour scheme, at two widths: what the story has left to see.

Only looks: each page is a GET, or a form that decides nothing. A page that does not answer, or is wider than its screen, ends it.
"""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from jitaccess.demo.cast import ORDER, ORDER_CENTS
from jitaccess.demo.stage import Stage
from jitaccess.errors import JitError, Kind

LANGUAGES = ("en", "sq", "sr")
SCHEMES = ("light", "dark")
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 760}
COOKIE = "__Host-jit-language"
FORM = "request?target=treasury&entitlement=releaser"
NOBODY = "nobody"
"""Who looks at pages without having signed in."""
LOST = "no-such-page"
PAGES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (NOBODY, ("sign-in", "lost", LOST)),
    ("arta", ("", "request", FORM, "requests/{request}", "passkeys", "settings", "policy", "grants/{grant}/extend")),
    ("blerim", ("approvals", "approvals/{request}", "approvals/set", "requests/{request}", "deputies")),
    ("agim", ("admin", "people", "people/{person}", "groups", "groups/jit-auditors", "targets", "targets/treasury")),
    (
        "agim",
        (
            "targets/treasury/join",
            "new-target",
            "new-target/{policy}/treasury",
            "holds",
            "board",
            "watch",
            "notices",
            "clients/logouts",
        ),
    ),
    ("agim", ("policy", "policy/explain?right=treasury/releaser", "policy/sets/{policy}/replay", "demo/mail")),
    ("jelena", ("log", "audit", "audit/requests/{request}", "audit/requests/{done}", "audit/sample", "audit/pictures")),
    ("jelena", ("approvals/pace", "witness/requests/{request}")),
)
"""Who looks at what. `{request}` waits for signatures, `{done}` was asked for, signed and handed back; `{grant}` is open, `{person}`
asked, `{policy}` is a candidate."""


@dataclass(frozen=True, slots=True)
class Left:
    """What the story has left to look at: ids by which pages name it."""

    request: str
    done: str
    grant: str
    person: str
    policy: str


def visit(pages: dict[str, Any], stage: Stage, folder: Path, left: Left, *, language: str, scheme: str) -> int:
    """Take the pictures of one language and scheme into a folder of their own; return how many."""
    into = folder / f"{language}-{scheme}"
    into.mkdir(parents=True, exist_ok=True)
    taken = 0
    for person, paths in PAGES:
        page = pages[person]
        speak(page, stage, language)
        page.emulate_media(color_scheme=scheme)
        for path in paths:
            answer = page.goto(f"{stage.origin}/{path.format(**asdict(left))}")
            if answer is None or answer.ok == (path == LOST):
                raise JitError(Kind.INTERNAL, f"/{path} does not answer {person} in {language}.")
            taken += picture(page, into, f"{person}-{_name(path)}")
            if path == FORM:
                _check_answers(page)
                taken += picture(page, into, f"{person}-check-answers")
    click.echo(f"  {language}, {scheme}: {taken} pictures")
    return taken


def picture(page: Any, folder: Path, name: str) -> int:
    """Take a page at both widths, and claim that nothing is wider than the screen."""
    for label, size in (("desktop", WIDE), ("phone", PHONE)):
        page.set_viewport_size(size)
        draw(page, folder / f"{name}-{label}.png", whole=label == "phone")
        wide = page.evaluate("document.documentElement.scrollWidth")
        if wide > size["width"]:
            raise JitError(Kind.INTERNAL, f"{name}: {wide} px wide on a screen of {size['width']}.")
    page.set_viewport_size(WIDE)
    return 2


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


def _name(path: str) -> str:
    return re.sub(r"[^a-z]+", "-", path.lower()).strip("-") or "my-access"


def speak(page: Any, stage: Stage, language: str) -> None:
    """Choose a language as the switch on every page does: by its cookie."""
    host = urlsplit(stage.origin).hostname
    cookie = {"name": COOKIE, "value": language, "domain": host, "path": "/", "secure": True, "httpOnly": True}
    page.context.add_cookies([{**cookie, "sameSite": "Lax"}])


def _check_answers(page: Any) -> None:
    page.fill("#input-order", ORDER)
    page.fill("#input-amount_cents", str(ORDER_CENTS))
    page.fill("#reason", "Road works, section 5, August invoice")
    page.locator('form[action="/request/check"] button').last.click()
    page.locator('form[data-ceremony="/api/requests"]').wait_for()
