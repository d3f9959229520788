"""Does everybody learn what is needed for a right, of others only who may, and does bad input get a plain sentence?"""

import json
from datetime import timedelta
from urllib.parse import urlencode

import pytest
from bs4 import BeautifulSoup, Tag
from sqlalchemy import func, select

from jitaccess.store.tables import Event
from tests.support.policy_swap import Rules, swap
from tests.web.conftest import Site

RELEASE = "/policy/explain?right=treasury/releaser"
GIVEN = {"input.order": "TR-000417", "input.amount_cents": "125000000"}


def explained(site: Site, status: int = 200, **fields: str) -> BeautifulSoup:
    """Give the page's answer."""
    answer = site.get("/policy/explain?" + urlencode({"right": "treasury/releaser", **fields}))
    assert answer.status_code == status, answer.text
    return BeautifulSoup(answer.text, "html.parser")


def rule(page: BeautifulSoup, name: str) -> str:
    """Give what is said of a rule."""
    found = page.select_one(f'[data-rule="{name}"]')
    assert isinstance(found, Tag)
    return " ".join(found.get_text(" ").split())


def problem(page: BeautifulSoup) -> str:
    """Give what the page says is wrong."""
    (found,) = page.select("main > .problem[role=alert]")
    return found.get_text()


def readings(site: Site) -> int:
    """Count the entries that tell of a reading."""
    with site.world.broker.read() as view:
        return int(view.scalar(select(func.count()).where(Event.type == "admin.read")))


def test_the_policy_page_leads_to_the_question(site: Site) -> None:
    page = BeautifulSoup(site.as_("arta").get("/policy").text, "html.parser")
    form = page.select_one('form[action="/policy/explain"]')
    assert form is not None
    values = [str(option["value"]) for option in form.select('select[name="right"] option')]
    assert "treasury/releaser" in values
    assert all(site.get(f"/policy/explain?right={value}").status_code == 200 for value in values)
    assert site.get("/policy/explain").status_code == 200


def test_a_person_learns_of_oneself_with_inputs_and_a_time(site: Site) -> None:
    site.as_("arta")
    assert "A field is missing. Payment order" in rule(explained(site), "release-payments")
    page = explained(site, **GIVEN)
    assert rule(page, "release-payments") == "release-payments permits"
    text = page.select_one("#explanation").get_text(" ")
    assert "After the signatures below." in text
    assert "Blerim Gashi" in text
    assert "30 min" in text
    too_dear = explained(site, **(GIVEN | {"input.amount_cents": "300000000"}))
    assert "The conditions for this are not met. The condition: input.amount_cents" in rule(
        too_dear, "release-payments"
    )
    long = explained(site, **GIVEN, duration_s="14400")
    assert "The time asked for is too long. At most 1 h." in rule(long, "release-payments")
    later = explained(site, **GIVEN, start="2026-11-24T08:00")
    assert "This cannot begin that late" in rule(later, "release-payments")
    assert "It can only begin at once." in rule(later, "release-payments")
    assert [str(field["value"]) for field in page.select('input[name^="input."]')] == ["TR-000417", "125000000"]
    assert readings(site) == 0


@pytest.mark.parametrize("language", ["sq", "sr"])
def test_it_is_said_in_the_readers_language(site: Site, language: str) -> None:
    site.client.set_cookie("__Host-jit-language", language, domain="localhost", secure=True)
    said = rule(explained(site.as_("arta")), "release-payments")
    assert {"sq": "Urdhërpagesa", "sr": "Nalog za plaćanje"}[language] in said
    assert "missing" not in said


@pytest.mark.covers("R71")
@pytest.mark.parametrize("key", ["agim", "jelena"])
def test_administrators_and_auditors_ask_about_anybody_and_it_is_noted(site: Site, key: str) -> None:
    site.as_(key)
    for who in ("arta.krasniqi@mof.example", site.world.person("arta"), "krasniqi"):
        before = readings(site)
        page = explained(site, **GIVEN, person=who)
        assert "Arta Krasniqi" in page.select_one("#explanation h2").get_text()
        assert rule(page, "release-payments") == "release-payments permits"
        assert readings(site) == before + 1
    other = explained(site, **GIVEN, person="drita.hoxha@infra.example")
    assert "None of this person's groups may ask for this. Groups that may: Treasury releasers." in rule(
        other, "release-payments"
    )
    assert "your groups" not in other.get_text()


@pytest.mark.covers("R71")
@pytest.mark.parametrize("key", ["arta", "blerim", "drita"])
def test_nobody_else_asks_about_others_not_even_whether_they_exist(site: Site, key: str) -> None:
    others = [who for who in ("arta", "drita") if who != key]
    site.as_(key)
    said = set()
    for who in (*(site.world.person(one) for one in others), "nobody", "0" * 26, "a" * 254):
        page, call = (
            site.get(f"{RELEASE}&person={who}"),
            site.get(f"/api/policy/explain?target=treasury&person={who[:64]}"),
        )
        assert (page.status_code, call.status_code) == (403, 403), who
        said.add((call.json["detail"], call.json["code"]))
    assert len(said) == 1, "the same answer whoever was named"
    assert 'name="person"' not in site.get(RELEASE).text
    own = site.get(f"{RELEASE}&person={site.world.person(key)}")
    assert own.status_code == 200, "asking of oneself by name is asking of oneself"
    assert readings(site) == 0


def test_the_strongest_passkey_of_somebody_else_is_assumed_unless_another_is_said(site: Site) -> None:
    def strict(rules: Rules) -> None:
        rules["release-payments"]["for"]["credential"] = "device_bound"

    swap(site.world, strict)
    arta = site.world.person("arta")
    site.as_("agim")
    own_keys = explained(site, **GIVEN, person=arta)
    assert rule(own_keys, "release-payments") == "release-payments permits"
    assert "a passkey that stays in one device" in own_keys.select_one("#explanation dl").get_text()
    weaker = rule(explained(site, **GIVEN, person=arta, credential="synced"), "release-payments")
    assert "This needs a stronger passkey. Needed: a passkey that stays in one device." in weaker
    nobody = site.world.person("milan")
    site.world.sql("UPDATE passkey SET status = 'removed' WHERE person_id = :id", id=nobody)
    found = site.get(f"/api/policy/explain?target=treasury&entitlement=viewer&person={nobody}").json
    assert found["credential"] == "any", "who has no passkey is not taken for somebody who has"


def test_a_hold_is_said_before_what_the_rules_permit(site: Site) -> None:
    arta = site.world.person("arta")
    site.as_("agim").post("/api/holds", {"kind": "person", "subject_id": arta, "cause": "not her"})
    blocked = explained(site, **GIVEN, person=arta).select_one("#explanation .problem")
    assert blocked is not None
    assert "This person is on hold." in blocked.get_text()
    site.post("/api/holds", {"kind": "target", "subject_id": "treasury", "cause": "outage"})
    other = site.get(
        f"/api/policy/explain?target=treasury&entitlement=viewer&person={site.world.person('blerim')}"
    ).json
    assert other["blocked"]["code"] == "target_on_hold"


def test_what_the_person_holds_counts(site: Site) -> None:
    def once(rules: Rules) -> None:
        rules["look-at-payments"]["limits"] = {"active_per_person": 1}

    swap(site.world, once)
    site.world.filed()
    page = explained(site.as_("agim"), right="treasury/viewer", person=site.world.person("arta"))
    assert "This person has as many of these open as is allowed. Allowed: 1." in rule(page, "look-at-payments")
    site.world.advance(timedelta(hours=1))
    site.world.sweep()
    again = explained(site.as_("agim"), right="treasury/viewer", person=site.world.person("arta"))
    assert rule(again, "look-at-payments") == "look-at-payments permits"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"right": "treasury/nothing"}, "There is no such system or right."),
        ({"right": "nothing"}, "There is no such system or right."),
        ({"input.amount_cents": "much"}, "Amount in cents must be a whole number."),
        ({"input.amount_cents": "9" * 17}, "Amount in cents must be a whole number."),
        ({"input.amount_cents": "²"}, "Amount in cents must be a whole number."),
        ({"duration_s": "soon"}, "Give the time in whole seconds."),
        ({"duration_s": "0"}, "Give the time in whole seconds."),
        ({"start": "tomorrow"}, "Give the start as a date and a time, or leave it empty."),
        ({"start": "9999-01-01T00:00"}, "Give a start that is not so far away, or leave it empty."),
        ({"credential": "gold"}, "There is no such kind of passkey."),
        ({"person": "zeppelin"}, "Nobody is called like that."),
        ({"person": "\x00'\"<b>"}, "Nobody is called like that."),
    ],
)
def test_bad_input_gets_a_plain_sentence_and_no_answer(site: Site, fields: dict[str, str], said: str) -> None:
    page = explained(site.as_("agim"), 422, **fields)
    assert problem(page) == said
    assert page.select_one("#explanation") is None
    assert page.select_one('form[action="/policy/explain"]') is not None, "the question stays there to be mended"


def test_several_people_of_that_name_are_offered_to_choose_from(site: Site) -> None:
    page = explained(site.as_("agim"), 422, **GIVEN, person="mof")
    assert problem(page) == "Several people are called like that. Choose one:"
    links = {link.get_text().split(",")[0]: str(link["href"]) for link in page.select("main ul a")}
    assert len(links) > 1
    chosen = BeautifulSoup(site.get(links["Arta Krasniqi"]).text, "html.parser")
    assert rule(chosen, "release-payments") == "release-payments permits", "the rest of the question is kept"


def test_the_api_answers_the_same_with_codes_and_sentences(site: Site) -> None:
    arta = site.world.person("arta")
    inputs = json.dumps({"order": "TR-000417", "amount_cents": 125_000_000})
    query = {"target": "treasury", "entitlement": "releaser", "person": arta, "inputs": inputs, "duration_s": 600}
    found = site.as_("jelena").get("/api/policy/explain?" + urlencode(query)).json
    assert (found["person_id"], found["blocked"], found["enough_people"]) == (arta, None, True)
    assert found["decision"]["effect"] == "permit"
    assert found["rules"] == [{"rule": "release-payments", "failure": None, "about": "", "sentence": None}]
    assert found["signers"]["line"] == [site.world.person("blerim")]
    long = site.get("/api/policy/explain?" + urlencode(query | {"duration_s": 7200})).json
    (verdict,) = long["rules"]
    assert (verdict["failure"], verdict["about"]) == ("too_long", "3600")
    assert verdict["sentence"] == "The time asked for is too long. At most 1 h."
    albanian = site.get(
        "/api/policy/explain?" + urlencode(query | {"duration_s": 7200}), **{"Accept-Language": "sq"}
    ).json
    (said,) = albanian["decision"]["sentences"]
    assert said not in long["decision"]["sentences"]
    unknown = site.get("/api/policy/explain?" + urlencode(query | {"person": "nobody"}))
    assert (unknown.status_code, unknown.json["detail"]) == (404, "There is no such person.")
    assert site.as_("arta").get("/api/policy/explain?target=treasury&entitlement=releaser").json["person_id"] == arta


@pytest.mark.parametrize("inputs", ["{", "[]", "7", '{"a": 1.5}', '{"a": null}', '{"a": {"b": 1}}', "null"])
def test_inputs_of_the_api_that_are_no_object_of_plain_values_are_told(site: Site, inputs: str) -> None:
    query = urlencode({"target": "treasury", "entitlement": "releaser", "inputs": inputs})
    answer = site.as_("arta").get(f"/api/policy/explain?{query}")
    assert answer.status_code == 400
    assert answer.json["field"].startswith("inputs")
