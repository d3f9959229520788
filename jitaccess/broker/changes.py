"""What does each signed administrative act do? (R15, R29)

`identity.changes` signs, stores and counts; `broker.acts` has the shapes of what is signed, `broker.judging` who must sign and who may not;
the table here says what an act does once enough have. A new kind is one row there and one here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from jitaccess.broker import clients, cut, hold, judging, policies, restore
from jitaccess.broker.acts import (
    AccountAdd,
    ClientAdd,
    ClientAddProxied,
    GroupAdd,
    HoldPlace,
    LeaseClose,
    LinkCreate,
    Member,
    Payload,
    PersonAdd,
    PersonChange,
    PolicyActivate,
    RecordRestore,
    parsed,
)
from jitaccess.broker.context import Broker
from jitaccess.domain.events import EventType
from jitaccess.domain.values import Refused
from jitaccess.errors import JitError, Kind
from jitaccess.identity import changes, enrolment, people, recovery
from jitaccess.identity.changes import Judged
from jitaccess.identity.passkeys import Ceremony, Response
from jitaccess.identity.sessions import Current
from jitaccess.proof.canonical import JsonValue
from jitaccess.proof.statements import ChangeStatement
from jitaccess.store.db import Tx, View
from jitaccess.store.tables import Account, Change, Person, PolicySetRow
from jitaccess.told import told


@dataclass(frozen=True, slots=True)
class Applied:
    """What a change did: `shown` is for the signer's eyes once (an enrolment link, a client's secret), never stored."""

    change: Change
    ready: bool
    shown: str | None = None


Effect = Callable[[Tx, Broker, Current, Change, Payload], str | None]


def _person_add(tx: Tx, broker: Broker, current: Current, change: Change, payload: Payload) -> str | None:
    given = cast(PersonAdd, payload)
    active = broker.policies.active_or_none(tx)
    if active is not None and given.institution not in active.institutions:
        raise JitError(Kind.INVALID, "The policy knows no such institution.", field="institution")
    person = people.add_person(
        tx,
        name=given.name,
        email=given.email,
        institution=given.institution,
        unit=given.unit,
        manager_id=given.manager_id,
        language=given.language,
    )
    account = people.add_account(tx, person_id=person.id, label=given.email)
    for group in given.groups:
        people.add_member(tx, group_id=group, member_id=person.id)
    return enrolment.create_link(tx, broker.site, account_id=account.id, by=current.person.id)


def _person_change(tx: Tx, broker: Broker, current: Current, change: Change, payload: Payload) -> str | None:
    people.change_person(tx, change.subject_id, **cast(PersonChange, payload).values)
    return None


def _person_disable(tx: Tx, broker: Broker, current: Current, change: Change, payload: Payload) -> str | None:
    people.disable_person(tx, change.subject_id)
    hold.end_everything(tx, broker, kind=hold.HoldKind.PERSON, subject_id=change.subject_id, by=current.person.id)
    return None


def _person_enable(tx: Tx, broker: Broker, current: Current, change: Change, payload: Payload) -> str | None:
    people.enable_person(tx, change.subject_id)
    return None


def _account_add(tx: Tx, broker: Broker, current: Current, change: Change, payload: Payload) -> str | None:
    tx.require(Person, change.subject_id, "There is no such person.")
    account = people.add_account(tx, person_id=change.subject_id, label=cast(AccountAdd, payload).label)
    return enrolment.create_link(tx, broker.site, account_id=account.id, by=current.person.id)


def _group_add(tx: Tx, broker: Broker, current: Current, change: Change, payload: Payload) -> str | None:
    given = cast(GroupAdd, payload)
    people.add_group(tx, group_id=change.subject_id, name=given.name, institution=given.institution)
    return None


def _member_add(tx: Tx, broker: Broker, current: Current, change: Change, payload: Payload) -> str | None:
    given = cast(Member, payload)
    people.add_member(tx, group_id=change.subject_id, member_id=given.member_id, kind=given.kind)
    return None


def _member_end(tx: Tx, broker: Broker, current: Current, change: Change, payload: Payload) -> str | None:
    people.end_member(tx, group_id=change.subject_id, member_id=cast(Member, payload).member_id)
    return None


def _link_create(tx: Tx, broker: Broker, current: Current, change: Change, payload: Payload) -> str | None:
    """A first link at once; where there was a passkey before, a replacement that waits, is told and can be stopped."""
    account = tx.require(Account, change.subject_id, "There is no such account.")
    if cast(LinkCreate, payload).purpose == enrolment.RECOVER:
        recovery.replace(tx, broker.site, account_id=account.id, change_id=change.id)
        return None
    return enrolment.create_link(tx, broker.site, account_id=account.id, by=current.person.id)


def _recovery_link(tx: Tx, broker: Broker, current: Current, change: Change, payload: Payload) -> str | None:
    return recovery.link(tx, broker.site, change.subject_id)


def _hold_place(tx: Tx, broker: Broker, current: Current, change: Change, payload: Payload) -> str | None:
    given = cast(HoldPlace, payload)
    cause = given.cause.strip() or "signed by an administrator"
    kind = hold.HoldKind(given.kind)
    hold.place(tx, broker, kind=kind, subject_id=change.subject_id, cause=cause, by=current.person.id, sure=True)
    return None


def _print_keys(tx: Tx, broker: Broker, current: Current, change: Change, payload: Payload) -> str | None:
    return "\n".join(recovery.print_keys(tx))


def _hold_release(tx: Tx, broker: Broker, current: Current, change: Change, payload: Payload) -> str | None:
    held = hold.find(tx, change.subject_id)
    hold.release(tx, held.id, by=current.person.id)
    return None


def _policy_activate(tx: Tx, broker: Broker, current: Current, change: Change, payload: Payload) -> str | None:
    row = tx.require(PolicySetRow, change.subject_id, "There is no such policy set.")
    active = broker.policies.active_or_none(tx)
    if row.digest != cast(PolicyActivate, payload).digest:
        raise JitError(Kind.CONFLICT, "This is not the set that was signed.")
    if change.before_digest != (active.digest if active is not None else None):
        raise JitError(Kind.CONFLICT, "Another policy became active meanwhile: propose and sign again.")
    moved = cut.still_needed(tx, broker, policies.compiled(row))
    if moved:
        raise JitError(
            Kind.CONFLICT,
            told(
                "Credentials are still live on %(names)s, which this set removes or points elsewhere. End them first.",
                names=", ".join(moved),
            ),
        )
    policies.activate(tx, row)
    return None


def _lease_close(tx: Tx, broker: Broker, current: Current, change: Change, payload: Payload) -> str | None:
    cut.close_stuck(tx, change.subject_id, reason=cast(LeaseClose, payload).reason)
    return None


def _client_add(tx: Tx, broker: Broker, current: Current, change: Change, payload: Payload) -> str | None:
    _known_target(tx, broker, change.subject_id)
    client, secret = clients.add_client(tx, target=change.subject_id, **cast(ClientAdd, payload).model_dump())
    return "\n".join([f"client_id {client.id}", *([f"client_secret {secret}"] if secret is not None else [])])


def _client_add_proxied(tx: Tx, broker: Broker, current: Current, change: Change, payload: Payload) -> str | None:
    _known_target(tx, broker, change.subject_id)
    given = cast(ClientAddProxied, payload)
    client = clients.add_proxied(tx, target=change.subject_id, name=given.name, origin=given.origin)
    return f"client_id {client.id}"


def _known_target(tx: Tx, broker: Broker, target: str) -> None:
    if target not in broker.policies.active(tx).targets:
        raise JitError(Kind.INVALID, told("The active policy has no target %(name)s.", name=repr(target)))


def _record_restore(tx: Tx, broker: Broker, current: Current, change: Change, payload: Payload) -> str | None:
    table, _, key = change.subject_id.partition("/")
    restore.restore(tx, table, key, cast(RecordRestore, payload).values)
    return None


def _recovery_veto(tx: Tx, broker: Broker, current: Current, change: Change, payload: Payload) -> str | None:
    if people.FOUNDERS not in people.register(tx).persons[current.person.id].groups:
        raise JitError(Kind.FORBIDDEN, "Only a founder may veto a recovery.")
    recovery.stop(tx, change.subject_id, by=current.person.id)
    return None


EFFECTS: Mapping[str, Effect] = {
    "person.add": _person_add,
    "person.change": _person_change,
    "person.disable": _person_disable,
    "person.enable": _person_enable,
    "account.add": _account_add,
    "group.add": _group_add,
    "member.add": _member_add,
    "member.end": _member_end,
    "enrolment.create": _link_create,
    "hold.place": _hold_place,
    "hold.release": _hold_release,
    "policy.activate": _policy_activate,
    "lease.close": _lease_close,
    "client.add": _client_add,
    "client.add_proxied": _client_add_proxied,
    "record.restore": _record_restore,
    "recovery.link": _recovery_link,
    "recovery.veto": _recovery_veto,
    "recovery.print_keys": _print_keys,
}


def begin(
    tx: Tx, broker: Broker, current: Current, *, kind: str, subject: str, payload: JsonValue
) -> Ceremony | Refused:
    """Begin signing an act; only administrators. A pending equal act of another person is joined by signing it."""
    if kind not in EFFECTS or not 0 < len(subject) <= 64:
        return Refused(Kind.INVALID, "unknown_change", "There is no such kind of change.", "kind")
    refused = people.may_act(tx, person_id=current.person.id, account_id=current.account.id)
    if refused is not None:
        return refused
    if not people.is_admin(tx, current.person.id):
        return Refused(Kind.FORBIDDEN, "not_an_admin", "Only an administrator may do this.")
    given = parsed(kind, payload)
    refused = judging.refusal(tx, broker, kind=kind, subject=subject, payload=given, signers={current.person.id})
    if refused is not None:
        tx.record(
            EventType.CHANGE_REJECTED,
            subject={"person": current.person.id, "subject": subject},
            body={"kind": kind, "reason": refused.code},
        )
        return refused
    joined = next(
        (c for c in changes.pending(tx) if (c.kind, c.subject_id, c.payload) == (kind, subject, payload)), None
    )
    before = None
    if kind == "policy.activate":
        active = broker.policies.active_or_none(tx)
        before = active.digest if active is not None else None
        if joined is not None and joined.before_digest != before:
            joined = None
    judging.required(tx, broker, kind=kind, subject=subject, payload=given)
    return changes.begin_change(
        tx,
        broker.site,
        current,
        kind=kind,
        subject=subject,
        payload=payload,
        before_digest=before,
        change=joined,
    )


def complete(tx: Tx, broker: Broker, current: Current, *, challenge_id: str, response: Response) -> Applied | Refused:
    """Take the signature and, when it was the last one needed, do it in the same transaction.

    Who may sign is asked of the signature at hand and of all that were given before, and once more of what came of it.
    """
    before = people.register(tx)

    def judge(statement: ChangeStatement, payload: JsonValue) -> Judged | Refused:
        if not people.is_admin(tx, current.person.id):
            return Refused(Kind.FORBIDDEN, "not_an_admin", "Only an administrator may do this.")
        given = parsed(statement.kind, payload)
        kind, subject = statement.kind, statement.subject
        signers = _signers(tx, statement.change_id, current)
        refused = judging.refusal(tx, broker, kind=kind, subject=subject, payload=given, signers=signers)
        if refused is not None:
            return refused
        number = judging.required(tx, broker, kind=kind, subject=subject, payload=given)
        return Judged(
            number, lambda signer: people.is_admin(tx, signer) and people.may_act(tx, person_id=signer) is None
        )

    signed = changes.complete_change(
        tx, broker.site, current, challenge_id=challenge_id, response=response, judge=judge
    )
    if isinstance(signed, Refused):
        return signed
    change = signed.change
    if not signed.ready:
        return Applied(change, ready=False)
    shown = EFFECTS[change.kind](tx, broker, current, change, parsed(change.kind, change.payload))
    after = people.foresee(tx, people.NOTHING_FORESEEN).register
    if judging.widened(before, after, _signers(tx, change.id, current)):
        raise JitError(judging.OWN_RIGHTS.kind, judging.OWN_RIGHTS.message)
    changes.mark_applied(tx, change)
    return Applied(change, ready=True, shown=shown)


def _signers(view: View, change_id: str, current: Current) -> frozenset[str]:
    return frozenset(found.person_id for found in changes.signatures(view, change_id)) | {current.person.id}


def reject(tx: Tx, change_id: str, *, by: str) -> None:
    """Turn a pending change down; refusing takes one person and no signature."""
    changes.reject(tx, tx.require(Change, change_id, "There is no such change."), by)
