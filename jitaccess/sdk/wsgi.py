"""How does a WSGI application let only approved access in? Wrap it (PEP 3333).

    application = JitMiddleware(application, Verifier(...), ask_url="https://jit.example/request")

The application finds the VerifiedToken in `environ["jitaccess.token"]`. It must still hold to the token's `inputs`: what was approved,
and not more.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from jitaccess.sdk.door import AUTHORIZATION, DOOR_KEY, TOKEN_KEY, Door, Refusal, TokenFrom
from jitaccess.sdk.step_up import Level
from jitaccess.sdk.tokens import Verifier
from jitaccess.sdk.wall import wall_time


class JitMiddleware:
    """Answers what may not in, and hands the rest on with its token."""

    def __init__(
        self,
        app: WSGIApplication,
        verifier: Verifier,
        *,
        realm: str = "jitaccess",
        ask_url: str = "",
        token_from: TokenFrom = AUTHORIZATION,
        required: bool = True,
        entitlement: str | None = None,
        level: Level | None = None,
        clock: Callable[[], float] = wall_time,
    ) -> None:
        """Take what `Door` takes."""
        self._app = app
        self._door = Door(
            verifier,
            realm=realm,
            ask_url=ask_url,
            token_from=token_from,
            required=required,
            entitlement=entitlement,
            level=level,
            clock=clock,
        )

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        found = self._door.enter(header_values(environ, self._door))
        if isinstance(found, Refusal):
            start_response(found.line, list(found.headers))
            return [] if environ.get("REQUEST_METHOD") == "HEAD" else [found.body]
        environ[TOKEN_KEY] = found
        environ[DOOR_KEY] = self._door
        return self._app(environ, start_response)


def header_values(environ: Mapping[str, Any], door: Door) -> list[str]:
    """Return the values of the door's header in a WSGI environ, or in what follows its names."""
    value = environ.get(f"HTTP_{door.token_from.upper().replace('-', '_')}")
    return [] if value is None else [str(value)]
