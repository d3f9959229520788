"""What was said about a request so far? The verdicts, in the order in which they were given."""

from collections.abc import Sequence

from sqlalchemy import bindparam, select

from jitaccess.proof.quorum import Vote
from jitaccess.store.db import View
from jitaccess.store.find import Find
from jitaccess.store.tables import Approval

VOTES = Find(
    Approval,
    select(Approval).where(Approval.request_id == bindparam("request_id")).order_by(Approval.given_at, Approval.id),
)


def votes_of(view: View, request_id: str) -> list[Approval]:
    """Return the verdicts on a request in the order in which they were given."""
    return view.find(VOTES, request_id=request_id)


def votes_on(view: View, request_ids: Sequence[str]) -> dict[str, list[Approval]]:
    """Return the verdicts on several requests in one read: request id -> in the order in which they were given."""
    found: dict[str, list[Approval]] = {}
    if request_ids:
        given = select(Approval).where(Approval.request_id.in_(request_ids)).order_by(Approval.given_at, Approval.id)
        for vote in view.all(given):
            found.setdefault(vote.request_id, []).append(vote)
    return found


def as_votes(approvals: Sequence[Approval]) -> list[Vote]:
    """Return verdicts as the quorum counts them."""
    return [Vote(found.person_id, found.institution, found.step, found.verdict, found.deputy_of) for found in approvals]
