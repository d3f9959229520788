"""Do many rows at once, and rows that wait to be sent, come out as single ones would? On both databases."""

from collections.abc import Iterator

import pytest
from sqlalchemy import func, select

from jitaccess.clock import FrozenClock
from jitaccess.domain.events import EventType
from jitaccess.domain.values import SYSTEM
from jitaccess.errors import JitError, Kind
from jitaccess.store.db import Tx
from jitaccess.store.tables import Client, Event, Group, Outbox
from tests.support.bare_store import BareStore, create_store


@pytest.fixture
def store(database_url: str, clock: FrozenClock) -> Iterator[BareStore]:
    made = create_store(database_url, clock)
    yield made
    made.close()


def client_values(tx: Tx, number: int) -> dict[str, object]:
    odd = bool(number % 2)
    return {
        "id": f"client-{number:04}",
        "target": "tréasury" if odd else "payroll",
        "name": "{a,b} \"c\" 'd' \\ NULL" if odd else "plain",
        "redirect_uris": ["https://one.example/cb", "https://two.example/cb"],
        "auth_method": "private_key_jwt",
        "secret_hash": None if odd else "x" * 64,
        "jwks": {"keys": [{"kid": "é", "n": number}]} if odd else None,
        "status": "active",
        "created_at": tx.now,
    }


@pytest.mark.covers("R63")
@pytest.mark.parametrize("count", [1, 7, 8, 300])
def test_many_rows_are_written_read_and_changed_like_one(store: BareStore, count: int) -> None:
    with store.db.begin(SYSTEM) as tx:
        event = tx.record(EventType.CLIENT_ADDED)
        wanted = [client_values(tx, number) for number in range(count)]
        tx.insert_many(Client, [(event, values) for values in wanted])
    with store.db.read() as view:
        rows = view.all(select(Client).order_by(Client.id))
        assert [{name: getattr(row, name) for name in wanted[0]} for row in rows] == wanted
    with store.db.begin(SYSTEM) as tx:
        rows = tx.all(select(Client).order_by(Client.id))
        tx.update_many([(row, tx.record(EventType.CLIENT_CHANGED), {"secret_hash": None}) for row in rows])
    with store.db.read() as view:
        again = view.all(select(Client).order_by(Client.id))
        assert {(row.secret_hash, row.version) for row in again} == {(None, 2)}


@pytest.mark.covers("R63")
@pytest.mark.parametrize("count", [7, 40])
def test_one_row_changed_meanwhile_undoes_the_change_of_many(store: BareStore, count: int) -> None:
    keys = [store.add_group(f"group-{number}") for number in range(count)]

    def change() -> None:
        with store.db.begin(SYSTEM) as tx:
            rows = tx.all(select(Group).where(Group.id.in_(keys)))
            rows[3].__dict__["version"] = 7  # as if another transaction had moved it on
            tx.update_many([(row, tx.record(EventType.GROUP_ADDED), {"name": "renamed"}) for row in rows])

    with pytest.raises(JitError):
        change()
    assert store.value("SELECT count(*) FROM person_group WHERE name = 'renamed'") == 0


@pytest.mark.parametrize("count", [1, 20])
def test_text_that_does_not_fit_is_refused_and_not_cut_off(store: BareStore, count: int) -> None:
    if store.db.sqlite:
        return  # SQLite keeps text of any length

    def write() -> None:
        with store.db.begin(SYSTEM) as tx:
            tx.insert_many(Outbox, [(None, outbox(tx, f"y{number:02}" + "x" * 80)) for number in range(count)])
            tx.record(EventType.ALARM_RAISED)

    with pytest.raises(JitError) as refused:
        write()
    assert refused.value.kind is Kind.INVALID
    assert store.value("SELECT count(*) FROM outbox") == 0


@pytest.mark.parametrize("looks", [False, True], ids=["at the end", "before a read"])
def test_what_is_refused_again_and_again_takes_no_connection_away(store: BareStore, *, looks: bool) -> None:
    """A server says so when the waiting rows reach it, and there are fewer connections than tries."""
    if store.db.sqlite:
        return

    def write() -> None:
        with store.db.begin(SYSTEM) as tx:
            tx.insert(Outbox, **outbox(tx, "x" * 80))
            tx.record(EventType.ALARM_RAISED)
            if looks:
                tx.unchecked_get(Outbox, "other")

    for _ in range(40):
        with pytest.raises(JitError) as refused:
            write()
        assert refused.value.kind is Kind.INVALID
    assert store.add_group("good")


def outbox(tx: Tx, key: str) -> dict[str, object]:
    return {"id": key, "kind": "k", "person_id": "p", "subject_id": "s", "created_at": tx.now, "attempts": 0,
            "next_at": tx.now}  # fmt: skip


@pytest.mark.covers("R63")
def test_a_transaction_reads_what_it_wrote(store: BareStore) -> None:
    with store.db.begin(SYSTEM) as tx:
        key = tx.new_id()
        event = tx.record(EventType.GROUP_ADDED, subject={"group": key})
        made = tx.insert(Group, event, id=key, name="new", institution=None, created_at=tx.now)
        tx.insert_many(Outbox, [(None, outbox(tx, f"n{number}")) for number in range(3)])
        assert tx.get(Group, key) is made
        assert tx.all(select(Group)) == [made]
        assert tx.scalar(select(func.count()).select_from(Outbox)) == 3
        tx.update(made, tx.record(EventType.GROUP_ADDED), name="newer")
        assert tx.require(Group, key).name == "newer"
        assert tx.delete(Outbox, Outbox.id == "n1") == 1
        assert tx.rows(select(Outbox.id).order_by(Outbox.id)).scalars().all() == ["n0", "n2"]
    assert store.value("SELECT name FROM person_group") == "newer"


@pytest.mark.covers("R63", "R64")
def test_a_refused_row_that_waited_undoes_all_and_leaves_the_store_usable(store: BareStore) -> None:
    key = store.add_group("there")

    def write() -> None:
        with store.db.begin(SYSTEM) as tx:
            event = tx.record(EventType.GROUP_ADDED, subject={"group": key})
            tx.insert_many(Outbox, [(None, outbox(tx, "lost"))])
            tx.insert(Group, event, id=key, name="twin", institution=None, created_at=tx.now)

    before = store.value("SELECT count(*) FROM event")
    with pytest.raises(JitError) as refused:
        write()
    assert refused.value.kind is Kind.CONFLICT
    assert store.value("SELECT count(*) FROM outbox") == 0
    assert store.value("SELECT count(*) FROM event") == before
    store.note()


@pytest.mark.covers("R67")
def test_many_events_are_numbered_in_one_go_without_a_gap(store: BareStore) -> None:
    with store.db.begin(SYSTEM) as tx:
        for number in range(50):
            tx.record(EventType.ALARM_RAISED, body={"number": number})
    store.checkpoints.make()
    with store.db.read() as view:
        numbers = view.rows(select(Event.idx).order_by(Event.id)).scalars().all()
    assert numbers == list(range(len(numbers)))
