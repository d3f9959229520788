"""The pages: plain, server-rendered, without JavaScript but for passkeys and countdowns.

GET changes nothing. A page that ends in a signature is a form with `data-ceremony`: `static/passkey.js` begins the ceremony at the JSON
API, lets the passkey answer, completes it, and moves on. What only takes away (deny, hand back, revoke, hold) is a plain form.
"""

import json
from email import message_from_bytes
from email import policy as mail_policy
from pathlib import Path
from typing import Any

from flask import Blueprint, Flask, Response, redirect, render_template, request
from flask_babel import gettext
from werkzeug.wrappers import Response as BaseResponse

from jitaccess.broker import approve, changes, extend, hold, logview, notify, revoke, veto
from jitaccess.broker import request as requests
from jitaccess.broker.comments import comments_of
from jitaccess.broker.context import Broker
from jitaccess.broker.grants import smallest_signed
from jitaccess.broker.request import Ask
from jitaccess.broker.votes import votes_of
from jitaccess.clock import to_epoch_s
from jitaccess.errors import JitError, Kind
from jitaccess.identity import enrolment, passkeys, people, recovery, sessions
from jitaccess.identity.changes import pending as pending_changes
from jitaccess.policy.evaluate import AskTerm, Effect
from jitaccess.policy.schema import parse_duration
from jitaccess.store.tables import AccessRequest, Grant
from jitaccess.web import display
from jitaccess.web.doors import clear_session, current, current_or_none, own_path, settle
from jitaccess.web.speech import say
from jitaccess.web.starts import posted_start

DURATIONS = ("15m", "30m", "1h", "2h", "4h", "8h")


def blueprint(broker: Broker) -> Blueprint:
    """Return the pages over a broker."""
    pages = Blueprint("pages", __name__)
    _entry(pages, broker)
    _access(pages, broker)
    _asking(pages, broker)
    _administration(pages, broker)
    if broker.settings.demo.enabled:
        _demo(pages, broker)
    return pages


def install_template_names(app: Flask, broker: Broker) -> None:
    """Give templates their filters and what every page shows: who, pilot, a recovery under way."""
    app.add_template_filter(display.visible, "visible")
    app.add_template_filter(display.duration_text, "duration")
    app.add_template_filter(display.value_text, "value")
    app.add_template_filter(to_epoch_s, "epoch")
    app.add_template_global(display.money_hint, "money_hint")

    @app.context_processor
    def common() -> dict[str, Any]:
        me = current_or_none()
        found: dict[str, Any] = {"site": broker.site, "me": me, "admin": False, "auditor": False, "recoveries": []}
        found["demo"] = broker.settings.demo.enabled
        if me is not None:
            with broker.read() as view:
                found["admin"] = people.is_admin(view, me.person.id)
                found["auditor"] = people.is_auditor(view, me.person.id)
                found["recoveries"] = recovery.waiting(view)
        return found


# ---------------------------------------------------------------- coming in


def _entry(pages: Blueprint, broker: Broker) -> None:
    @pages.get("/livez")
    def livez() -> Response:
        return Response("alive\n", content_type="text/plain")

    @pages.get("/readyz")
    def readyz() -> tuple[Response, int]:
        with broker.read() as view:
            broker.policies.active(view)
        ready = broker.may_grant.is_set()
        return Response("ready\n" if ready else "not yet\n", content_type="text/plain"), 200 if ready else 503

    @pages.get("/sign-in")
    def sign_in() -> str | BaseResponse:
        target = own_path(request.args.get("next", "/"))
        if current_or_none() is not None:
            return redirect(target, 303)
        return render_template("sign_in.html", next=target)

    @pages.get("/enrol/<token>")
    def enrol(token: str) -> str:
        with broker.read() as view:
            settle(enrolment.find(view, token))
        return render_template("enrol.html", token=token)

    @pages.get("/passkeys")
    def passkey_list() -> str:
        me = current()
        with broker.read() as view:
            found = passkeys.list_for(view, me.account.id)
        return render_template("passkeys.html", passkeys=found)

    @pages.post("/sign-out")
    def sign_out() -> BaseResponse:
        me = current_or_none()
        response = redirect("/sign-in", 303)
        if me is not None:
            with broker.begin(me.actor) as tx:
                sessions.end(tx, me.session, "signed_out")
        clear_session(response)
        return response


# ---------------------------------------------------------------- my access


def _access(pages: Blueprint, broker: Broker) -> None:
    @pages.get("/")
    def home() -> str:
        me = current()
        return render_template("home.html", **_home(broker, me))

    @pages.get("/live")
    def live() -> str:
        """The part of the start page that refreshes itself."""
        me = current()
        return render_template("_home.html", **_home(broker, me))

    @pages.post("/grants/<grant_id>/hand-back")
    def hand_back(grant_id: str) -> BaseResponse:
        me = current()
        with broker.begin(me.actor, lock=[(Grant, grant_id)]) as tx:
            revoke.hand_back(tx, me, grant_id)
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
        now = view.now
    live = [grant for grant in grants if grant.state in revoke.LIVE_GRANTS]
    return {
        "grants": live,
        "ended": [grant for grant in grants if grant not in live][:5],
        "pending": [row for row in asked if row.state == "PENDING"],
        "decided": [row for row in asked if row.state not in ("PENDING", "APPROVED")][:5],
        "waiting": waiting,
        "stoppable": stoppable,
        "extendable": extendable,
        "targets": policies.targets if policies is not None else {},
        "now": to_epoch_s(now),
    }


# ---------------------------------------------------------------- asking


def _asking(pages: Blueprint, broker: Broker) -> None:
    @pages.get("/request")
    def choose() -> str:
        me = current()
        with broker.read() as view:
            entries = requests.catalogue(view, broker, me)
        target, entitlement = request.args.get("target", ""), request.args.get("entitlement", "")
        entry = next((e for e in entries if (e.target, e.entitlement) == (target, entitlement)), None)
        if entry is None:
            return render_template("request_choose.html", entries=entries)
        return render_template("request.html", entry=entry, durations=_durations(entry.max_s), given={}, error=None)

    @pages.post("/request/check")
    def check() -> str | tuple[str, int]:
        """Check the answers: decides and shows who would have to sign; files nothing."""
        me = current()
        with broker.read() as view:
            entries = requests.catalogue(view, broker, me)
            entry = next(
                (
                    e
                    for e in entries
                    if (e.target, e.entitlement) == (request.form.get("target"), request.form.get("entitlement"))
                ),
                None,
            )
            if entry is None:
                raise JitError(Kind.NOT_FOUND, "There is no such right that you may ask for.")
            ask, error = _ask_of(entry.target, entry.entitlement, entry.asks)
            found = requests.preview(view, broker, me, ask) if error is None else None
            register = people.register(view)
        if found is not None and found.decision.effect is Effect.DENY:
            error = say(requests.sentence(found.decision.reasons[0]))
        if error is not None or found is None:
            page = render_template(
                "request.html", entry=entry, durations=_durations(entry.max_s), given=request.form, error=error
            )
            return page, 422
        signers = {step: sorted(register.persons[key].name for key in keys) for step, keys in found.signers.items()}
        return render_template(
            "request_check.html",
            entry=entry,
            ask=ask,
            decision=found.decision,
            signers=signers,
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
        me = current()
        with broker.read() as view:
            row = view.get(AccessRequest, request_id)
            if row is None or row.person_id != me.person.id:
                settle(approve.facts(view, broker, request_id, me))
                row = view.require(AccessRequest, request_id)
            votes = votes_of(view, request_id)
            written = comments_of(view, request_id)
            names = {key: person.name for key, person in people.register(view).persons.items()}
            policies = broker.policies.active_or_none(view)
            reached = notify.reached(view, broker, "approval_wanted", request_id)
        targets = policies.targets if policies is not None else {}
        return render_template(
            "request_show.html",
            row=row,
            votes=votes,
            names=names,
            targets=targets,
            comments=written,
            reached=reached,
            given_s=smallest_signed(row, votes) if row.state == "APPROVED" else None,
        )


def _durations(most: int) -> list[tuple[str, int]]:
    return [(text, parse_duration(text)) for text in DURATIONS if parse_duration(text) <= most]


def _ask_of(target: str, entitlement: str, terms: tuple[AskTerm, ...]) -> tuple[Ask, str | None]:
    """Read the posted form; inputs that are not of their type are told in one sentence."""
    inputs: dict[str, str | int | bool] = {}
    error: str | None = None
    for term in terms:
        text = request.form.get(f"input.{term.name}", "").strip()
        match term.kind:
            case "integer":
                if text.lstrip("-").isdigit() and len(text) <= 16:
                    inputs[term.name] = int(text)
                else:
                    error = error or gettext("%(label)s must be a whole number.", label=term.label)
            case "boolean":
                inputs[term.name] = text == "yes"
            case _:
                inputs[term.name] = text
    reason = request.form.get("reason", "").strip().replace("\r\n", "\n")
    if error is None and len(reason) < 3:
        error = gettext("Say why you need this.")
    seconds = request.form.get("duration_s", "")
    duration_s = int(seconds) if seconds.isdigit() and len(seconds) < 9 else None
    start, wrong = posted_start(request.form.get("start", ""))
    return Ask(target, entitlement, inputs, duration_s, reason, start), error or wrong


# ---------------------------------------------------------------- administration


def _administration(pages: Blueprint, broker: Broker) -> None:
    def admin() -> Any:
        me = current()
        with broker.read() as view:
            if not people.is_admin(view, me.person.id):
                raise JitError(Kind.FORBIDDEN, "Only an administrator may see this.")
        return me

    def auditor(what: str) -> Any:
        me = current()
        with broker.read() as view:
            if not people.is_auditor(view, me.person.id):
                raise JitError(Kind.FORBIDDEN, "Only an auditor may see this.")
        logview.note_reading(broker, me, what)
        return me

    @pages.get("/people")
    def people_() -> str:
        admin()
        with broker.read() as view:
            staff = people.staff(view)
            holds = hold.in_force(view)
            waiting = pending_changes(view)
            live = revoke.live_grants(view)
            policies = broker.policies.active_or_none(view)
        accounts: dict[str, list[str]] = {}
        for key, (person_id, active) in staff.accounts.items():
            if active:
                accounts.setdefault(person_id, []).append(key)
        return render_template(
            "people.html",
            persons=sorted(staff.register.persons.values(), key=lambda person: person.name),
            groups=sorted(staff.register.groups),
            institutions=policies.institutions if policies is not None else {},
            accounts=accounts,
            holds=holds,
            names={key: person.name for key, person in staff.register.persons.items()},
            changes=waiting,
            live=live,
            targets=policies.targets if policies is not None else {},
        )

    @pages.post("/holds")
    def place() -> BaseResponse:
        me = admin()
        try:
            kind = hold.HoldKind(request.form.get("kind", ""))
        except ValueError as error:
            raise JitError(Kind.INVALID, "There is no such kind of hold.") from error
        subject = request.form.get("subject_id", "")[:64]
        cause = request.form.get("cause", "").strip()[:200] or "by an administrator"
        with broker.begin(me.actor) as tx:
            hold.place(tx, broker, kind=kind, subject_id=subject, cause=cause, by=me.person.id)
        return redirect("/people", 303)

    @pages.post("/end-everything")
    def end_everything() -> BaseResponse:
        me = admin()
        try:
            kind = hold.HoldKind(request.form.get("kind", ""))
        except ValueError as error:
            raise JitError(Kind.INVALID, "There is no such kind.") from error
        with broker.begin(me.actor) as tx:
            hold.end_everything(
                tx, broker, kind=kind, subject_id=request.form.get("subject_id", "")[:64], by=me.person.id
            )
        return redirect("/people", 303)

    @pages.post("/changes/<change_id>/reject")
    def reject(change_id: str) -> BaseResponse:
        me = admin()
        with broker.begin(me.actor) as tx:
            changes.reject(tx, change_id, by=me.person.id)
        return redirect("/people", 303)

    @pages.get("/policy")
    def policy() -> str:
        me = current()
        with broker.read() as view:
            active = broker.policies.active_or_none(view)
            register = people.register(view)
            sets = logview.policy_sets(view)
            explained = None
            target, entitlement = request.args.get("target", "")[:64], request.args.get("entitlement", "")[:64]
            if active is not None and target in active.targets:
                explained = requests.explanation(view, broker, me, Ask(target, entitlement, {}, None, ""))
        return render_template(
            "policy.html",
            active=active,
            sets=sets,
            explained=explained,
            chosen=f"{request.args.get('target', '')}/{request.args.get('entitlement', '')}",
            names={key: person.name for key, person in register.persons.items()},
            sentence=requests.sentence,
        )

    @pages.get("/log")
    def log() -> str:
        auditor("log")
        kind = request.args.get("type", "")[:64]
        person = request.args.get("person", "")[:64]
        before = request.args.get("before", "")
        with broker.read() as view:
            events = logview.newest(
                view, kind=kind, person=person, before=int(before) if before.isdigit() and len(before) < 16 else None
            )
            checkpoint = broker.checkpoints.latest(view)
            names = {key: p.name for key, p in people.register(view).persons.items()}
            lags = logview.health(view)
        return render_template(
            "log.html", events=events, checkpoint=checkpoint, names=names, kind=kind, person=person, health=lags
        )


# ---------------------------------------------------------------- the demo's mail catcher


def _demo(pages: Blueprint, broker: Broker) -> None:
    @pages.get("/demo/mail")
    def mail() -> str:
        """Mails that the demo's outbox wrote to its folder; exists only with demo.enabled, on localhost."""
        letters = []
        for file in sorted(Path(broker.settings.mail.folder).glob("*.eml"), reverse=True)[:50]:
            message = message_from_bytes(file.read_bytes(), policy=mail_policy.default)
            part = message.get_body(preferencelist=("plain",))
            text = part.get_content() if part is not None else ""
            links = [word for word in str(text).split() if word.startswith(broker.site.origin + "/")]
            letters.append({"to": message["To"], "subject": message["Subject"], "text": text, "links": links})
        return render_template("demo_mail.html", letters=letters)
