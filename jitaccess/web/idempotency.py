"""Was this very act done already under this key? Then the first answer is given again and nothing is done (R26).

A key belongs to one person and is bound to the address and the exact body: the same key with anything else is refused. The key is claimed
before the act and the answer kept after it; a crash between leaves a claim without an answer, and who asks again is told to look, because
nobody knows whether the act happened. What was refused as "wait" is not kept. No answer that holds a secret or sets a cookie is ever kept
(`operations.Operation.repeatable`). draft-ietf-httpapi-idempotency-key-header.
"""

import hashlib
import re
from datetime import timedelta

from flask import Flask, Response, g, request

from jitaccess.broker.context import Broker
from jitaccess.errors import JitError, Kind
from jitaccess.store.tables import KeptAnswer
from jitaccess.web.doors import current_or_none
from jitaccess.web.operations import operation_of

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
KEPT_FOR = timedelta(hours=24)
_SHAPE = re.compile(r"[\x21-\x7e]{8,128}")
_TRY_AGAIN = frozenset({429, 503})


def install(app: Flask, broker: Broker) -> None:
    """Put the keys behind the doors of an application: after `doors.install`, which says who is there."""

    @app.before_request
    def claim() -> Response | None:
        key = request.headers.get(HEADER)
        operation = operation_of(app.view_functions.get(request.endpoint or ""))
        me = current_or_none()
        if key is None or operation is None or not operation.repeatable or me is None:
            return None
        if not _SHAPE.fullmatch(key):
            raise JitError(Kind.INVALID, "Idempotency-Key must be 8 to 128 visible ASCII characters.", field=HEADER)
        row_id = hashlib.sha256(f"{me.person.id}\0{key}".encode()).hexdigest()
        act = _digest()
        with broker.begin(me.actor) as tx:
            tx.delete(KeptAnswer, KeptAnswer.id == row_id, KeptAnswer.created_at < tx.now - KEPT_FOR)
            known = tx.get(KeptAnswer, row_id)
            if known is None:
                tx.insert(KeptAnswer, id=row_id, act=act, status=None, body=None, created_at=tx.now)
        if known is None:
            g.kept_answer = row_id
            return None
        return _again(known, act)

    @app.after_request
    def keep(response: Response) -> Response:
        row_id = g.pop("kept_answer", None)
        me = current_or_none()
        if row_id is not None and me is not None:
            with broker.begin(me.actor) as tx:
                if response.status_code in _TRY_AGAIN:
                    tx.delete(KeptAnswer, KeptAnswer.id == row_id)
                elif response.status_code < 500:
                    tx.update(tx.require(KeptAnswer, row_id), status=response.status_code, body=response.get_data())
        return response


def _digest() -> str:
    """Return the SHA-256 of what is asked for: method, path, query and body."""
    parts = (request.method.encode(), request.path.encode(), request.query_string, request.get_data())
    whole = hashlib.sha256()
    for part in parts:
        whole.update(len(part).to_bytes(8, "big") + part)
    return whole.hexdigest()


def _again(known: KeptAnswer, act: str) -> Response:
    if known.act != act:
        raise JitError(Kind.KEY_REUSED, "This Idempotency-Key was used for something else. Take a fresh one.")
    if known.status is None:
        raise JitError(
            Kind.CONFLICT,
            "The same act with this key is still running or was interrupted. Look whether it is done before you take a new key.",
            code="not_finished",
        )
    kind = "application/json" if known.status < 400 else "application/problem+json"
    return Response(known.body, known.status, {REPLAYED: "true"}, content_type=kind)
