"""The small parts of forms and pages that belong to the course of access: when it begins.

Times are read and shown in UTC, and said to be; what cannot be read is told in one sentence, never guessed.
"""

from datetime import UTC, datetime

from flask_babel import gettext


def posted_start(text: str) -> tuple[datetime | None, str | None]:
    """Read `2026-11-24T08:00` (UTC) of a form; return the start, None for at once, and what is wrong with it."""
    text = text.strip()
    if not text:
        return None, None
    try:
        found = datetime.strptime(text[:16], "%Y-%m-%dT%H:%M").replace(tzinfo=UTC)
    except ValueError:
        return None, gettext("Give the start as a date and a time, or leave it empty.")
    return found, None
