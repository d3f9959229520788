"""In which language does somebody read? Three of them, chosen by hand, with their catalogues and the way they write times.

Negotiation is ours because Babel sends a browser that asks for `sr-XK, sq` to Albanian: a person's stored choice, then the browser's
cookie, then the register's entry, then Accept-Language. `sq_XK` is used because plain `sq` has a 12-hour clock, `sr_Latn_XK` because plain
`sr` is Cyrillic; there is no zone Europe/Pristina, its clocks are Europe/Belgrade's. Nothing that is signed or logged depends on any of it.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import cache, lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from babel import Locale
from babel.numbers import format_currency, format_decimal, get_currency_precision, get_decimal_symbol
from babel.support import NullTranslations, Translations

CATALOGUES = Path(__file__).parent / "translations"
MAX_HEADER = 200
"""Characters of an Accept-Language header that are looked at."""


class Language(StrEnum):
    """The languages; the value is the CLDR locale."""

    EN = "en"
    SQ = "sq_XK"
    SR = "sr_Latn_XK"

    @property
    def tag(self) -> str:
        """Return the BCP 47 tag, for `lang` attributes."""
        return self.value.replace("_", "-")

    @property
    def short(self) -> str:
        """Return the name by which settings, forms and the command line call it."""
        return self.value.split("_")[0]

    @property
    def own_name(self) -> str:
        """Return the language's name in itself."""
        return _OWN_NAMES[self]


_OWN_NAMES = {Language.EN: "English", Language.SQ: "Shqip", Language.SR: "Srpski"}
_NAMED = {
    "en": Language.EN,
    "sq": Language.SQ,
    "aln": Language.SQ,  # Gheg, the Albanian of Kosovo; who reads it reads the standard
    "als": Language.SQ,
    "sr": Language.SR,
    "sh": Language.SR,  # the old tag that browsers still send for Latin script
    "bs": Language.SR,  # Bosnian, Croatian and Montenegrin readers understand Serbian better than English
    "hr": Language.SR,
    "cnr": Language.SR,
}


def named(text: str | None) -> Language | None:
    """Return the language that a tag, a locale or a short name means, or None."""
    return _NAMED.get(re.split(r"[-_]", text.strip().lower(), maxsplit=1)[0]) if text else None


def accepted(header: str | None) -> Language | None:
    """Return the first language that a browser asks for and that there is (RFC 9110 section 12.5.4), or None."""
    asked = sorted(_ranges((header or "")[:MAX_HEADER]), key=lambda pair: -pair[1])
    return next((found for tag, weight in asked if weight > 0 and (found := named(tag)) is not None), None)


def _ranges(header: str) -> Iterator[tuple[str, float]]:
    for part in header.split(","):
        tag, _, rest = part.partition(";")
        weight = re.fullmatch(r"\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*", rest)
        if tag.strip() and (not rest.strip() or weight):
            yield tag, float(weight[1]) if weight else 1.0


def negotiate(
    *, chosen: str | None = None, cookie: str | None = None, registered: str | None = None, header: str | None = None,
    default: Language = Language.EN,
) -> Language:  # fmt: skip
    """Return the language to speak: own choice, this browser's choice, the register's entry, what the browser asks for."""
    return named(chosen) or named(cookie) or named(registered) or accepted(header) or default


@cache
def catalogue(language: Language) -> NullTranslations:
    """Return the sentences of a language; English is written in the program itself."""
    return NullTranslations() if language is Language.EN else Translations.load(CATALOGUES, [language.value])


# ---------------------------------------------------------------- times and numbers

DEFAULT_ZONE = "Europe/Belgrade"
_AFTER_DAY = {Language.EN: "", Language.SQ: "", Language.SR: "."}
"""The CLDR pattern `d MMM y`, in Serbian `d. MMM y`; filled in by hand, because a page shows hundreds of times."""
RULES_OF = 2037
"""The year that is asked for a zone's offsets: zone data end with the rule that holds from now on."""
DURATION_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
"""Seconds and their international signs, the same in every language."""
_READ = re.compile(r"(\d+)\.? (\w+)\.? (\d+), (\d\d):(\d\d):(\d\d) UTC(?:([+-])(\d+)(?::(\d\d))?)?")


def known_zone(name: str) -> bool:
    """Say whether a time zone exists on this machine."""
    try:
        return ZoneInfo(name).key == name
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False


@cache
def zone_named(name: str) -> ZoneInfo:
    """Return a time zone; one that this machine does not know reads as UTC, which every text then says."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def time_text(at: datetime, language: Language, zone: str = "UTC") -> str:
    """Return `23 Nov 2026, 19:04:05 UTC+1`: to the second and with its distance from UTC, so that it reads back exactly."""
    local = at.astimezone(zone_named(zone))
    return f"{_day(local, language)}, {local:%H:%M:%S} {_offset(local)}"


def minute_text(at: datetime, language: Language, zone: str = "UTC") -> str:
    """Return the same without seconds, for letters and lists."""
    local = at.astimezone(zone_named(zone))
    return f"{_day(local, language)}, {local:%H:%M} {_offset(local)}"


def _day(local: datetime, language: Language) -> str:
    return f"{local.day}{_AFTER_DAY[language]} {_month_names(language)[local.month]} {local.year}"


@cache
def _month_names(language: Language) -> dict[int, str]:
    """Return the short names of the months, in the CLDR's spelling."""
    return dict(Locale.parse(language.value).months["format"]["abbreviated"])


@cache
def offsets(zone: str) -> tuple[str, str]:
    """Return a zone's distances from UTC, as `UTC+1`: out of summer and in it; the same twice where there is no summer time."""
    winter, summer = sorted((datetime(RULES_OF, month, 1, tzinfo=zone_named(zone)) for month in (1, 7)), key=_distance)
    return _offset(winter), _offset(summer)


def _distance(local: datetime) -> timedelta:
    return local.utcoffset() or timedelta()


def _offset(local: datetime) -> str:
    away = local.utcoffset() or timedelta()
    if not away:
        return "UTC"
    hours, minutes = divmod(round(abs(away).total_seconds() / 60), 60)
    return f"UTC{'-' if away < timedelta() else '+'}{hours}" + (f":{minutes:02d}" if minutes else "")


def parse_time(text: str, language: Language) -> datetime:
    """Read `time_text`; raises ValueError."""
    found = _READ.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"not a time: {text!r}")
    day, month, year, hour, minute, second, sign, hours, minutes = found.groups()
    away = timedelta(hours=int(hours or 0), minutes=int(minutes or 0)) * (-1 if sign == "-" else 1)
    number = _months(language)[month]
    return datetime(int(year), number, int(day), int(hour), int(minute), int(second), tzinfo=UTC) - away


@cache
def _months(language: Language) -> dict[str, int]:
    return {name.rstrip("."): number for number, name in _month_names(language).items()}


def decimal_sign(language: Language) -> str:
    """Return what stands between whole and part of a number."""
    return str(get_decimal_symbol(language.value))


@lru_cache(maxsize=4096)
def decimal_text(number: float, language: Language, *, places: int = 3) -> str:
    """Return a number with so many places behind the language's decimal sign."""
    return format_decimal(number, format="#,##0." + "0" * places, locale=language.value)


def duration_text(seconds: int) -> str:
    """Return seconds as `1 h 30 min`."""
    parts: list[str] = []
    for unit, name in DURATION_UNITS:
        count, seconds = divmod(seconds, unit)
        if count:
            parts.append(f"{count} {name}")
    return " ".join(parts) or "0 s"


@lru_cache(maxsize=4096)
def money_text(units: int, currency: str, language: Language) -> str:
    """Return an amount in the smallest unit of a currency (ISO 4217), such as cents, as money: `1.250.000,00 €`."""
    amount = Decimal(units).scaleb(-get_currency_precision(currency))
    return format_currency(amount, currency, locale=language.value)


@lru_cache(maxsize=4096)
def number_text(number: int, language: Language) -> str:
    """Return a whole number with the language's separators."""
    return format_decimal(number, locale=language.value)
