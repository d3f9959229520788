"""How is somebody or something stopped at once? Holds, their release, and ending everything (R12, T-17).

A hold is placed by one person with a session, takes effect in its own transaction and ends what is live under it: sessions,
pending requests, grants. Releasing one is a signed change by somebody else than its subject (`broker.changes`). A hold that would leave
nobody who can administer the broker, and so nobody to release it, is not placed by a tap: what is live ends all the same, and the hold
takes signatures or the host's shell (ADR 0039).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import ColumnElement, or_, select

from jitaccess.broker import deputies
from jitaccess.broker.context import Broker, advance
from jitaccess.broker.logout import end_family
from jitaccess.broker.revoke import LIVE_GRANTS, LIVE_LEASES, end_grants, live_grants
from jitaccess.domain.events import EventType
from jitaccess.domain.lifecycle import EndCause, RequestState
from jitaccess.domain.values import Refused
from jitaccess.errors import JitError, Kind
from jitaccess.identity.enrolment import tell
from jitaccess.identity.people import Foreseen, Staff, foresee, register, staff
from jitaccess.identity.sessions import end_all
from jitaccess.identity.standing import able_administrators
from jitaccess.store.db import Tx, View
from jitaccess.store.tables import AccessRequest, Account, Approval, Grant, Hold, Lease, Passkey, Person, Token
from jitaccess.told import told


class HoldKind(StrEnum):
    """What can be held."""

    PERSON = "person"
    PASSKEY = "passkey"
    TARGET = "target"
    GRANT = "grant"
    INSTITUTION = "institution"
    INSTANCE = "instance"


@dataclass(frozen=True, slots=True)
class Ended:
    """What a hold ended."""

    sessions: int
    requests: int
    grants: int


LAST_ADMINISTRATOR = Refused(
    Kind.CONFLICT,
    "last_administrator",
    "Everything live was ended. The hold itself would leave nobody who can administer this broker: sign it with a passkey, or place it on "
    "the broker's own host.",
)


def locks_out(view: View, kind: HoldKind, subject_id: str) -> bool:
    """Say whether a hold would leave nobody who can administer the broker."""
    if kind not in (HoldKind.PERSON, HoldKind.PASSKEY, HoldKind.INSTITUTION):
        return False
    known = staff(view)
    able = able_administrators(known)
    if not able or not all(_concerns(known, kind, subject_id, person) for person in able):
        return False  # somebody whom the hold does not touch stays able: the register need not be read anew
    after = foresee(view, Foreseen(holds=frozenset({(kind.value, subject_id)})))
    return not able_administrators(after)


def _concerns(known: Staff, kind: HoldKind, subject_id: str, person_id: str) -> bool:
    """Say whether a hold of this kind touches a person."""
    match kind:
        case HoldKind.PERSON:
            return person_id == subject_id
        case HoldKind.INSTITUTION:
            return known.register.persons[person_id].institution == subject_id
        case _:
            account = known.passkeys.get(subject_id, ("", ""))[0]
            return known.accounts.get(account, ("", False))[0] == person_id


def place(
    tx: Tx, broker: Broker, *, kind: HoldKind, subject_id: str, cause: str, by: str, sure: bool = False
) -> tuple[Hold | Refused, Ended]:
    """Place a hold and end what is live under it; an equal hold in force is returned as it is.

    A refusal for the hold: it would lock everybody out, and nobody signed it (`sure`). What is live was ended, and the alarm is raised.
    """
    _check_subject(tx, broker, kind, subject_id)
    known = next((one for one in in_force(tx) if (one.kind, one.subject_id) == (kind.value, subject_id)), None)
    if known is not None:
        return known, end_everything(tx, broker, kind=kind, subject_id=subject_id, by=by, cause=EndCause.HELD)
    if not sure and locks_out(tx, kind, subject_id):
        tx.record(
            EventType.ALARM_RAISED,
            subject={kind.value: subject_id},
            body={"what": "hold_would_lock_out", "by": by},
        )
        return LAST_ADMINISTRATOR, end_everything(
            tx, broker, kind=kind, subject_id=subject_id, by=by, cause=EndCause.HELD
        )
    hold = _write(tx, kind, subject_id, cause, by)
    if kind is HoldKind.PERSON:
        tell(tx, "held", subject_id, hold.id)
    return hold, end_everything(tx, broker, kind=kind, subject_id=subject_id, by=by, cause=EndCause.HELD)


def _write(tx: Tx, kind: HoldKind, subject_id: str, cause: str, by: str) -> Hold:
    key = tx.new_id()
    named = kind.value if kind is not HoldKind.INSTANCE else "instance"
    event = tx.record(
        EventType.HOLD_PLACED,
        subject={"hold": key, named: subject_id},
        body={"kind": kind.value, "by": by},
        texts={"cause": cause},
    )
    return tx.insert(
        Hold,
        event,
        id=key,
        kind=kind.value,
        subject_id=subject_id,
        cause=cause[:200],
        placed_by=by,
        placed_at=tx.now,
    )


def keep_for_others(tx: Tx, broker: Broker, held: Hold, person_id: str) -> None:
    """Lift a hold on an institution for one person: everybody else of it is on hold by name from here on."""
    release(tx, held.id, by="paper keys")
    known = {one.subject_id for one in in_force(tx) if one.kind == HoldKind.PERSON.value}
    for other in sorted(register(tx).of_institution(held.subject_id) - known - {person_id}):
        _write(tx, HoldKind.PERSON, other, held.cause, held.placed_by)


def _check_subject(tx: Tx, broker: Broker, kind: HoldKind, subject_id: str) -> None:
    match kind:
        case HoldKind.PERSON:
            known = tx.unchecked_get(Person, subject_id) is not None
        case HoldKind.PASSKEY:
            known = tx.unchecked_get(Passkey, subject_id) is not None
        case HoldKind.GRANT:
            known = tx.unchecked_get(Grant, subject_id) is not None
        case HoldKind.TARGET:
            policies = broker.policies.active_or_none(tx)
            known = policies is not None and subject_id in policies.targets
        case HoldKind.INSTITUTION:
            known = bool(register(tx).of_institution(subject_id))
        case HoldKind.INSTANCE:
            known = subject_id == broker.site.instance_id
    if not known:
        raise JitError(Kind.NOT_FOUND, told("There is nothing with this id that could be held."))


def end_everything(
    tx: Tx, broker: Broker, *, kind: HoldKind, subject_id: str, by: str, cause: EndCause = EndCause.REVOKED
) -> Ended:
    """End sessions, pending requests and grants of a person, passkey, target, grant or institution, in one transaction.

    A hold on the whole instance refuses what is new and ends nothing.
    """
    match kind:
        case HoldKind.PERSON:
            return _end_person(tx, subject_id, by, cause)
        case HoldKind.PASSKEY:
            sessions = end_all(tx, passkey_id=subject_id, cause=cause.value)
            return _end_work_of(tx, Passkey.id == subject_id, cause, by, sessions=sessions)
        case HoldKind.TARGET:
            requests = _end_requests(tx, _pending(tx, target=subject_id), by)
            return Ended(0, requests, end_grants(tx, live_grants(tx, target=subject_id), cause, by=by))
        case HoldKind.GRANT:
            return Ended(0, 0, end_grants(tx, live_grants(tx, id=subject_id), cause, by=by))
        case HoldKind.INSTITUTION:
            each = [_end_person(tx, person, by, cause) for person in sorted(register(tx).of_institution(subject_id))]
            return Ended(sum(e.sessions for e in each), sum(e.requests for e in each), sum(e.grants for e in each))
        case HoldKind.INSTANCE:
            return Ended(0, 0, 0)


def end_work_of_dead_passkeys(tx: Tx) -> Ended:
    """End what was filed, opened or signed in to with passkeys that were removed, blocked (a copy was noticed) or held since (R6, R12)."""
    held = [subject for kind, subject in staff(tx).holds if kind == HoldKind.PASSKEY.value]
    dead = or_(Passkey.status != "active", Passkey.id.in_(held))
    return _end_work_of(tx, dead, EndCause.HELD, "passkey", sessions=0)


def _end_work_of(tx: Tx, which: ColumnElement[bool], cause: EndCause, by: str, *, sessions: int) -> Ended:
    """End the grants that passkeys filed or opened, the sign-ins that they signed, and the pending requests that they filed or approved."""
    passkeys = select(Passkey.id).where(which)
    approved = select(Approval.request_id).where(Approval.passkey_id.in_(passkeys), Approval.lost_at.is_(None))
    waiting = tx.unchecked_all(
        select(AccessRequest).where(
            AccessRequest.state == RequestState.PENDING.value,
            or_(AccessRequest.filing_passkey_id.in_(passkeys), AccessRequest.id.in_(approved)),
        )
    )
    filed = select(AccessRequest.id).where(AccessRequest.filing_passkey_id.in_(passkeys))
    opened = select(Lease.grant_id).where(Lease.passkey_id.in_(passkeys), Lease.state.in_(LIVE_LEASES))
    live = tx.unchecked_all(
        select(Grant).where(Grant.state.in_(LIVE_GRANTS), or_(Grant.request_id.in_(filed), Grant.id.in_(opened)))
    )
    ended = Ended(sessions, _end_requests(tx, waiting, by), end_grants(tx, live, cause, by=by))
    # What goes on was opened with another passkey: of that only the sign-ins with these end. With a grant that ended, its own did.
    signed_in = (
        select(Token.family, Token.client_id)
        .join(Lease, Lease.id == Token.lease_id)
        .where(Token.passkey_id.in_(passkeys), Token.ended_at.is_(None), Lease.state.in_(LIVE_LEASES))
        .distinct()
    )
    for family, client in tx.rows(signed_in).all():
        end_family(tx, family, EventType.TOKEN_REVOKED, client_id=client, tell_client=cause.value)
    return ended


def _end_person(tx: Tx, person_id: str, by: str, cause: EndCause) -> Ended:
    sessions = end_all(tx, person_id=person_id, cause=cause.value)
    deputies.end_all_of(tx, person_id, by=by)
    requests = _end_requests(tx, _pending(tx, person_id=person_id), by)
    return Ended(sessions, requests, end_grants(tx, live_grants(tx, person_id=person_id), cause, by=by))


def _pending(view: View, **where: str) -> list[AccessRequest]:
    statement = select(AccessRequest).where(AccessRequest.state == RequestState.PENDING.value)
    for name, value in where.items():
        statement = statement.where(getattr(AccessRequest, name) == value)
    return view.all(statement)


def _end_requests(tx: Tx, requests: Sequence[AccessRequest], by: str) -> int:
    for request in requests:
        advance(tx, request, RequestState.DENIED, body={"by": "hold", "placed_by": by}, decided_at=tx.now)
        tell(tx, "request_decided", request.person_id, request.id)
    return len(requests)


def release(tx: Tx, hold_id: str, *, by: str) -> Hold:
    """Lift a hold; the caller has checked the signature and that it is not the subject's own.

    The entry is what lifts it. A row that is gone or was changed behind our back is left as it is.
    """
    found = find(tx, hold_id)
    event = tx.record(EventType.HOLD_RELEASED, subject={"hold": hold_id, found.kind: found.subject_id}, body={"by": by})
    row = tx.unchecked_get(Hold, hold_id)
    if row is not None and tx.whole(row):
        tx.update(row, event, expect={"released_at": None}, released_by=by, released_at=tx.now)
        return row
    tx.touch_register()
    return found


def find(view: View, hold_id: str) -> Hold:
    """Return a hold that is in force; raises NOT_FOUND."""
    found = next((one for one in in_force(view) if one.id == hold_id), None)
    if found is None:
        raise JitError(Kind.NOT_FOUND, "There is no such hold.")
    return found


def in_force(view: View) -> list[Hold]:
    """Return holds in force, newest first: what the log placed and did not release, whatever became of the rows (ADR 40)."""
    rows = {row.id: row for row in view.usable(select(Hold).where(Hold.released_at.is_(None)))}
    for key, entry in view.logged_holds().items():
        if key not in rows:
            rows[key] = Hold(
                id=key,
                kind=entry.kind,
                subject_id=entry.subject_id,
                cause="",
                placed_by=entry.placed_by,
                placed_at=entry.placed_at,
            )
    return sorted(rows.values(), key=lambda one: (one.placed_at, one.id), reverse=True)


def concerns(view: View, hold: Hold, person_id: str) -> bool:
    """Say whether a hold is on this person, or on something of this person: then this person may not lift it."""
    match HoldKind(hold.kind):
        case HoldKind.PERSON:
            return hold.subject_id == person_id
        case HoldKind.PASSKEY:
            passkey = view.unchecked_get(Passkey, hold.subject_id)
            account = view.unchecked_get(Account, passkey.account_id) if passkey is not None else None
            return account is not None and account.person_id == person_id
        case HoldKind.GRANT:
            grant = view.unchecked_get(Grant, hold.subject_id)
            return grant is not None and grant.person_id == person_id
        case HoldKind.INSTITUTION:
            person = register(view).persons.get(person_id)
            return person is not None and person.institution == hold.subject_id
        case HoldKind.TARGET | HoldKind.INSTANCE:
            return False
