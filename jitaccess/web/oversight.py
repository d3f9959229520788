"""What may auditors and administrators read through the JSON API? The same as on their pages, page by page.

Each reading is itself an event (R71). Nothing here changes anything but for turning a change down, which one person may.
"""

import json
from typing import Any

from flask import Blueprint, Response, jsonify

from jitaccess.audit import proofs
from jitaccess.broker import changes, logview, revoke
from jitaccess.broker.context import Broker
from jitaccess.broker.listing import events_page, grants_page, requests_page
from jitaccess.clock import to_epoch_s
from jitaccess.errors import JitError, Kind
from jitaccess.identity.changes import pending, signatures
from jitaccess.store.db import View
from jitaccess.store.tables import AccessRequest, Change, Event, Grant
from jitaccess.web import answers, schemas
from jitaccess.web.api import grant_json, request_json
from jitaccess.web.operations import documented
from jitaccess.web.paging import page, part_of, window
from jitaccess.web.readers import administrator, auditor


def blueprint(broker: Broker) -> Blueprint:
    """Return the addresses over a broker."""
    found = Blueprint("oversight", __name__, url_prefix="/api")
    _audit(found, broker)
    _proofs(found, broker)
    _administration(found, broker)
    return found


def event_json(row: Event) -> dict[str, Any]:
    """Return an event; `leaf` is the exact text that the log's tree holds."""
    leaf = json.loads(row.leaf)
    return {
        "id": row.id,
        "index": row.idx,
        "at": to_epoch_s(row.at),
        "type": row.type,
        "person_id": row.person_id,
        "subject": leaf["subject"],
        "body": leaf["body"],
        "leaf": row.leaf,
    }


def _last_id(row: AccessRequest | Grant) -> tuple[str]:
    return (row.id,)


def _audit(found: Blueprint, broker: Broker) -> None:
    @found.get("/audit/events")
    @documented(
        "audit",
        "List the log's events, newest first.",
        query=schemas.EventsQuery,
        answers=list[answers.Event],
        paged=True,
    )
    def events() -> Response:
        asked = schemas.query(schemas.EventsQuery)
        part = window(asked, int)
        auditor(broker, "log")
        with broker.read() as view:
            rows = events_page(
                view,
                before=int(part.after[0]) if part.after else None,
                limit=part.limit + 1,
                type_=asked.type,
                person=asked.person,
                request=asked.request,
                grant=asked.grant,
            )
        return page(rows, part, lambda row: (row.idx if row.idx is not None else -1,), event_json)

    @found.get("/audit/requests")
    @documented(
        "audit",
        "List everybody's requests, newest first.",
        query=schemas.RequestsQuery,
        answers=list[answers.AccessRequest],
        paged=True,
    )
    def requests_() -> Response:
        asked = schemas.query(schemas.RequestsQuery)
        part = window(asked, str)
        auditor(broker, "requests")
        with broker.read() as view:
            rows = requests_page(
                view,
                before=str(part.after[0]) if part.after else None,
                limit=part.limit + 1,
                person=asked.person,
                target=asked.target,
                state=asked.state or "",
            )
        return page(rows, part, _last_id, request_json)

    @found.get("/audit/grants")
    @documented(
        "audit",
        "List everybody's grants, newest first.",
        query=schemas.GrantsOfAllQuery,
        answers=list[answers.Grant],
        paged=True,
    )
    def grants() -> Response:
        asked = schemas.query(schemas.GrantsOfAllQuery)
        part = window(asked, str)
        auditor(broker, "grants")
        with broker.read() as view:
            rows = grants_page(
                view,
                before=str(part.after[0]) if part.after else None,
                limit=part.limit + 1,
                person=asked.person,
                target=asked.target,
                live=asked.live,
            )
        return page(rows, part, _last_id, grant_json)

    @found.get("/audit/requests/<request_id>/evidence")
    @documented(
        "audit",
        "Give the signed statements of a request with assertions and keys, for a verifier that is not ours.",
        answers=answers.Evidence,
    )
    def evidence(request_id: str) -> Response:
        auditor(broker, "evidence")
        with broker.read() as view:
            return jsonify(logview.evidence(view, request_id))


def _proofs(found: Blueprint, broker: Broker) -> None:
    @found.get("/audit/checkpoint")
    @documented("audit", "Give the newest signed checkpoint of the log.", answers=answers.Checkpoint)
    def checkpoint() -> Response:
        auditor(broker, "checkpoint")
        with broker.read() as view:
            row = broker.checkpoints.latest(view)
        if row is None:
            raise JitError(Kind.UNAVAILABLE, "The log has no signed checkpoint yet; ask again in a second.")
        return jsonify({"size": row.size, "note": row.note})

    @found.get("/audit/events/<event_id>/proof")
    @documented("audit", "Prove that an event is under the newest checkpoint.", answers=answers.Inclusion)
    def inclusion(event_id: str) -> Response:
        auditor(broker, "proof")
        with broker.read() as view:
            return jsonify(proofs.inclusion(view, event_id))

    @found.get("/audit/consistency")
    @documented(
        "audit",
        "Prove that an older tree is a prefix of a newer one.",
        query=schemas.ConsistencyQuery,
        answers=answers.Consistency,
    )
    def consistency() -> Response:
        asked = schemas.query(schemas.ConsistencyQuery)
        auditor(broker, "proof")
        with broker.read() as view:
            row = broker.checkpoints.latest(view)
            if row is None or not asked.old <= asked.new <= row.size:
                raise JitError(Kind.INVALID, "Give two sizes in order, none above that of the newest checkpoint.")
            return jsonify({"path": proofs.consistency(view, asked.old, asked.new)})


def _change_json(view: View, row: Change) -> dict[str, Any]:
    signed = [signature.person_id for signature in signatures(view, row.id)]
    return {
        "id": row.id,
        "kind": row.kind,
        "subject": row.subject_id,
        "payload": row.payload,
        "required": row.required,
        "signed_by": signed,
        "approve_by": to_epoch_s(row.approve_by),
    }


def _administration(found: Blueprint, broker: Broker) -> None:
    @found.get("/changes")
    @documented(
        "administration",
        "List changes that wait for a signature, newest first.",
        query=schemas.PageQuery,
        answers=list[answers.Change],
        paged=True,
    )
    def waiting() -> Response:
        part = window(schemas.query(schemas.PageQuery), str)
        administrator(broker, "changes")
        with broker.read() as view:
            rows = part_of(pending(view), part, lambda row: (row.id,), falling=True)
            shown = [(row.id, _change_json(view, row)) for row in rows]
        return page(shown, part, lambda row: (row[0],), lambda row: row[1])

    @found.post("/changes/<change_id>/reject")
    @documented("administration", "Turn a pending change down.", takes=schemas.Empty, answers=answers.Done)
    def reject(change_id: str) -> Response:
        schemas.body(schemas.Empty)
        me = administrator(broker)
        with broker.begin(me.actor) as tx:
            changes.reject(tx, change_id, by=me.person.id)
        return jsonify({})

    @found.get("/live-grants")
    @documented(
        "administration",
        "List everybody's live grants, newest first.",
        query=schemas.PageQuery,
        answers=list[answers.Grant],
        paged=True,
    )
    def live() -> Response:
        part = window(schemas.query(schemas.PageQuery), str)
        administrator(broker, "grants")
        with broker.read() as view:
            rows = part_of(revoke.live_grants(view), part, _last_id, falling=True)
        return page(rows, part, _last_id, grant_json)
