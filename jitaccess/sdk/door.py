"""May this request in? What the middleware of every framework shares: one header in, a verified token or an answer out.

The token comes from one configured header and from nowhere else: never from the address, a form or a cookie (RFC 6750 section 2.1, RFC
9700 section 4.3.2). No value, two values, a value too long, a check that breaks: each is an answer, never a way in, and no answer holds
the text of an error that this package did not word itself. What goes on after the door let it in is watched (`Watch`).
"""

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, ClassVar, Literal, TypeAlias
from urllib.parse import urlsplit

from jitaccess.sdk.refusal import TokenRefused
from jitaccess.sdk.signed import MAX_TOKEN_BYTES
from jitaccess.sdk.step_up import Level, require_level, www_authenticate
from jitaccess.sdk.tokens import VerifiedToken, Verifier
from jitaccess.sdk.wall import steady_time, wall_time

log = logging.getLogger(__name__)
TokenFrom: TypeAlias = Literal["Authorization", "X-Jit-Token"]
AUTHORIZATION: TokenFrom = "Authorization"
PROXIED: TokenFrom = "X-Jit-Token"
"""What a proxy sets that asks `/forward-auth`."""
TOKEN_KEY = "jitaccess.token"  # noqa: S105 - the name under which a request carries its VerifiedToken
DOOR_KEY = "jitaccess.door"
"""Where a request carries the Door that it came through, for what guards single pages."""
LOOK_AGAIN_S = 3.0
"""With what a status list takes, an early end is seen on an answer that goes on, or an open connection, within eight seconds."""
_BEARER = re.compile(r"bearer +(\S+)", re.IGNORECASE | re.ASCII)
_JWT = re.compile(r"[A-Za-z0-9_.-]+")
_UNAVAILABLE = frozenset({"unreachable", "no_keys"})
"""The token may well be good; who is told to fetch another one would only come back."""


class NoToken(TokenRefused):
    """The request brings no token; such an answer names no error (RFC 6750 section 3.1)."""

    challenge: ClassVar[str] = ""

    def __init__(self) -> None:
        super().__init__("no_token", "This needs access that was asked for and approved.")


class UnclearToken(TokenRefused):
    """The header cannot be read in exactly one way."""

    challenge: ClassVar[str] = "invalid_request"


class NotEntitled(TokenRefused):
    """The token is good, for something else."""

    challenge: ClassVar[str] = "insufficient_scope"

    def __init__(self) -> None:
        super().__init__("not_entitled", "This access was approved for something else.")


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer to a request that may not in."""

    status: int
    code: str
    message: str
    headers: tuple[tuple[str, str], ...]
    ask_url: str

    @property
    def said(self) -> Mapping[str, str]:
        """Return what the answer says: why, and where to ask."""
        said = {"error": self.code, "message": self.message}
        return said | {"ask": self.ask_url} if self.ask_url else said

    @property
    def body(self) -> bytes:
        """Return that as JSON."""
        return json.dumps(self.said).encode() + b"\n"

    @property
    def line(self) -> str:
        """Return the status with its phrase, as WSGI wants it."""
        return f"{self.status} {HTTPStatus(self.status).phrase}"


class Door:
    """Decides on requests with one verifier. Holds no secret; safe between threads."""

    def __init__(
        self,
        verifier: Verifier,
        *,
        realm: str = "jitaccess",
        ask_url: str = "",
        token_from: TokenFrom = AUTHORIZATION,
        required: bool = True,
        entitlement: str | None = None,
        level: Level | None = None,
        clock: Callable[[], float] = wall_time,
        look_again_s: float = LOOK_AGAIN_S,
    ) -> None:
        """`ask_url` is the page where access is asked for; answers name it.

        Take `token_from="X-Jit-Token"` behind a proxy that asks `/forward-auth`: such a token is of a kind of its own, lives 30 s (60 at
        most) and stands in no list; an access token is refused there, and such a one in Authorization. With `required=False` a request
        without any token goes through and carries none: then each page that needs one says so itself. `entitlement` and `level` hold for
        everything. What goes on is looked at again after `look_again_s`.
        """
        if token_from not in (AUTHORIZATION, PROXIED):
            raise ValueError("token_from is Authorization or X-Jit-Token")
        if not required and (entitlement is not None or level is not None):
            raise ValueError("an entitlement or a level for everything needs required=True")
        if ask_url and (
            urlsplit(ask_url).scheme not in ("https", "http") or not re.fullmatch(r"[!#-\[\]-~]+", ask_url)
        ):
            raise ValueError("ask_url is a web address")
        self.token_from = token_from
        self.clock = clock
        self.look_again_s = look_again_s
        self._verifier = verifier
        self._realm = realm
        self._ask_url = ask_url
        self._required = required
        self._entitlement = entitlement
        self._level = level

    def enter(self, values: Sequence[str]) -> VerifiedToken | Refusal | None:
        """Decide on a request by all values of its header; None is a request without a token where none is required."""
        return self.admit(self.verified(values))

    def admit(self, found: VerifiedToken | Refusal | None) -> VerifiedToken | Refusal | None:
        """Go on from what a request's token turned out to be to what holds for everything behind this door."""
        if not isinstance(found, VerifiedToken):
            return found
        return self.require(found, entitlement=self._entitlement, level=self._level) or found

    def verified(self, values: Sequence[str]) -> VerifiedToken | Refusal | None:
        """Say whether what a request brought is good now; for a connection that stays open, to be asked again and again."""
        text = self.text(values)
        return self.checked(text) if isinstance(text, str) else text

    def text(self, values: Sequence[str]) -> str | Refusal | None:
        """Return the one token that a request brought, or what is answered without one. Waits for nothing, whatever it was sent."""
        try:
            text = self._only(values)
            return self.refuse(NoToken()) if text is None and self._required else text
        except TokenRefused as refused:
            return self.refuse(refused)

    def checked(self, text: str) -> VerifiedToken | Refusal:
        """Say whether a token is good now. May fetch keys and lists, and waits for them."""
        try:
            return self.verify(text)
        except TokenRefused as refused:
            return self.refuse(refused)
        except Exception as error:  # a check that breaks lets nobody in, and what broke is not for the client's eyes
            log.error("a token could not be checked: %s", type(error).__name__)
            return self.refuse(TokenRefused("unreachable", "Access cannot be checked now, so nothing is accepted."))

    def watch(self, values: Sequence[str], found: VerifiedToken | None) -> "Watch | None":
        """Return the watch over an answer that goes on, or None where there is nothing to look at again: no token came, or one that a
        proxy handed on, which is for this one request."""
        return Watch(self, values) if found is not None and self.token_from == AUTHORIZATION else None

    def verify(self, text: str) -> VerifiedToken:
        """Verify a token of the kind that belongs into this door's header; raises TokenRefused."""
        return self._verifier.verify_proxied(text) if self.token_from == PROXIED else self._verifier.verify(text)

    def require(
        self, token: VerifiedToken | None, *, entitlement: str | None = None, level: Level | None = None
    ) -> Refusal | None:
        """Return None when the token is for this entitlement and its sign-in strong and fresh enough; the answer otherwise."""
        try:
            if token is None:
                raise NoToken
            if entitlement is not None and token.entitlement != entitlement:
                raise NotEntitled
            if level is not None:
                require_level(token, level, clock=self.clock)
        except TokenRefused as refused:
            return self.refuse(refused)
        return None

    def refuse(self, refused: TokenRefused) -> Refusal:
        """Return the answer for a refused token: 401, 403 for another entitlement, 503 while nothing can be checked."""
        status = 403 if isinstance(refused, NotEntitled) else 503 if refused.code in _UNAVAILABLE else 401
        headers = [("Content-Type", "application/json"), ("Cache-Control", "no-store")]
        if status != 503:
            challenge = www_authenticate(refused, realm=self._realm)
            named = self._ask_url and refused.challenge
            headers.append(("WWW-Authenticate", f'{challenge}, error_uri="{self._ask_url}"' if named else challenge))
        return Refusal(status, refused.code, refused.message, tuple(headers), self._ask_url)

    def _only(self, values: Sequence[str]) -> str | None:
        """Return the token of exactly one header value; None when there is none."""
        if len(values) > 1:
            raise UnclearToken("unclear", "Send exactly one token.")
        if not values or not values[0]:
            return None
        value = values[0]
        if len(value) > MAX_TOKEN_BYTES:
            raise TokenRefused("malformed", "This is not a token.")
        if self.token_from == AUTHORIZATION:
            found = _BEARER.fullmatch(value)
            if found is None:
                raise UnclearToken("unclear", "Send the token as Authorization: Bearer.")
            value = found[1]
        # Servers join a header that came twice with a comma, which stands in no token.
        if not _JWT.fullmatch(value):
            raise UnclearToken("unclear", "Send exactly one token.")
        return value


class AccessEnded(Exception):
    """The access ended while the answer was on its way; what was still to come is not sent."""

    def __init__(self) -> None:
        super().__init__("This access has ended.")


class Watch:
    """Whether the access behind what goes on still stands, looked at every few seconds. For one answer or connection."""

    def __init__(self, door: Door, values: Sequence[str], *, clock: Callable[[], float] = steady_time) -> None:
        self.ended = False
        self._door = door
        self._values = values
        self._clock = clock
        self._looked_at = clock()

    @property
    def due(self) -> bool:
        """Say whether it is time to look again."""
        return not self.ended and self._clock() - self._looked_at >= self._door.look_again_s

    def look(self) -> bool:
        """Look, whether it is time or not; say whether the access has ended. May fetch keys and lists, and waits for them."""
        self._looked_at = self._clock()
        self.ended = self.ended or not isinstance(self._door.verified(self._values), VerifiedToken)
        return self.ended

    def step(self) -> None:
        """Go on with the next part; raises AccessEnded after the end."""
        if self.ended or (self.due and self.look()):
            raise AccessEnded


def passed(carried: Mapping[str, Any]) -> tuple[Door, VerifiedToken | None]:
    """Return the door that a request came through and its token; raises RuntimeError when it came past every door."""
    door = carried.get(DOOR_KEY)
    if not isinstance(door, Door):
        raise RuntimeError(
            "This page is guarded and its application is not: put the middleware of jitaccess.sdk around it."
        )
    token = carried.get(TOKEN_KEY)
    return door, token if isinstance(token, VerifiedToken) else None
