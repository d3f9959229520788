"""What is done about a wall clock that was wrong? (R62, ADR 42)

The broker's time never goes back by itself. While it is ahead of the wall clock by more than the limit, nothing new is given out, and
what was given while it was wrong is ended: its times are not those of the world, and after a restart nobody could say how long it
lasts. An operator who knows that the wall clock is right now sets the broker's time back to it, with a reason; everything live ends first.
"""

from datetime import datetime, timedelta

from sqlalchemy import or_, select

from jitaccess.broker.context import Broker, advance
from jitaccess.broker.hold import HoldKind, place
from jitaccess.broker.revoke import LIVE_GRANTS, end_grants
from jitaccess.domain.events import EventType
from jitaccess.domain.lifecycle import EndCause, GrantState, LeaseState, RequestState
from jitaccess.domain.values import SYSTEM
from jitaccess.errors import JitError, Kind
from jitaccess.identity.sessions import end
from jitaccess.store.db import Tx
from jitaccess.store.tables import (
    AccessRequest,
    Challenge,
    Enrolment,
    Grant,
    Heartbeat,
    Lease,
    LogoutNotice,
    Outbox,
    PendingAuthorization,
    WebSession,
)


def ahead(broker: Broker) -> bool:
    """Say whether the broker's time is ahead of the wall clock by more than the limit."""
    return broker.db.ahead() > timedelta(seconds=broker.settings.sweep.jump_s)


def alarm(broker: Broker, seconds: int) -> None:
    """Tell the log that the clock jumped, hold the whole instance, and end what was given at a time that is not yet."""
    wall = broker.clock.now()
    with broker.begin(SYSTEM) as tx:
        tx.record(EventType.CLOCK_JUMPED, body={"seconds": seconds})
        instance = broker.site.instance_id
        place(tx, broker, kind=HoldKind.INSTANCE, subject_id=instance, cause="clock jumped", by="sweep")
        if ahead(broker):
            _end_grants(tx, since=wall)
            _end_sessions(tx, since=wall)


def look_at_start(broker: Broker) -> None:
    """Alarm when the wall clock is behind what was recorded."""
    if ahead(broker):
        alarm(broker, -int(broker.db.ahead().total_seconds()))


def end_what_was_given_in_the_future(broker: Broker) -> int:
    """End grants that another process, whose clock was wrong, gave at a time that is not yet; return how many."""
    with broker.begin(SYSTEM) as tx:
        return _end_grants(tx, since=tx.now + timedelta(seconds=broker.settings.sweep.jump_s))


def _end_grants(tx: Tx, *, since: datetime | None) -> int:
    """End live grants: all, or those that were given or begun after a moment."""
    live = select(Grant).where(Grant.state.in_(LIVE_GRANTS))
    if since is not None:
        begun = Grant.state == GrantState.ACTIVE.value
        live = live.where(or_(Grant.created_at > since, begun & (Grant.starts_at > since)))
    return end_grants(tx, tx.unchecked_all(live), EndCause.RISK, by="clock")


def _end_sessions(tx: Tx, *, since: datetime | None) -> int:
    live = select(WebSession).where(WebSession.ended_at.is_(None))
    if since is not None:
        live = live.where(WebSession.auth_at > since)
    found = tx.unchecked_all(live)
    for session in found:
        end(tx, session, "clock")
    return len(found)


def set_back(broker: Broker, reason: str, *, by: str) -> int:
    """End everything that is live or waits, and let time go on from the wall clock at the next start; return the seconds set back.

    Raises CONFLICT when the broker's time is not ahead. The caller makes sure that no broker runs.
    """
    seconds = int(broker.db.ahead().total_seconds())
    if seconds < 1:
        raise JitError(Kind.CONFLICT, "The broker's time is not ahead of the clock: there is nothing to set back.")
    _number(broker)
    with broker.begin(SYSTEM) as tx:
        grants, sessions = _end_grants(tx, since=None), _end_sessions(tx, since=None)
        waiting = tx.unchecked_all(select(AccessRequest).where(AccessRequest.state == RequestState.PENDING.value))
        for request in waiting:
            advance(tx, request, RequestState.EXPIRED, decided_at=tx.now)
        event = tx.record(
            EventType.CLOCK_SET_BACK,
            body={"seconds": seconds, "by": by, "grants": grants, "sessions": sessions, "requests": len(waiting)},
            texts={"reason": reason},
        )
        for link in tx.usable(select(Enrolment).where(Enrolment.used_at.is_(None))):
            tx.update(link, event, used_at=tx.now)  # a link that ran out must not run again
        _forget_due_times(tx, broker.clock.now())
    _number(broker)  # a start reads times from what comes after this entry
    return seconds


def _number(broker: Broker) -> None:
    while broker.db.number_events():
        pass


def _forget_due_times(tx: Tx, wall: datetime) -> None:
    """Make book-keeping due by the wall clock: what was put off to a time that is not yet would wait for it."""
    for model in (Challenge, PendingAuthorization):
        tx.delete(model, model.created_at.is_not(None))
    tx.delete(Heartbeat, Heartbeat.id == "sweep")
    states = (LeaseState.REVOKING.value, LeaseState.STUCK.value)
    for lease in tx.unchecked_all(select(Lease).where(Lease.state.in_(states))):
        tx.update(lease, next_at=wall, claimed_until=None, claimed_by=None)
    for notice in tx.unchecked_all(select(LogoutNotice).where(LogoutNotice.done_at.is_(None))):
        tx.update(notice, next_at=wall)
    for letter in tx.unchecked_all(select(Outbox).where(Outbox.sent_at.is_(None))):
        tx.update(letter, next_at=wall)
