"""How a benchmark measures: many callers for a fixed time, quantiles, CPU per act, and one line about the machine."""

import os
import platform
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of a table."""

    name: str
    clients: int
    acts: int
    per_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu_us: float
    """CPU of the measured processes for one act, microseconds; 0 where it was not measured."""


def machine_line() -> str:
    """Return one line that says on what this was measured."""
    model = "unknown CPU"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    return (
        f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


def quantile(sorted_values: Sequence[float], q: float) -> float:
    """Return the q-quantile of sorted values (nearest rank)."""
    if not sorted_values:
        return float("nan")
    return sorted_values[min(len(sorted_values) - 1, int(q * len(sorted_values)))]


def cpu_of(pids: Sequence[int]) -> float:
    """Return the CPU seconds that these processes used so far (Linux; 0.0 elsewhere).

    A child that ended and was waited for stands in its parent's sum, so a family's sum never falls.
    """
    ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def run_for(
    name: str,
    act: Callable[[int], object],
    *,
    clients: int,
    seconds: float,
    pids: Sequence[int] = (),
    limit: int | None = None,
) -> Figure:
    """Let `clients` threads call `act(client number)` for some seconds, or until `limit` acts, and return the figure.

    CPU is that of `pids`, or of this process when none is named.
    """
    samples: list[list[float]] = [[] for _ in range(clients)]
    start = threading.Barrier(clients + 1)
    errors: list[BaseException] = []
    stop_at = [0.0]
    left = [limit if limit is not None else -1]
    guard = threading.Lock()

    def work(number: int) -> None:
        start.wait()
        while time.perf_counter() < stop_at[0] and not errors:
            if limit is not None:
                with guard:
                    if left[0] == 0:
                        return
                    left[0] -= 1
            begun = time.perf_counter()
            try:
                act(number)
            except BaseException as error:
                errors.append(error)
                return
            samples[number].append(time.perf_counter() - begun)

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(clients)]
    for thread in threads:
        thread.start()
    cpu_before = cpu_of(pids) if pids else time.process_time()
    begun = time.perf_counter()
    stop_at[0] = begun + seconds
    start.wait()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - begun
    cpu = (cpu_of(pids) if pids else time.process_time()) - cpu_before
    if errors:
        raise errors[0]
    values = sorted(value for one in samples for value in one)
    return Figure(
        name,
        clients,
        len(values),
        len(values) / took,
        quantile(values, 0.5) * 1000,
        quantile(values, 0.99) * 1000,
        values[-1] * 1000 if values else float("nan"),
        cpu / len(values) * 1e6 if values else float("nan"),
    )


@dataclass(slots=True)
class Samples:
    """One kind of act of one client, measured between others."""

    name: str
    pids: Sequence[int]
    took_s: list[float] = field(default_factory=list)
    cpu_s: float = 0.0

    def take(self, act: Callable[[], object]) -> None:
        """Do it once."""
        cpu, begun = cpu_of(self.pids), time.perf_counter()
        act()
        self.took_s.append(time.perf_counter() - begun)
        self.cpu_s += cpu_of(self.pids) - cpu

    def figure(self) -> Figure:
        """Return what was measured."""
        values, total = sorted(self.took_s), sum(self.took_s)
        return Figure(
            self.name,
            1,
            len(values),
            len(values) / total,
            quantile(values, 0.5) * 1000,
            quantile(values, 0.99) * 1000,
            values[-1] * 1000,
            self.cpu_s / len(values) * 1e6,
        )


def in_turn(*measures: Callable[[], Figure], rounds: int = 3) -> list[Figure]:
    """Measure each in turn, several times around, and return the median figure of each: what else the machine does meanwhile
    falls on all of them alike."""
    found: list[list[Figure]] = [[] for _ in measures]
    for _ in range(rounds):
        for figures, measure in zip(found, measures, strict=True):
            figures.append(measure())
    return [median_of(figures) for figures in found]


def group_of(leader: int) -> list[int]:
    """Return the ids of all processes in a process group (Linux; the leader alone elsewhere)."""
    found = [leader]
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(entry.name)) == leader and int(entry.name) != leader:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def median_of(figures: Sequence[Figure]) -> Figure:
    """Return the figure with the median throughput."""
    middle = statistics.median_low([figure.per_s for figure in figures])
    return next(figure for figure in figures if figure.per_s == middle)


def table(figures: Sequence[Figure], *, baseline: Callable[[Figure], Figure | None] | None = None) -> str:
    """Return a Markdown table; with a baseline a column says how many times its throughput each row has."""
    lines = [
        "| what | clients | acts/s | p50 ms | p99 ms | max ms | CPU µs | × baseline |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for figure in figures:
        base = baseline(figure) if baseline else None
        ratio = f"{figure.per_s / base.per_s:.1f}" if base is not None and base is not figure else ""
        lines.append(
            f"| {figure.name} | {figure.clients} | {figure.per_s:,.0f} | {figure.p50_ms:.2f} | {figure.p99_ms:.2f} "
            f"| {figure.max_ms:.1f} | {figure.cpu_us:,.0f} | {ratio} |"
        )
    return "\n".join(lines)
