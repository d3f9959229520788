"""Does a signature still count? The rights of who signed, as they are now, at counting and again at issue (R28, T-06; ADR 0062).

`lost` is the one place that says so. Whose right is lost by a hold, a group, a passkey or a deputation, loses the vote with it: `drop`
marks it before anything is counted, for good and in the log, so that the step opens again for others, and for the same person once
the right is back. A vote never comes back by itself.
"""

import logging
from collections.abc import Sequence

from sqlalchemy import select

from jitaccess.broker import deputies
from jitaccess.broker.asking import ask_again, may_have_signed
from jitaccess.broker.context import Broker, subject_of
from jitaccess.broker.votes import as_votes, strong_enough, votes_of
from jitaccess.domain.approval import tally
from jitaccess.domain.events import EventType
from jitaccess.domain.lifecycle import RequestState
from jitaccess.domain.notices import Notice
from jitaccess.domain.values import SYSTEM, Refused
from jitaccess.errors import JitError, Kind
from jitaccess.identity.enrolment import tell
from jitaccess.identity.people import may_act, new_until, register
from jitaccess.policy.evaluate import Terms
from jitaccess.proof.statements import Verdict
from jitaccess.store.db import Tx, View
from jitaccess.store.tables import AccessRequest, Approval, Passkey

log = logging.getLogger(__name__)
APPROVE = Verdict.APPROVE.value


def lost(view: View, broker: Broker, request: AccessRequest, terms: Terms, vote: Approval) -> Refused | None:
    """Say why an approval does not count now, or None; its signature is checked elsewhere (`broker.issue`).

    1 who signed may act, with that account and passkey, and was not new · 2 the passkey is as strong as the step asks · 3 so is the
    deputation, and both of it may act · 4 the right to the step, and the institution that the vote was counted for.
    """
    refused = may_act(view, person_id=vote.person_id, account_id=vote.account_id, passkey_id=vote.passkey_id)  # 1
    if refused is not None:
        return Refused(Kind.FORBIDDEN, f"approver_{refused.code}", "An approver may not act now. Ask anew.", "approver")
    who = {"person_id": vote.person_id, "account_id": vote.account_id}
    if new_until(view, broker.site, **who, at=vote.given_at) is not None:
        return Refused(
            Kind.FORBIDDEN,
            "approver_account_new",
            "An approver's account was too new to approve this. Ask anew.",
            "approver",
        )
    approval = terms.approval
    if approval is None or not strong_enough(approval, vote.step, view.get(Passkey, vote.passkey_id)):  # 2
        return Refused(
            Kind.FORBIDDEN,
            "approver_credential_too_weak",
            "An approver's passkey is not strong enough. Ask anew.",
            "approver",
        )
    lent = deputies.verify(view, broker, vote, approval, requester=request.person_id)  # 3
    if lent is not None:
        return lent
    signer = register(view).persons.get(vote.person_id)
    moved = signer is None or signer.institution != vote.institution
    if moved or not may_have_signed(view, request, terms, vote):  # 4
        return Refused(
            Kind.FORBIDDEN, "approver_lost_right", "An approver may no longer approve this. Ask anew.", "approver"
        )
    return None


def drop(tx: Tx, broker: Broker, request: AccessRequest) -> int:
    """Drop the approvals of a pending request that do not count any more, and ask again for what is open then; return how many."""
    terms = Terms.from_document(request.terms)
    if request.state != RequestState.PENDING.value or terms.approval is None:
        return 0
    votes = votes_of(tx, request.id)
    gone = _gone(tx, broker, request, terms, votes)
    for vote, code in gone:
        event = tx.record(
            EventType.APPROVAL_LOST,
            subject={**subject_of(request), "approver": vote.person_id, "deputy_of": vote.deputy_of},
            body={"step": vote.step, "reason": code},
        )
        tx.update(vote, event, expect={"lost_at": None}, lost_at=tx.now)
    if gone:
        tell(tx, Notice.APPROVAL_LOST, request.person_id, request.id)
        tx.touch_register()  # what was counted of the days before, pictures among it, counted these
        ask_again(tx, broker, request, as_votes(votes_of(tx, request.id)), {vote.step for vote, _ in gone})
    return len(gone)


def _gone(
    view: View, broker: Broker, request: AccessRequest, terms: Terms, votes: Sequence[Approval]
) -> list[tuple[Approval, str]]:
    """Return the approvals that do not count now, and why; with them those of later steps, which were signed too early then."""
    found: list[tuple[Approval, str]] = []
    for vote in votes:
        refused = lost(view, broker, request, terms, vote) if vote.verdict == APPROVE else None
        if refused is not None:
            found.append((vote, refused.code))
    if not found or terms.approval is None:
        return found
    dropped = {vote.id for vote, _ in found}
    rest = [vote for vote in votes if vote.id not in dropped]
    given = as_votes(rest)
    early = {id(vote) for vote, _ in tally(terms.approval, requester=request.person_id, votes=given).refused}
    return [*found, *((vote, "too_early") for vote, one in zip(rest, given, strict=True) if id(one) in early)]


def drop_all(broker: Broker) -> int:
    """Drop what does not count any more of every request that waits; return how many. Each request in a transaction of its own.

    Called when the register changed: nobody waits for a signature that another one has to take the place of.
    """
    with broker.read() as view:
        signed = select(Approval.request_id).where(Approval.verdict == APPROVE, Approval.lost_at.is_(None))
        waiting = select(AccessRequest.id).where(
            AccessRequest.state == RequestState.PENDING.value,
            AccessRequest.approve_by > view.now,
            AccessRequest.id.in_(signed),
        )
        keys = view.rows(waiting).scalars().all()
    return sum(_drop_of(broker, key) for key in keys)


def _drop_of(broker: Broker, key: str) -> int:
    try:
        with broker.read() as view:
            request = view.require(AccessRequest, key)
            if not _gone(view, broker, request, Terms.from_document(request.terms), votes_of(view, key)):
                return 0
        with broker.begin(SYSTEM, lock=[(AccessRequest, key)]) as tx:
            return drop(tx, broker, tx.require(AccessRequest, key))
    except (
        JitError
    ) as error:  # a damaged row, or somebody was faster: it is refused where it is counted, and holds up no other
        log.warning("could not look at the signatures of a request anew (%s)", error.kind.value)
        return 0
