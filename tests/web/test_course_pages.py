"""The parts of pages that belong to the course of access: when it begins and how it goes on."""

import re
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest

from jitaccess.language import DEFAULT_ZONE
from jitaccess.web.display import time_text
from tests.support.policy_swap import Rules, swap
from tests.web.conftest import Site

FIELDS = {"target": "treasury", "entitlement": "viewer", "duration_s": "900", "reason": "month end"}


def ahead(rules: Rules) -> None:
    rules["look-at-payments"]["duration"]["start_within"] = "2d"


def test_a_start_is_asked_for_only_where_a_rule_allows_one(site: Site) -> None:
    site.as_("arta")
    path = "/request?target=treasury&entitlement=viewer"
    assert 'name="start"' not in site.get(path).get_data(as_text=True)
    swap(site.world, ahead)
    assert 'name="start"' in site.get(path).get_data(as_text=True)


def test_the_start_goes_from_the_form_through_the_check_into_what_is_signed(site: Site) -> None:
    swap(site.world, ahead)
    site.as_("arta")
    start = (site.world.broker.db.now() + timedelta(hours=5)).replace(second=0, microsecond=0)
    here = start.astimezone(ZoneInfo(DEFAULT_ZONE))
    checked = site.form("/request/check", **FIELDS, start=here.strftime("%Y-%m-%dT%H:%M"))
    html = checked.get_data(as_text=True)
    assert checked.status_code == 200
    assert time_text(int(start.timestamp()), zone=DEFAULT_ZONE) in html
    assert re.search(rf"start_at\W+{int(start.timestamp())}\b", html)
    body = {"target": "treasury", "entitlement": "viewer", "duration_s": 900, "reason": "month end"}
    filed = site.ceremony("arta", "/api/requests", body | {"start_at": int(start.timestamp())})
    assert filed.status_code == 200, filed.json
    grant = next(found for found in site.get("/api/grants").json if found["id"] == filed.json["grant_id"])
    assert (grant["state"], grant["not_before"]) == ("SCHEDULED", int(start.timestamp()))
    home = site.get("/").get_data(as_text=True)
    assert "scheduled" in home
    assert f"login_hint={grant['id']}" not in home, "nothing can be opened before it begins"
    site.world.advance(timedelta(hours=5, minutes=1))
    site.world.sweep()
    assert f"login_hint={grant['id']}" in site.as_("arta").get("/").get_data(as_text=True)


def test_a_start_that_cannot_be_read_is_told_in_a_sentence(site: Site) -> None:
    swap(site.world, ahead)
    site.as_("arta")
    for far in ("0001-01-01T00:00", "9999-12-31T23:59"):
        assert site.form("/request/check", **FIELDS, start=far).status_code == 422
    body = {"target": "treasury", "entitlement": "viewer", "reason": "month end", "start_at": 253_402_300_799}
    assert site.post("/api/requests/begin", body).status_code == 400
    wrong = site.form("/request/check", **FIELDS, start="tomorrow")
    assert wrong.status_code == 422
    assert "Give the start as a date and a time" in wrong.get_data(as_text=True)


def test_extending_is_one_page_and_one_signature(site: Site) -> None:
    grant = site.world.filed(duration_s=900).grant
    assert grant is not None
    site.as_("arta")
    assert f"/grants/{grant.id}/extend" in site.get("/").get_data(as_text=True)
    page = site.get(f"/grants/{grant.id}/extend").get_data(as_text=True)
    assert "Nobody: your signature is enough." in page
    assert "goes on from there" in page
    assert "2 extensions" in page
    wrong = site.ceremony("arta", f"/api/grants/{grant.id}/extension", {"duration_s": "x", "reason": "not done"})
    assert wrong.status_code in {400, 422}
    filed = site.ceremony("arta", f"/api/grants/{grant.id}/extension", {"duration_s": "900", "reason": "not done"})
    assert filed.status_code == 200, filed.json
    following = next(one for one in site.get("/api/grants").json if one["id"] == filed.json["grant_id"])
    assert (following["state"], following["extends"]) == ("SCHEDULED", grant.id)
    assert f"/grants/{grant.id}/extend" not in site.get("/").get_data(as_text=True)
    assert site.get(f"/grants/{grant.id}/extend").status_code == 409
    assert site.as_("blerim").get(f"/grants/{grant.id}/extend").status_code == 404


def delayed(rules: Rules) -> None:
    rules["look-at-payments"] |= {
        "delay": {"time_lock": "10m", "veto": ["owner"]},
        "notify": {"witnesses": ["treasury-heads"]},
    }


def locked(rules: Rules) -> None:
    rules["look-at-payments"]["delay"] = {"time_lock": "10m", "veto": ["owner"]}
    rules["release-payments"]["delay"] = {"time_lock": "30m", "veto": ["owner"]}


def test_no_page_promises_at_once_what_a_delay_holds_back(site: Site) -> None:
    site.as_("arta")
    assert "Nobody: you get it at once." in site.get("/request?target=treasury&entitlement=viewer").text
    assert re.search(r"<small>at once", site.get("/request").text)
    swap(site.world, locked)
    found = site.get("/request").text
    assert "begins 10 min after you sign" in found
    assert "needs signatures, then waits 30 min" in found
    form = site.get("/request?target=treasury&entitlement=viewer").text
    checked = site.form("/request/check", **FIELDS).text
    for page in (form, checked):
        assert "Nobody: it begins 10 min after you sign." in page
        assert "you get it at once" not in page
    assert "after the last signature" not in checked
    signed = site.get("/request?target=treasury&entitlement=releaser").text
    assert "It waits 30 min after the last signature." in signed


@pytest.mark.parametrize(
    ("language", "waits", "gap"),
    [
        ("en", "It waits 10 min after you sign.", "7 min without access"),
        ("sq", "Pret 10 min pasi të nënshkruani.", "7 min pa qasje"),
        ("sr-Latn", "Čeka 10 min nakon što potpišete.", "7 min bez pristupa"),
    ],
)
def test_an_extension_tells_its_wait_and_the_gap_before_it_is_signed(
    site: Site, language: str, waits: str, gap: str
) -> None:
    swap(site.world, locked)
    grant = site.world.filed(duration_s=900).grant
    assert grant is not None
    site.world.advance(timedelta(minutes=10))
    site.world.sweep()
    site.as_("arta")
    early = site.get(f"/grants/{grant.id}/extend", **{"Accept-Language": language}).text
    assert waits in early
    assert gap.partition(" min ")[2] not in early
    site.world.advance(timedelta(minutes=12))
    site.as_("arta")
    late = site.get(f"/grants/{grant.id}/extend", **{"Accept-Language": language}).text
    assert gap in late
    if language == "en":
        assert "begins there at the earliest" in late
        assert "goes on from there" not in late
    filed = site.ceremony("arta", f"/api/grants/{grant.id}/extension", {"duration_s": "900", "reason": "not done"})
    following = next(one for one in site.get("/api/grants").json if one["id"] == filed.json["grant_id"])
    assert following["not_before"] == int((site.world.clock.now() + timedelta(minutes=10)).timestamp())


def test_the_owner_sees_what_waits_stops_it_with_one_tap_and_signs_afterwards(site: Site) -> None:
    swap(site.world, delayed)
    filed = site.world.filed()
    assert filed.grant is not None
    page = f"/witness/grants/{filed.grant.id}"
    assert page in site.as_("drita").get("/").get_data(as_text=True)
    before = site.get(page).get_data(as_text=True)
    assert f"/grants/{filed.grant.id}/veto" in before
    assert site.form(f"/grants/{filed.grant.id}/veto").status_code == 303
    after = site.get(page).get_data(as_text=True)
    assert "vetoed" in after
    assert "Sign the veto" in after
    assert site.ceremony("drita", f"/api/grants/{filed.grant.id}/veto").status_code == 200
    assert "Sign the veto" not in site.get(page).get_data(as_text=True)
    assert site.post(f"/api/grants/{filed.grant.id}/veto").status_code == 410


@pytest.mark.covers("R71")
def test_a_veto_is_found_given_and_signed_through_the_api_with_the_factors_of_the_page(site: Site) -> None:
    swap(site.world, delayed)
    filed = site.world.filed()
    assert filed.grant is not None
    key = filed.grant.id
    assert [one["id"] for one in site.as_("drita").get("/api/vetoes").json] == [key]
    before = site.get(f"/api/witness/grants/{key}").json
    assert (before["grant"]["id"], before["request"]["reason"]) == (key, "quarterly payments")
    assert (before["stoppable"], before["unsigned"], before["vetoes"]) == (True, False, [])
    stopped = site.post(f"/api/grants/{key}/veto")
    assert (stopped.status_code, stopped.json["cause"]) == (200, "vetoed")
    assert site.get("/api/vetoes").json == []
    seen = site.get(f"/api/witness/requests/{filed.request.id}").json
    assert (seen["stoppable"], seen["unsigned"], seen["vetoes"][0]["signed"]) == (False, True, False)
    begun = site.post(f"/api/grants/{key}/veto/begin").json
    answer = site.world.passkey("arta").get(begun["options"])
    wrong = {"challenge_id": begun["challenge_id"], "response": answer}
    assert site.post(f"/api/grants/{key}/veto/complete", wrong).status_code in {400, 401, 403}, "another's passkey"
    assert site.ceremony("drita", f"/api/grants/{key}/veto").status_code == 200
    signed = site.get(f"/api/witness/grants/{key}").json
    assert (signed["unsigned"], signed["vetoes"][0]["signed"]) == (False, True)


def test_the_api_tells_nothing_to_whom_nothing_is_told(site: Site) -> None:
    swap(site.world, delayed)
    filed = site.world.filed()
    assert filed.grant is not None
    for key in ("drita", "blerim", "jelena"):
        assert site.as_(key).get(f"/api/witness/grants/{filed.grant.id}").status_code == 200, key
    own = site.world.filed(key="blerim")
    assert own.grant is not None
    for path in (f"grants/{own.grant.id}", f"requests/{own.request.id}", "grants/x", "requests/x"):
        assert site.as_("arta").get(f"/api/witness/{path}").status_code == 404, path
    for key in ("arta", "blerim"):
        assert site.as_(key).get("/api/vetoes").json == [], key
    assert site.post(f"/api/grants/{filed.grant.id}/veto").status_code == 404
    assert site.out().get("/api/vetoes").status_code == 401


def test_a_witness_looks_and_cannot_stop_it(site: Site) -> None:
    swap(site.world, delayed)
    filed = site.world.filed()
    assert filed.grant is not None
    seen = site.as_("blerim").get(f"/witness/requests/{filed.request.id}").get_data(as_text=True)
    assert "quarterly payments" in seen
    assert "/veto" not in seen
    assert site.form(f"/grants/{filed.grant.id}/veto").status_code == 404


def test_a_soft_end_is_shown_as_what_it_is(site: Site) -> None:
    def soft(rules: Rules) -> None:
        rules["look-at-payments"]["duration"] |= {"end": "soft", "grace": "5m"}

    swap(site.world, soft)
    site.world.filed(duration_s=900)
    assert "What is open then runs on until" in site.as_("arta").get("/").get_data(as_text=True)
    site.world.advance(timedelta(minutes=16))
    assert "Nothing new is opened" in site.as_("arta").get("/").get_data(as_text=True)


def test_a_deputy_is_named_with_one_signature_and_ended_with_one_tap(site: Site) -> None:
    swap(site.world, lambda rules: rules["release-payments"]["approve"].update(deputies="7d"))
    site.as_("blerim")
    assert "Agim Berisha" in site.get("/deputies").get_data(as_text=True)
    body = {"deputy": site.world.person("agim"), "start": "", "lasts_s": "86400"}
    made = site.ceremony("blerim", "/api/deputies", body)
    assert made.status_code == 200, made.json
    assert "Agim Berisha stands in for you" in site.get("/deputies").get_data(as_text=True)
    filed = site.world.filed(entitlement="releaser")
    page = site.as_("agim").get(f"/approvals/{filed.request.id}").get_data(as_text=True)
    assert "You sign in the place of" in page
    assert "Blerim Gashi" in page
    assert site.ceremony("agim", f"/api/requests/{filed.request.id}/approval").status_code == 200
    assert "You stand in for Blerim Gashi" in site.get("/deputies").get_data(as_text=True)
    assert site.form(f"/deputies/{made.json['id']}/end").status_code == 303
    assert site.get("/api/deputies").json == []
    assert site.post(f"/api/deputies/{made.json['id']}/end").status_code == 409


def test_the_check_says_what_waits_who_may_stop_it_and_who_is_told(site: Site) -> None:
    def everything(rules: Rules) -> None:
        delayed(rules)
        rules["look-at-payments"]["duration"] |= {"end": "soft", "grace": "5m"}

    swap(site.world, everything)
    html = site.as_("arta").form("/request/check", **FIELDS).get_data(as_text=True)
    for words in (
        "It waits 10 min",
        "the owner of the system",
        "runs on for 5 min",
        "2 times, up to 8 h",
        "Heads of the treasury",
    ):
        assert words in html, words
