"""Which requirements must have a passing test? `./jit test` prints those that have none and fails.

R1-R75 are security and reliability requirements, T-01-T-25 bugs that users of similar systems met,
TRAP-1-TRAP-16 behaviour of libraries that an upgrade could change. A test names what it proves:
`@pytest.mark.covers("R19", "T-07")`.
"""

import re


def _ids(prefix: str, text: str, *, width: int = 1) -> tuple[str, ...]:
    """Expand "1-8, 11" into ids with the prefix; both ends of a range are included."""
    found: list[str] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        found += [f"{prefix}{n:0{width}d}" for n in range(int(first), int(last or first) + 1)]
    return tuple(found)


REQUIRED: tuple[str, ...] = (
    *_ids("R", "1-29, 32-64, 66-74"),
    *_ids("T-", "1-13, 15-18, 20-21, 25", width=2),
    *_ids("TRAP-", "1-13, 15"),
)
"""What the present stage of the program must prove."""

KNOWN: frozenset[str] = frozenset((*_ids("R", "1-75"), *_ids("T-", "1-25", width=2), *_ids("TRAP-", "1-16")))
"""Every id that a test may name; another one is a spelling mistake and stops the run."""

COVERED_ROOMS: tuple[str, ...] = ("domain", "policy", "proof", "audit", "tokens")
"""Rooms whose statements and branches are covered to at least `COVERED_PERCENT`."""
COVERED_PERCENT = 95.0


def order(requirement: str) -> tuple[str, int]:
    """Return a sorting key: R2 before R10, R before T before TRAP."""
    return re.sub(r"[-\d]", "", requirement), int(re.sub(r"\D", "", requirement))
