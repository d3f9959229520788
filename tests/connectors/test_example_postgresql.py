"""Does the example of PostgreSQL run, from an empty machine to a found intruder?"""

import os
import subprocess
import sys

import pytest

from tests.support import postgres
from tests.support.sources import ROOT


@pytest.mark.covers("R50", "R57")
def test_the_example_shows_before_during_and_after() -> None:
    binaries = postgres.find_binaries()
    if binaries is None:
        pytest.skip(postgres.MISSING)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PG_BIN": str(binaries)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "examples.postgresql"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NO " not in done.stdout
    assert "shadow is new with NOLOGIN, SUPERUSER" in done.stdout
    assert 'ALTER ROLE "shadow" NOSUPERUSER;' in done.stdout
    assert "shadow is new with SUPERUSER" in done.stdout
