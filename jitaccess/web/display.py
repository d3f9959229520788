"""How is a value shown so that a person can read it and a test can read it back? Each formatter has its exact inverse (R24).

Times are shown to the second with their distance from UTC, in the reader's language and zone; durations in the units' international
signs; text from users with everything that does not print made visible (R18).
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import cast

from jitaccess.language import DURATION_UNITS, Language
from jitaccess.language import duration_text as duration_text
from jitaccess.language import parse_time as parse_language_time
from jitaccess.language import time_text as language_time
from jitaccess.proof.canonical import JsonValue

NOTHING = "none"


def time_text(epoch_s: int, language: Language = Language.EN, zone: str = "UTC") -> str:
    """Return UTC seconds as `23 Nov 2026, 19:04:05 UTC+1`."""
    return language_time(datetime.fromtimestamp(epoch_s, UTC), language, zone)


def parse_time(text: str, language: Language = Language.EN) -> int:
    """Read `time_text`."""
    return int(parse_language_time(text, language).timestamp())


def parse_duration_text(text: str) -> int:
    """Read `duration_text`."""
    units = {name: unit for unit, name in DURATION_UNITS}
    return sum(int(count) * units[name] for count, name in re.findall(r"(\d+) (d|h|min|s)\b", text))


def visible(text: str) -> str:
    """Return text with every character that does not print shown as its code point; line breaks stay."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter == "\n" else f"[U+{ord(letter):04X}]" for letter in text)


def value_text(value: JsonValue) -> str:
    """Return an input's value."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return visible(str(value))


def terms_rows(terms: JsonValue) -> list[tuple[str, str]]:
    """Return the terms as (dotted name, text), everything that is signed, in order."""
    return _flatten("terms", cast("dict[str, JsonValue]", terms))


TECHNICAL = (
    "v", "instance", "log_origin", "request_id", "requester", "requester_assertion_digest", "target", "target_config_digest",
    "entitlement", "policy_digest", "holder_jkt", "approver", "credential_id", "verdict", "nonce", "deputation_digest",
)  # fmt: skip
"""What of an approval statement is for programs, in the order shown."""


def technical_rows(said: Mapping[str, JsonValue]) -> list[tuple[str, str]]:
    """Return what a statement says to programs as (name, text), in order."""
    return [(name, NOTHING if said[name] is None else str(said[name])) for name in TECHNICAL if name in said]


def payload_rows(payload: JsonValue) -> list[tuple[str, str]]:
    """Return what a change says beside its subject as (dotted name, text), in order."""
    return [(name.removeprefix("change."), text) for name, text in _flatten("change", payload or {})]


def _flatten(path: str, value: JsonValue) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [row for name in sorted(value) for row in _flatten(f"{path}.{name}", value[name])]
    if isinstance(value, list):
        if value and isinstance(value[0], dict):
            return [row for number, part in enumerate(value) for row in _flatten(f"{path}.{number}", part)]
        return [(path, ", ".join(str(part) for part in value) or NOTHING)]
    if value is None:
        return [(path, NOTHING)]
    if path.endswith("_s") and isinstance(value, int):
        return [(path, duration_text(value))]
    return [(path, str(value))]
