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
    # what is wrong with an account on a target
    "leftover": told("left over from access that has ended"),
    "resurrected": told("was gone and is there again"),
    "new": told("new, and nothing explains it"),
    "raised": told("has more rights than are explained"),
    "key_changed": told("its password or key was changed"),
    "missing": told("gone, or called something else now"),
    "expiry": told("its end was moved"),
    "removed": told("removed"),
    "cannot": told("cannot be disabled by the broker"),
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


TERM_WORDS: Mapping[str, Told] = {
    "min_s": told("shortest time"),
    "max_s": told("longest time"),
    "default_s": told("usual time"),
    "activate_within_s": told("to be opened within"),
    "pending_s": told("waits for answers for"),
    "credential": told("kind of passkey"),
    "token_ttl_s": told("life of a token"),
    "active_per_person": told("open at once for one person"),
    "per_day": told("within 24 hours"),
    "approve": told("approval"),
    "steps": told("step"),
    "name": told("name"),
    "count": told("how many"),
    "groups": told("from the groups"),
    "institution": told("of the institution"),
    "after": told("after the step"),
    "distinct": told("must differ in"),
    "never": told("never signs"),
    "deputies_s": told("deputies for at most"),
    "reach": told("who is asked"),
    "step": told("step"),
    "people": told("people asked by lot"),
    "others": told("others may sign too"),
    "escalate": told("asked later"),
    "after_s": told("after"),
    "group": told("group"),
    "credentials": told("passkeys that sign"),
    "read_back": told("to be read"),
    "figure": told("figure"),
    "above": told("above"),
    "conflicts": told("not in one hand with"),
    "target": told("system"),
    "entitlement": told("right"),
    "within_s": told("within"),
    "start_within_s": told("begins within"),
    "grace_s": told("what is open runs on for"),
    "warn_s": told("told before the end"),
    "extensions": told("extension"),
    "total_s": told("in all at most"),
    "notify": told("told are"),
    "filed": told("when asked"),
    "granted": told("when granted"),
    "ended": told("when ended"),
    "held": told("when put on hold"),
    "delay": told("delay"),
    "time_lock_s": told("waits for"),
    "veto": told("may stop it"),
}
"""The labels of what a person signs; the dotted name itself is kept beside them for machines (R24)."""


VALUE_WORDS: Mapping[tuple[str, str], Told] = {
    ("never", "requester"): told("the person who asks"),
    ("never", "subordinates_of_requester"): told("who reports to that person"),
    ("never", "managers_of_requester"): told("to whom that person reports"),
    ("distinct", "person"): told("different people"),
    ("distinct", "institution"): told("different institutions"),
    ("credential", "any"): told("any passkey"),
    ("credential", "synced"): told("any passkey, also one synced between devices"),
    ("credential", "device_bound"): told("a passkey that stays in one device"),
    ("credential", "attested"): told("a passkey whose make is proven"),
    ("others", "True"): told("yes"),
    ("others", "False"): told("no"),
    ("veto", "owner"): told("the institution that the system belongs to"),
    ("veto", "cert"): told("the emergency response team"),
    ("figure", "entitlement"): told("the right that is asked for"),
}
"""What the policy's own words in a signed term mean; the word itself stays beside it, because it is what is signed (R24)."""


ZONE_WORDS: Mapping[str, Told] = {
    "Europe/Belgrade": told("Kosovo time"),
    "Europe/London": told("British time"),
    "Europe/Istanbul": told("Turkish time"),
    "America/New_York": told("New York time"),
    "UTC": told("world time"),
}
"""What people call the zones that are offered; settings keep the IANA name. There is no zone Europe/Pristina."""


def meaning(dotted: str, text: str) -> list[str]:
    """Return what the words of a term's value mean, in their order; nothing for values that speak for themselves."""
    last = dotted.rpartition(".")[2]
    if text == "none":
        return [told("none")]
    return [VALUE_WORDS[last, part] for part in text.split(", ") if (last, part) in VALUE_WORDS]


def term(dotted: str) -> list[str]:
    """Return the labels of a term's dotted name, outermost first; numbers count from 1, an unknown part stays as it is."""
    parts = dotted.removeprefix("terms.").split(".")
    return [str(int(part) + 1) if part.isdigit() else TERM_WORDS.get(part, part) for part in parts]
