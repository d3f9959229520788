"""What does each signed administrative act do, and how many must sign it? (R15, R29)

`identity.changes` signs, stores and counts; this table says who may begin a kind, how many different persons it takes, and what it does.
A new kind is one row here. Until `change_control` is built: widening and rollback of the policy and closing a stuck lease take two
persons, a pilot one, everything else one administrator.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jitaccess.broker import cut, hold, policies
from jitaccess.broker.context import Broker
from jitaccess.domain.values import Refused
from jitaccess.errors import JitError, Kind
from jitaccess.identity import changes, enrolment, people, recovery
from jitaccess.identity.changes import Judged
from jitaccess.identity.passkeys import Ceremony, Response
from jitaccess.identity.sessions import Current
from jitaccess.policy.expected import misfit
from jitaccess.proof.canonical import JsonValue
from jitaccess.proof.statements import ChangeStatement
from jitaccess.store.db import Tx, View
from jitaccess.store.tables import Account, Change, Hold, Person, PolicySetRow
from jitaccess.told import told


class _Payload(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class PersonAdd(_Payload):
    """A new person with a first account and, optionally, groups."""

    name: str = Field(max_length=120)
    email: str = Field(max_length=254)
    institution: str = Field(max_length=63)
    unit: str = Field(max_length=120)
    manager_id: str | None = None
    language: str = Field(default="", pattern="^(|en|sq|sr)$")
    """What the register says; a person's own choice goes first."""
    groups: list[str] = Field(default_factory=list, max_length=50)


class PersonChange(_Payload):
    """New values for a person."""

    values: dict[str, str | None]


class AccountAdd(_Payload):
    """One more account."""

    label: str = Field(max_length=120)


class GroupAdd(_Payload):
    """A new group."""

    name: str = Field(max_length=120)
    institution: str | None = None


class Member(_Payload):
    """A member of the subject group."""

    member_id: str = Field(max_length=64)
    kind: str = Field(default="person", pattern="^(person|group)$")


class LinkCreate(_Payload):
    """A link for the subject account."""

    purpose: str = Field(default="enrol", pattern="^(enrol|recover)$")


class Nothing(_Payload):
    """No more than the subject."""


class LeaseClose(_Payload):
    """Why a lease that cannot be revoked is closed, and how the account on the target was dealt with."""

    reason: str = Field(min_length=10, max_length=500)


class PolicyActivate(_Payload):
    """The digest of the set that becomes active."""

    digest: str


@dataclass(frozen=True, slots=True)
class Applied:
    """What a change did: `shown` is for the signer's eyes once (an enrolment link), never stored."""

    change: Change
    ready: bool
    shown: str | None = None


Effect = Callable[[Tx, Broker, Current, Change, _Payload], str | None]


def _person_add(tx: Tx, broker: Broker, current: Current, change: Change, payload: _Payload) -> str | None:
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


def _person_change(tx: Tx, broker: Broker, current: Current, change: Change, payload: _Payload) -> str | None:
    people.change_person(tx, change.subject_id, **cast(PersonChange, payload).values)
    return None


def _person_disable(tx: Tx, broker: Broker, current: Current, change: Change, payload: _Payload) -> str | None:
    _not_oneself(current, change.subject_id)
    people.disable_person(tx, change.subject_id)
    hold.end_everything(tx, broker, kind=hold.HoldKind.PERSON, subject_id=change.subject_id, by=current.person.id)
    return None


def _person_enable(tx: Tx, broker: Broker, current: Current, change: Change, payload: _Payload) -> str | None:
    people.enable_person(tx, change.subject_id)
    return None


def _account_add(tx: Tx, broker: Broker, current: Current, change: Change, payload: _Payload) -> str | None:
    tx.require(Person, change.subject_id, "There is no such person.")
    account = people.add_account(tx, person_id=change.subject_id, label=cast(AccountAdd, payload).label)
    return enrolment.create_link(tx, broker.site, account_id=account.id, by=current.person.id)


def _group_add(tx: Tx, broker: Broker, current: Current, change: Change, payload: _Payload) -> str | None:
    given = cast(GroupAdd, payload)
    people.add_group(tx, group_id=change.subject_id, name=given.name, institution=given.institution)
    return None


def _member_add(tx: Tx, broker: Broker, current: Current, change: Change, payload: _Payload) -> str | None:
    given = cast(Member, payload)
    _not_oneself(current, given.member_id)
    people.add_member(tx, group_id=change.subject_id, member_id=given.member_id, kind=given.kind)
    return None


def _member_end(tx: Tx, broker: Broker, current: Current, change: Change, payload: _Payload) -> str | None:
    people.end_member(tx, group_id=change.subject_id, member_id=cast(Member, payload).member_id)
    return None


def _link_create(tx: Tx, broker: Broker, current: Current, change: Change, payload: _Payload) -> str | None:
    account = tx.require(Account, change.subject_id, "There is no such account.")
    given = cast(LinkCreate, payload)
    if given.purpose == enrolment.RECOVER:
        _not_oneself(current, account.person_id)
    return enrolment.create_link(tx, broker.site, account_id=account.id, by=current.person.id, purpose=given.purpose)


def _hold_release(tx: Tx, broker: Broker, current: Current, change: Change, payload: _Payload) -> str | None:
    held = tx.require(Hold, change.subject_id, "There is no such hold.")
    if hold.concerns(tx, held, current.person.id):
        raise JitError(Kind.FORBIDDEN, "Nobody lifts a hold on themselves. Ask another administrator.")
    hold.release(tx, held.id, by=current.person.id)
    return None


def _policy_activate(tx: Tx, broker: Broker, current: Current, change: Change, payload: _Payload) -> str | None:
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


def _lease_close(tx: Tx, broker: Broker, current: Current, change: Change, payload: _Payload) -> str | None:
    cut.close_stuck(tx, change.subject_id, reason=cast(LeaseClose, payload).reason)
    return None


def _recovery_veto(tx: Tx, broker: Broker, current: Current, change: Change, payload: _Payload) -> str | None:
    if people.FOUNDERS not in people.register(tx).persons[current.person.id].groups:
        raise JitError(Kind.FORBIDDEN, "Only a founder may veto a recovery.")
    recovery.veto(tx, change.subject_id, by=current.person.id)
    return None


def _not_oneself(current: Current, person_id: str) -> None:
    """The subject of a change of rights never makes it (R21)."""
    if person_id == current.person.id:
        raise JitError(Kind.FORBIDDEN, "Nobody changes their own rights. Ask another administrator.")


@dataclass(frozen=True, slots=True)
class ChangeKind:
    """One kind of signed act."""

    payload: type[_Payload]
    effect: Effect


KINDS: Mapping[str, ChangeKind] = {
    "person.add": ChangeKind(PersonAdd, _person_add),
    "person.change": ChangeKind(PersonChange, _person_change),
    "person.disable": ChangeKind(Nothing, _person_disable),
    "person.enable": ChangeKind(Nothing, _person_enable),
    "account.add": ChangeKind(AccountAdd, _account_add),
    "group.add": ChangeKind(GroupAdd, _group_add),
    "member.add": ChangeKind(Member, _member_add),
    "member.end": ChangeKind(Member, _member_end),
    "enrolment.create": ChangeKind(LinkCreate, _link_create),
    "hold.release": ChangeKind(Nothing, _hold_release),
    "policy.activate": ChangeKind(PolicyActivate, _policy_activate),
    "lease.close": ChangeKind(LeaseClose, _lease_close),
    "recovery.veto": ChangeKind(Nothing, _recovery_veto),
}


def begin(
    tx: Tx, broker: Broker, current: Current, *, kind: str, subject: str, payload: JsonValue
) -> Ceremony | Refused:
    """Begin signing an act; only administrators. A pending equal act of another person is joined by signing it."""
    wanted = KINDS.get(kind)
    if wanted is None or not 0 < len(subject) <= 64:
        return Refused(Kind.INVALID, "unknown_change", "There is no such kind of change.", "kind")
    refused = people.may_act(tx, person_id=current.person.id, account_id=current.account.id)
    if refused is not None:
        return refused
    if not people.is_admin(tx, current.person.id):
        return Refused(Kind.FORBIDDEN, "not_an_admin", "Only an administrator may do this.")
    _parsed(wanted, payload)
    joined = next(
        (c for c in changes.pending(tx) if (c.kind, c.subject_id, c.payload) == (kind, subject, payload)), None
    )
    before = None
    if kind == "policy.activate":
        active = broker.policies.active_or_none(tx)
        before = active.digest if active is not None else None
        if joined is not None and joined.before_digest != before:
            joined = None
    required(tx, broker, kind=kind, subject=subject)
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


def required(view: View, broker: Broker, *, kind: str, subject: str) -> int:
    """Return how many different persons must sign an act, as things stand now; raises where it cannot be done at all.

    It is asked at the beginning, so that nobody signs what cannot be, and again at every signature: it never comes from what was kept.
    """
    if kind == "policy.activate":
        active = broker.policies.active_or_none(view)
        return policies.proposal(view, active, subject, pilot=broker.site.pilot).required
    if kind == "lease.close":
        cut.require_stuck(view, subject)
        return 1 if broker.site.pilot else 2
    return 1


def complete(tx: Tx, broker: Broker, current: Current, *, challenge_id: str, response: Response) -> Applied | Refused:
    """Take the signature and, when it was the last one needed, do it in the same transaction."""

    def judge(statement: ChangeStatement, payload: JsonValue) -> Judged | Refused:
        if not people.is_admin(tx, current.person.id):
            return Refused(Kind.FORBIDDEN, "not_an_admin", "Only an administrator may do this.")
        number = required(tx, broker, kind=statement.kind, subject=statement.subject)
        return Judged(
            number, lambda signer: people.is_admin(tx, signer) and people.may_act(tx, person_id=signer) is None
        )

    signed = changes.complete_change(
        tx, broker.site, current, challenge_id=challenge_id, response=response, judge=judge
    )
    if isinstance(signed, Refused):
        return signed
    if not signed.ready:
        return Applied(signed.change, ready=False)
    kind = KINDS[signed.change.kind]
    shown = kind.effect(tx, broker, current, signed.change, _parsed(kind, signed.change.payload))
    changes.mark_applied(tx, signed.change)
    return Applied(signed.change, ready=True, shown=shown)


def _parsed(kind: ChangeKind, payload: JsonValue) -> _Payload:
    try:
        return kind.payload.model_validate(payload)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise JitError(Kind.INVALID, misfit(name, first), field=name) from error


def reject(tx: Tx, change_id: str, *, by: str) -> None:
    """Turn a pending change down; refusing takes one person and no signature."""
    changes.reject(tx, tx.require(Change, change_id, "There is no such change."), by)
