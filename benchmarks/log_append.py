"""How fast does the log take and verify entries? Transactions with one sealed row and one event, alone and by many at once.

`run(url)` returns the figures for one database; the command measures SQLite, PostgreSQL where one is found, and the offline verifier.
"""

import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import Figure, machine_line, run_for, table
from jitaccess.audit.export import export
from jitaccess.audit.verify import verify_export
from jitaccess.clock import SystemClock
from jitaccess.domain.events import EventType
from jitaccess.domain.values import LOCAL, SYSTEM
from jitaccess.store.tables import RecoveryKey
from tests.support import postgres
from tests.support.bare_store import ORIGIN, BareStore, create_store

SECONDS = 2.0
CLIENTS = (1, 8, 32)
BATCH = 100


def _one(store: BareStore) -> None:
    with store.db.begin(SYSTEM) as tx:
        event = tx.record(EventType.ALARM_RAISED, subject={"person": "p" * 26}, body={"code": "measured"})
        key = tx.new_id()
        tx.insert(RecoveryKey, event, id=key, secret_hash=key, threshold=2, created_at=tx.now)


def _many(store: BareStore) -> None:
    with store.db.begin(SYSTEM) as tx:
        for _ in range(BATCH):
            tx.record(EventType.ALARM_RAISED, subject={"person": "p" * 26}, body={"code": "measured"})


def run(url: str, *, seconds: float = SECONDS, clients: Sequence[int] = CLIENTS) -> list[Figure]:
    """Measure one empty database; it is left full."""
    store = create_store(url, SystemClock())
    kind = "SQLite" if store.db.sqlite else "PostgreSQL"
    stop = threading.Event()

    def sequence() -> None:
        while not stop.wait(1.0):
            store.checkpoints.make()

    sequencer = threading.Thread(target=sequence)
    sequencer.start()
    try:
        for _ in range(20):
            _one(store)
        figures = [
            run_for(f"{kind}: row + event", lambda _: _one(store), clients=number, seconds=seconds)
            for number in clients
        ]
        figures.append(
            run_for(f"{kind}: {BATCH} events a transaction", lambda _: _many(store), clients=1, seconds=seconds)
        )
        figures.append(
            run_for(
                f"{kind}: event under a checkpoint",
                lambda _: store.checkpoints.cover([store.note()]),
                clients=8,
                seconds=seconds,
            )
        )
    finally:
        stop.set()
        sequencer.join()
        store.close()
    return figures


def verifying(folder: Path, entries: int = 50_000) -> tuple[float, int]:
    """Return (seconds, entries) of verifying an export offline."""
    store = create_store(f"sqlite:///{folder / 'verify.db'}", SystemClock())
    for _ in range(entries // BATCH):
        _many(store)
    count = export(store.db, store.keyring, store.checkpoints, folder / "export", origin=ORIGIN, actor=LOCAL)
    store.close()
    begun = time.perf_counter()
    report = verify_export(folder / "export")
    took = time.perf_counter() - begun
    if not report.ok:
        raise RuntimeError(str(report.problems))
    return took, count


def main() -> None:
    """Measure and print."""
    print(machine_line())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures = run(f"sqlite:///{folder / 'broker.db'}")
        if postgres.available():
            server = postgres.start()
            try:
                figures += run(server.create_database())
            finally:
                server.stop()
        print(table(figures))
        took, count = verifying(folder)
        print(f"verified offline: {count:,} entries in {took:.2f} s, {count / took:,.0f}/s")
    print(
        "The PostgreSQL of the tests runs without fsync: its figures say what our side costs, not what a disk allows."
    )


if __name__ == "__main__":
    main()
