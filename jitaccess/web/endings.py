"""How are ends of access seen that are under way, and hurried? For administrators, on their pages and through the API.

Trying again at once takes nothing but a session: it only takes away, and is an event of the log.
"""

from typing import Any, cast

from flask import Blueprint, Response, jsonify, redirect, request
from werkzeug.wrappers import Response as BaseResponse

from jitaccess.broker import endings
from jitaccess.broker.context import Broker
from jitaccess.broker.endings import Ending
from jitaccess.clock import to_epoch_s
from jitaccess.errors import JitError, Kind
from jitaccess.identity import people
from jitaccess.store.tables import Lease
from jitaccess.web import answers, schemas, telling
from jitaccess.web.doors import current, own_path
from jitaccess.web.operations import documented
from jitaccess.web.paging import page, window
from jitaccess.web.readers import administrator


def blueprint(broker: Broker) -> Blueprint:
    """Return the doors over a broker."""
    doors = Blueprint("endings", __name__)

    def try_now(lease_id: str) -> Ending:
        me = current()
        with broker.begin(me.actor, lock=[(Lease, lease_id[:64])]) as tx:
            if not people.is_admin(tx, me.person.id):
                raise JitError(Kind.FORBIDDEN, "Only an administrator may do this.")
            return endings.as_endings(tx, broker, [endings.try_now(tx, lease_id)])[0]

    @doors.post("/leases/<lease_id>/try-now")
    def try_now_form(lease_id: str) -> BaseResponse:
        try_now(lease_id)
        return redirect(own_path(request.form.get("back", "/board")), 303)

    @doors.post("/api/leases/<lease_id>/try-now")
    @documented(
        "administration",
        "Try at once to take a credential away whose end is under way.",
        takes=schemas.Empty,
        answers=answers.Ending,
    )
    def try_now_call(lease_id: str) -> Response:
        schemas.body(schemas.Empty)
        return jsonify(ending_json(try_now(lease_id)))

    @doors.get("/api/endings")
    @documented(
        "administration",
        "List ends of access that are under way, stuck ones first, then the oldest.",
        query=schemas.PageQuery,
        answers=list[answers.Ending],
        paged=True,
    )
    def listed() -> Response:
        part = window(schemas.query(schemas.PageQuery), int, int, str)
        administrator(broker, "endings")
        with broker.read() as view:
            after = cast("endings.Place | None", part.after)
            found = endings.endings(view, broker, after=after, most=part.limit + 1)
        return page(found, part, endings.place_of, ending_json)

    return doors


def ending_json(found: Ending) -> dict[str, Any]:
    """Return an end of access that is under way."""
    lease = found.lease
    return {
        "lease_id": lease.id,
        "grant_id": lease.grant_id,
        "person_id": lease.person_id,
        "target": lease.target,
        "entitlement": found.grant.entitlement if found.grant is not None else None,
        "state": lease.state,
        "cause": lease.cause,
        "ended_at": to_epoch_s(lease.ended_at) if lease.ended_at is not None else None,
        "attempts": lease.attempts,
        "running": found.running,
        "next_at": to_epoch_s(found.next_at) if found.next_at is not None else None,
        "why": found.why.value if found.why is not None else None,
        "sentence": telling.why(found.why) if found.why is not None else "",
        "error": lease.last_error,
    }
