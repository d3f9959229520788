"""What does a durable grant with its token cost, beside OpenBao's leased token in the same run? (performance.md goals 1-3)

One act is one transaction of the product's own verbs: the session, the request's evidence verified anew (signatures, policy
decision), a grant, a lease, an access and a refresh token, their events as leaves of the tree, one fsync before the answer. Clients
are threads that call the verbs; the peer is called over kept-alive HTTP, which its figures include and ours do not. All are measured
in turn, three times around, and the median counts.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from benchmarks.measure import Figure, in_turn, machine_line, run_for, table
from benchmarks.openbao import binary, leased_tokens, running
from jitaccess.broker.grants import create_grant
from jitaccess.broker.issue import Opened, mint, open_in
from jitaccess.clock import SystemClock
from jitaccess.store.tables import AccessRequest
from jitaccess.tokens.access import SignIn
from tests.support import postgres
from tests.support.world import START, World, open_world, prepare

SECONDS = 2.0
CLIENTS = (1, 8, 32)


@contextmanager
def world_on(kind: str) -> Iterator[World]:
    """Give a world on a database with its own durability settings (fsync on)."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    server = postgres.start(durable=True) if kind == "postgresql" else None
    url = server.create_database() if server is not None else f"sqlite:///{folder / 'broker.db'}"
    world = open_world(url, prepare(url, folder), folder, clock=SystemClock())
    try:
        yield world
    finally:
        world.close()
        if server is not None:
            server.stop()


Act = Callable[[int], object]


def issuing(world: World) -> Act:
    """Return the act: a grant of one auto-approved request of one person, with its lease and tokens."""
    filed = world.filed(duration_s=4 * 3600)
    current = world.current("arta")
    broker = world.broker
    sign_in = SignIn(START, "phrh", ("hwk", "user"))
    request_id = filed.request.id

    def act(client: int) -> None:
        with broker.begin(current.actor) as tx:
            request = tx.require(AccessRequest, request_id)
            grant = create_grant(tx, broker, request, ())
            opened = open_in(tx, broker, current, grant.id, covered=frozenset())
            if not isinstance(opened, Opened):
                raise RuntimeError(opened)
            mint(
                tx,
                broker,
                found=opened.evidence,
                lease=opened.lease,
                client_id="bench",
                family=opened.lease.id,
                scope="openid",
                sign_in=sign_in,
                passkey_id=current.passkey.id,
                session_id=current.session.id,
            )

    return act


def run(seconds: float = SECONDS, clients: Sequence[int] = CLIENTS) -> tuple[list[Figure], list[Figure]]:
    """Return (our figures, the peer's), measured in turn."""
    ours: list[Figure] = []
    peers: list[Figure] = []
    with ExitStack() as stack:
        peer = stack.enter_context(running()) if binary() is not None else None
        acts = {kind: issuing(stack.enter_context(world_on(kind))) for kind in ("sqlite", "postgresql")}
        for act in acts.values():
            run_for("warm up", act, clients=1, seconds=0.5)
        for count in clients:
            measures = [
                partial(run_for, f"durable grant + token, {kind}", act, clients=count, seconds=seconds)
                for kind, act in acts.items()
            ]
            if peer is not None:
                measures.insert(0, partial(leased_tokens, peer, count, seconds))
            figures = in_turn(*measures)
            if peer is not None:
                peers.append(figures.pop(0))
            ours += figures
    return sorted(ours, key=lambda figure: (figure.name.endswith("postgresql"), figure.clients)), peers


def main() -> None:
    """Print the table."""
    ours, peers = run()
    by_clients = {figure.clients: figure for figure in peers}
    print(machine_line())
    print(table([*peers, *ours], baseline=lambda figure: by_clients.get(figure.clients)))


if __name__ == "__main__":
    sys.exit(main())
