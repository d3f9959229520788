"""OpenSSH on the bench: a real sshd with the host's side of jitaccess beside it, and a door where it fetches and reports.

sshd must change users, so this runs as root. Accounts are seen with the host's eyes: what is announced there and not revoked according to
`ssh-keygen -Q`, and the lines of authorized keys.
"""

import json
import os
import pwd
import select
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from jitaccess.connectors.contract import Credential, Effect, Secret, Surroundings, Unreachable, Unusable
from jitaccess.connectors.ssh_ca import KIND, SshCaConnector
from jitaccess.connectors.ssh_ca.config import SshCaConfig
from jitaccess.connectors.ssh_ca.wire import blob_of_line, fingerprint
from jitaccess.store.ids import new_secret
from tests.support.bench import Bench, LoginRefused, NotInstalled
from tests.support.boards import MemoryBoard
from tests.support.ports import free_port
from tests.support.sources import ROOT

SSHD = Path("/usr/sbin/sshd")
HELPER = ROOT / "examples" / "ssh" / "jit_ssh_host.py"
WAIT_S = 15.0


def run(*command: str | Path, given: str | None = None, check: bool = True) -> "subprocess.CompletedProcess[str]":
    """Run a command."""
    done = subprocess.run([*map(str, command)], input=given, capture_output=True, text=True, timeout=30, check=False)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def make_key(file: Path, kind: str = "ed25519", *options: str) -> str:
    """Make a key pair; return the public line."""
    run("ssh-keygen", "-q", "-t", kind, *options, "-N", "", "-f", file)
    return file.with_name(f"{file.name}.pub").read_text().strip()


class SshSession:
    """A person's shell, without a terminal."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self._count = 0

    def run(self, command: str) -> str | None:
        """Run a command there; return its first line, None when nobody answers any more."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(f"{command}\n".encode())
            self.process.stdin.flush()
        except OSError:
            return None
        if not select.select([self.process.stdout], [], [], WAIT_S)[0]:
            return None
        return self.process.stdout.readline().decode().rstrip("\n") or None

    def alive(self) -> bool:
        """Let the shell say something."""
        self._count += 1
        return self.run(f"echo here {self._count}") == f"here {self._count}"

    def leave_behind(self, names: Sequence[str]) -> None:
        """Make files, and programs that run on, under these names."""
        for name in names:
            there = shlex.quote(name)
            runs_on = f"(setsid nohup sh -c 'sleep 600; :' {there} >/dev/null 2>&1 &)"
            assert self.run(f"cd && : >./{there} && {runs_on} && echo done") == "done"


class Noting(SshCaConnector):
    """A connector that lets the bench see every certificate that was handed out."""

    noted: dict[str, str]

    def apply(self, effect: Effect, deadline: datetime) -> Credential:
        """Note what is handed out."""
        credential = super().apply(effect, deadline)
        self.noted[effect.name] = credential.files[f"{effect.name}-cert.pub"].reveal()
        return credential


class SshBench:
    """One host."""

    entitlement = "operator"
    host = "localhost"

    def __init__(self) -> None:
        self.label = "ssh_ca (OpenSSH)"
        self.board = MemoryBoard()
        self.noted: dict[str, str] = {}
        self.kind = replace(KIND, open=self._open)
        self._secret = new_secret()
        self._processes: list[subprocess.Popen[bytes]] = []
        self.folder: Path
        self.place: Path
        """Where only root may write on the whole way: sshd runs nothing from elsewhere."""
        self.account = ""
        self.port = 0

    def _open(self, config: SshCaConfig, around: Surroundings) -> Noting:
        found = Noting(config, around)
        found.noted = self.noted
        return found

    # -- the host

    def start(self, folder: Path) -> None:
        """Make an account, start sshd with the lines that `setup` prints, and the host's side of jitaccess."""
        if os.geteuid() != 0:
            raise NotInstalled("sshd must change users: run these tests as root")
        if not SSHD.exists() or shutil.which("ssh") is None:
            raise NotInstalled("there is no OpenSSH server: apt install openssh-server openssh-client")
        version = run("ssh", "-V").stderr.partition(",")[0].split()[0].replace("_", " ")
        self.label = f"ssh_ca {version}"
        self.folder, self.port = folder, free_port()
        folder.chmod(0o755)
        self.account = f"jitbench{self.port}"
        self.place = Path(f"/run/jitaccess-bench-{self.port}")
        self.host_key = make_key(folder / "host")
        self.person_key = make_key(folder / "id_ed25519")
        self._lay_out()
        self._make_account()
        self.door = Door(self)
        self.door.start()
        self._write_config()
        run(SSHD, "-t", "-f", self.place / "sshd_config")
        self.run_sshd()
        self.run_helper()
        self.wait_for(lambda: bool(self.board.read().reports), "the host reports")
        self.wait_for((self.place / "state" / "state.json").exists, "the host keeps what it was told")

    def _make_account(self) -> None:
        home = self.place / "home"
        for _ in range(20):
            made = run("useradd", "-M", "-d", home, "-s", "/bin/sh", "-p", "*", self.account, check=False)
            if made.returncode == 0:
                break
            time.sleep(0.2)  # another run holds the lock of the register
        assert made.returncode == 0, made.stderr
        entry = pwd.getpwnam(self.account)
        home.mkdir()
        os.chown(home, entry.pw_uid, entry.pw_gid)

    def _lay_out(self) -> None:
        for name in ("", "logins", "state", "keys", "ssh"):
            (self.place / name).mkdir(mode=0o755)
        shutil.chown(self.place / "logins", "nobody")
        (self.place / "logins").chmod(0o700)
        script = HELPER.read_text().replace("/usr/bin/python3", plain_python(), 1)
        (self.place / "jit_ssh_host.py").write_text(script)
        (self.place / "jit_ssh_host.py").chmod(0o755)
        (self.place / "ssh" / "ca.pub").write_text(f"{self.connector().public_keys()[0]}\n")
        run("ssh-keygen", "-q", "-k", "-f", self.place / "ssh" / "krl")
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)

    def connector(self) -> Noting:
        """Open a connector as the door has it."""
        around = Surroundings(lambda name: (Secret(self._secret),), new_secret, lambda: datetime.now(UTC), self.board)
        return self._open(SshCaConfig.model_validate(dict(self.config())), around)

    def _write_config(self) -> None:
        place = self.place
        self.helper_config = {
            "broker": f"http://127.0.0.1:{self.door.port}",
            "target": self.board.target,
            "host": self.host,
            "principals": {self.account: ["jit-operator"]},
            "trusted": f"{place}/ssh/ca.pub",
            "krl": f"{place}/ssh/krl",
            "state": f"{place}/state",
            "logins": f"{place}/logins",
            "host_key": f"{self.folder}/host",
            "sshd": str(SSHD),
            "sshd_config": f"{place}/sshd_config",
            "principals_user": "nobody",
            "every_s": 0.1,
            "look_every_s": 0.4,
        }
        (place / "host.json").write_text(json.dumps(self.helper_config))
        printed = KIND.setup(SshCaConfig.model_validate(dict(self.config())))
        lines = printed.partition("10-jitaccess.conf <<'EOF'\n")[2].partition("\nEOF\n")[0]
        for old, new in {
            "/usr/lib/jitaccess/jit_ssh_host.py": f"{place}/jit_ssh_host.py --config {place}/host.json",
            "/etc/ssh/jitaccess": f"{place}/ssh",
            "User jitaccess-sshd": "User nobody",
            "AuthorizedKeysFile none": f"AuthorizedKeysFile {place}/keys/%u",
        }.items():
            assert old in lines, old
            lines = lines.replace(old, new)
        here = f"ListenAddress 127.0.0.1:{self.port}\nHostKey {self.folder}/host\nPidFile none\nUsePAM no\nLogLevel VERBOSE\n"
        (place / "sshd_config").write_text(f"{here}{lines}\n")

    def run_sshd(self) -> None:
        """Start sshd."""
        self._spawn("sshd.log", str(SSHD), "-D", "-e", "-f", f"{self.place}/sshd_config")

    def _spawn(self, name: str, *command: str) -> "subprocess.Popen[bytes]":
        with (self.folder / name).open("ab") as log:
            made = subprocess.Popen(command, stderr=log, stdout=log, start_new_session=True)
        self._processes.append(made)
        return made

    def run_helper(self) -> None:
        """Start the host's side."""
        self.helper = self._spawn("helper.log", *self.helper_command("run"))

    def helper_command(self, *words: str) -> list[str]:
        """Return how the host's side is called."""
        return [f"{self.place}/jit_ssh_host.py", "--config", f"{self.place}/host.json", *words]

    def stop(self) -> None:
        """Stop all of it, and take the account away."""
        for process in self._processes:
            process.kill()
            process.wait()
        self.door.stop()
        run("pkill", "-KILL", "-u", self.account, check=False)
        for _ in range(20):
            if run("userdel", self.account, check=False).returncode == 0:
                break
            time.sleep(0.2)
        shutil.rmtree(self.place)

    def wait_for(self, holds: Any, what: str) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + WAIT_S
        while not holds():
            logs = "".join(file.read_text()[-3000:] for file in self.folder.glob("*.log"))
            assert time.monotonic() < deadline, f"{what}: not in time\n{logs}"
            time.sleep(0.02)

    # -- what the contract tests ask

    def config(self) -> Mapping[str, object]:
        """Return its configuration."""
        return {
            "kind": "ssh_ca",
            "secret": "bench",
            "hosts": [{"name": self.host, "port": self.port, "key": self.host_key}],
            "silent_after_s": 8,
            "entitlements": {"operator": {"principal": "jit-operator", "account": self.account}},
        }

    def secret(self) -> Secret:
        """Return the authority's secret."""
        return Secret(self._secret)

    def nowhere(self) -> Mapping[str, object]:
        """Name a host that never reports."""
        return {**self.config(), "hosts": [{"name": "nowhere.example", "key": self.host_key}]}

    def given(self) -> Mapping[str, str]:
        """Return the person's public key."""
        return {"public_key": self.person_key}

    def command(self, credential: Credential, *, account: str | None = None) -> list[str]:
        """Save what the person is shown, and return the command that they are shown, with the places where it was saved."""
        for name, text in credential.files.items():
            (self.folder / name).write_text(text.reveal())
        (first, *_) = credential.command.splitlines()
        words = shlex.split(first.replace("~/.ssh/", f"{self.folder}/"))
        if account is not None:
            words[-1] = f"{account}@{self.host}"
        return [*words, "-F", "none", "-T", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"]

    @contextmanager
    def login(self, credential: Credential) -> Iterator[SshSession]:
        """Come in with the command that the person is shown."""
        with self.shell(self.command(credential)) as session:
            yield session

    @contextmanager
    def shell(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> Iterator[SshSession]:
        """Run a shell through ssh."""
        pipe = subprocess.PIPE
        process = subprocess.Popen([*command, "sh"], stdin=pipe, stdout=pipe, stderr=pipe, env=dict(env or os.environ))
        try:
            session = SshSession(process)
            if not session.alive():
                process.kill()
                raise LoginRefused(process.communicate()[1].decode())
            yield session
        finally:
            process.kill()
            process.communicate()

    def accounts(self) -> set[str]:
        """Return the certificates that the host would take, and the keys in files of authorized keys."""
        state = json.loads((self.place / "state" / "state.json").read_text())
        found = set()
        for name, line in list(self.noted.items()):
            file = self.folder / f"look-{name}.pub"
            file.write_text(line)
            known = next((live for live in state["live"].values() if live["key_id"] == name), None)
            whole = known is not None and known["key"] == fingerprint(blob_of_line(" ".join(line.split()[:2])))
            refused = run("ssh-keygen", "-Q", "-f", self.place / "ssh" / "krl", file, check=False).returncode != 0
            if whole and not refused and known is not None and known["ends"] > time.time():
                found.add(name)
        for file in (self.place / "keys").iterdir():
            for line in file.read_text().splitlines():
                found.add(f"{self.host}: {file.name} key {fingerprint(blob_of_line(line))}")
        return found

    def stray(self) -> str:
        """Put a key of somebody's own into the authorized keys of the account; return its name once the host has told of it."""
        file = self.folder / f"stray-{new_secret()[:8]}"
        line = make_key(file)
        with (self.place / "keys" / self.account).open("a") as keys:
            keys.write(f"{line}\n")
        name = f"{self.host}: {self.account} key {fingerprint(blob_of_line(line))}"
        file.rename(self.folder / name.rpartition("SHA256:")[2].replace("/", "_"))
        self.wait_for(
            lambda: name.rpartition(" ")[2] in self.board.read().reports[self.host].text, "the host tells of it"
        )
        return name

    def can_log_in(self, account: str) -> bool:
        """Try the key."""
        file = self.folder / account.rpartition("SHA256:")[2].replace("/", "_")
        options = f"-F none -i {file} -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=no"
        known = f"-o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -p {self.port}"
        done = run("ssh", *options.split(), *known.split(), f"{self.account}@{self.host}", "true", check=False)
        return done.returncode == 0


def plain_python() -> str:
    """Return a Python that every account of the machine can run."""
    for path in ("/usr/bin/python3", "/usr/local/bin/python3", f"{sys.base_prefix}/bin/python3"):
        if Path(path).exists():
            return path
    raise NotInstalled("there is no Python outside the virtual environment")


class Door:
    """Where the host fetches and reports, as the broker's is, over one connector."""

    def __init__(self, bench: SshBench) -> None:
        connector = bench.connector()
        self.spoil: Any = None
        """Bulletin -> what is sent in its place."""
        door = self

        class Answers(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                found = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                try:
                    text, signature = connector.exchange(found["report"], found["signature"])
                except (Unreachable, Unusable) as error:
                    self._answer(403, str(error).encode())
                    return
                body = json.dumps({"bulletin": text, "signature": signature}).encode()
                self._answer(200, door.spoil(body) if door.spoil else body)

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def start(self) -> None:
        """Listen."""
        self._thread.start()

    def stop(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def benches() -> list[Bench]:
    """Return this machine's OpenSSH."""
    return [SshBench()]
