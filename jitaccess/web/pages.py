"""The pages: plain, server-rendered, without JavaScript but for passkeys and countdowns.

GET changes nothing. A page that ends in a signature is a form with `data-ceremony`: `static/passkey.js` begins the ceremony at the JSON
API, lets the passkey answer, completes it, and moves on. What only takes away (deny, hand back, revoke, hold) is a plain form.
"""

from email import message_from_bytes
from email import policy as mail_policy
from pathlib import Path
from typing import Any

from flask import Blueprint, Flask, Response, redirect, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from jitaccess.broker import health, logview
from jitaccess.broker.context import Broker
from jitaccess.broker.sign_ins import sign_out as sign_out_of_all
from jitaccess.clock import to_epoch_s
from jitaccess.domain.numbers import whole
from jitaccess.identity import enrolment, people, replacing
from jitaccess.web import display, naming
from jitaccess.web.doors import clear_session, current, current_or_none, own_path, settle
from jitaccess.web.readers import auditor


def blueprint(broker: Broker) -> Blueprint:
    """Return the pages over a broker."""
    pages = Blueprint("pages", __name__)
    _entry(pages, broker)
    _reading(pages, broker)
    if broker.settings.demo.enabled:
        _demo(pages, broker)
    return pages


def install_template_names(app: Flask, broker: Broker) -> None:
    """Give templates their filters and what every page shows: who, pilot, a recovery under way."""
    app.add_template_filter(display.duration_text, "duration")
    app.add_template_filter(display.value_text, "value")
    app.add_template_filter(display.technical_rows, "technical")
    app.add_template_filter(to_epoch_s, "epoch")
    naming.install(app, broker)

    @app.context_processor
    def common() -> dict[str, Any]:
        me = current_or_none()
        found: dict[str, Any] = {"site": broker.site, "me": me, "admin": False, "auditor": False, "recoveries": []}
        found["demo"] = broker.settings.demo.enabled
        if me is not None:
            with broker.read() as view:
                found["admin"] = people.is_admin(view, me.person.id)
                found["auditor"] = people.is_auditor(view, me.person.id)
                under_way = replacing.under_way(view)
                found["recoveries"] = [row for row in under_way if row.change_id is None]
                found["replacements"] = [row for row in under_way if row.account_id == me.account.id and row.change_id]
        return found


# ---------------------------------------------------------------- coming in


def _entry(pages: Blueprint, broker: Broker) -> None:
    @pages.get("/livez")
    def livez() -> Response:
        return Response("alive\n", content_type="text/plain")

    @pages.get("/readyz")
    def readyz() -> tuple[Response, int]:
        with broker.read() as view:
            ready = health.is_ready(view, broker)
        return Response("ready\n" if ready else "not yet\n", content_type="text/plain"), 200 if ready else 503

    @pages.get("/sign-in")
    def sign_in() -> str | BaseResponse:
        target = own_path(request.args.get("next", "/"))
        if current_or_none() is not None:
            return redirect(target, 303)
        return render_template("sign_in.html", next=target, signed_out="signed_out" in request.args)

    @pages.get("/enrol/<token>")
    def enrol(token: str) -> str:
        with broker.read() as view:
            settle(enrolment.find(view, token))
        return render_template("enrol.html", token=token)

    @pages.post("/sign-out")
    def sign_out() -> BaseResponse:
        me = current_or_none()
        response = redirect("/sign-in?signed_out=1", 303)
        if me is not None:
            sign_out_of_all(broker, me, cause="signed_out")
        clear_session(response)
        return response


# ---------------------------------------------------------------- policy and log


def _reading(pages: Blueprint, broker: Broker) -> None:
    @pages.get("/policy")
    def policy() -> str:
        current()
        with broker.read() as view:
            active = broker.policies.active_or_none(view)
            sets = logview.policy_sets(view)
        return render_template(
            "policy.html",
            active=active,
            sets=sets,
        )

    @pages.get("/log")
    def log() -> str:
        auditor(broker, "log")
        kind = request.args.get("type", "")[:64]
        person = request.args.get("person", "")[:64]
        before = request.args.get("before", "")
        with broker.read() as view:
            events = logview.newest(view, kind=kind, person=person, before=whole(before, 15))
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
