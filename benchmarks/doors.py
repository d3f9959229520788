"""How fast are the doors that targets knock at? Introspection, token issue and forward-auth over HTTP, beside OpenBao's, in one run.

The broker as shipped (`jitaccess serve`: granian, SQLite with synchronous=FULL, the log and its events) against OpenBao (raft, file
audit) on the same machine, over kept-alive connections of 1, 8 and 32 clients. Introspection is RFC 7662 with client authentication; every
row behind the token is read and its seals checked, each time. A token is issued by renewing: the refresh token rotates and all evidence is
verified again, durable before the answer. Forward-auth is asked as a proxy asks, about one request of a browser that is signed in: rows
and seals are read each time and a token for the backend is signed anew; the peer has nothing like it. The peer's acts are
`identity/oidc/introspect` and `identity/oidc/token` (signed, not stored).
"""

import argparse
import http.client
import json
import os
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from benchmarks.measure import Figure, machine_line, run_for, table
from benchmarks.openbao import OpenBao, binary, running
from benchmarks.reach import LIMIT_S, Target, standing

FORM = "application/x-www-form-urlencoded"
KINDS = ("introspection", "token")


class Clients:
    """One kept-alive connection a client of the broker."""

    def __init__(self, target: Target) -> None:
        """Take the broker's address and the measuring client's proof."""
        self._port = urlsplit(target.stage.origin).port or 80
        self._headers = dict(target.credential.prove()[0]) | {"Content-Type": FORM}
        self._open: dict[int, http.client.HTTPConnection] = {}
        self._guard = threading.Lock()

    def post(self, client: int, path: str, form: dict[str, str]) -> dict[str, Any]:
        """POST a form; raises RuntimeError for any answer but 200."""
        connection = self._open.get(client)
        if connection is None:
            connection = http.client.HTTPConnection("localhost", self._port, timeout=LIMIT_S)
            with self._guard:
                self._open[client] = connection
        connection.request("POST", path, urlencode(form), self._headers)
        response = connection.getresponse()
        text = response.read()
        if response.status != 200:
            raise RuntimeError(f"{path}: {response.status} {text[:200]!r}")
        found: dict[str, Any] = json.loads(text)
        return found


def family(pid: int) -> list[int]:
    """Return a process and its children: granian has a master and workers."""
    found = [pid]
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) in found:
            found.append(int(path.parent.name))
    return found


def broker_figures(target: Target, clients: int, seconds: float) -> list[Figure]:
    """Measure ours."""
    process = target.stage.broker.process
    assert process is not None
    pids = family(process.pid)
    grants = [target.open() for _ in range(clients)]
    opened = [tokens for _, tokens in grants]
    cookie = target.enter(grants[0][0])
    wire = Clients(target)
    text, chains = opened[0]["access_token"], [tokens["refresh_token"] for tokens in opened]

    def introspect(client: int) -> None:
        if wire.post(client, "/oidc/introspect", {"token": text})["active"] is not True:
            raise RuntimeError("not active")

    def renew(client: int) -> None:
        form = {"grant_type": "refresh_token", "refresh_token": chains[client]}
        chains[client] = wire.post(client, "/oidc/token", form)["refresh_token"]

    def ask(client: int) -> None:
        if not target.passes(cookie):
            raise RuntimeError("not let through")

    return [
        run_for(f"jitaccess {name}", act, clients=clients, seconds=seconds, pids=pids)
        for name, act in zip((*KINDS, "forward-auth"), (introspect, renew, ask), strict=True)
    ]


def prepare(peer: OpenBao) -> str:
    """Give OpenBao a signing key, a role and a person; return that person's client token."""
    peer.call("POST", "identity/oidc/key/bench", {"algorithm": "ES256", "allowed_client_ids": ["*"]})
    peer.call("POST", "identity/oidc/role/bench", {"key": "bench", "ttl": "1h"})
    peer.call("POST", "sys/auth/userpass", {"type": "userpass"})
    policy = 'path "identity/oidc/*" { capabilities = ["read", "update"] }'
    peer.call("PUT", "sys/policies/acl/bench", {"policy": policy})
    password = os.urandom(12).hex()
    peer.call("POST", "auth/userpass/users/bench", {"password": password, "token_policies": "bench"})
    root, peer.token = peer.token, ""
    found = str(peer.call("POST", "auth/userpass/login/bench", {"password": password})["auth"]["client_token"])
    peer.token = root
    return found


def peer_figures(peer: OpenBao, clients: int, seconds: float) -> list[Figure]:
    """Measure the peer's."""
    text = peer.call("GET", "identity/oidc/token/bench")["data"]["token"]

    def introspect(client: int) -> None:
        if peer.call("POST", "identity/oidc/introspect", {"token": text}, client=client)["active"] is not True:
            raise RuntimeError("not active")

    def issue(client: int) -> None:
        peer.call("GET", "identity/oidc/token/bench", client=client)

    return [
        run_for(f"OpenBao {name}", act, clients=clients, seconds=seconds, pids=(peer.pid,))
        for name, act in zip(KINDS, (introspect, issue), strict=True)
    ]


def main() -> None:
    """Print the table: the peer's row is the baseline of ours."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 8, 32])
    given = parser.parse_args()
    print(machine_line())
    figures: list[Figure] = []
    if binary() is not None:
        with running() as peer:
            peer.token = prepare(peer)
            for clients in given.clients:
                figures += peer_figures(peer, clients, given.seconds)
    with standing() as target:
        for clients in given.clients:
            figures += broker_figures(target, clients, given.seconds)
    peers = {(f.name.split()[1], f.clients): f for f in figures if f.name.startswith("OpenBao")}
    print(table(figures, baseline=lambda figure: peers.get((figure.name.split()[1], figure.clients))))


if __name__ == "__main__":
    main()
