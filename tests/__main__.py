"""Does everything hold? `./jit test [group ...|fast] [--long]`: the checks and tests of this tree, in groups.

Prints one line of counts a group and, last, `N passed, N failed, N skipped`; exit code 0 only when nothing
failed. A whole run also checks the coverage of the rooms that decide and lists required behaviour without a
passing test. With CI=true a skip counts as a failure. Run as root on Debian or Ubuntu it installs the browser
that the groups need, and says so.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.support import coverage_floor, packages
from tests.support.recording import RECORD_OPTION, Record, read
from tests.support.requirements import REQUIRED, order

ROOT = Path(__file__).resolve().parent.parent
TOOLS = Path(sys.executable).parent
LINT: dict[str, list[str]] = {
    "ruff check": [str(TOOLS / "ruff"), "check", "--quiet", "."],
    "ruff format": [str(TOOLS / "ruff"), "format", "--quiet", "--check", "."],
    "mypy": [sys.executable, "-m", "mypy"],
    "lint-imports": [str(TOOLS / "lint-imports"), "--no-logo"],
}
MEASURED = ("unit", "property", "broker")
"""Groups that run in one pytest over two processes, and whose coverage is measured: with them the rooms that decide have to be covered."""
TOGETHER = ("house", "web", "oidc")
"""Groups that run in another likewise, without: measuring makes Python take nearly twice as long."""
APART = ("faults", "e2e", "doors", "connectors")
"""Groups that start servers, kill processes or drive a browser: each in one process, two of them at a time."""
LANES = 2
ROOM = 6 * 1024**3
"""Bytes that must be free in memory's folder for it to be used."""
GROUPS = ("lint", "unit", "property", "house", "broker", "web", "oidc", *APART)
FORMER = {"fault": "faults"}
"""Names that groups once had, and still answer to."""


@dataclass(frozen=True, slots=True)
class Count:
    """The result of one group."""

    name: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    note: str = ""

    def __str__(self) -> str:
        counts = f"{self.passed:>5} passed {self.failed:>4} failed {self.skipped:>4} skipped"
        return f"{self.name:<13}{counts} {self.seconds:>7.1f} s  {self.note}".rstrip()


def lint() -> Count:
    """Run the linters; their output is shown only when they complain."""
    began, failed = time.monotonic(), []
    for name, command in LINT.items():
        done = subprocess.run(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        if done.returncode != 0:
            failed.append(name)
            print(f"---- {name}\n{done.stdout}", flush=True)
    passed = len(LINT) - len(failed)
    return Count("lint", passed, len(failed), 0, time.monotonic() - began, ", ".join(failed))


def run_pytest(
    folders: Sequence[str], scratch: Path, *arguments: str, together: bool = False
) -> tuple[list[Record], int]:
    """Run pytest over folders of tests/ and return its records and its exit code; 5 means no test at all.

    What it prints is held back until the end where others run `together` with it.
    """
    present = [f"tests/{name}" for name in folders if list((ROOT / "tests" / name).glob("**/test_*.py"))]
    if not present:
        return [], 5
    record = scratch / f"{folders[0]}.json"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--no-header",
        RECORD_OPTION,
        str(record),
        *arguments,
        *present,
    ]
    environment = os.environ | {"COVERAGE_FILE": str(scratch / "coverage"), "TMPDIR": str(scratch)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of children would compile the same modules anew
    held = subprocess.PIPE if together else None
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=held, stderr=held and subprocess.STDOUT, check=False
    )
    if done.stdout:
        print(done.stdout.decode(errors="replace"), flush=True)
    return read(record), done.returncode


def group_of(record: Record) -> str:
    """Return the folder of tests/ that a record belongs to."""
    parts = record.test.split("/")
    return parts[1] if len(parts) > 2 else "tests"


def count(name: str, records: Iterable[Record], *, strict: bool) -> Count:
    """Add up one group; where skips are failures they are counted as both."""
    mine = [record for record in records if group_of(record) == name]
    tally = {kind: sum(r.outcome == kind for r in mine) for kind in ("passed", "failed", "skipped")}
    reasons = "; ".join(sorted({record.reason for record in mine if record.outcome == "skipped"}))
    seconds = sum(record.seconds for record in mine)
    failed = tally["failed"] + (tally["skipped"] if strict else 0)
    return Count(name, tally["passed"], failed, tally["skipped"], seconds, reasons or ("" if mine else "no tests yet"))


def uncovered(records: Iterable[Record]) -> list[str]:
    """Return the required ids that no passing test names."""
    proven = {name for record in records if record.outcome == "passed" for name in record.covers}
    return sorted(set(REQUIRED) - proven, key=order)


def run_groups(
    chosen: Sequence[str], scratch: Path, *, fast: bool, whole: bool, strict: bool, long: bool = False
) -> list[Count]:
    """Run the chosen groups and return their counts."""
    records: list[Record] = []
    counts: list[Count] = []
    arguments = ["--db", "sqlite", "--hypothesis-profile", "fast", "-m", "not slow"] if fast else []
    arguments += ["--long"] if long else []
    measured = ["--cov", "--cov-report="]
    results: list[tuple[list[str], list[Record], int]] = []
    for groups, more in [(MEASURED, measured), (TOGETHER, [])] if whole else [(MEASURED + TOGETHER, [])]:
        if names := [name for name in groups if name in chosen]:
            results.append((names, *run_pytest(names, scratch, *arguments, "-n", "2", "--dist", "worksteal", *more)))
    with ThreadPoolExecutor(LANES) as lanes:
        apart = [name for name in APART if name in chosen]
        done = lanes.map(lambda name: run_pytest([name], scratch, *arguments, together=len(apart) > 1), apart)
        if "lint" in chosen:  # last in the queue: it fills what time one lane has left
            counts.append(lanes.submit(lint).result())
        results += [([name], *result) for name, result in zip(apart, done, strict=True)]
    for names, found, code in results:
        records += found
        counts += [count(name, found, strict=strict) for name in names]
        if code not in (0, 5) and not any(record.outcome == "failed" for record in found):
            counts.append(Count("pytest", failed=1, note=f"ended with exit code {code}"))
    if whole:
        missing = uncovered(records)
        note = f"without a passing test: {', '.join(missing)}" if missing else ""
        counts.append(Count("requirements", len(REQUIRED) - len(missing), len(missing), note=note))
        good, bad = coverage_floor.check(scratch / "coverage", ROOT)
        counts.append(Count("coverage", len(good), len(bad), note=", ".join([*bad, *good])))
    return counts


def in_memory() -> str | None:
    """Return a folder in memory for all that tests write, where there is a roomy one: thousands of small databases are made and
    thrown away, and a disk that others use too made that five times as long."""
    folder = Path("/dev/shm")
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    runs_programs = not found.f_flag & os.ST_NOEXEC
    return str(folder) if runs_programs and found.f_bavail * found.f_frsize >= ROOM else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for and print the counts."""
    parser = argparse.ArgumentParser(prog="./jit test", description=__doc__)
    words = [*GROUPS, "fast"]
    choices = [*words, *FORMER, []]
    parser.add_argument("group", nargs="*", choices=choices, metavar="group", help=", ".join(words))
    parser.add_argument("--long", action="store_true", help="try every moment of the fault tests, not a sample")
    given = parser.parse_args(arguments)
    asked: list[str] = [FORMER.get(name, name) for name in given.group]
    fast, whole = "fast" in asked, not asked
    chosen = [name for name in GROUPS if whole or name in asked or (fast and name not in APART)]
    strict = os.environ.get("CI", "").lower() in ("1", "true")
    began = time.monotonic()
    packages.provide(chosen)
    with tempfile.TemporaryDirectory(prefix="jit-test-", dir=in_memory()) as scratch:
        Path(scratch).chmod(0o1777)  # as /tmp: servers of the tests run as another user where the tests run as root
        counts = run_groups(chosen, Path(scratch), fast=fast, whole=whole, strict=strict, long=given.long)
    passed, failed, skipped = (sum(getattr(c, kind) for c in counts) for kind in ("passed", "failed", "skipped"))
    print(f"\n{time.monotonic() - began:.0f} s in all")
    print(*counts, sep="\n")
    if strict and skipped:
        print("CI=true: each skip counts as a failure.")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
