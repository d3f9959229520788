"""How does a person get the credential of a grant? Once, after a fresh assertion, into their own session (R55).

The assertion and the intent are one transaction; the target makes the credential afterwards, and what it gave goes to the person and
nowhere else: not into rows, events, logs, addresses or error texts. Who loses it hands the access back and asks anew.
"""

from collections.abc import Mapping

from jitaccess.broker.context import Broker
from jitaccess.broker.issue import Opened, covered_approvals, finish_opening, look_first, open_in
from jitaccess.broker.revoke import LIVE_GRANTS
from jitaccess.connectors.contract import ConnectorKind
from jitaccess.domain.values import Refused
from jitaccess.errors import JitError, Kind
from jitaccess.identity import passkeys
from jitaccess.identity.passkeys import Ceremony, Response
from jitaccess.identity.sessions import Current
from jitaccess.policy.evaluate import TargetFacts
from jitaccess.store.db import View
from jitaccess.store.tables import Challenge, Grant, Person

PURPOSE = "hand_over"


def about(view: View, broker: Broker, current: Current, grant_id: str) -> tuple[Grant, TargetFacts, ConnectorKind]:
    """Return a person's own live grant on a target that makes credentials; raises NOT_FOUND or GONE."""
    grant = view.get(Grant, grant_id) if len(grant_id) <= 64 else None
    target = broker.policies.active(view).targets.get(grant.target) if grant is not None else None
    if grant is None or target is None or grant.person_id != current.person.id:
        raise JitError(Kind.NOT_FOUND, "There is no such access of yours.")
    if grant.state not in LIVE_GRANTS:
        raise JitError(Kind.GONE, "This access has ended. Ask for it anew.")
    kind = broker.targets.kind(str(target.connector["kind"]))
    if not kind.outside:
        raise JitError(Kind.NOT_FOUND, "This system has a sign-in of its own. Open it there.")
    return grant, target, kind


def begin(broker: Broker, current: Current, grant_id: str) -> Ceremony:
    """Begin the assertion that opens a grant; raises NOT_FOUND or GONE."""
    with broker.begin(current.actor) as tx:
        about(tx, broker, current, grant_id)
        return passkeys.begin_assertion(tx, broker.site, current, purpose=PURPOSE, subject_id=grant_id)


def complete(
    broker: Broker,
    current: Current,
    grant_id: str,
    *,
    challenge_id: str,
    response: Response,
    given: Mapping[str, str] | None = None,
) -> Opened | Refused:
    """Check the assertion, open the lease, let the target make the credential, and return it: the only time that it is seen.

    1 the approvals are in the signed log · 2 the target is looked at, where its kind must · 3 the assertion, for this grant, in this
    session · 4 evidence and intent, in the same transaction · 5 the target · 6 the result.
    """
    covered = covered_approvals(broker, grant_id)  # 1
    seen = look_first(broker, current, grant_id)  # 2
    with broker.begin(current.actor, lock=[(Grant, grant_id), (Person, current.person.id)]) as tx:
        about(tx, broker, current, grant_id)
        challenge = tx.get(Challenge, challenge_id) if len(challenge_id) <= 64 else None
        verified = passkeys.complete_assertion(
            tx, broker.site, current, purpose=PURPOSE, challenge_id=challenge_id, response=response
        )  # 3
        if isinstance(verified, Refused):
            return verified
        if challenge is None or challenge.subject_id != grant_id:
            return Refused(Kind.CONFLICT, "another_grant", "This signature was for another access. Start again.")
        opened = open_in(tx, broker, current, grant_id, covered=covered, given=given, seen=seen)  # 4
    return finish_opening(broker, current, opened)  # 5, 6
