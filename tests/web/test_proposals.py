"""Can the second signer read what a change does: the act, whom it is about and every member, with the signed key beside it?"""

import re
from typing import Any

import pytest
from bs4 import BeautifulSoup

from jitaccess.broker import acts
from jitaccess.broker.clients import AuthMethod
from jitaccess.broker.restore import RESTORABLE
from jitaccess.connectors import load_kinds
from jitaccess.language import Language
from jitaccess.web import proposals, telling
from jitaccess.web.proposals import ACTS, MEMBERS, RECORDS
from jitaccess.web.speech import LANGUAGE_COOKIE
from tests.web.conftest import Site


@pytest.mark.parametrize("language", Language)
def test_every_kind_of_change_has_words_of_its_own_in_every_language(site: Site, language: Language) -> None:
    assert set(ACTS) == set(acts.ACTS)
    with site.app.test_request_context("/", headers={"Cookie": f"{LANGUAGE_COOKIE}={language.short}"}):
        words = {proposals.act(kind) for kind in acts.ACTS}
    assert len(words) == len(acts.ACTS)
    assert words.isdisjoint(acts.ACTS)


def test_every_member_that_can_be_signed_has_a_label(site: Site) -> None:
    members = {name for payload in acts.ACTS.values() for name in payload.model_fields}
    assert members <= set(MEMBERS)
    assert set(RECORDS) == set(RESTORABLE)


def test_every_kind_of_target_and_every_proof_has_words(site: Site) -> None:
    assert set(load_kinds()) <= set(telling.TARGET_KINDS)
    assert set(telling.PROOFS) == {method.value for method in AuthMethod}


def card(site: Site, kind: str) -> str:
    html = site.as_("besa").get("/admin").text
    found = BeautifulSoup(html, "html.parser").select_one(f'[data-change="{kind}"]')
    assert found is not None
    return re.sub(r"\s+", " ", found.get_text(" "))


def proposed(site: Site, kind: str, subject: str, payload: dict[str, Any] | None = None) -> str:
    done = site.as_("agim").ceremony(
        "agim", "/api/changes", {"kind": kind, "subject": subject, "payload": payload or {}}
    )
    assert done.status_code == 200, done.text
    assert done.json["applied"] is False
    return card(site, kind)


def test_a_new_person_is_read_with_names_beside_the_keys(site: Site) -> None:
    payload = {
        "name": "New Face", "email": "new@mof.example", "institution": "mof", "unit": "cash",
        "groups": ["treasury-staff", "treasury-releasers"], "language": "sq",
    }  # fmt: skip
    text = proposed(site, "person.add", "new", payload)
    for part in (
        "Add a person",
        "person.add",
        "New Face",
        "Ministry of Finance",
        "mof",
        "Albanian",
        "Treasury",
        "treasury-staff",
    ):
        assert part in text, part


def test_a_membership_says_who_and_which_group(site: Site) -> None:
    text = proposed(site, "member.add", "jit-admins", {"member_id": site.world.person("arta")})
    for part in ("Put somebody into a group", "Arta Krasniqi", site.world.person("arta"), "jit-admins"):
        assert part in text, part


def test_a_link_says_whose_account_and_what_for(site: Site) -> None:
    account = site.world.current("arta").account.id
    text = proposed(site, "enrolment.create", account, {"purpose": "recover"})
    assert "Arta Krasniqi" in text
    assert "replacing all passkeys" in text
    assert "recover" in text


def test_what_is_signed_is_still_the_key(site: Site) -> None:
    arta = site.world.person("arta")
    proposed(site, "person.change", arta, {"values": {"institution": "infra"}})
    text = card(site, "person.change")
    for part in (
        "Change what the register says of a person",
        "Arta Krasniqi",
        "Institution",
        "values.institution",
        "infra",
    ):
        assert part in text, part
    again = {"kind": "person.change", "subject": arta, "payload": {"values": {"institution": "infra"}}}
    assert site.as_("besa").ceremony("besa", "/api/changes", again).json["applied"] is True


def test_paper_keys_are_about_nothing_but_themselves(site: Site) -> None:
    text = proposed(site, "recovery.print_keys", "paper")
    assert "Print new paper keys" in text


def test_groups_are_called_by_name_on_the_desk_and_beside_signed_terms(site: Site) -> None:
    site.as_("agim")
    with site.world.broker.read() as view:
        names = proposals.people.group_names(view)
    staff, heads = names["treasury-staff"], names["treasury-heads"]
    assert "treasury-staff" not in (staff, heads)
    policy = site.get("/policy").text
    assert f"{staff} <small><code>treasury-staff</code></small>" in policy
    assert staff in site.get(f"/people/{site.world.person('arta')}").text
    assert staff in site.get("/people?q=arta").text
    filed = site.world.filed(entitlement="releaser")
    html = site.as_("blerim").get(f"/approvals/{filed.request.id}").text
    term = BeautifulSoup(html, "html.parser").select_one('dl.terms small[data-field="terms.approve.steps.0.groups"]')
    assert term is not None
    assert term.get_text() in names
    assert term.parent is not None
    assert names[term.get_text()] in term.parent.get_text()


def test_rights_and_steps_on_the_policy_page_are_called_as_people_call_them(site: Site) -> None:
    html = site.as_("arta").get("/policy").text
    assert "Release a payment <small><code>releaser</code></small>" in html
    assert "Head of the treasury <small><code>line</code></small>: 1 ×" in html
    explained = site.get("/policy/explain?right=treasury/releaser").text
    assert "A field is missing. Payment order <small><code>order</code></small>" in explained
    assert (
        "Head of the treasury <small><code>line</code></small>"
        in site.get("/policy/explain?right=treasury/releaser&input.order=TR-000417&input.amount_cents=5").text
    )
    target = site.as_("agim").get("/targets/treasury").text
    assert "Head of the treasury <small><code>line</code></small>" in target
    assert "Sign-in with a token" in target
