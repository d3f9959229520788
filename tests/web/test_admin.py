"""Can an administrator see, change with a signature, stop, and try a policy: and nobody else?"""

import re
from urllib.parse import quote

import pytest

from jitaccess.audit.register import RegisterCheck
from jitaccess.store.tables import Person
from tests.support.candidates import document_without, proposed
from tests.web.conftest import Site

PAGES = [
    "/admin",
    "/people",
    "/groups",
    "/groups/treasury-staff",
    "/targets",
    "/targets/treasury",
    "/holds",
    "/board",
    "/board/live",
]


def text(site: Site, path: str) -> str:
    """Give a page."""
    answer = site.get(path)
    assert answer.status_code == 200, path
    return answer.get_data(as_text=True)


@pytest.mark.parametrize("path", PAGES)
def test_only_administrators_see_the_desk(site: Site, path: str) -> None:
    for key in ("arta", "blerim", "jelena"):
        assert site.as_(key).get(path).status_code == 403, key
    assert "/audit" in text(site.as_("agim"), path) or path == "/board/live"


def test_only_administrators_may_stop_by_form(site: Site) -> None:
    filed = site.world.filed()
    assert filed.grant is not None
    site.as_("blerim")
    assert site.form("/holds", kind="person", subject_id=site.world.person("arta")).status_code == 403
    assert site.form("/end-everything", kind="grant", subject_id=filed.grant.id).status_code == 403
    assert site.form(f"/people/{site.world.person('arta')}/check", unit="x").status_code == 403
    assert site.form("/changes/none/reject").status_code == 403


def test_people_are_searched_and_paged(site: Site) -> None:
    site.as_("agim")
    found = text(site, "/people?q=krasniqi+treas")
    assert "Arta Krasniqi" in found
    assert "Drita Hoxha" not in found
    assert "Nobody is called like that" in text(site, "/people?q=zeppelin")


def test_a_person_has_a_page_with_everything(site: Site) -> None:
    site.world.filed()
    html = text(site.as_("agim"), f"/people/{site.world.person('arta')}")
    for part in (
        "arta.krasniqi@mof.example",
        "arta.k@mof.example",
        "treasury-releasers",
        "Software passkey",
        "Look at payments",
    ):
        assert part in html, part
    assert site.get("/people/nobody").status_code == 404


@pytest.mark.covers("R15")
def test_a_change_of_a_person_signs_only_the_changed_fields(site: Site) -> None:
    arta = site.world.person("arta")
    site.as_("agim")
    given = {
        "name": "Arta Krasniqi", "email": "arta.krasniqi@mof.example", "institution": "mof", "unit": "cash office",
        "manager": "drita.hoxha@infra.example",
    }  # fmt: skip
    checked = site.form(f"/people/{arta}/check", **given).get_data(as_text=True)
    assert "treasury</td><td>cash office" in checked
    assert "Blerim Gashi</td><td>Drita Hoxha" in checked
    body = re.search(r'class="body">"(.+?)"</script>', checked)
    assert body is not None
    values = {"unit": "cash office", "manager_id": site.world.person("drita")}
    done = site.ceremony(
        "agim", "/api/changes", {"kind": "person.change", "subject": arta, "payload": {"values": values}}
    )
    assert done.status_code == 200, done.text
    assert done.json["applied"] is False
    assert "waits for the signature of another administrator" in text(site, f"/people/{arta}")
    overview = text(site.as_("besa"), "/admin")
    assert "<dt>Line manager <small><code>values.manager_id</code></small></dt>" in overview
    again = {"kind": "person.change", "subject": arta, "payload": {"values": values}}
    assert site.ceremony("besa", "/api/changes", again).json["applied"] is True
    assert "arta.krasniqi" not in body.group(1)
    assert all(part in body.group(1) for part in ("cash office", "manager_id", site.world.person("drita")))
    assert 'value="cash office"' in text(site, f"/people/{arta}")


def test_a_change_of_nothing_or_of_an_unknown_manager_is_told(site: Site) -> None:
    arta = site.world.person("arta")
    site.as_("agim")
    same = site.form(f"/people/{arta}/check", unit="treasury", manager="blerim.gashi@mof.example")
    assert (same.status_code, "Nothing was changed" in same.get_data(as_text=True)) == (422, True)
    wrong = site.form(f"/people/{arta}/check", unit="treasury", manager="nobody@example.org")
    assert (wrong.status_code, "Nobody on the register" in wrong.get_data(as_text=True)) == (422, True)
    none = site.form(f"/people/{arta}/check", manager="").get_data(as_text=True)
    assert "Blerim Gashi</td><td>–" in none


def test_groups_tell_what_they_are_for_and_are_added_and_filled_with_signatures(site: Site) -> None:
    site.as_("agim")
    assert "release-payments" in text(site, "/groups")
    added = site.ceremony(
        "agim", "/api/changes", {"kind": "group.add", "subject": "night-shift", "payload": {"name": "Night shift"}}
    )
    assert added.status_code == 200, added.text
    page = text(site, "/groups/night-shift?q=arta")
    assert "Nobody is in it" in page
    assert site.world.person("arta") in page
    joined = {"kind": "member.add", "subject": "night-shift", "payload": {"member_id": site.world.person("arta")}}
    assert site.ceremony("agim", "/api/changes", joined).json["applied"] is False
    assert site.as_("besa").ceremony("besa", "/api/changes", joined).json["applied"] is True
    site.as_("agim")
    assert "Take Arta Krasniqi out, signed" in text(site, "/groups/night-shift")
    left = joined | {"kind": "member.end"}
    assert site.ceremony("agim", "/api/changes", left).status_code == 200
    assert "Nobody is in it" in text(site, "/groups/night-shift")
    assert site.get("/groups/nothing").status_code == 404


def test_a_system_page_answers_who_can_reach_it(site: Site) -> None:
    site.world.released()
    html = text(site.as_("agim"), "/targets/treasury")
    release = html.split('data-entitlement="releaser"')[1].split("</article>")[0]
    assert "at least 3 people acting together" in release
    for name in ("Arta Krasniqi", "Blerim Gashi", "Drita Hoxha"):
        assert name in release
    look = html.split('data-entitlement="viewer"')[1].split("</article>")[0]
    assert "can obtain it alone" in look
    assert "<svg" in html
    assert site.get("/targets/nothing").status_code == 404


def test_the_board_shows_what_is_open_and_ends_it(site: Site) -> None:
    filed = site.world.filed()
    assert filed.grant is not None
    site.as_("agim")
    board = text(site, "/board")
    assert filed.grant.id in board
    mark = re.search(r"seen=(\w+)", board)
    assert mark is not None
    assert site.get(f"/board/live?seen={mark.group(1)}").status_code == 204
    assert filed.grant.id not in text(site, "/board?target=payroll")
    assert filed.grant.id in text(site, "/board?person=arta")
    ended = site.form("/end-everything", kind="grant", subject_id=filed.grant.id, back="/board")
    assert (ended.status_code, ended.headers["Location"]) == (303, "/board")
    assert filed.grant.id not in text(site, f"/board/live?seen={mark.group(1)}")


def test_holds_are_listed_in_words_and_lead_back_only_to_our_own_pages(site: Site) -> None:
    site.as_("agim")
    placed = site.form("/holds", kind="target", subject_id="treasury", cause="audit week", back="//example.org/x")
    assert placed.headers["Location"] == "/"
    html = text(site, "/holds")
    assert "audit week" in html
    assert "on hold" in text(site, "/targets")
    assert "This target is on hold" in text(site.as_("arta"), "/request")
    assert site.as_("agim").form("/holds", kind="galaxy", subject_id="x").status_code == 400


def test_health_is_told_in_words(site: Site) -> None:
    html = text(site.as_("agim"), "/admin")
    assert "New access is given out." in html
    assert "The clockwork that ends access has been silent" in html  # nothing ticks in this test
    assert "People with only one passkey" in html
    assert "release-payments: Blerim Gashi" in html


def test_a_candidate_policy_is_tried_on_past_requests(site: Site) -> None:
    site.world.filed()
    policy_id = proposed(site.world, document_without(site.world, "look-at-payments"))
    html = text(site.as_("agim"), f"/policy/sets/{policy_id}/replay")
    assert "would be refused" in html
    assert "Arta Krasniqi" in html
    assert f"/policy/sets/{policy_id}/replay" in text(site, "/policy")
    assert site.as_("blerim").get(f"/policy/sets/{policy_id}/replay").status_code == 403
    assert site.as_("agim").get("/policy/sets/none/replay").status_code == 404


@pytest.mark.covers("R67")
def test_a_changed_record_is_shown_and_only_what_the_log_knew_can_be_signed(site: Site) -> None:
    world = site.world
    jelena = world.person("jelena")
    with world.broker.read() as view:
        unit = view.require(Person, jelena).unit
    RegisterCheck(world.broker.db).check()
    world.sql("UPDATE person SET unit = 'cellar' WHERE id = :id", id=jelena)
    world.sql("UPDATE register_version SET n = n + 1")
    page = text(site.as_("agim"), "/admin")
    assert "Records changed outside the broker" in page
    assert "cellar" in page
    right = text(site, f"/admin/record?table=person&key={jelena}&unit={quote(unit)}")
    assert "Sign exactly this" in right
    wrong = text(site, f"/admin/record?table=person&key={jelena}&unit=attic")
    assert "Sign exactly this" not in wrong
    assert "not what the log last knew" in wrong
    assert site.get("/admin/record?table=person&key=nobody").status_code == 404
    assert "cellar" in text(site, f"/people/{jelena}")
    assert site.as_("arta").get("/admin/record?table=person&key=x").status_code == 403


@pytest.mark.covers("R67")
def test_the_overview_says_when_records_were_compared_and_looks_at_all_when_asked(site: Site) -> None:
    world = site.world
    assert "Every record was looked at just now." in text(site.as_("agim"), "/admin"), "nothing compared them before"
    RegisterCheck(world.broker.db).check()
    world.sql("UPDATE passkey SET name = 'cellar' WHERE person_id = :id", id=world.person("jelena"))
    page = text(site, "/admin")
    assert "Every record was last compared with the log at" in page
    assert "Records changed outside the broker" not in page
    every = text(site, "/admin?records=now")
    assert "Records changed outside the broker" in every
    assert "Every record was looked at just now." in every
