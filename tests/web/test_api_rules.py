"""What holds for every address of the JSON API: pages of lists, acts done once, limits that say for how long."""

import base64
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from werkzeug.test import TestResponse

from jitaccess.app import create_app
from jitaccess.broker import policies
from jitaccess.broker.status import reserve, served
from jitaccess.broker.sweep import Ticker
from jitaccess.domain.events import EventType
from jitaccess.domain.values import SYSTEM
from jitaccess.policy.load import load
from jitaccess.proof.canonical import b64u_decode, b64u_encode
from jitaccess.proof.leaf import Leaf
from jitaccess.proof.merkle import leaf_hash, verify_inclusion
from jitaccess.settings import Limits
from jitaccess.store.tables import Event, KeptAnswer
from jitaccess.web.limits import MOST_KEYS, Meter
from tests.support.world import ORIGIN, ROOT, Prepared, open_world
from tests.web.conftest import Site

KEY = "3f6b9c1e-0000-4000-8000-000000000001"


def next_page(answer: TestResponse) -> str | None:
    """Return where the next page is, as the Link header says."""
    link = answer.headers.get("Link")
    if link is None:
        return None
    assert link.startswith("</api/")
    assert link.endswith('>; rel="next"')
    return link.removeprefix("<").partition(">")[0]


def walk(site: Site, path: str) -> list[Any]:
    """Return all members of a list, page by page."""
    found: list[Any] = []
    here: str | None = path
    while here is not None:
        answer = site.get(here)
        assert answer.status_code == 200, answer.text
        found += answer.json
        here = next_page(answer)
    return found


# ---------------------------------------------------------------- lists


def test_every_list_gives_the_same_members_page_by_page_as_at_once(site: Site) -> None:
    for number in range(3):
        site.world.filed(reason=f"look number {number}")
        site.world.filed(entitlement="releaser", inputs={"order": "TR-000417", "amount_cents": 100 + number})
    placed = site.as_("agim").post("/api/holds", {"kind": "target", "subject_id": "registry", "cause": "moving"})
    assert placed.status_code == 200
    placed = site.post("/api/holds", {"kind": "target", "subject_id": "payroll", "cause": "moving"})
    assert placed.status_code == 200
    lists = {
        "arta": ("/api/catalogue", "/api/requests", "/api/grants"),
        "blerim": ("/api/approvals",),
        "agim": ("/api/holds", "/api/people", "/api/live-grants"),
        "jelena": ("/api/audit/requests", "/api/audit/grants"),
    }
    for key, paths in lists.items():
        site.as_(key)
        for path in paths:
            whole = site.get(f"{path}?limit=200")
            assert next_page(whole) is None
            assert len(whole.json) > 1, path
            assert walk(site, f"{path}?limit=1") == whole.json, path


def test_events_come_newest_first_and_filters_go_on_over_pages(site: Site) -> None:
    filed = site.world.filed(entitlement="releaser")
    site.world.approved("blerim", filed.request.id)
    site.as_("jelena")
    found = walk(site, f"/api/audit/events?limit=1&request={filed.request.id}")
    indexes = [event["index"] for event in found]
    assert indexes == sorted(indexes, reverse=True)
    assert [event["type"] for event in found][-1] == EventType.REQUEST_FILED.value
    assert {event["subject"]["request"] for event in found} == {filed.request.id}


def test_what_is_added_meanwhile_makes_no_page_repeat_or_leave_out(site: Site) -> None:
    known = [site.world.filed(reason=f"look number {number}").request.id for number in range(4)]
    site.as_("arta")
    first = site.get("/api/requests?limit=2")
    site.world.filed(reason="one more in between")
    second = site.get(next_page(first) or "")
    assert [row["id"] for row in [*first.json, *second.json]] == known[::-1]


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "====",
        b64u_encode(b"{}"),
        b64u_encode(b"[1]"),
        b64u_encode(b'["a", "b"]'),
        b64u_encode(b'["\\u0000"]'),
        b64u_encode(b"[" * 150),
        b64u_encode(b"[true]"),
    ],
)
def test_a_cursor_that_is_not_ours_is_refused(site: Site, cursor: str) -> None:
    answer = site.as_("arta").get(f"/api/requests?cursor={cursor}")
    assert (answer.status_code, answer.mimetype) == (400, "application/problem+json")
    events = site.as_("jelena").get(f"/api/audit/events?cursor={b64u_encode(str([10**30]).encode())}")
    assert events.status_code == 400


def test_a_made_up_cursor_shows_nothing_of_others(site: Site) -> None:
    site.world.filed(entitlement="releaser")
    newest = b64u_encode(b'["zzzzzzzzzzzzzzzzzzzzzzzzzz"]')
    assert site.as_("blerim").get(f"/api/requests?cursor={newest}").json == []


# ---------------------------------------------------------------- auditors and administrators


@pytest.mark.covers("R71")
def test_only_auditors_read_the_log_and_only_administrators_the_board(site: Site) -> None:
    filed = site.world.filed(entitlement="releaser")
    for path in (
        "events",
        "requests",
        "grants",
        "checkpoint",
        "consistency?old=0&new=1",
        f"requests/{filed.request.id}/evidence",
        f"events/{filed.request.id}/proof",
    ):
        assert site.as_("arta").get(f"/api/audit/{path}").status_code == 403, path
        assert site.out().get(f"/api/audit/{path}").status_code == 401, path
    for path in ("/api/changes", "/api/live-grants", "/api/people", "/api/holds"):
        assert site.as_("arta").get(path).status_code == 403, path
    site.as_("jelena").get("/api/audit/events")
    with site.world.broker.read() as view:
        rows = view.all(select(Event).where(Event.type == EventType.ADMIN_READ.value))
    assert [row.person_id for row in rows] == [site.world.person("jelena")]


@pytest.mark.covers("R70")
def test_an_auditor_walks_from_a_request_to_a_proof_that_verifies(site: Site) -> None:
    approved = site.world.released()
    site.world.broker.checkpoints.make()
    site.as_("jelena")
    request_id = site.get("/api/audit/requests?state=APPROVED").json[0]["id"]
    assert request_id == approved.request.id
    evidence = site.get(f"/api/audit/requests/{request_id}/evidence").json
    assert len(evidence["approvals"]) == 2
    event = site.get(f"/api/audit/events?type=approval.signed&request={request_id}").json[0]
    proof = site.get(f"/api/audit/events/{event['id']}/proof").json
    assert Leaf.parse(proof["leaf"].encode()).id == event["id"]
    size, root = proof["checkpoint"].splitlines()[1:3]
    path = [b64u_decode(step) for step in proof["path"]]
    assert verify_inclusion(leaf_hash(proof["leaf"].encode()), proof["index"], int(size), path, base64.b64decode(root))
    grown = site.get("/api/audit/checkpoint").json["size"]
    assert site.get(f"/api/audit/consistency?old=1&new={grown}").json["path"]
    assert site.get(f"/api/audit/consistency?old=2&new={grown + 100}").status_code == 400


def test_an_approver_reads_who_what_and_on_what_terms_before_signing(site: Site) -> None:
    filed = site.world.filed(entitlement="releaser")
    shown = site.as_("blerim").get(f"/api/requests/{filed.request.id}/approval").json
    assert (shown["requester"], shown["institution"]) == ("Arta Krasniqi", "mof")
    assert len(shown["open_steps"]) == 1
    assert shown["terms"]["approve"]["steps"]
    assert site.as_("jelena").get(f"/api/requests/{filed.request.id}/approval").json["open_steps"] == []


def test_a_waiting_change_is_listed_and_turned_down_by_one(site: Site) -> None:
    texts = {file.name: file.read_text() for file in sorted((ROOT / "policies").glob("*.yaml"))}
    texts["bastion.yaml"] = texts["bastion.yaml"].replace("max: 2h", "max: 3h")  # wider: two persons have to sign
    with site.world.broker.begin(SYSTEM) as tx:
        wider = policies.propose(tx, load(texts), by="test")
    site.as_("agim")
    body = {"kind": "policy.activate", "subject": wider.id, "payload": {"digest": wider.digest}}
    assert site.ceremony("agim", "/api/changes", body).json["applied"] is False
    waiting = site.get("/api/changes").json
    assert [(row["kind"], row["signed_by"]) for row in waiting] == [("policy.activate", [site.world.person("agim")])]
    assert site.post(f"/api/changes/{waiting[0]['id']}/reject").status_code == 200
    assert site.get("/api/changes").json == []


# ---------------------------------------------------------------- once


def kept(site: Site) -> int:
    with site.world.broker.read() as view:
        return len(view.all(select(KeptAnswer)))


@pytest.mark.covers("R26")
def test_the_same_act_with_the_same_key_is_done_once_and_answered_alike(site: Site) -> None:
    filed = site.world.filed(entitlement="releaser")
    site.as_("arta")
    path = f"/api/requests/{filed.request.id}/withdraw"
    first = site.post(path, {}, **{"Idempotency-Key": KEY})
    again = site.post(path, {}, **{"Idempotency-Key": KEY})
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.json == first.json
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert site.post(path, {}).status_code == 409


@pytest.mark.covers("R26")
def test_a_filing_whose_answer_was_lost_is_answered_again_and_not_filed_twice(site: Site) -> None:
    site.as_("arta")
    begun = site.post(
        "/api/requests/begin", {"target": "treasury", "entitlement": "viewer", "reason": "the month's end"}
    )
    answer = site.world.passkey("arta").get(begun.json["options"])
    body = {"challenge_id": begun.json["challenge_id"], "response": answer}
    first = site.post("/api/requests/complete", body, **{"Idempotency-Key": KEY})
    again = site.post("/api/requests/complete", body, **{"Idempotency-Key": KEY})
    assert first.status_code == 200
    assert again.json == first.json
    assert len(site.get("/api/requests").json) == 1


def test_a_key_stands_for_one_person_one_address_and_one_body(site: Site) -> None:
    body = {"target": "treasury", "entitlement": "viewer", "reason": "the month's end"}
    site.as_("arta")
    assert site.post("/api/requests/preview", body, **{"Idempotency-Key": KEY}).status_code == 200
    for path, other in (
        ("/api/requests/preview", {**body, "reason": "something else"}),
        ("/api/requests/begin", body),
        ("/api/requests/preview?x=1", body),
    ):
        answer = site.post(path, other, **{"Idempotency-Key": KEY})
        assert (answer.status_code, answer.json["type"]) == (422, "urn:jitaccess:problem:key-reused"), path
    other_person = site.as_("blerim").post("/api/requests/preview", body, **{"Idempotency-Key": KEY})
    assert "Idempotency-Replayed" not in other_person.headers


def test_a_refusal_is_kept_too_but_wait_is_not(site: Site) -> None:
    site.as_("arta")
    first = site.post("/api/requests/begin", {"target": "x", "entitlement": "y"}, **{"Idempotency-Key": KEY})
    again = site.post("/api/requests/begin", {"target": "x", "entitlement": "y"}, **{"Idempotency-Key": KEY})
    assert first.status_code == again.status_code >= 400
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.mimetype == "application/problem+json"
    assert again.json == first.json


def test_an_act_that_never_finished_is_not_done_again_under_its_key(site: Site) -> None:
    filed = site.world.filed(entitlement="releaser")
    site.as_("arta")
    path = f"/api/requests/{filed.request.id}/withdraw"
    assert site.post(path, {}, **{"Idempotency-Key": KEY}).status_code == 200
    site.world.sql("UPDATE kept_answer SET status = NULL, body = NULL")
    answer = site.post(path, {}, **{"Idempotency-Key": KEY})
    assert (answer.status_code, answer.json["code"]) == (409, "not_finished")


def test_a_key_is_forgotten_after_a_day(site: Site) -> None:
    site.as_("arta")
    body = {"target": "treasury", "entitlement": "viewer", "reason": "the month's end"}
    site.post("/api/requests/preview", body, **{"Idempotency-Key": KEY})
    assert kept(site) == 1
    site.world.advance(timedelta(hours=25))
    Ticker(site.world.broker).housekeeping()
    assert kept(site) == 0


def test_no_secret_is_ever_kept(site: Site) -> None:
    change = {"kind": "account.add", "subject": site.world.person("blerim"), "payload": {"label": "once more"}}
    site.as_("agim").ceremony("agim", "/api/changes", change)
    site.as_("besa")
    headers = {"Idempotency-Key": KEY}
    begun = site.post("/api/changes/begin", change, **headers)
    answer = site.world.passkey("besa").get(begun.json["options"])
    body = {"challenge_id": begun.json["challenge_id"], "response": answer}
    done = site.post("/api/changes/complete", body, **{"Idempotency-Key": KEY + "-2"})
    assert done.status_code == 200
    assert done.json["shown"]
    with site.world.broker.read() as view:
        rows = view.all(select(KeptAnswer))
    assert len(rows) == 1
    assert done.json["shown"].rpartition("/")[2].encode() not in (rows[0].body or b"")


@pytest.mark.parametrize("key", ["short", "with space in it", "ü" * 10, "x" * 129])
def test_a_key_of_another_shape_is_refused(site: Site, key: str) -> None:
    answer = site.as_("arta").client.post(
        "/api/requests/preview", base_url=ORIGIN, json={}, headers={"Origin": ORIGIN, "Idempotency-Key": key}
    )
    assert answer.status_code == 400


# ---------------------------------------------------------------- limits


@pytest.fixture
def narrow(prepared_sqlite: Prepared, tmp_path: Path) -> Iterator[Site]:
    """Give a site with small limits."""
    for file in prepared_sqlite.folder.glob("broker.db*"):
        shutil.copy(file, tmp_path / file.name)
    limits = Limits(calls_per_person_minute=10, calls_per_address_minute=12, target_calls_per_address_minute=60)
    world = open_world(f"sqlite:///{tmp_path / 'broker.db'}", prepared_sqlite, tmp_path, limits=limits)
    app = create_app(world.broker)
    yield Site(world, app, app.test_client(use_cookies=True))
    world.close()


@pytest.mark.covers("R26", "R66")
def test_a_person_who_calls_too_often_is_told_how_long_to_wait(narrow: Site) -> None:
    narrow.as_("arta")
    assert [narrow.get("/api/me").status_code for _ in range(11)] == [200] * 10 + [429]
    refused = narrow.get("/api/me")
    assert refused.json["type"] == "urn:jitaccess:problem:rate-limited"
    assert refused.headers["Retry-After"] == str(refused.json["retry_after_s"]) == "6"
    assert narrow.get("/").status_code == 429
    assert narrow.as_("blerim").get("/api/me").status_code == 200
    narrow.as_("arta")
    narrow.world.advance(timedelta(seconds=6))
    assert narrow.get("/api/me").status_code == 200
    assert narrow.get("/api/me").status_code == 429


@pytest.mark.covers("R26", "R66")
def test_strangers_share_the_measure_of_their_address_and_targets_have_their_own(narrow: Site) -> None:
    assert [narrow.get("/sign-in").status_code for _ in range(13)] == [200] * 12 + [429]
    assert narrow.get("/livez").status_code == 200
    assert narrow.as_("arta").get("/api/me").status_code == 200
    codes = [narrow.client.post("/oidc/introspect", base_url=ORIGIN).status_code for _ in range(61)]
    assert 429 not in codes[:20]
    assert codes[-1] == 429


@pytest.mark.covers("R26", "R34", "R66")
def test_what_targets_fetch_to_know_of_an_end_is_never_refused_because_of_strangers(narrow: Site) -> None:
    reserve(narrow.world.broker)
    with narrow.world.broker.read() as view:
        known = served(view)
    documents = [
        f"/oidc/status/{known[0]}", "/oidc/status", "/.well-known/jwks.json", "/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server",
    ]  # fmt: skip
    assert [narrow.get("/sign-in").status_code for _ in range(13)][-1] == 429
    for path in documents:
        assert [narrow.get(path).status_code for _ in range(12)] == [200] * 12, path
    assert narrow.get(documents[0]).status_code == 429, "and they have a measure all the same"


def test_wait_is_never_kept_under_a_key(narrow: Site) -> None:
    narrow.as_("arta")
    body = {"target": "treasury", "entitlement": "viewer", "reason": "the month's end"}
    for _ in range(10):
        narrow.get("/api/me")
    assert narrow.post("/api/requests/preview", body, **{"Idempotency-Key": KEY}).status_code == 429
    narrow.world.advance(timedelta(minutes=1))
    assert narrow.post("/api/requests/preview", body, **{"Idempotency-Key": KEY}).status_code == 200


def test_signing_in_too_often_says_when_the_next_minute_begins(site: Site) -> None:
    site.out()
    for _ in range(60):
        assert site.post("/api/sign-in/begin").status_code == 200
    answer = site.post("/api/sign-in/begin")
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["Retry-After"]) <= 60


def test_a_meter_forgets_who_asked_longest_ago() -> None:
    meter = Meter(1)
    assert meter.wait_s("first", 0.0) == 0
    assert meter.wait_s("first", 1.0) == 59
    for number in range(MOST_KEYS):
        meter.wait_s(str(number), 1.0)
    assert meter.wait_s("first", 1.0) == 0


def strangers_answer(site: Site) -> int:
    """Sign in wrongly, from a browser that nobody saw before."""
    browser = site.app.test_client()
    begun = browser.post("/api/sign-in/begin", base_url=ORIGIN, json={}, headers={"Origin": ORIGIN})
    body = {"challenge_id": begun.json["challenge_id"], "response": {"id": "AAAA", "response": {}}}
    return browser.post("/api/sign-in/complete", base_url=ORIGIN, json=body, headers={"Origin": ORIGIN}).status_code


@pytest.mark.covers("R26", "R66")
def test_an_office_behind_one_address_signs_in_without_waiting_for_each_other(site: Site) -> None:
    site.out()
    for _ in range(80):
        browser = site.app.test_client()
        begun = browser.post("/api/sign-in/begin", base_url=ORIGIN, json={}, headers={"Origin": ORIGIN})
        assert begun.status_code == 200
        answer = site.world.passkey("arta").get(begun.json["options"])
        body = {"challenge_id": begun.json["challenge_id"], "response": answer}
        done = browser.post("/api/sign-in/complete", base_url=ORIGIN, json=body, headers={"Origin": ORIGIN})
        assert done.status_code == 200


@pytest.mark.covers("R26", "R66")
def test_refused_sign_ins_and_links_of_an_address_are_bounded(site: Site) -> None:
    assert [strangers_answer(site) for _ in range(61)] == [401] * 60 + [429]
    link = site.out().post("/api/enrol/begin", {"token": "nothing"})
    assert link.status_code == 429
    assert 1 <= int(link.headers["Retry-After"]) <= 60
    site.world.advance(timedelta(minutes=1))
    assert strangers_answer(site) == 401
    assert site.post("/api/enrol/begin", {"token": "nothing"}).status_code == 410
