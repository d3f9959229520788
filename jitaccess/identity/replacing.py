"""Which replacement of somebody's passkeys is under way, and what does its end bring? (R9, R10, T-25)

Two roads lead to a recovery link: paper keys on the broker's own host (`identity.recovery`), and the signatures of two administrators
(`broker.changes`). Both are a row that everybody concerned hears of, that waits, and that can be stopped until its link is used. Whether a
link still counts is asked of that row at every step; nothing is spent before the new passkey is there.
"""

from sqlalchemy import select

from jitaccess.domain.events import EventType
from jitaccess.store.db import Tx, View
from jitaccess.store.tables import Account, Enrolment, Passkey, Recovery, RecoveryKey

WAITING, STOPPED, FINISHED = "waiting", "vetoed", "finished"


def under_way(view: View) -> list[Recovery]:
    """Return every replacement that has neither ended nor been stopped."""
    return view.usable(select(Recovery).where(Recovery.status == WAITING).order_by(Recovery.started_at))


def by_paper(view: View) -> list[Recovery]:
    """Return those with paper keys: shown on every page."""
    return [row for row in under_way(view) if row.change_id is None]


def of_account(view: View, account_id: str) -> Recovery | None:
    """Return the replacement under way for an account."""
    return next((row for row in under_way(view) if row.account_id == account_id), None)


def of_person(view: View, person_id: str) -> list[Recovery]:
    """Return the replacements under way for all accounts of a person."""
    own = {account.id for account in view.all(select(Account).where(Account.person_id == person_id))}
    return [row for row in under_way(view) if row.account_id in own]


def ripe(view: View, account_id: str) -> Recovery | None:
    """Return the replacement of an account whose time has come."""
    row = of_account(view, account_id)
    return row if row is not None and view.now >= row.ripe_at else None


def was_enrolled(view: View, account_id: str) -> bool:
    """Say whether an account ever had a passkey, removed ones included: then a plain enrolment link is not for it."""
    return view.scalar(select(Passkey.id).where(Passkey.account_id == account_id).limit(1)) is not None


def stop(tx: Tx, row: Recovery, *, by: str) -> None:
    """Stop a replacement; paper keys that were presented for it stay good. The caller has checked who may."""
    event = tx.record(EventType.RECOVERY_VETOED, subject={"recovery": row.id, "account": row.account_id, "person": by})
    tx.update(row, event, expect={"status": WAITING}, status=STOPPED, ended_at=tx.now, ended_by=by)
    for key in _presented(tx, row):
        tx.update(key, event, recovery_id=None)
    void_links(tx, row.account_id)


def void_links(tx: Tx, account_id: str) -> None:
    """End what recovery links of an account are still open: only the newest one ever counts."""
    open_ = select(Enrolment).where(
        Enrolment.account_id == account_id, Enrolment.used_at.is_(None), Enrolment.expires_at > tx.now
    )
    for link in tx.all(open_):
        event = tx.record(
            EventType.ENROLMENT_REFUSED,
            subject={"account": account_id, "enrolment": link.id},
            body={"reason": "replaced_or_stopped"},
        )
        tx.update(link, event, expires_at=tx.now)


def finish(tx: Tx, row: Recovery, passkey: Passkey) -> None:
    """End a replacement whose link was used: only now are paper keys spent."""
    event = tx.record(
        EventType.RECOVERY_FINISHED,
        subject={"recovery": row.id, "account": row.account_id, "person": passkey.person_id, "passkey": passkey.id},
    )
    tx.update(row, event, expect={"status": WAITING}, status=FINISHED, ended_at=tx.now, ended_by=passkey.person_id)
    for key in _presented(tx, row):
        tx.update(key, event, used_at=tx.now)


def _presented(view: View, row: Recovery) -> list[RecoveryKey]:
    return view.all(select(RecoveryKey).where(RecoveryKey.recovery_id == row.id))
