"""What would another policy set have decided about the requests of the past? A question before activating it.

Both sets, the active one and the candidate, decide the same requests anew over the same circumstances: inputs, duration, passkey and
instant as they were, how many grants were live then, but people and groups as they are now, because the register keeps no past.
So a difference is the policy's doing alone. Nothing is written and nobody is told.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import cast

from sqlalchemy import select

from jitaccess.domain.register import RegisterView
from jitaccess.identity.people import credential_class, register
from jitaccess.policy.evaluate import AccessContext, Decision, Effect, PolicySet, decide
from jitaccess.store.db import View
from jitaccess.store.tables import AccessRequest, Grant, Passkey

MOST = 500
"""How many of the newest requests are looked at."""


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
    """What became of all of them."""

    looked_at: int
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


def replay(view: View, *, active: PolicySet, candidate: PolicySet, most: int = MOST) -> Replay:
    """Decide the newest requests under both sets."""
    rows = view.all(select(AccessRequest).order_by(AccessRequest.created_at.desc()).limit(most))
    people = register(view)
    passkeys = _passkeys(view, rows)
    history = _history(view, rows)
    changed: list[Changed] = []
    same = unknown = 0
    for row in rows:
        context = _context(row, people, passkeys, history)
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
    return Replay(len(rows), same, unknown, tuple(changed))


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


def _passkeys(view: View, rows: Sequence[AccessRequest]) -> Mapping[str, Passkey]:
    keys = {row.filing_passkey_id for row in rows}
    return {found.id: found for found in view.all(select(Passkey).where(Passkey.id.in_(keys)))} if keys else {}


@dataclass(frozen=True, slots=True)
class _Lives:
    """When the grants of one person and entitlement were made and ended, each ordered."""

    made: list[datetime]
    ended: list[datetime]

    def counts(self, at: datetime) -> tuple[int, int]:
        """Return (live, made within 24 hours) just before an instant."""
        made = bisect_left(self.made, at)
        return made - bisect_right(self.ended, at), made - bisect_right(self.made, at - timedelta(days=1))


def _history(view: View, rows: Sequence[AccessRequest]) -> Mapping[tuple[str, str, str], _Lives]:
    people = {row.person_id for row in rows}
    found: dict[tuple[str, str, str], _Lives] = defaultdict(lambda: _Lives([], []))
    if not people:
        return found
    wanted = select(Grant.person_id, Grant.target, Grant.entitlement, Grant.created_at, Grant.ended_at)
    for person, target, entitlement, made, ended in view.rows(wanted.where(Grant.person_id.in_(people))):
        lives = found[person, target, entitlement]
        lives.made.append(made)
        if ended is not None:
            lives.ended.append(ended)
    for lives in found.values():
        lives.made.sort()
        lives.ended.sort()
    return found


def _context(
    row: AccessRequest,
    people: RegisterView,
    passkeys: Mapping[str, Passkey],
    history: Mapping[tuple[str, str, str], _Lives],
) -> AccessContext | None:
    person, passkey = people.persons.get(row.person_id), passkeys.get(row.filing_passkey_id)
    if person is None or passkey is None:
        return None
    lives = history.get((row.person_id, row.target, row.entitlement))
    active, today = lives.counts(row.created_at) if lives is not None else (0, 0)
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
    )
