"""Who may stop a grant while it waits, and what do witnesses see of it? The veto (policy term `delay`).

Stopping is one tap and takes effect at once; its signature is asked for afterwards, like a denial's (design.md section 5a).
Rights are those of the register now. A veto ends a grant that has not begun; what runs already is revoked (`broker.revoke`).
"""

from dataclasses import dataclass
from typing import cast

from sqlalchemy import select

from jitaccess.broker.context import Broker, subject_of
from jitaccess.broker.grants import may_veto, witnesses
from jitaccess.broker.revoke import end_grant, ends_by_right
from jitaccess.clock import to_epoch_s
from jitaccess.domain.events import EventType
from jitaccess.domain.lifecycle import EndCause, GrantState
from jitaccess.domain.values import Refused
from jitaccess.errors import Kind
from jitaccess.identity.passkeys import Ceremony, Response, begin_assertion, complete_assertion
from jitaccess.identity.people import is_auditor, may_act
from jitaccess.identity.sessions import Current
from jitaccess.policy.course import NOTICES
from jitaccess.policy.evaluate import Terms
from jitaccess.proof.canonical import JsonValue, b64u_encode, sha256_b64u
from jitaccess.proof.statements import NONCE_BYTES, Purpose, VetoStatement, differences
from jitaccess.store.db import Tx, View
from jitaccess.store.ids import new_bytes
from jitaccess.store.tables import AccessRequest, Grant, Veto

NOTHING = Refused(Kind.NOT_FOUND, "no_such_grant", "There is no such access for you.")


@dataclass(frozen=True, slots=True)
class Witnessed:
    """What somebody who neither asked nor signs may see: a request, its grant where there is one, and the vetoes."""

    request: AccessRequest
    grant: Grant | None
    vetoes: tuple[Veto, ...]
    stoppable: bool
    """Whether this person may stop it now."""
    unsigned: bool
    """Whether a veto of this person waits for its signature."""
    overseen: bool
    """Whether this person sees it as an auditor or administrator alone: such a reading is noted (R71)."""


def witnessed(
    view: View, broker: Broker, current: Current, *, request_id: str = "", grant_id: str = ""
) -> Witnessed | Refused:
    """Return what a witness sees; a person who has nothing to do with it learns nothing."""
    grant = view.get(Grant, grant_id) if 0 < len(grant_id) <= 64 else None
    key = grant.request_id if grant is not None else request_id
    request = view.get(AccessRequest, key) if 0 < len(key) <= 64 else None
    if request is None:
        return NOTHING
    if grant is None:
        grant = view.first(select(Grant).where(Grant.request_id == request.id))
    me = current.person.id
    course = Terms.from_document(request.terms).course
    told = any(me in witnesses(view, course, event) for event in NOTICES)
    stopper = grant is not None and me in may_veto(view, broker, grant)
    ends = grant is not None and ends_by_right(view, broker, current, grant)
    overseen = not (told or stopper or ends or me == request.person_id)
    if overseen and not is_auditor(view, me):
        return NOTHING
    vetoes = _vetoes(view, grant.id) if grant is not None else []
    return Witnessed(
        request,
        grant,
        tuple(vetoes),
        stopper and grant is not None and grant.state == GrantState.SCHEDULED.value and me != grant.person_id,
        any(veto.person_id == me and veto.signed_at is None for veto in vetoes),
        overseen,
    )


def _vetoes(view: View, grant_id: str) -> list[Veto]:
    return view.all(select(Veto).where(Veto.grant_id == grant_id).order_by(Veto.given_at, Veto.id))


def waiting(view: View, broker: Broker, current: Current) -> list[Grant]:
    """Return the grants that wait and that this person may stop, the nearest start first."""
    found = view.all(
        select(Grant)
        .where(Grant.state == GrantState.SCHEDULED.value, Grant.not_before > view.now, Grant.course.is_not(None))
        .order_by(Grant.not_before)
    )
    me = current.person.id
    return [grant for grant in found if grant.person_id != me and me in may_veto(view, broker, grant)]


def give(tx: Tx, broker: Broker, current: Current, grant_id: str) -> Grant | Refused:
    """Stop a grant that waits, with one tap. Call it in a Tx that locks the grant's row."""
    grant = tx.get(Grant, grant_id) if len(grant_id) <= 64 else None
    me = current.person.id
    refused = may_act(tx, person_id=me, account_id=current.account.id)
    if refused is None and (grant is None or me == grant.person_id or me not in may_veto(tx, broker, grant)):
        refused = NOTHING
    if refused is not None or grant is None:
        subject = subject_of(grant) if grant is not None else {}
        code = refused.code if refused is not None else NOTHING.code
        tx.record(EventType.VETO_REFUSED, subject={**subject, "vetoer": me}, body={"reason": code})
        return refused or NOTHING
    if grant.state != GrantState.SCHEDULED.value:
        return Refused(Kind.GONE, "not_waiting", "This access does not wait any more. End it instead.")
    event = tx.record(EventType.VETO_GIVEN, subject={**subject_of(grant), "vetoer": me}, body={"signed": False})
    tx.insert(
        Veto, event, id=tx.new_id(), grant_id=grant.id, person_id=me, account_id=current.account.id, given_at=tx.now
    )
    end_grant(tx, grant, EndCause.VETOED, by=me)
    return grant


def begin_signature(tx: Tx, broker: Broker, current: Current, grant_id: str) -> Ceremony | Refused:
    """Let a person sign the veto given before."""
    found = _mine(tx, current, grant_id)
    if found is None:
        return _none()
    statement = _statement(
        broker,
        current,
        *found,
        sign_by=to_epoch_s(tx.now) + broker.site.sessions.challenge_s,
        nonce=b64u_encode(new_bytes(NONCE_BYTES)),
    )
    return begin_assertion(
        tx, broker.site, current, purpose=Purpose.VETO.value, subject_id=grant_id, statement=statement.to_bytes()
    )


def _statement(
    broker: Broker, current: Current, grant: Grant, veto: Veto, *, sign_by: int, nonce: str
) -> VetoStatement:
    return VetoStatement(
        instance=broker.site.instance_id,
        log_origin=broker.site.log_origin,
        grant_id=grant.id,
        request_id=grant.request_id,
        approvals_digest=grant.approvals_digest,
        vetoer=current.person.id,
        credential_id=current.passkey.credential_id,
        given_at=to_epoch_s(veto.given_at),
        sign_by=sign_by,
        nonce=nonce,
    )


def complete_signature(
    tx: Tx, broker: Broker, current: Current, *, grant_id: str, challenge_id: str, response: Response
) -> Veto | Refused:
    """Put the signature under a veto; it changes nothing else."""
    verified = complete_assertion(
        tx, broker.site, current, purpose=Purpose.VETO.value, challenge_id=challenge_id, response=response
    )
    if isinstance(verified, Refused):
        return verified
    found = _mine(tx, current, grant_id)
    if found is None:
        return _none()
    grant, veto = found
    signed = VetoStatement.parse(verified.statement or b"")
    wanted = _statement(broker, current, grant, veto, sign_by=signed.sign_by, nonce=signed.nonce)
    if differences(signed, wanted) or to_epoch_s(tx.now) >= signed.sign_by:
        return Refused(Kind.CONFLICT, "differs_from_signed", "This is not the veto that was shown. Sign again.")
    event = tx.record(
        EventType.VETO_SIGNED,
        subject={**subject_of(grant), "vetoer": current.person.id, "passkey": verified.passkey.id},
        body={"statement": sha256_b64u(verified.statement or b"")},
    )
    tx.update(
        veto,
        event,
        passkey_id=verified.passkey.id,
        statement=verified.statement,
        assertion=cast(JsonValue, verified.assertion),
        signed_at=tx.now,
    )
    return veto


def _mine(view: View, current: Current, grant_id: str) -> tuple[Grant, Veto] | None:
    grant = view.get(Grant, grant_id) if len(grant_id) <= 64 else None
    for veto in _vetoes(view, grant_id) if grant is not None else ():
        if veto.person_id == current.person.id and veto.signed_at is None and grant is not None:
            return grant, veto
    return None


def _none() -> Refused:
    return Refused(Kind.NOT_FOUND, "no_such_veto", "There is no veto of yours that waits for a signature.")
