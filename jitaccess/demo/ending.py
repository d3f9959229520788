"""How does the demo end when it is told to? As by Ctrl-C: servers stopped, folder removed, whichever signal said so.

A signal raises where the program stands, so that everything that waits is left at once; but never while servers are being started or
cleared away, where half of it would stay behind: there it is remembered, and raised when that is done.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Ended(SystemExit):
    """The demo was told to end by a signal; the exit code says by which, as a shell does."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


class Ending:
    """Listens to the signals that end the demo."""

    def __init__(self) -> None:
        self._busy = 0
        self._told: int | None = None

    def tell(self, number: int, _frame: FrameType | None = None) -> None:
        """Take a signal: raise it, or remember the first one."""
        if self._busy:
            self._told = self._told or number
        else:
            raise Ended(number)

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Let nothing interrupt the block; what came meanwhile is raised after it, unless it fails by itself."""
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
        if self._told is not None and not self._busy:
            number, self._told = self._told, None
            raise Ended(number)


@contextmanager
def listening() -> Iterator[Ending]:
    """Listen while the block runs; then the signals mean what they meant before."""
    ending = Ending()
    before = {number: signal.signal(number, ending.tell) for number in SIGNALS}
    try:
        yield ending
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
