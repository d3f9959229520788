"""How many notices that only inform may one person's acts send another within an hour? A few at once, the rest together (R26).

Witnesses and deputies have nothing to answer, so what is too much for an hour leaves every quarter of an hour as one letter. Nothing is
lost, and nothing here asks for policy, settings or a seal: ending access and ending a deputation inform, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select

from jitaccess.clock import from_epoch_s, to_epoch_s
from jitaccess.domain.notices import INFORMING
from jitaccess.identity.enrolment import tell
from jitaccess.store.db import Tx, View
from jitaccess.store.tables import AccessRequest, Deputation, Grant, Outbox

AT_ONCE = 6
"""Notices of one person's acts that another gets at once within an hour: twice asked, given and ended."""
TOGETHER_S = 900
"""When more of them leave: at each full quarter of an hour."""
READ_AT_ONCE = 500
"""People whose notices one read counts."""


@dataclass(frozen=True, slots=True)
class Informing:
    """One notice to be: of what kind, to whom, of whose act, about which row."""

    kind: str
    reader: str
    about: str
    subject_id: str
    urgent: bool = False
    """It leaves at once however many went before."""


def inform(tx: Tx, notices: Sequence[Informing]) -> None:
    """Write notices that only inform; above `AT_ONCE` of one person's to one reader within the hour they leave together later."""
    if not notices:
        return
    lately = _lately(tx, sorted({one.reader for one in notices}))
    for one in notices:
        pair = (one.reader, one.about)
        count = lately[pair] = lately.get(pair, 0) + 1
        later = count > AT_ONCE and not one.urgent
        tell(tx, one.kind, one.reader, one.subject_id, after=_together(tx.now) if later else None)


def _together(now: datetime) -> timedelta:
    return from_epoch_s((to_epoch_s(now) // TOGETHER_S + 1) * TOGETHER_S) - now


def _lately(view: View, readers: Sequence[str]) -> dict[tuple[str, str], int]:
    """Return how many notices each reader got of whose acts within the hour; those on several channels count once."""
    about = func.coalesce(AccessRequest.person_id, Grant.person_id, Deputation.delegator_id)
    wanted = (
        select(Outbox.person_id, about, Outbox.kind, func.count(Outbox.subject_id.distinct()))
        .outerjoin(AccessRequest, AccessRequest.id == Outbox.subject_id)
        .outerjoin(Grant, Grant.id == Outbox.subject_id)
        .outerjoin(Deputation, Deputation.id == Outbox.subject_id)
        .where(Outbox.kind.in_(sorted(INFORMING)), Outbox.created_at > view.now - timedelta(hours=1))
        .group_by(Outbox.person_id, about, Outbox.kind)
    )
    found: dict[tuple[str, str], int] = {}
    for start in range(0, len(readers), READ_AT_ONCE):
        part = readers[start : start + READ_AT_ONCE]
        for reader, whose, _, count in view.rows(wanted.where(Outbox.person_id.in_(part))):
            found[reader, whose] = found.get((reader, whose), 0) + count
    return found
