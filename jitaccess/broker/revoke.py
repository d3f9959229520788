"""How does access end? One verb for every cause, then cutting and cleaning what a lease put on its target (R47, R51, R56, R60).

Ending is one transaction: the grant ENDED, its leases REVOKING; from that commit on nothing verifies. What is left on the target is cut and
cleaned afterwards, outside any transaction, claimed by one worker at a time, retried with back-off for ever, and listed as STUCK
after a limit. Revocation needs no signature, no policy and no intact seal: everything here reads unchecked.
"""

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import or_, select

from jitaccess.broker.context import Broker, advance, advance_many
from jitaccess.connectors.contract import Effect
from jitaccess.domain.events import EventType
from jitaccess.domain.lifecycle import EndCause, GrantState, LeaseState
from jitaccess.domain.values import SYSTEM, Refused
from jitaccess.errors import JitError, Kind
from jitaccess.identity.enrolment import tell
from jitaccess.identity.people import is_admin, register
from jitaccess.identity.sessions import Current
from jitaccess.proof.canonical import JsonValue
from jitaccess.store.db import Tx, View
from jitaccess.store.tables import Grant, Lease

LIVE_GRANTS = (GrantState.SCHEDULED.value, GrantState.ACTIVE.value)
LIVE_LEASES = (LeaseState.ISSUING.value, LeaseState.ACTIVE.value)
ENDING_LEASES = (LeaseState.REVOKING.value, LeaseState.STUCK.value)
CLAIM_FOR = timedelta(seconds=60)
"""A claim older than this is taken over: its worker is dead or hanging."""
BACK_OFF_S = (1, 5, 15, 60, 300, 900)
STUCK_AFTER = 5
"""Failed attempts after which a lease is listed and alarmed; it is retried all the same."""
CUT_LIMIT_S = 30.0
"""How long the sweep waits for all targets together; a hanging one goes on in its own thread and delays nobody."""


# ---------------------------------------------------------------- ending


def end_grant(tx: Tx, grant: Grant, cause: EndCause, *, by: str) -> None:
    """End a live grant and everything under it, in the caller's transaction."""
    advance(tx, grant, GrantState.ENDED, body={"cause": cause.value, "by": by}, cause=cause.value, ended_at=tx.now)
    for lease in _live_leases(tx, [grant.id]):
        _end_lease(tx, lease, cause)
    tell(tx, "grant_ended", grant.person_id, grant.id)


def _live_leases(view: View, grant_ids: Sequence[str]) -> list[Lease]:
    return view.unchecked_all(select(Lease).where(Lease.grant_id.in_(grant_ids), Lease.state.in_(LIVE_LEASES)))


def _end_lease(tx: Tx, lease: Lease, cause: EndCause) -> None:
    advance(
        tx,
        lease,
        LeaseState.REVOKING,
        body={"cause": cause.value},
        cause=cause.value,
        ended_at=tx.now,
        next_at=tx.now,
        attempts=0,
    )


def end_grants(tx: Tx, grants: Sequence[Grant], cause: EndCause, *, by: str) -> int:
    """End a batch of live grants of any state in few statements; return how many."""
    live = [grant for grant in grants if grant.state in LIVE_GRANTS]
    if not live:
        return 0
    changes: dict[str, object] = {"cause": cause.value, "ended_at": tx.now}
    advance_many(tx, [(grant, changes) for grant in live], GrantState.ENDED, body={"cause": cause.value, "by": by})
    leases = _live_leases(tx, [grant.id for grant in live])
    if leases:
        changes = {"cause": cause.value, "ended_at": tx.now, "next_at": tx.now, "attempts": 0}
        advance_many(tx, [(lease, changes) for lease in leases], LeaseState.REVOKING, body={"cause": cause.value})
    return len(live)


def live_grants(view: View, **where: str) -> list[Grant]:
    """Return live grants by person_id, target or id, seals unchecked."""
    statement = select(Grant).where(Grant.state.in_(LIVE_GRANTS))
    for name, value in where.items():
        statement = statement.where(getattr(Grant, name) == value)
    return view.unchecked_all(statement)


def hand_back(tx: Tx, current: Current, grant_id: str) -> Grant:
    """Give one's own access back early (cause `returned`); a session suffices, because it only takes away."""
    grant = tx.unchecked_get(Grant, grant_id)
    if grant is None or grant.person_id != current.person.id:
        raise JitError(Kind.NOT_FOUND, "There is no such access of yours.")
    if grant.state not in LIVE_GRANTS:
        raise JitError(Kind.CONFLICT, "This access has ended already.")
    end_grant(tx, grant, EndCause.RETURNED, by=current.person.id)
    return grant


def revoke(tx: Tx, broker: Broker, current: Current, grant_id: str) -> Grant | Refused:
    """End somebody's access: administrators, and everybody who could have approved it or whose institution owns the target."""
    grant = tx.unchecked_get(Grant, grant_id)
    if grant is None or not may_revoke(tx, broker, current, grant):
        raise JitError(Kind.NOT_FOUND, "There is no such access that you may end.")
    if grant.state not in LIVE_GRANTS:
        raise JitError(Kind.CONFLICT, "This access has ended already.")
    end_grant(tx, grant, EndCause.REVOKED, by=current.person.id)
    return grant


def may_revoke(view: View, broker: Broker, current: Current, grant: Grant) -> bool:
    """Say whether this person may end this grant."""
    if is_admin(view, current.person.id) or grant.person_id == current.person.id:
        return True
    policies = broker.policies.active_or_none(view)
    person = register(view).persons.get(current.person.id)
    if policies is None or person is None or grant.target not in policies.targets:
        return False
    if policies.targets[grant.target].owner == person.institution:
        return True
    steps = [step for rule in policies.rules_for(grant.target, grant.entitlement) for step in rule.terms.steps]
    return any(not person.groups.isdisjoint(step.groups) for step in steps)


# ---------------------------------------------------------------- cutting and cleaning


@dataclass(frozen=True, slots=True)
class Claimed:
    """A lease that this worker may cut; nobody else touches it until the claim runs out."""

    lease_id: str
    target: str
    connector: str
    effect: JsonValue
    attempts: int


class Revoker:
    """Finishes revocations: at most one thread for each target, so that a hanging target delays no other (bulkhead)."""

    def __init__(self, broker: Broker, worker: str) -> None:
        self._broker = broker
        self._worker = worker
        self._pool = ThreadPoolExecutor(max_workers=16, thread_name_prefix="cut")
        self._busy: dict[str, Future[None]] = {}
        self._guard = threading.Lock()

    def close(self) -> None:
        """Let running cuts end; take no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def run(self) -> int:
        """Finish what can be finished now; return how many leases became REVOKED."""
        done = self._finish_inside()
        claimed = self._claim()
        by_target: dict[str, list[Claimed]] = defaultdict(list)
        for lease in claimed:
            by_target[lease.target].append(lease)
        started: list[Future[None]] = []
        with self._guard:
            for target, leases in by_target.items():
                self._busy[target] = self._pool.submit(self._cut_target, leases)
                started.append(self._busy[target])
        if started:
            wait(started, timeout=CUT_LIMIT_S)
        return done + len(claimed)

    def _finish_inside(self) -> int:
        """Leases that put nothing on a target are clean at once: they are finished in batches, in the store alone."""
        inside = [kind for kind, connector in self._broker.connectors.items() if not connector.outside]
        total = 0
        while True:
            with self._broker.begin(SYSTEM) as tx:
                leases = tx.unchecked_all(
                    select(Lease)
                    .where(Lease.state.in_(ENDING_LEASES), Lease.connector.in_(inside))
                    .order_by(Lease.ended_at)
                    .limit(self._broker.settings.sweep.batch)
                    .with_for_update(skip_locked=True)
                )
                proof: JsonValue = {"outside": False}
                rows: list[tuple[Lease, Mapping[str, object]]] = [
                    (lease, {"revoked_at": tx.now, "proof": proof}) for lease in leases
                ]
                if rows:
                    advance_many(tx, rows, LeaseState.REVOKED, body={"outside": False})
            total += len(rows)
            if len(rows) < self._broker.settings.sweep.batch:
                return total

    def _claim(self) -> list[Claimed]:
        """Claim due leases of targets that no thread of ours is busy with; a row each, SKIP LOCKED on PostgreSQL (R60)."""
        with self._guard:
            self._busy = {target: future for target, future in self._busy.items() if not future.done()}
            busy = list(self._busy)
        with self._broker.begin(SYSTEM) as tx:
            now = tx.now
            due = tx.unchecked_all(
                select(Lease)
                .where(
                    Lease.state.in_(ENDING_LEASES),
                    Lease.target.not_in(busy),
                    or_(Lease.next_at.is_(None), Lease.next_at <= now),
                    or_(Lease.claimed_until.is_(None), Lease.claimed_until <= now),
                )
                .order_by(Lease.next_at)
                .limit(self._broker.settings.sweep.batch)
                .with_for_update(skip_locked=True)
            )
            for lease in due:
                tx.update(lease, claimed_by=self._worker, claimed_until=now + CLAIM_FOR)
            return [Claimed(row.id, row.target, row.connector, row.effect, row.attempts) for row in due]

    def _cut_target(self, leases: Sequence[Claimed]) -> None:
        """Cut all leases of one target, then clean each; failures put each back with its own back-off."""
        connector = self._broker.connectors.get(leases[0].connector)
        if connector is None:
            for lease in leases:
                self._failed(lease, "no_connector")
            return
        effects = {lease.lease_id: Effect.from_json(lease.effect) for lease in leases}
        try:
            cut = dict(connector.cut(list(effects.values())))
        except Exception as error:  # a target may fail in any way; each lease is put back, none is lost
            for lease in leases:
                self._failed(lease, type(error).__name__)
            return
        for lease in leases:
            try:
                clean = dict(connector.clean(effects[lease.lease_id]))
            except Exception as error:  # as above
                self._failed(lease, type(error).__name__)
                continue
            self._done(lease, {"cut": cut, "clean": clean})

    def _done(self, claimed: Claimed, proof: JsonValue) -> None:
        with self._broker.begin(SYSTEM, lock=[(Lease, claimed.lease_id)]) as tx:
            lease = tx.unchecked_get(Lease, claimed.lease_id)
            if lease is None or lease.claimed_by != self._worker or lease.state not in ENDING_LEASES:
                return  # the claim ran out and another worker finished: doing it twice was harmless
            if lease.state == LeaseState.STUCK.value:
                advance(tx, lease, LeaseState.REVOKING, body={"cause": lease.cause, "again": True})
            lag_ms = _lag_ms(lease.ended_at, tx.now)
            advance(tx, lease, LeaseState.REVOKED, body={"lag_ms": lag_ms}, revoked_at=tx.now, proof=proof)

    def _failed(self, claimed: Claimed, error: str) -> None:
        with self._broker.begin(SYSTEM, lock=[(Lease, claimed.lease_id)]) as tx:
            lease = tx.unchecked_get(Lease, claimed.lease_id)
            if lease is None or lease.claimed_by != self._worker or lease.state not in ENDING_LEASES:
                return
            attempts = lease.attempts + 1
            delay = BACK_OFF_S[min(attempts, len(BACK_OFF_S)) - 1]
            values: dict[str, object] = {
                "attempts": attempts,
                "next_at": tx.now + timedelta(seconds=delay),
                "claimed_by": None,
                "claimed_until": None,
                "last_error": error[:200],
            }
            if attempts >= STUCK_AFTER and lease.state == LeaseState.REVOKING.value:
                advance(
                    tx, lease, LeaseState.STUCK, body={"attempts": attempts, "error": error[:64]}, texts=None, **values
                )
                tx.record(
                    EventType.ALARM_RAISED,
                    subject={"lease": lease.id, "target": lease.target},
                    body={"what": "revocation_stuck"},
                )
            else:
                tx.update(lease, None, expect=None, **values)


def _lag_ms(ended_at: datetime | None, now: datetime) -> int:
    return 0 if ended_at is None else int((now - ended_at).total_seconds() * 1000)


def stuck(view: View) -> list[Lease]:
    """Return the leases whose revocation does not succeed."""
    return view.unchecked_all(select(Lease).where(Lease.state == LeaseState.STUCK.value).order_by(Lease.ended_at))


def grants_of(view: View, person_id: str, *, limit: int = 50) -> list[Grant]:
    """Return a person's grants, live ones first, then the newest; seals unchecked, because this only shows."""
    return view.unchecked_all(
        select(Grant)
        .where(Grant.person_id == person_id)
        .order_by(Grant.state.in_(LIVE_GRANTS).desc(), Grant.created_at.desc())
        .limit(limit)
    )
