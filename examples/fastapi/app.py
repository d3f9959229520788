"""A FastAPI application that takes jitaccess tokens: each route says which entitlement opens it.

`granian --interface asgi --working-dir examples/fastapi --port 8094 app:app` (or uvicorn), with BROKER and AUDIENCE in the environment.
"""

import os
import threading
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException

from jitaccess.sdk import FetchedKeys, Level, StatusCheck, VerifiedToken, Verifier
from jitaccess.sdk.asgi import JitAsgiMiddleware
from jitaccess.sdk.fastapi import requires

BROKER = os.environ.get("BROKER", "http://localhost:8000")
AUDIENCE = os.environ.get("AUDIENCE", "http://127.0.0.1:8001")
TARGET = os.environ.get("TARGET", "treasury")
ALLOW_DEV = os.environ.get("ALLOW_DEV") == "1"  # test tokens of `jitaccess dev`: for trying out only

keys = FetchedKeys(BROKER, allow_dev=ALLOW_DEV)
app = FastAPI(title="Orders")
app.add_middleware(
    JitAsgiMiddleware,
    verifier=Verifier(BROKER, AUDIENCE, keys, status=StatusCheck(BROKER, keys), allow_dev=ALLOW_DEV),
    ask_url=f"{BROKER}/request?target={TARGET}",
    required=False,  # each route says for itself what it needs
)
Viewer = Annotated[VerifiedToken, Depends(requires("viewer"))]
Releaser = Annotated[VerifiedToken, Depends(requires("releaser", level=Level(max_age_s=900)))]

orders = {"TR-000417": 125_000_000, "TR-000418": 4_200}
released: set[str] = set()
guard = threading.Lock()


@app.get("/livez")
def livez() -> dict[str, str]:
    """Answer a supervisor; the one route that is open."""
    return {"status": "alive"}


@app.get("/orders")
def show(token: Viewer) -> dict[str, object]:
    """Show the orders."""
    return {"to": token.subject, "orders": orders, "released": sorted(released)}


@app.post("/orders/{number}/release")
def release(number: str, token: Releaser) -> dict[str, str]:
    """Release the one order that people signed for, at most at that amount, once."""
    if number not in orders:
        raise HTTPException(404, "There is no such order.")
    if token.inputs.get("order") != number or orders[number] > int(token.inputs.get("amount_cents", 0)):
        raise HTTPException(403, "This access was approved for another order or a smaller amount.")
    with guard:
        if number in released:
            raise HTTPException(409, "This order was released before.")
        released.add(number)
    return {"released": number, "by": token.subject, "under": token.grant}
