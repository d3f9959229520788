"""How long do approvers look before they sign? The defence against waving requests through; it never blocks anybody.

The approval page carries a mark of when it was opened, made with the seal key and bound to the request and the session, so that opening a
page changes nothing (TRAP-11) and nobody lengthens a look by hand. What is kept is book-keeping: a time a decision. When too many of an
approver's approvals are given in a few seconds, administrators get a quiet note, at most once a week.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from sqlalchemy import select

from jitaccess.broker.context import Broker
from jitaccess.clock import from_epoch_us, to_epoch_us
from jitaccess.identity.enrolment import tell
from jitaccess.identity.people import ADMINS, FOUNDERS, register
from jitaccess.proof.statements import Verdict
from jitaccess.store.db import Tx, View
from jitaccess.store.tables import DecisionPace, Outbox

MARK = "approval_page"
LOOKS_AT_MOST = timedelta(hours=12)
"""A mark that is older comes from another day's page: it counts as no mark."""
KEPT = timedelta(days=90)
LAST = 20
"""How many of an approver's last approvals are looked at."""
NOTE_EVERY = timedelta(days=7)
HURRIED = "approver_hurried"


@dataclass(frozen=True, slots=True)
class Pace:
    """How one approver decided lately."""

    person_id: str
    decisions: int
    median_s: float
    hurried: int
    """Approvals given in less time than the setting says."""

    @property
    def percent(self) -> int:
        """Return the share of hurried approvals."""
        return 100 * self.hurried // self.decisions if self.decisions else 0


def mark(broker: Broker, about: str, session_id: str, now: datetime) -> str:
    """Return the mark of a page that was opened now: `<microseconds>.<seal>`."""
    at = to_epoch_us(now)
    return f"{at}.{broker.db.seals.make(MARK, about, 0, session_id, str(at))}"


def opened_at(broker: Broker, text: str, about: str, session_id: str, now: datetime) -> datetime | None:
    """Return when the page of a mark was opened; None for no mark of ours, of another page or session, or one too old."""
    at, _, seal = text.partition(".")
    if (
        not (at.isascii() and at.isdigit())
        or len(at) > 18
        or not broker.db.seals.holds(seal, MARK, about, 0, session_id, at)
    ):
        return None
    found = from_epoch_us(int(at))
    return found if now - LOOKS_AT_MOST <= found <= now else None


def note(
    tx: Tx, broker: Broker, *, person_id: str, request_id: str, verdict: Verdict, opened: datetime, shared_by: int = 1
) -> None:
    """Keep how long a decision took, from the page to the signature or refusal; a set shares its time evenly.

    An approver whose last approvals were hurried is told of to administrators, quietly.
    """
    took_ms = max(0, to_epoch_us(tx.now) - to_epoch_us(opened)) // 1000 // shared_by
    tx.insert(
        DecisionPace,
        id=tx.new_id(),
        person_id=person_id,
        request_id=request_id,
        verdict=verdict.value,
        took_ms=took_ms,
        decided_at=tx.now,
    )
    if verdict is Verdict.APPROVE:
        _tell_if_hurried(tx, broker, person_id)


def _tell_if_hurried(tx: Tx, broker: Broker, person_id: str) -> None:
    limits = broker.settings.limits
    found = pace_of(tx, broker, person_id)
    if found is None or found.decisions < limits.hurried_least or found.percent < limits.hurried_percent:
        return
    lately = select(Outbox.id).where(
        Outbox.kind == HURRIED, Outbox.subject_id == person_id, Outbox.created_at > tx.now - NOTE_EVERY
    )
    if tx.scalar(lately.limit(1)) is None:
        people = register(tx)
        for admin in sorted((people.members(ADMINS) | people.members(FOUNDERS)) & people.able - {person_id}):
            tell(tx, HURRIED, admin, person_id)


def pace_of(view: View, broker: Broker, person_id: str) -> Pace | None:
    """Return how an approver gave the last approvals; None without any."""
    taken = view.rows(
        select(DecisionPace.took_ms)
        .where(
            DecisionPace.person_id == person_id,
            DecisionPace.verdict == Verdict.APPROVE.value,
            DecisionPace.decided_at > view.now - KEPT,
        )
        .order_by(DecisionPace.decided_at.desc())
        .limit(LAST)
    )
    return _pace(person_id, list(taken.scalars()), broker.settings.limits.hurried_below_s)


def overview(view: View, broker: Broker) -> list[Pace]:
    """Return every approver's pace over what is kept, the most hurried first."""
    rows = view.rows(
        select(DecisionPace.person_id, DecisionPace.took_ms).where(
            DecisionPace.verdict == Verdict.APPROVE.value, DecisionPace.decided_at > view.now - KEPT
        )
    )
    taken: dict[str, list[int]] = {}
    for person_id, took_ms in rows:
        taken.setdefault(person_id, []).append(took_ms)
    below_s = broker.settings.limits.hurried_below_s
    found = [_pace(person_id, times, below_s) for person_id, times in taken.items()]
    return sorted((pace for pace in found if pace is not None), key=lambda pace: (-pace.percent, pace.person_id))


def _pace(person_id: str, taken_ms: Sequence[int], below_s: int) -> Pace | None:
    if not taken_ms:
        return None
    hurried = sum(took_ms < below_s * 1000 for took_ms in taken_ms)
    return Pace(person_id, len(taken_ms), median(taken_ms) / 1000, hurried)


def forget_old(tx: Tx) -> int:
    """Delete times that are not looked at any more."""
    return tx.delete(DecisionPace, DecisionPace.decided_at < tx.now - KEPT)
