"""Does a revocation reach a target by each way in time, on a broker as it is served? `benchmarks.reach` measures the same many times."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks.reach import one_run, standing

SEEN_WITHIN_S = 5.0


@pytest.mark.slow
@pytest.mark.covers("R40", "R45")
def test_a_revocation_is_seen_by_every_way_within_five_seconds() -> None:
    with standing() as target, ThreadPoolExecutor(8) as pool:
        seen = one_run(target, pool)
    assert len(seen) == 6
    assert {way: after_s for way, after_s in seen.items() if after_s > SEEN_WITHIN_S} == {}
