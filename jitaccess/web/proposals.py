"""What does a change say that waits for another signature? In words, with the key that is signed beside each (ADR 52).

Nobody signs too what he cannot read: the act, whom or what it is about, and every member of what is signed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from flask import Flask

from jitaccess.broker.context import Broker
from jitaccess.identity import people
from jitaccess.policy.evaluate import PolicySet
from jitaccess.store.db import View
from jitaccess.store.tables import Change, Hold, Lease, Recovery
from jitaccess.web import display, telling
from jitaccess.web.speech import lazy_gettext

ACTS: Mapping[str, str] = {
    "person.add": lazy_gettext("Add a person"),
    "person.change": lazy_gettext("Change what the register says of a person"),
    "person.disable": lazy_gettext("Switch a person off"),
    "person.enable": lazy_gettext("Switch a person on again"),
    "account.add": lazy_gettext("Give a person another account"),
    "group.add": lazy_gettext("Add a group"),
    "member.add": lazy_gettext("Put somebody into a group"),
    "member.end": lazy_gettext("Take somebody out of a group"),
    "enrolment.create": lazy_gettext("Make a link for a new passkey"),
    "hold.place": lazy_gettext("Place a hold"),
    "hold.release": lazy_gettext("Release a hold"),
    "policy.activate": lazy_gettext("Activate a policy set"),
    "lease.close": lazy_gettext("Close an end of access that does not succeed"),
    "client.add": lazy_gettext("Register an application that signs people in"),
    "client.add_proxied": lazy_gettext("Register an application behind a reverse proxy"),
    "record.restore": lazy_gettext("Restore a record as the log knew it"),
    "recovery.link": lazy_gettext("Make the link of a replacement of passkeys"),
    "recovery.veto": lazy_gettext("Veto a recovery with paper keys"),
    "recovery.print_keys": lazy_gettext("Print new paper keys"),
}
"""Every kind of `broker.acts`."""
MEMBERS: Mapping[str, str] = {
    **telling.FIELDS,
    "language": lazy_gettext("Language"),
    "groups": lazy_gettext("Groups"),
    "label": lazy_gettext("Name of the account"),
    "member_id": lazy_gettext("Who"),
    "kind": lazy_gettext("What it is"),
    "purpose": lazy_gettext("What the link is for"),
    "cause": lazy_gettext("Why"),
    "reason": lazy_gettext("Why"),
    "digest": lazy_gettext("Digest of the set"),
    "redirect_uris": lazy_gettext("Comes back to"),
    "jwks": lazy_gettext("Its public keys"),
    "initiate_login_uri": lazy_gettext("Signing in begins at"),
    "backchannel_logout_uri": lazy_gettext("Is told of the end at"),
    "post_logout_redirect_uris": lazy_gettext("Sends people after signing out to"),
    "origin": lazy_gettext("Its address: scheme, host and port"),
    "values": lazy_gettext("As it will be"),
}
"""Every member of a payload; what is below `values` of a record is the name of a column and stays as it is."""
VALUES: Mapping[tuple[str, str], str] = {
    ("purpose", "enrol"): lazy_gettext("a first passkey"),
    ("purpose", "recover"): lazy_gettext("replacing all passkeys, which were lost"),
    ("kind", "person"): lazy_gettext("a person"),
    ("kind", "group"): lazy_gettext("everybody in a group"),
    ("kind", "passkey"): lazy_gettext("a passkey"),
    ("kind", "institution"): lazy_gettext("an institution"),
    ("language", "en"): lazy_gettext("English"),
    ("language", "sq"): lazy_gettext("Albanian"),
    ("language", "sr"): lazy_gettext("Serbian"),
}
RECORDS: Mapping[str, str] = {
    "person": lazy_gettext("Person"),
    "account": lazy_gettext("Account"),
    "passkey": lazy_gettext("Passkey"),
    "person_group": lazy_gettext("Group"),
    "membership": lazy_gettext("Membership"),
    "hold": lazy_gettext("Hold"),
}
"""What the tables hold whose records can be restored."""


@dataclass(frozen=True, slots=True)
class Row:
    """One member of what is signed."""

    key: str
    label: str
    text: str
    meaning: str
    """The same in words; empty where the text speaks for itself."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """One change that waits."""

    change: Change
    about: str
    """Whom or what it is about, by name; empty where the act says it all."""
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class _Names:
    """How ids are called."""

    persons: Mapping[str, str]
    accounts: Mapping[str, str]
    """Account id -> its person's name and its own."""
    groups: Mapping[str, str]
    policy: PolicySet | None

    def institution(self, key: str) -> str:
        return self.policy.institutions.get(key, key) if self.policy is not None else key

    def target(self, key: str) -> str:
        found = self.policy.targets.get(key) if self.policy is not None else None
        return found.name if found is not None else key

    def of(self, key: str) -> str:
        """Return what any id is called, or the id."""
        return self.persons.get(key) or self.accounts.get(key) or self.groups.get(key) or key


def proposals(view: View, broker: Broker, changes: list[Change]) -> list[Proposal]:
    """Return these changes in words."""
    known = people.staff(view)
    persons = {key: person.name for key, person in known.register.persons.items()}
    accounts = {key: persons.get(person, person) for key, (person, _) in known.accounts.items()}
    names = _Names(persons, accounts, people.group_names(view), broker.policies.active_or_none(view))
    return [Proposal(change, _about(view, names, change), _rows(names, change)) for change in changes]


def _about(view: View, names: _Names, change: Change) -> str:
    key = change.subject_id
    payload = cast("dict[str, Any]", change.payload or {})
    match change.kind:
        case "person.add" | "recovery.print_keys":
            return ""
        case "person.change" | "person.disable" | "person.enable" | "account.add":
            return names.persons.get(key, key)
        case "enrolment.create":
            return names.accounts.get(key, key)
        case "group.add" | "member.add" | "member.end":
            return names.groups.get(key, key)
        case "client.add" | "client.add_proxied":
            return names.target(key)
        case "hold.place":
            return names.institution(key) if payload.get("kind") == "institution" else names.of(key)
        case "hold.release":
            held = view.unchecked_get(Hold, key)
            return key if held is None else f"{telling.held(held.kind)}: {_held(names, held)}"
        case "lease.close":
            lease = view.unchecked_get(Lease, key)
            return key if lease is None else f"{names.target(lease.target)}: {names.of(lease.person_id)}"
        case "recovery.link" | "recovery.veto":
            recovery = view.unchecked_get(Recovery, key)
            return key if recovery is None else names.of(recovery.account_id)
        case "record.restore":
            table, _, record = key.partition("/")
            about = next((names.of(part) for part in (record, *record.split("/")) if names.of(part) != part), record)
            return f"{RECORDS.get(table, table)}: {about}"
        case _:
            return key


def _held(names: _Names, held: Hold) -> str:
    match held.kind:
        case "institution":
            return names.institution(held.subject_id)
        case "target":
            return names.target(held.subject_id)
        case _:
            return names.of(held.subject_id)


def _rows(names: _Names, change: Change) -> tuple[Row, ...]:
    return tuple(_row(names, key, text) for key, text in display.payload_rows(change.payload))


def _row(names: _Names, key: str, text: str) -> Row:
    first, last = key.split(".")[0], key.rpartition(".")[2]
    label = MEMBERS.get(last) or MEMBERS.get(first, key)
    if (last, text) in VALUES:
        meaning = str(VALUES[last, text])
    elif last == "institution":
        meaning = str(names.institution(text))
    elif last == "groups":
        meaning = ", ".join(names.groups.get(part, part) for part in text.split(", "))
    else:
        meaning = names.of(text)
    return Row(key, str(label), text, "" if meaning == text else meaning)


def act(kind: str) -> str:
    """Return what a change does in words, or its key."""
    return str(ACTS.get(kind, kind))


def install(app: Flask) -> None:
    """Give templates the words for acts and records."""
    app.add_template_filter(act, "act")
    app.add_template_filter(lambda table: str(RECORDS.get(table, table)), "record")
