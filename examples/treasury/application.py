"""The treasury's pages. A viewer looks; a releaser releases exactly the order, and at most the amount, that people signed for.

No page and no act trusts a session by itself: `SignOn.current` asks anew each time. GET changes nothing; a release needs the session's
own form token and an exact Origin. Nothing secret stands in an address.
"""

import hmac
from datetime import UTC, datetime

from flask import Flask, Response, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from examples.treasury.ledger import Ledger, NotReleased
from examples.treasury.sign_on import Session, SignOn, details
from jitaccess.sdk import TokenRefused

SESSION_COOKIE = "treasury_session"
STATE_COOKIE = "treasury_state"


def create_app(sign_on: SignOn, ledger: Ledger, *, origin: str, issuer: str) -> Flask:
    """Return the application."""
    app = Flask(__name__, template_folder="templates", static_folder="static")
    app.config["MAX_CONTENT_LENGTH"] = 16 * 1024
    secure = origin.startswith("https:")
    app.add_template_filter(_euros, "euros")
    app.add_template_filter(_moment, "moment")

    def cookie(response: BaseResponse, name: str, value: str, path: str = "/") -> None:
        response.set_cookie(name, value, httponly=True, secure=secure, samesite="Lax", path=path)

    @app.after_request
    def dress(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = (
            "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; form-action 'self'; "
            "base-uri 'none'; frame-ancestors 'none'"
        )
        response.headers["X-Content-Type-Options"] = "nosniff"
        # With `no-referrer` Chromium sends `Origin: null` on a plain form post, which the check below refuses.
        response.headers["Referrer-Policy"] = "same-origin"
        response.headers["Cache-Control"] = "public, max-age=600" if request.endpoint == "static" else "no-store"
        return response

    def outside(refused: TokenRefused, status: int = 401) -> Response:
        """Show that nobody is in, and why."""
        words = None if refused.code == "no_session" else refused.message
        page = make_response(render_template("outside.html", words=words, issuer=issuer), status)
        page.delete_cookie(SESSION_COOKIE)
        return page

    def inside() -> Session:
        return sign_on.current(request.cookies.get(SESSION_COOKIE))

    @app.errorhandler(TokenRefused)
    def refused(error: TokenRefused) -> Response:
        return outside(error, 503 if error.code == "unreachable" else 401)

    @app.get("/livez")
    def livez() -> Response:
        return Response("alive\n", content_type="text/plain")

    @app.get("/start")
    def start() -> BaseResponse:
        """Begin to sign on; the broker's "Open" leads here (OpenID Connect Core section 4)."""
        if request.args.get("iss", issuer) != issuer:
            raise TokenRefused("wrong_issuer", "This treasury is opened by another broker.")
        hint = request.args.get("login_hint")
        state, address = sign_on.begin(hint if hint is not None and len(hint) <= 64 and hint.isalnum() else None)
        response = redirect(address, 303)
        cookie(response, STATE_COOKIE, state, path="/callback")
        return response

    @app.get("/callback")
    def callback() -> BaseResponse:
        """Take the broker's answer; only in the browser that began."""
        state = request.args.get("state", "")
        if not hmac.compare_digest(state.encode(), request.cookies.get(STATE_COOKIE, "").encode()) or not state:
            raise TokenRefused("wrong_state", "This sign-in was begun in another window. Start again.")
        if "error" in request.args or "code" not in request.args:
            raise TokenRefused("refused", "The broker did not open the treasury.")
        session = sign_on.finish(state=state, code=request.args["code"], issuer=request.args.get("iss", ""))
        response = redirect(url_for("home"), 303)  # the code does not stay in the address
        cookie(response, SESSION_COOKIE, session.id)
        response.delete_cookie(STATE_COOKIE, path="/callback")
        return response

    @app.get("/")
    def home() -> str:
        """Show accounts and orders."""
        return page(inside())

    def page(session: Session, *, done: str | None = None, problem: str | None = None) -> str:
        return render_template(
            "inside.html",
            session=session,
            access=details(session.token),
            accounts=ledger.accounts(),
            orders=ledger.orders(),
            done=done,
            problem=problem,
            issuer=issuer,
        )

    @app.get("/status")
    def status() -> Response:
        """Say whether this session is still good; the page asks every second."""
        inside()
        return Response(status=204)

    @app.post("/orders/<number>/release")
    def release(number: str) -> Response:
        """Release one order, if exactly this was signed for."""
        session = inside()
        given = request.form.get("csrf", "")
        if request.headers.get("Origin") != origin or not hmac.compare_digest(given.encode(), session.csrf.encode()):
            raise TokenRefused("cross_site", "This request came from another site.")
        try:
            order = ledger.release(
                number, at_most_cents=_may_release(session, number), by=session.name, under=session.token.grant
            )
        except NotReleased as problem:
            return make_response(page(session, problem=str(problem)), 403)
        return make_response(page(session, done=f"{order.number} was released."))

    @app.post("/sign-out")
    def sign_out() -> BaseResponse:
        """Leave; the access itself is handed back at the broker."""
        if request.headers.get("Origin") != origin:
            raise TokenRefused("cross_site", "This request came from another site.")
        sign_on.end(request.cookies.get(SESSION_COOKIE, ""))
        response = redirect(url_for("home"), 303)
        response.delete_cookie(SESSION_COOKIE)
        return response

    return app


def _may_release(session: Session, number: str) -> int:
    """Return how much of this order the session may release, in cents; raises NotReleased."""
    token = session.token
    if token.entitlement != "releaser":
        raise NotReleased("Your access lets you look, not release.")
    order, cents = token.inputs.get("order"), token.inputs.get("amount_cents")
    if order != number:
        raise NotReleased("Your access is for another order.")
    if not isinstance(cents, int) or isinstance(cents, bool) or cents <= 0:
        raise NotReleased("Your access names no amount.")
    return cents


def _euros(cents: int) -> str:
    return f"{cents // 100:,}.{cents % 100:02d}".replace(",", "\u202f") + "\u00a0EUR"


def _moment(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%d %b %Y, %H:%M:%S} UTC"
