"""Before, during and after access to a host: `python -m examples.ssh`, as root. Exit code 0 only when all of it held.

Starts a throw-away host (sshd with the host's side of jitaccess), lets arta ask and blerim approve, opens the access, and shows on the host
itself what is there and what is not.
"""

import json
import os
import select
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from examples.office import Office, held, say
from jitaccess.broker import reconcile
from jitaccess.connectors.contract import Credential, Secret
from jitaccess.connectors.ssh_ca.authority import key_of, public_line
from jitaccess.connectors.ssh_ca.certificate import Content, sign
from jitaccess.demo.servers import free_port

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WAIT_S = 20.0


class Host:
    """The host as its owner sees it, and the place where a person keeps keys."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self.account = f"jitexample{port}"
        self.place = Path(f"/run/jitaccess-example-{port}")

    def run(self, script: str, *words: str) -> None:
        """Run one of our scripts."""
        environment = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
        command = [HERE / script, self.folder, str(self.port), self.account, *words]
        subprocess.run(command, check=True, env=environment)  # noqa: S603 - our own script

    def key(self, name: str) -> str:
        """Return a public key."""
        return (self.folder / f"{name}.pub").read_text().strip()

    def announced(self) -> list[str]:
        """Return which certificates the host lets in."""
        news = self.place / "state" / "state.json"
        if not news.exists():
            return []  # it has reported and waits for its first answer: until then it lets nobody in
        state = json.loads(news.read_text())
        return [str(live["key_id"]) for live in state["live"].values()]

    def command(self, credential: Credential) -> list[str]:
        """Save what the person is shown, and return the command, with the places where it was saved."""
        for name, text in credential.files.items():
            (self.folder / name).write_text(text.reveal())
        words = shlex.split(credential.command.replace("~/.ssh/", f"{self.folder}/"))
        return [*words, "-F", "none", "-T", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"]

    def refuses(self, command: list[str]) -> bool:
        """Say whether nobody comes in with a command."""
        done = subprocess.run([*command, "true"], capture_output=True, check=False)  # noqa: S603 - the person's own command
        return done.returncode == 255

    def plain(self, name: str) -> list[str]:
        """Return how one comes in with a key alone."""
        options = (
            f"-i {self.folder}/{name} -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
        )
        words = f"ssh {options} -o BatchMode=yes -o LogLevel=ERROR -F none -p {self.port} {self.account}@localhost"
        return words.split()


def main() -> None:
    """Play it."""
    if os.geteuid() != 0 or shutil.which("sshd", path="/usr/sbin") is None:
        raise SystemExit("This example needs root and OpenSSH (apt install openssh-server openssh-client).")
    with tempfile.TemporaryDirectory(prefix="jitaccess-ssh-") as scratch:
        host = Host(Path(scratch), free_port(25522))
        broker_port = free_port(8022)
        try:
            host.run("start.sh")
            policies = host.folder / "policies"
            policies.mkdir()
            text = (HERE / "policy.yaml").read_text().replace("25522", str(host.port))
            text = text.replace("@HOST_KEY@", host.key("host")).replace("@ACCOUNT@", host.account)
            (policies / "policy.yaml").write_text(text)
            with closing(Office(policies, host.folder / "secrets", port=broker_port)) as office:
                office.serve()
                authority = public_line(key_of(Secret((host.folder / "secrets" / "hosts-authority").read_text())))
                host.run("host.sh", f"http://localhost:{broker_port}", authority)
                play(office, host)
        finally:
            host.run("stop.sh")


def play(office: Office, host: Host) -> None:
    """Show before, during and after; then a key that nobody signed for."""
    with office.broker.read() as view:
        (target,) = reconcile.outside_targets(view, office.broker)
    connector = office.broker.targets.at(target.id, target.connector)
    wait(lambda: [line for line in connector.probe() if not line.startswith("note: ")] == [])
    say("Before")
    held("the host obeys and reports, and trusts nothing beside what was set up", True)
    held("nobody's certificate is let in", host.announced() == [])
    held("arta's key opens nothing", host.refuses(host.plain("id_ed25519")))
    say(
        "During: arta asks for two minutes, blerim signs, arta opens it with her passkey and the public half of her SSH key"
    )
    filed = office.ask("arta", "hosts", "operator", 120, "a disk is full")
    grant = office.approve("blerim", filed.request.id).grant
    assert grant is not None  # noqa: S101 - one signature was enough
    opened = office.open("arta", grant.id, {"public_key": host.key("id_ed25519")})
    say(f"       {opened.credential.command}")
    command = host.command(opened.credential)
    name = str(opened.lease.effect["name"])  # type: ignore[index, call-overload] # an effect is a mapping
    held("one certificate is let in, named after the lease", host.announced() == [name])
    session = subprocess.Popen([*command, "sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603 - as above
    held("arta works on the host with the command", ask(session, "id -un") == host.account)
    held(
        "another certificate that the authority signed opens nothing",
        host.refuses(host.command(forged(host, opened.credential))),
    )
    host.command(opened.credential)
    say("After: arta hands it back, with her session still open")
    office.hand_back("arta", grant.id)
    proof = office.proof(opened.lease.id)
    say(
        f"       the host says: {proof['cut']['login']}, {proof['cut']['sessions']} sessions; {proof['clean']['account']}"
    )
    say(f"       logins and sessions had ended {proof['cut_ms']} ms after the end")
    held("nobody's certificate is let in", host.announced() == [])
    held("her session is dead", ask(session, "echo still here") == "")
    held("her certificate opens nothing", host.refuses(command))
    certificate = host.folder / f"{name}-cert.pub"
    asked = ["ssh-keygen", "-Q", "-f", str(host.place / "ssh" / "krl"), str(certificate)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)  # noqa: S603 - OpenSSH itself
    held("and OpenSSH itself says: REVOKED", "REVOKED" in done.stdout)
    say("Somebody puts a key of their own into authorized_keys")
    (host.place / "keys" / host.account).write_text(f"{host.key('own')}\n")
    held("it opens the host", not host.refuses(host.plain("own")))
    wait(lambda: any(" key " in account for account in connector.observe().accounts))
    looked = reconcile.look(office.broker, target)
    found = ", ".join(f"{one.account} is {one.what.value}" for one in looked.findings)
    held(f"it is found at the next look: {found}", len(looked.findings) == 1)
    held("and locked, as the policy says, by the list of revocations", host.refuses(host.plain("own")))


def forged(host: Host, credential: Credential) -> Credential:
    """Sign a certificate with the authority's own key, as a thief of it could; hosts were told of none such."""
    key = key_of(Secret((host.folder / "secrets" / "hosts-authority").read_text()))
    now = datetime.now(UTC)
    line = " ".join(host.key("id_ed25519").split()[:2])
    content = Content(1, "jit-0", "jit-operator", now, now + timedelta(hours=1), {}, ())
    stolen = Secret(sign(key, line, content, bytes(32)))
    files = {name: stolen if name.endswith("-cert.pub") else text for name, text in credential.files.items()}
    return Credential(username=credential.username, command=credential.command, files=files)


def ask(session: "subprocess.Popen[bytes]", command: str) -> str:
    """Run a command in a session; return its first line, empty when the session is dead."""
    assert session.stdin is not None  # noqa: S101 - both are pipes
    assert session.stdout is not None  # noqa: S101
    try:
        session.stdin.write(f"{command}\n".encode())
        session.stdin.flush()
    except OSError:
        return ""
    ready = select.select([session.stdout], [], [], WAIT_S)[0]
    return session.stdout.readline().decode().strip() if ready else ""


def wait(holds: Callable[[], bool]) -> None:
    """Wait until the host has said something."""
    deadline = time.monotonic() + WAIT_S
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit("the host did not report in time")
        time.sleep(0.1)


if __name__ == "__main__":
    main()
