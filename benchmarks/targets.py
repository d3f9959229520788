"""What does a credential on a real target cost, and how soon is it gone? (performance.md goals on targets)

For each kind: making it, and ending it (cut and clean, with what is read back) at 1, 8 and 32 clients, through the connector, as the
broker calls it; then ending one whose person has a session open, until the target itself says that both are gone. Beside it, in turn and
on the same PostgreSQL, OpenBao's database engine with a plain `DROP ROLE`. Last, many leases of one broker that end in one second.
"""

import argparse
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from benchmarks.measure import Figure, in_turn, machine_line, quantile, run_for, table
from benchmarks.openbao import OpenBao, binary, running
from jitaccess.connectors.contract import Connector, Credential, Effect, Proofs
from jitaccess.settings import Limits, Targets
from jitaccess.store.tables import Lease
from jitaccess.store.turnstile import Turnstile
from tests.connectors.kind_postgresql import PostgresqlBench
from tests.support.bench import Bench, NotInstalled, load_benches, open_connector, soon, spec_of
from tests.support.living import hand_over, living_with

SECONDS = 2.0
CLIENTS = (1, 8, 32)
KINDS = Path(__file__).parent.parent / "tests" / "connectors"
LASTS = timedelta(hours=1)
PLACE_LIMIT_S = 600.0


@contextmanager
def started(bench: Bench) -> Iterator[Bench]:
    """Run the server of a bench in a throw-away folder."""
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        bench.start(folder)
        try:
            yield bench
        finally:
            bench.stop()


class Ending:
    """One effect that waits until it is its turn to be ended."""

    def __init__(self, effect: Effect) -> None:
        self.effect = effect
        self.done = False


class Lane:
    """One call at a time, as the broker's revoker makes them: what came meanwhile goes together into the next one."""

    def __init__(self, act: Callable[[Sequence[Effect]], Proofs]) -> None:
        self._act = act
        self._waiting: list[Ending] = []
        self._guard = threading.Lock()
        self._turn = threading.Lock()

    def end(self, effect: Effect) -> None:
        """Wait until this effect has its proof."""
        mine = Ending(effect)
        with self._guard:
            self._waiting.append(mine)
        with self._turn:
            if mine.done:
                return
            with self._guard:
                batch, self._waiting = self._waiting, []
            if set(self._act([one.effect for one in batch])) != {one.effect.name for one in batch}:
                raise RuntimeError("not all were ended")
            for one in batch:
                one.done = True


class Pile:
    """Effects that were made and are to be ended."""

    def __init__(self, bench: Bench, connector: Connector) -> None:
        self._bench = bench
        self._connector = connector
        self._made: list[Effect] = []
        self._guard = threading.Lock()
        self._places = Turnstile(Targets().at_once)  # as many calls at once as the broker makes
        self._cutting, self._cleaning = Lane(connector.cut), Lane(connector.clean)

    def make(self, client: int) -> Credential:
        """Make one credential."""
        effect = self._connector.plan(spec_of(self._bench, lasts=LASTS))
        self._places.enter(PLACE_LIMIT_S)
        try:
            credential = self._connector.apply(effect, soon(60))
        finally:
            self._places.leave()
        with self._guard:
            self._made.append(effect)
        return credential

    def end(self, client: int) -> None:
        """End one, as the revoker does: cut, then clean, with whatever else is to be ended then; each reads back."""
        with self._guard:
            effect = self._made.pop()
        self._cutting.end(effect)
        self._cleaning.end(effect)

    def end_rest(self) -> None:
        """End all that are left, a hundred at a time."""
        while self._made:
            batch, self._made = self._made[:100], self._made[100:]
            self._connector.cut(batch)
            self._connector.clean(batch)

    def __len__(self) -> int:
        return len(self._made)


def made_and_ended(name: str, make: Callable[[int], object], end: Callable[[int], None], clients: int) -> list[Figure]:
    """Measure making for some seconds, then ending what was made."""
    made = run_for(f"{name}: make", make, clients=clients, seconds=SECONDS)
    ended = run_for(f"{name}: end", end, clients=clients, seconds=120, limit=made.acts)
    return [made, ended]


def with_session(name: str, bench: Bench, pile: Pile, rounds: int = 40) -> Figure:
    """Measure ending a credential whose person has a session open, until the session is dead too."""
    samples = []
    for _ in range(rounds):
        credential = pile.make(0)
        with suppress(Exception), bench.login(credential) as session:
            begun = time.perf_counter()
            pile.end(0)
            alive = session.alive()
            samples.append(time.perf_counter() - begun)
            if alive:
                raise SystemExit(f"{name}: a session outlived its lease")
    values = sorted(samples)
    rate = len(values) / sum(values)
    p50, p99 = quantile(values, 0.5) * 1000, quantile(values, 0.99) * 1000
    return Figure(f"{name}: end with its session", 1, len(values), rate, p50, p99, values[-1] * 1000, 0.0)


def by_kind() -> Iterator[list[Figure]]:
    """Measure every kind that is installed here, one after the other."""
    for bench in load_benches(KINDS):
        found: list[Figure] = []
        try:
            with started(bench):
                connector = open_connector(bench)
                pile = Pile(bench, connector)
                for clients in CLIENTS:
                    found += made_and_ended(bench.label, pile.make, pile.end, clients)
                found.append(with_session(bench.label, bench, pile))
                pile.end_rest()
                connector.close()
        except NotInstalled as missing:
            print(f"{bench.label}: {missing}")
        else:
            yield found


# ---------------------------------------------------------------- beside the peer


class Peer:
    """OpenBao's database engine on the server of a bench."""

    def __init__(self, peer: OpenBao, bench: PostgresqlBench) -> None:
        self._peer = peer
        self.pid = peer.pid
        self._leases: list[str] = []
        self._guard = threading.Lock()
        url = bench.server.admin_url
        peer.call("POST", "sys/mounts/database", {"type": "database"})
        where = f"127.0.0.1:{url.port}/app?sslmode=require"
        peer.call(
            "POST",
            "database/config/app",
            {
                "plugin_name": "postgresql-database-plugin",
                "allowed_roles": "*",
                "connection_url": f"postgresql://{{{{username}}}}:{{{{password}}}}@{where}",
                "username": str(url.username),
                "password": str(url.password),
                "max_open_connections": 32,
            },
        )
        create = (
            "CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'; "
            'GRANT app_write TO "{{name}}"'
        )
        role = {"db_name": "app", "default_ttl": "1h", "max_ttl": "2h", "creation_statements": [create]}
        peer.call("POST", "database/roles/writer", role | {"revocation_statements": ['DROP ROLE IF EXISTS "{{name}}"']})

    def make(self, client: int) -> None:
        """Draw one credential."""
        lease = self._peer.call("GET", "database/creds/writer", client=client)["lease_id"]
        with self._guard:
            self._leases.append(str(lease))

    def end(self, client: int) -> None:
        """Revoke one, and wait until it is done."""
        with self._guard:
            lease = self._leases.pop()
        self._peer.call("POST", "sys/leases/revoke", {"lease_id": lease, "sync": True}, client=client)

    def end_rest(self) -> None:
        """Revoke all that are left."""
        self._leases.clear()
        self._peer.call("POST", "sys/leases/revoke-prefix/database", {"sync": True})

    def __len__(self) -> int:
        return len(self._leases)

    def mass_end(self, bench: PostgresqlBench, count: int) -> tuple[float, int]:
        """Make leases that end within one second; return (seconds from their end until no role is left, made)."""
        role = self._peer.call("GET", "database/roles/writer")["data"]
        horizon = count / 40 + 10
        ends = time.monotonic() + horizon

        def make(client: int) -> None:
            ttl = f"{max(2, round(ends - time.monotonic()))}s"
            self._peer.call("POST", f"database/roles/short{client}", role | {"default_ttl": ttl}, client=client)
            self._peer.call("GET", f"database/creds/short{client}", client=client)

        made = run_for("made", make, clients=4, seconds=horizon - 5, limit=count).acts
        while time.monotonic() < ends or bench.accounts():
            if time.monotonic() > ends + 120:
                raise RuntimeError("the peer's roles did not go")
            time.sleep(0.02)
        return time.monotonic() - ends, made


def beside_the_peer(bench: PostgresqlBench, rival: Peer) -> tuple[list[Figure], list[Figure]]:
    """Measure PostgreSQL credentials of both, in turn; return (ours, the peer's)."""
    connector = open_connector(bench)
    pile = Pile(bench, connector)
    ours: list[Figure] = []
    theirs: list[Figure] = []
    for clients in CLIENTS:
        figures = [
            in_turn(
                partial(run_for, "OpenBao: make", rival.make, clients=clients, seconds=SECONDS, pids=(rival.pid,)),
                partial(run_for, f"{bench.label}: make", pile.make, clients=clients, seconds=SECONDS),
            )
        ]
        limit = min(len(pile), len(rival)) // 3
        figures.append(
            in_turn(
                partial(
                    run_for, "OpenBao: end", rival.end, clients=clients, seconds=90, limit=limit, pids=(rival.pid,)
                ),
                partial(run_for, f"{bench.label}: end", pile.end, clients=clients, seconds=90, limit=limit),
            )
        )
        theirs += [peer for peer, _ in figures]
        ours += [mine for _, mine in figures]
        pile.end_rest()
    connector.close()
    return ours, theirs


# ---------------------------------------------------------------- many ends at once


def lags(benches: dict[str, Bench], count: int, per_s: int, hanging: tuple[str, int] | None = None) -> list[int]:
    """Let one broker hand out `count` credentials on the target `ledger` that end within one second, and return the milliseconds from
    each end until the target said: no login, no session, no account. `hanging` names a target and its server's process, which is
    stopped (SIGSTOP) just before the end. `per_s`: how many are handed out a second, so that they last until then."""
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as name, ExitStack() as stack:
        world = stack.enter_context(
            living_with(benches, Path(name), limits=Limits(requests_per_person_hour=10 * count))
        )
        horizon = count / per_s + 12
        ends = time.time() + horizon
        leases = [
            hand_over(world, max(2, round(ends - time.time())), target).lease.id
            for target in (["ledger"] * count + [key for key in benches if key != "ledger"] * 20)
        ]
        if time.time() > ends - 1:
            raise RuntimeError("handing out took longer than the leases last")
        if hanging is not None:
            os.kill(hanging[1], signal.SIGSTOP)
            stack.callback(os.kill, hanging[1], signal.SIGCONT)
        done = select(func.count()).where(Lease.id.in_(leases[:count]), Lease.state == "REVOKED")
        limit = time.time() + horizon + 120
        while True:
            with world.broker.read() as view:
                if view.session.scalar(done) == count:
                    found = view.unchecked_all(select(Lease).where(Lease.id.in_(leases[:count])))
                    proofs: list[Any] = [lease.proof for lease in found]
                    break
            if time.time() > limit:
                raise RuntimeError("the leases did not end")
            time.sleep(0.1)
        if hanging is not None:
            os.kill(hanging[1], signal.SIGCONT)
        return sorted(int(proof["lag_ms"]) for proof in proofs)


def many_ends(count: int, per_s: int) -> Iterator[tuple[str, list[int]]]:
    """Give the lags on PostgreSQL, alone and beside a target that hangs."""
    with started(PostgresqlBench("system", tls=True, durable=True)) as bench:
        yield f"{count:,} leases on PostgreSQL", lags({"ledger": bench}, count, per_s)
        with started(PostgresqlBench("wheel", tls=False)) as other:
            assert isinstance(other, PostgresqlBench)
            process = other.server._process
            assert process is not None
            three = {"ledger": bench, "second": bench, "third": other}
            yield f"{count:,} leases, one of three targets hanging", lags(three, count, per_s, ("third", process.pid))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="./jit bench targets", description=__doc__)
    parser.add_argument("--count", type=int, default=1_000, help="leases that end in one second")
    parser.add_argument("--per-s", type=int, default=12, help="how many of them this machine hands out a second")
    parser.add_argument("--part", choices=("peer", "kinds", "ends"), action="append")
    asked = parser.parse_args(arguments)
    parts = asked.part or ["peer", "kinds", "ends"]
    print(machine_line())
    if "peer" in parts and binary() is not None:
        bench = PostgresqlBench("system", tls=True, durable=True)
        with started(bench), running() as peer:
            rival = Peer(peer, bench)
            ours, theirs = beside_the_peer(bench, rival)
            bases = {(figure.clients, figure.name.partition(": ")[2]): figure for figure in theirs}
            print(
                table(
                    [*theirs, *ours],
                    baseline=lambda figure: bases.get((figure.clients, figure.name.partition(": ")[2])),
                )
            )
            rival.end_rest()
            seconds, made = rival.mass_end(bench, asked.count)
            print(f"OpenBao: {made:,} leases that ended together: the last role was gone after {seconds:.2f} s")
    if "kinds" in parts:
        for figures in by_kind():
            print(table(figures), flush=True)
    if "ends" in parts:
        print("| what | p50 ms | p99 ms | max ms |\n|---|---|---|---|")
        for name, found in many_ends(asked.count, asked.per_s):
            print(f"| {name} | {statistics.median(found):,.0f} | {quantile(found, 0.99):,} | {found[-1]:,} |")


if __name__ == "__main__":
    main(sys.argv[1:])
