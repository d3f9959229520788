"""A throw-away MariaDB of Debian's on a loopback port; as root it runs as an unprivileged user."""

import getpass
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pymysql

from tests.support.ports import free_port
from tests.support.postgres import unprivileged

MISSING = "no MariaDB found: apt install mariadb-server-core mariadb-client-core"
START_TIMEOUT_S = 30.0


def program(name: str) -> str | None:
    """Return where a program of MariaDB is, or None."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")


def installed() -> bool:
    """Say whether `Server` would start."""
    return all(program(name) for name in ("mariadbd", "mariadb-install-db", "mariadb"))


def connect(where: str | tuple[str, int], **options: Any) -> "pymysql.Connection[Any]":
    """Connect to a socket's path or an address; unlike PyMySQL itself leave no open socket when that fails."""
    plain = socket.socket(socket.AF_UNIX if isinstance(where, str) else socket.AF_INET)
    connection: pymysql.Connection[Any] = pymysql.connect(
        host=where if isinstance(where, str) else where[0],
        autocommit=True,
        charset="utf8mb4",
        defer_connect=True,
        **options,
    )
    try:
        plain.connect(where)
        connection.connect(plain)
    except BaseException:
        plain.close()
        raise
    return connection


class Server:
    """A running server whose only administrator comes in by the socket, as the user who runs the tests."""

    def __init__(self, options: Sequence[str], prepare: Callable[[Path], None] | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="jit-mdb-"))
        self.folder.chmod(0o755)
        self.port = free_port()
        self.socket = self.folder / "socket"
        self._account: pwd.struct_passwd | None = unprivileged() if os.geteuid() == 0 else None
        if prepare is not None:
            prepare(self.folder)
        (self.folder / "tmp").mkdir()  # of its own: a server that starts deletes what looks like temporary tables there
        for path in (self.folder, *self.folder.rglob("*")):
            self._give(path)
        try:
            self._run_once("mariadb-install-db", "--auth-root-authentication-method=socket", "--skip-test-db")
            self._process = self._started(options)
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def _give(self, path: Path) -> None:
        if self._account:
            os.chown(path, self._account.pw_uid, self._account.pw_gid)

    def _as(self) -> dict[str, Any]:
        found: dict[str, Any] = {"stdin": subprocess.DEVNULL, "start_new_session": True, "cwd": self.folder}
        if self._account:
            found |= {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}
        return found

    def _run_once(self, name: str, *options: str) -> None:
        command = [str(program(name)), "--no-defaults", f"--datadir={self.folder}/data", "--innodb-log-file-size=8M"]
        who = f"--auth-root-socket-user={getpass.getuser()}"
        done = subprocess.run(
            [*command, *options, who], capture_output=True, text=True, timeout=60, check=False, **self._as()
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _started(self, options: Sequence[str]) -> subprocess.Popen[bytes]:
        command = [
            str(program("mariadbd")),
            "--no-defaults",
            f"--datadir={self.folder}/data",
            f"--socket={self.socket}",
        ]
        small = [
            "--innodb-buffer-pool-size=32M",
            "--innodb-log-file-size=8M",
            "--skip-log-bin",
            "--innodb-flush-log-at-trx-commit=0",
        ]
        where = [
            f"--tmpdir={self.folder}/tmp",
            "--bind-address=127.0.0.1",
            f"--port={self.port}",
            f"--pid-file={self.folder}/pid",
        ]
        log = (self.folder / "log").open("wb")
        process = subprocess.Popen(
            [*command, *small, *where, *options], stdout=log, stderr=subprocess.STDOUT, **self._as()
        )
        log.close()
        until = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < until and process.poll() is None:
            try:
                with self.owner():
                    return process
            except (pymysql.Error, OSError):
                time.sleep(0.02)
        process.kill()
        raise RuntimeError((self.folder / "log").read_text())

    @contextmanager
    def owner(self, database: str | None = None) -> Iterator["pymysql.Connection[pymysql.cursors.Cursor]"]:
        """Come in as the server's owner."""
        with connect(str(self.socket), user=getpass.getuser(), database=database) as connection:
            yield connection

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements as the owner; return the rows of the last."""
        with self.owner() as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return [*cursor.fetchall()]

    def script(self, text: str) -> None:
        """Run a script with the server's own client as the owner."""
        done = subprocess.run(
            [str(program("mariadb")), "--no-defaults", f"--socket={self.socket}", f"--user={getpass.getuser()}"],
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def stop(self) -> None:
        """Stop it and remove its folder."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(timeout=START_TIMEOUT_S)
        shutil.rmtree(self.folder, ignore_errors=True)
