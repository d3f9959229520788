"""A broker killed at any moment of issuing, revoking or rotating leaves nothing on the target that no live lease explains.

A first run counts the moments; then a child dies at each (a fixed sample, with `--long` at all), and a broker that starts where it stood
cleans up. The oracle shares no code with the broker (`tests.support.oracle`).
"""

import ast
import json
import sqlite3
from pathlib import Path

import pytest

from jitaccess.broker.rotate import rotate
from tests.support import oracle
from tests.support.drill import MUCH_LATER, SIGKILLED, Drill, Run, recover
from tests.support.mortal import open_one

STEP = {"sqlite": 8, "postgresql": 24}
"""The broker's database -> one of so many commits is tried in the sample; every call to the target is."""


def chosen(moments: list[str], step: int, *, every: bool) -> list[int]:
    """Return the numbers of the moments to try, from 1; the same ones each time."""
    numbers = range(1, len(moments) + 1)
    return [n for n in numbers if every or not moments[n - 1].endswith("-commit") or n % step == 1]


@pytest.mark.slow
@pytest.mark.covers("R47", "R50", "R52", "R60", "R65")
@pytest.mark.parametrize("database", [*STEP])
def test_death_at_any_moment_leaves_nothing_that_no_live_lease_explains(
    drill: Drill, tmp_path: Path, pytestconfig: pytest.Config, database: str
) -> None:
    on_server = database == "postgresql"
    whole = drill.begin(tmp_path / "whole", on_server=on_server)
    first = whole.child()
    first.join()
    assert first.exitcode == 0
    assert whole.explained(whole.now) == []
    moments: list[str] = json.loads((whole.folder / "moments").read_text())
    calls = ("apply", "cut", "clean", "rotate_own", "write", "fsync", "replace")
    assert {f"{when}-{call}" for when in ("before", "after") for call in calls} <= {*moments}
    tried = chosen(moments, STEP[database], every=pytestconfig.getoption("--long"))
    for number in tried:
        run = drill.begin(tmp_path / str(number), on_server=on_server)
        child = run.child(moment=number)
        child.join()
        where = f"after death at moment {number} ({moments[number - 1]})"
        assert child.exitcode == SIGKILLED, where
        assert run.tracked() == [], where
        assert run.secret_wrong(settled=False) == [], where
        assert recover(run) == [], where
    print(f"{len(tried)} of {len(moments)} moments tried")


@pytest.mark.covers("R47")
def test_the_oracle_sees_an_account_that_was_made_before_its_intent(drill: Drill, run: Run) -> None:
    found: list[str] = []
    number = 0
    while not found:  # somewhere between the account and the intent's commit
        number += 1
        run = drill.begin(run.folder / str(number))
        child = run.child(moment=number, defect="acts first", only_open=True)
        child.join()
        assert child.exitcode == SIGKILLED, "the whole opening went by unseen"
        found = run.tracked()
    assert "no lease names it" in found[0]


@pytest.mark.covers("R52")
def test_the_oracle_sees_a_secret_that_was_not_written_ahead(run: Run) -> None:
    world = run.world(defect="forgets")
    rotate(world.broker, "ledger")
    world.close()
    assert run.secret_wrong(settled=False) == ["no secret of the broker's opens the target"]


@pytest.mark.covers("R49", "R50", "R51", "R57")
def test_the_oracle_sees_each_thing_that_can_be_wrong(drill: Drill, run: Run) -> None:
    world = run.world()
    opened = open_one(world, 600)
    world.close()
    name = opened.credential.username
    assert run.explained(run.now) == []
    drill.sql("CREATE ROLE shadow SUPERUSER")
    assert run.tracked() == ["shadow is on the target, and no lease names it"]
    drill.sql("DROP ROLE shadow")
    drill.sql("ALTER ROLE {} VALID UNTIL 'infinity'", name)
    assert any("ends on the target later" in line for line in run.explained(run.now))
    drill.sql("ALTER ROLE {} NOLOGIN", name)
    assert any("cannot log in" in line for line in run.explained(run.now))
    assert any("outlived its end" in line for line in run.explained(run.now + MUCH_LATER))
    _write(run, "UPDATE lease SET state = 'REVOKED'")
    assert any("its lease is REVOKED" in line for line in run.tracked())
    assert any("without proof" in line for line in run.explained(run.now))
    _write(run, "UPDATE lease SET state = 'STUCK'")
    assert any("still STUCK" in line for line in run.explained(run.now))


def _write(run: Run, statement: str) -> None:
    with sqlite3.connect(run.folder / "broker.db") as connection:
        connection.execute(statement)
    connection.close()


def test_the_oracle_shares_no_code_with_the_broker() -> None:
    tree = ast.parse(Path(str(oracle.__file__)).read_text())
    found = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    found |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert found
    assert not [name for name in found if name.split(".")[0] in ("jitaccess", "tests", "sqlalchemy")]
