"""Who reads what is others'? Auditors and administrators may, and each such reading is itself an event (R71).

Every page and call that shows others' requests or persons comes in through one of these gates and says what it shows. A request is
also shown to those who asked for it, sign for it or are told of it: they read their own work, and nothing is noted.
"""

from jitaccess.broker import logview
from jitaccess.broker.approve import ApprovalFacts, Readable
from jitaccess.broker.context import Broker
from jitaccess.broker.veto import Witnessed
from jitaccess.errors import JitError, Kind
from jitaccess.identity import people
from jitaccess.identity.sessions import Current
from jitaccess.web.doors import current


def administrator(broker: Broker, reads: str = "") -> Current:
    """Return who is signed in, who has to be an administrator; the log is told what of others is read, where it is anything."""
    me = current()
    with broker.read() as view:
        if not people.is_admin(view, me.person.id):
            raise JitError(Kind.FORBIDDEN, "Only an administrator may see this.")
    if reads:
        logview.note_reading(broker, me, reads)
    return me


def auditor(broker: Broker, reads: str) -> Current:
    """Return who is signed in, who has to be an auditor or an administrator; the log is told what is read."""
    me = current()
    with broker.read() as view:
        if not people.is_auditor(view, me.person.id):
            raise JitError(Kind.FORBIDDEN, "Only an auditor may see this.")
    logview.note_reading(broker, me, reads)
    return me


def note_overseen(broker: Broker, found: ApprovalFacts | Readable | Witnessed, reads: str) -> None:
    """Tell the log that a request was read by somebody who has no part in it."""
    if found.overseen:
        logview.note_reading(broker, current(), reads)
