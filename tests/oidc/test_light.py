"""Does the light door say what the application says, and leave everything that is not plain to it?"""

import base64
import json
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
from werkzeug.test import Client, TestResponse

from jitaccess.broker.verify import unverified_jti
from jitaccess.domain.values import LOCAL
from jitaccess.errors import JitError, Kind
from jitaccess.oidc.clients import add_client
from jitaccess.oidc.light import LightDoor
from jitaccess.proof.canonical import b64u_encode
from jitaccess.settings import Limits
from jitaccess.store.db import Database
from jitaccess.web.doors import METERED
from tests.oidc.conftest import Treasury, open_treasury
from tests.support.world import ORIGIN, World

FORM = "application/x-www-form-urlencoded"


def door_of(treasury: Treasury) -> LightDoor:
    found = treasury.app.wsgi_app
    assert isinstance(found, LightDoor)
    return found


def question(treasury: Treasury, token: str, **changes: Any) -> dict[str, Any]:
    """Return a plain introspection, changed."""
    return {
        "path": "/oidc/introspect",
        "method": "POST",
        "base_url": ORIGIN,
        "data": f"token={token}",
        "content_type": FORM,
        "headers": dict(treasury.credential.prove()[0]),
    } | changes


def broken_application(environ: Any, start_response: Any) -> Iterable[bytes]:
    raise AssertionError("this question went on to the application")


def light(treasury: Treasury, **asked: Any) -> TestResponse:
    """Ask the light door alone."""
    door = door_of(treasury)
    inner, door.inner = door.inner, broken_application
    try:
        return Client(door).open(**asked)
    finally:
        door.inner = inner


def both(treasury: Treasury, **asked: Any) -> tuple[TestResponse, TestResponse]:
    """Ask through the light door, and the application itself."""
    door = door_of(treasury)
    return Client(door).open(**asked), Client(door.inner).open(**asked)


@pytest.mark.covers("R34", "R39")
def test_a_plain_question_about_a_token_is_answered_as_the_application_answers_it(any_treasury: Treasury) -> None:
    tokens = any_treasury.tokens(any_treasury.grant())
    for token in (tokens["access_token"], tokens["refresh_token"], "x", ""):
        asked = question(any_treasury, token)
        mine, whole = light(any_treasury, **asked), both(any_treasury, **asked)[1]
        assert (mine.status_code, mine.data) == (whole.status_code, whole.data)
        assert mine.json["active"] is (token == tokens["access_token"])
        differing = {"Content-Security-Policy"}  # no page, so no nonce
        assert {k: v for k, v in mine.headers if k not in differing} == {
            k: v for k, v in whole.headers if k not in differing
        }
        assert "script-src" not in mine.headers["Content-Security-Policy"]
        assert mine.headers["Content-Security-Policy"].startswith("default-src 'none'")


@pytest.mark.covers("R15", "R34", "R39", "R66")
@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"method": "GET"}, 405),
        ({"method": "PUT"}, 403),
        ({"headers": {}}, 401),
        ({"headers": {"Authorization": "Basic eDp5"}}, 401),
        ({"headers": {"Authorization": "Bearer x"}}, 401),
        ({"headers": {"Authorization": "Basic ***"}}, 401),
        ({"base_url": "http://other.example"}, 400),
        ({"query_string": "token=a"}, 400),
        ({"data": "token=a&token=b"}, 400),
        ({"data": "token=%E2%82%AC"}, 400),
        ({"data": "token=%0A"}, 400),
        ({"data": "token=" + "a" * (16 * 1024 + 1)}, 400),
        ({"data": "a" * (32 * 1024 + 1)}, 413),
        ({"data": "nothing=1"}, 400),
        ({"data": ""}, 400),
        ({"data": "token=a&client_secret=b"}, 400),
        ({"data": "token=a&client_id=nobody"}, 401),
        ({"content_type": "application/json", "data": "{}"}, 400),
        ({"content_type": "multipart/form-data; boundary=x", "data": "--x--"}, 400),
    ],
)
def test_what_is_not_plain_is_the_applications_to_refuse(
    treasury: Treasury, changes: dict[str, Any], status: int
) -> None:
    asked = question(treasury, "a", **changes)
    mine, whole = both(treasury, **asked)
    assert mine.status_code == whole.status_code == status
    assert mine.data == whole.data or mine.mimetype == "text/html"
    with pytest.raises(AssertionError, match="went on"):
        light(treasury, **asked)


@pytest.mark.parametrize("body", ["token={}&token_type_hint=access_token", "token={}&client_id=CLIENT", "token={}&x=1"])
def test_a_good_question_in_any_form_is_answered(treasury: Treasury, body: str) -> None:
    """What goes on to the application still has its body."""
    token = treasury.tokens(treasury.grant())["access_token"]
    data = body.format(token).replace("CLIENT", treasury.credential.client_id)
    for answer in both(treasury, **question(treasury, "", data=data)):
        assert (answer.status_code, answer.json["active"]) == (200, True)


@pytest.mark.covers("R63", "R71")
def test_a_row_that_somebody_changed_is_alarmed_and_not_active(treasury: Treasury) -> None:
    token = treasury.tokens(treasury.grant())["access_token"]
    assert treasury.introspect(token)["active"] is True, "and is known by now"
    with treasury.world.broker.db.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA query_only=OFF")
        connection.exec_driver_sql("UPDATE token SET expires_at = expires_at + 1 WHERE kind = 'access'")
        connection.commit()
        connection.exec_driver_sql("PRAGMA query_only=ON")
    assert treasury.introspect(token) == {"active": False}
    assert treasury.introspect(token) == {"active": False}
    assert len(treasury.events("seal.broken")) == 1


@pytest.mark.covers("R66")
def test_questions_above_the_measure_are_refused_and_each_is_counted_once(sqlite_world: World) -> None:
    limits = Limits(target_calls_per_address_minute=60)
    settings = sqlite_world.broker.settings.model_copy(update={"limits": limits})
    sqlite_world.broker = replace(sqlite_world.broker, settings=settings)
    treasury = open_treasury(sqlite_world)
    plain, odd, door = question(treasury, "x"), question(treasury, "x", headers={}), Client(door_of(treasury))
    answers = [door.open(**asked).status_code for asked in [plain] * 40 + [odd] * 20]
    assert answers == [200] * 40 + [401] * 20
    refused = door.open(**plain)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")


@pytest.mark.covers("R66")
@pytest.mark.parametrize(
    ("path", "method", "status"),
    [("/forward-auth/a/b", "GET", 404), ("/forward-auth/", "GET", 404), ("/oidc/introspect", "GET", 405)],
)
def test_what_is_no_programs_question_is_counted_as_everybody_elses(
    sqlite_world: World, path: str, method: str, status: int
) -> None:
    limits = Limits(calls_per_address_minute=60)
    settings = sqlite_world.broker.settings.model_copy(update={"limits": limits})
    sqlite_world.broker = replace(sqlite_world.broker, settings=settings)
    door = Client(door_of(open_treasury(sqlite_world)))
    answers = [door.open(path, method=method, base_url=ORIGIN).status_code for _ in range(62)]
    assert answers == [status] * 60 + [429] * 2
    # Nor does a word in the environment of another view take its measure away.
    told = door.open("/sign-in", base_url=ORIGIN, environ_overrides={METERED: True})
    assert told.status_code == 429


def unverified(token: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    return found


def renewal(treasury: Treasury, token: str, **changes: Any) -> dict[str, Any]:
    """Return a plain renewal, changed."""
    data = f"grant_type=refresh_token&refresh_token={token}"
    return question(treasury, "", path="/oidc/token", data=data) | changes


@pytest.mark.covers("R39", "R40")
def test_a_plain_renewal_is_made_as_the_application_makes_it(any_treasury: Treasury) -> None:
    first = any_treasury.tokens(any_treasury.grant())
    mine = light(any_treasury, **renewal(any_treasury, first["refresh_token"]))
    whole = Client(door_of(any_treasury).inner).open(**renewal(any_treasury, mine.json["refresh_token"]))
    assert mine.status_code == whole.status_code == 200
    told, known = any_treasury.events("token.refreshed"), {"iat", "nbf", "exp", "jti", "at_hash", "status"}
    assert len(told) == 2
    assert {**told[0], "body": None, "subject": None}.keys() == {**told[1], "body": None, "subject": None}.keys()
    assert [one["body"]["family"] for one in told] == [told[0]["body"]["family"]] * 2
    assert [one["actor"] for one in told] == [told[0]["actor"]] * 2
    assert list(mine.json) == list(whole.json)
    for name in ("access_token", "id_token"):
        one, other = (unverified(answer.json[name]) for answer in (mine, whole))
        assert {k: v for k, v in one.items() if k not in known} == {k: v for k, v in other.items() if k not in known}
        assert one.keys() == other.keys()
    for name in ("token_type", "expires_in", "scope", "authorization_details"):
        assert mine.json[name] == whole.json[name]
    differing = {"Content-Security-Policy", "Content-Length", "Vary"}  # no page, so no nonce and no language
    assert {k: v for k, v in mine.headers if k not in differing} == {
        k: v for k, v in whole.headers if k not in differing
    }
    # Each spends the other's: the first one, used again, ends what came of it.
    assert any_treasury.introspect(whole.json["access_token"])["active"] is True
    assert any_treasury.refresh(first["refresh_token"]).json["error"] == "invalid_grant"
    assert any_treasury.introspect(whole.json["access_token"])["active"] is False
    assert len(any_treasury.events("token.reused")) == 1


@pytest.mark.covers("R39", "R40")
@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"method": "GET"}, 405),
        ({"headers": {}}, 401),
        ({"headers": {"Authorization": "Basic eDp5"}}, 401),
        ({"base_url": "http://other.example"}, 400),
        ({"data": "grant_type=refresh_token&refresh_token=unknown"}, 400),
        ({"data": "grant_type=refresh_token"}, 400),
        ({"data": "grant_type=password&refresh_token=GOOD"}, 400),
        ({"data": "grant_type=refresh_token&refresh_token=GOOD&refresh_token=GOOD"}, 400),
        ({"data": "grant_type=refresh_token&refresh_token=GOOD&scope=admin"}, 400),
        ({"data": "grant_type=refresh_token&refresh_token=GOOD&resource=https://other.example"}, 400),
        ({"data": "grant_type=refresh_token&refresh_token=GOOD&client_id=nobody"}, 401),
        ({"data": "grant_type=refresh_token&refresh_token=GOOD&client_secret=x"}, 400),
    ],
)
def test_a_renewal_that_is_not_plain_is_the_applications(
    treasury: Treasury, changes: dict[str, Any], status: int
) -> None:
    good = treasury.tokens(treasury.grant())["refresh_token"]
    asked = renewal(treasury, good) | changes
    asked["data"] = asked["data"].replace("GOOD", good)
    mine, whole = both(treasury, **asked)
    assert mine.status_code == whole.status_code == status
    assert mine.data == whole.data or mine.mimetype == "text/html"
    with pytest.raises(AssertionError, match="went on"):
        light(treasury, **asked)
    assert treasury.refresh(good).status_code == 200, "nothing of it was kept"


@pytest.mark.covers("R12", "R40", "R63")
def test_a_renewal_that_is_refused_is_refused_and_told_once(any_treasury: Treasury) -> None:
    """Whatever stands in the way: the door's own look leaves nothing behind, and the application records one refusal."""
    world = any_treasury.world
    token = any_treasury.tokens(any_treasury.grant())["refresh_token"]
    world.hold("arta")
    assert any_treasury.refresh(token).json["error"] == "invalid_grant"
    assert len(any_treasury.events("issue.refused")) + len(any_treasury.events("token.refused")) == 1
    assert not any_treasury.events("token.refreshed")


@pytest.mark.covers("R40", "R63", "R71")
@pytest.mark.parametrize("table", ["token", "lease", "access_grant", "passkey"])
def test_nothing_is_renewed_under_a_row_that_somebody_changed(any_treasury: Treasury, table: str) -> None:
    token = any_treasury.tokens(any_treasury.grant())["refresh_token"]
    token = any_treasury.refresh(token).json["refresh_token"]  # what stands behind it is known by now
    any_treasury.world.sql(f"UPDATE {table} SET created_at = created_at + 1")
    assert any_treasury.refresh(token).status_code != 200
    assert any_treasury.events("seal.broken")
    assert len(any_treasury.events("token.refreshed")) == 1


@pytest.mark.covers("R40", "R63")
@pytest.mark.parametrize("moment", ["before-commit", "after-commit"])
def test_a_renewal_that_the_store_may_have_kept_is_not_tried_a_second_time(world: World, moment: str) -> None:
    """The second try would find the token spent and end the family for a theft that never was."""
    failing: list[str] = []

    def probe(reached: str) -> None:
        if reached in failing:
            failing.clear()
            raise JitError(Kind.UNAVAILABLE, "the store went away")

    known = world.broker
    db = Database(known.settings.store.url, known.clock, known.keyring.seals, probe=probe)
    world.broker = replace(known, db=db)
    try:
        treasury = open_treasury(world)
        treasury.sign_in("arta")
        token = treasury.refresh(treasury.tokens(treasury.grant())["refresh_token"]).json["refresh_token"]
        failing.append(moment)
        assert treasury.refresh(token).status_code == 503
        assert not failing
        assert len(treasury.events("token.refreshed")) - 1 == (moment == "after-commit")
        assert not treasury.events("token.reused")
    finally:
        world.broker = known
        db.close()


def statements_of(treasury: Treasury, ask: Callable[[], object]) -> list[str]:
    """Return what SQLite is told while a question is asked on the connection that was used last."""
    [connection] = treasury.world.broker.db._readers
    raw, told = connection.connection.dbapi_connection, list[str]()
    assert isinstance(raw, sqlite3.Connection)
    raw.set_trace_callback(told.append)
    ask()
    raw.set_trace_callback(None)
    return told


@pytest.mark.covers("R34", "R63")
def test_what_stands_behind_a_token_is_asked_in_one_statement_and_anew_each_time(treasury: Treasury) -> None:
    tokens = treasury.tokens(treasury.grant())
    asked = question(treasury, tokens["access_token"])
    assert light(treasury, **asked).json["active"] is True
    for _ in range(2):
        [told] = statements_of(treasury, lambda: light(treasury, **asked))
        assert told.startswith("SELECT token.id")
        assert "register_version" in told
    world = treasury.world
    with world.broker.begin(LOCAL) as tx:
        add_client(tx, target="treasury", name="Another", redirect_uris=["https://other.example/callback"])
    told = statements_of(treasury, lambda: light(treasury, **asked))
    assert told[1] == "BEGIN"
    assert len(told) > 4, "the register changed, so that all of it is read anew"
    assert len(statements_of(treasury, lambda: light(treasury, **asked))) == 1


@pytest.mark.covers("R34", "R66")
def test_a_question_waits_for_its_turn_and_not_for_good(treasury: Treasury) -> None:
    asked = question(treasury, treasury.tokens(treasury.grant())["access_token"])
    turn = door_of(treasury)._turn
    assert turn is not None
    assert turn.acquire(blocking=False)
    try:
        for _ in range(2):
            assert light(treasury, **asked).json["active"] is True
        assert turn.locked(), "who went on without a turn gives nobody's away"
    finally:
        turn.release()
    assert light(treasury, **asked).json["active"] is True
    assert not turn.locked()


@pytest.mark.covers("R39")
@pytest.mark.parametrize(
    "text", ["", "x", "a.b", "a.b.c", "a.!.c", f"a.{b64u_encode(b'[' * 9_000)}.c", f"a.{b64u_encode(b'[1]')}.c",
             f"a.{b64u_encode(json.dumps({'jti': 7}).encode())}.c", f"a.{b64u_encode(json.dumps({'jti': 'x' * 30}).encode())}.c"],
)  # fmt: skip
def test_a_text_that_names_no_row_has_none_at_hand(treasury: Treasury, text: str) -> None:
    assert unverified_jti(text) == ""
    assert light(treasury, **question(treasury, text)).json == {"active": False}


@pytest.mark.covers("R32", "R39")
def test_a_forged_token_that_names_a_good_row_is_not_active(any_treasury: Treasury) -> None:
    good, other = (any_treasury.tokens(any_treasury.grant())["access_token"] for _ in range(2))
    head, claims, _ = good.split(".")
    forged = f"{head}.{claims}.{other.rpartition('.')[2]}"
    assert unverified_jti(forged) == unverified_jti(good) != ""
    for _ in range(2):
        assert light(any_treasury, **question(any_treasury, forged)).json == {"active": False}
        assert light(any_treasury, **question(any_treasury, good)).json["active"] is True
