"""Has somebody changed this row behind our back? Row seals (design.md section 5).

A sealed row carries a MAC over (table, key, version, id of the event that wrote it, digest of its content) under a key that
the database does not hold. The event's leaf lists (table, key, version, digest), so row and log name each other (ADR 0002).
A MAC proves "once valid", not "current": freshness comes from versions bound to the log and from monotone states.
A wrong seal refuses the use of that row; it must never stop a revocation.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from jitaccess.clock import to_epoch_us
from jitaccess.proof.canonical import b64u_encode


def row_digest(table: str, key: str, version: int, content: Mapping[str, object]) -> str:
    """Return base64url SHA-256 over the canonical form of a row.

    The form equals RFC 8785 for what rows hold (ASCII column names, text, integers, booleans, null and nested JSON without
    floats); `json.dumps` writes it several times faster, and a property test compares both.
    """
    plain = [table, key, version, {name: _plain(value) for name, value in content.items()}]
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return b64u_encode(hashlib.sha256(text.encode()).digest())


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return to_epoch_us(value)
    if isinstance(value, bytes):
        return b64u_encode(value)
    return value


@dataclass(frozen=True, slots=True)
class Seals:
    """The seal keys: one that writes, and all that are still accepted while rows are re-sealed."""

    active: str
    keys: Mapping[str, bytes]
    """Key id -> 32 bytes."""

    def make(self, table: str, key: str, version: int, event_id: str, digest: str) -> str:
        """Return `<key id>.<base64url HMAC-SHA-256>`."""
        return f"{self.active}.{self._mac(self.active, table, key, version, event_id, digest)}"

    def holds(self, seal: str | None, table: str, key: str, version: int, event_id: str | None, digest: str) -> bool:
        """Say whether a stored seal belongs to exactly this row; absent, malformed and unknown keys do not."""
        if not seal or event_id is None:
            return False
        key_id, _, mac = seal.partition(".")
        if key_id not in self.keys:
            return False
        return hmac.compare_digest(mac, self._mac(key_id, table, key, version, event_id, digest))

    def _mac(self, key_id: str, table: str, key: str, version: int, event_id: str, digest: str) -> str:
        # Every part is length-prefixed by its netstring-like frame, so no two tuples share one byte string.
        frame = "".join(f"{len(part)}:{part}," for part in (table, key, str(version), event_id, digest))
        return b64u_encode(hmac.digest(self.keys[key_id], frame.encode(), "sha256"))
