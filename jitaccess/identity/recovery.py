"""What if every founder's passkey is gone? Recovery with k of n paper keys: local, public, slow and vetoable (R9, T-25).

The keys are presented on the broker's own host. That starts a recovery of one founder's account, told at once to all founders, the log and
every page. For 72 hours any founder may veto with a signature; then it gives an enrolment link whose use ends all of the
account's old passkeys and sessions. A paper key counts once, also when it is vetoed.
"""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import select

from jitaccess.domain.events import EventType
from jitaccess.domain.wording import word
from jitaccess.errors import JitError, Kind
from jitaccess.identity.enrolment import RECOVER, create_link, tell
from jitaccess.identity.genesis import normal_paper_key
from jitaccess.identity.people import FOUNDERS, register
from jitaccess.identity.site import Site
from jitaccess.store.db import Tx, View
from jitaccess.store.ids import hash_secret
from jitaccess.store.tables import Account, Recovery, RecoveryKey
from jitaccess.told import told

DELAY = timedelta(hours=72)


def start(tx: Tx, *, account_id: str, paper_keys: Sequence[str]) -> Recovery:
    """Start a recovery; raises FORBIDDEN when the keys are too few, unknown or used."""
    account = tx.require(Account, account_id, "There is no such account.")
    person = register(tx).persons.get(account.person_id)
    if person is None or FOUNDERS not in person.groups:
        raise JitError(Kind.FORBIDDEN, "Paper keys recover founders only; an administrator recovers everybody else.")
    if waiting(tx):
        raise JitError(Kind.CONFLICT, "A recovery is under way already.")
    hashes = {hash_secret(normal_paper_key(text)) for text in paper_keys}
    found = tx.all(select(RecoveryKey).where(RecoveryKey.secret_hash.in_(hashes), RecoveryKey.used_at.is_(None)))
    if not found or len(found) < found[0].threshold or len(found) != len(hashes):
        raise JitError(Kind.FORBIDDEN, "These are not enough different, unused paper keys.")
    key = tx.new_id()
    event = tx.record(
        EventType.RECOVERY_STARTED,
        subject={"person": account.person_id, "account": account_id, "recovery": key},
        body={"keys": len(found)},
    )
    for paper in found:
        tx.update(paper, event, used_at=tx.now)
    row = tx.insert(
        Recovery,
        event,
        id=key,
        account_id=account_id,
        status="waiting",
        started_at=tx.now,
        ripe_at=tx.now + DELAY,
    )
    for founder in register(tx).members(FOUNDERS):
        tell(tx, "recovery_started", founder, key)
    return row


def waiting(view: View) -> list[Recovery]:
    """Return recoveries under way: shown on every page."""
    return view.all(select(Recovery).where(Recovery.status == "waiting"))


def veto(tx: Tx, recovery_id: str, *, by: str) -> None:
    """End a recovery; the caller has checked the founder's signature."""
    row = tx.require(Recovery, recovery_id, "There is no such recovery.")
    event = tx.record(EventType.RECOVERY_VETOED, subject={"recovery": recovery_id, "person": by})
    tx.update(row, event, expect={"status": "waiting"}, status="vetoed", ended_at=tx.now, ended_by=by)


def finish(tx: Tx, site: Site, recovery_id: str) -> str:
    """Return the enrolment link of a ripe recovery; raises CONFLICT before its time or after a veto."""
    row = tx.require(Recovery, recovery_id, "There is no such recovery.")
    if row.status != "waiting":
        raise JitError(Kind.CONFLICT, told("This recovery was %(status)s already.", status=word(row.status)))
    if tx.now < row.ripe_at:
        raise JitError(
            Kind.CONFLICT, told("This recovery waits until %(time)s UTC.", time=format(row.ripe_at, "%Y-%m-%d %H:%M"))
        )
    event = tx.record(EventType.RECOVERY_FINISHED, subject={"recovery": recovery_id, "account": row.account_id})
    tx.update(row, event, expect={"status": "waiting"}, status="finished", ended_at=tx.now, ended_by="local")
    return create_link(tx, site, account_id=row.account_id, by="recovery", purpose=RECOVER)
