"""The database's files are for the broker's own user, whatever the umask says."""

import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from jitaccess.clock import FrozenClock
from jitaccess.errors import JitError, Kind
from jitaccess.store.private import keep_private
from jitaccess.tokens.keys import create_wrapping_key
from tests.support.bare_store import create_store, open_store

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, str]:
    return {file.name: oct(stat.S_IMODE(file.stat().st_mode)) for file in sorted(folder.iterdir())}


@pytest.mark.covers("R55")
def test_every_file_of_a_new_database_is_for_its_owner_alone(tmp_path: Path) -> None:
    store = create_store(f"sqlite:///{tmp_path}/broker.db", FrozenClock(NOW))
    store.add_group()
    found = modes(tmp_path)
    store.close()
    assert set(found) >= {"broker.db", "broker.db-wal", "broker.db-shm", "broker.db.lock"}
    assert set(found.values()) == {"0o600"}


@pytest.mark.covers("R55")
def test_files_that_everybody_could_read_are_closed_and_a_chosen_group_is_left(tmp_path: Path) -> None:
    url, clock = f"sqlite:///{tmp_path}/broker.db", FrozenClock(NOW)
    create_store(url, clock).close()
    for name in ("broker.db", "broker.db.lock"):
        (tmp_path / name).chmod(0o644)
    store = open_store(url, clock)
    store.add_group()
    assert set(modes(tmp_path).values()) == {"0o600"}
    store.close()
    (tmp_path / "broker.db").chmod(0o640)
    keep_private(url)
    assert modes(tmp_path)["broker.db"] == "0o640"


def test_the_folder_of_the_wrapping_key_is_closed_too(tmp_path: Path) -> None:
    create_wrapping_key(tmp_path / "keys" / "wrapping.key")
    assert oct(stat.S_IMODE((tmp_path / "keys").stat().st_mode)) == "0o700"
    assert modes(tmp_path / "keys") == {"wrapping.key": "0o600"}


def test_a_folder_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(JitError) as refused:
        keep_private(f"sqlite:///{tmp_path}/nowhere/broker.db")
    assert refused.value.kind is Kind.UNAVAILABLE
