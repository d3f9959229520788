"""One target, one proxy and one prepared broker for all drills of this process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import drill as drills
from tests.support import postgres
from tests.support.drill import Drill, Run


@pytest.fixture(scope="session")
def drill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drill]:
    """Give the server and the proxy; skips where there is no PostgreSQL."""
    try:
        found = drills.start(tmp_path_factory.mktemp("drill"))
    except postgres.NoPostgres as missing:
        pytest.skip(str(missing))
    yield found
    found.close()


@pytest.fixture
def run(drill: Drill, tmp_path: Path) -> Run:
    """Give a broker of this test's own."""
    return drill.begin(tmp_path / "run")
