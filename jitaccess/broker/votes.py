"""What was said about a request so far? The verdicts, in the order in which they were given."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Select, bindparam, func, select

from jitaccess.domain.approval import ApprovalTerms
from jitaccess.domain.events import EventType
from jitaccess.domain.values import Refused
from jitaccess.errors import Kind
from jitaccess.identity.people import credential_class
from jitaccess.policy.evaluate import CredentialClass
from jitaccess.proof.quorum import Vote
from jitaccess.store.db import View
from jitaccess.store.find import Count, Find, one_of
from jitaccess.store.tables import AccessRequest, Approval, Event, Passkey

VOTES = Find(
    Approval,
    select(Approval)
    .where(Approval.request_id == bindparam("request_id"), Approval.lost_at.is_(None))
    .order_by(Approval.given_at, Approval.id),
)

CLOSING = (
    EventType.REQUEST_DENIED.value,
    EventType.REQUEST_WITHDRAWN.value,
    EventType.REQUEST_EXPIRED.value,
    EventType.REQUEST_SUPERSEDED.value,
    EventType.DENIAL_GIVEN.value,
    EventType.VETO_GIVEN.value,
)
"""What ends a request, or the grant that came of it, for good."""


def _told_of(request_id: ColumnElement[str], types: tuple[str, ...]) -> Select[*tuple[int, ...]]:
    return select(func.count()).where(Event.request_id == request_id, one_of(Event.type, types))


CLOSED = _told_of(AccessRequest.__table__.c.id, CLOSING).correlate(AccessRequest).scalar_subquery()
"""How often the log knows the request of a statement as refused, withdrawn, over or vetoed, whatever the rows say now (ADR 40)."""
DECIDED = Count(_told_of(bindparam("request_id"), (*CLOSING, EventType.REQUEST_APPROVED.value)))


def decided_by_log(view: View, request_id: str) -> Refused | None:
    """Say that the log knows a request as decided, for or against: it waits for nobody any more, whatever its row says now."""
    return by_log(view.count(DECIDED, request_id=request_id)[0])


def by_log(told: int) -> Refused | None:
    """Refuse where the log told of a decision at least once."""
    if not told:
        return None
    return Refused(Kind.GONE, "decided_in_log", "By the log this request was decided already. Ask anew.", "state")


def strong_enough(approval: ApprovalTerms, step: str, passkey: Passkey | None) -> bool:
    """Say whether a passkey may sign a step: as strong as policy asks of its signers (R6)."""
    needed = approval.credential_of(step)
    return needed is None or (passkey is not None and credential_class(passkey) >= CredentialClass[needed.upper()])


def votes_of(view: View, request_id: str) -> list[Approval]:
    """Return the verdicts on a request in the order in which they were given, but for those that were lost (ADR 0062)."""
    return view.find(VOTES, request_id=request_id)


def votes_on(view: View, request_ids: Sequence[str]) -> dict[str, list[Approval]]:
    """Return the verdicts on several requests in one read: request id -> in the order in which they were given."""
    found: dict[str, list[Approval]] = {}
    if request_ids:
        given = select(Approval).where(Approval.request_id.in_(request_ids), Approval.lost_at.is_(None))
        for vote in view.all(given.order_by(Approval.given_at, Approval.id)):
            found.setdefault(vote.request_id, []).append(vote)
    return found


def intact_votes_on(view: View, request_ids: Sequence[str]) -> tuple[dict[str, list[Approval]], frozenset[str]]:
    """Return the same, and the requests of which a verdict does not carry its seal: those are alarmed, and nothing of them counts."""
    found: dict[str, list[Approval]] = {}
    damaged: set[str] = set()
    if request_ids:
        given = select(Approval).where(Approval.request_id.in_(request_ids), Approval.lost_at.is_(None))
        for vote in view.unchecked_all(given.order_by(Approval.given_at, Approval.id)):
            if view.whole(vote):
                found.setdefault(vote.request_id, []).append(vote)
            else:
                damaged.add(vote.request_id)
    return {key: votes for key, votes in found.items() if key not in damaged}, frozenset(damaged)


def as_votes(approvals: Sequence[Approval]) -> list[Vote]:
    """Return verdicts as the quorum counts them."""
    return [Vote(found.person_id, found.institution, found.step, found.verdict, found.deputy_of) for found in approvals]
