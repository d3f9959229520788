"""Who may sign which step of a request, and is it enough? Separation of duties as pure functions (R21, R22).

The requester is always excluded, written or not; `never` excludes more. The count itself is `proof.quorum.count`, the same that an
auditor runs offline.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jitaccess.domain.register import RegisterView
from jitaccess.proof.quorum import Step, Tally, Vote, count

NEVER_KINDS = frozenset({"requester", "subordinates_of_requester", "managers_of_requester"})


@dataclass(frozen=True, slots=True)
class ApprovalTerms:
    """What has to be signed."""

    steps: tuple[Step, ...]
    distinct: frozenset[str] = frozenset({"person"})
    never: frozenset[str] = frozenset({"requester"})


def eligible(step: Step, *, register: RegisterView, requester: str, never: frozenset[str]) -> frozenset[str]:
    """Return the ids of all who could sign a step now: active, not on hold, in a named group or the named institution."""
    named: set[str] = set()
    for group in step.groups:
        named |= register.members(group)
    if step.institution is not None:
        of_institution = register.of_institution(step.institution)
        named = named & of_institution if step.groups else set(of_institution)
    barred = {requester}
    if "subordinates_of_requester" in never:
        barred |= register.subordinates_of(requester)
    if "managers_of_requester" in never:
        barred |= register.managers_of(requester)
    return frozenset(
        person for person in named - barred if register.persons[person].active and not register.persons[person].on_hold
    )


def tally(terms: ApprovalTerms, *, requester: str, votes: Sequence[Vote]) -> Tally:
    """Count the votes under the terms."""
    return count(terms.steps, distinct=terms.distinct, requester=requester, votes=votes)


def open_to(
    approver: str, terms: ApprovalTerms, *, register: RegisterView, requester: str, votes: Sequence[Vote]
) -> tuple[str, ...]:
    """Return the names of the steps that this person may sign now, in the terms' order."""
    now = tally(terms, requester=requester, votes=votes)
    person = register.persons.get(approver)
    if person is None or any(vote.person == approver for vote in votes):
        return ()
    if "institution" in terms.distinct and any(vote.institution == person.institution for vote in now.counted):
        return ()
    return tuple(
        step.name
        for step in terms.steps
        if step.name in now.open_steps
        and approver in eligible(step, register=register, requester=requester, never=terms.never)
    )


def could_sign(terms: ApprovalTerms, *, register: RegisterView, requester: str) -> Mapping[str, frozenset[str]]:
    """Return step name -> ids of all who could sign it for this requester."""
    return {
        step.name: eligible(step, register=register, requester=requester, never=terms.never) for step in terms.steps
    }


def satisfiable(terms: ApprovalTerms, *, register: RegisterView, requester: str) -> bool:
    """Say whether enough different eligible people (and institutions, where asked) exist: a small matching problem."""
    seats = [
        sorted(eligible(step, register=register, requester=requester, never=terms.never))
        for step in terms.steps
        for _ in range(step.count)
    ]
    if not seats:
        return False
    by_institution = "institution" in terms.distinct

    def key_of(person: str) -> str:
        return register.persons[person].institution if by_institution else person

    taken: dict[str, int] = {}

    def seat(number: int, seen: set[str]) -> bool:
        # Kuhn's augmenting path. With distinct institutions each institution is one candidate: two people of one
        # institution can never both count, so a matching of seats to institutions is exact.
        for person in seats[number]:
            key = key_of(person)
            if key in seen:
                continue
            seen.add(key)
            if key not in taken or seat(taken[key], seen):
                taken[key] = number
                return True
        return False

    return all(seat(number, set()) for number in range(len(seats)))
