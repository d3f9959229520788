"""What time is it on the target? The SDK stands apart from the broker and so has a clock of its own."""

import time


def wall_time() -> float:
    """Return seconds since 1970-01-01T00:00:00Z by this machine's clock."""
    return time.time()  # noqa: TID251 - the target's clock; the broker's is jitaccess.clock


def steady_time() -> float:
    """Return seconds of a clock that nobody sets: good for how long something takes, and for nothing else."""
    return time.monotonic()  # noqa: TID251 - as above
