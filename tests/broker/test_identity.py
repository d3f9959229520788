"""Passkeys, sessions and links at the door of a real broker: every dishonest answer is refused, for its own recorded reason."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from jitaccess.broker import strictness
from jitaccess.broker.hold import HoldKind, place
from jitaccess.demo.soft_passkey import SoftPasskey
from jitaccess.domain.events import EventType
from jitaccess.domain.values import LOCAL, SYSTEM, Refused
from jitaccess.errors import JitError, Kind
from jitaccess.identity import enrolment, passkeys, people, recovery, sessions
from jitaccess.identity.genesis import genesis
from jitaccess.identity.passkeys import VerifiedAssertion, check_registration
from jitaccess.proof.canonical import b64u_decode, b64u_encode
from jitaccess.store.db import Tx
from jitaccess.store.tables import Account, Challenge, Enrolment, Event, Outbox, Passkey, WebSession
from tests.support.world import World


def reasons(world: World, kind: str) -> list[str]:
    """Give the recorded reasons of refusals, oldest first."""
    with world.broker.read() as view:
        rows = view.all(select(Event).where(Event.type == kind).order_by(Event.id))
    return [json.loads(row.leaf)["body"]["reason"] for row in rows]


def sign_in(world: World, answer: Callable[[dict[str, Any]], dict[str, Any]], *, browser: str | None = None) -> object:
    site = world.broker.site
    with world.broker.begin(SYSTEM) as tx:
        begun = passkeys.begin_sign_in(tx, site, browser="this browser")
    with world.broker.begin(SYSTEM) as tx:
        return passkeys.complete_sign_in(
            tx,
            site,
            challenge_id=begun.challenge_id,
            response=answer(begun.options),
            browser="this browser" if browser is None else browser,
        )


def with_(key: SoftPasskey, **faults: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def answer(options: dict[str, Any]) -> dict[str, Any]:
        before = {name: getattr(key, name) for name in faults}
        for name, value in faults.items():
            setattr(key, name, value)
        found = key.get(options)
        for name, value in before.items():
            setattr(key, name, value)
        return found

    return answer


@pytest.mark.covers("R3")
@pytest.mark.parametrize("purpose", [passkeys.SIGN_IN, passkeys.STEP_UP])
def test_an_answer_is_spent_also_where_all_else_is_undone(world: World, purpose: str) -> None:
    site, arta = world.broker.site, world.current("arta")
    with world.broker.begin(SYSTEM) as tx:
        if purpose == passkeys.SIGN_IN:
            begun = passkeys.begin_sign_in(tx, site)
        else:
            begun = passkeys.begin_assertion(tx, site, arta, purpose=purpose)
    answer = world.answer("arta", begun)

    def complete(tx: Tx) -> object:
        if purpose == passkeys.SIGN_IN:
            return passkeys.complete_sign_in(tx, site, challenge_id=begun.challenge_id, response=answer)
        return passkeys.complete_assertion(
            tx, site, arta, purpose=purpose, challenge_id=begun.challenge_id, response=answer
        )

    with pytest.raises(JitError, match="on the way"), world.broker.begin(SYSTEM) as tx:  # noqa: PT012 - both belong together
        assert isinstance(complete(tx), VerifiedAssertion)
        raise JitError(Kind.CONFLICT, "Something else was on the way.")
    with world.broker.begin(SYSTEM) as tx:
        assert isinstance(complete(tx), Refused)
    assert reasons(world, "sign_in.refused" if purpose == passkeys.SIGN_IN else "step_up.refused") == [
        "challenge_spent"
    ]


@pytest.mark.covers("R1", "R2", "R6", "R11", "TRAP-6")
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"user_verified": False}, "user_not_verified"),
        ({"user_present": False}, "user_not_present"),
        ({"cross_origin": True}, "cross_origin"),
        ({"top_origin": "https://evil.example"}, "cross_origin"),
        ({"origin": "http://localhost:8001"}, "wrong_origin"),
        ({"rp_id": "evil.example"}, "wrong_rp_id"),
        ({"backup_eligible": True}, "backup_eligibility_changed"),
        ({"backed_up": True}, "backup_flags"),
        ({"user_handle": None}, "user_handle"),
        ({"user_handle": "AAAA"}, "user_handle"),
    ],
    ids=str,
)
def test_a_dishonest_sign_in_is_refused_for_its_own_reason_and_says_nothing_outside(
    sqlite_world: World, fault: dict[str, Any], reason: str
) -> None:
    found = sign_in(sqlite_world, with_(sqlite_world.passkey("arta"), **fault))
    assert isinstance(found, Refused)
    assert found.code == "sign_in_failed"
    assert reasons(sqlite_world, "sign_in.refused") == [reason]


@pytest.mark.covers("R3", "TRAP-6")
def test_a_bad_answer_spends_the_challenge_as_a_good_one_does(world: World) -> None:
    site = world.broker.site
    with world.broker.begin(SYSTEM) as tx:
        begun = passkeys.begin_sign_in(tx, site)
    assert len(b64u_decode(begun.options["challenge"])) >= 16
    bad = with_(world.passkey("arta"), user_verified=False)(begun.options)
    good = world.passkey("arta").get(begun.options)
    for response in (bad, good):
        with world.broker.begin(SYSTEM) as tx:
            found = passkeys.complete_sign_in(tx, site, challenge_id=begun.challenge_id, response=response)
        assert isinstance(found, Refused)
    assert reasons(world, "sign_in.refused") == ["user_not_verified", "challenge_spent"]


@pytest.mark.covers("R3")
def test_a_challenge_belongs_to_the_browser_that_began_and_to_its_purpose(sqlite_world: World) -> None:
    world = sqlite_world
    assert isinstance(sign_in(world, world.passkey("arta").get, browser="another"), Refused)
    current = world.current("arta")
    with world.broker.begin(current.actor) as tx:
        begun = passkeys.begin_assertion(tx, world.broker.site, current, purpose=passkeys.STEP_UP)
    with world.broker.begin(SYSTEM) as tx:
        found = passkeys.complete_sign_in(
            tx, world.broker.site, challenge_id=begun.challenge_id, response=world.answer("arta", begun)
        )
    assert isinstance(found, Refused)
    assert reasons(world, "sign_in.refused") == ["challenge_of_another_session", "challenge_of_another_purpose"]


@pytest.mark.covers("R4", "TRAP-6")
def test_only_the_sessions_own_passkey_answers_a_step_up(sqlite_world: World) -> None:
    world = sqlite_world
    current = world.current("arta")
    results = []
    for key in ("blerim", "arta-2"):
        with world.broker.begin(current.actor) as tx:
            begun = passkeys.begin_assertion(tx, world.broker.site, current, purpose=passkeys.STEP_UP)
        with world.broker.begin(current.actor) as tx:
            results.append(
                passkeys.complete_assertion(
                    tx,
                    world.broker.site,
                    current,
                    purpose=passkeys.STEP_UP,
                    challenge_id=begun.challenge_id,
                    response=world.passkey(key).get(begun.options),
                )
            )
    assert all(isinstance(found, Refused) for found in results)
    assert reasons(world, "step_up.refused") == ["credential_not_allowed", "credential_not_allowed"]


@pytest.mark.covers("R6", "TRAP-6")
def test_a_counter_that_does_not_rise_blocks_the_passkey_ends_its_sessions_and_alarms(world: World) -> None:
    current = world.current("arta")
    key = world.passkey("arta")
    key.counter = 0
    assert isinstance(sign_in(world, key.get), Refused)
    with world.broker.read() as view:
        row = view.require(Passkey, current.passkey.id)
        assert row.status == "blocked"
        assert view.first(select(Event).where(Event.type == "alarm.raised")) is not None
    assert world.resolved(current.session.id) is None
    key.counter = 99
    assert isinstance(sign_in(world, key.get), Refused)


def registration(world: World, key: SoftPasskey, **faults: Any) -> object:
    """Make the first passkey of one more account of Arta through a link; faults are the authenticator's."""
    with world.broker.begin(LOCAL) as tx:
        account = people.add_account(tx, person_id=world.person("arta"), label="one more")
        link = enrolment.create_link(tx, world.broker.site, account_id=account.id, by="test")
    token = link.rsplit("/", 1)[-1]
    with world.broker.begin(SYSTEM) as tx:
        begun = enrolment.begin(tx, world.broker.site, token)
    assert not isinstance(begun, Refused)
    for name, value in faults.items():
        setattr(key, name, value)
    with world.broker.begin(SYSTEM) as tx:
        return enrolment.complete(
            tx,
            world.broker.site,
            token,
            challenge_id=begun.challenge_id,
            response=key.create(begun.options),
            name="New",
        )


def fresh(world: World) -> SoftPasskey:
    return SoftPasskey(world.broker.site.rp_id, world.broker.site.origin)


@pytest.mark.covers("R1", "R2", "R6")
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"user_verified": False}, "user_not_verified"),
        ({"user_present": False}, "user_not_present"),
        ({"cross_origin": True}, "cross_origin"),
        ({"top_origin": "https://evil.example"}, "cross_origin"),
        ({"origin": "https://localhost:8000"}, "wrong_origin"),
        ({"rp_id": "evil.example"}, "wrong_rp_id"),
        ({"backed_up": True}, "backup_flags"),
    ],
    ids=str,
)
def test_a_dishonest_registration_is_refused(sqlite_world: World, fault: dict[str, Any], reason: str) -> None:
    found = registration(sqlite_world, fresh(sqlite_world), **fault)
    assert isinstance(found, Refused)
    assert reasons(sqlite_world, "enrolment.refused") == [reason]


@pytest.mark.covers("R5")
def test_a_credential_that_any_account_ever_had_is_not_taken_again(sqlite_world: World) -> None:
    known = sqlite_world.passkey("blerim")
    again = SoftPasskey(known.rp_id, known.origin, credential_id=known.credential_id)
    found = registration(sqlite_world, again)
    assert isinstance(found, Refused)
    assert found.code == "credential_known"


@pytest.mark.covers("R5")
def test_an_attestation_format_that_is_not_taken_is_refused_by_the_server(sqlite_world: World) -> None:
    site = sqlite_world.broker.site
    key = fresh(sqlite_world)
    challenge = b"c" * 32
    options = passkeys.registration_options(
        site, challenge=challenge, user_handle=b64u_encode(b"u" * 32), label="x", name="x", exclude=[]
    )
    assert options["authenticatorSelection"]["userVerification"] == "required"
    good = key.create(options)
    assert not isinstance(check_registration(site, challenge=challenge, response=good), str)
    assert isinstance(check_registration(site, challenge=b"d" * 32, response=good), str)
    assert check_registration(site, challenge=challenge, response={"id": "x"}) == "malformed"


@pytest.mark.covers("R8")
def test_a_link_is_random_hashed_single_use_and_short(world: World) -> None:
    made = registration(world, fresh(world))
    assert isinstance(made, Passkey)
    with world.broker.begin(LOCAL) as tx:
        account = people.add_account(tx, person_id=world.person("drita"), label="one more")
        link = enrolment.create_link(tx, world.broker.site, account_id=account.id, by="test")
    token = link.rsplit("/", 1)[-1]
    assert len(b64u_decode(token)) * 8 >= 112
    with world.broker.read() as view:
        rows = view.all(select(Enrolment))
        assert all(token not in (row.token_hash, row.id) for row in rows)
        used = next(row for row in rows if row.used_at is not None)
        assert used.expires_at - used.created_at <= timedelta(minutes=10)
        assert not isinstance(enrolment.find(view, token), Refused)
    world.advance(timedelta(minutes=10))
    with world.broker.begin(SYSTEM) as tx:
        late = enrolment.begin(tx, world.broker.site, token)
    assert isinstance(late, Refused)
    assert late.code == "link_not_usable"
    with world.broker.read() as view:
        unknown = enrolment.find(view, "nothing")
    assert unknown == late


@pytest.mark.covers("R7")
def test_adding_and_removing_a_passkey_is_told_and_the_last_one_stays(world: World) -> None:
    current = world.current("arta")
    with world.broker.begin(current.actor) as tx:
        refused = passkeys.remove(tx, tx.require(Passkey, current.passkey.id))
    assert refused is not None
    assert refused.code == "last_passkey"
    made = registration(world, fresh(world))
    assert isinstance(made, Passkey)
    with world.broker.begin(LOCAL) as tx:
        account = tx.require(Account, made.account_id)
        begun = passkeys.begin_registration(tx, world.broker.site, account=account)
    with world.broker.begin(LOCAL) as tx:
        second = passkeys.complete_registration(
            tx,
            world.broker.site,
            challenge_id=begun.challenge_id,
            response=fresh(world).create(begun.options),
            name="Second",
        )
    assert isinstance(second, Passkey)
    with world.broker.begin(current.actor) as tx:
        assert passkeys.remove(tx, tx.require(Passkey, made.id)) is None
    with world.broker.read() as view:
        kinds = [row.kind for row in view.all(select(Outbox).where(Outbox.person_id == world.person("arta")))]
        assert kinds == ["passkey_added"]
        assert view.require(Passkey, made.id).status == "removed"


@pytest.mark.covers("R13", "R14")
@pytest.mark.parametrize(("strict", "idle", "most"), [(False, 60, 24), (True, 15, 12)])
def test_sessions_end_when_idle_and_at_their_end_whatever_happens(
    sqlite_world: World, strict: bool, idle: int, most: int
) -> None:
    world = sqlite_world
    site, broker = world.broker.site, world.broker

    def opened() -> tuple[WebSession, str]:
        passkey = world.current("arta").passkey
        with broker.begin(SYSTEM) as tx:
            return sessions.open_session(tx, passkey, strictness.of(site.sessions, strict=strict))

    def alive(secret: str) -> bool:
        with broker.read() as view:
            return sessions.resolve(view, secret, lambda *_: strictness.of(site.sessions, strict=False)) is not None

    row, secret = opened()
    assert secret not in (row.secret_hash, row.id)
    world.advance(timedelta(minutes=idle) - timedelta(seconds=1))
    assert alive(secret)
    world.advance(timedelta(seconds=1))
    assert not alive(secret)
    row, secret = opened()
    for _ in range(most * 60 // (idle - 1) + 1):
        world.advance(timedelta(minutes=idle - 1))
        if not alive(secret):
            break
        sessions.touch(broker.db, SYSTEM, row.id)
    assert not alive(secret)
    assert broker.db.now() >= row.expires_at
    assert row.expires_at - row.created_at == timedelta(hours=most)


@pytest.mark.covers("R12")
@pytest.mark.parametrize("how", ["person", "account", "hold"])
def test_the_one_gate_ends_what_a_switched_off_person_had(world: World, how: str) -> None:
    current = world.current("arta")
    with world.broker.begin(LOCAL) as tx:
        match how:
            case "person":
                people.disable_person(tx, world.person("arta"))
            case "account":
                event = tx.record(EventType.PERSON_CHANGED, subject={"account": current.account.id})
                tx.update(tx.require(Account, current.account.id), event, status="disabled")
            case _:
                place(tx, world.broker, kind=HoldKind.PERSON, subject_id=world.person("arta"), cause="x", by="test")
    with world.broker.read() as view:
        assert people.may_act(view, person_id=world.person("arta"), account_id=current.account.id) is not None
    assert world.resolved(current.session.id) is None
    assert isinstance(sign_in(world, world.passkey("arta").get), Refused)


def test_genesis_happens_once(sqlite_world: World) -> None:
    world = sqlite_world
    with pytest.raises(JitError) as raised:
        genesis(world.broker.settings, world.clock, b"x" * 32, [], pilot=False)
    assert "3 founder" in raised.value.message


def test_recovery_takes_enough_paper_keys_waits_and_ends_what_was(sqlite_world: World) -> None:
    world = sqlite_world
    account, paper = world.seeded.accounts["agim"], world.seeded.paper_keys
    old = world.current("agim")
    with pytest.raises(JitError), world.broker.begin(LOCAL) as tx:
        recovery.start(tx, account_id=account, paper_keys=paper[:2])
    with pytest.raises(JitError), world.broker.begin(LOCAL) as tx:
        recovery.start(tx, account_id=account, paper_keys=[*paper[:2], "WRONG"])
    with world.broker.begin(LOCAL) as tx:
        row = recovery.start(tx, account_id=account, paper_keys=[key.lower().replace("-", " ") for key in paper[:3]])
    with pytest.raises(JitError), world.broker.begin(LOCAL) as tx:
        recovery.link(tx, world.broker.site, row.id)
    world.advance(timedelta(hours=72))
    with world.broker.begin(LOCAL) as tx:
        token = recovery.link(tx, world.broker.site, row.id).rsplit("/", 1)[-1]
    with world.broker.begin(SYSTEM) as tx:
        begun = enrolment.begin(tx, world.broker.site, token)
    assert not isinstance(begun, Refused)
    with world.broker.begin(SYSTEM) as tx:
        made = enrolment.complete(
            tx,
            world.broker.site,
            token,
            challenge_id=begun.challenge_id,
            response=fresh(world).create(begun.options),
            name="Recovered",
        )
    assert isinstance(made, Passkey)
    with world.broker.read() as view:
        assert [row.id for row in passkeys.list_for(view, account)] == [made.id]
    assert world.resolved(old.session.id) is None


def test_a_veto_ends_a_recovery(sqlite_world: World) -> None:
    world = sqlite_world
    with world.broker.begin(LOCAL) as tx:
        row = recovery.start(tx, account_id=world.seeded.accounts["besa"], paper_keys=world.seeded.paper_keys[:3])
        recovery.stop(tx, row.id, by=world.person("agim"))
    world.advance(timedelta(hours=73))
    with pytest.raises(JitError), world.broker.begin(LOCAL) as tx:
        recovery.link(tx, world.broker.site, row.id)


def test_a_good_answer_is_verified_evidence(sqlite_world: World) -> None:
    found = sign_in(sqlite_world, sqlite_world.passkey("arta").get)
    assert isinstance(found, VerifiedAssertion)
    with sqlite_world.broker.read() as view:
        assert view.all(select(Challenge).where(Challenge.spent_at.is_(None))) == []
