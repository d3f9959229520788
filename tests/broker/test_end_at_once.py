"""An end begins with the commit that says so, not with the next tick; and should nobody wake, the tick ends it all the same."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import cast

import pytest

from jitaccess.broker import hold, revoke
from jitaccess.broker.context import Broker
from jitaccess.broker.hold import HoldKind
from jitaccess.broker.issue import Opened, open_lease
from jitaccess.broker.sweep import Ticker
from jitaccess.connectors.fake import FakeConnector, fake_kind
from jitaccess.domain.lifecycle import LeaseState
from jitaccess.domain.values import LOCAL
from jitaccess.errors import JitError
from jitaccess.identity.sessions import Current
from jitaccess.policy.schema import TokenConnector
from jitaccess.settings import Sweep
from jitaccess.store.db import Tx
from jitaccess.store.tables import Grant, Lease
from tests.support.mortal import give_back
from tests.support.world import START, Prepared, World, open_world
from tests.support.worlds import copy_of

NO_TICK = Sweep(every_s=5)
"""The first tick comes when the test is over."""
SOON_S = 4.0


def ticking(world: World, sweep: Sweep = NO_TICK, *, watch: bool = False) -> FakeConnector:
    """Let a world tick, with the treasury as a target on which accounts are made."""
    fake, ticker = silent(world, sweep)
    (ticker.watch if watch else ticker.start)()
    return fake


def silent(world: World, sweep: Sweep = NO_TICK) -> tuple[FakeConnector, Ticker]:
    """Give a world a ticker that does not tick yet."""
    fake = FakeConnector()
    world.use_kind(fake_kind(fake, "token", config=TokenConnector))
    settings = world.broker.settings.model_copy(update={"sweep": sweep})
    world.broker = replace(world.broker, settings=settings)
    world.ticker = Ticker(world.broker)
    return fake, world.ticker


def opened(world: World, duration_s: int = 600) -> Opened:
    grant = world.filed(duration_s=duration_s).grant
    assert grant is not None
    found = open_lease(world.broker, world.current("arta"), grant.id)
    assert isinstance(found, Opened), found
    return found


def state(world: World, one: Opened) -> str:
    with world.broker.read() as view:
        return view.require(Lease, one.lease.id).state


def over(world: World, one: Opened) -> bool:
    return state(world, one) == LeaseState.REVOKED


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    """Wait until something holds, or for so long."""
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def hand_back(world: World, one: Opened) -> None:
    give_back(world, one)


def revoked(world: World, one: Opened) -> None:
    drita = world.current("drita")
    with world.broker.begin(drita.actor, lock=[(Grant, one.lease.grant_id)]) as tx:
        assert isinstance(revoke.revoke(tx, world.broker, drita, one.lease.grant_id), Grant)


def everything(world: World, one: Opened) -> None:
    with world.broker.begin(LOCAL) as tx:
        hold.end_everything(tx, world.broker, kind=HoldKind.TARGET, subject_id="treasury", by="local")


@pytest.mark.covers("R50", "R61")
@pytest.mark.parametrize("end", [hand_back, revoked, everything])
def test_what_a_person_ends_is_taken_away_without_a_tick(world: World, end: Callable[[World, Opened], None]) -> None:
    fake = ticking(world)
    one = opened(world)
    assert fake.accounts
    end(world, one)
    assert within(SOON_S, lambda: state(world, one) == LeaseState.REVOKED)
    assert fake.accounts == {}


@pytest.mark.covers("R60")
def test_a_serving_process_takes_away_what_it_ended_beside_a_worker(world: World) -> None:
    fake = ticking(world, watch=True)  # here nothing sweeps at all
    one = opened(world)
    give_back(world, one)
    assert within(SOON_S, lambda: state(world, one) == LeaseState.REVOKED)
    assert fake.accounts == {}


@pytest.mark.covers("R59")
def test_the_tick_ends_what_nobody_was_woken_for(sqlite_world: World) -> None:
    world = sqlite_world
    fake = ticking(world, Sweep(every_s=0.2))
    one = opened(world)
    deaf = replace(world.broker, ending=type(world.broker.ending)())  # another process than the one that ticks
    arta = world.current("arta")
    with deaf.begin(arta.actor) as tx:
        revoke.hand_back(tx, arta, one.lease.grant_id)
    assert within(SOON_S, lambda: state(world, one) == LeaseState.REVOKED)
    assert fake.accounts == {}


@pytest.mark.covers("R61")
def test_what_ends_while_its_target_is_busy_follows_at_once(sqlite_world: World) -> None:
    world = sqlite_world
    fake = ticking(world)
    first, second = opened(world), opened(world)
    fake.faults["cut"] = "hang"
    give_back(world, first)
    assert within(SOON_S, lambda: ("cut", first.lease.effect["name"]) in fake.calls)
    give_back(world, second)
    fake.faults.clear()
    fake.released.set()
    assert within(SOON_S, lambda: {state(world, first), state(world, second)} == {LeaseState.REVOKED})


def _hand_back_twice(tx: Tx, current: Current, one: Opened) -> None:
    revoke.hand_back(tx, current, one.lease.grant_id)
    revoke.hand_back(tx, current, one.lease.grant_id)


@pytest.mark.covers("R59")
def test_waking_outlives_an_error_and_a_commit_that_failed_wakes_nobody(sqlite_world: World) -> None:
    world = sqlite_world
    ticking(world)
    first, second = opened(world), opened(world)
    arta = world.current("arta")
    quiet: Broker = replace(world.broker, ending=type(world.broker.ending)())
    with pytest.raises(JitError), quiet.begin(arta.actor) as tx:
        _hand_back_twice(tx, arta, first)  # which undoes all of it
    assert not quiet.ending.is_set()
    world.sql("ALTER TABLE lease RENAME TO away")
    world.broker.ending.set()
    assert within(SOON_S, lambda: not world.broker.ending.is_set())
    time.sleep(0.2)
    world.sql("ALTER TABLE away RENAME TO lease")
    give_back(world, second)
    assert within(SOON_S, lambda: state(world, second) == LeaseState.REVOKED)


class GoingOn:
    """A clock that goes on from where the seeded world begins."""

    def __init__(self) -> None:
        self._off = START + timedelta(minutes=1) - datetime.now(UTC)

    def now(self) -> datetime:
        return datetime.now(UTC) + self._off

    def monotonic(self) -> float:
        return time.monotonic()


@pytest.fixture
def living(prepared_sqlite: Prepared, tmp_path: Path) -> Iterator[World]:
    """Give a world whose clock goes on."""
    world = open_world(copy_of(prepared_sqlite, tmp_path), prepared_sqlite, tmp_path, clock=GoingOn())
    yield world
    world.close()


@pytest.mark.covers("R50", "R59")
def test_an_end_is_waited_for_and_does_not_wait_for_the_tick(living: World) -> None:
    fake, ticker = silent(living)
    first, second = opened(living, 1), opened(living, 2)
    ticker.start()
    for one in (first, second):
        assert within(SOON_S, partial(over, living, one))
        with living.broker.read() as view:
            proof = view.require(Lease, one.lease.id).proof
        assert isinstance(proof, dict)
        assert cast(int, proof["lag_ms"]) < 1_500, "the first tick comes after 5 s"
    assert fake.accounts == {}


@pytest.mark.covers("R59")
def test_an_end_that_cannot_be_written_down_is_left_to_the_tick(living: World) -> None:
    _, ticker = silent(living)
    one = opened(living, 3)
    ticker.start()
    living.sql("ALTER TABLE lease RENAME TO away")
    assert within(SOON_S, lambda: ticker._ended_until >= one.lease.ends_at)
    asked = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - asked < 0.25, "it asks again and again"
    living.sql("ALTER TABLE away RENAME TO lease")
    assert within(2 * SOON_S, lambda: state(living, one) == LeaseState.REVOKED), "the tick found it"


@pytest.mark.covers("R60")
def test_a_process_beside_a_worker_ends_nothing_by_time(living: World) -> None:
    _, ticker = silent(living)
    one = opened(living, 1)
    ticker.watch()
    time.sleep(1.5)
    assert state(living, one) == LeaseState.ACTIVE
