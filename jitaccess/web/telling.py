"""In which words does a page tell of a state, a cause or an event? One table a closed set, every sentence for translators.

Codes stay codes in the log and in signed statements; only here do they become words. An event without words of its own is shown
by its code, so nothing is ever hidden.
"""

from collections.abc import Mapping

from flask_babel import gettext, lazy_gettext

from jitaccess.domain.events import EventType
from jitaccess.domain.lifecycle import EndCause

STATES: Mapping[str, str] = {
    "PENDING": lazy_gettext("waits for signatures"),
    "APPROVED": lazy_gettext("approved"),
    "DENIED": lazy_gettext("refused"),
    "WITHDRAWN": lazy_gettext("withdrawn"),
    "EXPIRED": lazy_gettext("not answered in time"),
    "SUPERSEDED": lazy_gettext("replaced, because the terms changed"),
    "SCHEDULED": lazy_gettext("ready"),
    "ACTIVE": lazy_gettext("open"),
    "ENDED": lazy_gettext("ended"),
    "ISSUING": lazy_gettext("being made"),
    "REVOKING": lazy_gettext("being taken away"),
    "REVOKED": lazy_gettext("gone, read back from the system"),
    "STUCK": lazy_gettext("could not be taken away yet"),
    "CLOSED": lazy_gettext("closed by two persons"),
    "FAILED": lazy_gettext("was never made"),
}
CAUSES: Mapping[str, str] = {
    EndCause.EXPIRED.value: lazy_gettext("its time was over"),
    EndCause.RETURNED.value: lazy_gettext("handed back"),
    EndCause.REVOKED.value: lazy_gettext("taken away by somebody"),
    EndCause.HELD.value: lazy_gettext("a hold was placed"),
    EndCause.SUPERSEDED.value: lazy_gettext("another one took its place"),
    EndCause.POLICY.value: lazy_gettext("the policy changed"),
    EndCause.RISK.value: lazy_gettext("it looked too risky"),
    EndCause.UNUSED.value: lazy_gettext("it was never opened"),
    EndCause.FAILED.value: lazy_gettext("the credential could not be made"),
}
EVENTS: Mapping[str, str] = {
    EventType.REQUEST_FILED.value: lazy_gettext("Asked, and signed with a passkey"),
    EventType.REQUEST_APPROVED.value: lazy_gettext("All signatures are there"),
    EventType.REQUEST_DENIED.value: lazy_gettext("Refused"),
    EventType.REQUEST_WITHDRAWN.value: lazy_gettext("Withdrawn by the person who asked"),
    EventType.REQUEST_EXPIRED.value: lazy_gettext("Not answered in time"),
    EventType.REQUEST_SUPERSEDED.value: lazy_gettext("Replaced, because the terms changed"),
    EventType.REQUEST_REDECIDED.value: lazy_gettext("Decided again under a new policy, with the same terms"),
    EventType.APPROVAL_SIGNED.value: lazy_gettext("Signed with a passkey"),
    EventType.APPROVAL_REFUSED.value: lazy_gettext("An attempt to sign was refused"),
    EventType.DENIAL_GIVEN.value: lazy_gettext("Refused with one tap"),
    EventType.DENIAL_SIGNED.value: lazy_gettext("The refusal was signed"),
    EventType.GRANT_CREATED.value: lazy_gettext("Access was granted"),
    EventType.GRANT_ACTIVATED.value: lazy_gettext("Access was opened"),
    EventType.GRANT_ENDED.value: lazy_gettext("Access ended"),
    EventType.LEASE_ISSUING.value: lazy_gettext("A credential was planned"),
    EventType.LEASE_ACTIVE.value: lazy_gettext("A credential was made"),
    EventType.LEASE_FAILED.value: lazy_gettext("No credential was made, and that is proven"),
    EventType.LEASE_REVOKING.value: lazy_gettext("The credential stopped being valid"),
    EventType.LEASE_REVOKED.value: lazy_gettext("The credential is gone, read back from the system"),
    EventType.LEASE_STUCK.value: lazy_gettext("The credential could not be taken away yet"),
    EventType.LEASE_CLOSED.value: lazy_gettext("Closed by two persons"),
    EventType.ISSUE_REFUSED.value: lazy_gettext("A credential was refused"),
    EventType.TOKEN_ISSUED.value: lazy_gettext("A token was given to the system"),
    EventType.TOKEN_REFRESHED.value: lazy_gettext("The token was renewed"),
    EventType.TOKEN_REFUSED.value: lazy_gettext("A token was refused"),
    EventType.TOKEN_REVOKED.value: lazy_gettext("The token was taken back"),
    EventType.TOKEN_REUSED.value: lazy_gettext("A token was used twice; everything from it ended"),
    EventType.CODE_ISSUED.value: lazy_gettext("The person confirmed opening it with a passkey"),
    EventType.CODE_REDEEMED.value: lazy_gettext("The system exchanged its code"),
    EventType.CODE_REFUSED.value: lazy_gettext("A code was refused"),
    EventType.CODE_REUSED.value: lazy_gettext("A code was used twice; everything from it ended"),
    EventType.HOLD_PLACED.value: lazy_gettext("A hold was placed"),
    EventType.HOLD_RELEASED.value: lazy_gettext("A hold was lifted"),
}


def state(code: str) -> str:
    """Return a state of a request, grant or lease in words."""
    return str(STATES.get(code, code.lower()))


def cause(code: str | None) -> str:
    """Return why something ended in words."""
    return str(CAUSES.get(code or "", code or ""))


def event(code: str) -> str:
    """Return what happened in words, or the code itself."""
    return str(EVENTS.get(code, code))


def verdict(code: str) -> str:
    """Return a verdict in words."""
    match code:
        case "approve":
            return str(gettext("signed"))
        case "deny":
            return str(gettext("refused"))
        case _:
            return code
