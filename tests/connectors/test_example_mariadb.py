"""Does the example of MariaDB run, from an empty machine to a found intruder?"""

import os
import subprocess
import sys

import pytest

from tests.support import mariadb
from tests.support.sources import ROOT


@pytest.mark.covers("R50", "R57")
def test_the_example_shows_before_during_and_after() -> None:
    if not mariadb.installed():
        pytest.skip(mariadb.MISSING)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "examples.mariadb"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NO " not in done.stdout
    assert "shadow@% is new with SUPER on *.*" in done.stdout
