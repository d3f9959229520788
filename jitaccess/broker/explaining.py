"""What would a person need for a right, and why? Everybody may ask for oneself; for others only administrators and auditors (R71).

The answer is `policy.explain`'s, over what the person holds and with a hold said first; nothing is decided or filed. Whoever may not
ask about somebody learns nothing: not even whether there is such a person.
"""

from dataclasses import dataclass

from sqlalchemy import select

from jitaccess.broker.ask import Ask
from jitaccess.broker.context import Broker
from jitaccess.broker.grants import held
from jitaccess.broker.request import context
from jitaccess.domain import numbers
from jitaccess.domain.register import PersonView
from jitaccess.domain.values import Refused
from jitaccess.errors import JitError, Kind
from jitaccess.identity.people import credential_class, is_auditor, may_act, new_until, register
from jitaccess.identity.sessions import Current
from jitaccess.policy.evaluate import AskKind, AskTerm, CredentialClass, PolicySet
from jitaccess.policy.explain import Explanation, explain
from jitaccess.store.db import View
from jitaccess.store.tables import Passkey

Value = str | int | bool
"""Signed whole numbers stay below 2^53."""
YES, NO = frozenset({"yes", "true"}), frozenset({"no", "false"})


@dataclass(frozen=True, slots=True)
class Explained:
    """What was explained, of whom, and with which kind of passkey."""

    policies: PolicySet
    person: PersonView
    credential: CredentialClass
    explanation: Explanation
    blocked: Refused | None
    """What stands in the way of everything new for this person or on this system, whatever the rules say."""


def explained(
    view: View,
    broker: Broker,
    current: Current,
    ask: Ask,
    *,
    person: str = "",
    credential: CredentialClass | None = None,
) -> Explained:
    """Explain every rule of an entitlement to who is signed in, of that person or of another one by id.

    Without `credential`: with the passkey of the session, of somebody else with the strongest one. Raises FORBIDDEN and NOT_FOUND; the
    caller notes the reading when the person is another.
    """
    if person and person != current.person.id and not is_auditor(view, current.person.id):
        raise JitError(Kind.FORBIDDEN, "Only an administrator or an auditor may ask this about somebody else.")
    if person in ("", current.person.id):
        strength = credential_class(current.passkey) if credential is None else credential
        return _explained(view, broker, current.person.id, current.account.id, strength, ask)
    return explained_of(view, broker, person, ask, credential=credential)


def explained_of(
    view: View, broker: Broker, person_id: str, ask: Ask, *, credential: CredentialClass | None = None
) -> Explained:
    """Explain of any person on the register; the caller knows that the reader may see it. Raises NOT_FOUND.

    With the account whose passkey is the strongest; without any passkey with the weakest kind.
    """
    if person_id not in register(view).persons:
        raise JitError(Kind.NOT_FOUND, "There is no such person.")
    keys = view.usable(select(Passkey).where(Passkey.person_id == person_id, Passkey.status == "active"))
    best = max(keys, key=credential_class, default=None)
    if credential is None:
        credential = credential_class(best) if best is not None else CredentialClass.ANY
    return _explained(view, broker, person_id, best.account_id if best is not None else "", credential, ask)


def _explained(
    view: View, broker: Broker, person_id: str, account_id: str, credential: CredentialClass, ask: Ask
) -> Explained:
    people, policies = register(view), broker.policies.active(view)
    new = new_until(view, broker.site, person_id=person_id, account_id=account_id, at=view.now) is not None
    found = explain(policies, context(view, policies, credential, person_id, ask, new=new), people)
    blocked = may_act(view, person_id=person_id) or held(view, broker, ask.target)
    return Explained(policies, people.persons[person_id], credential, found, blocked)


def typed(term: AskTerm, text: str) -> Value:
    """Return what was written for a field as the kind of value that is asked for; what does not fit stays text, and the rules say so."""
    match term.kind:
        case AskKind.INTEGER if (number := numbers.typed(text)) is not None:
            return number
        case AskKind.BOOLEAN if text.casefold() in YES | NO:
            return text.casefold() in YES
        case _:
            return text
