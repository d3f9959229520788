"""Who and what is on the register, for those who keep it? Searching, one person, one group, one target: reads alone.

Pages are short and searched on the server, so a register of thousands stays quick on a phone. Search folds case and marks on letters.
Seals of what only shows are not checked here; every act checks them anew.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, select

from jitaccess.broker.context import Broker
from jitaccess.broker.deputies import all_lent
from jitaccess.broker.hold import in_force
from jitaccess.broker.offers import fold
from jitaccess.broker.revoke import LIVE_GRANTS
from jitaccess.domain.approval import Lent
from jitaccess.domain.register import PersonView
from jitaccess.errors import JitError, Kind
from jitaccess.identity import replacing
from jitaccess.identity.people import RESERVED, register, staff, usable_passkeys
from jitaccess.policy.evaluate import PolicySet
from jitaccess.policy.reach import Reach, reach
from jitaccess.proof.canonical import JsonValue
from jitaccess.store.db import View
from jitaccess.store.tables import (
    AccessRequest,
    Account,
    Client,
    Grant,
    Group,
    Hold,
    Membership,
    Passkey,
    Person,
    Recovery,
)

PAGE = 25


@dataclass(frozen=True, slots=True)
class Page:
    """Some people of many."""

    persons: tuple[PersonView, ...]
    total: int
    """How many match."""
    number: int
    """From 0."""

    @property
    def more(self) -> bool:
        """Say whether there is a next page."""
        return (self.number + 1) * PAGE < self.total


def search(view: View, query: str, *, number: int = 0, passkeys: int | None = None) -> Page:
    """Return the people whose name, unit, institution, mail address or id matches, by name.

    `passkeys` leaves those who can act and have so many usable passkeys, as the overview counts them.
    """
    wanted = fold(query).split()
    found = [person for text, person in view.cached("people-by-name", _by_name) if all(word in text for word in wanted)]
    if passkeys is not None:
        known = staff(view)
        usable, able = usable_passkeys(known), known.register.able
        found = [person for person in found if person.id in able and usable[person.id] == passkeys]
    return Page(tuple(found[number * PAGE : (number + 1) * PAGE]), len(found), number)


def _by_name(view: View) -> list[tuple[str, PersonView]]:
    """Return (what is searched, person) of everybody, by name."""
    known = staff(view)
    ordered = sorted(known.register.persons.values(), key=lambda person: (fold(person.name), person.id))
    return [(fold(f"{p.name} {p.unit} {p.institution} {known.emails.get(p.id, '')} {p.id}"), p) for p in ordered]


def accounts_of(view: View, persons: Sequence[str]) -> Mapping[str, list[Account]]:
    """Return person id -> accounts, oldest first."""
    found: dict[str, list[Account]] = {}
    if persons:
        for row in view.usable(select(Account).where(Account.person_id.in_(persons)).order_by(Account.created_at)):
            found.setdefault(row.person_id, []).append(row)
    return found


@dataclass(frozen=True, slots=True)
class Dossier:
    """One person with everything that hangs on it."""

    row: Person
    person: PersonView
    manager: PersonView | None
    reports: tuple[PersonView, ...]
    accounts: tuple[Account, ...]
    passkeys: Mapping[str, tuple[Passkey, ...]]
    """Account id -> passkeys that were not removed."""
    direct: tuple[str, ...]
    """Groups that the person is in directly; the others come through them."""
    holds: tuple[Hold, ...]
    live: tuple[Grant, ...]
    requests: tuple[AccessRequest, ...]
    enrolled: frozenset[str]
    """Accounts that ever had a passkey: a first link is not for them."""
    replacements: Mapping[str, Recovery]
    """Account id -> the replacement of its passkeys that is under way."""


def dossier(view: View, person_id: str) -> Dossier:
    """Return one person; raises NOT_FOUND."""
    people = register(view)
    person, row = people.persons.get(person_id), view.unchecked_get(Person, person_id)
    if person is None or row is None:
        raise JitError(Kind.NOT_FOUND, "There is no such person.")
    accounts = accounts_of(view, [person_id]).get(person_id, [])
    keys: dict[str, list[Passkey]] = {}
    for key in view.usable(
        select(Passkey).where(Passkey.person_id == person_id, Passkey.status != "removed").order_by(Passkey.created_at)
    ):
        keys.setdefault(key.account_id, []).append(key)
    direct = view.rows(
        select(Membership.group_id)
        .where(Membership.member_id == person_id, Membership.member_kind == "person", Membership.status == "active")
        .order_by(Membership.group_id)
    ).scalars()
    subjects = [person_id, *(key.id for found in keys.values() for key in found)]
    reports = sorted(
        (found for found in people.persons.values() if found.manager_id == person_id), key=lambda p: p.name
    )
    return Dossier(
        row,
        person,
        people.persons.get(person.manager_id or ""),
        tuple(reports),
        tuple(accounts),
        {account: tuple(found) for account, found in keys.items()},
        tuple(direct),
        tuple(found for found in in_force(view) if found.subject_id in subjects),
        tuple(
            view.unchecked_all(
                select(Grant)
                .where(Grant.person_id == person_id, Grant.state.in_(LIVE_GRANTS))
                .order_by(Grant.created_at)
            )
        ),
        tuple(
            view.all(
                select(AccessRequest)
                .where(AccessRequest.person_id == person_id)
                .order_by(AccessRequest.created_at.desc())
                .limit(10)
            )
        ),
        frozenset(account.id for account in accounts if replacing.was_enrolled(view, account.id)),
        {row.account_id: row for row in replacing.of_person(view, person_id)},
    )


CHANGEABLE = ("name", "email", "institution", "unit", "manager_id")
"""What the person page lets an administrator change, in this order."""


def changed_fields(dossier: Dossier, given: Mapping[str, str | None]) -> dict[str, JsonValue]:
    """Return only those of the given values that differ from what is on the register."""
    row = dossier.row
    now = {name: getattr(row, name) for name in CHANGEABLE}
    return {name: given[name] for name in CHANGEABLE if name in given and (given[name] or None) != (now[name] or None)}


def person_by_mail(view: View, text: str) -> str | None:
    """Return the id of the one person with this mail address (or this id), or None."""
    known = staff(view)
    if text in known.register.persons:
        return text
    found = [person for person, mail in known.emails.items() if mail.casefold() == text.casefold()]
    return found[0] if len(found) == 1 else None


@dataclass(frozen=True, slots=True)
class GroupLine:
    """One group with how many people it has and what it is for."""

    id: str
    name: str
    institution: str | None
    people: int
    reserved: bool
    asks: tuple[str, ...]
    """Rules whose right its people may ask for."""
    signs: tuple[str, ...]
    """Rules for which its people sign."""


def groups(view: View, broker: Broker) -> list[GroupLine]:
    """Return all groups by name."""
    return view.cached("group-lines", lambda found: _group_lines(found, broker.policies.active_or_none(found)))


def _group_lines(view: View, policies: PolicySet | None) -> list[GroupLine]:
    people = register(view)
    rules = list(policies.rules.values()) if policies is not None else []
    found = [
        GroupLine(
            row.id,
            row.name,
            row.institution,
            len(people.members(row.id)),
            row.id in RESERVED,
            tuple(rule.id for rule in rules if row.id in rule.groups),
            tuple(rule.id for rule in rules if any(row.id in step.groups for step in rule.terms.steps)),
        )
        for row in view.usable(select(Group))
    ]
    return sorted(found, key=lambda line: (line.reserved, fold(line.name)))


@dataclass(frozen=True, slots=True)
class Members:
    """Who is in a group directly."""

    line: GroupLine
    persons: tuple[PersonView, ...]
    groups: tuple[str, ...]
    total: int
    number: int

    @property
    def more(self) -> bool:
        """Say whether there is a next page."""
        return (self.number + 1) * PAGE < self.total


def members(view: View, broker: Broker, group_id: str, *, number: int = 0) -> Members:
    """Return a page of a group's direct members; raises NOT_FOUND."""
    line = next((found for found in groups(view, broker) if found.id == group_id), None)
    if line is None:
        raise JitError(Kind.NOT_FOUND, "There is no such group.")
    rows = view.rows(
        select(Membership.member_kind, Membership.member_id).where(
            Membership.group_id == group_id, Membership.status == "active"
        )
    ).all()
    people = register(view).persons
    persons = sorted(
        (people[member] for kind, member in rows if kind == "person" and member in people),
        key=lambda person: (fold(person.name), person.id),
    )
    inner = tuple(sorted(member for kind, member in rows if kind == "group"))
    return Members(line, tuple(persons[number * PAGE : (number + 1) * PAGE]), inner, len(persons), number)


# ---------------------------------------------------------------- targets


@dataclass(frozen=True, slots=True)
class TargetLine:
    """One target as an administrator sees it."""

    id: str
    name: str
    owner: str
    kind: str
    held: bool
    live: int
    clients: tuple[str, ...]


def targets(view: View, broker: Broker) -> list[TargetLine]:
    """Return all targets of the active policy with what is going on there."""
    policies = broker.policies.active_or_none(view)
    if policies is None:
        return []
    known = staff(view)
    counted = select(Grant.target, func.count()).where(Grant.state.in_(LIVE_GRANTS)).group_by(Grant.target)
    live: dict[str, int] = {target: int(count) for target, count in view.rows(counted)}
    clients: dict[str, list[str]] = {}
    for key, target in view.rows(select(Client.id, Client.target).where(Client.status == "active")):
        clients.setdefault(target, []).append(key)
    return [
        TargetLine(
            found.id,
            found.name,
            policies.institutions.get(found.owner, found.owner),
            str(found.connector["kind"]),
            ("target", found.id) in known.holds,
            live.get(found.id, 0),
            tuple(sorted(clients.get(found.id, ()))),
        )
        for found in sorted(policies.targets.values(), key=lambda target: fold(target.name))
    ]


def clients(view: View, target: str) -> list[Client]:
    """Return the clients registered for a target, by id."""
    return view.usable(select(Client).where(Client.target == target).order_by(Client.id))


def who_can_reach(view: View, broker: Broker, target: str) -> list[Reach]:
    """Return, for each entitlement of a target, who could obtain it; worked out once for each version of the register, and again when
    other rights to sign are lent."""
    policies = broker.policies.active(view)
    known = policies.targets.get(target)
    if known is None:
        raise JitError(Kind.NOT_FOUND, "There is no such system.")

    lent = all_lent(view)
    memory: dict[tuple[Lent, ...], list[Reach]] = view.cached(f"reach/{target}", lambda _: {})
    found = memory.get(lent)
    if found is None:
        people = register(view)
        found = [reach(policies, people, target=target, entitlement=name, lent=lent) for name in known.entitlements]
        memory.clear()  # only the last answer is asked for again
        memory[lent] = found
    return found


# ---------------------------------------------------------------- the live board


def board(view: View, *, target: str = "", persons: Sequence[str] | None = None, most: int = 100) -> list[Grant]:
    """Return live grants, those that end first on top, of one target and of these people where they are given."""
    ordered = select(Grant).where(*_live(target, persons)).order_by(Grant.ends_at.is_(None), Grant.ends_at, Grant.id)
    return view.unchecked_all(ordered.limit(most))


def live(view: View, *, target: str = "", persons: Sequence[str] | None = None) -> int:
    """Return how many live grants there are."""
    return int(view.scalar(select(func.count()).select_from(Grant).where(*_live(target, persons))))


def _live(target: str, persons: Sequence[str] | None) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [Grant.state.in_(LIVE_GRANTS)]
    if target:
        found.append(Grant.target == target)
    if persons is not None:
        found.append(Grant.person_id.in_(persons))
    return found


def called(view: View, text: str) -> list[str] | None:
    """Return the ids of the people with this text in their name, or with this id; None, which narrows nothing, for no text."""
    if not text:
        return None
    part = fold(text)
    return [found.id for found in register(view).persons.values() if part in fold(found.name) or found.id == text][:500]
