"""When shall access begin? Reading the start of a form.

The form's time is in the zone in which the same page shows times, and the page names it; what cannot be read is told in one sentence, never
guessed.
"""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from jitaccess.web.speech import gettext, zone_now

FIRST_YEAR, LAST_YEAR = 2000, 2099
"""Beyond these no start is meant, and reckoning with zones may overflow."""


def posted_start(text: str) -> tuple[datetime | None, str | None]:
    """Read `2026-11-24T08:00` of a form, in the reader's zone; return the start, None for at once, and what is wrong with it."""
    text = text.strip()
    if not text:
        return None, None
    try:
        found = datetime.strptime(text[:16], "%Y-%m-%dT%H:%M").replace(tzinfo=ZoneInfo(zone_now()))
    except ValueError:
        return None, gettext("Give the start as a date and a time, or leave it empty.")
    if not FIRST_YEAR <= found.year <= LAST_YEAR:
        return None, gettext("Give a start that is not so far away, or leave it empty.")
    return found.astimezone(UTC), None
