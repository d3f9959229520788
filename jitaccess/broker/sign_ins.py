"""What ends somebody's sign-ins at applications while the access itself goes on? Signing out, and switching a client off.

A sign-in is the family of tokens that came from one code. Signing out ends the session and every sign-in that was made in it, at whichever
door a person does it; the grant goes on, because signing out is not handing back. A code of the session that nobody redeemed yet gives
nothing any more: redeeming asks whether its session still lives, after it spent the code. Switching a client off ends all of its sign-ins.
"""

from sqlalchemy import ColumnElement, and_, or_, select

from jitaccess.broker.context import Broker
from jitaccess.broker.logout import end_families
from jitaccess.broker.revoke import LIVE_LEASES
from jitaccess.domain.events import EventType
from jitaccess.errors import JitError, Kind
from jitaccess.identity import sessions
from jitaccess.identity.sessions import Current
from jitaccess.store.db import Tx
from jitaccess.store.tables import AuthorizationCode, Client, Lease, Token, WebSession

TRIES = 5


def sign_out(broker: Broker, current: Current, *, cause: str, sid: str | None = None) -> int:
    """End a session and every sign-in that was made in it, or that `sid` names if it is this person's; return how many sign-ins.

    Opens its own transaction, and another one where a token of these was renewed at the same moment.
    """
    for attempt in range(TRIES):
        try:
            with broker.begin(current.actor) as tx:
                return _sign_out(tx, broker, current, cause, sid)
        except JitError as error:
            if error.kind is not Kind.CONFLICT or attempt == TRIES - 1:
                raise
    raise AssertionError("the last attempt returns or raises")


def _sign_out(tx: Tx, broker: Broker, current: Current, cause: str, sid: str | None) -> int:
    if not broker.db.sqlite:
        # Who redeems a code at this moment holds its row: what comes of it is there to be ended once this is through. Who comes later
        # finds the session ended. On SQLite there is one writer.
        waiting = select(AuthorizationCode.id).where(
            AuthorizationCode.session_id == current.session.id, AuthorizationCode.used_at.is_(None)
        )
        tx.rows(waiting.with_for_update()).all()
    mine = select(Lease.id).where(Lease.person_id == current.person.id, Lease.state.in_(LIVE_LEASES))
    which: ColumnElement[bool] = Token.session_id == current.session.id
    if sid is not None:
        which = or_(which, Token.family == sid)
    ended = end_families(tx, and_(Token.lease_id.in_(mine), which), "logout")
    session = tx.unchecked_get(WebSession, current.session.id)
    if session is not None and session.ended_at is None:  # another tab may have been faster
        sessions.end(tx, session, cause)
    return ended


def disable_client(tx: Tx, client_id: str) -> None:
    """Switch a client off: from here on it neither gets nor renews nor asks about tokens, and what it got is over; it is told so."""
    row = tx.require(Client, client_id, "There is no such client.")
    live = select(Lease.id).where(Lease.state.in_(LIVE_LEASES))
    end_families(tx, and_(Token.client_id == row.id, Token.lease_id.in_(live)), "client_disabled")
    event = tx.record(
        EventType.CLIENT_CHANGED, subject={"client": row.id, "target": row.target}, body={"status": "disabled"}
    )
    tx.update(row, event, status="disabled")
