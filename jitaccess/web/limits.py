"""How often may this address try? Fixed-window counts in the store (R26, R66); book-keeping without evidence."""

from datetime import timedelta

from flask import request

from jitaccess.broker.context import Broker
from jitaccess.clock import from_epoch_s, to_epoch_s
from jitaccess.errors import JitError, Kind
from jitaccess.store.db import Tx
from jitaccess.store.tables import RateCount

WINDOW = timedelta(minutes=1)


def client_address(broker: Broker) -> str:
    """Return the client's address; X-Forwarded-For counts only from a configured proxy (R30)."""
    peer = request.remote_addr or "unknown"
    if peer in broker.settings.server.trusted_proxies:
        forwarded = request.headers.get("X-Forwarded-For", "").split(",")[-1].strip()
        return forwarded[:64] or peer
    return peer[:64]


def count_sign_in(tx: Tx, broker: Broker) -> None:
    """Count one attempt of this address; raises RATE_LIMITED above the limit of a minute."""
    seconds = int(WINDOW.total_seconds())
    window_at = from_epoch_s(to_epoch_s(tx.now) // seconds * seconds)
    key = f"sign-in/{client_address(broker)}"
    row = tx.get(RateCount, key)
    if row is None:
        tx.insert(RateCount, id=key, window_at=window_at, count=1)
        return
    count = row.count + 1 if row.window_at == window_at else 1
    if count > broker.settings.limits.sign_in_per_address_minute:
        raise JitError(Kind.RATE_LIMITED, "Too many attempts. Wait a minute.")
    tx.update(row, window_at=window_at, count=count)
