"""Does remembering that bytes verify loosen anything? With the memory warm, and cold, the gate refuses all the same."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import select

from jitaccess.broker.hold import HoldKind, place
from jitaccess.broker.issue import Evidence, evidence
from jitaccess.broker.verified import Verified
from jitaccess.domain.events import EventType
from jitaccess.domain.values import SYSTEM, Refused
from jitaccess.errors import JitError, Kind
from jitaccess.identity.people import disable_person
from jitaccess.proof.assertion import StoredKey
from jitaccess.proof.errors import ProofError
from jitaccess.store.tables import AccessRequest, Approval, Grant, Passkey
from tests.support.world import World


def released(world: World) -> str:
    grant = world.released().grant
    assert grant is not None
    return grant.id


def issuing(world: World, grant_id: str) -> Evidence | Refused:
    with world.broker.read() as view:
        return evidence(view, world.broker, view.require(Grant, grant_id))


def forget(world: World) -> None:
    """Start again, as another process would."""
    site = world.broker.site
    world.broker = replace(world.broker, verified=Verified(origin=site.origin, rp_id=site.rp_id))


def another_key() -> bytes:
    return (
        ec.generate_private_key(ec.SECP256R1())
        .public_key()
        .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    )


def passkey_of(world: World, person: str) -> str:
    """Return the id of the passkey with which a person filed or approved."""
    who = world.person(person)
    with world.broker.read() as view:
        filed = view.rows(select(AccessRequest.filing_passkey_id).where(AccessRequest.person_id == who))
        signed = view.rows(select(Approval.passkey_id).where(Approval.person_id == who))
        return str((filed.scalars().all() or signed.scalars().all())[0])


def edit_the_amount(world: World) -> None:
    inputs = json.dumps({"amount_cents": 500_000_000, "order": "TR-000417"})
    world.sql("UPDATE access_request SET inputs = :inputs", inputs=inputs)


def edit_the_statement(world: World) -> None:
    with world.broker.read() as view:
        signed = view.rows(select(AccessRequest.filing_statement)).scalar_one()
    world.sql("UPDATE access_request SET filing_statement = :it", it=signed.replace(b"TR-000417", b"TR-000418"))


def swap_the_assertion(world: World) -> None:
    with world.broker.read() as view:
        other = view.rows(select(Approval.assertion)).scalars().first()
    world.sql("UPDATE access_request SET filing_assertion = :it", it=json.dumps(other))


def spoil_the_assertion(world: World) -> None:
    world.sql('UPDATE access_request SET filing_assertion = \'{"signature":"AA"}\'')


def exchange_the_key(world: World, person: str) -> None:
    """Give a passkey another public key under a good seal, as somebody with the seal key could."""
    with world.broker.begin(SYSTEM) as tx:
        row = tx.require(Passkey, passkey_of(world, person))
        event = tx.record(EventType.ALARM_RAISED, body={"what": "exchanged"})
        tx.update(row, event, public_key_der=another_key())


def remove_the_passkey(world: World, person: str) -> None:
    with world.broker.begin(SYSTEM) as tx:
        row = tx.require(Passkey, passkey_of(world, person))
        event = tx.record(EventType.PASSKEY_REMOVED, subject={"passkey": row.id})
        tx.update(row, event, status="removed")


def hold(world: World, person: str) -> None:
    with world.broker.begin(SYSTEM) as tx:
        place(tx, world.broker, kind=HoldKind.PERSON, subject_id=world.person(person), cause="test", by="test")


def disable(world: World, person: str) -> None:
    with world.broker.begin(SYSTEM) as tx:
        disable_person(tx, world.person(person))


CHANGES: list[tuple[str, Callable[[World], None], str]] = [
    ("edited row", edit_the_amount, "differs_from_signed"),
    ("edited statement", edit_the_statement, "differs_from_signed"),
    ("swapped assertion", swap_the_assertion, "differs_from_signed"),
    ("spoilt assertion", spoil_the_assertion, "differs_from_signed"),
    ("requester's key exchanged", lambda world: exchange_the_key(world, "arta"), "differs_from_signed"),
    ("approver's key exchanged", lambda world: exchange_the_key(world, "drita"), "differs_from_signed"),
    ("requester's passkey removed", lambda world: remove_the_passkey(world, "arta"), "passkey_not_active"),
    ("approver's passkey removed", lambda world: remove_the_passkey(world, "blerim"), "approver_passkey_not_active"),
    ("approver on hold", lambda world: hold(world, "drita"), "approver_on_hold"),
    ("approver gone", lambda world: disable(world, "blerim"), "approver_not_active"),
]


@pytest.mark.covers("R12", "R20", "R28")
@pytest.mark.parametrize("memory", ["warm", "cold"])
@pytest.mark.parametrize(("change", "code"), [case[1:] for case in CHANGES], ids=[case[0] for case in CHANGES])
def test_what_was_remembered_gives_no_right(
    sqlite_world: World, change: Callable[[World], None], code: str, memory: str
) -> None:
    world, grant_id = sqlite_world, released(sqlite_world)
    assert isinstance(issuing(world, grant_id), Evidence)
    change(world)
    if memory == "cold":
        forget(world)
    found = issuing(world, grant_id)
    assert isinstance(found, Refused)
    assert found.code == code


@pytest.mark.covers("R20")
def test_a_row_without_its_seal_is_refused_with_the_memory_warm(sqlite_world: World) -> None:
    world, grant_id = sqlite_world, released(sqlite_world)
    assert isinstance(issuing(world, grant_id), Evidence)
    world.sql("UPDATE approval SET institution = 'nao' WHERE step = 'owner'")
    with pytest.raises(JitError) as caught:
        issuing(world, grant_id)
    assert caught.value.kind is Kind.SEAL_BROKEN


@pytest.mark.covers("R20")
def test_the_door_teaches_and_the_issue_does_not_ask_twice(world: World) -> None:
    grant_id = released(world)
    assert len(world.broker.verified) == 3
    assert isinstance(issuing(world, grant_id), Evidence)
    assert len(world.broker.verified) == 3
    forget(world)
    assert isinstance(issuing(world, grant_id), Evidence)
    assert len(world.broker.verified) == 3


def evidence_of(world: World) -> tuple[bytes, dict[str, str], StoredKey]:
    request_id = world.filed().request.id
    with world.broker.read() as view:
        row = view.require(AccessRequest, request_id)
        passkey = view.require(Passkey, row.filing_passkey_id)
    assert isinstance(row.filing_assertion, dict)
    parts = {name: str(text) for name, text in row.filing_assertion.items()}
    return row.filing_statement, parts, StoredKey(passkey.public_key_der, passkey.algorithm)


@pytest.mark.covers("R20")
def test_only_what_passed_is_remembered_and_only_for_its_own_question(sqlite_world: World) -> None:
    statement, parts, key = evidence_of(sqlite_world)
    site = sqlite_world.broker.site
    verified = Verified(origin=site.origin, rp_id=site.rp_id)
    good = verified.filing(statement, dict(parts), key)
    assert verified.filing(statement, dict(parts), key) is good
    other = StoredKey(another_key(), key.algorithm)
    for question in (
        (statement + b" ", dict(parts), key),
        (statement, {**parts, "signature": parts["client_data_json"]}, key),
        (statement, {**parts, "more": "x"}, key),
        (statement, {**parts, "signature": 5}, key),
        (statement, None, key),
        (statement, dict(parts), other),
        (statement, dict(parts), StoredKey(key.public_key_der, -257)),
    ):
        for _ in range(2):
            with pytest.raises(ProofError):
                verified.filing(*question)  # type: ignore[arg-type] # what a database may hold
    with pytest.raises(ProofError):
        verified.approval(statement, dict(parts), key)
    elsewhere = Verified(origin="https://elsewhere.example", rp_id=site.rp_id)
    with pytest.raises(ProofError):
        elsewhere.filing(statement, dict(parts), key)
    assert len(verified) == 1


def test_the_memory_is_bounded(sqlite_world: World) -> None:
    site = sqlite_world.broker.site
    verified = Verified(origin=site.origin, rp_id=site.rp_id, generation_bytes=1)
    kept = [evidence_of(sqlite_world) for _ in range(3)]
    for statement, parts, key in [*kept, *kept]:
        verified.filing(statement, dict(parts), key)
        assert len(verified) <= 2
