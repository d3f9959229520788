"""Does a person choose how to be told, and do administrators see who was not?"""

import pytest
from bs4 import BeautifulSoup
from sqlalchemy import select

from jitaccess.broker import notify
from jitaccess.broker.channels import channels
from jitaccess.identity import preferences
from jitaccess.language import Language
from jitaccess.store.tables import Outbox
from jitaccess.web.speech import LANGUAGE_COOKIE, ZONE_WORDS
from tests.web.conftest import Site

FIELDS = {"zone": "Europe/London", "digest": "day", "digest_at": "07:30", "quiet_from": "22:00", "quiet_to": "06:15"}


def test_a_person_chooses_zone_digest_and_quiet_hours(site: Site) -> None:
    site.as_("arta")
    assert site.form("/settings", **FIELDS).status_code == 303
    html = site.get("/settings?saved=1").text
    for shown in ("Europe/London", "07:30", "22:00", "06:15", "Saved."):
        assert shown in html
    with site.world.broker.read() as view:
        found = preferences.of(view, site.world.person("arta"))
    assert (found.digest_minute, found.quiet_from, found.quiet_to) == (450, 1320, 375)
    assert site.form("/settings", **(FIELDS | {"quiet_from": "", "quiet_to": ""})).status_code == 303


@pytest.mark.parametrize(
    "wrong", [{"zone": "Europe/Pristina"}, {"digest": "week"}, {"digest_at": "25:00"}, {"quiet_to": ""}]
)
def test_what_cannot_be_chosen_is_refused(site: Site, wrong: dict[str, str]) -> None:
    assert site.as_("arta").form("/settings", **(FIELDS | wrong)).status_code == 400


def test_a_zone_changes_the_times_that_are_shown(site: Site) -> None:
    site.world.filed()
    site.as_("arta").form("/settings", **FIELDS)
    assert "UTC+1" not in site.get("/").text


def test_the_state_of_channels_is_for_administrators(site: Site) -> None:
    site.world.filed()
    notify.send_due(site.world.broker)
    assert site.as_("arta").get("/notices").status_code == 403
    html = site.as_("agim").get("/notices").text
    assert ">Mail<" in html
    assert site.form("/notices/mail/try-again").status_code == 303
    assert site.form("/notices/pigeon/try-again").status_code == 404
    assert site.as_("arta").form("/notices/mail/try-again").status_code == 403


def test_the_requester_sees_how_many_were_told(site: Site) -> None:
    filed = site.world.filed(entitlement="releaser")
    page = f"/requests/{filed.request.id}"
    assert "Told: 0 of 1" in site.as_("arta").get(page).text
    notify.send_due(site.world.broker)
    assert "Told: 1 of 1" in site.get(page).text
    with site.world.broker.read() as view:
        assert all(row.channel == "mail" for row in view.all(select(Outbox)))


@pytest.mark.parametrize(
    ("zone", "words"),
    [
        ("Europe/Belgrade", "Kosovo time: UTC+1, in summer UTC+2"),
        ("Europe/London", "British time: UTC, in summer UTC+1"),
        ("America/New_York", "New York time: UTC-5, in summer UTC-4"),
        ("UTC", "world time: UTC"),
        ("Asia/Kolkata", "Kolkata: UTC+5:30"),
        ("Australia/Lord_Howe", "Lord Howe: UTC+10:30, in summer UTC+11"),
    ],
)
def test_pages_say_in_plain_words_in_which_zone_times_are_shown(site: Site, zone: str, words: str) -> None:
    site.as_("agim").form("/settings", **(FIELDS | {"zone": zone}))
    assert f"Times are shown in: {words}" in site.get("/settings").text
    assert f"Times are shown in: {words}" in site.get("/notices").text


def test_pictures_name_the_zone_of_the_declared_hours_as_people_do(site: Site) -> None:
    site.world.filed()
    html = site.as_("jelena").get("/audit/pictures").text
    assert "openings by hour and weekday (Kosovo time: UTC+1, in summer UTC+2)" in html
    assert "Europe/Belgrade" not in html


@pytest.mark.parametrize("language", Language)
def test_every_zone_that_is_offered_has_a_name_in_every_language(site: Site, language: Language) -> None:
    site.client.set_cookie(LANGUAGE_COOKIE, language.short, domain="localhost", secure=True)
    html = BeautifulSoup(site.as_("arta").get("/settings").text, "html.parser")
    shown = {option["value"]: option["label"] for option in html.select("#zones option")}
    assert set(shown) == set(ZONE_WORDS)
    assert all(": UTC" in str(words) and "/" not in str(words) for words in shown.values())
    assert len(set(shown.values())) == len(shown)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("SMTPServerDisconnected", "the connection broke"),
        ("status_503", "it answered with the error 503"),
        ("unknown_host", "there is no machine of that name"),
        ("SomethingNew", "it failed in a way that the broker does not know"),
    ],
)
def test_why_a_notice_did_not_arrive_is_said_in_words_and_the_code_is_for_technicians(
    site: Site, code: str, words: str
) -> None:
    site.world.filed(entitlement="releaser")
    notify.divide(site.world.broker, channels(site.world.broker.settings))
    site.world.sql("UPDATE outbox SET attempts = 3, last_error = :code", code=code)
    page = BeautifulSoup(site.as_("agim").get("/notices").text, "html.parser")
    technical = page.select_one("td details")
    assert technical is not None
    assert code in technical.extract().get_text()
    assert words in page.get_text()
    assert code not in page.get_text()
