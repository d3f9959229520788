"""Do ids keep the order in which they were made?"""

from datetime import UTC, datetime, timedelta

import pytest

from jitaccess.store.ids import ID_LENGTH, new_id

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)


@pytest.mark.covers("R62")
def test_ids_of_one_instant_sort_in_the_order_of_making() -> None:
    made = [new_id(NOW) for _ in range(5000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert {len(key) for key in made} == {ID_LENGTH}


def test_ids_sort_by_time_also_after_a_step_back() -> None:
    late, early, again = new_id(NOW + timedelta(seconds=1)), new_id(NOW), new_id(NOW + timedelta(seconds=1))
    assert early < late
    assert early < again
