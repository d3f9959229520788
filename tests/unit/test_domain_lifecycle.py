"""Are the state machines whole: an event for every move, an end to every path, no way between two machines?"""

import pytest

from jitaccess.domain.events import VERSION_OF, EventType
from jitaccess.domain.lifecycle import (
    EVENT_OF,
    TRANSITIONS,
    EndCause,
    GrantState,
    LeaseState,
    RequestState,
    State,
    event_of,
    may_become,
)
from jitaccess.domain.values import LOCAL, SYSTEM, Actor, ActorKind, Refused
from jitaccess.errors import Kind

STATES: list[State] = [*RequestState, *GrantState, *LeaseState]


def test_every_state_has_its_moves_and_every_entered_state_its_event() -> None:
    for machine, moves in TRANSITIONS.items():
        assert set(moves) == set(machine)
        entered = {to for ends in moves.values() for to in ends}
        assert set(EVENT_OF[machine]) == entered
        for to in entered:
            assert event_of(to) is EVENT_OF[machine][to]
    assert len({event for events in EVENT_OF.values() for event in events.values()}) == sum(map(len, EVENT_OF.values()))


@pytest.mark.covers("T-08")
def test_a_request_is_decided_once() -> None:
    for state in RequestState:
        ends = {to for to in RequestState if may_become(state, to)}
        assert ends == (set(RequestState) - {RequestState.PENDING} if state is RequestState.PENDING else set())


def test_an_ended_grant_stays_ended() -> None:
    assert not any(may_become(GrantState.ENDED, to) for to in GrantState)
    assert may_become(GrantState.SCHEDULED, GrantState.ENDED)


def test_a_lease_is_gone_only_after_it_was_revoked() -> None:
    before = {state for state in LeaseState if may_become(state, LeaseState.REVOKED)}
    assert before == {LeaseState.REVOKING}
    assert may_become(LeaseState.STUCK, LeaseState.REVOKING)
    assert {state for state in LeaseState if may_become(state, LeaseState.CLOSED)} == {LeaseState.STUCK}


def test_no_state_becomes_one_of_another_machine_or_itself() -> None:
    for state in STATES:
        for to in STATES:
            if type(state) is not type(to) or state is to:
                assert not may_become(state, to)


def test_every_event_has_a_version() -> None:
    assert set(VERSION_OF) == set(EventType)
    assert set(VERSION_OF.values()) == {1}
    assert len({event.value for event in EventType}) == len(EventType)
    assert len({cause.value for cause in EndCause}) == len(EndCause)


def test_an_actor_is_named_by_id_or_kind() -> None:
    assert Actor(ActorKind.PERSON, person_id="p1", client_id="c").label == "p1"
    assert Actor(ActorKind.CLIENT, client_id="c1").label == "c1"
    assert (SYSTEM.label, LOCAL.label) == ("system", "local")


def test_a_refusal_is_a_value() -> None:
    assert Refused(Kind.FORBIDDEN, "wrong_approver", "Ask somebody else.").field is None
