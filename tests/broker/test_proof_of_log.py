"""The log of a real broker: numbered, signed, provable, exportable, and without personal text."""

import json
import threading
from pathlib import Path

import pytest
from sqlalchemy import select

from jitaccess.audit.export import export
from jitaccess.audit.proofs import consistency, inclusion, subtree
from jitaccess.audit.register import RegisterCheck
from jitaccess.audit.start import check_at_start
from jitaccess.audit.verify import verify_export
from jitaccess.broker.issue import Opened, open_lease
from jitaccess.domain.values import LOCAL
from jitaccess.errors import JitError, Kind
from jitaccess.identity import people
from jitaccess.proof.canonical import b64u_decode
from jitaccess.proof.checkpoint import open_checkpoint
from jitaccess.proof.leaf import Leaf
from jitaccess.proof.merkle import leaf_hash, verify_consistency, verify_inclusion
from jitaccess.proof.notes import VerifierKey
from jitaccess.store.tables import Event, EventText, Person
from tests.support.world import World


def keys(world: World) -> list[VerifierKey]:
    return [VerifierKey.parse(text) for text in world.broker.keyring.vkeys()]


@pytest.mark.covers("R67", "R70")
def test_every_event_is_proven_under_a_signed_checkpoint(world: World) -> None:
    world.released()
    world.broker.checkpoints.make()
    with world.broker.read() as view:
        events = view.all(select(Event).order_by(Event.idx))
        assert [event.idx for event in events] == list(range(len(events)))
        for event in events[:: max(1, len(events) // 12)]:
            proof = inclusion(view, event.id)
            checkpoint = open_checkpoint(str(proof["checkpoint"]), keys(world))
            path = [b64u_decode(step) for step in proof["path"]]  # type: ignore[union-attr] # a list of text
            assert verify_inclusion(
                leaf_hash(event.leaf.encode()), event.idx or 0, checkpoint.size, path, checkpoint.root
            )


@pytest.mark.covers("R70")
def test_a_newer_checkpoint_grows_from_an_older_one(world: World) -> None:
    old = world.broker.checkpoints.make()
    world.filed()
    new = world.broker.checkpoints.make()
    assert old is not None
    assert new is not None
    with world.broker.read() as view:
        path = [b64u_decode(step) for step in consistency(view, old.size, new.size)]
        roots = [subtree(view)(0, size) for size in (old.size, new.size)]
    assert verify_consistency(old.size, new.size, roots[0], roots[1], path)
    assert open_checkpoint(new.note, keys(world)).root == roots[1]


@pytest.mark.covers("R63", "R67")
def test_numbering_from_many_threads_never_forks_or_skips(world: World) -> None:
    def work() -> None:
        for _ in range(5):
            with world.broker.begin(LOCAL) as tx:
                people.add_group(tx, group_id=f"g{tx.new_id()}", name="x")
            world.broker.checkpoints.make()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    world.broker.checkpoints.make()
    with world.broker.read() as view:
        numbers = view.rows(select(Event.idx).order_by(Event.idx)).scalars().all()
    assert numbers == list(range(len(numbers)))
    check_at_start(world.broker.db, world.broker.keyring, world.broker.site.log_origin)


@pytest.mark.covers("R63", "R68")
def test_a_log_that_was_edited_or_rolled_back_does_not_start(world: World) -> None:
    world.filed()
    world.broker.checkpoints.make()
    check_at_start(world.broker.db, world.broker.keyring, world.broker.site.log_origin)
    world.sql("DELETE FROM event WHERE idx = (SELECT max(idx) FROM event)")
    with pytest.raises(JitError) as raised:
        check_at_start(world.broker.db, world.broker.keyring, world.broker.site.log_origin)
    assert raised.value.kind is Kind.SEAL_BROKEN


@pytest.mark.covers("R68")
def test_an_export_verifies_and_names_what_was_changed_in_the_database(world: World, tmp_path: Path) -> None:
    world.filed()
    older = world.broker.checkpoints.make()
    assert older is not None
    broker = world.broker

    def exported(name: str) -> Path:
        export(
            broker.db, broker.keyring, broker.checkpoints, tmp_path / name, origin=broker.site.log_origin,
            actor=LOCAL, with_texts=True,
        )  # fmt: skip
        return tmp_path / name

    good = verify_export(exported("good"), older=older.note, vkeys=broker.keyring.vkeys())
    assert good.ok, good.problems
    world.sql(
        "UPDATE event SET leaf = replace(leaf, :was, :now) WHERE type = 'request.filed'",
        was='"duration_s":600',
        now='"duration_s":999',
    )
    with world.broker.read() as view:
        edited = view.first(select(Event).where(Event.type == "request.filed"))
    assert edited is not None
    bad = verify_export(exported("bad"), older=older.note, vkeys=broker.keyring.vkeys())
    assert (bad.ok, bad.first_bad) == (False, edited.idx)


@pytest.mark.covers("R72", "R71")
def test_leaves_hold_no_personal_text_and_deleting_the_text_breaks_no_proof(world: World, tmp_path: Path) -> None:
    world.filed(reason="a very personal reason")
    with world.broker.read() as view:
        leaves = view.rows(select(Event.leaf)).scalars().all()
        names = [person.name for person in view.all(select(Person))]
        assert view.rows(select(EventText.text)).scalars().all()
    for leaf in leaves:
        parsed = Leaf.parse(leaf.encode())
        text = json.dumps([dict(parsed.body), dict(parsed.subject)], ensure_ascii=False)
        assert "personal reason" not in text
        assert not any(name in text for name in names)
    world.sql("DELETE FROM event_text")
    world.sql("UPDATE access_request SET reason = NULL")
    broker = world.broker
    export(broker.db, broker.keyring, broker.checkpoints, tmp_path / "out", origin=broker.site.log_origin, actor=LOCAL)
    assert verify_export(tmp_path / "out").ok
    with broker.read() as view:
        grant = view.rows(select(Event.grant_id).where(Event.type == "grant.created")).scalar()
    assert isinstance(open_lease(broker, world.current("arta"), str(grant)), Opened)


@pytest.mark.covers("R67")
def test_a_restored_an_edited_a_deleted_and_a_slipped_in_register_row_are_found_and_blocked(world: World) -> None:
    check = RegisterCheck(world.broker.db)
    assert check.check() == ()
    arta = world.person("arta")
    with world.broker.read() as view:
        old = view.require(Person, arta)
        before = (old.unit, old.version, old.event_id, old.seal)
    with world.broker.begin(LOCAL) as tx:
        people.change_person(tx, arta, unit="cellar")
    assert check.check() == ()
    world.sql(
        "UPDATE person SET unit = :unit, version = :version, event_id = :event, seal = :seal WHERE id = :id",
        unit=before[0], version=before[1], event=before[2], seal=before[3], id=arta,
    )  # fmt: skip
    assert check.check() == (("person", arta),)
    with world.broker.read() as view:
        assert not view.intact(view.unchecked_get(Person, arta) or old)
    world.sql("DELETE FROM membership WHERE id = :id", id=f"treasury-staff/{arta}")
    assert set(check.check()) == {("person", arta), ("membership", f"treasury-staff/{arta}")}
    world.sql(
        "INSERT INTO person_group (id, name, created_at, version, event_id, seal) VALUES ('slipped', 'x', 1, 1, 'x', 'x')"
    )
    assert ("person_group", "slipped") in check.check()


@pytest.mark.covers("R67")
def test_an_event_slipped_in_by_sql_never_gets_a_number(world: World) -> None:
    world.sql(
        "INSERT INTO event (id, at, type, leaf, leaf_hash, seal) VALUES ('x', 1, 'grant.created', '{}', :hash, 'a.b')",
        hash=leaf_hash(b"{}"),
    )
    world.filed()
    world.broker.checkpoints.make()
    with world.broker.read() as view:
        assert view.rows(select(Event.idx).where(Event.id == "x")).scalar() is None
    check_at_start(world.broker.db, world.broker.keyring, world.broker.site.log_origin)


@pytest.mark.covers("R20")
def test_a_row_changed_by_sql_is_refused_and_alarmed_and_blocks_nothing_else(world: World) -> None:
    first, second = world.filed().grant, world.filed(duration_s=700).grant
    assert first is not None
    assert second is not None
    world.sql("UPDATE access_grant SET ends_at = ends_at + 1000000 WHERE id = :id", id=first.id)
    with pytest.raises(JitError) as raised:
        open_lease(world.broker, world.current("arta"), first.id)
    assert raised.value.kind is Kind.SEAL_BROKEN
    assert isinstance(open_lease(world.broker, world.current("arta"), second.id), Opened)
    with world.broker.read() as view:
        assert view.first(select(Event).where(Event.type == "seal.broken")) is not None
