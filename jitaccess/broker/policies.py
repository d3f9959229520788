"""Which policy set is active, and what does it take to change it? (R28, R29, design.md section 6a)

The folder is a proposal; the active set is a signed row. Narrowing takes one signature, widening and rollback two different persons' (a
pilot: one). The compiled set is cached by the register's version, so every process sees a new one with its next transaction.
"""

from dataclasses import dataclass

from sqlalchemy import select

from jitaccess.domain.events import EventType
from jitaccess.errors import JitError, Kind
from jitaccess.identity.people import register
from jitaccess.policy.change import ChangeClass, PolicyChange, classify
from jitaccess.policy.course import OWNER
from jitaccess.policy.evaluate import CompiledRule, PolicySet
from jitaccess.store.db import Tx, View
from jitaccess.store.tables import PolicySetRow
from jitaccess.told import told


@dataclass(frozen=True, slots=True)
class Proposal:
    """A proposed set and what activating it takes."""

    row: PolicySetRow
    change: PolicyChange
    required: int


class Policies:
    """The active set."""

    def active(self, view: View) -> PolicySet:
        """Return the active set, compiled; raises UNAVAILABLE when there is none."""
        found = self.active_or_none(view)
        if found is None:
            raise JitError(Kind.UNAVAILABLE, "No policy is active yet: an administrator has to activate one.")
        return found

    def active_or_none(self, view: View) -> PolicySet | None:
        """Return the active set, or None before the first."""
        return view.cached("policy", _active)


def _active(view: View) -> PolicySet | None:
    # An old set that was put back, or one that was made active by hand, is left out: it must not stop the one that is.
    row = next(iter(view.usable(select(PolicySetRow).where(PolicySetRow.status == "active"))), None)
    return None if row is None else compiled(row)


def compiled(row: PolicySetRow) -> PolicySet:
    """Compile a stored set; raises SEAL_BROKEN when the document is not the one of its digest."""
    policies = PolicySet.from_document(row.document)
    if policies.digest != row.digest:
        raise JitError(Kind.SEAL_BROKEN, "A stored policy set does not give its digest; it is not used.")
    return policies


def propose(tx: Tx, policies: PolicySet, *, by: str) -> PolicySetRow:
    """Store a set as a proposal; an equal one that is proposed already is returned as it is."""
    known = tx.first(
        select(PolicySetRow).where(PolicySetRow.digest == policies.digest, PolicySetRow.status == "proposed")
    )
    if known is not None:
        return known
    key = tx.new_id()
    event = tx.record(EventType.POLICY_PROPOSED, subject={"policy": key}, body={"digest": policies.digest})
    return tx.insert(
        PolicySetRow,
        event,
        id=key,
        digest=policies.digest,
        document=dict(policies.document),
        status="proposed",
        proposed_by=by,
        proposed_at=tx.now,
    )


def proposal(view: View, active: PolicySet | None, policy_id: str, *, pilot: bool) -> Proposal:
    """Return a proposed or retired set with what activating it takes; a retired one is a rollback: two persons, never one."""
    row = view.require(PolicySetRow, policy_id, "There is no such policy set.")
    if row.status == "active":
        raise JitError(Kind.CONFLICT, "This policy set is active already.")
    change = classify(active, compiled(row))
    narrowing = change.kind is ChangeClass.NARROWING and row.status == "proposed"
    return Proposal(row, change, 1 if pilot or narrowing else 2)


def candidate(view: View, policy_id: str) -> tuple[PolicySetRow, PolicySet]:
    """Return a stored set of whatever state, compiled: to look at, not to decide by."""
    row = view.require(PolicySetRow, policy_id, "There is no such policy set.")
    return row, compiled(row)


def activate(tx: Tx, row: PolicySetRow) -> None:
    """Make a set the active one; the caller has counted the signatures."""
    unknown = sorted(_groups_of(compiled(row)) - register(tx).groups)
    if unknown:
        raise JitError(
            Kind.CONFLICT,
            told("These groups are not on the register: %(names)s. Add them first.", names=", ".join(unknown)),
        )
    for old in tx.unchecked_all(select(PolicySetRow).where(PolicySetRow.status == "active")):
        retired = tx.record(
            EventType.POLICY_ACTIVATED, subject={"policy": old.id}, body={"digest": old.digest, "now": "retired"}
        )
        tx.update(old, retired, status="retired")
    event = tx.record(
        EventType.POLICY_ACTIVATED, subject={"policy": row.id}, body={"digest": row.digest, "now": "active"}
    )
    tx.update(row, event, status="active", activated_at=tx.now)


def _groups_of(policies: PolicySet) -> set[str]:
    found: set[str] = set()
    for rule in policies.rules.values():
        found |= rule.groups
        found |= _signing_groups(rule)
        course = rule.terms.course
        found |= {group for _, groups in course.notify for group in groups}
        found |= set(course.delay.veto if course.delay is not None else ()) - {OWNER}
    return found


def _signing_groups(rule: CompiledRule) -> set[str]:
    """Return the groups whose members may sign for a rule, those it escalates to included."""
    approval = rule.terms.approval
    if approval is None:
        return set()
    named = {group for step in approval.steps for group in step.groups}
    return named | {part.group for reach in approval.reach for part in reach.escalate}
