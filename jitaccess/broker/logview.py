"""What does the log say, for people who read it in a browser? Reading it is itself an event (R71).

Only shows: what the log proves is for `audit.verify` to say.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import func, select

from jitaccess.broker.context import Broker
from jitaccess.domain.events import EventType
from jitaccess.domain.lifecycle import LeaseState
from jitaccess.identity.sessions import Current
from jitaccess.proof.canonical import b64u_encode
from jitaccess.store.db import View
from jitaccess.store.tables import AccessRequest, Approval, ApprovalSet, Deputation, Event, Lease, Passkey, PolicySetRow

PAGE = 50


@dataclass(frozen=True, slots=True)
class LogLine:
    """One event for people."""

    id: str
    index: int | None
    at: datetime
    type: str
    person_id: str | None
    subject: dict[str, Any]
    body: dict[str, Any]


def newest(view: View, *, kind: str = "", person: str = "", before: int | None = None) -> list[LogLine]:
    """Return a page of events, newest first; `before` is the number that the last page ended with.

    Those that wait for their number come first. They are asked for apart: each question then reads one index from its end.
    """
    wanted = select(Event)
    if kind:
        wanted = wanted.where(Event.type == kind)
    if person:
        wanted = wanted.where(Event.person_id == person)
    rows = view.all(wanted.where(Event.idx.is_(None)).order_by(Event.id.desc()).limit(PAGE)) if before is None else []
    if len(rows) < PAGE:
        numbered = wanted.where(Event.idx.is_not(None) if before is None else Event.idx < before)
        rows += view.all(numbered.order_by(Event.idx.desc()).limit(PAGE - len(rows)))
    found: list[LogLine] = []
    for row in rows:
        leaf = json.loads(row.leaf)
        found.append(LogLine(row.id, row.idx, row.at, row.type, row.person_id, leaf["subject"], leaf["body"]))
    return found


def note_reading(broker: Broker, current: Current, what: str) -> None:
    """Tell the log that somebody read it."""
    with broker.begin(current.actor) as tx:
        tx.record(EventType.ADMIN_READ, subject={"person": current.person.id}, body={"what": what})


def policy_sets(view: View) -> list[PolicySetRow]:
    """Return the policy sets, newest first."""
    return view.usable(select(PolicySetRow).order_by(PolicySetRow.proposed_at.desc()).limit(20))


def health(view: View) -> dict[str, int]:
    """Return what an operator looks at first: revocations under way, stuck ones, events that wait for their number."""
    waiting = view.scalar(select(func.count()).where(Lease.state == LeaseState.REVOKING.value))
    stuck = view.scalar(select(func.count()).where(Lease.state == LeaseState.STUCK.value))
    unnumbered = view.scalar(select(func.count()).where(Event.idx.is_(None)))
    return {"revoking": waiting, "stuck": stuck, "unnumbered": unnumbered}


def evidence(view: View, request_id: str) -> dict[str, Any]:
    """Return the signed statements of a request with assertions and public keys, for a verifier that is not ours (R23)."""
    row = view.require(AccessRequest, request_id)
    votes = view.all(
        select(Approval)
        .where(Approval.request_id == request_id, Approval.statement.is_not(None), Approval.lost_at.is_(None))
        .order_by(Approval.given_at)
    )

    def key_of(passkey_id: str | None) -> dict[str, Any]:
        passkey = view.unchecked_get(Passkey, passkey_id or "")
        if passkey is None:
            return {}
        return {"public_key_der_b64u": b64u_encode(passkey.public_key_der), "algorithm": passkey.algorithm}

    def set_of(set_id: str | None) -> dict[str, Any]:
        """Return the set that an approval was signed with: its assertion is over these bytes (ADR 0011)."""
        row = view.get(ApprovalSet, set_id)
        return {} if row is None else {"set_statement_b64u": b64u_encode(row.statement)}

    return {
        "filing": {
            "statement_b64u": b64u_encode(row.filing_statement),
            "assertion": row.filing_assertion,
            **key_of(row.filing_passkey_id),
        },
        "approvals": [
            {
                "statement_b64u": b64u_encode(cast(bytes, vote.statement)),
                "assertion": vote.assertion,
                "event": vote.event_id,
                **set_of(vote.set_id),
                **key_of(vote.passkey_id),
            }
            for vote in votes
        ],
        **_lent(view, votes, key_of),
    }


def _lent(view: View, votes: Sequence[Approval], key_of: Callable[[str | None], dict[str, Any]]) -> dict[str, Any]:
    """Return the deputations under which approvals were given; nothing where nobody signed in another's place."""
    keys = sorted({vote.deputation_id for vote in votes if vote.deputation_id is not None})
    if not keys:
        return {}
    found = [view.require(Deputation, key) for key in keys]
    return {
        "deputations": [
            {
                "statement_b64u": b64u_encode(row.statement),
                "assertion": row.assertion,
                "event": row.event_id,
                **key_of(row.passkey_id),
            }
            for row in found
        ]
    }
