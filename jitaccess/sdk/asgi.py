"""How does an ASGI application let only approved access in? Wrap it (ASGI 3).

    app = JitAsgiMiddleware(app, Verifier(...), ask_url="https://jit.example/request")

The application finds the VerifiedToken in `scope["jitaccess.token"]`. HTTP and WebSocket are guarded, the start and stop of the server
(`lifespan`) is handed on, anything else is refused. What stays open is looked at again every few seconds: nothing passes a WebSocket, in or
out, once its access has ended, and it is closed; for a bearer token a streamed answer breaks off, and of a slow upload nothing more comes
in.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from jitaccess.sdk.door import (
    AUTHORIZATION,
    DOOR_KEY,
    LOOK_AGAIN_S,
    TOKEN_KEY,
    AccessEnded,
    Door,
    Refusal,
    TokenFrom,
    Watch,
)
from jitaccess.sdk.step_up import Level
from jitaccess.sdk.tokens import VerifiedToken, Verifier
from jitaccess.sdk.wall import wall_time

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
AsgiApplication: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
WHOLE_FILES = frozenset({"http.response.pathsend", "http.response.zerocopysend"})
"""Extensions by which a server sends a whole file by itself and asks nobody in between."""
POLICY_VIOLATION = 1008
"""RFC 6455 section 7.4.1."""
THREADS = 8
"""How many tokens of one application are checked at a time. A check is short, and waits a moment when keys or lists are old."""
_Asked = TypeVar("_Asked")
_Found = TypeVar("_Found")


class JitAsgiMiddleware:
    """Answers what may not in, and hands the rest on with its token."""

    def __init__(
        self,
        app: AsgiApplication,
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
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="jitaccess")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or one connection."""
        kind = scope["type"]
        if kind == "lifespan":
            return await self._app(scope, receive, send)
        if kind not in ("http", "websocket"):
            raise RuntimeError("Only HTTP and WebSocket can be guarded, so nothing else is let in.")
        values = self._values(scope)
        text = self._door.text(values)
        found = self._door.admit(await self._aside(self._door.checked, text) if isinstance(text, str) else text)
        if isinstance(found, Refusal):
            return await _answer(found, scope, send)
        scope = {**scope, TOKEN_KEY: found, DOOR_KEY: self._door}
        if found is None:
            return await self._app(scope, receive, send)
        if kind == "http":
            watch = self._door.watch(values, found)
            if watch is None:
                return await self._app(scope, receive, send)
            offered = scope.get("extensions") or {}
            scope["extensions"] = {name: how for name, how in offered.items() if name not in WHOLE_FILES}
            streamed = _Streamed(self._looked(watch), receive, send)
            return await self._app(scope, streamed.receive, streamed.send)
        wire = _Watched(found, self._door, self._looked(Watch(self._door, values)), receive, send)
        watching = asyncio.create_task(wire.watch())
        try:
            await self._app(scope, wire.receive, wire.send)
        finally:
            watching.cancel()

    async def _aside(self, call: Callable[[_Asked], _Found], asked: _Asked) -> _Found:
        """Do what may wait for the broker in a thread of this middleware's own: strangers with made-up tokens can fill those, never the
        application's."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, asked)

    def _looked(self, watch: Watch) -> "Looked":
        async def over() -> bool:
            return await self._aside(Watch.look, watch) if watch.due else watch.ended

        return Looked(watch, over)

    def _values(self, scope: Scope) -> list[str]:
        name = self._door.token_from.lower().encode()
        return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]


async def _answer(refusal: Refusal, scope: Scope, send: Send) -> None:
    """Send the answer; a WebSocket server that cannot carry one answers its handshake with 403 by itself."""
    start: Message = {
        "status": refusal.status,
        "headers": [(name.lower().encode(), value.encode()) for name, value in refusal.headers],
    }
    if scope["type"] == "http":
        body = b"" if scope.get("method") == "HEAD" else refusal.body
        await send({"type": "http.response.start", **start})
        await send({"type": "http.response.body", "body": body})
    elif "websocket.http.response" in (scope.get("extensions") or {}):
        await send({"type": "websocket.http.response.start", **start})
        await send({"type": "websocket.http.response.body", "body": refusal.body})
    else:
        await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": refusal.message})


@dataclass(frozen=True, slots=True)
class Looked:
    """A watch, and how one looks while other requests go on."""

    watch: Watch
    over: Callable[[], Awaitable[bool]]
    """Says whether it has ended."""


class _Streamed:
    """A request of which nothing comes in and nothing goes out any more once its access has ended."""

    def __init__(self, looked: Looked, receive: Receive, send: Send) -> None:
        self._looked = looked
        self._receive = receive
        self._send = send

    async def receive(self) -> Message:
        """Return what came in; after the end, that the client is gone: who holds a body back acts no later for it."""
        message = await self._receive()
        return {"type": "http.disconnect"} if await self._looked.over() else message

    async def send(self, message: Message) -> None:
        """Send on what goes out; raises AccessEnded after the end, and the server cuts the connection."""
        # Once it broke off nothing goes out, not even the empty part of an application that tidies up: it would end the answer properly.
        carries = message["type"] == "http.response.body" and message.get("body")
        if self._looked.watch.ended or (carries and await self._looked.over()):
            raise AccessEnded
        await self._send(message)


class _Watched:
    """A WebSocket that carries nothing any more once its access has ended."""

    def __init__(self, token: VerifiedToken, door: Door, looked: Looked, receive: Receive, send: Send) -> None:
        self._token = token
        self._door = door
        self._looked = looked
        self._receive = receive
        self._send = send
        self._ended = asyncio.Event()

    async def watch(self) -> None:
        """Look again every few seconds, and close it when the access has ended."""
        while not await self._over():
            await asyncio.sleep(max(0.0, min(self._door.look_again_s, self._token.expires_at - self._door.clock())))

    async def receive(self) -> Message:
        """Return what came in; after the end, that the connection is gone."""
        incoming, ended = asyncio.ensure_future(self._receive()), asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait({incoming, ended}, return_when=asyncio.FIRST_COMPLETED)
            if self._ended.is_set() or await self._over():
                return {"type": "websocket.disconnect", "code": POLICY_VIOLATION, "reason": "This access has ended."}
            return await incoming
        finally:
            incoming.cancel()
            ended.cancel()

    async def send(self, message: Message) -> None:
        """Send on what goes out; after the end nothing does."""
        if not await self._over():
            await self._send(message)

    async def _over(self) -> bool:
        over = self._door.clock() >= self._token.expires_at or await self._looked.over()
        if over and not self._ended.is_set():
            self._ended.set()
            await self._send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": "This access has ended."})
        return over
