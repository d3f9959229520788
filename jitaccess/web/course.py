"""Pages and API of the course of access: extending it, and what witnesses see and may stop.

Stopping only takes away, so it is a plain form; extending is a request like any other, signed with the passkey.
"""

from dataclasses import replace

from flask import Blueprint, Response, jsonify, redirect, render_template
from werkzeug.wrappers import Response as BaseResponse

from jitaccess.broker import request as requests
from jitaccess.broker import revoke, veto
from jitaccess.broker.context import Broker
from jitaccess.broker.extend import begins, chain_of, closes, extending, prepare
from jitaccess.broker.request import Ask
from jitaccess.clock import to_epoch_s, to_epoch_us
from jitaccess.identity import people
from jitaccess.policy.evaluate import Effect, Terms
from jitaccess.policy.schema import parse_duration
from jitaccess.store.tables import AccessRequest, Grant
from jitaccess.web import answers, schemas
from jitaccess.web.api import begun, grant_json, request_json
from jitaccess.web.doors import current, settle
from jitaccess.web.operations import documented
from jitaccess.web.paging import page, part_of, window
from jitaccess.web.readers import note_overseen
from jitaccess.web.speech import say

STEPS = ("5m", "15m", "30m", "1h", "2h", "4h", "8h")


def blueprint(broker: Broker) -> Blueprint:
    """Return the pages and API over a broker."""
    course = Blueprint("course", __name__)
    _extending(course, broker)
    _witnessing(course, broker)
    _stopping(course, broker)
    return course


def _extending(course: Blueprint, broker: Broker) -> None:
    @course.get("/grants/<grant_id>/extend")
    def extend_show(grant_id: str) -> str:
        me = current()
        with broker.read() as view:
            ask = settle(prepare(view, me.person.id, Ask("", "", {}, None, "", extends=grant_id)))
            grant = view.require(Grant, grant_id)
            terms = Terms.from_document(view.require(AccessRequest, grant.request_id).terms)
            sofar = extending(chain_of(view, grant_id))
            allowed = terms.course.extensions
            left_s = min(terms.max_s, (allowed.total_s if allowed is not None else 0) - sofar.lasted_s)
            durations = [parse_duration(text) for text in STEPS if terms.min_s <= parse_duration(text) <= left_s]
            found = requests.preview(view, broker, me, replace(ask, duration_s=min(durations, default=None)))
            names = {key: person.name for key, person in people.register(view).persons.items()}
            policies = broker.policies.active(view)
            course_now = found.decision.terms.course if found.decision.terms is not None else terms.course
            end, first = closes(grant), begins(view, grant, course_now)
        refused = found.refused.message if found.refused is not None else None
        if found.decision.effect is Effect.DENY:
            refused = requests.sentence(found.decision.reasons[0])
        return render_template(
            "extend.html",
            grant=grant,
            target=policies.targets.get(grant.target),
            durations=durations,
            closes=end,
            wait_s=course_now.wait_s,
            begins=first,
            gap_s=int((first - end).total_seconds()) if first is not None and end is not None else 0,
            times_left=(allowed.count if allowed is not None else 0) - sofar.count,
            signers={step: sorted(names[key] for key in keys) for step, keys in found.signers.items()},
            refused=say(refused) if refused is not None else None,
        )

    @course.post("/api/grants/<grant_id>/extension/begin")
    @documented("grants", "Begin to ask for more time.", takes=schemas.Extension, answers=answers.Begun)
    def extend_begin(grant_id: str) -> Response:
        given = schemas.body(schemas.Extension)
        me = current()
        ask = Ask("", "", {}, given.duration_s, given.reason, extends=grant_id)
        with broker.begin(me.actor) as tx:
            found = requests.begin_filing(tx, broker, me, ask)
        return begun(settle(found))

    @course.post("/api/grants/<grant_id>/extension/complete")
    @documented("grants", "File the signed extension.", takes=schemas.Answer, answers=answers.Filed)
    def extend_complete(grant_id: str) -> Response:
        given = schemas.body(schemas.Answer)
        me = current()
        with broker.begin(me.actor, lock=requests.lock_of(me, extends=grant_id)) as tx:
            found = requests.complete_filing(tx, broker, me, challenge_id=given.challenge_id, response=given.response)
        filed = settle(found)
        following = filed.grant.id if filed.grant is not None else None
        return jsonify({"request_id": filed.request.id, "state": filed.request.state, "grant_id": following})


def _witnessing(course: Blueprint, broker: Broker) -> None:
    def shown(**which: str) -> str:
        me = current()
        with broker.read() as view:
            found = veto.witnessed(view, broker, me, **which)
            names = {key: person.name for key, person in people.register(view).persons.items()}
            policies = broker.policies.active_or_none(view)
            now = view.now
            seen = settle(found)
            endable = revoke.revocable(view, broker, me, seen.request.id)
        note_overseen(broker, seen, "request")
        target = policies.targets.get(seen.request.target) if policies is not None else None
        return render_template(
            "witness.html", seen=seen, row=seen.request, names=names, target=target, now=now, endable=endable
        )

    @course.get("/witness/requests/<request_id>")
    def witness_request(request_id: str) -> str:
        return shown(request_id=request_id)

    @course.get("/witness/grants/<grant_id>")
    def witness_grant(grant_id: str) -> str:
        return shown(grant_id=grant_id)

    def seen(**which: str) -> Response:
        me = current()
        with broker.read() as view:
            found = settle(veto.witnessed(view, broker, me, **which))
        note_overseen(broker, found, "request")
        vetoes = [
            {"person_id": one.person_id, "given_at": to_epoch_s(one.given_at), "signed": one.signed_at is not None}
            for one in found.vetoes
        ]
        return jsonify(
            {
                "request": request_json(found.request),
                "grant": grant_json(found.grant) if found.grant is not None else None,
                "vetoes": vetoes,
                "stoppable": found.stoppable,
                "unsigned": found.unsigned,
            }
        )

    @course.get("/api/witness/requests/<request_id>")
    @documented("grants", "Show a request to somebody who is told of it.", answers=answers.Witnessed)
    def seen_request(request_id: str) -> Response:
        return seen(request_id=request_id)

    @course.get("/api/witness/grants/<grant_id>")
    @documented("grants", "Show access to somebody who is told of it.", answers=answers.Witnessed)
    def seen_grant(grant_id: str) -> Response:
        return seen(grant_id=grant_id)


def _begins(row: Grant) -> tuple[int, str]:
    return to_epoch_us(row.not_before) if row.not_before is not None else 0, row.id


def _stopping(course: Blueprint, broker: Broker) -> None:
    def stop(grant_id: str) -> Grant:
        me = current()
        with broker.begin(me.actor, lock=[(Grant, grant_id)]) as tx:
            found = veto.give(tx, broker, me, grant_id)
        return settle(found)

    @course.get("/api/vetoes")
    @documented(
        "grants",
        "List access that waits and that this person may stop, the nearest start first.",
        query=schemas.PageQuery,
        answers=list[answers.Grant],
        paged=True,
    )
    def stoppable() -> Response:
        part = window(schemas.query(schemas.PageQuery), int, str)
        me = current()
        with broker.read() as view:
            found = part_of(veto.waiting(view, broker, me), part, _begins)
        return page(found, part, _begins, grant_json)

    @course.post("/grants/<grant_id>/veto")
    def veto_form(grant_id: str) -> BaseResponse:
        return redirect(f"/witness/grants/{stop(grant_id).id}", 303)

    @course.post("/api/grants/<grant_id>/veto")
    @documented(
        "grants", "Stop access that one witnesses; takes effect at once.", takes=schemas.Empty, answers=answers.Vetoed
    )
    def veto_call(grant_id: str) -> Response:
        schemas.body(schemas.Empty)
        grant = stop(grant_id)
        return jsonify({"grant_id": grant.id, "state": grant.state, "cause": grant.cause})

    @course.post("/api/grants/<grant_id>/veto/begin")
    @documented("grants", "Begin to sign a veto given before.", takes=schemas.Empty, answers=answers.Begun)
    def signature_begin(grant_id: str) -> Response:
        schemas.body(schemas.Empty)
        me = current()
        with broker.begin(me.actor) as tx:
            found = veto.begin_signature(tx, broker, me, grant_id)
        return begun(settle(found))

    @course.post("/api/grants/<grant_id>/veto/complete")
    @documented("grants", "Sign the veto.", takes=schemas.Answer, answers=answers.VetoSigned)
    def signature_complete(grant_id: str) -> Response:
        given = schemas.body(schemas.Answer)
        me = current()
        with broker.begin(me.actor) as tx:
            found = veto.complete_signature(
                tx, broker, me, grant_id=grant_id, challenge_id=given.challenge_id, response=given.response
            )
        return jsonify({"veto_id": settle(found).id})
