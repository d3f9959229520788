"""What does an auditor read? Requests with what became of them, one story from request to proof, a sample that can be repeated.

Only reads; the doors note each reading in the log (R71). Rows come by their ids, which sort by time. A sample is the `n` grants with
the smallest SHA-256 of `<seed>/<grant id>`: whoever has the seed and the ids draws the same one again, with any tool.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from heapq import nsmallest
from typing import Any

from sqlalchemy import Select, func, or_, select

from jitaccess.broker.context import Broker
from jitaccess.domain.lifecycle import GrantState, RequestState
from jitaccess.errors import JitError, Kind
from jitaccess.identity.people import register
from jitaccess.store.db import View
from jitaccess.store.ids import new_secret
from jitaccess.store.tables import AccessRequest, Approval, Event, EventText, Grant, Lease, Veto

PAGE = 25
MOST_SAMPLED = 200
MOST_PEOPLE = 5_000
"""People whom a filter by name may mean: their ids go into one statement."""
CHUNK = 500
STATES = (
    *(state.value for state in RequestState),
    *(state.value for state in GrantState if state is not GrantState.SCHEDULED),
)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which requests; an empty field does not filter. `start <= filed at < end`."""

    target: str = ""
    entitlement: str = ""
    person: str = ""
    """A part of the requester's name, or an id."""
    state: str = ""
    """A state of the request or of its grant."""
    cause: str = ""
    """Why the grant ended."""
    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """One verdict on a request."""

    step: str
    person_id: str
    verdict: str
    """approve | deny"""
    deputy_of: str | None = None
    """In whose place it was given."""
    signed: bool = True
    """False for a refusal that still waits for its signature; it counts all the same."""
    max_duration_s: int | None = None
    """The shorter time that this approver signed; None where it is what was asked for."""
    set_id: str | None = None
    """The set of approvals with which it was signed; None for one that was signed by itself."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """One veto."""

    person_id: str
    signed: bool


@dataclass(frozen=True, slots=True)
class Line:
    """One request with what became of it."""

    request_id: str
    filed_at: datetime
    person_id: str
    target: str
    entitlement: str
    inputs: Mapping[str, Any]
    duration_s: int
    reason: str
    state: str
    decided_at: datetime | None
    policy_digest: str
    approvals: tuple[Said, ...]
    """In the order given."""
    grant_id: str | None = None
    grant_state: str | None = None
    opened_at: datetime | None = None
    ends_at: datetime | None = None
    ended_at: datetime | None = None
    cause: str | None = None
    revoked_at: datetime | None = None
    """When the last credential was read back as gone."""
    vetoes: tuple[Stopped, ...] = ()
    extends: str | None = None
    """The access that this request continues."""


def lines(view: View, wanted: Filter, *, before: str = "", most: int = PAGE) -> list[Line]:
    """Return a page of requests, newest first; `before` is the id that the last page ended with."""
    statement = _filtered(view, wanted, _columns()).order_by(AccessRequest.id.desc()).limit(most)
    if before:
        statement = statement.where(AccessRequest.id < before)
    return _completed(view, view.rows(statement).all())


def every_line(broker: Broker, wanted: Filter) -> Iterator[Line]:
    """Give all requests that match, newest first; in chunks, each in a read of its own, so that none lasts long."""
    before = ""
    while True:
        with broker.read() as view:
            found = lines(view, wanted, before=before, most=CHUNK)
        yield from found
        if len(found) < CHUNK:
            return
        before = found[-1].request_id


def count(view: View, wanted: Filter) -> int:
    """Return how many requests match."""
    return int(view.scalar(_filtered(view, wanted, select(func.count(AccessRequest.id)))))


def _columns() -> Select[*tuple[Any, ...]]:
    return select(
        AccessRequest.id, AccessRequest.created_at, AccessRequest.person_id, AccessRequest.target, AccessRequest.entitlement,
        AccessRequest.inputs, AccessRequest.duration_s, AccessRequest.reason, AccessRequest.state, AccessRequest.decided_at,
        AccessRequest.policy_digest, AccessRequest.extends, Grant.id.label("grant_id"), Grant.state.label("grant_state"), Grant.starts_at,
        Grant.ends_at, Grant.ended_at, Grant.cause,
    )  # fmt: skip


def _filtered(view: View, wanted: Filter, columns: Select[*tuple[Any, ...]]) -> Select[*tuple[Any, ...]]:
    statement = columns.select_from(AccessRequest).outerjoin(Grant, Grant.request_id == AccessRequest.id)
    if wanted.target:
        statement = statement.where(AccessRequest.target == wanted.target)
    if wanted.entitlement:
        statement = statement.where(AccessRequest.entitlement == wanted.entitlement)
    if wanted.state:
        statement = statement.where(or_(AccessRequest.state == wanted.state, Grant.state == wanted.state))
    if wanted.cause:
        statement = statement.where(Grant.cause == wanted.cause)
    if wanted.start is not None:
        statement = statement.where(AccessRequest.created_at >= wanted.start)
    if wanted.end is not None:
        statement = statement.where(AccessRequest.created_at < wanted.end)
    if wanted.person:
        text = wanted.person.casefold()
        known = register(view).persons.values()
        ids = [found.id for found in known if found.id == wanted.person or text in found.name.casefold()]
        if len(ids) > MOST_PEOPLE:
            raise JitError(Kind.INVALID, "Too many people are called like that. Type more of the name.", field="person")
        statement = statement.where(AccessRequest.person_id.in_(ids))
    return statement


def _said(view: View, rows: Sequence[Any]) -> dict[str, list[Said]]:
    """Return request id -> its verdicts, in the order given."""
    asked = {row.id: row.duration_s for row in rows}
    given = (
        select(
            Approval.request_id, Approval.step, Approval.person_id, Approval.verdict, Approval.deputy_of,
            Approval.signed_at, Approval.statement, Approval.set_id,
        )
        .where(Approval.request_id.in_(list(asked)), Approval.lost_at.is_(None))
        .order_by(Approval.given_at, Approval.id)
    )  # fmt: skip
    found: dict[str, list[Said]] = {}
    for key, step, person, verdict, deputy_of, signed_at, statement, set_id in view.rows(given):
        signed_s = int(json.loads(statement)["max_duration_s"]) if statement is not None else asked[key]
        shorter = signed_s if signed_s < asked[key] else None
        found.setdefault(key, []).append(Said(step, person, verdict, deputy_of, signed_at is not None, shorter, set_id))
    return found


def _stopped(view: View, grants: Sequence[str]) -> dict[str, list[Stopped]]:
    """Return grant id -> its vetoes."""
    given = select(Veto.grant_id, Veto.person_id, Veto.signed_at).where(Veto.grant_id.in_(grants))
    found: dict[str, list[Stopped]] = {}
    for key, person, signed_at in view.rows(given.order_by(Veto.given_at, Veto.id)):
        found.setdefault(key, []).append(Stopped(person, signed_at is not None))
    return found


def _completed(view: View, rows: Sequence[Any]) -> list[Line]:
    """Add verdicts, vetoes and revocations, each in one read."""
    votes: dict[str, list[Said]] = {}
    stopped: dict[str, list[Stopped]] = {}
    gone: dict[str, datetime] = {}
    if rows:
        votes = _said(view, rows)
        grants = [row.grant_id for row in rows if row.grant_id is not None]
        stopped = _stopped(view, grants)
        revoked = (
            select(Lease.grant_id, func.max(Lease.revoked_at))
            .where(Lease.grant_id.in_(grants))
            .group_by(Lease.grant_id)
        )
        gone = {key: at for key, at in view.rows(revoked) if at is not None}
    return [
        Line(
            row.id, row.created_at, row.person_id, row.target, row.entitlement, row.inputs, row.duration_s, row.reason or "",
            row.state, row.decided_at, row.policy_digest, tuple(votes.get(row.id, ())), row.grant_id, row.grant_state,
            row.starts_at, row.ends_at, row.ended_at, row.cause, gone.get(row.grant_id or ""),
            tuple(stopped.get(row.grant_id or "", ())), row.extends,
        )
        for row in rows
    ]  # fmt: skip


# ---------------------------------------------------------------- a sample


@dataclass(frozen=True, slots=True)
class Sample:
    """Grants drawn at random, and what is needed to draw them again."""

    seed: str
    of: int
    """How many grants it was drawn from."""
    lines: tuple[Line, ...]


def sample(view: View, wanted: Filter, *, size: int, seed: str = "") -> Sample:
    """Draw `size` grants that match; with the seed of an earlier draw the same ones, as long as the same ones match."""
    seed = seed or new_secret()
    # Every id has to be hashed; the join is spared where nothing asks for the request.
    # They come as one text: a row for each of them would cost more than the hashing.
    one_text = select(func.aggregate_strings(Grant.id, ","))
    of = one_text.select_from(Grant) if wanted == Filter() else _filtered(view, wanted, one_text)
    found_ids = view.scalar(of.where(Grant.id.is_not(None)))
    ids = found_ids.split(",") if found_ids else []
    drawn = draw(ids, size=size, seed=seed)
    drawn_from = select(Grant.request_id).where(Grant.id.in_(drawn))
    rows = view.rows(_filtered(view, Filter(), _columns()).where(AccessRequest.id.in_(drawn_from))).all()
    found = [row for row in rows if row.grant_id in drawn]
    order = {grant: number for number, grant in enumerate(drawn)}
    return Sample(seed, len(ids), tuple(_completed(view, sorted(found, key=lambda row: order[row.grant_id]))))


def draw(ids: Sequence[str], *, size: int, seed: str) -> list[str]:
    """Return the `size` ids with the smallest SHA-256 of `<seed>/<id>`."""
    start = f"{seed}/"
    ranked = [(sha256((start + key).encode()).digest(), key) for key in ids]
    return [key for _, key in nsmallest(min(size, MOST_SAMPLED), ranked)]


# ---------------------------------------------------------------- one story


@dataclass(frozen=True, slots=True)
class Moment:
    """One event of a story."""

    index: int | None
    """Number of the leaf; None while it waits for one."""
    at: datetime
    type: str
    person_id: str | None
    """Who acted."""
    facts: Mapping[str, Any]
    """Codes, counts and digests of the leaf's body, and the ids of its subject."""
    texts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Story:
    """A request from its filing to the proof that nothing of it is left."""

    line: Line
    moments: tuple[Moment, ...]
    leases: tuple[tuple[str, str, datetime | None, datetime | None, Any], ...]
    """(id, state, ended at, revoked at, what the target's read-back said)."""
    covered_by: int | None
    """Size of the newest signed checkpoint, if it covers every moment."""


def story(view: View, broker: Broker, request_id: str) -> Story | None:
    """Tell a request from the log, oldest first; None when there is none."""
    rows = view.rows(_filtered(view, Filter(), _columns()).where(AccessRequest.id == request_id)).all()
    if not rows:
        return None
    line = _completed(view, rows)[0]
    told = view.all(
        select(Event)
        .where(or_(Event.request_id == request_id, Event.grant_id == (line.grant_id or "")))
        .order_by(Event.at, Event.idx, Event.id)
    )
    texts: dict[str, dict[str, str]] = {}
    for text in view.all(select(EventText).where(EventText.event_id.in_([event.id for event in told]))):
        texts.setdefault(text.event_id, {})[text.name] = text.text
    moments = []
    for event in told:
        leaf = json.loads(event.leaf)
        facts = {
            **leaf["body"],
            **{name: value for name, value in leaf["subject"].items() if name in ("passkey", "approver")},
        }
        moments.append(Moment(event.idx, event.at, event.type, event.person_id, facts, texts.get(event.id, {})))
    leases = view.rows(
        select(Lease.id, Lease.state, Lease.ended_at, Lease.revoked_at, Lease.proof)
        .where(Lease.grant_id == (line.grant_id or ""))
        .order_by(Lease.created_at)
    )
    newest = broker.checkpoints.latest(view)
    numbers = [moment.index for moment in moments]
    covered = newest is not None and all(number is not None and number < newest.size for number in numbers)
    return Story(line, tuple(moments), tuple(tuple(row) for row in leases), newest.size if covered and newest else None)
