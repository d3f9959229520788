"""What did a run of pytest find? A plugin that writes one JSON record a test, for the runner.

Works under xdist: the ids of `@pytest.mark.covers` travel with the reports, and only the controlling process
writes.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest

from tests.support.requirements import KNOWN

RECORD_OPTION = "--record"


@dataclass(slots=True)
class Record:
    """One test, or one file that could not be collected."""

    test: str
    outcome: str = "passed"
    """passed | failed | skipped"""
    reason: str = ""
    covers: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Recorder:
    """Collects reports and writes them at the end of the session."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: dict[str, Record] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Merge the report of one phase (set-up, call, tear-down) into the test's record."""
        record = self.records.setdefault(report.nodeid, Record(report.nodeid))
        record.seconds += report.duration
        record.covers = [str(value) for name, value in report.user_properties if name == "covers"]
        if report.failed:
            record.outcome = "failed"
        elif report.skipped and record.outcome == "passed":
            record.outcome = "skipped"
            record.reason = _reason(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Record a file that could not be collected as a failure, one skipped as a whole as a skip."""
        if report.failed:
            self.records[report.nodeid] = Record(report.nodeid, "failed", "could not be collected")
        elif report.skipped:
            self.records[report.nodeid] = Record(report.nodeid, "skipped", _reason(report))

    def pytest_sessionfinish(self) -> None:
        """Write the file."""
        self.path.write_text(json.dumps([asdict(record) for record in self.records.values()]))


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    return str(getattr(report, "wasxfail", "") or report.longrepr or "")


def read(path: Path) -> list[Record]:
    """Return the records of a finished run; none when pytest did not get that far."""
    return [Record(**entry) for entry in json.loads(path.read_text())] if path.exists() else []


def attach_covers(items: list[pytest.Item]) -> None:
    """Hang the ids of each test's `covers` marks on its reports; an unknown id stops the run."""
    for item in items:
        for mark in item.iter_markers("covers"):
            unknown = [name for name in mark.args if name not in KNOWN]
            if unknown or not mark.args or mark.kwargs:
                raise pytest.UsageError(f"{item.nodeid}: covers() names no known requirement: {unknown}")
            item.user_properties.extend(("covers", name) for name in mark.args)
