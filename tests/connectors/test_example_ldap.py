"""Does the example of a directory run, from an empty machine to a found intruder?"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.sources import ROOT


@pytest.mark.covers("R49", "R50", "R57")
def test_the_example_shows_before_during_and_after() -> None:
    if not Path("/usr/sbin/slapd").exists():
        pytest.skip("slapd is not installed (apt install slapd ldap-utils)")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "examples.ldap"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NO " not in done.stdout
    assert "uid=shadow,ou=people,dc=example in cn=ledger-admins,ou=groups,dc=example is new" in done.stdout
