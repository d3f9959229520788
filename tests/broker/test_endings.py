"""Ends of access that do not succeed are told in reasons that people can act on, and are tried at once when somebody says so."""

import ast
from datetime import timedelta

import ldap3.core.exceptions as ldap
import psycopg
import pymysql
import pytest
from sqlalchemy import select

from jitaccess.broker.cut import STUCK_AFTER, error_word
from jitaccess.broker.endings import Why, endings, place_of, try_now, under_way, why
from jitaccess.connectors.contract import CallFailed, Unreachable
from jitaccess.connectors.fake import FakeConnector
from jitaccess.domain.events import EventType
from jitaccess.domain.lifecycle import LeaseState
from jitaccess.errors import JitError, Kind
from jitaccess.store.tables import Event, Lease
from tests.broker.test_cut import count, lease, with_target
from tests.support.sources import ROOT
from tests.support.world import World


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (Unreachable("x"), Why.UNREACHABLE),
        (ConnectionRefusedError(111, "refused"), Why.UNREACHABLE),
        (psycopg.OperationalError("server closed the connection"), Why.UNREACHABLE),
        (psycopg.errors.AdminShutdown(), Why.UNREACHABLE),
        (pymysql.err.OperationalError(2013, "Lost connection"), Why.UNREACHABLE),
        (ldap.LDAPSocketOpenError(), Why.UNREACHABLE),
        (TimeoutError(), Why.SLOW),
        (psycopg.errors.LockNotAvailable(), Why.SLOW),
        (psycopg.errors.QueryCanceled(), Why.SLOW),
        (psycopg.errors.ConnectionTimeout(), Why.SLOW),
        (pymysql.err.OperationalError(1205, "Lock wait timeout exceeded"), Why.SLOW),
        (ldap.LDAPBusyResult(), Why.SLOW),
        (psycopg.errors.InsufficientPrivilege(), Why.FORBIDDEN),
        (psycopg.errors.InvalidPassword(), Why.FORBIDDEN),
        (pymysql.err.OperationalError(1227, "Access denied"), Why.FORBIDDEN),
        (ldap.LDAPInsufficientAccessRightsResult(), Why.FORBIDDEN),
        (CallFailed("status_403"), Why.FORBIDDEN),
        (psycopg.errors.DependentObjectsStillExist(), Why.NEEDED),
        (CallFailed("would_lose 2: a, b"), Why.NEEDED),
        (CallFailed("still_active"), Why.STILL_THERE),
        (CallFailed("status_500"), Why.ANSWER),
        (CallFailed("too_slow"), Why.SLOW),
        (ValueError("odd"), Why.OTHER),
    ],
)  # fmt: skip
def test_an_error_of_a_target_becomes_a_reason(error: Exception, found: Why) -> None:
    assert why(error_word(error)) is found


def test_the_record_keeps_the_targets_own_number_and_no_text() -> None:
    assert error_word(pymysql.err.OperationalError(1205, "secret")) == "OperationalError 1205"
    assert error_word(ValueError("secret")) == "ValueError"


def test_words_of_our_own_become_reasons_too() -> None:
    assert why(None) is None
    assert why("no_proof") is Why.STILL_THERE
    assert why("seal_broken") is Why.RECORD
    assert {why(kind.value) for kind in Kind} == {Why.SETTINGS, Why.RECORD}
    assert why("Unreachable", publishes=True) is Why.UNCONFIRMED


def test_no_failure_that_a_connector_writes_down_is_left_without_a_reason() -> None:
    codes = set()
    for file in (ROOT / "jitaccess" / "connectors").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "CallFailed":
                codes |= {part.value for part in node.args if isinstance(part, ast.Constant)}
    assert len(codes) > 5
    assert {code for code in codes if why(f"CallFailed {code}") is Why.OTHER} == set()


def stubborn(world: World, fake: FakeConnector, attempts: int = 1) -> str:
    """Give a lease that cannot be taken away and was tried so often."""
    key = with_target(world, fake)
    fake.faults["cut"] = "fail"
    world.advance(timedelta(seconds=601))
    world.sweep()
    for _ in range(attempts - 1):
        world.advance(timedelta(seconds=1000))
        world.sweep()
    return key


@pytest.mark.covers("R51")
def test_what_does_not_end_is_listed_with_why_how_often_and_when_next(world: World) -> None:
    key = stubborn(world, FakeConnector())
    with world.broker.read() as view:
        (found,) = endings(view, world.broker)
        assert (found.lease.id, found.stuck, found.running) == (key, False, False)
        assert (found.why, found.lease.attempts) == (Why.UNREACHABLE, 1)
        assert found.next_at == found.lease.next_at
        assert found.grant is not None
        assert found.grant.entitlement == "viewer"
        assert under_way(view) == 1
        assert endings(view, world.broker, target="payroll") == []
        assert endings(view, world.broker, persons=[world.person("besa")]) == []
        assert endings(view, world.broker, after=place_of(found)) == []


@pytest.mark.covers("R51")
def test_stuck_ones_come_first_also_from_page_to_page(world: World) -> None:
    fake = FakeConnector()
    stuck = stubborn(world, fake, STUCK_AFTER)
    old = with_target(world, fake, name="cellar")
    world.advance(timedelta(seconds=601))
    world.sweep()
    world.sql("UPDATE lease SET ended_at = 1 WHERE id = :id", id=old)
    with world.broker.read() as view:
        first, second = endings(view, world.broker)
        assert [first.lease.id, second.lease.id] == [stuck, old]
        assert [one.lease.id for one in endings(view, world.broker, after=place_of(first))] == [old]


@pytest.mark.covers("R51", "R71")
def test_trying_now_wakes_who_ends_things_and_is_an_event(world: World) -> None:
    fake = FakeConnector()
    key = stubborn(world, fake, STUCK_AFTER)
    assert lease(world, key).state == LeaseState.STUCK
    fake.faults.clear()
    world.sweep()
    assert lease(world, key).state == LeaseState.STUCK, "its turn has not come"
    agim = world.current("agim")
    world.broker.ending.clear()
    with world.broker.begin(agim.actor, lock=[(Lease, key)]) as tx:
        try_now(tx, key)
    assert world.broker.ending.is_set(), "it is taken up at once"
    with world.broker.read() as view:
        (found,) = endings(view, world.broker)
        assert (found.next_at, found.lease.attempts) == (None, STUCK_AFTER)
        (event,) = view.all(select(Event).where(Event.type == EventType.LEASE_RETRIED.value))
        assert (event.person_id, event.grant_id) == (agim.person.id, found.lease.grant_id)
    world.sweep()
    assert lease(world, key).state == LeaseState.REVOKED
    assert count(world, EventType.LEASE_RETRIED) == 1


def test_only_what_is_under_way_is_tried(world: World) -> None:
    key = with_target(world, FakeConnector())
    for wrong, kind in (
        (key, Kind.CONFLICT),
        ("nothing", Kind.NOT_FOUND),
        ("", Kind.NOT_FOUND),
        ("x" * 65, Kind.NOT_FOUND),
    ):
        with pytest.raises(JitError) as caught, world.broker.begin(world.current("agim").actor) as tx:
            try_now(tx, wrong)
        assert caught.value.kind is kind
    assert count(world, EventType.LEASE_RETRIED) == 0


@pytest.mark.covers("R51")
def test_a_record_that_was_changed_can_still_be_tried(world: World) -> None:
    fake = FakeConnector()
    key = stubborn(world, fake)
    world.sql("UPDATE lease SET person_id = 'x' WHERE id = :id", id=key)
    with world.broker.begin(world.current("agim").actor) as tx:
        assert try_now(tx, key).next_at == tx.now


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ('CallFailed superuser: ALTER ROLE "jit_1" NOSUPERUSER', Why.OWNER),
        ("CallFailed prepared: ROLLBACK PREPARED 'x'", Why.OWNER),
        ("CallFailed definer: ALTER ROUTINE a() SECURITY INVOKER", Why.OWNER),
        ("CallFailed still_in_session", Why.STILL_THERE),
        ("CallFailed still_logs_in", Why.STILL_THERE),
        ("CallFailed still_a_member", Why.STILL_THERE),
        ("CallFailed unfinished", Why.SLOW),
    ],
)
def test_what_connectors_say_has_a_reason_in_words(word: str, reason: Why) -> None:
    assert why(word) is reason
