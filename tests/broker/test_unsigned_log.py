"""A log that cannot be signed gives nothing out, and a broker that cannot work says that it is not ready."""

from datetime import timedelta

import pytest

from jitaccess.app import create_app
from jitaccess.audit.checkpoints import SIGN_WITHIN
from jitaccess.broker import health, restore
from jitaccess.broker.health import Finding, Level
from jitaccess.broker.hold import HoldKind, place
from jitaccess.broker.issue import Opened, open_lease
from jitaccess.broker.sweep import Ticker
from jitaccess.domain.values import LOCAL
from jitaccess.errors import JitError, Kind
from jitaccess.store.tables import Grant
from tests.oidc.conftest import open_treasury
from tests.support.world import ORIGIN, World

NEVER = "CREATE TRIGGER never BEFORE INSERT ON checkpoint BEGIN SELECT RAISE(ABORT, 'full'); END"
SECOND = timedelta(seconds=1)


def grant_of(world: World, duration_s: int) -> Grant:
    grant = world.filed(duration_s=duration_s).grant
    assert grant is not None
    return grant


def opening(world: World, grant: Grant) -> bool:
    return isinstance(open_lease(world.broker, world.current("arta"), grant.id), Opened)


def level(world: World, what: Finding) -> Level:
    with world.broker.read() as view:
        return {one.what: one.level for one in health.findings(view, world.broker, restore.damaged(view))}[what]


def ready(world: World) -> int:
    return create_app(world.broker).test_client().get("/readyz", base_url=ORIGIN).status_code


@pytest.mark.covers("R64", "R69")
def test_while_the_log_cannot_be_signed_nothing_is_given_out_after_a_minute(sqlite_world: World) -> None:
    world = sqlite_world
    treasury = open_treasury(world)
    treasury.sign_in("arta")
    world.broker.checkpoints.make()
    world.sql(NEVER)
    grant = grant_of(world, 600)
    tokens = treasury.tokens(grant)  # within the bound a grant without approvals needs no signature yet
    world.advance(SIGN_WITHIN + SECOND)
    with pytest.raises(JitError) as refused:
        opening(world, grant_of(world, 700))
    assert refused.value.kind is Kind.UNAVAILABLE
    assert treasury.refresh(tokens["refresh_token"]).status_code == 503
    assert level(world, Finding.LOG) is Level.ACT
    with world.broker.begin(LOCAL) as tx:  # ending goes on
        _, ended = place(tx, world.broker, kind=HoldKind.TARGET, subject_id="treasury", cause="x", by="test")
    assert ended.grants == 2


@pytest.mark.covers("R69")
def test_an_issue_signs_by_itself_what_nobody_signed(world: World) -> None:
    grant = grant_of(world, 600)
    world.advance(SIGN_WITHIN + SECOND)
    assert opening(world, grant)
    with world.broker.read() as view:
        newest = world.broker.checkpoints.latest(view)
    assert newest is not None


@pytest.mark.covers("R64")
def test_readiness_fails_with_what_the_broker_cannot_work_without(sqlite_world: World) -> None:
    world = sqlite_world
    assert ready(world) == 503  # nobody looks at what is due yet
    Ticker(world.broker).housekeeping()
    world.broker.checkpoints.make()
    assert ready(world) == 200
    with world.broker.begin(LOCAL) as tx:
        place(tx, world.broker, kind=HoldKind.TARGET, subject_id="treasury", cause="x", by="test")
    assert ready(world) == 200  # what waits for people keeps nobody from ending access here
    world.sql(NEVER)
    world.advance(SIGN_WITHIN + SECOND)
    assert ready(world) == 503
    world.sql("DROP TRIGGER never")
    world.broker.checkpoints.make()
    assert ready(world) == 200
    world.broker.db.log_whole = False
    assert (ready(world), level(world, Finding.LOG_WHOLE)) == (503, Level.ACT)
    world.broker.db.log_whole = True
    world.clock.jump(-timedelta(hours=1))
    assert ready(world) == 503
