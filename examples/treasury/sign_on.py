"""How does the treasury let people in? The authorization code flow with PKCE (RFC 6749, RFC 7636), and a check at every single use.

The browser holds only an opaque session id; tokens stay on the server. Before each page and each act the access token is verified by
the SDK and asked about at the broker (an answer counts for at most a second), so a session dies within two seconds of its grant.
"""

import base64
import hashlib
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from jitaccess.sdk import ClientCredential, FetchedKeys, IntrospectionCheck, TokenRefused, VerifiedToken, Verifier
from jitaccess.sdk.wire import exchange

RENEW_BEFORE_S = 60
"""A token with less life left than this is renewed in the background."""
ATTEMPT_LIFE_S = 600
MAX_HELD = 10_000


@dataclass(frozen=True, slots=True)
class Attempt:
    """A sign-in under way; `state` names it, and the browser that began it is bound to it by a cookie."""

    state: str
    nonce: str
    verifier: str
    begun_at: float


@dataclass(slots=True)
class Session:
    """A person inside, for as long as the grant lives."""

    id: str
    csrf: str
    name: str
    access_token: str
    refresh_token: str
    token: VerifiedToken
    guard: threading.Lock = field(default_factory=threading.Lock)


class SignOn:
    """The treasury's side of OpenID Connect."""

    def __init__(
        self,
        issuer: str,
        origin: str,
        credential: ClientCredential,
        *,
        audience: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`origin` is where browsers find the treasury; `audience` is its name in the broker's policy, the origin if not given."""
        self._issuer = issuer
        self._callback = f"{origin}/callback"
        self._credential = credential
        self._clock = clock
        check = IntrospectionCheck(f"{issuer}/oidc/introspect", credential, max_age_s=1.0, clock=clock)
        keys = FetchedKeys(issuer, clock=clock)
        self._verifier = Verifier(issuer, audience or origin, keys, status=None, clock=clock, introspect=check)
        self._guard = threading.Lock()
        self._attempts: dict[str, Attempt] = {}
        self._sessions: dict[str, Session] = {}

    # -- coming in

    def begin(self, login_hint: str | None) -> tuple[str, str]:
        """Return (state, address at the broker)."""
        attempt = Attempt(
            secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_urlsafe(48), self._clock()
        )
        with self._guard:
            fresh = attempt.begun_at - ATTEMPT_LIFE_S
            self._attempts = {key: old for key, old in self._attempts.items() if old.begun_at > fresh}
            if len(self._attempts) >= MAX_HELD:
                raise TokenRefused("busy", "Too many sign-ins are under way. Try again shortly.")
            self._attempts[attempt.state] = attempt
        digest = hashlib.sha256(attempt.verifier.encode()).digest()
        query = {
            "response_type": "code",
            "client_id": self._credential.client_id,
            "redirect_uri": self._callback,
            "scope": "openid profile",
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
            "code_challenge_method": "S256",
        }
        if login_hint is not None:
            query["login_hint"] = login_hint
        return attempt.state, f"{self._issuer}/oidc/authorize?{urlencode(query)}"

    def finish(self, *, state: str, code: str, issuer: str) -> Session:
        """Redeem a code and open a session; raises TokenRefused. A state is good once; `iss` must be our broker (RFC 9207)."""
        with self._guard:
            attempt = self._attempts.pop(state, None)
        if attempt is None or self._clock() - attempt.begun_at > ATTEMPT_LIFE_S:
            raise TokenRefused("stale", "This sign-in is too old. Start again.")
        if not secrets.compare_digest(issuer.encode(), self._issuer.encode()):
            raise TokenRefused("wrong_issuer", "This answer does not come from our broker.")
        answer = self._token(
            grant_type="authorization_code",
            code=code,
            redirect_uri=self._callback,
            code_verifier=attempt.verifier,
        )
        token = self._verifier.verify(answer["access_token"])
        who = self._verifier.verify_id_token(
            answer["id_token"],
            client_id=self._credential.client_id,
            nonce=attempt.nonce,
            access_token=answer["access_token"],
        )
        if who["sub"] != token.subject:
            raise TokenRefused("wrong_subject", "The broker's answers are about two different people.")
        session = Session(
            secrets.token_urlsafe(32),
            secrets.token_urlsafe(32),
            str(who.get("name", "")),
            answer["access_token"],
            answer["refresh_token"],
            token,
        )
        with self._guard:
            if len(self._sessions) >= MAX_HELD:
                self._sessions.clear()
            self._sessions[session.id] = session
        return session

    def _token(self, **form: str) -> dict[str, str]:
        headers, fields = self._credential.prove()
        status, answer = exchange(f"{self._issuer}/oidc/token", timeout_s=10, headers=headers, form={**fields, **form})
        if status != 200 or not isinstance(answer, dict):
            code = str(answer.get("error", "")) if isinstance(answer, dict) else ""
            raise TokenRefused(code or "unreachable", "The broker did not give a token.")
        wanted = ("access_token", "refresh_token", *(("id_token",) if form["grant_type"] != "refresh_token" else ()))
        if not all(isinstance(answer.get(name), str) for name in wanted):
            raise TokenRefused("unreachable", "The broker's answer is not complete.")
        return answer

    # -- being in

    def current(self, session_id: str | None) -> Session:
        """Return the session if its access is good at this very moment; raises TokenRefused, and then the session is gone."""
        with self._guard:
            session = self._sessions.get(session_id or "")
        if session is None:
            raise TokenRefused("no_session", "You are not signed in here.")
        try:
            with session.guard:
                if session.token.expires_at - self._clock() < RENEW_BEFORE_S:
                    self._renew(session)
                session.token = self._verifier.verify(session.access_token)
        except TokenRefused as refused:
            if refused.code != "unreachable":
                self.end(session.id)
            raise
        return session

    def _renew(self, session: Session) -> None:
        """Rotate the refresh token; near the grant's end there is nothing left to win, and the token at hand is used up."""
        if session.token.ends_at - session.token.expires_at <= 0:
            return
        answer = self._token(grant_type="refresh_token", refresh_token=session.refresh_token)
        session.access_token, session.refresh_token = answer["access_token"], answer["refresh_token"]

    def renew_due(self) -> int:
        """Renew what is due soon; called in the background. A renewal that is refused ends the session."""
        with self._guard:
            sessions = list(self._sessions.values())
        ended = 0
        for session in sessions:
            if session.token.expires_at - self._clock() < RENEW_BEFORE_S:
                try:
                    self.current(session.id)
                except TokenRefused:
                    ended += 1
        return ended

    def end(self, session_id: str) -> None:
        """Forget a session."""
        with self._guard:
            self._sessions.pop(session_id, None)


def renew_in_background(sign_on: SignOn, *, every_s: float = 5.0) -> threading.Thread:
    """Start the thread that keeps sessions renewed."""

    def run() -> None:
        while True:
            time.sleep(every_s)
            sign_on.renew_due()

    thread = threading.Thread(target=run, name="renew", daemon=True)
    thread.start()
    return thread


def details(token: VerifiedToken) -> dict[str, Any]:
    """Return what the page shows of a token: never the token."""
    return {
        "entitlement": token.entitlement,
        "inputs": dict(token.inputs),
        "ends_at": token.ends_at,
        "grant": token.grant,
        "approvals_digest": str(token.authorization_details.get("approvals_digest", "")),
    }
