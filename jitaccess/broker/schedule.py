"""When does a grant begin? Scheduled grants: what may be opened, and the sweep that starts what is due.

Also the window that a clock gives: where the end is soft it closes first, so that nothing new is opened, and ends a grace later.
A start never moves: the clock of a grant that begins by itself runs from `not_before`, however late the sweep came; where policy lets the
first use start the clock, it runs from that use, and not before `not_before`. No end lies beyond what was signed.
"""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import cast

from sqlalchemy import select

from jitaccess.broker.context import advance
from jitaccess.clock import to_epoch_s
from jitaccess.domain.lifecycle import GrantState
from jitaccess.identity.enrolment import tell
from jitaccess.proof.canonical import JsonValue
from jitaccess.store.db import Tx
from jitaccess.store.tables import AccessRequest, Grant


def begun(grant: Grant, now: datetime) -> bool:
    """Say whether the start of a scheduled grant has come."""
    return grant.not_before is None or now >= grant.not_before


def open_until(grant: Grant) -> datetime:
    """Return until when a scheduled grant may be opened (exclusive): its own end where it begins by itself."""
    if grant.activate_by is not None:
        return grant.activate_by
    found = window(grant, grant.course, grant.not_before or grant.created_at)
    return found.closes_at or found.ends_at or grant.latest_end


def activate(tx: Tx, grant: Grant) -> None:
    """Start the clock of a scheduled grant whose start has come."""
    found = started(grant, tx.now)
    values = {name: value for name, value in asdict(found).items() if value is not None}
    advance(tx, grant, GrantState.ACTIVE, body={"ends_at": to_epoch_s(values["ends_at"])}, **values)


@dataclass(frozen=True, slots=True)
class Window:
    """The times of a grant whose clock runs: start, soft end, end, and when its person is warned."""

    starts_at: datetime | None = None
    closes_at: datetime | None = None
    ends_at: datetime | None = None
    warn_at: datetime | None = None


def window(
    bounds: AccessRequest | Grant, course: JsonValue, start: datetime, *, duration_s: int | None = None
) -> Window:
    """Return the window of a clock that starts at `start`: never beyond `latest_end`, whatever the grace.

    `duration_s` is the smallest duration that was signed, where it is less than what `bounds` says.
    """
    kept = cast("dict[str, int]", course or {})
    grace_s, warn_s = kept.get("grace_s"), kept.get("warn_s")
    closes_at = min(start + timedelta(seconds=duration_s or bounds.duration_s), bounds.latest_end)
    ends_at = closes_at if grace_s is None else min(closes_at + timedelta(seconds=grace_s), bounds.latest_end)
    warn_at = None if warn_s is None else max(start, closes_at - timedelta(seconds=warn_s))
    return Window(start, None if grace_s is None else closes_at, ends_at, warn_at)


def started(grant: Grant, now: datetime) -> Window:
    """Return the window that a scheduled grant has if its clock starts now."""
    by_itself = grant.activate_by is None and grant.not_before is not None
    return window(grant, grant.course, (grant.not_before if by_itself else None) or now)


def warn_due(tx: Tx, batch: int) -> int:
    """Tell the persons of a batch of grants that the end is near, once; return how many were told."""
    due = tx.unchecked_all(
        select(Grant)
        .where(Grant.state == GrantState.ACTIVE.value, Grant.warn_at <= tx.now)
        .order_by(Grant.warn_at)
        .limit(batch)
        .with_for_update(skip_locked=True)
    )
    for grant in due:
        tx.update(grant, warn_at=None)
        if grant.ends_at is not None and grant.ends_at > tx.now:
            tell(tx, "grant_ending", grant.person_id, grant.id)
    return len(due)


def start_due(tx: Tx, batch: int) -> int:
    """Start a batch of grants that begin by themselves; return how many were started.

    A row whose seal is broken is left as it is: it is refused at use, and ending needs no seal.
    """
    due = tx.unchecked_all(
        select(Grant)
        .where(
            Grant.state == GrantState.SCHEDULED.value,
            Grant.not_before <= tx.now,
            Grant.activate_by.is_(None),
            Grant.seal.is_not(None),
        )
        .order_by(Grant.not_before)
        .limit(batch)
        .with_for_update(skip_locked=True)
    )
    intact = [grant for grant in due if tx.intact(grant)]
    for grant in intact:
        activate(tx, grant)
        tell(tx, "grant_ready", grant.person_id, grant.id)
    return len(intact)
