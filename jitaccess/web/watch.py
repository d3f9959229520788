"""The page on which administrators and auditors see the targets: when each was looked at, what nothing explains, what is stuck."""

import json
from typing import Any

from flask import Blueprint, jsonify, render_template
from flask import Response as FlaskResponse

from jitaccess.broker import endings, reconcile, revoke
from jitaccess.broker.context import Broker
from jitaccess.clock import to_epoch_s
from jitaccess.identity import people
from jitaccess.store.db import View
from jitaccess.store.tables import TargetAccount
from jitaccess.web import answers, exports
from jitaccess.web.operations import documented
from jitaccess.web.readers import auditor


def blueprint(broker: Broker) -> Blueprint:
    """Return page and API over a broker."""
    pages = Blueprint("watch", __name__)

    @pages.get("/watch")
    def watch_page() -> str:
        auditor(broker, "watch")
        with broker.read() as view:
            rows = [
                (facts, broker.targets.kind(str(facts.connector["kind"])), reconcile.last_look(view, facts.id))
                for facts in reconcile.outside_targets(view, broker)
            ]
            found = reconcile.open_findings(view)
            stuck = endings.as_endings(view, broker, revoke.stuck(view))
            names = {key: person.name for key, person in people.register(view).persons.items()}
        targets = {facts.id: facts for facts, _, _ in rows}
        return render_template("watch.html", rows=rows, found=found, stuck=stuck, names=names, targets=targets)

    def _findings() -> list[TargetAccount]:
        """Return what is unexplained, for taking along."""
        auditor(broker, "accounts")
        with broker.read() as view:
            return reconcile.open_findings(view)

    @pages.get("/watch/accounts.csv")
    def as_csv() -> FlaskResponse:
        rows = [exports.account_cells(row) for row in _findings()]
        return exports.download(
            exports.as_csv(exports.account_heads(), rows), "text/csv; charset=utf-8", "jitaccess-accounts.csv"
        )

    @pages.get("/watch/accounts.json")
    def as_json() -> FlaskResponse:
        body = {"format": "jitaccess-accounts/1", "accounts": [exports.account_document(row) for row in _findings()]}
        return exports.download(
            json.dumps(body, ensure_ascii=False, indent=1), "application/json", "jitaccess-accounts.json"
        )

    @pages.get("/api/watch")
    @documented(
        "administration",
        "Say of each target when it was looked at, what nothing explains, and what is stuck.",
        answers=list[answers.Watched],
    )
    def watch_list() -> FlaskResponse:
        auditor(broker, "watch")
        with broker.read() as view:
            found = [_target_json(view, broker, facts) for facts in reconcile.outside_targets(view, broker)]
        return jsonify(found)

    return pages


def _target_json(view: View, broker: Broker, facts: Any) -> dict[str, Any]:
    beat = reconcile.last_look(view, facts.id)
    return {
        "id": facts.id,
        "kind": facts.connector["kind"],
        "enforces_expiry": broker.targets.kind(str(facts.connector["kind"])).enforced(facts.connector).value,
        "looked_at": to_epoch_s(beat.beat_at) if beat is not None else None,
        "unexplained": [
            {
                "account": row.name,
                "what": row.finding,
                "extra": row.extra,
                "acted": row.acted,
                "statement": row.statement,
            }
            for row in reconcile.open_findings(view)
            if row.target == facts.id
        ],
        "stuck": [row.id for row in revoke.stuck(view) if row.target == facts.id],
    }
