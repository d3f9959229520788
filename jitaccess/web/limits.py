"""How often may this person, this address, try? Everything is bounded before work is done (R26, R66).

Two kinds. Refused attempts to sign in or enrol are counted by address, and ceremonies begun without a session by browser, in the store,
for all processes together: people who share an address and sign in rightly never wait for each other, but all of them wait out the minute
in which somebody there failed too often. Every other request is metered in
this process alone, without touching the store: persons by who they are, everybody else by address, programs of targets by their own,
much larger measure. Who is refused is told for how long. Book-keeping without evidence; it must never keep anybody from taking access
away for longer than a minute.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil

from flask import request
from werkzeug.wrappers import Request

from jitaccess.broker.context import Broker
from jitaccess.clock import from_epoch_s, to_epoch_s
from jitaccess.errors import JitError, Kind
from jitaccess.store.db import Tx
from jitaccess.store.tables import RateCount

WINDOW = timedelta(minutes=1)
MOST_KEYS = 50_000
"""Callers that are remembered at once; who asked longest ago is forgotten first."""


@dataclass(slots=True)
class Meter:
    """Meters calls by key (the generic cell rate algorithm): `per_minute` at once, then evenly as many a minute."""

    per_minute: int
    _full_at: OrderedDict[str, float] = field(default_factory=OrderedDict)
    """Key -> the monotonic second at which its whole allowance is back."""
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def wait_s(self, key: str, now: float) -> int:
        """Take one call; return 0, or without taking it the whole seconds until there is one again."""
        each = 60 / self.per_minute
        with self._guard:
            full_at = max(self._full_at.get(key, now), now)
            late = full_at + each - now - 60
            if late > 1e-6:
                return ceil(late)
            self._full_at[key] = full_at + each
            self._full_at.move_to_end(key)
            if len(self._full_at) > MOST_KEYS:
                self._full_at.popitem(last=False)
        return 0


def client_address(broker: Broker, asking: Request = request) -> str:
    """Return the client's address; X-Forwarded-For counts only from a configured proxy (R30)."""
    peer = asking.remote_addr or "unknown"
    if peer in broker.settings.server.trusted_proxies:
        forwarded = asking.headers.get("X-Forwarded-For", "").split(",")[-1].strip()
        return forwarded[:64] or peer
    return peer[:64]


def meter(meter: Meter, key: str, now: float) -> None:
    """Take one call of a meter; raises RATE_LIMITED with the seconds to wait."""
    wait_s = meter.wait_s(key, now)
    if wait_s:
        raise JitError(Kind.RATE_LIMITED, "Too many requests. Wait a moment.", retry_after_s=wait_s)


def refuse_guessers(tx: Tx, broker: Broker) -> None:
    """Raise RATE_LIMITED where too many attempts of this address were refused within the minute; good ones are never counted."""
    row = tx.get(RateCount, _failures(broker))
    if row is not None and row.window_at == _window(tx) and row.count >= _most_failures(broker):
        raise _wait(tx)


def count_failure(tx: Tx, broker: Broker) -> None:
    """Count one refused attempt of this address, in the transaction that refused it."""
    _count(tx, _failures(broker))


def count_ceremony(tx: Tx, broker: Broker, browser: str) -> None:
    """Count one ceremony that a browser begins without a session; raises RATE_LIMITED above the limit of a minute.

    By browser, not by address: a whole office stands behind one address, and each open page begins one for the browser's autofill. Who
    throws the cookie away is counted with every other call of the address.
    """
    if _count(tx, f"ceremony/{browser}") > broker.settings.limits.ceremonies_per_browser_minute:
        raise _wait(tx)


def _failures(broker: Broker) -> str:
    return f"failed/{client_address(broker)}"


def _most_failures(broker: Broker) -> int:
    return broker.settings.limits.failed_sign_ins_per_address_minute


def _window(tx: Tx) -> datetime:
    seconds = int(WINDOW.total_seconds())
    return from_epoch_s(to_epoch_s(tx.now) // seconds * seconds)


def _wait(tx: Tx) -> JitError:
    seconds = int(WINDOW.total_seconds())
    return JitError(
        Kind.RATE_LIMITED, "Too many attempts. Wait a minute.", retry_after_s=seconds - to_epoch_s(tx.now) % seconds
    )


def _count(tx: Tx, key: str) -> int:
    window_at = _window(tx)
    row = tx.get(RateCount, key)
    if row is None:
        tx.insert(RateCount, id=key, window_at=window_at, count=1)
        return 1
    count = row.count + 1 if row.window_at == window_at else 1
    tx.update(row, window_at=window_at, count=count)
    return count
