"""Does who has no access yet land where it is asked for, and come back into the very sign-in that the application began?"""

import json
import re
from datetime import timedelta
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import pytest
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from jitaccess.domain.values import LOCAL
from jitaccess.oidc.clients import disable_client
from jitaccess.oidc.pending import MAX_KEPT
from jitaccess.store.tables import PendingAuthorization
from tests.oidc.conftest import CALLBACK, Treasury, open_treasury, verifier_pair
from tests.support.world import ORIGIN


def ask(treasury: Treasury, entitlement: str, query: str) -> TestResponse:
    """Tap the button on the authorization page."""
    form = {"entitlement": entitlement, "query": query}
    return treasury.browser.post("/oidc/authorize/ask", base_url=ORIGIN, data=form, headers={"Origin": ORIGIN})


def ways_back(treasury: Treasury) -> list[str]:
    """Return what the start page offers to go on with."""
    return re.findall(r'data-pending="([a-z0-9]+)"', treasury.browser.get("/", base_url=ORIGIN).text)


def go_on(treasury: Treasury, pending: str) -> TestResponse:
    """Tap it."""
    data = {"pending": pending}
    return treasury.browser.post("/oidc/authorize/resume", base_url=ORIGIN, data=data, headers={"Origin": ORIGIN})


@pytest.mark.covers("R16", "R37")
def test_somebody_without_access_asks_for_exactly_that_and_comes_back_to_the_same_sign_in(
    any_treasury: Treasury,
) -> None:
    verifier, challenge = verifier_pair()
    wanted = json.dumps([{"type": "jit_access", "entitlement": "viewer"}])
    page = any_treasury.page(challenge, state="where-i-was", authorization_details=wanted)
    assert re.findall(r'data-entitlement="(\w+)"', page.text) == ["viewer"]
    query = any_treasury.query(challenge, state="where-i-was", authorization_details=wanted)
    sent = ask(any_treasury, "viewer", query)
    assert (sent.status_code, sent.location) == (303, "/request?target=treasury&entitlement=viewer")
    assert any_treasury.browser.get(sent.location, base_url=ORIGIN).status_code == 200
    assert ways_back(any_treasury) == [], "there is nothing to go on to yet"
    grant = any_treasury.grant()
    (way,) = ways_back(any_treasury)
    back = go_on(any_treasury, way)
    assert back.status_code == 303
    kept = dict(parse_qsl(urlsplit(back.location).query))
    assert (kept["state"], kept["login_hint"], kept["code_challenge"]) == ("where-i-was", grant.id, challenge)
    assert any_treasury.browser.get(back.location, base_url=ORIGIN).status_code == 200
    begun = any_treasury.post("/oidc/authorize/begin", {"grant_id": grant.id, "query": urlsplit(back.location).query})
    location = any_treasury.finish(begun.json).json["redirect"]
    answer = parse_qs(urlsplit(location).query)
    assert location.startswith(f"{CALLBACK}?")
    assert answer["state"] == ["where-i-was"]
    tokens = any_treasury.redeem(answer["code"][0], verifier).json
    assert tokens["authorization_details"][0]["grant"] == grant.id
    assert ways_back(any_treasury) == []
    assert go_on(any_treasury, way).status_code == 410, "one use"


def test_who_has_asked_already_lands_on_that_request(treasury: Treasury) -> None:
    filed = treasury.world.filed(entitlement="releaser")
    sent = ask(treasury, "releaser", treasury.query("x" * 43))
    assert sent.location == f"/requests/{filed.request.id}"
    treasury.world.approved("blerim", filed.request.id)
    assert ways_back(treasury) == []
    treasury.world.approved("drita", filed.request.id)
    (way,) = ways_back(treasury)
    assert f'data-pending="{way}"' in treasury.browser.get(sent.location, base_url=ORIGIN).text
    assert go_on(treasury, way).status_code == 303


@pytest.mark.covers("R25", "R16")
def test_a_way_back_is_one_persons_and_grants_nothing(treasury: Treasury) -> None:
    query = treasury.query("x" * 43)
    assert ask(treasury, "viewer", query).status_code == 303
    treasury.grant()
    (way,) = ways_back(treasury)
    treasury.sign_in("blerim")
    assert ways_back(treasury) == []
    assert go_on(treasury, way).status_code == 410
    treasury.sign_in("arta")
    bare = treasury.browser.post("/oidc/authorize/resume", base_url=ORIGIN, data={"pending": way})
    assert bare.status_code == 403, "no Origin, no act"
    assert ask(treasury, "everything", query).status_code == 404
    other = urlencode(dict(parse_qsl(query)) | {"redirect_uri": "https://evil.example/"})
    assert ask(treasury, "viewer", other).status_code == 400
    with treasury.world.broker.begin(LOCAL) as tx:
        disable_client(tx, treasury.credential.client_id)
    assert ways_back(treasury) == []
    assert go_on(treasury, way).status_code == 409


@pytest.mark.covers("R66")
def test_ways_back_are_few_and_last_a_day(treasury: Treasury) -> None:
    for number in range(MAX_KEPT + 3):
        other = open_treasury(treasury.world)
        query = other.query(f"{number:x}" * 43)
        assert ask(treasury, "viewer", query).status_code == 303
        assert ask(treasury, "viewer", query).status_code == 303, "the same again replaces it"
    with treasury.world.broker.read() as view:
        assert view.scalar(select(func.count()).select_from(PendingAuthorization)) == MAX_KEPT
    treasury.world.advance(timedelta(hours=24))
    treasury.sign_in("arta")
    treasury.grant()
    assert ways_back(treasury) == []


@pytest.mark.parametrize(
    "details",
    [
        "x",
        "{}",
        "[]",
        '[{"type":"other"}]',
        '[{"type":"jit_access"},{"type":"jit_access"}]',
        '[{"type":"jit_access","target":"payroll"}]',
        '[{"type":"jit_access","entitlement":7}]',
        '[{"type":"jit_access","actions":["all"]}]',
        "[" * 500,
    ],
)
def test_other_details_go_back_as_an_error(treasury: Treasury, details: str) -> None:
    answer = treasury.page("x" * 43, authorization_details=details)
    assert parse_qs(urlsplit(answer.location).query)["error"] == ["invalid_authorization_details"]


def test_only_the_entitlement_that_was_named_can_be_opened(treasury: Treasury) -> None:
    grant = treasury.grant()
    named = json.dumps([{"type": "jit_access", "target": "treasury", "entitlement": "releaser"}])
    assert treasury.begin(grant, verifier_pair()[1], authorization_details=named).status_code == 404
    assert grant.id not in treasury.page("x" * 43, authorization_details=named).text
