"""Is the language that a person chose the one that every answer speaks?"""

import re

import pytest

from jitaccess.identity import preferences
from jitaccess.language import Language, named
from jitaccess.web.display import parse_time, time_text
from jitaccess.web.speech import LANGUAGE_COOKIE, say, zone_now
from tests.web.conftest import Site


def spoken(html: str) -> Language | None:
    found = re.search(r'<html lang="([^"]+)"', html)
    return named(found[1]) if found else None


def test_the_browsers_wish_counts_until_somebody_chooses(site: Site) -> None:
    asked = {"Accept-Language": "sr-XK, sq;q=0.9"}
    assert spoken(site.get("/sign-in", **asked).text) is Language.SR
    assert site.form("/language", language="sq", next="/sign-in").status_code == 303
    kept = site.client.get_cookie(LANGUAGE_COOKIE)
    assert kept is not None
    assert kept.value == "sq"
    assert spoken(site.get("/sign-in", **asked).text) is Language.SQ


def test_a_persons_choice_follows_the_person_to_another_browser(site: Site) -> None:
    site.as_("arta").form("/language", language="sr", next="/")
    with site.world.broker.read() as view:
        assert preferences.of(view, site.world.person("arta")).language == "sr"
    site.client.delete_cookie(LANGUAGE_COOKIE, domain="localhost")
    assert spoken(site.as_("arta").get("/", **{"Accept-Language": "en"}).text) is Language.SR
    assert spoken(site.as_("blerim").get("/", **{"Accept-Language": "en"}).text) is Language.EN


@pytest.mark.parametrize(
    ("field", "value", "status", "goes"),
    [
        ("language", "klingon", 400, None),
        ("next", "https://elsewhere.example/", 303, "/"),
        ("next", "//elsewhere.example/", 303, "/"),
        ("next", "/policy?target=treasury", 303, "/policy?target=treasury"),
    ],
)
def test_the_switch_takes_known_languages_and_leads_only_to_own_pages(
    site: Site, field: str, value: str, status: int, goes: str | None
) -> None:
    answer = site.form("/language", **({"language": "sq", "next": "/"} | {field: value}))
    assert answer.status_code == status
    assert answer.headers.get("Location") == goes


@pytest.mark.parametrize("path", ["/sign-in", "/", "/request", "/policy", "/nowhere"])
def test_the_switch_stands_on_every_page(site: Site, path: str) -> None:
    html = site.as_("arta").get(path).text if path != "/sign-in" else site.get(path).text
    assert re.findall(r'<button name="language" value="(\w+)"', html) == ["en", "sq", "sr"]


def test_errors_of_the_api_are_english_unless_another_language_is_asked_for(site: Site) -> None:
    plain = site.get("/api/me")
    assert plain.json["detail"] == "Sign in first."


def test_a_deputy_is_chosen_and_the_zone_is_called_by_its_peoples_name(site: Site) -> None:
    html = site.as_("blerim").get("/deputies").text
    assert re.search(r'<select id="deputy" name="deputy" required>\s*<option value="" selected>Choose a person<', html)
    assert "From when (Kosovo time: UTC+1, in summer UTC+2)" in html
    assert "Europe/Belgrade" not in html


def test_times_are_shown_in_the_zone_of_kosovo(site: Site) -> None:
    filed = site.world.filed(entitlement="releaser")
    html = site.as_("blerim").get(f"/approvals/{filed.request.id}").text
    shown = re.search(r'data-field="approve_by">([^<]+)<', html)
    assert shown is not None
    assert shown[1].endswith("UTC+1")
    assert parse_time(shown[1]) == int(filed.request.approve_by.timestamp())


def test_outside_of_a_request_english_and_utc_are_spoken() -> None:
    assert say("Sign in first.") == "Sign in first."
    assert zone_now() == "UTC"
    assert time_text(0) == "1 Jan 1970, 00:00:00 UTC"
