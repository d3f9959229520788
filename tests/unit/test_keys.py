"""Do keys stay apart, leave the database only wrapped, and give way to the next one?"""

import stat
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey
from sqlalchemy import select, text

from jitaccess.audit.export import export
from jitaccess.audit.register import RegisterCheck
from jitaccess.audit.rotation import reseal, rotate_key
from jitaccess.audit.verify import verify_export
from jitaccess.clock import FrozenClock
from jitaccess.domain.values import LOCAL
from jitaccess.errors import JitError, Kind
from jitaccess.store.db import SealBroken
from jitaccess.store.tables import Base, Group, KeyRecord, Sealed
from jitaccess.tokens.keys import (
    Keyring,
    Purpose,
    Status,
    create_wrapping_key,
    due_for_retirement,
    read_wrapping_key,
    retire_due,
    unwrap,
    wrap,
)
from tests.support.bare_store import ORIGIN, OVERLAP, WRAPPING_KEY, BareStore, create_store

SECRET = b"a private key"


@pytest.fixture
def store(database_url: str, clock: FrozenClock) -> Iterator[BareStore]:
    made = create_store(database_url, clock)
    yield made
    made.close()


def turn(store: BareStore, purpose: Purpose) -> str:
    return rotate_key(store.db, store.keyring, store.checkpoints, purpose, origin=ORIGIN, overlap=OVERLAP, actor=LOCAL)


def retire(store: BareStore) -> int:
    with store.db.begin(LOCAL) as tx:
        done = retire_due(tx)
    with store.db.read() as view:
        store.keyring.refresh(view)
    return done


# ---------------------------------------------------------------- the wrapping key


@pytest.mark.covers("R35")
def test_a_wrapping_key_is_for_its_owner_alone_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "wrapping.key"
    key = create_wrapping_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_wrapping_key(path) == key
    with pytest.raises(JitError, match="already"):
        create_wrapping_key(path)
    assert path.read_bytes() == key


@pytest.mark.covers("R73")
@pytest.mark.parametrize("fault", ["absent", "open", "short", "long", "empty"])
def test_a_wrapping_key_that_is_not_one_is_refused(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "wrapping.key"
    if fault != "absent":
        path.write_bytes({"short": b"k" * 31, "long": b"k" * 33, "empty": b""}.get(fault, b"k" * 32))
        path.chmod(0o640 if fault == "open" else 0o600)
    with pytest.raises(JitError) as refused:
        read_wrapping_key(path)
    assert refused.value.kind is Kind.CONFIGURATION


@pytest.mark.covers("R35")
def test_what_was_wrapped_opens_only_as_what_it_was() -> None:
    wrapped = wrap(WRAPPING_KEY, "id", "token", SECRET)
    assert SECRET not in wrapped
    assert wrap(WRAPPING_KEY, "id", "token", SECRET) != wrapped
    assert unwrap(WRAPPING_KEY, "id", "token", wrapped) == SECRET
    flipped = bytes([*wrapped[:-1], wrapped[-1] ^ 1])
    for key, key_id, purpose, data in (
        (b"x" * 32, "id", "token", wrapped),
        (WRAPPING_KEY, "other", "token", wrapped),
        (WRAPPING_KEY, "id", "audit", wrapped),
        (WRAPPING_KEY, "id", "token", flipped),
        (WRAPPING_KEY, "id", "token", b"JK2" + wrapped[3:]),
        (WRAPPING_KEY, "id", "token", wrapped[:10]),
        (WRAPPING_KEY, "id", "token", b""),
    ):
        with pytest.raises(JitError) as refused:
            unwrap(key, key_id, purpose, data)
        assert refused.value.kind is Kind.CONFIGURATION


# ---------------------------------------------------------------- loading


@pytest.mark.covers("R35")
def test_no_private_key_is_in_the_database_in_clear(store: BareStore) -> None:
    private = store.keyring.token_key().as_dict(private=True)
    raw_audit = store.keyring.audit_signers()[0].private_bytes_raw()
    with store.db.read() as view:
        rows = view.rows(text("SELECT public, wrapped FROM key_record")).all()
    held = b"".join(str(public).encode() + bytes(wrapped) for public, wrapped in rows)
    assert str(private["d"]).encode() not in held
    assert raw_audit not in held
    assert '"d"' not in str(store.keyring.jwks()).replace("'", '"')


def test_another_wrapping_key_opens_nothing(store: BareStore) -> None:
    with pytest.raises(JitError, match="does not open"):
        Keyring.load(store.url, b"x" * 32)


@pytest.mark.covers("R35")
@pytest.mark.parametrize(
    "edit", ["status = 'retired'", "public = '{}'", "created_at = created_at + 1", "seal = NULL", "purpose = 'audit'"]
)
def test_a_key_record_changed_by_sql_is_refused_at_load(store: BareStore, edit: str) -> None:
    turn(store, Purpose.TOKEN)
    store.sql(f"UPDATE key_record SET {edit} WHERE purpose = 'token' AND status = 'overlap'")
    with pytest.raises(JitError) as refused:
        Keyring.load(store.url, WRAPPING_KEY)
    assert refused.value.kind is Kind.SEAL_BROKEN


def test_a_database_without_keys_says_what_to_do(store: BareStore) -> None:
    store.sql("DELETE FROM key_record")
    with pytest.raises(JitError, match="jitaccess init"):
        Keyring.load(store.url, WRAPPING_KEY)


# ---------------------------------------------------------------- rotation


@pytest.mark.covers("R35")
def test_an_old_token_key_verifies_for_its_overlap_and_then_no_more(store: BareStore, clock: FrozenClock) -> None:
    old = store.keyring.token_key()
    token = jwt.encode({"alg": "ES256", "kid": old.kid}, {"sub": "x"}, old)
    new = turn(store, Purpose.TOKEN)
    assert store.keyring.token_key().kid == new == store.keyring.token_key().thumbprint()
    assert set(store.keyring.token_keys()) == {old.kid, new}
    assert {key["kid"] for key in store.keyring.jwks()["keys"]} == {old.kid, new}  # type: ignore[index,union-attr] # JSON
    jwt.decode(token, store.keyring.token_keys()[str(old.kid)])
    clock.advance(OVERLAP - timedelta(seconds=1))
    assert retire(store) == 0
    clock.advance(timedelta(seconds=1))
    assert retire(store) == 1
    assert set(store.keyring.token_keys()) == {new}
    with pytest.raises(JoseError):
        jwt.decode(token, store.keyring.token_keys()[new])


@pytest.mark.covers("R35")
def test_a_retired_key_leaves_no_private_part(store: BareStore, clock: FrozenClock) -> None:
    turn(store, Purpose.TOKEN)
    clock.advance(OVERLAP)
    retire(store)
    with store.db.read() as view:
        retired = view.all(select(KeyRecord).where(KeyRecord.status == Status.RETIRED.value))
    assert [bytes(record.wrapped) for record in retired] == [b""]
    assert set(Keyring.load(store.url, WRAPPING_KEY).token_keys()) == {store.keyring.token_key().kid}


def test_public_keys_in_use_hold_no_private_part(store: BareStore) -> None:
    for key in store.keyring.token_keys().values():
        assert isinstance(key, ECKey)
        assert not key.is_private


def test_another_process_learns_of_a_rotation_at_its_next_look(store: BareStore) -> None:
    other = store.again()
    new = turn(store, Purpose.TOKEN)
    with other.db.read() as view:
        other.keyring.refresh(view)
    assert other.keyring.token_key().kid == new
    other.close()


@pytest.mark.covers("R35", "R67")
def test_whoever_trusts_the_old_log_key_can_follow_to_the_new_one(
    store: BareStore, clock: FrozenClock, tmp_path: Path
) -> None:
    store.note()
    old = store.keyring.vkeys()[-1]
    for _ in range(2):
        turn(store, Purpose.AUDIT)
        clock.advance(OVERLAP)
        retire(store)
        store.note()
        store.checkpoints.make()
    assert len(store.keyring.vkeys()) == 3
    assert len(store.keyring.audit_signers()) == 1
    export(store.db, store.keyring, store.checkpoints, tmp_path / "out", origin=ORIGIN, actor=LOCAL)
    report = verify_export(tmp_path / "out", vkeys=[old])
    assert report.problems == ()


# ---------------------------------------------------------------- seal rotation


@pytest.mark.covers("R35")
def test_after_a_seal_rotation_every_row_bears_the_new_key_and_the_old_one_goes(
    store: BareStore, clock: FrozenClock
) -> None:
    groups = [store.add_group(f"group {number}") for number in range(5)]
    old = store.keyring.seals.active
    new = turn(store, Purpose.SEAL)
    assert store.db.seals.active == new
    assert reseal(store.db, old, actor=LOCAL) == 5 + 4
    assert bearing(store, old) == 0
    clock.advance(OVERLAP)
    if not store.db.sqlite:
        store.db.number_events()
    assert retire(store) == 1
    assert store.keyring.seals.known == {new}
    again = store.again()
    with again.db.read() as view:
        assert [view.require(Group, key).version for key in groups] == [1] * 5
    again.close()


@pytest.mark.covers("R71")
def test_sealing_anew_heals_no_broken_row_and_is_not_held_up_by_it(store: BareStore, clock: FrozenClock) -> None:
    key, old = store.add_group(), store.keyring.seals.active
    store.sql("UPDATE person_group SET name = 'mine'")
    turn(store, Purpose.SEAL)
    reseal(store.db, old, actor=LOCAL)
    clock.advance(OVERLAP)
    store.db.number_events()
    assert retire(store) == 1
    with pytest.raises(SealBroken), store.db.read() as view:
        view.get(Group, key)


@pytest.mark.covers("R35")
def test_a_process_that_runs_through_a_seal_rotation_loses_no_row(store: BareStore, clock: FrozenClock) -> None:
    other, old = store.again(), store.keyring.seals.active
    turn(store, Purpose.SEAL)
    reseal(store.db, old, actor=LOCAL)
    late = other.add_group("written with the old key, after all rows were sealed anew")
    assert bearing(store, old) == 1
    fresh = store.add_group("written with the new key")
    with other.db.read() as view:  # it meets a key that it does not know, and asks
        assert view.require(Group, fresh).name == "written with the new key"
    clock.advance(OVERLAP)
    store.db.number_events()
    assert retire(store) == 0, "a row still bears it: it is sealed anew first"
    store.db.number_events()
    assert retire(store) == 1
    with store.db.read() as view:
        assert view.require(Group, late)
    assert store.value("SELECT count(*) FROM event WHERE type = 'seal.broken'") == 0
    other.close()


@pytest.mark.covers("R35", "R67")
def test_the_comparison_with_the_log_asks_seals_and_goes_through_a_seal_rotation(
    store: BareStore, clock: FrozenClock
) -> None:
    other, old = store.again(), store.keyring.seals.active
    key = store.add_group()
    ours, theirs = RegisterCheck(store.db), RegisterCheck(other.db)
    assert (ours.check(), theirs.check()) == ((), ())
    turn(store, Purpose.SEAL)
    store.add_group("written with the new key")
    assert (ours.check(), theirs.check()) == ((), ()), "the other process meets a key that it does not know, and asks"
    reseal(store.db, old, actor=LOCAL)
    clock.advance(OVERLAP)
    store.db.number_events()
    assert retire(store) == 1
    assert (ours.check(), theirs.check()) == ((), ())
    store.sql(f"UPDATE person_group SET seal = 'forged.x' WHERE id = '{key}'")
    assert ours.check() == theirs.check() == (("person_group", key),)
    other.close()


def test_nothing_is_due_while_all_keys_are_young(store: BareStore) -> None:
    turn(store, Purpose.TOKEN)
    with store.db.read() as view:
        assert not due_for_retirement(view, view.now)


def bearing(store: BareStore, key_id: str) -> int:
    """Count the rows whose seal bears a key."""
    tables = [mapper.class_.__tablename__ for mapper in Base.registry.mappers if issubclass(mapper.class_, Sealed)]
    return sum(int(str(store.value(f"SELECT count(*) FROM {table} WHERE seal LIKE '{key_id}.%'"))) for table in tables)
