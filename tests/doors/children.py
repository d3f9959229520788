"""Servers that the tests of doors start as child processes; all are ended afterwards."""

import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from jitaccess.clock import SystemClock

START_S = 60


def wait_until_up(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server answers anything at all."""
    pause = threading.Event()
    limit = SystemClock().monotonic() + START_S
    while SystemClock().monotonic() < limit and process.poll() is None:
        try:
            httpx2.get(url, timeout=5)
        except httpx2.HTTPError:
            pause.wait(0.1)
        else:
            return
    raise AssertionError(f"{url} did not come up: {log.read_text()[-3000:]}")


@pytest.fixture
def started() -> Iterator[Callable[..., str]]:
    """Give a way to start a server as a child process; all are ended afterwards."""
    running: list[subprocess.Popen[bytes]] = []

    def start(command: list[str], url: str, log: Path, **options: Any) -> str:
        with log.open("wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, **options)
        running.append(process)
        wait_until_up(url, process, log)
        return url

    yield start
    for process in running:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
