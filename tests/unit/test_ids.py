"""Do ids keep the order in which they were made?"""

import base64
from datetime import UTC, datetime, timedelta

import pytest

from jitaccess.clock import to_epoch_us
from jitaccess.store.ids import ID_LENGTH, new_id

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)


@pytest.mark.covers("R62")
def test_ids_of_one_instant_sort_in_the_order_of_making() -> None:
    made = [new_id(NOW) for _ in range(5000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert {len(key) for key in made} == {ID_LENGTH}


def test_an_id_is_base32hex_of_the_time_and_random_bits() -> None:
    for step in range(200):
        now = NOW + timedelta(milliseconds=step)
        key = new_id(now)
        raw = base64.b32hexdecode(key.upper() + "======")
        assert base64.b32hexencode(raw).decode().rstrip("=").lower() == key
        assert int.from_bytes(raw[:6], "big") == to_epoch_us(now) // 1000


def test_ids_sort_by_time_also_after_a_step_back() -> None:
    late, early, again = new_id(NOW + timedelta(seconds=1)), new_id(NOW), new_id(NOW + timedelta(seconds=1))
    assert early < late
    assert early < again
