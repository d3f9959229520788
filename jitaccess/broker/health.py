"""Is the broker well, and what should somebody do? Findings as codes with numbers; the doors put them into words.

A finding says how bad it is, what it is about and nothing else; the list is complete: what is well is said too, so that silence never
passes for health. Reading it changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum, StrEnum

from sqlalchemy import func, select

from jitaccess.audit.checkpoints import SIGN_WITHIN
from jitaccess.broker import reconcile
from jitaccess.broker.context import Broker
from jitaccess.broker.restore import Damaged
from jitaccess.broker.wrong_clock import ahead
from jitaccess.domain.approval import indispensable
from jitaccess.domain.events import EventType
from jitaccess.domain.lifecycle import LeaseState
from jitaccess.identity import replacing
from jitaccess.identity.changes import pending
from jitaccess.identity.people import ADMINS, FOUNDERS, Staff, staff, usable_passkeys
from jitaccess.policy.evaluate import PolicySet
from jitaccess.store.db import View
from jitaccess.store.log import HEAD_ID
from jitaccess.store.tables import Event, Heartbeat, Lease, LogHead, Outbox

SLOW_REVOCATION = timedelta(seconds=60)
UNNUMBERED = timedelta(seconds=5)
SILENT_SWEEP = timedelta(minutes=3)
ALARM_DAYS = 7
FAILED_ATTEMPTS = 3
UNSEEN_PERIODS = 3
"""Looks at a target that did not take place before it is said."""
ALARMS = (EventType.ALARM_RAISED.value, EventType.SEAL_BROKEN.value, EventType.REGISTER_DIVERGED.value)


class Level(IntEnum):
    """How bad it is."""

    WELL = 0
    LOOK = 1
    ACT = 2


class Finding(StrEnum):
    """What is said."""

    GRANTING = "granting"
    CLOCK = "clock"
    POLICY = "policy"
    SWEEP = "sweep"
    REVOCATIONS = "revocations"
    STUCK = "stuck"
    ACCOUNTS = "accounts"
    UNSEEN = "unseen"
    LOG = "log"
    LOG_WHOLE = "log_whole"
    ALARMS = "alarms"
    RECORDS = "records"
    NOTICES = "notices"
    ADMINISTRATORS = "administrators"
    SINGLE_PASSKEY = "single_passkey"
    NO_PASSKEY = "no_passkey"
    INDISPENSABLE = "indispensable"
    HOLDS = "holds"
    CHANGES = "changes"
    RECOVERY = "recovery"
    PILOT = "pilot"


@dataclass(frozen=True, slots=True)
class Found:
    """One finding."""

    what: Finding
    level: Level
    count: int = 0
    names: tuple[str, ...] = ()
    """Whom or what it is about, for people."""
    codes: tuple[str, ...] = ()
    """Event types in which it is told, the most frequent first."""


def findings(view: View, broker: Broker, records: Sequence[Damaged]) -> list[Found]:
    """Return all findings, the worst first; `records` are the damaged ones, which only a look at the whole register finds."""
    policies = broker.policies.active_or_none(view)
    known = staff(view)
    found = [
        *_own(view, broker),
        *_heart(view),
        *_targets(view, broker),
        *_log(view, broker),
        *_people(known),
        _records(records),
        *_signers(view, policies, known),
        _counted(Finding.HOLDS, len(known.holds), Level.LOOK),
        _counted(Finding.CHANGES, len(pending(view)), Level.LOOK),
        _counted(Finding.RECOVERY, len(replacing.by_paper(view)), Level.ACT),
    ]
    if broker.site.pilot:
        found.append(Found(Finding.PILOT, Level.LOOK))
    return sorted(found, key=lambda one: -one.level)


NEEDED = frozenset({Finding.GRANTING, Finding.CLOCK, Finding.POLICY, Finding.SWEEP, Finding.LOG, Finding.LOG_WHOLE})
"""What a broker cannot work without; the other findings wait for people, and ending access must stay within their reach."""


def is_ready(view: View, broker: Broker) -> bool:
    """Say whether this broker can do its work: nothing that it needs asks for somebody to act."""
    found = [*_own(view, broker), *_heart(view), *_log(view, broker)]
    return not any(one.level is Level.ACT and one.what in NEEDED for one in found)


def _counted(what: Finding, count: int, level: Level) -> Found:
    return Found(what, level if count else Level.WELL, count)


def _own(view: View, broker: Broker) -> list[Found]:
    policies = broker.policies.active_or_none(view)
    return [
        Found(Finding.GRANTING, Level.WELL if broker.may_grant.is_set() else Level.ACT),
        _clock(broker),
        Found(Finding.POLICY, Level.WELL if policies is not None else Level.ACT),
    ]


def _clock(broker: Broker) -> Found:
    return _counted(Finding.CLOCK, int(broker.db.ahead().total_seconds()) if ahead(broker) else 0, Level.ACT)


def _heart(view: View) -> list[Found]:
    beat = view.scalar(select(Heartbeat.beat_at).where(Heartbeat.id == "sweep"))
    silent = beat is None or view.now - beat > SILENT_SWEEP
    slow = view.scalar(
        select(func.count()).where(
            Lease.state == LeaseState.REVOKING.value, Lease.ended_at < view.now - SLOW_REVOCATION
        )
    )
    stuck = view.scalar(select(func.count()).where(Lease.state == LeaseState.STUCK.value))
    unsent = view.scalar(select(func.count()).where(Outbox.sent_at.is_(None), Outbox.attempts >= FAILED_ATTEMPTS))
    return [
        Found(Finding.SWEEP, Level.ACT if silent else Level.WELL),
        _counted(Finding.REVOCATIONS, slow, Level.LOOK),
        _counted(Finding.STUCK, stuck, Level.ACT),
        _counted(Finding.NOTICES, unsent, Level.LOOK),
    ]


def _targets(view: View, broker: Broker) -> list[Found]:
    unseen = [one for one in reconcile.outside_targets(view, broker) if reconcile.is_due(view, one, UNSEEN_PERIODS)]
    return [
        _counted(Finding.ACCOUNTS, len(reconcile.open_findings(view)), Level.ACT),
        Found(Finding.UNSEEN, Level.ACT if unseen else Level.WELL, len(unseen), tuple(str(one.name) for one in unseen)),
    ]


def _log(view: View, broker: Broker) -> list[Found]:
    late = view.scalar(select(func.count()).where(Event.idx.is_(None), Event.at < view.now - UNNUMBERED))
    size = view.scalar(select(LogHead.size).where(LogHead.id == HEAD_ID)) or 0
    newest = broker.checkpoints.latest(view)
    signed = newest.size if newest is not None else 0
    if signed < size:
        first = view.scalar(select(Event.at).where(Event.idx == signed))
        late += size - signed if first is not None and first < view.now - SIGN_WITHIN else 0
    since = view.now - timedelta(days=ALARM_DAYS)
    alarms = select(Event.type, func.count()).where(Event.at >= since, Event.type.in_(ALARMS)).group_by(Event.type)
    counts = sorted(((int(count), kind) for kind, count in view.rows(alarms)), reverse=True)
    told = tuple(kind for _, kind in counts)
    return [
        _counted(Finding.LOG, late, Level.ACT),
        Found(Finding.LOG_WHOLE, Level.WELL if broker.db.log_whole else Level.ACT),
        Found(Finding.ALARMS, Level.ACT if told else Level.WELL, sum(count for count, _ in counts), codes=told),
    ]


def _records(found: Sequence[Damaged]) -> Found:
    names = tuple(f"{one.table} {one.about or one.key}" for one in found)
    return Found(Finding.RECORDS, Level.ACT if found else Level.WELL, len(found), names)


def _people(known: Staff) -> list[Found]:
    able = known.register.able
    usable = usable_passkeys(known)
    single = [person for person in able if usable[person] == 1]
    none = [person for person in able if usable[person] == 0]
    admins = (known.register.members(ADMINS) | known.register.members(FOUNDERS)) & able
    return [
        Found(Finding.ADMINISTRATORS, Level.ACT if len(admins) < 2 else Level.WELL, len(admins)),
        _counted(Finding.SINGLE_PASSKEY, len(single), Level.LOOK),
        _counted(Finding.NO_PASSKEY, len(none), Level.LOOK),
    ]


def _signers(view: View, policies: PolicySet | None, known: Staff) -> Sequence[Found]:
    """Say which rules one absence would lock; counted once for each version of the register."""
    if policies is None:
        return ()

    def count(_: View) -> tuple[str, ...]:
        found = []
        for rule in policies.rules.values():
            if rule.terms.approval is None:
                continue
            lonely = indispensable(rule.terms.approval, register=known.register)
            names = ", ".join(sorted(known.register.persons[person].name for person in lonely))
            if names:
                found.append(f"{rule.id}: {names}")
        return tuple(found)

    names = view.cached("indispensable", count)
    return (Found(Finding.INDISPENSABLE, Level.LOOK if names else Level.WELL, len(names), names),)
