"""How is a replacement of passkeys seen, and stopped? Its owner and every administrator stop it with one tap; refusing takes no signature.

Beginning one and taking its link are signed acts (`broker.changes`). A recovery with paper keys is stopped by a founder's signature alone.
"""

from flask import Blueprint, Response, jsonify, redirect, request
from werkzeug.wrappers import Response as BaseResponse

from jitaccess.broker import logview
from jitaccess.broker.context import Broker
from jitaccess.clock import to_epoch_s
from jitaccess.errors import JitError, Kind
from jitaccess.identity import people, recovery, replacing
from jitaccess.identity.sessions import Current
from jitaccess.store.tables import Account, Recovery
from jitaccess.web import answers, schemas
from jitaccess.web.doors import current, own_path
from jitaccess.web.operations import documented


def blueprint(broker: Broker) -> Blueprint:
    """Return the doors of replacements over a broker."""
    doors = Blueprint("replacing", __name__)

    @doors.get("/api/recoveries")
    @documented(
        "administration",
        "List replacements of passkeys that are under way: one's own; an administrator sees all.",
        answers=list[answers.Recovery],
    )
    def listed() -> Response:
        me = current()
        with broker.read() as view:
            every = people.is_admin(view, me.person.id)
            found = replacing.under_way(view) if every else replacing.of_person(view, me.person.id)
        if every:
            logview.note_reading(broker, me, "recoveries")
        return jsonify([recovery_json(row) for row in found])

    @doors.post("/api/recoveries/<recovery_id>/stop")
    @documented(
        "administration",
        "Stop a replacement of passkeys; its owner or an administrator.",
        takes=schemas.Empty,
        answers=answers.Done,
    )
    def stop_api(recovery_id: str) -> Response:
        schemas.body(schemas.Empty)
        _stop(broker, current(), recovery_id)
        return jsonify({})

    @doors.post("/recoveries/<recovery_id>/stop")
    def stop(recovery_id: str) -> BaseResponse:
        _stop(broker, current(), recovery_id)
        return redirect(own_path(request.form.get("back", "/")), 303)

    return doors


def _stop(broker: Broker, me: Current, recovery_id: str) -> None:
    with broker.begin(me.actor) as tx:
        row = tx.get(Recovery, recovery_id[:64])
        account = tx.get(Account, row.account_id) if row is not None else None
        own = account is not None and account.person_id == me.person.id
        if row is None or not (own or people.is_admin(tx, me.person.id)):
            raise JitError(Kind.NOT_FOUND, "There is no such recovery.")
        if row.change_id is None:
            raise JitError(Kind.FORBIDDEN, "A recovery with paper keys is vetoed by a founder, with a passkey.")
        recovery.stop(tx, row.id, by=me.person.id)


def recovery_json(row: Recovery) -> dict[str, object]:
    """Return a replacement."""
    return {
        "id": row.id,
        "account_id": row.account_id,
        "paper_keys": row.change_id is None,
        "started_at": to_epoch_s(row.started_at),
        "ripe_at": to_epoch_s(row.ripe_at),
    }
