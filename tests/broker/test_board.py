"""Does a board keep what hosts must obey: in order, once a name, sealed, and above every number that was ever given?"""

from datetime import timedelta

import pytest
from sqlalchemy import select

from jitaccess.broker.board import HEAD, READ_AGAIN, SqlBoard, key_of
from jitaccess.clock import to_epoch_us
from jitaccess.connectors.contract import NotDone
from jitaccess.domain.events import EventType
from jitaccess.store.tables import Event, Posting
from tests.support.world import World


def board(world: World, target: str = "hosts") -> SqlBoard:
    return SqlBoard(world.broker.db, target)


def test_what_is_posted_is_read_by_every_process_until_its_end(world: World) -> None:
    one, other = board(world), board(world)
    assert other.read().entries == {}
    assert other.read().number == 0
    now = world.clock.now()
    first = one.post({"a": ({"x": 1}, now + timedelta(minutes=1)), "b": ({"x": 2}, None)})
    assert first >= to_epoch_us(now)
    second = other.post({"b": ({"x": 3}, None)})
    assert second > first, "the clock stood still, and the number rose"
    assert one.read().number == second
    assert one.read().entries == {"a": {"x": 1}, "b": {"x": 3}}
    assert board(world, "elsewhere").read().entries == {}
    world.clock.advance(timedelta(minutes=1))
    assert one.read().entries == {"b": {"x": 3}}


@pytest.mark.covers("R47")
def test_nothing_is_announced_too_late_or_under_a_name_that_was_used(world: World) -> None:
    there, now = board(world), world.clock.now()
    with pytest.raises(NotDone):
        there.post({"a": ({}, None)}, only_before=now)
    assert there.read().number == 0
    later = now + timedelta(hours=1)
    there.post({"a": ({}, now + timedelta(seconds=1))}, only_before=later)
    world.clock.advance(timedelta(seconds=2))
    assert there.read().entries == {}
    with pytest.raises(NotDone):
        there.post({"a": ({}, None), "b": ({}, None)}, only_before=later)
    assert there.read().entries == {}


def test_every_posting_is_in_the_log(world: World) -> None:
    number = board(world).post({"a": ({}, None), "b": ({}, None)})
    with world.broker.read() as view:
        (event,) = view.all(select(Event).where(Event.type == EventType.TARGET_POSTED.value))
    assert str(number) in event.leaf
    assert '"entries":2' in event.leaf


def test_an_entry_that_was_changed_by_sql_is_named_and_never_believed_again(world: World) -> None:
    there = board(world)
    there.post({"a": ({"state": "ended"}, None), "b": ({}, None)})
    world.sql("UPDATE posting SET value = :value WHERE id = :id", value='{"state":"live"}', id=key_of("hosts", "a"))
    world.clock.advance(READ_AGAIN)
    seen = there.read()
    assert seen.broken == {"a"}
    assert set(seen.entries) == {"b"}
    there.post({"a": ({"state": "ended"}, None)})
    assert there.read().broken == {"a"}, "nothing heals it: its name alone says that it is over"


def test_many_are_posted_at_once(world: World) -> None:
    there = board(world)
    many = {f"n{k}": ({"k": k}, None) for k in range(1200)}
    there.post(many)
    there.post(many)
    with world.broker.read() as view:
        rows = view.all(select(Posting).where(Posting.target == "hosts", Posting.name != HEAD))
    assert len(rows) == 1200


def test_a_report_is_kept_unless_a_newer_one_is_there(world: World) -> None:
    there = board(world)
    assert there.take("db1", 5, ("five", "signed"))
    assert not there.take("db1", 4, ("four", "signed"))
    assert there.take("db1", 5, ("five again", "signed"))
    assert there.take("db2", 1, ("one", "signed"))
    reports = there.read().reports
    assert {host: report.text for host, report in reports.items()} == {"db1": "five again", "db2": "one"}
    assert reports["db1"].received_at == world.clock.now()
