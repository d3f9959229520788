"""May this browser add a passkey to that account? One-use enrolment and recovery links (R8).

The token has 256 random bits and is stored hashed; it belongs to one account and one purpose, lives at most ten minutes, is checked at
use and is spent only by a finished registration in a POST. Looking at the link changes nothing. A plain link is for an account that never
had a passkey; any other needs a replacement that is under way and whose time has come (`identity.replacing`).
"""

from datetime import timedelta

from sqlalchemy import select

from jitaccess.domain.events import EventType
from jitaccess.domain.values import Refused
from jitaccess.errors import JitError, Kind
from jitaccess.identity import replacing
from jitaccess.identity.passkeys import Ceremony, Gate, Response, begin_registration, complete_registration, list_for
from jitaccess.identity.people import may_act, may_enrol
from jitaccess.identity.sessions import end_all
from jitaccess.identity.site import Site
from jitaccess.store.db import Tx, View
from jitaccess.store.ids import hash_secret, new_secret
from jitaccess.store.tables import Account, Enrolment, Outbox, Passkey

ENROL, RECOVER = "enrol", "recover"
HAS_PASSKEY = Refused(
    Kind.CONFLICT,
    "has_passkey",
    "This account has had a passkey already. Its owner adds another one after signing in; if all are lost, replace them.",
)


def create_link(tx: Tx, site: Site, *, account_id: str, by: str, purpose: str = ENROL) -> str:
    """Make a link and return its address; it is shown once and never stored."""
    if purpose not in (ENROL, RECOVER):
        raise JitError(Kind.INVALID, "A link is for enrolment or recovery.")
    account = tx.require(Account, account_id, "There is no such account.")
    if purpose == ENROL and replacing.was_enrolled(tx, account_id):
        raise JitError(HAS_PASSKEY.kind, HAS_PASSKEY.message)
    if purpose == RECOVER and replacing.ripe(tx, account_id) is None:
        raise JitError(Kind.CONFLICT, "Nothing of this account is to be replaced now.")
    secret, key = new_secret(), tx.new_id()
    event = tx.record(
        EventType.ENROLMENT_CREATED,
        subject={"person": account.person_id, "account": account_id, "enrolment": key},
        body={"purpose": purpose},
    )
    tx.insert(
        Enrolment,
        event,
        id=key,
        token_hash=hash_secret(secret),
        account_id=account_id,
        purpose=purpose,
        created_by=by,
        created_at=tx.now,
        expires_at=tx.now + timedelta(seconds=site.sessions.enrolment_s),
    )
    return f"{site.origin}/enrol/{secret}"


def find(view: View, token: str) -> Enrolment | Refused:
    """Return the link's row if it can still be used; unknown, used and old links give the same answer (R11)."""
    row = view.first(select(Enrolment).where(Enrolment.token_hash == hash_secret(token))) if len(token) < 200 else None
    spent = row is None or row.used_at is not None or view.now >= row.expires_at
    if row is None or spent or (row.purpose == RECOVER and replacing.ripe(view, row.account_id) is None):
        message = "This link was used already or is too old. Ask for a new one."
        return Refused(Kind.GONE, "link_not_usable", message)
    return row


def begin(tx: Tx, site: Site, token: str, *, browser: str | None = None) -> Ceremony | Refused:
    """Begin the registration that a link allows."""
    row = find(tx, token)
    if isinstance(row, Refused):
        tx.record(EventType.ENROLMENT_REFUSED, body={"reason": row.code})
        return row
    account = tx.require(Account, row.account_id)
    return begin_registration(tx, site, account=account, session_id=browser, enrolment_id=row.id)


def complete(
    tx: Tx, site: Site, token: str, *, challenge_id: str, response: Response, name: str, browser: str | None = None
) -> Passkey | Refused:
    """Finish it: the link is spent with the passkey's row. A recovery link also ends all old passkeys and sessions (T-25)."""
    row = find(tx, token)
    if isinstance(row, Refused):
        tx.record(EventType.ENROLMENT_REFUSED, body={"reason": row.code})
        return row
    old = list_for(tx, row.account_id)
    made = complete_registration(
        tx,
        site,
        challenge_id=challenge_id,
        response=response,
        name=name,
        session_id=browser,
        enrolment_id=row.id,
        gate=_gate_of(tx, row),
    )
    if isinstance(made, Refused):
        return made
    event = tx.record(
        EventType.ENROLMENT_USED,
        subject={"account": row.account_id, "enrolment": row.id, "passkey": made.id, "person": made.person_id},
        body={"purpose": row.purpose},
    )
    tx.update(row, event, expect={"used_at": None}, used_at=tx.now)
    replacement = replacing.ripe(tx, row.account_id) if row.purpose == RECOVER else None
    if replacement is not None:
        for passkey in old:
            removal = tx.record(
                EventType.PASSKEY_REMOVED,
                subject={"person": passkey.person_id, "passkey": passkey.id},
                body={"reason": "recovery"},
            )
            tx.update(passkey, removal, status="removed")
        end_all(tx, account_id=row.account_id, cause="recovery")
        replacing.finish(tx, replacement, made)
    tell(tx, "passkey_added", made.person_id, made.id)
    return made


def _gate_of(view: View, row: Enrolment) -> Gate:
    """Return what may keep an account from taking a passkey: of a recovery with paper keys nothing but its veto."""
    if row.purpose != RECOVER:
        return may_act
    replacement = replacing.ripe(view, row.account_id)
    return _nothing if replacement is not None and replacement.change_id is None else may_enrol


def _nothing(view: View, /, *, person_id: str, account_id: str) -> Refused | None:
    return None


def tell(tx: Tx, kind: str, person_id: str, subject_id: str, *, after: timedelta | None = None) -> None:
    """Write a notice to a person into the outbox of this transaction; `after` keeps it back for a while."""
    tx.insert(
        Outbox,
        id=tx.new_id(),
        kind=kind,
        person_id=person_id,
        subject_id=subject_id,
        created_at=tx.now,
        attempts=0,
        next_at=tx.now if after is None else tx.now + after,
    )
