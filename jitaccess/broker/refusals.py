"""What was refused to a person that the person has not seen yet? Who refused, with which words; the start page shows it until then."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select

from jitaccess.broker.comments import comments_of
from jitaccess.broker.votes import votes_on
from jitaccess.domain.lifecycle import RequestState
from jitaccess.errors import JitError, Kind
from jitaccess.proof.statements import Verdict
from jitaccess.store.db import Tx, View
from jitaccess.store.tables import AccessRequest, RefusalSeen

SHOWN_FOR = timedelta(days=14)
MOST = 5


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refused request."""

    request: AccessRequest
    words: Mapping[str, str]
    """Id of who refused -> what that person wrote; empty for no words."""


def refusers(view: View, request_id: str) -> Mapping[str, str]:
    """Return id of who refused a request -> what that person wrote with it; empty for no words."""
    written = comments_of(view, request_id)
    deny = Verdict.DENY.value
    votes = votes_on(view, [request_id]).get(request_id, ())
    return {vote.person_id: written.get((vote.person_id, deny), "") for vote in votes if vote.verdict == deny}


def unseen(view: View, person_id: str) -> list[Refusal]:
    """Return the refusals of two weeks that a person has not marked as seen, the newest first; at most `MOST`."""
    rows = view.all(
        select(AccessRequest)
        .outerjoin(RefusalSeen, RefusalSeen.request_id == AccessRequest.id)
        .where(
            AccessRequest.person_id == person_id,
            AccessRequest.state == RequestState.DENIED.value,
            AccessRequest.decided_at > view.now - SHOWN_FOR,
            RefusalSeen.request_id.is_(None),
        )
        .order_by(AccessRequest.created_at.desc())
        .limit(MOST)
    )
    return [Refusal(row, refusers(view, row.id)) for row in rows]


def see(tx: Tx, person_id: str, request_id: str) -> None:
    """Note that a person saw the refusal of an own request; a second time changes nothing. Raises NOT_FOUND for anything else."""
    row = tx.get(AccessRequest, request_id) if len(request_id) <= 64 else None
    if row is None or row.person_id != person_id or row.state != RequestState.DENIED.value:
        raise JitError(Kind.NOT_FOUND, "There is no such request of yours.")
    if tx.get(RefusalSeen, request_id) is None:
        tx.insert(RefusalSeen, request_id=request_id, seen_at=tx.now)
