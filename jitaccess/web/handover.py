"""The page and the API on which a person opens a grant and sees its credential once (R55).

The credential is in the body of one answer to one POST; that answer is not cacheable, and no address ever holds it.
"""

from typing import Any

from flask import Blueprint, Response, jsonify, render_template
from pydantic import Field

from jitaccess.broker import handover
from jitaccess.broker.context import Broker
from jitaccess.connectors.contract import Credential
from jitaccess.web import answers, schemas
from jitaccess.web.api import begun
from jitaccess.web.doors import current, settle
from jitaccess.web.operations import documented
from jitaccess.web.speech import say


class OpeningAnswer(schemas.Answer):
    """The answer to the ceremony, with what the person hands in."""

    given: dict[str, str] = Field(default_factory=dict, max_length=8)


def credential_json(credential: Credential) -> dict[str, Any]:
    """Return a credential for its person; `shown` is the whole of it as text, for the page."""
    note = say(credential.note)
    lines = [credential.command, note]
    if credential.secret is not None:
        lines.append(credential.secret.reveal())
    lines += [f"{name}:\n{text.reveal()}" for name, text in credential.files.items()]
    return {
        "username": credential.username,
        "command": credential.command,
        "secret": credential.secret.reveal() if credential.secret is not None else None,
        "files": {name: text.reveal() for name, text in credential.files.items()},
        "note": note,
        "shown": "\n\n".join(line for line in lines if line),
    }


def blueprint(broker: Broker) -> Blueprint:
    """Return page and API over a broker."""
    pages = Blueprint("handover", __name__)

    @pages.get("/grants/<grant_id>/open")
    def open_page(grant_id: str) -> str:
        me = current()
        with broker.read() as view:
            grant, target, kind = handover.about(view, broker, me, grant_id)
        return render_template("handover.html", grant=grant, target=target, kind=kind)

    @pages.post("/api/grants/<grant_id>/open/begin")
    @documented("grants", "Begin to open a grant.", takes=schemas.Empty, answers=answers.Begun)
    def open_begin(grant_id: str) -> Response:
        schemas.body(schemas.Empty)
        return begun(handover.begin(broker, current(), grant_id))

    @pages.post("/api/grants/<grant_id>/open/complete")
    @documented(
        "grants",
        "Open a grant: shows its credential, this once.",
        takes=OpeningAnswer,
        answers=answers.Opened,
        repeatable=False,
    )
    def open_complete(grant_id: str) -> Response:
        given = schemas.body(OpeningAnswer)
        opened = settle(
            handover.complete(
                broker,
                current(),
                grant_id,
                challenge_id=given.challenge_id,
                response=given.response,
                given=given.given,
            )
        )
        return jsonify({"lease_id": opened.lease.id, **credential_json(opened.credential)})

    return pages
