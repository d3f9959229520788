"""An approver signs the exact request, or refuses it with one tap (R19-R22, R24, R25).

The server builds the ApprovalStatement from the request's row and stores its exact bytes with the challenge. When the signature comes back
everything is derived anew: the approver's right, the request's state and time, the policy, and the statement itself. The quorum
is counted in one serialised transaction; two approvals in the same second make exactly one grant (T-07).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import cast

from sqlalchemy import select

from jitaccess.broker import asking, deputies, lost_votes, pace, reading
from jitaccess.broker.comments import as_texts, comment_problem
from jitaccess.broker.context import Broker, advance, subject_of
from jitaccess.broker.grants import create_grant, held
from jitaccess.broker.hold import HoldKind, place
from jitaccess.broker.request import redecide
from jitaccess.broker.votes import as_votes, decided_by_log, intact_votes_on, strong_enough, votes_of
from jitaccess.clock import from_epoch_us, to_epoch_s, to_epoch_us
from jitaccess.domain.approval import (
    LEAST_REFUSERS,
    ApprovalTerms,
    barred,
    both_able,
    could_sign,
    named,
    open_to,
    open_to_deputy,
    refusals,
    tally,
)
from jitaccess.domain.events import EventType
from jitaccess.domain.lifecycle import RequestState
from jitaccess.domain.values import Refused
from jitaccess.errors import JitError, Kind
from jitaccess.identity.enrolment import tell
from jitaccess.identity.passkeys import Ceremony, Response, VerifiedAssertion, begin_assertion, complete_assertion
from jitaccess.identity.people import is_auditor, may_act, register, too_new
from jitaccess.identity.sessions import Current
from jitaccess.policy.evaluate import Terms
from jitaccess.proof.assertion import Assertion
from jitaccess.proof.canonical import JsonValue, b64u_encode, sha256_b64u
from jitaccess.proof.errors import ProofError
from jitaccess.proof.quorum import Vote
from jitaccess.proof.statements import NONCE_BYTES, ApprovalStatement, Purpose, Verdict, differences
from jitaccess.store.db import Tx, View
from jitaccess.store.ids import new_bytes
from jitaccess.store.tables import AccessRequest, Approval, Asked, Base, Deputation, Grant, Outbox, Passkey, Person


@dataclass(frozen=True, slots=True)
class Approved:
    """An approval that was counted; with the grant when it was the last one needed."""

    request: AccessRequest
    approval: Approval
    grant: Grant | None
    open_steps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """What an approver may add to "approve"."""

    max_duration_s: int | None = None
    """A shorter time than the one asked for; None leaves it."""
    comment: str = ""
    """Words for the requester; kept beside the log, bound to it by a salted hash."""
    read_back: Mapping[str, str] = field(default_factory=dict)
    """The figures that the terms have read back, as the approver gave them."""
    opened: str = ""
    """The mark of the page that was opened (`broker.pace`)."""


@dataclass(frozen=True, slots=True)
class ApprovalFacts:
    """Everything that the approval page shows before anything is signed."""

    request: AccessRequest
    requester: Person
    approval: ApprovalTerms
    votes: tuple[Approval, ...]
    open_steps: tuple[str, ...]
    """Steps that this person may sign now."""
    mine: Approval | None
    """What this person said last."""
    deputation: Deputation | None = None
    """Under which this person would sign, where the right is not the person's own."""
    may_deny: bool = False
    """Whether this person may refuse it now, also after having approved it or before being asked."""
    overseen: bool = False
    """Whether this person sees it as an auditor alone: such a reading is noted (R71)."""


@dataclass(frozen=True, slots=True)
class Readable:
    """A request that somebody may read."""

    request: AccessRequest
    overseen: bool
    """Whether this person sees it as an auditor alone: such a reading is noted (R71)."""


UNCHANGED = Choice()


def statement_of(
    broker: Broker,
    request: AccessRequest,
    *,
    approver: str,
    credential_id: str,
    step: str,
    verdict: str,
    nonce: str,
    max_duration_s: int | None = None,
    deputation: Deputation | None = None,
) -> ApprovalStatement:
    """Build the statement from the request's row: at approval to be signed, at issue to be compared with what was signed.

    `max_duration_s` is the shorter time that this approver gives, as `shorter` allows it; None means what was asked for. Under a
    `deputation` the approver signs in its delegator's place.
    """
    return ApprovalStatement(
        instance=broker.site.instance_id,
        log_origin=broker.site.log_origin,
        request_id=request.id,
        requester=request.person_id,
        requester_assertion_digest=request.filing_assertion_digest,
        target=request.target,
        target_config_digest=request.target_config_digest,
        entitlement=request.entitlement,
        inputs=cast("dict[str, str | int | bool]", request.inputs),
        terms=cast("dict[str, JsonValue]", request.terms),
        policy_digest=request.policy_digest,
        holder_jkt=None,
        earliest_start=to_epoch_s(request.earliest_start),
        latest_end=to_epoch_s(request.latest_end),
        max_duration_s=max_duration_s or request.duration_s,
        approve_by=to_epoch_s(request.approve_by),
        approver=approver,
        credential_id=credential_id,
        step=step,
        verdict=verdict,
        nonce=nonce,
        extends=request.extends,
        deputy_of=deputation.delegator_id if deputation is not None else None,
        deputation_digest=deputies.digest_of(deputation) if deputation is not None else None,
    )


def shorter(request: AccessRequest, terms: Terms, seconds: int | None) -> int:
    """Return the duration that an approver may sign: `seconds` within the terms' least and what was asked for, else the latter."""
    if seconds is not None and terms.min_s <= seconds <= request.duration_s:
        return seconds
    return request.duration_s


def terms_of(request: AccessRequest) -> ApprovalTerms:
    """Return the approval terms of a request; raises INTERNAL for one that needs none."""
    approval = Terms.from_document(request.terms).approval
    if approval is None:
        raise JitError(Kind.CONFLICT, "This request needs no approval.")
    return approval


def facts(view: View, broker: Broker, request_id: str, current: Current) -> ApprovalFacts | Refused:
    """Return what the page shows; a person who has nothing to do with the request learns nothing (R25)."""
    request = view.get(AccessRequest, request_id) if len(request_id) <= 64 else None
    if request is None or Terms.from_document(request.terms).approval is None:
        return Refused(Kind.NOT_FOUND, "no_such_request", "There is no such request for you.")
    approval = terms_of(request)
    votes = votes_of(view, request.id)
    waited = _waited(request, view.now)
    signers = could_sign(approval, register=register(view), requester=request.person_id, waited_s=waited)
    me = current.person.id
    signs = any(me in people for people in signers.values())
    signs = signs or me in deputies.deputies_of(
        view, frozenset[str]().union(*signers.values()), approval, requester=request.person_id
    )
    involved = signs or me == request.person_id
    mine = next((vote for vote in reversed(votes) if vote.person_id == me), None)
    overseen = not involved and mine is None
    if overseen and not is_auditor(view, me):
        return Refused(Kind.NOT_FOUND, "no_such_request", "There is no such request for you.")
    waits = request.state == RequestState.PENDING.value and view.now < request.approve_by
    steps = _open_steps(view, request, approval, me, as_votes(votes)) if waits else ()
    requester = view.require(Person, request.person_id)
    may_deny = waits and signs and me != request.person_id
    return ApprovalFacts(
        request, requester, approval, tuple(votes), steps, mine, lent(view, request, me), may_deny, overseen
    )


def readable(view: View, broker: Broker, request_id: str, current: Current) -> Readable | Refused:
    """Return a request for whoever asked, signs for it or audits; also one that nobody has to sign for."""
    request = view.get(AccessRequest, request_id) if len(request_id) <= 64 else None
    if request is not None and request.person_id == current.person.id:
        return Readable(request, overseen=False)
    found = facts(view, broker, request_id, current)
    if not isinstance(found, Refused):
        return Readable(found.request, found.overseen)
    return Readable(request, overseen=True) if request is not None and is_auditor(view, current.person.id) else found


def _waited(request: AccessRequest, at: datetime) -> int:
    return asking.waited_s(request, terms_of(request), at)


def _open_steps(
    view: View, request: AccessRequest, approval: ApprovalTerms, person_id: str, votes: Sequence[Vote]
) -> tuple[str, ...]:
    """Return the steps that a person may sign now: by a right of the person's own, else in the place of somebody else."""
    return _seat(view, request, approval, person_id, votes)[0]


def lent(view: View, request: AccessRequest, person_id: str) -> Deputation | None:
    """Return the deputation under which a person signs this request now; None where the right is the person's own, or there is none."""
    approval = terms_of(request)
    if approval.deputies_s is None:
        return None
    return _seat(view, request, approval, person_id, as_votes(votes_of(view, request.id)))[1]


@dataclass(frozen=True, slots=True)
class _Read:
    """What was read at once for all the requests of a page."""

    asked: Mapping[str, Sequence[Asked]]
    lent: Sequence[Deputation]
    """Under which the person may sign now."""


def _seat(
    view: View,
    request: AccessRequest,
    approval: ApprovalTerms,
    person_id: str,
    votes: Sequence[Vote],
    read: _Read | None = None,
) -> tuple[tuple[str, ...], Deputation | None]:
    """Return the steps open to a person, by the register, the wait, and who was asked where no others may sign; and who lends the right."""
    waited = asking.waited_s(request, approval, view.now)
    asked = None
    if asking.narrowed(approval):
        asked = asking.by_step(asking.asked_of(view, request.id) if read is None else read.asked.get(request.id, ()))
    people, requester = register(view), request.person_id
    own = open_to(person_id, approval, register=people, requester=requester, votes=votes, waited_s=waited, asked=asked)
    if own or approval.deputies_s is None:
        return own, None
    lent = deputies.standing_in(view, person_id) if read is None else read.lent
    for found in deputies.short_enough(lent, approval):
        steps = open_to_deputy(
            person_id,
            found.delegator_id,
            approval,
            register=people,
            requester=requester,
            votes=votes,
            waited_s=waited,
            asked=asked,
        )
        steps = tuple(step for step in steps if deputies.lends(view, found, approval, step))
        if steps:
            return steps, found
    return (), None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request of which a person may sign a step now."""

    request: AccessRequest
    steps: tuple[str, ...]
    asked: bool
    """Whether this person was asked; others may sign too where the terms let them."""
    deputation: Deputation | None = None
    """Under which this person would sign, where the right is not the person's own."""


def inbox(view: View, broker: Broker, current: Current) -> list[AccessRequest]:
    """Return pending requests of which this person may sign a step now: those asked about first, then the most urgent."""
    return [found.request for found in waiting_for(view, current.person.id)]


@dataclass(frozen=True, slots=True)
class Inbox:
    """What waits for a person."""

    waiting: tuple[Waiting, ...] = ()
    damaged: tuple[str, ...] = ()
    """Requests that may concern the person and of which a record does not carry its seal: nobody can sign them, and they stop no other."""


def waiting_for(view: View, person_id: str) -> list[Waiting]:
    """Return what waits for a person, those asked about first, then the most urgent."""
    return list(inbox_of(view, person_id).waiting)


def inbox_of(view: View, person_id: str) -> Inbox:
    """Return what waits for a person; a few queries, however many requests wait, and whole rows only of what may concern the person.

    A request of which any record is damaged is left out, named and alarmed.
    """
    lent = deputies.standing_in(view, person_id)
    terms, unreadable = _concerning(view, frozenset({person_id, *(one.delegator_id for one in lent)}))
    if not terms:
        return Inbox(damaged=tuple(sorted(unreadable)))
    requests = view.all(select(AccessRequest).where(AccessRequest.id.in_(terms)).order_by(AccessRequest.approve_by))
    votes, of_votes = intact_votes_on(view, list(terms))
    asked, of_asking = asking.asked_on(view, [key for key, found in terms.items() if asking.narrowed(found)])
    damaged = unreadable | of_votes | of_asking
    read = _Read(asked, lent)
    told = set(
        view.rows(
            select(Outbox.subject_id).where(Outbox.person_id == person_id, Outbox.kind == "approval_wanted")
            .where(Outbox.subject_id.in_(terms))
        ).scalars()
    )  # fmt: skip
    found: list[Waiting] = []
    for request in requests:
        if request.id in damaged:
            continue
        given = as_votes(votes.get(request.id, ()))
        steps, deputation = _seat(view, request, terms[request.id], person_id, given, read)
        if steps:
            found.append(Waiting(request, steps, request.id in told, deputation))
    return Inbox(tuple(sorted(found, key=lambda waiting: not waiting.asked)), tuple(sorted(damaged)))


def _concerning(view: View, persons: frozenset[str]) -> tuple[Mapping[str, ApprovalTerms], frozenset[str]]:
    """Return id -> approval terms of the pending requests that name any of these persons for any step, escalated to or not; and the
    requests whose terms cannot be read: nobody knows whom they concern."""
    pending, unreadable = asking.pending_terms(view)
    concerns: dict[int, bool] = {}
    found: dict[str, ApprovalTerms] = {}
    for key, terms in pending.items():
        if id(terms) not in concerns:  # equal terms are one object
            concerns[id(terms)] = not named(terms, register=register(view)).isdisjoint(persons)
        if concerns[id(terms)]:
            found[key] = terms
    return found, unreadable


def begin_approval(
    tx: Tx, broker: Broker, current: Current, *, request_id: str, choice: Choice = UNCHANGED
) -> Ceremony | Refused:
    """Let an approver sign "approve" for the step that is open to this person, as asked or for a shorter time."""
    request = tx.get(AccessRequest, request_id) if len(request_id) <= 64 else None
    found = may_sign(tx, broker, current, request)
    if isinstance(found, Refused) or request is None:
        return refuse(tx, current, request, cast(Refused, found))
    wrong = _choice_problem(broker, request, choice)
    if wrong is not None:
        return wrong
    deputation = lent(tx, request, current.person.id)
    return _begin(
        tx, broker, current, request, step=found, verdict=Verdict.APPROVE, choice=choice, deputation=deputation
    )


def _choice_problem(broker: Broker, request: AccessRequest, choice: Choice) -> Refused | None:
    seconds = choice.max_duration_s
    terms = Terms.from_document(request.terms)
    if seconds is not None and not terms.min_s <= seconds <= request.duration_s:
        return Refused(
            Kind.INVALID,
            "duration_out_of_bounds",
            "Choose a time that is not longer than was asked for and not shorter than the rules allow.",
            "max_duration_s",
        )
    return reading.problem(request, terms, choice.read_back) or comment_problem(
        choice.comment, broker.settings.limits.reason_chars
    )


def _begin(
    tx: Tx,
    broker: Broker,
    current: Current,
    request: AccessRequest,
    *,
    step: str,
    verdict: Verdict,
    choice: Choice = UNCHANGED,
    deputation: Deputation | None = None,
) -> Ceremony:
    statement = statement_of(
        broker,
        request,
        approver=current.person.id,
        credential_id=current.passkey.credential_id,
        step=step,
        verdict=verdict.value,
        nonce=b64u_encode(new_bytes(NONCE_BYTES)),
        max_duration_s=choice.max_duration_s,
        deputation=deputation,
    )
    return begin_assertion(
        tx,
        broker.site,
        current,
        purpose=Purpose.APPROVAL.value,
        subject_id=request.id,
        statement=statement.to_bytes(),
        extra={
            "shortened": statement.max_duration_s < request.duration_s,
            "comment": choice.comment.strip(),
            "read_back": [*sorted(choice.read_back)],
            "opened_us": _opened_us(tx, broker, current, request, choice.opened),
        },
    )


def _opened_us(tx: Tx, broker: Broker, current: Current, request: AccessRequest, mark: str) -> int:
    """Return when the approver began to look, in microseconds: when the page was opened, else now."""
    return to_epoch_us(pace.opened_at(broker, mark, request.id, current.session.id, tx.now) or tx.now)


def may_sign(tx: Tx, broker: Broker, current: Current, request: AccessRequest | None) -> str | Refused:
    """Return the step that this person may sign now, derived anew from the register, or why not.

    1 the person may act, and the account is not new (R10) · 2 the request waits, in time (T-08), by the log as well ·
    3 nobody approves his own, through whatever account (R21, T-05) ·
    4 in a group or institution of a step that is open when only those are counted who still may sign (T-06) · 5 no hold stands in the
    way, the policy of now still permits it (R28), and who asked may still act ·
    6 with a passkey as strong as that step asks for (R6).
    """
    refused = may_act(
        tx, person_id=current.person.id, account_id=current.account.id, passkey_id=current.passkey.id
    )  # 1
    refused = refused or too_new(tx, broker.site, person_id=current.person.id, account_id=current.account.id)
    if refused is not None:
        return refused
    if request is None or Terms.from_document(request.terms).approval is None:
        return Refused(Kind.NOT_FOUND, "no_such_request", "There is no such request for you.")
    if request.person_id == current.person.id:  # 3, first: the answer must not depend on the request's state
        return Refused(Kind.FORBIDDEN, "own_request", "Nobody can approve their own request.")
    if request.state != RequestState.PENDING.value:  # 2
        return Refused(Kind.GONE, "not_pending", "This request was decided already.")
    if tx.now >= request.approve_by:
        return Refused(Kind.GONE, "too_late", "This request waited too long and has expired.")
    decided = decided_by_log(tx, request.id)  # 2, whatever the row says
    if decided is not None:
        return decided
    lost_votes.drop(tx, broker, request)  # 4, also of who signed before
    approval = terms_of(request)
    votes = as_votes(votes_of(tx, request.id))
    steps = _open_steps(tx, request, approval, current.person.id, votes)
    if not steps:
        if any(current.person.id in vote.persons for vote in votes):
            return Refused(Kind.CONFLICT, "already_signed", "You signed this already.")
        signers = could_sign(
            approval, register=register(tx), requester=request.person_id, waited_s=_waited(request, tx.now)
        )
        if asking.narrowed(approval) and open_to(
            current.person.id,
            replace(approval, reach=()),
            register=register(tx),
            requester=request.person_id,
            votes=votes,
        ):
            return Refused(Kind.FORBIDDEN, "not_asked", "Others were drawn by lot to answer this request.")
        if any(current.person.id in people for people in signers.values()):
            return Refused(
                Kind.CONFLICT, "not_your_turn", "Another signature is needed first, or your institution signed already."
            )
        return Refused(Kind.NOT_FOUND, "no_such_request", "There is no such request for you.")
    refused = held(tx, broker, request.target) or redecide(tx, broker, request) or _requester(tx, request)  # 5
    if refused is not None:
        return refused
    return next((step for step in steps if strong_enough(approval, step, current.passkey)), None) or TOO_WEAK  # 6


def _requester(view: View, request: AccessRequest) -> Refused | None:
    """Say that who asked may not act now, with the account and passkey that filed: nothing could be opened."""
    refused = may_act(
        view, person_id=request.person_id, account_id=request.account_id, passkey_id=request.filing_passkey_id
    )
    if refused is None:
        return None
    return Refused(
        refused.kind, f"requester_{refused.code}", "Who asked for this may not act now, so it cannot be approved."
    )


TOO_WEAK = Refused(
    Kind.FORBIDDEN,
    "credential_too_weak",
    "Policy asks for a passkey that stays in one device to sign this. Sign in with such a one.",
    "credential_id",
)


def lock_of(broker: Broker, request_ids: Sequence[str]) -> list[tuple[type[Base], str]]:
    """Return the rows to lock for counting approvals: the requests', and their requesters'.

    What one person holds is counted over all requests: two that are kept apart must not be granted at the same instant, each without
    seeing the other. Filing locks the same row. On SQLite there is one writer anyway.
    """
    keys = sorted({key for key in request_ids if len(key) <= 64})
    with broker.read() as view:
        whose = select(AccessRequest.person_id).where(AccessRequest.id.in_(keys))
        people = sorted(set(view.rows(whose).scalars())) if keys else []
    return [*((AccessRequest, key) for key in keys), *((Person, key) for key in people)]


def complete_approval(
    tx: Tx, broker: Broker, current: Current, *, request_id: str, challenge_id: str, response: Response
) -> Approved | Refused:
    """Count a signed approval. Call it in a Tx that locks the rows of `lock_of`.

    1 the signature, over the stored bytes · 2 the right to sign, derived anew · 3 the bytes are what the row says now, field by field ·
    4 stored with its evidence · 5 counted; met, the request is approved and its grant written in the same transaction.
    """
    verified = complete_assertion(
        tx, broker.site, current, purpose=Purpose.APPROVAL.value, challenge_id=challenge_id, response=response
    )  # 1
    request = tx.get(AccessRequest, request_id) if len(request_id) <= 64 else None
    if isinstance(verified, Refused):
        return refuse(tx, current, request, verified)
    step = may_sign(tx, broker, current, request)  # 2
    if isinstance(step, Refused) or request is None:
        return refuse(tx, current, request, cast(Refused, step))
    statement = _signed(verified)
    added = cast("dict[str, JsonValue]", verified.extra)
    other = not_as_shown(
        broker,
        request,
        statement,
        passkey=verified.passkey,
        step=step,
        shortened=bool(added["shortened"]),
        deputation=lent(tx, request, current.person.id),
    )  # 3
    if other is not None:
        return refuse(tx, current, request, other)
    unread = sorted(
        set(reading.due(request, Terms.from_document(request.terms))) - set(cast("list[str]", added["read_back"]))
    )
    if unread:
        return refuse(tx, current, request, _not_read(unread[0]))
    broker.verified.learn(verified)
    signing = Signing(verified.passkey, verified.statement or b"", statement, cast(JsonValue, verified.assertion))
    opened = from_epoch_us(cast(int, added["opened_us"]))
    pace.note(tx, broker, person_id=current.person.id, request_id=request.id, verdict=Verdict.APPROVE, opened=opened)
    return count_in(tx, broker, current, request, signing, comment=str(added["comment"]))  # 4, 5


def not_as_shown(
    broker: Broker,
    request: AccessRequest,
    statement: ApprovalStatement,
    *,
    passkey: Passkey,
    step: str,
    shortened: bool = False,
    deputation: Deputation | None = None,
) -> Refused | None:
    """Compare what was signed, field by field, with what the request's row gives now for this person and step."""
    wanted = statement_of(
        broker,
        request,
        approver=passkey.person_id,
        credential_id=passkey.credential_id,
        step=step,
        verdict=Verdict.APPROVE.value,
        nonce=statement.nonce,
        max_duration_s=shorter(
            request, Terms.from_document(request.terms), statement.max_duration_s if shortened else None
        ),
        deputation=deputation,
    )
    fields = differences(statement, wanted)
    if not fields:
        return None
    return Refused(
        Kind.CONFLICT, "differs_from_signed", "The request is not the one that was shown. Look again.", fields[0]
    )


@dataclass(frozen=True, slots=True)
class Signing:
    """An approval whose signature and rights the caller has checked: by itself, or as one of a set."""

    passkey: Passkey
    data: bytes
    """The exact bytes of the statement."""
    statement: ApprovalStatement
    assertion: JsonValue
    set_id: str | None = None


def count_in(
    tx: Tx, broker: Broker, current: Current, request: AccessRequest, signing: Signing, *, comment: str = ""
) -> Approved:
    """Store an approval with its evidence and count; met, the request is approved and its grant written in this transaction."""
    approval = _store(tx, current, request, signing, comment=comment)
    votes = votes_of(tx, request.id)
    count = tally(terms_of(request), requester=request.person_id, votes=as_votes(votes))
    if not count.met:
        asking.ask_open(tx, broker, request, as_votes(votes))
        return Approved(request, approval, None, count.open_steps)
    approvals = [vote for vote in votes if vote.verdict == Verdict.APPROVE.value]
    advance(
        tx, request, RequestState.APPROVED, body={"approvals": len(approvals), "automatic": False}, decided_at=tx.now
    )
    return Approved(request, approval, create_grant(tx, broker, request, approvals), ())


def _not_read(figure: str) -> Refused:
    """The figure became due after the ceremony began: the request's row was changed meanwhile."""
    return Refused(
        Kind.CONFLICT, "read_back", "Look at the request again and give the figure back.", f"read_back.{figure}"
    )


def _signed(verified: VerifiedAssertion) -> ApprovalStatement:
    try:
        return ApprovalStatement.parse(verified.statement or b"")
    except ProofError as error:
        raise JitError(Kind.INTERNAL, "The stored statement cannot be read.") from error


def _store(tx: Tx, current: Current, request: AccessRequest, signing: Signing, *, comment: str) -> Approval:
    statement = signing.statement
    added: dict[str, JsonValue] = {}
    if statement.max_duration_s < request.duration_s:
        added["max_duration_s"] = statement.max_duration_s
    deputation = lent(tx, request, current.person.id) if statement.deputy_of is not None else None
    read = reading.due(request, Terms.from_document(request.terms))
    if read:
        added["read_back"] = [*sorted(read)]
    event = tx.record(
        EventType.APPROVAL_SIGNED,
        subject={
            **subject_of(request),
            "approver": current.person.id,
            "passkey": signing.passkey.id,
            "approval_set": signing.set_id,
            "deputy_of": statement.deputy_of,
        },
        body={
            "step": statement.step,
            "institution": current.person.institution,
            "statement": sha256_b64u(signing.data),
            "assertion": Assertion.from_json(signing.assertion).digest(),
            "policy_digest": request.policy_digest,
            **added,
        },
        texts=as_texts(comment),
    )
    return tx.insert(
        Approval,
        event,
        id=tx.new_id(),
        request_id=request.id,
        person_id=current.person.id,
        account_id=current.account.id,
        institution=current.person.institution,
        step=statement.step,
        verdict=statement.verdict,
        passkey_id=signing.passkey.id,
        statement=signing.data,
        assertion=signing.assertion,
        given_at=tx.now,
        signed_at=tx.now,
        set_id=signing.set_id,
        deputy_of=statement.deputy_of,
        deputation_id=deputation.id if deputation is not None else None,
    )


# ---------------------------------------------------------------- refusing


def deny(
    tx: Tx, broker: Broker, current: Current, request_id: str, *, comment: str = "", mark: str = ""
) -> AccessRequest | Refused:
    """Refuse a request with one tap: it takes effect at once; its signature is asked for afterwards (design.md section 5a).

    Refusing is never harder than granting: whoever could sign any step may, in whatever order, also after having approved.
    """
    request = tx.get(AccessRequest, request_id) if len(request_id) <= 64 else None
    refused = may_act(tx, person_id=current.person.id, account_id=current.account.id)
    if refused is not None:
        return refuse(tx, current, request, refused)
    nothing = Refused(Kind.NOT_FOUND, "no_such_request", "There is no such request for you.")
    if request is None or Terms.from_document(request.terms).approval is None:
        return nothing
    signers = could_sign(
        terms_of(request), register=register(tx), requester=request.person_id, waited_s=_waited(request, tx.now)
    )
    step = next((name for name, people in signers.items() if current.person.id in people), None)
    deputation = None if step is not None else _standing(tx, request, signers, current.person.id)
    if deputation is not None:
        step = next((name for name, people in signers.items() if deputation.delegator_id in people), None)
    if step is None:
        return refuse(tx, current, request, nothing)
    if request.state != RequestState.PENDING.value:
        return Refused(Kind.GONE, "not_pending", "This request was decided already.")
    wrong = comment_problem(comment, broker.settings.limits.reason_chars)
    if wrong is not None:
        return wrong
    _store_denial(tx, current, request, step, deputation, comment)
    opened = pace.opened_at(broker, mark, request.id, current.session.id, tx.now)
    if opened is not None:
        pace.note(tx, broker, person_id=current.person.id, request_id=request.id, verdict=Verdict.DENY, opened=opened)
    advance(tx, request, RequestState.DENIED, body={"by": "approver"}, decided_at=tx.now)
    tell(tx, "request_decided", request.person_id, request.id)
    _hold_if_refused_often(tx, broker, request.person_id)
    return request


def _store_denial(
    tx: Tx, current: Current, request: AccessRequest, step: str, deputation: Deputation | None, comment: str
) -> None:
    """Store a refusal as a vote of its own, beside an approval that the same person may have given before (ADR 0050)."""
    before = any(vote.person_id == current.person.id for vote in votes_of(tx, request.id))
    event = tx.record(
        EventType.DENIAL_GIVEN,
        subject={**subject_of(request), "approver": current.person.id},
        body={"step": step, "signed": False, "after_approval": before},
        texts=as_texts(comment),
    )
    tx.insert(
        Approval,
        event,
        id=tx.new_id(),
        request_id=request.id,
        person_id=current.person.id,
        account_id=current.account.id,
        institution=current.person.institution,
        step=step,
        verdict=Verdict.DENY.value,
        given_at=tx.now,
        deputy_of=deputation.delegator_id if deputation is not None else None,
        deputation_id=deputation.id if deputation is not None else None,
    )


def _standing(
    view: View, request: AccessRequest, signers: Mapping[str, frozenset[str]], person_id: str
) -> Deputation | None:
    """Return the deputation under which a person may refuse a request: of anybody who could sign any step of it."""
    approval, people = terms_of(request), register(view)
    if approval.deputies_s is None or person_id in barred(request.person_id, register=people, never=approval.never):
        return None
    able = frozenset[str]().union(*signers.values())
    found = deputies.short_enough(deputies.standing_in(view, person_id), approval)
    return next(
        (one for one in found if one.delegator_id in able and both_able(people, one.delegator_id, person_id)), None
    )


def _hold_if_refused_often(tx: Tx, broker: Broker, person_id: str) -> None:
    """Put a requester on hold whom approvers refused as often within a day as the limit says (R26); releasing takes signatures.

    One approver alone can put nobody on hold: administrators are told instead, once.
    """
    denials = tx.rows(
        select(Approval.request_id, Approval.person_id)
        .join(AccessRequest, AccessRequest.id == Approval.request_id)
        .where(
            AccessRequest.person_id == person_id,
            Approval.verdict == Verdict.DENY.value,
            Approval.given_at > tx.now - timedelta(days=1),
        )
    )
    limit = broker.settings.limits.denials_before_hold
    refused = refusals({(request, approver) for request, approver in denials})
    if refused.requests < limit:
        return
    if refused.approvers >= LEAST_REFUSERS:
        _alarm(tx, person_id, "refused_often", refused.requests)
        place(tx, broker, kind=HoldKind.PERSON, subject_id=person_id, cause="refused often", by="limits")
    elif refused.requests == limit:
        _alarm(tx, person_id, "refused_often_by_one", refused.requests)


def _alarm(tx: Tx, person_id: str, what: str, count: int) -> None:
    tx.record(EventType.ALARM_RAISED, subject={"person": person_id}, body={"what": what, "count": count})


def begin_denial_signature(tx: Tx, broker: Broker, current: Current, request_id: str) -> Ceremony | Refused:
    """Let a person sign the denial given before."""
    found = _my_unsigned_denial(tx, current, request_id)
    if found is None:
        return Refused(Kind.NOT_FOUND, "no_such_denial", "There is no denial of yours that waits for a signature.")
    request, approval = found
    deputation = tx.get(Deputation, approval.deputation_id)
    return _begin(tx, broker, current, request, step=approval.step, verdict=Verdict.DENY, deputation=deputation)


def complete_denial_signature(
    tx: Tx, broker: Broker, current: Current, *, request_id: str, challenge_id: str, response: Response
) -> Approval | Refused:
    """Put the signature under a denial; it changes nothing else."""
    verified = complete_assertion(
        tx, broker.site, current, purpose=Purpose.APPROVAL.value, challenge_id=challenge_id, response=response
    )
    if isinstance(verified, Refused):
        return verified
    found = _my_unsigned_denial(tx, current, request_id)
    statement = _signed(verified)
    if found is None or statement.verdict != Verdict.DENY.value or statement.request_id != request_id:
        return Refused(Kind.CONFLICT, "no_such_denial", "There is no denial of yours that waits for a signature.")
    request, approval = found
    event = tx.record(
        EventType.DENIAL_SIGNED,
        subject={**subject_of(request), "approver": current.person.id, "passkey": verified.passkey.id},
        body={"statement": sha256_b64u(verified.statement or b"")},
    )
    tx.update(
        approval,
        event,
        passkey_id=verified.passkey.id,
        statement=verified.statement,
        assertion=cast(JsonValue, verified.assertion),
        signed_at=tx.now,
    )
    return approval


def _my_unsigned_denial(view: View, current: Current, request_id: str) -> tuple[AccessRequest, Approval] | None:
    request = view.get(AccessRequest, request_id) if len(request_id) <= 64 else None
    if request is None:
        return None
    for vote in votes_of(view, request_id):
        if vote.person_id == current.person.id and vote.verdict == Verdict.DENY.value and vote.signed_at is None:
            return request, vote
    return None


def refuse(tx: Tx, current: Current, request: AccessRequest | None, refused: Refused) -> Refused:
    """Record a refusal to take an approval, with its code and field."""
    subject = subject_of(request) if request is not None else {}
    tx.record(
        EventType.APPROVAL_REFUSED,
        subject={**subject, "approver": current.person.id},
        body={"reason": refused.code, "field": refused.field},
    )
    return refused
