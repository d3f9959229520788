"""When does a grant begin? Scheduled grants: what may be opened, and the sweep that starts what is due.

A start never moves: the clock of a grant that begins by itself runs from `not_before`, however late the sweep came; where policy lets the
first use start the clock, it runs from that use, and not before `not_before`. No end lies beyond what was signed.
"""

from datetime import datetime, timedelta

from sqlalchemy import select

from jitaccess.broker.context import advance
from jitaccess.clock import to_epoch_s
from jitaccess.domain.lifecycle import GrantState
from jitaccess.identity.enrolment import tell
from jitaccess.store.db import Tx
from jitaccess.store.tables import Grant


def begun(grant: Grant, now: datetime) -> bool:
    """Say whether the start of a scheduled grant has come."""
    return grant.not_before is None or now >= grant.not_before


def open_until(grant: Grant) -> datetime:
    """Return until when a scheduled grant may be opened (exclusive): its own end where it begins by itself."""
    if grant.activate_by is not None:
        return grant.activate_by
    return _end(grant, grant.not_before or grant.created_at)


def window(grant: Grant, now: datetime) -> tuple[datetime, datetime]:
    """Return start and end that a scheduled grant has if its clock starts now."""
    by_itself = grant.activate_by is None and grant.not_before is not None
    starts_at = (grant.not_before if by_itself else None) or now
    return starts_at, _end(grant, starts_at)


def activate(tx: Tx, grant: Grant) -> None:
    """Start the clock of a scheduled grant whose start has come."""
    starts_at, ends_at = window(grant, tx.now)
    advance(tx, grant, GrantState.ACTIVE, body={"ends_at": to_epoch_s(ends_at)}, starts_at=starts_at, ends_at=ends_at)


def _end(grant: Grant, start: datetime) -> datetime:
    return min(start + timedelta(seconds=grant.duration_s), grant.latest_end)


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
