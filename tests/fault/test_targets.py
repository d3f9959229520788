"""A broker killed at any moment of making or taking away a credential leaves nothing on the target that no live lease explains.

The oracle shares no code with the broker: it reads the target's file and the database with plain SQL.
"""

import json
import os
import sqlite3
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from jitaccess.demo.seed import Seeded
from tests.support.mortal import FileTarget, kind_of
from tests.support.sources import ROOT
from tests.support.world import Prepared, open_world

SAMPLE = 4
"""Moments of all that are tried; each costs a process."""


def run(folder: Path, moment: int) -> int:
    folder.mkdir()
    return subprocess.run(
        [sys.executable, "-m", "tests.support.mortal", str(folder), str(moment)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=300,
        check=False,
        capture_output=True,
    ).returncode


def unexplained(folder: Path) -> tuple[set[str], set[str]]:
    """Return accounts that no live lease explains, and leases that are neither live nor over."""
    file = folder / "target.json"
    accounts = set(json.loads(file.read_text())) if file.exists() else set()
    with sqlite3.connect(folder / "broker.db") as connection:
        rows = connection.execute("SELECT id, state FROM lease").fetchall()
    connection.close()
    live = {f"jit-{key}" for key, state in rows if state in ("ISSUING", "ACTIVE")}
    ending = {key for key, state in rows if state in ("REVOKING", "STUCK", "ISSUING")}
    return accounts - live, ending


def recover(folder: Path) -> None:
    """Start a broker where the dead one stood, two minutes and again half an hour later."""
    world = open_world(f"sqlite:///{folder / 'broker.db'}", Prepared(folder, Seeded({}, {}, {}, ())), folder)
    world.use_kind(kind_of(FileTarget(folder / "target.json")))
    for later in (timedelta(minutes=2), timedelta(minutes=30)):
        world.advance(later)
        world.sweep()
    world.close()


@pytest.mark.slow
@pytest.mark.covers("R47", "R50", "R60")
def test_death_at_any_moment_leaves_nothing_that_no_live_lease_explains(tmp_path: Path) -> None:
    assert run(tmp_path / "whole", 0) == 0
    moments = int((tmp_path / "whole" / "moments").read_text())
    assert moments >= SAMPLE
    step = max(1, moments // SAMPLE)
    for moment in range(1, moments + 1, step):
        folder = tmp_path / str(moment)
        assert run(folder, moment) == -9, f"it lived through moment {moment}"
        recover(folder)
        assert unexplained(folder) == (set(), set()), f"after death at moment {moment}"


def test_the_oracle_sees_a_planted_orphan(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "broker.db") as connection:
        connection.execute("CREATE TABLE lease (id TEXT, state TEXT)")
        connection.execute("INSERT INTO lease VALUES ('a', 'ACTIVE'), ('b', 'REVOKED'), ('c', 'REVOKING')")
    connection.close()
    (tmp_path / "target.json").write_text('["jit-a", "jit-b", "shadow"]')
    assert unexplained(tmp_path) == ({"jit-b", "shadow"}, {"c"})
