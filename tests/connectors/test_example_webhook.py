"""Does the example of a provisioner run, from an empty machine to a found intruder?"""

import os
import subprocess
import sys

import pytest

from tests.support.sources import ROOT


@pytest.mark.covers("R50", "R57")
def test_the_example_shows_before_during_and_after() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "examples.webhook"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NO " not in done.stdout
    assert "shadow is new with open:vault" in done.stdout
