"""What does an approver's signature cost over HTTP, through the real server? (performance.md goal 15)

A broker as `jitaccess serve` runs it (SQLite with fsync, granian), one requester and one approver with software passkeys over kept-alive
connections. Filing and approving are two requests each: the broker builds the statement and a challenge (one commit), the passkey
signs, both verifiers check, the right is derived anew, row and event are written (one commit). A request is approved once, by the
first of its two approvers. One client: a person has two hands. CPU is the server's, for the whole act.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace

import httpx2

from benchmarks.measure import Figure, Samples, group_of, machine_line, table
from jitaccess.demo.staff import Answer, Staff
from jitaccess.demo.stage import build

REQUESTS = 150
WARM_UP = 10
OFTEN = {
    f"JIT_LIMITS__{name}": "1000000"
    for name in ("REQUESTS_PER_PERSON_HOUR", "OPEN_PER_APPROVER", "MESSAGES_PER_APPROVER_HOUR")
}
"""Two people do here in minutes what a ministry does in a month."""
FILE = "file a request, signed (2 HTTP requests)"
LOOK = "look at the approval page"
APPROVE = "approve, signed (2 HTTP requests)"


def must(answer: Answer) -> Answer:
    """Return a good answer; anything else ends the measurement."""
    if answer.status != 200:
        raise RuntimeError(f"{answer.status} {answer.text[:300]}")
    return answer


def run(count: int = REQUESTS) -> list[Figure]:
    """File and approve so many requests."""
    stage = build(enrolled=frozenset({"arta", "blerim"}), port=0, treasury_port=0)
    server = replace(stage.broker, environment={**stage.broker.environment, **OFTEN})
    try:
        server.start()
        with httpx2.Client(timeout=60) as mine, httpx2.Client(timeout=60) as theirs:
            arta = Staff("arta", stage.origin, stage.seeded.passkeys["arta"], mine)
            blerim = Staff("blerim", stage.origin, stage.seeded.passkeys["blerim"], theirs)
            must(arta.sign_in())
            must(blerim.sign_in())
            assert server.process is not None
            pids = group_of(server.process.pid)
            kinds = [Samples(name, pids) for name in (FILE, LOOK, APPROVE)]
            for number in range(-WARM_UP, count):
                _one_request(number + WARM_UP, arta, blerim, kinds if number >= 0 else [Samples("", pids)] * 3)
            return [kind.figure() for kind in kinds]
    finally:
        server.stop()
        stage.clear()


def _one_request(number: int, arta: Staff, blerim: Staff, kinds: Sequence[Samples]) -> None:
    """Let one request be filed, looked at and approved, and take it back, so that no heap of open requests grows."""
    filing, looking, approving = kinds
    found: list[str] = []

    def file() -> None:
        inputs = {"order": f"TR-{number:06}", "amount_cents": 100_000}
        asked = arta.ask("treasury", "releaser", duration_s=1800, reason="road works", inputs=inputs)
        found.append(str(must(asked).body["request_id"]))

    filing.take(file)
    looking.take(lambda: must(blerim.get(f"/approvals/{found[0]}")))
    path = f"/api/requests/{found[0]}"
    approving.take(lambda: must(blerim.ceremony(f"{path}/approval", {"verdict": "approve"})))
    must(arta.post(f"{path}/withdraw"))


def main() -> None:
    """Print the table."""
    figures = run()
    print(machine_line())
    print(table(figures))


if __name__ == "__main__":
    sys.exit(main())
