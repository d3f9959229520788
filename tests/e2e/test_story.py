"""Does the whole story hold, on real servers over real HTTP, and in a real browser?"""

import subprocess
import sys
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
