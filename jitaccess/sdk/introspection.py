"""Has this token been revoked meanwhile? RFC 7662, asked by the target with its own client authentication.

A token says by itself when it ends; only the broker knows that its grant ended early. An answer counts for at most
`max_age_s`; no answer, a strange answer and "inactive" all refuse.
"""

import threading
from collections.abc import Callable

from jitaccess.sdk.client import ClientCredential
from jitaccess.sdk.refusal import TokenRefused
from jitaccess.sdk.wall import wall_time
from jitaccess.sdk.wire import exchange

MAX_REMEMBERED = 10_000


class IntrospectionCheck:
    """Asks the broker, and remembers a good answer for a moment. Keyed on `jti`, never on the token's text. Thread-safe."""

    def __init__(
        self,
        url: str,
        credential: ClientCredential,
        *,
        max_age_s: float = 1.0,
        timeout_s: float = 2.0,
        clock: Callable[[], float] = wall_time,
    ) -> None:
        """`url` is the introspection endpoint. `max_age_s` bounds how late an end is noticed; 0 asks every time."""
        self._url = url
        self._credential = credential
        self._max_age_s = max_age_s
        self._timeout_s = timeout_s
        self._clock = clock
        self._guard = threading.Lock()
        self._active_at: dict[str, float] = {}

    def __call__(self, token: str, jti: str) -> None:
        """Return when the token is active; raises TokenRefused `inactive` or `unreachable`. The caller has verified it."""
        asked_at = self._clock()
        with self._guard:
            known_at = self._active_at.get(jti)
        if known_at is not None and 0 <= asked_at - known_at < self._max_age_s:
            return
        headers, form = self._credential.prove()
        status, answer = exchange(self._url, timeout_s=self._timeout_s, headers=headers, form={**form, "token": token})
        match answer:
            case {"active": True, "jti": str(answered)} if status == 200 and answered == jti:
                self._remember(jti, asked_at)
            case {"active": False} if status == 200:
                with self._guard:
                    self._active_at.pop(jti, None)
                raise TokenRefused("inactive", "This access has ended.")
            case _:
                raise TokenRefused("unreachable", "The broker did not answer as it should, so nothing is accepted.")

    def _remember(self, jti: str, at: float) -> None:
        with self._guard:
            if len(self._active_at) >= MAX_REMEMBERED:
                self._active_at.clear()
            self._active_at[jti] = at
