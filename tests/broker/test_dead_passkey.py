"""A passkey that is held, blocked or removed leaves nothing open of what it filed, approved or opened."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import select

from jitaccess.broker import hold
from jitaccess.broker.hold import HoldKind
from jitaccess.broker.issue import Opened, open_lease
from jitaccess.broker.sweep import Ticker
from jitaccess.broker.verify import BY_JTI, behind, stands
from jitaccess.domain.events import EventType
from jitaccess.domain.lifecycle import GrantState, LeaseState, RequestState
from jitaccess.domain.values import LOCAL, SYSTEM, Refused
from jitaccess.identity import passkeys
from jitaccess.store.tables import AccessRequest, Grant, Lease, Passkey, Token
from tests.support.world import World


def held(world: World, passkey_id: str) -> None:
    with world.broker.begin(LOCAL) as tx:
        hold.place(tx, world.broker, kind=HoldKind.PASSKEY, subject_id=passkey_id, cause="stolen", by="test")


def removed(world: World, passkey_id: str) -> None:
    with world.broker.begin(LOCAL) as tx:
        event = tx.record(EventType.PASSKEY_REMOVED, subject={"passkey": passkey_id})
        tx.update(tx.require(Passkey, passkey_id), event, status="removed")


def cloned(world: World, passkey_id: str) -> None:
    """Answer with a counter that does not rise, as a copy does."""
    owner = next(key for key in ("arta", "arta-2", "blerim") if world.current(key).passkey.id == passkey_id)
    copy = world.passkey(owner)
    copy.counter = 0
    with world.broker.begin(SYSTEM) as tx:
        ceremony = passkeys.begin_sign_in(tx, world.broker.site)
    with world.broker.begin(SYSTEM) as tx:
        found = passkeys.complete_sign_in(
            tx, world.broker.site, challenge_id=ceremony.challenge_id, response=copy.get(ceremony.options)
        )
    assert isinstance(found, Refused)


Loss = Callable[[World, str], None]
LOSSES: list[Loss] = [held, removed, cloned]


def opened(world: World, by: str) -> Grant:
    """File as Arta, and open with a passkey of hers."""
    grant = world.filed().grant
    assert grant is not None
    assert isinstance(open_lease(world.broker, world.current(by), grant.id), Opened)
    return grant


def tick(world: World) -> None:
    if world.ticker is None:
        world.ticker = Ticker(world.broker)
    world.advance(timedelta(seconds=1))
    world.sweep()


def ended(world: World, grant: Grant) -> bool:
    with world.broker.read() as view:
        leases = view.all(select(Lease).where(Lease.grant_id == grant.id))
        return view.require(Grant, grant.id).state == GrantState.ENDED and all(
            lease.state == LeaseState.REVOKED for lease in leases
        )


@pytest.mark.covers("R6", "R12")
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("opener", ["arta", "arta-2"])
def test_what_a_dead_passkey_filed_or_opened_ends_at_the_next_look(world: World, loss: Loss, opener: str) -> None:
    grant = opened(world, opener)
    tick(world)
    assert not ended(world, grant)
    loss(world, world.current(opener).passkey.id)
    tick(world)
    assert ended(world, grant)


@pytest.mark.covers("R12")
@pytest.mark.parametrize("key", ["arta", "blerim"])
def test_a_request_that_a_dead_passkey_filed_or_approved_does_not_wait_on(world: World, key: str) -> None:
    request = world.filed(entitlement="releaser").request
    other = world.filed("arta-2", entitlement="releaser", inputs={"order": "TR-000431", "amount_cents": 5}).request
    world.approved("blerim", request.id)
    with world.broker.begin(LOCAL) as tx:
        passkey = world.current(key).passkey.id
        _, counted = hold.place(tx, world.broker, kind=HoldKind.PASSKEY, subject_id=passkey, cause="x", by="test")
    assert (counted.requests, counted.grants) == (1, 0)
    with world.broker.read() as view:
        states = [view.require(AccessRequest, one.id).state for one in (request, other)]
    assert states == [RequestState.DENIED, RequestState.PENDING]


@pytest.mark.covers("R12", "R34")
def test_a_token_does_not_stand_on_a_dead_passkey_even_before_the_next_look(world: World) -> None:
    grant = opened(world, "arta-2")
    with world.broker.begin(SYSTEM) as tx:
        lease = tx.all(select(Lease))[0]
        event = tx.record(EventType.TOKEN_ISSUED, subject={"grant": grant.id})
        token = tx.insert(
            Token, event, id=tx.new_id(), kind="access", lease_id=lease.id, grant_id=grant.id, client_id="c", family="f",
            scope="openid", auth_at=tx.now, acr="phr", amr=[], created_at=tx.now, expires_at=tx.now + timedelta(minutes=5),
        )  # fmt: skip
    with world.broker.read() as view:
        found = behind(view, BY_JTI, jti=token.id)
        assert found is not None
        assert stands(view, found)
    removed(world, world.current("arta-2").passkey.id)
    with world.broker.read() as view:
        found = behind(view, BY_JTI, jti=token.id)
        assert found is not None
        assert not stands(view, found)
