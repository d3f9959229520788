"""Which numbers are behind the pictures? Reads over a span of time, aggregated where the rows are.

Numbers only: no sentence, no drawing. What comes out carries no proof; the log does. Spans are `start <= at < end`. Nothing here
changes anything.
"""

import json
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import TypeVar
from zoneinfo import ZoneInfo

from sqlalchemy import BigInteger, bindparam, case, func, literal, or_, select, type_coerce

from jitaccess.broker.context import Broker
from jitaccess.clock import to_epoch_us
from jitaccess.domain.events import EventType
from jitaccess.domain.lifecycle import LeaseState, RequestState
from jitaccess.domain.register import expand_groups
from jitaccess.identity.people import RESERVED
from jitaccess.policy.evaluate import PolicySet
from jitaccess.store.db import View
from jitaccess.store.find import Joined
from jitaccess.store.tables import AccessRequest, Approval, Event, Grant, Lease, Membership

MOST_GRANTS = 100
MOST_SAMPLES = 2000
MOST_LAGS = 100
EARLIER = timedelta(days=31)
"""How long before a span a grant that touches it may have been made: no policy gives longer ones."""
HOUR_US = 3600 * 1_000_000
WEEK_H, THURSDAY = 168, 3
"""Hours of a week; the weekday of the epoch, where Monday is 0."""
DAY, QUARTER = timedelta(days=1), timedelta(minutes=15)
"""Zones are looked at day by day, and where one changes its clock quarter by quarter of an hour."""
Key = TypeVar("Key", bound=Hashable)
MEMBERSHIPS = (EventType.MEMBERSHIP_ADDED.value, EventType.MEMBERSHIP_ENDED.value)


@dataclass(frozen=True, slots=True)
class GrantSpan:
    """One grant as a bar: from when to when it was open, or may be opened."""

    id: str
    person_id: str
    target: str
    entitlement: str
    state: str
    cause: str | None
    start: datetime
    end: datetime


_SPAN = (
    Grant.id, Grant.person_id, Grant.target, Grant.entitlement, Grant.state, Grant.cause, Grant.created_at, Grant.starts_at,
    Grant.ends_at, Grant.activate_by, Grant.ended_at,
)  # fmt: skip
_TOUCHING = (
    select(Grant)
    .where(Grant.created_at < bindparam("end"), or_(Grant.ended_at.is_(None), Grant.ended_at >= bindparam("start")))
    .where(Grant.created_at >= bindparam("made"))
    .order_by(Grant.created_at.desc())
    .limit(MOST_GRANTS)
)
_SPANS = Joined(_TOUCHING, (), _SPAN)
_SPANS_OF = Joined(_TOUCHING.where(Grant.target == bindparam("target")), (), _SPAN)


def grant_spans(view: View, *, start: datetime, end: datetime, target: str | None = None) -> list[GrantSpan]:
    """Return the newest grants that touch a span, oldest first; one that was never opened shows its window of activation."""
    asked = {"start": start, "end": end, "made": start - EARLIER}
    rows = view.joined(_SPANS, **asked) if target is None else view.joined(_SPANS_OF, **asked, target=target)
    found = [
        GrantSpan(key, person, system, right, state, cause, opened or made, ended or ends or activate_by or made)
        for key, person, system, right, state, cause, made, opened, ends, activate_by, ended in rows
    ]
    return found[::-1]


def began_by_hour(view: View, *, start: datetime, zone: ZoneInfo) -> Mapping[tuple[int, int], int]:
    """Return (weekday, hour) in a zone -> how many grants were opened then since `start`."""

    def within(found: View, low: datetime, high: datetime) -> Counter[tuple[int, int]]:
        return _began_within(found, zone, low, high)

    return _month_by_month(view, f"began/{zone.key}", start, within)


_HOUR = (
    (type_coerce(Grant.starts_at, BigInteger) + bindparam("away_us", type_=BigInteger))
    // literal(HOUR_US) % literal(WEEK_H)
)  # fmt: skip
_BEGAN = Joined(
    select(Grant)
    .where(Grant.created_at >= bindparam("made"), Grant.created_at < bindparam("end"))
    .where(Grant.starts_at >= bindparam("start"), Grant.starts_at < bindparam("end"))
    .group_by(_HOUR),
    (),
    (_HOUR, func.count()),
)


def _began_within(view: View, zone: ZoneInfo, start: datetime, end: datetime) -> Counter[tuple[int, int]]:
    found: Counter[tuple[int, int]] = Counter()
    for low, high, away in even_spans(zone, start, end):
        asked = {"made": low - EARLIER, "start": max(low, start), "end": high}
        for number, count in view.joined(_BEGAN, **asked, away_us=away // timedelta(microseconds=1)):
            found[(int(number) // 24 + THURSDAY) % 7, int(number) % 24] += count
    return found


def _month_by_month(
    view: View, name: str, start: datetime, within: Callable[[View, datetime, datetime], Counter[Key]]
) -> Counter[Key]:
    """Count from `start` until now: what happened in a month or a day that is over stays as it is, and is counted once."""
    found: Counter[Key] = Counter()
    low = start
    while low < view.now:
        day = low.replace(hour=0, minute=0, second=0, microsecond=0)
        month = day.replace(day=1)
        next_month = (month + timedelta(days=32)).replace(day=1)
        if low == month and next_month <= view.now:
            high, over = next_month, f"{name}/{month:%Y-%m}"
        else:
            high, over = day + DAY, f"{name}/{day:%Y-%m-%d}" if low == day and day + DAY <= view.now else ""
        if over:
            part = view.cached(over, partial(_whole, within=within, low=low, high=high))
        else:
            part = within(view, low, min(high, view.now + DAY))
        for key, count in part.items():  # `Counter.update` takes five times as long
            found[key] += count
        low = high
    return found


def _whole(
    view: View, *, within: Callable[[View, datetime, datetime], Counter[Key]], low: datetime, high: datetime
) -> Counter[Key]:
    return within(view, low, high)


def even_spans(zone: ZoneInfo, start: datetime, end: datetime) -> list[tuple[datetime, datetime, timedelta]]:
    """Return the spans within which a zone keeps its distance from UTC, with that distance: from the quarter of `start` to `end`."""

    def away(at: datetime) -> timedelta:
        return at.astimezone(zone).utcoffset() or timedelta()

    found: list[tuple[datetime, datetime, timedelta]] = []
    low = high = start.replace(minute=start.minute // 15 * 15, second=0, microsecond=0)
    while low < end:
        while high < end and away(high) == away(low):
            high += DAY
        high -= DAY  # the clock changes within this day, or the span ends in it
        while high < end and away(high) == away(low):
            high += QUARTER
        found.append((low, min(high, end), away(low)))
        low = high
    return found


def declared_hours(policies: PolicySet | None) -> tuple[ZoneInfo, frozenset[tuple[int, int]] | None]:
    """Return the zone of the declared windows and the (weekday, hour) cells that any of them opens; None when none is declared."""
    windows = {name: window for rule in policies.rules.values() for name, window in rule.windows} if policies else {}
    if not windows:
        return ZoneInfo("UTC"), None
    first = windows[min(windows)]
    cells = frozenset(
        (day, hour)
        for window in windows.values()
        for day in window.days
        for hour in range(24)
        if window.start_min < hour * 60 + 60 and hour * 60 < window.end_min
    )
    return first.zone, cells


def approval_seconds(
    view: View, *, start: datetime, target: str | None = None, entitlement: str | None = None, most: int = MOST_SAMPLES
) -> list[float]:
    """Return how long approvals took from filing to the last signature, in seconds; those that needed none are left out."""
    took_us = type_coerce(AccessRequest.decided_at, BigInteger) - type_coerce(AccessRequest.created_at, BigInteger)
    wanted = (
        select(took_us)
        .where(
            AccessRequest.created_at >= start,
            AccessRequest.state == RequestState.APPROVED.value,
            AccessRequest.decided_at > AccessRequest.created_at,
        )
        .order_by(AccessRequest.created_at.desc())
        .limit(most)
    )
    if target is not None:
        wanted = wanted.where(AccessRequest.target == target)
    if entitlement is not None:
        wanted = wanted.where(AccessRequest.entitlement == entitlement)
    return [took / 1e6 for took in view.rows(wanted).scalars().all()]


def signed_for(view: View, *, start: datetime) -> Mapping[tuple[str, str], int]:
    """Return (approver, requester) -> how many approvals since `start`."""
    return _month_by_month(view, "signed-for", start, _signed_within)


_SIGNED = Joined(
    select(Approval)
    .join(AccessRequest, AccessRequest.id == Approval.request_id)
    .where(Approval.given_at >= bindparam("start"), Approval.given_at < bindparam("end"))
    .where(Approval.verdict == "approve", Approval.lost_at.is_(None))
    .group_by(Approval.person_id, AccessRequest.person_id),
    (),
    (Approval.person_id, AccessRequest.person_id, func.count()),
)


def _signed_within(view: View, low: datetime, high: datetime) -> Counter[tuple[str, str]]:
    rows = view.joined(_SIGNED, start=low, end=high)
    return Counter({(approver, requester): int(count) for approver, requester, count in rows})


@dataclass(frozen=True, slots=True)
class Lag:
    """How long one lease took from its end until the target was read back clean."""

    at: datetime
    ms: int
    target: str


_REVOKED = Joined(
    select(Lease)
    .where(Lease.state == LeaseState.REVOKED.value, Lease.ends_at >= bindparam("start"))
    .where(Lease.revoked_at.is_not(None))
    .order_by(Lease.ends_at.desc())
    .limit(MOST_LAGS),
    (),
    (Lease.ended_at, Lease.revoked_at, Lease.target),
)


def revocation_lags(view: View, *, start: datetime) -> list[Lag]:
    """Return the newest revocations since `start`, oldest first."""
    rows = view.joined(_REVOKED, start=start)
    found = [
        Lag(ended, (revoked - ended) // timedelta(milliseconds=1), target) for ended, revoked, target in rows if ended
    ]
    return sorted(found, key=lambda lag: lag.at)


@dataclass(frozen=True, slots=True)
class MonthOfRights:
    """Rights in one month; a right is a person with an entitlement."""

    month: datetime
    could: int
    """That rules let people ask for at the month's end, or now: what they would hold all the time without the broker."""
    open: float
    """Open at an average moment of the month."""
    standing: int
    """Memberships in the broker's own groups: power that needs no asking."""


def months_of_rights(view: View, broker: Broker, *, count: int = 6) -> list[MonthOfRights]:
    """Return the last months, oldest first; what could be asked for is counted under the rules of now."""
    edges = _month_edges(view.now, count)
    # Counted once a version of register and policy: neither tells of an act, and nobody gets anything by it.
    counts = view.cached(
        f"rights-by-month/{edges[-1]:%Y-%m}/{count}",
        lambda found: _rights_at(broker.policies.active_or_none(found), _members_at(found, edges[1:])),
    )
    opened = _open_seconds(view, edges)
    found = []
    for number, month in enumerate(edges[:-1]):
        could, standing = counts[number]
        until = min(edges[number + 1], view.now)
        found.append(MonthOfRights(month, could, opened[number] / max((until - month).total_seconds(), 1.0), standing))
    return found


def _rights_at(policies: PolicySet | None, members: Sequence[Mapping[str, frozenset[str]]]) -> list[tuple[int, int]]:
    """Return, for each month, how many rights people could ask for, and how many memberships gave power without asking."""
    rules: dict[tuple[str, str], set[str]] = {}
    for rule in policies.rules.values() if policies is not None else ():
        for entitlement in rule.entitlements:
            rules.setdefault((rule.target, entitlement), set()).update(rule.groups)
    return [
        (
            sum(not groups.isdisjoint(wanted) for wanted in rules.values() for groups in groups_of.values()),
            sum(len(groups & set(RESERVED)) for groups in groups_of.values()),
        )
        for groups_of in members
    ]


def _month_edges(now: datetime, count: int) -> list[datetime]:
    """Return the first instants of the last `count` months and of the next one."""
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    edges = [(first + timedelta(days=32)).replace(day=1)]
    while len(edges) <= count:
        edges.append(first)
        first = (first - timedelta(days=1)).replace(day=1)
    return edges[::-1]


def _members_at(view: View, ends: Sequence[datetime]) -> list[Mapping[str, frozenset[str]]]:
    """Return, for each month's end, person id -> groups, told by the log's events; genesis wrote some without one."""
    now = {
        (row.group_id, row.member_kind, row.member_id)
        for row in view.usable(select(Membership).where(Membership.status == "active"))
    }
    told: list[tuple[datetime, tuple[str, str, str], bool]] = []
    for at, kind, leaf in view.rows(select(Event.at, Event.type, Event.leaf).where(Event.type.in_(MEMBERSHIPS))):
        subject = json.loads(leaf)["subject"]
        person = subject.get("person")
        inner = subject.get("inner_group")
        member = person or inner or subject.get("member")
        if member is None:
            continue
        added = kind == EventType.MEMBERSHIP_ADDED.value
        known = "person" if person else "group" if inner else next((k for _, k, m in now if m == member), "person")
        told.append((at, (subject["group"], known, member), added))
    told.sort(key=lambda one: one[0], reverse=True)
    found: list[Mapping[str, frozenset[str]]] = []
    state = set(now)
    position = 0
    for end in reversed(ends):
        while position < len(told) and told[position][0] >= end:
            _, membership, added = told[position]
            (state.discard if added else state.add)(membership)
            position += 1
        found.append(
            expand_groups(
                [(group, member) for group, kind, member in state if kind == "person"],
                [(group, member) for group, kind, member in state if kind == "group"],
            )
        )
    return found[::-1]


def _open_seconds(view: View, edges: Sequence[datetime]) -> list[float]:
    """Return, for each month, the seconds that grants were open; a month that is over is added up once."""
    found: list[float] = []
    for low, high in pairwise(edges):
        if high <= view.now:
            # A fact of the past, no right: what still is open was open to the month's end, whenever it ends.
            name = f"open-seconds/{low:%Y-%m}"
            found.append(view.cached(name, partial(_open_within, low=low, high=high)))
        else:
            found.append(_open_within(view, low=low, high=high))
    return found


def _open_within(view: View, *, low: datetime, high: datetime) -> float:
    """Return the seconds between two instants that grants were open, added up where the rows are."""
    start = type_coerce(Grant.starts_at, BigInteger)
    end = func.coalesce(type_coerce(Grant.ended_at, BigInteger), literal(to_epoch_us(view.now)))
    from_us, to_us = to_epoch_us(low), to_epoch_us(high)
    open_us = case((end < to_us, end), else_=to_us) - case((start > from_us, start), else_=from_us)
    total = view.scalar(
        select(func.sum(open_us)).where(
            Grant.starts_at.is_not(None), Grant.created_at < high, Grant.created_at >= low - EARLIER, end > from_us
        )
    )
    return int(total or 0) / 1e6
