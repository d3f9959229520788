"""With which keys may a token be signed? The issuer's own JWK Set and nothing else (RFC 7517, RFC 8725 section 3.1).

A key is found only by its `kid` in that set: a token never brings or names its own key, so nothing it says is ever fetched.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from jitaccess.sdk.mark import MARK, check_issuer
from jitaccess.sdk.refusal import TokenRefused
from jitaccess.sdk.renewal import Renewal
from jitaccess.sdk.wall import wall_time
from jitaccess.sdk.wire import exchange

KeySource: TypeAlias = Callable[[str], ECKey | None]
"""kid -> public key, or None when the issuer has no such key now."""
MAX_AGE_S = 300.0
"""How long a fetched set is used: a retired key is refused at the latest then."""
RENEW_AFTER = 0.8
"""From this part of its age on one thread fetches the set anew, while the others use what is there."""
REFETCH_AFTER_S = 5.0
"""An unknown kid asks again, but not sooner than this after the last attempt: anybody can make up kids."""
PATIENCE_S = 0.5
"""How long a token whose key is not known waits for another one's fetch."""
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
        timeout_s: float = 2.0,
        allow_dev: bool = False,
    ) -> None:
        """`allow_dev` as for `Verifier`: else a key whose id has the mark of `jitaccess dev` is none."""
        check_issuer(issuer, allow_dev=allow_dev)
        self._allow_dev = allow_dev
        self._url = url or f"{issuer}/.well-known/jwks.json"
        self._clock = clock
        self._max_age_s = max_age_s
        self._timeout_s = timeout_s
        self._keys: Mapping[str, ECKey] = {}
        self._fetched_at: float | None = None
        self._asked_at: float | None = None
        self._renewal = Renewal(clock)

    def __call__(self, kid: str) -> ECKey | None:
        """Return the key; raises TokenRefused when the set is too old and cannot be fetched."""
        age = self._since(self._fetched_at)
        key = self._keys.get(kid)
        if age >= self._max_age_s:
            self._renewal.run(self._fetch, patience_s=self._timeout_s)
            if self._since(self._fetched_at) >= self._max_age_s:
                raise TokenRefused("unreachable", "The issuer does not give its keys now, so nothing is accepted.")
        elif key is None and self._since(self._asked_at) >= REFETCH_AFTER_S:
            self._try(PATIENCE_S)
        elif key is not None and age >= RENEW_AFTER * self._max_age_s:
            self._try(0)
        return self._keys.get(kid) if self._allow_dev or MARK not in kid else None

    def _try(self, patience_s: float) -> None:
        """Fetch while what is at hand may still be used: a failure changes nothing."""
        try:
            self._renewal.run(self._fetch, patience_s=patience_s)
        except TokenRefused:
            return

    def _since(self, at: float | None) -> float:
        """Return seconds since a moment; never, or a clock that went back, counts as long ago."""
        ago = float("inf") if at is None else self._clock() - at
        return ago if ago >= 0 else float("inf")

    def _fetch(self) -> bool:
        begun_at = self._clock()
        try:
            status, answer = exchange(self._url, timeout_s=self._timeout_s)
            if status != 200:
                raise TokenRefused("unreachable", "The issuer does not give its keys now, so nothing is accepted.")
            self._keys, self._fetched_at = _read(answer), begun_at
        finally:
            self._asked_at = self._clock()
        return True
