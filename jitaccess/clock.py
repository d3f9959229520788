"""What time is it? The only reader of time in the program.

Everything above takes a `Clock`; everything pure takes `now` as an argument. Times are aware UTC datetimes (R62);
whole seconds appear only inside JWTs and statements.
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """A source of wall time and of time that never goes back."""

    def now(self) -> datetime:
        """Return the present instant, aware, UTC, to the microsecond."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back, from an arbitrary origin."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """Return the machine's wall time."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return the machine's monotonic time in seconds."""
        return time.monotonic()


class FrozenClock:
    """A clock that stands still until it is told to move; for tests and replays."""

    def __init__(self, start: datetime) -> None:
        if start.tzinfo is None:
            raise ValueError("FrozenClock needs an aware datetime")
        self._now = start.astimezone(UTC)
        self._monotonic = 0.0

    def now(self) -> datetime:
        """Return the instant the clock stands at."""
        return self._now

    def monotonic(self) -> float:
        """Return the seconds by which `advance` moved the clock so far."""
        return self._monotonic

    def advance(self, by: timedelta) -> None:
        """Move wall time and monotonic time on by the same amount."""
        self._now += by
        self._monotonic += max(by.total_seconds(), 0.0)

    def jump(self, by: timedelta) -> None:
        """Move wall time alone, as a badly set clock would."""
        self._now += by


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_epoch_us(at: datetime) -> int:
    """Return microseconds since 1970-01-01T00:00:00Z, exactly."""
    delta = at - EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def from_epoch_us(us: int) -> datetime:
    """Return the aware UTC datetime of a count of microseconds."""
    return EPOCH + timedelta(microseconds=us)


def to_epoch_s(at: datetime) -> int:
    """Return whole seconds since the epoch, rounded down."""
    return to_epoch_us(at) // 1_000_000


def from_epoch_s(seconds: int) -> datetime:
    """Return the aware UTC datetime of a count of whole seconds."""
    return EPOCH + timedelta(seconds=seconds)
