"""A soft end closes before it ends, a warning comes once, witnesses hear of it, and a veto stops what waits."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select

from jitaccess.broker import hold, notify, veto
from jitaccess.broker.grants import may_veto
from jitaccess.broker.hold import HoldKind
from jitaccess.broker.issue import Opened, open_lease
from jitaccess.broker.revoke import hand_back
from jitaccess.domain.lifecycle import GrantState
from jitaccess.domain.values import LOCAL, Refused
from jitaccess.language import Language, minute_text
from jitaccess.proof.statements import VetoStatement
from jitaccess.store.tables import Event, Grant, Outbox, Veto
from tests.broker.test_asking import limited
from tests.support.policy_swap import Rules, swap
from tests.support.world import World

MINUTE = timedelta(minutes=1)


def soft(rules: Rules) -> None:
    rules["look-at-payments"]["duration"] |= {"end": "soft", "grace": "5m", "warn": "2m"}


def watched(rules: Rules) -> None:
    rules["look-at-payments"]["notify"] = {"witnesses": ["infra-finance"], "on": ["filed", "granted", "ended"]}


def delayed(rules: Rules) -> None:
    for name in ("look-at-payments", "release-payments"):
        rules[name]["delay"] = {"time_lock": "10m", "veto": ["owner", "cert"]}


def granted(world: World, duration_s: int = 600) -> Grant:
    grant = world.filed(duration_s=duration_s).grant
    assert grant is not None
    return grant


def read(world: World, grant_id: str) -> Grant:
    with world.broker.read() as view:
        return view.require(Grant, grant_id)


def opening(world: World, grant_id: str) -> str:
    found = open_lease(world.broker, world.current("arta"), grant_id)
    return "opened" if isinstance(found, Opened) else found.code


def told(world: World, kind: str) -> list[str]:
    with world.broker.read() as view:
        rows = view.all(select(Outbox).where(Outbox.kind == kind))
        names = {key: name for name, key in world.seeded.people.items()}
        return sorted(names[row.person_id] for row in rows)


def letters(world: World, kind: str) -> list[str]:
    with world.broker.read() as view:
        rows = view.all(select(Outbox).where(Outbox.kind == kind))
        found = [notify.render(view, world.broker, row) for row in rows]
    return [letter for letter in found if letter is not None]


def events(world: World, kind: str) -> int:
    with world.broker.read() as view:
        return int(view.scalar(select(func.count()).where(Event.type == kind)))


# ---------------------------------------------------------------- soft end and warning


@pytest.mark.covers("T-16")
def test_a_soft_end_closes_to_what_is_new_and_ends_a_grace_later(world: World) -> None:
    swap(world, soft)
    grant = granted(world)
    assert grant.starts_at is not None
    assert (grant.closes_at, grant.ends_at) == (grant.starts_at + 10 * MINUTE, grant.starts_at + 15 * MINUTE)
    assert opening(world, grant.id) == "opened"
    world.advance(10 * MINUTE)
    world.sweep()
    assert read(world, grant.id).state == GrantState.ACTIVE
    assert opening(world, grant.id) == "closing"
    world.advance(5 * MINUTE)
    assert opening(world, grant.id) == "grant_ended"
    world.sweep()
    assert read(world, grant.id).cause == "expired"


def test_the_warning_comes_once_and_in_time(world: World) -> None:
    swap(world, soft)
    grant = granted(world)
    world.advance(7 * MINUTE)
    world.sweep()
    assert told(world, "grant_ending") == []
    world.advance(MINUTE)
    world.sweep()
    world.sweep()
    assert told(world, "grant_ending") == ["arta"]
    (letter,) = letters(world, "grant_ending")
    assert grant.closes_at is not None
    assert f"ends at {minute_text(grant.closes_at, Language.EN, 'Europe/Belgrade')}" in letter
    assert read(world, grant.id).state == GrantState.ACTIVE


def test_a_hard_end_without_a_warning_says_nothing(world: World) -> None:
    swap(world, lambda rules: rules["look-at-payments"]["duration"].pop("warn"))
    grant = granted(world)
    assert (grant.closes_at, grant.warn_at, grant.course) == (None, None, None)
    world.advance(9 * MINUTE)
    world.sweep()
    assert told(world, "grant_ending") == []


@pytest.mark.covers("R20")
def test_a_longer_grace_in_the_database_is_refused(world: World) -> None:
    swap(world, soft)
    grant = granted(world)
    world.sql("UPDATE access_grant SET ends_at = ends_at + 60000000")
    with pytest.raises(Exception, match="changed outside"):
        opening(world, grant.id)


# ---------------------------------------------------------------- witnesses


def test_witnesses_hear_of_filing_grant_and_end(world: World) -> None:
    swap(world, watched)
    grant = granted(world)
    assert told(world, "witness_filed") == ["drita"]
    assert told(world, "witness_granted") == ["drita"]
    world.advance(10 * MINUTE)
    world.sweep()
    assert told(world, "witness_ended") == ["drita"]
    for kind in ("witness_filed", "witness_granted", "witness_ended"):
        (letter,) = letters(world, kind)
        assert "Arta Krasniqi" in letter
        assert "Treasury payments: Look at payments" in letter
        assert f"/witness/{'requests' if kind == 'witness_filed' else 'grants'}/" in letter
    drita, jelena, blerim = (world.current(key) for key in ("drita", "jelena", "blerim"))
    with world.broker.read() as view:
        assert isinstance(veto.witnessed(view, world.broker, drita, grant_id=grant.id), veto.Witnessed)
        assert isinstance(veto.witnessed(view, world.broker, jelena, request_id=grant.request_id), veto.Witnessed)
        assert isinstance(veto.witnessed(view, world.broker, blerim, grant_id=grant.id), Refused)
        assert isinstance(veto.witnessed(view, world.broker, drita, grant_id="0" * 26), Refused)


@pytest.mark.covers("R26")
def test_who_files_and_hands_back_again_and_again_sends_a_witness_a_few_notices_and_the_rest_together(
    world: World,
) -> None:
    swap(world, watched)
    arta = world.current("arta")
    for _ in range(10):
        grant = granted(world)
        with world.broker.begin(arta.actor, lock=[(Grant, grant.id)]) as tx:
            hand_back(tx, arta, grant.id)
    with world.broker.read() as view:
        wanted = select(Outbox).where(Outbox.person_id == world.person("drita"), Outbox.kind.startswith("witness_"))
        rows = view.all(wanted)
        later = {row.next_at for row in rows if row.next_at > view.now}
        assert (len(rows), sum(row.next_at <= view.now for row in rows), len(later)) == (30, 6, 1), "none is lost"


def test_a_hold_is_told_only_where_the_rule_says_so_and_nobody_is_told_of_himself(world: World) -> None:
    def edit(rules: Rules) -> None:
        rules["look-at-payments"]["notify"] = {"witnesses": ["infra-finance", "treasury-staff"], "on": ["held"]}

    swap(world, edit)
    returned, held = granted(world), granted(world)
    arta = world.current("arta")
    with world.broker.begin(arta.actor, lock=[(Grant, returned.id)]) as tx:
        hand_back(tx, arta, returned.id)
    assert told(world, "witness_ended") == []
    with world.broker.begin(LOCAL) as tx:
        hold.place(tx, world.broker, kind=HoldKind.GRANT, subject_id=held.id, cause="odd", by="local")
    assert told(world, "witness_ended") == ["blerim", "drita"]


# ---------------------------------------------------------------- delay and veto


def test_a_delayed_grant_waits_and_those_who_may_stop_it_are_told(world: World) -> None:
    swap(world, delayed)
    grant = granted(world)
    assert (grant.state, grant.not_before) == (GrantState.SCHEDULED, grant.created_at + 10 * MINUTE)
    assert "drita" in told(world, "veto_possible")
    assert "arta" not in told(world, "veto_possible")
    assert any("You can stop this until" in letter for letter in letters(world, "veto_possible"))
    assert opening(world, grant.id) == "not_yet"
    world.advance(10 * MINUTE)
    assert opening(world, grant.id) == "opened"


@pytest.mark.covers("R26")
def test_of_the_owners_staff_a_lot_draws_who_is_told_and_nobody_is_told_of_too_many_at_once(world: World) -> None:
    swap(world, delayed)
    limited(world, veto_owners_told=1, messages_per_approver_hour=1)
    grant = granted(world)
    with world.broker.read() as view:
        able = may_veto(view, world.broker, grant)
    first = told(world, "veto_possible")
    assert len(able) > len(first)
    granted(world)
    with world.broker.read() as view:
        rows = view.all(select(Outbox).where(Outbox.kind == "veto_possible").order_by(Outbox.id))
    assert sorted({row.person_id for row in rows}) == sorted(world.person(key) for key in first), "the lot lasts a day"
    assert [row.next_at - row.created_at for row in rows[len(first) :]] == [5 * MINUTE] * len(first)


def test_the_delay_counts_from_the_last_approval_and_stays_within_what_was_signed(world: World) -> None:
    swap(world, delayed)
    filed = world.filed(entitlement="releaser")
    world.advance(59 * MINUTE)
    world.approved("blerim", filed.request.id)
    grant = world.approved("drita", filed.request.id).grant
    assert grant is not None
    assert grant.not_before == grant.created_at + 10 * MINUTE
    assert grant.activate_by == grant.not_before + 15 * MINUTE
    world.advance(24 * MINUTE)
    assert opening(world, grant.id) == "opened"
    assert read(world, grant.id).ends_at == world.broker.db.now() + 10 * MINUTE


def test_a_veto_is_one_tap_ends_what_waits_and_is_signed_afterwards(world: World) -> None:
    swap(world, delayed)
    grant = granted(world)
    drita = world.current("drita")
    with world.broker.read() as view:
        assert [found.id for found in veto.waiting(view, world.broker, drita)] == [grant.id]
    with world.broker.begin(drita.actor, lock=[(Grant, grant.id)]) as tx:
        assert isinstance(veto.give(tx, world.broker, drita, grant.id), Grant)
    assert (read(world, grant.id).state, read(world, grant.id).cause) == (GrantState.ENDED, "vetoed")
    assert told(world, "grant_ended") == ["arta"]
    with world.broker.begin(drita.actor) as tx:
        begun = veto.begin_signature(tx, world.broker, drita, grant.id)
    assert not isinstance(begun, Refused)
    with world.broker.begin(drita.actor) as tx:
        signed = veto.complete_signature(
            tx,
            world.broker,
            drita,
            grant_id=grant.id,
            challenge_id=begun.challenge_id,
            response=world.answer("drita", begun),
        )
    assert isinstance(signed, Veto)
    assert VetoStatement.parse(signed.statement or b"").vetoer == world.person("drita")
    assert (events(world, "veto.given"), events(world, "veto.signed")) == (1, 1)
    with world.broker.begin(drita.actor) as tx:
        assert isinstance(veto.begin_signature(tx, world.broker, drita, grant.id), Refused)


def test_only_the_named_may_stop_it_and_only_while_it_waits(world: World) -> None:
    swap(world, delayed)
    grant = granted(world)
    for key in ("blerim", "arta"):
        person = world.current(key)
        with world.broker.begin(person.actor, lock=[(Grant, grant.id)]) as tx:
            refused = veto.give(tx, world.broker, person, grant.id)
        assert isinstance(refused, Refused)
        assert refused.code == "no_such_grant"
    assert events(world, "veto.refused") == 2
    world.advance(10 * MINUTE)
    world.sweep()
    drita = world.current("drita")
    with world.broker.begin(drita.actor, lock=[(Grant, grant.id)]) as tx:
        late = veto.give(tx, world.broker, drita, grant.id)
    assert isinstance(late, Refused)
    assert late.code == "not_waiting"


@pytest.mark.covers("R20")
def test_a_delay_taken_out_of_the_database_is_refused(world: World) -> None:
    swap(world, delayed)
    grant = granted(world)
    world.sql("UPDATE access_grant SET not_before = NULL, state = 'ACTIVE'")
    with pytest.raises(Exception, match="changed outside"):
        opening(world, grant.id)
