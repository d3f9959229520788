"""The parts of pages that belong to the course of access: when it begins and how it goes on."""

import re
from datetime import timedelta

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
    checked = site.form("/request/check", **FIELDS, start=start.strftime("%Y-%m-%dT%H:%M"))
    html = checked.get_data(as_text=True)
    assert checked.status_code == 200
    assert start.strftime("%d %b %Y, %H:%M:00 UTC") in html
    assert re.search(rf"start_at\W+{int(start.timestamp())}\b", html)
    body = {"target": "treasury", "entitlement": "viewer", "duration_s": 900, "reason": "month end"}
    filed = site.ceremony("arta", "/api/requests", body | {"start_at": int(start.timestamp())})
    assert filed.status_code == 200, filed.json
    grant = next(found for found in site.get("/api/grants").json if found["id"] == filed.json["grant_id"])
    assert (grant["state"], grant["not_before"]) == ("SCHEDULED", int(start.timestamp()))
    assert "scheduled" in site.get("/").get_data(as_text=True)


def test_a_start_that_cannot_be_read_is_told_in_a_sentence(site: Site) -> None:
    swap(site.world, ahead)
    site.as_("arta")
    wrong = site.form("/request/check", **FIELDS, start="tomorrow")
    assert wrong.status_code == 422
    assert "Give the start as a date and a time" in wrong.get_data(as_text=True)
