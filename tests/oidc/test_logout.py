"""Is every application told of every end, exactly once it can be reached, and does signing out end what it says and nothing else?"""

import ipaddress
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode

import pytest
from sqlalchemy import select
from werkzeug.test import TestResponse

from jitaccess.broker import revoke
from jitaccess.broker.hold import HoldKind, place
from jitaccess.broker.logout import LogoutSender, deliveries
from jitaccess.broker.status import ended_now, served
from jitaccess.domain.events import EventType
from jitaccess.domain.values import LOCAL, SYSTEM
from jitaccess.errors import JitError
from jitaccess.oidc.clients import add_client, disable_client
from jitaccess.outbound.guard import NotDelivered, Reach, post_form
from jitaccess.sdk.keys import static_keys
from jitaccess.sdk.signed import Signed
from jitaccess.store.db import Tx
from jitaccess.store.tables import LogoutNotice, Token, WebSession
from tests.oidc.conftest import CALLBACK, Treasury, open_treasury
from tests.support.world import ORIGIN, World

GOODBYE = "http://127.0.0.1:8001/goodbye"


@dataclass(slots=True)
class Application:
    """An application's own endpoint for logout tokens."""

    url: str = ""
    status: int = 200
    got: list[dict[str, Any]] = field(default_factory=list)
    raw: list[str] = field(default_factory=list)


@pytest.fixture
def application() -> Iterator[Application]:
    """Give an application on a real socket."""
    found = Application()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            found.raw.append(parse_qs(body)["logout_token"][0])
            self.send_response(found.status)
            self.send_header("Content-Length", "0")
            if found.status in (301, 302, 307, 308):
                self.send_header("Location", found.url + "elsewhere")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_address[1]}/logout"
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass(slots=True)
class Listening:
    """A treasury that wants to be told."""

    treasury: Treasury
    application: Application
    sender: LogoutSender

    def deliver(self) -> list[dict[str, Any]]:
        """Send what is due; return the claims of the logout tokens that arrived, verified."""
        before = len(self.application.raw)
        self.sender.run(wait_s=30)
        keys = static_keys(self.treasury.world.broker.keyring.jwks())
        return [Signed(keys).claims(text, frozenset({"logout+jwt"})) for text in self.application.raw[before:]]

    def sid(self, tokens: dict[str, Any]) -> str:
        """Return the sign-in that an ID token names."""
        keys = static_keys(self.treasury.world.broker.keyring.jwks())
        found: str = Signed(keys).claims(tokens["id_token"], frozenset({"JWT"}))["sid"]
        return found

    def notices(self) -> list[LogoutNotice]:
        """Return what became of each."""
        with self.treasury.world.broker.read() as view:
            return deliveries(view)


def listen(world: World, application: Application) -> Iterator[Listening]:
    """Register the treasury with a logout address."""
    treasury = open_treasury(world)
    with world.broker.begin(LOCAL) as tx:
        client, secret = add_client(
            tx,
            target="treasury",
            name="Treasury payments",
            redirect_uris=[CALLBACK],
            backchannel_logout_uri=application.url,
            post_logout_redirect_uris=[GOODBYE, f"{GOODBYE}?a=1"],
        )
    treasury.credential = type(treasury.credential)(client.id, secret or "")  # type: ignore[call-arg] # a ClientSecret
    treasury.sign_in("arta")
    sender = LogoutSender(world.broker)
    yield Listening(treasury, application, sender)
    sender.close()


@pytest.fixture
def listening(sqlite_world: World, application: Application) -> Iterator[Listening]:
    """Give it on SQLite."""
    yield from listen(sqlite_world, application)


@pytest.fixture
def any_listening(world: World, application: Application) -> Iterator[Listening]:
    """Give it on each kind of database."""
    yield from listen(world, application)


# ---------------------------------------------------------------- back-channel


@pytest.mark.covers("R12", "T-17")
@pytest.mark.parametrize("how", ["hand_back", "hold", "expire", "code_reused", "token_reused"])
def test_whatever_ends_a_sign_in_the_application_is_told(any_listening: Listening, how: str) -> None:
    treasury = any_listening.treasury
    world, current, grant = treasury.world, treasury.world.current("arta"), treasury.grant()
    code, verifier = treasury.code(grant)
    tokens = treasury.redeem(code, verifier).json
    assert any_listening.deliver() == []
    match how:
        case "hand_back":
            with world.broker.begin(current.actor) as tx:
                revoke.hand_back(tx, current, grant.id)
        case "hold":
            with world.broker.begin(SYSTEM) as tx:
                place(tx, world.broker, kind=HoldKind.PERSON, subject_id=current.person.id, cause="odd", by="test")
        case "expire":
            world.advance(timedelta(minutes=10))
            world.sweep()
        case "code_reused":
            treasury.redeem(code, verifier)
        case "token_reused":
            for _ in range(2):
                treasury.refresh(tokens["refresh_token"])
    (told,) = any_listening.deliver()
    now = int(world.clock.now().timestamp())
    assert (told["sub"], told["aud"], told["iss"]) == (current.person.id, treasury.credential.client_id, ORIGIN)
    assert told["sid"] == any_listening.sid(tokens)
    assert told["events"] == {"http://schemas.openid.net/event/backchannel-logout": {}}
    assert (told["iat"], told["exp"]) == (now, now + 120)
    assert "nonce" not in told
    assert any_listening.deliver() == [], "once"
    (notice,) = any_listening.notices()
    assert (notice.delivered, notice.attempts) == (True, 1)
    assert treasury.events("logout.delivered")[0]["subject"]["grant"] == grant.id


def test_each_sign_in_is_told_of_by_itself_and_others_hear_nothing(listening: Listening) -> None:
    treasury = listening.treasury
    first, second = treasury.grant(), treasury.grant()
    sids = {listening.sid(treasury.tokens(first)), listening.sid(treasury.tokens(first))}
    kept = listening.sid(treasury.tokens(second))
    assert len(sids | {kept}) == 3
    current = treasury.world.current("arta")
    with treasury.world.broker.begin(current.actor) as tx:
        revoke.hand_back(tx, current, first.id)
    assert {told["sid"] for told in listening.deliver()} == sids


def test_a_client_that_ends_its_own_tokens_is_not_told_of_it(listening: Listening) -> None:
    tokens = listening.treasury.tokens(listening.treasury.grant())
    listening.treasury.call("/oidc/revoke", {"token": tokens["refresh_token"]})
    assert listening.deliver() == []
    assert listening.notices() == []


def test_what_does_not_arrive_is_sent_again_later_and_stays_visible(listening: Listening) -> None:
    world, treasury = listening.treasury.world, listening.treasury
    grant = treasury.grant()
    treasury.tokens(grant)
    current = world.current("arta")
    with world.broker.begin(current.actor) as tx:
        revoke.hand_back(tx, current, grant.id)
    listening.application.status = 500
    assert len(listening.deliver()) == 1
    (notice,) = listening.notices()
    assert (notice.done_at, notice.last_error, notice.attempts) == (None, "status_500", 1)
    assert listening.deliver() == [], "not before its time"
    world.advance(timedelta(seconds=1))
    listening.application.status = 302
    assert len(listening.deliver()) == 1, "and no redirect is followed"
    world.advance(timedelta(seconds=5))
    listening.application.status = 204
    first, last = listening.application.raw[0], listening.deliver()[0]
    assert (
        Signed(static_keys(world.broker.keyring.jwks())).claims(first, frozenset({"logout+jwt"}))["jti"] != last["jti"]
    )
    (notice,) = listening.notices()
    assert (notice.delivered, notice.attempts) == (True, 3)


def test_after_a_day_it_is_given_up_and_said_so(listening: Listening) -> None:
    world, treasury = listening.treasury.world, listening.treasury
    grant = treasury.grant()
    treasury.tokens(grant)
    current = world.current("arta")
    with world.broker.begin(current.actor) as tx:
        revoke.hand_back(tx, current, grant.id)
    listening.application.status = 503
    world.advance(timedelta(hours=24))
    listening.deliver()
    (notice,) = listening.notices()
    assert (notice.delivered, notice.last_error) == (False, "status_503")
    assert treasury.events("logout.failed")[0]["body"] == {"attempts": 1, "error": "status_503"}
    world.advance(timedelta(hours=1))
    assert listening.deliver() == []


def test_two_processes_send_a_notice_once(any_listening: Listening) -> None:
    world, treasury = any_listening.treasury.world, any_listening.treasury
    grant = treasury.grant()
    for _ in range(5):
        treasury.tokens(grant)
    current = world.current("arta")
    with world.broker.begin(current.actor) as tx:
        revoke.hand_back(tx, current, grant.id)
    other = LogoutSender(world.broker)
    threads = [threading.Thread(target=sender.run, kwargs={"wait_s": 30}) for sender in (other, any_listening.sender)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()
    assert len(any_listening.application.raw) == 5


@pytest.mark.covers("R34", "R39", "T-17")
def test_switching_a_client_off_ends_what_it_got_and_tells_it(any_listening: Listening) -> None:
    treasury = any_listening.treasury
    world, grant = treasury.world, treasury.grant()
    tokens, again = treasury.tokens(grant), treasury.tokens(grant)
    kept = open_treasury(world)  # another client of the same system goes on
    kept.sign_in("arta")
    others = kept.tokens(grant)
    with world.broker.begin(LOCAL) as tx:
        disable_client(tx, treasury.credential.client_id)
    assert {told["sid"] for told in any_listening.deliver()} == {any_listening.sid(one) for one in (tokens, again)}
    for one in (tokens, again):
        assert kept.introspect(one["access_token"]) == {"active": False}
    assert kept.introspect(others["access_token"])["active"] is True
    assert {notice.cause for notice in any_listening.notices()} == {"client_disabled"}
    world.advance(timedelta(seconds=1))
    with world.broker.read() as view:
        [list_id] = served(view)
        live = view.scalar(
            select(Token.status_idx).where(Token.client_id == kept.credential.client_id, Token.kind == "access")
        )
        rows = view.rows(select(Token.status_idx).where(Token.kind == "access")).scalars()
        assert ended_now(view, list_id) == set(rows) - {live}
    treasury.sign_in("agim")
    page = treasury.browser.get("/clients/logouts", base_url=ORIGIN).text
    assert "the client was switched off" in page


# ---------------------------------------------------------------- the guard


def test_a_forbidden_address_is_not_called(application: Application) -> None:
    with pytest.raises(NotDelivered, match="address_not_allowed"):
        post_form(application.url, {"logout_token": "x"}, Reach(loopback=False))
    for url in ("ftp://127.0.0.1/x", "http://127.0.0.1:99999/", "https:///x", "http://127.0.0.1:1/"):
        with pytest.raises(NotDelivered):
            post_form(url, {}, Reach(loopback=True))
    network = ipaddress.ip_network("127.0.0.0/8")
    assert post_form(application.url, {"logout_token": "x"}, Reach(networks=(network,))) == 200
    assert len(application.raw) == 1
    with pytest.raises(JitError, match=r"outbound\.networks"):
        Reach.of(["10.1.2.3/8"], loopback=False)


# ---------------------------------------------------------------- RP-initiated


def ask(treasury: Treasury, **values: str) -> TestResponse:
    """Send the browser to sign out."""
    return treasury.browser.get(f"/oidc/logout?{urlencode(values)}", base_url=ORIGIN)


def confirm(treasury: Treasury, **values: str) -> TestResponse:
    """Say yes on our page."""
    return treasury.browser.post(
        "/oidc/logout/confirm", base_url=ORIGIN, data={"query": urlencode(values)}, headers={"Origin": ORIGIN}
    )


@pytest.mark.covers("R16", "R37")
def test_signing_out_ends_the_session_and_the_sign_ins_made_in_it_and_not_the_grant(listening: Listening) -> None:
    treasury = listening.treasury
    grant = treasury.grant()
    tokens = treasury.tokens(grant)
    values = {"id_token_hint": tokens["id_token"], "post_logout_redirect_uri": GOODBYE, "state": "s 1"}
    treasury.world.advance(timedelta(minutes=4))
    page = ask(treasury, **values)
    assert (page.status_code, "Treasury payments" in page.text) == (200, True)
    assert "form-action 'self' http://127.0.0.1:8001;" in page.headers["Content-Security-Policy"]
    assert treasury.introspect(tokens["access_token"])["active"] is True, "looking ended nothing"
    done = confirm(treasury, **values)
    assert (done.status_code, done.location) == (303, f"{GOODBYE}?state=s+1")
    assert treasury.introspect(tokens["access_token"]) == {"active": False}
    assert treasury.refresh(tokens["refresh_token"]).json["error"] == "invalid_grant"
    assert [told["sid"] for told in listening.deliver()] == [listening.sid(tokens)]
    assert treasury.browser.get("/", base_url=ORIGIN).status_code == 303, "the session is over"
    treasury.world.advance(timedelta(minutes=2))
    again = ask(treasury, **values)
    assert again.location == f"{GOODBYE}?state=s+1", "who is signed out is sent on, also by an ID token that is over"
    with treasury.world.broker.read() as view:
        assert view.scalar(select(type(grant).state).where(type(grant).id == grant.id)) == "ACTIVE"


def sign_out(treasury: Treasury, door: str) -> TestResponse:
    """Sign out at one of the three doors."""
    match door:
        case "application":
            return confirm(treasury)
        case "page":
            return treasury.browser.post("/sign-out", base_url=ORIGIN, headers={"Origin": ORIGIN})
        case _:
            return treasury.post("/api/sign-out", {})


DOORS = ["application", "page", "api"]


@pytest.mark.covers("R13", "R34")
@pytest.mark.parametrize("door", DOORS)
def test_signing_out_ends_every_sign_in_of_the_session_at_whichever_door_and_no_other(
    any_listening: Listening, door: str
) -> None:
    treasury = any_listening.treasury
    grant = treasury.grant()
    elsewhere = treasury.tokens(grant)
    session = treasury.world.sign_in("arta").session  # of another browser
    treasury.browser.set_cookie("__Host-jit", treasury.world.secrets[session.id], domain="localhost")
    here = [treasury.tokens(grant), treasury.tokens(grant)]
    done = sign_out(treasury, door)
    assert done.status_code in (200, 303)
    for tokens in here:
        assert treasury.introspect(tokens["access_token"]) == {"active": False}
        assert treasury.refresh(tokens["refresh_token"]).json["error"] == "invalid_grant"
    assert {told["sid"] for told in any_listening.deliver()} == {any_listening.sid(tokens) for tokens in here}
    assert treasury.introspect(elsewhere["access_token"])["active"] is True
    assert treasury.browser.get("/", base_url=ORIGIN).status_code == 303, "the session is over"
    with treasury.world.broker.read() as view:
        assert view.scalar(select(type(grant).state).where(type(grant).id == grant.id)) == "ACTIVE"
    if door == "page":
        said = treasury.browser.get(done.location, base_url=ORIGIN).text
        assert "You are signed out, here and at the systems" in said


@pytest.mark.covers("R13", "R36")
@pytest.mark.parametrize("door", [*DOORS, "too old"])
def test_a_code_of_a_session_that_is_over_gives_nothing(any_listening: Listening, door: str) -> None:
    treasury = any_listening.treasury
    code, verifier = treasury.code(treasury.grant())
    if door == "too old":
        session = treasury.world.current("arta").session
        with treasury.world.broker.begin(SYSTEM) as tx:
            row = tx.require(WebSession, session.id)
            tx.update(row, tx.record(EventType.SESSION_ENDED, subject={"session": row.id}), expires_at=tx.now)
    else:
        sign_out(treasury, door)
    answer = treasury.redeem(code, verifier)
    assert (answer.status_code, answer.json["error"]) == (400, "invalid_grant")
    assert treasury.events("token.issued") == []
    assert [one["body"] for one in treasury.events("code.refused")] == [{"reason": "session_ended"}]
    assert treasury.redeem(code, verifier).status_code == 400, "and it is spent"


@pytest.mark.covers("R34", "R36")
def test_a_code_redeemed_and_a_token_renewed_while_somebody_signs_out_are_over_afterwards(
    any_listening: Listening,
) -> None:
    treasury = any_listening.treasury
    grant = treasury.grant()
    for _ in range(6):
        treasury.sign_in("arta")
        code, verifier = treasury.code(grant)
        held = treasury.tokens(grant)
        got: list[TestResponse] = []
        acts = [
            lambda: got.append(treasury.redeem(code, verifier)),  # noqa: B023 - run within this turn
            lambda: got.append(treasury.refresh(held["refresh_token"])),  # noqa: B023
        ]
        threads = [threading.Thread(target=act) for act in acts]
        for thread in threads:
            thread.start()
        done = sign_out(treasury, "page")
        for thread in threads:
            thread.join()
        assert done.status_code == 303
        given = [answer.json["access_token"] for answer in got if answer.status_code == 200]
        for token in (held["access_token"], *given):
            assert treasury.introspect(token) == {"active": False}


@pytest.mark.covers("R36")
def test_signing_out_waits_for_a_code_that_is_being_redeemed(postgres_world: World) -> None:
    treasury = open_treasury(postgres_world)
    treasury.sign_in("arta")
    treasury.code(treasury.grant())
    done: list[int] = []
    thread = threading.Thread(target=lambda: done.append(sign_out(treasury, "page").status_code))
    with postgres_world.broker.db.engine.connect() as redeeming:
        redeeming.exec_driver_sql("SELECT id FROM authorization_code FOR UPDATE")
        thread.start()
        thread.join(1)
        assert done == [], "what comes of the code is not there to be ended yet"
        redeeming.rollback()
    thread.join(30)
    assert done == [303]


@pytest.mark.covers("R36")
def test_a_code_is_held_while_its_session_is_asked(postgres_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    treasury = open_treasury(postgres_world)
    treasury.sign_in("arta")
    code, verifier = treasury.code(treasury.grant())
    held: list[bool] = []
    get = Tx.get

    def asked(tx: Tx, model: type[Any], key: str) -> Any:
        if model is WebSession and not held:
            with postgres_world.broker.db.engine.connect() as other:
                rows = other.exec_driver_sql("SELECT id FROM authorization_code FOR UPDATE SKIP LOCKED").all()
                held.append(rows == [])
        return get(tx, model, key)

    monkeypatch.setattr(Tx, "get", asked)
    assert treasury.redeem(code, verifier).status_code == 200
    assert held == [True]


@pytest.mark.covers("R16", "R37", "R46")
def test_nobody_is_signed_out_by_another_site_or_sent_where_nothing_is_registered(listening: Listening) -> None:
    treasury = listening.treasury
    tokens = treasury.tokens(treasury.grant())
    hint, client = tokens["id_token"], treasury.credential.client_id
    for values in (
        {"post_logout_redirect_uri": GOODBYE},
        {"id_token_hint": hint, "post_logout_redirect_uri": "https://evil.example/"},
        {"id_token_hint": hint, "post_logout_redirect_uri": GOODBYE + "?a=2"},
        {"id_token_hint": hint[:-4], "post_logout_redirect_uri": GOODBYE},
        {"id_token_hint": tokens["access_token"], "post_logout_redirect_uri": GOODBYE},
        {"id_token_hint": hint, "client_id": "another"},
        {"client_id": "nobody"},
    ):
        for answer in (ask(treasury, **values), confirm(treasury, **values)):
            assert answer.status_code == 400, values
            assert "Location" not in answer.headers
    assert ask(treasury, client_id=client, post_logout_redirect_uri=f"{GOODBYE}?a=1").status_code == 200
    assert ask(treasury).status_code == 200
    crossed = treasury.browser.post("/oidc/logout/confirm", base_url=ORIGIN, data={"query": ""})
    assert crossed.status_code == 403
    sent = treasury.browser.post("/oidc/logout", base_url=ORIGIN, data={"id_token_hint": hint})
    assert (sent.status_code, sent.location) == (303, f"/oidc/logout?{urlencode({'id_token_hint': hint})}")
    assert treasury.introspect(tokens["access_token"])["active"] is True


def test_the_id_token_of_somebody_else_ends_nothing_of_theirs(listening: Listening) -> None:
    treasury = listening.treasury
    tokens = treasury.tokens(treasury.grant())
    treasury.sign_in("blerim")
    done = confirm(treasury, id_token_hint=tokens["id_token"], post_logout_redirect_uri=f"{GOODBYE}?a=1", state="x")
    assert done.location == f"{GOODBYE}?a=1&state=x"
    assert treasury.introspect(tokens["access_token"])["active"] is True
    assert listening.deliver() == []


def test_an_administrator_sees_what_became_of_each_notice(listening: Listening) -> None:
    treasury = listening.treasury
    grant = treasury.grant()
    treasury.tokens(grant)
    current = treasury.world.current("arta")
    with treasury.world.broker.begin(current.actor) as tx:
        revoke.hand_back(tx, current, grant.id)
    listening.application.status = 500
    listening.deliver()
    assert treasury.browser.get("/clients/logouts", base_url=ORIGIN).status_code == 403
    treasury.sign_in("agim")
    page = treasury.browser.get("/clients/logouts", base_url=ORIGIN)
    assert page.status_code == 200, page.text
    for shown in ("status_500", "handed back", "Arta Krasniqi", "Treasury payments"):
        assert shown in page.text
