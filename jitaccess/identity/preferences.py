"""How does a person want to be spoken to? Language, time zone, quiet hours, digest, addresses of further channels.

These rows carry no power and no evidence: they say how something is shown and when a notice is sent, never whether something may happen.
What is urgent (a hold, a revocation) passes quiet hours and digests all the same (see `broker.notify`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from jitaccess.errors import JitError, Kind
from jitaccess.language import known_zone, named
from jitaccess.store.db import Tx, View
from jitaccess.store.tables import Preference
from jitaccess.told import told

DIGESTS = ("", "hour", "day")
DAY_MINUTES = 24 * 60
MAX_ADDRESS = 64
ADDRESS_LETTERS = "+@._-"
"""Beside letters and digits; nothing here means anything in an address of the web."""


@dataclass(frozen=True, slots=True)
class Preferences:
    """What a person chose; None and "" mean that nothing was chosen."""

    language: str = ""
    zone: str = ""
    digest: str = ""
    """At once, or gathered: `hour` or `day`."""
    digest_minute: int = 8 * 60
    """Minute of the day in the person's zone at which a daily digest leaves."""
    quiet_from: int | None = None
    """Minute of the day; quiet is `quiet_from <= now < quiet_to`, across midnight where it is the larger one."""
    quiet_to: int | None = None
    addresses: Mapping[str, str] = field(default_factory=dict)
    """Channel name -> the person's address there."""


NOTHING_CHOSEN = Preferences()


def of(view: View, person_id: str) -> Preferences:
    """Return what a person chose."""
    row = view.get(Preference, person_id)
    if row is None:
        return NOTHING_CHOSEN
    return Preferences(
        language=row.language or "",
        zone=row.zone or "",
        digest=row.digest or "",
        digest_minute=row.digest_minute if row.digest_minute is not None else NOTHING_CHOSEN.digest_minute,
        quiet_from=row.quiet_from,
        quiet_to=row.quiet_to,
        addresses=cast("dict[str, str]", row.addresses or {}),
    )


def change(tx: Tx, person_id: str, **values: Any) -> Preferences:
    """Change some of a person's own choices; raises INVALID for what is none."""
    wanted = replace(of(tx, person_id), **values)
    _check(wanted)
    columns: dict[str, Any] = {
        "language": wanted.language,
        "zone": wanted.zone,
        "digest": wanted.digest,
        "digest_minute": wanted.digest_minute,
        "quiet_from": wanted.quiet_from,
        "quiet_to": wanted.quiet_to,
        "addresses": dict(wanted.addresses),
    }
    row = tx.get(Preference, person_id)
    if row is None:
        tx.insert(Preference, person_id=person_id, **columns)
    else:
        tx.update(row, **columns)
    return wanted


def _check(wanted: Preferences) -> None:
    if wanted.language and named(wanted.language) is None:
        raise JitError(Kind.INVALID, told("There is no such language here."), field="language")
    if wanted.zone and not known_zone(wanted.zone):
        raise JitError(Kind.INVALID, told("There is no such time zone."), field="zone")
    if wanted.digest not in DIGESTS:
        raise JitError(Kind.INVALID, told("Notices come at once, every hour or every day."), field="digest")
    if (wanted.quiet_from is None) != (wanted.quiet_to is None):
        raise JitError(Kind.INVALID, told("Quiet hours need a beginning and an end."), field="quiet_from")
    minutes = {"digest_minute": wanted.digest_minute, "quiet_from": wanted.quiet_from, "quiet_to": wanted.quiet_to}
    for name, minute in minutes.items():
        if minute is not None and not 0 <= minute < DAY_MINUTES:
            raise JitError(Kind.INVALID, told("A time of day is between 00:00 and 23:59."), field=name)
    for channel, address in wanted.addresses.items():
        plain = all(letter.isascii() and (letter.isalnum() or letter in ADDRESS_LETTERS) for letter in address)
        if not address or len(address) > MAX_ADDRESS or not plain:
            raise JitError(
                Kind.INVALID,
                told("An address has letters, digits and the signs %(signs)s only.", signs=ADDRESS_LETTERS),
                field=f"addresses.{channel}",
            )
