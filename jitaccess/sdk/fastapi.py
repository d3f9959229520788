"""How does one route of a FastAPI application ask for an entitlement? The application stands behind `JitAsgiMiddleware`.

    app.add_middleware(JitAsgiMiddleware, verifier=Verifier(...), required=False)

    @app.post("/release")
    def release(token: Annotated[VerifiedToken, Depends(requires("releaser"))]): token.inputs

Works for WebSocket routes too. Never ask for the token in another way beside: a route without the dependency is open.
"""

from collections.abc import Callable

from fastapi import HTTPException, WebSocketException
from fastapi.requests import HTTPConnection

from jitaccess.sdk.asgi import POLICY_VIOLATION
from jitaccess.sdk.door import NoToken, passed
from jitaccess.sdk.step_up import Level
from jitaccess.sdk.tokens import VerifiedToken


def requires(entitlement: str, *, level: Level | None = None) -> Callable[[HTTPConnection], VerifiedToken]:
    """Return a dependency that gives the token for this entitlement, or answers."""

    def guarded(connection: HTTPConnection) -> VerifiedToken:
        door, token = passed(connection.scope)
        refusal = door.require(token, entitlement=entitlement, level=level)
        if token is not None and refusal is None:
            return token
        refusal = refusal or door.refuse(NoToken())
        if connection.scope["type"] == "websocket":
            raise WebSocketException(POLICY_VIOLATION, refusal.message)
        kept = {name: value for name, value in refusal.headers if not name.startswith("Content-")}
        raise HTTPException(refusal.status, refusal.said, kept)

    return guarded
