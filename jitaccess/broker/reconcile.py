"""Is everything on the targets explained? Looks at each at least every five minutes, and on demand (R57).

What no live lease and no exception of the signed policy explains is recorded, alarmed, told to administrators and shown on a page;
where the policy says so it is locked or removed. An account with the name of a lease that has ended is always removed. Each target is
looked at in a thread of its own: one that hangs delays no other, and one that cannot be looked at is an alarm too.
"""

import hashlib
import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import cast

from sqlalchemy import or_, select

from jitaccess.broker.compare import LOCKED, LOST, Excepted, Finding, Remembered, What, compare, merged, mighty
from jitaccess.broker.context import Broker
from jitaccess.broker.cut import error_word
from jitaccess.broker.revoke import ENDING_LEASES, LIVE_GRANTS, LIVE_LEASES, end_grant
from jitaccess.connectors.contract import Account, Connector, Effect, EnforcesExpiry, Inventory, Quarantined, Undoing
from jitaccess.domain.events import EventType
from jitaccess.domain.lifecycle import EndCause
from jitaccess.domain.values import SYSTEM
from jitaccess.identity.enrolment import tell
from jitaccess.identity.people import admins
from jitaccess.policy.evaluate import TargetFacts
from jitaccess.proof.canonical import JsonValue
from jitaccess.store.db import PendingEvent, Tx, View
from jitaccess.store.tables import Grant, Heartbeat, Lease, TargetAccount

log = logging.getLogger(__name__)
EVERY = timedelta(minutes=5)
"""R57: at least this often."""
UNSEEN_AFTER = 3
"""Looks that failed in a row before it is alarmed."""
MAX_TARGETS = 1_000


@dataclass(frozen=True, slots=True)
class Looked:
    """What one look at a target brought."""

    target: str
    coverage: frozenset[str]
    findings: tuple[Finding, ...]
    """All that are open."""
    fresh: int
    """How many of them were not known before."""


@dataclass(frozen=True, slots=True)
class _Leases:
    """What the leases of a target explain."""

    explained: Mapping[str, Account]
    ending: Mapping[str, Account]
    grants: Mapping[str, str]
    """Account name -> grant of the live lease that explains it."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of the accounts of a target from before."""

    rows: Mapping[str, TargetAccount]
    lost: frozenset[str]
    """Accounts that were known, whose records somebody changed or deleted since."""

    @classmethod
    def of(cls, tx: Tx, target: str, names: Iterable[str]) -> "_Known":
        """Read it; a record that is not as the log knows it is alarmed, and says nothing."""
        found = tx.unchecked_all(select(TargetAccount).where(TargetAccount.target == target))
        rows = {row.name: row for row in found if tx.whole(row)}
        there = {row.id for row in found}
        keys = {name: key_of(target, name) for name in names if name not in rows}
        lost = {name for name, key in keys.items() if key in there or tx.known_content(TargetAccount, key) is not None}
        return cls(rows, frozenset(lost))

    def remembered(self) -> dict[str, Remembered]:
        """Return account -> what is remembered of it."""
        return {name: _remembered(row) for name, row in self.rows.items()} | dict.fromkeys(self.lost, LOST)


def key_of(target: str, account: str = "") -> str:
    """Return the row's key of an account on a target: names on targets may be longer than a key."""
    return hashlib.sha256(f"{target}\0{account}".encode()).hexdigest()


def look(broker: Broker, target: TargetFacts) -> Looked:
    """Look at one target, record what is new, act as the policy says. Raises whatever the target raises."""
    connector = broker.targets.at(target.id, target.connector)
    with broker.read() as view:
        before = _leases(view, connector, target)
    with broker.targets.slot(target.id):
        seen = connector.observe()
    with broker.begin(SYSTEM) as tx:
        # A lease that began or ended while the target was being read explains its account all the same.
        after = _leases(tx, connector, target)
        leases = _Leases(
            _lasting(before.explained, after.explained),
            {**before.ending, **after.ending},
            {**before.grants, **after.grants},
        )
        known = _Known.of(tx, target.id, {*seen.accounts, *leases.explained})
        first = last_look(tx, target.id) is None and not known.rows and not known.lost
        findings = _findings(broker, target, seen, leases, known, first=first)
        fresh = [one for one in findings if _note(tx, target, _seen(seen, one), one, known)]
        _settle_others(tx, target, seen, leases, known, {one.account for one in findings})
        for one in fresh:
            _alarm(tx, target, one)
        _beat(tx, target.id)
    for one in findings:
        _act(broker, connector, target, one, leases, _seen(seen, one))
    return Looked(target.id, seen.coverage, tuple(findings), len(fresh))


def _lasting(before: Mapping[str, Account], after: Mapping[str, Account]) -> dict[str, Account]:
    """Return what leases explain that were live before the look or after it; only of those that were both the account must be there."""
    both = {**before, **after}
    for name in both.keys() - {
        name for name in before.keys() & after.keys() if before[name].number == after[name].number
    }:
        both[name] = replace(both[name], number="")
    return both


def _seen(seen: Inventory, finding: Finding) -> Account:
    """Return the account that a finding is about; what is missing has nothing, and nobody can log in with it."""
    return seen.accounts.get(finding.account) or Account(finding.account, enabled=False)


def _leases(view: View, connector: Connector, target: TargetFacts) -> _Leases:
    rows = view.unchecked_all(
        select(Lease).where(Lease.target == target.id, Lease.state.in_((*LIVE_LEASES, *ENDING_LEASES)))
    )
    explained: dict[str, Account] = {}
    grants: dict[str, str] = {}
    ending: dict[str, Account] = {}
    for row in rows:
        if not view.intact(row):
            continue  # a row that somebody changed or wrote by SQL explains nothing
        account = connector.expects(Effect.from_json(row.effect), row.ends_at)
        if row.state in ENDING_LEASES:
            ending[account.name] = _joined(ending.get(account.name), account)
        else:
            explained[account.name] = _joined(explained.get(account.name), account)
            grants[account.name] = row.grant_id
    return _Leases(explained, {name: account for name, account in ending.items() if name not in explained}, grants)


def _joined(one: Account | None, two: Account) -> Account:
    """Return what two leases that share an account explain together."""
    if one is None or one.expires_at is None or two.expires_at is None:
        return two if one is None else one
    return Account(two.name, one.rights | two.rights, expires_at=max(one.expires_at, two.expires_at))


def exceptions_of(target: TargetFacts) -> dict[str, Excepted]:
    """Return the accounts that the signed policy names for this target."""
    found: dict[str, Excepted] = {}
    for part in cast("list[dict[str, JsonValue]]", target.reconcile.get("exceptions", [])):
        rights = cast("list[str] | None", part["rights"])
        found[str(part["account"])] = Excepted(None if rights is None else frozenset(rights))
    return found


def lent_roles(connector: Mapping[str, JsonValue]) -> frozenset[str]:
    """Return the roles that the entitlements of a signed configuration name, as findings call them."""
    entitlements = cast("Mapping[str, Mapping[str, JsonValue]]", connector.get("entitlements", {}))
    found: set[str] = set()
    for meaning in entitlements.values():
        for words in (meaning.get("roles"), [meaning.get("role")]):
            names = [word for word in words if isinstance(word, str)] if isinstance(words, list) else []
            found |= {form for name in names for form in (name, f"role {name}")}
    return frozenset(found)


def _remembered(row: TargetAccount) -> Remembered:
    return Remembered(
        frozenset(cast("list[str]", row.rights)),
        row.fingerprint,
        row.gone_at is not None,
        What(row.finding) if row.finding is not None else None,
        frozenset(cast("list[str]", row.extra)),
        row.acted == "held",
    )


def _findings(
    broker: Broker,
    target: TargetFacts,
    seen: Inventory,
    leases: _Leases,
    known: _Known,
    *,
    first: bool,
) -> list[Finding]:
    kind = broker.targets.kind(str(target.connector["kind"]))
    return list(
        compare(
            seen,
            explained=leases.explained,
            ending=leases.ending,
            excepted=exceptions_of(target),
            known=known.remembered(),
            enforced=kind.enforced(target.connector) is not EnforcesExpiry.NOTHING,
            first=first,
            named=lent_roles(target.connector),
        )
    )


# ---------------------------------------------------------------- writing down


def _note(tx: Tx, target: TargetFacts, account: Account, finding: Finding, known: _Known) -> bool:
    """Record a finding; True when it is to be alarmed: it was not open already, or what was dealt with is usable again.

    What was last known as right stays what it was.
    """
    row = known.rows.get(account.name)
    same = row is not None and row.finding == finding.what.value and row.extra == list(finding.extra)
    if row is not None and same and not _back(row, account):
        return False
    body: dict[str, JsonValue] = {"what": finding.what.value, "extra": len(finding.extra), "sessions": account.sessions}
    event = tx.record(
        EventType.ACCOUNT_FOUND, subject={"target": target.id}, body=body, texts={"account": account.name}
    )
    values: dict[str, object] = {"finding": finding.what.value, "extra": [*finding.extra], "found_at": tx.now}
    if row is None:
        lost = account.name in known.lost
        values |= {"rights": [], "fingerprint": LOST.fingerprint} if lost else {}
        _write(tx, event, target.id, account, values, lost=lost)
    else:
        tx.update(row, event, expect=None, gone_at=None, acted=None, statement=None, **values)
    return True


def _back(row: TargetAccount, account: Account) -> bool:
    """Say whether somebody undid what the broker did: an account that was locked or removed can be used."""
    return row.acted in ("held", "removed") and (account.enabled or bool(account.sessions))


def _write(
    tx: Tx, event: PendingEvent, target: str, account: Account, values: Mapping[str, object], *, lost: bool
) -> None:
    key = key_of(target, account.name)
    full = {
        "id": key,
        "target": target,
        "name": account.name,
        "rights": sorted(account.rights),
        "fingerprint": account.fingerprint,
        "first_seen_at": tx.now,
        "extra": [],
        **values,
    }
    if lost:
        tx.observe_anew(TargetAccount, event, key, dict.fromkeys(TargetAccount.__table__.columns.keys()) | full)
    else:
        tx.insert(TargetAccount, event, **full)


def _settle_others(
    tx: Tx, target: TargetFacts, seen: Inventory, leases: _Leases, known: _Known, found: set[str]
) -> None:
    """Remember what is right as it is now, and close the findings that are no more.

    Of a live lease's account, what proves its person is remembered from the first look on.
    """
    for name, account in seen.accounts.items():
        if name in leases.explained:
            wanted = bool(account.fingerprint) and name not in known.rows and name not in known.lost
        else:
            wanted = name not in found and name not in leases.ending
        if wanted:
            _remember(tx, target, account, known)
    for name, row in known.rows.items():
        if name not in seen.accounts and row.gone_at is None and name not in found:
            event = tx.record(EventType.ACCOUNT_SETTLED, subject={"target": target.id}, body={"now": "gone"})
            tx.update(row, event, gone_at=tx.now, finding=None, extra=[], statement=None)


def _remember(tx: Tx, target: TargetFacts, account: Account, known: _Known) -> None:
    rights, row = sorted(account.rights), known.rows.get(account.name)
    if row is None:
        event = tx.record(EventType.ACCOUNT_NOTED, subject={"target": target.id}, texts={"account": account.name})
        _write(tx, event, target.id, account, {}, lost=account.name in known.lost)
        return
    fingerprint = merged(row.fingerprint, account.fingerprint)
    if row.finding is None and row.gone_at is None and row.rights == rights and fingerprint == row.fingerprint:
        return
    now = "changed" if row.finding is None else "locked" if row.acted == "held" else "explained"
    event = tx.record(EventType.ACCOUNT_SETTLED, subject={"target": target.id}, body={"now": now})
    # What the owner had to do is done; what was locked and is to be deleted still waits for them.
    waits = {} if row.acted != "cannot" else {"acted": None, "statement": None}
    tx.update(row, event, rights=rights, fingerprint=fingerprint, finding=None, extra=[], gone_at=None, **waits)


def _alarm(tx: Tx, target: TargetFacts, finding: Finding) -> None:
    tx.record(EventType.ALARM_RAISED, subject={"target": target.id}, body={"what": f"account_{finding.what.value}"})
    for person in admins(tx):
        tell(tx, "account_found", person, key_of(target.id, finding.account))


def _beat(tx: Tx, target: str) -> None:
    key = key_of(target)
    beat = tx.get(Heartbeat, key)
    if beat is None:
        tx.insert(Heartbeat, id=key, beat_at=tx.now)
    else:
        tx.update(beat, beat_at=tx.now)


# ---------------------------------------------------------------- acting


def _act(
    broker: Broker, connector: Connector, target: TargetFacts, finding: Finding, leases: _Leases, account: Account
) -> None:
    """Do what the policy says: `alarm` nothing more, `hold` lock, `remove` delete; leftovers of ours always go.

    Only an account that nothing explains is removed: one that was known and has more rights now is at most locked.
    """
    wanted = str(target.reconcile.get("unknown_account", "alarm"))
    remove = finding.what is What.LEFTOVER or (wanted == "remove" and finding.what in (What.NEW, What.RESURRECTED))
    if wanted == "alarm" and finding.what is not What.LEFTOVER:
        return
    if finding.account in leases.explained:
        _end_grant(broker, leases.grants[finding.account])
        return
    if finding.account in exceptions_of(target) and finding.what is not What.RESURRECTED:
        return  # the owner's own account with more rights or another key: people decide
    with broker.read() as view:
        row = view.get(TargetAccount, key_of(target.id, finding.account))
        if row is not None and row.acted in ("held", "removed") and not remove and not _back(row, account):
            return
    try:
        with broker.targets.slot(target.id):
            done = _done(connector, finding, remove=remove)
    except Exception as error:  # a target may fail in any way; the finding stays open and the next look tries again
        log.warning("an account on %s could not be dealt with (%s)", target.id, error_word(error))
        return
    _handled(broker, target, finding, done, remove=remove)


def _done(connector: Connector, finding: Finding, *, remove: bool) -> Quarantined:
    """Lock or remove what the finding is about; of what is locked already and can do too much, say what its owner has to run."""
    rights = [right for right in finding.extra if right != LOCKED]
    if finding.what is not What.RAISED and (remove or LOCKED not in finding.extra or not mighty(rights)):
        return connector.quarantine(finding.account, remove=remove)
    return Quarantined(False, connector.undoing(finding.account, rights) if isinstance(connector, Undoing) else "")


def _end_grant(broker: Broker, grant_id: str) -> None:
    with broker.begin(SYSTEM, lock=[(Grant, grant_id)]) as tx:
        grant = tx.unchecked_get(Grant, grant_id)
        if grant is not None and grant.state in LIVE_GRANTS:
            end_grant(tx, grant, EndCause.HELD, by="reconcile")


def _handled(broker: Broker, target: TargetFacts, finding: Finding, done: Quarantined, *, remove: bool) -> None:
    acted = "cannot" if not done.done else "removed" if remove and not done.statement else "held"
    with broker.begin(SYSTEM) as tx:
        row = tx.get(TargetAccount, key_of(target.id, finding.account))
        if row is None or (row.acted == acted and row.statement == (done.statement or None)):
            return
        event = tx.record(EventType.ACCOUNT_HANDLED, subject={"target": target.id}, body={"acted": acted})
        tx.update(row, event, acted=acted, statement=done.statement or None)
        if acted == "cannot":
            for person in admins(tx):
                tell(tx, "account_found", person, row.id)


# ---------------------------------------------------------------- when


def open_findings(view: View) -> list[TargetAccount]:
    """Return what is unexplained on any target now, or waits for its owner, newest first."""
    return view.usable(
        select(TargetAccount)
        .where(or_(TargetAccount.finding.is_not(None), TargetAccount.statement.is_not(None)))
        .order_by(TargetAccount.found_at.desc())
    )


def outside_targets(view: View, broker: Broker) -> list[TargetFacts]:
    """Return the targets of the active policy on which something can be made."""
    policies = broker.policies.active_or_none(view)
    if policies is None:
        return []
    return [
        facts
        for facts in policies.targets.values()
        if (kind := broker.targets.kinds.get(str(facts.connector["kind"]))) is not None and kind.outside
    ]


def last_look(view: View, target: str) -> Heartbeat | None:
    """Return when a target was last looked at with success."""
    return view.get(Heartbeat, key_of(target))


def every(facts: TargetFacts) -> timedelta:
    """Return how often a target is looked at."""
    return timedelta(seconds=cast(int, facts.reconcile.get("every_s", EVERY.total_seconds())))


def is_due(view: View, facts: TargetFacts, periods: int = 1) -> bool:
    """Say whether the last look is so many periods ago, or lies in the future, where no look can be."""
    beat = last_look(view, facts.id)
    return beat is None or beat.beat_at > view.now or view.now - beat.beat_at >= periods * every(facts)


class Reconciler:
    """Looks at each target when it is due, in a thread of its own."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._pool = ThreadPoolExecutor(max_workers=MAX_TARGETS, thread_name_prefix="look")
        self._busy: dict[str, Future[None]] = {}
        self._failed: dict[str, int] = {}
        self._looked: dict[str, float] = {}
        """Target -> when this process last looked, by the monotonic clock: a row may be changed, this not."""
        self._guard = threading.Lock()

    def run(self) -> int:
        """Start a look at every target that is due and not being looked at; return how many."""
        with self._broker.read() as view:
            due = [facts for facts in outside_targets(view, self._broker) if self._due(view, facts)]
        with self._guard:
            self._busy = {key: future for key, future in self._busy.items() if not future.done()}
            due = [facts for facts in due if facts.id not in self._busy]
            for facts in due:
                self._busy[facts.id] = self._pool.submit(self._look, facts)
        return len(due)

    def _due(self, view: View, facts: TargetFacts) -> bool:
        """Say whether it is time: by the row that all processes share, or, whatever that says, twice as long after our own last look."""
        if is_due(view, facts):
            return True
        last = self._looked.setdefault(facts.id, self._broker.clock.monotonic())
        return self._broker.clock.monotonic() - last >= 2 * every(facts).total_seconds()

    def _look(self, facts: TargetFacts) -> None:
        try:
            look(self._broker, facts)
        except Exception as error:  # a target may fail in any way; it is tried again at the next tick
            self._note_failure(facts, error_word(error))
        else:
            self._failed.pop(facts.id, None)
            self._looked[facts.id] = self._broker.clock.monotonic()

    def _note_failure(self, facts: TargetFacts, word: str) -> None:
        failed = self._failed[facts.id] = self._failed.get(facts.id, 0) + 1
        log.warning("the target %s could not be looked at (%s)", facts.id, word)
        if failed != UNSEEN_AFTER:
            return
        with self._broker.begin(SYSTEM) as tx:
            body: dict[str, JsonValue] = {"what": "target_unseen", "error": word[:64]}
            tx.record(EventType.ALARM_RAISED, subject={"target": facts.id}, body=body)
            for person in admins(tx):
                tell(tx, "target_unseen", person, facts.id)

    def wait(self) -> None:
        """Wait until every look that was started is over; for tests and the command line."""
        with self._guard:
            running: Sequence[Future[None]] = list(self._busy.values())
        for future in running:
            future.result()

    def close(self) -> None:
        """Start no more looks, and wait for running ones: they write into the store, which is closed after this."""
        self._pool.shutdown(wait=True, cancel_futures=True)
