"""A person asks: preview, file (signed), withdraw, and decide again when the policy changes.

Filing is a passkey signature over a FilingStatement that the broker built. The decision is pure and made again when the
signature comes back; PERMIT with nothing left to discharge goes straight to a grant in the same transaction. A DENY is recorded
and is a value.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

from sqlalchemy import bindparam, func, select

from jitaccess.broker import asking
from jitaccess.broker.ask import Ask as Ask
from jitaccess.broker.because import sentence as sentence
from jitaccess.broker.context import Broker, advance, subject_of
from jitaccess.broker.extend import (
    BEGINS,
    answer_by,
    base_gone,
    chain_of,
    changed_base,
    extending,
    own_access,
    prepare,
)
from jitaccess.broker.grants import create_grant, held, latest_end, tell_witnesses
from jitaccess.broker.holdings import holdings
from jitaccess.clock import from_epoch_s, to_epoch_s
from jitaccess.domain.approval import could_sign
from jitaccess.domain.events import EventType
from jitaccess.domain.lifecycle import GrantState, RequestState
from jitaccess.domain.values import SYSTEM, Refused
from jitaccess.errors import JitError, Kind
from jitaccess.identity.enrolment import tell
from jitaccess.identity.passkeys import Ceremony, Response, begin_assertion, complete_assertion
from jitaccess.identity.people import credential_class, may_act, new_until, register
from jitaccess.identity.sessions import Current
from jitaccess.policy.evaluate import AccessContext, Code, Decision, Effect, PolicySet, Reason, Terms, decide
from jitaccess.proof.assertion import Assertion
from jitaccess.proof.canonical import JsonValue, b64u_decode, b64u_encode, salted_digest
from jitaccess.proof.errors import ProofError
from jitaccess.proof.statements import NONCE_BYTES, FilingStatement, Purpose
from jitaccess.store.db import Tx, View
from jitaccess.store.find import Count, Find, one_of
from jitaccess.store.ids import new_bytes
from jitaccess.store.tables import AccessRequest, Base, Grant, Person
from jitaccess.told import told

MAX_INPUTS = 20

_SAME = (
    Grant.person_id == bindparam("person_id"),
    Grant.target == bindparam("target"),
    Grant.entitlement == bindparam("entitlement"),
    Grant.request_id != bindparam("besides"),
)
_ACTIVE_AND_TODAY = (
    func.count().filter(one_of(Grant.state, (GrantState.SCHEDULED.value, GrantState.ACTIVE.value))),
    func.count().filter(Grant.created_at > bindparam("day_ago"), BEGINS),
)
HAD = Count(select(*_ACTIVE_AND_TODAY).where(*_SAME, own_access(())))
"""Accesses of one person to one entitlement: live now, and begun within the last day."""
RECENT = Count(
    select(func.count()).where(
        AccessRequest.person_id == bindparam("person_id"), AccessRequest.created_at > bindparam("hour_ago")
    )
)
SAME_PENDING = Find(
    AccessRequest,
    select(AccessRequest).where(
        AccessRequest.person_id == bindparam("person_id"),
        AccessRequest.target == bindparam("target"),
        AccessRequest.entitlement == bindparam("entitlement"),
        AccessRequest.state == RequestState.PENDING.value,
        AccessRequest.approve_by > bindparam("now"),
    ),
)


@dataclass(frozen=True, slots=True)
class Preview:
    """What would happen if this were filed."""

    decision: Decision
    signers: Mapping[str, frozenset[str]]
    """Approval step -> ids of all who could sign it."""
    refused: Refused | None = None
    """Why filing would be refused now although policy permits it: a hold, a limit, or an equal request that waits."""


@dataclass(frozen=True, slots=True)
class Filed:
    """A request that was filed; with its grant when no approval was needed."""

    request: AccessRequest
    grant: Grant | None


def context(
    view: View,
    policies: PolicySet,
    current_class: Any,
    person_id: str,
    ask: Ask,
    *,
    besides: str | None = None,
    new: bool = False,
) -> AccessContext:
    """Return what a decision depends on. `besides` names a request whose own grant does not count against its limits."""
    day_ago = view.now - timedelta(days=1)
    chain = chain_of(view, ask.extends) if ask.extends is not None else ()
    same = {"person_id": person_id, "target": ask.target, "entitlement": ask.entitlement, "besides": besides or ""}
    if chain:
        counts = select(*_ACTIVE_AND_TODAY).where(*_SAME, own_access(chain))
        active, today = view.rows(counts.params(**same, day_ago=day_ago)).one()
    else:
        active, today = view.count(HAD, **same, day_ago=day_ago)
    return AccessContext(
        person=register(view).persons[person_id],
        credential=current_class,
        target=ask.target,
        entitlement=ask.entitlement,
        inputs=ask.inputs,
        duration_s=ask.duration_s,
        now=view.now,
        active_count=active,
        today_count=today,
        held=holdings(view, policies.watched(ask.target, ask.entitlement), person_id, besides=besides),
        start=ask.start,
        extending=extending(chain) if ask.extends is not None else None,
        new=new,
    )


def context_of(view: View, broker: Broker, policies: PolicySet, current: Current, ask: Ask) -> AccessContext:
    """Return what a decision on what somebody asks for now depends on."""
    strength = credential_class(current.passkey)
    return context(view, policies, strength, current.person.id, ask, new=is_new(view, broker, current))


def is_new(view: View, broker: Broker, current: Current) -> bool:
    """Say whether somebody is signed in with an account that is too new for what is of high risk (R10)."""
    who = {"person_id": current.person.id, "account_id": current.account.id}
    return new_until(view, broker.site, **who, at=view.now) is not None


def filed_new(view: View, broker: Broker, request: AccessRequest) -> bool:
    """Say whether a request was filed with an account that was too new then, or whose person was switched on again since."""
    who = {"person_id": request.person_id, "account_id": request.account_id}
    return new_until(view, broker.site, **who, at=request.created_at) is not None


def preview(view: View, broker: Broker, current: Current, ask: Ask) -> Preview:
    """Decide without filing, and say who would have to sign. An extension is prepared by `extend.prepare` before."""
    policies = broker.policies.active(view)
    decision = decide(policies, context_of(view, broker, policies, current, ask))
    terms = decision.terms
    if decision.effect is Effect.DENY or terms is None:
        return Preview(decision, {})
    refused = (
        _stopped(view, broker, current, ask)
        or _asked_already(view, current, ask, decision.duration_s)
        or asking.crowded(view, broker, terms, person_id=current.person.id, target=ask.target)
    )
    if terms.approval is None:
        return Preview(decision, {}, refused)
    signers = could_sign(terms.approval, register=register(view), requester=current.person.id)
    return Preview(decision, signers, refused)


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One entitlement and whether this person could have it now."""

    target: str
    target_name: str
    entitlement: str
    label: str
    risk: str
    reachable: bool
    asks: tuple[Any, ...]
    default_s: int
    max_s: int
    needs_approval: bool
    start_within_s: int | None = None


def catalogue(view: View, broker: Broker, current: Current) -> list[CatalogueEntry]:
    """Return every entitlement that some rule lets this person's groups ask for."""
    policies = broker.policies.active(view)
    person = register(view).persons[current.person.id]
    found: list[CatalogueEntry] = []
    for target in policies.targets.values():
        for entitlement in target.entitlements.values():
            rules = [
                rule
                for rule in policies.rules_for(target.id, entitlement.id)
                if not rule.groups.isdisjoint(person.groups)
            ]
            if not rules:
                continue
            merged = policies.merged(rules)
            terms, asks = merged.terms, merged.asks
            if terms is not None:
                strong = credential_class(current.passkey) >= terms.credential
                found.append(
                    CatalogueEntry(
                        target.id, target.name, entitlement.id, entitlement.label, entitlement.risk, strong, asks,
                        terms.default_s, terms.max_s, bool(terms.steps), terms.course.start_within_s,
                    )
                )  # fmt: skip
    return found


# ---------------------------------------------------------------- filing


def begin_filing(tx: Tx, broker: Broker, current: Current, ask: Ask) -> Ceremony | Refused:
    """Decide, and let the person sign the filing. A DENY is recorded and answered with its reasons."""
    prepared = prepare(tx, current.person.id, ask)
    if isinstance(prepared, Refused):
        return _refused(tx, current, ask, prepared, None)
    ask = prepared
    reason = ask.reason.strip()
    wrong = _reason_problem(reason, broker.settings.limits.reason_chars)
    if wrong is not None:
        return wrong
    if len(ask.inputs) > MAX_INPUTS:
        return Refused(Kind.INVALID, "too_many_inputs", "Too many inputs.", "inputs")
    stopped = _stopped(tx, broker, current, ask)
    if stopped is not None:
        return _refused(tx, current, ask, stopped, None)
    policies = broker.policies.active(tx)
    decision = decide(policies, context_of(tx, broker, policies, current, ask))
    if decision.effect is Effect.DENY or decision.terms is None:
        return _refused(tx, current, ask, denial_of(decision), decision)
    twin = _asked_already(tx, current, ask, decision.duration_s)
    if twin is not None:
        return twin
    crowded = asking.crowded(tx, broker, decision.terms, person_id=current.person.id, target=ask.target)
    if crowded is not None:
        return _refused(tx, current, ask, crowded, decision)
    salt = new_bytes(16)
    now_s = to_epoch_s(tx.now)
    statement = FilingStatement(
        instance=broker.site.instance_id,
        log_origin=broker.site.log_origin,
        request_id=tx.new_id(),
        requester=current.person.id,
        credential_id=current.passkey.credential_id,
        target=ask.target,
        target_config_digest=policies.targets[ask.target].config_digest,
        entitlement=ask.entitlement,
        inputs=ask.inputs,
        reason_digest=salted_digest(reason, salt),
        duration_s=decision.duration_s,
        policy_digest=policies.digest,
        holder_jkt=None,
        earliest_start=max(now_s, to_epoch_s(ask.start) if ask.start is not None else 0),
        file_by=now_s + broker.site.sessions.challenge_s,
        nonce=b64u_encode(new_bytes(NONCE_BYTES)),
        extends=ask.extends,
    )
    return begin_assertion(
        tx,
        broker.site,
        current,
        purpose=Purpose.FILE_REQUEST.value,
        subject_id=statement.request_id,
        statement=statement.to_bytes(),
        extra={"reason": reason, "salt": b64u_encode(salt)},
    )


def complete_filing(
    tx: Tx, broker: Broker, current: Current, *, challenge_id: str, response: Response
) -> Filed | Refused:
    """File the signed request. Call it in a Tx that locks the rows of `lock_of`: limits are counted in it.

    1 the signature, over the stored bytes · 2 the bytes are this person's, in time · 3 the reason is the signed one · 4 rights, holds,
    policy and limits as they are now · 5 the request's row · 6 a grant, where nothing is left to discharge.
    """
    verified = complete_assertion(
        tx, broker.site, current, purpose=Purpose.FILE_REQUEST.value, challenge_id=challenge_id, response=response
    )  # 1
    if isinstance(verified, Refused):
        return verified
    try:
        statement = FilingStatement.parse(verified.statement or b"")
    except ProofError as error:
        raise JitError(Kind.INTERNAL, "The stored filing cannot be read.") from error
    extra = cast("dict[str, str]", verified.extra)
    start = from_epoch_s(statement.earliest_start)
    ask = Ask(
        statement.target,
        statement.entitlement,
        statement.inputs,
        statement.duration_s,
        extra["reason"],
        start,
        statement.extends,
    )
    if statement.requester != current.person.id or to_epoch_s(tx.now) >= statement.file_by:  # 2
        late = Refused(Kind.GONE, "too_late", "This took too long. Ask again.")
        return _refused(tx, current, ask, late, None)
    if salted_digest(ask.reason, b64u_decode(extra["salt"])) != statement.reason_digest:  # 3
        other = Refused(Kind.CONFLICT, "differs_from_signed", "The reason is not the signed one. Ask again.", "reason")
        return _refused(tx, current, ask, other, None)
    refused = (
        held(tx, broker, ask.target) or changed_base(tx, current.person.id, ask) or _too_often(tx, broker, current)
    )
    if refused is not None:
        return _refused(tx, current, ask, refused, None)
    policies = broker.policies.active(tx)
    decision = decide(policies, context_of(tx, broker, policies, current, ask))  # 4
    if decision.effect is Effect.DENY or decision.terms is None:
        return _refused(tx, current, ask, denial_of(decision), decision)
    if policies.digest != statement.policy_digest:
        changed = Refused(Kind.CONFLICT, "policy_changed", "The policy changed just now. Look again and ask anew.")
        return _refused(tx, current, ask, changed, decision)
    twin = _asked_already(tx, current, ask, statement.duration_s)
    if twin is not None:
        return twin
    crowded = asking.crowded(tx, broker, decision.terms, person_id=current.person.id, target=ask.target)
    if crowded is not None:
        return _refused(tx, current, ask, crowded, decision)
    request = _store(
        tx, current, statement, verified.assertion, verified.passkey.id, extra, decision, decision.terms
    )  # 5
    broker.verified.learn(verified)
    tell_witnesses(tx, decision.terms.course, "filed", request.person_id, request.id)
    if not decision.terms.steps:  # 6
        advance(tx, request, RequestState.APPROVED, body={"approvals": 0, "automatic": True}, decided_at=tx.now)
        return Filed(request, create_grant(tx, broker, request, ()))
    asking.ask_open(tx, broker, request, ())
    return Filed(request, None)


def _stopped(view: View, broker: Broker, current: Current, ask: Ask) -> Refused | None:
    """Say what stops this person from asking for anything on the target now, whatever policy says of it."""
    who = {"person_id": current.person.id, "account_id": current.account.id, "passkey_id": current.passkey.id}
    return may_act(view, **who) or held(view, broker, ask.target) or _too_often(view, broker, current)


def _too_often(view: View, broker: Broker, current: Current) -> Refused | None:
    """Say that this person asked too often; also of what was begun before and is signed now: begun requests are not counted."""
    (recent,) = view.count(RECENT, person_id=current.person.id, hour_ago=view.now - timedelta(hours=1))
    if recent < broker.settings.limits.requests_per_person_hour:
        return None
    return Refused(Kind.RATE_LIMITED, "too_many_requests", "You asked very often in the last hour. Wait a while.")


def _store(
    tx: Tx,
    current: Current,
    statement: FilingStatement,
    assertion: Mapping[str, str],
    passkey_id: str,
    extra: Mapping[str, str],
    decision: Decision,
    terms: Terms,
) -> AccessRequest:
    now_s = to_epoch_s(tx.now)
    digest = Assertion.from_json(dict(assertion)).digest()
    tx.record(
        EventType.REQUEST_FILED,
        subject={
            "request": statement.request_id,
            "person": current.person.id,
            "target": statement.target,
            "entitlement": statement.entitlement,
        },
        body={
            "duration_s": statement.duration_s,
            "policy_digest": statement.policy_digest,
            "matched": [*decision.matched],
            "assertion_digest": digest,
            "reason_digest": statement.reason_digest,
            "needs_approval": bool(terms.steps),
            **({"extends": statement.extends} if statement.extends is not None else {}),
        },
    )
    return tx.insert(
        AccessRequest,
        id=statement.request_id,
        person_id=current.person.id,
        account_id=current.account.id,
        target=statement.target,
        target_config_digest=statement.target_config_digest,
        entitlement=statement.entitlement,
        inputs=dict(statement.inputs),
        duration_s=statement.duration_s,
        reason=extra["reason"],
        reason_salt=extra["salt"],
        terms=terms.to_document(),
        decision=decision.to_document(),
        policy_digest=statement.policy_digest,
        earliest_start=from_epoch_s(statement.earliest_start),
        latest_end=from_epoch_s(latest_end(now_s, terms, statement.duration_s, start=statement.earliest_start)),
        approve_by=answer_by(tx, from_epoch_s(now_s + asking.pending_s(terms)), statement.extends),
        escalate_at=asking.first_escalation(terms, tx.now),
        state=RequestState.PENDING.value,
        filing_statement=statement.to_bytes(),
        filing_assertion=cast(JsonValue, dict(assertion)),
        filing_assertion_digest=digest,
        filing_passkey_id=passkey_id,
        created_at=tx.now,
        extends=statement.extends,
    )


def _asked_already(view: View, current: Current, ask: Ask, duration_s: int) -> Refused | None:
    twin = _equal_pending(view, current.person.id, ask, duration_s)
    if twin is None:
        return None
    return Refused(
        Kind.CONFLICT, "already_pending", "You asked for exactly this already; it waits for approval.", twin.id
    )


def _equal_pending(view: View, person_id: str, ask: Ask, duration_s: int) -> AccessRequest | None:
    """Return a pending request for exactly the same: equal requests merge into it (R26)."""
    same = {"person_id": person_id, "target": ask.target, "entitlement": ask.entitlement}
    pending = view.find(SAME_PENDING, **same, now=view.now)

    def same_start(row: AccessRequest) -> bool:
        asked = view.now if ask.start is None else max(view.now, ask.start)
        same = row.earliest_start == ask.start or max(row.earliest_start, asked) <= view.now
        return same and row.extends == ask.extends

    return next(
        (row for row in pending if row.inputs == dict(ask.inputs) and row.duration_s == duration_s and same_start(row)),
        None,
    )


def _reason_problem(reason: str, most: int) -> Refused | None:
    if not 3 <= len(reason) <= most:
        return Refused(
            Kind.INVALID, "reason_length", told("Say why, in 3 to %(most)s characters.", most=most), "reason"
        )
    if any(not letter.isprintable() and letter != "\n" for letter in reason):
        return Refused(
            Kind.INVALID, "reason_text", "The reason holds invisible characters. Type it as plain text.", "reason"
        )
    return None


def denial_of(decision: Decision) -> Refused:
    """Return a DENY as a refusal with its first reason."""
    reason = decision.reasons[0] if decision.reasons else Reason(Code.NO_RULE)
    named = reason.about if reason.code in (Code.INVALID_INPUT, Code.MISSING_INPUT, Code.UNKNOWN_INPUT) else None
    return Refused(Kind.FORBIDDEN, reason.code.value, sentence(reason), f"inputs.{named}" if named else None)


def _refused(tx: Tx, current: Current, ask: Ask, refused: Refused, decision: Decision | None) -> Refused:
    body: dict[str, JsonValue] = {"reason": refused.code}
    if decision is not None:
        body |= {"policy_digest": decision.policy_digest, "rules": [r.rule for r in decision.reasons if r.rule]}
    tx.record(
        EventType.REQUEST_REFUSED,
        subject={"person": current.person.id, "target": ask.target[:64], "entitlement": ask.entitlement[:64]},
        body=body,
    )
    return refused


# ---------------------------------------------------------------- withdrawing, deciding again


def withdraw(tx: Tx, broker: Broker, current: Current, request_id: str) -> AccessRequest:
    """Take a pending request back; only its requester may."""
    request = tx.get(AccessRequest, request_id)
    if request is None or request.person_id != current.person.id:
        raise JitError(Kind.NOT_FOUND, "There is no such request of yours.")
    advance(tx, request, RequestState.WITHDRAWN, decided_at=tx.now)
    return request


def redecide(tx: Tx, broker: Broker, request: AccessRequest) -> Refused | None:
    """Decide a pending request again under the policy of now (R28, design.md section 5a).

    The same policy: a DENY refuses only the act at hand. Another policy: DENY ends the request, other terms supersede it, equal terms
    keep it and its approvals. Returns why the act at hand cannot go on, or None.
    """
    policies: PolicySet = broker.policies.active(tx)
    person = register(tx).persons.get(request.person_id)
    if person is None:
        return Refused(Kind.FORBIDDEN, "not_active", "The requester is no longer on the register.")
    inputs = cast("dict[str, str | int | bool]", request.inputs)
    ask = Ask(
        request.target, request.entitlement, inputs, request.duration_s, "", request.earliest_start, request.extends
    )
    gone = base_gone(tx, request)
    if gone is not None:
        return gone
    terms = Terms.from_document(request.terms)
    new = filed_new(tx, broker, request)
    at = context(tx, policies, terms.credential, request.person_id, ask, besides=request.id, new=new)
    decision = decide(policies, at)
    same_policy = policies.digest == request.policy_digest
    if decision.effect is Effect.DENY or decision.terms is None:
        if not same_policy:
            advance(
                tx,
                request,
                RequestState.DENIED,
                body={"by": "policy", "policy_digest": policies.digest},
                decided_at=tx.now,
            )
            tell(tx, "request_decided", request.person_id, request.id)
        return denial_of(decision)
    target = policies.targets[request.target]
    if decision.terms.to_document() != request.terms or target.config_digest != request.target_config_digest:
        advance(tx, request, RequestState.SUPERSEDED, body={"policy_digest": policies.digest}, decided_at=tx.now)
        tell(tx, "request_decided", request.person_id, request.id)
        return Refused(Kind.CONFLICT, "terms_changed", "The terms changed; the request has to be filed anew.")
    if not same_policy:
        tx.record(
            EventType.REQUEST_REDECIDED,
            subject=subject_of(request),
            body={"policy_digest": policies.digest, "kept": True},
        )
    return None


def redecide_pending(broker: Broker) -> int:
    """Decide all pending requests again; called after a policy became active. Return how many ended."""
    with broker.read() as view:
        keys = (
            view.rows(select(AccessRequest.id).where(AccessRequest.state == RequestState.PENDING.value)).scalars().all()
        )
    ended = 0
    for key in keys:
        with broker.begin(SYSTEM, lock=[(AccessRequest, key)]) as tx:
            request = tx.require(AccessRequest, key)
            if request.state == RequestState.PENDING.value and redecide(tx, broker, request) is not None:
                ended += request.state != RequestState.PENDING.value
    return ended


def of_person(view: View, person_id: str, *, limit: int = 50) -> list[AccessRequest]:
    """Return a person's requests, newest first."""
    return view.all(
        select(AccessRequest)
        .where(AccessRequest.person_id == person_id)
        .order_by(AccessRequest.created_at.desc())
        .limit(limit)
    )


def lock_of(current: Current, *, extends: str | None = None) -> list[tuple[type[Base], str]]:
    """Return the rows that `complete_filing` wants locked: the person's, and that of the grant which is continued."""
    continued: list[tuple[type[Base], str]] = [(Grant, extends)] if extends is not None and len(extends) <= 64 else []
    return [*continued, (Person, current.person.id)]
