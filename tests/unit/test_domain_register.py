"""Who belongs where: groups in groups, circles, lines of managers."""

import pytest

from jitaccess.domain.register import RegisterView, expand_groups
from tests.support.policy_sets import person, register


def line() -> RegisterView:
    return register(
        person("ana", manager="ben"),
        person("ben", manager="cem", institution="infra"),
        person("cem", "heads", institution="infra"),
        person("dea", "heads", manager="ben"),
        person("eda", manager="fay"),
        person("fay", manager="eda"),
        person("gil", manager="gone"),
    )


@pytest.mark.covers("T-02")
def test_a_person_is_in_every_group_above() -> None:
    closed = expand_groups(
        [("a", "ana"), ("c", "ana"), ("b", "ben")], [("top", "a"), ("over", "top"), ("over", "b"), ("x", "y")]
    )
    assert closed == {"ana": {"a", "top", "over", "c"}, "ben": {"b", "over"}}


@pytest.mark.covers("T-02")
def test_groups_in_a_circle_are_one() -> None:
    assert expand_groups([("a", "ana")], [("a", "b"), ("b", "c"), ("c", "a"), ("a", "a")]) == {"ana": {"a", "b", "c"}}


@pytest.mark.covers("T-03")
def test_groups_are_known_by_id() -> None:
    assert expand_groups([("1-staff", "ana"), ("2-staff", "ben")], [("top", "1-staff")]) == {
        "ana": {"1-staff", "top"},
        "ben": {"2-staff"},
    }


def test_members_and_staff_are_found() -> None:
    assert line().members("heads") == {"cem", "dea"}
    assert line().members("none") == frozenset()
    assert line().of_institution("infra") == {"ben", "cem"}
    assert line().of_institution("none") == frozenset()


def test_the_line_is_walked_both_ways() -> None:
    assert line().subordinates_of("cem") == {"ben", "ana", "dea"}
    assert line().subordinates_of("ana") == frozenset()
    assert line().managers_of("ana") == {"ben", "cem"}
    assert line().managers_of("cem") == frozenset()
    assert line().managers_of("nobody") == frozenset()
    assert line().managers_of("gil") == {"gone"}


def test_a_circle_of_managers_ends() -> None:
    assert line().subordinates_of("eda") == line().managers_of("eda") == {"fay"}
    below = register(person("ana", manager="eda"), person("eda", manager="fay"), person("fay", manager="eda"))
    assert below.managers_of("ana") == {"eda", "fay"}
