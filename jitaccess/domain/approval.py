"""Who may sign which step of a request, and is it enough? Separation of duties as pure functions (R21, R22).

The requester is always excluded, written or not; `never` excludes more. Rights are derived from the register as it is now, so whoever
holds an old view must ask again. The count itself is `proof.quorum.count`, the same that an auditor runs offline.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from jitaccess.domain.register import RegisterView
from jitaccess.proof.quorum import Step, Tally, Vote, count

NO_LONGER_WAIT_S = 2**53
"""Longer than any request waits."""
LEAST_REFUSERS = 2
"""Different approvers whose refusals can put a requester on hold: no single one can lock a colleague out."""
NEVER_KINDS = frozenset({"requester", "subordinates_of_requester", "managers_of_requester"})


@dataclass(frozen=True, slots=True)
class Escalation:
    """After so long a wait the members of one more group may sign, and are asked."""

    after_s: int
    group: str


@dataclass(frozen=True, slots=True)
class Reach:
    """Who of those who may sign a step is asked, and who else may after a time. A step without one asks everybody."""

    step: str
    people: int | None = None
    """How many are drawn by lot; None asks everybody."""
    others: bool = True
    """Whether those who were not asked may sign too."""
    escalate: tuple[Escalation, ...] = ()


@dataclass(frozen=True, slots=True)
class ReadBack:
    """A figure that an approver has to read and give back: an input, or `entitlement`."""

    figure: str
    above: int | None = None
    """Only for greater numbers; None means always."""


@dataclass(frozen=True, slots=True)
class ApprovalTerms:
    """What has to be signed."""

    steps: tuple[Step, ...]
    distinct: frozenset[str] = frozenset({"person"})
    never: frozenset[str] = frozenset({"requester"})
    reach: tuple[Reach, ...] = ()
    read_back: tuple[ReadBack, ...] = ()
    deputies_s: int | None = None
    """For how long a deputy may be named at most to sign here; None: nobody signs in another's place."""
    credentials: tuple[tuple[str, str], ...] = ()
    """(step, class of passkey that signs it at least), in the order of the steps; a step without one takes any."""

    def credential_of(self, step: str) -> str | None:
        """Return the class of passkey that signs a step at least, or None for any."""
        return dict(self.credentials).get(step)

    def reach_of(self, step: str) -> Reach:
        """Return whom a step asks."""
        return next((found for found in self.reach if found.step == step), Reach(step))

    def escalated(self, step: str, waited_s: int) -> frozenset[str]:
        """Return the groups that may sign a step too, after so long a wait."""
        return frozenset(found.group for found in self.reach_of(step).escalate if found.after_s <= waited_s)


def barred(requester: str, *, register: RegisterView, never: frozenset[str]) -> frozenset[str]:
    """Return the ids of all who may not sign for this requester, the requester first of all."""
    found = frozenset({requester})
    if "subordinates_of_requester" in never:
        found |= register.subordinates_of(requester)
    if "managers_of_requester" in never:
        found |= register.managers_of(requester)
    return found


def eligible(
    step: Step,
    *,
    register: RegisterView,
    requester: str,
    never: frozenset[str],
    escalated: frozenset[str] = frozenset(),
) -> frozenset[str]:
    """Return the ids of all who could sign a step now: active, not on hold, and named by it.

    Named are the members of any of its groups and of the groups it was escalated to; with an institution beside them, those of
    them who belong to it; with an institution alone, all its people.
    """
    return _able(step, register, escalated) - barred(requester, register=register, never=never)


def named(terms: ApprovalTerms, *, register: RegisterView) -> frozenset[str]:
    """Return the ids of all whom any step names, at once or after whatever wait: nobody else can ever sign but their deputies."""
    return frozenset[str]().union(
        *(_able(step, register, terms.escalated(step.name, NO_LONGER_WAIT_S)) for step in terms.steps)
    )


@dataclass(frozen=True, slots=True)
class Lent:
    """A right to sign that somebody lent: a deputation that is in force."""

    delegator: str
    deputy: str
    lasts_s: int
    """For how long the deputy was named."""


def deputies_for(
    persons: frozenset[str], terms: ApprovalTerms, lent: Iterable[Lent], *, register: RegisterView, requester: str
) -> frozenset[str]:
    """Return the ids of all who could sign in the place of any of these persons, who could themselves, for this requester."""
    if terms.deputies_s is None:
        return frozenset()
    out = barred(requester, register=register, never=terms.never)
    return frozenset(
        one.deputy
        for one in lent
        if one.delegator in persons
        and one.lasts_s <= terms.deputies_s
        and one.deputy not in out
        and both_able(register, one.delegator, one.deputy)
    )


def both_able(register: RegisterView, delegator: str, deputy: str) -> bool:
    """Say whether both of a deputation may act now, and belong to one institution."""
    first, second = register.persons.get(delegator), register.persons.get(deputy)
    return (
        first is not None
        and second is not None
        and first.institution == second.institution
        and {delegator, deputy} <= register.able
    )


def _able(step: Step, register: RegisterView, escalated: frozenset[str] = frozenset()) -> frozenset[str]:
    named = frozenset[str]().union(*(register.members(group) for group in (*step.groups, *escalated)))
    if step.institution is not None:
        # Escalation brings other people, never another institution: what the step asks of its signers stays.
        of_institution = register.of_institution(step.institution)
        named = named & of_institution if step.groups else of_institution
    return named & register.able


@dataclass(frozen=True, slots=True)
class Refusals:
    """How often, and by how many different approvers, somebody was refused."""

    requests: int
    approvers: int


def refusals(denials: Iterable[tuple[str, str]]) -> Refusals:
    """Count (request, approver) pairs of refusals; a request refused twice counts once, a deputy as the person who refused."""
    pairs = set(denials)
    return Refusals(len({request for request, _ in pairs}), len({approver for _, approver in pairs}))


def tally(terms: ApprovalTerms, *, requester: str, votes: Sequence[Vote]) -> Tally:
    """Count the votes under the terms."""
    return count(terms.steps, distinct=terms.distinct, requester=requester, votes=votes)


def open_to(
    approver: str,
    terms: ApprovalTerms,
    *,
    register: RegisterView,
    requester: str,
    votes: Sequence[Vote],
    waited_s: int = 0,
    asked: Mapping[str, frozenset[str]] | None = None,
) -> tuple[str, ...]:
    """Return the names of the steps that this person may sign now, in the terms' order.

    `waited_s` is how long the request has waited; `asked` says who was asked for each step, for steps that no others may sign.
    """
    now = tally(terms, requester=requester, votes=votes)
    person = register.persons.get(approver)
    if person is None or any(approver in (vote.person, vote.deputy_of) for vote in votes):
        return ()
    if "institution" in terms.distinct and any(vote.institution == person.institution for vote in now.counted):
        return ()
    return tuple(
        step.name
        for step in terms.steps
        if step.name in now.open_steps
        and approver in signers_of(step, terms, register=register, requester=requester, waited_s=waited_s)
        and (terms.reach_of(step.name).others or approver in (asked or {}).get(step.name, frozenset()))
    )


def signers_of(
    step: Step, terms: ApprovalTerms, *, register: RegisterView, requester: str, waited_s: int
) -> frozenset[str]:
    """Return the ids of all who could sign one step for this requester after so long a wait."""
    escalated = terms.escalated(step.name, waited_s)
    return eligible(step, register=register, requester=requester, never=terms.never, escalated=escalated)


def open_to_deputy(
    deputy: str,
    delegator: str,
    terms: ApprovalTerms,
    *,
    register: RegisterView,
    requester: str,
    votes: Sequence[Vote],
    waited_s: int = 0,
    asked: Mapping[str, frozenset[str]] | None = None,
) -> tuple[str, ...]:
    """Return the names of the steps that a deputy may sign now in the delegator's place, in the terms' order.

    The deputy counts as both: neither of them may be barred, have signed, or be stood in for by somebody else. Only the delegator's
    own right is lent, never one that was lent to the delegator; both belong to one institution, so that `distinct` means what it says.
    """
    mine, theirs = register.persons.get(deputy), register.persons.get(delegator)
    if mine is None or theirs is None or mine.institution != theirs.institution or deputy not in register.able:
        return ()
    if deputy in barred(requester, register=register, never=terms.never):
        return ()
    if any(deputy in (vote.person, vote.deputy_of) for vote in votes):
        return ()
    return open_to(
        delegator, terms, register=register, requester=requester, votes=votes, waited_s=waited_s, asked=asked
    )


def could_sign(
    terms: ApprovalTerms, *, register: RegisterView, requester: str, waited_s: int = 0
) -> Mapping[str, frozenset[str]]:
    """Return step name -> ids of all who could sign it for this requester."""
    return {
        step.name: signers_of(step, terms, register=register, requester=requester, waited_s=waited_s)
        for step in terms.steps
    }


def satisfiable(
    terms: ApprovalTerms, *, register: RegisterView, requester: str, waited_s: int = NO_LONGER_WAIT_S
) -> bool:
    """Say whether enough different eligible people (and institutions, where asked) exist for this requester, after the wait."""
    return one_quorum(terms, register=register, requester=requester, waited_s=waited_s) is not None


def one_quorum(
    terms: ApprovalTerms, *, register: RegisterView, requester: str, waited_s: int = NO_LONGER_WAIT_S
) -> frozenset[str] | None:
    """Return one set of people who together could sign every step for this requester after the wait, or None.

    Deputies add nobody here: whoever lends a right could sign.
    """
    return _seated(terms, register, barred(requester, register=register, never=terms.never), waited_s)


def satisfiable_without(terms: ApprovalTerms, *, register: RegisterView, absent: frozenset[str]) -> bool:
    """Say whether the steps could be met by the people who are not absent, after whatever wait."""
    return _seated(terms, register, absent) is not None


def indispensable(terms: ApprovalTerms, *, register: RegisterView) -> frozenset[str]:
    """Return the ids of all whose single absence would lock the steps for good; nobody when they cannot be met at all."""
    # Whoever is indispensable sits in every solution, hence in this one.
    seated = _seated(terms, register, frozenset()) or frozenset()
    return frozenset(
        person for person in seated if not satisfiable_without(terms, register=register, absent=frozenset({person}))
    )


def _seated(
    terms: ApprovalTerms, register: RegisterView, absent: frozenset[str], waited_s: int = NO_LONGER_WAIT_S
) -> frozenset[str] | None:
    """Return one set of people who together meet the steps, or None: a bipartite matching (Kuhn's augmenting paths).

    With distinct institutions each institution is one candidate, as two people of one institution can never both count: a
    matching of seats to institutions is exact.
    """
    able = [(step.count, _able(step, register, terms.escalated(step.name, waited_s))) for step in terms.steps]
    seats = [people for count, could in able for people in [could - absent] * count]
    if not seats:
        return None
    persons = register.persons
    by_institution = "institution" in terms.distinct
    taken: dict[str, tuple[int, str]] = {}

    def seat(number: int, seen: set[str]) -> bool:
        for person in seats[number]:
            key = persons[person].institution if by_institution else person
            if key in seen:
                continue
            seen.add(key)
            if key not in taken or seat(taken[key][0], seen):
                taken[key] = (number, person)
                return True
        return False

    if not all(seat(number, set()) for number in range(len(seats))):
        return None
    return frozenset(person for _, person in taken.values())
