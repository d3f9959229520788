"""Who must sign an act of administration, and who may not? Asked at the beginning, at every signature, and of what came of it.

Nobody signs what alters his own standing, by whatever road (R21): the register as it would be is compared with the register as it is, for
everybody who signs. How many must sign is never read from what was kept between the halves of a ceremony.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import cast

from jitaccess.broker import cut, hold, policies, restore
from jitaccess.broker.acts import HoldPlace, LinkCreate, Member, Payload, PersonChange, RecordRestore
from jitaccess.broker.context import Broker
from jitaccess.domain.register import RegisterView
from jitaccess.domain.values import Refused
from jitaccess.errors import Kind
from jitaccess.identity import enrolment, people, replacing
from jitaccess.identity.people import Foreseen, Staff
from jitaccess.identity.standing import able_administrators, touched
from jitaccess.store.db import View
from jitaccess.store.tables import Account, Lease, PolicySetRow, Recovery

OWN_RIGHTS = Refused(Kind.FORBIDDEN, "own_rights", "Nobody changes their own rights. Ask another administrator.")
OWN_HOLD = Refused(Kind.FORBIDDEN, "own_hold", "Nobody lifts a hold on themselves. Ask another administrator.")
ON_THE_HOST = Refused(
    Kind.FORBIDDEN,
    "on_the_host",
    "A recovery with paper keys is finished on the broker's own host: jitaccess recovery.",
)
LOCKED_OUT = Refused(
    Kind.CONFLICT,
    "too_few_administrators",
    "This would leave too few who can administer the broker. Make somebody else an administrator, with a passkey, first.",
)
HELD_HIM = Refused(
    Kind.FORBIDDEN,
    "held_by_you",
    "Whoever put somebody on hold does not veto that person's recovery. Ask another founder.",
)
CHANGED_OUTSIDE = Refused(
    Kind.CONFLICT,
    "record_changed",
    "The record of this access was changed outside the broker, so nobody can say whose it was. Put the record back as it was first.",
)
BY_TWO = frozenset(
    {
        "person.add",
        "person.enable",
        "account.add",
        "member.add",
        "enrolment.create",
        "lease.close",
        "recovery.print_keys",
        "record.restore",
    }
)
"""Acts that two administrators sign, whoever they are about."""
BINDING = frozenset({"email", "institution", "unit", "manager_id"})
"""Fields of a person that rules or warnings depend on; the others are words."""
OF_A_PERSON = frozenset({"person.disable", "person.enable", "account.add"})
"""Acts whose subject is a person."""


def foreseen(kind: str, subject: str, payload: Payload) -> Foreseen | None:
    """Return what an act would alter in the register, or None where it alters nobody's standing who is on it already."""
    match kind:
        case "person.change":
            return Foreseen(persons={subject: cast(PersonChange, payload).values})
        case "person.disable":
            return Foreseen(persons={subject: {"status": "disabled"}})
        case "person.enable":
            return Foreseen(persons={subject: {"status": "active"}})
        case "member.add":
            joins = cast(Member, payload)
            return Foreseen(joins=frozenset({(subject, joins.kind, joins.member_id)}))
        case "member.end":
            return Foreseen(leaves=frozenset({(subject, cast(Member, payload).member_id)}))
        case _:
            return None


def refusal(
    view: View, broker: Broker, *, kind: str, subject: str, payload: Payload, signers: Collection[str]
) -> Refused | None:
    """Say why these persons may not sign this act, or None."""
    if kind == "lease.close" and _changed_outside(view, subject):
        return CHANGED_OUTSIDE  # it also says whose the access was, and that trying on is over
    if _subject_person(view, kind, subject) in signers:
        return OWN_RIGHTS
    if kind == "hold.release":
        held = next((one for one in hold.in_force(view) if one.id == subject), None)
        if held is not None and any(hold.concerns(view, held, signer) for signer in signers):
            return OWN_HOLD
    if kind == "record.restore":
        table, _, key = subject.partition("/")
        if not restore.concerns(view, table, key, cast(RecordRestore, payload).values).isdisjoint(signers):
            return OWN_RIGHTS
    if kind in ("enrolment.create", "recovery.link"):
        refused = _no_link(view, kind, subject, payload)
        if refused is not None:
            return refused
    if kind == "recovery.veto" and _held_by(view, subject, signers):
        return HELD_HIM
    if kind == "policy.activate" and _named_anew(view, broker, subject, signers):
        return OWN_RIGHTS
    change = foreseen(kind, subject, payload)
    if change is None:
        return None
    before, after = people.staff(view), people.foresee(view, change)
    if widened(before.register, after.register, signers):
        return OWN_RIGHTS
    return LOCKED_OUT if _too_few(broker, before, after) else None


def _changed_outside(view: View, lease_id: str) -> bool:
    lease = view.unchecked_get(Lease, lease_id)
    return lease is not None and not view.whole(lease)


def _too_few(broker: Broker, before: Staff, after: Staff) -> bool:
    """Say whether a change leaves fewer administrators than an act of two takes (a pilot's one), or none of those there were."""
    had, left = able_administrators(before), able_administrators(after)
    return left < had and len(left) < min(1 if broker.site.pilot else 2, len(had))


def _named_anew(view: View, broker: Broker, policy_id: str, signers: Collection[str]) -> bool:
    """Say whether a set says something else of one of its signers by name than the active one does (a condition may: `person.id`)."""
    row = view.get(PolicySetRow, policy_id)
    active = broker.policies.active_or_none(view)
    was = set(_texts(active.document)) if active is not None else set()
    now = set(_texts(row.document)) if row is not None else set()
    return any(signer in text for text in was ^ now for signer in signers)


def _texts(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case Mapping():
            for part in value.values():
                yield from _texts(part)
        case list():
            for part in value:
                yield from _texts(part)
        case _:
            return


def _held_by(view: View, recovery_id: str, signers: Collection[str]) -> bool:
    """Say whether one of the signers put on hold whom the recovery is for."""
    row = view.get(Recovery, recovery_id)
    account = view.get(Account, row.account_id) if row is not None else None
    if account is None:
        return False
    return any(one.placed_by in signers and hold.concerns(view, one, account.person_id) for one in hold.in_force(view))


def widened(before: RegisterView, after: RegisterView, signers: Collection[str]) -> bool:
    """Say whether a change of the register touches the standing of any of its signers."""
    return any(touched(before, after, signer) for signer in signers)


def _no_link(view: View, kind: str, subject: str, payload: Payload) -> Refused | None:
    """Say why there is no link of this kind: a first link is for an account without passkeys, a replacement for one that had some."""
    if kind == "recovery.link":
        row = view.get(Recovery, subject)
        return ON_THE_HOST if row is not None and row.change_id is None else None
    enrolled = replacing.was_enrolled(view, subject)
    if cast(LinkCreate, payload).purpose != enrolment.RECOVER:
        return enrolment.HAS_PASSKEY if enrolled else None
    if not enrolled:
        return Refused(Kind.CONFLICT, "no_passkey", "This account never had a passkey: make an enrolment link for it.")
    if replacing.of_account(view, subject) is not None:
        return Refused(Kind.CONFLICT, "under_way", "The passkeys of this account are being replaced already.")
    return None


def _subject_person(view: View, kind: str, subject: str) -> str | None:
    if kind in OF_A_PERSON:
        return subject
    account_id: str | None = None
    if kind == "enrolment.create":
        account_id = subject
    if kind == "recovery.link":
        row = view.unchecked_get(Recovery, subject)
        account_id = row.account_id if row is not None else None
    if kind == "lease.close":
        lease = view.unchecked_get(Lease, subject)
        return lease.person_id if lease is not None else None
    account = view.unchecked_get(Account, account_id) if account_id is not None else None
    return account.person_id if account is not None else None


def required(view: View, broker: Broker, *, kind: str, subject: str, payload: Payload) -> int:
    """Return how many different persons must sign an act as things stand now; raises where it cannot be done at all.

    What lets somebody sign in or gives somebody a right takes two (R10); a pilot has one founder, who decides alone.
    """
    if kind == "policy.activate":
        active = broker.policies.active_or_none(view)
        return policies.proposal(view, active, subject, pilot=broker.site.pilot).required
    if kind == "lease.close":
        cut.require_stuck(view, subject)
    if kind == "hold.place":
        return _to_hold(view, broker, hold.HoldKind(cast(HoldPlace, payload).kind), subject)
    gives = kind in BY_TWO or (kind == "person.change" and bool(set(cast(PersonChange, payload).values) & BINDING))
    return 2 if gives and not broker.site.pilot else 1


def _to_hold(view: View, broker: Broker, kind: hold.HoldKind, subject: str) -> int:
    """Return how many sign a hold: one, but two where it would leave no administrator but for oneself, and there are two."""
    alone = able_administrators(people.staff(view))
    if broker.site.pilot or len(alone) < 2 or not hold.locks_out(view, kind, subject):
        return 1
    return 2
