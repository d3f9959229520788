"""How does one view of a Flask application ask for an entitlement? The application stands behind `JitMiddleware`.

app.wsgi_app = JitMiddleware(app.wsgi_app, Verifier(...), required=False)

@app.post("/release")
@requires("releaser")
def release(): current_token().inputs
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

from flask import current_app, make_response, request

from jitaccess.sdk.door import passed
from jitaccess.sdk.step_up import Level
from jitaccess.sdk.tokens import VerifiedToken

P = ParamSpec("P")


def requires(entitlement: str, *, level: Level | None = None) -> Callable[[Callable[P, Any]], Callable[P, Any]]:
    """Let only requests with a token for this entitlement into a view; stands under the route."""

    def guard(view: Callable[P, Any]) -> Callable[P, Any]:
        @wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> Any:
            door, token = passed(request.environ)
            refusal = door.require(token, entitlement=entitlement, level=level)
            if refusal is not None:
                return make_response(refusal.body, refusal.status, dict(refusal.headers))
            return current_app.ensure_sync(view)(*args, **kwargs)

        return guarded

    return guard


def current_token() -> VerifiedToken:
    """Return the token of the request at hand; raises RuntimeError in a view that is not guarded and was asked without one."""
    _, token = passed(request.environ)
    if token is None:
        raise RuntimeError("This request carries no token: guard its view with requires().")
    return token
