"""Are the rooms that decide tested line by line and branch by branch? Reads what pytest-cov left behind."""

import json
import tempfile
from collections import Counter
from pathlib import Path

from coverage import Coverage
from coverage.exceptions import NoDataError

from tests.support.requirements import COVERED_PERCENT, COVERED_ROOMS


def check(recorded: Path, root: Path) -> tuple[list[str], list[str]]:
    """Return the rooms at or above the floor and those below, each as "room 97.1 %".

    The percentage is coverage.py's own with branches: executed statements and branches over all of them.
    """
    coverage = Coverage(data_file=str(recorded), config_file=str(root / "pyproject.toml"))
    coverage.load()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        try:
            coverage.json_report(outfile=str(report))
            files = json.loads(report.read_text())["files"]
        except NoDataError:
            files = {}
    seen: Counter[str] = Counter()
    done: Counter[str] = Counter()
    for name, measured in files.items():
        room = Path(name).parts[1]
        total = measured["summary"]
        seen[room] += total["num_statements"] + total["num_branches"]
        done[room] += total["covered_lines"] + total["covered_branches"]
    good: list[str] = []
    bad: list[str] = []
    for room in COVERED_ROOMS:
        percent = 100.0 * done[room] / seen[room] if seen[room] else 0.0
        (good if percent >= COVERED_PERCENT else bad).append(f"{room} {percent:.1f} %")
    return good, bad
