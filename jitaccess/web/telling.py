"""In which words does a page tell of a state, a cause or an event? One table a closed set, every sentence for translators.

Codes stay codes in the log and in signed statements; only here do they become words. An event without words of its own is shown
by its code, so nothing is ever hidden.
"""

from collections.abc import Mapping
from hashlib import sha256

from flask import Flask

from jitaccess.broker.because import detail, sentence
from jitaccess.broker.channels import MAIL
from jitaccess.broker.clients import AuthMethod
from jitaccess.broker.compare import What
from jitaccess.broker.endings import Why
from jitaccess.broker.grants import signed_s
from jitaccess.broker.health import Finding, Found, Level
from jitaccess.broker.hold import HoldKind
from jitaccess.broker.offers import Choice
from jitaccess.broker.replay import Difference
from jitaccess.domain.events import EventType
from jitaccess.domain.lifecycle import EndCause
from jitaccess.domain.values import Refused
from jitaccess.domain.wording import VALUE_WORDS
from jitaccess.policy.evaluate import PolicySet, Reason
from jitaccess.web.naming import here
from jitaccess.web.speech import gettext, lazy_gettext, ngettext, say

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
    EndCause.VETOED.value: lazy_gettext("it was stopped while it waited"),
}
SIGN_IN_CAUSES: Mapping[str, str] = {
    "logout": lazy_gettext("signed out"),
    "client_disabled": lazy_gettext("the client was switched off"),
    "code_reused": lazy_gettext("a code was used twice"),
    "token_reused": lazy_gettext("a refresh token was used twice"),
}
"""Why a sign-in at an application ended while the access went on."""
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
    EventType.LEASE_RETRIED.value: lazy_gettext("An administrator had the end tried again at once"),
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
    EventType.REQUEST_REFUSED.value: lazy_gettext("An attempt to ask was refused"),
    EventType.APPROVAL_ASKED.value: lazy_gettext("Approvers were asked"),
    EventType.APPROVAL_ESCALATED.value: lazy_gettext("More approvers were asked, because it waited"),
    EventType.APPROVAL_LOST.value: lazy_gettext("A signature stopped to count: who gave it lost the right"),
    EventType.APPROVAL_SET_SIGNED.value: lazy_gettext("Signed with others as one set"),
    EventType.APPROVAL_SET_REFUSED.value: lazy_gettext("An attempt to sign a set was refused"),
    EventType.VETO_GIVEN.value: lazy_gettext("Stopped with one tap while it waited"),
    EventType.VETO_SIGNED.value: lazy_gettext("The stop was signed"),
    EventType.VETO_REFUSED.value: lazy_gettext("An attempt to stop it was refused"),
    EventType.LOGOUT_DELIVERED.value: lazy_gettext("The system was told that the sign-in is over"),
    EventType.LOGOUT_FAILED.value: lazy_gettext("The system could not be told that the sign-in is over"),
    EventType.ALARM_RAISED.value: lazy_gettext("An alarm was raised"),
    EventType.HOLD_PLACED.value: lazy_gettext("A hold was placed"),
    EventType.HOLD_RELEASED.value: lazy_gettext("A hold was lifted"),
}


def state(code: str) -> str:
    """Return a state of a request, grant or lease in words."""
    return str(STATES.get(code, code.lower()))


def cause(code: str | None) -> str:
    """Return why something ended in words."""
    return str(CAUSES.get(code or "") or SIGN_IN_CAUSES.get(code or "", code or ""))


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


_WELL: Mapping[Finding, str] = {
    Finding.GRANTING: lazy_gettext("New access is given out."),
    Finding.CLOCK: lazy_gettext("The clock agrees with the times in the log."),
    Finding.POLICY: lazy_gettext("A policy is active."),
    Finding.SWEEP: lazy_gettext("The clockwork that ends access is running."),
    Finding.REVOCATIONS: lazy_gettext("No end of access is slow."),
    Finding.STUCK: lazy_gettext("No end of access is stuck."),
    Finding.ACCOUNTS: lazy_gettext("Every account on every system is explained."),
    Finding.UNSEEN: lazy_gettext("Every system is looked at in time."),
    Finding.LOG: lazy_gettext("The log is numbered and signed."),
    Finding.LOG_WHOLE: lazy_gettext("The stored log is the one that was written."),
    Finding.ALARMS: lazy_gettext("No alarm in the last seven days."),
    Finding.RECORDS: lazy_gettext("Every record of the register is as the log wrote it."),
    Finding.NOTICES: lazy_gettext("Notices arrive."),
    Finding.SINGLE_PASSKEY: lazy_gettext("Everybody who has a passkey has a second one."),
    Finding.NO_PASSKEY: lazy_gettext("Everybody has a passkey."),
    Finding.INDISPENSABLE: lazy_gettext("No rule depends on one person alone."),
    Finding.HOLDS: lazy_gettext("Nothing is on hold."),
    Finding.CHANGES: lazy_gettext("No change waits for a second signature."),
    Finding.RECOVERY: lazy_gettext("No recovery with paper keys is under way."),
    Finding.PILOT: lazy_gettext("This is no pilot."),
}
_NOT_WELL: Mapping[Finding, str] = {
    Finding.GRANTING: lazy_gettext("No new access is given out yet: what is overdue is being ended first."),
    Finding.CLOCK: lazy_gettext(
        "The clock is behind the times in the log (seconds: %(count)s); nothing new is given out. Set the clock right, or run "
        "`jitaccess clock set-back`."
    ),
    Finding.POLICY: lazy_gettext("No policy is active: propose one and sign it."),
    Finding.SWEEP: lazy_gettext(
        "The clockwork that ends access has been silent for minutes: look at the worker process."
    ),
    Finding.REVOCATIONS: lazy_gettext(
        "Ends of access that take longer than a minute: %(count)s. They are tried again."
    ),
    Finding.STUCK: lazy_gettext("Ends of access that do not succeed: %(count)s. Look at the system and at its log."),
    Finding.ACCOUNTS: lazy_gettext(
        "Accounts on systems that nothing explains, or that wait for their owner: %(count)s. Look at each."
    ),
    Finding.UNSEEN: lazy_gettext(
        "Systems that could not be looked at for a while: %(count)s. What is on them is not compared."
    ),
    Finding.LOG: lazy_gettext("Entries of the log that wait too long for their number or signature: %(count)s."),
    Finding.LOG_WHOLE: lazy_gettext(
        "Entries of the log are missing or were changed: nothing is given out. Keep the database as it is and verify an export."
    ),
    Finding.ALARMS: lazy_gettext("Alarms in the last seven days: %(count)s. Read them in the log."),
    Finding.RECORDS: lazy_gettext(
        "Records that were changed or deleted outside the broker: %(count)s. Whom they are about may not act; restore them below."
    ),
    Finding.NOTICES: lazy_gettext("Notices that could not be delivered: %(count)s. Look at the mail settings."),
    Finding.ADMINISTRATORS: lazy_gettext("There are fewer than two administrators who can act: add one."),
    Finding.SINGLE_PASSKEY: lazy_gettext("People with only one passkey: %(count)s. A lost one locks them out."),
    Finding.NO_PASSKEY: lazy_gettext("People without any passkey: %(count)s. They need an enrolment link."),
    Finding.INDISPENSABLE: lazy_gettext("Rules that one absence would lock: %(count)s."),
    Finding.HOLDS: lazy_gettext("Holds in force: %(count)s."),
    Finding.CHANGES: lazy_gettext("Changes that wait for a second signature: %(count)s."),
    Finding.RECOVERY: lazy_gettext("A recovery with paper keys is under way. A founder can veto it."),
    Finding.PILOT: lazy_gettext("This is a pilot: one founder decides alone."),
}
"""What is said of a finding that is well, and of one that is not; both may name %(count)s."""


def finding(found: Found) -> str:
    """Return a finding of health as one sentence."""
    if found.what is Finding.ADMINISTRATORS and found.level is Level.WELL:
        return str(ngettext("There is %(num)s administrator.", "There are %(num)s administrators.", found.count))
    words = _WELL if found.level is Level.WELL else _NOT_WELL
    return str(words[found.what]) % {"count": found.count}


def mark(shown: object) -> str:
    """Return a short mark of what a page shows, by which it learns that nothing changed."""
    return sha256(repr(shown).encode()).hexdigest()[:16]


def missing(chosen: Choice) -> str:
    """Return what stands in the way of asking as one message; the doors say it in the reader's language."""
    match chosen.missing:
        case None:
            return ""
        case Refused(message=message):
            return message
        case reason:
            return sentence(reason)


HOLDS: Mapping[str, str] = {
    HoldKind.PERSON.value: lazy_gettext("Person"),
    HoldKind.PASSKEY.value: lazy_gettext("Passkey"),
    HoldKind.TARGET.value: lazy_gettext("System"),
    HoldKind.GRANT.value: lazy_gettext("Access"),
    HoldKind.INSTITUTION.value: lazy_gettext("Institution"),
    HoldKind.INSTANCE.value: lazy_gettext("Everything"),
}
FIELDS: Mapping[str, str] = {
    "name": lazy_gettext("Name"),
    "email": lazy_gettext("Mail address"),
    "institution": lazy_gettext("Institution"),
    "unit": lazy_gettext("Unit"),
    "manager_id": lazy_gettext("Line manager"),
}
DIFFERENCES: Mapping[Difference, str] = {
    Difference.REFUSED: lazy_gettext("would be refused"),
    Difference.PERMITTED: lazy_gettext("would be permitted"),
    Difference.MORE_SIGNATURES: lazy_gettext("would take more signatures"),
    Difference.FEWER_SIGNATURES: lazy_gettext("would take fewer signatures"),
    Difference.OTHER_TERMS: lazy_gettext("would have other terms"),
}


TARGET_KINDS: Mapping[str, str] = {
    "postgresql": "PostgreSQL",
    "mariadb": "MariaDB",
    "ssh_ca": lazy_gettext("SSH with certificates"),
    "ldap": lazy_gettext("Membership in a directory (LDAP)"),
    "webhook": lazy_gettext("The owner's own provisioner (webhook)"),
    "token": lazy_gettext("Sign-in with a token"),
    "fake": lazy_gettext("For trying out"),
}
"""The kinds of target that come with the program; others are shown by their key."""
PROOFS: Mapping[str, str] = {
    AuthMethod.CLIENT_SECRET_BASIC.value: lazy_gettext("a secret"),
    AuthMethod.PRIVATE_KEY_JWT.value: lazy_gettext("a key of its own"),
    AuthMethod.FORWARD_AUTH.value: lazy_gettext("nothing: it is behind a proxy that asks"),
}
"""How an application proves to be itself."""
ACCOUNTS: Mapping[What, str] = {
    What.NEW: lazy_gettext("An account that the broker did not make, and nothing explains it."),
    What.RESURRECTED: lazy_gettext("An account that was gone is there again."),
    What.RAISED: lazy_gettext("An account has more rights than anything explains."),
    What.KEY_CHANGED: lazy_gettext("The password or key of an account was changed, and not by the broker."),
    What.MISSING: lazy_gettext(
        "The account of access that is still open is gone from the system, or is called something else there."
    ),
    What.EXPIRY: lazy_gettext("The end of an account was moved on the system itself."),
    What.LEFTOVER: lazy_gettext("An account is still there though its access has ended."),
}
ACTS: Mapping[str, str] = {
    "held": lazy_gettext("The broker has locked it."),
    "removed": lazy_gettext("The broker has removed it."),
    "cannot": lazy_gettext("The broker may not change it: the owner of the system has to."),
}


WHYS: Mapping[Why, str] = {
    Why.UNREACHABLE: lazy_gettext("The system cannot be reached, or does not let the broker in."),
    Why.UNCONFIRMED: lazy_gettext("Not every host has fetched the list of revoked certificates and confirmed it."),
    Why.SLOW: lazy_gettext("The system did not finish in time: it is overloaded, or something there holds a lock."),
    Why.FORBIDDEN: lazy_gettext(
        "The system refused: the broker's own account there lacks a right, or its password is wrong."
    ),
    Why.NEEDED: lazy_gettext("Something on the system still needs the account, and would be lost with it."),
    Why.OWNER: lazy_gettext(
        "The broker may not do all of it: the system's owner has to run the statement that stands below."
    ),
    Why.STILL_THERE: lazy_gettext("The system did not confirm that the account and its sessions are gone."),
    Why.ANSWER: lazy_gettext("The system answered, but not as was agreed."),
    Why.SETTINGS: lazy_gettext(
        "The broker's settings for this system cannot be used: an address, a secret or a package is missing."
    ),
    Why.RECORD: lazy_gettext(
        "The record of this access was changed outside the broker, so its word about the system is not taken."
    ),
    Why.OTHER: lazy_gettext("The system failed in a way that the broker does not know; its own log says more."),
}


def why(found: Why) -> str:
    """Return why an end of access did not succeed."""
    return str(WHYS[found])


BROKE = lazy_gettext("the connection broke")
UNDELIVERED: Mapping[str, str] = {
    "bad_address": lazy_gettext("its address is none that can be called"),
    "not_https": lazy_gettext("its address is not protected: it has to begin with https"),
    "unknown_host": lazy_gettext("there is no machine of that name"),
    "gaierror": lazy_gettext("there is no machine of that name"),
    "address_not_allowed": lazy_gettext("the broker's settings do not let it call this address"),
    "no_root_ca": lazy_gettext("the broker's file of trusted certificates cannot be read"),
    "no_such_client": lazy_gettext("the system is no longer registered for this"),
    "too_slow": lazy_gettext("it answers too slowly"),
    "TimeoutError": lazy_gettext("it does not answer in time"),
    "ConnectionRefusedError": lazy_gettext("nothing answers there"),
    "ConnectionResetError": BROKE,
    "ConnectionAbortedError": BROKE,
    "BrokenPipeError": BROKE,
    "RemoteDisconnected": BROKE,
    "IncompleteRead": BROKE,
    "SMTPServerDisconnected": BROKE,
    "SSLError": lazy_gettext("no protected connection could be made"),
    "SSLCertVerificationError": lazy_gettext("its certificate is not one that the broker trusts"),
    "SMTPConnectError": lazy_gettext("the mail server does not take the connection"),
    "SMTPAuthenticationError": lazy_gettext("the mail server does not take the broker's password"),
    "SMTPSenderRefused": lazy_gettext("the mail server does not take letters from this sender"),
    "SMTPRecipientsRefused": lazy_gettext("the mail server does not know the reader's address"),
    "SMTPDataError": lazy_gettext("the mail server does not take this letter"),
    "SMTPNotSupportedError": lazy_gettext("the mail server cannot do what is needed for this letter"),
    "PermissionError": lazy_gettext("the broker may not write there"),
    "GatewayRefused": lazy_gettext("the gateway does not take it"),
}
"""Why a notice did not arrive, by the code that is kept of it."""


def undelivered(code: str | None) -> str:
    """Return why a notice did not arrive; a code without words of its own stands beside, for technicians."""
    if code is not None and code.startswith("status_"):
        return gettext("it answered with the error %(number)s", number=code.removeprefix("status_"))
    return str(UNDELIVERED.get(code or "", gettext("it failed in a way that the broker does not know")))


def channel(name: str) -> str:
    """Return what a way of sending notices is called: mail, or as the settings name it."""
    return gettext("Mail") if name == MAIL else name


def account(code: str | None) -> str:
    """Return what is wrong with an account on a system; one that was handled already may have nothing wrong any more."""
    return str(ACCOUNTS[What(code)]) if code in {what.value for what in What} else code or ""


def acted(code: str | None) -> str:
    """Return what the broker did about an account."""
    return str(ACTS.get(code or "", code or ""))


def target_kind(key: str) -> str:
    """Return how a kind of target is called."""
    return str(TARGET_KINDS.get(key, key))


def proof(method: str) -> str:
    """Return how an application proves to be itself."""
    return str(PROOFS.get(method, method))


def held(code: str) -> str:
    """Return what kind of thing a hold is on."""
    return str(HOLDS.get(code, code))


def field(name: str) -> str:
    """Return the name of a field of a person."""
    return str(FIELDS.get(name, name))


def difference(found: Difference) -> str:
    """Return how another policy would decide."""
    return str(DIFFERENCES[found])


def reason(found: Reason) -> str:
    """Return a reason of a decision about somebody else as one sentence, with the rule and what it is about."""
    about = ", ".join(part for part in (found.rule, found.about) if part)
    return f"{say(sentence(found, own=False))} ({about})" if about else say(sentence(found, own=False))


def because(found: Reason, policies: PolicySet, right: tuple[str, str], *, own: bool, groups: Mapping[str, str]) -> str:
    """Return why a rule does not permit, with the bound that was not kept; to the person or, when not `own`, about the person."""
    parts = say(sentence(found, own=own)), say(detail(found, policies, right, lambda name: str(here(name)), groups))
    return " ".join(part for part in parts if part)


def passkey_kind(name: str) -> str:
    """Return what a policy's word for a kind of passkey means."""
    return say(VALUE_WORDS["credential", name])


def install(app: Flask) -> None:
    """Give templates these words as filters."""
    app.add_template_filter(state, "state")
    app.add_template_filter(cause, "cause")
    app.add_template_filter(event, "event")
    app.add_template_filter(verdict, "verdict")
    app.add_template_filter(signed_s, "signed_s")
    app.add_template_filter(held, "held")
    app.add_template_filter(target_kind, "target_kind")
    app.add_template_filter(proof, "proof")
    app.add_template_filter(account, "account")
    app.add_template_filter(finding, "finding")
    app.add_template_filter(acted, "acted")
    app.add_template_filter(why, "why")
    app.add_template_filter(undelivered, "undelivered")
    app.add_template_filter(channel, "channel")
    app.add_template_filter(field, "field")
    app.add_template_filter(difference, "difference")
    app.add_template_filter(reason, "reason")
    app.add_template_filter(passkey_kind, "passkey_kind")
    app.add_template_global(missing, "missing")
