"""What would a change of the register give to somebody, and could the broker still be administered after it? (R21, design.md section 6a)

The register before and after it is compared, person by person.
A right may come by many roads: a group, a group put into a group, an institution, a unit, a manager, or the end of a `never` that a
manager stood behind. So nothing here asks what kind of change it is; two whole views of the register are compared.
"""

from dataclasses import dataclass

from jitaccess.domain.register import RegisterView
from jitaccess.identity.people import ADMINS, FOUNDERS, Staff


@dataclass(frozen=True, slots=True)
class Standing:
    """What rules can find in a person."""

    groups: frozenset[str]
    """Directly or through groups in groups."""
    institution: str
    unit: str
    manager_id: str | None
    active: bool


def standing(register: RegisterView, person_id: str) -> Standing | None:
    """Return what rules find in a person, or None when the register does not know him."""
    person = register.persons.get(person_id)
    if person is None:
        return None
    return Standing(person.groups, person.institution, person.unit, person.manager_id, person.active)


def touched(before: RegisterView, after: RegisterView, person_id: str) -> bool:
    """Say whether a change alters what rules find in a person, or takes away somebody whom `never` keeps from his requests.

    New reports give a manager nothing: rules only ever keep managers and their reports from signing for each other.
    """
    if standing(before, person_id) != standing(after, person_id):
        return True
    lost_reports = before.subordinates_of(person_id) - after.subordinates_of(person_id)
    lost_managers = before.managers_of(person_id) - after.managers_of(person_id)
    return bool(lost_reports or lost_managers)


def able_administrators(staff: Staff) -> frozenset[str]:
    """Return who could sign an act of administration: on the register, not on hold, with a passkey that is neither blocked nor on hold."""
    with_passkey = {
        staff.accounts[account][0]
        for key, (account, status) in staff.passkeys.items()
        if status == "active" and ("passkey", key) not in staff.holds and staff.accounts.get(account, ("", False))[1]
    }
    persons = staff.register.persons
    return frozenset(
        person for person in with_passkey & staff.register.able if persons[person].groups & {ADMINS, FOUNDERS}
    )
