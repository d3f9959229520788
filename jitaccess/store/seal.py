"""Has somebody changed this row behind our back? Row seals (design.md section 5).

A sealed row carries a MAC over (table, key, version, id of the event that wrote it, digest of its content) under a key that
the database does not hold. The event's leaf lists (table, key, version, digest), so row and log name each other (ADR 0002).
A MAC proves "once valid", not "current": freshness comes from versions bound to the log and from monotone states.
A wrong seal refuses the use of that row; it must never stop a revocation.
"""

import hashlib
import hmac
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from jitaccess.clock import to_epoch_us
from jitaccess.proof.canonical import b64u_encode

GENERATION_BYTES = 4 * 1024 * 1024
"""Bytes of rows after which the older half of the memory is forgotten."""
ROW_BYTES = 1024
"""What a remembered row takes beside its text."""
UNKNOWN_LIMIT = 1_000
"""Unknown key ids that are asked for in the life of a process: forged seals must not cost a look-up each."""


def row_digest(table: str, key: str, version: int, content: Mapping[str, object]) -> str:
    """Return base64url SHA-256 over the canonical form of a row.

    The form equals RFC 8785 for what rows hold (ASCII column names, text, integers, booleans, null and nested JSON without
    floats); `json` writes it several times faster, and a property test compares both.
    """
    return b64u_encode(hashlib.sha256(_write([table, key, version, content]).encode()).digest())


def sealed_content(names: Iterable[str], later: frozenset[str], values: Mapping[str, object]) -> dict[str, object]:
    """Return what of a row is sealed: its columns, those added later only where they say something (ADR 0014)."""
    return {name: values[name] for name in names if name not in later or values[name] is not None}


def _plain(value: object) -> object:
    """Return what stands for a value that JSON does not know."""
    if isinstance(value, datetime):
        return to_epoch_us(value)
    if isinstance(value, bytes):
        return b64u_encode(value)
    raise TypeError(f"a row cannot hold a {type(value).__name__}")


_write = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, check_circular=False, default=_plain
).encode


class Checked:
    """Rows whose seal was found good, by exactly what the database gave of them; never of a right (docs/adr/0060).

    A row is known only by all of its columns as they were read, the newest version that the log names among them: one changed byte
    is another row. What stands here was made of those bytes and not of an equal number in another form.
    """

    __slots__ = ("_bytes", "_old", "_young")

    def __init__(self) -> None:
        """Know none."""
        self._young: dict[tuple[str, Sequence[object]], Mapping[str, object]] = {}
        self._old: dict[tuple[str, Sequence[object]], Mapping[str, object]] = {}
        self._bytes = 0

    def get(self, table: str, row: Sequence[object]) -> Mapping[str, object] | None:
        """Return the values of a row that was found good."""
        name = table, row
        return self._young.get(name) or self._old.get(name)

    def keep(self, table: str, row: Sequence[object], values: Mapping[str, object]) -> None:
        """Remember a row whose seal holds."""
        self._young[table, row] = values
        self._bytes += ROW_BYTES + sum(len(value) for value in row if isinstance(value, str | bytes))
        if self._bytes >= GENERATION_BYTES:
            self._old, self._young, self._bytes = self._young, {}, 0


class Seals:
    """The seal keys: one that writes, and all that are still accepted while rows are sealed anew.

    One object lives as long as the process; `adopt` exchanges its keys at once, for everybody who holds it.
    """

    __slots__ = ("_asked", "_held", "ask")

    def __init__(self, active: str, keys: Mapping[str, bytes]) -> None:
        """Take the id of the key that writes, and key id -> 32 bytes."""
        # Keyed once: a seal copies the context instead of hashing the key again.
        self._held = (active, {name: hmac.new(key, digestmod="sha256") for name, key in keys.items()}, Checked())
        self._asked: set[str] = set()
        self.ask: Callable[[], None] | None = None
        """Called once for each unknown key id met, to learn what another process rotated; set by the keyring."""

    @property
    def active(self) -> str:
        """Return the id of the key that writes."""
        return self._held[0]

    @property
    def known(self) -> frozenset[str]:
        """Return the ids of the keys that are accepted."""
        return frozenset(self._held[1])

    @property
    def checked(self) -> Checked:
        """Return the rows found good under exactly these keys."""
        return self._held[2]

    def adopt(self, other: "Seals") -> None:
        """Take over another's keys, after a rotation; what was found good under the old ones is looked at anew."""
        self._held = other._held

    def make(self, table: str, key: str, version: int, event_id: str, digest: str) -> str:
        """Return `<key id>.<base64url HMAC-SHA-256>`."""
        active, keys, _ = self._held
        return f"{active}.{_mac(keys[active], table, key, version, event_id, digest)}"

    def holds(self, seal: str | None, table: str, key: str, version: int, event_id: str | None, digest: str) -> bool:
        """Say whether a stored seal belongs to exactly this row; absent, malformed and unknown keys do not."""
        if not seal or event_id is None:
            return False
        key_id, _, mac = seal.partition(".")
        keyed = self._held[1].get(key_id)
        if keyed is None and self.ask is not None and key_id not in self._asked and len(self._asked) < UNKNOWN_LIMIT:
            self._asked.add(key_id)
            self.ask()
            keyed = self._held[1].get(key_id)
        if keyed is None:
            return False
        return hmac.compare_digest(mac.encode(), _mac(keyed, table, key, version, event_id, digest).encode())


def _mac(keyed: hmac.HMAC, table: str, key: str, version: int, event_id: str, digest: str) -> str:
    number = str(version)
    # Every part is length-prefixed like a netstring, so no two tuples share one byte string.
    frame = (
        f"{len(table)}:{table},{len(key)}:{key},{len(number)}:{number},"
        f"{len(event_id)}:{event_id},{len(digest)}:{digest},"
    )
    state = keyed.copy()
    state.update(frame.encode())
    return b64u_encode(state.digest())
