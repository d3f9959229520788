"""Whatever the terms around a grant are: merging never depends on order, never gives more than any rule, and reads back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitaccess.policy.course import NOTICES, PLAIN, Conflict, Course, Delay, Extensions, narrows, notices, strictest

seconds = st.integers(1, 1000)
names = st.sampled_from(["a", "b", "c"])
groups = st.lists(names, max_size=3, unique=True).map(lambda found: tuple(sorted(found)))


@st.composite
def courses(draw: st.DrawFn) -> Course:
    conflicts = draw(st.dictionaries(st.tuples(names, names), seconds, max_size=3))
    told = draw(st.dictionaries(st.sampled_from(NOTICES), groups.filter(bool), max_size=3))
    found = Course(
        conflicts=tuple(sorted(Conflict(*pair, within) for pair, within in conflicts.items())),
        start_within_s=draw(st.none() | seconds),
        extensions=draw(st.none() | st.builds(Extensions, st.integers(1, 5), seconds)),
        grace_s=draw(st.none() | seconds),
        warn_s=draw(st.none() | seconds),
        notify=notices(told.items()),
        delay=draw(st.none() | st.builds(Delay, seconds, groups)),
    )
    return PLAIN if found == PLAIN else found


@given(courses())
def test_a_document_reads_back_and_holds_only_what_is_used(course: Course) -> None:
    document = course.to_document()
    assert Course.from_document(document) == course
    assert (not document) == (course is PLAIN)


@pytest.mark.covers("R22")
@given(courses(), courses(), courses())
def test_merging_is_the_same_in_every_order_and_merging_twice_changes_nothing(a: Course, b: Course, c: Course) -> None:
    assert strictest([a, b]) == strictest([b, a])
    assert strictest([strictest([a, b]), c]) == strictest([a, b, c]) == strictest([a, strictest([b, c])])
    assert strictest([a, a]) == a


@pytest.mark.covers("R22", "R29")
@given(courses(), courses())
def test_two_rules_give_no_more_than_either(a: Course, b: Course) -> None:
    both = strictest([a, b]).to_document()
    for one in (a.to_document(), b.to_document()):
        for name in both.keys() | one.keys():
            same = both.get(name) == one.get(name)
            assert same or narrows(name, one.get(name), both.get(name)), name
