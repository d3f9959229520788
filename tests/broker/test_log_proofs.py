"""Is the log one growing tree that nobody can fork, edit or roll back unseen, and does it hold when texts are deleted?"""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import select

from jitaccess.audit.export import export
from jitaccess.audit.proofs import consistency, inclusion
from jitaccess.audit.register import RegisterCheck
from jitaccess.audit.start import check_at_start
from jitaccess.audit.verify import verify_export
from jitaccess.cli.audit import audit
from jitaccess.clock import FrozenClock
from jitaccess.domain.events import EventType
from jitaccess.domain.values import LOCAL, SYSTEM
from jitaccess.errors import JitError, Kind
from jitaccess.proof.canonical import b64u_decode
from jitaccess.proof.checkpoint import Checkpoint, open_checkpoint
from jitaccess.proof.leaf import Leaf
from jitaccess.proof.merkle import Frontier, leaf_hash, verify_consistency, verify_inclusion
from jitaccess.proof.notes import VerifierKey
from jitaccess.store.db import SealBroken
from jitaccess.store.tables import CheckpointRow, Event, EventText, Group
from tests.broker.test_transactions import run_all
from tests.support.bare_store import ORIGIN, BareStore, create_store

NAME = "Arta Krasniqi"


@pytest.fixture
def store(database_url: str, clock: FrozenClock) -> Iterator[BareStore]:
    made = create_store(database_url, clock)
    yield made
    made.close()


def signed(store: BareStore) -> Checkpoint:
    """Make a checkpoint and open it with the published keys."""
    newest = store.checkpoints.make()
    assert newest is not None
    return open_checkpoint(newest.note, [VerifierKey.parse(text) for text in store.keyring.vkeys()])


def start(store: BareStore, published: Path | None = None) -> None:
    check_at_start(store.db, store.keyring, ORIGIN, published=published)


# ---------------------------------------------------------------- the tree


@pytest.mark.covers("R67")
def test_the_signed_root_is_that_of_all_leaves_and_leaves_are_canonical(store: BareStore) -> None:
    for number in range(7):
        store.note(number, reason=NAME)
    point = signed(store)
    with store.db.read() as view:
        leaves = view.rows(select(Event.leaf).order_by(Event.idx)).scalars().all()
    assert point.size == len(leaves)
    assert point.root == Frontier().extend(leaf_hash(leaf.encode()) for leaf in leaves).root()
    assert all(Leaf.parse(leaf.encode()).to_bytes() == leaf.encode() for leaf in leaves)


@pytest.mark.covers("R70")
def test_every_entry_and_every_older_head_is_proven_without_the_database(store: BareStore) -> None:
    points = []
    for number in range(9):
        store.note(number)
        points.append(signed(store))
    newest = points[-1]
    with store.db.read() as view:
        for event_id in view.rows(select(Event.id)).scalars().all():
            proof = inclusion(view, event_id)
            path = [b64u_decode(str(step)) for step in proof["path"]]  # type: ignore[union-attr] # a list of text
            leaf = leaf_hash(str(proof["leaf"]).encode())
            assert verify_inclusion(leaf, int(str(proof["index"])), newest.size, path, newest.root)
        for old in points:
            steps = [b64u_decode(step) for step in consistency(view, old.size, newest.size)]
            assert verify_consistency(old.size, newest.size, old.root, newest.root, steps)


def test_an_entry_that_is_not_signed_yet_has_no_proof(store: BareStore) -> None:
    signed(store)
    event_id = store.note()
    with pytest.raises(JitError) as refused, store.db.read() as view:
        inclusion(view, event_id)
    assert refused.value.kind is Kind.UNAVAILABLE


@pytest.mark.covers("R67")
def test_a_log_that_did_not_grow_is_not_signed_again(store: BareStore, clock: FrozenClock) -> None:
    first = store.checkpoints.make()
    clock.advance(timedelta(minutes=5))
    again = store.checkpoints.make()
    assert first is not None
    assert again is not None
    assert first.note == again.note


@pytest.mark.covers("R69")
def test_sequencers_that_race_never_fork_the_tree(store: BareStore) -> None:
    others = [store.again() for _ in range(3)]
    for number in range(15):
        for one in (store, *others):
            one.note(number)
        run_all(*(one.checkpoints.make for one in (store, *others)))
    point = signed(store)
    assert point.size == store.value("SELECT count(*) FROM event") == store.value("SELECT max(idx) + 1 FROM event")
    with store.db.read() as view:
        hashes = view.rows(select(Event.leaf_hash).order_by(Event.idx)).scalars().all()
        stored = view.rows(select(CheckpointRow.note)).scalars().all()
    roots = {}
    keys = [VerifierKey.parse(text) for text in store.keyring.vkeys()]
    for note in stored:
        opened = open_checkpoint(note, keys)
        assert roots.setdefault(opened.size, opened.root) == opened.root
        assert opened.root == Frontier().extend(hashes[: opened.size]).root()
    for other in others:
        other.close()


# ---------------------------------------------------------------- cover


@pytest.mark.covers("R67")
def test_covered_events_are_under_a_signed_checkpoint(store: BareStore) -> None:
    events = [store.note(number) for number in range(3)]
    store.checkpoints.cover(events)
    with store.db.read() as view:
        newest = store.checkpoints.latest(view)
        numbers = view.rows(select(Event.idx).where(Event.id.in_(events))).scalars().all()
    assert newest is not None
    assert all(number < newest.size for number in numbers)
    store.checkpoints.cover(events)
    store.checkpoints.cover([])


@pytest.mark.covers("R64")
def test_what_the_log_does_not_hold_is_never_covered(store: BareStore) -> None:
    with pytest.raises(JitError) as refused:
        store.checkpoints.cover([store.note(), "0" * 26])
    assert refused.value.kind is Kind.UNAVAILABLE


@pytest.mark.covers("R69")
def test_many_issuers_in_several_processes_are_all_covered(store: BareStore) -> None:
    other = store.again()

    def issue(one: BareStore) -> None:
        for number in range(8):
            one.checkpoints.cover([one.note(number)])

    found = run_all(*[lambda: issue(store)] * 4, *[lambda: issue(other)] * 4)
    assert found == [None] * 8
    other.close()


# ---------------------------------------------------------------- a database owner


@pytest.mark.covers("R67", "R69")
@pytest.mark.parametrize("known", [True, False])
def test_a_rewritten_tree_does_not_get_our_signature(store: BareStore, known: bool) -> None:
    for number in range(6):
        store.note(number)
    signed(store)
    forged = Frontier().extend(leaf_hash(b"forged %d" % number) for number in range(12))
    store.sql("UPDATE log_head SET size = 12, frontier = :forged", forged=forged.to_bytes())
    one = store if known else store.again()
    with pytest.raises(JitError) as refused:
        one.checkpoints.make()
    assert refused.value.kind is Kind.SEAL_BROKEN
    if one is not store:
        one.close()


@pytest.mark.covers("R67")
def test_a_signed_entry_whose_hash_was_changed_stops_the_signing_of_a_fresh_process(store: BareStore) -> None:
    for number in range(4):
        store.note(number)
    signed(store)
    store.sql("UPDATE event SET leaf_hash = :forged WHERE idx = 2", forged=leaf_hash(b"forged"))
    store.note()
    again = store.again()
    with pytest.raises(JitError) as refused:
        again.checkpoints.make()
    assert refused.value.kind is Kind.SEAL_BROKEN
    again.close()


@pytest.mark.covers("R67")
def test_an_entry_slipped_in_by_sql_never_becomes_part_of_the_tree(fresh_postgres_url: str, clock: FrozenClock) -> None:
    store = create_store(fresh_postgres_url, clock)
    real = store.note()
    columns = "at, type, person_id, request_id, grant_id, target, leaf, leaf_hash, seal"
    store.sql(f"INSERT INTO event (id, {columns}) SELECT 'slipped', {columns} FROM event WHERE id = :real", real=real)
    point = signed(store)
    assert store.value("SELECT idx FROM event WHERE id = 'slipped'") is None
    assert point.size == store.value("SELECT count(*) - 1 FROM event")
    assert RegisterCheck(store.db).check() == (("event", "slipped"),)
    store.close()


@pytest.mark.covers("R73", "R68")
def test_an_untouched_log_starts(store: BareStore, tmp_path: Path) -> None:
    start(store)
    store.note()
    start(store)
    signed(store)
    start(store, tmp_path / "nothing published yet")


@pytest.mark.covers("R73", "R68")
@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE event SET leaf_hash = (SELECT leaf_hash FROM event WHERE idx = 1) WHERE idx = 3",
        "DELETE FROM event WHERE idx = 3",
        "DELETE FROM event WHERE idx = (SELECT max(idx) FROM event)",
        "UPDATE event SET idx = 1000 WHERE idx = (SELECT max(idx) FROM event)",
        "UPDATE log_head SET size = size - 1",
        "UPDATE log_head SET frontier = (SELECT leaf_hash FROM event WHERE idx = 1)",
        "UPDATE checkpoint SET note = replace(note, 'test.example', 'fake.example')",
        "UPDATE checkpoint SET size = size - 1",
    ],
)
def test_a_damaged_log_does_not_start(store: BareStore, damage: str) -> None:
    for number in range(5):
        store.note(number)
    signed(store)
    store.sql(damage)
    with pytest.raises(JitError, match="jitaccess audit export") as refused:
        start(store)
    assert refused.value.kind is Kind.SEAL_BROKEN


@pytest.mark.covers("R73", "R69")
def test_a_database_put_back_to_an_older_backup_does_not_start(tmp_path: Path, clock: FrozenClock) -> None:
    url, published = f"sqlite:///{tmp_path / 'broker.db'}", tmp_path / "published"
    store = create_store(url, clock)
    store.checkpoints._publish_folder = published
    store.note()
    signed(store)
    store.close()
    backup = (tmp_path / "broker.db").read_bytes()
    later = store.again(folder=published)
    later.note()
    signed(later)
    start(later, published)
    later.close()
    (tmp_path / "broker.db").write_bytes(backup)
    for beside in ("broker.db-wal", "broker.db-shm"):
        (tmp_path / beside).unlink(missing_ok=True)
    old = store.again(folder=published)
    start(old)  # in itself it is whole
    with pytest.raises(JitError, match="earlier state") as refused:
        start(old, published)
    assert refused.value.kind is Kind.SEAL_BROKEN
    old.close()


@pytest.mark.covers("R69")
def test_checkpoints_leave_for_a_folder_and_a_full_one_stops_nobody(store: BareStore, tmp_path: Path) -> None:
    folder = tmp_path / "published"
    one = store.again(folder=folder)
    point = signed(one)
    assert (folder / "checkpoint").read_text() == (folder / f"checkpoint-{point.size}").read_text()
    assert Checkpoint.parse((folder / "checkpoint").read_text().split("\n\n")[0] + "\n").size == point.size
    one.close()
    blocked = tmp_path / "a file"
    blocked.write_text("")
    two = store.again(folder=blocked)
    two.note()
    assert signed(two).size == point.size + 1
    two.close()


# ---------------------------------------------------------------- the register


@pytest.mark.covers("R72")
def test_an_untouched_register_agrees_with_the_log(store: BareStore) -> None:
    check = RegisterCheck(store.db)
    store.add_group()
    assert check.check() == ()
    store.add_group("another")
    assert check.check() == ()
    assert store.db.blocked == set()


@pytest.mark.covers("R72")
@pytest.mark.parametrize(
    ("damage", "why"),
    [
        ("UPDATE person_group SET name = 'mine'", "differs_from_the_log"),
        ("DELETE FROM person_group", "gone"),
        ("UPDATE person_group SET name=:name, version=:version, event_id=:event_id, seal=:seal", "older_than_the_log"),
    ],
)
def test_a_register_row_that_contradicts_the_log_is_blocked_and_told_once(
    store: BareStore, damage: str, why: str
) -> None:
    key = store.add_group()
    with store.db.read() as view:
        row = view.require(Group, key)
        old = {"name": row.name, "version": row.version, "event_id": row.event_id, "seal": row.seal}
    with store.db.begin(SYSTEM) as tx:
        tx.update(tx.require(Group, key), tx.record(EventType.GROUP_ADDED), name="newer")
    store.sql(damage, **(old if ":" in damage else {}))
    check = RegisterCheck(store.db)
    assert check.check() == check.check() == (("person_group", key),)
    assert store.value("SELECT count(*) FROM event WHERE type = 'register.diverged'") == 1
    leaf = str(store.value("SELECT leaf FROM event WHERE type = 'register.diverged'"))
    assert json.loads(leaf)["body"]["why"] == why
    if why != "gone":
        with pytest.raises(SealBroken), store.db.read() as view:  # also the one whose own seal is good
            view.get(Group, key)


@pytest.mark.covers("R68")
def test_an_entry_that_is_not_what_its_hash_says_stops_the_check(store: BareStore) -> None:
    store.add_group()
    signed(store)
    store.sql("UPDATE event SET leaf = replace(leaf, 'group.added', 'group.addee')")
    with pytest.raises(SealBroken):
        RegisterCheck(store.db).check()


# ---------------------------------------------------------------- texts and retention


@pytest.mark.covers("R71", "R72")
def test_no_personal_text_is_in_a_leaf_and_deleting_it_keeps_every_proof(store: BareStore, tmp_path: Path) -> None:
    events = [store.note(number, reason=f"{NAME} {number}") for number in range(5)]
    before = signed(store)
    with store.db.read() as view:
        assert all(NAME not in leaf for leaf in view.rows(select(Event.leaf)).scalars())
        proofs = [inclusion(view, event_id) for event_id in events]
    folder = tmp_path / "whole"
    export(store.db, store.keyring, store.checkpoints, folder, origin=ORIGIN, actor=LOCAL, with_texts=True)
    assert verify_export(folder).problems == ()
    assert len((folder / "texts.jsonl").read_text().splitlines()) == 5
    with store.db.begin(LOCAL) as tx:
        assert tx.delete(EventText, EventText.event_id.in_(events)) == 5
    assert store.value("SELECT count(*) FROM event_text") == 0
    start(store)
    with store.db.read() as view:
        now = [inclusion(view, event_id) for event_id in events]
    assert [proof["leaf"] for proof in now] == [proof["leaf"] for proof in proofs]
    after = tmp_path / "after"
    export(store.db, store.keyring, store.checkpoints, after, origin=ORIGIN, actor=LOCAL, with_texts=True)
    report = verify_export(after, older=(folder / "checkpoint").read_text(), vkeys=store.keyring.vkeys())
    assert report.problems == ()
    assert not report.consistent_with_itself_only
    assert report.entries > before.size


def test_one_text_gives_another_digest_each_time(store: BareStore) -> None:
    digests = set()
    for _ in range(3):
        event_id = store.note(0, reason=NAME)
        digests.add(
            json.loads(str(store.value("SELECT leaf FROM event WHERE id = :id", id=event_id)))["texts"]["reason"]
        )
    assert len(digests) == 3


# ---------------------------------------------------------------- leaving the house


def test_an_export_holds_no_personal_text_unless_asked_and_is_an_entry_itself(store: BareStore, tmp_path: Path) -> None:
    store.note(0, reason=NAME)
    folder = tmp_path / "out"
    count = export(store.db, store.keyring, store.checkpoints, folder, origin=ORIGIN, actor=LOCAL)
    assert not (folder / "texts.jsonl").exists()
    assert all(NAME.encode() not in file.read_bytes() for file in folder.iterdir())
    lines = (folder / "entries.jsonl").read_text().splitlines()
    assert len(lines) == count
    assert json.loads(lines[-1])["type"] == "log.exported"


def test_an_export_never_writes_into_a_folder_that_holds_something(store: BareStore, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("keep")
    for folder in (tmp_path, tmp_path / "mine", tmp_path / "mine" / "below"):
        with pytest.raises(JitError) as refused:
            export(store.db, store.keyring, store.checkpoints, folder, origin=ORIGIN, actor=LOCAL)
        assert refused.value.kind is Kind.INVALID


@pytest.mark.covers("R68", "R70")
def test_the_command_names_the_first_bad_entry_and_fails(store: BareStore, tmp_path: Path) -> None:
    for number in range(6):
        store.note(number)
    older = tmp_path / "older"
    folder = tmp_path / "out"
    newest = store.checkpoints.make()
    assert newest is not None
    older.write_text(newest.note)
    export(store.db, store.keyring, store.checkpoints, folder, origin=ORIGIN, actor=LOCAL)
    command = ["verify", str(folder), "--checkpoint", str(older), "--vkey", store.keyring.vkeys()[0]]
    whole = CliRunner().invoke(audit, command)
    assert (whole.exit_code, "consistent with the older checkpoint" in whole.output) == (0, True)
    lines = (folder / "entries.jsonl").read_text().splitlines(keepends=True)
    lines[4] = lines[4].replace('"system"', '"person"')
    (folder / "entries.jsonl").write_text("".join(lines))
    bad = CliRunner().invoke(audit, command)
    assert bad.exit_code == 1
    assert "First bad entry: 4" in bad.output
