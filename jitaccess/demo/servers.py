"""The real servers of the demo, as child processes on this machine's loopback: the broker and the sample treasury.

Each writes its own log file in the demo's folder; a server that does not answer in time is reported with the end of its log.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from jitaccess.clock import SystemClock
from jitaccess.errors import JitError, Kind
from jitaccess.settings import child_environment

START_LIMIT_S = 30
STOP_LIMIT_S = 10
CLOCK = SystemClock()
PAUSE = threading.Event()


def free_port(wanted: int) -> int:
    """Return `wanted` when it is free on loopback, else a port the system gives."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise JitError(Kind.CONFIGURATION, "No free port on loopback.")


@dataclass(slots=True)
class Server:
    """One child process and where it answers."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    health: str
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None)

    def start(self) -> None:
        """Start it and wait until it answers; raises UNAVAILABLE with the end of its log."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own program with fixed arguments
                self.command,
                env=child_environment(self.environment),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        limit = CLOCK.monotonic() + START_LIMIT_S
        while CLOCK.monotonic() < limit:
            if self.process.poll() is not None:
                break
            try:
                if httpx2.get(self.health, timeout=2).status_code == 200:
                    return
            except httpx2.HTTPError:
                PAUSE.wait(0.05)
        self.stop()
        tail = self.log.read_text(errors="replace")[-2000:]
        raise JitError(Kind.UNAVAILABLE, f"The {self.name} did not start. The end of {self.log}:\n{tail}")

    def stop(self) -> None:
        """End it and all its children; harmless when it is gone."""
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_LIMIT_S)
        with suppress(ProcessLookupError):  # whoever did not listen, or outlived its parent
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_LIMIT_S)
        self.process = None

    def kill(self) -> None:
        """Kill it without warning, as a crash would."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(STOP_LIMIT_S)
            self.process = None


def broker_server(folder: Path, config: Path, origin: str) -> Server:
    """Describe the broker's server."""
    return Server(
        "broker",
        (sys.executable, "-m", "jitaccess", "serve"),
        {"JIT_CONFIG": str(config)},
        f"{origin}/livez",
        folder / "broker.log",
    )


def treasury_server(folder: Path, origin: str, arguments: Mapping[str, str]) -> Server:
    """Describe the sample treasury's server."""
    return Server(
        "treasury",
        (sys.executable, "-m", "examples.treasury"),
        arguments,
        f"{origin}/livez",
        folder / "treasury.log",
    )


def run_to_end(command: tuple[str, ...], environment: Mapping[str, str]) -> str:
    """Run one command of ours to its end and return what it printed; raises UNAVAILABLE with its error."""
    done = subprocess.run(  # noqa: S603 - our own program with fixed arguments
        command, env=child_environment(environment), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise JitError(Kind.UNAVAILABLE, f"{' '.join(command[1:])} failed: {done.stderr.strip()[-500:]}")
    return done.stdout
