"""How does access end? One verb for every cause (R47, R51, R56, R60).

Ending is one transaction: the grant ENDED, its leases REVOKING; from that commit on nothing verifies. What is left on the target is cut and
cleaned afterwards by `broker.cut`. Revocation needs no signature, no policy and no intact seal: everything here reads unchecked.
"""

from collections.abc import Sequence
from typing import cast

from sqlalchemy import select

from jitaccess.broker.context import Broker, advance, advance_many
from jitaccess.broker.informing import Informing, inform
from jitaccess.broker.logout import announce_leases
from jitaccess.domain.approval import named
from jitaccess.domain.lifecycle import EndCause, GrantState, LeaseState, RequestState
from jitaccess.domain.values import Refused
from jitaccess.errors import JitError, Kind
from jitaccess.identity.enrolment import tell
from jitaccess.identity.people import is_admin, register
from jitaccess.identity.sessions import Current
from jitaccess.store.db import Tx, View
from jitaccess.store.tables import AccessRequest, Grant, Lease

LIVE_GRANTS = (GrantState.SCHEDULED.value, GrantState.ACTIVE.value)
LIVE_LEASES = (LeaseState.ISSUING.value, LeaseState.ACTIVE.value)
ENDING_LEASES = (LeaseState.REVOKING.value, LeaseState.STUCK.value)


# ---------------------------------------------------------------- ending


def end_grant(tx: Tx, grant: Grant, cause: EndCause, *, by: str) -> None:
    """End a live grant and everything under it, in the caller's transaction."""
    advance(tx, grant, GrantState.ENDED, body={"cause": cause.value, "by": by}, cause=cause.value, ended_at=tx.now)
    leases = _live_leases(tx, [grant.id])
    announce_leases(tx, leases, cause.value)
    for lease in leases:
        _end_lease(tx, lease, cause)
    _after(tx, [grant], cause, by=by)


def _after(tx: Tx, ended: Sequence[Grant], cause: EndCause, *, by: str) -> None:
    """Tell whose it was and the witnesses, and end what would have continued a grant that did not run out."""
    keys = [grant.id for grant in ended]
    goes_on = _continued(tx, keys) if cause is EndCause.EXPIRED else frozenset[str]()
    informing: list[Informing] = []
    for grant in ended:
        if grant.id not in goes_on:
            tell(tx, "grant_ended", grant.person_id, grant.id)
        kept = cast("dict[str, list[str]]", grant.course or {})
        told = {*kept.get("ended", ()), *(kept.get("held", ()) if cause is EndCause.HELD else ())}
        for person in sorted(told - {grant.person_id}):
            informing.append(
                Informing("witness_ended", person, grant.person_id, grant.id, urgent=cause is EndCause.HELD)
            )
    inform(tx, informing)
    if cause is EndCause.EXPIRED:
        return
    waiting = tx.unchecked_all(
        select(AccessRequest)
        .where(AccessRequest.extends.in_(keys), AccessRequest.state == RequestState.PENDING.value)
        .with_for_update()  # an approval under way ends first; what it granted is found below
    )
    for request in waiting:
        advance(tx, request, RequestState.DENIED, body={"by": "end"}, decided_at=tx.now)
        tell(tx, "request_decided", request.person_id, request.id)
    following = tx.unchecked_all(
        select(Grant).where(Grant.extends.in_(keys), Grant.state.in_(LIVE_GRANTS)).with_for_update()
    )
    for grant in following:
        end_grant(tx, grant, cause, by=by)


def _continued(view: View, keys: Sequence[str]) -> frozenset[str]:
    """Return which of some grants go on in another: they closed as they were to, and nothing has ended for their people."""
    found = select(Grant.extends).where(Grant.extends.in_(keys), Grant.state.in_(LIVE_GRANTS))
    return frozenset(str(key) for key in view.rows(found).scalars())


def _live_leases(view: View, grant_ids: Sequence[str]) -> list[Lease]:
    return view.unchecked_all(select(Lease).where(Lease.grant_id.in_(grant_ids), Lease.state.in_(LIVE_LEASES)))


def _end_lease(tx: Tx, lease: Lease, cause: EndCause) -> None:
    advance(
        tx,
        lease,
        LeaseState.REVOKING,
        body={"cause": cause.value},
        cause=cause.value,
        ended_at=tx.now,
        next_at=tx.now,
        attempts=0,
    )


def end_grants(tx: Tx, grants: Sequence[Grant], cause: EndCause, *, by: str) -> int:
    """End a batch of live grants of any state in few statements; return how many."""
    listed = {grant.id for grant in grants}
    # What continues a grant of the batch ends with it, but for one that ran out.
    apart = cause is EndCause.EXPIRED
    live = [grant for grant in grants if grant.state in LIVE_GRANTS and (apart or grant.extends not in listed)]
    if not live:
        return 0
    changes: dict[str, object] = {"cause": cause.value, "ended_at": tx.now}
    advance_many(tx, [(grant, changes) for grant in live], GrantState.ENDED, body={"cause": cause.value, "by": by})
    leases = _live_leases(tx, [grant.id for grant in live])
    if leases:
        announce_leases(tx, leases, cause.value)
        changes = {"cause": cause.value, "ended_at": tx.now, "next_at": tx.now, "attempts": 0}
        advance_many(tx, [(lease, changes) for lease in leases], LeaseState.REVOKING, body={"cause": cause.value})
    _after(tx, live, cause, by=by)
    return len(live)


def live_grants(view: View, **where: str) -> list[Grant]:
    """Return live grants by person_id, target or id, seals unchecked."""
    statement = select(Grant).where(Grant.state.in_(LIVE_GRANTS))
    for name, value in where.items():
        statement = statement.where(getattr(Grant, name) == value)
    return view.unchecked_all(statement)


def hand_back(tx: Tx, current: Current, grant_id: str) -> Grant:
    """Give one's own access back early (cause `returned`); a session suffices, because it only takes away."""
    grant = tx.unchecked_get(Grant, grant_id)
    if grant is None or grant.person_id != current.person.id:
        raise JitError(Kind.NOT_FOUND, "There is no such access of yours.")
    if grant.state not in LIVE_GRANTS:
        raise JitError(Kind.CONFLICT, "This access has ended already.")
    end_grant(tx, grant, EndCause.RETURNED, by=current.person.id)
    return grant


def revoke(tx: Tx, broker: Broker, current: Current, grant_id: str) -> Grant | Refused:
    """End somebody's access: administrators, and everybody who could have approved it or whose institution owns the target."""
    grant = tx.unchecked_get(Grant, grant_id)
    if grant is None or not may_revoke(tx, broker, current, grant):
        raise JitError(Kind.NOT_FOUND, "There is no such access that you may end.")
    if grant.state not in LIVE_GRANTS:
        raise JitError(Kind.CONFLICT, "This access has ended already.")
    end_grant(tx, grant, EndCause.REVOKED, by=current.person.id)
    return grant


def revocable(view: View, broker: Broker, current: Current, request_id: str) -> Grant | None:
    """Return the live grant of a request that this person may end, or None; of one's own, handing back is the way."""
    grants = live_grants(view, request_id=request_id)
    return next(
        (one for one in grants if one.person_id != current.person.id and may_revoke(view, broker, current, one)), None
    )


def may_revoke(view: View, broker: Broker, current: Current, grant: Grant) -> bool:
    """Say whether this person may end this grant: administrators end everybody's."""
    return is_admin(view, current.person.id) or ends_by_right(view, broker, current, grant)


def ends_by_right(view: View, broker: Broker, current: Current, grant: Grant) -> bool:
    """Say whether this person has a part in this grant by which to end it: also whoever could sign for it after a wait only."""
    if grant.person_id == current.person.id:
        return True
    policies = broker.policies.active_or_none(view)
    person = register(view).persons.get(current.person.id)
    if policies is None or person is None or grant.target not in policies.targets:
        return False
    if policies.targets[grant.target].owner == person.institution:
        return True
    asked = [rule.terms.approval for rule in policies.rules_for(grant.target, grant.entitlement)]
    return any(person.id in named(terms, register=register(view)) for terms in asked if terms is not None)


def stuck(view: View) -> list[Lease]:
    """Return the leases whose revocation does not succeed."""
    return view.unchecked_all(select(Lease).where(Lease.state == LeaseState.STUCK.value).order_by(Lease.ended_at))


def grants_of(view: View, person_id: str, *, limit: int = 50) -> list[Grant]:
    """Return a person's grants, live ones first, then the newest; seals unchecked, because this only shows."""
    return view.unchecked_all(
        select(Grant)
        .where(Grant.person_id == person_id)
        .order_by(Grant.state.in_(LIVE_GRANTS).desc(), Grant.created_at.desc())
        .limit(limit)
    )
