"""How does an approved request become a grant, and what may stand in its way? Shared by filing and approving.

A grant's window never reaches beyond what was signed: `ends_at <= latest_end`, also when it starts only at activation. Holds on
the target or the whole instance refuse new acts. Overlapping grants are rows of their own: the end of one neither cuts nor
prolongs another (R56).
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import cast

from jitaccess.broker import asking, schedule
from jitaccess.broker.context import Broker
from jitaccess.broker.informing import Informing, inform
from jitaccess.domain.events import EventType
from jitaccess.domain.lifecycle import GrantState
from jitaccess.domain.values import Refused
from jitaccess.errors import Kind
from jitaccess.identity.enrolment import tell
from jitaccess.identity.people import on_hold, register
from jitaccess.policy.course import OWNER, PLAIN, Course
from jitaccess.policy.evaluate import Terms
from jitaccess.proof.assertion import Assertion
from jitaccess.proof.canonical import JsonValue, digest_b64u, sha256_b64u
from jitaccess.proof.statements import ApprovalStatement, Verdict
from jitaccess.store.db import Tx, View
from jitaccess.store.tables import AccessRequest, Approval, Grant


def held(view: View, broker: Broker, target: str) -> Refused | None:
    """Say whether a hold stands in the way of anything new on this target."""
    if on_hold(view, "target", target):
        return Refused(Kind.FORBIDDEN, "target_on_hold", "This target is on hold. Ask an administrator.")
    if broker.db.ahead() > timedelta(seconds=broker.settings.sweep.jump_s):
        return Refused(
            Kind.UNAVAILABLE,
            "clock_wrong",
            "The clock is behind the times in the log, so nothing new is given out. Ask an administrator.",
        )
    if on_hold(view, "instance", broker.site.instance_id):
        return Refused(
            Kind.UNAVAILABLE, "instance_on_hold", "Nothing new is given out at the moment. Ask an administrator."
        )
    return None


def latest_end(request_created: float, terms: Terms, duration_s: int, *, start: int = 0) -> int:
    """Return the absolute bound (UTC seconds) that approvers sign: waiting, activation, duration and grace, and not a second more.

    A start in the future waits as well, beside the waiting for approval, not after it.
    """
    waiting = terms.pending_s or 0 if terms.steps else 0
    begins = max(int(request_created) + waiting + terms.course.wait_s, start)
    return begins + (terms.activate_within_s or 0) + duration_s + (terms.course.grace_s or 0) + 1


def approvals_digest(approvals: Sequence[Approval]) -> str:
    """Return base64url SHA-256 over the RFC 8785 form of the sorted [statement digest, assertion digest] pairs of the approvals."""
    pairs = sorted(
        [sha256_b64u(found.statement), Assertion.from_json(found.assertion).digest()]
        for found in approvals
        if found.verdict == "approve" and found.statement is not None
    )
    return digest_b64u(pairs)


def first_start(tx: Tx, request: AccessRequest, terms: Terms) -> datetime | None:
    """Return when a grant approved now begins at the earliest; None for at once.

    The latest of: the start asked for, the end of the delay, and the moment when the grant that it continues closes.
    """
    base = tx.get(Grant, request.extends) if request.extends is not None else None
    delay = terms.course.delay
    waits = [
        request.earliest_start,
        None if base is None else base.closes_at or base.ends_at,
        None if delay is None else tx.now + timedelta(seconds=delay.time_lock_s),
    ]
    found = max(at for at in waits if at is not None)
    return found if found > tx.now else None


def kept_course(tx: Tx, terms: Terms) -> JsonValue:
    """Return what of the course the grant keeps; None when nothing of it is used.

    Ending a grant asks neither policy nor register, so the witnesses of its end are named, by id, when it begins.
    """
    course = terms.course
    if course is PLAIN:
        return None
    kept: dict[str, JsonValue] = {}
    if course.grace_s is not None:
        kept["grace_s"] = course.grace_s
    if course.warn_s is not None:
        kept["warn_s"] = course.warn_s
    if course.delay is not None and course.delay.veto:
        kept["veto"] = [*course.delay.veto]
    for event in ("ended", "held"):
        people = sorted(witnesses(tx, course, event))
        if people:
            kept[event] = [*people]
    return kept or None


def tell_witnesses(tx: Tx, course: Course, event: str, person_id: str, subject_id: str) -> None:
    """Tell the witnesses of a filing or a grant; its own person is none."""
    told = sorted(witnesses(tx, course, event) - {person_id}) if course is not PLAIN else ()
    inform(tx, [Informing(f"witness_{event}", witness, person_id, subject_id) for witness in told])


def witnesses(view: View, course: Course, event: str) -> frozenset[str]:
    """Return the ids of all who are told of what happened."""
    people = register(view)
    groups = dict(course.notify).get(event, ())
    return frozenset[str]().union(*(people.members(group) for group in groups)) & people.able


def may_veto(view: View, broker: Broker, grant: Grant) -> frozenset[str]:
    """Return the ids of all who may stop this grant while it waits, as the register is now; its own person may hand it back."""
    named = cast("dict[str, list[str]]", grant.course or {}).get("veto", ())
    if not named:
        return frozenset()
    people = register(view)
    target = broker.policies.active(view).targets.get(grant.target)
    owners = people.of_institution(target.owner) if target is not None and OWNER in named else frozenset[str]()
    return owners.union(*(people.members(group) for group in named)) & people.able


def signed_s(approval: Approval) -> int | None:
    """Return for how many seconds at most an approver signed; None for a denial, and for what bears no signature."""
    if approval.verdict != Verdict.APPROVE.value or approval.statement is None:
        return None
    return ApprovalStatement.parse(approval.statement).max_duration_s


def smallest_signed(request: AccessRequest, approvals: Sequence[Approval]) -> int:
    """Return for how many seconds access is given: what was asked for, or the least that an approver signed."""
    return min([request.duration_s, *(seconds for seconds in map(signed_s, approvals) if seconds is not None)])


def create_grant(tx: Tx, broker: Broker, request: AccessRequest, approvals: Sequence[Approval]) -> Grant:
    """Write the grant of an approved request. Its clock starts now, at the start asked for, or at activation (T-11)."""
    terms = Terms.from_document(request.terms)
    duration_s = smallest_signed(request, approvals)
    key = tx.new_id()
    not_before = first_start(tx, request, terms)
    # What continues a grant goes on where that one closes: its clock waits for nobody.
    wait_s = terms.activate_within_s if request.extends is None else None
    later = wait_s is not None or not_before is not None
    course = kept_course(tx, terms)
    window = schedule.Window() if later else schedule.window(request, course, tx.now, duration_s=duration_s)
    digest = approvals_digest(approvals)
    state = GrantState.SCHEDULED if later else GrantState.ACTIVE
    event = tx.record(
        EventType.GRANT_CREATED,
        subject={
            "request": request.id,
            "grant": key,
            "person": request.person_id,
            "target": request.target,
            "entitlement": request.entitlement,
        },
        body={
            "state": state.value,
            "duration_s": duration_s,
            "approvals": len(approvals),
            "approvals_digest": digest,
            "policy_digest": request.policy_digest,
            **({"extends": request.extends} if request.extends is not None else {}),
        },
    )
    grant = tx.insert(
        Grant,
        event,
        id=key,
        request_id=request.id,
        person_id=request.person_id,
        account_id=request.account_id,
        target=request.target,
        entitlement=request.entitlement,
        state=state.value,
        duration_s=duration_s,
        starts_at=window.starts_at,
        ends_at=window.ends_at,
        activate_by=None if wait_s is None else (not_before or tx.now) + timedelta(seconds=wait_s),
        latest_end=request.latest_end,
        policy_digest=request.policy_digest,
        approvals_digest=digest,
        created_at=tx.now,
        not_before=not_before,
        extends=request.extends,
        closes_at=window.closes_at,
        course=course,
        warn_at=window.warn_at,
    )
    if approvals:
        tell(tx, "grant_ready" if not_before is None else "grant_scheduled", request.person_id, key)
    tell_witnesses(tx, terms.course, "granted", request.person_id, key)
    _tell_vetoers(tx, broker, grant)
    return grant


def _tell_vetoers(tx: Tx, broker: Broker, grant: Grant) -> None:
    """Tell who may stop a grant while it waits: all of the named groups; of an institution as many as a lot of the day draws.

    Everybody else of the institution keeps the right. Whoever was told of many within the hour is told later (R26).
    """
    able = may_veto(tx, broker, grant) - {grant.person_id}
    if not able or grant.not_before is None:
        return
    limits, people = broker.settings.limits, register(tx)
    named = cast("dict[str, list[str]]", grant.course or {})["veto"]
    of_groups = frozenset[str]().union(*(people.members(group) for group in named)) & able
    drawn = asking.in_order_of_lot(broker, tx.now, f"{grant.person_id}/{grant.target}/veto", able - of_groups)
    told = sorted(of_groups.union(drawn[: limits.veto_owners_told]))
    busy = asking.told_often(tx, frozenset(told), "veto_possible", limits.messages_per_approver_hour)
    later = asking.kept_back(tx.now, grant.not_before)
    for person in told:
        tell(tx, "veto_possible", person, grant.id, after=later if person in busy else None)
