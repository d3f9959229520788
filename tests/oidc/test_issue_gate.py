"""Does the last gate believe no row? Whatever differs from what people signed is refused, and the field is named."""

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import pytest
from sqlalchemy import select

from jitaccess.broker import issue
from jitaccess.broker.hold import HoldKind, place
from jitaccess.broker.issue import open_lease, reverify
from jitaccess.broker.revoke import hand_back
from jitaccess.broker.targets import APPLY_LIMIT, LATE_BIRTH
from jitaccess.connectors.fake import FakeConnector, fake_kind
from jitaccess.domain.values import SYSTEM, Refused
from jitaccess.errors import JitError, Kind
from jitaccess.identity import passkeys
from jitaccess.identity.people import disable_person, end_member
from jitaccess.policy.schema import TokenConnector
from jitaccess.store.db import SealBroken
from jitaccess.store.tables import Event, Grant, Lease, Passkey
from tests.oidc.conftest import Treasury
from tests.support.restored import Kept
from tests.support.world import World


def released(world: World) -> Grant:
    grant = world.released().grant
    assert grant is not None
    return grant


def look(world: World) -> Grant:
    grant = world.filed().grant
    assert grant is not None
    return grant


def opened(world: World, grant: Grant) -> issue.Opened | Refused:
    return open_lease(world.broker, world.current("arta"), grant.id)


def refusals(world: World) -> list[dict[str, object]]:
    with world.broker.db.engine.connect() as connection:
        leaves = connection.exec_driver_sql("SELECT leaf FROM event WHERE type = 'issue.refused' ORDER BY id")
        return [json.loads(leaf)["body"] for leaf in leaves.scalars()]


def nothing_was_issued(world: World) -> bool:
    with world.broker.db.engine.connect() as connection:
        return all(
            connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one() == 0
            for table in ("lease", "token", "authorization_code")
        )


BIGGER = json.dumps({"amount_cents": 500_000_000, "order": "TR-000417"})
OTHER = json.dumps({"amount_cents": 125_000_000, "order": "TR-000388"})
CHANGES = [
    ("inputs", BIGGER, "inputs.amount_cents"),
    ("inputs", OTHER, "inputs.order"),
    ("duration_s", 3600, "duration_s"),
    ("target", "payroll", "target"),
    ("entitlement", "viewer", "entitlement"),
    ("policy_digest", "x" * 43, "policy_digest"),
    ("target_config_digest", "x" * 43, "target_config_digest"),
    ("latest_end", 4_000_000_000_000_000, "latest_end"),
    ("approve_by", 4_000_000_000_000_000, "approve_by"),
    ("earliest_start", 1_000_000_000_000_000, "earliest_start"),
    ("reason", "something else", "reason_digest"),
    ("filing_assertion_digest", "x" * 43, "filing_assertion_digest"),
    ("state", "PENDING", "state"),
]


@pytest.mark.covers("R20", "R28")
@pytest.mark.parametrize(("column", "value", "field"), CHANGES, ids=[f"{c[0]}-{c[2]}" for c in CHANGES])
def test_a_request_changed_in_the_database_is_refused_by_name(
    sqlite_world: World, column: str, value: object, field: str
) -> None:
    world, grant = sqlite_world, released(sqlite_world)
    world.sql(f"UPDATE access_request SET {column} = :value WHERE id = :id", value=value, id=grant.request_id)
    found = opened(world, grant)
    assert isinstance(found, Refused)
    assert (found.code, found.field) == ("differs_from_signed", field)
    assert field in found.message
    assert refusals(world) == [{"reason": "differs_from_signed", "field": field}]
    assert nothing_was_issued(world)


@pytest.mark.covers("R20")
def test_changed_terms_are_refused_too(sqlite_world: World) -> None:
    world, grant = sqlite_world, released(sqlite_world)
    with world.broker.db.engine.connect() as connection:
        terms = json.loads(connection.exec_driver_sql("SELECT terms FROM access_request").scalar_one())
    terms["token_ttl_s"] = 900
    world.sql("UPDATE access_request SET terms = :terms", terms=json.dumps(terms))
    found = opened(world, grant)
    assert isinstance(found, Refused)
    assert found.field == "terms.token_ttl_s"
    assert nothing_was_issued(world)


@pytest.mark.covers("R20")
@pytest.mark.parametrize("column", ["filing_statement", "filing_assertion"])
def test_evidence_that_does_not_verify_is_refused(sqlite_world: World, column: str) -> None:
    world, first, second = sqlite_world, released(sqlite_world), look(sqlite_world)
    world.sql(
        f"UPDATE access_request SET {column} = (SELECT {column} FROM access_request WHERE id = :other) WHERE id = :id",
        other=second.request_id,
        id=first.request_id,
    )
    assert isinstance(opened(world, first), Refused)
    assert nothing_was_issued(world)


SEALED = [
    "UPDATE approval SET institution = 'nao'",
    "UPDATE approval SET person_id = (SELECT person_id FROM access_request LIMIT 1) WHERE step = 'owner'",
    "UPDATE access_grant SET duration_s = 7200",
    "UPDATE access_grant SET latest_end = latest_end + 1000000000",
    "UPDATE access_grant SET entitlement = 'viewer'",
    "UPDATE passkey SET public_key_der = x'00'",
    "UPDATE person SET unit = 'owner'",
]


@pytest.mark.covers("R20")
@pytest.mark.parametrize("statement", SEALED)
def test_a_row_that_confers_power_and_was_changed_gives_nothing(sqlite_world: World, statement: str) -> None:
    world, grant = sqlite_world, released(sqlite_world)
    current = world.current("arta")
    world.sql(statement)
    world.sql("UPDATE register_version SET n = n + 1")
    # A register row blocks whom it is about; any other row is not used at all.
    with suppress(SealBroken):
        found = open_lease(world.broker, current, grant.id)
        assert isinstance(found, Refused)
        assert found.code in {"record_changed", "passkey_not_active"}
    with world.broker.read() as view:
        assert view.first(select(Event).where(Event.type == "seal.broken")) is not None
    assert nothing_was_issued(world)


@pytest.mark.covers("R20", "R22")
def test_a_lost_approval_is_noticed(sqlite_world: World) -> None:
    world, grant = sqlite_world, released(sqlite_world)
    world.sql("DELETE FROM approval WHERE step = 'owner'")
    found = opened(world, grant)
    assert isinstance(found, Refused)
    assert found.code == "quorum_not_met"


def approver_leaves_the_group(world: World) -> None:
    with world.broker.begin(SYSTEM) as tx:
        end_member(tx, group_id="treasury-heads", member_id=world.person("blerim"))


def approver_is_switched_off(world: World) -> None:
    with world.broker.begin(SYSTEM) as tx:
        disable_person(tx, world.person("drita"))


def approver_is_held(world: World) -> None:
    with world.broker.begin(SYSTEM) as tx:
        place(tx, world.broker, kind=HoldKind.PERSON, subject_id=world.person("drita"), cause="odd", by="test")


def requester_leaves_the_group(world: World) -> None:
    with world.broker.begin(SYSTEM) as tx:
        end_member(tx, group_id="treasury-releasers", member_id=world.person("arta"))


def instance_is_held(world: World) -> None:
    with world.broker.begin(SYSTEM) as tx:
        instance = world.broker.site.instance_id
        place(tx, world.broker, kind=HoldKind.INSTANCE, subject_id=instance, cause="clock", by="test")


def broker_is_starting(world: World) -> None:
    world.broker.may_grant.clear()


REASONS: list[tuple[Callable[[World], None], str]] = [
    (approver_leaves_the_group, "approver_lost_right"),
    (approver_is_switched_off, "approver_not_active"),
    (approver_is_held, "approver_on_hold"),
    (requester_leaves_the_group, "not_in_group"),
    (instance_is_held, "instance_on_hold"),
    (broker_is_starting, "starting"),
]


@pytest.mark.covers("R12", "R28", "R59", "R62", "T-06")
@pytest.mark.parametrize(("happens", "code"), REASONS, ids=[code for _, code in REASONS])
def test_what_changed_since_the_approval_counts_at_issue(
    sqlite_world: World, happens: Callable[[World], None], code: str
) -> None:
    world, grant = sqlite_world, released(sqlite_world)
    happens(world)
    found = opened(world, grant)
    assert isinstance(found, Refused)
    assert found.code == code
    assert refusals(world)[0]["reason"] == code
    assert nothing_was_issued(world)


@pytest.mark.covers("R40", "R28", "T-06")
def test_what_changes_after_the_issue_counts_at_the_next_renewal(treasury: Treasury) -> None:
    tokens = treasury.tokens(released(treasury.world))
    approver_leaves_the_group(treasury.world)
    assert treasury.refresh(tokens["refresh_token"]).json["error"] == "invalid_grant"


@pytest.mark.covers("R67")
def test_nothing_is_issued_before_the_approvals_are_in_the_signed_log(world: World) -> None:
    grant = released(world)
    with world.broker.read() as view:
        assert world.broker.checkpoints.latest(view) is None
    assert not isinstance(opened(world, grant), Refused)
    with world.broker.read() as view:
        assert world.broker.checkpoints.latest(view) is not None


@pytest.mark.covers("R64")
def test_a_log_that_cannot_be_signed_stops_issuing(sqlite_world: World) -> None:
    world, grant = sqlite_world, released(sqlite_world)
    world.sql("CREATE TRIGGER no_checkpoint BEFORE INSERT ON checkpoint BEGIN SELECT RAISE(ABORT, 'full'); END")
    with pytest.raises(JitError) as caught:
        opened(world, grant)
    assert caught.value.kind is Kind.UNAVAILABLE
    assert nothing_was_issued(world)


@pytest.mark.covers("R21", "T-05")
def test_a_grant_opens_for_its_own_person_alone_through_any_account(sqlite_world: World) -> None:
    world, grant = sqlite_world, look(sqlite_world)
    other = open_lease(world.broker, world.current("blerim"), grant.id)
    assert isinstance(other, Refused)
    assert other.kind is Kind.NOT_FOUND
    assert not isinstance(open_lease(world.broker, world.current("arta-2"), grant.id), Refused)


def test_a_token_grant_has_one_lease_however_often_it_is_opened(world: World) -> None:
    grant = look(world)
    first, second = opened(world, grant), opened(world, grant)
    assert not isinstance(first, Refused)
    assert not isinstance(second, Refused)
    assert first.lease.id == second.lease.id
    assert first.lease.ends_at == grant.ends_at


@pytest.mark.covers("T-11", "R34")
def test_a_grant_that_nobody_opened_in_time_stays_shut(sqlite_world: World) -> None:
    world, grant = sqlite_world, released(sqlite_world)
    assert grant.activate_by is not None
    world.advance(grant.activate_by - world.clock.now())
    found = opened(world, grant)
    assert isinstance(found, Refused)
    assert found.code == "grant_ended"


@pytest.mark.covers("R34")
def test_a_grant_that_ended_without_a_sweep_stays_shut(sqlite_world: World) -> None:
    world, grant = sqlite_world, look(sqlite_world)
    world.advance(timedelta(seconds=600))
    found = opened(world, grant)
    assert isinstance(found, Refused)
    assert found.code == "grant_ended"


@pytest.mark.covers("R20")
def test_a_passkey_removed_since_the_filing_is_noticed(sqlite_world: World) -> None:
    world, grant = sqlite_world, look(sqlite_world)
    with world.broker.begin(SYSTEM) as tx:
        found = tx.first(select(Passkey).where(Passkey.account_id == grant.account_id))
        assert found is not None
        assert isinstance(passkeys.remove(tx, found), Refused), "the last one stays"
        event = tx.record(issue.EventType.PASSKEY_REMOVED, subject={"passkey": found.id})
        tx.update(found, event, status="removed")
    with world.broker.read() as view:
        refused = reverify(view, world.broker, grant)
    assert refused is not None
    assert refused.code == "passkey_not_active"


# ---------------------------------------------------------------- targets that are touched


def outside(world: World) -> FakeConnector:
    fake = FakeConnector()
    world.use_kind(fake_kind(fake, "token", config=TokenConnector))
    return fake


def lease_of(world: World, grant: Grant) -> Lease:
    with world.broker.read() as view:
        found = view.unchecked_all(select(Lease).where(Lease.grant_id == grant.id))
    assert len(found) == 1
    return found[0]


@pytest.mark.covers("R47", "R55")
def test_the_intent_is_committed_before_the_target_acts_and_the_secret_is_given_once(sqlite_world: World) -> None:
    world, fake, grant = sqlite_world, outside(sqlite_world), look(sqlite_world)
    found = opened(world, grant)
    assert isinstance(found, issue.Opened)
    assert lease_of(world, grant).state == "ACTIVE"
    name = f"jit-{found.lease.id}"
    assert list(fake.accounts) == [name]
    assert found.credential.secret is not None
    assert found.credential.secret.reveal() == f"secret-of-{name}"
    assert "secret-of" not in repr(found.credential)
    again = opened(world, grant)
    assert isinstance(again, Refused)
    assert again.code == "open_already"


@pytest.mark.covers("R47")
@pytest.mark.parametrize(("fault", "state"), [("not_done", "FAILED"), ("fail", "REVOKING"), ("lost_reply", "REVOKING")])
def test_only_proof_that_nothing_was_made_counts_as_failed(sqlite_world: World, fault: str, state: str) -> None:
    world, fake, grant = sqlite_world, outside(sqlite_world), look(sqlite_world)
    fake.faults["apply"] = fault
    found = opened(world, grant)
    assert isinstance(found, Refused)
    assert lease_of(world, grant).state == state
    world.sweep()
    assert not [account for account in fake.accounts.values() if account.enabled], "what may have been made is locked"
    world.advance(APPLY_LIMIT + LATE_BIRTH)
    world.sweep()
    assert fake.accounts == {}, "what may have been made is gone"


@pytest.mark.covers("R47", "R60")
def test_what_is_born_after_its_grant_ended_is_removed_by_the_issuer(sqlite_world: World) -> None:
    world, grant = sqlite_world, look(sqlite_world)
    fake = outside(world)
    born = fake.apply

    def slow(*arguments: object) -> object:
        world.advance(timedelta(seconds=601))
        world.sweep()
        return born(*arguments)  # type: ignore[arg-type] # passed through

    fake.apply = slow  # type: ignore[method-assign,assignment] # the simulator's own switch for a late birth
    found = opened(world, grant)
    assert isinstance(found, Refused)
    assert fake.accounts == {}
    assert lease_of(world, grant).state == "REVOKED"


@pytest.mark.covers("R34", "R36", "R40", "TRAP-5")
def test_rows_put_back_after_the_end_revive_no_token_and_no_code(any_treasury: Treasury) -> None:
    world, grant = any_treasury.world, any_treasury.grant()
    code, verifier = any_treasury.code(grant)
    before = Kept(world, ("authorization_code",))
    assert any_treasury.redeem(code, verifier).status_code == 200
    before.put_back()
    assert any_treasury.redeem(code, verifier).status_code != 200
    again = any_treasury.grant(duration_s=700)
    tokens = any_treasury.tokens(again)
    kept = Kept(world, ("access_grant", "lease", "token"))
    arta = world.current("arta")
    with world.broker.begin(arta.actor) as tx:
        hand_back(tx, arta, again.id)
    world.sweep()
    kept.put_back()
    assert any_treasury.introspect(tokens["access_token"]) == {"active": False}
    assert any_treasury.refresh(tokens["refresh_token"]).status_code != 200


@pytest.mark.covers("R39", "R40")
def test_a_token_revoked_by_its_client_stays_so_when_its_row_is_put_back(treasury: Treasury) -> None:
    tokens = treasury.tokens(treasury.grant())
    kept = Kept(treasury.world, ("token",))
    for _ in range(2):  # the second time over a row that was put back: revocation needs no intact seal
        assert treasury.call("/oidc/revoke", {"token": tokens["refresh_token"]}).status_code == 200
        kept.put_back()
    assert treasury.introspect(tokens["access_token"]) == {"active": False}
    assert treasury.refresh(tokens["refresh_token"]).status_code != 200
