"""Who signed this change of the broker itself? Administrative acts are signed like approvals (R15, R29).

The person signs a ChangeStatement whose `subject_digest` is the digest of the exact payload. One signature, or for what widens power two
different persons' (one in a pilot), make a change ready; the caller then applies it in the same transaction. What a kind does
lives where it belongs (`broker.changes`); this room only signs, stores and counts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

from sqlalchemy import select

from jitaccess.clock import to_epoch_s
from jitaccess.domain.events import EventType
from jitaccess.domain.values import Refused
from jitaccess.errors import Kind
from jitaccess.identity.passkeys import Ceremony, Response, VerifiedAssertion, begin_assertion, complete_assertion
from jitaccess.identity.sessions import Current
from jitaccess.identity.site import Site
from jitaccess.proof.canonical import JsonValue, b64u_encode, digest_b64u
from jitaccess.proof.statements import NONCE_BYTES, ChangeStatement, Purpose
from jitaccess.store.db import Tx, View
from jitaccess.store.ids import new_bytes
from jitaccess.store.tables import Change, ChangeSignature

PENDING_FOR = timedelta(days=7)
"""How long a change waits for its second signature."""


@dataclass(frozen=True, slots=True)
class SignedChange:
    """A change with one more signature; `ready` when it has all it needs and must be applied now."""

    change: Change
    verified: VerifiedAssertion
    ready: bool


@dataclass(frozen=True, slots=True)
class Judged:
    """What a change takes, judged at this moment."""

    required: int
    """How many different persons must sign."""
    counts: Callable[[str], bool]
    """Whether a person who signed earlier may still sign."""


Judge = Callable[[ChangeStatement, JsonValue], Judged | Refused]


def begin_change(
    tx: Tx,
    site: Site,
    current: Current,
    *,
    kind: str,
    subject: str,
    payload: JsonValue,
    before_digest: str | None = None,
    change: Change | None = None,
) -> Ceremony:
    """Begin signing a new change, or one that another person proposed (`change`)."""
    change_id = change.id if change is not None else tx.new_id()
    statement = ChangeStatement(
        instance=site.instance_id,
        log_origin=site.log_origin,
        change_id=change_id,
        kind=kind,
        subject=subject,
        subject_digest=digest_b64u(payload),
        before_digest=before_digest,
        by=current.person.id,
        credential_id=current.passkey.credential_id,
        approve_by=to_epoch_s(tx.now) + site.sessions.challenge_s,
        nonce=b64u_encode(new_bytes(NONCE_BYTES)),
    )
    extra: JsonValue = {"payload": payload}
    return begin_assertion(
        tx,
        site,
        current,
        purpose=Purpose.CHANGE.value,
        subject_id=change_id,
        statement=statement.to_bytes(),
        extra=extra,
    )


def complete_change(
    tx: Tx, site: Site, current: Current, *, challenge_id: str, response: Response, judge: Judge
) -> SignedChange | Refused:
    """Check the signature, compare the payload with what was signed, store and count.

    1 the assertion · 2 the statement is this person's, in time, and its digest is that of the payload · 3 the caller's judgement of
    how many must sign, taken now, never from what was kept · 4 a second signature comes from another person · 5 stored with its
    evidence · 6 enough different persons who may still sign?
    """
    verified = complete_assertion(
        tx, site, current, purpose=Purpose.CHANGE.value, challenge_id=challenge_id, response=response
    )  # 1
    if isinstance(verified, Refused):
        return verified
    statement = ChangeStatement.parse(verified.statement or b"")
    payload = cast("dict[str, JsonValue]", verified.extra)["payload"]
    if (
        statement.by != current.person.id
        or to_epoch_s(tx.now) >= statement.approve_by
        or statement.subject_digest != digest_b64u(payload)
    ):  # 2
        return _refused(tx, current, statement, "differs_from_signed")
    judged = judge(statement, payload)  # 3
    if isinstance(judged, Refused):
        _tell_refusal(tx, current, statement, judged.code)
        return judged
    change = tx.get(Change, statement.change_id)
    if change is None:
        event = tx.record(
            EventType.CHANGE_PROPOSED,
            subject={"change": statement.change_id, "subject": statement.subject, "person": current.person.id},
            body={"kind": statement.kind, "digest": statement.subject_digest, "required": judged.required},
        )
        change = tx.insert(
            Change,
            event,
            id=statement.change_id,
            kind=statement.kind,
            subject_id=statement.subject,
            subject_digest=statement.subject_digest,
            before_digest=statement.before_digest,
            payload=payload,
            required=judged.required,
            status="pending",
            created_by=current.person.id,
            created_at=tx.now,
            approve_by=tx.now + PENDING_FOR,
        )
    elif change.status != "pending" or tx.now >= change.approve_by:
        return _refused(tx, current, statement, "change_not_pending")
    elif (change.kind, change.subject_id, change.subject_digest, change.before_digest) != (
        statement.kind,
        statement.subject,
        statement.subject_digest,
        statement.before_digest,
    ):
        return _refused(tx, current, statement, "differs_from_signed")
    signers = {found.person_id for found in signatures(tx, change.id)}
    if current.person.id in signers:  # 4
        return _refused(tx, current, statement, "same_person")
    signature_id = tx.new_id()
    signed = tx.record(
        EventType.CHANGE_SIGNED,
        subject={"change": change.id, "person": current.person.id, "passkey": verified.passkey.id},
        body={"kind": change.kind, "digest": change.subject_digest},
    )
    tx.insert(
        ChangeSignature,
        signed,
        id=signature_id,
        change_id=change.id,
        person_id=current.person.id,
        passkey_id=verified.passkey.id,
        statement=verified.statement,
        assertion=cast(JsonValue, verified.assertion),
        signed_at=tx.now,
    )  # 5
    counted = {signer for signer in signers if judged.counts(signer)} | {current.person.id}
    return SignedChange(change, verified, len(counted) >= max(change.required, judged.required))  # 6


def mark_applied(tx: Tx, change: Change) -> None:
    """Note that a change took effect; in the transaction in which it does."""
    event = tx.record(EventType.CHANGE_APPLIED, subject={"change": change.id}, body={"kind": change.kind})
    tx.update(change, event, expect={"status": "pending"}, status="applied", decided_at=tx.now)


def reject(tx: Tx, change: Change, by: str) -> None:
    """Turn a pending change down; one person suffices."""
    event = tx.record(
        EventType.CHANGE_REJECTED, subject={"change": change.id, "person": by}, body={"kind": change.kind}
    )
    tx.update(change, event, expect={"status": "pending"}, status="rejected", decided_at=tx.now)


def signatures(view: View, change_id: str) -> list[ChangeSignature]:
    """Return the signatures of a change."""
    return view.all(select(ChangeSignature).where(ChangeSignature.change_id == change_id))


def pending(view: View) -> list[Change]:
    """Return changes that wait for a signature, newest first."""
    return view.usable(
        select(Change)
        .where(Change.status == "pending", Change.approve_by > view.now)
        .order_by(Change.created_at.desc())
    )


def _tell_refusal(tx: Tx, current: Current, statement: ChangeStatement, code: str) -> None:
    tx.record(
        EventType.CHANGE_REJECTED,
        subject={"change": statement.change_id, "person": current.person.id},
        body={"kind": statement.kind, "reason": code},
    )


def _refused(tx: Tx, current: Current, statement: ChangeStatement, code: str) -> Refused:
    _tell_refusal(tx, current, statement, code)
    messages = {
        "same_person": "You signed this already. Another person has to sign it too.",
        "change_not_pending": "This change was decided already or is too old.",
    }
    return Refused(Kind.FORBIDDEN, code, messages.get(code, "This is not what was signed. Start again."))
