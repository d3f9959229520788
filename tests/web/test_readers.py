"""Is each reading of others' data an event, at whatever address, where an office alone opens it (R71)?"""

import re

import pytest
from sqlalchemy import func, select

from jitaccess.store.tables import Event, PolicySetRow
from tests.web.conftest import Site

OWN = "shows the reader's own"
NOBODYS = "shows nothing of anybody"
ELSEWHERE = "is for programs and for browsers on the way to them; knows no auditor and no administrator"
LINK = "is for whoever holds the link"
EXEMPT = {
    "api.catalogue": OWN,
    "api.grant_list": OWN,
    "api.me_": OWN,
    "api.passkeys_list": OWN,
    "api.request_list": OWN,
    "approving.statement": OWN,
    "approving.waiting": OWN,
    "approving_api.inbox": OWN,
    "approving_set.choose": OWN,
    "approving_set.single": OWN,
    "approving_set.statement": OWN,
    "course.extend_show": OWN,
    "course.stoppable": OWN,
    "deputies.deputies_list": OWN,
    "deputies.deputies_show": OWN,
    "handover.open_page": OWN,
    "notices.show": OWN,
    "passkey_care.list_": OWN,
    "requester.choose": OWN,
    "requester.find": OWN,
    "requester.home": OWN,
    "requester.live": OWN,
    "api.policy": NOBODYS,
    "hosts.authority": NOBODYS,
    "new_target.new": NOBODYS,
    "new_target.proposed": NOBODYS,
    "openapi.openapi_": NOBODYS,
    "pages.livez": NOBODYS,
    "pages.policy": NOBODYS,
    "pages.readyz": NOBODYS,
    "pages.sign_in": NOBODYS,
    "passkey_care.lost": NOBODYS,
    "static": NOBODYS,
    "pages.enrol": LINK,
    "forward_auth.callback": ELSEWHERE,
    "forward_auth.check": ELSEWHERE,
    "forward_auth.start": ELSEWHERE,
    "oidc.authorize": ELSEWHERE,
    "oidc.jwks": ELSEWHERE,
    "oidc.logout": ELSEWHERE,
    "oidc.oauth_metadata": ELSEWHERE,
    "oidc.openid_configuration": ELSEWHERE,
    "oidc.status_list": ELSEWHERE,
    "oidc.status_lists": ELSEWHERE,
    "oidc.userinfo": ELSEWHERE,
}
"""Addresses whose reading is not noted, and why."""
OWN_TO_AUDITORS = "replacing.listed"
"""Lists all replacements to administrators, and to everybody else their own."""
QUERIES = {
    "admin.record": "?table=person&key={damaged_id}",
    "explaining.call": "?target=treasury&entitlement=releaser&person={person_id}",
    "explaining.page": "?right=treasury/releaser&person={person_id}",
    "oversight.consistency": "?old=1&new=1",
}
"""What some addresses are asked for, so that they show somebody else."""
OF_A_REQUEST = (
    "/requests/{request_id}", "/approvals/{request_id}", "/approvals/{request_id}/evidence", "/api/requests/{request_id}",
    "/api/requests/{request_id}/approval", "/api/requests/{request_id}/unusual", "/witness/requests/{request_id}",
    "/witness/grants/{grant_id}", "/api/witness/requests/{request_id}", "/api/witness/grants/{grant_id}",
)  # fmt: skip


def _readings(site: Site) -> int:
    with site.world.broker.read() as view:
        return int(view.scalar(select(func.count()).where(Event.type == "admin.read")))


def _values(site: Site) -> dict[str, str]:
    """File a request of Arta's that two people sign, spoil Besa's record, and return what addresses may be about."""
    done = site.world.released()
    assert done.grant is not None
    site.world.broker.checkpoints.make()
    site.world.sql("UPDATE person SET unit = 'x' WHERE id = :id", id=site.world.person("besa"))
    site.world.sql("UPDATE register_version SET n = n + 1")
    with site.world.broker.read() as view:
        return {
            "request_id": done.request.id,
            "grant_id": done.grant.id,
            "person_id": site.world.person("arta"),
            "damaged_id": site.world.person("besa"),
            "group_id": "treasury-staff",
            "target_id": "treasury",
            "policy_id": str(view.scalar(select(PolicySetRow.id).limit(1))),
            "event_id": str(view.scalar(select(Event.id).where(Event.idx == 0))),
        }


def _paths(site: Site) -> dict[str, str]:
    """Return endpoint -> an address of it, for everything that can be looked at."""
    values = _values(site)
    return {
        rule.endpoint: re.sub(r"<(?:\w+:)?(\w+)>", lambda found: values.get(found[1], "1"), rule.rule)
        + QUERIES.get(rule.endpoint, "").format(**values)
        for rule in site.app.url_map.iter_rules()
        if "GET" in (rule.methods or ())
    }


@pytest.mark.covers("R71")
def test_each_reading_by_office_is_one_event_at_every_address(site: Site) -> None:
    """Jelena audits and Milan administers; neither has a part in what Arta asked for at a system of the ministry's."""
    paths = _paths(site)
    shown: set[str] = set()
    wrong: dict[str, int] = {}
    for key in ("jelena", "milan"):
        site.as_(key)
        for endpoint, path in paths.items():
            before = _readings(site)
            answer = site.get(path)
            answer.get_data()
            noted = _readings(site) - before
            exempt = endpoint in EXEMPT or (key == "jelena" and endpoint == OWN_TO_AUDITORS)
            if answer.status_code == 200 and not exempt:
                shown.add(endpoint)
            if (answer.status_code == 200 or exempt) and noted != (0 if exempt else 1):
                wrong[f"{key} {path}"] = noted
    assert wrong == {}
    assert shown == set(paths) - set(EXEMPT), "each address that is not exempt showed something to one of them"
    assert set(EXEMPT) <= set(paths), "no exemption outlives its address"


@pytest.mark.covers("R71")
def test_who_has_a_part_in_a_request_reads_it_without_an_event(site: Site) -> None:
    values = _values(site)
    for key in ("arta", "blerim", "drita"):
        site.as_(key)
        found = [site.get(path.format(**values)).status_code for path in OF_A_REQUEST]
        assert found.count(200) >= 6, (key, found)
    assert _readings(site) == 0


@pytest.mark.covers("R71")
def test_an_auditor_reads_also_what_nobody_had_to_sign_and_is_noted(site: Site) -> None:
    filed = site.world.filed()
    site.as_("jelena")
    for number, path in enumerate((f"/requests/{filed.request.id}", f"/api/requests/{filed.request.id}"), start=1):
        assert site.get(path).status_code == 200
        assert _readings(site) == number
    assert site.as_("drita").get(f"/requests/{filed.request.id}").status_code == 404
    assert _readings(site) == 2


@pytest.mark.covers("R71")
@pytest.mark.parametrize(("key", "page"), [("jelena", "/requests/{0}"), ("milan", "/board")])
def test_a_page_that_refreshes_itself_is_noted_while_it_shows_something_new(site: Site, key: str, page: str) -> None:
    page = page.format(site.world.filed(entitlement="releaser").request.id)
    site.as_(key)
    html = site.get(page).get_data(as_text=True)
    again = re.search(r'hx-get="([^"]+)"', html)
    assert again is not None
    for _ in range(3):
        assert site.get(again[1].replace("&amp;", "&")).status_code == 204
    assert _readings(site) == 1
    for number, seen in enumerate((again[1].partition("?")[0], f"{page}/live?seen=made-up"), start=2):
        assert site.get(seen).status_code == 200, "who shows no mark of what there is is given all of it"
        assert _readings(site) == number
