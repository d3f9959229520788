"""Does the whole story hold, on real servers over real HTTP, and in a real browser?"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.support.ports import free_port

LIMIT_S = 180


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `jitaccess demo` on free ports."""
    ports = ("--port", str(free_port()), "--treasury-port", str(free_port()))
    return subprocess.run(
        [sys.executable, "-m", "jitaccess", "demo", *ports, *arguments],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.covers("R19", "R20", "R21", "R34", "R40", "R59", "R68", "T-05")
def test_the_story_holds_over_http_with_software_passkeys() -> None:
    done = demo("--check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAIL" not in done.stdout
    assert done.stdout.count(" ok ") >= 45


@pytest.mark.slow
@pytest.mark.covers("R1", "R17", "R24")
def test_the_story_holds_in_chromium_with_virtual_passkeys(browser: object, tmp_path: Path) -> None:
    done = demo("--browser", str(tmp_path / "pictures"))
    assert done.returncode == 0, done.stdout + done.stderr
    pictures = sorted((tmp_path / "pictures").glob("*.png"))
    assert len(pictures) >= 40
    assert all(picture.stat().st_size > 5_000 for picture in pictures)


def of(folder: Path) -> list[str]:
    """Return what runs with this folder in its environment or command: the demo, its servers, the browser."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            about = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
        except OSError:  # it has ended meanwhile
            continue
        if os.fsencode(folder) in about and process.name != str(os.getpid()):
            found.append(about.decode(errors="replace"))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "arguments", "seen", "code"),
    [
        (signal.SIGTERM, (), "Three minutes", 128 + signal.SIGTERM),
        (signal.SIGHUP, (), None, 128 + signal.SIGHUP),
        (signal.SIGINT, (), "Three minutes", 0),
        (signal.SIGTERM, ("--browser", "pictures"), "make a passkey", 128 + signal.SIGTERM),
    ],
    ids=("running", "being built", "by Ctrl-C", "in a browser"),
)
def test_the_demo_that_is_told_to_end_leaves_no_process_and_no_folder(
    browser: object, tmp_path: Path, number: int, arguments: tuple[str, ...], seen: str | None, code: int
) -> None:
    scratch = Path(tempfile.mkdtemp(prefix="jit-"))  # short: Chromium makes a socket in it
    ports = ("--port", str(free_port()), "--treasury-port", str(free_port()))
    running = subprocess.Popen(
        [sys.executable, "-u", "-m", "jitaccess", "demo", *ports, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(scratch)},
    )
    limit = time.monotonic() + LIMIT_S
    if seen is None:
        while not list(scratch.iterdir()) and time.monotonic() < limit:
            time.sleep(0.01)
    else:
        assert running.stdout is not None
        assert any(seen in line for line in running.stdout)
        assert len(of(scratch)) > 2
    running.send_signal(number)
    told, _ = running.communicate(timeout=LIMIT_S)
    assert running.returncode == code, told
    assert list(scratch.iterdir()) == []
    assert of(scratch) == []
    scratch.rmdir()
