"""The doors for reverse proxies: nginx `auth_request`, Caddy `forward_auth` (R41-R46).

Every question is asked in the name of one application: its client id is in the path, which the proxy's configuration holds and no client
can reach; an address that is not this application's is refused, so a proxy that passes on whatever Host it is sent opens nothing (ADR 43).
`/forward-auth/<client id>` answers for each request of it 200, 401 or 403, never anything in between, and every identity header always,
empty where nobody goes through. What the proxy leads here under the application's own address (`/.jitaccess/`) signs the browser in by the
ordinary code flow: the passkey is asked for, and who has no access is led to ask for it. The cookie is the proxied host's own; the
broker's cookie never leaves the broker's origin.
"""

import hashlib
import hmac
import ipaddress
import logging
import string
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from authlib.oauth2 import OAuth2Error
from flask import Blueprint, Response, redirect, request
from flask_babel import gettext
from werkzeug.wrappers import Request
from werkzeug.wrappers import Response as BaseResponse

from jitaccess.broker.clients import ClientFacts, registered
from jitaccess.broker.context import Broker
from jitaccess.broker.forwarded import Passage, leave, passage
from jitaccess.broker.status import reserve
from jitaccess.broker.verify import BY_SECRET
from jitaccess.domain.forwarded import APP_COOKIE, HEADERS, Unclear, read_forwarded, unclear_uri
from jitaccess.errors import JitError
from jitaccess.oidc.client_auth import actor_of
from jitaccess.oidc.clients import OAuthClient
from jitaccess.oidc.provider import GRANT_OF_CODE, FormRequest, Provider
from jitaccess.proof.canonical import b64u_decode, b64u_encode
from jitaccess.proof.errors import ProofError
from jitaccess.store.db import SealBroken, View
from jitaccess.store.find import Matching
from jitaccess.store.ids import hash_secret, new_secret
from jitaccess.web.doors import SAFE_METHODS, own_path, without_cookie
from jitaccess.web.limits import client_address

log = logging.getLogger(__name__)
START_COOKIE = "__Host-jit-start-"
"""With the beginning of `state` behind it: each tab that begins to sign in keeps what it wanted by itself."""
START_LIFE_S = 600
MAX_STARTS = 5
"""Beginnings that a browser keeps; what began first is forgotten first."""
STATE_CHARS = 43
_NAME_CHARS = 12
MAX_COOKIE = 4096
MAX_PATH = 1200
PREFIX = "/.jitaccess/"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""With which a proxy may ask: some send their client's own."""
_B64U = frozenset(string.ascii_letters + string.digits + "-_")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that reads in one way only, and the application it is about."""

    method: str
    origin: str
    """The client's own `proxied_origin`."""
    uri: str
    client: ClientFacts


@dataclass(frozen=True, slots=True)
class ForwardAuth:
    """What the endpoints share."""

    broker: Broker

    def check(self, client_id: str) -> BaseResponse:
        """Answer a proxy's question about one request. With `?login=redirect` a page view without access is led to sign in."""
        asked, found = self.judged(request, client_id)
        if isinstance(asked, Unclear):
            log.warning("forward-auth refused a question from %r: %s", client_address(self.broker), asked.reason)
            return _answer(403)
        if found is not None:
            return _answer(200, said(found))
        if request.args.get("login") == "redirect" and _navigates(asked):
            answer = _answer(302)
            answer.headers["Location"] = f"{asked.origin}{PREFIX}start?{urlencode({'to': asked.uri})}"
            return answer
        return _answer(401)

    def start(self, client_id: str) -> BaseResponse:
        """Begin to sign a browser in to a proxied application; what it wanted waits in the application's own cookie."""
        asked = self._asked(client_id)
        if isinstance(asked, Unclear):
            return _over()
        if not _navigates(asked):
            return _plain(401, gettext("Sign in first: open the address of the application."))
        wanted = request.args.get("to") or ("/" if asked.uri.startswith(PREFIX) else asked.uri)
        verifier = new_secret()
        state = _state(verifier)
        query = {
            "response_type": "code",
            "client_id": asked.client.id,
            "redirect_uri": asked.client.redirect_uris[0],
            "scope": "openid",
            "state": state,
            "code_challenge": b64u_encode(hashlib.sha256(verifier.encode()).digest()),
            "code_challenge_method": "S256",
        }
        answer = redirect(f"{self.broker.site.origin}/oidc/authorize?{urlencode(query)}", 303)
        begun = [name for name in dict.fromkeys(request.cookies.keys()) if name.startswith(START_COOKIE)]
        for name in begun[
            : max(0, len(begun) + 1 - MAX_STARTS)
        ]:  # browsers send the oldest first (RFC 6265 section 5.4)
            _forget(answer, name)
        _set(answer, _start_cookie(state), f"{verifier}.{b64u_encode(_path(wanted).encode())}", START_LIFE_S)
        return answer

    def callback(self, client_id: str) -> BaseResponse:
        """Take the code at the application's own address and give the browser that address's cookie.

        1 the question is clear and about this application · 2 this browser began it (state) and the answer is this issuer's
        (RFC 9207) · 3 the code, once, with its verifier · 4 back only to a path of the same address.
        """
        asked = self._asked(client_id)  # 1
        state, code = request.args.get("state", ""), request.args.get("code", "")
        verifier, _, path = _cookie(request, _start_cookie(state)).partition(".")
        ours = bool(verifier) and hmac.compare_digest(_state(verifier).encode(), state.encode())
        if (
            isinstance(asked, Unclear) or not ours or request.args.get("iss") != self.broker.site.origin or not code
        ):  # 2
            return _over()
        secret = self._redeem(asked.client, code, verifier)  # 3
        if secret is None:
            return _over()
        answer = redirect(_kept_path(path), 303)  # 4
        _set(answer, APP_COOKIE, secret, None)
        _forget(answer, _start_cookie(state))
        return answer

    def sign_out(self, client_id: str) -> BaseResponse:
        """End this browser's session at the application; only the application's own pages may ask."""
        asked = self._asked(client_id)
        own = not isinstance(asked, Unclear) and request.headers.get("Origin") == asked.origin
        if isinstance(asked, Unclear) or asked.method != "POST" or not own:
            return _plain(403, gettext("Sign out from a page of the application."))
        secret = _cookie(request, APP_COOKIE)
        if secret:
            with self.broker.begin(actor_of(asked.client)) as tx:
                leave(tx, asked.client, secret)
        answer = redirect("/", 303)
        _forget(answer, APP_COOKIE)
        return answer

    def judged(self, asking: Request, client_id: str) -> tuple[Asked | Unclear, Passage | None]:
        """Read the question and who goes through, at one moment; a broken seal was alarmed and lets nobody through."""
        asked: Asked | Unclear = Unclear("a broken seal")
        secret = _cookie(asking, APP_COOKIE)

        def through(view: View) -> Passage | None:
            nonlocal asked
            asked = self._read(view, asking, client_id)
            return None if isinstance(asked, Unclear) else passage(view, self.broker, asked.client, secret)

        try:
            found = self.broker.db.at_a_glance(BY_SECRET, through, secret_hash=hash_secret(secret))
        except SealBroken:
            found = None
        return asked, found

    def _asked(self, client_id: str) -> Asked | Unclear:
        with self.broker.read() as view:
            return self._read(view, request, client_id)

    def _read(self, view: View, asking: Request, client_id: str) -> Asked | Unclear:
        """Read the question: from a proxy that is heard, about the application that the proxy's configuration names."""
        try:
            peer = ipaddress.ip_address(client_address(self.broker, asking))
        except ValueError:
            return Unclear("no address of the asking side")
        if not any(peer in network for network in self.broker.settings.forward_auth.proxies):
            return Unclear("not one of forward_auth.proxies")
        found = read_forwarded(asking.headers)
        if isinstance(found, Unclear):
            return found
        client = registered(view).get(client_id)
        if client is None or client.proxied_origin is None or client.proxied_origin != found.origin:
            return Unclear("not about the application that the proxy is configured for")
        return Asked(found.method, found.origin, found.uri, client)

    def _redeem(self, client: ClientFacts, code: str, verifier: str) -> str | None:
        """Spend a code as its client would; return the secret of the row behind the browser's new cookie."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": client.redirect_uris[0],
            "code_verifier": verifier,
        }
        behind = Matching(GRANT_OF_CODE, {"code_hash": hash_secret(code)})
        status = reserve(self.broker)
        try:
            with self.broker.begin(actor_of(client), lock=[behind]) as tx:
                self.broker.keyring.refresh(tx)
                registered = OAuthClient(client)
                provider = Provider(self.broker, tx, registered, status)
                provider.create_token_response(FormRequest(self.broker.site.origin, form, registered))
        except (JitError, OAuth2Error) as error:
            log.warning("a code for a proxied application was not taken: %s", error)
            return None
        return provider.issued.refresh if provider.issued is not None else None


def said(found: Passage) -> tuple[str, ...]:
    """Return what a backend is told of who goes through, in the order of `HEADERS`."""
    return (
        found.person_id,
        found.target,
        found.entitlement,
        found.grant_id,
        str(found.ends_at_s),
        found.assertion,
    )


def _cookie(asking: Request, name: str) -> str:
    """Return one cookie; nothing where it stands twice or is not plain text: somebody else may have set the other."""
    found = asking.cookies.getlist(name)
    return found[0] if len(found) == 1 and len(found[0]) <= MAX_COOKIE and found[0].isascii() else ""


def _state(verifier: str) -> str:
    return b64u_encode(hashlib.sha256(b"jitaccess/forward-auth/state/v1\0" + verifier.encode()).digest())


def _start_cookie(state: str) -> str:
    """Return the name of the cookie of one beginning; what is no state of ours names a cookie that nobody sets."""
    ours = len(state) == STATE_CHARS and set(state) <= _B64U
    return START_COOKIE + (state[:_NAME_CHARS] if ours else "")


def _kept_path(text: str) -> str:
    try:
        return _path(b64u_decode(text).decode("ascii"))
    except (ProofError, UnicodeDecodeError):
        return "/"


def _navigates(asked: Asked) -> bool:
    """Say whether a person goes somewhere: signing in belongs to a page, not to each picture and script on it (Fetch Metadata)."""
    return asked.method in SAFE_METHODS and request.headers.get("Sec-Fetch-Mode", "navigate") == "navigate"


def _path(text: str) -> str:
    """Return a path of the same host, or its root (R46)."""
    parts = urlsplit(text)
    clear = unclear_uri(text) is None and not parts.netloc and len(text) <= MAX_PATH
    return own_path(text) if clear and not text.startswith(PREFIX) else "/"


def _answer(status: int, values: tuple[str, ...] = ("",) * len(HEADERS)) -> Response:
    answer = Response(status=status)
    for name, value in zip(HEADERS, values, strict=True):
        answer.headers[name] = value
    return answer


def _over() -> Response:
    return _plain(403, gettext("This way in is over. Open the address of the application again."))


def _plain(status: int, text: str) -> Response:
    return Response(f"{text}\n", status=status, content_type="text/plain; charset=utf-8")


def _set(answer: BaseResponse, name: str, value: str, max_age: int | None) -> None:
    answer.set_cookie(name, value, secure=True, httponly=True, samesite="Lax", path="/", max_age=max_age)


def _forget(answer: BaseResponse, name: str) -> None:
    answer.delete_cookie(name, secure=True, httponly=True, samesite="Lax", path="/")


def blueprint(at: ForwardAuth) -> Blueprint:
    """Return the routes; none of them looks at the broker's own cookie."""
    found = Blueprint("forward_auth", "jitaccess.oidc")
    found.add_url_rule(
        "/forward-auth/<client_id>", "check", without_cookie(lambda client_id: at.check(client_id)), methods=METHODS
    )
    found.add_url_rule(
        "/proxied/<client_id>/start", "start", without_cookie(lambda client_id: at.start(client_id)), methods=METHODS
    )
    found.add_url_rule(
        "/proxied/<client_id>/callback",
        "callback",
        without_cookie(lambda client_id: at.callback(client_id)),
        methods=["GET"],
    )
    found.add_url_rule(
        "/proxied/<client_id>/sign-out",
        "sign_out",
        without_cookie(lambda client_id: at.sign_out(client_id)),
        methods=["POST"],
    )
    return found
