"""Has this token ended early? Read from the issuer's Token Status List, kept for a moment (draft-ietf-oauth-status-list-21).

No call to the broker for each token: one small signed list tells of many. A list is used for `refresh_s`, then one thread fetches it anew
and the others wait half a second for it at most. While the broker does not answer, the list at hand still counts, at once, until its own
`exp` (a minute after it was made) and not a second longer; one request in three seconds tries again. A token without a status, a list of
another issuer or address, a bit that is not there: refused. What is fetched stands under the issuer's own address; a token can only say
which of its lists.
"""

import base64
import re
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from jitaccess.sdk.keys import KeySource
from jitaccess.sdk.refusal import TokenRefused
from jitaccess.sdk.renewal import Renewal
from jitaccess.sdk.signed import Signed, text_of, time_of
from jitaccess.sdk.wall import wall_time
from jitaccess.sdk.wire import fetch

STATUS_TYPES = frozenset({"statuslist+jwt", "application/statuslist+jwt"})
REFRESH_S = 3.0
"""With half a second at the broker and one in HTTP caches an end is seen within five."""
PATIENCE_S = 0.5
"""How long a request waits for another one's fetch while there is a list that may still be used."""
MAX_SKEW_S = 60
MAX_LIST_BYTES = 256 * 1024
MAX_BITS_BYTES = 128 * 1024
"""A million tokens in one list: what is larger is not the issuer's work, and no small answer unpacks to more."""
MAX_LISTS = 256
_LIST_ID = re.compile(r"\A[a-z0-9]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class _Held:
    bits: bytes
    expires_at: int
    issued_at: int
    fetched_at: float


class StatusCheck:
    """Looks tokens up in their lists. Thread-safe; give one to every verifier of the same issuer."""

    def __init__(
        self,
        issuer: str,
        keys: KeySource,
        *,
        refresh_s: float = REFRESH_S,
        timeout_s: float = 2.0,
        clock: Callable[[], float] = wall_time,
    ) -> None:
        """`keys` are the issuer's, as for the verifier. `refresh_s` bounds how late an end is noticed while the broker answers."""
        self._base = f"{issuer}/oidc/status/"
        self._issuer = issuer
        self._signed = Signed(keys)
        self._refresh_s = refresh_s
        self._timeout_s = timeout_s
        self._clock = clock
        self._guard = threading.Lock()
        self._lists: dict[str, _Held] = {}
        self._renewals: dict[str, Renewal] = {}

    def __call__(self, claims: Mapping[str, Any]) -> None:
        """Return when the token of these verified claims has not ended; raises TokenRefused `inactive`, `no_status` or
        `unreachable`."""
        list_id, index = self._where(claims)
        held = self._current(list_id)
        if index >= len(held.bits) * 8:
            raise TokenRefused("no_status", "This token's status cannot be found, so it is not accepted.")
        if held.bits[index >> 3] >> (index & 7) & 1:
            raise TokenRefused("inactive", "This access has ended.")

    def _where(self, claims: Mapping[str, Any]) -> tuple[str, int]:
        status = claims.get("status")
        named = status.get("status_list") if isinstance(status, dict) else None
        if isinstance(named, dict):
            uri, index = named.get("uri"), named.get("idx")
            # Of these types exactly: true is no place in a list.
            if type(uri) is str and type(index) is int and index >= 0 and uri.startswith(self._base):
                list_id = uri[len(self._base) :]
                if list_id in self._lists or _LIST_ID.match(list_id):
                    return list_id, index
        raise TokenRefused("no_status", "This token names no status list of its issuer, so it is not accepted.")

    def _current(self, list_id: str) -> _Held:
        """Return a list that may be used now: fresh, or at hand and not over while no newer one can be had."""
        held = self._lists.get(list_id)
        if held is not None and self._fresh(held):
            return held
        with self._guard:
            if list_id not in self._renewals and len(self._renewals) >= MAX_LISTS:
                self._renewals.clear()
                self._lists.clear()
            renewal = self._renewals.setdefault(list_id, Renewal(self._clock))
        usable = held is not None and self._clock() < held.expires_at
        patience_s = (0.0 if renewal.failing else PATIENCE_S) if usable else self._timeout_s
        renewal.run(lambda: self._renew(list_id), patience_s=patience_s)
        held = self._lists.get(list_id)
        if held is None or self._clock() >= held.expires_at:
            raise TokenRefused("unreachable", "The broker gives no status list now, so nothing is accepted.")
        return held

    def _fresh(self, held: _Held) -> bool:
        """Say whether a list needs no newer one; a clock that went back makes it stale."""
        now = self._clock()
        return 0 <= now - held.fetched_at < self._refresh_s and now < held.expires_at

    def _renew(self, list_id: str) -> bool:
        """Fetch a list; return whether it is a newer one than at hand."""
        held = self._lists.get(list_id)
        if held is not None and self._fresh(held):
            return True  # another one came just before
        try:
            fresh = self._fetch(list_id, self._clock())
        except TokenRefused:
            return False
        if held is not None and fresh.issued_at < held.issued_at:
            return False  # an older list cannot take back what a newer one said
        self._lists[list_id] = fresh
        return True

    def _fetch(self, list_id: str, now: float) -> _Held:
        uri = f"{self._base}{list_id}"
        accept = {"Accept": "application/statuslist+jwt"}
        status, raw = fetch(uri, timeout_s=self._timeout_s, headers=accept, most=MAX_LIST_BYTES)
        if status != 200:
            raise TokenRefused("unreachable", "The broker gives no status list now.")
        return read_list(self._signed, raw, issuer=self._issuer, uri=uri, now=now)


def pack(ended: Iterable[int], size: int) -> str:
    """Return `lst` of a list of `size` bits: lowest bit of a byte first, zlib, base64url (sections 4.1, 4.2)."""
    raw = bytearray(size // 8)
    for index in ended:
        raw[index >> 3] |= 1 << (index & 7)
    return base64.urlsafe_b64encode(zlib.compress(bytes(raw), 9)).decode().rstrip("=")


def read_list(signed: Signed, raw: bytes, *, issuer: str, uri: str, now: float) -> _Held:
    """Check a list's signature, kind, address and times, and unpack it (sections 4, 5.1 and 8.3); raises TokenRefused."""
    wrong = TokenRefused("bad_status_list", "The status list is not what it should be, so it is not used.")
    try:
        text = raw.decode("ascii")
    except UnicodeDecodeError as error:
        raise wrong from error
    claims = signed.claims(text, STATUS_TYPES, most=MAX_LIST_BYTES)
    issued_at, expires_at = time_of(claims, "iat"), time_of(claims, "exp")
    if text_of(claims, "sub") != uri or text_of(claims, "iss") != issuer:
        raise wrong
    if now >= expires_at or issued_at - now > MAX_SKEW_S:
        raise wrong
    match claims.get("status_list"):
        case {"bits": 1, "lst": str(packed)}:
            return _Held(_unpack(packed, wrong), expires_at, issued_at, now)
    raise wrong


def _unpack(packed: str, wrong: TokenRefused) -> bytes:
    try:
        raw = base64.b64decode(packed + "=" * (-len(packed) % 4), altchars=b"-_", validate=True)
        unpacker = zlib.decompressobj()
        bits = unpacker.decompress(raw, MAX_BITS_BYTES)
    except (ValueError, zlib.error) as error:
        raise wrong from error
    if not unpacker.eof or not bits:
        raise wrong
    return bits
