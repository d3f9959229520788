"""Are rows and the events that tell of them one thing, whoever races and whatever breaks?"""

import multiprocessing
import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import event, select

from jitaccess.clock import FrozenClock, SystemClock
from jitaccess.domain.events import EventType
from jitaccess.domain.values import SYSTEM
from jitaccess.errors import JitError, Kind
from jitaccess.store.db import SealBroken, Tx, Unaudited
from jitaccess.store.tables import Event, EventText, Group, Heartbeat
from tests.support.bare_store import BareStore, create_store, open_store


@pytest.fixture
def store(database_url: str, clock: FrozenClock) -> Iterator[BareStore]:
    made = create_store(database_url, clock)
    yield made
    made.close()


@pytest.fixture
def lite(tmp_path: Path, clock: FrozenClock) -> Iterator[BareStore]:
    made = create_store(f"sqlite:///{tmp_path / 'lite.db'}", clock)
    yield made
    made.close()


def run_all(*acts: Callable[[], object]) -> list[object]:
    """Run acts at one moment, a thread each; return results, or the JitError raised."""
    start, found = threading.Barrier(len(acts)), [None] * len(acts)

    def run(number: int) -> None:
        start.wait()
        try:
            found[number] = acts[number]()  # type: ignore[call-overload] # a list of whatever they return
        except JitError as error:
            found[number] = error  # type: ignore[call-overload] # as above

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return list(found)


def events(store: BareStore) -> int:
    count = store.value("SELECT count(*) FROM event")
    assert isinstance(count, int)
    return count


# ---------------------------------------------------------------- evidence


@pytest.mark.covers("R63")
def test_a_row_and_its_event_land_together(store: BareStore) -> None:
    before = events(store)
    key = store.add_group()
    with store.db.read() as view:
        row = view.require(Group, key)
        event = view.require(Event, row.event_id)
    assert (row.name, event.type) == ("treasury", "group.added")
    assert events(store) == before + 1


@pytest.mark.covers("R63")
def test_an_exception_undoes_row_and_event(store: BareStore) -> None:
    before = events(store)
    with pytest.raises(ZeroDivisionError), store.db.begin(SYSTEM) as tx:  # noqa: PT012 - the end of the block is what raises
        told = tx.record(EventType.GROUP_ADDED)
        tx.insert(Group, told, id="gone", name="x", institution=None, created_at=tx.now)
        1 / 0  # noqa: B018 - the failure
    assert events(store) == before
    assert store.value("SELECT count(*) FROM person_group") == 0
    store.add_group()  # and the store goes on


@pytest.mark.covers("R3", "R63")
def test_what_must_outlast_an_undone_transaction_is_kept_and_a_kept_one_does_nothing_more(store: BareStore) -> None:
    def beat(tx: Tx) -> None:
        if tx.get(Heartbeat, "spent") is None:
            tx.insert(Heartbeat, id="spent", beat_at=tx.now)

    with store.db.begin(SYSTEM) as tx:
        tx.if_undone(beat)
    assert store.value("SELECT count(*) FROM heartbeat") == 0
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), store.db.begin(SYSTEM) as tx:  # noqa: PT012 - the end of the block is what raises
            tx.insert(Heartbeat, id="lost", beat_at=tx.now)
            tx.if_undone(beat)
            1 / 0  # noqa: B018 - the failure
    assert store.value("SELECT count(*) FROM heartbeat") == 1
    assert store.value("SELECT id FROM heartbeat") == "spent"


@pytest.mark.covers("R63")
def test_an_error_goes_on_where_nothing_can_outlast_it(store: BareStore) -> None:
    def fails(tx: Tx) -> None:
        raise JitError(Kind.CONFLICT, "The second error.")

    with pytest.raises(ZeroDivisionError), store.db.begin(SYSTEM) as tx:  # noqa: PT012 - the end of the block is what raises
        tx.if_undone(fails)
        1 / 0  # noqa: B018 - the failure
    store.add_group()  # and the store goes on


@pytest.mark.covers("R63")
def test_a_sealed_row_without_an_event_is_refused(store: BareStore) -> None:
    with pytest.raises(Unaudited), store.db.begin(SYSTEM) as tx:
        tx.insert(Group, id="g", name="x", institution=None, created_at=tx.now)


def test_book_keeping_needs_no_event(store: BareStore) -> None:
    before = events(store)
    with store.db.begin(SYSTEM) as tx:
        tx.insert(Heartbeat, id="sweep", beat_at=tx.now)
    assert events(store) == before


def test_assigning_to_a_row_is_refused(store: BareStore) -> None:
    key = store.add_group()
    with pytest.raises(Unaudited), store.db.begin(SYSTEM) as tx:  # noqa: PT012 - the end of the block is what raises
        tx.record(EventType.ALARM_RAISED)
        tx.require(Group, key).name = "other"
    with pytest.raises(Unaudited), store.db.begin(SYSTEM) as tx:  # noqa: PT012 - the end of the block is what raises
        tx.record(EventType.ALARM_RAISED)
        tx.all(select(Group))[0].name = "other"
    assert store.value("SELECT name FROM person_group") == "treasury"


@pytest.mark.covers("R72")
def test_no_verb_deletes_or_edits_an_entry(store: BareStore) -> None:
    store.note()
    with pytest.raises(Unaudited), store.db.begin(SYSTEM) as tx:
        tx.delete(Event)
    with pytest.raises(Unaudited), store.db.begin(SYSTEM) as tx:
        tx.delete(Group)


def test_a_transaction_inside_another_is_a_defect_and_not_a_deadlock(store: BareStore) -> None:
    with pytest.raises(RuntimeError, match="inside another"), store.db.begin(SYSTEM), store.db.begin(SYSTEM):
        pass
    store.add_group()


def test_a_view_cannot_write(store: BareStore) -> None:
    with pytest.raises(JitError) as refused, store.db.read() as view:
        view.rows(Group.__table__.delete())  # type: ignore[attr-defined] # a Table at run time
    assert refused.value.kind is Kind.UNAVAILABLE


def test_one_row_is_one_object_within_a_transaction(store: BareStore) -> None:
    key = store.add_group()
    with store.db.begin(SYSTEM) as tx:
        first = tx.require(Group, key)
        assert tx.all(select(Group))[0] is first
        tx.update(first, tx.record(EventType.GROUP_ADDED), name="renamed")
        assert tx.all(select(Group))[0] is first
        assert tx.require(Group, key) is first
        assert first.name == "renamed"


def test_values_that_no_database_takes_are_refused_as_such(store: BareStore) -> None:
    if store.db.sqlite:
        store.note(0, reason="a\x00b")  # SQLite takes U+0000, and keeps it
        assert store.value("SELECT count(*) FROM event_text WHERE length(text) > 0") == 1
        return
    with pytest.raises(JitError) as refused:
        store.note(0, reason="a\x00b")
    assert refused.value.kind is Kind.INVALID


# ---------------------------------------------------------------- seals


@pytest.mark.covers("R71")
def test_a_row_edited_by_sql_is_refused_and_told_once(store: BareStore) -> None:
    key = store.add_group()
    store.sql("UPDATE person_group SET name = 'mine' WHERE id = :key", key=key)
    for _ in range(2):
        with pytest.raises(SealBroken), store.db.read() as view:
            view.get(Group, key)
        with pytest.raises(SealBroken), store.db.begin(SYSTEM) as tx:
            tx.all(select(Group))
    assert store.value("SELECT count(*) FROM event WHERE type = 'seal.broken'") == 1


def test_a_broken_row_read_beside_a_transaction_is_told_by_the_transactions_end(store: BareStore) -> None:
    key = store.add_group()
    store.sql("UPDATE person_group SET name = 'mine'")
    with pytest.raises(SealBroken), store.db.begin(SYSTEM), store.db.read() as view:
        view.get(Group, key)
    assert store.value("SELECT count(*) FROM event WHERE type = 'seal.broken'") == 1


def test_a_row_copied_under_another_key_is_refused(store: BareStore) -> None:
    store.add_group()
    columns = "name, institution, created_at, version, event_id, seal"
    store.sql(f"INSERT INTO person_group (id, {columns}) SELECT 'copy', {columns} FROM person_group")
    with pytest.raises(SealBroken), store.db.read() as view:
        view.get(Group, "copy")


@pytest.mark.parametrize("many", [False, True])
def test_moving_a_broken_row_on_never_heals_it(store: BareStore, many: bool) -> None:
    key = store.add_group()
    store.sql("UPDATE person_group SET institution = 'mine'")
    with store.db.begin(SYSTEM) as tx:
        row = tx.unchecked_get(Group, key)
        assert row is not None
        event = tx.record(EventType.GROUP_ADDED)
        if many:
            tx.update_many([(row, event, {"name": "moved"})])
        else:
            tx.update(row, event, name="moved")
    assert store.value("SELECT name FROM person_group") == "moved"
    with pytest.raises(SealBroken), store.db.read() as view:
        view.get(Group, key)
    assert store.value("SELECT count(*) FROM event WHERE type = 'seal.broken'") == 1


# ---------------------------------------------------------------- races


@pytest.mark.covers("R60", "T-07")
def test_of_four_that_race_one_wins_sixty_times(store: BareStore) -> None:
    key = store.add_group()
    for number in range(60):
        with store.db.read() as view:
            read = [view.require(Group, key)]
        with store.db.read() as view:
            read.append(view.require(Group, key))
        rows = [*read, *read]

        def move(row: Group, name: str) -> bool:
            with store.db.begin(SYSTEM) as tx:
                event = tx.record(EventType.GROUP_ADDED, subject={"group": key})
                tx.update(_copy(row), event, name=name)
            return True

        found = run_all(*(lambda r=row, n=f"{number}-{i}": move(r, n) for i, row in enumerate(rows)))  # type: ignore[misc] # bound at once
        assert found.count(True) == 1
        assert all(isinstance(one, JitError) and one.kind is Kind.CONFLICT for one in found if one is not True)
    with store.db.read() as view:
        assert view.require(Group, key).version == 61
    assert store.value("SELECT count(*) FROM event WHERE type = 'group.added'") == 61


def _copy(row: Group) -> Group:
    """Return what another thread would have read."""
    return Group(**{column.key: getattr(row, column.key) for column in Group.__table__.columns})


def test_a_key_that_exists_is_a_conflict_and_leaves_no_event(store: BareStore) -> None:
    store.add_group()
    before = events(store)

    def add() -> bool:
        with store.db.begin(SYSTEM) as tx:
            event = tx.record(EventType.GROUP_ADDED)
            tx.insert(Group, event, id="same", name="x", institution=None, created_at=tx.now)
        return True

    found = run_all(add, add, add, add)
    assert found.count(True) == 1
    assert events(store) == before + 1


@pytest.mark.covers("R63")
def test_many_writers_are_all_answered_and_all_there(store: BareStore) -> None:
    before = events(store)

    def write() -> None:
        for number in range(20):
            if number % 5 == 4:
                with pytest.raises(ZeroDivisionError), store.db.begin(SYSTEM) as tx:  # noqa: PT012 - as above
                    tx.record(EventType.ALARM_RAISED)
                    1 / 0  # noqa: B018 - one member of the batch fails
            else:
                store.note(number)

    run_all(*[write] * 8)
    assert events(store) == before + 8 * 16
    store.checkpoints.make()
    with store.db.read() as view:
        numbers = view.rows(select(Event.idx).order_by(Event.idx)).scalars().all()
    assert numbers == list(range(before + 8 * 16))


@pytest.mark.covers("R60")
def test_the_clock_is_read_after_the_lock_is_held(store: BareStore, clock: FrozenClock) -> None:
    key, held, times = store.add_group(), threading.Event(), []

    def first() -> None:
        with store.db.begin(SYSTEM, lock=[(Group, key)]) as tx:
            tx.record(EventType.ALARM_RAISED)
            held.set()
            threading.Event().wait(0.3)
            clock.advance(timedelta(minutes=5))

    def second() -> None:
        held.wait()
        with store.db.begin(SYSTEM, lock=[(Group, key)]) as tx:
            times.append(tx.now)
            tx.record(EventType.ALARM_RAISED)

    run_all(first, second)
    assert times == [clock.now()]


# ---------------------------------------------------------------- time


@pytest.mark.covers("R62")
def test_a_clock_going_back_is_not_followed_and_time_goes_on(store: BareStore, clock: FrozenClock) -> None:
    clock.advance(timedelta(hours=1))
    store.note()
    late = clock.now()
    clock.jump(timedelta(hours=-2))
    assert store.db.now() == late
    clock.advance(timedelta(minutes=5))
    assert store.db.now() == late + timedelta(minutes=5)
    assert store.db.ahead() == timedelta(hours=2)
    again = store.again()
    again.db.raise_high_water()
    assert again.db.now() == late
    clock.advance(timedelta(minutes=5))
    assert again.db.now() == late + timedelta(minutes=5)
    clock.jump(timedelta(hours=3))
    assert again.db.now() == clock.now()
    assert again.db.ahead() == timedelta()
    again.close()


# ---------------------------------------------------------------- failures


@pytest.mark.covers("R64")
def test_a_failing_commit_fails_everybody_in_it_and_keeps_nothing(lite: BareStore, clock: FrozenClock) -> None:
    fail = threading.Event()

    def probe(moment: str) -> None:
        if moment == "before-commit" and fail.is_set():
            raise sqlite3.OperationalError("disk I/O error")

    store = lite.again(probe=probe)
    before, inside, go = events(lite), threading.Event(), threading.Event()
    fail.set()

    def first() -> None:
        with store.db.begin(SYSTEM) as tx:
            tx.record(EventType.ALARM_RAISED)
            inside.set()
            go.wait()

    def other() -> None:
        inside.wait()
        store.note()

    threading.Timer(0.3, go.set).start()
    found = run_all(first, other, other, other)
    assert [one.kind for one in found if isinstance(one, JitError)] == [Kind.UNAVAILABLE] * 4
    assert events(lite) == before
    fail.clear()
    store.note()
    assert events(lite) == before + 1
    store.close()


@pytest.mark.covers("R64")
def test_a_full_disk_refuses_and_loses_nothing_that_was_acknowledged(lite: BareStore) -> None:
    lite.note()
    before = events(lite)
    room = [f"PRAGMA max_page_count = {int(str(lite.value('PRAGMA page_count'))) + 20}"]

    def take_room(connection: sqlite3.Connection, entry: object) -> None:
        connection.execute(room[0])

    event.listen(lite.db._write_engine, "connect", take_room)
    lite.db._undo_write()  # the next writer connects anew, into the small room
    kept = 0

    def fill() -> None:
        nonlocal kept
        while True:
            lite.note(0, reason="x" * 3_000)
            with guard:
                kept += 1

    guard = threading.Lock()
    found = run_all(*[fill] * 4)
    assert all(isinstance(one, JitError) and one.kind is Kind.UNAVAILABLE for one in found)
    assert kept > 0
    assert events(lite) == before + kept
    head = lite.value("SELECT size FROM log_head")
    assert head == before + kept
    assert lite.value("SELECT count(idx) FROM event") == head
    room[0] = "PRAGMA max_page_count = 1000000"
    lite.db._undo_write()
    lite.note()
    assert lite.checkpoints.make() is not None


@pytest.mark.covers("R64")
def test_a_lost_server_is_unavailable_and_then_used_again(fresh_postgres_url: str, clock: FrozenClock) -> None:
    store = create_store(fresh_postgres_url, clock)
    store.note()
    store.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    kinds = set()
    for _ in range(3):
        try:
            store.note()
        except JitError as error:
            kinds.add(error.kind)
        with_read = store.again()
        with_read.close()
    assert kinds <= {Kind.UNAVAILABLE}
    store.note()
    store.close()


def test_a_folder_that_cannot_be_written_is_unavailable(tmp_path: Path, clock: FrozenClock) -> None:
    store = create_store(f"sqlite:///{tmp_path / 'broker.db'}", clock)
    (tmp_path / "broker.db.lock").unlink()
    (tmp_path / "broker.db.lock").mkdir()
    with pytest.raises(JitError) as refused:
        store.note()
    assert refused.value.kind is Kind.UNAVAILABLE
    store.close()


def test_a_writer_that_was_interrupted_while_waiting_leaves_nobody_hanging(lite: BareStore) -> None:
    lite.db._waiting += 1  # one that was counted and will never come
    done = run_all(lambda: lite.note())
    assert isinstance(done[0], str)
    lite.db._waiting -= 1


# ---------------------------------------------------------------- processes


def _write_many(url: str, count: int) -> None:
    store = open_store(url, SystemClock())
    for number in range(count):
        store.note(number)
    store.close()


@pytest.mark.covers("R64")
def test_what_an_ended_transaction_leaves_behind_disturbs_no_other(lite: BareStore) -> None:
    """Python's sqlite3 resets a statement when a cursor that ran it is dropped, whoever runs that statement meanwhile: a thread
    that dropped its ended transaction made another's fail ("bad parameter or other API misuse"), about once in ten thousand."""
    ended: list[object] = []

    def note_two() -> None:
        with lite.db.begin(SYSTEM) as tx:
            ended.append(tx)
            for number in range(2):
                tx.record(EventType.ALARM_RAISED, body={"number": number})

    note_two()
    connection = lite.db._write_connection
    assert connection is not None
    raw = connection.connection.dbapi_connection
    assert isinstance(raw, sqlite3.Connection)
    first = [ended.pop()]
    # Drops the ended transaction while the statement that it also ran is running, as another thread would.
    raw.create_function("drop_the_ended", 0, first.clear)
    raw.execute("CREATE TEMP TRIGGER dropping BEFORE INSERT ON event BEGIN SELECT drop_the_ended(); END")
    before = events(lite)
    note_two()
    assert not first
    assert events(lite) == before + 2


@pytest.mark.covers("R60", "R63")
def test_two_processes_write_one_log(database_url: str) -> None:
    store = create_store(database_url, SystemClock())
    before = events(store)
    spawn = multiprocessing.get_context("spawn")
    others = [spawn.Process(target=_write_many, args=(database_url, 40)) for _ in range(2)]
    for other in others:
        other.start()
    for number in range(40):
        store.note(number)
        store.checkpoints.make()
    for other in others:
        other.join(60)
        assert other.exitcode == 0
    newest = store.checkpoints.make()
    assert newest is not None
    assert newest.size == before + 120 == store.value("SELECT max(idx) + 1 FROM event")
    store.close()


def test_a_text_lies_beside_its_event(store: BareStore) -> None:
    key = store.note(7, reason="Pagesa tremujore")
    with store.db.read() as view:
        found = view.first(select(EventText).where(EventText.event_id == key))
        leaf = view.require(Event, key).leaf
    assert found is not None
    assert (found.name, found.text) == ("reason", "Pagesa tremujore")
    assert "Pagesa" not in leaf


def test_times_come_back_as_they_went_in(store: BareStore) -> None:
    at = datetime(2026, 11, 23, 9, 0, 0, 123457, tzinfo=UTC)
    with store.db.begin(SYSTEM) as tx:
        tx.insert(Heartbeat, id="sweep", beat_at=at)
    with store.db.read() as view:
        assert view.require(Heartbeat, "sweep").beat_at == at
