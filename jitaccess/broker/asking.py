"""Who is asked to sign, how many at once, and who next? Draws by lot, limits against prompt bombing, escalation (R26).

Being asked gives no right by itself: a right comes from the terms and the register of now. Only where a step lets no others sign does
the sealed record of who was asked narrow it. Nothing here lowers a count: a limit postpones a notice, or refuses a new request and
says so; escalation brings more people. The wait is reckoned within what the requester signed, never from a row's own time alone.
"""

import json
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from sqlalchemy import ColumnElement, Text, bindparam, func, select, type_coerce

from jitaccess.broker.context import Broker, subject_of
from jitaccess.broker.deputies import deputies_of
from jitaccess.broker.votes import as_votes, votes_of
from jitaccess.clock import from_epoch_s, to_epoch_s
from jitaccess.domain.approval import ApprovalTerms, could_sign, signers_of, tally
from jitaccess.domain.events import EventType
from jitaccess.domain.lifecycle import RequestState
from jitaccess.domain.register import RegisterView
from jitaccess.domain.values import SYSTEM, Refused
from jitaccess.errors import JitError, Kind
from jitaccess.identity.enrolment import tell
from jitaccess.identity.people import register
from jitaccess.policy.evaluate import Terms
from jitaccess.proof.canonical import JsonValue
from jitaccess.proof.quorum import Step, Tally, Vote
from jitaccess.proof.statements import FilingStatement
from jitaccess.store.db import Tx, View
from jitaccess.store.find import Count
from jitaccess.store.tables import AccessRequest, Approval, Asked, Outbox

log = logging.getLogger(__name__)
DEFAULT_PENDING_S = 3600
"""How long a request waits where no rule says it."""
CEREMONY_S = 300
"""How long a filing may take at most (R3)."""
KEPT_BACK = timedelta(hours=1)
"""How long a notice above the limits waits at most; never longer than half of the time in which it is of use."""
WAITING = Count(
    select(
        func.count().filter(AccessRequest.person_id == bindparam("person_id")),
        func.count().filter(AccessRequest.target == bindparam("target")),
    ).where(AccessRequest.state == RequestState.PENDING.value, AccessRequest.approve_by > bindparam("now"))
)
"""Requests that wait: of one person, and for one target."""
WITHDRAWN = Count(
    select(func.count()).where(
        AccessRequest.person_id == bindparam("person_id"),
        AccessRequest.state == RequestState.WITHDRAWN.value,
        AccessRequest.decided_at > bindparam("since"),
    )
)
"""Requests that one person took back lately: they count like waiting ones, or taking back would be a way around every limit."""
WITHDRAWN_COUNTS = timedelta(hours=1)
LOT = "lot"
"""What the order of a lot is derived for, under the seal key."""
LOT_LASTS_S = 86_400
COUNTED_AT_ONCE = 500
"""People whose notices one read counts."""
NAMED_AT_MOST = 50
"""Ids of people that an event's body lists; the sealed row lists all."""


def pending_s(terms: Terms) -> int:
    """Return how long a request under these terms waits."""
    return terms.pending_s or DEFAULT_PENDING_S


def waited_s(request: AccessRequest, approval: ApprovalTerms | None, at: datetime) -> int:
    """Return how many seconds a request had waited at an instant; 0 where nothing depends on it.

    It waits from its row's time, which counts only within the ceremony whose end the requester signed as `file_by`.
    """
    first_s = (
        min((part.after_s for reach in approval.reach for part in reach.escalate), default=None) if approval else None
    )
    if first_s is None:
        return 0
    by_row_s = max(0, to_epoch_s(at) - to_epoch_s(request.created_at))
    if by_row_s < first_s:
        return (
            by_row_s  # no escalation is due: nothing has to be looked up, and a row set to a later time only takes away
        )
    return to_epoch_s(at) - _filed_s(request)


def _filed_s(request: AccessRequest) -> int:
    file_by = FilingStatement.parse(request.filing_statement).file_by
    return min(max(to_epoch_s(request.created_at), file_by - CEREMONY_S), file_by)


def first_escalation(terms: Terms, filed_at: datetime) -> datetime | None:
    """Return when the first escalation of a new request is due."""
    return _next_escalation(terms, to_epoch_s(filed_at), waited=-1)


def _next_escalation(terms: Terms, filed_s: int, *, waited: int) -> datetime | None:
    reaches = terms.approval.reach if terms.approval is not None else ()
    later = [part.after_s for reach in reaches for part in reach.escalate if part.after_s > waited]
    return from_epoch_s(filed_s + min(later)) if later else None


# ---------------------------------------------------------------- who was asked


def asked_of(view: View, request_id: str) -> list[Asked]:
    """Return who was asked about a request, in order; raises SEAL_BROKEN."""
    return view.all(select(Asked).where(Asked.request_id == request_id).order_by(Asked.asked_at, Asked.id))


def pending_terms(view: View) -> tuple[Mapping[str, ApprovalTerms], frozenset[str]]:
    """Return id -> approval terms of the requests that wait; and those whose terms cannot be read, alarmed.

    Requests for the same right carry the same terms, letter for letter: they are read once, and are one object.
    """
    known: dict[str, ApprovalTerms | None] = {}
    found: dict[str, ApprovalTerms] = {}
    unreadable: set[str] = set()
    pending = (AccessRequest.state == RequestState.PENDING.value, AccessRequest.approve_by > view.now)
    for key, text in view.rows(select(AccessRequest.id, type_coerce(AccessRequest.terms, Text)).where(*pending)):
        if text not in known:
            try:
                known[text] = Terms.from_document(json.loads(text)).approval
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                unreadable.add(key)
                view.broken(AccessRequest, key)
                continue
        approval = known[text]
        if approval is not None:
            found[key] = approval
    return found, frozenset(unreadable)


def asked_on(view: View, request_ids: Sequence[str]) -> tuple[Mapping[str, Sequence[Asked]], frozenset[str]]:
    """Return the same for several requests in one read: request id -> in order; and the requests of which a row does not carry its
    seal: those are alarmed."""
    found: dict[str, list[Asked]] = {}
    damaged: set[str] = set()
    if request_ids:
        wanted = select(Asked).where(Asked.request_id.in_(request_ids)).order_by(Asked.asked_at, Asked.id)
        for row in view.unchecked_all(wanted):
            if view.whole(row):
                found.setdefault(row.request_id, []).append(row)
            else:
                damaged.add(row.request_id)
    return found, frozenset(damaged)


def by_step(asked: Sequence[Asked]) -> Mapping[str, frozenset[str]]:
    """Return step -> everybody who was ever asked for it."""
    found: dict[str, frozenset[str]] = {}
    for row in asked:
        found[row.step] = found.get(row.step, frozenset()) | frozenset(cast("list[str]", row.people))
    return found


def narrowed(approval: ApprovalTerms) -> bool:
    """Say whether some step lets only those sign who were asked."""
    return any(not reach.others for reach in approval.reach)


def may_have_signed(view: View, request: AccessRequest, terms: Terms, vote: Approval) -> bool:
    """Say whether a person, by the register of now, had the right to the step that was signed when it was signed.

    Of a deputy's signature it is the right of the one in whose place it was given; `deputies.verify` looks at the deputy.
    """
    approval = terms.approval
    step = next((step for step in approval.steps if step.name == vote.step), None) if approval is not None else None
    if approval is None or step is None:
        return False
    waited = waited_s(request, approval, vote.given_at)
    able = signers_of(step, approval, register=register(view), requester=request.person_id, waited_s=waited)
    whose = vote.deputy_of or vote.person_id
    if whose not in able:
        return False
    return approval.reach_of(step.name).others or whose in by_step(asked_of(view, request.id)).get(
        step.name, frozenset()
    )


# ---------------------------------------------------------------- limits


def crowded(view: View, broker: Broker, terms: Terms, *, person_id: str, target: str) -> Refused | None:
    """Say why one more request cannot be taken now, or None: too many are open of the requester, for the target, or
    the requester's own fill what all who could sign have to bear."""
    if terms.approval is None:
        return None  # it does not wait, and asks nobody
    limits = broker.settings.limits
    mine, theirs = view.count(WAITING, now=view.now, person_id=person_id, target=target)
    (withdrawn,) = view.count(WITHDRAWN, person_id=person_id, since=view.now - WITHDRAWN_COUNTS)
    if mine + withdrawn >= limits.open_per_requester:
        return Refused(
            Kind.RATE_LIMITED,
            "too_many_open",
            "You have as many requests waiting, or withdrawn within the hour, as is allowed. Wait until one is answered.",
        )
    if theirs >= limits.open_per_target:
        return Refused(
            Kind.RATE_LIMITED,
            "target_busy",
            "Too many requests for this system wait already. Try again when some were answered.",
        )
    signers = could_sign(terms.approval, register=register(view), requester=person_id)
    for step in terms.approval.steps:
        people = signers[step.name]
        # Others' requests close the way to nobody: above an approver's limits their notices wait. Who fills it himself is refused.
        if step.after is None and people and people <= _filled(view, broker, people, person_id):
            return Refused(
                Kind.RATE_LIMITED,
                "approvers_busy",
                "You have asked everybody who could sign this very often. Try again in an hour, or call one of them.",
            )
    return None


def _parts(people: frozenset[str]) -> Iterator[frozenset[str]]:
    """Give people in parts that are counted at once."""
    order = sorted(people)
    for start in range(0, len(order), COUNTED_AT_ONCE):
        yield frozenset(order[start : start + COUNTED_AT_ONCE])


def told_often(view: View, people: frozenset[str], kind: str, limit: int) -> frozenset[str]:
    """Return who was told of as many things of a kind within the hour as is allowed."""
    told = select(Outbox.person_id, func.count(Outbox.subject_id.distinct())).group_by(Outbox.person_id)
    found: set[str] = set()
    for part in _parts(people):
        lately = told.where(
            Outbox.kind == kind,
            Outbox.person_id.in_(sorted(part)),
            Outbox.created_at > view.now - timedelta(hours=1),
        )
        found |= {person for person, count in view.rows(lately) if count >= limit}
    return frozenset(found)


_Load = Mapping[str, Mapping[str, int]]
"""Approver -> requester -> requests."""


def _told(view: View, people: frozenset[str]) -> _Load:
    """Return of how many requests of whom each was told within the hour, or will be when what was kept back leaves."""
    return _load(view, people, Outbox.created_at > view.now - timedelta(hours=1))


def _waiting(view: View, people: frozenset[str]) -> _Load:
    """Return about how many requests of whom each was asked that still wait."""
    return _load(view, people, AccessRequest.state == RequestState.PENDING.value, AccessRequest.approve_by > view.now)


def _load(view: View, people: frozenset[str], *which: ColumnElement[bool]) -> _Load:
    asked = (
        select(Outbox.person_id, AccessRequest.person_id, func.count(Outbox.subject_id.distinct()))
        .join(AccessRequest, AccessRequest.id == Outbox.subject_id)
        .where(Outbox.kind == "approval_wanted", *which)
        .group_by(Outbox.person_id, AccessRequest.person_id)
    )
    found: dict[str, dict[str, int]] = {}
    for part in _parts(people):
        for approver, requester, count in view.rows(asked.where(Outbox.person_id.in_(sorted(part)))):
            found.setdefault(approver, {})[requester] = count
    return found


def _busy(view: View, broker: Broker, people: frozenset[str], requester: str) -> frozenset[str]:
    """Return whose notice of one more request has to wait: above a limit of theirs, or told of many of this requester's within the hour.

    What one requester's notices may take of an approver's hour is bounded, so that he keeps nobody else's back.
    """
    limits = broker.settings.limits
    share = limits.messages_per_requester_hour
    found = {
        approver
        for approver, of in _told(view, people).items()
        if of.get(requester, 0) >= share
        or sum(min(count, share) for count in of.values()) >= limits.messages_per_approver_hour
    }
    waiting = _waiting(view, people - found)
    return frozenset(
        found | {approver for approver, of in waiting.items() if sum(of.values()) >= limits.open_per_approver}
    )


def _filled(view: View, broker: Broker, people: frozenset[str], requester: str) -> frozenset[str]:
    """Return who is at a limit of which this requester's own requests take half or more."""
    limits = broker.settings.limits
    found = _fills(_told(view, people), requester, limits.messages_per_approver_hour)
    return found | _fills(_waiting(view, people - found), requester, limits.open_per_approver)


def _fills(load: _Load, requester: str, limit: int) -> frozenset[str]:
    return frozenset(
        approver for approver, of in load.items() if sum(of.values()) >= limit and 2 * of.get(requester, 0) >= limit
    )


# ---------------------------------------------------------------- asking


@dataclass(frozen=True, slots=True)
class _Turn:
    """People whose turn it is to be asked about a step, and how they came to it."""

    step: Step
    how: str
    people: list[str]
    number: int


def ask_open(tx: Tx, broker: Broker, request: AccessRequest, votes: Sequence[Vote]) -> int:
    """Ask those whose turn it is and who were not asked yet; return how many. Call it whenever a request is filed, signed, or due."""
    turns = _turns(tx, broker, request, votes)
    return sum(_ask(tx, broker, request, turn.step, turn.how, turn.people, number=turn.number) for turn in turns)


def _turns(view: View, broker: Broker, request: AccessRequest, votes: Sequence[Vote]) -> list[_Turn]:
    """Return whose turn it is, and who were not asked yet.

    1 the open steps · 2 at first: everybody, or those drawn · 3 in the place of who was drawn and cannot sign any more, the next in the
    order of the same lot (ADR 0051) · 4 later: whom an escalation that fell due adds.
    """
    approval = Terms.from_document(request.terms).approval
    if approval is None:
        return []
    count = tally(approval, requester=request.person_id, votes=votes)
    known = asked_of(view, request.id)
    waited = waited_s(request, approval, view.now)
    people = register(view)
    found: list[_Turn] = []
    for step in approval.steps:
        if step.name not in count.open_steps:  # 1
            continue
        rows = [row for row in known if row.step == step.name]
        before = by_step(rows).get(step.name, frozenset())
        able = _free(approval, people, request, count, signers_of(
            step, approval, register=people, requester=request.person_id, waited_s=waited
        ))  # fmt: skip
        now = signers_of(step, approval, register=people, requester=request.person_id, waited_s=0) & able
        turns: list[tuple[str, list[str]]] = []
        if not rows:  # 2
            turns.append(_first(approval, step, _drawn_order(broker, request, step, now), people))
        elif approval.reach_of(step.name).people is not None:  # 3
            places = len(cast("list[str]", rows[0].people)) - count.per_step.get(step.name, 0) - len(before & able)
            order = _apart(approval, _drawn_order(broker, request, step, now - before), people, before & able)
            if places > 0 and order:
                turns.append(("drawn", sorted(order[:places])))
        before = before.union(*(asked for _, asked in turns))
        groups = approval.escalated(step.name, waited)
        added = frozenset(p for group in groups for p in people.members(group)) & able - before  # 4
        if added:
            turns.append(("escalated", sorted(added)))
        found += [_Turn(step, how, asked, len(rows) + number) for number, (how, asked) in enumerate(turns)]
    return found


def ask_again(tx: Tx, broker: Broker, request: AccessRequest, votes: Sequence[Vote], steps: Collection[str]) -> int:
    """Ask anew about steps that were signed and are open again (ADR 0062); return how many people. Call it after the votes are gone.

    1 who was asked before and may still sign is told again · 2 where everybody is asked, whoever may sign by now is asked too ·
    3 the rest as ever: where a lot was drawn, others take the places of those who may not.
    """
    terms = Terms.from_document(request.terms)
    approval = terms.approval
    if approval is None:
        return 0
    count = tally(approval, requester=request.person_id, votes=votes)
    people, waited = register(tx), waited_s(request, approval, tx.now)
    total = 0
    for step in approval.steps:
        if step.name not in steps or step.name not in count.open_steps:
            continue
        rows = [row for row in asked_of(tx, request.id) if row.step == step.name]
        before = by_step(rows).get(step.name, frozenset())
        able = _free(approval, people, request, count, signers_of(
            step, approval, register=people, requester=request.person_id, waited_s=waited
        ))  # fmt: skip
        for person in sorted(before & able):  # 1
            tell(tx, "approval_wanted", person, request.id)
        total += len(before & able)
        if approval.reach_of(step.name).people is None and able - before:  # 2
            total += _ask(tx, broker, request, step, "everybody", sorted(able - before), number=len(rows))
    # A step that is open now for the first time is asked as ever; one that is closed again waits for its turn.
    return total + ask_open(tx, broker, request, votes)  # 3


def redraw(broker: Broker) -> int:
    """Ask others in the place of who was drawn by lot and cannot sign any more; return about how many requests.

    Called when the register changed. Each request in a transaction of its own; a damaged one holds up no other.
    """
    with broker.read() as view:
        terms, _ = pending_terms(view)
    by_lot = [key for key, found in terms.items() if any(reach.people is not None for reach in found.reach)]
    return sum(_redraw(broker, key) for key in by_lot)


def _redraw(broker: Broker, key: str) -> bool:
    try:
        with broker.read() as view:
            request = view.require(AccessRequest, key)
            if not _turns(view, broker, request, as_votes(votes_of(view, key))):
                return False
        with broker.begin(SYSTEM, lock=[(AccessRequest, key)]) as tx:
            request = tx.require(AccessRequest, key)
            if request.state != RequestState.PENDING.value or tx.now >= request.approve_by:
                return False
            return ask_open(tx, broker, request, as_votes(votes_of(tx, key))) > 0
    except JitError as error:
        log.warning("could not look at who was drawn for a request (%s)", error.kind.value)
        return False


def _free(
    approval: ApprovalTerms, people: RegisterView, request: AccessRequest, count: Tally, able: frozenset[str]
) -> frozenset[str]:
    """Return who of the able could still add a signature that counts."""
    signed = frozenset[str]().union(*(vote.persons for vote in count.counted))
    institutions = {vote.institution for vote in count.counted} if "institution" in approval.distinct else set()
    return frozenset(p for p in able - signed if people.persons[p].institution not in institutions)


def _drawn_order(broker: Broker, request: AccessRequest, step: Step, able: frozenset[str]) -> list[str]:
    """Return the able in the order of the lot: the same all day (UTC) for one person, right and step (ADR 0051).

    Nobody without the seal key can foresee it, and whoever withdraws and asks again meets the same people.
    """
    about = f"{request.person_id}/{request.target}/{request.entitlement}/{step.name}"
    return in_order_of_lot(broker, request.created_at, about, able)


def in_order_of_lot(broker: Broker, at: datetime, about: str, people: frozenset[str]) -> list[str]:
    """Return people in an order that stays the same all day (UTC) for one thing, and that the seal key alone can foresee."""
    day = to_epoch_s(at) // LOT_LASTS_S
    return sorted(people, key=lambda person: broker.db.seals.make(LOT, about, day, "", person))


def _first(approval: ApprovalTerms, step: Step, order: list[str], people: RegisterView) -> tuple[str, list[str]]:
    """Return how a step asks at first, and whom: everybody, or as many of an order as the terms draw.

    With distinct institutions the lot falls on different ones first, so that those who were drawn can meet the step by themselves.
    """
    wanted = approval.reach_of(step.name).people
    if wanted is None or wanted >= len(order):
        return "everybody", sorted(order)
    order = _apart(approval, order, people, frozenset())
    return "drawn", sorted(order[:wanted])


def _apart(approval: ApprovalTerms, order: list[str], people: RegisterView, beside: frozenset[str]) -> list[str]:
    """Return an order with different institutions first where they must be distinct, none of them of those who are asked beside."""
    if "institution" not in approval.distinct:
        return order
    seen = {people.persons[person].institution for person in beside}
    heads: list[str] = []
    for person in order:
        if people.persons[person].institution not in seen:
            seen.add(people.persons[person].institution)
            heads.append(person)
    return [*heads, *(person for person in order if person not in heads)]


def _ask(
    tx: Tx, broker: Broker, request: AccessRequest, step: Step, how: str, people: list[str], *, number: int
) -> int:
    """Record who is asked, and write their notices and their deputies'; those above a limit get theirs later."""
    approval = Terms.from_document(request.terms).approval
    lent = frozenset[str]()
    if approval is not None:
        lent = deputies_of(tx, frozenset(people), approval, requester=request.person_id, step=step.name)
    told = {*people} | lent
    busy = _busy(tx, broker, frozenset(told), request.person_id)
    body: dict[str, JsonValue] = {"step": step.name, "how": how, "people": len(people), "kept_back": len(busy)}
    if len(people) <= NAMED_AT_MOST:
        body["ids"] = [*people]
    event = tx.record(EventType.APPROVAL_ASKED, subject=subject_of(request), body=body)
    tx.insert(
        Asked,
        event,
        id=f"{request.id}/{step.name}/{number}",
        request_id=request.id,
        step=step.name,
        how=how,
        people=[*people],
        asked_at=tx.now,
    )
    later = kept_back(tx.now, request.approve_by)
    for person in sorted(told):
        tell(tx, "approval_wanted", person, request.id, after=later if person in busy else None)
    return len(people)


def kept_back(now: datetime, of_use_until: datetime) -> timedelta:
    """Return how long a notice above the limits waits, so that there is still time to act on it."""
    return min(KEPT_BACK, max(of_use_until - now, timedelta(0)) / 2)


def escalate_due(broker: Broker) -> int:
    """Ask other people about requests that waited long enough; return how many requests. Each in a transaction of its own."""
    with broker.read() as view:
        due = (
            select(AccessRequest.id)
            .where(AccessRequest.state == RequestState.PENDING.value, AccessRequest.escalate_at <= view.now)
            .order_by(AccessRequest.escalate_at)
            .limit(broker.settings.sweep.batch)
        )
        keys = view.rows(due).scalars().all()
    for key in keys:
        with broker.begin(SYSTEM, lock=[(AccessRequest, key)]) as tx:
            _escalate(tx, broker, tx.require(AccessRequest, key))
    return len(keys)


def _escalate(tx: Tx, broker: Broker, request: AccessRequest) -> None:
    if request.state != RequestState.PENDING.value or request.escalate_at is None or tx.now >= request.approve_by:
        return  # answered, escalated by another worker, or about to expire
    if request.escalate_at > tx.now:
        return
    terms = Terms.from_document(request.terms)
    waited = waited_s(request, terms.approval, tx.now)
    asked = ask_open(tx, broker, request, as_votes(votes_of(tx, request.id)))
    tx.record(EventType.APPROVAL_ESCALATED, subject=subject_of(request), body={"waited_s": waited, "people": asked})
    tx.update(request, escalate_at=_next_escalation(terms, _filed_s(request), waited=waited))
