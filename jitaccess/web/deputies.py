"""Naming and ending a deputy: one page, one signature to name, one tap to end."""

from flask import Blueprint, Response, jsonify, redirect, render_template
from werkzeug.wrappers import Response as BaseResponse

from jitaccess.broker import deputies
from jitaccess.broker.context import Broker
from jitaccess.broker.deputies import Naming
from jitaccess.clock import to_epoch_s
from jitaccess.errors import JitError, Kind
from jitaccess.identity import people
from jitaccess.policy.schema import parse_duration
from jitaccess.store.tables import Deputation
from jitaccess.web import answers, schemas
from jitaccess.web.api import begun
from jitaccess.web.doors import current, settle
from jitaccess.web.operations import documented
from jitaccess.web.starts import posted_start

LENGTHS = ("1d", "3d", "7d", "14d", "30d")


def blueprint(broker: Broker) -> Blueprint:
    """Return the page and its API over a broker."""
    pages = Blueprint("deputies", __name__)
    _show(pages, broker)
    _change(pages, broker)
    return pages


def _show(pages: Blueprint, broker: Broker) -> None:
    @pages.get("/deputies")
    def deputies_show() -> str:
        me = current()
        with broker.read() as view:
            found = deputies.mine(view, me.person.id)
            register = people.register(view)
            lendable = deputies.lendable(view, broker, me)
            policies = broker.policies.active_or_none(view)
            now = view.now
        choices = [
            register.persons[key]
            for key in register.of_institution(me.person.institution) & register.able
            if key != me.person.id
        ]
        lengths = [parse_duration(text) for text in LENGTHS]
        return render_template(
            "deputies.html",
            found=found,
            choices=sorted(choices, key=lambda person: (person.name, person.id)),
            names={key: person.name for key, person in register.persons.items()},
            lengths=lengths,
            too_long=[seconds for seconds in lengths if not any(one.reached(seconds) for one in lendable)],
            lendable=lendable,
            beyond={row.id: [one for one in lendable if not one.reached(_lasts_s(row))] for row in found},
            targets=policies.targets if policies is not None else {},
            now=now,
        )

    @pages.get("/api/deputies")
    @documented("approvals", "List one's own deputies, and whose deputy one is.", answers=list[answers.Deputation])
    def deputies_list() -> Response:
        me = current()
        with broker.read() as view:
            found = deputies.mine(view, me.person.id)
        return jsonify([_json(row) for row in found])


def _lasts_s(row: Deputation) -> float:
    return (row.ends_at - row.starts_at).total_seconds()


def _json(row: Deputation) -> dict[str, object]:
    return {
        "id": row.id,
        "delegator": row.delegator_id,
        "deputy": row.deputy_id,
        "starts_at": to_epoch_s(row.starts_at),
        "ends_at": to_epoch_s(row.ends_at),
        "ended_at": to_epoch_s(row.ended_at) if row.ended_at else None,
    }


def _change(pages: Blueprint, broker: Broker) -> None:
    @pages.post("/api/deputies/begin")
    @documented("approvals", "Begin to name a deputy.", takes=schemas.DeputyBody, answers=answers.Begun)
    def naming_begin() -> Response:
        given = schemas.body(schemas.DeputyBody)
        me = current()
        start, wrong = posted_start(given.start)
        if wrong is not None:
            raise JitError(Kind.INVALID, wrong, field="start")
        with broker.begin(me.actor) as tx:
            found = deputies.begin_naming(tx, broker, me, Naming(given.deputy, start, given.lasts_s))
        return begun(settle(found))

    @pages.post("/api/deputies/complete")
    @documented("approvals", "Name the deputy with a signature.", takes=schemas.Answer, answers=answers.Deputation)
    def naming_complete() -> Response:
        given = schemas.body(schemas.Answer)
        me = current()
        with broker.begin(me.actor) as tx:
            found = deputies.complete_naming(tx, broker, me, challenge_id=given.challenge_id, response=given.response)
        return jsonify(_json(settle(found)))

    def end(deputation_id: str) -> Deputation:
        me = current()
        with broker.begin(me.actor) as tx:
            return deputies.end(tx, me, deputation_id)

    @pages.post("/deputies/<deputation_id>/end")
    def end_form(deputation_id: str) -> BaseResponse:
        end(deputation_id)
        return redirect("/deputies", 303)

    @pages.post("/api/deputies/<deputation_id>/end")
    @documented("approvals", "End a deputation at once.", takes=schemas.Empty, answers=answers.Deputation)
    def end_call(deputation_id: str) -> Response:
        schemas.body(schemas.Empty)
        return jsonify(_json(end(deputation_id)))
