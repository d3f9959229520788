"""How do people learn of it? Notices are outbox rows of the transaction that caused them; they are rendered when sent.

1. `tell` writes a row. 2. `divide` gives it to the person's channels, one row each, with the moment at which it may leave. 3. `send`
claims what is due on one channel, posts it outside any transaction and notes the outcome. Each channel has a job, a back-off and errors of
its own: a dead one delays itself and nothing else (T-22). A crash between posting and noting sends a notice twice and never loses one.
"""

import smtplib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, or_, select

from jitaccess.broker.channels import MAIL, TO, Channel, Parcel, Post, channels, of_one_address
from jitaccess.broker.context import Broker
from jitaccess.broker.letters import Desk, Letter, Voice, gathered, visible, write
from jitaccess.domain.notices import INFORMING, URGENT, Notice, release_at
from jitaccess.domain.values import SYSTEM
from jitaccess.identity import preferences
from jitaccess.identity.enrolment import tell
from jitaccess.identity.preferences import Preferences
from jitaccess.language import Language, named, negotiate, zone_named
from jitaccess.outbound.guard import NotDelivered
from jitaccess.proof.canonical import JsonValue
from jitaccess.store.db import Tx, View
from jitaccess.store.tables import AccessRequest, Grant, Outbox, Person

BATCH = 50
BACK_OFF_S = (5, 30, 120, 600, 3600)
GIVE_UP_AFTER = 12
"""Attempts; a notice that still cannot be sent stays in the outbox with its error."""
CLAIM = timedelta(minutes=5)
"""How long a sender has before another one takes its rows over."""
STOP_AFTER = 3
"""Failures of the channel in a row after which it is left alone for a while."""
LEFT_S = BACK_OFF_S[1]
"""How long what a round did not come to waits; it spends no attempt, and goes before what failed."""
MOOT = "moot"
"""Noted where a notice became pointless before it left."""


# ---------------------------------------------------------------- from a notice to its channels


def divide(broker: Broker, ways: Mapping[str, Channel]) -> int:
    """Give new notices to the channels of their readers; return how many notices."""
    with broker.begin(SYSTEM) as tx:
        rows = tx.all(
            select(Outbox)
            .where(Outbox.channel.is_(None), Outbox.sent_at.is_(None))
            .order_by(Outbox.id)
            .limit(BATCH)
            .with_for_update(skip_locked=True)
        )
        for row in rows:
            _divide_one(tx, broker, row, ways)
    return len(rows)


def _divide_one(tx: Tx, broker: Broker, row: Outbox, ways: Mapping[str, Channel]) -> None:
    wanted = preferences.of(tx, row.person_id)
    release = _release(tx, broker, row, wanted, max(tx.now, row.next_at))
    tx.update(row, expect={"channel": None}, channel=MAIL, next_at=release)
    for way in ways.values():
        if way.name == MAIL or not way.takes(row.kind):
            continue
        if way.shared:
            # Once for each thing and hour, however many people are told of it.
            if not _known_to(tx, way.name, row):
                _add(tx, row, way.name, tx.now)
        elif wanted.addresses.get(way.name):
            _add(tx, row, way.name, release)


def _known_to(tx: Tx, channel: str, row: Outbox) -> bool:
    statement = select(func.count()).where(
        Outbox.channel == channel,
        Outbox.kind == row.kind,
        Outbox.subject_id == row.subject_id,
        Outbox.created_at > row.created_at - timedelta(hours=1),
    )
    return bool(tx.scalar(statement))


def _add(tx: Tx, row: Outbox, channel: str, next_at: datetime) -> None:
    tx.insert(
        Outbox,
        id=tx.new_id(),
        kind=row.kind,
        person_id=row.person_id,
        subject_id=row.subject_id,
        created_at=row.created_at,
        attempts=0,
        next_at=next_at,
        channel=channel,
    )


def _release(view: View, broker: Broker, row: Outbox, wanted: Preferences, first: datetime) -> datetime:
    """Return when a row leaves: not before `first`, and what is not urgent after its reader's quiet hours and digest."""
    if row.kind in URGENT:
        return first
    return release_at(
        first,
        zone_named(wanted.zone or broker.settings.language.zone),
        digest=wanted.digest,
        digest_minute=wanted.digest_minute,
        quiet=_quiet(wanted),
        of_use_until=_of_use_until(view, row),
    )


def _quiet(wanted: Preferences) -> tuple[int, int] | None:
    if wanted.quiet_from is None or wanted.quiet_to is None:
        return None
    return wanted.quiet_from, wanted.quiet_to


def _of_use_until(view: View, row: Outbox) -> datetime | None:
    """Return from when on a notice is of no use any more, or None where that does not depend on time."""
    if row.kind in (Notice.APPROVAL_WANTED, Notice.APPROVAL_LOST):
        request = view.unchecked_get(AccessRequest, row.subject_id)
        return request.approve_by if request is not None else None
    if row.kind in (Notice.GRANT_READY, Notice.GRANT_SCHEDULED):
        grant = view.unchecked_get(Grant, row.subject_id)
        return (grant.activate_by or grant.not_before or grant.ends_at) if grant is not None else None
    return None


# ---------------------------------------------------------------- from a channel to the world


def send_due(broker: Broker) -> int:
    """Divide what is new and send what is due on every channel, one after the other; return how many were sent."""
    ways = channels(broker.settings)
    divide(broker, ways)
    return sum(send(broker, way) for way in ways.values())


def send(broker: Broker, way: Channel) -> int:
    """Send what is due on one channel; return how many notices it took."""
    until = (
        broker.clock.monotonic() + CLAIM.total_seconds() / 2
    )  # another sender takes over what a slow one did not settle
    claimed = _claim(broker, way.name)
    if not claimed:
        return 0
    with broker.read() as view:
        parcels = _parcels(view, broker, way, claimed)
    done = 0
    in_a_row = 0
    with way.opened() as post:
        for keys, parcel in parcels:
            if in_a_row >= STOP_AFTER or broker.clock.monotonic() >= until:
                _leave(broker, keys)
                continue
            failure = _attempt(post, parcel)
            in_a_row = in_a_row + failure.of_channel if failure is not None else 0
            done += _note(broker, keys, failure, moot=parcel is None)
    return done


def _claim(broker: Broker, name: str) -> list[str]:
    with broker.begin(SYSTEM) as tx:
        rows = tx.all(
            select(Outbox)
            .where(
                Outbox.channel == name,
                Outbox.sent_at.is_(None),
                Outbox.next_at <= tx.now,
                Outbox.attempts < GIVE_UP_AFTER,
            )
            .order_by(Outbox.attempts, Outbox.next_at, Outbox.id)  # what was never tried waits for nothing that failed
            .limit(BATCH)
            .with_for_update(skip_locked=True)
        )
        for row in rows:
            tx.update(row, next_at=tx.now + CLAIM)
    return [row.id for row in rows]


def _parcels(view: View, broker: Broker, way: Channel, keys: Iterable[str]) -> list[tuple[list[str], Parcel | None]]:
    """Return what to post, with the rows that each parcel settles: one row, or many in a digest."""
    single: list[tuple[list[str], Parcel | None]] = []
    gathering: dict[str, list[tuple[str, Parcel]]] = {}
    for key in keys:
        row = view.unchecked_get(Outbox, key)
        if row is None or row.sent_at is not None:
            continue
        wanted = preferences.of(view, row.person_id)
        parcel = _parcel(view, broker, way, row, wanted)
        if parcel is not None and not way.shared and _gathers(broker, wanted, row):
            gathering.setdefault(row.person_id, []).append((key, parcel))
        else:
            single.append(([key], parcel))
    for found in gathering.values():
        first = found[0][1]
        letter = first.letter
        if len(found) > 1:
            letter = gathered([parcel.letter for _, parcel in found], first.voice, f"{broker.site.origin}/")
        one = Parcel(first.id, letter, first.voice, first.to, first.machine, first.at)
        single.append(([key for key, _ in found], one))
    return single


def _gathers(broker: Broker, wanted: Preferences, row: Outbox) -> bool:
    """Say whether a row goes into one letter with others: its reader wants a digest, it was written in quiet hours, or it
    only informs."""
    if row.kind in URGENT:
        return False
    if row.kind in INFORMING:
        return True
    zone = zone_named(wanted.zone or broker.settings.language.zone)
    return bool(wanted.digest) or release_at(row.created_at, zone, quiet=_quiet(wanted)) > row.created_at


def _parcel(view: View, broker: Broker, way: Channel, row: Outbox, wanted: Preferences) -> Parcel | None:
    person = view.unchecked_get(Person, row.person_id)
    if person is None:
        return None
    to = "" if way.shared else person.email if way.name == MAIL else wanted.addresses.get(way.name, "")
    voice = voice_of(broker, person, wanted) if not way.shared else Voice(way.language, broker.settings.language.zone)
    letter = write(Desk(view, broker, voice, row, None if way.shared else person))
    if letter is None or not (way.shared or to):
        return None
    return Parcel(row.id, letter, voice, to, _machine(view, broker, row, letter), view.now)


def voice_of(broker: Broker, person: Person, wanted: Preferences) -> Voice:
    """Return the language and zone in which a person is written to."""
    fallback = named(broker.settings.language.default) or Language.EN
    language = negotiate(chosen=wanted.language, registered=person.language, default=fallback)
    return Voice(language, wanted.zone or broker.settings.language.zone)


def render(view: View, broker: Broker, row: Outbox) -> str | None:
    """Return the text that a row's own reader gets by mail, or None when there is nothing to say any more."""
    person = view.unchecked_get(Person, row.person_id)
    if person is None:
        return None
    voice = voice_of(broker, person, preferences.of(view, person.id))
    letter = write(Desk(view, broker, voice, row, person))
    return None if letter is None else letter.as_text(voice)


def _machine(view: View, broker: Broker, row: Outbox, letter: Letter) -> dict[str, object]:
    """Return what a webhook is told: codes, ids and times, no words of any language and no reason."""
    told: dict[str, JsonValue] = {"instance": broker.site.instance_id, "subject": row.subject_id, "url": letter.link}
    request = view.unchecked_get(AccessRequest, row.subject_id)
    grant = view.unchecked_get(Grant, row.subject_id)
    found = request or grant
    if found is not None:
        told |= {
            "person": found.person_id,
            "target": found.target,
            "entitlement": found.entitlement,
            "duration_s": found.duration_s,
            "state": found.state,
        }
    if request is not None:
        told |= {"request": request.id, "approve_by": request.approve_by.isoformat()}
    if grant is not None:
        told |= {
            "grant": grant.id,
            "request": grant.request_id,
            "ends_at": grant.ends_at.isoformat() if grant.ends_at is not None else None,
            "cause": grant.cause,
        }
    if found is None:
        told["person"] = row.person_id
    return {"type": row.kind, "timestamp": row.created_at.isoformat(), "data": told}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a parcel was not delivered: the kind of the error, for its text may hold an address."""

    error: str
    of_channel: bool
    """Whether others on this channel would probably fail too."""


def _attempt(post: Post, parcel: Parcel | None) -> Failure | None:
    """Post one parcel; return its failure, or None."""
    if parcel is None:
        return None
    try:
        post(parcel)
    except NotDelivered as error:
        return Failure(str(error), True)
    except (OSError, smtplib.SMTPException, ValueError) as error:
        return Failure(type(error).__name__, not of_one_address(error))
    return None


def _leave(broker: Broker, keys: Iterable[str]) -> None:
    """Give back what this round did not come to."""
    with broker.begin(SYSTEM) as tx:
        for key in keys:
            row = tx.get(Outbox, key)
            if row is not None and row.sent_at is None:
                tx.update(row, next_at=tx.now + timedelta(seconds=LEFT_S))


def _note(broker: Broker, keys: Iterable[str], failure: Failure | None, *, moot: bool) -> int:
    done = 0
    with broker.begin(SYSTEM) as tx:
        for key in keys:
            row = tx.get(Outbox, key)
            if row is None or row.sent_at is not None:
                continue
            if failure is None:
                tx.update(row, sent_at=tx.now, attempts=row.attempts + (not moot), last_error=MOOT if moot else None)
                done += not moot
            else:
                next_at = tx.now + timedelta(seconds=BACK_OFF_S[min(row.attempts, len(BACK_OFF_S) - 1)])
                tx.update(row, attempts=row.attempts + 1, next_at=next_at, last_error=failure.error)
    return done


# ---------------------------------------------------------------- who was reached


@dataclass(frozen=True, slots=True)
class Reached:
    """How many of those who should be told of a thing were reached, by any channel of their own."""

    told: int
    wanted: int


def reached(view: View, broker: Broker, kind: str, subject_id: str) -> Reached:
    """Return how many people a notice reached."""
    own = or_(Outbox.channel.is_(None), Outbox.channel == MAIL, Outbox.channel.in_(_personal(broker)))
    rows = view.rows(
        select(Outbox.person_id, func.count().filter(Outbox.sent_at.is_not(None), Outbox.last_error.is_(None)))
        .where(Outbox.kind == kind, Outbox.subject_id == subject_id, own)
        .group_by(Outbox.person_id)
    ).all()
    return Reached(sum(1 for _, sent in rows if sent), len(rows))


def _personal(broker: Broker) -> list[str]:
    return [name for name, given in broker.settings.notify.channels.items() if TO in given.url.get_secret_value()]


@dataclass(frozen=True, slots=True)
class ChannelState:
    """How one channel does."""

    name: str
    shared: bool
    sent_today: int
    waiting: int
    failing: int
    given_up: int
    last_error: str
    oldest_at: datetime | None


def states(view: View, broker: Broker) -> list[ChannelState]:
    """Return how every channel does, for administrators."""
    return [_state(view, way) for way in channels(broker.settings).values()]


def _state(view: View, way: Channel) -> ChannelState:
    unsent = Outbox.sent_at.is_(None)
    counts = view.rows(
        select(
            func.count().filter(Outbox.sent_at > view.now - timedelta(days=1), Outbox.last_error.is_(None)),
            func.count().filter(unsent, Outbox.attempts == 0),
            func.count().filter(unsent, Outbox.attempts > 0, Outbox.attempts < GIVE_UP_AFTER),
            func.count().filter(unsent, Outbox.attempts >= GIVE_UP_AFTER),
        ).where(Outbox.channel == way.name)
    ).one()
    last = view.first(
        select(Outbox).where(Outbox.channel == way.name, unsent, Outbox.attempts > 0).order_by(Outbox.created_at)
    )
    error, oldest = ((last.last_error or ""), last.created_at) if last is not None else ("", None)
    sent, waiting, failing, given_up = (int(count) for count in counts)
    return ChannelState(way.name, way.shared, sent, waiting, failing, given_up, error, oldest)


def try_again(tx: Tx, channel: str) -> None:
    """Let a channel send at once what it failed to send, also what it had given up."""
    rows = tx.all(select(Outbox).where(Outbox.channel == channel, Outbox.sent_at.is_(None), Outbox.attempts > 0))
    for row in rows:
        tx.update(row, attempts=0, next_at=tx.now)


__all__ = [
    "Letter",
    "divide",
    "reached",
    "render",
    "send",
    "send_due",
    "states",
    "tell",
    "try_again",
    "visible",
    "write",
]
