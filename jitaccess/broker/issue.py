"""May this grant's credential be given out, now? Issuing is the last gate, and it believes no row (R20, R28).

`reverify` rebuilds from what is *about to be done* every statement that was signed for it, checks each signature, account and passkey
again, and refuses on any difference, naming the field. `open_lease` writes the intent, then (where a target is touched) acts outside any
transaction, then writes the result; tokens touch nothing and need one transaction. Refusals are values and are recorded.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import cast

from sqlalchemy import bindparam, select

from jitaccess.broker.approve import shorter, statement_of
from jitaccess.broker.context import Broker, advance
from jitaccess.broker.cut import same_effect
from jitaccess.broker.extend import continues
from jitaccess.broker.grants import approvals_digest, held
from jitaccess.broker.lost_votes import lost
from jitaccess.broker.request import Ask, context, denial_of, filed_new
from jitaccess.broker.revoke import ENDING_LEASES, LIVE_LEASES
from jitaccess.broker.schedule import activate, begun, open_until, started
from jitaccess.broker.targets import apply_by
from jitaccess.broker.votes import CLOSED, as_votes, by_log, votes_of
from jitaccess.clock import to_epoch_s
from jitaccess.connectors.contract import (
    ConnectorKind,
    Credential,
    Effect,
    LeaseSpec,
    Looking,
    NotDone,
    NotReady,
    Unreachable,
    Unusable,
)
from jitaccess.domain.approval import ApprovalTerms, tally
from jitaccess.domain.events import EventType
from jitaccess.domain.lifecycle import EndCause, GrantState, LeaseState, RequestState
from jitaccess.domain.values import Refused
from jitaccess.errors import JitError, Kind
from jitaccess.identity.people import credential_class, may_act, on_hold, register
from jitaccess.identity.sessions import Current
from jitaccess.policy.evaluate import AccessContext, Inputs, TargetFacts, Terms, decide
from jitaccess.policy.evaluate import Effect as PolicyEffect
from jitaccess.proof.assertion import StoredKey
from jitaccess.proof.canonical import JsonValue, b64u_decode, salted_digest
from jitaccess.proof.errors import ProofError
from jitaccess.proof.statements import ApprovalStatement, FilingStatement, Statement, Verdict, differences
from jitaccess.store.db import PendingEvent, Tx, View
from jitaccess.store.find import Find, Joined, one_of
from jitaccess.store.ids import hash_secret, new_secret
from jitaccess.store.tables import (
    AccessRequest,
    Approval,
    ApprovalSet,
    Deputation,
    Grant,
    Lease,
    Passkey,
    Person,
    Token,
)
from jitaccess.tokens.access import GrantClaims, Minted, SignIn, mint_access
from jitaccess.tokens.status import StatusRef
from jitaccess.told import told

log = logging.getLogger(__name__)
RESTS_ON = Joined(
    select(AccessRequest)
    .outerjoin(Passkey, Passkey.id == AccessRequest.filing_passkey_id)
    .where(AccessRequest.id == bindparam("request_id")),
    (AccessRequest, Passkey),
    (CLOSED,),
)
LIVE_OF_GRANT = Find(
    Lease,
    select(Lease).where(Lease.grant_id == bindparam("grant_id"), one_of(Lease.state, LIVE_LEASES)).order_by(Lease.id),
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """A grant whose every signature was just checked against what is about to be done; only this room makes one."""

    grant: Grant
    request: AccessRequest
    terms: Terms
    target: TargetFacts
    approval_events: frozenset[str]


@dataclass(frozen=True, slots=True)
class Opened:
    """A lease that is open, with its evidence; `credential` holds the secret where the target gave one."""

    lease: Lease
    evidence: Evidence
    credential: Credential


@dataclass(frozen=True, slots=True)
class Planned:
    """The effect of a lease that is about to be written."""

    lease_id: str
    effect: Effect
    kind: ConnectorKind


@dataclass(frozen=True, slots=True)
class Issued:
    """Tokens just made: their text is shown once and never stored."""

    access: Minted
    refresh: str
    scope: str
    event: PendingEvent
    details: Mapping[str, JsonValue]
    """The grant as the token names it."""


# ---------------------------------------------------------------- evidence


def reverify(view: View, broker: Broker, grant: Grant) -> Refused | None:
    """Say why nothing may be issued under this grant now, or None."""
    found = evidence(view, broker, grant)
    return found if isinstance(found, Refused) else None


def evidence(view: View, broker: Broker, grant: Grant) -> Evidence | Refused:
    """Check everything that a grant rests on. The grant's own seal was checked when it was read.

    1 the grant runs · 2 no hold · 3 the person, account and passkey may act · 4 the request is this grant's, field by field, and the
    log knows of no refusal, withdrawal or veto ·
    5 the filing's signature, and the request's row against its statement · 6 the policy of now, on equal terms · 7 each approval's
    signature, and the row against its statement; the approvers' rights of now; the quorum · 8 the grant within the signed bounds,
    as long as the smallest duration that was signed.
    """
    refused = _open(view, broker, grant)  # 1, 2
    if refused is not None:
        return refused
    rests_on = view.joined(RESTS_ON, request_id=grant.request_id)
    if not rests_on:
        return _differs("request")
    return _rests(view, broker, grant, *rests_on[0])


def evidence_of(
    view: View, broker: Broker, grant: Grant, request: AccessRequest, passkey: Passkey | None, closed: int
) -> Evidence | Refused:
    """As `evidence`, for a caller that read the request, the passkey that filed it and `votes.CLOSED` with the grant."""
    return _open(view, broker, grant) or _rests(view, broker, grant, request, passkey, closed)


def _open(view: View, broker: Broker, grant: Grant) -> Refused | None:
    """1, 2."""
    return _runs(view, grant) or held(view, broker, grant.target) or _grant_held(view, grant)


def _rests(
    view: View, broker: Broker, grant: Grant, request: AccessRequest, passkey: Passkey | None, closed: int
) -> Evidence | Refused:
    """3 to 8."""
    refused = may_act(
        view, person_id=grant.person_id, account_id=grant.account_id, passkey_id=request.filing_passkey_id
    )  # 3
    refused = refused or _same_subject(grant, request) or by_log(closed)  # 4
    if refused is not None:
        return refused
    if passkey is None or passkey.person_id != grant.person_id:
        return _differs("filing_passkey_id")
    try:
        refused = _filing(broker, request, passkey)  # 5
        terms = Terms.from_document(request.terms)
        refused = refused or _policy(view, broker, request, terms, passkey)  # 6
        if refused is not None:
            return refused
        # Terms without approval equal the policy's of now (6), so there is nothing to look for.
        votes = votes_of(view, request.id) if terms.approval is not None else []
        signed_s = _approvals(view, broker, request, terms, votes)  # 7
    except ProofError as error:
        return _differs(error.field or error.reason)
    if isinstance(signed_s, Refused):
        return signed_s
    if approvals_digest(votes) != grant.approvals_digest:
        return _differs("approvals_digest")
    refused = _bounds(grant, request, terms, signed_s) or continues(view, grant)  # 8
    if refused is not None:
        return refused
    target = broker.policies.active(view).targets[grant.target]
    return Evidence(grant, request, terms, target, frozenset(str(vote.event_id) for vote in votes))


def _differs(field: str) -> Refused:
    return Refused(
        Kind.CONFLICT,
        "differs_from_signed",
        told("What would be issued is not what was signed (%(field)s). Nothing is issued; ask anew.", field=field),
        field,
    )


def _runs(view: View, grant: Grant) -> Refused | None:
    """1: a scheduled grant may be opened from `not_before` until `activate_by` or its end, an active one within its window."""
    over = Refused(Kind.GONE, "grant_ended", "This access has ended. Ask for it anew.")
    match GrantState(grant.state):
        case GrantState.SCHEDULED:
            if not begun(grant, view.now):
                return Refused(Kind.CONFLICT, "not_yet", "This access has not begun yet. Come back at its start.")
            return None if view.now < open_until(grant) else over
        case GrantState.ACTIVE:
            if grant.starts_at is None or grant.ends_at is None:
                return over
            return None if grant.starts_at <= view.now < grant.ends_at else over
        case _:
            return over


def _grant_held(view: View, grant: Grant) -> Refused | None:
    if on_hold(view, "grant", grant.id):
        return Refused(Kind.FORBIDDEN, "grant_on_hold", "This access is on hold. Ask an administrator.")
    return None


def _same_subject(grant: Grant, request: AccessRequest) -> Refused | None:
    """4: grant (sealed) and request speak of the same thing."""
    if request.state != RequestState.APPROVED.value:
        return _differs("state")
    for name in ("person_id", "account_id", "target", "entitlement", "policy_digest", "latest_end", "extends"):
        if getattr(grant, name) != getattr(request, name):
            return _differs(name)
    return None


def _filing(broker: Broker, request: AccessRequest, passkey: Passkey) -> Refused | None:
    """5: the requester signed exactly this row. `file_by` and the nonce live in the statement alone."""
    key = StoredKey(passkey.public_key_der, passkey.algorithm)
    found = broker.verified.filing(request.filing_statement, request.filing_assertion, key)
    signed = found.statement
    if found.assertion_digest != request.filing_assertion_digest:
        return _differs("filing_assertion_digest")
    reason = request.reason  # None once retention deleted it; its digest stays signed
    wanted = FilingStatement(
        instance=broker.site.instance_id,
        log_origin=broker.site.log_origin,
        request_id=request.id,
        requester=request.person_id,
        credential_id=passkey.credential_id,
        target=request.target,
        target_config_digest=request.target_config_digest,
        entitlement=request.entitlement,
        inputs=cast("dict[str, str | int | bool]", request.inputs),
        reason_digest=signed.reason_digest
        if reason is None
        else salted_digest(reason, b64u_decode(request.reason_salt)),
        duration_s=request.duration_s,
        policy_digest=request.policy_digest,
        holder_jkt=None,
        earliest_start=to_epoch_s(request.earliest_start),
        file_by=signed.file_by,
        nonce=signed.nonce,
        extends=request.extends,
    )
    return _unlike(request.filing_statement, signed, wanted)


def _unlike(stored: bytes, signed: Statement, wanted: Statement) -> Refused | None:
    """Compare what is about to be done with what was signed: by the bytes; where they differ, the field is named."""
    if wanted.to_bytes() == stored:
        return None
    fields = differences(signed, wanted)
    return _differs(fields[0] if fields else "statement")


def _policy(view: View, broker: Broker, request: AccessRequest, terms: Terms, passkey: Passkey) -> Refused | None:
    """6: decided again now, with the passkey that filed; other terms or another target configuration need a new request."""
    policies = broker.policies.active(view)
    inputs = cast("dict[str, str | int | bool]", request.inputs)
    ask = Ask(
        request.target, request.entitlement, inputs, request.duration_s, "", request.earliest_start, request.extends
    )
    strength = credential_class(passkey)
    watched = policies.watched(request.target, request.entitlement)
    new = filed_new(view, broker, request)
    counted = terms.active_per_person is not None or terms.per_day is not None
    if not counted and not watched and request.extends is None:
        # Without limits and conflicts nothing has to be counted. Limits that a newer policy added make other terms, refused below.
        person = register(view).persons[request.person_id]
        at = AccessContext(person, strength, ask.target, ask.entitlement, inputs, ask.duration_s, view.now, new=new)
    else:
        at = context(view, policies, strength, request.person_id, ask, besides=request.id, new=new)
    decision = decide(policies, at)
    if decision.effect is PolicyEffect.DENY or decision.terms is None:
        return denial_of(decision)
    now_terms, then_terms = decision.terms.to_document(), terms.to_document()
    if now_terms != then_terms:
        names = sorted(name for name in now_terms | then_terms if now_terms.get(name) != then_terms.get(name))
        return Refused(
            Kind.CONFLICT, "terms_changed", "The rules changed since this was approved. Ask anew.", f"terms.{names[0]}"
        )
    if policies.targets[request.target].config_digest != request.target_config_digest:
        return _differs("target_config_digest")
    return None


def _approvals(
    view: View, broker: Broker, request: AccessRequest, terms: Terms, votes: Sequence[Approval]
) -> int | Refused:
    """7: every signature, over the statement that this row gives now; the rights of now; enough different persons.

    Returns for how many seconds access may be given: what was filed, or the least that an approver signed.
    """
    shortest = request.duration_s
    if terms.approval is None:
        return shortest
    for vote in votes:
        if vote.verdict != Verdict.APPROVE.value:
            return Refused(Kind.FORBIDDEN, "denied", "Somebody refused this request.", "verdict")
        signed = _approval(view, broker, request, terms, vote)
        if isinstance(signed, Refused):
            return signed
        shortest = min(shortest, signed.max_duration_s)
    return _quorum(terms.approval, request, votes) or shortest


def _approval(
    view: View, broker: Broker, request: AccessRequest, terms: Terms, vote: Approval
) -> ApprovalStatement | Refused:
    passkey = view.get(Passkey, vote.passkey_id)
    if passkey is None or passkey.person_id != vote.person_id or vote.statement is None:
        return _differs("credential_id")
    key = StoredKey(passkey.public_key_der, passkey.algorithm)
    if vote.set_id is None:
        signed = broker.verified.approval(vote.statement, vote.assertion, key).statement
    else:
        signed_set = view.get(ApprovalSet, vote.set_id)
        if signed_set is None or signed_set.passkey_id != passkey.id or signed_set.assertion != vote.assertion:
            return _differs("approval_set")
        signed = broker.verified.approval_in_set(
            vote.statement, signed_set.statement, signed_set.assertion, key
        ).statement
    wanted = statement_of(
        broker,
        request,
        approver=vote.person_id,
        credential_id=passkey.credential_id,
        step=vote.step,
        verdict=vote.verdict,
        nonce=signed.nonce,
        max_duration_s=shorter(request, terms, signed.max_duration_s),
        deputation=view.get(Deputation, vote.deputation_id),
    )
    return _unlike(vote.statement, signed, wanted) or lost(view, broker, request, terms, vote) or signed


def _quorum(approval: ApprovalTerms, request: AccessRequest, votes: Sequence[Approval]) -> Refused | None:
    found = tally(approval, requester=request.person_id, votes=as_votes(votes))
    if found.met and not found.refused:
        return None
    return Refused(Kind.FORBIDDEN, "quorum_not_met", "This has not enough different approvals. Ask anew.", "approvals")


def _bounds(grant: Grant, request: AccessRequest, terms: Terms, signed_s: int) -> Refused | None:
    """8: the window lies within what was signed, and lasts as long as the smallest duration signed."""
    if grant.duration_s != signed_s:
        return _differs("duration_s")
    if grant.not_before is not None and grant.not_before < request.earliest_start:
        return _differs("not_before")
    if grant.not_before is None and grant.created_at < request.earliest_start:
        return _differs("not_before")
    delay = terms.course.delay
    lock = timedelta(seconds=delay.time_lock_s if delay is not None else 0)
    if delay is not None and (grant.not_before is None or grant.not_before < grant.created_at + lock):
        return _differs("terms.delay.time_lock_s")
    if grant.starts_at is None or grant.ends_at is None:
        return None
    if grant.starts_at < (grant.not_before or grant.starts_at):
        return _differs("not_before")
    if grant.starts_at < request.earliest_start:
        return _differs("earliest_start")
    if grant.ends_at > request.latest_end:
        return _differs("latest_end")
    closes_at = grant.closes_at or grant.ends_at
    if closes_at - grant.starts_at > timedelta(seconds=signed_s):
        return _differs("duration_s")
    if grant.ends_at - closes_at > timedelta(seconds=terms.course.grace_s or 0):
        return _differs("terms.grace_s")
    return None


# ---------------------------------------------------------------- opening


def covered_approvals(broker: Broker, grant_id: str) -> frozenset[str]:
    """Make sure that the approvals of a grant are under a signed checkpoint, and that signing keeps up (R64); return their event ids.

    Outside any Tx. Raises UNAVAILABLE while the log cannot take them or cannot be signed.
    """
    broker.checkpoints.keep_up()
    with broker.read() as view:
        events = (
            view.rows(
                select(Approval.event_id)
                .join(Grant, Grant.request_id == Approval.request_id)
                .where(Grant.id == grant_id)
            )
            .scalars()
            .all()
        )
    known = frozenset(str(event) for event in events)
    broker.checkpoints.cover(sorted(known))
    return known


def open_lease(
    broker: Broker, current: Current, grant_id: str, *, given: Mapping[str, str] | None = None
) -> Opened | Refused:
    """Open a grant for its own person: activate it where its clock waits for that, and give its lease.

    1 the approvals are in the signed log · 2 the intent is committed · 3 the target acts, outside any transaction, with a deadline ·
    4 the result is committed. A crash after 2 leaves a lease ISSUING that ends with its grant; a crash after 3 the same: its effect is
    known by name and is cut (R47). `given` is what the person hands in (a public key).
    """
    covered = covered_approvals(broker, grant_id)  # 1
    seen = look_first(broker, current, grant_id)
    with broker.begin(current.actor, lock=[(Grant, grant_id), (Person, current.person.id)]) as tx:
        opened = open_in(tx, broker, current, grant_id, covered=covered, given=given, seen=seen)  # 2
    return finish_opening(broker, current, opened)


def look_first(broker: Broker, current: Current, grant_id: str) -> Mapping[str, JsonValue] | Refused:
    """Let a target be looked at before anything is planned, where its kind must (ADR 32); empty for all others. Outside any Tx.

    What it says becomes part of the intent. A refusal is handed to `open_in`, which records it.
    """
    with broker.read() as view:
        grant = view.get(Grant, grant_id) if len(grant_id) <= 64 else None
        person = view.get(Person, current.person.id)
        policies = broker.policies.active_or_none(view)
        now = view.now
    target = policies.targets.get(grant.target) if policies is not None and grant is not None else None
    if grant is None or person is None or target is None or grant.person_id != person.id:
        return {}  # open_in says why not
    if not broker.targets.kind(str(target.connector["kind"])).looks:
        return {}
    spec = LeaseSpec("", person.id, grant.target, grant.entitlement, now, now, email=person.email)
    try:
        with broker.targets.slot(grant.target):
            return cast(Looking, broker.targets.at(grant.target, target.connector)).look(spec)
    except Unusable as error:
        return Refused(Kind.INVALID, "not_usable", str(error), "given")
    except JitError as error:
        return Refused(error.kind, "target_busy", error.message)
    except Exception as error:  # a target may fail in any way; nothing was to be made
        log.warning("looking at %s for a lease failed (%s)", grant.target, type(error).__name__)
        return Refused(Kind.UNAVAILABLE, "target_refused", "The target made nothing. Try again.")


def finish_opening(broker: Broker, current: Current, opened: Opened | Refused) -> Opened | Refused:
    """Do steps 3 and 4 of `open_lease`, outside any transaction, where `open_in` wrote an intent."""
    if isinstance(opened, Refused) or opened.lease.state != LeaseState.ISSUING.value:
        return opened
    try:
        with broker.targets.slot(opened.lease.target):
            return _apply(broker, current, opened)
    except JitError as error:  # no place at the target: nothing was called
        _settle(broker, current, opened.lease.id, LeaseState.FAILED)
        return Refused(error.kind, "target_busy", error.message)


def open_in(
    tx: Tx,
    broker: Broker,
    current: Current,
    grant_id: str,
    *,
    covered: frozenset[str],
    given: Mapping[str, str] | None = None,
    seen: Mapping[str, JsonValue] | Refused | None = None,
) -> Opened | Refused:
    """Do the part of `open_lease` that one transaction holds. Refusals are recorded.

    `covered` comes from `covered_approvals`, `seen` from `look_first`. The caller's transaction locks the grant and, where a
    target is touched, the person.
    """
    grant = tx.get(Grant, grant_id) if len(grant_id) <= 64 else None
    if grant is None or grant.person_id != current.person.id:
        nothing = Refused(Kind.NOT_FOUND, "no_such_grant", "There is no such access of yours.")
        return refuse(tx, current.person.id, None, nothing)
    refused = ready(broker) or may_act(
        tx, person_id=current.person.id, account_id=current.account.id, passkey_id=current.passkey.id
    )
    found = refused or evidence(tx, broker, grant)
    if isinstance(found, Refused):
        return refuse(tx, current.person.id, grant, found)
    if credential_class(current.passkey) < found.terms.credential:
        weak = Refused(
            Kind.FORBIDDEN, "credential_too_weak", "This needs a stronger passkey. Sign in with one.", "credential"
        )
        return refuse(tx, current.person.id, grant, weak)
    if not found.approval_events <= covered:
        # An approval that came after the look at the log; the next try covers it.
        late = Refused(Kind.UNAVAILABLE, "not_in_log", "The log does not hold the approvals yet. Try again.")
        return refuse(tx, current.person.id, grant, late)
    if grant.closes_at is not None and tx.now >= grant.closes_at:
        closing = Refused(Kind.GONE, "closing", "This access is ending: nothing new is opened. Ask for it anew.")
        return refuse(tx, current.person.id, grant, closing)
    for live in tx.find(LIVE_OF_GRANT, grant_id=grant.id):
        if broker.targets.kind(live.connector).outside:
            again = Refused(Kind.CONFLICT, "open_already", "This access is open already; its secret is shown once.")
            return refuse(tx, current.person.id, grant, again)
        return Opened(live, found, Credential())
    planned = seen if isinstance(seen, Refused) else _plan(tx, broker, found, given or {}, seen or {})
    if isinstance(planned, Refused):
        return refuse(tx, current.person.id, grant, planned)
    if grant.state == GrantState.SCHEDULED.value:
        activate(tx, grant)
    return Opened(_write_lease(tx, broker, current, found, planned), found, Credential())


def ready(broker: Broker) -> Refused | None:
    """Say whether what was overdue at the start has been ended, and the log is whole; nothing is given out before (R59, R64)."""
    if not broker.db.log_whole:
        return Refused(
            Kind.UNAVAILABLE,
            "log_not_whole",
            "The stored log is not the one that was written: nothing is given out. Tell an administrator.",
        )
    if broker.may_grant.is_set():
        return None
    return Refused(Kind.UNAVAILABLE, "starting", "The broker is still ending what is overdue. Try again in a moment.")


def refuse(tx: Tx, person_id: str | None, grant: Grant | None, refused: Refused) -> Refused:
    """Record a refusal to issue, with its code and field."""
    subject: dict[str, str | None] = {"person": person_id}
    if grant is not None:
        subject |= {"request": grant.request_id, "grant": grant.id, "target": grant.target}
    tx.record(EventType.ISSUE_REFUSED, subject=subject, body={"reason": refused.code, "field": refused.field})
    return refused


def _plan(
    tx: Tx, broker: Broker, found: Evidence, given: Mapping[str, str], seen: Mapping[str, JsonValue]
) -> Planned | Refused:
    """Plan the effect of a new lease. Its end is the grant's, or for one not activated yet what it becomes now."""
    grant, config = found.grant, found.target.connector
    kind = broker.targets.kind(str(config["kind"]))
    ends_at = grant.ends_at or started(grant, tx.now).ends_at or grant.latest_end
    wanted = {field.name: field.max_length for field in kind.gives}
    if set(given) != set(wanted) or any(len(text) > wanted[name] for name, text in given.items()):
        names = ", ".join(field.label for field in kind.gives) or told("nothing")
        return Refused(Kind.INVALID, "not_given", told("This system needs from you: %(names)s.", names=names), "given")
    spec = LeaseSpec(
        tx.new_id(), grant.person_id, grant.target, grant.entitlement, tx.now, ends_at, dict(given), found=seen
    )
    connector = broker.targets.at(grant.target, config)
    try:
        effect = connector.plan(spec)
    except Unusable as error:
        return Refused(Kind.INVALID, "not_usable", str(error), "given")
    if not kind.shared:
        return Planned(spec.lease_id, effect, kind)
    beside = same_effect(tx, grant.target, effect.name)
    if any(row.state in ENDING_LEASES for row in beside):
        return Refused(Kind.UNAVAILABLE, "still_ending", "Your last access to this is still being ended. Try again.")
    if beside:
        effect = connector.plan(replace(spec, beside=Effect.from_json(beside[0].effect)))
    return Planned(spec.lease_id, effect, kind)


def _write_lease(tx: Tx, broker: Broker, current: Current, found: Evidence, planned: Planned) -> Lease:
    grant, config, key = found.grant, found.target.connector, planned.lease_id
    if grant.ends_at is None:
        raise JitError(Kind.GONE, "This access has ended. Ask for it anew.")
    effect = planned.effect.to_json()
    if planned.kind.outside:
        effect["connector"] = dict(config)  # what has to be cut is found without any policy
    state = LeaseState.ISSUING if planned.kind.outside else LeaseState.ACTIVE
    # A membership is named after the person's entry: that is personal text, and stays outside the leaf.
    named, texts = {"effect": planned.effect.name}, dict[str, str]()
    if planned.kind.shared:
        named, texts = {}, {"effect": planned.effect.name}
    event = tx.record(
        EventType.LEASE_ISSUING if planned.kind.outside else EventType.LEASE_ACTIVE,
        subject={
            "request": grant.request_id,
            "grant": grant.id,
            "lease": key,
            "person": grant.person_id,
            "target": grant.target,
        },
        body={"connector": str(config["kind"]), "ends_at": to_epoch_s(grant.ends_at), **named},
        texts=texts,
    )
    return tx.insert(
        Lease,
        event,
        id=key,
        grant_id=grant.id,
        person_id=grant.person_id,
        target=grant.target,
        connector=str(config["kind"]),
        effect=effect,
        state=state.value,
        created_at=tx.now,
        ends_at=grant.ends_at,
        attempts=0,
        passkey_id=current.passkey.id,
    )


def _apply(broker: Broker, current: Current, opened: Opened) -> Opened | Refused:
    """Let the target make the credential, and write what came of it. Only `NotDone` proves that nothing was made."""
    lease = opened.lease
    effect = Effect.from_json(lease.effect)
    connector = broker.targets.at(lease.target, opened.evidence.target.connector)
    try:
        credential = connector.apply(
            effect, apply_by(lease)
        )  # a crash here leaves ISSUING: ended by `cut.end_stale_issuing`
    except (NotDone, Unreachable) as error:
        log.warning("apply of lease %s was not done (%s)", lease.id, type(error).__name__)
        _settle(broker, current, lease.id, LeaseState.FAILED)
        if isinstance(error, NotReady):
            text = told("The owner of this system has to put something right first; jitaccess targets probe says what.")
            return Refused(Kind.UNAVAILABLE, "target_not_ready", text)
        return Refused(Kind.UNAVAILABLE, "target_refused", "The target made nothing. Try again.")
    except Exception as error:  # a target may fail in any way, and then nobody knows what it made: revoke it
        log.warning("apply of lease %s is uncertain (%s)", lease.id, type(error).__name__)
        _settle(broker, current, lease.id, LeaseState.REVOKING)
        return Refused(Kind.UNAVAILABLE, "target_uncertain", "The target did not answer. What it made is removed.")
    if _settle(broker, current, lease.id, LeaseState.ACTIVE, credential.handle):
        return Opened(lease, opened.evidence, credential)
    # The grant ended meanwhile and may have been cut before this was born: the loser removes what it made. A crash here leaves
    # the lease ended and the name buried (design.md section 6, late births); reconcile removes what is left.
    effect = replace(effect, detail={**effect.detail, **credential.handle})
    try:
        connector.cut([effect])
        connector.clean([effect])
    except Exception as error:  # the sweep, which ended this lease, does the same with proof, and again and again
        log.warning("removing the late effect of lease %s failed (%s)", lease.id, type(error).__name__)
    return Refused(Kind.GONE, "grant_ended", "This access has ended. Ask for it anew.")


def _settle(
    broker: Broker, current: Current, lease_id: str, to: LeaseState, handle: Mapping[str, JsonValue] | None = None
) -> bool:
    """Move an ISSUING lease on; False when somebody ended it first. `handle`: what the target knows the effect by, beside its name."""
    with broker.begin(current.actor, lock=[(Lease, lease_id)]) as tx:
        lease = tx.unchecked_get(Lease, lease_id)
        if (
            lease is None
            or lease.state != LeaseState.ISSUING.value
            or (to is LeaseState.ACTIVE and tx.now >= lease.ends_at)
        ):
            return False
        match to:
            case LeaseState.REVOKING:
                cause = EndCause.FAILED.value
                advance(tx, lease, to, body={"cause": cause}, cause=cause, ended_at=tx.now, next_at=tx.now, attempts=0)
            case LeaseState.FAILED:
                advance(tx, lease, to, cause=EndCause.FAILED.value, ended_at=tx.now)
            case _:
                effect = cast("dict[str, JsonValue]", lease.effect)
                detail = {**cast("dict[str, JsonValue]", effect["detail"]), **(handle or {})}
                advance(tx, lease, to, proof={"applied": True}, effect={**effect, "detail": detail})
        return True


# ---------------------------------------------------------------- tokens


def mint(
    tx: Tx,
    broker: Broker,
    *,
    found: Evidence,
    lease: Lease,
    client_id: str,
    family: str,
    scope: str,
    sign_in: SignIn,
    passkey_id: str | None,
    session_id: str | None,
    refreshed: bool = False,
    status: StatusRef | None = None,
) -> Issued:
    """Make an access token and the refresh token that follows it, with their rows. `found` was made in this very Tx.

    `passkey_id` is the passkey that signed in, which need not be the one that opened the lease: what is made here ends with either.
    Raises GONE when the grant ends before a token could live a second.
    """
    grant = found.grant
    if grant.ends_at is None or lease.grant_id != grant.id or lease.state != LeaseState.ACTIVE.value:
        raise JitError(Kind.GONE, "This access has ended. Ask for it anew.")
    jti, refresh_id, refresh = tx.new_id(), tx.new_id(), new_secret()
    named = GrantClaims(
        grant.id,
        grant.target,
        grant.entitlement,
        cast(Inputs, found.request.inputs),
        grant.approvals_digest,
        grant.policy_digest,
        grant.ends_at,
    )
    access = mint_access(
        broker.keyring.token_key(),
        issuer=broker.site.origin,
        audience=str(found.target.connector["audience"]),
        client_id=client_id,
        person_id=grant.person_id,
        jti=jti,
        scope=scope,
        grant=named,
        sign_in=sign_in,
        now=tx.now,
        ttl_s=found.terms.token_ttl_s,
        status=None if status is None else status.to_claim(),
    )
    event = tx.record(
        EventType.TOKEN_REFRESHED if refreshed else EventType.TOKEN_ISSUED,
        subject={
            "request": grant.request_id,
            "grant": grant.id,
            "lease": lease.id,
            "person": grant.person_id,
            "target": grant.target,
            "client": client_id,
            "token": jti,
        },
        body={"expires_at": to_epoch_s(access.expires_at), "family": family},
    )
    shared = {
        "lease_id": lease.id,
        "grant_id": grant.id,
        "client_id": client_id,
        "session_id": session_id,
        "family": family,
        "scope": scope,
        "auth_at": sign_in.at,
        "acr": sign_in.acr,
        "amr": [*sign_in.amr],
        "passkey_id": passkey_id,
        "created_at": tx.now,
    }
    tx.insert_many(
        Token,
        [
            (
                event,
                {
                    **shared,
                    "id": jti,
                    "kind": "access",
                    "expires_at": access.expires_at,
                    "status_list": None if status is None else status.list_id,
                    "status_idx": None if status is None else status.idx,
                },
            ),
            (
                event,
                {
                    **shared,
                    "id": refresh_id,
                    "kind": "refresh",
                    "secret_hash": hash_secret(refresh),
                    "expires_at": grant.ends_at,
                },
            ),
        ],
    )
    return Issued(access, refresh, scope, event, named.to_details())
