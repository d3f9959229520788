"""The machine's clock, ahead by as much as it was told: for brokers whose target is a real server with a clock of its own.

One that stood still would part from the target's on a busy machine, and a broker makes nothing where the two differ.
"""

from datetime import datetime, timedelta

from jitaccess.clock import SystemClock


class RunningClock(SystemClock):
    """A clock that goes on by itself and jumps when told."""

    def __init__(self, ahead: timedelta = timedelta()) -> None:
        self._ahead = ahead

    def now(self) -> datetime:
        """Return the machine's wall time, that much later."""
        return super().now() + self._ahead

    def monotonic(self) -> float:
        """Return the machine's monotonic time, that much later."""
        return super().monotonic() + self._ahead.total_seconds()

    def advance(self, by: timedelta) -> None:
        """Jump ahead."""
        self._ahead += by
