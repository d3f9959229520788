"""An approver signs several requests at once: one explicit set, every single one shown and stored (ADR 0011).

The set's statement lists the digest of the exact bytes of every single approval statement. Rights, terms and fields are checked for each as
for one signed by itself, all before any is counted: a set is taken whole or not at all. What has to be read back is signed alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

from jitaccess.broker import pace, reading
from jitaccess.broker.approve import (
    Approved,
    Signing,
    Waiting,
    count_in,
    facts,
    lent,
    may_sign,
    not_as_shown,
    refuse,
    statement_of,
)
from jitaccess.broker.context import Broker
from jitaccess.broker.request import redecide
from jitaccess.clock import from_epoch_us, to_epoch_us
from jitaccess.domain.events import EventType
from jitaccess.domain.values import Refused
from jitaccess.errors import JitError, Kind
from jitaccess.identity.passkeys import Ceremony, Response, VerifiedAssertion, begin_assertion, complete_assertion
from jitaccess.identity.sessions import Current
from jitaccess.policy.evaluate import Terms
from jitaccess.proof.assertion import Assertion
from jitaccess.proof.canonical import JsonValue, b64u_decode, b64u_encode, sha256_b64u
from jitaccess.proof.errors import ProofError
from jitaccess.proof.statements import (
    MAX_SET,
    MIN_SET,
    NONCE_BYTES,
    ApprovalSetStatement,
    ApprovalStatement,
    Purpose,
    Verdict,
)
from jitaccess.store.db import Tx, View
from jitaccess.store.ids import new_bytes
from jitaccess.store.tables import AccessRequest, ApprovalSet, Challenge

PAGE = "approval-set"
"""What the mark of the page of sets is about."""


@dataclass(frozen=True, slots=True)
class SetCeremony:
    """A ceremony over a set, with the exact bytes of every single statement in the order shown."""

    ceremony: Ceremony
    singles: tuple[bytes, ...]


def begin_set(
    tx: Tx, broker: Broker, current: Current, request_ids: Sequence[str], *, mark: str = ""
) -> SetCeremony | Refused:
    """Let an approver sign several requests at once, each as it was asked. Call it in a Tx that locks their rows."""
    if len(set(request_ids)) != len(request_ids) or not MIN_SET <= len(request_ids) <= MAX_SET:
        return Refused(
            Kind.INVALID, "set_size", "Choose at least two and at most twenty different requests.", "request_ids"
        )
    singles: list[ApprovalStatement] = []
    for number, key in enumerate(request_ids):
        request = tx.get(AccessRequest, key) if len(key) <= 64 else None
        step = _step(tx, broker, current, request)
        if isinstance(step, Refused) or request is None:
            why = cast(Refused, step)
            return refuse(tx, current, request, replace(why, field=why.field or f"request_ids.{number}"))
        singles.append(
            statement_of(
                broker,
                request,
                approver=current.person.id,
                credential_id=current.passkey.credential_id,
                step=step,
                verdict=Verdict.APPROVE.value,
                nonce=b64u_encode(new_bytes(NONCE_BYTES)),
                deputation=lent(tx, request, current.person.id),
            )
        )
    data = tuple(single.to_bytes() for single in singles)
    statement = ApprovalSetStatement(
        instance=broker.site.instance_id,
        log_origin=broker.site.log_origin,
        approver=current.person.id,
        credential_id=current.passkey.credential_id,
        approvals=tuple(sha256_b64u(single) for single in data),
        approve_by=min(single.approve_by for single in singles),
        nonce=b64u_encode(new_bytes(NONCE_BYTES)),
    )
    ceremony = begin_assertion(
        tx,
        broker.site,
        current,
        purpose=Purpose.APPROVAL_SET.value,
        statement=statement.to_bytes(),
        extra={
            "singles": [b64u_encode(single) for single in data],
            "opened_us": to_epoch_us(pace.opened_at(broker, mark, PAGE, current.session.id, tx.now) or tx.now),
        },
    )
    return SetCeremony(ceremony, data)


def signable(waiting: Sequence[Waiting]) -> list[Waiting]:
    """Return those that can be signed with others: where no figure has to be read back."""
    return [one for one in waiting if not reading.due(one.request, Terms.from_document(one.request.terms))]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A request that cannot be signed with the others any more, and why."""

    request: AccessRequest
    why: Refused


def still_open(
    tx: Tx, broker: Broker, current: Current, request_ids: Sequence[str]
) -> tuple[list[str], tuple[LeftOut, ...]]:
    """Part the chosen requests into those that this person may still sign and those left out; a request that is none of the
    person's business stays among the former, where it is refused. Call it in a Tx that locks their rows.
    """
    kept: list[str] = []
    left: list[LeftOut] = []
    for key in request_ids[:MAX_SET]:
        request = tx.get(AccessRequest, key) if len(key) <= 64 else None
        step = _step(tx, broker, current, request)
        known = request is not None and not isinstance(facts(tx, broker, key, current), Refused)
        if request is not None and known and isinstance(step, Refused):
            left.append(LeftOut(request, step))
        else:
            kept.append(key)
    return [*kept, *request_ids[MAX_SET:]], tuple(left)


def _step(tx: Tx, broker: Broker, current: Current, request: AccessRequest | None) -> str | Refused:
    found = may_sign(tx, broker, current, request)
    if isinstance(found, Refused) or request is None:
        return found
    if reading.due(request, Terms.from_document(request.terms)):
        return Refused(Kind.CONFLICT, "sign_alone", "A figure of this request has to be read: sign it by itself.")
    return found


def requests_of(view: View, current: Current, challenge_id: str) -> list[str]:
    """Return the ids of the requests of a set that this session began, for locking; empty for any other challenge."""
    row = view.get(Challenge, challenge_id) if len(challenge_id) <= 64 else None
    if row is None or row.session_id != current.session.id or row.purpose != Purpose.APPROVAL_SET.value:
        return []
    return [ApprovalStatement.parse(single).request_id for single in singles_of(row)]


def singles_of(row: Challenge) -> tuple[bytes, ...]:
    """Return the exact bytes of the single statements that a set's challenge was made for."""
    return _singles(row.extra)


def _singles(extra: JsonValue) -> tuple[bytes, ...]:
    return tuple(b64u_decode(single) for single in cast("dict[str, list[str]]", extra)["singles"])


def _note_pace(tx: Tx, broker: Broker, current: Current, verified: VerifiedAssertion, requests: Sequence[str]) -> None:
    """Keep how long was looked at each; a set shares its time."""
    opened = from_epoch_us(cast("dict[str, int]", verified.extra)["opened_us"])
    for request_id in requests:
        pace.note(
            tx,
            broker,
            person_id=current.person.id,
            request_id=request_id,
            verdict=Verdict.APPROVE,
            opened=opened,
            shared_by=len(requests),
        )


def complete_set(
    tx: Tx, broker: Broker, current: Current, *, challenge_id: str, response: Response
) -> list[Approved] | Refused:
    """Count a signed set, whole or not at all. Call it in a Tx that locks the rows of `approve.lock_of` for `requests_of`.

    1 the signature, over the set's stored bytes · 2 the single statements are the listed ones · 3 the right to sign each, derived
    anew, and each is what its row says now · 4 the set stored, then each stored and counted · 5 what was counted before stands in
    the way of none of the others: raises CONFLICT, nothing is counted, and that is recorded; the signed set is spent like any other.
    """
    verified = complete_assertion(
        tx, broker.site, current, purpose=Purpose.APPROVAL_SET.value, challenge_id=challenge_id, response=response
    )  # 1
    if isinstance(verified, Refused):
        return _refused(tx, current, verified)
    singles = _listed(verified)  # 2
    checked: list[tuple[AccessRequest, bytes, ApprovalStatement]] = []
    for data in singles:  # 3
        single = ApprovalStatement.parse(data)
        request = tx.get(AccessRequest, single.request_id)
        step = _step(tx, broker, current, request)
        if isinstance(step, Refused) or request is None:
            return _refused(tx, current, cast(Refused, step), request)
        deputation = lent(tx, request, current.person.id)
        other = not_as_shown(broker, request, single, passkey=verified.passkey, step=step, deputation=deputation)
        if other is not None:
            return _refused(tx, current, other, request)
        checked.append((request, data, single))
    _note_pace(tx, broker, current, verified, [request.id for request, _, _ in checked])
    signed = _store(tx, current, verified)  # 4
    assertion = cast(JsonValue, verified.assertion)
    done: list[Approved] = []
    for request, data, single in checked:
        if any(one.grant is not None for one in done) and redecide(tx, broker, request) is not None:  # 5
            apart = Refused(
                Kind.CONFLICT, "sign_alone", "Two of these requests stand in each other's way. Sign them one by one."
            )
            tx.if_undone(partial(_refused, current=current, refused=apart, request=request))
            raise JitError(apart.kind, apart.message, code=apart.code)
        signing = Signing(verified.passkey, data, single, assertion, signed.id)
        done.append(count_in(tx, broker, current, request, signing))
    return done


def _listed(verified: VerifiedAssertion) -> tuple[bytes, ...]:
    """Return the single statements that the signed set lists; what is kept beside a challenge proves nothing by itself."""
    try:
        statement = ApprovalSetStatement.parse(verified.statement or b"")
    except ProofError as error:
        raise JitError(Kind.INTERNAL, "The stored statement cannot be read.") from error
    singles = _singles(verified.extra)
    if tuple(sha256_b64u(single) for single in singles) != statement.approvals:
        raise JitError(Kind.INTERNAL, "The stored statements are not those of the signed set.")
    return singles


def _store(tx: Tx, current: Current, verified: VerifiedAssertion) -> ApprovalSet:
    key = tx.new_id()
    data = verified.statement or b""
    event = tx.record(
        EventType.APPROVAL_SET_SIGNED,
        subject={"approver": current.person.id, "passkey": verified.passkey.id, "approval_set": key},
        body={
            "statement": sha256_b64u(data),
            "assertion": Assertion.from_json(cast(JsonValue, verified.assertion)).digest(),
            "approvals": [*ApprovalSetStatement.parse(data).approvals],
        },
    )
    return tx.insert(
        ApprovalSet,
        event,
        id=key,
        person_id=current.person.id,
        account_id=current.account.id,
        passkey_id=verified.passkey.id,
        statement=data,
        assertion=cast(JsonValue, verified.assertion),
        signed_at=tx.now,
    )


def _refused(tx: Tx, current: Current, refused: Refused, request: AccessRequest | None = None) -> Refused:
    """Record that a set was refused, and by which of its requests; nothing of it counts."""
    tx.record(
        EventType.APPROVAL_SET_REFUSED,
        subject={"approver": current.person.id, "request": request.id if request is not None else None},
        body={"reason": refused.code, "field": refused.field},
    )
    return refused
