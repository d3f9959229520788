"""Does a signal end the demo at once, but never in the middle of what would stay behind?"""

import os
import signal

import pytest

from jitaccess.demo.ending import SIGNALS, Ended, listening


def told(number: int) -> None:
    with listening():
        os.kill(os.getpid(), number)


def told_twice(done: list[str]) -> None:
    with listening() as ending:
        try:
            with ending.undisturbed():
                os.kill(os.getpid(), signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGINT)
                done.append("started")
            done.append("never")
        finally:
            with ending.undisturbed():
                done.append("cleared")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_what_waits(number: int) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Ended) as ended:
        told(number)
    assert ended.value.code == 128 + number
    assert signal.getsignal(number) is before


def test_what_is_undisturbed_comes_to_its_end_first() -> None:
    done: list[str] = []
    with pytest.raises(Ended) as ended:
        told_twice(done)
    assert done == ["started", "cleared"]
    assert ended.value.code == 128 + signal.SIGTERM
