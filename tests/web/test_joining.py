"""Can an administrator register a client with a signature and see its secret once, and do the snippets say what the examples say?"""

import json
import re
import shlex
from collections.abc import Mapping
from html import unescape
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from flask import Flask
from joserfc.jwk import ECKey

from jitaccess.broker.clients import AuthMethod, ClientFacts, registered
from jitaccess.broker.joining import Found, Outcome, Step
from jitaccess.connectors import config_models
from jitaccess.policy.evaluate import TargetFacts
from jitaccess.policy.load import load
from jitaccess.sdk.dev.commands import check
from jitaccess.web.joining import SEEN, Snippet, policy_snippet, snippets, told_of
from tests.support.shipped import files
from tests.support.sources import ROOT
from tests.support.world import ORIGIN
from tests.web.conftest import Site

JOIN = "/targets/treasury/join"
CHECK = "/targets/treasury/clients/check"
OIDC = {"door": "oidc", "name": "Payments", "redirect_uris": "https://pay.example/callback"}
PROXY = {"door": "proxy", "name": "Payments", "origin": "https://pay.example"}


def text(site: Site, path: str) -> str:
    answer = site.get(path)
    assert answer.status_code == 200, path
    return answer.get_data(as_text=True)


def body_of(page: str) -> dict[str, Any]:
    """Return what a check page lets sign."""
    found = re.search(r'class="body">(.+?)</script>', page)
    assert found is not None
    once = json.loads(found[1])
    body: dict[str, Any] = json.loads(once)
    return body


def client_of(site: Site, name: str) -> ClientFacts:
    with site.world.broker.read() as view:
        return next(one for one in registered(view).values() if one.name == name)


@pytest.mark.parametrize("path", [JOIN, "/new-target"])
def test_only_administrators_see_how_a_system_joins(site: Site, path: str) -> None:
    for key in ("arta", "blerim", "jelena"):
        assert site.as_(key).get(path).status_code == 403, key
    text(site.as_("agim"), path)


def test_only_administrators_register_and_switch_off(site: Site) -> None:
    site.as_("blerim")
    assert site.form(CHECK, **OIDC).status_code == 403
    assert site.form("/targets/treasury/clients/x/disable").status_code == 403
    payload = {"name": "Payments", "redirect_uris": ["https://pay.example/callback"]}
    begun = site.post("/api/changes/begin", {"kind": "client.add", "subject": "treasury", "payload": payload})
    assert begun.status_code == 403


@pytest.mark.covers("R15", "R37")
def test_a_client_is_registered_as_shown_and_signed_and_its_secret_is_seen_once(site: Site) -> None:
    site.as_("agim")
    given = OIDC | {
        "redirect_uris": "https://pay.example/callback\r\nhttps://pay.example/again\r\n",
        "initiate_login_uri": "https://pay.example/start",
        "logout_uri": "https://pay.example/logged-out",
        "post_logout_redirect_uris": "https://pay.example/",
    }
    page = site.form(CHECK, **given).get_data(as_text=True)
    for part in ("https://pay.example/callback", "https://pay.example/again", "https://pay.example/logged-out"):
        assert part in page
    assert "client_secret_basic" in page
    done = site.ceremony("agim", "/api/changes", body_of(page))
    assert done.status_code == 200, done.text
    assert done.json is not None
    shown = dict(line.split(" ") for line in done.json["shown"].splitlines())
    client = client_of(site, "Payments")
    assert client.id == shown["client_id"]
    assert client.knows_secret(shown["client_secret"])
    assert client.target == "treasury"
    assert client.redirect_uris == ("https://pay.example/callback", "https://pay.example/again")
    assert client.backchannel_logout_uri == "https://pay.example/logged-out"
    assert client.post_logout_redirect_uris == ("https://pay.example/",)
    after = text(site, JOIN)
    assert client.id in after
    assert shown["client_secret"] not in after


def test_a_client_with_a_key_of_its_own_gets_no_secret(site: Site) -> None:
    key = ECKey.generate_key("P-256", {"kid": "pay-1"})
    jwks = json.dumps({"keys": [key.as_dict(private=False) | {"kid": "pay-1"}]})
    page = site.as_("agim").form(CHECK, **OIDC, jwks=jwks).get_data(as_text=True)
    assert "private_key_jwt: pay-1" in page
    done = site.ceremony("agim", "/api/changes", body_of(page))
    assert done.json is not None
    assert "client_secret" not in done.json["shown"]
    assert client_of(site, "Payments").method is AuthMethod.PRIVATE_KEY_JWT


def test_a_proxied_application_is_registered_by_its_address_once(site: Site) -> None:
    assert "Register it above first" in text(site.as_("agim"), JOIN)
    page = site.form(CHECK, **PROXY).get_data(as_text=True)
    body = body_of(page)
    assert site.ceremony("agim", "/api/changes", body).status_code == 200
    assert client_of(site, "Payments").proxied_origin == "https://pay.example"
    assert "server_name pay.example;" in text(site, JOIN)
    assert "Register it above first" not in text(site, JOIN)
    assert site.ceremony("agim", "/api/changes", body).status_code == 409


PRIVATE = json.dumps({"keys": [ECKey.generate_key("P-256", {"kid": "x"}).as_dict(private=True)]})


@pytest.mark.covers("R37")
@pytest.mark.parametrize(
    ("given", "words"),
    [
        (OIDC | {"name": ""}, "The name must be"),
        (OIDC | {"redirect_uris": ""}, "one to ten different"),
        (OIDC | {"redirect_uris": "http://pay.example/callback"}, "must be a full https address"),
        (OIDC | {"redirect_uris": "https://pay.example/#x"}, "must be a full https address"),
        (OIDC | {"logout_uri": "ftp://pay.example"}, "must be a full https address"),
        (OIDC | {"jwks": "no"}, "not JSON"),
        (OIDC | {"jwks": "[]"}, "not JSON"),
        (OIDC | {"jwks": '{"keys": []}'}, "P-256 signing keys"),
        (OIDC | {"jwks": PRIVATE}, "Give the public keys only"),
        (PROXY | {"origin": "https://pay.example/app"}, "scheme, host and port only"),
        (PROXY | {"origin": "https://pay.example:443"}, "Leave out the port"),
        (PROXY | {"origin": "http://localhost:80"}, "Leave out the port"),
        (PROXY | {"origin": "https://pay.example:"}, "The host must be a name"),
        (PROXY | {"origin": "https://pay.example."}, "The host must be a name"),
        (PROXY | {"origin": "https://my_app.example"}, "The host must be a name"),
        (PROXY | {"origin": "http://[::1]:8081"}, "The host must be a name"),
        (PROXY | {"origin": "https://a;return${x}.example"}, "The host must be a name"),
    ],
)
def test_what_cannot_be_registered_is_told_and_the_form_kept(site: Site, given: dict[str, str], words: str) -> None:
    answer = site.as_("agim").form(CHECK, **given)
    page = unescape(answer.get_data(as_text=True))
    assert answer.status_code == 422
    assert words in page
    assert given["name"] in page


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("client.add", {"name": "x", "redirect_uris": ["http://evil.example/"]}),
        ("client.add", {"name": "x", "redirect_uris": ["https://a.example/"], "secret": "mine"}),
        ("client.add", {"name": "x", "redirect_uris": ["https://a.example/"], "behind_proxy": True}),
        ("client.add_proxied", {"name": "x", "origin": "https://a.example/path"}),
    ],
)
def test_the_same_holds_past_the_page(site: Site, kind: str, payload: dict[str, Any]) -> None:
    answer = site.as_("agim").ceremony(
        "agim", "/api/changes", {"kind": kind, "subject": "treasury", "payload": payload}
    )
    assert answer.status_code == 400, answer.text
    other = {"kind": kind, "subject": "nothing", "payload": {"name": "x"} | {"redirect_uris": ["https://a.example/"]}}
    if kind == "client.add":
        assert site.ceremony("agim", "/api/changes", other).status_code == 400


def test_a_client_is_switched_off_with_one_tap(site: Site) -> None:
    site.as_("agim").ceremony("agim", "/api/changes", body_of(site.form(CHECK, **PROXY).get_data(as_text=True)))
    client = client_of(site, "Payments")
    assert site.form(f"/targets/payroll/clients/{client.id}/disable").status_code == 404
    assert site.form(f"/targets/treasury/clients/{client.id}/disable").status_code == 303
    with site.world.broker.read() as view:
        assert client.id not in registered(view)
    assert "switched off" in text(site, JOIN)


def test_a_system_that_the_broker_makes_credentials_on_needs_nothing(site: Site) -> None:
    site.as_("agim")
    assert site.get("/targets/nothing/join").status_code == 404


# ---------------------------------------------------------------- the test


def test_an_administrator_tests_a_system_and_sees_what_was_found(site: Site) -> None:
    assert site.as_("blerim").form("/targets/registry/test").status_code == 403
    site.as_("agim")
    assert "Not tested yet." in text(site, "/targets/registry/join")
    assert site.form("/targets/registry/test").headers["Location"] == "/targets/registry/join#tested"
    page = unescape(text(site, "/targets/registry/join"))
    assert re.search(r"Last tested .+ by Agim", page)
    assert "No client is registered yet." in page
    # This broker is not served, so its own address does not answer: whoever tests is told, and nothing breaks.
    assert '<p class="finding act"><strong>Do something:</strong> The broker\'s own address does not answer' in page
    assert site.form("/targets/nothing/test").status_code == 404


def test_every_finding_has_words() -> None:
    silent = {Outcome.NOT_ALLOWED}
    for step in Step:
        outcomes = {outcome for known, outcome in SEEN if known is step}
        assert outcomes
        assert not outcomes & silent
    assert "forward_auth.proxies" in told_of(Found(Step.PROXY, Outcome.WRONG, "https://a.example", "403"))
    assert "led to sign in" in told_of(Found(Step.PROXY, Outcome.WRONG, "https://a.example", "302"))
    assert "with your browser" in told_of(Found(Step.LOGOUT, Outcome.NOT_ALLOWED))


# ---------------------------------------------------------------- the snippets


def target(audience: str = "https://pay.example") -> TargetFacts:
    policy = load({"p.yaml": policy_snippet("mof", "staff").text.replace("https://my-system.example", audience)
                   + "\ninstitutions:\n  mof:\n    name: M\n"}, register=None, connectors=config_models())  # fmt: skip
    return policy.targets["my-system"]


def client(method: AuthMethod, uri: str, *, id_: str = "CL1") -> ClientFacts:
    return ClientFacts(id_, "my-system", "Pay", (uri,), method, None, None, None, "https://pay.example/out", ())


def rendered(
    site: Site, *known: ClientFacts, issuer: str = ORIGIN, audience: str = "https://pay.example"
) -> Mapping[str, str]:
    with site.app.test_request_context("/", base_url=ORIGIN):
        found = snippets(issuer, target(audience), list(known))
    return {one.name: one.text for several in found.values() for one in several}


def test_nginx_caddy_and_node_examples_are_what_the_page_gives_to_paste() -> None:
    for path, text in files().items():
        assert path.read_text() == text, f"{path.name}: python -m tests.support.shipped"


def test_over_tls_nginx_checks_whom_it_asks(site: Site) -> None:
    behind = client(AuthMethod.FORWARD_AUTH, "https://pay.example/.jitaccess/callback")
    found = rendered(site, behind, issuer="https://jit.example")
    assert "proxy_ssl_verify on;" in found["jit-question.conf"]
    assert "listen 443 ssl;\n    server_name pay.example;" in found["nginx.conf"]
    assert "proxy_pass https://jit.example/forward-auth/CL1;" in found["nginx.conf"]
    assert "forward_auth https://jit.example {" in found["Caddyfile"]
    assert "proxy_ssl_verify" not in rendered(site, behind, issuer="http://localhost:8000")["jit-question.conf"]


@pytest.mark.covers("R41")
def test_the_address_that_is_judged_is_written_in_the_configuration_and_nowhere_taken_from_a_client(site: Site) -> None:
    found = rendered(site, client(AuthMethod.FORWARD_AUTH, "https://pay.example/.jitaccess/callback"))
    for name in ("nginx.conf", "jit-question.conf", "Caddyfile"):
        assert not re.search(r"\$(http_host|host|scheme|server_name)\b|\{(host|hostport|scheme)\}", found[name]), name
    assert "set $jit_host pay.example;" in found["nginx.conf"]
    assert "header_up X-Forwarded-Host pay.example" in found["Caddyfile"]


def test_everything_is_filled_with_the_brokers_own_names(site: Site) -> None:
    found = rendered(site, client(AuthMethod.CLIENT_SECRET_BASIC, "https://pay.example/callback"))
    assert found["client"].splitlines()[0] == f"issuer                       {ORIGIN}"
    assert "https://pay.example/out" in found["client"]
    assert f"{ORIGIN}/oidc/introspect" in found["introspection.sh"]
    assert "--audience https://pay.example --target my-system --entitlement viewer" in found["check.sh"]
    page = unescape(text(site.as_("agim"), JOIN))
    shown = re.findall(r'<pre [^>]*data-snippet="([^"]+)"', page)
    assert shown == [*found]
    assert "http://127.0.0.1:8001" in page
    assert not re.search(r"{{|{%", page)


def test_every_client_of_a_system_gets_the_texts_that_name_it(site: Site) -> None:
    one, two = (
        client(AuthMethod.FORWARD_AUTH, f"https://{name}.example/.jitaccess/callback", id_=name)
        for name in ("pay", "old")
    )
    signs, also = (client(AuthMethod.CLIENT_SECRET_BASIC, "https://x.example/cb", id_=name) for name in ("CL3", "CL4"))
    with site.app.test_request_context("/", base_url=ORIGIN):
        found = snippets(ORIGIN, target(), [one, signs, two, also])
    for door, name in (("nginx", "nginx.conf"), ("caddy", "Caddyfile")):
        texts = {snippet.about: snippet.text for snippet in found[door] if snippet.name == name}
        assert [*texts] == ["https://pay.example", "https://old.example"]
        for id_, text_ in zip(("pay", "old"), texts.values(), strict=True):
            assert (f"/forward-auth/{id_}" in text_, f"{id_}.example" in text_) == (True, True)
            assert "CLIENT_ID" not in text_
    assert [snippet.name for snippet in found["nginx"]].count("jit-question.conf") == 1
    assert [("CL3" in one.text, "CL4" in one.text) for one in found["client"]] == [(True, False), (False, True)]
    for origin in ("https://pay.example", "https://old.example"):
        body = body_of(site.as_("agim").form(CHECK, **PROXY | {"origin": origin}).get_data(as_text=True))
        assert site.ceremony("agim", "/api/changes", body).status_code == 200
    page = text(site, JOIN)
    regions = re.findall(r'role="region" aria-label="([^"]+)"', page)
    assert len(set(regions)) == len(regions)
    assert {"nginx.conf, https://pay.example", "nginx.conf, https://old.example"} <= set(regions)


@pytest.mark.parametrize(
    ("methods", "aims"),
    [
        ([], [("https://pay.example/", False)]),
        ([AuthMethod.CLIENT_SECRET_BASIC], [("https://pay.example/", False)]),
        ([AuthMethod.FORWARD_AUTH], [("http://127.0.0.1:8090/", True)]),
        (
            [AuthMethod.FORWARD_AUTH, AuthMethod.PRIVATE_KEY_JWT],
            [("https://pay.example/", False), ("http://127.0.0.1:8090/", True)],
        ),
    ],
)
def test_the_check_to_paste_sends_tokens_where_they_are_read(
    site: Site, methods: list[AuthMethod], aims: list[tuple[str, bool]]
) -> None:
    known = [client(method, "https://proxy.example/.jitaccess/callback") for method in methods]
    lines = [line for line in rendered(site, *known)["check.sh"].splitlines() if not line.startswith("#")]
    found = []
    for line in lines:
        words = shlex.split(line)
        assert words[:3] == ["jitaccess", "dev", "check"]
        with check.make_context("check", words[3:]) as context:  # every option is one that the command has
            found.append((context.params["url"], context.params["proxied"]))
            assert context.params["audience"] == "https://pay.example"
    assert found == aims


@pytest.mark.parametrize("name", ["wsgi.py", "asgi.py", "flask.py", "fastapi.py"])
def test_the_python_snippets_run_and_let_nobody_in_without_a_token(site: Site, name: str) -> None:
    inner = FastAPI()
    flask = Flask("snippet")
    scope: dict[str, Any] = {"application": flask.wsgi_app, "app": flask if name == "flask.py" else inner}
    exec(compile(rendered(site)[name], name, "exec"), scope)
    if name in ("wsgi.py", "flask.py"):
        if name == "wsgi.py":
            flask.wsgi_app = scope["application"]  # type: ignore[method-assign]
        answer = flask.test_client().get("/guarded")
        status, challenge = answer.status_code, answer.headers["WWW-Authenticate"]
    else:
        got = TestClient(scope["app"]).get("/guarded")
        status, challenge = got.status_code, got.headers["WWW-Authenticate"]
    assert (status, challenge[:7]) == (401, "Bearer ")


def test_the_django_snippet_is_python(site: Site) -> None:
    scope: dict[str, Any] = {"MIDDLEWARE": ["x"]}
    exec(compile(rendered(site)["django.py"], "django.py", "exec"), scope)
    assert scope["MIDDLEWARE"] == ["jitaccess.sdk.django.JitDjangoMiddleware", "x"]


def test_a_new_system_for_the_policy_folder_loads(site: Site) -> None:
    page = unescape(text(site.as_("agim"), "/new-target"))
    found = re.search(r"<code>(# one more system.+?)</code></pre>", page, re.DOTALL)
    assert found is not None
    snippet = Snippet("x", found[1])
    texts = {file.name: file.read_text() for file in (ROOT / "policies").glob("*.yaml")} | {"x.yaml": snippet.text}
    assert "my-system" in load(texts, register=None, connectors=config_models()).targets
