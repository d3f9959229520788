"""Which ends of access are under way, why does one not succeed, and who hurries it?

A lease that is being taken away keeps a short technical word for what went wrong last (`cut.error_word`); here that word becomes one of a
closed list of reasons that people can act on. Trying again at once gives nobody anything: one tap, recorded, no signature.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import ColumnElement, and_, case, func, or_, select

from jitaccess.broker.context import Broker, subject_of
from jitaccess.broker.revoke import ENDING_LEASES
from jitaccess.clock import from_epoch_us, to_epoch_us
from jitaccess.domain.events import EventType
from jitaccess.domain.lifecycle import LeaseState
from jitaccess.errors import JitError, Kind
from jitaccess.store.db import Tx, View
from jitaccess.store.tables import Grant, Lease


class Why(StrEnum):
    """Why an end of access did not succeed yet."""

    UNREACHABLE = "unreachable"
    UNCONFIRMED = "unconfirmed"
    SLOW = "slow"
    FORBIDDEN = "forbidden"
    NEEDED = "needed"
    OWNER = "owner"
    STILL_THERE = "still_there"
    ANSWER = "unexpected_answer"
    SETTINGS = "settings"
    RECORD = "record_changed"
    OTHER = "other"


_SETTINGS = "|".join(kind.value for kind in Kind if kind is not Kind.SEAL_BROKEN)
_SIGNS: Sequence[tuple[Why, re.Pattern[str]]] = tuple(
    (why, re.compile(signs, re.VERBOSE))
    for why, signs in (
        (Why.RECORD, r"seal_broken"),
        (Why.SETTINGS, rf"{_SETTINGS} | CallFailed\ (bad_address|no_root_ca|not_https|address_not_allowed)"),
        (Why.OWNER, r"CallFailed\ (superuser|prepared|definer|defaults|renamed):.*"),
        (Why.STILL_THERE, r"no_proof | CallFailed\ (still_\w+|sessions_left|name_not_taken|not_made_but_there)"),
        (Why.NEEDED, r"CallFailed\ would_lose.* | \w+\ (2BP01|55006) | LDAPNotAllowedOn\w+"),
        (
            # PostgreSQL classes 28 and 42501; MariaDB's refusals of a right; an owner's own provisioner.
            Why.FORBIDDEN,
            r"""\w+\ (28\w{3}|42501|0L\w{3}|0P\w{3}) | \w+\ (1044|1045|1095|1142|1143|1227|1370|1410|1698)
            | CallFailed\ status_40[13] | PermissionError.*
            | LDAP(Insufficient|AuthorizationDenied|InvalidCredentials|Inappropriate|StrongerAuth)\w*""",
        ),
        (
            Why.SLOW,
            r"""\w+\ (57014|55P03|40\w{3}|25P0[34]|53\w{3}) | \w+\ (1205|1213|1040|1203|1969) | .*Timeout(Error|Exception)?(\ .*)?
            | CallFailed\ (too_slow|unfinished|ReadTimeout\w*|status_(408|429|503|504))
            | LDAP(TimeLimit|AdminLimit|Busy|ResponseTimeout|MaximumRetries)\w*""",
        ),
        (
            Why.UNREACHABLE,
            r"""Unreachable | \w*OperationalError | \w*InterfaceError | \w+\ (08\w{3}|57P\w{2}) | \w+\ (0|2002|2003|2006|2013|2026|2055)
            | (Connection\w*|BrokenPipe\w*|OSError|gaierror|SSL\w*|EOFError)(\ .*)?
            | LDAP(Socket|Session|Unavailable|StartTLS|Certificate|ServerPool|Communication|Bind)\w*
            | CallFailed\ (unknown_host|\w*(Connect|Protocol|Network|Remote|Incomplete|Disconnected)\w*)""",
        ),
        (Why.ANSWER, r"CallFailed\ .* | LDAP(Protocol|Operations|Unwilling|UnknownResponse)\w*"),
    )
)
"""Read from the top. The words are class names of errors with the target's own code behind them."""


def why(word: str | None, *, publishes: bool = False) -> Why | None:
    """Return the reason behind a technical word; None for none. `publishes`: hosts of this kind come and fetch."""
    if word is None:
        return None
    found = next((reason for reason, signs in _SIGNS if signs.fullmatch(word)), Why.OTHER)
    return Why.UNCONFIRMED if publishes and found is Why.UNREACHABLE else found


@dataclass(frozen=True, slots=True)
class Ending:
    """One end of access that is under way."""

    lease: Lease
    grant: Grant | None
    why: Why | None
    """What went wrong last; None when nothing did."""
    running: bool
    """Whether it is being tried at this moment."""
    next_at: datetime | None
    """When it is tried next; None while it is being tried, or due."""

    @property
    def stuck(self) -> bool:
        """Say whether it failed so often that people were told."""
        return self.lease.state == LeaseState.STUCK.value


def under_way(view: View, *, target: str = "", persons: Sequence[str] | None = None) -> int:
    """Return how many ends of access are under way."""
    return int(view.scalar(select(func.count()).select_from(Lease).where(*_which(target, persons))))


Place = tuple[int, int, str]
"""Where an end stands in the order: 0 when it is stuck and 1 when not, microseconds of its begin, id."""


def place_of(ending: Ending) -> Place:
    """Return where an end stands in the order of `endings`."""
    at = ending.lease.ended_at
    return int(not ending.stuck), to_epoch_us(at) if at is not None else 0, ending.lease.id


def endings(
    view: View,
    broker: Broker,
    *,
    target: str = "",
    persons: Sequence[str] | None = None,
    after: Place | None = None,
    most: int = 100,
) -> list[Ending]:
    """Return ends of access that are under way, stuck ones first, then the oldest; seals unchecked, because this only shows."""
    rank = case((Lease.state == LeaseState.STUCK.value, 0), else_=1)
    wanted = select(Lease).where(*_which(target, persons)).order_by(rank, Lease.ended_at, Lease.id).limit(most)
    if after is not None:
        number, at, key = after[0], from_epoch_us(after[1]), after[2]
        later = or_(Lease.ended_at > at, and_(Lease.ended_at == at, Lease.id > key))
        wanted = wanted.where(or_(rank > number, and_(rank == number, later)))
    return as_endings(view, broker, view.unchecked_all(wanted))


def _which(target: str, persons: Sequence[str] | None) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [Lease.state.in_(ENDING_LEASES)]
    if target:
        found.append(Lease.target == target)
    if persons is not None:
        found.append(Lease.person_id.in_(persons))
    return found


def as_endings(view: View, broker: Broker, leases: Sequence[Lease]) -> list[Ending]:
    """Return these leases with their grants and with why they are not gone yet."""
    keys = {lease.grant_id for lease in leases}
    found = view.unchecked_all(select(Grant).where(Grant.id.in_(keys))) if keys else []
    grants = {grant.id: grant for grant in found}
    return [_ending(view, broker, lease, grants.get(lease.grant_id)) for lease in leases]


def _ending(view: View, broker: Broker, lease: Lease, grant: Grant | None) -> Ending:
    kind = broker.targets.kinds.get(lease.connector)
    running = lease.claimed_until is not None and lease.claimed_until > view.now
    waits = lease.next_at if not running and lease.next_at is not None and lease.next_at > view.now else None
    reason = why(lease.last_error, publishes=kind is not None and kind.publishes)
    return Ending(lease, grant, reason, running, waits)


def try_now(tx: Tx, lease_id: str) -> Lease:
    """Have an end of access tried as soon as this is committed. Call it in a Tx that locks the lease's row.

    Raises NOT_FOUND, or CONFLICT for one that is not under way. The count of attempts stays, and so does a claim: whoever is at it now
    goes on. The seal is not asked: it is only taken away.
    """
    lease = tx.unchecked_get(Lease, lease_id) if 0 < len(lease_id) <= 64 else None
    if lease is None:
        raise JitError(Kind.NOT_FOUND, "There is no such credential.")
    if lease.state not in ENDING_LEASES:
        raise JitError(Kind.CONFLICT, "This credential is not being taken away any more.", state=lease.state)
    tx.record(EventType.LEASE_RETRIED, subject=subject_of(lease), body={"attempts": lease.attempts})
    tx.update(lease, next_at=tx.now)
    return lease
