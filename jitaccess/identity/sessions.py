"""Is this browser still signed in, as whom? Sessions are rows that can be revoked (R13, R14).

The secret is 256 random bits, stored only as a hash; a new one is given at sign-in and at step-up and the old one is dead. Time-outs are
checked on the server at every use: an absolute end, and idleness from `session_activity`, which is book-keeping without evidence.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import bindparam, select

from jitaccess.domain.events import EventType
from jitaccess.domain.values import Actor, ActorKind
from jitaccess.identity.people import may_act
from jitaccess.store.db import Database, Tx, View
from jitaccess.store.find import Find
from jitaccess.store.ids import hash_secret, new_secret
from jitaccess.store.tables import Account, Passkey, Person, SessionActivity, WebSession

TOUCH_EVERY = timedelta(minutes=1)
BY_SECRET = Find(WebSession, select(WebSession).where(WebSession.secret_hash == bindparam("secret_hash")))


@dataclass(frozen=True, slots=True)
class Current:
    """Who is asking, resolved and checked just now."""

    session: WebSession
    person: Person
    account: Account
    passkey: Passkey
    """The passkey that this session was signed in with."""

    @property
    def actor(self) -> Actor:
        """Return the actor that events name."""
        return Actor(ActorKind.PERSON, self.person.id, self.account.id, self.session.id)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long a session may last, and lie idle."""

    longest: timedelta
    idle: timedelta
    strict: bool
    """Those of approvers, administrators and auditors."""


BoundsOf = Callable[[View, str], Bounds]
"""Person id -> the bounds of a session of his, as things stand now."""


def open_session(tx: Tx, passkey: Passkey, bounds: Bounds) -> tuple[WebSession, str]:
    """Start a session; return its row and the secret, which is shown to nobody else and never stored."""
    key, secret = tx.new_id(), new_secret()
    event = tx.record(
        EventType.SIGN_IN_SUCCEEDED,
        subject={"person": passkey.person_id, "account": passkey.account_id, "passkey": passkey.id, "session": key},
        body={"strict": bounds.strict},
    )
    row = tx.insert(
        WebSession,
        event,
        id=key,
        secret_hash=hash_secret(secret),
        account_id=passkey.account_id,
        person_id=passkey.person_id,
        passkey_id=passkey.id,
        created_at=tx.now,
        auth_at=tx.now,
        expires_at=tx.now + bounds.longest,
        idle_s=int(bounds.idle.total_seconds()),
    )
    tx.insert(SessionActivity, session_id=key, seen_at=tx.now)
    return row, secret


def resolve(view: View, secret: str | None, bounds_of: BoundsOf) -> Current | None:
    """Return who holds this secret, or None: unknown, ended, too old, idle too long, changed by hand, or may not act now.

    The bounds of the person as he stands now are asked beside those that the session was opened with; the shorter ones hold (R14).
    """
    if not secret or len(secret) > 200:
        return None
    found = view.unchecked_find(BY_SECRET, secret_hash=hash_secret(secret))
    return current_of(view, found[0], bounds_of) if found and view.whole(found[0]) else None


def ends_at(row: WebSession, bounds: Bounds) -> datetime:
    """Return when a session is over at the latest, exclusive."""
    return min(row.expires_at, row.created_at + bounds.longest)


def current_of(view: View, row: WebSession, bounds_of: BoundsOf) -> Current | None:
    """Check a session row: not ended, in time, not idle, and its person, account and passkey may act."""
    if row.ended_at is not None:
        return None
    bounds = bounds_of(view, row.person_id)
    activity = view.get(SessionActivity, row.id)
    idle = min(timedelta(seconds=row.idle_s), bounds.idle)
    if view.now >= ends_at(row, bounds) or activity is None or view.now >= activity.seen_at + idle:
        return None
    if may_act(view, person_id=row.person_id, account_id=row.account_id, passkey_id=row.passkey_id) is not None:
        return None
    person, account, passkey = (
        view.get(Person, row.person_id),
        view.get(Account, row.account_id),
        view.get(Passkey, row.passkey_id),
    )
    if person is None or account is None or passkey is None:
        return None
    return Current(row, person, account, passkey)


def touch(db: Database, actor: Actor, session_id: str) -> None:
    """Note that a session is in use, at most once a minute."""
    with db.read() as view:
        activity = view.get(SessionActivity, session_id)
        if activity is None or view.now - activity.seen_at < TOUCH_EVERY:
            return
    with db.begin(actor) as tx:
        fresh = tx.get(SessionActivity, session_id)
        if fresh is not None:
            tx.update(fresh, seen_at=tx.now)


def rotate_on_step_up(tx: Tx, current: Current) -> str:
    """Give the session a new secret and note the fresh assertion; the old secret is dead (R13)."""
    secret = new_secret()
    event = tx.record(
        EventType.STEP_UP_SUCCEEDED,
        subject={"person": current.person.id, "session": current.session.id, "passkey": current.passkey.id},
    )
    tx.update(current.session, event, secret_hash=hash_secret(secret), auth_at=tx.now)
    return secret


def end(tx: Tx, session: WebSession, cause: str) -> None:
    """End one session."""
    event = tx.record(
        EventType.SESSION_ENDED, subject={"person": session.person_id, "session": session.id}, body={"cause": cause}
    )
    tx.update(session, event, ended_at=tx.now, cause=cause)


def end_all(
    tx: Tx, *, cause: str, person_id: str | None = None, account_id: str | None = None, passkey_id: str | None = None
) -> int:
    """End all sessions of a person, an account or a passkey; return how many. Needs no intact seal: it takes away."""
    statement = select(WebSession).where(WebSession.ended_at.is_(None))
    if person_id is not None:
        statement = statement.where(WebSession.person_id == person_id)
    if account_id is not None:
        statement = statement.where(WebSession.account_id == account_id)
    if passkey_id is not None:
        statement = statement.where(WebSession.passkey_id == passkey_id)
    found = tx.unchecked_all(statement) if person_id or account_id or passkey_id else []
    for session in found:
        end(tx, session, cause)
    return len(found)


def list_for(view: View, person_id: str) -> list[WebSession]:
    """Return a person's live sessions, newest first."""
    now: datetime = view.now
    return view.all(
        select(WebSession)
        .where(WebSession.person_id == person_id, WebSession.ended_at.is_(None), WebSession.expires_at > now)
        .order_by(WebSession.created_at.desc())
    )
