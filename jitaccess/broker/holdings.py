"""What does or did this person hold of what must stay in separate hands? (R22, separation of duties across grants and time)

Counted per person, through whatever account: a live grant is held now, also before it is opened; one that ended without ever having
been open was never held. Only grants that a conflict could speak of are read.
"""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import or_, select

from jitaccess.domain.lifecycle import GrantState
from jitaccess.policy.course import Conflict
from jitaccess.policy.evaluate import Holding
from jitaccess.store.db import View
from jitaccess.store.tables import Grant

LIVE = (GrantState.SCHEDULED.value, GrantState.ACTIVE.value)


def holdings(
    view: View, watched: Sequence[Conflict], person_id: str, *, besides: str | None = None
) -> tuple[Holding, ...]:
    """Return what the person holds or held of the watched entitlements; `besides` names a request whose grant does not count."""
    if not watched:
        return ()
    pairs = {(conflict.target, conflict.entitlement) for conflict in watched}
    since = view.now - timedelta(seconds=max(conflict.within_s for conflict in watched))
    found = view.rows(
        select(Grant.target, Grant.entitlement, Grant.ended_at).where(
            Grant.person_id == person_id,
            Grant.request_id != (besides or ""),
            Grant.target.in_({target for target, _ in pairs}),
            or_(Grant.state.in_(LIVE), (Grant.ended_at > since) & Grant.starts_at.is_not(None)),
        )
    )
    return tuple(
        Holding(target, entitlement, ended_at)
        for target, entitlement, ended_at in found
        if (target, entitlement) in pairs
    )
