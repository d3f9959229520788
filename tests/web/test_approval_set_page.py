"""Does the page of a set show every single statement that is signed, and nothing else? (R24)"""

from typing import Any

import pytest
from bs4 import BeautifulSoup, Tag
from sqlalchemy import select

from jitaccess.proof.canonical import sha256_b64u
from jitaccess.proof.statements import ApprovalSetStatement
from jitaccess.store.tables import Challenge
from tests.support.policy_swap import Rules, swap
from tests.web.conftest import Site
from tests.web.test_approval_page import parse_time, rebuilt, shown


def filed(site: Site) -> list[str]:
    return [
        site.world.filed(entitlement="releaser", inputs={"order": order, "amount_cents": 5}).request.id
        for order in ("TR-000001", "TR-000002")
    ]


def cards(html: str) -> list[Tag]:
    return BeautifulSoup(html, "html.parser").select("article[data-request]")


@pytest.mark.covers("R24", "R19")
def test_the_set_rebuilt_from_the_visible_page_is_the_one_that_is_signed(site: Site) -> None:
    ids = filed(site)
    site.as_("blerim")
    html = site.form("/approvals/set/prepare", request=ids).get_data(as_text=True)
    with site.world.broker.read() as view:
        challenge = view.first(select(Challenge).order_by(Challenge.created_at.desc(), Challenge.id.desc()))
    assert challenge is not None
    singles = [rebuilt(str(card)).to_bytes() for card in cards(html)]
    for card, single in zip(cards(html), singles, strict=True):
        digest = card.select_one("[data-digest]")
        assert digest is not None
        assert digest.get_text() == sha256_b64u(single)
    about = BeautifulSoup(html, "html.parser").select_one("dl[data-set]")
    assert about is not None
    fields: dict[str, Any] = shown(str(about))
    del fields["v"]
    fields["approve_by"] = parse_time(fields["approve_by"])
    found = ApprovalSetStatement(approvals=tuple(sha256_b64u(single) for single in singles), **fields)
    assert found.to_bytes() == challenge.statement
    assert site.get(f"/approvals/set/statement/{challenge.id}").data == challenge.statement
    for number, single in enumerate(singles):
        assert site.get(f"/approvals/set/statement/{challenge.id}/{number}").data == single
    assert site.get(f"/approvals/set/statement/{challenge.id}/2").status_code == 404
    assert site.as_("drita").get(f"/approvals/set/statement/{challenge.id}").status_code == 404


@pytest.mark.covers("R24", "TRAP-11")
def test_choosing_shows_the_same_facts_and_changes_nothing(site: Site) -> None:
    ids = filed(site)
    site.as_("blerim")
    before = {str(card["data-request"]): shown(str(card)) for card in cards(site.get("/approvals/set").text)}
    with site.world.broker.read() as view:
        assert view.rows(select(Challenge.id).where(Challenge.purpose == "approval-set")).all() == []
    after = {
        str(card["data-request"]): shown(str(card))
        for card in cards(site.form("/approvals/set/prepare", request=ids).text)
    }
    for fields in after.values():
        assert fields.pop("nonce")
    assert before == after
    assert "/approvals/set" in site.get("/approvals").text


def test_nothing_is_signed_when_fewer_than_two_are_chosen_and_the_choice_is_kept(site: Site) -> None:
    ids = filed(site)
    found = site.as_("blerim").form("/approvals/set/prepare", request=ids[:1])
    page = BeautifulSoup(found.text, "html.parser")
    assert found.status_code == 400
    assert page.select_one(".problem[role=alert]").get_text() == "Choose at least two."
    assert [str(box["value"]) for box in page.select('input[name="request"][checked]')] == ids[:1]
    with site.world.broker.read() as view:
        assert view.rows(select(Challenge.id).where(Challenge.purpose == "approval-set")).all() == []


def test_the_button_comes_after_all_that_is_signed_and_only_where_there_are_two(site: Site) -> None:
    """It sticks to the bottom of the window: whoever read the last one need not scroll back, and need not scroll down before."""
    ids = filed(site)
    site.as_("blerim")
    for html in (site.get("/approvals/set").text, site.form("/approvals/set/prepare", request=ids).text):
        bar = BeautifulSoup(html, "html.parser").select_one("form.within-reach")
        assert bar is not None
        assert len(bar.find_all_previous("article")) == 2
    inbox = BeautifulSoup(site.get("/approvals").text, "html.parser").select_one(".within-reach")
    assert inbox is not None
    assert len(inbox.find_all_previous("a", class_="choice")) == 2
    assert "2 can be signed together" in inbox.get_text()
    withdraw(site, ids[0])
    assert "/approvals/set" not in site.get("/approvals").text
    alone = BeautifulSoup(site.get("/approvals/set").text, "html.parser")
    assert "sign it by itself" in alone.get_text()
    assert alone.select("form.within-reach, input[type=checkbox]") == []
    assert alone.select_one(f'a[href="/approvals/{ids[1]}"]') is not None
    site.world.approved("blerim", ids[1])
    assert BeautifulSoup(site.get("/approvals/set").text, "html.parser").select('main a[href="/approvals"]')


def test_what_has_to_be_read_by_itself_does_not_count_as_signable_together(site: Site) -> None:
    def dear(rules: Rules) -> None:
        rules["release-payments"]["approve"]["read_back"] = [{"figure": "amount_cents", "above": 100}]

    swap(site.world, dear)
    filed(site)
    site.world.filed(entitlement="releaser", inputs={"order": "TR-000003", "amount_cents": 500})
    assert "2 can be signed together" in site.as_("blerim").get("/approvals").text


def test_a_set_over_the_api_ends_in_grants(site: Site) -> None:
    ids = filed(site)
    site.as_("blerim")
    begun = site.post("/api/approvals/set/begin", {"request_ids": ids}).json
    assert len(begun["approvals_b64u"]) == 2
    assert site.ceremony("blerim", "/api/approvals/set", {"request_ids": ids}).status_code == 200
    done = site.as_("drita").ceremony("drita", "/api/approvals/set", {"request_ids": ids}).json
    assert [one["state"] for one in done] == ["APPROVED", "APPROVED"]
    assert all(one["grant_id"] for one in done)


def withdraw(site: Site, request_id: str) -> None:
    assert site.as_("arta").form(f"/requests/{request_id}/withdraw").status_code == 303
    site.as_("blerim")


def test_a_request_that_was_withdrawn_is_named_and_left_out_and_the_others_are_kept(site: Site) -> None:
    inputs = {"order": "TR-000003", "amount_cents": 5}
    ids = [*filed(site), site.world.filed(entitlement="releaser", inputs=inputs).request.id]
    withdraw(site, ids[0])
    found = site.form("/approvals/set/prepare", request=ids)
    page = BeautifulSoup(found.text, "html.parser")
    assert found.status_code == 200
    assert [str(card["data-request"]) for card in cards(found.text)] == ids[1:]
    (told,) = page.select(".problem[role=alert]:not([hidden])")
    assert "Left out: Arta Krasniqi" in told.get_text()
    form = page.select_one("form[data-ceremony]")
    assert form is not None
    assert not form.has_attr("data-autostart"), "what changed is read before anything is signed"
    assert [str(field["value"]) for field in form.select('input[name="request"]')] == ids[1:]


def test_with_one_request_left_one_chooses_anew_and_the_choice_is_kept(site: Site) -> None:
    ids = filed(site)
    site.world.filed(entitlement="releaser", inputs={"order": "TR-000003", "amount_cents": 5})
    withdraw(site, ids[0])
    found = site.form("/approvals/set/prepare", request=ids)
    page = BeautifulSoup(found.text, "html.parser")
    assert found.status_code == 409
    assert "Left out: Arta Krasniqi" in page.get_text()
    assert [str(box["value"]) for box in page.select('input[name="request"][checked]')] == ids[1:]
    assert site.post("/api/approvals/set/begin", {"request_ids": ids}).json["field"] == "request_ids.0"
