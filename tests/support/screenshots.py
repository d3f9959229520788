"""The pictures of the documentation, made by driving the demo: `python -m tests.support.screenshots [FOLDER]`.

Small PNGs, so that the repository stays light; a heavier one is refused. They are retaken before a release; no test compares them.
"""

import re
import sys
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from jitaccess.demo.browser import Film
from jitaccess.demo.cast import ORDER, ORDER_CENTS
from jitaccess.demo.stage import staged
from tests.support.browser import LAUNCH_ARGS
from tests.support.chromium import MISSING, find_chromium
from tests.support.ports import free_port
from tests.support.sources import ROOT

FOLDER = ROOT / "docs" / "images"
MOST_BYTES = 150_000
WIDE, PHONE = {"width": 1080, "height": 720}, {"width": 360, "height": 740}


class TooLarge(Exception):
    """A picture is heavier than the repository wants to carry."""


def take(page: Any, folder: Path, name: str, size: dict[str, int]) -> None:
    """Take what a person sees without scrolling."""
    page.set_viewport_size(size)
    path = folder / f"{name}.png"
    page.screenshot(path=str(path), animations="disabled", caret="hide")
    page.set_viewport_size(WIDE)
    if path.stat().st_size > MOST_BYTES:
        raise TooLarge(f"{path} has {path.stat().st_size} bytes; at most {MOST_BYTES} are kept")
    print(f"{path.name}: {path.stat().st_size:,} bytes")


def tell(tale: Film, folder: Path) -> None:
    """Ask, approve and look, as far as the pictures need it."""
    origin = tale.stage.origin
    people = ("arta", "blerim", "jelena", "agim")
    for key, link in tale.stage.links(people).items():
        tale.enrol(key, link)
    arta, blerim, jelena, agim = (tale.page(key) for key in people)
    arta.goto(f"{origin}/request?target=treasury&entitlement=releaser")
    arta.fill("#input-order", ORDER)
    arta.fill("#input-amount_cents", str(ORDER_CENTS))
    arta.fill("#reason", "Road works, section 4, July invoice")
    arta.locator('form[action="/request/check"] button').last.click()
    arta.locator('form[data-ceremony="/api/requests"] button').click()
    request = str(arta.locator("[data-request]").first.get_attribute("data-request"))
    blerim.goto(f"{origin}/approvals")
    blerim.locator("a.choice").first.click()
    blerim.locator("form.decide").wait_for()
    take(blerim, folder, "approval-360", PHONE)
    agim.goto(f"{origin}/targets/treasury")
    take(agim, folder, "who-can-reach-it", WIDE)
    jelena.goto(f"{origin}/audit/requests/{request}")
    take(jelena, folder, "story", WIDE)


class Quiet(Film):
    """A film that takes no pictures of its own."""

    def shot(self, key: str, name: str) -> None:
        """Take none."""


def main(folder: Path) -> int:
    """Start the demo, take the pictures, clear everything away."""
    chromium = find_chromium()
    if chromium is None:
        print(MISSING, file=sys.stderr)
        return 78
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with (
        staged(enrolled=frozenset(), port=free_port(), treasury_port=free_port()) as stage,
        sync_playwright() as driver,
    ):
        browser = driver.chromium.launch(executable_path=str(chromium), args=[*LAUNCH_ARGS, "--no-sandbox"])
        tell(Quiet(stage, browser, folder), folder)
        browser.close()
    pictures = [path for path in folder.glob("*.png") if re.fullmatch(r"[a-z0-9-]+\.png", path.name)]
    print(f"{len(pictures)} pictures in {folder} after {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER))
