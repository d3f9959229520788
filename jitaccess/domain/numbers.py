"""Which whole number did somebody send or type? Only ASCII digits are digits here: `int` and `isdigit` disagree on others."""

import re

_GROUPED = re.compile(r"-?(?:[0-9]+|[0-9]{1,3}(?:[ .,'\u00a0\u202f][0-9]{3})+)")
LONGEST = 16
"""Digits at most: what a number in JSON holds exactly (RFC 8259 section 6)."""
PATTERN = r"-?([0-9]{1,3}([ .,'\u00a0\u202f][0-9]{3})+|[0-9]{1,16})"
"""The same for a browser's form (a regular expression of ECMAScript)."""


def whole(text: str, digits: int) -> int | None:
    """Return a number of at most so many digits, or None: what a program sends."""
    return int(text) if re.fullmatch(rf"[0-9]{{1,{digits}}}", text) else None


def typed(text: str) -> int | None:
    """Return a number as a person types it, its thousands perhaps apart ("1.250.000", "1 250 000"), or None."""
    if not _GROUPED.fullmatch(text):
        return None
    plain = re.sub(r"[^0-9-]", "", text)
    return int(plain) if len(plain.lstrip("-")) <= LONGEST else None
