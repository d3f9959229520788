"""What may this person ask for, what is still locked and why, whom would it take and how long does that usually last?

Shows; decides nothing. An entitlement is *open* when a rule speaks of the person now and nothing that is known before the form is
filled in stands in the way; what a decision needs besides (inputs, conditions) only `decide` tells. Everything is read in a few
queries for all entitlements together.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from sqlalchemy import func, select

from jitaccess.broker import figures
from jitaccess.broker.context import Broker
from jitaccess.broker.extend import BEGINS, own_access
from jitaccess.broker.grants import held
from jitaccess.broker.holdings import holdings
from jitaccess.broker.request import is_new
from jitaccess.domain.approval import could_sign
from jitaccess.domain.lifecycle import GrantState, RequestState
from jitaccess.domain.register import PersonView
from jitaccess.domain.values import Refused
from jitaccess.errors import JitError, Kind
from jitaccess.identity.people import credential_class, register
from jitaccess.identity.sessions import Current
from jitaccess.policy.course import Conflict
from jitaccess.policy.evaluate import (
    AccessContext,
    Code,
    CompiledRule,
    EntitlementFacts,
    Holding,
    PolicySet,
    Reason,
    TargetFacts,
    Terms,
    Window,
    bound_failure,
    conflict_failure,
    newness_failure,
    speaks,
)
from jitaccess.store.db import View
from jitaccess.store.tables import AccessRequest, Grant
from jitaccess.told import all_calls

LIVE = (GrantState.SCHEDULED.value, GrantState.ACTIVE.value)
WAIT_SAMPLES, WAIT_DAYS = 100, 90
REPEATABLE, LOOKED_AT = 5, 30
LOOK_AHEAD_DAYS = 14


@dataclass(frozen=True, slots=True)
class Choice:
    """One entitlement as a person sees it before asking."""

    target: str
    target_name: str
    entitlement: str
    label: str
    risk: str
    open: bool
    missing: Reason | Refused | None
    """The first thing in the way; None when open."""
    groups: tuple[str, ...]
    """Names of the groups that may ask, where the person is in none of them."""
    opens_at: datetime | None
    """When its hours begin next, where only they are missing."""
    asks: tuple[Any, ...]
    min_s: int
    default_s: int
    max_s: int
    needs_approval: bool
    wait_s: int
    """How long it waits after the last signature; 0: not at all."""
    start_within_s: int | None
    """How far ahead it may be asked for."""
    pending_id: str | None
    """A request of this person for it that waits."""
    used: int
    """How often this person asked for it."""


@dataclass(frozen=True, slots=True)
class _Own:
    """What is known of the person's own requests and grants, by (target, entitlement)."""

    asked: Mapping[tuple[str, str], int]
    pending: Mapping[tuple[str, str], str]
    live: Mapping[tuple[str, str], int]
    today: Mapping[tuple[str, str], int]
    held: tuple[Holding, ...]
    """Of everything that the policy keeps apart from anything."""


def choices(view: View, broker: Broker, current: Current, *, query: str = "") -> list[Choice]:
    """Return every entitlement whose names match the query: open ones first, then by how often this person used them."""
    policies = broker.policies.active(view)
    person = register(view).persons[current.person.id]
    own = _own(view, current.person.id, policies.kept_apart)
    wanted = fold(query).split()
    found = [
        _choice(view, broker, current, policies, person, own, target, entitlement)
        for target in policies.targets.values()
        for entitlement in target.entitlements.values()
        if _matches(wanted, target, entitlement, policies)
    ]
    return sorted(found, key=lambda choice: (not choice.open, -choice.used, choice.target_name, choice.label))


def choice(view: View, broker: Broker, current: Current, *, target: str, entitlement: str) -> Choice:
    """Return one entitlement; raises NOT_FOUND."""
    policies = broker.policies.active(view)
    known = policies.targets.get(target)
    if known is None or entitlement not in known.entitlements:
        raise JitError(Kind.NOT_FOUND, "There is no such right that you may ask for.")
    person = register(view).persons[current.person.id]
    own = _own(view, current.person.id, policies.watched(target, entitlement))
    return _choice(view, broker, current, policies, person, own, known, known.entitlements[entitlement])


def fold(text: str) -> str:
    """Return text for comparing: without case and without marks on letters."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in plain if not unicodedata.combining(letter))


def _matches(wanted: Sequence[str], target: TargetFacts, entitlement: EntitlementFacts, policies: PolicySet) -> bool:
    owner = policies.institutions.get(target.owner, "")
    text = fold(
        f"{all_calls(target.name)} {target.id} {all_calls(entitlement.label)} {entitlement.id} {all_calls(owner)}"
    )
    return all(word in text for word in wanted)


def _own(view: View, person_id: str, watched: Sequence[Conflict]) -> _Own:
    right = (AccessRequest.target, AccessRequest.entitlement)
    asked = view.rows(select(*right, func.count()).where(AccessRequest.person_id == person_id).group_by(*right)).all()
    pending = view.rows(
        select(*right, AccessRequest.id).where(
            AccessRequest.person_id == person_id,
            AccessRequest.state == RequestState.PENDING.value,
            AccessRequest.approve_by > view.now,
        )
    ).all()
    day_ago = view.now - timedelta(days=1)
    grants = view.rows(
        select(
            Grant.target,
            Grant.entitlement,
            func.count().filter(Grant.state.in_(LIVE)),
            func.count().filter(Grant.created_at > day_ago, BEGINS),
        )
        .where(Grant.person_id == person_id, own_access(()))
        .group_by(Grant.target, Grant.entitlement)
    ).all()
    return _Own(
        {(target, entitlement): count for target, entitlement, count in asked},
        {(target, entitlement): key for target, entitlement, key in pending},
        {(target, entitlement): live for target, entitlement, live, _ in grants},
        {(target, entitlement): today for target, entitlement, _, today in grants},
        holdings(view, watched, person_id),
    )


def _choice(
    view: View,
    broker: Broker,
    current: Current,
    policies: PolicySet,
    person: PersonView,
    own: _Own,
    target: TargetFacts,
    entitlement: EntitlementFacts,
) -> Choice:
    right = (target.id, entitlement.id)
    rules = policies.rules_for(*right)
    mine = [rule for rule in rules if not rule.groups.isdisjoint(person.groups)]
    speaking = [rule for rule in mine if speaks(rule, person, view.now)]
    merged = policies.merged(speaking or mine) if mine else None
    terms = merged.terms if merged is not None else None
    missing: Reason | Refused | None = None
    groups: tuple[str, ...] = ()
    opens_at = None
    if not mine:
        groups = tuple(sorted({group for rule in rules for group in rule.groups}))
        missing = Reason(Code.NOT_IN_GROUP if rules else Code.NO_RULE)
    elif not speaking:
        opens_at = next_opening(mine, view.now)
        missing = Reason(Code.OUTSIDE_HOURS)
    elif terms is None:
        missing = Reason(Code.TERMS_CONTRADICT)
    else:
        watched = policies.watched(*right)
        at = _context(current, person, view.now, own, right, new=is_new(view, broker, current))
        missing = (
            held(view, broker, target.id)
            or newness_failure(target, at)
            or bound_failure(terms, terms.default_s, at)
            or conflict_failure(watched, at)
        )
    return Choice(
        target.id,
        target.name,
        entitlement.id,
        entitlement.label,
        entitlement.risk,
        missing is None,
        missing,
        groups,
        opens_at,
        merged.asks if merged is not None else (),
        terms.min_s if terms is not None else 0,
        terms.default_s if terms is not None else 0,
        terms.max_s if terms is not None else 0,
        bool(terms is not None and terms.steps),
        terms.course.wait_s if terms is not None else 0,
        terms.course.start_within_s if terms is not None else None,
        own.pending.get(right),
        own.asked.get(right, 0),
    )


def _context(
    current: Current,
    person: PersonView,
    now: datetime,
    own: _Own,
    right: tuple[str, str],
    *,
    new: bool,
) -> AccessContext:
    return AccessContext(
        person=person,
        credential=credential_class(current.passkey),
        target=right[0],
        entitlement=right[1],
        inputs={},
        duration_s=None,
        now=now,
        active_count=own.live.get(right, 0),
        today_count=own.today.get(right, 0),
        held=own.held,
        new=new,
    )


def next_opening(rules: Sequence[CompiledRule], now: datetime) -> datetime | None:
    """Return when the hours of any of these rules begin next, within two weeks; None when they do not."""
    found = [at for rule in rules if (at := _opening([window for _, window in rule.windows], now)) is not None]
    return min(found, default=None)


def _opening(windows: Sequence[Window], now: datetime) -> datetime | None:
    starts = sorted({(window.zone, window.start_min) for window in windows}, key=lambda found: found[1])
    found = []
    for zone, minute in starts:
        day = now.astimezone(zone).replace(hour=minute // 60, minute=minute % 60, second=0, microsecond=0)
        for number in range(LOOK_AHEAD_DAYS):
            at = day + timedelta(days=number)  # the same wall clock, also across a change to summer time
            if at > now and all(window.open_at(at) for window in windows):
                found.append(at)
                break
    return min(found, default=None)


# ---------------------------------------------------------------- whom it takes, and how long


@dataclass(frozen=True, slots=True)
class Signers:
    """Who could sign one step."""

    step: str
    count: int
    names: tuple[str, ...]


def signers(view: View, broker: Broker, current: Current, chosen: Choice) -> list[Signers]:
    """Return who could sign each step for this person, as far as it is known before the form is filled in."""
    policies = broker.policies.active(view)
    people = register(view)
    person = people.persons[current.person.id]
    mine = [
        rule
        for rule in policies.rules_for(chosen.target, chosen.entitlement)
        if not rule.groups.isdisjoint(person.groups)
    ]
    terms: Terms | None = policies.merged(mine).terms if mine else None
    if terms is None or terms.approval is None:
        return []
    could = could_sign(terms.approval, register=people, requester=person.id)
    return [
        Signers(step.name, step.count, tuple(sorted(people.persons[key].name for key in could[step.name])))
        for step in terms.approval.steps
    ]


def usual_wait_s(view: View, target: str, entitlement: str) -> int | None:
    """Return the median time from filing to the last signature of late, in seconds; None before there is any."""
    start = view.now - timedelta(days=WAIT_DAYS)
    found = figures.approval_seconds(view, start=start, target=target, entitlement=entitlement, most=WAIT_SAMPLES)
    return round(median(found)) if found else None


# ---------------------------------------------------------------- asking again


@dataclass(frozen=True, slots=True)
class Former:
    """A request that was made before, as far as it can be made again."""

    id: str
    target: str
    entitlement: str
    inputs: Mapping[str, str | int | bool]
    duration_s: int


def former(view: View, broker: Broker, person_id: str) -> list[Former]:
    """Return the last different requests of a person that the policy of now still knows: what can be asked again."""
    policies = broker.policies.active_or_none(view)
    rows = view.rows(
        select(
            AccessRequest.id,
            AccessRequest.target,
            AccessRequest.entitlement,
            AccessRequest.inputs,
            AccessRequest.duration_s,
        )
        .where(AccessRequest.person_id == person_id, AccessRequest.state != RequestState.PENDING.value)
        .order_by(AccessRequest.created_at.desc())
        .limit(LOOKED_AT)
    )
    found: dict[object, Former] = {}
    for row in rows:
        target = policies.targets.get(row.target) if policies is not None else None
        if target is not None and row.entitlement in target.entitlements:
            one = Former(row.id, row.target, row.entitlement, row.inputs, row.duration_s)
            found.setdefault((one.target, one.entitlement, tuple(sorted(one.inputs.items()))), one)
    return list(found.values())[:REPEATABLE]


def own_request(view: View, person_id: str, request_id: str) -> AccessRequest:
    """Return a person's own request; raises NOT_FOUND for anybody else's."""
    row = view.get(AccessRequest, request_id) if len(request_id) <= 64 else None
    if row is None or row.person_id != person_id:
        raise JitError(Kind.NOT_FOUND, "There is no such request of yours.")
    return row
