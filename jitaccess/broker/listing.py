"""Which requests and grants are there, page by page, newest first?

Only shows, so the seals of grants are left unchecked: a broken one must be seen, too. Ids grow with time (`store.ids`): the last one
shown is where the next page begins. Who may see what is for the door to say, before it asks here.
"""

from sqlalchemy import Select, select

from jitaccess.broker.revoke import LIVE_GRANTS
from jitaccess.store.db import View
from jitaccess.store.tables import AccessRequest, Event, Grant


def requests_page(
    view: View, *, before: str | None, limit: int, person: str = "", target: str = "", state: str = ""
) -> list[AccessRequest]:
    """Return up to `limit` requests older than `before`, newest first."""
    statement = select(AccessRequest).order_by(AccessRequest.id.desc()).limit(limit)
    for column, wanted in (
        (AccessRequest.person_id, person),
        (AccessRequest.target, target),
        (AccessRequest.state, state),
    ):
        if wanted:
            statement = statement.where(column == wanted)
    if before is not None:
        statement = statement.where(AccessRequest.id < before)
    return view.all(statement)


def grants_page(
    view: View, *, before: str | None, limit: int, person: str = "", target: str = "", live: bool = False
) -> list[Grant]:
    """Return up to `limit` grants older than `before`, newest first; `live` leaves out those that ended."""
    statement: Select[Grant] = select(Grant).order_by(Grant.id.desc()).limit(limit)
    if person:
        statement = statement.where(Grant.person_id == person)
    if target:
        statement = statement.where(Grant.target == target)
    if live:
        statement = statement.where(Grant.state.in_(LIVE_GRANTS))
    if before is not None:
        statement = statement.where(Grant.id < before)
    return view.unchecked_all(statement)


def events_page(
    view: View, *, before: int | None, limit: int, type_: str = "", person: str = "", request: str = "", grant: str = ""
) -> list[Event]:
    """Return up to `limit` numbered events with an index below `before`, newest first; raises SEAL_BROKEN."""
    statement = select(Event).where(Event.idx.is_not(None)).order_by(Event.idx.desc()).limit(limit)
    for column, wanted in (
        (Event.type, type_),
        (Event.person_id, person),
        (Event.request_id, request),
        (Event.grant_id, grant),
    ):
        if wanted:
            statement = statement.where(column == wanted)
    if before is not None:
        statement = statement.where(Event.idx < before)
    return view.all(statement)
