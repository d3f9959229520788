"""A Flask page whose sign-in is jitaccess: who has approved access signs in, and is out within seconds of its end.

`python examples/oidc-flask/app.py`, with BROKER, CLIENT_ID, CLIENT_SECRET_FILE, AUDIENCE and PORT in the environment. Authlib does the code
flow; the SDK verifies the access token before each page and the broker's logout notices.
"""

import os
import secrets
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from authlib.integrations.base_client import OAuthError
from authlib.integrations.flask_client import OAuth
from flask import Flask, abort, redirect, request, session, url_for
from markupsafe import escape

from jitaccess.sdk import FetchedKeys, LogoutVerifier, StatusCheck, TokenRefused, VerifiedToken, Verifier

MAX_SESSIONS = 1_000


@dataclass(frozen=True, slots=True)
class SignedIn:
    """One person's sign-in here; tokens stay on the server."""

    sid: str
    name: str
    access_token: str
    id_token: str


class Sessions:
    """Who is signed in; a logout notice ends by `sid`."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._held: dict[str, SignedIn] = {}

    def open(self, who: SignedIn) -> str:
        """Keep a sign-in; return the secret for the browser's cookie."""
        with self._guard:
            if len(self._held) >= MAX_SESSIONS:
                self._held.clear()
            key = secrets.token_urlsafe(32)
            self._held[key] = who
            return key

    def get(self, key: str) -> SignedIn | None:
        """Return a sign-in, or None when it is over."""
        return self._held.get(key)

    def end(self, *, key: str | None = None, sid: str | None = None) -> None:
        """End one sign-in, by the browser's secret or by the broker's name for it."""
        with self._guard:
            self._held = {one: who for one, who in self._held.items() if one != key and who.sid != sid}


def create_app(*, broker: str, client_id: str, client_secret: str, audience: str, origin: str) -> Flask:
    """Return the application."""
    app = Flask(__name__)
    app.secret_key = secrets.token_bytes(32)  # made anew at each start: sign-ins do not outlive it anyway
    app.config.update(SESSION_COOKIE_SAMESITE="Lax", SESSION_COOKIE_SECURE=origin.startswith("https:"))
    oauth = OAuth(app)
    oauth.register(
        "jit",
        client_id=client_id,
        client_secret=client_secret,
        server_metadata_url=f"{broker}/.well-known/openid-configuration",
        client_kwargs={"scope": "openid profile", "code_challenge_method": "S256"},
    )
    keys = FetchedKeys(broker)
    verifier = Verifier(broker, audience, keys, status=StatusCheck(broker, keys))
    logouts = LogoutVerifier(broker, client_id, keys)
    sessions = Sessions()

    def inside() -> tuple[SignedIn, VerifiedToken] | None:
        """Return who is in, with access that is good at this very moment."""
        who = sessions.get(session.get("key", ""))
        if who is None:
            return None
        try:
            return who, verifier.verify(who.access_token)
        except TokenRefused as refused:
            if refused.code != "unreachable":
                sessions.end(key=session.pop("key"))
            return None

    @app.after_request
    def dress(response: Any) -> Any:
        response.headers["Cache-Control"] = "no-store"
        response.headers["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'"
        return response

    @app.get("/")
    def home() -> str | tuple[str, int]:
        """Show what the access is for."""
        found = inside()
        if found is None:
            return '<h1>Orders</h1><p><a href="/sign-in">Sign in with approved access</a></p>', 401
        who, token = found
        return (
            f"<h1>Orders</h1><p>{escape(who.name)} is here as {escape(token.entitlement)} of {escape(token.target)}.</p>"
            '<form method="post" action="/sign-out"><button>Sign out</button></form>'
        )

    @app.get("/sign-in")
    def sign_in() -> Any:
        """Lead to the broker."""
        return oauth.jit.authorize_redirect(f"{origin}/callback")

    @app.get("/callback")
    def callback() -> Any:
        """Take the broker's answer; only in the browser that began (state), and only this broker's (RFC 9207)."""
        if request.args.get("iss") != broker:
            abort(400)
        try:
            answer = oauth.jit.authorize_access_token()
            token = verifier.verify(answer["access_token"])
        except (OAuthError, TokenRefused) as error:
            return f"<h1>Not signed in</h1><p>{escape(str(error))}</p>", 403
        claims = answer["userinfo"]
        if claims["sub"] != token.subject:
            abort(400)
        who = SignedIn(claims["sid"], claims.get("name", ""), answer["access_token"], answer["id_token"])
        session["key"] = sessions.open(who)
        return redirect(url_for("home"), 303)  # the code does not stay in the address

    @app.post("/logged-out")
    def logged_out() -> tuple[str, int]:
        """Take the broker's notice that a sign-in is over (Back-Channel Logout 1.0)."""
        try:
            sessions.end(sid=logouts.verify(request.form.get("logout_token", "")).sid)
        except TokenRefused as refused:
            return refused.message, 400
        return "", 204

    @app.post("/sign-out")
    def sign_out() -> Any:
        """Sign out here and at the broker."""
        if request.headers.get("Origin") != origin:
            abort(403)
        who = sessions.get(session.get("key", ""))
        sessions.end(key=session.pop("key", ""))
        if who is None:
            return redirect(url_for("home"), 303)
        return oauth.jit.logout_redirect(post_logout_redirect_uri=f"{origin}/", id_token_hint=who.id_token)

    return app


if __name__ == "__main__":
    port = int(os.environ.get("PORT", "8092"))
    create_app(
        broker=os.environ.get("BROKER", "http://localhost:8000"),
        client_id=os.environ["CLIENT_ID"],
        client_secret=Path(os.environ["CLIENT_SECRET_FILE"]).read_text().strip(),
        audience=os.environ.get("AUDIENCE", "http://127.0.0.1:8001"),
        origin=os.environ.get("ORIGIN", f"http://127.0.0.1:{port}"),
    ).run("127.0.0.1", port)
