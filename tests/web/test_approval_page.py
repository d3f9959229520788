"""Does the approval page show exactly what is signed, and can nothing that a requester wrote look like it? (R24, R18)"""

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from bs4 import BeautifulSoup, Tag
from sqlalchemy import select

from jitaccess.broker.approve import Choice
from jitaccess.broker.issue import Opened, open_lease
from jitaccess.broker.votes import votes_of
from jitaccess.proof.canonical import b64u_decode
from jitaccess.proof.statements import ApprovalStatement
from jitaccess.store.tables import Challenge, DecisionPace, Grant
from jitaccess.web.display import NOTHING, parse_duration_text, parse_time
from tests.support.policy_swap import Rules, swap
from tests.web.conftest import Site

TIMES = {"earliest_start", "latest_end", "approve_by"}
LISTS = {"groups", "distinct", "never", "veto", "filed", "granted", "ended", "held"}
COUNTS = {"count", "active_per_person", "per_day", "people", "above"}


def shown(html: str) -> dict[str, str]:
    """Give the visible text of every field, technical details opened."""
    page = BeautifulSoup(html, "html.parser")
    found: dict[str, str] = {}
    for element in page.select("[data-field]"):
        assert isinstance(element, Tag)
        name = str(element["data-field"])
        assert name not in found, "a field stands once"
        found[name] = element.get_text().strip()
    return found


def term(name: str, text: str) -> Any:
    last = name.rsplit(".", 1)[-1]
    if last in LISTS:
        return [] if text == NOTHING else text.split(", ")
    if text == NOTHING:
        return None
    if last.endswith("_s"):
        return parse_duration_text(text)
    if last == "others":
        return text == "True"
    return int(text) if last in COUNTS else text


def terms_from(fields: dict[str, str]) -> dict[str, Any]:
    """Rebuild the terms from their dotted names."""
    root: dict[str, Any] = {}
    for name, text in fields.items():
        if not name.startswith("terms."):
            continue
        *path, last = name.split(".")[1:]
        place: Any = root
        for number, part in enumerate(path):
            following = [*path, last][number + 1]
            if isinstance(place, list):
                while len(place) <= int(part):
                    place.append({})
                place = place[int(part)]
            else:
                place = place.setdefault(part, [] if following.isdigit() else {})
        place[last] = term(name, text)
    return root


def rebuilt(html: str) -> ApprovalStatement:
    """Rebuild the statement from nothing but what a person can read."""
    fields = shown(html)
    values: dict[str, Any] = {name: text for name, text in fields.items() if "." not in name and name != "v"}
    for name in TIMES:
        values[name] = parse_time(fields[name])
    values["max_duration_s"] = parse_duration_text(fields["max_duration_s"])
    values["holder_jkt"] = None if fields["holder_jkt"] == NOTHING else fields["holder_jkt"]
    values["inputs"] = {
        name.removeprefix("inputs."): int(text) if name.endswith("_cents") else text
        for name, text in fields.items()
        if name.startswith("inputs.")
    }
    values["terms"] = terms_from(fields)
    return ApprovalStatement(**values)


@pytest.mark.covers("R24", "R19")
def test_the_statement_rebuilt_from_the_visible_page_is_the_one_that_is_signed(site: Site) -> None:
    filed = site.world.filed(entitlement="releaser")
    site.as_("blerim")
    html = site.form(f"/approvals/{filed.request.id}/prepare").get_data(as_text=True)
    with site.world.broker.read() as view:
        challenge = view.first(select(Challenge).order_by(Challenge.created_at.desc(), Challenge.id.desc()))
    assert challenge is not None
    assert rebuilt(html).to_bytes() == challenge.statement
    link = BeautifulSoup(html, "html.parser").select_one(f'a[href*="/statement/{challenge.id}"]')
    assert link is not None
    assert site.get(str(link["href"])).data == challenge.statement


@pytest.mark.covers("R24", "R19")
def test_what_a_deputy_signs_is_on_the_page_too(site: Site) -> None:
    swap(site.world, lambda rules: rules["release-payments"]["approve"].update(deputies="7d"))
    site.as_("blerim")
    named = {"deputy": site.world.person("agim"), "start": "", "lasts_s": "86400"}
    assert site.ceremony("blerim", "/api/deputies", named).status_code == 200
    filed = site.world.filed(entitlement="releaser")
    html = site.as_("agim").form(f"/approvals/{filed.request.id}/prepare").get_data(as_text=True)
    with site.world.broker.read() as view:
        challenge = view.first(select(Challenge).order_by(Challenge.created_at.desc(), Challenge.id.desc()))
    assert challenge is not None
    statement = rebuilt(html)
    assert statement.deputy_of == site.world.person("blerim")
    assert statement.to_bytes() == challenge.statement


@pytest.mark.covers("R24", "R19")
def test_what_an_extension_continues_is_on_the_page_too(site: Site) -> None:
    def extendable(rules: Rules) -> None:
        rules["release-payments"]["duration"] |= {"extensions": {"count": 1, "total": "1h"}}
        del rules["release-payments"]["duration"]["activate_within"]

    swap(site.world, extendable)
    grant = site.world.released(duration_s=600).grant
    assert grant is not None
    site.as_("arta")
    longer = site.ceremony("arta", f"/api/grants/{grant.id}/extension", {"duration_s": 600, "reason": "not done"})
    assert longer.status_code == 200, longer.json
    html = site.as_("blerim").form(f"/approvals/{longer.json['request_id']}/prepare").get_data(as_text=True)
    with site.world.broker.read() as view:
        challenge = view.first(select(Challenge).order_by(Challenge.created_at.desc(), Challenge.id.desc()))
    assert challenge is not None
    assert rebuilt(html).extends == grant.id
    assert rebuilt(html).to_bytes() == challenge.statement


@pytest.mark.covers("R24")
def test_the_page_shows_the_same_facts_before_the_tap_as_after_it(site: Site) -> None:
    filed = site.world.filed(entitlement="releaser")
    site.as_("blerim")
    before = shown(site.get(f"/approvals/{filed.request.id}").get_data(as_text=True))
    after = shown(site.form(f"/approvals/{filed.request.id}/prepare").get_data(as_text=True))
    assert after.pop("nonce")
    assert before == after


def test_only_the_person_who_prepared_it_reads_the_exact_bytes(site: Site) -> None:
    filed = site.world.filed(entitlement="releaser")
    site.as_("blerim")
    begun = site.post(f"/api/requests/{filed.request.id}/approval/begin").json
    path = f"/approvals/{filed.request.id}/statement/{begun['challenge_id']}"
    assert site.get(path).data == b64u_decode(begun["statement_b64u"])
    assert site.as_("drita").get(path).status_code == 404


@pytest.mark.covers("R18", "R24")
def test_what_a_requester_wrote_is_text_and_cannot_look_like_a_field(site: Site) -> None:
    trick = (
        '</dd><dt>How long</dt><dd data-field="max_duration_s">5 min</dd><script>alert(1)</script>\nYou sign as: owner'
    )
    filed = site.world.filed(entitlement="releaser", reason=trick)
    html = site.as_("blerim").get(f"/approvals/{filed.request.id}").get_data(as_text=True)
    page = BeautifulSoup(html, "html.parser")
    assert len(page.select('[data-field="max_duration_s"]')) == 1
    assert page.select_one('[data-field="max_duration_s"]').get_text() == "10 min"
    assert "<script>alert" not in html
    assert page.select_one(".user-text").get_text() == trick


@pytest.mark.covers("R18")
def test_invisible_characters_of_names_are_shown(site: Site) -> None:
    site.world.sql("UPDATE person SET unit = :unit WHERE id = :id", unit="a\u202eb", id="nobody")
    from_display = site.app.jinja_env.filters["visible"]
    assert from_display("a\u202eb\x00") == "a[U+202E]b[U+0000]"


@pytest.mark.covers("R25", "TRAP-11")
def test_a_link_only_points(site: Site) -> None:
    filed = site.world.filed(entitlement="releaser")
    path = f"/approvals/{filed.request.id}"
    assert site.out().get(path).headers["Location"].startswith("/sign-in?next=")
    assert site.as_("jelena").get("/approvals/" + "0" * 26).status_code == 404
    for _ in range(3):
        assert site.as_("blerim").get(path).status_code == 200
    with site.world.broker.read() as view:
        assert view.rows(select(Challenge.id).where(Challenge.purpose == "approval")).all() == []
    assert "Approve" in site.get(path).get_data(as_text=True)
    assert site.form(f"{path}/deny").status_code == 303
    assert ">Approve<" not in site.get(path).get_data(as_text=True)
    assert site.form(f"{path}/prepare").status_code == 410


def test_denying_on_the_page_is_one_tap_and_offers_the_signature_afterwards(site: Site) -> None:
    filed = site.world.filed(entitlement="releaser")
    site.as_("drita")
    assert site.form(f"/approvals/{filed.request.id}/deny").status_code == 303
    html = site.get(f"/approvals/{filed.request.id}").get_data(as_text=True)
    assert "Sign the refusal" in html
    assert site.ceremony("drita", f"/api/requests/{filed.request.id}/denial").status_code == 200
    assert "Sign the refusal" not in site.get(f"/approvals/{filed.request.id}").get_data(as_text=True)


@pytest.mark.parametrize("refuser", ["blerim", "drita"])
def test_refusing_is_one_tap_after_having_approved_and_before_ones_turn(site: Site, refuser: str) -> None:
    request_id = site.world.filed(entitlement="releaser").request.id
    if refuser == "blerim":
        site.world.approved("blerim", request_id)
    page = f"/approvals/{request_id}"
    assert f'action="{page}/deny"' in site.as_(refuser).get(page).text
    assert site.form(f"{page}/deny").status_code == 303
    assert "denied" in site.get(page).text
    assert f'action="{page}/deny"' not in site.get(page).text
    assert f'action="{page}/deny"' not in site.as_("arta").get(page).text


@pytest.mark.parametrize(("key", "seen"), [("blerim", "approvals"), ("drita", "approvals"), ("drita", "witness")])
def test_who_could_approve_access_or_owns_the_system_ends_it_with_one_tap(site: Site, key: str, seen: str) -> None:
    request_id = site.world.filed(entitlement="releaser").request.id
    site.world.approved("blerim", request_id)
    assert site.world.approved("drita", request_id).grant is not None
    page = f"/{seen}/{'requests/' if seen == 'witness' else ''}{request_id}"
    assert f'action="/requests/{request_id}/end"' in site.as_(key).get(page).text
    assert f'action="/requests/{request_id}/end"' not in site.as_("arta").get(f"/approvals/{request_id}").text
    assert site.as_("jelena").form(f"/requests/{request_id}/end").status_code == 404
    ended = site.as_(key).form(f"/requests/{request_id}/end", seen=seen)
    assert ended.headers["Location"] == page
    with site.world.broker.read() as view:
        (grant,) = view.all(select(Grant))
    assert (grant.state, grant.cause) == ("ENDED", "revoked")
    assert f'action="/requests/{request_id}/end"' not in site.get(page).text


@pytest.mark.parametrize(("language", "label"), [("sq", "urdhërpagesa"), ("sr", "nalog")])
def test_what_stands_out_is_told_by_the_names_of_the_readers_language(site: Site, language: str, label: str) -> None:
    site.world.filed(entitlement="releaser")
    site.world.advance(timedelta(minutes=1))
    other = {"order": "TR-000431", "amount_cents": 4200}
    second = site.world.filed(entitlement="releaser", inputs=other).request.id
    page = site.as_("blerim").get(f"/approvals/{second}", **{"Accept-Language": language}).text
    block = BeautifulSoup(page, "html.parser").select_one(".unusual")
    assert block is not None
    text = " ".join(block.get_text().split()).lower()
    assert "treasury" not in text
    assert "ministry" not in text
    assert "amount_cents" not in text
    assert label in text
    assert "eur" in text or "€" in text


def test_a_denial_after_an_approval_is_told_as_a_denial_and_is_signed_too(site: Site) -> None:
    filed = site.world.filed(entitlement="releaser")
    path = f"/api/requests/{filed.request.id}"
    assert site.as_("blerim").ceremony("blerim", f"{path}/approval", {"comment": "Looks right."}).status_code == 200
    assert site.form(f"/approvals/{filed.request.id}/deny", comment="The order was cancelled.").status_code == 303
    page = BeautifulSoup(site.get(f"/approvals/{filed.request.id}").text, "html.parser")
    said = [" ".join(vote.get_text().split()) for vote in page.select(".vote")]
    assert [("Looks right." in one, "The order was cancelled." in one, "not signed" in one) for one in said] == [
        (True, False, False),
        (False, True, True),
    ]
    assert "Sign the refusal" in page.get_text()
    assert site.ceremony("blerim", f"{path}/denial").status_code == 200
    votes = site.as_("arta").get(path).json["votes"]
    assert [(vote["verdict"], vote["comment"]) for vote in votes] == [
        ("approve", "Looks right."),
        ("deny", "The order was cancelled."),
    ]


def test_approving_over_the_api_ends_in_a_grant(site: Site) -> None:
    filed = site.world.filed(entitlement="releaser")
    path = f"/api/requests/{filed.request.id}/approval"
    first = site.as_("blerim").ceremony("blerim", path)
    assert first.json == {"grant_id": None, "open_steps": ["owner"], "state": "PENDING"}
    second = site.as_("drita").ceremony("drita", path)
    assert second.json["state"] == "APPROVED"
    evidence = site.get(f"/approvals/{filed.request.id}/evidence").json
    assert len(evidence["approvals"]) == 2


@pytest.mark.covers("R24", "R19")
def test_a_shorter_time_chosen_on_the_page_is_what_is_shown_and_signed(site: Site) -> None:
    filed = site.world.filed(entitlement="releaser", duration_s=1800)
    site.as_("blerim")
    page = BeautifulSoup(site.get(f"/approvals/{filed.request.id}").get_data(as_text=True), "html.parser")
    offered = [str(option["value"]) for option in page.select('select[name="max_duration_s"] option')]
    assert offered == ["", "900", "600", "300"]
    html = site.form(f"/approvals/{filed.request.id}/prepare", max_duration_s="600", comment="Only July.").get_data(
        as_text=True
    )
    with site.world.broker.read() as view:
        challenge = view.first(select(Challenge).order_by(Challenge.created_at.desc(), Challenge.id.desc()))
    assert challenge is not None
    assert rebuilt(html).to_bytes() == challenge.statement
    assert rebuilt(html).max_duration_s == 600


@pytest.mark.covers("R24")
def test_after_signing_the_page_shows_what_was_signed_and_not_what_was_asked_for(site: Site) -> None:
    filed = site.world.filed(entitlement="releaser", duration_s=1800)
    path = f"/api/requests/{filed.request.id}/approval"
    assert site.as_("blerim").ceremony("blerim", path, {"max_duration_s": 600}).status_code == 200
    html = site.get(f"/approvals/{filed.request.id}").text
    with site.world.broker.read() as view:
        (vote,) = votes_of(view, filed.request.id)
    assert rebuilt(html).to_bytes() == vote.statement
    page = BeautifulSoup(html, "html.parser")
    said = [" ".join(one.get_text().split()) for one in page.select(".vote")]
    assert [one.endswith("Blerim Gashi: signed, only 10 min") for one in said] == [True]
    assert "You signed as" in page.get_text()
    assert "You sign as" not in page.get_text()
    assert page.select_one('main a[href="/approvals"]') is not None, "after the act there is a way on"
    assert "shortened to 10 min" in site.as_("arta").get(f"/requests/{filed.request.id}").text


@pytest.mark.parametrize("key", ["arta", "jelena", "drita"])
def test_who_signs_nothing_reads_no_step_and_the_time_as_the_signatures_left_it(site: Site, key: str) -> None:
    filed = site.world.filed(entitlement="releaser", duration_s=1800)
    site.world.approved("blerim", filed.request.id, Choice(max_duration_s=600))
    signs = key == "drita"
    page = BeautifulSoup(site.as_(key).get(f"/approvals/{filed.request.id}").text, "html.parser")
    field = page.select_one('[data-field="max_duration_s"]')
    assert field is not None
    assert field.get_text() == ("30 min" if signs else "10 min")
    assert ("You sign as" in page.get_text()) is signs
    assert (page.select_one('[data-field="step"]') is not None) is signs
    assert "only 10 min" in page.get_text(), "who signs second reads that the first gave less"


def test_a_signed_refusal_is_told_as_one(site: Site) -> None:
    filed = site.world.filed(entitlement="releaser")
    site.as_("drita").form(f"/approvals/{filed.request.id}/deny")
    assert "You sign as" not in site.get(f"/approvals/{filed.request.id}").text
    site.ceremony("drita", f"/api/requests/{filed.request.id}/denial")
    assert "You refused as" in site.get(f"/approvals/{filed.request.id}").text


def test_what_an_approver_wrote_is_shown_to_the_requester(site: Site) -> None:
    filed = site.world.filed(entitlement="releaser", duration_s=1800)
    body = {"max_duration_s": 600, "comment": "<b>Only July.</b>"}
    path = f"/api/requests/{filed.request.id}/approval"
    assert site.as_("blerim").ceremony("blerim", path, body).status_code == 200
    assert site.as_("drita").ceremony("drita", path).json["state"] == "APPROVED"
    html = site.as_("arta").get(f"/requests/{filed.request.id}").get_data(as_text=True)
    assert "&lt;b&gt;Only July.&lt;/b&gt;" in html
    assert "shortened to 10 min" in html
    found = site.get(f"/api/requests/{filed.request.id}").json
    assert [vote["comment"] for vote in found["votes"]] == ["<b>Only July.</b>", ""]


def test_above_the_threshold_the_page_asks_for_the_figure_and_the_server_checks_it(site: Site) -> None:
    def dear(rules: Rules) -> None:
        rules["release-payments"]["approve"]["read_back"] = [
            {"figure": "amount_cents", "above": 100_000_000},
            {"figure": "entitlement"},
        ]

    swap(site.world, dear)
    filed = site.world.filed(entitlement="releaser")
    path = f"/approvals/{filed.request.id}"
    page = BeautifulSoup(site.as_("blerim").get(path).get_data(as_text=True), "html.parser")
    typed = page.select_one('input[name="read.amount_cents"][required]')
    ticked = page.select_one('input[type="checkbox"][name="read.entitlement"][required]')
    assert typed is not None
    assert ticked is not None
    assert re.fullmatch(str(typed["pattern"]), "1,250,000.00")
    assert not re.fullmatch(str(typed["pattern"]), "1,250,000")
    assert site.form(f"{path}/prepare", **{"read.amount_cents": "1"}).status_code == 400
    read = {"read.amount_cents": "1,250,000.00", "read.entitlement": str(ticked["value"])}
    assert site.form(f"{path}/prepare", **read).status_code == 200
    deny = page.select_one("button[formaction]")
    assert deny is not None
    assert deny.has_attr("formnovalidate"), "refusing is never harder than granting"


@pytest.mark.covers("TRAP-11")
def test_the_page_carries_when_it_was_opened_and_changes_nothing(site: Site) -> None:
    filed = site.world.filed(entitlement="releaser")
    path = f"/approvals/{filed.request.id}"
    page = BeautifulSoup(site.as_("blerim").get(path).text, "html.parser")
    mark = page.select_one('form.decide input[name="opened"]')
    assert mark is not None
    site.world.advance(timedelta(seconds=30))
    prepared = BeautifulSoup(site.form(f"{path}/prepare", opened=str(mark["value"])).text, "html.parser")
    begun = json.loads(json.loads(str(prepared.select_one("script.begun").string)))
    answer = site.world.passkey("blerim").get(begun["options"])
    body = {"challenge_id": begun["challenge_id"], "response": answer}
    assert site.post(f"/api/requests/{filed.request.id}/approval/complete", body).status_code == 200
    with site.world.broker.read() as view:
        assert [row.took_ms for row in view.all(select(DecisionPace))] == [30_000]
    assert site.get("/approvals/pace").status_code == 403
    shown_to_auditors = site.as_("jelena").get("/approvals/pace").text
    assert "Blerim Gashi" in shown_to_auditors
    assert site.get("/api/approvals/pace").json[0]["median_s"] == 30.0


def test_what_stands_out_is_on_the_page_and_is_no_signed_field(site: Site) -> None:
    first = site.world.filed(entitlement="releaser", duration_s=600).request.id
    site.world.approved("blerim", first)
    grant = site.world.approved("drita", first).grant
    assert grant is not None
    assert isinstance(open_lease(site.world.broker, site.world.current("arta"), grant.id), Opened)
    site.world.advance(timedelta(minutes=1))
    other = {"order": "TR-000431", "amount_cents": 4200}
    second = site.world.filed(entitlement="releaser", duration_s=1800, inputs=other).request.id
    block = BeautifulSoup(site.as_("blerim").get(f"/approvals/{second}").text, "html.parser").select_one(".unusual")
    assert block is not None
    text = " ".join(block.get_text().split())
    assert "longer than usual: so far at most 10 min" in text
    assert "order: TR-000417 → TR-000431" in text
    assert "Treasury payments belongs to Ministry of Infrastructure." in text
    assert block.select("[data-field]") == []
    said = site.get(f"/api/requests/{second}/unusual").json
    assert (said["first_time"], said["usual_s"], said["last_request_id"]) == (False, 600, first)
    assert site.as_("jelena").get("/api/requests/" + "0" * 26 + "/unusual").status_code == 404


def test_the_policys_own_words_are_explained_beside_what_is_signed(site: Site) -> None:
    filed = site.world.filed(entitlement="releaser")
    site.as_("blerim")
    html = site.get(f"/approvals/{filed.request.id}").get_data(as_text=True)
    never = BeautifulSoup(html, "html.parser").select_one('[data-field="terms.approve.never"]')
    assert isinstance(never, Tag)
    assert isinstance(never.parent, Tag)
    assert never.get_text() == "requester, subordinates_of_requester"
    assert "the person who asks, who reports to that person" in never.parent.get_text()
    whole = site.get("/approvals/set").get_data(as_text=True)
    assert "the person who asks, who reports to that person" in whole
