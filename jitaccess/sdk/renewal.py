"""Who fetches, when many threads find at once that something is old? One; the others wait a moment for it or go on with what is there.

A broker that hangs must cost each request a moment at most, never a place in a queue: one attempt at a time, and a failure is kept for some
seconds, counted from its end.
"""

import threading
from collections.abc import Callable

REST_S = 3.0
"""After an attempt that failed nobody tries again for so long."""


class Renewal:
    """One thing that is fetched anew from time to time. Safe between threads."""

    def __init__(self, clock: Callable[[], float], *, rest_s: float = REST_S) -> None:
        self._clock = clock
        self._rest_s = rest_s
        self._guard = threading.Lock()
        self._running: threading.Event | None = None
        self._failed_at: float | None = None

    @property
    def failing(self) -> bool:
        """Say whether the last attempt that ended was a failure."""
        return self._failed_at is not None

    def run(self, fetch: Callable[[], bool], *, patience_s: float) -> None:
        """Fetch, unless somebody does or just failed to: then wait at most `patience_s`, or go on at once.

        `fetch` returns whether it got something; what it raises comes through to this caller alone and counts as a failure.
        """
        with self._guard:
            if self._failed_at is not None and 0 <= self._clock() - self._failed_at < self._rest_s:
                return
            others = self._running
            mine = threading.Event()
            if others is None:
                self._running = mine
        if others is not None:
            others.wait(patience_s)
            return
        got = False
        try:
            got = fetch()
        finally:
            with self._guard:
                self._failed_at = None if got else self._clock()
                self._running = None
            mine.set()
