"""One target, one proxy and one prepared broker for all drills of this process."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tests.support import directory, hosts_drill, mariadb_drill, postgres, webhook_drill
from tests.support import drill as drills
from tests.support.bench import NotInstalled
from tests.support.directory import DirectoryDrill
from tests.support.drill import Drill, Run
from tests.support.hosts_drill import HostsDrill
from tests.support.mariadb_drill import MariadbDrill
from tests.support.webhook_drill import WebhookDrill


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


@pytest.fixture(scope="session")
def plain_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DirectoryDrill]:
    """Give a directory whose memberships the broker takes away."""
    yield from _running(lambda: directory.start(tmp_path_factory.mktemp("plain"), dynamic=False))


@pytest.fixture(scope="session")
def dynamic_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DirectoryDrill]:
    """Give a directory that deletes the entries of leases by itself."""
    yield from _running(lambda: directory.start(tmp_path_factory.mktemp("dynamic"), dynamic=True))


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariadbDrill]:
    """Give a MariaDB."""
    yield from _running(lambda: mariadb_drill.start(tmp_path_factory.mktemp("mariadb")))


@pytest.fixture(scope="session")
def webhook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebhookDrill]:
    """Give a provisioner."""
    yield from _running(lambda: webhook_drill.start(tmp_path_factory.mktemp("webhook")))


@pytest.fixture(scope="session")
def ssh_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostsDrill]:
    """Give a host that fetches."""
    yield from _running(lambda: hosts_drill.start(tmp_path_factory.mktemp("hosts")))


Found = TypeVar("Found", DirectoryDrill, MariadbDrill, WebhookDrill, HostsDrill)


def _running(start: Callable[[], Found]) -> Iterator[Found]:
    try:
        found = start()
    except NotInstalled as missing:
        pytest.skip(str(missing))
    yield found
    found.close()
