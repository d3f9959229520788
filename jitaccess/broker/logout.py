"""How does an application learn, without asking, that its session is over? OpenID Connect Back-Channel Logout 1.0.

Ending access writes a notice for each sign-in that it ended, in the same transaction; a sender delivers it afterwards as a
signed logout token, outside any transaction, with back-off for a day. One thread a client, so that a hanging application delays no
other. A lost notice widens nothing: introspection, status list and refresh say the same by themselves. What became of each stays visible.
"""

import threading
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

from sqlalchemy import ColumnElement, select

from jitaccess.broker.clients import LOOPBACK, registered, told_at
from jitaccess.broker.context import Broker
from jitaccess.domain.events import EventType
from jitaccess.domain.values import SYSTEM
from jitaccess.outbound.guard import NotDelivered, Reach, post_form
from jitaccess.store.db import PendingEvent, Tx, View
from jitaccess.store.ids import new_id
from jitaccess.store.tables import Lease, LogoutNotice, Token
from jitaccess.tokens.access import mint_logout

BATCH = 200
CLAIM_FOR = timedelta(seconds=60)
BACK_OFF_S = (1, 5, 15, 60, 300, 900)
GIVE_UP_AFTER = timedelta(hours=24)
"""Longer than any grant that a policy should give; what was not told by then is over by its own times."""
WORKERS = 8
WAIT_S = 1.0


# ---------------------------------------------------------------- writing notices


def announce_leases(tx: Tx, leases: Sequence[Lease], cause: str) -> None:
    """Write a notice for every live sign-in under leases that end in this transaction."""
    if leases:
        _announce(tx, Token.lease_id.in_([lease.id for lease in leases]), cause)


def announce_family(tx: Tx, family: str, cause: str) -> None:
    """Write a notice for one sign-in; called before its tokens are ended."""
    _announce(tx, Token.family == family, cause)


def end_family(tx: Tx, family: str, type_: EventType, *, client_id: str, tell_client: str | None = None) -> int:
    """End every token of a family; return how many were live. Takes away only, so seals are not asked.

    `tell_client` is the cause for which the client gets a logout notice; None where it ended the family itself.
    """
    if tell_client is not None:
        announce_family(tx, family, tell_client)
    live = tx.unchecked_all(select(Token).where(Token.family == family, Token.ended_at.is_(None)))
    grant_id = live[0].grant_id if live else None  # all of a family belong to one
    event = tx.record(
        type_, subject={"client": client_id, "grant": grant_id}, body={"family": family, "ended": len(live)}
    )
    tx.update_many([(token, event, {"ended_at": tx.now}) for token in live])
    return len(live)


def end_families(tx: Tx, which: ColumnElement[bool], cause: str) -> int:
    """End every live sign-in whose tokens a condition names, and tell their clients; return how many. Takes away only."""
    _announce(tx, which, cause)
    families: dict[str, list[Token]] = defaultdict(list)
    for token in tx.unchecked_all(select(Token).where(which, Token.ended_at.is_(None))):
        families[token.family].append(token)
    changes: list[tuple[Token, PendingEvent, dict[str, object]]] = []
    for family, tokens in families.items():
        subject = {"client": tokens[0].client_id, "grant": tokens[0].grant_id}
        event = tx.record(
            EventType.TOKEN_REVOKED, subject=subject, body={"cause": cause, "family": family, "ended": len(tokens)}
        )
        changes += [(token, event, {"ended_at": tx.now}) for token in tokens]
    tx.update_many(changes)
    return len(families)


def _announce(tx: Tx, which: object, cause: str) -> None:
    listening = [client.id for client in registered(tx).values() if client.backchannel_logout_uri is not None]
    if not listening:
        return
    signed_in = (
        select(Token.family, Token.client_id, Token.grant_id, Lease.person_id)
        .join(Lease, Lease.id == Token.lease_id)
        .where(which, Token.ended_at.is_(None), Token.client_id.in_(listening))  # type: ignore[arg-type] # a SQL condition
        .distinct()
    )
    tx.insert_many(
        LogoutNotice,
        [
            (
                None,
                {
                    "id": tx.new_id(),
                    "client_id": client,
                    "grant_id": grant,
                    "sid": family,
                    "person_id": person,
                    "cause": cause,
                    "created_at": tx.now,
                    "attempts": 0,
                    "next_at": tx.now,
                },
            )
            for family, client, grant, person in tx.rows(signed_in)
        ],
    )


# ---------------------------------------------------------------- sending them


@dataclass(frozen=True, slots=True)
class Due:
    """A notice that this process may send now."""

    id: str
    client_id: str
    person_id: str
    sid: str
    grant_id: str


def reach_of(broker: Broker) -> Reach:
    """Return where notices may go: loopback only where the broker itself is on this machine."""
    local = urlsplit(broker.site.origin).hostname in LOOPBACK
    return Reach.of(broker.settings.outbound.networks, loopback=local)


class LogoutSender:
    """Delivers notices: one client after another within itself, clients beside each other."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._reach = reach_of(broker)
        self._pool = ThreadPoolExecutor(max_workers=WORKERS, thread_name_prefix="logout")
        self._busy: dict[str, Future[None]] = {}
        self._guard = threading.Lock()
        self._turn = threading.Lock()
        """Who looks for what is due and hands it out does it alone: two never send to one client at once."""

    def close(self) -> None:
        """Let running deliveries end; take no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def run(self, *, wait_s: float = WAIT_S) -> int:
        """Start what is due; return how many notices. A client that hangs goes on in its own thread."""
        by_client: dict[str, list[Due]] = defaultdict(list)
        with self._turn:
            for due in self._claim():
                by_client[due.client_id].append(due)
            with self._guard:
                started = [self._pool.submit(self._send_all, found) for found in by_client.values()]
                self._busy |= dict(zip(by_client, started, strict=True))
        if started:
            wait(started, timeout=wait_s)
        return sum(len(found) for found in by_client.values())

    def _claim(self) -> list[Due]:
        with self._guard:
            self._busy = {client: future for client, future in self._busy.items() if not future.done()}
            busy = list(self._busy)
        waiting = (
            select(LogoutNotice)
            .where(LogoutNotice.done_at.is_(None), LogoutNotice.client_id.not_in(busy))
            .order_by(LogoutNotice.next_at)
            .limit(BATCH)
        )
        with self._broker.read() as view:  # most looks find nothing, and must cost no write
            if not view.all(waiting.where(LogoutNotice.next_at <= view.now).limit(1)):
                return []
        with self._broker.begin(SYSTEM) as tx:
            rows = tx.all(waiting.where(LogoutNotice.next_at <= tx.now).with_for_update(skip_locked=True))
            for row in rows:
                # A crash from here on leaves a claim that runs out; the notice is then sent again.
                tx.update(row, next_at=tx.now + CLAIM_FOR, attempts=row.attempts + 1)
            return [Due(row.id, row.client_id, row.person_id, row.sid, row.grant_id) for row in rows]

    def _send_all(self, found: Sequence[Due]) -> None:
        """Send one client's notices; after the first that does not reach it the others wait for their next time."""
        error: str | None = None
        for due in found:
            error = error or self._send(due)
            self._note(due, error)

    def _send(self, due: Due) -> str | None:
        """Deliver one; return why it failed, or None."""
        broker = self._broker
        with broker.read() as view:
            broker.keyring.refresh(view)
            address = told_at(view, due.client_id)
            now = view.now
        if address is None:
            return "no_such_client"
        token = mint_logout(
            broker.keyring.token_key(),
            issuer=broker.site.origin,
            client_id=due.client_id,
            person_id=due.person_id,
            sid=due.sid,
            jti=new_id(now),
            now=now,
        )
        try:
            status = post_form(address, {"logout_token": token}, self._reach)
        except NotDelivered as failed:
            return str(failed)
        return None if status in (200, 204) else f"status_{status}"

    def _note(self, due: Due, error: str | None) -> None:
        """Write what came of it; each end is an event of its own."""
        with self._broker.begin(SYSTEM, lock=[(LogoutNotice, due.id)]) as tx:
            row = tx.get(LogoutNotice, due.id)
            if row is None or row.done_at is not None:
                return
            subject = {"client": row.client_id, "grant": row.grant_id, "person": row.person_id}
            lag_ms = int((tx.now - row.created_at).total_seconds() * 1000)
            if error is None:
                tx.record(
                    EventType.LOGOUT_DELIVERED, subject=subject, body={"attempts": row.attempts, "lag_ms": lag_ms}
                )
                tx.update(row, done_at=tx.now, delivered=True, last_error=None)
            elif tx.now - row.created_at >= GIVE_UP_AFTER:
                tx.record(EventType.LOGOUT_FAILED, subject=subject, body={"attempts": row.attempts, "error": error})
                tx.update(row, done_at=tx.now, delivered=False, last_error=error)
            else:
                delay = BACK_OFF_S[min(row.attempts, len(BACK_OFF_S)) - 1]
                tx.update(row, next_at=tx.now + timedelta(seconds=delay), last_error=error)


def deliveries(view: View, *, limit: int = 100) -> list[LogoutNotice]:
    """Return notices and what became of them, the newest first."""
    return view.all(select(LogoutNotice).order_by(LogoutNotice.id.desc()).limit(limit))
