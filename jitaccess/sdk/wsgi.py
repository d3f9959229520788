"""How does a WSGI application let only approved access in? Wrap it (PEP 3333).

    application = JitMiddleware(application, Verifier(...), ask_url="https://jit.example/request")

The application finds the VerifiedToken in `environ["jitaccess.token"]`. It must still hold to the token's `inputs`: what was approved,
and not more. For a bearer token a streamed answer is looked at again every few seconds and breaks off once its access has ended, and of a
slow upload nothing more is read.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar
from wsgiref.types import InputStream, StartResponse, WSGIApplication, WSGIEnvironment

from jitaccess.sdk.door import AUTHORIZATION, DOOR_KEY, LOOK_AGAIN_S, TOKEN_KEY, Door, Refusal, TokenFrom, Watch
from jitaccess.sdk.step_up import Level
from jitaccess.sdk.tokens import Verifier
from jitaccess.sdk.wall import wall_time

T = TypeVar("T")


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
        look_again_s: float = LOOK_AGAIN_S,
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
            look_again_s=look_again_s,
        )

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        values = header_values(environ, self._door)
        found = self._door.enter(values)
        if isinstance(found, Refusal):
            start_response(found.line, list(found.headers))
            return [] if environ.get("REQUEST_METHOD") == "HEAD" else [found.body]
        environ[TOKEN_KEY] = found
        environ[DOOR_KEY] = self._door
        watch = self._door.watch(values, found)
        if watch is None:
            return self._app(environ, start_response)
        # A server that sends a whole file by itself asks nobody in between.
        environ.pop("wsgi.file_wrapper", None)
        if "wsgi.input" in environ:
            environ["wsgi.input"] = _Input(watch, environ["wsgi.input"])
        answer = self._app(environ, _Start(watch, start_response))
        whole = isinstance(answer, list | tuple) and len(answer) <= 1  # servers read its length
        return answer if whole else _Streamed(watch, answer)


class _Input:
    """A body of which nothing is read any more once the access has ended: who holds it back acts no later for it.

    It has what PEP 3333 names and nothing beyond: a `readinto` handed on, which werkzeug takes where it is, would be read past the watch.
    """

    def __init__(self, watch: Watch, body: InputStream) -> None:
        self._watch = watch
        self._body = body

    def read(self, *sizes: int) -> bytes:
        """Read as the body does; raises AccessEnded after the end."""
        return self._checked(self._body.read(*sizes))

    def readline(self, *sizes: int) -> bytes:
        """Read a line."""
        return self._checked(self._body.readline(*sizes))

    def readlines(self, *hints: int) -> list[bytes]:
        """Read all lines."""
        return self._checked(self._body.readlines(*hints))

    def __iter__(self) -> Iterator[bytes]:
        return (self._checked(line) for line in self._body)

    def _checked(self, part: T) -> T:
        self._watch.step()
        return part


class _Start:
    """`start_response` whose `write` sends nothing any more once the access has ended."""

    def __init__(self, watch: Watch, start_response: StartResponse) -> None:
        self._watch = watch
        self._start = start_response

    def __call__(self, *args: Any, **kwargs: Any) -> Callable[[bytes], object]:
        """Begin the answer."""
        write = self._start(*args, **kwargs)

        def watched(part: bytes) -> object:
            self._watch.step()
            return write(part)

        return watched


class _Streamed:
    """An answer of which nothing is sent any more once its access has ended: AccessEnded makes the server cut the connection."""

    def __init__(self, watch: Watch, parts: Iterable[bytes]) -> None:
        self._watch = watch
        self._whole = parts
        self._parts: Iterator[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._parts is None:
            self._parts = iter(self._whole)
        part = next(self._parts)
        self._watch.step()
        return part

    def close(self) -> None:
        """Let the application clean up (PEP 3333), also after a part that was not sent."""
        close = getattr(self._whole, "close", None)
        if close is not None:
            close()


def header_values(environ: Mapping[str, Any], door: Door) -> list[str]:
    """Return the values of the door's header in a WSGI environ, or in what follows its names."""
    value = environ.get(f"HTTP_{door.token_from.upper().replace('-', '_')}")
    return [] if value is None else [str(value)]
