"""What do targets and proxies ask at each of their own requests, and how is that answered with the least around it? (docs/adr/0061, 0067)

Introspection and forward-auth are asked many times as often as everything else together, and a renewal is the most frequent act. So a plain
question that gets a plain answer, and the plain renewal of a good refresh token, are answered here, straight from the WSGI environment.
Whatever is not plain (another form of the question, a client that is not one, nobody who goes through, any error) goes on to the
application as if nothing had been asked: it decides anew, refuses and finds the words. So this door decides nothing by itself: it asks the
same verbs, and can only give less than the application.
"""

import json
import logging
import threading
from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from werkzeug.datastructures import Authorization
from werkzeug.wrappers import Request

from jitaccess.broker.context import Broker
from jitaccess.broker.verify import BY_JTI, introspect, unverified_jti
from jitaccess.domain.forwarded import HEADERS
from jitaccess.errors import JitError
from jitaccess.oidc.client_auth import ClientRefused, authenticate
from jitaccess.oidc.endpoints import FAILED, MAX_FIELD_CHARS, MAX_FORM_BYTES
from jitaccess.oidc.forward_auth import METHODS, ForwardAuth, said
from jitaccess.oidc.renewing import plain, renew
from jitaccess.proof.canonical import JsonValue
from jitaccess.store.db import View
from jitaccess.web.doors import METERED, common_headers
from jitaccess.web.limits import Meter, client_address

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)
INTROSPECT, TOKEN, FORWARD_AUTH = "/oidc/introspect", "/oidc/token", "/forward-auth/"
FORM = "application/x-www-form-urlencoded"
FIELDS = frozenset({"token", "token_type_hint"})
"""What a plain question says; a client's assertion is a form of its own."""
TURN_S = 0.05
"""So long a question waits for its turn; then it is answered all the same."""
Answer = tuple[list[tuple[str, str]], bytes]


class LightDoor:
    """A WSGI application before another one."""

    def __init__(self, inner: "WSGIApplication", broker: Broker, proxies: ForwardAuth, programs: Meter) -> None:
        """Take the application behind, the verbs of proxies, and the meter of what targets' programs ask."""
        self.inner = inner
        self._broker = broker
        self._proxies = proxies
        self._programs = programs
        self._host = urlsplit(broker.site.origin).netloc.lower()
        self._turn = threading.Lock() if broker.db.sqlite else None
        """Held by the question that is being answered (ADR 67)."""
        self._headers = [
            *common_headers(broker.site.origin).items(),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Content-Security-Policy", "default-src 'none'; base-uri 'none'; frame-ancestors 'none'"),
            ("Cache-Control", "no-store"),
            ("Vary", "Cookie, Accept-Language"),
        ]

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer, or let the application do it."""
        answer = self._answer(environ)
        if answer is None:
            return self.inner(environ, start_response)
        headers, body = answer
        start_response("200 OK", [*headers, ("Content-Length", str(len(body))), *self._headers])
        return [body]

    def _answer(self, environ: "WSGIEnvironment") -> Answer | None:
        path = environ.get("PATH_INFO", "")
        client_id = path.removeprefix(FORWARD_AUTH)
        proxied = client_id != path
        # Exactly the two routes: whatever else lies below is no program's, and the application counts it by its own measures.
        mine = "/" not in client_id if proxied else path in (INTROSPECT, TOKEN)
        taken = environ["REQUEST_METHOD"] in (METHODS if proxied else ("POST",))
        if not (mine and client_id and taken) or environ.get("HTTP_HOST", "").lower() != self._host:
            return None
        try:
            asking = Request(environ, populate_request=False)
            if self._programs.wait_s(client_address(self._broker, asking), self._broker.clock.monotonic()):
                return None  # nothing was taken: the application says for how long to wait
            environ[METERED] = True
            form = None if proxied else _form(environ)
            if path == TOKEN:
                return self._renewal(environ, form)
            if not proxied and (form is None or "token" not in form or not form.keys() <= FIELDS):
                return None
            held = self._turn is not None and self._turn.acquire(timeout=TURN_S)
            try:
                return self._passage(asking, client_id) if form is None else self._introspection(environ, form)
            finally:
                if held and self._turn is not None:
                    self._turn.release()
        except (JitError, ClientRefused):  # a broken seal was alarmed
            return None
        except Exception:  # a declared boundary: whatever it was, the application decides anew
            log.exception("unexpected error at %s", path)
            return None

    def _introspection(self, environ: "WSGIEnvironment", form: Mapping[str, str]) -> Answer:
        """Answer RFC 7662 to a client with a secret; `endpoints.Endpoints.introspect` is the whole of it."""
        proof = Authorization.from_header(environ.get("HTTP_AUTHORIZATION"))
        broker, token = self._broker, form["token"]

        def answered(view: View) -> dict[str, JsonValue]:
            client = authenticate(broker, form=form, authorization=proof, view=view)
            return introspect(view, broker, client.id, token)

        said_of = broker.db.at_a_glance(BY_JTI, answered, jti=unverified_jti(token))
        return [("Content-Type", "application/json")], f"{_write(said_of)}\n".encode()

    def _renewal(self, environ: "WSGIEnvironment", form: Mapping[str, str] | None) -> Answer | None:
        """Renew a good refresh token; `endpoints.Endpoints.token` is the whole of it."""
        secret = plain(form or {})
        if secret is None:
            return None
        try:
            said_of = renew(self._broker, Authorization.from_header(environ.get("HTTP_AUTHORIZATION")), secret)
        except JitError as error:
            environ[FAILED] = (
                error  # it may have been kept, so it is not done a second time: the application finds the words
            )
            return None
        if said_of is None:
            return None
        body = json.dumps(said_of, sort_keys=True)
        return [("Content-Type", "application/json"), ("Pragma", "no-cache")], body.encode()

    def _passage(self, asking: Request, client_id: str) -> Answer | None:
        """Let a browser through; `forward_auth.ForwardAuth.check` is the whole of it."""
        _, found = self._proxies.judged(asking, client_id)
        return None if found is None else (list(zip(HEADERS, said(found), strict=True)), b"")


_write = json.JSONEncoder(sort_keys=True, separators=(",", ":"), check_circular=False).encode


def _form(environ: "WSGIEnvironment") -> dict[str, str] | None:
    """Return the fields of a plain question, None for any other. The application can read the body once more."""
    length = environ.get("CONTENT_LENGTH") or ""
    if environ.get("QUERY_STRING") or environ.get("CONTENT_TYPE") != FORM:
        return None
    if not (length.isascii() and length.isdigit()) or int(length) > MAX_FORM_BYTES:
        return None
    body = environ["wsgi.input"].read(int(length))
    environ["wsgi.input"] = BytesIO(body)
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=True, max_num_fields=len(FIELDS))
    except ValueError:
        return None
    found = dict(pairs)
    clean = all(len(value) <= MAX_FIELD_CHARS and value.isascii() and value.isprintable() for value in found.values())
    return found if clean and len(found) == len(pairs) else None
