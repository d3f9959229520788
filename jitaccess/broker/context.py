"""With what does the broker act, and how does a row change its state?

`Broker` holds the parts that `app.create_app` wired together. `advance` and `advance_many` are the only writers of a `state`
column: they check the table of `domain.lifecycle`, write by compare-and-set and record the event of the new state.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from jitaccess.audit.checkpoints import Checkpoints
from jitaccess.broker.policies import Policies
from jitaccess.broker.targets import Targets
from jitaccess.broker.verified import Verified
from jitaccess.clock import Clock
from jitaccess.domain.events import EventType
from jitaccess.domain.lifecycle import GrantState, LeaseState, RequestState, State, event_of, may_become
from jitaccess.domain.values import Actor
from jitaccess.domain.wording import word
from jitaccess.errors import JitError, Kind
from jitaccess.identity.site import Site
from jitaccess.proof.canonical import JsonValue
from jitaccess.sdk import Verifier
from jitaccess.settings import Settings
from jitaccess.store.db import Database, Lock, PendingEvent, Tx, View
from jitaccess.store.tables import AccessRequest, Base, Grant, Lease
from jitaccess.tokens.keys import Keyring
from jitaccess.tokens.status import StatusMemory
from jitaccess.told import told

Stateful = AccessRequest | Grant | Lease
_MACHINE: Mapping[type[Base], type[State]] = {AccessRequest: RequestState, Grant: GrantState, Lease: LeaseState}


@dataclass(frozen=True, slots=True)
class Broker:
    """The wired parts. Made once by `app.create_app`."""

    settings: Settings
    clock: Clock
    db: Database
    keyring: Keyring
    checkpoints: Checkpoints
    policies: Policies
    targets: Targets
    site: Site
    verified: Verified
    verifiers: dict[str, Verifier] = field(default_factory=dict)
    """Audience -> the verifier of its tokens, which remembers signatures and no right."""
    status: StatusMemory = field(default_factory=StatusMemory)
    """The status lists of this process."""
    may_grant: threading.Event = field(default_factory=threading.Event)
    """Set once everything overdue was ended after the start (R59); nothing is issued before."""
    ending: threading.Event = field(default_factory=threading.Event)
    """Set after each commit of this process that ended a lease or hurried one: what is left on its target need not wait for a tick."""

    @contextmanager
    def begin(self, actor: Actor, *, lock: Sequence[Lock] = ()) -> Iterator[Tx]:
        """Give a transaction (see `Database.begin`)."""
        with self.db.begin(actor, lock=lock) as tx:
            yield tx
        # A crash here, or nobody who waits for it, leaves the end to the next tick of any process: truth is in the rows.
        if tx.told_of(EventType.LEASE_REVOKING) or tx.told_of(EventType.LEASE_RETRIED):
            self.ending.set()

    def read(self) -> AbstractContextManager[View]:
        """Give a read-only view (see `Database.read`)."""
        return self.db.read()


def subject_of(row: Stateful) -> dict[str, str | None]:
    """Return the ids by which an event names a row of the flow."""
    match row:
        case AccessRequest():
            return {
                "request": row.id,
                "person": row.person_id,
                "target": row.target,
                "entitlement": row.entitlement,
            }
        case Grant():
            return {
                "request": row.request_id,
                "grant": row.id,
                "person": row.person_id,
                "target": row.target,
                "entitlement": row.entitlement,
            }
        case Lease():
            return {"grant": row.grant_id, "lease": row.id, "person": row.person_id, "target": row.target}


def advance(
    tx: Tx,
    row: Stateful,
    to: State,
    *,
    body: Mapping[str, JsonValue] | None = None,
    texts: Mapping[str, str] | None = None,
    **values: object,
) -> PendingEvent:
    """Move one row to its next state, with its event; `values` are further columns that change with it.

    Raises CONFLICT when the table does not allow the step or another transaction moved the row first.
    """
    event = _announce(tx, row, to, body, texts)
    tx.update(row, event, expect={"state": row.state}, state=to.value, **values)
    return event


def advance_many(
    tx: Tx,
    rows: Sequence[tuple[Stateful, Mapping[str, object]]],
    to: State,
    *,
    body: Mapping[str, JsonValue] | None = None,
    bodies: Sequence[Mapping[str, JsonValue]] | None = None,
) -> None:
    """Move a batch of rows of one class to the same state in one statement, each with its own event (design.md section 6).

    `body` is the same for all events, `bodies` gives one a row.
    """
    each = bodies if bodies is not None else [body or {}] * len(rows)
    tx.update_many(
        [
            (row, _announce(tx, row, to, one, None), {"state": to.value, **values})
            for (row, values), one in zip(rows, each, strict=True)
        ]
    )


def _announce(
    tx: Tx, row: Stateful, to: State, body: Mapping[str, JsonValue] | None, texts: Mapping[str, str] | None
) -> PendingEvent:
    now = _MACHINE[type(row)](row.state)
    if not may_become(now, to):
        raise JitError(
            Kind.CONFLICT, told("This is %(state)s already.", state=word(now.value)), state=now.value, wanted=to.value
        )
    return tx.record(event_of(to), subject=subject_of(row), body=body, texts=texts)
