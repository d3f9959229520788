"""Who may read the database's files? Nobody but the broker's own user, whatever the umask says.

SQLite gives its journal files the mode of the database, so that one is made first. A file that everybody may read, as an earlier
release left it under the usual umask, is closed; a mode that its owner chose (a group that backs up) is left as it is.
"""

import os
import stat
from pathlib import Path

from sqlalchemy.engine import make_url

from jitaccess.errors import JitError, Kind

PRIVATE = 0o600
BESIDE = ("", "-wal", "-shm", "-journal", ".lock")
"""Endings of the files that belong to one database."""


def sqlite_file(url: str) -> Path | None:
    """Return the file of a SQLite database; None for a server, or for one in memory."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        return None
    return Path(parsed.database)


def keep_private(url: str) -> None:
    """Make the file of a SQLite database for its owner alone, and close files of it that everybody may read.

    Raises UNAVAILABLE when the folder does not take a file.
    """
    file = sqlite_file(url)
    if file is None:
        return
    try:
        if not file.exists():
            os.close(os.open(file, os.O_WRONLY | os.O_CREAT, PRIVATE))
        for one in (file.with_name(file.name + ending) for ending in BESIDE):
            if one.exists() and one.stat().st_mode & stat.S_IROTH and one.stat().st_uid == os.geteuid():
                one.chmod(PRIVATE)
    except OSError as error:
        raise JitError(
            Kind.UNAVAILABLE, "The database cannot be reached: check store.url and that it is running."
        ) from error


def open_lock(path: Path) -> int:
    """Open a lock file for appending, made for its owner alone; return its descriptor. Raises OSError."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, PRIVATE)
