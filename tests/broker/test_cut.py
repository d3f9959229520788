"""What a lease put on a target goes away for certain: proven, retried, isolated, and never at the word of a changed row."""

import copy
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import Field
from sqlalchemy import func, select

from jitaccess.broker import changes, handover, issue, policies
from jitaccess.broker.cut import STUCK_AFTER, Revoker, end_stale_issuing, isolated, still_needed
from jitaccess.broker.issue import Opened, open_lease
from jitaccess.broker.revoke import stuck
from jitaccess.broker.sweep import Ticker, end_due_grants
from jitaccess.broker.targets import APPLY_LIMIT, LATE_BIRTH
from jitaccess.clock import FrozenClock
from jitaccess.connectors.contract import Effect, Given, KindConfig, Unreachable, is_own_account
from jitaccess.connectors.fake import FakeConnector, fake_kind
from jitaccess.demo.cast import FOUNDERS
from jitaccess.domain.events import EventType
from jitaccess.domain.lifecycle import LeaseState
from jitaccess.domain.values import SYSTEM, Refused
from jitaccess.errors import JitError
from jitaccess.policy.evaluate import PolicySet
from jitaccess.policy.schema import TokenConnector
from jitaccess.store.tables import Event, EventText, Grant, Lease, Outbox, Person
from tests.support.world import World

DAYS = timedelta(days=1)


def with_target(world: World, fake: FakeConnector, name: str = "vault", kind: str = "fake") -> str:
    """Give a lease whose account is on a target, under a grant that ends in ten minutes; return its id."""
    world.use_kind(fake_kind(fake, kind))
    filed = world.filed(duration_s=600)
    assert filed.grant is not None
    with world.broker.begin(SYSTEM) as tx:
        key = tx.new_id()
        fake.apply(Effect(kind, f"jit-{key}", {"entitlement": "viewer"}), tx.now)
        tx.insert(
            Lease,
            tx.record(EventType.LEASE_ACTIVE),
            id=key,
            grant_id=filed.grant.id,
            person_id=world.person("arta"),
            target=name,
            connector=kind,
            effect={
                "kind": kind,
                "name": f"jit-{key}",
                "detail": {"entitlement": "viewer"},
                "connector": {"kind": kind, "at": name} if kind == "fake" else {"kind": kind},
            },
            state=LeaseState.ACTIVE.value,
            proof={"applied": True},
            created_at=tx.now,
            ends_at=tx.now + timedelta(seconds=600),
            attempts=0,
        )
    return key


def outside(world: World, **kwargs: Any) -> FakeConnector:
    """Let the treasury be a target on which accounts are made."""
    fake = FakeConnector()
    world.use_kind(fake_kind(fake, "token", config=TokenConnector, **kwargs))
    return fake


def granted(world: World) -> Grant:
    found = world.filed(duration_s=600).grant
    assert found is not None
    return found


def opened(world: World, grant: Grant) -> Opened | Refused:
    return open_lease(world.broker, world.current("arta"), grant.id)


def lease(world: World, key: str) -> Lease:
    with world.broker.read() as view:
        found = view.unchecked_get(Lease, key)
    assert found is not None
    return found


def only_lease(world: World) -> Lease:
    with world.broker.read() as view:
        (found,) = view.unchecked_all(select(Lease))
    return found


def count(world: World, kind: EventType) -> int:
    with world.broker.read() as view:
        return int(view.scalar(select(func.count()).where(Event.type == kind.value)))


@pytest.mark.covers("R50", "R51")
def test_revocation_is_proven_by_what_the_target_says_and_timed_from_the_end(world: World) -> None:
    fake = FakeConnector()
    key = with_target(world, fake)
    world.advance(timedelta(seconds=607))
    world.sweep()
    done = lease(world, key)
    assert done.state == LeaseState.REVOKED
    assert done.proof == {
        "applied": True,
        "cut": {"login": "locked", "sessions": 0},
        "clean": {"account": "absent"},
        "cut_ms": 7000,
        "lag_ms": 7000,
    }
    assert fake.accounts == {}


@pytest.mark.covers("R51", "T-13")
@pytest.mark.parametrize("fault", ["fail", "lost_reply", "not_done", "unreachable"])
@pytest.mark.parametrize("verb", ["cut", "clean"])
def test_a_target_that_fails_is_tried_again_for_ever_and_listed_as_stuck(
    sqlite_world: World, verb: str, fault: str
) -> None:
    world, fake = sqlite_world, FakeConnector()
    key = with_target(world, fake)
    fake.faults[verb] = fault
    world.advance(timedelta(seconds=600))
    for _ in range(STUCK_AFTER + 1):
        world.sweep()
        world.advance(timedelta(minutes=20))
    if verb == "cut" and fault == "lost_reply":
        assert lease(world, key).state == LeaseState.REVOKED, "cutting has no reply to lose"
        return
    assert lease(world, key).state == LeaseState.STUCK
    assert count(world, EventType.ALARM_RAISED) == 1
    with world.broker.read() as view:
        assert [row.id for row in stuck(view)] == [key]
        assert view.all(select(Outbox).where(Outbox.kind == "revocation_stuck"))
    fake.faults.clear()
    world.advance(timedelta(minutes=20))
    world.sweep()
    assert lease(world, key).state == LeaseState.REVOKED


def test_one_account_that_cannot_go_keeps_no_other_from_going(sqlite_world: World) -> None:
    world, fake = sqlite_world, FakeConnector()
    keys = [with_target(world, fake) for _ in range(5)]
    fake.poisoned.add(f"jit-{keys[2]}")
    world.advance(timedelta(seconds=600))
    world.sweep()
    states = [lease(world, key).state for key in keys]
    assert [keys[i] for i, state in enumerate(states) if state != LeaseState.REVOKED] == [keys[2]]
    assert set(fake.accounts) == {f"jit-{keys[2]}"}


def test_a_target_that_cannot_be_reached_is_not_asked_once_for_each_account() -> None:
    fake = FakeConnector()
    fake.faults["cut"] = "unreachable"
    effects = [Effect("fake", f"jit-{number}") for number in range(64)]
    proofs, errors = isolated(fake.cut, effects)
    assert (proofs, len(errors), len(fake.calls)) == ({}, 64, 1)
    assert Unreachable.__name__ in errors["jit-0"]


@pytest.mark.covers("T-13", "R21")
def test_a_stuck_lease_whose_row_says_another_person_is_not_closed_until_it_is_put_back(world: World) -> None:
    fake = FakeConnector()
    key = with_target(world, fake)
    first, second = [role.key for role in FOUNDERS][:2]
    payload = {"reason": "the server was scrapped, the disk destroyed"}

    def close(who: str, *, begun_before: bool = False) -> changes.Applied | Refused:
        current = world.current(who)
        with world.broker.begin(current.actor) as tx:
            begun = changes.begin(tx, world.broker, current, kind="lease.close", subject=key, payload=payload)
        if isinstance(begun, Refused):
            return begun
        if begun_before:
            world.sql("UPDATE lease SET person_id = :p WHERE id = :k", p=world.person("blerim"), k=key)
        with world.broker.begin(current.actor) as tx:
            answer = world.answer(who, begun)
            return changes.complete(tx, world.broker, current, challenge_id=begun.challenge_id, response=answer)

    fake.faults["cut"] = "fail"
    world.advance(timedelta(seconds=600))
    for _ in range(STUCK_AFTER):
        world.sweep()
        world.advance(timedelta(minutes=20))
    late = close(first, begun_before=True)
    at_once = close(second)
    assert isinstance(late, Refused)
    assert isinstance(at_once, Refused)
    assert late.code == at_once.code == "record_changed"
    assert lease(world, key).state == LeaseState.STUCK
    world.sql("UPDATE lease SET person_id = :p WHERE id = :k", p=world.person("arta"), k=key)
    assert isinstance(close(first), changes.Applied)
    assert isinstance(close(second), changes.Applied)
    assert lease(world, key).state == LeaseState.CLOSED


@pytest.mark.covers("T-13")
def test_a_stuck_lease_is_closed_by_two_persons_with_a_reason(sqlite_world: World) -> None:
    world, fake = sqlite_world, FakeConnector()
    key = with_target(world, fake)
    payload = {"reason": "the server was scrapped, the disk destroyed"}

    def sign(who: str) -> changes.Applied | Refused:
        current = world.current(who)
        with world.broker.begin(current.actor) as tx:
            begun = changes.begin(tx, world.broker, current, kind="lease.close", subject=key, payload=payload)
        assert not isinstance(begun, Refused), begun
        with world.broker.begin(current.actor) as tx:
            return changes.complete(
                tx, world.broker, current, challenge_id=begun.challenge_id, response=world.answer(who, begun)
            )

    admins = [role.key for role in FOUNDERS]
    with pytest.raises(JitError):
        sign(admins[0])  # it is not stuck
    fake.faults["cut"] = "fail"
    world.advance(timedelta(seconds=600))
    for _ in range(STUCK_AFTER):
        world.sweep()
        world.advance(timedelta(minutes=20))
    first = sign(admins[0])
    assert isinstance(first, changes.Applied)
    assert not first.ready
    assert lease(world, key).state == LeaseState.STUCK
    again = sign(admins[0])
    assert isinstance(again, Refused)
    assert again.code == "same_person"
    second = sign(admins[1])
    assert isinstance(second, changes.Applied)
    assert second.ready
    assert lease(world, key).state == LeaseState.CLOSED
    calls = len(fake.calls)
    world.advance(DAYS)
    world.sweep()
    assert len(fake.calls) == calls


def test_a_hanging_target_delays_no_other(world: World) -> None:
    hanging, other = FakeConnector(), FakeConnector()
    slow = with_target(world, hanging, "slow")
    quick = with_target(world, other, "quick", kind="other")
    hanging.faults["cut"] = "hang"
    world.advance(timedelta(seconds=600))
    end_due_grants(world.broker)
    revoker = Revoker(world.broker, "worker")
    thread = threading.Thread(target=revoker.run)
    thread.start()
    for _ in range(3000):
        if lease(world, quick).state == LeaseState.REVOKED:
            break
        thread.join(0.01)
    assert lease(world, quick).state == LeaseState.REVOKED
    assert lease(world, slow).state == LeaseState.REVOKING
    assert revoker.run(0.0) == 0, "nobody waits twice for the same target"
    hanging.released.set()
    thread.join()
    revoker.close()
    assert lease(world, slow).state == LeaseState.REVOKED


@pytest.mark.covers("R59", "T-22")
def eventually(true: Callable[[], bool]) -> None:
    for _ in range(500):
        if true():
            return
        threading.Event().wait(0.02)
    pytest.fail("it did not come about within ten seconds")


@pytest.mark.covers("R61")
def test_who_has_just_ended_is_locked_out_while_another_account_is_still_being_cleaned_up(sqlite_world: World) -> None:
    world, fake = sqlite_world, FakeConnector()
    slow, failed = with_target(world, fake), with_target(world, fake)
    fake.poisoned = {f"jit-{failed}"}
    world.advance(timedelta(seconds=601))
    end_due_grants(world.broker)
    revoker = Revoker(world.broker, "w")
    revoker.run()
    fake.poisoned, fake.faults = set(), {"clean": "hang"}
    world.advance(timedelta(seconds=60))
    assert lease(world, slow).state == LeaseState.REVOKED
    revoker.run(wait_s=0.0)  # takes up what failed, and hangs in cleaning it
    eventually(lambda: fake.calls[-1] == ("clean", f"jit-{failed}"))
    late = with_target(world, fake)
    world.advance(timedelta(seconds=601))
    end_due_grants(world.broker)
    revoker.run(wait_s=10.0)
    assert not fake.accounts[f"jit-{late}"].enabled, "it is locked, and waits for its turn to be cleaned"
    assert lease(world, late).attempts == 0
    fake.released.set()
    eventually(lambda: lease(world, failed).state == LeaseState.REVOKED)
    world.advance(timedelta(seconds=6))
    revoker.run()
    revoker.close()
    assert lease(world, late).state == LeaseState.REVOKED


def test_what_failed_before_is_tried_alone_after_all_others(sqlite_world: World) -> None:
    world, fake = sqlite_world, FakeConnector()
    bad = with_target(world, fake)
    fake.poisoned = {f"jit-{bad}"}
    world.advance(timedelta(seconds=601))
    world.sweep()
    good = [with_target(world, fake) for _ in range(2)]
    world.advance(timedelta(seconds=601))
    fake.calls.clear()
    world.sweep()
    cuts = [names.split() for verb, names in fake.calls if verb == "cut"]
    assert [set(names) for names in cuts] == [{f"jit-{key}" for key in good}, {f"jit-{bad}"}]


def test_a_round_that_takes_too_long_spends_an_attempt_of_what_was_tried_and_of_nothing_else() -> None:
    effects = [Effect("fake", f"a{number}", {}) for number in range(4)]

    def act(part: Sequence[Effect]) -> dict[str, Any]:
        if len(part) == 4:
            return {"a0": {}, "a1": {}}  # two are left out, to be asked alone
        raise ConnectionError

    told = iter([True, False])
    proofs, errors = isolated(act, effects, lambda: next(told))
    assert (set(proofs), errors) == ({"a0", "a1"}, {"a2": "no_proof", "a3": "ConnectionError"})
    proofs, errors = isolated(lambda _: {}["nothing"], effects, lambda: False)
    assert (proofs, set(errors.values())) == ({}, {"KeyError"}), "it acts once in any case"


@pytest.mark.covers("R47", "R60")
def test_slow_failures_and_slow_cuts_end_all_the_same(
    sqlite_world: World, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, fake = sqlite_world, FakeConnector()
    keys = [with_target(world, fake) for _ in range(16)]
    names = {f"jit-{key}" for key in keys}
    fake.poisoned = {f"jit-{keys[0]}"}
    cut = fake.cut

    def slowly(effects: Sequence[Effect]) -> Any:
        clock.advance(timedelta(seconds=9 if len(effects) < 15 else 31))
        return cut(effects)

    monkeypatch.setattr(fake, "cut", slowly)
    world.advance(timedelta(seconds=601))
    for _ in range(20):
        world.sweep()
    assert names & fake.accounts.keys() == fake.poisoned
    assert [lease(world, key).state for key in keys[1:]] == ["REVOKED"] * 15
    assert lease(world, keys[0]).attempts >= 1
    world.advance(timedelta(hours=2))
    late = [with_target(world, fake) for _ in range(15)]
    world.advance(timedelta(seconds=601))
    world.sweep()
    assert [lease(world, key).state for key in late] == ["REVOKED"] * 15


def test_a_start_waits_for_no_target_that_hangs(sqlite_world: World) -> None:
    world, hanging = sqlite_world, FakeConnector()
    key = with_target(world, hanging)
    hanging.faults["cut"] = "hang"
    world.advance(timedelta(seconds=600))
    ticker = Ticker(world.broker)
    started = threading.Thread(target=ticker.permit)
    started.start()
    started.join(15)
    assert not started.is_alive(), "half of what a sweep that was asked for waits for targets"
    assert world.broker.may_grant.is_set()
    assert lease(world, key).state == LeaseState.REVOKING
    hanging.released.set()
    ticker.stop()
    assert lease(world, key).state == LeaseState.REVOKED


@pytest.mark.covers("R51")
def test_a_row_changed_by_sql_never_says_where_to_call_or_what_to_delete(sqlite_world: World) -> None:
    world, fake = sqlite_world, FakeConnector()
    key = with_target(world, fake)
    fake.apply(Effect("fake", "postgres", {"entitlement": "all"}), world.broker.db.now())
    world.sql("UPDATE lease SET effect = replace(effect, :own, 'postgres')", own=f"jit-{key}")
    world.advance(timedelta(seconds=600))
    for _ in range(STUCK_AFTER):
        world.sweep()
        world.advance(timedelta(minutes=20))
    assert {name for verb, name in fake.calls if verb in ("cut", "clean")} == set()
    assert lease(world, key).state == LeaseState.STUCK
    assert lease(world, key).last_error == "seal_broken"


# ---------------------------------------------------------------- issuing


@pytest.mark.covers("R47")
def test_an_uncertain_birth_is_buried_until_it_can_no_longer_happen(world: World) -> None:
    fake = outside(world)
    fake.faults["apply"] = "lost_reply"
    refused = opened(world, granted(world))
    assert isinstance(refused, Refused)
    assert refused.code == "target_uncertain"
    world.sweep()
    row = only_lease(world)
    name = f"jit-{row.id}"
    assert row.state == LeaseState.REVOKING
    assert not fake.accounts[name].enabled, "locked, and its name stays taken"
    assert [verb for verb, _ in fake.calls] == ["apply", "bury", "cut"]
    world.advance(APPLY_LIMIT + LATE_BIRTH)
    world.sweep()
    assert only_lease(world).state == LeaseState.REVOKED
    assert fake.accounts == {}


@pytest.mark.covers("R47")
def test_a_lease_whose_issuer_died_is_ended_and_can_be_opened_anew(world: World) -> None:
    fake, grant = outside(world), granted(world)
    current = world.current("arta")
    covered = issue.covered_approvals(world.broker, grant.id)
    with world.broker.begin(current.actor, lock=[(Grant, grant.id), (Person, current.person.id)]) as tx:
        intent = issue.open_in(tx, world.broker, current, grant.id, covered=covered)
    assert isinstance(intent, Opened)  # and here the issuer dies, before or after the target acted
    fake.apply(Effect.from_json(intent.lease.effect), world.broker.db.now())
    assert end_stale_issuing(world.broker) == 0
    world.advance(timedelta(seconds=90))
    world.sweep()
    assert lease(world, intent.lease.id).state == LeaseState.REVOKED
    assert fake.accounts == {}
    assert isinstance(opened(world, grant), Opened)


@pytest.mark.parametrize("fault", ["not_done", "not_ready", "unreachable"])
def test_a_target_that_proves_that_it_made_nothing_leaves_nothing_to_revoke(world: World, fault: str) -> None:
    fake, grant = outside(world), granted(world)
    fake.faults["apply"] = fault
    refused = opened(world, grant)
    assert isinstance(refused, Refused)
    assert refused.code == ("target_not_ready" if fault == "not_ready" else "target_refused")
    assert only_lease(world).state == LeaseState.FAILED
    fake.faults.clear()
    assert isinstance(opened(world, grant), Opened)


def test_a_busy_target_takes_no_more_threads_than_it_has_places(sqlite_world: World) -> None:
    world = sqlite_world
    fake, grant = outside(world), granted(world)
    places = [world.broker.targets.slot("treasury") for _ in range(4)]
    for place in places:
        place.__enter__()
    refused = opened(world, grant)
    assert isinstance(refused, Refused)
    assert refused.code == "target_busy"
    assert fake.calls == []
    assert only_lease(world).state == LeaseState.FAILED
    for place in places:
        place.__exit__(None, None, None)
    assert isinstance(opened(world, grant), Opened)


@pytest.mark.covers("R56")
@pytest.mark.parametrize("second", ["arta", "blerim"])
def test_a_membership_that_two_leases_hold_goes_with_the_last_of_them(world: World, second: str) -> None:
    fake = FakeConnector()
    one, two = with_target(world, fake), with_target(world, fake)
    world.use_kind(fake_kind(fake, shared=True))
    with world.broker.begin(SYSTEM) as tx:
        for key, who, minutes in ((one, "arta", 10), (two, second, 20)):
            row = tx.require(Lease, key)
            effect: dict[str, Any] = dict(row.effect)  # type: ignore[arg-type] # a JSON object
            tx.update(
                row,
                tx.record(EventType.LEASE_ACTIVE),
                effect=effect | {"name": "m"},
                person_id=world.person(who),
                ends_at=tx.now + timedelta(minutes=minutes),
            )
    with world.broker.begin(SYSTEM) as tx:
        grant = tx.require(Grant, lease(world, two).grant_id)
        tx.update(grant, tx.record(EventType.GRANT_ACTIVATED), ends_at=tx.now + timedelta(minutes=20))
    world.advance(timedelta(minutes=10))
    world.sweep()
    assert lease(world, one).proof == {"held_by": two}
    assert [verb for verb, _ in fake.calls if verb == "cut"] == []
    world.advance(timedelta(minutes=10))
    world.sweep()
    assert lease(world, two).state == LeaseState.REVOKED
    assert ("cut", "m") in fake.calls


# ---------------------------------------------------------------- hand-over


def hand_over(world: World, who: str, grant_id: str, **given: str) -> Opened | Refused:
    current = world.current(who)
    begun = handover.begin(world.broker, current, grant_id)
    return handover.complete(
        world.broker,
        current,
        grant_id,
        challenge_id=begun.challenge_id,
        response=world.answer(who, begun),
        given=given,
    )


@pytest.mark.covers("R55", "R48")
def test_a_credential_is_shown_once_after_a_fresh_assertion_and_kept_nowhere(world: World) -> None:
    outside(world)
    grant = granted(world)
    found = hand_over(world, "arta", grant.id)
    assert isinstance(found, Opened)
    assert found.credential.secret is not None
    assert is_own_account(found.credential.username)
    secret = found.credential.secret.reveal()
    assert secret not in repr(found)
    again = hand_over(world, "arta", grant.id)
    assert isinstance(again, Refused)
    assert again.code == "open_already"
    with world.broker.read() as view:
        rows: list[Any] = [
            *view.unchecked_all(select(Lease)),
            *view.unchecked_all(select(Event)),
            *view.unchecked_all(select(EventText)),
        ]
        assert not [row for row in rows if secret in str(vars(row))]


@pytest.mark.covers("R55")
def test_nobody_opens_the_access_of_another_or_with_the_signature_for_another(world: World) -> None:
    outside(world)
    one, two = granted(world), granted(world)
    with pytest.raises(JitError):
        handover.begin(world.broker, world.current("blerim"), one.id)
    current = world.current("arta")
    begun = handover.begin(world.broker, current, one.id)
    crossed = handover.complete(
        world.broker, current, two.id, challenge_id=begun.challenge_id, response=world.answer("arta", begun)
    )
    assert isinstance(crossed, Refused)
    assert crossed.code == "another_grant"
    with world.broker.read() as view:
        assert view.unchecked_all(select(Lease)) == []


def test_what_a_kind_needs_from_the_person_is_asked_for_and_nothing_else_is_taken(sqlite_world: World) -> None:
    world, fake = sqlite_world, FakeConnector()
    kind = fake_kind(fake, "token", config=TokenConnector, gives=(Given("public_key", "Public key", 20),))
    world.use_kind(kind)
    grant = granted(world)
    for given in ({}, {"public_key": "x" * 21}, {"public_key": "k", "more": "x"}):
        refused = hand_over(world, "arta", grant.id, **given)
        assert isinstance(refused, Refused)
        assert refused.code == "not_given"
    assert isinstance(hand_over(world, "arta", grant.id, public_key="k"), Opened)


# ---------------------------------------------------------------- the policy and live credentials


@pytest.mark.covers("R52")
def test_a_target_with_live_credentials_is_neither_removed_nor_pointed_elsewhere(sqlite_world: World) -> None:
    world = sqlite_world
    outside(world)
    found = opened(world, granted(world))
    assert isinstance(found, Opened)
    with world.broker.read() as view:
        document: dict[str, Any] = copy.deepcopy(dict(world.broker.policies.active(view).document))
    assert needed(world, document) == []
    document["targets"]["treasury"]["connector"]["audience"] = "https://elsewhere.example"
    assert needed(world, document) == ["treasury"]
    world.advance(timedelta(seconds=700))
    world.sweep()
    assert needed(world, document) == []


class PlacedConfig(KindConfig):
    """A target of which the place is its audience and its hosts."""

    kind: str
    audience: str
    initiate_login: str | None = None
    root_ca: str = "old.pem"
    hosts: list[str] = Field(default_factory=lambda: ["one"])
    entitlements: dict[str, str] = Field(default_factory=dict)


@pytest.mark.covers("R51", "R52")
def test_what_is_no_place_may_change_while_credentials_live_and_they_end_with_what_is_in_force(
    sqlite_world: World,
) -> None:
    world, fake, used = sqlite_world, FakeConnector(), list[str]()
    template = fake_kind(fake, "token", config=PlacedConfig)
    kind = replace(
        template, place=("audience",), grows=("hosts",), open=lambda found, _: used.append(found.root_ca) or fake
    )
    world.use_kind(kind)
    document = _active(world)
    entitlements = list(document["targets"]["treasury"]["entitlements"])
    _activate(world, document, entitlements=dict.fromkeys(entitlements, "as ever"))
    found = opened(world, granted(world))
    assert isinstance(found, Opened)
    with world.broker.read() as view:
        mine = view.require(Grant, found.lease.grant_id).entitlement
    others = {name: "as ever" if name == mine else "other" for name in entitlements} | {"new": "more"}
    document = _active(world)
    connector = document["targets"]["treasury"]["connector"]
    for harmless in ({"root_ca": "new.pem"}, {"hosts": ["two", "one"]}, {"entitlements": others}):
        assert _with(world, document, connector | harmless) == [], harmless
    gone = {name: text for name, text in others.items() if name != mine}
    for moved in ({"audience": "https://else.example"}, {"hosts": ["two"]}, {"entitlements": gone}):
        assert _with(world, document, connector | moved) == ["treasury"], moved
    _activate(world, document, root_ca="new.pem")
    used.clear()
    world.advance(timedelta(seconds=700))
    world.sweep()
    assert lease(world, found.lease.id).state == LeaseState.REVOKED
    assert used == ["new.pem"], "the old file may be gone"


def _active(world: World) -> dict[str, Any]:
    with world.broker.read() as view:
        return copy.deepcopy(dict(world.broker.policies.active(view).document))


def _activate(world: World, document: dict[str, Any], **connector: Any) -> None:
    changed = copy.deepcopy(document)
    changed["targets"]["treasury"]["connector"].update(connector)
    with world.broker.begin(SYSTEM) as tx:
        policies.activate(tx, policies.propose(tx, PolicySet.from_document(changed), by="test"))


def _with(world: World, document: dict[str, Any], connector: dict[str, Any]) -> list[str]:
    changed = copy.deepcopy(document)
    changed["targets"]["treasury"]["connector"] = connector
    return needed(world, changed)


def needed(world: World, document: dict[str, Any]) -> list[str]:
    with world.broker.read() as view:
        return still_needed(view, world.broker, PolicySet.from_document(document))
