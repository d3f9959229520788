"""For any votes: are those that count from different people, never the requester, never more than asked for?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitaccess.proof.quorum import Step, Vote, count

NAMES = ("a", "b", "c")
PEOPLE = ("ana", "ben", "cem", "dea", "eva")
STEPS = st.integers(1, 3).flatmap(
    lambda size: st.tuples(
        *[
            st.builds(
                Step,
                name=st.just(NAMES[at]),
                count=st.integers(1, 3),
                groups=st.just(("heads",)),
                after=st.sampled_from([None, *NAMES[:at]]),
            )
            for at in range(size)
        ]
    )
)
VOTES = st.lists(
    st.builds(
        Vote,
        person=st.sampled_from(PEOPLE),
        institution=st.sampled_from(("mof", "infra", "bank")),
        step=st.sampled_from((*NAMES, "z")),
        verdict=st.sampled_from(("approve", "approve", "approve", "deny")),
    ),
    max_size=12,
)
DISTINCT = st.sampled_from([frozenset({"person"}), frozenset({"person", "institution"})])


@pytest.mark.covers("R21", "R22", "T-04", "T-05")
@given(STEPS, VOTES, DISTINCT)
def test_what_counts_is_never_more_than_different_people_said(
    steps: tuple[Step, ...], votes: list[Vote], distinct: frozenset[str]
) -> None:
    found = count(steps, distinct=distinct, requester="ana", votes=votes)
    people = [vote.person for vote in found.counted]
    assert len(people) == len(set(people))
    assert "ana" not in people
    assert all(vote.verdict == "approve" for vote in found.counted)
    if "institution" in distinct:
        assert len({vote.institution for vote in found.counted}) == len(people)
    for step in steps:
        assert found.per_step[step.name] == sum(vote.step == step.name for vote in found.counted) <= step.count
        first = next((at for at, vote in enumerate(found.counted) if vote.step == step.name), None)
        if step.after is not None and first is not None:
            before = next(other for other in steps if other.name == step.after)
            assert sum(vote.step == step.after for vote in found.counted[:first]) == before.count
    assert found.met == (not found.denied and len(people) == sum(step.count for step in steps))
    assert found.denied <= any(vote.verdict == "deny" and vote.person != "ana" for vote in votes)


@pytest.mark.covers("R22")
@given(STEPS, VOTES, DISTINCT)
def test_a_quorum_once_met_is_only_undone_by_a_denial(
    steps: tuple[Step, ...], votes: list[Vote], distinct: frozenset[str]
) -> None:
    met = False
    for size in range(len(votes) + 1):
        found = count(steps, distinct=distinct, requester="ana", votes=votes[:size])
        assert found.met or not met or found.denied
        assert not (found.met and found.open_steps)
        met = found.met
