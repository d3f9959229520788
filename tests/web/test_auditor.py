"""Is the auditor's desk complete, read-only, and noted in the log?"""

import csv
import io
import json
import re
from datetime import timedelta

import pytest

from jitaccess.broker import inspection
from jitaccess.store.tables import AccessRequest
from tests.web.conftest import Site

PAGES = ["/audit", "/audit/sample", "/audit/pictures", "/audit/export.csv", "/audit/export.json"]


@pytest.mark.covers("R71")
@pytest.mark.parametrize("path", PAGES)
def test_only_auditors_read_and_the_log_notes_each_reading(site: Site, path: str) -> None:
    site.world.released(reason="=cmd|' /C calc'!A0")
    for key in ("arta", "blerim"):
        assert site.as_(key).get(path).status_code == 403
    before = _readings(site)
    assert site.as_("jelena").get(path).status_code == 200
    assert _readings(site) == before + 2  # the page, and the log that is read here
    assert site.form(path).status_code == 405


def _readings(site: Site) -> int:
    return site.as_("jelena").get("/log?type=admin.read").get_data(as_text=True).count("<td>admin.read</td>")


def test_a_story_leads_from_the_request_to_its_signed_statements(site: Site) -> None:
    approved = site.world.released()
    page = site.as_("jelena").get(f"/audit/requests/{approved.request.id}")
    html = page.get_data(as_text=True)
    assert "Asked, and signed with a passkey" in html
    assert html.count("Signed with a passkey") == 2
    assert "Blerim Gashi" in html
    assert "Drita Hoxha" in html
    assert re.findall(r"<strong>[a-z_]+\.[a-z_]+</strong>", html) == []  # every event of it has words
    evidence = json.loads(site.get(f"/audit/requests/{approved.request.id}/evidence").get_data())
    assert len(evidence["approvals"]) == 2
    assert site.get("/audit/requests/none").status_code == 404
    assert site.get("/audit/requests/none/evidence").status_code == 404


def test_the_sample_shows_its_seed_and_a_link_to_itself(site: Site) -> None:
    site.world.released()
    html = site.as_("jelena").get("/audit/sample?n=1").get_data(as_text=True)
    seed = re.search(r'id="seed">([^<]+)<', html)
    assert seed is not None
    again = site.get(f"/audit/sample?n=1&seed={seed.group(1)}").get_data(as_text=True)
    assert f"seed={seed.group(1)}" in html
    assert re.findall(r"/audit/requests/\w+", again) == re.findall(r"/audit/requests/\w+", html)


@pytest.mark.covers("R18")
def test_the_exports_hold_every_request_and_no_formula(site: Site) -> None:
    approved = site.world.released(reason="=cmd|' /C calc'!A0")
    site.as_("jelena")
    rows = list(csv.DictReader(io.StringIO(site.get("/audit/export.csv").data.decode("utf-8-sig"), newline="")))
    assert [row["request"] for row in rows] == [approved.request.id]
    assert rows[0]["reason"] == "'=cmd|' /C calc'!A0"
    assert rows[0]["signatures"].count("approve") == 2
    found = json.loads(site.get("/audit/export.json?target=treasury").get_data())
    assert found["format"] == "jitaccess-requests/1"
    assert found["complete"] is True
    assert found["filter"]["target"] == "treasury"
    assert found["requests"][0]["reason"] == "=cmd|' /C calc'!A0"
    assert found["requests"][0]["person"] == "Arta Krasniqi"
    assert json.loads(site.get("/audit/export.json?target=payroll").get_data())["requests"] == []


def test_filters_are_part_of_the_address_and_a_wrong_day_is_told(site: Site) -> None:
    approved = site.world.released()
    site.as_("jelena")
    assert approved.request.id in site.get("/audit?person=arta&from=2026-11-23&to=2026-11-23").get_data(as_text=True)
    assert approved.request.id not in site.get("/audit?from=2026-11-24").get_data(as_text=True)
    assert "Write a day as" in site.get("/audit?from=yesterday").get_data(as_text=True)


def test_an_export_is_whole_however_many_requests_there_are(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "CHUNK", 2)
    ids = {site.world.filed(entitlement="releaser", inputs={"order": f"TR-00000{n}", "amount_cents": 5}).request.id
           for n in range(5)}  # fmt: skip
    site.as_("jelena")
    rows = list(csv.DictReader(io.StringIO(site.get("/audit/export.csv").data.decode("utf-8-sig"), newline="")))
    assert {row["request"] for row in rows} == ids
    assert len(rows) == 5
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", rows[0]["filed (ISO 8601)"])
    assert {found["request"] for found in site.get("/audit/export.json").json["requests"]} == ids


MANY = 10_500
"""More than any limit of a page, a chunk or a sample."""


def multiplied(site: Site, request_id: str) -> set[str]:
    """Copy a request many times behind the broker's back, as fast as the database can; return all ids that there are then."""
    columns = [column.name for column in AccessRequest.__table__.columns if column.name != "id"]
    site.world.sql(
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {MANY}) "  # names of our own columns
        f"INSERT INTO access_request (id, {', '.join(columns)}) "
        f"SELECT printf('%026d', i), {', '.join(columns)} FROM access_request, n WHERE id = :id",
        id=request_id,
    )
    return {request_id, *(f"{number:026}" for number in range(1, MANY + 1))}


def test_exports_of_more_than_ten_thousand_requests_are_whole_and_never_held_as_one_text(site: Site) -> None:
    ids = multiplied(site, site.world.filed(entitlement="releaser").request.id)
    site.as_("jelena")
    with_rows = site.get("/audit/export.csv")
    assert with_rows.is_streamed
    parts = [part for part in with_rows.response if part]
    assert max(map(len, parts)) < 20_000, "rows leave as they are read"
    rows = list(csv.DictReader(io.StringIO(b"".join(parts).decode("utf-8-sig"), newline="")))
    assert len(rows) == len(ids) > 10_000
    assert {row["request"] for row in rows} == ids
    as_document = site.get("/audit/export.json")
    assert as_document.is_streamed
    parts = [part for part in as_document.response if part]
    assert max(map(len, parts)) < 20_000
    found = json.loads(b"".join(parts))
    assert found["complete"] is True
    assert [one["request"] for one in found["requests"]] == sorted(ids, reverse=True), "each once, the newest first"


def test_a_day_of_the_filter_is_a_day_where_the_reader_is(site: Site) -> None:
    filed = site.world.filed(entitlement="releaser").request
    site.as_("jelena")
    at = filed.created_at
    for zone, day in (
        ("Pacific/Kiritimati", at + timedelta(hours=14)),
        ("Pacific/Pago_Pago", at - timedelta(hours=11)),
    ):
        assert site.form("/settings", zone=zone, language="en").status_code in (200, 303)
        there, next_day = f"{day:%Y-%m-%d}", f"{day + timedelta(days=1):%Y-%m-%d}"
        assert filed.id in site.get(f"/audit?from={there}&to={there}").text
        assert filed.id not in site.get(f"/audit?from={next_day}").text


def test_pictures_come_with_their_tables(site: Site) -> None:
    site.world.released()
    site.world.filed()
    html = site.as_("jelena").get("/audit/pictures?days=7").get_data(as_text=True)
    assert html.count("<svg") == html.count("The same as a table") == 6
    assert "style=" not in html
    assert "Blerim Gashi" in html
