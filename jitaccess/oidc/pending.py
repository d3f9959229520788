"""Where was somebody going who had to ask for access first? An authorization request kept until it can be answered.

Kept here and not in the browser: what the application sent is neither shown in addresses nor changed on the way. Each is one
person's, for one client and one entitlement, lasts a day, is used once, and is checked anew like any other when the person comes
back. It confers nothing: without a live grant it leads nowhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import cast
from urllib.parse import urlencode

from sqlalchemy import select
from werkzeug.datastructures import MultiDict

from jitaccess.broker.clients import ClientFacts, registered
from jitaccess.broker.context import Broker
from jitaccess.broker.request import CatalogueEntry, catalogue
from jitaccess.domain.lifecycle import RequestState
from jitaccess.domain.values import Refused
from jitaccess.errors import Kind
from jitaccess.identity.sessions import Current
from jitaccess.oidc.authorize import Asked, Back, choices, read_request
from jitaccess.store.db import Tx, View
from jitaccess.store.tables import AccessRequest, PendingAuthorization

LIFE = timedelta(hours=24)
MAX_KEPT = 10
"""For each person; the oldest goes first."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A kept request that can be answered now."""

    id: str
    client: ClientFacts
    grant_id: str


def requestable(view: View, broker: Broker, asked: Asked, current: Current) -> Sequence[CatalogueEntry]:
    """Return what this person may ask for at the client's target, within what the client named."""
    return [
        entry
        for entry in catalogue(view, broker, current)
        if entry.target == asked.client.facts.target and asked.entitlement in (None, entry.entitlement)
    ]


def keep(tx: Tx, broker: Broker, current: Current, asked: Asked, entitlement: str) -> str | Refused:
    """Keep a request until there is access for it; return the path of the page where to ask or to wait."""
    target = asked.client.facts.target
    if entitlement not in {entry.entitlement for entry in requestable(tx, broker, asked, current)}:
        return Refused(Kind.NOT_FOUND, "not_requestable", "There is no such right that you may ask for.")
    mine = PendingAuthorization.person_id == current.person.id
    same = (PendingAuthorization.client_id == asked.client.client_id, PendingAuthorization.entitlement == entitlement)
    tx.delete(PendingAuthorization, mine, *same)
    kept = tx.all(select(PendingAuthorization).where(mine).order_by(PendingAuthorization.id.desc()))
    for old in kept[MAX_KEPT - 1 :]:
        tx.delete(PendingAuthorization, PendingAuthorization.id == old.id)
    tx.insert(
        PendingAuthorization,
        id=tx.new_id(),
        person_id=current.person.id,
        client_id=asked.client.client_id,
        entitlement=entitlement,
        parameters=dict(asked.parameters),
        created_at=tx.now,
        expires_at=tx.now + LIFE,
    )
    waiting = tx.first(
        select(AccessRequest)
        .where(
            AccessRequest.person_id == current.person.id,
            AccessRequest.target == target,
            AccessRequest.entitlement == entitlement,
            AccessRequest.state == RequestState.PENDING.value,
        )
        .order_by(AccessRequest.id.desc())
    )
    if waiting is not None:
        return f"/requests/{waiting.id}"
    return f"/request?{urlencode({'target': target, 'entitlement': entitlement})}"


def ready(view: View, broker: Broker, current: Current) -> list[Ready]:
    """Return this person's kept requests for which there is live access now."""
    kept = view.all(
        select(PendingAuthorization)
        .where(
            PendingAuthorization.person_id == current.person.id,
            PendingAuthorization.used_at.is_(None),
            PendingAuthorization.expires_at > view.now,
        )
        .order_by(PendingAuthorization.id)
    )
    found = [(row, _checked(view, broker, row)) for row in kept]
    return [
        Ready(row.id, registered(view)[row.client_id], grants[0])
        for row, asked in found
        if asked is not None and (grants := _grants(view, asked, current, row.entitlement))
    ]


def _checked(view: View, broker: Broker, row: PendingAuthorization) -> Asked | None:
    """Read what was kept as if it came anew; None when the client is gone or asks what it no longer may."""
    if row.client_id not in registered(view):
        return None
    asked = read_request(view, broker, MultiDict(cast("dict[str, str]", row.parameters)))
    return None if isinstance(asked, Back) else asked


def _grants(view: View, asked: Asked, current: Current, entitlement: str) -> list[str]:
    return [choice.grant.id for choice in choices(view, asked, current) if choice.grant.entitlement == entitlement]


def resume(tx: Tx, broker: Broker, current: Current, pending_id: str) -> str | Refused:
    """Spend a kept request; return the authorization page's path, on which the person opens the access as always."""
    gone = Refused(Kind.GONE, "no_such_sign_in", "This way back is over. Start again at the system.")
    row = tx.get(PendingAuthorization, pending_id) if len(pending_id) <= 64 else None
    if row is None or row.person_id != current.person.id or row.used_at is not None or tx.now >= row.expires_at:
        return gone
    asked = _checked(tx, broker, row)
    grants = _grants(tx, asked, current, row.entitlement) if asked is not None else []
    if asked is None or not grants:
        return Refused(Kind.CONFLICT, "no_access_yet", "You have no access to this system now. Ask for it first.")
    tx.update(row, expect={"used_at": None}, used_at=tx.now)
    return f"/oidc/authorize?{urlencode({**asked.parameters, 'login_hint': grants[0]})}"
