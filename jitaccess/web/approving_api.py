"""The approver's part of the JSON API: inbox, approval, refusal and its signature; the same verbs as the pages."""

from flask import Blueprint, Response, jsonify

from jitaccess.broker import approve, pace
from jitaccess.broker.approve import Choice
from jitaccess.broker.comments import comments_of
from jitaccess.broker.context import Broker
from jitaccess.broker.unusual import unusual
from jitaccess.clock import to_epoch_us
from jitaccess.store.tables import AccessRequest
from jitaccess.web import answers, schemas
from jitaccess.web.api import begun, request_json, vote_json
from jitaccess.web.doors import current, settle
from jitaccess.web.operations import documented
from jitaccess.web.paging import page, part_of, window
from jitaccess.web.readers import auditor, note_overseen


def _urgency(row: AccessRequest) -> tuple[int, str]:
    return to_epoch_us(row.approve_by), row.id


def blueprint(broker: Broker) -> Blueprint:
    """Return the approver's part of the API over a broker."""
    api = Blueprint("approving_api", __name__, url_prefix="/api")

    @api.get("/approvals")
    @documented(
        "approvals",
        "List requests that wait for this person, the most urgent first.",
        query=schemas.PageQuery,
        answers=list[answers.AccessRequest],
        paged=True,
    )
    def inbox() -> Response:
        part = window(schemas.query(schemas.PageQuery), int, str)
        me = current()
        with broker.read() as view:
            found = approve.inbox(view, broker, me)
        return page(part_of(found, part, _urgency), part, _urgency, request_json)

    @api.get("/requests/<request_id>/approval")
    @documented("approvals", "Show what an approver needs to know before signing.", answers=answers.Waiting)
    def approval_show(request_id: str) -> Response:
        me = current()
        with broker.read() as view:
            found = settle(approve.facts(view, broker, request_id, me))
            written = comments_of(view, request_id)
        note_overseen(broker, found, "request")
        return jsonify(
            {
                **request_json(found.request),
                "votes": [vote_json(vote, written) for vote in found.votes],
                "requester": found.requester.name,
                "institution": found.requester.institution,
                "unit": found.requester.unit,
                "terms": found.request.terms,
                "open_steps": list(found.open_steps),
            }
        )

    @api.get("/approvals/pace")
    @documented("approvals", "Say how fast each approver decides.", answers=list[answers.Pace])
    def pace_() -> Response:
        auditor(broker, "pace")
        with broker.read() as view:
            found = pace.overview(view, broker)
        return jsonify(
            [
                {
                    "person_id": one.person_id,
                    "approvals": one.decisions,
                    "median_s": round(one.median_s, 1),
                    "hurried": one.hurried,
                    "percent": one.percent,
                }
                for one in found
            ]
        )

    @api.get("/requests/<request_id>/unusual")
    @documented("approvals", "Say what an approver should notice about a request.", answers=answers.Unusual)
    def unusual_(request_id: str) -> Response:
        """What an approver should notice about a request."""
        me = current()
        with broker.read() as view:
            facts = settle(approve.facts(view, broker, request_id, me))
            found = unusual(view, broker, facts.request)
        note_overseen(broker, facts, "request")
        touches = found.touches
        return jsonify(
            {
                "first_time": found.first_time,
                "out_of_hours": found.out_of_hours,
                "usual_s": found.usual_s,
                "last_request_id": found.last.id if found.last is not None else None,
                "changed": [{"name": part.name, "was": part.was, "now": part.now} for part in found.changed],
                "touches": None
                if touches is None
                else {
                    "target": touches.target.id,
                    "owner": touches.target.owner,
                    "risk": touches.entitlement.risk,
                    "held": touches.held,
                    "others": touches.others,
                },
            }
        )

    @api.post("/requests/<request_id>/approval/begin")
    @documented(
        "approvals", "Begin to approve; answers the statement to sign.", takes=schemas.Verdict, answers=answers.Begun
    )
    def approval_begin(request_id: str) -> Response:
        given = schemas.body(schemas.Verdict)
        me = current()
        choice = Choice(given.max_duration_s, given.comment, given.read_back)
        with broker.begin(me.actor, lock=[(AccessRequest, request_id)]) as tx:
            found = approve.begin_approval(tx, broker, me, request_id=request_id, choice=choice)
        return begun(settle(found))

    @api.post("/requests/<request_id>/approval/complete")
    @documented("approvals", "Approve with a signature.", takes=schemas.Answer, answers=answers.Approved)
    def approval_complete(request_id: str) -> Response:
        given = schemas.body(schemas.Answer)
        me = current()
        with broker.begin(me.actor, lock=approve.lock_of(broker, [request_id])) as tx:
            found = approve.complete_approval(
                tx, broker, me, request_id=request_id, challenge_id=given.challenge_id, response=given.response
            )
        done = settle(found)
        return jsonify(
            {
                "state": done.request.state,
                "open_steps": list(done.open_steps),
                "grant_id": done.grant.id if done.grant is not None else None,
            }
        )

    @api.post("/requests/<request_id>/deny")
    @documented("approvals", "Deny; takes effect at once.", takes=schemas.Denial, answers=answers.State)
    def deny(request_id: str) -> Response:
        given = schemas.body(schemas.Denial)
        me = current()
        with broker.begin(me.actor, lock=[(AccessRequest, request_id)]) as tx:
            found = approve.deny(tx, broker, me, request_id, comment=given.comment)
        return jsonify({"state": settle(found).state})

    @api.post("/requests/<request_id>/denial/begin")
    @documented("approvals", "Begin to sign a denial given before.", takes=schemas.Empty, answers=answers.Begun)
    def denial_begin(request_id: str) -> Response:
        schemas.body(schemas.Empty)
        me = current()
        with broker.begin(me.actor) as tx:
            found = approve.begin_denial_signature(tx, broker, me, request_id)
        return begun(settle(found))

    @api.post("/requests/<request_id>/denial/complete")
    @documented("approvals", "Sign the denial.", takes=schemas.Answer, answers=answers.DenialSigned)
    def denial_complete(request_id: str) -> Response:
        given = schemas.body(schemas.Answer)
        me = current()
        with broker.begin(me.actor, lock=[(AccessRequest, request_id)]) as tx:
            found = approve.complete_denial_signature(
                tx, broker, me, request_id=request_id, challenge_id=given.challenge_id, response=given.response
            )
        settle(found)
        return jsonify({"signed": True})

    return api
