"""Does the status list say "ended" for exactly the tokens whose access ended, within a second, and never take it back?"""

import base64
import json
import threading
import zlib
from datetime import timedelta
from typing import Any

import pytest

from jitaccess.broker import revoke
from jitaccess.broker.hold import HoldKind, place
from jitaccess.broker.status import reserve, signed_list
from jitaccess.domain.events import EventType
from jitaccess.domain.values import SYSTEM
from jitaccess.errors import JitError, Kind
from jitaccess.identity.people import disable_person
from jitaccess.sdk.keys import static_keys
from jitaccess.sdk.signed import Signed
from jitaccess.store.seal import row_digest
from jitaccess.store.tables import StatusListRow, Token
from jitaccess.tokens.status import BLOCK, LIST_BITS
from tests.oidc.conftest import Treasury
from tests.support.world import ORIGIN

SECOND = timedelta(seconds=1)


def claims_of(token: str) -> dict[str, Any]:
    """Return a token's claims, unverified."""
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    return found


def where(token: str) -> tuple[str, int]:
    """Return a token's list and bit."""
    found = claims_of(token)["status"]["status_list"]
    return found["uri"], found["idx"]


def ended(treasury: Treasury, token: str) -> bool:
    """Ask the list itself, as any target would, a moment later."""
    treasury.world.advance(SECOND)
    uri, index = where(token)
    answer = treasury.app.test_client().get(uri.removeprefix(ORIGIN), base_url=ORIGIN)
    assert answer.status_code == 200, answer.text
    jwks = treasury.browser.get("/.well-known/jwks.json", base_url=ORIGIN).json
    claims = Signed(static_keys(jwks)).claims(answer.text, frozenset({"statuslist+jwt"}), most=10**6)
    assert claims["sub"] == uri
    bits = zlib.decompress(base64.urlsafe_b64decode(claims["status_list"]["lst"] + "==="))
    return bool(bits[index >> 3] >> (index & 7) & 1)


@pytest.mark.covers("R34", "TRAP-5")
def test_a_revoked_token_is_in_the_list_within_a_second_and_others_are_not(any_treasury: Treasury) -> None:
    first = any_treasury.tokens(any_treasury.grant())
    second = any_treasury.tokens(any_treasury.grant())
    assert not ended(any_treasury, first["access_token"])
    any_treasury.call("/oidc/revoke", {"token": first["access_token"]})
    assert ended(any_treasury, first["access_token"])
    assert not ended(any_treasury, second["access_token"])
    renewed = any_treasury.refresh(second["refresh_token"]).json["access_token"]
    assert where(renewed) != where(second["access_token"]), "each token has a bit of its own"


@pytest.mark.covers("R34", "R12", "T-17")
@pytest.mark.parametrize("how", ["hand_back", "disable", "hold person", "hold target", "hold grant", "code", "refresh"])
def test_every_way_in_which_access_ends_early_reaches_the_list(treasury: Treasury, how: str) -> None:
    world, current, grant = treasury.world, treasury.world.current("arta"), treasury.grant()
    code, verifier = treasury.code(grant)
    tokens = treasury.redeem(code, verifier).json
    assert not ended(treasury, tokens["access_token"])
    match how:
        case "code":
            treasury.redeem(code, verifier)
        case "refresh":
            for _ in range(2):
                treasury.refresh(tokens["refresh_token"])
        case _:
            with world.broker.begin(current.actor) as tx:
                match how.split():
                    case ["hand_back"]:
                        revoke.hand_back(tx, current, grant.id)
                    case ["disable"]:
                        disable_person(tx, current.person.id)
                    case [_, kind]:
                        subject = {"person": current.person.id, "target": "treasury", "grant": grant.id}[kind]
                        place(tx, world.broker, kind=HoldKind(kind), subject_id=subject, cause="odd", by="test")
    assert ended(treasury, tokens["access_token"])


@pytest.mark.covers("T-18")
def test_what_the_list_once_said_is_never_taken_back(treasury: Treasury) -> None:
    token = treasury.tokens(treasury.grant())["access_token"]
    treasury.call("/oidc/revoke", {"token": token})
    assert ended(treasury, token)
    treasury.world.sql("UPDATE token SET ended_at = NULL")
    assert ended(treasury, token)


@pytest.mark.covers("R20")
def test_a_token_whose_bit_was_exchanged_in_the_database_is_not_active(treasury: Treasury) -> None:
    token = treasury.tokens(treasury.grant())["access_token"]
    treasury.world.sql("UPDATE token SET status_idx = status_idx + 1 WHERE kind = 'access'")
    assert treasury.introspect(token) == {"active": False}


def test_a_bit_is_given_once_also_when_many_ask_at_once(any_treasury: Treasury) -> None:
    broker = any_treasury.world.broker
    found: list[tuple[str, int]] = []

    def take() -> None:
        for _ in range(BLOCK):
            ref = reserve(broker)
            found.append((ref.list_id, ref.idx))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 4 * BLOCK
    broker.status.block = None  # another process, or this one after a crash
    after = reserve(broker)
    assert (after.list_id, after.idx) not in found


def test_a_full_list_is_followed_by_a_new_one_and_served_as_long_as_tokens_may_refer_to_it(treasury: Treasury) -> None:
    broker = treasury.world.broker
    first = reserve(broker).list_id
    with broker.begin(SYSTEM) as tx:
        row = tx.require(StatusListRow, first)
        tx.update(row, given=LIST_BITS - BLOCK)
    broker.status.block = None
    last = [reserve(broker) for _ in range(BLOCK)][-1]
    assert (last.list_id, last.idx) == (first, LIST_BITS - 1)
    second = reserve(broker)
    assert (second.list_id == first, second.idx) == (False, 0)
    listed = treasury.app.test_client().get("/oidc/status", base_url=ORIGIN)
    assert [uri.rpartition("/")[2] for uri in listed.json["status_lists"]] == [first, second.list_id]
    treasury.world.advance(timedelta(minutes=16))
    assert reserve(broker).idx == BLOCK, "a process lets go of bits that it did not give for long"
    assert signed_list(broker, first)
    treasury.world.advance(timedelta(minutes=45))
    with pytest.raises(JitError) as gone:
        signed_list(broker, first)
    assert gone.value.kind is Kind.NOT_FOUND


def test_the_document_may_be_read_and_kept_by_anybody_for_a_moment(treasury: Treasury) -> None:
    uri, _ = where(treasury.tokens(treasury.grant())["access_token"])
    anybody = treasury.app.test_client()
    answer = anybody.get(uri.removeprefix(ORIGIN), base_url=ORIGIN)
    assert answer.content_type == "application/statuslist+jwt"
    assert answer.headers["Cache-Control"] == "public, max-age=1"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    head, claims = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in answer.text.split(".")[:2])
    assert (head["typ"], head["alg"]) == ("statuslist+jwt", "ES256")
    assert (claims["exp"] - claims["iat"], claims["ttl"], claims["status_list"]["bits"]) == (60, 5, 1)
    person = treasury.world.person("arta")
    assert person not in json.dumps(claims)
    assert anybody.get(uri.removeprefix(ORIGIN) + "?time=1", base_url=ORIGIN).status_code == 501
    assert anybody.get("/oidc/status/nothing", base_url=ORIGIN).status_code == 404
    found = anybody.get("/.well-known/oauth-authorization-server", base_url=ORIGIN).json
    assert found["status_list_aggregation_endpoint"] == f"{ORIGIN}/oidc/status"


@pytest.mark.covers("R20")
def test_a_token_row_from_before_status_lists_and_signing_passkeys_keeps_its_seal(treasury: Treasury) -> None:
    tokens = treasury.tokens(treasury.grant())
    with treasury.world.broker.read() as view:
        row = view.require(Token, claims_of(tokens["access_token"])["jti"])
        assert view.intact(row)
    with treasury.world.broker.begin(SYSTEM) as tx:
        event = tx.record(EventType.ALARM_RAISED)
        old = {
            name: getattr(row, name) for name in ("lease_id", "grant_id", "client_id", "family", "scope", "acr", "amr")
        }
        times = {"auth_at": row.auth_at, "created_at": row.created_at, "expires_at": row.expires_at}
        tx.insert(Token, event, id="before", kind="access", **old, **times)
    leaf = treasury.events("alarm.raised")[-1]
    digest = next(digest for _, key, _, digest in leaf["rows"] if key == "before")
    with treasury.world.broker.read() as view:
        before = view.require(Token, "before")
        assert digest == _digest_without_later(before)


def _digest_without_later(row: Token) -> str:
    names = [column.key for column in Token.__table__.columns]
    left = {"version", "event_id", "seal", "status_list", "status_idx", "passkey_id"}
    return row_digest("token", row.id, 1, {name: getattr(row, name) for name in names if name not in left})
