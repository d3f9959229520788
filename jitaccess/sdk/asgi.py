"""How does an ASGI application let only approved access in? Wrap it (ASGI 3).

    app = JitAsgiMiddleware(app, Verifier(...), ask_url="https://jit.example/request")

The application finds the VerifiedToken in `scope["jitaccess.token"]`. HTTP and WebSocket are guarded, the start and stop of the server
(`lifespan`) is handed on, anything else is refused. Nothing passes a WebSocket, in or out, once its token has ended.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from jitaccess.sdk.door import AUTHORIZATION, DOOR_KEY, TOKEN_KEY, Door, Refusal, TokenFrom
from jitaccess.sdk.step_up import Level
from jitaccess.sdk.tokens import VerifiedToken, Verifier
from jitaccess.sdk.wall import wall_time

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
AsgiApplication: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
POLICY_VIOLATION = 1008
"""RFC 6455 section 7.4.1."""


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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or one connection."""
        kind = scope["type"]
        if kind == "lifespan":
            return await self._app(scope, receive, send)
        if kind not in ("http", "websocket"):
            raise RuntimeError("Only HTTP and WebSocket can be guarded, so nothing else is let in.")
        # Keys and status lists are fetched with blocking calls; other requests must not wait for them.
        found = await asyncio.to_thread(self._door.enter, self._values(scope))
        if isinstance(found, Refusal):
            return await _answer(found, scope, send)
        scope = {**scope, TOKEN_KEY: found, DOOR_KEY: self._door}
        if kind == "websocket" and found is not None:
            wire = _Watched(found, self._door.clock, receive, send)
            return await self._app(scope, wire.receive, wire.send)
        return await self._app(scope, receive, send)

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


class _Watched:
    """A WebSocket that carries nothing any more once its token has ended."""

    def __init__(self, token: VerifiedToken, clock: Callable[[], float], receive: Receive, send: Send) -> None:
        self._token = token
        self._clock = clock
        self._receive = receive
        self._send = send
        self._closed = False

    async def receive(self) -> Message:
        """Return what came in; after the end, that the connection is gone."""
        message = await self._receive()
        if await self._over():
            return {"type": "websocket.disconnect", "code": POLICY_VIOLATION, "reason": "This access has ended."}
        return message

    async def send(self, message: Message) -> None:
        """Send on what goes out; after the end nothing does."""
        if not await self._over():
            await self._send(message)

    async def _over(self) -> bool:
        over = self._clock() >= self._token.expires_at
        if over and not self._closed:
            self._closed = True
            await self._send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": "This access has ended."})
        return over
