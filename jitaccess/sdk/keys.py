"""With which keys may a token be signed? The issuer's own JWK Set and nothing else (RFC 7517, RFC 8725 section 3.1).

A key is found only by its `kid` in that set: a token never brings or names its own key, so nothing it says is ever fetched.
"""

import threading
from collections.abc import Callable, Mapping
from typing import TypeAlias

from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from jitaccess.sdk.refusal import TokenRefused
from jitaccess.sdk.wall import wall_time
from jitaccess.sdk.wire import exchange

KeySource: TypeAlias = Callable[[str], ECKey | None]
"""kid -> public key, or None when the issuer has no such key now."""
MAX_AGE_S = 300.0
"""How long a fetched set is used: a retired key is refused at the latest then."""
REFETCH_AFTER_S = 5.0
"""An unknown kid asks again, but not more often than this."""
MAX_KEYS = 32


def static_keys(jwks: object) -> KeySource:
    """Return the keys of a JWK Set; entries that are no public P-256 signing keys with a kid are left out."""
    return _read(jwks).get


def _read(jwks: object) -> Mapping[str, ECKey]:
    entries = jwks.get("keys") if isinstance(jwks, Mapping) else None
    if not isinstance(entries, list) or len(entries) > MAX_KEYS:
        raise TokenRefused("no_keys", "The issuer's key set cannot be read.")
    found: dict[str, ECKey] = {}
    for entry in entries:
        match entry:
            case {"kty": "EC", "crv": "P-256", "kid": str(kid), "x": str(x), "y": str(y)} if (
                kid and "d" not in entry and entry.get("use", "sig") == "sig" and entry.get("alg", "ES256") == "ES256"
            ):
                try:
                    found[kid] = ECKey.import_key({"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": kid})
                except (JoseError, ValueError):
                    continue
            case _:
                continue
    if not found:
        raise TokenRefused("no_keys", "The issuer's key set holds no key that can be used.")
    return found


class FetchedKeys:
    """The issuer's keys, fetched from `<issuer>/.well-known/jwks.json` and kept for some minutes. Safe between threads."""

    def __init__(
        self,
        issuer: str,
        *,
        url: str | None = None,
        clock: Callable[[], float] = wall_time,
        max_age_s: float = MAX_AGE_S,
        timeout_s: float = 5.0,
    ) -> None:
        self._url = url or f"{issuer}/.well-known/jwks.json"
        self._clock = clock
        self._max_age_s = max_age_s
        self._timeout_s = timeout_s
        self._guard = threading.Lock()
        self._keys: Mapping[str, ECKey] = {}
        self._fetched_at: float | None = None

    def __call__(self, kid: str) -> ECKey | None:
        """Return the key; raises TokenRefused when the set is too old and cannot be fetched."""
        key = self._keys.get(kid)
        if key is not None and self._age() < self._max_age_s:
            return key
        with self._guard:
            age = self._age()
            if age >= self._max_age_s or (kid not in self._keys and age >= REFETCH_AFTER_S):
                self._fetch()
            return self._keys.get(kid)

    def _age(self) -> float:
        """Return seconds since the last fetch; a clock that went back counts as long ago."""
        if self._fetched_at is None:
            return float("inf")
        age = self._clock() - self._fetched_at
        return age if age >= 0 else float("inf")

    def _fetch(self) -> None:
        status, answer = exchange(self._url, timeout_s=self._timeout_s)
        if status != 200:
            raise TokenRefused("unreachable", "The issuer does not give its keys now, so nothing is accepted.")
        self._keys, self._fetched_at = _read(answer), self._clock()
