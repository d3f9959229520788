"""A board in memory, for connectors without a broker around them."""

import threading
from collections.abc import Mapping
from datetime import UTC, datetime

from jitaccess.connectors.contract import NotDone, Posted, Report
from jitaccess.proof.canonical import JsonValue

Entry = tuple[Mapping[str, JsonValue], datetime | None]


class MemoryBoard:
    """What `contract.Board` asks for, as long as the process lives."""

    def __init__(self, target: str = "hosts") -> None:
        self.target = target
        self._number = 0
        self._entries: dict[str, Entry] = {}
        self._reports: dict[str, tuple[int, Report]] = {}
        self._guard = threading.Lock()

    def read(self) -> Posted:
        """Return everything that is to be kept."""
        now = datetime.now(UTC)
        with self._guard:
            kept = {name: value for name, (value, until) in self._entries.items() if until is None or until > now}
            reports = {host: report for host, (_, report) in self._reports.items()}
            return Posted(now, self._number, kept, frozenset(), reports)

    def post(self, entries: Mapping[str, Entry], *, only_before: datetime | None = None) -> int:
        """Put entries on the board."""
        with self._guard:
            now = datetime.now(UTC)
            if only_before is not None and (now >= only_before or not self._entries.keys().isdisjoint(entries)):
                raise NotDone("too late, or the name was used")
            self._number = max(self._number + 1, int(now.timestamp() * 1_000_000))
            self._entries |= entries
            return self._number

    def take(self, host: str, sequence: int, report: tuple[str, str]) -> bool:
        """Keep a report that is not older than the last one."""
        with self._guard:
            if host in self._reports and self._reports[host][0] > sequence:
                return False
            self._reports[host] = (sequence, Report(*report, datetime.now(UTC)))
            return True
