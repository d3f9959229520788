"""Have enough different people signed? The one count, used by the broker and by the offline verifier (R22, T-01, T-04, T-05).

A vote names its step. The requester never counts; a person counts once over all steps, and a deputy's vote is the deputy's and that of the
one in whose place it is; with "institution" among `distinct` all
counted votes come from different institutions. A step with `after` takes votes only once that step is met, in the order given.
Nothing required is never "met": an empty set of checks fails.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jitaccess.proof.errors import ProofError

DISTINCT_KINDS = frozenset({"person", "institution"})


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that must be signed: by how many, and from among whom."""

    name: str
    count: int
    groups: tuple[str, ...] = ()
    """Group ids; a person in any of them may sign."""
    institution: str | None = None
    """Institution id ("owner" is resolved before)."""
    after: str | None = None


@dataclass(frozen=True, slots=True)
class Vote:
    """One verdict, in the order in which they were given."""

    person: str
    institution: str
    step: str
    verdict: str
    deputy_of: str | None = None
    """In whose place the person signed; then the vote is of both."""

    @property
    def persons(self) -> frozenset[str]:
        """Return everybody whose vote this is."""
        return frozenset({self.person} if self.deputy_of is None else {self.person, self.deputy_of})


@dataclass(frozen=True, slots=True)
class Tally:
    """How far the signing has come."""

    per_step: Mapping[str, int]
    met: bool
    denied: bool
    open_steps: tuple[str, ...]
    refused: tuple[tuple[Vote, str], ...]
    counted: tuple[Vote, ...]


def count(steps: Sequence[Step], *, distinct: frozenset[str], requester: str, votes: Sequence[Vote]) -> Tally:
    """Count votes; raises ProofError for steps that cannot mean anything."""
    by_name = _checked(steps, distinct)
    per_step = dict.fromkeys(by_name, 0)
    counted: list[Vote] = []
    refused: list[tuple[Vote, str]] = []
    denied = False
    for vote in votes:
        reason = _refusal(vote, by_name, per_step, counted, distinct=distinct, requester=requester)
        if reason is not None:
            refused.append((vote, reason))
        elif vote.verdict == "deny":
            denied = True
        else:
            counted.append(vote)
            per_step[vote.step] += 1
    open_steps = tuple(
        name
        for name, step in by_name.items()
        if per_step[name] < step.count and (step.after is None or per_step[step.after] >= by_name[step.after].count)
    )
    met = bool(by_name) and not denied and all(per_step[name] >= step.count for name, step in by_name.items())
    return Tally(per_step, met, denied, () if denied else open_steps, tuple(refused), tuple(counted))


def _checked(steps: Sequence[Step], distinct: frozenset[str]) -> Mapping[str, Step]:
    by_name = {step.name: step for step in steps}
    if len(by_name) != len(steps):
        raise ProofError("twin_steps", "two steps have one name")
    if not distinct <= DISTINCT_KINDS:
        raise ProofError("bad_distinct", "distinct knows person and institution")
    for step in steps:
        if step.count < 1:
            raise ProofError("bad_count", "a step needs at least one person", step.name)
        if not step.groups and step.institution is None:
            raise ProofError("nobody_named", "a step names groups or an institution", step.name)
        seen = {step.name}
        after = step.after
        while after is not None:
            if after not in by_name or after in seen:
                raise ProofError("bad_order", "`after` names no step or goes in a circle", step.name)
            seen.add(after)
            after = by_name[after].after
    return by_name


def _refusal(
    vote: Vote,
    steps: Mapping[str, Step],
    per_step: Mapping[str, int],
    counted: Sequence[Vote],
    *,
    distinct: frozenset[str],
    requester: str,
) -> str | None:
    """Return why a vote does not count, or None."""
    step = steps.get(vote.step)
    if step is None:
        return "unknown_step"
    if requester in vote.persons:
        return "requester"
    if vote.verdict == "deny":
        return None  # also of a person who approved before: the later word holds
    if any(other.persons & vote.persons for other in counted):
        return "same_person"
    if vote.verdict != "approve":
        return "unknown_verdict"
    if step.after is not None and per_step[step.after] < steps[step.after].count:
        return "too_early"
    if "institution" in distinct and any(other.institution == vote.institution for other in counted):
        return "same_institution"
    if per_step[vote.step] >= step.count:
        return "step_full"
    return None
