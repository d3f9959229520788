"""How is what a lease put on its target taken away for certain? Cut, clean, prove; again and again until it held (R47, R50, R51, R60).

Leases that ended are claimed by one worker at a time and worked on outside any transaction, each target in threads of its own, so that
one that hangs delays no other. What fails is tried again with back-off for ever, is listed as STUCK and alarmed after a limit,
and is never given up by code. One effect that cannot be ended keeps no other from ending: a batch that fails is halved, and what
failed before is tried alone, after all others. Locking somebody out waits for no cleaning up: a target has one thread that cuts what
has just ended, and one that cleans and tries again what failed. Neither policy nor intact seals are needed; but a row whose seal is
broken never says *where* the broker calls or *what* it deletes.
"""

import logging
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from sqlalchemy import or_, select

from jitaccess.broker.context import Broker, advance, advance_many
from jitaccess.broker.revoke import ENDING_LEASES, LIVE_LEASES
from jitaccess.broker.targets import LATE_BIRTH, apply_by
from jitaccess.connectors.contract import CallFailed, Connector, Effect, Proofs, Unreachable
from jitaccess.domain.events import EventType
from jitaccess.domain.lifecycle import EndCause, LeaseState
from jitaccess.domain.values import SYSTEM
from jitaccess.errors import JitError, Kind
from jitaccess.identity.enrolment import tell
from jitaccess.identity.people import admins
from jitaccess.policy.evaluate import PolicySet
from jitaccess.proof.canonical import JsonValue
from jitaccess.store.db import Tx, View
from jitaccess.store.tables import Grant, Lease, Person

log = logging.getLogger(__name__)
CLAIM_FOR = timedelta(seconds=60)
"""A claim older than this is taken over: its worker is dead or hanging."""
BACK_OFF_S = (1, 5, 15, 60, 300, 900)
STUCK_AFTER = 5
"""Failed attempts after which a lease is listed and alarmed; it is retried all the same."""
ROUND_S = 30.0
"""How long a worker goes on with one verb for what it claimed; one more call to the target fits into the claim after it."""
LATER = "later"
"""Instead of an error: the round was over before this effect was tried at all."""
CUT_LIMIT_S = 30.0
"""How long a caller waits for all targets together; a hanging one goes on in its own thread and delays nobody."""
STALE_ISSUING = timedelta(seconds=60)
"""A lease still ISSUING after this has lost its issuer: nobody was ever shown its credential."""
MAX_TARGETS = 1_000
"""Threads at most; one a target, made when needed."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A lease that this worker may cut; nobody else touches it until the claim runs out."""

    lease_id: str
    person_id: str
    target: str
    effect: Effect
    connector: Mapping[str, JsonValue] | None
    """Where it was made; None when nothing trustworthy says so."""
    born_by: datetime | None
    """Until when its effect may still be born; None when it is known to be there."""
    failed: bool
    """Whether it was tried before, without success."""


@dataclass(slots=True)
class _Cut:
    """Leases at one place of a target that were cut together."""

    connector: Connector | None
    open: dict[str, Claimed]
    proofs: Mapping[str, Mapping[str, JsonValue]]
    at: datetime


Act = Callable[[Sequence[Effect]], Proofs]


class Revoker:
    """Finishes revocations: at most one thread for each target (bulkhead)."""

    def __init__(self, broker: Broker, worker: str) -> None:
        self._broker = broker
        self._worker = worker
        self._pool = ThreadPoolExecutor(max_workers=MAX_TARGETS, thread_name_prefix="cut")
        self._busy: dict[str, Future[None]] = {}
        """Target -> the thread that cuts there."""
        self._cleaning: dict[str, deque[_Cut]] = {}
        """Target on which a thread cleans up, or tries again what failed -> what it has to clean."""
        self._guard = threading.Lock()
        self._turn = threading.Lock()
        """Who looks for what is due and hands it out does it alone: the tick, and whoever was woken by an end."""

    def close(self) -> None:
        """Take no more, and wait for running cuts: each call to a target has a limit of its own, and writes down what came of it."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def run(self, wait_s: float = CUT_LIMIT_S) -> int:
        """Work on what is due, waiting at most so long for the targets; return how many leases were taken up."""
        with self._turn:
            done = self._finish_inside()
            claimed = self._claim()
            by_target: dict[str, list[Claimed]] = defaultdict(list)
            for lease in claimed:
                by_target[lease.target].append(lease)
            with self._guard:
                started = {target: self._pool.submit(self._finish_target, found) for target, found in by_target.items()}
                self._busy |= started
        for future in started.values():  # what ended there meanwhile is taken up now, not at the next tick
            future.add_done_callback(lambda _: self._broker.ending.set())
        if started:
            wait(started.values(), timeout=wait_s)
        return done + len(claimed)

    # -- in the store alone

    def _finish_inside(self) -> int:
        """Leases that put nothing on a target are clean at once: they are finished in batches, in the store alone."""
        inside = self._broker.targets.inside()
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

    # -- claiming

    def _claim(self) -> list[Claimed]:
        """Claim due leases of targets that no thread of ours is busy with; a row each, SKIP LOCKED on PostgreSQL (R60).

        Where one is cleaning up, only what was never tried is taken: it is cut at once.
        """
        with self._guard:
            self._busy = {target: future for target, future in self._busy.items() if not future.done()}
            busy, cleaning = list(self._busy), list(self._cleaning)
        with self._broker.begin(SYSTEM) as tx:
            now = tx.now
            due = tx.unchecked_all(
                select(Lease)
                .where(
                    Lease.state.in_(ENDING_LEASES),
                    Lease.target.not_in(busy),
                    or_(Lease.target.not_in(cleaning), Lease.attempts == 0),
                    or_(Lease.next_at.is_(None), Lease.next_at <= now),
                    or_(Lease.claimed_until.is_(None), Lease.claimed_until <= now),
                )
                .order_by(Lease.next_at)
                .limit(self._broker.settings.sweep.batch)
                .with_for_update(skip_locked=True)
            )
            claim = {"claimed_by": self._worker, "claimed_until": now + CLAIM_FOR}
            tx.update_many([(lease, None, claim) for lease in due])
            return [self._claimed(tx, lease) for lease in due]

    def _claimed(self, tx: Tx, lease: Lease) -> Claimed:
        stored = cast("dict[str, JsonValue]", lease.effect)
        effect = Effect.from_json(stored)
        connector = cast("Mapping[str, JsonValue]", stored.get("connector", {"kind": lease.connector}))
        where: Mapping[str, JsonValue] | None = connector
        if not tx.intact(lease):
            # The row was changed outside the broker: what it says of place and name might send us to a stranger's account.
            where = self._configured(tx, lease.target) if lease.id in effect.name else None
        elif "connector" in stored:
            where = self._renewed(tx, lease.target, connector)
        known = isinstance(lease.proof, dict) and "applied" in lease.proof
        born_by = None if known else apply_by(lease) + LATE_BIRTH
        return Claimed(lease.id, lease.person_id, lease.target, effect, where, born_by, lease.attempts > 0)

    def _renewed(self, tx: Tx, target: str, made_with: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
        """Return the configuration in force where it names the same place: what was made with an old certificate ends with the new one."""
        present = self._configured(tx, target)
        kind = self._broker.targets.kinds.get(str(made_with["kind"]))
        return (
            present if present is not None and kind is not None and kind.same_place(made_with, present) else made_with
        )

    def _configured(self, tx: Tx, target: str) -> Mapping[str, JsonValue] | None:
        try:
            policies = self._broker.policies.active_or_none(tx)
        except JitError:
            return None  # the policy's row is broken too
        found = policies.targets.get(target) if policies is not None else None
        return found.connector if found is not None else None

    # -- at the target

    def _finish_target(self, leases: Sequence[Claimed]) -> None:
        """Cut what was never tried; then clean it, and try each of the others alone. Failures put each back with its own back-off."""
        target = leases[0].target
        try:
            fresh = [self._cut(group) for group in _by_place(lease for lease in leases if not lease.failed)]
            with self._guard:
                queue = self._cleaning.get(target)
                if queue is not None:  # whoever is cleaning there takes it too
                    queue.extend(fresh)
                    return
                queue = self._cleaning[target] = deque(fresh)
                self._busy.pop(target, None)
            self._finish_slowly(target, queue, deque(lease for lease in leases if lease.failed))
        except Exception:  # the boundary of a thread: the claims run out and everything is tried again
            log.exception("finishing revocations of the target %s failed", target)

    def _finish_slowly(self, target: str, queue: "deque[_Cut]", failed: deque[Claimed]) -> None:
        """Clean what is cut, also what others cut meanwhile; between that try what failed before, one after the other."""
        until = self._broker.clock.monotonic() + ROUND_S
        try:
            while True:
                with self._guard:
                    done = queue.popleft() if queue else None
                    if done is None and (not failed or self._broker.clock.monotonic() >= until):
                        del self._cleaning[target]
                        break
                self._clean(done if done is not None else self._cut([failed.popleft()]))
            self._put_back({lease.lease_id: LATER for lease in failed})
        finally:
            with self._guard:
                self._cleaning.pop(target, None)

    def _cut(self, leases: Sequence[Claimed]) -> _Cut:
        """Cut leases of one place; what fails is put back."""
        where = leases[0].connector
        if where is None:
            self._put_back({lease.lease_id: "seal_broken" for lease in leases})
            return _Cut(None, {}, {}, self._broker.db.now())
        try:
            connector = self._broker.targets.at(leases[0].target, where)
            shared = self._broker.targets.kind(str(where["kind"])).shared
        except JitError as error:
            self._put_back({lease.lease_id: error.kind.value for lease in leases})
            return _Cut(None, {}, {}, self._broker.db.now())
        self._renew(leases)
        open_ = {lease.lease_id: lease for lease in leases}
        if shared:
            self._spare_shared(open_)
        failed = self._bury(connector, open_)
        proofs, errors = isolated(connector.cut, [lease.effect for lease in open_.values()], self._round())
        failed |= _left(open_, errors)
        cut_at = self._broker.db.now()
        waiting = {key: lease.born_by for key, lease in open_.items() if lease.born_by and cut_at < lease.born_by}
        for key in waiting:
            open_.pop(key)
        self._put_back(failed)
        self._put_off(cast("Mapping[str, datetime]", waiting))
        return _Cut(connector, open_, proofs, cut_at)

    def _clean(self, cut: _Cut) -> None:
        """Clean what is cut, and write down what the target said."""
        if cut.connector is None or not cut.open:
            return
        mine = self._renew([*cut.open.values()])
        open_ = {key: lease for key, lease in cut.open.items() if key in mine}
        clean, errors = isolated(cut.connector.clean, [lease.effect for lease in open_.values()], self._round())
        self._put_back(_left(open_, errors))
        proofs = {
            key: {"cut": dict(cut.proofs[lease.effect.name]), "clean": dict(clean[lease.effect.name])}
            for key, lease in open_.items()
        }
        self._done(proofs, cut.at)

    def _round(self) -> Callable[[], bool]:
        """Return what says whether a round that begins now may go on."""
        until = self._broker.clock.monotonic() + ROUND_S
        return lambda: self._broker.clock.monotonic() < until

    def _renew(self, leases: Sequence[Claimed]) -> set[str]:
        """Claim leases of ours anew before a call that takes its time; return which still are ours."""
        with self._broker.begin(SYSTEM) as tx:
            found = self._locked(tx, [lease.lease_id for lease in leases])
            tx.update_many([(lease, None, {"claimed_until": tx.now + CLAIM_FOR}) for lease in found])
            return {lease.id for lease in found}

    def _bury(self, connector: Connector, open_: dict[str, Claimed]) -> dict[str, str]:
        """Take the names of effects that may still be born, so that they cannot (design.md section 6, late births)."""
        failed: dict[str, str] = {}
        now = self._broker.db.now()
        for key, lease in list(open_.items()):
            if lease.born_by is not None and now < lease.born_by:
                try:
                    connector.bury(lease.effect)
                except Exception as error:  # a target may fail in any way; this lease is put back
                    failed[key] = error_word(error)
                    open_.pop(key)
        return failed

    def _spare_shared(self, open_: dict[str, Claimed]) -> None:
        """Leave alone what another live lease holds too: the last one that ends takes it away (R56).

        The person's row is locked while looking; who opens one takes the same lock and waits while one of these is being cut.
        """
        for key, claimed in list(open_.items()):
            with self._broker.begin(SYSTEM, lock=[(Person, claimed.person_id), (Lease, key)]) as tx:
                holder = next(
                    (
                        row
                        for row in same_effect(tx, claimed.target, claimed.effect.name)
                        if row.id != key and row.state in LIVE_LEASES
                    ),
                    None,
                )
                lease = tx.unchecked_get(Lease, key)
                if holder is None or lease is None or not self._mine(lease):
                    continue
                open_.pop(key)
                _again(tx, lease)
                proof: JsonValue = {"held_by": holder.id}
                advance(tx, lease, LeaseState.REVOKED, body={"shared": True}, revoked_at=tx.now, proof=proof)

    # -- writing down what came of it

    def _mine(self, lease: Lease) -> bool:
        """Say whether the claim still holds; else another worker finished, and doing it twice was harmless."""
        return lease.claimed_by == self._worker and lease.state in ENDING_LEASES

    def _locked(self, tx: Tx, keys: Sequence[str]) -> list[Lease]:
        found = tx.unchecked_all(select(Lease).where(Lease.id.in_(keys)).order_by(Lease.id).with_for_update())
        return [lease for lease in found if self._mine(lease)]

    def _done(self, proofs: Mapping[str, Mapping[str, JsonValue]], cut_at: datetime) -> None:
        """Write the proofs of revocation: what the target said, and how long after the end."""
        if not proofs:
            return
        with self._broker.begin(SYSTEM) as tx:
            rows: list[tuple[Lease, Mapping[str, object]]] = []
            bodies: list[Mapping[str, JsonValue]] = []
            for lease in self._locked(tx, list(proofs)):
                _again(tx, lease)
                lags: dict[str, JsonValue] = {"cut_ms": _lag_ms(lease, cut_at), "lag_ms": _lag_ms(lease, tx.now)}
                applied = lease.proof if isinstance(lease.proof, dict) else {}
                rows.append((lease, {"revoked_at": tx.now, "proof": {**applied, **proofs[lease.id], **lags}}))
                bodies.append(lags)
            if rows:
                advance_many(tx, rows, LeaseState.REVOKED, bodies=bodies)

    def _put_off(self, waiting: Mapping[str, datetime]) -> None:
        """Leave what is cut and buried until its effect can no longer be born; then it is cleaned."""
        if not waiting:
            return
        with self._broker.begin(SYSTEM) as tx:
            free: dict[str, object] = {"claimed_by": None, "claimed_until": None, "last_error": None}
            rows = [(lease, None, {"next_at": waiting[lease.id], **free}) for lease in self._locked(tx, list(waiting))]
            tx.update_many(rows)

    def _put_back(self, failed: Mapping[str, str]) -> None:
        if not failed:
            return
        with self._broker.begin(SYSTEM) as tx:
            for lease in self._locked(tx, list(failed)):
                if failed[lease.id] == LATER:  # nobody tried: it spends no attempt
                    tx.update(lease, next_at=tx.now, claimed_by=None, claimed_until=None)
                else:
                    self._failed(tx, lease, failed[lease.id])

    def _failed(self, tx: Tx, lease: Lease, error: str) -> None:
        attempts = lease.attempts + 1
        delay = BACK_OFF_S[min(attempts, len(BACK_OFF_S)) - 1]
        next_at, word = tx.now + timedelta(seconds=delay), error[:200]
        tx.update(lease, attempts=attempts, next_at=next_at, claimed_by=None, claimed_until=None, last_error=word)
        if attempts < STUCK_AFTER or lease.state != LeaseState.REVOKING.value:
            return
        advance(tx, lease, LeaseState.STUCK, body={"attempts": attempts, "error": error[:64]})
        tx.record(
            EventType.ALARM_RAISED,
            subject={"lease": lease.id, "target": lease.target},
            body={"what": "revocation_stuck"},
        )
        for person in admins(tx):
            tell(tx, "revocation_stuck", person, lease.id)


def isolated(
    act: Act, effects: Sequence[Effect], go_on: Callable[[], bool] = lambda: True
) -> tuple[dict[str, Mapping[str, JsonValue]], dict[str, str]]:
    """Act on all effects at once; where that fails, on halves, until the failing ones stand alone. Return proofs and errors by name.

    It acts once in any case. Once `go_on` says no, halves that were not tried by themselves have the error of the whole, and what was
    not tried at all has LATER.
    """
    proofs: dict[str, Mapping[str, JsonValue]] = {}
    errors: dict[str, str] = {}
    left: list[tuple[list[Effect], str]] = [([*effects], LATER)] if effects else []
    acted = False
    while left:
        part, before = left.pop()
        if acted and not go_on():
            errors |= {effect.name: word for rest, word in ((part, before), *left) for effect in rest}
            break
        acted = True
        try:
            found = act(part)
        except Unreachable as error:
            errors |= {effect.name: error_word(error) for rest, _ in ((part, before), *left) for effect in rest}
            break
        except Exception as error:  # a target may fail in any way; each lease is put back, none is lost
            word, middle = error_word(error), len(part) // 2
            if len(part) == 1:
                errors[part[0].name] = word
            else:
                left += [(part[middle:], word), (part[:middle], word)]
            continue
        for effect in part:
            if effect.name in found:
                proofs[effect.name] = found[effect.name]
            elif len(part) > 1:
                left.append(([effect], "no_proof"))  # alone it says why
            else:
                errors[effect.name] = "no_proof"
    return proofs, errors


def _by_place(leases: Iterable[Claimed]) -> list[list[Claimed]]:
    found: dict[str, list[Claimed]] = defaultdict(list)
    for lease in leases:
        found[repr(lease.connector)].append(lease)
    return list(found.values())


def error_word(error: Exception) -> str:
    """Return a short name of an error: its class and the target's own code, never its text, which might hold a secret (R55)."""
    code = error.code if isinstance(error, CallFailed) else getattr(error, "sqlstate", None)
    if (
        code is None and error.args and type(error.args[0]) is int
    ):  # MariaDB's and the system's errors carry their number so
        code = str(error.args[0])
    return f"{type(error).__name__} {code}" if isinstance(code, str) else type(error).__name__


def _left(open_: dict[str, Claimed], errors: Mapping[str, str]) -> dict[str, str]:
    """Take those that failed out of the open ones; return lease id -> error."""
    failed = {key: errors[lease.effect.name] for key, lease in open_.items() if lease.effect.name in errors}
    for key in failed:
        open_.pop(key)
    return failed


def _again(tx: Tx, lease: Lease) -> None:
    if lease.state == LeaseState.STUCK.value:
        advance(tx, lease, LeaseState.REVOKING, body={"cause": lease.cause, "again": True})


def _lag_ms(lease: Lease, now: datetime) -> int:
    """Return how long after the end this is; the end is when access was due to end or was ended, whichever came first."""
    end = min(lease.ends_at, lease.ended_at or lease.ends_at)
    return max(0, int((now - end).total_seconds() * 1000))


def same_effect(view: View, target: str, name: str) -> list[Lease]:
    """Return the leases on a target that name this effect and are live or being ended; seals unchecked.

    Whoever's they are: should a mistake in the register let two persons be one entry there, neither ends the other's.
    """
    rows = view.unchecked_all(
        select(Lease).where(Lease.target == target, Lease.state.in_((*LIVE_LEASES, *ENDING_LEASES)))
    )
    return [row for row in rows if cast("dict[str, JsonValue]", row.effect)["name"] == name]


def end_stale_issuing(broker: Broker) -> int:
    """End leases whose issuer died between intent and result: what they may have made is taken away, for nobody was shown it (R47)."""
    with broker.begin(SYSTEM) as tx:
        stale = tx.unchecked_all(
            select(Lease)
            .where(Lease.state == LeaseState.ISSUING.value, Lease.created_at <= tx.now - STALE_ISSUING)
            .limit(broker.settings.sweep.batch)
            .with_for_update(skip_locked=True)
        )
        cause = EndCause.FAILED.value
        changes: dict[str, object] = {"cause": cause, "ended_at": tx.now, "next_at": tx.now, "attempts": 0}
        if stale:
            advance_many(tx, [(lease, changes) for lease in stale], LeaseState.REVOKING, body={"cause": cause})
        return len(stale)


def require_stuck(view: View, lease_id: str) -> Lease:
    """Return a lease whose revocation does not succeed; raises NOT_FOUND or CONFLICT; the caller asks its seal."""
    lease = view.unchecked_get(Lease, lease_id)
    if lease is None:
        raise JitError(Kind.NOT_FOUND, "There is no such lease.")
    if lease.state != LeaseState.STUCK.value:
        raise JitError(Kind.CONFLICT, "Only a revocation that is stuck can be closed by hand.", state=lease.state)
    return lease


def close_stuck(tx: Tx, lease_id: str, *, reason: str) -> None:
    """Close a stuck lease by hand; the caller has counted the signatures. Reconcile keeps watching what it left on the target."""
    lease = require_stuck(tx, lease_id)
    advance(tx, lease, LeaseState.CLOSED, body={"cause": lease.cause}, texts={"reason": reason}, next_at=None)


def still_needed(view: View, broker: Broker, new: PolicySet) -> list[str]:
    """Return the targets with live credentials that a new set removes or points elsewhere, or whose entitlement in use it changes (R52)."""
    rows = view.unchecked_all(
        select(Lease).where(
            Lease.state.in_((*LIVE_LEASES, *ENDING_LEASES)), Lease.connector.not_in(broker.targets.inside())
        )
    )
    moved: set[str] = set()
    for row in rows:
        facts = new.targets.get(row.target)
        made_at = cast("dict[str, JsonValue]", row.effect).get("connector")
        if facts is None:
            moved.add(row.target)
        elif made_at is not None and row.target not in moved:
            grant = view.unchecked_get(Grant, row.grant_id)
            used = grant.entitlement if grant is not None else ""
            if not _still_there(broker, cast("dict[str, JsonValue]", made_at), facts.connector, used):
                moved.add(row.target)
    return sorted(moved)


def _still_there(
    broker: Broker, before: Mapping[str, JsonValue], after: Mapping[str, JsonValue], entitlement: str
) -> bool:
    """Say whether a lease that was made with one configuration can be ended with another, and its entitlement means the same."""
    meanings = [
        cast("Mapping[str, JsonValue]", found.get("entitlements", {})).get(entitlement) for found in (before, after)
    ]
    kind = broker.targets.kinds.get(str(before["kind"]))
    return kind is not None and meanings[0] == meanings[1] and kind.same_place(before, after)
