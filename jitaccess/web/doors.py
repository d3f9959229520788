"""Who may come in, and in what dress does everything leave? Cookies, origin checks, headers, errors (R13, R15-R18, R42, R46).

Every request that may change something must come from our own origin, exactly; the host must be ours; the session cookie is opaque
and `__Host-`. Everything leaves with a nonce-only content security policy and, behind sign-in, uncacheable. Errors are problem
details for the API and one sentence for people; never a traceback.
"""

import logging
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import quote, urlsplit

from flask import Flask, Response, g, jsonify, make_response, redirect, render_template, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.wrappers import Response as BaseResponse

from jitaccess.broker import strictness
from jitaccess.broker.context import Broker
from jitaccess.domain.values import Refused
from jitaccess.errors import DOORS, JitError, Kind
from jitaccess.identity import preferences, sessions
from jitaccess.identity.sessions import Current
from jitaccess.store.ids import new_secret
from jitaccess.web.limits import Meter, client_address, meter
from jitaccess.web.speech import gettext, say
from jitaccess.web.transfer import cache_control

log = logging.getLogger(__name__)
SESSION_COOKIE = "__Host-jit"
BROWSER_COOKIE = "__Host-jit-browser"
"""Binds a sign-in or enrolment ceremony to the browser that began it (R3); carries no power."""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
UNMETERED = frozenset({"static", "pages.livez", "pages.readyz"})
"""Files, and what a supervisor asks: a crowd must not make a healthy broker look dead."""
METERED = "jitaccess.metered"
"""In the WSGI environment of a program's request that was counted before the application saw it."""
MAX_COOKIE = 200
MAX_NAME = 400
"""Longest part of a path; an enrolment token is 43 characters, a vendored file's name shorter than this."""
MAX_RETURN = 8 * 1024
"""Longest path to come back to after signing in: what an application may ask of the authorization page fits."""
RETRY_AFTER_S = {429: 60, 503: 5}
"""What Retry-After says where the refusal does not know better: the longest window of a minute; a moment."""
RETRY_AFTER_OF = {"approvers_busy": 3600, "too_many_requests": 3600, "deputies_often": 86_400}
"""The same for refusals by their code: what counts within an hour, or a day."""
T = TypeVar("T")
View = TypeVar("View", bound=Callable[..., object])


def without_cookie(view: View) -> View:
    """Mark an endpoint that authenticates clients by itself and never looks at cookies: the origin check does not apply."""
    view.without_cookie = True  # type: ignore[attr-defined] # a mark on the function
    return view


def current_or_none() -> Current | None:
    """Return who is signed in, or None."""
    found: Current | None = g.get("current")
    return found


def current() -> Current:
    """Return who is signed in; raises UNAUTHENTICATED."""
    found = current_or_none()
    if found is None:
        raise JitError(Kind.UNAUTHENTICATED, "Sign in first.")
    return found


def settle(found: T | Refused) -> T:
    """Return a verb's result; a refusal, committed by now, becomes the door's answer."""
    if isinstance(found, Refused):
        raise JitError(found.kind, found.message, code=found.code, field=found.field)
    return found


def browser_id() -> str:
    """Return this browser's id, made at first use; the answer sets its cookie."""
    known = request.cookies.get(BROWSER_COOKIE, "")
    if 20 <= len(known) <= 64:
        return known
    if "browser" not in g:
        g.browser = new_secret()
    found: str = g.browser
    return found


def set_session(response: BaseResponse, secret: str) -> None:
    """Give the browser its session's secret (R13)."""
    response.set_cookie(SESSION_COOKIE, secret, secure=True, httponly=True, samesite="Lax", path="/")


def clear_session(response: BaseResponse) -> None:
    """Take the session's cookie away."""
    response.delete_cookie(SESSION_COOKIE, secure=True, httponly=True, samesite="Lax", path="/")


def own_path(text: str) -> str:
    """Return a return path only if it is a plain path of ours (R46); else the start page."""
    parts = urlsplit(text)
    plain = text.startswith("/") and not text.startswith(("//", "/\\")) and not parts.scheme and not parts.netloc
    return text if plain and text.isprintable() and "\\" not in text and len(text) <= MAX_RETURN else "/"


def common_headers(origin: str) -> dict[str, str]:
    """Return the headers that everything leaves with."""
    found = {
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": (
            "publickey-credentials-get=(self), publickey-credentials-create=(self), camera=(), microphone=(), geolocation=()"
        ),
    }
    if origin.startswith("https:"):
        found["Strict-Transport-Security"] = "max-age=63072000; includeSubDomains"
    return found


def install(app: Flask, broker: Broker) -> Meter:
    """Put the doors on an application; return the meter of targets' programs."""
    site = broker.site
    host = urlsplit(site.origin).netloc.lower()
    common = common_headers(site.origin)
    app.config["MAX_CONTENT_LENGTH"] = broker.settings.server.max_body_bytes
    app.config["MAX_FORM_MEMORY_SIZE"] = broker.settings.server.max_body_bytes
    app.config["MAX_FORM_PARTS"] = 100
    limits = broker.settings.limits
    persons, addresses = Meter(limits.calls_per_person_minute), Meter(limits.calls_per_address_minute)
    programs = Meter(limits.target_calls_per_address_minute)

    bounds_of = strictness.bounds_of(broker)

    @app.before_request
    def come_in() -> None:
        g.nonce = new_secret()
        g.current = None
        if request.host.lower() != host:
            raise JitError(Kind.INVALID, "This is not the address of this broker.")
        _check_path()
        view = app.view_functions.get(request.endpoint or "")
        by_itself = getattr(view, "without_cookie", False)
        if request.method not in SAFE_METHODS and not by_itself:
            _check_origin(site.origin)
        secret = request.cookies.get(SESSION_COOKIE)
        if secret and not by_itself and request.endpoint != "static":
            if len(secret) > MAX_COOKIE:
                raise JitError(Kind.UNAUTHENTICATED, "Sign in first.")
            with broker.read() as found:
                g.current = sessions.resolve(found, secret, bounds_of)
                if g.current is not None:
                    g.preferences = preferences.of(found, g.current.person.id)
            if g.current is not None:
                sessions.touch(broker.db, g.current.actor, g.current.session.id)
        counted = by_itself and METERED in request.environ
        if request.endpoint not in UNMETERED and not counted:
            now = broker.clock.monotonic()
            if g.current is not None:
                meter(persons, g.current.person.id, now)
            else:
                meter(programs if by_itself else addresses, client_address(broker), now)

    @app.after_request
    def go_out(response: Response) -> Response:
        # Where the authorization endpoint redirects to after a form, its exact origin is allowed for that answer only.
        extra = "".join(f" {origin}" for origin in g.get("form_action", ()))
        nonce = g.get("nonce", "")
        headers = response.headers
        headers["Content-Security-Policy"] = (
            f"default-src 'none'; script-src 'nonce-{nonce}' 'strict-dynamic'; style-src 'self'; img-src 'self' data:; "
            f"connect-src 'self'; form-action 'self'{extra}; base-uri 'none'; frame-ancestors 'none'"
        )
        headers.update(common)
        headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
        if request.endpoint == "static":
            filename = str((request.view_args or {}).get("filename", ""))
            headers["Cache-Control"] = cache_control(filename, request.args.get("v"))
        elif "Cache-Control" not in headers:  # a public document says for itself how long it may be kept
            headers["Cache-Control"] = "no-store"
            headers["Vary"] = "Cookie, Accept-Language"
        if "browser" in g:
            response.set_cookie(
                BROWSER_COOKIE, g.browser, secure=True, httponly=True, samesite="Lax", path="/", max_age=3600
            )
        return response

    @app.errorhandler(JitError)
    def refused(error: JitError) -> BaseResponse:
        return _answer(error)

    @app.errorhandler(HTTPException)
    def http(error: HTTPException) -> BaseResponse:
        kinds = {404: Kind.NOT_FOUND, 405: Kind.INVALID, 413: Kind.TOO_LARGE, 429: Kind.RATE_LIMITED}
        status = error.code or 500
        kind = kinds.get(status, Kind.INVALID if status < 500 else Kind.INTERNAL)
        sentences = {
            404: gettext("There is no such page."),
            405: gettext("This address does not take that method."),
            413: gettext("This is too large."),
        }
        answer = _answer(JitError(kind, sentences.get(status, gettext("This request cannot be answered."))), status)
        if isinstance(error, MethodNotAllowed):
            answer.headers["Allow"] = ", ".join(sorted(error.valid_methods or ()))
        return answer

    @app.errorhandler(Exception)
    def defect(error: Exception) -> BaseResponse:
        log.exception("unexpected error at %s", request.path, exc_info=error)
        return _answer(JitError(Kind.INTERNAL, "Something went wrong here. Nothing was granted. Try again."))

    return programs


def _check_path() -> None:
    """Refuse a path with letters that no name of ours has; a database may choke on them."""
    for value in (request.view_args or {}).values():
        if not str(value).isprintable() or len(str(value)) > MAX_NAME:
            raise JitError(Kind.NOT_FOUND, "There is no such page.")


def _check_origin(origin: str) -> None:
    """R16: an exact Origin, or without one the browser's own word that it is the same origin."""
    given = request.headers.get("Origin")
    fetch_site = request.headers.get("Sec-Fetch-Site")
    if fetch_site is not None and fetch_site != "same-origin":
        raise JitError(Kind.FORBIDDEN, "This request came from another site.", code="cross_site")
    if given != origin and not (given is None and fetch_site == "same-origin"):
        raise JitError(Kind.FORBIDDEN, "This request came from another site.", code="cross_site")


def wants_json() -> bool:
    """Say whether this request is the API's."""
    return request.path.startswith(("/api/", "/oidc/authorize/")) or request.is_json


def _answer(error: JitError, status: int | None = None) -> BaseResponse:
    door = DOORS[error.kind]
    code = status or door.status
    if wants_json():
        details = {name: value for name, value in error.details.items() if value is not None}
        problem = {
            "type": door.problem,
            "title": error.kind.value.replace("_", " "),
            "status": code,
            "detail": say(error.message),
            "code": details.pop("code", error.kind.value),
            **details,
        }
        response: BaseResponse = jsonify(problem)
        response.headers["Content-Type"] = "application/problem+json"
    elif error.kind is Kind.UNAUTHENTICATED and request.method in SAFE_METHODS:
        path = request.full_path.removesuffix("?")
        return redirect(f"/sign-in?next={quote(path, safe='')}", 303)
    else:
        response = make_response(render_template("error.html", message=say(error.message), status=code))
    response.status_code = code
    if code in RETRY_AFTER_S:
        usual = RETRY_AFTER_OF.get(str(error.details.get("code")), RETRY_AFTER_S[code])
        response.headers["Retry-After"] = str(error.details.get("retry_after_s", usual))
    return response
