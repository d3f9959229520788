"""Is everybody let in, in the order in which they came, and never more than there are places?"""

import threading

from jitaccess.store.turnstile import Turnstile

WAIT_S = 30.0


def queue_up(turnstile: Turnstile, names: str, served: list[str]) -> list[threading.Thread]:
    """Let one thread a name wait, one after the other; each notes its name when it is let in, and leaves."""

    def visit(name: str) -> None:
        assert turnstile.enter(WAIT_S)
        served.append(name)
        turnstile.leave()

    threads = []
    for place, name in enumerate(names, start=1):
        threads.append(threading.Thread(target=visit, args=(name,)))
        threads[-1].start()
        while len(turnstile._queue) < place:
            pass
    return threads


def test_nobody_overtakes() -> None:
    turnstile, served = Turnstile(1), list[str]()
    assert turnstile.enter(0)
    threads = queue_up(turnstile, "abcde", served)
    turnstile.leave()
    for thread in threads:
        thread.join(WAIT_S)
    assert served == list("abcde")


def test_no_more_than_the_places_are_let_in() -> None:
    turnstile = Turnstile(2)
    assert turnstile.enter(0)
    assert turnstile.enter(0)
    assert not turnstile.enter(0.01)
    turnstile.leave()
    assert turnstile.enter(0)


def test_who_gave_up_is_not_waited_for() -> None:
    turnstile, served = Turnstile(1), list[str]()
    assert turnstile.enter(0)
    assert not turnstile.enter(0.01)
    threads = queue_up(turnstile, "a", served)
    turnstile.leave()
    threads[0].join(WAIT_S)
    assert served == ["a"]
    assert turnstile.enter(0)


def test_sixteen_threads_on_three_places_are_all_served() -> None:
    turnstile, inside, most = Turnstile(3), [0], [0]
    guard = threading.Lock()

    def work() -> None:
        for _ in range(50):
            assert turnstile.enter(WAIT_S)
            with guard:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            with guard:
                inside[0] -= 1
            turnstile.leave()

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert inside == [0]
    assert 1 <= most[0] <= 3
    assert all(turnstile.enter(0) for _ in range(3))
