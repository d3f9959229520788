"""Who belongs where? A view of the staff register as one immutable value.

Groups are known by id, never by name (T-03), and `groups` of a person is the transitive closure over groups in groups (T-02).
Whoever builds a view decides what it is derived from; nothing here reads a database.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class PersonView:
    """What rules may know of a person."""

    id: str
    name: str
    institution: str
    unit: str
    manager_id: str | None
    groups: frozenset[str]
    on_hold: bool = False
    active: bool = True


@dataclass(frozen=True, slots=True)
class RegisterView:
    """All persons and the ids of all groups and institutions that exist."""

    persons: Mapping[str, PersonView]
    groups: frozenset[str]
    institutions: frozenset[str] = frozenset()
    _members: Mapping[str, frozenset[str]] = field(init=False, repr=False, compare=False)
    _reports: Mapping[str, frozenset[str]] = field(init=False, repr=False, compare=False)
    _staff: Mapping[str, frozenset[str]] = field(init=False, repr=False, compare=False)
    able: frozenset[str] = field(init=False, repr=False, compare=False)
    """The ids of all who are active and not on hold."""

    def __post_init__(self) -> None:
        """Index members, direct reports, staff and who may act, once."""
        members: dict[str, set[str]] = defaultdict(set)
        staff: dict[str, set[str]] = defaultdict(set)
        reports: dict[str, set[str]] = defaultdict(set)
        for person in self.persons.values():
            staff[person.institution].add(person.id)
            for group in person.groups:
                members[group].add(person.id)
            if person.manager_id is not None:
                reports[person.manager_id].add(person.id)
        object.__setattr__(self, "_members", {group: frozenset(ids) for group, ids in members.items()})
        object.__setattr__(self, "_reports", {person: frozenset(ids) for person, ids in reports.items()})
        able = frozenset(person.id for person in self.persons.values() if person.active and not person.on_hold)
        object.__setattr__(self, "able", able)
        object.__setattr__(self, "_staff", {institution: frozenset(ids) for institution, ids in staff.items()})

    def members(self, group: str) -> frozenset[str]:
        """Return the ids of all persons in a group, directly or through groups in it."""
        return self._members.get(group, frozenset())

    def of_institution(self, institution: str) -> frozenset[str]:
        """Return the ids of all persons of an institution."""
        return self._staff.get(institution, frozenset())

    def subordinates_of(self, person: str) -> frozenset[str]:
        """Return all who report to a person, directly or not; a circle of managers ends the walk."""
        found: set[str] = set()
        open_ = [person]
        while open_:
            for report in self._reports.get(open_.pop(), frozenset()):
                if report not in found and report != person:
                    found.add(report)
                    open_.append(report)
        return frozenset(found)

    def managers_of(self, person: str) -> frozenset[str]:
        """Return all to whom a person reports, directly or not."""
        found: set[str] = set()
        known = self.persons.get(person)
        above = known.manager_id if known else None
        while above is not None and above not in found and above != person:
            found.add(above)
            known = self.persons.get(above)
            above = known.manager_id if known else None
        return frozenset(found)


def expand_groups(
    persons_in: Iterable[tuple[str, str]], groups_in: Iterable[tuple[str, str]]
) -> Mapping[str, frozenset[str]]:
    """Return person id -> ids of all groups, from (group, person) and (group, inner group) memberships; circles are harmless."""
    parents: dict[str, set[str]] = defaultdict(set)
    for group, inner in groups_in:
        parents[inner].add(group)
    closed: dict[str, frozenset[str]] = {}

    def close(group: str) -> frozenset[str]:
        if group not in closed:
            found = {group}
            open_ = [group]
            while open_:
                for above in parents.get(open_.pop(), ()):
                    if above not in found:
                        found.add(above)
                        open_.append(above)
            closed[group] = frozenset(found)
        return closed[group]

    result: dict[str, set[str]] = defaultdict(set)
    for group, person in persons_in:
        result[person] |= close(group)
    return {person: frozenset(groups) for person, groups in result.items()}
