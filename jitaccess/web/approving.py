"""The approver's pages: the inbox, the one-screen decision, the signed evidence (R24, R25).

GET changes nothing: a link only points. What is signed is built by the broker when "Approve" is tapped and shown whole before the
passkey answers; refusing is one tap.
"""

import json
from typing import Any, cast

from flask import Blueprint, Response, abort, redirect, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from jitaccess.broker import approval_set, approve, logview, pace, reading, revoke
from jitaccess.broker.approve import ApprovalFacts, Choice
from jitaccess.broker.comments import comments_of
from jitaccess.broker.context import Broker
from jitaccess.broker.grants import smallest_signed
from jitaccess.broker.unusual import unusual
from jitaccess.domain.numbers import whole
from jitaccess.errors import JitError, Kind
from jitaccess.identity import people
from jitaccess.policy.evaluate import Terms
from jitaccess.proof.canonical import b64u_encode
from jitaccess.proof.statements import MAX_SET, ApprovalStatement, as_json
from jitaccess.store.tables import AccessRequest, Challenge, Grant
from jitaccess.web import display
from jitaccess.web.doors import current, settle
from jitaccess.web.readers import auditor, note_overseen

NOBODYS = "-"
"""The step of a statement that nobody signs; never shown."""
OF_THE_SIGNER = ("step", "approver", "credential_id", "verdict")
SHORTER_S = (28_800, 14_400, 7_200, 3_600, 1_800, 900, 600, 300)
"""Times that an approver may choose instead of a longer one that was asked for: 8 h to 5 min."""


def blueprint(broker: Broker) -> Blueprint:
    """Return the approver's pages over a broker."""
    pages = Blueprint("approving", __name__)

    @pages.get("/approvals")
    def waiting() -> str:
        me = current()
        with broker.read() as view:
            inbox = approve.inbox_of(view, me.person.id)
            found = inbox.waiting
            names = {key: person.name for key, person in people.register(view).persons.items()}
            policies = broker.policies.active_or_none(view)
        targets = policies.targets if policies is not None else {}
        return render_template(
            "approvals.html",
            together=min(len(approval_set.signable(found)), MAX_SET),
            rows=[waiting.request for waiting in found],
            damaged=len(inbox.damaged),
            asked={waiting.request.id for waiting in found if waiting.asked},
            names=names,
            targets=targets,
        )

    @pages.get("/approvals/pace")
    def pace_() -> str:
        """How long approvers look: for administrators and auditors."""
        auditor(broker, "pace")
        with broker.read() as view:
            found = pace.overview(view, broker)
            names = {key: person.name for key, person in people.register(view).persons.items()}
        limits = broker.settings.limits
        return render_template("approvals_pace.html", found=found, names=names, limits=limits)

    @pages.get("/approvals/<request_id>")
    def approval_show(request_id: str) -> str:
        """What the mail's link points to: it shows, and changes nothing (R25, TRAP-11)."""
        return _approval_page(broker, request_id, None)

    @pages.post("/approvals/<request_id>/prepare")
    def prepare(request_id: str) -> str:
        """Tapping "Approve": the statement is built and shown whole; the passkey prompt opens by itself."""
        me = current()
        with broker.begin(me.actor, lock=[(AccessRequest, request_id)]) as tx:
            found = approve.begin_approval(tx, broker, me, request_id=request_id, choice=_choice())
        return _approval_page(broker, request_id, settle(found))

    @pages.post("/approvals/<request_id>/deny")
    def deny(request_id: str) -> BaseResponse:
        me = current()
        with broker.begin(me.actor, lock=[(AccessRequest, request_id)]) as tx:
            found = approve.deny(tx, broker, me, request_id, comment=_comment(), mark=request.form.get("opened", ""))
        settle(found)
        return redirect(f"/approvals/{request_id}", 303)

    @pages.post("/requests/<request_id>/end")
    def end(request_id: str) -> BaseResponse:
        """End access that somebody has: as easy as it was to give it."""
        me = current()
        with broker.read() as view:
            grant = revoke.revocable(view, broker, me, request_id)
        if grant is None:
            raise JitError(Kind.NOT_FOUND, "There is no such access that you may end.")
        with broker.begin(me.actor, lock=[(Grant, grant.id)]) as tx:
            settle(revoke.revoke(tx, broker, me, grant.id))
        page = "witness/requests" if request.form.get("seen") == "witness" else "approvals"
        return redirect(f"/{page}/{request_id}", 303)

    @pages.get("/approvals/<request_id>/statement/<challenge_id>")
    def statement(request_id: str, challenge_id: str) -> Response:
        """The exact bytes that are about to be signed, for the person who is about to sign them."""
        me = current()
        with broker.read() as view:
            row = view.get(Challenge, challenge_id)
        if row is None or row.session_id != me.session.id or row.subject_id != request_id or row.statement is None:
            abort(404)
        response = Response(row.statement, content_type="application/json")
        response.headers["Content-Disposition"] = f'attachment; filename="statement-{request_id}.json"'
        return response

    @pages.get("/approvals/<request_id>/evidence")
    def evidence(request_id: str) -> Response:
        """The stored statements and assertions of a request: what an auditor verifies without us (R23)."""
        me = current()
        with broker.read() as view:
            facts = settle(approve.facts(view, broker, request_id, me))
            found = logview.evidence(view, request_id)
        note_overseen(broker, facts, "evidence")
        response = Response(json.dumps(found, indent=1), content_type="application/json")
        response.headers["Content-Disposition"] = f'attachment; filename="evidence-{request_id}.json"'
        return response

    return pages


def _comment() -> str:
    return request.form.get("comment", "").strip().replace("\r\n", "\n")


def _choice() -> Choice:
    """Read what the approver chose beside "Approve"; what does not fit is refused by the verb."""
    read = {name.removeprefix("read."): text for name, text in request.form.items() if name.startswith("read.")}
    shorter = whole(request.form.get("max_duration_s", ""), 8)
    return Choice(shorter, _comment(), read, request.form.get("opened", ""))


def _chosen() -> dict[str, str]:
    """Return the fields of the choice that a page was drawn from: what the same page sends to be drawn anew."""
    return {
        name: text
        for name, text in request.form.items()
        if name in ("opened", "max_duration_s", "comment") or name.startswith("read.")
    }


def _figures(facts: ApprovalFacts) -> list[dict[str, Any]]:
    """Return the figures that have to be read back: ticked, or typed where they are numbers."""
    row = facts.request
    return [
        {
            "name": name,
            "value": reading.wanted(value),
            "ticked": reading.is_ticked(value),
            "pattern": "[ .,]*".join(reading.wanted(value)),
        }
        for name, value in reading.due(row, Terms.from_document(row.terms)).items()
    ]


def _shorter_steps(facts: ApprovalFacts) -> list[int]:
    """Return the sensible times below the one that was asked for, the longest first."""
    terms = Terms.from_document(facts.request.terms)
    return [seconds for seconds in SHORTER_S if terms.min_s <= seconds < facts.request.duration_s]


def _approval_page(broker: Broker, request_id: str, ceremony: Any) -> str:
    me = current()
    with broker.read() as view:
        facts: ApprovalFacts = settle(approve.facts(view, broker, request_id, me))
        policies = broker.policies.active_or_none(view)
        names = {key: person.name for key, person in people.register(view).persons.items()}
        written = comments_of(view, request_id)
        stands_out = unusual(view, broker, facts.request)
        endable = revoke.revocable(view, broker, me, request_id)
        opened = request.form.get("opened") or pace.mark(broker, request_id, me.session.id, view.now)
    note_overseen(broker, facts, "request")
    targets = policies.targets if policies is not None else {}
    row = facts.request
    signed = _signed(facts) if ceremony is None else None
    if ceremony is not None:
        said = dict(as_json(ApprovalStatement.parse(ceremony.statement)))
    else:
        said = signed or _before_signing(broker, facts, me)
    return render_template(
        "approval.html",
        facts=facts,
        row=row,
        targets=targets,
        names=names,
        said=said,
        signed=signed is not None,
        terms=display.terms_rows(row.terms),
        shorter=_shorter_steps(facts),
        figures=_figures(facts),
        comments=written,
        unusual=stands_out,
        endable=endable,
        opened=opened,
        chosen=_chosen(),
        ceremony=None
        if ceremony is None
        else json.dumps({"challenge_id": ceremony.challenge_id, "options": ceremony.options}),
        challenge_id=ceremony.challenge_id if ceremony is not None else None,
        unsigned_denial=facts.mine is not None and facts.mine.verdict == "deny" and facts.mine.signed_at is None,
    )


def _signed(facts: ApprovalFacts) -> dict[str, Any] | None:
    """Return the statement that this person signed, where nothing is left for the same person to sign."""
    if facts.open_steps or facts.mine is None or facts.mine.statement is None:
        return None
    return dict(as_json(ApprovalStatement.parse(facts.mine.statement)))


def _before_signing(broker: Broker, facts: ApprovalFacts, me: Any) -> dict[str, Any]:
    """Return the statement as it would be, without its nonce: the page shows the same fields before and after the tap.

    Who has nothing to sign reads the facts alone, with the time as the signatures so far leave it.
    """
    row = facts.request
    found = approve.statement_of(
        broker,
        row,
        approver=me.person.id,
        credential_id=me.passkey.credential_id,
        step=facts.open_steps[0] if facts.open_steps else NOBODYS,
        verdict="approve",
        nonce=b64u_encode(bytes(16)),
        max_duration_s=None if facts.open_steps else smallest_signed(row, facts.votes),
        deputation=facts.deputation if facts.open_steps else None,
    )
    value = dict(as_json(found))
    for name in ("nonce",) if facts.open_steps else ("nonce", *OF_THE_SIGNER):
        del value[name]
    return cast("dict[str, Any]", value)
