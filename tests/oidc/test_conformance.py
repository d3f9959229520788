"""The OpenID conformance suite's modules for Basic OP and Config OP: which test here covers each, or why there is none.

The suite itself (Java, MongoDB, browsers) is not run. Its names are the checklist: `oidcc-basic-certification-test-plan` and
`oidcc-config-certification-test-plan`. This provider is no general-purpose OP: signing in takes a live grant and a passkey each time,
and ID tokens are signed with ES256 alone, so it could not be certified as Basic OP; the reasons stand here, one by one.
"""

import ast
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.oidc.conftest import Treasury, verifier_pair
from tests.support.world import ORIGIN

HERE = Path(__file__).parent
COVERED: dict[str, str] = {
    "oidcc-server": "test_code_flow.py::test_a_release_that_two_people_signed_becomes_a_token_for_exactly_that",
    "oidcc-response-type-missing": "test_conformance.py::test_a_request_without_response_type_goes_back_with_an_error",
    "oidcc-idtoken-signature": "test_conformance.py::test_the_id_token_is_signed_by_a_published_key_and_names_it",
    "oidcc-userinfo-get": "test_sign_in_rules.py::test_userinfo_says_who_it_is_while_the_access_lasts",
    "oidcc-userinfo-post-header": "test_sign_in_rules.py::test_userinfo_says_who_it_is_while_the_access_lasts",
    "oidcc-userinfo-post-body": "test_sign_in_rules.py::test_userinfo_says_who_it_is_while_the_access_lasts",
    "oidcc-ensure-request-without-nonce-succeeds-for-code-flow": "test_conformance.py::test_a_nonce_is_not_required",
    "oidcc-scope-profile": "test_sign_in_rules.py::test_userinfo_says_no_more_than_was_asked_for",
    "oidcc-scope-email": "test_conformance.py::test_scopes_that_are_not_known_are_left_out",
    "oidcc-scope-address": "test_conformance.py::test_scopes_that_are_not_known_are_left_out",
    "oidcc-scope-phone": "test_conformance.py::test_scopes_that_are_not_known_are_left_out",
    "oidcc-scope-all": "test_conformance.py::test_scopes_that_are_not_known_are_left_out",
    "oidcc-ensure-other-scope-order-succeeds": "test_conformance.py::test_scopes_that_are_not_known_are_left_out",
    "oidcc-display-page": "test_conformance.py::test_what_only_wishes_for_the_page_changes_nothing",
    "oidcc-display-popup": "test_conformance.py::test_what_only_wishes_for_the_page_changes_nothing",
    "oidcc-prompt-login": "test_sign_in_rules.py::test_each_opening_is_a_sign_in_of_its_own",
    "oidcc-prompt-none-not-logged-in": "test_sign_in_rules.py::test_prompt_none_is_answered_truly",
    "oidcc-max-age-1": "test_sign_in_rules.py::test_each_opening_is_a_sign_in_of_its_own",
    "oidcc-max-age-10000": "test_sign_in_rules.py::test_each_opening_is_a_sign_in_of_its_own",
    "oidcc-ensure-request-with-unknown-parameter-succeeds": (
        "test_conformance.py::test_what_only_wishes_for_the_page_changes_nothing"
    ),
    "oidcc-id-token-hint": "test_conformance.py::test_what_only_wishes_for_the_page_changes_nothing",
    "oidcc-login-hint": "test_code_flow.py::test_the_hint_puts_its_grant_first",
    "oidcc-ui-locales": "test_conformance.py::test_what_only_wishes_for_the_page_changes_nothing",
    "oidcc-claims-locales": "test_conformance.py::test_what_only_wishes_for_the_page_changes_nothing",
    "oidcc-ensure-request-with-acr-values-succeeds": (
        "test_sign_in_rules.py::test_what_a_target_asks_of_the_sign_in_is_met_or_refused"
    ),
    "oidcc-codereuse": "test_code_flow.py::test_a_code_used_twice_ends_what_came_from_it",
    "oidcc-codereuse-30seconds": "test_code_flow.py::test_a_code_used_twice_ends_what_came_from_it",
    "oidcc-ensure-registered-redirect-uri": (
        "test_code_flow.py::test_nothing_goes_to_an_address_that_is_not_registered"
    ),
    "oidcc-ensure-post-request-succeeds": (
        "test_sign_in_rules.py::test_a_posted_authorization_request_is_shown_like_any_other"
    ),
    "oidcc-request-uri-unsigned-supported-correctly-or-rejected-as-unsupported": (
        "test_code_flow.py::test_what_is_not_supported_goes_back_as_an_error"
    ),
    "oidcc-unsigned-request-object-supported-correctly-or-rejected-as-unsupported": (
        "test_code_flow.py::test_what_is_not_supported_goes_back_as_an_error"
    ),
    "oidcc-refresh-token": "test_code_flow.py::test_refresh_rotates_and_never_outlives_the_grant",
    "oidcc-ensure-request-with-valid-pkce-succeeds": (
        "test_code_flow.py::test_a_release_that_two_people_signed_becomes_a_token_for_exactly_that"
    ),
    "oidcc-discovery-endpoint-verification": "test_conformance.py::test_discovery_holds_what_a_client_needs",
}
NOT_SO: dict[str, str] = {
    "oidcc-idtoken-unsigned": "alg none is never offered or taken; the suite skips the module then.",
    "oidcc-prompt-none-logged-in": (
        "Opening access always takes a fresh passkey assertion (R15): prompt=none is answered with interaction_required."
    ),
    "oidcc-server-client-secret-post": (
        "A secret in the body reaches logs more easily; client_secret_basic and private_key_jwt only (R39)."
    ),
    "oidcc-claims-essential": "claims_parameter_supported is false; the suite skips the module then.",
    "oidcc-ensure-request-object-with-redirect-uri": (
        "Request objects are rejected as unsupported; the suite skips the module then."
    ),
}
BASIC_AND_CONFIG = 39
"""Modules of both plans."""


def test_each_module_is_covered_by_a_test_that_exists_or_has_its_reason() -> None:
    assert not set(COVERED) & set(NOT_SO)
    assert len(COVERED) + len(NOT_SO) == BASIC_AND_CONFIG
    for module, where in COVERED.items():
        file, _, name = where.partition("::")
        tree = ast.parse((HERE / file).read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, module
    assert all(reason.endswith(".") for reason in NOT_SO.values())


def test_a_request_without_response_type_goes_back_with_an_error(treasury: Treasury) -> None:
    answer = treasury.page("x" * 43, response_type=None)
    sent = parse_qs(urlsplit(answer.location).query)
    assert sent["error"][0] in ("invalid_request", "unsupported_response_type")
    assert sent["state"] == ["state-1"]


def test_the_id_token_is_signed_by_a_published_key_and_names_it(treasury: Treasury) -> None:
    tokens = treasury.tokens(treasury.grant())
    claims = treasury.verifier().verify_id_token(
        tokens["id_token"],
        client_id=treasury.credential.client_id,
        nonce="nonce-1",
        access_token=tokens["access_token"],
    )
    assert {"iss", "sub", "aud", "exp", "iat", "nonce", "at_hash", "auth_time", "acr", "amr", "sid"} <= set(claims)


def test_a_nonce_is_not_required(treasury: Treasury) -> None:
    grant = treasury.grant()
    verifier, challenge = verifier_pair()
    code = parse_qs(urlsplit(treasury.authorize(grant, challenge, nonce=None)).query)["code"][0]
    answer = treasury.redeem(code, verifier)
    assert answer.status_code == 200
    assert "id_token" in answer.json


@pytest.mark.parametrize(
    "scope", ["openid email", "address phone openid", "profile openid email address phone offline"]
)
def test_scopes_that_are_not_known_are_left_out(treasury: Treasury, scope: str) -> None:
    grant = treasury.grant()
    verifier, challenge = verifier_pair()
    code = parse_qs(urlsplit(treasury.authorize(grant, challenge, scope=scope)).query)["code"][0]
    tokens = treasury.redeem(code, verifier).json
    assert tokens["scope"] == ("openid profile" if "profile" in scope else "openid")
    assert "id_token" in tokens


@pytest.mark.parametrize(
    "wish",
    [
        {"display": "page"},
        {"display": "popup"},
        {"ui_locales": "sq sr-Latn"},
        {"claims_locales": "sq"},
        {"extra": "foobar"},
        {"id_token_hint": "eyJ" * 400},
        {"claims": '{"userinfo": {"name": null}}'},
        {"login_hint": "Çlirim"},
        {"login_hint": "x" * 2000},
        {"ui_locales": "sq\n"},
        {"state": '{"a": "b\\\\c"}'},
        {"nonce": '"n"'},
        {"prompt": "select_account consent"},
    ],
    ids=lambda wish: next(iter(wish)),
)
def test_what_only_wishes_for_the_page_changes_nothing(treasury: Treasury, wish: dict[str, str]) -> None:
    grant = treasury.grant()
    verifier, challenge = verifier_pair()
    assert treasury.page(challenge, **wish).status_code == 200
    code = parse_qs(urlsplit(treasury.authorize(grant, challenge, **wish)).query)["code"][0]
    assert treasury.redeem(code, verifier).status_code == 200


def test_state_comes_back_letter_by_letter(treasury: Treasury) -> None:
    state = '{"a": "b\\\\c", "d": [1, 2]}'
    _, challenge = verifier_pair()
    assert parse_qs(urlsplit(treasury.authorize(treasury.grant(), challenge, state=state)).query)["state"] == [state]
    assert parse_qs(urlsplit(treasury.page(challenge, state=state, prompt="none").location).query)["state"] == [state]


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        ({"request": "e" * 1500}, "request_not_supported"),
        ({"request_uri": "https://app.example/" + "r" * 1500}, "request_uri_not_supported"),
        ({"prompt": "create"}, "invalid_request"),
        ({"prompt": "login anything"}, "invalid_request"),
        ({"max_age": "-1"}, "invalid_request"),
    ],
)
def test_what_is_not_supported_goes_back_to_the_client_also_when_it_is_long(
    treasury: Treasury, sent: dict[str, str], error: str
) -> None:
    answer = treasury.page("x" * 43, **sent)
    found = parse_qs(urlsplit(answer.location).query)
    assert (found["error"], found["state"], found["iss"]) == ([error], ["state-1"], [ORIGIN])


def test_what_is_used_is_read_strictly_and_the_whole_is_bounded(treasury: Treasury) -> None:
    _, challenge = verifier_pair()
    for wrong in ({"state": "x" * 1025}, {"nonce": "é"}, {"scope": 'openid "x"'}, {"extra": "x" * 9000}):
        assert treasury.page(challenge, **wrong).status_code == 400, wrong
    twice = f"/oidc/authorize?{treasury.query(challenge)}"
    assert treasury.browser.get(f"{twice}&state=other", base_url=ORIGIN).status_code == 400
    assert treasury.browser.get(f"{twice}&extra=a&extra=b", base_url=ORIGIN).status_code == 200
    assert treasury.browser.get(twice + "".join(f"&x{n}=1" for n in range(60)), base_url=ORIGIN).status_code == 400


def test_the_id_token_names_a_person_only_where_the_profile_was_asked_for(treasury: Treasury) -> None:
    for scope, named in (("openid", False), ("openid profile", True)):
        verifier, challenge = verifier_pair()
        code = parse_qs(urlsplit(treasury.authorize(treasury.grant(), challenge, scope=scope)).query)["code"][0]
        tokens = treasury.redeem(code, verifier).json
        claims = treasury.verifier().verify_id_token(
            tokens["id_token"], client_id=treasury.credential.client_id, nonce="nonce-1"
        )
        assert ("name" in claims) is named, scope


def test_the_keys_may_be_kept_for_as_long_as_the_reference_says(treasury: Treasury) -> None:
    answer = treasury.app.test_client().get("/.well-known/jwks.json", base_url=ORIGIN)
    assert answer.headers["Cache-Control"] == "public, max-age=60"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Set-Cookie" not in answer.headers


def test_discovery_holds_what_a_client_needs(treasury: Treasury) -> None:
    answer = treasury.app.test_client().get("/.well-known/openid-configuration", base_url=ORIGIN)
    assert answer.content_type == "application/json"
    found = answer.json
    required = {
        "issuer", "authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri", "scopes_supported",
        "response_types_supported", "subject_types_supported", "id_token_signing_alg_values_supported",
        "claims_supported", "end_session_endpoint",
    }  # fmt: skip
    assert required <= set(found)
    assert found["issuer"] == ORIGIN
    assert "openid" in found["scopes_supported"]
    assert found["backchannel_logout_session_supported"] is True
    # OpenID Connect Discovery section 3 wants RS256 in this list; one algorithm is the point (R32), and clients of today know ES256.
    assert found["id_token_signing_alg_values_supported"] == ["ES256"]
