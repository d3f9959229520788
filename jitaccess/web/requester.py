"""The requester's desk: find it, ask, wait and watch, open, hand back, ask again.

One search box over everything; what is locked is shown with what is missing. The parts that change refresh themselves: the page asks with
the mark of what it shows and gets nothing back while that still holds, so nothing moves under a finger. Without a script everything
works by plain forms but for the passkey itself.
"""

import json
from typing import Any

from flask import Blueprint, redirect, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from jitaccess.broker import approve, extend, notify, offers, refusals, revoke, veto
from jitaccess.broker import request as requests
from jitaccess.broker.comments import comments_of
from jitaccess.broker.context import Broker
from jitaccess.broker.grants import smallest_signed
from jitaccess.broker.offers import Choice
from jitaccess.broker.request import Ask
from jitaccess.broker.votes import votes_of
from jitaccess.clock import to_epoch_s
from jitaccess.domain.numbers import PATTERN, typed, whole
from jitaccess.errors import JitError, Kind
from jitaccess.identity import passkeys, people
from jitaccess.policy.evaluate import AskTerm, Effect
from jitaccess.store.tables import AccessRequest, Grant
from jitaccess.web import telling
from jitaccess.web.doors import current, settle
from jitaccess.web.naming import here
from jitaccess.web.readers import note_overseen
from jitaccess.web.speech import gettext, say
from jitaccess.web.starts import posted_start

STEPS_S = (
    300, 600, 900, 1800, 2700, 3600, 5400, 7200, 10_800, 14_400, 21_600, 28_800, 43_200, 86_400, 172_800, 259_200, 604_800,
)  # fmt: skip
"""Durations that people think in."""
MOST_STEPS = 8
FIRST_CHOICES = 6
"""How many rights the start page offers before anything is typed."""


def blueprint(broker: Broker) -> Blueprint:
    """Return the requester's pages over a broker."""
    pages = Blueprint("requester", __name__)
    _access(pages, broker)
    _asking(pages, broker)
    return pages


# ---------------------------------------------------------------- my access


def _access(pages: Blueprint, broker: Broker) -> None:
    @pages.get("/")
    def home() -> str:
        me = current()
        with broker.read() as view:
            found = offers.choices(view, broker, me) if broker.policies.active_or_none(view) is not None else []
            again = offers.former(view, broker, me.person.id)
            single = passkeys.active_count(view, me.account.id) < 2
        open_ = [choice for choice in found if choice.open][:FIRST_CHOICES]
        return render_template("home.html", choices=open_, query="", again=again, single=single, **_home(broker, me))

    @pages.get("/live")
    def live() -> str | tuple[str, int]:
        """The part of the start page that refreshes itself; nothing while what is shown still holds."""
        found = _home(broker, current())
        if request.args.get("seen") == found["mark"]:
            return "", 204
        return render_template("_home.html", **found)

    @pages.post("/grants/<grant_id>/hand-back")
    def hand_back(grant_id: str) -> BaseResponse:
        me = current()
        with broker.begin(me.actor, lock=[(Grant, grant_id)]) as tx:
            revoke.hand_back(tx, me, grant_id)
        return redirect("/", 303)

    @pages.post("/requests/<request_id>/seen")
    def seen(request_id: str) -> BaseResponse:
        """The requester read the refusal: it leaves the start page."""
        me = current()
        with broker.begin(me.actor, lock=[(AccessRequest, request_id)]) as tx:
            refusals.see(tx, me.person.id, request_id)
        return redirect("/", 303)

    @pages.post("/requests/<request_id>/withdraw")
    def withdraw(request_id: str) -> BaseResponse:
        me = current()
        with broker.begin(me.actor, lock=[(AccessRequest, request_id)]) as tx:
            requests.withdraw(tx, broker, me, request_id)
        return redirect("/", 303)


def _home(broker: Broker, me: Any) -> dict[str, Any]:
    with broker.read() as view:
        policies = broker.policies.active_or_none(view)
        grants = revoke.grants_of(view, me.person.id, limit=20)
        asked = requests.of_person(view, me.person.id, limit=10)
        waiting = len(approve.inbox(view, broker, me))
        stoppable = veto.waiting(view, broker, me)
        extendable = {grant.id for grant in grants if extend.offered(view, grant)}
        refused = refusals.unseen(view, me.person.id)
        names = {key: person.name for key, person in people.register(view).persons.items()} if refused else {}
        now = view.now
    live = [grant for grant in grants if grant.state in revoke.LIVE_GRANTS]
    pending = [row for row in asked if row.state == "PENDING"]
    shown = [
        waiting,
        *(grant.id for grant in stoppable),
        *((row.id, row.state, row.closes_at, row.id in extendable) for row in grants),
        *((row.id, row.state) for row in asked),
        *(("refused", one.request.id) for one in refused),
    ]
    return {
        "grants": live,
        "ended": [grant for grant in grants if grant not in live][:5],
        "pending": pending,
        "refused": refused,
        "names": names,
        "decided": [row for row in asked if row.state not in ("PENDING", "APPROVED")][:5],
        "waiting": waiting,
        "stoppable": stoppable,
        "extendable": extendable,
        "targets": policies.targets if policies is not None else {},
        "now": to_epoch_s(now),
        "mark": telling.mark(shown),
    }


# ---------------------------------------------------------------- asking


def _asking(pages: Blueprint, broker: Broker) -> None:
    @pages.get("/request")
    def choose() -> str:
        me = current()
        target, entitlement = request.args.get("target", "")[:64], request.args.get("entitlement", "")[:64]
        again = request.args.get("again", "")
        given: dict[str, Any] = {}
        with broker.read() as view:
            if again:
                row = offers.own_request(view, me.person.id, again)
                target, entitlement = row.target, row.entitlement
                given = _as_given(row)
            if target and entitlement:
                chosen = offers.choice(view, broker, me, target=target, entitlement=entitlement)
                return _form(view, broker, me, chosen, given=given, error=None)
            query = request.args.get("q", "").strip()[:80]
            found = offers.choices(view, broker, me, query=query)
        return render_template("request_choose.html", choices=found, query=query)

    @pages.get("/request/find")
    def find() -> str:
        """The answers under the search box, while somebody types."""
        me = current()
        query = request.args.get("q", "").strip()[:80]
        with broker.read() as view:
            found = offers.choices(view, broker, me, query=query)
        if not query:
            found = [choice for choice in found if choice.open][:FIRST_CHOICES]
        return render_template("_choices.html", choices=found, query=query)

    @pages.post("/request/check")
    def check() -> str | tuple[str, int]:
        """Check the answers: decides and shows who would have to sign; files nothing."""
        me = current()
        target, entitlement = request.form.get("target", "")[:64], request.form.get("entitlement", "")[:64]
        with broker.read() as view:
            chosen = offers.choice(view, broker, me, target=target, entitlement=entitlement)
            if request.form.get("change"):  # back from the check, with everything that was filled in
                return _form(view, broker, me, chosen, given=request.form, error=None)
            ask, error = _ask_of(chosen.target, chosen.entitlement, chosen.asks)
            found = requests.preview(view, broker, me, ask) if error is None else None
            register = people.register(view)
            usual_s = offers.usual_wait_s(view, chosen.target, chosen.entitlement)
            if found is not None and found.decision.effect is Effect.DENY:
                error = say(requests.sentence(found.decision.reasons[0]))
            if error is not None or found is None:
                return _form(view, broker, me, chosen, given=request.form, error=error), 422
        signers = {step: sorted(register.persons[key].name for key in keys) for step, keys in found.signers.items()}
        told = len(frozenset[str]().union(*found.signers.values())) if found.signers else 0
        return render_template(
            "request_check.html",
            entry=chosen,
            ask=ask,
            decision=found.decision,
            signers=signers,
            told=told,
            usual_s=usual_s,
            refused=say(found.refused.message) if found.refused is not None else None,
            body=json.dumps(
                {
                    "target": ask.target,
                    "entitlement": ask.entitlement,
                    "inputs": dict(ask.inputs),
                    "duration_s": found.decision.duration_s,
                    "reason": ask.reason,
                    **({"start_at": to_epoch_s(ask.start)} if ask.start is not None else {}),
                }
            ),
        )

    @pages.get("/requests/<request_id>")
    def request_show(request_id: str) -> str:
        found, shown = _request(broker, request_id)
        note_overseen(broker, found, "request")
        return render_template("request_show.html", **shown)

    @pages.get("/requests/<request_id>/live")
    def request_live(request_id: str) -> str | tuple[str, int]:
        """The part of a request's page that refreshes itself; nothing, and so nothing to note, while what is shown still holds."""
        found, shown = _request(broker, request_id)
        if request.args.get("seen") == shown["mark"]:
            return "", 204
        note_overseen(broker, found, "request")
        return render_template("_request.html", **shown)


def _request(broker: Broker, request_id: str) -> tuple[approve.Readable, dict[str, Any]]:
    me = current()
    with broker.read() as view:
        found = settle(approve.readable(view, broker, request_id, me))
        row = found.request
        votes = votes_of(view, request_id)
        written = comments_of(view, request_id)
        names = {key: person.name for key, person in people.register(view).persons.items()}
        policies = broker.policies.active_or_none(view)
        reached = notify.reached(view, broker, "approval_wanted", request_id)
        usual_s = offers.usual_wait_s(view, row.target, row.entitlement) if row.state == "PENDING" else None
        now = view.now
    return found, {
        "row": row,
        "votes": votes,
        "comments": written,
        "reached": reached,
        "given_s": smallest_signed(row, votes) if row.state in ("PENDING", "APPROVED") else None,
        "names": names,
        "targets": policies.targets if policies is not None else {},
        "usual_s": usual_s,
        "waited_s": max(to_epoch_s(now) - to_epoch_s(row.created_at), 0),
        "mark": telling.mark([row.state, *((vote.id, vote.verdict, vote.signed_at) for vote in votes)]),
    }


def _form(view: Any, broker: Broker, me: Any, chosen: Choice, *, given: Any, error: str | None) -> str:
    if not chosen.open and chosen.missing is not None and chosen.default_s == 0:
        raise JitError(Kind.FORBIDDEN, telling.missing(chosen))
    return render_template(
        "request.html",
        entry=chosen,
        durations=steps(chosen.min_s, chosen.default_s, chosen.max_s),
        given=given,
        number_pattern=PATTERN,
        error=error,
        signers=offers.signers(view, broker, me, chosen),
        usual_s=offers.usual_wait_s(view, chosen.target, chosen.entitlement) if chosen.needs_approval else None,
    )


def steps(min_s: int, default_s: int, max_s: int) -> list[int]:
    """Return the durations that a form offers: sensible ones within the bounds, always with the default and the longest."""
    must = {default_s, max_s}
    rest = [step for step in STEPS_S if min_s <= step <= max_s and step not in must]
    room = max(MOST_STEPS - len(must), 0)
    if len(rest) > room:
        # Evenly over what there is, so that short and long ones both stay.
        rest = [rest[number * len(rest) // room] for number in range(room)] if room else []
    return sorted({*must, *rest})


def _as_given(row: AccessRequest) -> dict[str, Any]:
    """Return a former request as the form's fields; its reason is shown for the person to make it true again."""
    inputs = row.inputs if isinstance(row.inputs, dict) else {}
    fields: dict[str, Any] = {"duration_s": str(row.duration_s), "reason": row.reason or ""}
    for name, value in inputs.items():
        fields[f"input.{name}"] = ("yes" if value else "no") if isinstance(value, bool) else str(value)
    return fields


def _ask_of(target: str, entitlement: str, terms: tuple[AskTerm, ...]) -> tuple[Ask, str | None]:
    """Read the posted form; inputs that are not of their type are told in one sentence."""
    inputs: dict[str, str | int | bool] = {}
    error: str | None = None
    for term in terms:
        text = request.form.get(f"input.{term.name}", "").strip()
        match term.kind:
            case "integer":
                number = typed(text)
                if number is not None:
                    inputs[term.name] = number
                else:
                    error = error or gettext("%(label)s must be a whole number.", label=here(term.label))
            case "boolean":
                inputs[term.name] = text == "yes"
            case _:
                inputs[term.name] = text
    reason = request.form.get("reason", "").strip().replace("\r\n", "\n")
    if error is None and len(reason) < 3:
        error = gettext("Say why you need this.")
    seconds = request.form.get("duration_s", "")
    duration_s = whole(seconds, 8)
    start, wrong = posted_start(request.form.get("start", ""))
    return Ask(target, entitlement, inputs, duration_s, reason, start), error or wrong
