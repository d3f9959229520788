"""Where is the browser? Apart from `browser`, so that the runner can ask without loading Playwright."""

import os
import shutil
from pathlib import Path

MISSING = "no Chromium found: apt install chromium, or let TEST_CHROMIUM name the program"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_PLACES = (
    Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"),
    Path("/Applications/Chromium.app/Contents/MacOS/Chromium"),
)


def find_chromium() -> Path | None:
    """Return the installed browser, or None."""
    named = os.environ.get("TEST_CHROMIUM")
    found = [named] if named else [path for name in _NAMES if (path := shutil.which(name))]
    return next((Path(path) for path in (*found, *_PLACES) if Path(path).is_file()), None)
