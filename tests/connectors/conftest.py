"""Each bench is started once; the matrix of kinds and versions is printed at the end."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from jitaccess.connectors.contract import Connector
from tests.support.bench import Bench, NotInstalled, load_benches, open_connector

BENCHES = load_benches(Path(__file__).parent)
LABELS: dict[str, int] = {}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for `bench` against every kind and version."""
    if "bench" in metafunc.fixturenames:
        wanted = getattr(metafunc.module, "KINDS", None)
        chosen = [bench for bench in BENCHES if wanted is None or bench.kind.name in wanted]
        metafunc.parametrize("bench", chosen, indirect=True, scope="session", ids=[bench.label for bench in chosen])


@pytest.fixture(scope="session")
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Give a running bench."""
    found: Bench = request.param
    try:
        found.start(tmp_path_factory.mktemp("bench"))
    except NotInstalled as missing:
        pytest.skip(str(missing))
    yield found
    LABELS[found.label] = 0
    found.stop()


@pytest.fixture
def connector(bench: Bench) -> Iterator[Connector]:
    """Open a connector as the broker does."""
    found = open_connector(bench)
    yield found
    found.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print which servers were really there."""
    if LABELS:
        terminalreporter.write_sep("-", "targets that the contract was run against")
        for label in sorted(LABELS):
            terminalreporter.write_line(label)
