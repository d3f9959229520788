"""Who comes next, to write or to call a target? First come, first served: a few at once, and nobody overtakes.

A semaphore, and a pool of connections, hand what is free to whoever asks first after it came back, which is most often the thread that
gave it back: with 32 writers on 16 connections some waited two seconds while others wrote fifty times.
"""

import threading
from collections import deque


class Turnstile:
    """Lets a few in at a time, in the order in which they came. Safe between threads."""

    def __init__(self, places: int) -> None:
        """Let `places` in at once."""
        self._free = places
        self._queue: deque[threading.Lock] = deque()
        self._guard = threading.Lock()

    def enter(self, timeout_s: float) -> bool:
        """Wait for a place, at most so long; False says that none was given. Who got one calls `leave`."""
        with self._guard:
            if self._free > 0:
                self._free -= 1
                return True
            turn = threading.Lock()
            turn.acquire()
            self._queue.append(turn)
        try:
            if turn.acquire(timeout=timeout_s):
                return True
        except BaseException:  # interrupted by a signal: the place, if it was given just now, goes on to the next
            if not self._withdraw(turn):
                self.leave()
            raise
        return not self._withdraw(turn)

    def leave(self) -> None:
        """Give the place to whoever waits longest."""
        with self._guard:
            if self._queue:
                self._queue.popleft().release()
            else:
                self._free += 1

    def _withdraw(self, turn: threading.Lock) -> bool:
        """Stop waiting; False says that the place was given in the last moment."""
        with self._guard:
            if turn in self._queue:
                self._queue.remove(turn)
                return True
            return False
