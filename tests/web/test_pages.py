"""Does every page render for whom it is meant, in words that can be translated?"""

import re
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitaccess.demo.gallery import SCENES, Left
from jitaccess.web import display
from jitaccess.web.doors import SESSION_COOKIE
from tests.web.conftest import Site

TEMPLATES = Path(display.__file__).parent / "templates"


def text_outside_gettext(html: str) -> list[str]:
    """Give words of a template that no translator would see."""
    bare = re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}|<script.*?</script>", " ", html, flags=re.S)
    bare = re.sub(r"<[^>]*>", " ", bare)
    return [word for word in re.findall(r"[A-Za-z]{3,}", bare) if word not in ALLOWED]


ALLOWED = {
    "jitaccess", "nbsp", "amp", "min", "grant", "target", "entitlement", "approvals", "policy", "digest", "client",
    "private", "key", "jwt", "secret", "basic",  # private_key_jwt, client_secret_basic (RFC 7591)
    "nginx", "Caddy", "Python", "WSGI", "ASGI", "Flask", "FastAPI", "Django", "Node",
}  # fmt: skip


@pytest.mark.parametrize("template", sorted(TEMPLATES.glob("*.html")), ids=lambda path: path.name)
def test_every_word_of_a_template_goes_through_gettext(template: Path) -> None:
    assert text_outside_gettext(template.read_text()) == []


@pytest.mark.parametrize("key", ["arta", "blerim", "drita", "jelena", "agim"])
@pytest.mark.parametrize("path", ["/", "/live", "/request", "/approvals", "/policy", "/passkeys"])
def test_pages_for_everybody_render(site: Site, key: str, path: str) -> None:
    site.world.filed()
    site.world.filed(entitlement="releaser")
    answer = site.as_(key).get(path)
    assert answer.status_code == 200
    assert "</main>" in answer.get_data(as_text=True) or path == "/live"


@pytest.mark.parametrize(("path", "allowed"), [("/people", {"agim"}), ("/log", {"agim", "jelena"})])
def test_pages_of_few_are_refused_to_others(site: Site, path: str, allowed: set[str]) -> None:
    for key in ("arta", "blerim", "jelena", "agim"):
        assert site.as_(key).get(path).status_code == (200 if key in allowed else 403), key


def test_asking_shows_who_has_to_sign_before_anything_is_filed(site: Site) -> None:
    site.as_("arta")
    form = site.get("/request?target=treasury&entitlement=releaser").get_data(as_text=True)
    assert "amount_cents" in form
    fields = {
        "target": "treasury",
        "entitlement": "releaser",
        "input.order": "TR-000417",
        "input.amount_cents": "125000000",
        "duration_s": "1800",
        "reason": "July invoice",
    }
    checked = site.form("/request/check", **fields)
    html = checked.get_data(as_text=True)
    assert checked.status_code == 200
    assert "Blerim Gashi" in html
    assert "Drita Hoxha" in html
    wrong = site.form("/request/check", **(fields | {"input.amount_cents": "much"}))
    assert wrong.status_code == 422
    assert "must be a whole number" in wrong.get_data(as_text=True)
    too_dear = site.form("/request/check", **(fields | {"input.amount_cents": "999999999999"}))
    assert too_dear.status_code == 422


def test_handing_back_is_one_plain_form(site: Site) -> None:
    grant = site.world.filed().grant
    assert grant is not None
    html = site.as_("arta").get("/").get_data(as_text=True)
    assert f"/grants/{grant.id}/hand-back" in html
    assert site.form(f"/grants/{grant.id}/hand-back").status_code == 303
    assert "no access open" in site.get("/").get_data(as_text=True)
    assert site.form(f"/grants/{grant.id}/hand-back").status_code == 409


def test_nobody_hands_back_or_reads_what_is_not_theirs(site: Site) -> None:
    filed = site.world.filed()
    assert filed.grant is not None
    site.as_("jelena")
    assert site.post(f"/api/grants/{filed.grant.id}/hand-back").status_code == 404
    assert site.post(f"/api/grants/{filed.grant.id}/revoke").status_code == 404
    assert site.as_("drita").get(f"/requests/{filed.request.id}").status_code == 404


def test_two_administrators_add_a_person_and_the_second_sees_the_link_once(site: Site) -> None:
    site.as_("agim")
    payload = {"name": "Nora Bytyqi", "email": "nora@mof.example", "institution": "mof", "unit": "payroll"}
    body = {"kind": "person.add", "subject": "new", "payload": payload}
    first = site.ceremony("agim", "/api/changes", body)
    assert (first.json["applied"], first.json["shown"]) == (False, None)
    assert "nora@mof.example" in site.as_("besa").get("/admin").get_data(as_text=True)
    done = site.ceremony("besa", "/api/changes", body)
    assert done.status_code == 200, done.text
    assert done.json["applied"] is True
    assert "/enrol/" in done.json["shown"]
    assert "Nora Bytyqi" in site.get("/people").get_data(as_text=True)
    assert site.as_("arta").post("/api/changes/begin", {"kind": "person.add", "subject": "new"}).status_code == 403


def test_a_hold_ends_everything_of_a_person_and_is_lifted_with_a_signature(site: Site) -> None:
    site.world.filed()
    arta = site.world.person("arta")
    session = site.as_("arta").client.get_cookie(SESSION_COOKIE).value
    site.as_("agim")
    placed = site.post("/api/holds", {"kind": "person", "subject_id": arta, "cause": "not her"})
    assert placed.json["grants"] == 1
    site.client.set_cookie(SESSION_COOKIE, session, domain="localhost", secure=True)
    assert site.get("/api/me").status_code == 401
    site.as_("agim")
    lifted = site.ceremony("agim", "/api/changes", {"kind": "hold.release", "subject": placed.json["hold_id"]})
    assert lifted.status_code == 200


@given(st.integers(min_value=0, max_value=4_000_000_000))
def test_times_are_read_back_as_they_were_shown(epoch_s: int) -> None:
    assert display.parse_time(display.time_text(epoch_s)) == epoch_s


@given(st.integers(min_value=0, max_value=8_000_000))
def test_durations_are_read_back_as_they_were_shown(seconds: int) -> None:
    assert display.parse_duration_text(display.duration_text(seconds)) == seconds


@given(st.text(max_size=60))
def test_shown_text_prints(text: str) -> None:
    assert all(letter.isprintable() or letter == "\n" for letter in display.visible(text))


NO_PAGES = {
    "pages.livez": "for supervisors",
    "pages.readyz": "for supervisors",
    "static": "files",
    "requester.live": "a part of the start page",
    "requester.find": "a part of the start page",
    "requester.request_live": "a part of a request's page",
    "admin.board_live": "a part of the board",
    "auditor.evidence": "a download",
    "auditor.as_csv": "a download",
    "auditor.as_json": "a download",
    "approving.evidence": "a download",
    "approving.statement": "a download",
    "approving_set.statement": "a download",
    "approving_set.single": "a download",
    "watch.as_csv": "a download",
    "watch.as_json": "a download",
    "hosts.authority": "for hosts",
    "oidc.userinfo": "for applications",
    "oidc.status_list": "for applications",
    "oidc.status_lists": "for applications",
}
MACHINES = ("/api/", "/.well-known/", "/oidc/.well-known/", "/forward-auth/", "/proxied/")
"""Where no person looks: JSON, and a proxy's questions, which lead the browser on."""


def test_the_gallery_of_the_demo_visits_every_page(site: Site) -> None:
    left = {field.name: "x" for field in fields(Left)} | {"authorize": "oidc/authorize"}
    addresses = site.app.url_map.bind("localhost")
    visited = {
        addresses.match(f"/{scene.path.format(**left)}".partition("?")[0])[0]
        for scene in SCENES
        if scene.status != 404 and scene.path not in ("{genesis}", "demo/mail")  # not of this application
    }
    there = {
        rule.endpoint
        for rule in site.app.url_map.iter_rules()
        if "GET" in (rule.methods or ()) and not rule.rule.startswith(MACHINES)
    }
    assert there - visited - NO_PAGES.keys() == set()
    assert NO_PAGES.keys() - there == set(), "an exception for what is not there"
    assert len({scene.called for scene in SCENES}) == len(SCENES), "one picture would lie over another"
