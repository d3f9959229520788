"""Does the test bench itself work? A bench that cannot fail proves nothing."""

import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

import tests.__main__ as runner
from jitaccess.clock import FrozenClock
from tests.support import coverage_floor, network, postgres
from tests.support.recording import Record, attach_covers, read
from tests.support.requirements import KNOWN, REQUIRED
from tests.support.sources import ROOT

SAMPLE = """
import warnings
import pytest

@pytest.mark.covers("R1", "T-07")
def test_good(): pass

@pytest.mark.covers("R2")
def test_bad(): assert False

@pytest.mark.covers("R3")
def test_skipped(): pytest.skip("no server here")

def test_warning(): warnings.warn("old")

@pytest.fixture
def broken_afterwards():
    yield
    raise RuntimeError

@pytest.mark.covers("R4")
def test_tear_down(broken_afterwards): pass

def test_database(database_url): assert database_url
"""


def run_sample(folder: Path, source: str, *arguments: str, **extra: str) -> tuple[dict[str, Record], int]:
    """Run pytest with the root conftest over one made-up file and return its records by test name."""
    (folder / "test_sample.py").write_text(source)
    record = folder / "record.json"
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(folder)]
    command += ["-p", "tests.conftest", "--record", str(record), *arguments, str(folder / "test_sample.py")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | extra
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return {entry.test.rpartition("::")[2]: entry for entry in read(record)}, done.returncode


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["0", "2"])
def test_a_run_is_recorded_with_what_it_covers(tmp_path: Path, processes: str) -> None:
    records, code = run_sample(tmp_path, SAMPLE, "-n", processes, "--db", "sqlite")
    assert code == 1
    assert {name: record.outcome for name, record in records.items()} == {
        "test_good": "passed",
        "test_bad": "failed",
        "test_skipped": "skipped",
        "test_warning": "failed",
        "test_tear_down": "failed",
        "test_database[sqlite]": "passed",
    }
    assert records["test_good"].covers == ["R1", "T-07"]
    assert records["test_skipped"].reason == "no server here"


@pytest.mark.parametrize("mark", [pytest.mark.covers("R76"), pytest.mark.covers("T-7"), pytest.mark.covers()])
def test_a_misspelt_mark_stops_the_run(request: pytest.FixtureRequest, mark: pytest.MarkDecorator) -> None:
    request.node.add_marker(mark)
    with pytest.raises(pytest.UsageError):
        attach_covers([request.node])


@pytest.mark.slow
def test_a_file_that_cannot_be_read_counts_as_a_failure(tmp_path: Path) -> None:
    records, code = run_sample(tmp_path, "import nothing_of_that_name")
    assert code != 0
    assert [record.outcome for record in records.values()] == ["failed"]


def test_only_a_passing_test_covers_a_requirement() -> None:
    passed = Record("tests/unit/test_a.py::test", covers=[name for name in REQUIRED if name != "R5"])
    failed = Record("tests/unit/test_b.py::test", outcome="failed", covers=["R5"])
    assert runner.uncovered([passed, failed]) == ["R5"]
    assert set(REQUIRED) <= KNOWN


def test_a_skip_is_a_failure_where_the_run_is_strict() -> None:
    records = [Record("tests/unit/a.py::one"), Record("tests/unit/a.py::two", "skipped", "no server")]
    relaxed = runner.count("unit", records, strict=False)
    strict = runner.count("unit", records, strict=True)
    assert (relaxed.passed, relaxed.failed, relaxed.skipped) == (1, 0, 1)
    assert (strict.passed, strict.failed, strict.skipped) == (1, 1, 1)
    assert "no server" in str(strict)


def test_rooms_without_coverage_are_below_the_floor(tmp_path: Path) -> None:
    good, bad = coverage_floor.check(tmp_path / "coverage", ROOT)
    assert not good
    assert bad[0] == "domain 0.0 %"


@pytest.mark.slow
def test_what_a_run_executes_is_counted(tmp_path: Path) -> None:
    recorded = tmp_path / "coverage"
    source = "from jitaccess.domain import lifecycle\ndef test_imported(): assert lifecycle"
    options = ["-n", "2", "--cov=jitaccess", f"--cov-config={ROOT / 'pyproject.toml'}", "--cov-report="]
    _, code = run_sample(tmp_path, source, *options, COVERAGE_FILE=str(recorded))
    assert code == 0
    good, bad = coverage_floor.check(recorded, ROOT)
    assert "domain 0.0 %" not in [*good, *bad]


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "example.org"])
def test_other_hosts_are_out_of_reach(host: str) -> None:
    with pytest.raises(network.LeftTheMachine):
        socket.create_connection((host, 443), timeout=1)


def test_loopback_is_within_reach() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(("localhost", server.getsockname()[1])).close()


def test_the_clock_stands_still(clock: FrozenClock) -> None:
    assert clock.now() == clock.now()


def test_a_port_is_free_and_below_the_ephemeral_range(free_port: int) -> None:
    assert 20_000 <= free_port < 32_768
    socket.create_server(("127.0.0.1", free_port)).close()


def test_each_database_is_empty_and_ready(database_url: str) -> None:
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE only_here (id int)"))
        assert connection.execute(text("SELECT count(*) FROM only_here")).scalar() == 0
    engine.dispose()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["system", "wheel"])
def test_each_kind_of_server_runs_without_privileges_and_ends_with_its_process(kind: str, tmp_path: Path) -> None:
    program = (
        "import json, sys, psycopg\n"
        "from tests.support import postgres\n"
        "if not postgres.available(): print('null'); sys.exit()\n"
        "server = postgres.start()\n"
        "uid = server._process and __import__('os').stat(f'/proc/{server._process.pid}').st_uid\n"
        "print(json.dumps([server.url('postgres'), uid, str(server._folder)]))\n"
        "if 'abandon' not in sys.argv: server.stop()\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "TEST_DATABASE_URL"} | {"TEST_POSTGRES": kind}
    for ending in ("stop", "abandon"):
        command = [sys.executable, "-c", program, ending]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        answer = json.loads(done.stdout)
        if answer is None:
            pytest.skip(f"no {kind} PostgreSQL: {postgres.MISSING}")
        url, uid, folder = answer
        if sys.platform == "linux":
            assert pwd.getpwuid(uid).pw_name != "root"
        assert Path(folder).exists() is (ending == "abandon")
        assert ended(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False))
        shutil.rmtree(folder, ignore_errors=True)


def ended(url: str) -> bool:
    """Wait up to five seconds for a server to be gone."""
    for _ in range(50):
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            return True
        time.sleep(0.1)
    return False


def test_a_password_is_asked_for(fresh_postgres_url: str) -> None:
    wrong = make_url(fresh_postgres_url).set(drivername="postgresql", password="wrong")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(wrong.render_as_string(hide_password=False))
