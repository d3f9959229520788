"""Are the cheap reads as careful as any? Prepared questions check every seal, and a view rests on one register."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import bindparam, func, select, text

from jitaccess.clock import FrozenClock
from jitaccess.domain.events import EventType
from jitaccess.domain.values import SYSTEM
from jitaccess.errors import JitError, Kind
from jitaccess.store.db import SealBroken, View
from jitaccess.store.find import Count, Find, Joined, one_of
from jitaccess.store.seal import Seals
from jitaccess.store.tables import CheckpointRow, Event, Group, Membership, PolicySetRow
from tests.support.bare_store import BareStore, create_store
from tests.support.world import World

NAMED = Find(Group, select(Group).where(Group.name == bindparam("name"), one_of(Group.id, ["x"]) | (Group.id > "")))

HOW_MANY = Count(select(func.count(), func.count().filter(Group.name == bindparam("name"))).select_from(Group))


@pytest.fixture
def store(database_url: str, clock: FrozenClock) -> Iterator[BareStore]:
    made = create_store(database_url, clock)
    yield made
    made.close()


@pytest.fixture
def served(fresh_postgres_url: str, clock: FrozenClock) -> Iterator[BareStore]:
    """Give a store on a server, for what a file does not do."""
    made = create_store(fresh_postgres_url, clock)
    yield made
    made.close()


def names(view: View) -> list[str]:
    return sorted(group.name for group in view.all(select(Group)))


@pytest.mark.covers("R63")
def test_a_prepared_question_checks_every_seal(store: BareStore) -> None:
    good, bad = store.add_group("good"), store.add_group("bad")
    with store.db.read() as view:
        assert [row.id for row in view.find(NAMED, name="good")] == [good]
        assert view.find(NAMED, name="nobody") == []
    store.sql("UPDATE person_group SET institution = 'other' WHERE id = :id", id=bad)
    with pytest.raises(SealBroken), store.db.read() as view:
        view.find(NAMED, name="bad")
    with store.db.read() as view:
        assert [row.institution for row in view.unchecked_find(NAMED, name="bad")] == ["other"]


PAIRS = Joined(
    select(Group).join(Membership, Membership.group_id == Group.id).where(Group.name == bindparam("name")),
    (Group, Membership),
    (Membership.since_at,),
)


@pytest.mark.covers("R63")
@pytest.mark.parametrize("broken", ["person_group SET created_at", "membership SET since_at"])
def test_what_is_read_together_is_checked_row_by_row(store: BareStore, broken: str) -> None:
    group = store.add_group("one")
    with store.db.begin(SYSTEM) as tx:
        member = {"group_id": group, "member_kind": "person", "member_id": "p", "status": "active", "since_at": tx.now}
        tx.insert(Membership, tx.record(EventType.MEMBERSHIP_ADDED), id=f"{group}/p", **member)
    with store.db.read() as view:
        assert view.joined(PAIRS, name="nobody") == []
        [(row, membership, since_at)] = view.joined(PAIRS, name="one")
        assert (row.id, membership.id, since_at) == (group, f"{group}/p", membership.since_at)
        assert view.get(Group, group) is row, "read together or alone, a row is one object"
    store.sql(f"UPDATE {broken} = {broken.split()[-1]} + 1")
    with pytest.raises(SealBroken) as found, store.db.read() as view:
        view.joined(PAIRS, name="one")
    assert found.value.table == broken.split()[0]


@pytest.mark.covers("R63", "R71")
@pytest.mark.parametrize(
    "change",
    ["name = 'other'", "created_at = created_at + 1", "version = version + 1", "event_id = NULL", "seal = seal || 'A'"],
)
def test_a_row_found_good_before_is_broken_with_the_next_byte(store: BareStore, change: str) -> None:
    key = store.add_group("good")
    for _ in range(3):  # checked, known, known
        with store.db.read() as view:
            assert view.require(Group, key).name == "good"
    store.sql(f"UPDATE person_group SET {change} WHERE id = :id", id=key)
    with pytest.raises(SealBroken), store.db.read() as view:
        view.get(Group, key)


@pytest.mark.covers("R63", "R71")
def test_a_row_found_good_before_is_refused_when_the_log_knows_a_newer_one_or_blocks_it(store: BareStore) -> None:
    key = store.add_group("good")
    with store.db.read() as view:
        row = view.require(Group, key)
        was = (row.version, row.event_id, row.seal)
    store.db.blocked.add(("person_group", key))
    with pytest.raises(SealBroken), store.db.read() as view:
        view.get(Group, key)
    store.db.blocked.clear()
    with store.db.begin(SYSTEM) as tx:
        tx.update(tx.require(Group, key), tx.record(EventType.GROUP_ADDED), name="newer")
    store.sql(
        "UPDATE person_group SET name = 'good', version = :v, event_id = :e, seal = :s WHERE id = :id",
        id=key, v=was[0], e=was[1], s=was[2],
    )  # fmt: skip
    with pytest.raises(SealBroken), store.db.read() as view:
        view.get(Group, key)


@pytest.mark.covers("R35", "R71")
def test_what_was_found_good_is_looked_at_anew_under_other_keys(store: BareStore) -> None:
    key = store.add_group("good")
    with store.db.read() as view:
        view.require(Group, key)
    store.db.seals.ask = None  # or it would learn its keys again
    store.db.seals.adopt(Seals("other", {"other": bytes(32)}))
    with pytest.raises(SealBroken), store.db.read() as view:
        view.get(Group, key)


def test_lists_of_a_known_row_belong_to_one_view(world: World) -> None:
    with world.broker.read() as view:
        [key] = view.rows(select(PolicySetRow.id)).scalars().all()
    for _ in range(3):
        with world.broker.read() as view:
            document = view.require(PolicySetRow, key).document
            assert document.pop("rules")


def test_only_what_was_read_is_remembered_never_what_was_written_over_it(store: BareStore) -> None:
    key = store.add_group("good")
    with store.db.begin(SYSTEM) as tx:
        row = tx.require(Group, key)
        tx.update(row, tx.record(EventType.GROUP_ADDED), name="newer")
        assert tx.intact(row)
    with store.db.read() as view:
        assert view.require(Group, key).name == "newer"


def test_a_question_and_a_look_by_key_give_the_same_object(store: BareStore) -> None:
    key = store.add_group("one")
    with store.db.begin(SYSTEM) as tx:
        row = tx.require(Group, key)
        assert tx.find(NAMED, name="one") == [row]
        tx.update(row, tx.record(EventType.GROUP_ADDED), name="two")
        assert tx.find(NAMED, name="one") == []
        assert tx.find(NAMED, name="two")[0] is row


def test_rows_whose_key_is_a_number_are_one_object_too(store: BareStore) -> None:
    store.checkpoints.make()
    with store.db.read() as view:
        newest = store.checkpoints.latest(view)
        assert newest is not None
        assert view.first(select(CheckpointRow).where(CheckpointRow.size == newest.size)) is newest


def test_a_prepared_count_counts_what_was_just_written(store: BareStore) -> None:
    store.add_group("one")
    with store.db.begin(SYSTEM) as tx:
        assert tx.count(HOW_MANY, name="one") == (1, 1)
        event = tx.record(EventType.GROUP_ADDED)
        tx.insert(Group, event, id=tx.new_id(), name="two", institution=None, created_at=tx.now)
        assert tx.count(HOW_MANY, name="one") == (2, 1)
        assert tx.count(HOW_MANY, name="nobody") == (2, 0)


def test_a_question_whose_text_would_change_is_a_defect(store: BareStore) -> None:
    wrong = Find(Group, select(Group).where(Group.name.in_(["a", "b"])))
    with store.db.read() as view, pytest.raises(ValueError, match="one_of"):
        view.find(wrong)


def test_no_values_match_nothing(store: BareStore) -> None:
    store.add_group("one")
    with store.db.read() as view:
        assert view.all(select(Group).where(one_of(Group.name, []))) == []
        assert len(view.all(select(Group).where(one_of(Group.name, ["one", "two"])))) == 1


@pytest.mark.covers("R12")
def test_a_view_sees_one_register_and_the_next_view_the_next(store: BareStore) -> None:
    store.add_group("first")
    with store.db.read() as view:
        assert view.cached("names", names) == ["first"]
        store.add_group("second")
        assert view.cached("names", names) == ["first"]
    with store.db.read() as view:
        assert view.cached("names", names) == ["first", "second"]


@pytest.mark.covers("R12")
def test_a_transaction_sees_the_register_that_it_changes(store: BareStore) -> None:
    store.add_group("first")
    with store.db.begin(SYSTEM) as tx:
        assert tx.cached("names", names) == ["first"]
        key = tx.new_id()
        event = tx.record(EventType.GROUP_ADDED, subject={"group": key})
        tx.insert(Group, event, id=key, name="second", institution=None, created_at=tx.now)
        assert tx.cached("names", names) == ["first", "second"]
    with store.db.read() as view:
        assert view.cached("names", names) == ["first", "second"]


@pytest.mark.covers("R12", "R64")
def test_a_register_that_never_came_to_be_is_forgotten(tmp_path: Path, clock: FrozenClock) -> None:
    """Two share a commit on SQLite: one changes the register, the other reads it, and then the commit fails."""
    lite = create_store(f"sqlite:///{tmp_path / 'lite.db'}", clock)
    fail = threading.Event()

    def probe(moment: str) -> None:
        if moment == "before-commit" and fail.is_set():
            raise sqlite3.OperationalError("disk I/O error")

    store = lite.again(probe=probe)
    seen: list[object] = []
    fail.set()

    def reads() -> None:
        try:
            with store.db.begin(SYSTEM) as tx:
                seen.append(tx.cached("names", names))
                tx.record(EventType.ALARM_RAISED)
        except JitError as error:
            seen.append(error.kind)

    reader = threading.Thread(target=reads)

    def changes() -> None:
        with store.db.begin(SYSTEM) as tx:
            key = tx.new_id()
            event = tx.record(EventType.GROUP_ADDED, subject={"group": key})
            tx.insert(Group, event, id=key, name="undone", institution=None, created_at=tx.now)
            reader.start()
            limit = time.monotonic() + 30
            while store.db._waiting == 0 and time.monotonic() < limit:
                time.sleep(0.01)

    with pytest.raises(JitError):
        changes()
    reader.join(30)
    assert seen == [["undone"], Kind.UNAVAILABLE]
    fail.clear()
    store.add_group("kept")
    with store.db.read() as view:
        assert view.cached("names", names) == ["kept"]
    store.close()
    lite.close()


def pair(store: BareStore, name: str) -> str:
    """Make a group with a member; return its id."""
    group = store.add_group(name)
    with store.db.begin(SYSTEM) as tx:
        member = {"group_id": group, "member_kind": "person", "member_id": "p", "status": "active", "since_at": tx.now}
        tx.insert(Membership, tx.record(EventType.MEMBERSHIP_ADDED), id=f"{group}/p", **member)
    return group


@pytest.mark.covers("R63")
def test_a_glance_gives_one_answer_and_the_register_at_hand_and_a_view_whatever_else_is_asked(store: BareStore) -> None:
    group = pair(store, "one")
    views: list[View] = []

    def act(view: View, *more: str) -> tuple[list[str], list[str]]:
        views.append(view)
        known = view.cached("names", names)
        return [row.id for row, _, _ in view.joined(PAIRS, name="one")], [*known, *more]

    for times in (2, 1, 1):  # the register is read in a whole view first
        views.clear()
        assert store.db.at_a_glance(PAIRS, act, name="one") == ([group], ["one"])
        assert len(views) == times
    store.add_group("two")
    assert store.db.at_a_glance(PAIRS, act, name="one") == ([group], ["one", "two"]), "a newer register is read"
    with store.db.begin(SYSTEM) as tx:
        tx.update(tx.require(Group, group), tx.record(EventType.GROUP_ADDED), name="uno")
    assert store.db.at_a_glance(PAIRS, act, name="one") == ([], ["two", "uno"]), "nothing is there: a view says so"
    with store.db.read() as view:
        view.cached("names", names)
    asks: list[Callable[[View], object]] = [
        names,
        lambda view: view.session.get(Group, group),
        lambda view: view.joined(PAIRS, name="one"),
        lambda view: view.find(NAMED, name="uno"),
        lambda view: view.count(HOW_MANY, name="uno"),
        lambda view: view.get(Group, group),
        lambda view: view.scalar(select(func.count()).select_from(Group)),
        lambda view: view.logged_holds(),
    ]
    for ask in asks:
        seen: list[View] = []
        store.db.at_a_glance(PAIRS, lambda view, ask=ask, seen=seen: (seen.append(view), ask(view)), name="uno")
        assert len(seen) == 2, "what a glance does not hold is never guessed"


@pytest.mark.covers("R63", "R71")
@pytest.mark.parametrize("broken", ["person_group SET created_at", "membership SET since_at"])
def test_a_glance_checks_every_seal_and_alarms_once(store: BareStore, broken: str) -> None:
    pair(store, "one")
    for _ in range(2):  # known by its bytes, too
        assert len(store.db.at_a_glance(PAIRS, lambda view: view.joined(PAIRS, name="one"), name="one")) == 1
    store.sql(f"UPDATE {broken} = {broken.split()[-1]} + 1")
    for _ in range(2):
        with pytest.raises(SealBroken) as found:
            store.db.at_a_glance(PAIRS, lambda view: view.joined(PAIRS, name="one"), name="one")
        assert found.value.table == broken.split()[0]
    with store.db.read() as view:
        alarms = view.scalar(select(func.count()).select_from(Event).where(Event.type == EventType.SEAL_BROKEN.value))
    assert alarms == 1


@pytest.mark.covers("R63")
def test_a_glance_says_in_our_words_what_the_database_refuses(store: BareStore) -> None:
    with pytest.raises(JitError) as refused:
        store.db.at_a_glance(PAIRS, lambda view: view.joined(PAIRS, name="x"), name="\ud800")
    assert refused.value.kind is Kind.INVALID
    assert store.db.at_a_glance(PAIRS, lambda view: view.now.tzinfo is not None, name="x"), "and goes on"


def test_views_leave_on_a_server_what_the_driver_prepared(served: BareStore) -> None:
    pair(served, "one")
    for _ in range(8):
        served.db.at_a_glance(PAIRS, lambda view: view.joined(PAIRS, name="one"), name="one")
        with served.db.read() as view:
            assert len(view.joined(PAIRS, name="one")) == 1
    with served.db.read() as view:
        prepared = view.rows(text("SELECT statement FROM pg_prepared_statements")).scalars().all()
    assert any("register_version" in statement and "membership" in statement for statement in prepared)


@pytest.mark.covers("R64")
@pytest.mark.parametrize("glance", [True, False])
def test_a_server_that_cut_all_readers_off_is_missed_once(served: BareStore, glance: bool) -> None:
    group = pair(served, "one")

    def asked() -> list[str]:
        def act(view: View) -> list[str]:
            return [row.id for row, _, _ in view.joined(PAIRS, name="one")]

        if glance:
            return served.db.at_a_glance(PAIRS, act, name="one")
        with served.db.read() as view:
            return act(view)

    with ExitStack() as several:
        for _ in range(3):
            several.enter_context(served.db.read())
    assert len(served.db._readers) == 3, "they wait for the next"
    served.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with pytest.raises(JitError) as refused:
        asked()
    assert refused.value.kind is Kind.UNAVAILABLE
    for _ in range(3):
        assert asked() == [group]


def test_a_view_that_follows_another_sees_what_came_between(store: BareStore) -> None:
    """On the same connection: what the first one saw is not kept open."""
    for number in range(3):
        with store.db.read() as view:
            assert len(view.find(NAMED, name="one")) == number
        store.add_group("one")
        [connection] = store.db._readers
        assert not connection.in_transaction()
    with pytest.raises(ZeroDivisionError), store.db.read() as view:
        view.find(NAMED, name=str(1 // 0))
    store.add_group("one")
    with store.db.read() as view:
        assert len(view.find(NAMED, name="one")) == 4
