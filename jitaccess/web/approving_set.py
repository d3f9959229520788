"""Signing several requests at once: the page shows every single statement before the passkey answers (R24, ADR 0011).

GET changes nothing. Without a script one chooses and looks; the signature itself needs the passkey's script like every other.
"""

import json
from collections.abc import Sequence
from typing import Any, cast

from flask import Blueprint, Response, abort, jsonify, render_template, request

from jitaccess.broker import approval_set, approve, pace
from jitaccess.broker.approval_set import LeftOut, SetCeremony
from jitaccess.broker.context import Broker
from jitaccess.identity import people
from jitaccess.identity.sessions import Current
from jitaccess.proof.canonical import JsonValue, b64u_encode, sha256_b64u
from jitaccess.proof.statements import (
    MAX_SET,
    MIN_SET,
    ApprovalSetStatement,
    ApprovalStatement,
    Purpose,
    Verdict,
    as_json,
)
from jitaccess.store.db import View
from jitaccess.store.tables import AccessRequest, Challenge
from jitaccess.web import answers, display, schemas
from jitaccess.web.doors import current, settle
from jitaccess.web.operations import documented


def blueprint(broker: Broker) -> Blueprint:
    """Return the pages and API calls of approval sets."""
    pages = Blueprint("approving_set", __name__)

    @pages.get("/approvals/set")
    def choose() -> str:
        """What could be signed together."""
        me = current()
        with broker.read() as view:
            return _page(broker, view, _choices(broker, view, me), None)

    @pages.post("/approvals/set/prepare")
    def prepare() -> str | tuple[str, int]:
        """Build the statements and show them whole; the passkey prompt opens by itself.

        What cannot be signed any more is left out and named; then nothing opens by itself, and with fewer than two one chooses anew.
        """
        me = current()
        keys = request.form.getlist("request")
        if len(keys) < MIN_SET:
            with broker.read() as view:
                return _page(broker, view, _choices(broker, view, me), None, kept=frozenset(keys), few=True), 400
        with broker.begin(me.actor, lock=approve.lock_of(broker, keys)) as tx:
            kept, left = approval_set.still_open(tx, broker, me, keys)
            few = bool(left) and len(kept) < MIN_SET
            mark = request.form.get("opened", "")
            found = None if few else approval_set.begin_set(tx, broker, me, kept, mark=mark)
        if found is None:
            with broker.read() as view:
                return _page(broker, view, _choices(broker, view, me), None, left, frozenset(kept)), 409
        begun = settle(found)
        with broker.read() as view:
            cards = []
            for data in begun.singles:
                said = ApprovalStatement.parse(data)
                card = _card(view.require(AccessRequest, said.request_id), dict(as_json(said)))
                cards.append(card | {"digest": sha256_b64u(data)})
            return _page(broker, view, cards, begun, left)

    @pages.get("/approvals/set/statement/<challenge_id>")
    def statement(challenge_id: str) -> Response:
        """The exact bytes of the set, for the person who is about to sign it."""
        return _download(_begun(broker, current(), challenge_id).statement or b"", "approval-set")

    @pages.get("/approvals/set/statement/<challenge_id>/<int:number>")
    def single(challenge_id: str, number: int) -> Response:
        """The exact bytes of one approval of the set."""
        singles = approval_set.singles_of(_begun(broker, current(), challenge_id))
        if number >= len(singles):
            abort(404)
        return _download(singles[number], f"approval-{number}")

    @pages.post("/api/approvals/set/begin")
    @documented(
        "approvals",
        "Begin to approve several requests as one set; answers every single statement.",
        takes=schemas.ApprovalSetBody,
        answers=answers.BegunSet,
    )
    def begin() -> Response:
        given = schemas.body(schemas.ApprovalSetBody)
        me = current()
        with broker.begin(me.actor, lock=approve.lock_of(broker, given.request_ids)) as tx:
            found = approval_set.begin_set(tx, broker, me, given.request_ids)
        begun = settle(found)
        return jsonify(
            {
                "challenge_id": begun.ceremony.challenge_id,
                "options": begun.ceremony.options,
                "statement_b64u": b64u_encode(begun.ceremony.statement or b""),
                "approvals_b64u": [b64u_encode(data) for data in begun.singles],
            }
        )

    @pages.post("/api/approvals/set/complete")
    @documented(
        "approvals", "Approve the set with one signature.", takes=schemas.Answer, answers=list[answers.ApprovedOfSet]
    )
    def complete() -> Response:
        given = schemas.body(schemas.Answer)
        me = current()
        with broker.read() as view:
            keys = approval_set.requests_of(view, me, given.challenge_id)
        with broker.begin(me.actor, lock=approve.lock_of(broker, keys)) as tx:
            found = approval_set.complete_set(tx, broker, me, challenge_id=given.challenge_id, response=given.response)
        return jsonify(
            [
                {
                    "request_id": done.request.id,
                    "state": done.request.state,
                    "open_steps": list(done.open_steps),
                    "grant_id": done.grant.id if done.grant is not None else None,
                }
                for done in settle(found)
            ]
        )

    return pages


def _choices(broker: Broker, view: View, me: Current) -> list[dict[str, Any]]:
    """Return what could be signed together."""
    free = approval_set.signable(approve.waiting_for(view, me.person.id))
    return [_card(waiting.request, _as_it_would_be(broker, me, waiting)) for waiting in free[:MAX_SET]]


def _card(row: AccessRequest, said: dict[str, Any]) -> dict[str, Any]:
    return {"row": row, "said": said}


def _as_it_would_be(broker: Broker, me: Current, waiting: approve.Waiting) -> dict[str, Any]:
    """Return a statement without its nonce: the page shows the same fields before and after the tap."""
    found = approve.statement_of(
        broker,
        waiting.request,
        approver=me.person.id,
        credential_id=me.passkey.credential_id,
        step=waiting.steps[0],
        verdict=Verdict.APPROVE.value,
        nonce=b64u_encode(bytes(16)),
        deputation=waiting.deputation,
    )
    value = dict(as_json(found))
    del value["nonce"]
    return value


def _page(
    broker: Broker,
    view: View,
    cards: list[dict[str, Any]],
    begun: SetCeremony | None,
    left: Sequence[LeftOut] = (),
    kept: frozenset[str] = frozenset(),
    *,
    few: bool = False,
) -> str:
    policies = broker.policies.active_or_none(view)
    # Requests for the same right carry the same terms: each kind of them is put into words once.
    kinds: list[tuple[str, str, object]] = []
    for card in cards:
        kind = (card["row"].target, card["row"].entitlement, card["row"].terms)
        if kind not in kinds:
            kinds.append(kind)
        card["drawn"] = kinds.index(kind)
    shown: dict[str, Any] | None = None
    if begun is not None:
        ceremony = begun.ceremony
        shown = {
            "challenge_id": ceremony.challenge_id,
            "opened": request.form.get("opened", ""),
            "ceremony": json.dumps({"challenge_id": ceremony.challenge_id, "options": ceremony.options}),
            "said": as_json(ApprovalSetStatement.parse(ceremony.statement or b"")),
        }
    return render_template(
        "approval_set.html",
        cards=cards,
        terms=[(target, right, display.terms_rows(cast(JsonValue, terms))) for target, right, terms in kinds],
        begun=shown,
        left=left,
        kept=kept,
        few=few,
        opened=pace.mark(broker, approval_set.PAGE, current().session.id, view.now),
        names={key: person.name for key, person in people.register(view).persons.items()},
        targets=policies.targets if policies is not None else {},
    )


def _begun(broker: Broker, me: Current, challenge_id: str) -> Challenge:
    with broker.read() as view:
        row = view.get(Challenge, challenge_id) if len(challenge_id) <= 64 else None
    if row is None or row.session_id != me.session.id or row.purpose != Purpose.APPROVAL_SET.value:
        abort(404)
    return row


def _download(data: bytes, name: str) -> Response:
    response = Response(data, content_type="application/json")
    response.headers["Content-Disposition"] = f'attachment; filename="{name}.json"'
    return response
