"""Is somebody's sign-in over? Verifying the logout tokens that the broker posts (OpenID Connect Back-Channel Logout 1.0).

    logouts = LogoutVerifier(BROKER, CLIENT_ID, keys)
    over = logouts.verify(form["logout_token"])     # SignedOut, or TokenRefused: answer 400 and change nothing
    end every session with over.sid; answer 204

A notice that is lost or refused widens nothing: status list, introspection and the token's own end say the same. What is refused here is
somebody who would throw people out.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from jitaccess.sdk.keys import KeySource, static_keys
from jitaccess.sdk.refusal import TokenRefused
from jitaccess.sdk.signed import Signed, text_of, time_of
from jitaccess.sdk.wall import wall_time

LOGOUT_TYPE = "logout+jwt"
LOGOUT_TYPES = frozenset({LOGOUT_TYPE, f"application/{LOGOUT_TYPE}"})
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
MAX_LIFE_S = 120
"""Section 2.4: two minutes at most."""
MAX_SKEW_S = 60
MAX_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class SignedOut:
    """A sign-in that is over; only `LogoutVerifier.verify` makes one."""

    subject: str
    """Id of the person."""
    sid: str
    """The sign-in, as the ID token's `sid` named it."""
    jti: str


class LogoutVerifier:
    """Verifies logout tokens of one issuer for one client. Each is taken once. Safe between threads."""

    def __init__(
        self,
        issuer: str,
        client_id: str,
        jwks: KeySource | Mapping[str, object],
        *,
        clock: Callable[[], float] = wall_time,
        remember: int = MAX_REMEMBERED,
    ) -> None:
        """`client_id` is the audience of logout tokens (as of ID tokens); `jwks` as for `Verifier`. `remember` bounds how many notices
        of the last two minutes are known; beyond it none is taken."""
        if not issuer or not client_id:
            raise ValueError("a verifier needs an issuer and a client")
        self._issuer = issuer
        self._client_id = client_id
        self._signed = Signed(jwks if callable(jwks) else static_keys(jwks))
        self._clock = clock
        self._remember = remember
        self._guard = threading.Lock()
        self._taken: dict[str, int] = {}

    def verify(self, token: str) -> SignedOut:
        """Verify a logout token (section 2.6); raises TokenRefused.

        1 signature, type and key · 2 issuer, audience, times · 3 who and which sign-in · 4 the event, and no nonce, so that no ID token
        passes for it · 5 not taken before.
        """
        claims = self._signed.claims(token, LOGOUT_TYPES)  # 1
        if text_of(claims, "iss") != self._issuer:  # 2
            raise TokenRefused("wrong_issuer", "This token comes from another issuer.")
        if text_of(claims, "aud") != self._client_id:
            raise TokenRefused("wrong_audience", "This token is meant for another system.")
        now = self._clock()
        expires_at, issued_at = time_of(claims, "exp"), time_of(claims, "iat")
        if now >= expires_at:
            raise TokenRefused("expired", "This token has expired.")
        if issued_at - now > MAX_SKEW_S:
            raise TokenRefused("clock_skew", "By this machine's clock the token is of the future. Set the clocks.")
        if not 0 < expires_at - issued_at <= MAX_LIFE_S:
            raise TokenRefused("lives_too_long", "This token claims a longer life than any logout token has.")
        found = SignedOut(text_of(claims, "sub"), text_of(claims, "sid"), text_of(claims, "jti"))  # 3
        events = claims.get("events")  # 4
        if not isinstance(events, dict) or not isinstance(events.get(LOGOUT_EVENT), dict) or "nonce" in claims:
            raise TokenRefused("bad_claim", "This token does not say that a sign-in is over.")
        self._take(found.jti, expires_at, now)  # 5
        return found

    def _take(self, jti: str, expires_at: int, now: float) -> None:
        with self._guard:
            if jti in self._taken:
                raise TokenRefused("replayed", "This token was taken before.")
            if len(self._taken) >= self._remember:
                self._taken = {known: end for known, end in self._taken.items() if now < end}
            if len(self._taken) >= self._remember:
                raise TokenRefused("unreachable", "Too many notices at once. Send it again.")
            self._taken[jti] = expires_at
