"""Separation of duties: who may sign which step, and are there enough different people?"""

import pytest

from jitaccess.domain.approval import (
    LEAST_REFUSERS,
    ApprovalTerms,
    Escalation,
    Reach,
    Refusals,
    could_sign,
    eligible,
    indispensable,
    named,
    open_to,
    refusals,
    satisfiable,
    satisfiable_without,
    tally,
)
from jitaccess.domain.register import RegisterView
from jitaccess.proof.quorum import Step, Vote
from tests.support.policy_sets import person, register

LINE = Step("line", 1, ("heads",))
OWNER = Step("owner", 1, (), "infra", "line")
BOTH = Step("both", 1, ("heads",), "infra")
TERMS = ApprovalTerms((LINE, OWNER), frozenset({"person", "institution"}))


def people() -> RegisterView:
    return register(
        person("ana", "staff", manager="ben"),
        person("ben", "heads", manager="cem"),
        person("cem", "heads"),
        person("dea", "heads", institution="infra"),
        person("eda", institution="infra"),
        person("fay", "heads", institution="infra", active=False),
        person("gil", "heads", on_hold=True),
    )


def able(step: Step, requester: str = "ana", *never: str) -> frozenset[str]:
    return eligible(step, register=people(), requester=requester, never=frozenset(never))


def yes(who: str, step: str, institution: str = "mof") -> Vote:
    return Vote(who, institution, step, "approve")


def open_steps(who: str, *votes: Vote, terms: ApprovalTerms = TERMS, requester: str = "ana") -> tuple[str, ...]:
    return open_to(who, terms, register=people(), requester=requester, votes=votes)


@pytest.mark.covers("R12", "R21")
def test_a_step_is_for_active_people_of_its_groups_and_institution() -> None:
    assert able(LINE) == {"ben", "cem", "dea"}
    assert able(OWNER) == {"dea", "eda"}
    assert able(BOTH) == {"dea"}
    assert able(Step("two", 1, ("heads", "staff")), "zoe") == {"ana", "ben", "cem", "dea"}


@pytest.mark.covers("R21", "T-05")
def test_the_requester_never_signs_written_or_not() -> None:
    assert able(LINE, "cem") == {"ben", "dea"}
    assert "ben" not in open_steps("ben", requester="ben")
    assert open_steps("ben", requester="ben") == ()


@pytest.mark.covers("R21")
def test_the_line_of_the_requester_can_be_excluded() -> None:
    assert able(LINE, "ana", "managers_of_requester") == {"dea"}
    assert able(LINE, "cem", "subordinates_of_requester") == {"dea"}
    assert able(LINE, "ana", "subordinates_of_requester") == {"ben", "cem", "dea"}


@pytest.mark.covers("R22", "T-04")
def test_a_person_signs_once() -> None:
    assert open_steps("dea") == ("line",)
    assert open_steps("dea", yes("dea", "line", "infra")) == ()
    refused = Vote("dea", "infra", "owner", "approve")
    assert open_steps("dea", refused) == ()


def test_steps_open_in_their_order() -> None:
    assert open_steps("eda") == ()
    assert open_steps("eda", yes("ben", "line")) == ("owner",)
    assert open_steps("eda", yes("ben", "line"), yes("dea", "owner", "infra")) == ()


@pytest.mark.covers("R22")
def test_a_second_person_of_an_institution_is_shut_out_where_they_must_differ() -> None:
    signed = yes("dea", "line", "infra")
    assert open_steps("eda", signed) == ()
    assert open_steps("eda", signed, terms=ApprovalTerms((LINE, OWNER))) == ("owner",)


def test_nobody_unknown_signs() -> None:
    assert open_steps("zoe") == ()


@pytest.mark.covers("R22", "T-04")
def test_the_votes_are_counted_by_the_one_count() -> None:
    found = tally(TERMS, requester="ana", votes=[yes("ben", "line"), yes("ben", "owner"), yes("eda", "owner", "infra")])
    assert found.met
    assert [reason for _, reason in found.refused] == ["same_person"]


def test_who_could_sign_is_told_by_step() -> None:
    assert could_sign(TERMS, register=people(), requester="ben") == {"line": {"cem", "dea"}, "owner": {"dea", "eda"}}


@pytest.mark.covers("R22", "T-01")
@pytest.mark.parametrize(
    ("terms", "requester", "met"),
    [
        (TERMS, "ana", True),
        (ApprovalTerms((Step("line", 3, ("heads",)),)), "ana", True),
        (ApprovalTerms((Step("line", 4, ("heads",)),)), "ana", False),
        (ApprovalTerms((Step("line", 3, ("heads",)),)), "ben", False),
        (ApprovalTerms((Step("line", 3, ("heads",)),), frozenset({"person", "institution"})), "ana", False),
        (ApprovalTerms((BOTH,)), "dea", False),
        (ApprovalTerms((BOTH, Step("more", 1, (), "infra"))), "ana", True),
        (ApprovalTerms((Step("more", 2, (), "infra"), BOTH)), "ana", False),
        (ApprovalTerms((Step("more", 1, (), "infra"), BOTH)), "ana", True),
        (ApprovalTerms((LINE,), never=frozenset({"managers_of_requester"})), "ana", True),
        (ApprovalTerms(()), "ana", False),
    ],
)
def test_enough_different_people_exist(terms: ApprovalTerms, requester: str, met: bool) -> None:
    assert satisfiable(terms, register=people(), requester=requester) is met


def test_an_absence_can_lock_the_steps() -> None:
    assert indispensable(ApprovalTerms((BOTH,)), register=people()) == {"dea"}
    assert indispensable(ApprovalTerms((LINE,)), register=people()) == frozenset()
    assert indispensable(ApprovalTerms((Step("line", 4, ("heads",)),)), register=people()) == frozenset()
    assert not satisfiable_without(ApprovalTerms((BOTH,)), register=people(), absent=frozenset({"dea"}))


def test_refusals_count_requests_and_the_different_people_who_refused() -> None:
    assert refusals([]) == Refusals(0, 0)
    assert refusals([("r1", "drita"), ("r2", "drita"), ("r3", "drita")]) == Refusals(3, 1)
    assert refusals([("r1", "drita"), ("r1", "blerim"), ("r1", "drita")]) == Refusals(1, 2)
    assert refusals([(f"r{number}", "drita") for number in range(4)] + [("r4", "blerim")]).approvers == LEAST_REFUSERS


def test_whom_no_step_names_can_never_sign_however_long_it_waits() -> None:
    terms = ApprovalTerms((LINE,), reach=(Reach("line", escalate=(Escalation(3600, "staff"),)),))
    at_once = could_sign(terms, register=people(), requester="zoe")["line"]
    late = could_sign(terms, register=people(), requester="zoe", waited_s=86_400)["line"]
    assert (at_once, late) == ({"ben", "cem", "dea"}, {"ana", "ben", "cem", "dea"})
    assert named(terms, register=people()) == late
