"""Have enough different people signed? Each way in which a vote does not count, and each quorum that means nothing."""

import pytest

from jitaccess.proof.errors import ProofError
from jitaccess.proof.quorum import Step, Tally, Vote, count

PERSON = frozenset({"person"})
BOTH = frozenset({"person", "institution"})
TWO = (Step("two", 2, ("heads",)),)
CHAIN = (Step("line", 1, ("heads",)), Step("owner", 1, (), "infra", "line"))


def yes(person: str, step: str = "two", institution: str = "mof") -> Vote:
    return Vote(person, institution, step, "approve")


def no(person: str, step: str = "two") -> Vote:
    return Vote(person, "mof", step, "deny")


def counted(steps: tuple[Step, ...], *votes: Vote, distinct: frozenset[str] = PERSON) -> Tally:
    return count(steps, distinct=distinct, requester="ana", votes=votes)


def reasons(found: Tally) -> list[str]:
    return [reason for _, reason in found.refused]


def test_two_different_people_are_two() -> None:
    half = counted(TWO, yes("ben"))
    assert (half.met, half.per_step, half.open_steps) == (False, {"two": 1}, ("two",))
    whole = counted(TWO, yes("ben"), yes("cem"))
    assert (whole.met, whole.per_step, whole.open_steps) == (True, {"two": 2}, ())
    assert [vote.person for vote in whole.counted] == ["ben", "cem"]


@pytest.mark.covers("R22", "T-04")
def test_one_person_twice_is_one() -> None:
    found = counted(TWO, yes("ben"), yes("ben"))
    assert (found.met, found.per_step, reasons(found)) == (False, {"two": 1}, ["same_person"])


@pytest.mark.covers("R22", "T-04")
def test_one_person_in_two_steps_is_one() -> None:
    steps = (Step("a", 1, ("heads",)), Step("b", 1, ("heads",)))
    found = counted(steps, yes("ben", "a"), yes("ben", "b"))
    assert (found.met, reasons(found), found.open_steps) == (False, ["same_person"], ("b",))


@pytest.mark.covers("R21", "T-05")
def test_the_requester_counts_neither_for_nor_against() -> None:
    for vote in (yes("ana"), no("ana")):
        found = counted(TWO, vote, yes("ben"))
        assert (found.met, found.denied, reasons(found), found.per_step) == (False, False, ["requester"], {"two": 1})


@pytest.mark.covers("R22")
def test_people_of_one_institution_are_one_where_they_must_differ() -> None:
    assert counted(TWO, yes("ben"), yes("cem")).met
    found = counted(TWO, yes("ben"), yes("cem"), distinct=BOTH)
    assert (found.met, reasons(found)) == (False, ["same_institution"])
    assert counted(TWO, yes("ben"), yes("cem"), yes("dea", institution="infra"), distinct=BOTH).met


def test_a_step_waits_for_the_one_before() -> None:
    early = counted(CHAIN, yes("dea", "owner"), yes("ben", "line"))
    assert (early.met, reasons(early), early.open_steps) == (False, ["too_early"], ("owner",))
    assert counted(CHAIN).open_steps == ("line",)
    assert counted(CHAIN, yes("ben", "line"), yes("dea", "owner")).met


def test_more_than_enough_is_no_more() -> None:
    found = counted(TWO, yes("ben"), yes("cem"), yes("dea"))
    assert (found.met, reasons(found), found.per_step) == (True, ["step_full"], {"two": 2})


def test_one_denial_ends_it() -> None:
    found = counted(TWO, yes("ben"), yes("cem"), no("dea"))
    assert (found.met, found.denied, found.open_steps) == (False, True, ())
    assert counted(CHAIN, no("dea", "owner")).denied


def test_who_has_approved_may_still_deny() -> None:
    found = counted(TWO, yes("ben"), yes("cem"), no("ben"))
    assert (found.met, found.denied, found.open_steps, reasons(found)) == (False, True, (), [])


def test_who_has_approved_does_not_approve_again() -> None:
    assert reasons(counted(TWO, yes("ben"), yes("ben"))) == ["same_person"]


@pytest.mark.parametrize(
    ("vote", "reason"),
    [
        (yes("ben", "three"), "unknown_step"),
        (Vote("ben", "mof", "two", "maybe"), "unknown_verdict"),
        (no("ben", "x"), "unknown_step"),
    ],
)
def test_a_vote_without_meaning_does_not_count(vote: Vote, reason: str) -> None:
    found = counted(TWO, vote)
    assert (reasons(found), found.counted, found.denied) == ([reason], (), False)


@pytest.mark.covers("R22", "T-01")
def test_nothing_required_is_never_met() -> None:
    found = counted(())
    assert (found.met, found.open_steps) == (False, ())


@pytest.mark.covers("R22", "T-01")
@pytest.mark.parametrize(
    ("steps", "distinct", "code", "field"),
    [
        ((Step("a", 0, ("x",)),), PERSON, "bad_count", "a"),
        ((Step("a", -1, ("x",)),), PERSON, "bad_count", "a"),
        ((Step("a", 1),), PERSON, "nobody_named", "a"),
        ((Step("a", 1, ("x",)), Step("a", 1, ("y",))), PERSON, "twin_steps", ""),
        ((Step("a", 1, ("x",)),), frozenset({"group"}), "bad_distinct", ""),
        ((Step("a", 1, ("x",), None, "a"),), PERSON, "bad_order", "a"),
        ((Step("a", 1, ("x",), None, "b"),), PERSON, "bad_order", "a"),
        ((Step("a", 1, ("x",), None, "b"), Step("b", 1, ("x",), None, "a")), PERSON, "bad_order", "a"),
    ],
)  # fmt: skip
def test_steps_without_meaning_are_refused(
    steps: tuple[Step, ...], distinct: frozenset[str], code: str, field: str
) -> None:
    with pytest.raises(ProofError) as caught:
        counted(steps, distinct=distinct)
    assert (caught.value.reason, caught.value.field or "") == (code, field)
