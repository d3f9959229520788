"""Does the JSON API do what its OpenAPI document says, whatever is sent to it?

Every address is called in-process with what schemathesis makes of the document, with and without a session and real names: never a 5xx,
never a status, content type or shape that is not written down. The examples are the same in every run.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from sqlalchemy import select

from jitaccess.store.tables import Event
from jitaccess.web.operations import operation_of
from jitaccess.web.schemas import Token
from tests.support.world import ORIGIN, World
from tests.web.conftest import Site

EXAMPLES = 3
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
SIGNED_IN = st.sampled_from([True, True, False])
BOUNDED = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
ROLE = {
    "sign-in": "arta",
    "passkeys": "arta",
    "requests": "arta",
    "grants": "arta",
    "approvals": "blerim",
    "administration": "agim",
    "policy": "arta",
    "audit": "jelena",
}
"""Who calls the addresses of a tag: somebody to whom most of them answer 200."""


def document(site: Site) -> dict[str, Any]:
    """Return the document as served."""
    answer = site.out().get("/api/openapi.json")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json
    return found


def names_of(world: World) -> dict[str, str]:
    """Return a real name for each variable part of a path."""
    filed = world.filed(entitlement="releaser")
    granted = world.filed().grant
    assert granted is not None
    passkey = world.current("arta").passkey
    world.broker.checkpoints.make()
    with world.broker.read() as view:
        event = view.first(select(Event).order_by(Event.idx))
    assert event is not None
    return {
        "request_id": filed.request.id,
        "grant_id": granted.id,
        "passkey_id": passkey.id,
        "event_id": event.id,
        "change_id": filed.request.id,
    }


def test_every_address_of_the_api_is_in_the_document(site: Site) -> None:
    marked = document(site)["paths"]
    for rule in site.app.url_map.iter_rules():
        if rule.rule.startswith("/api/") and rule.rule != "/api/openapi.json":
            path = re.sub(r"<(?:[^:<>]+:)?(\w+)>", r"{\1}", rule.rule)
            for method in rule.methods - {"HEAD", "OPTIONS"}:
                assert method.lower() in marked[path], f"{method} {path}"


def test_the_document_is_openapi_3_1_and_every_name_in_it_is_used_once(site: Site) -> None:
    found = document(site)
    assert found["openapi"].startswith("3.1.")
    schemathesis.openapi.from_dict(found).validate()
    names = [operation["operationId"] for path in found["paths"].values() for operation in path.values()]
    assert len(names) == len(set(names))
    tags = {tag for path in found["paths"].values() for operation in path.values() for tag in operation["tags"]}
    assert tags == set(ROLE) == {tag["name"] for tag in found["tags"]}


def test_the_document_says_who_needs_a_session_and_what_is_refused(site: Site) -> None:
    paths = document(site)["paths"]
    assert paths["/api/sign-in/begin"]["post"]["security"] == []
    filing = paths["/api/requests/complete"]["post"]
    assert filing["security"] == [{"session": []}]
    assert set(filing["responses"]) == {"200", "400", "401", "403", "404", "409", "410", "413", "422", "429", "503"}
    assert "Retry-After" in filing["responses"]["429"]["headers"]
    for path in paths.values():
        for operation in path.values():
            for status, response in operation["responses"].items():
                wanted = "application/json" if status == "200" else "application/problem+json"
                assert list(response["content"]) == [wanted]


def operations(site: Site, tag: str) -> Iterator[Any]:
    """Give the operations of a tag, as schemathesis reads them."""
    schema = schemathesis.openapi.from_dict(document(site))
    schema.app = site.app
    for found in schema.get_all_operations():
        operation = found.ok()
        if tag in operation.tags:
            yield operation


@pytest.mark.covers("R42", "R66")
@pytest.mark.parametrize("tag", sorted(ROLE))
def test_the_api_answers_as_its_document_says_whatever_is_sent(site: Site, tag: str) -> None:
    names = names_of(site.world)
    seen: set[int] = set()

    def call(case: Any, real: bool, signed_in: bool) -> None:
        if real:
            case.path_parameters = {name: names.get(name, names["request_id"]) for name in case.path_parameters or {}}
        case.cookies = {"__Host-jit": secret_of(site.world, ROLE[tag])} if signed_in else {}
        headers = {"Origin": ORIGIN, "Host": "localhost:8000"}
        seen.add(case.call_and_validate(base_url=ORIGIN, headers=headers, checks=CHECKS).status_code)

    for operation in operations(site, tag):
        strategies = {"case": operation.as_strategy(), "real": st.booleans(), "signed_in": SIGNED_IN}
        BOUNDED(given(**strategies)(call))()
    assert 200 in seen


def secret_of(world: World, key: str) -> str:
    """Return a live session's secret, or that of one that died of what was called."""
    try:
        return world.secrets[world.current(key).session.id]
    except AssertionError:  # a hold was placed on this person or on everything: signing in is refused now
        return next(iter(world.secrets.values()))


def test_a_view_that_reads_another_shape_than_it_declares_is_a_defect_that_is_found(site: Site) -> None:
    view = site.app.view_functions["api.sign_in_begin"]
    declared = operation_of(view)
    assert declared is not None
    view.jitaccess_operation = replace(declared, takes=Token)
    assert site.post("/api/sign-in/begin").status_code == 500
    view.jitaccess_operation = declared
    assert site.post("/api/sign-in/begin").status_code == 200


@pytest.mark.covers("R66")
def test_text_that_no_database_keeps_is_refused_before_any_work(site: Site) -> None:
    site.as_("agim")
    assert site.get("/api/requests/a%00b").status_code == 404
    assert site.get("/api/requests/" + "a" * 500).status_code == 404
    assert site.get("/api/policy/explain?target=a%00b").status_code == 400
    assert site.get("/api/policy/explain?target=a&target=b").status_code == 400
    assert site.get("/api/policy/explain?to=a").status_code == 400
    assert site.post("/api/holds", {"kind": "person", "subject_id": "a\0b"}).status_code == 400


def test_a_method_that_is_not_taken_is_refused_with_the_ones_that_are(site: Site) -> None:
    answer = site.as_("arta").get("/api/requests/begin/x")
    assert answer.status_code == 404
    answer = site.post("/api/me")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")
    assert answer.mimetype == "application/problem+json"
