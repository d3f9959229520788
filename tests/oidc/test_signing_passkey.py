"""Does a sign-in end with the passkey that signed it, also where another passkey asked for the access and opened it?"""

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from jitaccess.broker import hold
from jitaccess.broker.clients import add_client, add_proxied
from jitaccess.broker.hold import HoldKind
from jitaccess.domain.events import EventType
from jitaccess.domain.lifecycle import EndCause, GrantState
from jitaccess.domain.values import LOCAL
from jitaccess.oidc import authorize
from jitaccess.oidc.provider import GrantUser
from jitaccess.store.tables import Account, Grant, LogoutNotice, Passkey, Token
from tests.oidc.conftest import CALLBACK, Treasury, open_treasury, verifier_pair
from tests.oidc.test_forward_auth import APP, ask, closed
from tests.oidc.test_light import light, question
from tests.oidc.test_status_list import ended
from tests.oidc.test_stronger_passkey import give_passkey
from tests.support.world import World

Loss = Callable[[World, str], None]


def held(world: World, passkey_id: str) -> None:
    with world.broker.begin(LOCAL) as tx:
        hold.place(tx, world.broker, kind=HoldKind.PASSKEY, subject_id=passkey_id, cause="stolen", by="test")


def lost(world: World, passkey_id: str) -> None:
    """Mark a passkey removed and end nothing: the moment before anybody looks."""
    with world.broker.begin(LOCAL) as tx:
        event = tx.record(EventType.PASSKEY_REMOVED, subject={"passkey": passkey_id})
        tx.update(tx.require(Passkey, passkey_id), event, status="removed")


def removed(world: World, passkey_id: str) -> None:
    """End what a passkey did, and take it away."""
    with world.broker.begin(LOCAL) as tx:
        hold.end_everything(
            tx, world.broker, kind=HoldKind.PASSKEY, subject_id=passkey_id, by="test", cause=EndCause.REVOKED
        )
    lost(world, passkey_id)


LOSSES: list[Loss] = [held, removed, lost]


@pytest.fixture
def told(world: World) -> Treasury:
    """Give a treasury that wants to be told of ends, on each kind of database."""
    found = open_treasury(world)
    with world.broker.begin(LOCAL) as tx:
        client, secret = add_client(
            tx,
            target="treasury",
            name="Treasury",
            redirect_uris=[CALLBACK],
            backchannel_logout_uri="http://127.0.0.1:9/logout",
        )
    found.credential = type(found.credential)(client.id, secret or "")  # type: ignore[call-arg] # a ClientSecret
    found.sign_in("arta")
    return found


def signed_by(treasury: Treasury, key: str, grant: Grant) -> dict[str, Any]:
    """Sign in to the treasury in a session of this passkey."""
    treasury.sign_in(key)
    return treasury.tokens(grant)


def passkey_of(treasury: Treasury, key: str) -> str:
    return treasury.world.current(key).passkey.id


def active(treasury: Treasury, tokens: dict[str, Any]) -> bool:
    """Ask the application, and the door before it, which says the same."""
    whole = treasury.introspect(tokens["access_token"])
    if whole["active"]:
        assert light(treasury, **question(treasury, tokens["access_token"])).json == whole
    return bool(whole["active"])


def lives(treasury: Treasury, grant: Grant) -> bool:
    with treasury.world.broker.read() as view:
        return view.require(Grant, grant.id).state == GrantState.ACTIVE


def notices(treasury: Treasury) -> list[str]:
    with treasury.world.broker.read() as view:
        return [row.sid for row in view.all(select(LogoutNotice))]


def families_of(treasury: Treasury, passkey_id: str) -> set[tuple[str, bool]]:
    """Return the sign-ins of a passkey, and whether each was ended."""
    with treasury.world.broker.read() as view:
        rows = view.all(select(Token).where(Token.passkey_id == passkey_id))
    return {(row.family, row.ended_at is not None) for row in rows}


@pytest.mark.covers("R12", "R40", "T-25")
@pytest.mark.parametrize("loss", LOSSES)
def test_a_second_sign_in_ends_with_its_passkey_and_the_first_goes_on(told: Treasury, loss: Loss) -> None:
    grant = told.grant()
    first, second = signed_by(told, "arta", grant), signed_by(told, "arta-2", grant)
    assert active(told, first)
    assert active(told, second)
    theirs = passkey_of(told, "arta-2")
    loss(told.world, theirs)
    assert not active(told, second)
    assert ended(told, second["access_token"])
    assert told.refresh(second["refresh_token"]).json["error"] == "invalid_grant"
    told.world.sweep()
    told.world.sweep()
    assert lives(told, grant)
    ((family, over),) = families_of(told, theirs)
    assert over
    assert notices(told) == [family], "told once, of the one that ended"
    assert active(told, first)
    assert not ended(told, first["access_token"])
    assert told.refresh(first["refresh_token"]).status_code == 200


@pytest.mark.covers("R12")
def test_a_sign_in_ends_with_the_account_that_signed_it(told: Treasury) -> None:
    grant = told.grant()
    first, second = signed_by(told, "arta", grant), signed_by(told, "arta-2", grant)
    with told.world.broker.begin(LOCAL) as tx:
        account = tx.require(Account, told.world.current("arta-2").account.id)
        event = tx.record(EventType.ACCOUNT_ADDED, subject={"account": account.id}, body={"status": "disabled"})
        tx.update(account, event, status="disabled")
    assert not active(told, second)
    assert ended(told, second["access_token"])
    assert told.refresh(second["refresh_token"]).json["error"] == "invalid_grant"
    assert active(told, first), "the person's other account stays"


@pytest.mark.covers("R12", "R38", "R40")
@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_up_ends_with_the_stronger_passkey_that_signed_it(told: Treasury, loss: Loss) -> None:
    give_passkey(told.world, "arta", "arta-synced", synced=True)
    grant = told.grant(key="arta-synced")
    weaker = signed_by(told, "arta-synced", grant)
    verifier, challenge = verifier_pair()
    begun = told.begin(grant, challenge, acr_values="phrh").json
    told.signed_in = "arta"
    code = parse_qs(urlsplit(told.finish(begun).json["redirect"]).query)["code"][0]
    tokens = told.redeem(code, verifier).json
    tokens = told.refresh(tokens["refresh_token"]).json  # what follows was signed by the same passkey
    assert told.introspect(tokens["access_token"])["acr"] == "phrh"
    loss(told.world, passkey_of(told, "arta"))
    assert not active(told, tokens)
    assert ended(told, tokens["access_token"])
    assert told.refresh(tokens["refresh_token"]).json["error"] == "invalid_grant"
    told.world.sweep()
    assert lives(told, grant)
    assert len(notices(told)) == 1
    assert told.introspect(weaker["access_token"])["acr"] == "phr"


def entered(treasury: Treasury, key: str, grant: Grant) -> FlaskClient:
    """Sign a browser in to the proxied application with a passkey."""
    treasury.sign_in(key)
    browser = treasury.app.test_client()
    query = urlsplit(ask(browser, "/proxied/start").location).query
    begun = treasury.post("/oidc/authorize/begin", {"grant_id": grant.id, "query": query})
    back = treasury.finish(begun.json).json["redirect"]
    done = ask(browser, f"/proxied/callback?{urlsplit(back).query}", uri="/.jitaccess/callback")
    assert done.status_code == 303, done.text
    return browser


@pytest.mark.covers("R12", "R45")
@pytest.mark.parametrize("loss", LOSSES)
def test_a_browser_at_a_proxied_application_ends_with_the_passkey_that_signed_it_in(
    any_treasury: Treasury, loss: Loss
) -> None:
    with any_treasury.world.broker.begin(LOCAL) as tx:
        add_proxied(tx, target="treasury", name="Treasury", origin=APP)
    any_treasury.app.extensions["tests.broker"] = any_treasury.world.broker
    grant = any_treasury.grant()
    first, second = entered(any_treasury, "arta", grant), entered(any_treasury, "arta-2", grant)
    assert ask(second).status_code == ask(first).status_code == 200
    loss(any_treasury.world, passkey_of(any_treasury, "arta-2"))
    assert closed(ask(second), 401)
    any_treasury.world.sweep()
    assert closed(ask(second), 401)
    assert ask(first).status_code == 200


@pytest.mark.covers("R12", "R36")
@pytest.mark.parametrize("loss", LOSSES)
def test_a_code_is_not_redeemed_once_the_passkey_that_signed_for_it_is_gone(treasury: Treasury, loss: Loss) -> None:
    grant = treasury.grant()
    signed_by(treasury, "arta", grant)
    treasury.sign_in("arta-2")
    code, verifier = treasury.code(grant)
    issued = len(treasury.events("token.issued"))
    loss(treasury.world, passkey_of(treasury, "arta-2"))
    assert treasury.redeem(code, verifier).json["error"] == "invalid_grant"
    refused = treasury.events("issue.refused") + treasury.events("code.refused")  # with a passkey its sessions may end
    assert refused[-1]["body"]["reason"] in ("passkey_not_active", "passkey_on_hold", "session_ended")
    assert len(treasury.events("token.issued")) == issued


@pytest.mark.covers("R12", "R34", "R40")
@pytest.mark.parametrize("from_before", [False, True])
def test_what_the_opening_passkey_carries_is_refused_everywhere_before_the_next_look(
    any_treasury: Treasury, monkeypatch: pytest.MonkeyPatch, from_before: bool
) -> None:
    """Rows from before say nothing of who signed: then the passkey that opened the lease counts alone."""
    if from_before:
        monkeypatch.setattr(authorize, "GrantUser", lambda *given: GrantUser(*given[:-1], None))
    grant = any_treasury.grant()
    tokens, second = signed_by(any_treasury, "arta-2", grant), signed_by(any_treasury, "arta", grant)
    with any_treasury.world.broker.read() as view:
        assert all((row.passkey_id is None) is from_before for row in view.all(select(Token)))
    assert active(any_treasury, tokens)
    assert not ended(any_treasury, tokens["access_token"])
    lost(any_treasury.world, passkey_of(any_treasury, "arta-2"))
    for one in (tokens, second):
        assert not active(any_treasury, one)
        assert ended(any_treasury, one["access_token"])
        assert any_treasury.refresh(one["refresh_token"]).json["error"] == "invalid_grant"
    any_treasury.world.sweep()
    assert not lives(any_treasury, grant)
