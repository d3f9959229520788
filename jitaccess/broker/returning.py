"""What comes back with a founder who was recovered with paper keys? Nobody recovers into a lock (design.md section 6a, R9).

Paper keys are the last road into a broker. So when the new passkey is there, holds on that founder are lifted, an institution's hold is
kept for everybody else in it, and where nobody else could administer the broker the founder is switched on and a founder again. Passkeys
replaced by administrators bring nothing back: those who signed can do that with a signature each.
"""

from jitaccess.broker import hold
from jitaccess.broker.context import Broker
from jitaccess.broker.hold import HoldKind
from jitaccess.domain.values import Refused
from jitaccess.identity import enrolment, people, replacing
from jitaccess.identity.passkeys import Response
from jitaccess.identity.standing import able_administrators
from jitaccess.store.db import Tx
from jitaccess.store.tables import Passkey


def complete(
    tx: Tx,
    broker: Broker,
    token: str,
    *,
    challenge_id: str,
    response: Response,
    name: str,
    browser: str | None = None,
) -> Passkey | Refused:
    """Finish what an enrolment or recovery link allows; what paper keys bring back comes back in the same transaction."""
    recoveries = replacing.by_paper(tx)
    made = enrolment.complete(
        tx, broker.site, token, challenge_id=challenge_id, response=response, name=name, browser=browser
    )
    if not isinstance(made, Refused) and any(
        row.account_id == made.account_id and row.status == replacing.FINISHED for row in recoveries
    ):
        _bring_back(tx, broker, made.person_id)
    return made


def _bring_back(tx: Tx, broker: Broker, person_id: str) -> None:
    person = people.register(tx).persons[person_id]
    for one in hold.in_force(tx):
        if (one.kind, one.subject_id) == (HoldKind.PERSON.value, person_id):
            hold.release(tx, one.id, by="paper keys")
        if (one.kind, one.subject_id) == (HoldKind.INSTITUTION.value, person.institution):
            hold.keep_for_others(tx, broker, one, person_id)
    others = able_administrators(people.foresee(tx, people.NOTHING_FORESEEN)) - {person_id}
    if others:
        return
    if not person.active:
        people.enable_person(tx, person_id)
    if people.FOUNDERS not in person.groups:
        people.add_member(tx, group_id=people.FOUNDERS, member_id=person_id)
