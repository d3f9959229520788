"""How does somebody come in again whose passkeys are all gone? Paper keys, or two administrators; slow, told, and stoppable (R9, T-25).

Paper keys are presented on the broker's own host and recover an account that genesis made: leaf 0 names it, not the groups of today. Told
at once to all founders, the log and every page; for 72 hours any founder may veto with a signature. Two administrators' signatures
(a pilot's one) begin the same for any account: its owner is told and stops it with one tap, as any administrator does, during
`sessions.cooling_off_s`. Then either gives a link, anew as often as it is missed, until one is used. That ends all of the account's old
passkeys and sessions, and only then are paper keys spent.
"""

import json
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import func, select

from jitaccess.domain.events import EventType
from jitaccess.domain.wording import word
from jitaccess.errors import JitError, Kind
from jitaccess.identity import replacing
from jitaccess.identity.enrolment import RECOVER, create_link, tell
from jitaccess.identity.genesis import PAPER_KEYS, PAPER_THRESHOLD, new_paper_key, normal_paper_key
from jitaccess.identity.people import FOUNDERS, admins, register
from jitaccess.identity.site import Site
from jitaccess.proof.canonical import sha256_b64u
from jitaccess.proof.merkle import leaf_hash
from jitaccess.store.db import SealBroken, Tx, View
from jitaccess.store.ids import hash_secret
from jitaccess.store.tables import Account, Event, Passkey, Recovery, RecoveryKey
from jitaccess.told import told

DELAY = timedelta(hours=72)
"""How long a recovery with paper keys waits."""


def genesis_accounts(view: View) -> frozenset[str]:
    """Return the accounts that genesis made, by the passkeys that leaf 0 names; empty until leaf 0 is numbered.

    The leaf is compared with its hash; that the hashes are those of the signed tree is checked when the broker opens.
    """
    first = view.first(select(Event).where(Event.idx == 0))
    if first is None:
        return frozenset()
    leaf = json.loads(first.leaf)
    if leaf["type"] != EventType.INSTANCE_CREATED.value or leaf_hash(first.leaf.encode()) != first.leaf_hash:
        raise SealBroken(Event.__tablename__, first.id)
    named = {
        key["credential_id"]: key["public_key"] for founder in leaf["body"]["founders"] for key in founder["passkeys"]
    }
    found = view.all(select(Passkey).where(Passkey.credential_id.in_(named)))
    return frozenset(key.account_id for key in found if sha256_b64u(key.public_key_der) == named[key.credential_id])


def start(tx: Tx, *, account_id: str, paper_keys: Sequence[str]) -> Recovery:
    """Start a recovery; raises FORBIDDEN when the keys are too few, unknown or used. Nothing is spent yet."""
    account = tx.require(Account, account_id, "There is no such account.")
    if account_id not in genesis_accounts(tx):
        raise JitError(
            Kind.FORBIDDEN,
            "Paper keys recover the founders' accounts that genesis made; two administrators replace the passkeys of all others.",
        )
    if replacing.by_paper(tx):
        raise JitError(Kind.CONFLICT, "A recovery is under way already.")
    hashes = {hash_secret(normal_paper_key(text)) for text in paper_keys}
    found = tx.all(select(RecoveryKey).where(RecoveryKey.secret_hash.in_(hashes), RecoveryKey.used_at.is_(None)))
    if not found or len(found) < found[0].threshold or len(found) != len(hashes):
        raise JitError(Kind.FORBIDDEN, "These are not enough different, unused paper keys.")
    other = replacing.of_account(tx, account_id)
    if other is not None:
        replacing.stop(tx, other, by="local")
    key = tx.new_id()
    event = tx.record(
        EventType.RECOVERY_STARTED,
        subject={"person": account.person_id, "account": account_id, "recovery": key},
        body={"keys": len(found)},
    )
    for paper in found:
        tx.update(paper, event, recovery_id=key)
    row = tx.insert(
        Recovery,
        event,
        id=key,
        account_id=account_id,
        status=replacing.WAITING,
        started_at=tx.now,
        ripe_at=tx.now + DELAY,
    )
    for person in sorted({account.person_id, *register(tx).members(FOUNDERS)}):
        tell(tx, "recovery_started", person, key)
    return row


def replace(tx: Tx, site: Site, *, account_id: str, change_id: str) -> Recovery:
    """Begin replacing the passkeys of an account; the caller has counted the signatures of the change."""
    account = tx.require(Account, account_id, "There is no such account.")
    if replacing.of_account(tx, account_id) is not None:
        raise JitError(Kind.CONFLICT, "The passkeys of this account are being replaced already.")
    key = tx.new_id()
    event = tx.record(
        EventType.RECOVERY_STARTED,
        subject={"person": account.person_id, "account": account_id, "recovery": key, "change": change_id},
        body={"keys": 0},
    )
    row = tx.insert(
        Recovery,
        event,
        id=key,
        account_id=account_id,
        status=replacing.WAITING,
        started_at=tx.now,
        ripe_at=tx.now + timedelta(seconds=site.sessions.cooling_off_s),
        change_id=change_id,
    )
    for person in sorted({account.person_id, *admins(tx)}):
        tell(tx, "replacement_started", person, key)
    return row


def link(tx: Tx, site: Site, recovery_id: str) -> str:
    """Return a fresh link of a recovery whose time has come; the one before it ends. Raises CONFLICT before its time or once it is over."""
    row = tx.require(Recovery, recovery_id, "There is no such recovery.")
    if row.status != replacing.WAITING:
        raise JitError(Kind.CONFLICT, told("This recovery was %(status)s already.", status=word(row.status)))
    if tx.now < row.ripe_at:
        raise JitError(
            Kind.CONFLICT, told("This recovery waits until %(time)s UTC.", time=format(row.ripe_at, "%Y-%m-%d %H:%M"))
        )
    replacing.void_links(tx, row.account_id)
    return create_link(tx, site, account_id=row.account_id, by=f"recovery/{row.id}", purpose=RECOVER)


def stop(tx: Tx, recovery_id: str, *, by: str) -> None:
    """Stop a recovery; raises CONFLICT when it is over. The caller has checked who may."""
    row = tx.require(Recovery, recovery_id, "There is no such recovery.")
    if row.status != replacing.WAITING:
        raise JitError(Kind.CONFLICT, told("This recovery was %(status)s already.", status=word(row.status)))
    replacing.stop(tx, row, by=by)


def keys_left(view: View) -> int:
    """Return how many paper keys can still be presented."""
    return int(view.scalar(select(func.count()).select_from(RecoveryKey).where(RecoveryKey.used_at.is_(None))))


def print_keys(tx: Tx) -> tuple[str, ...]:
    """Make new paper keys in the place of all old ones and return them, to be printed once; raises CONFLICT while one is under way."""
    if replacing.by_paper(tx):
        raise JitError(
            Kind.CONFLICT, "A recovery is under way: finish it, or veto it, before new paper keys are printed."
        )
    made = tuple(new_paper_key() for _ in range(PAPER_KEYS))
    hashes = [hash_secret(normal_paper_key(text)) for text in made]
    event = tx.record(EventType.RECOVERY_KEYS_PRINTED, body={"threshold": PAPER_THRESHOLD, "hashes": [*sorted(hashes)]})
    for old in tx.all(select(RecoveryKey).where(RecoveryKey.used_at.is_(None))):
        tx.update(old, event, used_at=tx.now)
    for secret_hash in hashes:
        tx.insert(
            RecoveryKey,
            event,
            id=tx.new_id(),
            secret_hash=secret_hash,
            threshold=PAPER_THRESHOLD,
            created_at=tx.now,
        )
    return made
