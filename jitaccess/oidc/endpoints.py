"""The endpoints of the provider: thin; each reads its request in bounds, calls a verb and answers.

Token, introspection and revocation authenticate the client by themselves and never look at cookies; they answer every error as
RFC 6749 section 5.2 wants it. The authorization page and its two ceremony calls are the signed-in person's.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

from authlib.oauth2 import OAuth2Error
from flask import Blueprint, Response, g, jsonify, redirect, render_template, request
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response as BaseResponse

from jitaccess.broker import verify
from jitaccess.broker.clients import ClientFacts
from jitaccess.broker.context import Broker
from jitaccess.broker.logout import end_family
from jitaccess.broker.sign_ins import sign_out
from jitaccess.broker.status import reserve, served, signed_list, uri_of
from jitaccess.broker.verify import REFRESH_BY_SECRET, audience_of, verifier_of
from jitaccess.clock import to_epoch_s
from jitaccess.domain.events import EventType
from jitaccess.errors import DOORS, JitError, Kind
from jitaccess.identity import sessions
from jitaccess.oidc.authorize import (
    Asked,
    Back,
    begin_opening,
    choices,
    complete_opening,
    read_request,
    refusal,
    strength,
)
from jitaccess.oidc.client_auth import (
    ClientRefused,
    FailureLimit,
    actor_of,
    authenticate,
    claimed_id,
    record_failure,
)
from jitaccess.oidc.clients import OAuthClient
from jitaccess.oidc.logout import LogoutAsked, read_logout
from jitaccess.oidc.metadata import metadata
from jitaccess.oidc.pending import Ready, keep, ready, requestable, resume
from jitaccess.oidc.provider import GRANT_OF_CODE, GRANT_OF_REFRESH, FormRequest, Provider
from jitaccess.oidc.userinfo import BearerError, bearer, claims
from jitaccess.sdk import TokenRefused
from jitaccess.store.db import SealBroken, View
from jitaccess.store.find import Matching
from jitaccess.store.ids import hash_secret
from jitaccess.store.tables import Person, Token
from jitaccess.tokens.status import HTTP_MAX_AGE_S, MEDIA_TYPE
from jitaccess.told import told
from jitaccess.web.doors import clear_session, current, current_or_none, settle, without_cookie
from jitaccess.web.limits import client_address

MAX_FORM_BYTES = 32 * 1024
MAX_FIELD_CHARS = 16 * 1024
MAX_FIELDS = 20
MAX_QUERY_CHARS = 24 * 1024
"""An authorization request as it stands in an address: each character of it may take three."""
JWKS_MAX_AGE_S = 60
"""A retired key may be taken for so long after a cache gave it, beside what a verifier keeps by itself (300 s in the SDK)."""
FAILED = "jitaccess.failed"
"""In the WSGI environment: the error of an act that was done before the application saw it, and that must not be done again."""
_OAUTH_ERRORS = {
    Kind.GONE: (400, "invalid_grant"),
    Kind.CONFLICT: (400, "invalid_grant"),
    Kind.INVALID: (400, "invalid_request"),
    Kind.TOO_LARGE: (413, "invalid_request"),
    Kind.RATE_LIMITED: (429, "temporarily_unavailable"),
}


@dataclass(frozen=True, slots=True)
class Endpoints:
    """What the endpoints share."""

    broker: Broker
    failures: FailureLimit = field(default_factory=FailureLimit)

    # -- client endpoints

    def token(self, client: ClientFacts, form: Mapping[str, str]) -> BaseResponse:
        """Redeem a code or a refresh token, in one transaction over the grant's row."""
        if form.get("grant_type") not in ("authorization_code", "refresh_token"):
            return _oauth_error(400, "unsupported_grant_type", "Only authorization_code and refresh_token.")
        broker = self.broker
        if "resource" in form:
            with broker.read() as view:
                if form["resource"] != audience_of(view, broker, client.target):
                    return _oauth_error(400, "invalid_target", "This client's tokens are for another resource.")
        if form["grant_type"] == "refresh_token":
            behind = Matching(GRANT_OF_REFRESH, {"secret_hash": hash_secret(form.get("refresh_token", ""))})
        else:
            behind = Matching(GRANT_OF_CODE, {"code_hash": hash_secret(form.get("code", ""))})
        status = reserve(broker)
        broker.checkpoints.keep_up()
        with broker.begin(actor_of(client), lock=[behind]) as tx:
            broker.keyring.refresh(tx)
            registered = OAuthClient(client)
            provider = Provider(broker, tx, registered, status)
            answer: BaseResponse = provider.create_token_response(FormRequest(broker.site.origin, form, registered))
        return answer

    def introspect(self, form: Mapping[str, str]) -> BaseResponse:
        """Say whether a token is good now (RFC 7662): client and token are read in one view, because this is asked most of all."""
        client: ClientFacts | None = None
        if "client_assertion" in form:  # writes down its jti, and may wait for it: what is read comes after
            client = authenticate(self.broker, form=form, authorization=request.authorization)
        try:
            with self.broker.read() as view:
                client = client or authenticate(self.broker, form=form, authorization=request.authorization, view=view)
                if "token" not in form:
                    return _oauth_error(400, "invalid_request", "The field token is missing.")
                return jsonify(verify.introspect(view, self.broker, client.id, form["token"]))
        except SealBroken:
            if client is None:
                raise
            return jsonify(
                dict(verify.INACTIVE)
            )  # it was alarmed, and is "not active" like everything else that is wrong

    def revoke(self, client: ClientFacts, form: Mapping[str, str]) -> BaseResponse:
        """End a token that was issued to this client (RFC 7009); unknown ones are none of its business and answered alike."""
        if "token" not in form:
            return _oauth_error(400, "invalid_request", "The field token is missing.")
        broker, text = self.broker, form["token"]
        with broker.begin(actor_of(client)) as tx:
            broker.keyring.refresh(tx)
            # Revocation needs no intact seal.
            row = next(iter(tx.unchecked_find(REFRESH_BY_SECRET, secret_hash=hash_secret(text))), None)
            jti = None if row is not None else _jti(tx, broker, client, text)
            row = row or (tx.unchecked_get(Token, jti) if jti is not None else None)
            if row is None or row.client_id != client.id or row.ended_at is not None:
                return jsonify({})
            if row.kind == "refresh":
                end_family(tx, row.family, EventType.TOKEN_REVOKED, client_id=client.id)
            else:
                event = tx.record(
                    EventType.TOKEN_REVOKED,
                    subject={"client": client.id, "token": row.id, "grant": row.grant_id, "lease": row.lease_id},
                    body={"cause": "client"},
                )
                tx.update(row, event, ended_at=tx.now)
        return jsonify({})

    def authenticated(
        self, act: Callable[[ClientFacts, Mapping[str, str]], BaseResponse]
    ) -> Callable[[Mapping[str, str]], BaseResponse]:
        """Return an act that authenticates the client first."""

        def first(form: Mapping[str, str]) -> BaseResponse:
            return act(authenticate(self.broker, form=form, authorization=request.authorization), form)

        return first

    def of_client(self, name: str, act: Callable[[Mapping[str, str]], BaseResponse]) -> Callable[[], BaseResponse]:
        """Return a view for an act that authenticates its client; it counts failures and speaks OAuth in every error."""

        @without_cookie
        def view() -> BaseResponse:
            try:
                if FAILED in request.environ:
                    raise request.environ[FAILED]
                form = _form()
                try:
                    return act(form)
                except ClientRefused as refused:
                    return self._refused(name, form, refused)
                except OAuth2Error as error:
                    return _from_authlib(error)
            except JitError as error:
                status, code = _OAUTH_ERRORS.get(
                    error.kind,
                    (DOORS[error.kind].status, "server_error" if error.door.status >= 500 else "access_denied"),
                )
                return _oauth_error(status, code, error.message)

        return view

    def _refused(self, name: str, form: Mapping[str, str], refused: ClientRefused) -> BaseResponse:
        """Answer who is no client, and write it down, unless this address fails all the time."""
        now_s = to_epoch_s(self.broker.db.now())
        claimed = claimed_id(form, request.authorization)
        if self.failures.failed(client_address(self.broker), claimed, now_s):
            answer = _oauth_error(429, "temporarily_unavailable", "Too many failed attempts. Wait a minute.")
            answer.headers["Retry-After"] = str(60 - now_s % 60)
            return answer
        record_failure(self.broker, name)
        return _challenged(_oauth_error(refused.status, refused.code, refused.description))

    def userinfo(self) -> BaseResponse:
        """Say who the person behind an access token is (OpenID Connect Core section 5.3)."""
        form = _form() if request.method == "POST" and request.content_length else None
        token = bearer(request.headers.get("Authorization"), form)
        found = token if isinstance(token, BearerError) else claims(self.broker, token)
        if isinstance(found, BearerError):
            answer = _oauth_error(found.status, found.code or "invalid_token", found.description)
            answer.headers["WWW-Authenticate"] = found.challenge()
            return answer
        return jsonify(found)

    # -- the person's page

    def posted(self) -> BaseResponse:
        """Take an authorization request that was sent as a form (OpenID Connect Core section 3.1.2.1): the page shows it."""
        if request.mimetype != "application/x-www-form-urlencoded":
            raise JitError(Kind.INVALID, "Send application/x-www-form-urlencoded.")
        query = urlencode(list(request.form.items(multi=True)))
        if len(query) > MAX_QUERY_CHARS:
            raise JitError(Kind.TOO_LARGE, "This is too large.")
        return redirect(f"/oidc/authorize?{query}", 303)

    def page(self) -> BaseResponse | str | tuple[str, int]:
        """Show exactly which access would be opened, for which system; changes nothing.

        Who has no passkey here as strong as asked for is told what is missing, and goes back with an error only when he says so.
        """
        broker = self.broker
        with broker.read() as view:
            asked = read_request(view, broker, request.args, current=current_or_none())
            if isinstance(asked, Back):
                return redirect(asked.location, 303)
            who = current()
            policies = broker.policies.active(view)
            target = policies.targets.get(asked.client.facts.target)
            strong = strength(view, asked, who)
            if not strong.fitting:
                back = refusal(broker, asked).location
                return render_template(
                    "oidc_stronger.html",
                    client=asked.client.facts,
                    elsewhere=strong.elsewhere,
                    query=_again(asked),
                    back=back,
                ), 403
            live = choices(view, asked, who)
            keys = {choice.grant.id: strength(view, asked, who, choice).fitting for choice in live}
            person = view.require(Person, who.person.id)
            entries = [] if live else requestable(view, broker, asked, who)
            return render_template(
                "oidc_authorize.html",
                client=asked.client.facts,
                target=target,
                choices=live,
                entries=entries,
                person=person,
                now=view.now,
                stronger=strong.fitting if strong.step_up else (),
                by_rule={grant_id: fitting for grant_id, fitting in keys.items() if fitting != strong.fitting},
                query=_again(asked),
            )

    def sign_in_again(self) -> BaseResponse:
        """End this session and lead to sign in with another account, and from there back to exactly this request."""
        who = current()
        asked = self._asked(request.form.get("query", ""))
        with self.broker.begin(who.actor) as tx:
            sessions.end(tx, who.session, "signed_out")
        answer = redirect(f"/sign-in?{urlencode({'next': f'/oidc/authorize?{_again(asked)}'})}", 303)
        clear_session(answer)
        return answer

    def ask(self) -> BaseResponse:
        """Keep what the application asked and lead to the page where this right is asked for."""
        who = current()
        asked = self._asked(request.form.get("query", ""))
        entitlement = request.form.get("entitlement", "")[:64]
        with self.broker.begin(who.actor) as tx:
            path = settle(keep(tx, self.broker, who, asked, entitlement))
        return redirect(path, 303)

    def resume(self) -> BaseResponse:
        """Take up what the application asked, now that there is access."""
        who = current()
        with self.broker.begin(who.actor) as tx:
            path = settle(resume(tx, self.broker, who, request.form.get("pending", "")))
        return redirect(path, 303)

    def waiting(self) -> list[Ready]:
        """Return the ways back that are open to who is signed in: for the start page."""
        who = current_or_none()
        if who is None:
            return []
        with self.broker.read() as view:
            return ready(view, self.broker, who)

    def begin(self) -> BaseResponse:
        """Begin the passkey ceremony for one grant; `query` is the authorization request of the page."""
        who = current()
        body = _json()
        asked = self._asked(_text(body, "query", most=MAX_QUERY_CHARS))
        settled = settle(begin_opening(self.broker, who, asked, _text(body, "grant_id")))
        return jsonify({"challenge_id": settled.challenge_id, "options": settled.options})

    def complete(self) -> BaseResponse:
        """Finish the ceremony: the answer says where the browser goes."""
        body = _json()
        response = body.get("response")
        if not isinstance(response, dict):
            raise JitError(Kind.INVALID, "The field response is missing.", field="response")
        back = settle(
            complete_opening(self.broker, current(), challenge_id=_text(body, "challenge_id"), response=response)
        )
        return jsonify({"redirect": back.location})

    def _asked(self, query: str) -> Asked:
        arguments = _query(query)
        with self.broker.read() as view:
            asked = read_request(view, self.broker, arguments)
        if isinstance(asked, Back):
            raise JitError(Kind.INVALID, "The system that sent you here asked in a wrong way. Start again there.")
        return asked

    # -- signing out

    def logout_page(self) -> BaseResponse | str:
        """Ask whether to sign out; changes nothing. Who is not signed in is sent on at once."""
        asked = self._logout_asked(dict(_once(request.args)))
        if current_or_none() is None:
            return redirect(asked.back, 303) if asked.back else render_template("oidc_logout.html", done=True)
        if asked.back_origin is not None:
            g.form_action = (asked.back_origin,)
        return render_template("oidc_logout.html", asked=asked, query=request.query_string.decode(), done=False)

    def logout_posted(self) -> BaseResponse:
        """Take a request to sign out that was sent as a form: the page asks."""
        return redirect(f"/oidc/logout?{urlencode(_form())}", 303)

    def logout_confirmed(self) -> BaseResponse:
        """End the session and the sign-ins made in it; then go where the application wants."""
        who = current()
        asked = self._logout_asked(dict(_once(_query(request.form.get("query", "")))))
        mine = asked.person_id == who.person.id
        sign_out(self.broker, who, cause="logout", sid=asked.sid if mine else None)
        answer = redirect(asked.back or "/oidc/logout", 303)
        clear_session(answer)
        return answer

    def _logout_asked(self, values: Mapping[str, str]) -> LogoutAsked:
        with self.broker.read() as view:
            self.broker.keyring.refresh(view)
            return read_logout(view, self.broker, values)

    # -- documents

    def discovery(self) -> BaseResponse:
        """Give the metadata."""
        return jsonify(metadata(self.broker))

    def status_list(self, list_id: str) -> BaseResponse:
        """Give one Token Status List (draft-ietf-oauth-status-list-21 section 8); anybody may have it and keep it a second."""
        if "time" in request.args:
            return _oauth_error(501, "invalid_request", "Only the status of now is given.")
        try:
            text = signed_list(self.broker, list_id)
        except JitError as error:
            return _oauth_error(error.door.status, error.kind.value, error.message)
        return _public(Response(text, content_type=MEDIA_TYPE))

    def status_lists(self) -> BaseResponse:
        """Give the addresses of all lists that tokens may refer to now (section 9)."""
        with self.broker.read() as view:
            found = [uri_of(self.broker, key) for key in served(view)]
        return _public(jsonify({"status_lists": found}))

    def jwks(self) -> BaseResponse:
        """Give the public keys that verify now."""
        with self.broker.read() as view:
            self.broker.keyring.refresh(view)
        return _public(jsonify(self.broker.keyring.jwks()), max_age_s=JWKS_MAX_AGE_S)


def blueprint(broker: Broker) -> Blueprint:
    """Return the provider's routes."""
    found = Blueprint("oidc", "jitaccess.oidc")
    at = Endpoints(broker)
    found.add_url_rule("/oidc/authorize", "authorize", at.page, methods=["GET"])
    found.add_url_rule("/oidc/authorize/ask", "authorize_ask", at.ask, methods=["POST"])
    found.add_url_rule("/oidc/authorize/resume", "authorize_resume", at.resume, methods=["POST"])
    found.add_url_rule("/oidc/authorize/sign-in-again", "authorize_again", at.sign_in_again, methods=["POST"])
    found.add_app_template_global(at.waiting, "sign_ins_waiting")
    found.add_url_rule("/oidc/authorize/begin", "authorize_begin", at.begin, methods=["POST"])
    found.add_url_rule("/oidc/authorize/complete", "authorize_complete", at.complete, methods=["POST"])
    found.add_url_rule("/oidc/authorize", "authorize_posted", without_cookie(lambda: at.posted()), methods=["POST"])
    userinfo = without_cookie(lambda: at.userinfo())
    found.add_url_rule("/oidc/userinfo", "userinfo", userinfo, methods=["GET", "POST"])
    found.add_url_rule("/oidc/logout", "logout", at.logout_page, methods=["GET"])
    found.add_url_rule("/oidc/logout", "logout_posted", without_cookie(lambda: at.logout_posted()), methods=["POST"])
    found.add_url_rule("/oidc/logout/confirm", "logout_confirmed", at.logout_confirmed, methods=["POST"])
    acts = {"token": at.authenticated(at.token), "introspect": at.introspect, "revoke": at.authenticated(at.revoke)}
    for name, act in acts.items():
        found.add_url_rule(f"/oidc/{name}", name, at.of_client(name, act), methods=["POST"])
    # Targets' programs fetch these all day, many of them from one address: each is counted among programs, not among strangers,
    # whose measure anybody at that address could use up.
    documents: dict[str, tuple[str, Callable[..., BaseResponse]]] = {
        "openid_configuration": ("/.well-known/openid-configuration", lambda: at.discovery()),
        "oauth_metadata": ("/.well-known/oauth-authorization-server", lambda: at.discovery()),
        "status_list": ("/oidc/status/<list_id>", lambda list_id: at.status_list(list_id)),
        "status_lists": ("/oidc/status", lambda: at.status_lists()),
        "jwks": ("/.well-known/jwks.json", lambda: at.jwks()),
    }
    for name, (path, give) in documents.items():
        found.add_url_rule(path, name, without_cookie(give))
    return found


def _public(answer: Response, *, max_age_s: int = HTTP_MAX_AGE_S) -> Response:
    """Let everybody read an answer that names nobody, also scripts of other sites, and keep it for a moment."""
    answer.headers["Access-Control-Allow-Origin"] = "*"
    answer.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    answer.headers["Cache-Control"] = f"public, max-age={max_age_s}"
    return answer


def _again(asked: Asked) -> str:
    """Return the query that asks the same once more; `prompt` and `max_age` hold by themselves."""
    return urlencode({**asked.parameters, **({"login_hint": asked.login_hint} if asked.login_hint else {})})


def _query(text: str) -> MultiDict[str, str]:
    """Read a query that a page carried; raises INVALID."""
    if not text:
        return MultiDict()
    try:
        if len(text) > MAX_QUERY_CHARS:
            raise ValueError("too long")
        return MultiDict(parse_qsl(text, keep_blank_values=True, strict_parsing=True, max_num_fields=50))
    except ValueError as error:
        raise JitError(Kind.INVALID, "The field query cannot be read.", field="query") from error


def _once(arguments: MultiDict[str, str]) -> Iterator[tuple[str, str]]:
    """Give each parameter, plain and bounded; raises INVALID where one stands twice."""
    for name, found in arguments.lists():
        if len(found) != 1 or len(found[0]) > MAX_FIELD_CHARS or not found[0].isascii() or not found[0].isprintable():
            raise JitError(Kind.INVALID, "The system that sent you here asked in a wrong way. Tell its operators.")
        yield name, found[0]


def _form() -> dict[str, str]:
    """Return a bounded form in which nothing stands twice; raises INVALID or TOO_LARGE."""
    if request.mimetype != "application/x-www-form-urlencoded":
        raise JitError(Kind.INVALID, "Send application/x-www-form-urlencoded.")
    if request.content_length is None or request.content_length > MAX_FORM_BYTES:
        raise JitError(Kind.TOO_LARGE, "This is too large.")
    found = {name: values[0] for name, values in request.form.lists() if len(values) == 1}
    if len(found) != len(request.form) or len(found) > MAX_FIELDS or request.args:
        raise JitError(Kind.INVALID, "Each field stands once, in the body.")
    if any(len(value) > MAX_FIELD_CHARS or not value.isascii() or not value.isprintable() for value in found.values()):
        raise JitError(Kind.INVALID, "A field is too long or not plain text.")
    return found


def _json() -> dict[str, Any]:
    body = request.get_json(silent=True)
    if not isinstance(body, dict):
        raise JitError(Kind.INVALID, "Send a JSON object.")
    return body


def _text(body: Mapping[str, Any], name: str, *, most: int = 64) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= most:
        raise JitError(Kind.INVALID, told("The field %(name)s is missing.", name=name), field=name)
    return value


def _jti(view: View, broker: Broker, client: ClientFacts, text: str) -> str | None:
    """Return the jti of an access token of ours for this client's target that is not over yet."""
    audience = audience_of(view, broker, client.target)
    if audience is None:
        return None
    try:
        return verifier_of(broker, audience).verify(text).jti
    except TokenRefused:
        return None


def _from_authlib(error: OAuth2Error) -> Response:
    return _challenged(_oauth_error(error.status_code, str(error.error), str(error.description or "")))


def _challenged(answer: Response) -> Response:
    if answer.status_code == 401:
        answer.headers["WWW-Authenticate"] = 'Basic realm="jitaccess"'
    return answer


def _oauth_error(status: int, code: str, description: str) -> Response:
    answer = jsonify({"error": code, "error_description": description})
    answer.status_code = status
    return answer
