"""What would another policy set have decided about the requests of the past? A question before activating it.

Both sets, the active one and the candidate, decide the same requests anew over the same circumstances: inputs, duration, start,
passkey and instant as they were, what was live or held then and what an extension continued, but people and groups as they are
now, because the register keeps no past. So a difference is the policy's doing alone. Nothing is written and nobody is told.

The past is looked at page by page, the newest requests first, so that an answer never waits for years of them.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, cast

from sqlalchemy import ColumnElement, and_, func, or_, select

from jitaccess.broker.extend import MAX_CHAIN, chain_of, extending
from jitaccess.domain.register import RegisterView
from jitaccess.identity.people import credential_class, register
from jitaccess.policy.course import Conflict
from jitaccess.policy.evaluate import AccessContext, Decision, Effect, Holding, PolicySet, decide
from jitaccess.store.db import View
from jitaccess.store.tables import AccessRequest, Grant, Passkey

PAGE = 100
"""How many requests are decided anew at a time."""
DAY = timedelta(days=1)
_COLUMNS = (
    AccessRequest.id, AccessRequest.created_at, AccessRequest.person_id, AccessRequest.target, AccessRequest.entitlement,
    AccessRequest.inputs, AccessRequest.duration_s, AccessRequest.earliest_start, AccessRequest.filing_passkey_id,
    AccessRequest.extends,
)  # fmt: skip
"""What a decision depends on; the rest of a request is large."""


class Difference(StrEnum):
    """What the candidate would have done otherwise."""

    REFUSED = "refused"
    PERMITTED = "permitted"
    MORE_SIGNATURES = "more_signatures"
    FEWER_SIGNATURES = "fewer_signatures"
    OTHER_TERMS = "other_terms"


@dataclass(frozen=True, slots=True)
class Changed:
    """One past request that would be decided otherwise."""

    request_id: str
    at: datetime
    person_id: str
    target: str
    entitlement: str
    difference: Difference
    now: Decision
    then: Decision
    """What the candidate decides."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What became of one page of them."""

    looked_at: int
    total: int
    """How many requests there are."""
    newest_at: datetime | None
    oldest_at: datetime | None
    """When the first and the last of the page were filed."""
    older: str | None
    """Where the next page begins; None at the end."""
    same: int
    unknown_people: int
    """Requests of people who are no longer on the register: not decided."""
    changed: tuple[Changed, ...]

    def counts(self) -> Mapping[Difference, int]:
        """Return how many of each difference there are."""
        found = dict.fromkeys(Difference, 0)
        for one in self.changed:
            found[one.difference] += 1
        return found


def replay(view: View, *, active: PolicySet, candidate: PolicySet, before: str = "", most: int = PAGE) -> Replay:
    """Decide a page of requests under both sets, newest first; `before` is the id that the last page ended with."""
    wanted = select(*_COLUMNS).order_by(AccessRequest.id.desc()).limit(most + 1)
    found = view.rows(wanted.where(AccessRequest.id < before) if before else wanted).all()
    rows = found[:most]
    people = register(view)
    passkeys = _passkeys(view, rows)
    apart = list(dict.fromkeys([*active.kept_apart, *candidate.kept_apart]))
    history = _history(view, rows, apart)
    changed: list[Changed] = []
    same = unknown = 0
    for row in rows:
        context = _context(view, row, people, passkeys, history, apart=bool(apart))
        if context is None:
            unknown += 1
            continue
        now, then = decide(active, context), decide(candidate, context)
        difference = compare(now, then)
        if difference is None:
            same += 1
        else:
            changed.append(
                Changed(row.id, row.created_at, row.person_id, row.target, row.entitlement, difference, now, then)
            )
    return Replay(
        len(rows),
        int(view.scalar(select(func.count()).select_from(AccessRequest))),
        rows[0].created_at if rows else None,
        rows[-1].created_at if rows else None,
        rows[-1].id if len(found) > most else None,
        same,
        unknown,
        tuple(changed),
    )


def compare(now: Decision, then: Decision) -> Difference | None:
    """Say how two decisions differ, or None; reasons and rules alone are no difference."""
    if now.effect is not then.effect:
        return Difference.REFUSED if then.effect is Effect.DENY else Difference.PERMITTED
    if now.terms is None or then.terms is None:
        return None
    before, after = (sum(step.count for step in terms.steps) for terms in (now.terms, then.terms))
    if before != after:
        return Difference.MORE_SIGNATURES if after > before else Difference.FEWER_SIGNATURES
    return None if now.terms.to_document() == then.terms.to_document() else Difference.OTHER_TERMS


def _passkeys(view: View, rows: Sequence[Any]) -> Mapping[str, Passkey]:
    keys = {row.filing_passkey_id for row in rows}
    return {found.id: found for found in view.all(select(Passkey).where(Passkey.id.in_(keys)))} if keys else {}


@dataclass(slots=True)
class _Life:
    """One access from its grant to the end of whatever continued it. Not frozen: a page makes hundreds of them."""

    root: str
    target: str
    entitlement: str
    made: datetime
    ended: datetime | None
    opened: bool


@dataclass(slots=True)
class _Lives:
    """The accesses of one person."""

    found: list[_Life] = field(default_factory=list)

    def counts(self, target: str, entitlement: str, at: datetime, *, besides: str | None) -> tuple[int, int]:
        """Return (live, made within 24 hours) just before an instant, but for the access that is being extended."""
        same = [
            life
            for life in self.found
            if (life.target, life.entitlement) == (target, entitlement) and life.made < at and life.root != besides
        ]
        live = sum(life.ended is None or life.ended > at for life in same)
        return live, sum(life.made > at - DAY for life in same)

    def held(self, at: datetime) -> tuple[Holding, ...]:
        """Return what was held then, and what had been; what was never opened was not."""
        return tuple(
            Holding(life.target, life.entitlement, None if life.ended is None or life.ended > at else life.ended)
            for life in self.found
            if life.made < at and (life.opened or life.ended is None or life.ended > at)
        )


def _history(view: View, rows: Sequence[Any], apart: Sequence[Conflict]) -> Mapping[str, _Lives]:
    """Return person id -> the accesses that were live or made within a day before any of these requests, or since; of what is kept
    apart from something also those that ended as long ago as that counts."""
    if not rows:
        return {}
    wanted = select(
        Grant.id, Grant.person_id, Grant.target, Grant.entitlement, Grant.created_at, Grant.ended_at,
        Grant.starts_at.is_not(None).label("opened"), Grant.extends,
    )  # fmt: skip
    since = rows[-1].created_at - DAY
    touching = or_(Grant.ended_at.is_(None), Grant.ended_at > since, Grant.created_at > since, *_held(rows, apart))
    people = {row.person_id for row in rows}
    known = wanted.where(Grant.person_id.in_(people), Grant.created_at <= rows[0].created_at, touching)
    grants = {one.id: one for one in view.rows(known).all()}
    # What one of them continues was made earlier and is read by its id. What continues one of them was made while that one was
    # open: it is among them, or later than all that is asked.
    for _ in range(MAX_CHAIN):
        missing = {one.extends for one in grants.values() if one.extends is not None} - grants.keys()
        if not missing:
            break
        grants |= {one.id: one for one in view.rows(wanted.where(Grant.id.in_(missing))).all()}
    return _lives(sorted(grants.values(), key=lambda one: one.created_at))


def _held(rows: Sequence[Any], apart: Sequence[Conflict]) -> list[ColumnElement[bool]]:
    first = rows[-1].created_at
    return [
        and_(
            Grant.target == one.target,
            Grant.entitlement == one.entitlement,
            Grant.ended_at > first - timedelta(seconds=one.within_s),
        )
        for one in apart
    ]


def _lives(grants: Sequence[Any]) -> Mapping[str, _Lives]:
    found: dict[str, _Lives] = defaultdict(_Lives)
    last = {grant.extends: grant for grant in grants if grant.extends is not None}
    for grant in grants:
        if grant.extends is not None:
            continue  # no access of its own: it continues one
        link, links = grant, 0
        while link.id in last and links < MAX_CHAIN:
            link, links = last[link.id], links + 1
        found[grant.person_id].found.append(
            _Life(grant.id, grant.target, grant.entitlement, grant.created_at, link.ended_at, bool(grant.opened))
        )
    return found


def _context(
    view: View,
    row: Any,
    people: RegisterView,
    passkeys: Mapping[str, Passkey],
    history: Mapping[str, _Lives],
    *,
    apart: bool,
) -> AccessContext | None:
    person, passkey = people.persons.get(row.person_id), passkeys.get(row.filing_passkey_id)
    if person is None or passkey is None:
        return None
    lives, at = history.get(row.person_id, _Lives()), row.created_at
    chain = chain_of(view, row.extends) if row.extends is not None else ()
    root = chain[-1].id if chain else None
    active, today = lives.counts(row.target, row.entitlement, at, besides=root)
    return AccessContext(
        person=person,
        credential=credential_class(passkey),
        target=row.target,
        entitlement=row.entitlement,
        inputs=cast("dict[str, str | int | bool]", row.inputs),
        duration_s=row.duration_s,
        now=row.created_at,
        active_count=active,
        today_count=today,
        held=lives.held(at) if apart else (),
        start=row.earliest_start,
        extending=extending(chain) if row.extends is not None else None,
    )
