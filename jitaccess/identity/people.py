"""Who is on the register, and may they act now? The staff register and the one gate that every path asks (R12).

The register is read once for each of its versions (`View.cached`): persons, accounts, passkeys, groups in groups and holds. Rules
count persons; an account is only a way to sign in. Groups `jit-admins`, `jit-auditors` and `jit-founders` are reserved.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import select

from jitaccess.domain.events import EventType
from jitaccess.domain.register import PersonView, RegisterView, expand_groups
from jitaccess.domain.values import Refused
from jitaccess.errors import JitError, Kind
from jitaccess.identity.site import Site
from jitaccess.policy.evaluate import CredentialClass
from jitaccess.proof.canonical import b64u_encode
from jitaccess.store.db import Tx, View
from jitaccess.store.ids import new_bytes
from jitaccess.store.tables import Account, Group, Hold, Instance, Membership, Passkey, Person
from jitaccess.told import told

ADMINS, AUDITORS, FOUNDERS = "jit-admins", "jit-auditors", "jit-founders"
RESERVED = (ADMINS, AUDITORS, FOUNDERS)
MAX_NAME = 120


@dataclass(frozen=True, slots=True)
class Staff:
    """The register as one value."""

    register: RegisterView
    accounts: Mapping[str, tuple[str, bool]]
    """Account id -> (person id, active)."""
    passkeys: Mapping[str, tuple[str, str]]
    """Passkey id -> (account id, status)."""
    holds: frozenset[tuple[str, str]]
    """(kind, subject) of every hold in force."""
    emails: Mapping[str, str]
    broken: frozenset[str] = frozenset()
    """Persons of whom a record was changed or deleted outside the broker: they may not act until it is repaired."""
    since: Mapping[str, datetime] = field(default_factory=dict)
    """Person or account id -> when it was made or, for a person, switched on again. Whoever is as old as the broker is absent: the
    founders, whom genesis names."""


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What a change would alter in the register; nothing of it is written."""

    persons: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    """Person id -> columns as they would be."""
    joins: frozenset[tuple[str, str, str]] = frozenset()
    """(group, kind of the member, member)."""
    leaves: frozenset[tuple[str, str]] = frozenset()
    """(group, member)."""
    holds: frozenset[tuple[str, str]] = frozenset()
    """(kind, subject)."""


NOTHING_FORESEEN = Foreseen()


def staff(view: View) -> Staff:
    """Return the register; cached by its version."""
    return view.cached("staff", _read)


def register(view: View) -> RegisterView:
    """Return the register as rules see it."""
    return staff(view).register


def foresee(view: View, change: Foreseen) -> Staff:
    """Return the register as it would be after a change, read anew and not cached; with an empty change, as it is now."""
    return _read(view, change)


def _read(view: View, change: Foreseen = NOTHING_FORESEEN) -> Staff:
    """Read the register. A row that is not as the log wrote it gives nothing and stops nobody else (ADR 41)."""
    rows = view.usable(select(Hold).where(Hold.released_at.is_(None)))
    logged = view.logged_holds().values()
    holds = frozenset({(row.kind, row.subject_id) for row in rows} | {(hold.kind, hold.subject_id) for hold in logged})
    holds |= change.holds
    groups = frozenset(group.id for group in view.unchecked_all(select(Group)))
    closed, doubtful = _groups_of(view, groups, change)
    persons = view.unchecked_all(select(Person))
    broken = doubtful | {person.id for person in persons if not view.whole(person)}
    views = {
        person.id: _view_of(
            person,
            change.persons.get(person.id, {}),
            closed.get(person.id, frozenset()),
            holds,
            broken=person.id in broken,
        )
        for person in persons
    }
    accounts = view.usable(select(Account))
    begun = view.scalar(select(Instance.created_at))
    since = {person.id: person.enabled_at or person.created_at for person in persons}
    since |= {account.id: account.created_at for account in accounts}
    return Staff(
        RegisterView(views, groups, frozenset(person.institution for person in views.values())),
        {account.id: (account.person_id, account.status == "active") for account in accounts},
        {passkey.id: (passkey.account_id, passkey.status) for passkey in view.usable(select(Passkey))},
        holds,
        {person.id: person.email for person in persons},
        frozenset(broken),
        {key: at for key, at in since.items() if at != begun},
    )


def _view_of(
    person: Person,
    altered: Mapping[str, str | None],
    groups: frozenset[str],
    holds: frozenset[tuple[str, str]],
    *,
    broken: bool,
) -> PersonView:
    institution = altered.get("institution") or person.institution
    return PersonView(
        person.id,
        altered.get("name") or person.name,
        institution,
        altered.get("unit") or person.unit,
        altered.get("manager_id", person.manager_id),
        groups,
        on_hold=("person", person.id) in holds or ("institution", institution) in holds or broken,
        active=(altered.get("status") or person.status) == "active",
    )


def _groups_of(
    view: View, groups: frozenset[str], change: Foreseen
) -> tuple[Mapping[str, frozenset[str]], frozenset[str]]:
    """Return person id -> groups, and the persons of whom a membership was changed or deleted behind our back.

    A rule may exclude a group, so a membership that is lost could give a right: whom it concerns is blocked instead.
    """
    found = view.unchecked_all(select(Membership))  # ended ones too: a status that was changed shows by the seal
    sound = {
        (row.group_id, row.member_kind, row.member_id) for row in found if view.whole(row) and row.status == "active"
    }
    pairs = [one for one in sound | change.joins if (one[0], one[2]) not in change.leaves]
    closed = expand_groups(
        [(group, member) for group, kind, member in pairs if kind == "person"],
        [(group, member) for group, kind, member in pairs if kind == "group"],
    )
    lost = {row.id for row in found if not view.intact(row)} | view.blocked(Membership)
    members = {key.partition("/")[2] for key in lost}
    inner = members & groups
    return closed, frozenset(members | {person for person, of in closed.items() if of & inner})


def may_act(
    view: View, *, person_id: str, account_id: str | None = None, passkey_id: str | None = None
) -> Refused | None:
    """Say why this person may not act now, or None: THE one gate (R12). Every path calls it, on every act.

    Refuses an unknown or disabled person or account, a removed or blocked passkey, and any hold on person, institution or passkey.
    """
    known = staff(view)
    person = known.register.persons.get(person_id)
    if person is None or not person.active:
        return Refused(Kind.FORBIDDEN, "not_active", "This person's access is switched off. Ask an administrator.")
    if account_id is not None and known.accounts.get(account_id) != (person_id, True):
        return Refused(Kind.FORBIDDEN, "account_not_active", "This account is switched off. Ask an administrator.")
    if passkey_id is not None:
        passkey = known.passkeys.get(passkey_id)
        owner, account_active = known.accounts.get(passkey[0], ("", False)) if passkey is not None else ("", False)
        if passkey is None or passkey[1] != "active" or owner != person_id:
            return Refused(
                Kind.FORBIDDEN, "passkey_not_active", "This passkey was removed or blocked. Use another one."
            )
        if not account_active:  # the passkey's own account: a person may have several
            return Refused(Kind.FORBIDDEN, "account_not_active", "This account is switched off. Ask an administrator.")
        if ("passkey", passkey_id) in known.holds:
            return Refused(Kind.FORBIDDEN, "passkey_on_hold", "This passkey is on hold. Ask an administrator.")
    if person_id in known.broken:
        return Refused(
            Kind.FORBIDDEN,
            "record_changed",
            "A record of this person was changed outside the broker. Ask an administrator to repair it.",
        )
    if person.on_hold:
        return Refused(Kind.FORBIDDEN, "on_hold", "This person is on hold. Ask an administrator.")
    return None


def new_until(view: View, site: Site, *, person_id: str, account_id: str, at: datetime) -> datetime | None:
    """Return until when an account counted as new at a time, or None: so long it approves nothing and asks for nothing of high risk (R10).

    An account is as new as itself or as its person, whichever is newer: a second account gives nobody a quicker way.
    """
    if site.pilot:  # says on every page that one person may do all
        return None
    since = staff(view).since
    until = [
        since[key] + timedelta(seconds=site.sessions.new_account_s) for key in (person_id, account_id) if key in since
    ]
    return max(until) if until and at < max(until) else None


def too_new(view: View, site: Site, *, person_id: str, account_id: str) -> Refused | None:
    """Say that an account is too new to approve anything, or None."""
    until = new_until(view, site, person_id=person_id, account_id=account_id, at=view.now)
    if until is None:
        return None
    text = told("This account is new: it can approve from %(time)s UTC on.", time=format(until, "%Y-%m-%d %H:%M"))
    return Refused(Kind.FORBIDDEN, "account_new", text)


def may_enrol(view: View, *, person_id: str, account_id: str) -> Refused | None:
    """Say why a recovery link may not give this account a passkey, or None. A hold is no reason: no act passes it afterwards either."""
    refused = may_act(view, person_id=person_id, account_id=account_id)
    return None if refused is not None and refused.code == "on_hold" else refused


def on_hold(view: View, kind: str, subject_id: str) -> bool:
    """Say whether a hold of this kind is in force on this subject."""
    return (kind, subject_id) in staff(view).holds


def is_admin(view: View, person_id: str) -> bool:
    """Say whether a person administers the broker (founders do)."""
    person = register(view).persons.get(person_id)
    return person is not None and person.active and bool(person.groups & {ADMINS, FOUNDERS})


def admins(view: View) -> list[str]:
    """Return the ids of all active administrators: who is told of an alarm."""
    people = register(view).persons
    return sorted(key for key, person in people.items() if person.active and person.groups & {ADMINS, FOUNDERS})


def group_names(view: View) -> Mapping[str, str]:
    """Return group id -> name, for showing; a group whose record was changed is called by its id alone."""
    return view.cached("group-names", lambda found: {row.id: row.name for row in found.usable(select(Group))})


def usable_passkeys(known: Staff) -> Counter[str]:
    """Return person id -> how many passkeys they can use."""
    return Counter(known.accounts[account][0] for account, status in known.passkeys.values() if status == "active")


def is_auditor(view: View, person_id: str) -> bool:
    """Say whether a person may read everything; admins may too."""
    person = register(view).persons.get(person_id)
    return person is not None and person.active and bool(person.groups & {AUDITORS, ADMINS, FOUNDERS})


def credential_class(passkey: Passkey) -> CredentialClass:
    """Return how strong a passkey is (R6): attested, else device-bound when it may not be backed up, else synced."""
    if passkey.attested:
        return CredentialClass.ATTESTED
    return CredentialClass.SYNCED if passkey.backup_eligible else CredentialClass.DEVICE_BOUND


# ---------------------------------------------------------------- the register's own verbs


def add_person(
    tx: Tx,
    *,
    name: str,
    email: str,
    institution: str,
    unit: str,
    manager_id: str | None = None,
    language: str = "",
    person_id: str | None = None,
) -> Person:
    """Put a person on the register, without an account."""
    _check_text(name, "name")
    _check_text(unit, "unit")
    if "@" not in email or any(letter.isspace() or not letter.isprintable() for letter in email) or len(email) > 254:
        raise JitError(Kind.INVALID, "This is not a mail address.", field="email")
    if manager_id is not None and manager_id not in register(tx).persons:
        raise JitError(Kind.INVALID, "The line manager is not on the register.", field="manager_id")
    key = person_id or tx.new_id()
    event = tx.record(
        EventType.PERSON_ADDED, subject={"person": key}, body={"institution": institution}, texts={"name": name}
    )
    return tx.insert(
        Person,
        event,
        id=key,
        name=name,
        email=email,
        institution=institution,
        unit=unit,
        manager_id=manager_id,
        status="active",
        language=language,
        salt=b64u_encode(new_bytes(16)),
        created_at=tx.now,
    )


def _check_text(text: str, field: str) -> None:
    if not text.strip() or len(text) > MAX_NAME or not text.isprintable():
        raise JitError(
            Kind.INVALID,
            told("The %(field)s must be 1 to %(max_name)s printable characters.", field=field, max_name=MAX_NAME),
            field=field,
        )


def add_account(tx: Tx, *, person_id: str, label: str) -> Account:
    """Give a person one more way to sign in; rules go on counting the person."""
    _check_text(label, "label")
    key = tx.new_id()
    event = tx.record(EventType.ACCOUNT_ADDED, subject={"person": person_id, "account": key})
    return tx.insert(
        Account,
        event,
        id=key,
        person_id=person_id,
        label=label,
        user_handle=b64u_encode(new_bytes(32)),
        status="active",
        created_at=tx.now,
    )


def add_group(tx: Tx, *, group_id: str, name: str, institution: str | None = None) -> Group:
    """Make a group; its id is what policies name."""
    _check_text(name, "name")
    if not group_id or len(group_id) > 63 or not all(letter.isalnum() or letter in "-_" for letter in group_id):
        raise JitError(Kind.INVALID, "A group's id is letters, digits, - and _.", field="group_id")
    event = tx.record(EventType.GROUP_ADDED, subject={"group": group_id})
    return tx.insert(Group, event, id=group_id, name=name, institution=institution, created_at=tx.now)


def add_member(tx: Tx, *, group_id: str, member_id: str, kind: str = "person") -> Membership:
    """Put a person or a group into a group."""
    if kind not in ("person", "group"):
        raise JitError(Kind.INVALID, "A member is a person or a group.", field="kind")
    if tx.get(Group, group_id) is None or tx.get(Person if kind == "person" else Group, member_id) is None:
        raise JitError(Kind.INVALID, "There is no such group or member.", field="member_id")
    key = f"{group_id}/{member_id}"
    subject: dict[str, str | None] = {"group": group_id, kind if kind == "person" else "inner_group": member_id}
    event = tx.record(EventType.MEMBERSHIP_ADDED, subject=subject, body={"kind": kind})
    known = tx.get(Membership, key)
    if known is not None:
        tx.update(known, event, status="active", since_at=tx.now)
        return known
    return tx.insert_again(
        Membership,
        event,
        tx.newest_version(Membership, key),
        id=key,
        group_id=group_id,
        member_kind=kind,
        member_id=member_id,
        status="active",
        since_at=tx.now,
    )


def end_member(tx: Tx, *, group_id: str, member_id: str) -> None:
    """Take a member out of a group."""
    row = tx.require(Membership, f"{group_id}/{member_id}", "This is not a member of the group.")
    event = tx.record(EventType.MEMBERSHIP_ENDED, subject={"group": group_id, "member": member_id})
    tx.update(row, event, status="ended")


def change_person(tx: Tx, person_id: str, **values: str | None) -> None:
    """Change unit, institution, manager, mail address, language or name of a person."""
    allowed = {"name", "email", "institution", "unit", "manager_id", "language"}
    if not values or not set(values) <= allowed:
        raise JitError(Kind.INVALID, told("Only these can be changed: %(names)s.", names=", ".join(sorted(allowed))))
    row = tx.require(Person, person_id, "There is no such person.")
    event = tx.record(EventType.PERSON_CHANGED, subject={"person": person_id}, body={"fields": [*sorted(values)]})
    tx.update(row, event, expect=None, **values)


def disable_person(tx: Tx, person_id: str) -> None:
    """Switch a person off and end the sessions; grants are ended by `broker.hold`, which calls this (R12, T-17)."""
    row = tx.unchecked_get(Person, person_id)  # taking away needs no intact seal
    if row is None:
        raise JitError(Kind.NOT_FOUND, "There is no such person.")
    event = tx.record(EventType.PERSON_DISABLED, subject={"person": person_id})
    tx.update(row, event, status="disabled")


def enable_person(tx: Tx, person_id: str) -> None:
    """Switch a person on again."""
    row = tx.require(Person, person_id, "There is no such person.")
    event = tx.record(EventType.PERSON_ENABLED, subject={"person": person_id})
    tx.update(row, event, status="active", enabled_at=tx.now)
