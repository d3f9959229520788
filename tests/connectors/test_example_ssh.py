"""Does the example of SSH hosts run, from an empty machine to a locked key?"""

import os
import shutil
import subprocess
import sys

import pytest

from tests.support.sources import ROOT


@pytest.mark.covers("R50", "R53", "R57")
def test_the_example_shows_before_during_and_after() -> None:
    if os.geteuid() != 0:
        pytest.skip("sshd must change users: run these tests as root")
    if shutil.which("sshd", path="/usr/sbin") is None:
        pytest.skip("there is no OpenSSH server: apt install openssh-server openssh-client")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "examples.ssh"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NO " not in done.stdout
    assert "REVOKED" in done.stdout
    assert "is new" in done.stdout
