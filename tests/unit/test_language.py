"""Does everybody get a language that they read, and times that say exactly when?"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from babel.dates import format_datetime
from hypothesis import given
from hypothesis import strategies as st

from jitaccess.language import (
    Language,
    accepted,
    catalogue,
    known_zone,
    minute_text,
    named,
    negotiate,
    number_text,
    parse_time,
    time_text,
)

TIMES = st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 # bounds are naive
ZONES = st.sampled_from(["UTC", "Europe/Belgrade", "Asia/Kolkata", "America/St_Johns"])


@pytest.mark.covers("TRAP-13")
@pytest.mark.parametrize(
    ("asked", "spoken"),
    [
        ("sr-XK", Language.SR),
        ("sr-XK, sq", Language.SR),
        ("sr-Latn", Language.SR),
        ("sr-Cyrl-RS,en;q=0.5", Language.SR),
        ("sh", Language.SR),
        ("sq", Language.SQ),
        ("sq-XK", Language.SQ),
        ("SQ_al", Language.SQ),
        ("de", None),
        ("de, sq;q=0.4, en;q=0.9", Language.EN),
        ("en;q=0, sr;q=0.1", Language.SR),
        ("*", None),
        ("", None),
        (None, None),
        ("sq;q=nonsense, en", Language.EN),
        (", ;q=1,,sr" + ",x" * 4000, Language.SR),
    ],
)
def test_a_browser_gets_the_first_language_that_it_asks_for_and_that_there_is(
    asked: str | None, spoken: Language | None
) -> None:
    assert accepted(asked) is spoken
    assert negotiate(header=asked) is (spoken or Language.EN)


@pytest.mark.parametrize(
    ("given_", "spoken"),
    [
        ({"chosen": "sr", "cookie": "sq", "registered": "en", "header": "sq"}, Language.SR),
        ({"chosen": "", "cookie": "sq", "registered": "en", "header": "sr"}, Language.SQ),
        ({"cookie": "klingon", "registered": "sr", "header": "sq"}, Language.SR),
        ({"registered": "", "header": "sq"}, Language.SQ),
        ({"header": "de", "default": Language.SR}, Language.SR),
    ],
)
def test_the_own_choice_goes_before_the_browser_the_register_and_the_header(
    given_: dict[str, str], spoken: Language
) -> None:
    assert negotiate(**given_) is spoken  # type: ignore[arg-type] # a table of keyword arguments


def test_each_language_is_found_by_its_tag_its_locale_and_its_short_name() -> None:
    for language in Language:
        assert {named(language.tag), named(language.value), named(language.short)} == {language}
        assert catalogue(language).gettext("") is not None


@given(TIMES, st.sampled_from(list(Language)), ZONES)
def test_a_time_reads_back_exactly_in_every_language_and_zone(at: datetime, language: Language, zone: str) -> None:
    whole = at.replace(microsecond=0)
    assert parse_time(time_text(whole, language, zone), language) == whole


@given(TIMES, st.sampled_from(list(Language)), ZONES)
def test_a_time_is_written_as_the_cldr_writes_it(at: datetime, language: Language, zone: str) -> None:
    dot = "." if language is Language.SR else ""
    local = at.astimezone(ZoneInfo(zone))
    for text, clock in ((time_text(at, language, zone), "HH:mm:ss"), (minute_text(at, language, zone), "HH:mm")):
        assert text.rpartition(" ")[0] == format_datetime(local, f"d{dot} MMM y, {clock}", locale=language.value)


def test_the_hour_that_a_clock_shows_twice_is_told_apart() -> None:
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    texts = {time_text(first + timedelta(hours=n), Language.SQ, "Europe/Belgrade") for n in (0, 1)}
    assert texts == {"25 tet 2026, 02:30:00 UTC+2", "25 tet 2026, 02:30:00 UTC+1"}


def test_clocks_run_to_24_and_numbers_have_their_own_separators() -> None:
    evening = datetime(2026, 11, 23, 18, 4, tzinfo=UTC)
    assert minute_text(evening, Language.SQ, "Europe/Belgrade") == "23 nën 2026, 19:04 UTC+1"
    assert minute_text(evening, Language.SR, "Europe/Belgrade") == "23. nov 2026, 19:04 UTC+1"
    assert number_text(1_250_000, Language.SR) == "1.250.000"
    assert number_text(1_250_000, Language.EN) == "1,250,000"


@pytest.mark.parametrize("text", ["", "yesterday", "31 Nov 2026, 10:00:00 UTC", "23 Nov 2026, 10:00:00"])
def test_what_is_no_time_is_not_read_as_one(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 # one of ours and one of datetime's
        parse_time(text, Language.EN)


def test_a_zone_that_this_machine_does_not_know_is_said_to_be_utc() -> None:
    assert not known_zone("Europe/Pristina")
    assert not known_zone("../../etc/passwd")
    assert known_zone("Europe/Belgrade")
    assert time_text(datetime(2026, 1, 1, tzinfo=UTC), Language.EN, "Europe/Pristina").endswith(" UTC")
