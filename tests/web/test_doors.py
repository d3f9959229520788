"""Who may come in, and in what dress does everything leave?"""

import re
from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine, inspect, text

from jitaccess.store.tables import EVIDENCE_FREE
from tests.support.world import ORIGIN
from tests.web.conftest import Site

HOSTILE = (
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": f"{ORIGIN}.evil.example"},
    {"Origin": "http://localhost:8001"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"},
    {"Origin": "https://evil.example", "X-Forwarded-Host": "evil.example"},
    {"X-Forwarded-Host": "evil.example"},
    {},
)


def paths(site: Site, method: str) -> Iterator[tuple[str, bool]]:
    """Give every route of a method with made-up arguments, and whether it authenticates clients without cookies."""
    for rule in site.app.url_map.iter_rules():
        if method in rule.methods:
            view = site.app.view_functions[rule.endpoint]
            yield re.sub(r"<[^>]+>", "x", rule.rule), getattr(view, "without_cookie", False)


def counts(site: Site) -> dict[str, int]:
    engine = create_engine(site.world.broker.settings.store.url)
    with engine.connect() as connection:
        found = {
            name: connection.scalar(text(f"SELECT count(*) FROM {name}")) for name in inspect(engine).get_table_names()
        }
    engine.dispose()
    return found


def events(site: Site) -> list[str]:
    engine = create_engine(site.world.broker.settings.store.url)
    with engine.connect() as connection:
        found = list(connection.scalars(text("SELECT type FROM event ORDER BY idx")))
    engine.dispose()
    return found


@pytest.mark.covers("R16", "TRAP-12")
@pytest.mark.parametrize("headers", HOSTILE, ids=str)
def test_every_change_from_another_site_is_refused_at_the_door(site: Site, headers: dict[str, str]) -> None:
    site.as_("arta")
    before = counts(site)
    tried = 0
    for path, by_itself in paths(site, "POST"):
        if by_itself:
            continue
        tried += 1
        answer = site.client.post(path, base_url=ORIGIN, json={}, headers=headers)
        assert answer.status_code == 403, path
    assert tried > 25
    assert counts(site) == before


def test_only_the_clients_own_endpoints_never_look_at_cookies(site: Site) -> None:
    assert {path for path, by_itself in paths(site, "POST") if by_itself} == {
        "/oidc/token",
        "/oidc/introspect",
        "/oidc/revoke",
        "/oidc/userinfo",  # a bearer token
        "/oidc/authorize",  # only leads to the page, which asks
        "/oidc/logout",
        "/forward-auth/x",  # a proxied application's own cookie, which is nothing anywhere else
        "/proxied/x/start",
        "/proxied/x/sign-out",
        "/hosts/x/exchange",  # signed with the host's own key
    }


@pytest.mark.covers("R16", "TRAP-11")
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_looking_changes_nothing(site: Site, method: str) -> None:
    filed = site.world.filed(entitlement="releaser")
    for key in ("arta", "blerim", "agim"):
        site.as_(key)
        before = counts(site)
        for path, _ in paths(site, "GET"):
            real = path.replace("/x", f"/{filed.request.id}", 1)
            site.client.open(real, method=method, base_url=ORIGIN, headers={"Purpose": "prefetch"})
        after = counts(site)
        changed = {name for name in before if before[name] != after[name]} - EVIDENCE_FREE
        assert changed == set(), "only reading the log leaves an event"
        told = events(site)[before["event"] :]
        assert set(told) == ({"admin.read"} if key == "agim" else set()), "what is told is who read the log"
    assert site.world.filed(inputs={}).request.state == "APPROVED"


@pytest.mark.covers("R17")
@pytest.mark.parametrize(
    "path", ["/", "/sign-in", "/request", "/approvals", "/policy", "/passkeys", "/nowhere", "/api/me", "/livez"]
)
@pytest.mark.parametrize("signed_in", [True, False])
def test_everything_leaves_with_the_headers(site: Site, path: str, signed_in: bool) -> None:
    if signed_in:
        site.as_("arta")
    headers = site.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert re.search(r"script-src 'nonce-[\w-]{40,}' 'strict-dynamic'", policy)
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store"
    assert "publickey-credentials-get=(self)" in headers["Permissions-Policy"]


@pytest.mark.covers("R17")
def test_pages_hold_no_inline_script_or_style_and_every_script_has_the_nonce(site: Site) -> None:
    site.as_("agim")
    for path in ("/", "/request", "/approvals", "/people", "/policy", "/log", "/passkeys"):
        answer = site.get(path)
        nonce = re.search(r"'nonce-([\w-]+)'", answer.headers["Content-Security-Policy"])
        assert nonce is not None
        html = answer.get_data(as_text=True)
        assert not re.search(r"\son\w+=|\sstyle=|<style|javascript:", html), path
        for tag in re.findall(r"<script[^>]*>", html):
            assert f'nonce="{nonce[1]}"' in tag, path


def test_two_answers_have_two_nonces(site: Site) -> None:
    first, second = (site.get("/sign-in").headers["Content-Security-Policy"] for _ in range(2))
    assert first != second


def test_another_host_is_refused(site: Site) -> None:
    assert site.client.get("/sign-in", base_url="http://evil.example").status_code == 400
    assert site.client.get("/sign-in", base_url=ORIGIN, headers={"X-Forwarded-Host": "evil.example"}).status_code == 200


def test_a_body_that_is_too_large_is_refused(site: Site) -> None:
    answer = site.as_("arta").client.post(
        "/api/requests/begin", base_url=ORIGIN, data=b"x" * 300_000, content_type="application/json",
        headers={"Origin": ORIGIN},
    )  # fmt: skip
    assert answer.status_code == 413
    assert answer.mimetype == "application/problem+json"


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"challenge_id": 1, "response": {}}', b'{"extra": 1}', b"\xff"])
def test_bad_bodies_get_a_problem_and_never_a_traceback(site: Site, body: bytes) -> None:
    site.as_("arta")
    for path in ("/api/sign-in/complete", "/api/requests/begin", "/api/requests/complete", "/api/holds"):
        answer = site.client.post(
            path, base_url=ORIGIN, data=body, content_type="application/json", headers={"Origin": ORIGIN}
        )
        assert 400 <= answer.status_code < 500, (path, answer.status_code)
        assert answer.mimetype == "application/problem+json"
        assert {"type", "title", "status", "detail", "code"} <= set(answer.json)


@pytest.mark.covers("R15")
def test_with_the_cookie_alone_nothing_can_be_approved_opened_enrolled_or_configured(site: Site) -> None:
    filed = site.world.filed(entitlement="releaser")
    site.as_("blerim")
    fake = {"challenge_id": "0" * 26, "response": {"id": "AAAA", "response": {}}}
    for path in (
        "/api/requests/complete",
        f"/api/requests/{filed.request.id}/approval/complete",
        "/api/passkeys/add/confirm",
        "/api/changes/complete",
        "/api/step-up/complete",
        "/oidc/authorize/complete",
    ):
        answer = site.post(path, fake)
        assert answer.status_code in (403, 404), (path, answer.status_code, answer.text)
    with site.world.broker.read() as view:
        assert view.rows(text("SELECT count(*) FROM approval")).scalar() == 0


@pytest.mark.covers("R15", "R3")
def test_an_assertion_for_one_act_does_no_other(site: Site) -> None:
    filed = site.world.filed(entitlement="releaser")
    site.as_("blerim")
    begun = site.post("/api/step-up/begin").json
    answer = site.world.passkey("blerim").get(begun["options"])
    stolen = site.post(
        f"/api/requests/{filed.request.id}/approval/complete",
        {"challenge_id": begun["challenge_id"], "response": answer},
    )
    assert (stolen.status_code, stolen.json["code"]) == (403, "challenge_of_another_purpose")


@pytest.mark.covers("R13")
def test_the_session_cookie_is_bound_hidden_and_replaced_at_step_up(site: Site) -> None:
    site.out()
    signed_in = site.ceremony("arta", "/api/sign-in")
    cookie = next(c for c in signed_in.headers.getlist("Set-Cookie") if c.startswith("__Host-jit="))
    assert {"Secure", "HttpOnly", "Path=/"} <= set(cookie.split("; "))
    assert "SameSite=Lax" in cookie
    assert "Domain" not in cookie
    old = site.client.get_cookie("__Host-jit").value
    assert site.ceremony("arta", "/api/step-up").status_code == 200
    assert site.client.get_cookie("__Host-jit").value != old
    site.client.set_cookie("__Host-jit", old, domain="localhost", secure=True)
    assert site.get("/api/me").status_code == 401


@pytest.mark.covers("R11")
def test_an_unknown_passkey_and_a_wrong_signature_get_the_same_answer(site: Site) -> None:
    def answer(damage: str) -> tuple[int, dict[str, object]]:
        begun = site.post("/api/sign-in/begin").json
        response = site.world.passkey("arta").get(begun["options"])
        if damage == "unknown":
            response["id"] = response["rawId"] = "AAAA"
        else:
            response["response"]["signature"] = site.world.passkey("blerim").get(begun["options"])["response"][
                "signature"
            ]
        found = site.post("/api/sign-in/complete", {"challenge_id": begun["challenge_id"], "response": response})
        return found.status_code, found.json

    assert answer("unknown") == answer("signature")
    assert answer("unknown")[1]["code"] == "sign_in_failed"


def test_sign_in_attempts_of_an_address_are_limited(site: Site) -> None:
    codes = [site.post("/api/sign-in/begin").status_code for _ in range(62)]
    assert codes[:60] == [200] * 60
    assert codes[60:] == [429, 429]


def test_pages_for_others_send_to_sign_in_and_back_to_our_own_paths_only(site: Site) -> None:
    answer = site.get("/approvals/abc?x=1")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/sign-in?next=%2Fapprovals%2Fabc%3Fx%3D1")
    site.as_("arta")
    for bad in ("https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"):
        assert site.get(f"/sign-in?next={bad}").headers["Location"] == "/"
    assert site.get("/sign-in?next=/request").headers["Location"] == "/request"
