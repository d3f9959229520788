"""Which plain word does a person read for a code: a state, a cause, a verdict, a kind?

Codes are what is stored, signed and sent to machines; `word` is what pages and letters show, told, so that a door can say it in the
reader's language. A code without a word shows as it is. Participles agree with the nouns that they are said of (request, access).
"""

from collections.abc import Mapping

from jitaccess.told import Told, told

WORDS: Mapping[str, Told] = {
    # requests, grants, leases (domain.lifecycle)
    "pending": told("pending"),
    "approved": told("approved"),
    "denied": told("denied"),
    "withdrawn": told("withdrawn"),
    "expired": told("expired"),
    "superseded": told("superseded"),
    "scheduled": told("scheduled"),
    "active": told("active"),
    "ended": told("ended"),
    "issuing": told("issuing"),
    "failed": told("failed"),
    "revoking": told("revoking"),
    "revoked": told("revoked"),
    "stuck": told("stuck"),
    "closed": told("closed"),
    # why access ended
    "returned": told("handed back"),
    "held": told("put on hold"),
    "policy": told("policy changed"),
    "risk": told("too risky"),
    "unused": told("not opened in time"),
    # verdicts and effects
    "approve": told("approve"),
    "deny": told("deny"),
    "permit": told("permit"),
    # kinds of holds
    "person": told("person"),
    "passkey": told("passkey"),
    "target": told("system"),
    "grant": told("access"),
    "institution": told("institution"),
    "instance": told("everything"),
    # changes, policy sets, recoveries
    "applied": told("applied"),
    "rejected": told("turned down"),
    "proposed": told("proposed"),
    "retired": told("retired"),
    "waiting": told("waiting"),
    "vetoed": told("vetoed"),
    "finished": told("finished"),
    "disabled": told("switched off"),
    # what a policy names
    "entitlement": told("entitlement"),
    "window": told("window"),
    "group": told("group"),
    # how high the stakes are
    "low": told("low"),
    "medium": told("medium"),
    "high": told("high"),
    "critical": told("critical"),
}


def word(code: str) -> str:
    """Return the word for a code, told; a code that has none as it is."""
    return WORDS.get(code.lower(), code)
