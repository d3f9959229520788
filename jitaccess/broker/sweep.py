"""The heartbeat: what is due now? Ends what is over, finishes revocations, sends, signs, checks (R59-R62, TRAP-9).

Truth is in the rows; the ticker (APScheduler, in memory) only says "look now". So do the next end that is known, and a commit of this
process that ended a lease: neither access nor what is left of it on a target waits for the tick, which finds whatever these missed.
After a start everything overdue is ended before anything may be granted: `Ticker.may_grant`. The loop survives its own errors: a part that
fails is logged and tried again at the next tick, and never keeps the other parts from running. A jump of the wall clock stops issuing
and alarms.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from sqlalchemy import func, select

from jitaccess.audit.register import RegisterCheck
from jitaccess.broker import notify, wrong_clock
from jitaccess.broker.asking import escalate_due, redraw
from jitaccess.broker.channels import channels
from jitaccess.broker.context import Broker, advance_many
from jitaccess.broker.cut import CUT_LIMIT_S, Revoker, end_stale_issuing
from jitaccess.broker.hold import end_work_of_dead_passkeys
from jitaccess.broker.logout import LogoutSender
from jitaccess.broker.lost_votes import drop_all
from jitaccess.broker.pace import forget_old
from jitaccess.broker.reconcile import Reconciler
from jitaccess.broker.revoke import end_grants
from jitaccess.broker.schedule import start_due, warn_due
from jitaccess.domain.lifecycle import EndCause, GrantState, RequestState
from jitaccess.domain.values import SYSTEM
from jitaccess.errors import JitError
from jitaccess.store.db import Tx
from jitaccess.store.ids import new_secret
from jitaccess.store.tables import (
    AccessRequest,
    Challenge,
    Grant,
    Heartbeat,
    KeptAnswer,
    LogoutNotice,
    PendingAuthorization,
    RateCount,
)
from jitaccess.tokens.keys import due_for_retirement, retire_due

log = logging.getLogger(__name__)
REGISTER_EVERY_S = 60.0
HOUSEKEEPING_EVERY_S = 60.0
KEEP_CHALLENGES = timedelta(hours=1)
LOOK_EVERY_S = 5.0
"""How often it is asked which targets are due to be looked at; each has its own period of at most five minutes."""
TARGETS_WAIT_S = 0.2
"""How long a tick waits for targets: one that hangs must not hold up the next look at what is due."""
KEEP_LOGOUTS = timedelta(days=90)
KEEP_ANSWERS = timedelta(hours=24)
KEEP_COUNTS = timedelta(days=1)
"""Longer than any window in which calls are counted."""


@dataclass(frozen=True, slots=True)
class SweepReport:
    """What one sweep ended."""

    grants: int = 0
    unused: int = 0
    requests: int = 0
    escalated: int = 0
    leases: int = 0
    started: int = 0
    warned: int = 0


def start_due_grants(broker: Broker) -> int:
    """Start scheduled grants whose start has come; those that wait for their first use stay as they are."""
    return _batches(broker, lambda tx: start_due(tx, broker.settings.sweep.batch))


def warn_due_grants(broker: Broker) -> int:
    """Tell people whose access ends soon, where the rule says so."""
    return _batches(broker, lambda tx: warn_due(tx, broker.settings.sweep.batch))


def end_due_grants(broker: Broker) -> int:
    """End active grants whose time is over; batches, each in its own transaction, so that others get their turn between."""
    return _batches(
        broker,
        lambda tx: end_grants(
            tx,
            tx.unchecked_all(
                select(Grant)
                .where(Grant.state == GrantState.ACTIVE.value, Grant.ends_at <= tx.now)
                .order_by(Grant.ends_at)
                .limit(broker.settings.sweep.batch)
                .with_for_update(skip_locked=True)
            ),
            EndCause.EXPIRED,
            by="sweep",
        ),
    )


def end_unused_grants(broker: Broker) -> int:
    """End scheduled grants that were not activated in time."""
    return _batches(
        broker,
        lambda tx: end_grants(
            tx,
            tx.unchecked_all(
                select(Grant)
                .where(Grant.state == GrantState.SCHEDULED.value, Grant.activate_by <= tx.now)
                .limit(broker.settings.sweep.batch)
                .with_for_update(skip_locked=True)
            ),
            EndCause.UNUSED,
            by="sweep",
        ),
    )


def expire_requests(broker: Broker) -> int:
    """Expire requests that nobody answered in time."""

    def one(tx: Tx) -> int:
        due = tx.all(
            select(AccessRequest)
            .where(AccessRequest.state == RequestState.PENDING.value, AccessRequest.approve_by <= tx.now)
            .limit(broker.settings.sweep.batch)
            .with_for_update(skip_locked=True)
        )
        if due:
            advance_many(tx, [(row, {"decided_at": tx.now}) for row in due], RequestState.EXPIRED, body={})
            for row in due:
                notify.tell(tx, "request_decided", row.person_id, row.id)
        return len(due)

    return _batches(broker, one)


def _batches(broker: Broker, one: Callable[[Tx], int]) -> int:
    total = 0
    while True:
        with broker.begin(SYSTEM) as tx:
            done = one(tx)
        total += done
        if done < broker.settings.sweep.batch:
            return total


def sweep_once(broker: Broker, revoker: Revoker, *, wait_s: float = CUT_LIMIT_S) -> SweepReport:
    """Look once at everything that may be due; each part runs even when another fails. `wait_s`: how long to wait for targets."""
    _guarded("end what lost its issuer", lambda: end_stale_issuing(broker))
    found = {
        "started": _guarded("start what is due", lambda: start_due_grants(broker)),
        "grants": _guarded("end due grants", lambda: end_due_grants(broker)),
        "unused": _guarded("end unused grants", lambda: end_unused_grants(broker)),
        "warned": _guarded("warn before an end", lambda: warn_due_grants(broker)),
        "requests": _guarded("expire requests", lambda: expire_requests(broker)),
        "escalated": _guarded("ask other people", lambda: escalate_due(broker)),
        "leases": _guarded("finish revocations", lambda: revoker.run(wait_s)),
    }
    return SweepReport(**found)


def _guarded(what: str, act: Callable[[], int]) -> int:
    """Run one part; an error is logged and the part is tried again at the next tick (R59)."""
    try:
        return act()
    except Exception as error:  # the loop outlives every error of a part
        kind = error.kind.value if isinstance(error, JitError) else type(error).__name__
        log.warning("sweep: could not %s (%s); trying again", what, kind, exc_info=not isinstance(error, JitError))
        return 0


class Ticker:
    """Says "look now" at its intervals, in this process."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._worker = f"worker-{new_secret()[:12]}"
        self._revoker = Revoker(broker, self._worker)
        self._logouts = LogoutSender(broker)
        self._reconciler = Reconciler(broker)
        self._register = RegisterCheck(broker.db)
        self._ways = channels(broker.settings)
        self._scheduler = BackgroundScheduler(
            jobstores={"default": MemoryJobStore()},
            executors={"default": ThreadPoolExecutor(8 + len(self._ways))},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
            timezone="UTC",
        )
        self._register_seen = -1
        """The register's version up to which it was looked at whose work and signatures no longer count."""
        self._drift_from: float | None = None
        self._was_ahead = False
        self._sweeps = False
        """Whether this process is the one that ends what is over by time."""
        self._next_end: datetime | None = None
        self._ended_until = broker.db.now()
        """What ends after this was not seen yet by the thread that ends at once."""
        self._started = threading.Event()
        self._stopping = threading.Event()
        self._hurry = threading.Thread(target=self._end_at_once, name="end-at-once", daemon=True)

    def start(self) -> None:
        """End what is overdue, check the register, and only then let grants be given; then tick."""
        self._sweeps = True
        self.permit()
        self._beat()  # otherwise health would call it silent until housekeeping comes by for the first time
        self._note_clock()
        settings = self._broker.settings
        self._every(
            settings.sweep.every_s, "sweep", lambda: sweep_once(self._broker, self._revoker, wait_s=TARGETS_WAIT_S)
        )
        self._every(settings.sweep.every_s, "rights", self.look_at_rights)
        self._every(settings.log.checkpoint_every_s, "checkpoint", self._broker.checkpoints.make)
        self._every(settings.sweep.every_s, "logout notices", self._logouts.run)
        self._every(settings.sweep.every_s * 2, "notices", lambda: notify.divide(self._broker, self._ways))
        for way in self._ways.values():  # a job for each: a channel that hangs holds up itself alone (T-22)
            self._every(settings.sweep.every_s * 2, f"notices-{way.name}", partial(notify.send, self._broker, way))
        self._watch()
        self._every(HOUSEKEEPING_EVERY_S, "housekeeping", self.housekeeping)
        self._every(LOOK_EVERY_S, "reconcile", self._reconciler.run)
        self._scheduler.start()
        self._started.set()

    def watch(self) -> None:
        """Let this process give grants where a worker ticks beside it; what each process must know for itself is looked at here."""
        self.permit()
        self._note_clock()
        self._watch()
        self._scheduler.start()
        self._started.set()

    def _watch(self) -> None:
        self._hurry.start()
        self._every(REGISTER_EVERY_S, "register", self._register.check)
        self._every(1.0, "clock", self._watch_clock)

    def permit(self) -> None:
        """End what is overdue, check the register, and let this process give grants; also where a worker ticks beside it."""
        wrong_clock.look_at_start(self._broker)
        overdue = self._end_overdue()
        self._register.check()
        self._broker.may_grant.set()
        log.info("ready: %d overdue grants ended", overdue)

    def _end_overdue(self) -> int:
        """What fell due while nobody ran ends now, before the first new grant. Errors here stop the start: nothing is granted.

        In the store all of it ends; on targets it is begun, each in a thread of its own: one that hangs must not hold up the start.
        """
        ended = end_due_grants(self._broker) + end_unused_grants(self._broker)
        expire_requests(self._broker)
        self._revoker.run(wait_s=0)
        return ended

    def _end_at_once(self) -> None:
        """Take up what this process has just ended, at its targets and at its clients, and where it sweeps what is over by time.

        It sleeps until the next end that is known, so that nobody's access goes on until a tick comes by (ADR 69). What could not be ended
        then is not asked for again here: an error leaves it to the tick.
        """
        ending = self._broker.ending
        while not self._stopping.is_set():
            end_s = self._until_next_end()
            ending.wait(end_s)
            if self._stopping.is_set():
                return
            if self._next_end is not None and self._next_end <= (now := self._broker.db.now()):
                self._ended_until = now
                _guarded(
                    "end due grants at once", lambda: end_due_grants(self._broker)
                )  # which wakes us where it ended any
            if ending.is_set():
                ending.clear()  # before looking: what ends from here on wakes anew
                _guarded("end at once", lambda: self._revoker.run(wait_s=0))
                _guarded("tell of an end at once", lambda: self._logouts.run(wait_s=0))

    def _until_next_end(self) -> float | None:
        """Return for how many seconds no grant ends by itself, at most until the next tick; None where another process sweeps."""
        if not self._sweeps:
            return None
        every_s = self._broker.settings.sweep.every_s
        _guarded("look for the next end", self._look_for_next_end)
        if self._next_end is None:
            return every_s
        return min(max((self._next_end - self._broker.db.now()).total_seconds(), 0.0), every_s)

    def _look_for_next_end(self) -> int:
        self._next_end = None
        ends = select(func.min(Grant.ends_at)).where(
            Grant.state == GrantState.ACTIVE.value, Grant.ends_at > self._ended_until
        )
        with self._broker.read() as view:
            self._next_end = view.scalar(ends)
        return 1

    def _every(self, seconds: float, name: str, act: Callable[[], object]) -> None:
        def counted() -> int:
            act()
            return 1

        def tick() -> None:
            _guarded(name, counted)

        self._scheduler.add_job(tick, "interval", seconds=seconds, id=name)

    def stop(self) -> None:
        """Stop ticking."""
        self._stopping.set()
        self._broker.ending.set()
        if self._started.is_set():
            self._scheduler.shutdown(wait=True)
            self._hurry.join()
        self._revoker.close()
        self._logouts.close()
        self._reconciler.close()

    def look_now(self) -> SweepReport:
        """Sweep at once, in the caller's thread."""
        self.look_at_rights()
        return sweep_once(self._broker, self._revoker)

    def look_at_rights(self) -> None:
        """End what passkeys filed or opened that may not be used any more, drop the signatures of who lost the right, and ask
        others in the place of who was drawn by lot and cannot sign; looks only when the register changed."""
        with self._broker.read() as view:
            version = view.register_version()
        if version == self._register_seen:
            return
        with self._broker.begin(SYSTEM) as tx:
            end_work_of_dead_passkeys(tx)
        drop_all(self._broker)
        redraw(self._broker)
        self._register_seen = version

    # -- clock

    def _note_clock(self) -> None:
        clock = self._broker.clock
        self._drift_from = clock.now().timestamp() - clock.monotonic()
        self._was_ahead = wrong_clock.ahead(self._broker)

    def _watch_clock(self) -> None:
        """Stop issuing when wall time and monotonic time part by more than the limit (R62)."""
        clock = self._broker.clock
        drift = clock.now().timestamp() - clock.monotonic()
        ahead = wrong_clock.ahead(self._broker)
        if self._drift_from is None:
            return
        parted = abs(drift - self._drift_from) > self._broker.settings.sweep.jump_s
        if parted or (ahead and not self._was_ahead):  # or it went forward and back again between two looks
            wrong_clock.alarm(self._broker, int(drift - self._drift_from))
            self._drift_from = drift
        self._was_ahead = ahead

    # -- housekeeping

    def housekeeping(self) -> None:
        """Delete book-keeping that is over, note that this process lives, retire keys that are due, look for times to come."""
        wrong_clock.end_what_was_given_in_the_future(self._broker)
        with self._broker.begin(SYSTEM) as tx:
            tx.delete(Challenge, Challenge.expires_at < tx.now - KEEP_CHALLENGES)
            tx.delete(PendingAuthorization, PendingAuthorization.expires_at < tx.now)
            tx.delete(LogoutNotice, LogoutNotice.done_at < tx.now - KEEP_LOGOUTS)
            forget_old(tx)
            tx.delete(RateCount, RateCount.window_at < tx.now - KEEP_COUNTS)
            tx.delete(KeptAnswer, KeptAnswer.created_at < tx.now - KEEP_ANSWERS)
        self._beat()
        with self._broker.read() as view:
            self._broker.keyring.refresh(view)
            due = due_for_retirement(view, view.now)
        if due:
            with self._broker.begin(SYSTEM) as tx:
                retire_due(tx)

    def _beat(self) -> None:
        """Note that this process lives."""
        with self._broker.begin(SYSTEM) as tx:
            beat = tx.get(Heartbeat, "sweep")
            if beat is None:
                tx.insert(Heartbeat, id="sweep", beat_at=tx.now)
            else:
                tx.update(beat, beat_at=tx.now)
