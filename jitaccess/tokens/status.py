"""How do targets learn of an early end without asking about each token? Token Status Lists.

draft-ietf-oauth-status-list-21: one bit for each access token, 1 = ended, packed, compressed and signed as a JWT that anybody may
fetch and keep for a moment. A bit that was set is never taken back, and a bit is given to one token, once. The list names
nobody. What it says is at most `REBUILD_AFTER_S` older than the rows; `TTL_S` and `LIFE_S` bound how long others may believe it.
"""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from joserfc.jwk import ECKey

from jitaccess.clock import to_epoch_s
from jitaccess.proof.canonical import JsonValue
from jitaccess.sdk.status import pack
from jitaccess.tokens.access import sign

STATUS_TYPE = "statuslist+jwt"
MEDIA_TYPE = f"application/{STATUS_TYPE}"
LIST_BITS = 2**16
"""Bits in a new list: 8 KiB before compression."""
BLOCK = 64
"""Bits that a process takes at once, so that giving a token locks no row."""
TTL_S = 5
"""How long a target may use a list before it fetches it anew (section 13.7)."""
LIFE_S = 60
"""When a list is over by itself: a target that gets no newer one refuses from then on."""
REBUILD_AFTER_S = 0.5
HTTP_MAX_AGE_S = 1


@dataclass(frozen=True, slots=True)
class StatusRef:
    """The bit that tells of one token."""

    list_id: str
    idx: int
    uri: str

    def to_claim(self) -> dict[str, JsonValue]:
        """Return the `status` claim (section 6.1)."""
        return {"status_list": {"idx": self.idx, "uri": self.uri}}


@dataclass(slots=True)
class Block:
    """Bits of one list that belong to this process."""

    list_id: str
    next: int
    end: int
    taken_at: datetime


@dataclass(slots=True)
class StatusMemory:
    """What this process keeps: its block, the lists as signed last, and every bit it ever saw set."""

    giving: threading.Lock = field(default_factory=threading.Lock)
    building: threading.Lock = field(default_factory=threading.Lock)
    block: Block | None = None
    signed: dict[str, tuple[datetime, str]] = field(default_factory=dict)
    ended: dict[str, set[int]] = field(default_factory=dict)


def mint_status_list(key: ECKey, *, issuer: str, uri: str, ended: Iterable[int], size: int, now: datetime) -> str:
    """Make the signed list (section 5.1)."""
    begins = to_epoch_s(now)
    claims: dict[str, JsonValue] = {
        "iss": issuer,
        "sub": uri,
        "iat": begins,
        "exp": begins + LIFE_S,
        "ttl": TTL_S,
        "status_list": {"bits": 1, "lst": pack(ended, size)},
    }
    return sign(key, STATUS_TYPE, claims)
