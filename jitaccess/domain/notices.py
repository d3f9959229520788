"""Of what are people told, and when? The closed list of notices, and the moment at which one may leave.

Pure: the person's quiet hours and digest come as arguments, and so does the present. What is urgent waits for nothing.
"""

from datetime import date, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo


class Notice(StrEnum):
    """What a notice is about."""

    APPROVAL_WANTED = "approval_wanted"
    REQUEST_DECIDED = "request_decided"
    APPROVAL_LOST = "approval_lost"
    GRANT_READY = "grant_ready"
    GRANT_SCHEDULED = "grant_scheduled"
    GRANT_ENDING = "grant_ending"
    GRANT_ENDED = "grant_ended"
    WITNESS_FILED = "witness_filed"
    WITNESS_GRANTED = "witness_granted"
    WITNESS_ENDED = "witness_ended"
    VETO_POSSIBLE = "veto_possible"
    DEPUTY_NAMED = "deputy_named"
    DEPUTY_ENDED = "deputy_ended"
    PASSKEY_ADDED = "passkey_added"
    PASSKEY_REMOVED = "passkey_removed"
    HURRIED = "approver_hurried"
    HELD = "held"
    REPLACEMENT_STARTED = "replacement_started"
    RECOVERY_STARTED = "recovery_started"
    REVOCATION_STUCK = "revocation_stuck"
    ACCOUNT_FOUND = "account_found"
    TARGET_UNSEEN = "target_unseen"


URGENT = frozenset(
    {
        Notice.GRANT_ENDING,
        Notice.GRANT_ENDED,
        Notice.VETO_POSSIBLE,
        Notice.PASSKEY_ADDED,
        Notice.PASSKEY_REMOVED,
        Notice.HELD,
        Notice.REPLACEMENT_STARTED,
        Notice.RECOVERY_STARTED,
        Notice.REVOCATION_STUCK,
        Notice.ACCOUNT_FOUND,
        Notice.TARGET_UNSEEN,
    }
)
"""A hold, a revocation, a theft under way: these pass quiet hours and digests."""
INFORMING = frozenset(
    {
        Notice.WITNESS_FILED,
        Notice.WITNESS_GRANTED,
        Notice.WITNESS_ENDED,
        Notice.DEPUTY_NAMED,
        Notice.DEPUTY_ENDED,
    }
)
"""What has no answer and tells of somebody else's act: what leaves to one reader at the same time is one letter."""
ALARMS = frozenset(
    {
        Notice.HELD,
        Notice.REPLACEMENT_STARTED,
        Notice.RECOVERY_STARTED,
        Notice.REVOCATION_STUCK,
        Notice.ACCOUNT_FOUND,
        Notice.TARGET_UNSEEN,
    }
)
"""What a shared channel is told when its setting names no kinds, together with wanted approvals."""


def release_at(
    now: datetime,
    zone: ZoneInfo,
    *,
    digest: str = "",
    digest_minute: int = 0,
    quiet: tuple[int, int] | None = None,
    of_use_until: datetime | None = None,
) -> datetime:
    """Return when a notice that is not urgent leaves: after the digest's and the quiet hours' end.

    A digest never holds back what would be of no use by then (`of_use_until`); quiet hours do, since somebody sleeps.
    Quiet is `from <= minute of the day < to`, across midnight where `from` is the larger one.
    """
    moment = _digest(now, zone, digest, digest_minute)
    if of_use_until is not None and moment >= of_use_until:
        moment = now
    local = moment.astimezone(zone)
    minute = local.hour * 60 + local.minute
    if quiet is None or not _inside(minute, *quiet):
        return moment
    day = local.date() + timedelta(days=1 if quiet[1] <= minute else 0)
    return _at(day, quiet[1], zone)


def _inside(minute: int, start: int, end: int) -> bool:
    return start <= minute < end if start <= end else minute >= start or minute < end


def _digest(now: datetime, zone: ZoneInfo, digest: str, minute: int) -> datetime:
    local = now.astimezone(zone)
    match digest:
        case "hour":
            return (
                now
                + timedelta(hours=1)
                - timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
            )
        case "day":
            today = _at(local.date(), minute, zone)
            return today if today > now else _at(local.date() + timedelta(days=1), minute, zone)
        case _:
            return now


def _at(day: date, minute: int, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(minute // 60, minute % 60), tzinfo=zone)
