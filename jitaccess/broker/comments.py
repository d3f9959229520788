"""What did an approver write to the requester? A comment is text beside the log, bound to its event by a salted hash (R72).

It is no part of what is signed and decides nothing. A text that no longer gives the hash in its leaf is not shown.
"""

import json
from collections.abc import Mapping

from sqlalchemy import select

from jitaccess.domain.events import EventType
from jitaccess.domain.values import Refused
from jitaccess.errors import Kind
from jitaccess.proof.canonical import b64u_decode, salted_digest
from jitaccess.proof.statements import Verdict
from jitaccess.store.db import View
from jitaccess.store.tables import Event, EventText

COMMENT = "comment"
"""The name of the text in its event."""
_VERDICT_OF = {
    EventType.APPROVAL_SIGNED.value: Verdict.APPROVE.value,
    EventType.DENIAL_GIVEN.value: Verdict.DENY.value,
}


def comment_problem(comment: str, most: int) -> Refused | None:
    """Say what is wrong with a comment: too long, or letters that do not print (R18)."""
    if len(comment) > most:
        return Refused(Kind.INVALID, "comment_length", "This comment is too long. Shorten it.", COMMENT)
    if any(not letter.isprintable() and letter != "\n" for letter in comment):
        return Refused(
            Kind.INVALID, "comment_text", "The comment holds invisible characters. Type it as plain text.", COMMENT
        )
    return None


def as_texts(comment: str) -> dict[str, str]:
    """Return the texts that an event carries for a comment; none for an empty one."""
    words = comment.strip()
    return {COMMENT: words} if words else {}


def comments_of(view: View, request_id: str) -> Mapping[tuple[str, str], str]:
    """Return (person id, verdict) -> what that approver wrote about a request with that verdict."""
    rows = view.rows(
        select(Event.person_id, Event.type, Event.leaf, EventText.salt, EventText.text)
        .join(EventText, EventText.event_id == Event.id)
        .where(Event.request_id == request_id, Event.type.in_(_VERDICT_OF), EventText.name == COMMENT)
        .order_by(Event.id)
    )
    return {
        (person, _VERDICT_OF[kind]): text
        for person, kind, leaf, salt, text in rows
        if json.loads(leaf)["texts"].get(COMMENT) == salted_digest(text, b64u_decode(salt))
    }
