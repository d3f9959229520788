"""How fast are the doors that targets knock at? Introspection, token issue and forward-auth over HTTP, beside OpenBao's, in one run.

The broker as shipped (`jitaccess serve`: granian, SQLite with synchronous=FULL, the log and its events) against OpenBao (raft, file
audit) on the same machine, over kept-alive connections of 1, 8 and 32 clients. Introspection is RFC 7662 with client authentication; every
row behind the token is read and its seals checked, each time. A token is issued by renewing: the refresh token rotates and all evidence is
verified again, durable before the answer. Forward-auth is asked as a proxy asks, about one request of a browser that is signed in: rows
and seals are read each time and a token for the backend is signed anew; the peer has nothing like it, so it stands beside the peer's
introspection. The peer's acts are `identity/oidc/introspect` and `identity/oidc/token` (signed, not stored).

A setup is a database and a number of serving processes. In each, broker and peer are asked in turn, three times around, and the median
counts. CPU is that of all processes of the broker, the database server's among them.
"""

import argparse
import http.client
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from benchmarks.measure import Figure, in_turn, machine_line, run_for, table
from benchmarks.openbao import OpenBao, binary, running
from benchmarks.reach import LIMIT_S, Target, standing
from tests.support import postgres

FORM = "application/x-www-form-urlencoded"
SETUPS = ("sqlite:1", "postgresql:1", "postgresql:2")
Measure = Callable[[], Figure]


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
    """Return a process and its children: granian has a master and workers, PostgreSQL a process a connection."""
    found = [pid]
    for path in sorted(Path("/proc").glob("[0-9]*/stat"), key=lambda path: int(path.parent.name)):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) in found:
            found.append(int(path.parent.name))
    return found


def figure(name: str, act: Callable[[int], None], *, clients: int, seconds: float, leaders: list[int]) -> Figure:
    """Measure one kind of act; who belongs to the leaders is looked up now, when all connections are open."""
    run_for("warm up", act, clients=clients, seconds=0.2)
    pids = [pid for leader in leaders for pid in family(leader)]
    return run_for(name, act, clients=clients, seconds=seconds, pids=pids)


def broker_measures(target: Target, server: int | None, clients: int, seconds: float) -> list[Measure]:
    """Return how to measure ours; `server` is the database server's process."""
    process = target.stage.broker.process
    assert process is not None
    leaders = [process.pid, *([server] if server is not None else [])]
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
        partial(figure, f"jitaccess {name}", act, clients=clients, seconds=seconds, leaders=leaders)
        for name, act in (("introspection", introspect), ("token", renew), ("forward-auth", ask))
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


def peer_measures(peer: OpenBao, clients: int, seconds: float) -> list[Measure]:
    """Return how to measure the peer's."""
    text = peer.call("GET", "identity/oidc/token/bench")["data"]["token"]

    def introspect(client: int) -> None:
        if peer.call("POST", "identity/oidc/introspect", {"token": text}, client=client)["active"] is not True:
            raise RuntimeError("not active")

    def issue(client: int) -> None:
        peer.call("GET", "identity/oidc/token/bench", client=client)

    return [
        partial(figure, f"OpenBao {name}", act, clients=clients, seconds=seconds, leaders=[peer.pid])
        for name, act in (("introspection", introspect), ("token", issue))
    ]


@contextmanager
def served(setup: str) -> Iterator[tuple[Target, int | None]]:
    """Start a broker of one setup; give it with the process of its database server."""
    kind, _, workers = setup.partition(":")
    if kind == "sqlite":
        with standing(workers=int(workers)) as target:
            yield target, None
        return
    server = postgres.start(durable=True)
    try:
        with standing(database=server.create_database(), workers=int(workers)) as target:
            yield target, server.pid
    finally:
        server.stop()


def main() -> None:
    """Print a table a setup: the peer's row is the baseline of ours."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 8, 32])
    parser.add_argument("--setup", nargs="*", default=list(SETUPS), help="database:serving processes")
    given = parser.parse_args()
    print(machine_line())
    with ExitStack() as stack:
        peer = stack.enter_context(running()) if binary() is not None else None
        if peer is not None:
            peer.token = prepare(peer)
        for setup in given.setup:
            figures: list[Figure] = []
            with served(setup) as (target, server):
                for clients in given.clients:
                    measures = peer_measures(peer, clients, given.seconds) if peer is not None else []
                    measures += broker_measures(target, server, clients, given.seconds)
                    figures += in_turn(*measures, rounds=given.rounds)
            peers = {(one.name, one.clients): one for one in figures if one.name.startswith("OpenBao")}
            print(f"\n{setup}\n", flush=True)
            print(table(figures, baseline=lambda one: peers.get((_beside(one.name), one.clients))), flush=True)  # noqa: B023


def _beside(name: str) -> str:
    return "OpenBao token" if name.endswith(" token") else "OpenBao introspection"


if __name__ == "__main__":
    main()
