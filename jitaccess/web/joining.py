"""How does a system join? Its clients, registered with a signature, and what to paste into it, filled with this broker's own names.

For administrators alone. A client is registered as every administrative act is: the page shows first exactly what is signed; its secret is
shown once. Switching one off takes one tap. The snippets are what the shipped examples are made of, which a test compares.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from flask import Blueprint, Flask, abort, redirect, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from jitaccess.broker import clients, joining, roster, sign_ins
from jitaccess.broker.clients import AuthMethod, ClientFacts
from jitaccess.broker.context import Broker
from jitaccess.broker.joining import Found, Outcome, Step
from jitaccess.domain.forwarded import FOREIGN_NAMES
from jitaccess.errors import JitError, Kind
from jitaccess.identity.people import register
from jitaccess.policy.evaluate import TargetFacts
from jitaccess.proof.canonical import JsonValue
from jitaccess.web.readers import administrator
from jitaccess.web.speech import gettext, lazy_gettext, say

MAX_JWKS = 16 * 1024
TEXTS: Mapping[str, tuple[str, ...]] = {
    "client": ("client.txt",),
    "nginx": ("nginx.conf.txt", "jit-question.conf.txt"),
    "caddy": ("Caddyfile.txt",),
    "python": ("wsgi.py.txt", "asgi.py.txt", "flask.py.txt", "fastapi.py.txt", "django.py.txt"),
    "node": ("node.mjs.txt", "verify.mjs.txt"),
    "introspection": ("introspection.sh.txt",),
    "check": ("check.sh.txt",),
}
"""Door -> its snippets, in the order in which a page shows them."""
EACH_CLIENT = frozenset({"client.txt"})
EACH_PROXIED = frozenset({"nginx.conf.txt", "Caddyfile.txt"})


SEEN: Mapping[tuple[Step, Outcome], str] = {
    (Step.DISCOVERY, Outcome.WELL): lazy_gettext("The broker's own address leads here."),
    (Step.DISCOVERY, Outcome.WRONG): lazy_gettext("The broker's own address leads to something else."),
    (Step.DISCOVERY, Outcome.UNREACHABLE): lazy_gettext("The broker's own address does not answer as it should."),
    (Step.KEYS, Outcome.WELL): lazy_gettext("The key that signs now is published."),
    (Step.KEYS, Outcome.WRONG): lazy_gettext("The key that signs now is not published there: tokens would be refused."),
    (Step.CLIENTS, Outcome.NONE): lazy_gettext("No client is registered yet."),
    (Step.REDIRECT, Outcome.WELL): lazy_gettext("The application answers where people come back to."),
    (Step.REDIRECT, Outcome.WRONG): lazy_gettext("The application answers with an error where people come back to."),
    (Step.REDIRECT, Outcome.UNREACHABLE): lazy_gettext("Nothing answers where people come back to."),
    (Step.LOGOUT, Outcome.WELL): lazy_gettext("It refuses a notice that nobody signed."),
    (Step.LOGOUT, Outcome.OPEN): lazy_gettext(
        "It takes a notice that nobody signed: anybody can throw people out. It must verify the token."
    ),
    (Step.LOGOUT, Outcome.WRONG): lazy_gettext("It does not take notices there."),
    (Step.LOGOUT, Outcome.UNREACHABLE): lazy_gettext("Nothing answers where it wants to be told of the end."),
    (Step.PROXY, Outcome.WELL): lazy_gettext("The proxy lets nobody in without access."),
    (Step.PROXY, Outcome.OPEN): lazy_gettext("People get in without access: the proxy asks nobody."),
    (Step.PROXY, Outcome.WRONG): lazy_gettext("Nobody gets in without access, but nobody is led to sign in either."),
    (Step.PROXY, Outcome.UNREACHABLE): lazy_gettext("Nothing answers at the application's address."),
    (Step.NAMES, Outcome.WELL): lazy_gettext("Under names that are not its own nobody gets in (tried):"),
    (Step.NAMES, Outcome.OPEN): lazy_gettext(
        "Under a name that is not its own somebody gets an answer without access. Let the proxy answer no foreign Host:"
    ),
    (Step.NAMES, Outcome.WRONG): lazy_gettext("Under a name that is not its own it breaks instead of refusing:"),
    (Step.NAMES, Outcome.UNREACHABLE): lazy_gettext(
        "It stopped answering while names that are not its own were tried:"
    ),
    (Step.STORIES, Outcome.WELL): lazy_gettext(
        "Headers, cookies and tokens that anybody can make up let nobody in (tried):"
    ),
    (Step.STORIES, Outcome.OPEN): lazy_gettext(
        "People get in without access by what they say about themselves. The proxy must take these away:"
    ),
    (Step.STORIES, Outcome.WRONG): lazy_gettext("It breaks instead of refusing when somebody sends:"),
    (Step.STORIES, Outcome.UNREACHABLE): lazy_gettext("It stopped answering while made-up headers were tried:"),
    (Step.PATHS, Outcome.WELL): lazy_gettext("Paths that can be read in two ways let nobody in (tried):"),
    (Step.PATHS, Outcome.OPEN): lazy_gettext(
        "People get in without access by paths that can be read in two ways. The proxy must ask about each of them:"
    ),
    (Step.PATHS, Outcome.WRONG): lazy_gettext("It breaks instead of refusing at these paths:"),
    (Step.PATHS, Outcome.UNREACHABLE): lazy_gettext("It stopped answering while odd paths were tried:"),
    (Step.CONNECTOR, Outcome.WELL): lazy_gettext("The broker's own account there is as it should be."),
    (Step.CONNECTOR, Outcome.WRONG): lazy_gettext("The broker's own account there is not as it should be:"),
    (Step.CONNECTOR, Outcome.UNREACHABLE): lazy_gettext("The system cannot be asked:"),
}
REFUSES_EVERYBODY = lazy_gettext(
    "It answers 403 where it should lead to sign in, so that nobody gets in at all. Probably the broker refuses the proxy's question: the "
    "client id or the address in its configuration is not the one registered here, or the proxy's own address is not in "
    "forward_auth.proxies. Or something before the broker refuses."
)
UNFINISHED = lazy_gettext("It answers too slowly: the test could not be finished. Test it again later.")
NOT_FROM_HERE = lazy_gettext("The broker may not call this address; look at it with your browser.")


@dataclass(frozen=True, slots=True)
class Snippet:
    """A text to paste, and the name of the file it belongs into."""

    name: str
    text: str
    about: str = ""
    """Which client it is for, where there are several."""


def install(app: Flask) -> None:
    """Give templates what quotes a text for Python and JavaScript alike, and what tells of a finding in words."""
    app.add_template_filter(json.dumps, "literal")
    app.add_template_filter(told_of, "told_of")


def told_of(found: Found) -> str:
    """Return a finding as a sentence."""
    if found.outcome is Outcome.UNFINISHED:
        return str(UNFINISHED)
    if (found.step, found.outcome, found.seen) == (Step.PROXY, Outcome.WRONG, "403"):
        return str(REFUSES_EVERYBODY)
    return str(SEEN.get((found.step, found.outcome), NOT_FROM_HERE))


def snippets(issuer: str, target: TargetFacts, known: list[ClientFacts]) -> dict[str, list[Snippet]]:
    """Return the snippets of each door for a target whose tokens carry an audience; needs an application context.

    What holds for one client alone is there for each of them (`EACH_CLIENT`, `EACH_PROXIED`); without any, once with what to fill in.
    """
    audience = str(target.connector["audience"])
    clients_ = [one for one in known if one.proxied_origin is None]
    proxied = [one for one in known if one.proxied_origin is not None]
    broker = urlsplit(issuer)
    common: dict[str, Any] = {
        "issuer": issuer,
        "audience": audience,
        "target": target.id,
        "entitlement": sorted(target.entitlements)[0],
        "ask": f"{issuer}/request?{urlencode({'target': target.id})}",
        "broker_host": broker.netloc,
        "broker_upstream": issuer if broker.scheme == "https" else broker.netloc,
        "application": "http://127.0.0.1:8090",
        "application_upstream": "127.0.0.1:8090",
        "foreign_names": FOREIGN_NAMES,
        "bearer": bool(clients_) or not proxied,
        "behind": bool(proxied),
    }
    of_clients = [(_of_client(one, audience), f"{one.name}, {one.id}") for one in clients_] or [
        (_of_client(None, audience), "")
    ]
    of_proxied = [(_of_proxied(one, audience), one.proxied_origin or "") for one in proxied] or [
        (_of_proxied(None, audience), "")
    ]

    def made(file: str) -> list[Snippet]:
        each = of_clients if file in EACH_CLIENT else of_proxied if file in EACH_PROXIED else None
        variants = each or [(of_clients[0][0] | of_proxied[0][0], "")]
        return [
            Snippet(
                file.removesuffix(".txt"),
                render_template(f"join/{file}", **common, **own),
                about if len(variants) > 1 else "",
            )
            for own, about in variants
        ]

    return {door: [one for file in files for one in made(file)] for door, files in TEXTS.items()}


def _of_client(client: ClientFacts | None, audience: str) -> dict[str, Any]:
    """Return what a text says of one client that signs people in."""
    return {
        "client_id": client.id if client is not None else "CLIENT_ID",
        "method": client.method.value if client is not None else AuthMethod.CLIENT_SECRET_BASIC.value,
        "redirect_uris": client.redirect_uris if client is not None else [f"{audience}/callback"],
        "backchannel": client.backchannel_logout_uri if client is not None else None,
    }


def _of_proxied(behind: ClientFacts | None, audience: str) -> dict[str, Any]:
    """Return what a text says of one application behind a proxy."""
    address = (behind.proxied_origin if behind is not None else None) or audience
    origin = urlsplit(address)
    plain = origin.scheme == "http"
    return {
        "proxied_id": behind.id if behind is not None else "CLIENT_ID",
        "origin": address,
        "scheme": origin.scheme,
        "netloc": origin.netloc,
        "host": origin.hostname or "",
        "port": origin.port or (80 if plain else 443),
        "tls": not plain,
        "listen": f"127.0.0.1:{origin.port or 80}" if plain else f"{origin.port or 443} ssl",
    }


def policy_snippet(owner: str, group: str) -> Snippet:
    """Return the lines with which a policy file names one more system."""
    return Snippet("my-system.yaml", render_template("join/policy.yaml.txt", owner=owner, group=group))


def blueprint(broker: Broker) -> Blueprint:
    """Return the pages over a broker."""
    pages = Blueprint("joining", __name__)

    def page(target_id: str, problem: str | None = None) -> str:
        with broker.read() as view:
            facts = _target(broker, view, target_id)
            known = [one for one in clients.registered(view).values() if one.target == facts.id]
            rows = roster.clients(view, facts.id)
            tested = joining.last(view, facts.id)
            names = {key: person.name for key, person in register(view).persons.items()}
        for_tokens = "audience" in facts.connector
        return render_template(
            "join.html",
            facts=facts,
            clients=rows,
            problem=problem,
            given=request.form,
            tested=tested,
            names=names,
            snippets=snippets(broker.site.origin, facts, known) if for_tokens else None,
            behind_proxy=any(one.proxied_origin is not None for one in known),
        )

    @pages.get("/targets/<target_id>/join")
    def join(target_id: str) -> str:
        administrator(broker, "target")
        return page(target_id)

    @pages.post("/targets/<target_id>/clients/check")
    def check(target_id: str) -> str | tuple[str, int]:
        """Show what would be registered, and let exactly that be signed; nothing is registered yet."""
        administrator(broker)
        with broker.read() as view:
            facts = _target(broker, view, target_id)
        try:
            kind, payload = _wanted()
        except JitError as error:
            return page(target_id, say(error.message)), 422
        body = {"kind": kind, "subject": facts.id, "payload": payload}
        return render_template("join_check.html", facts=facts, kind=kind, payload=payload, body=json.dumps(body))

    @pages.post("/targets/<target_id>/test")
    def test(target_id: str) -> BaseResponse:
        """Test a system now; only looks, and the log says who did."""
        me = administrator(broker)
        joining.try_out(broker, me.actor, target_id[:64])
        return redirect(f"/targets/{target_id}/join#tested", 303)

    @pages.post("/targets/<target_id>/clients/<client_id>/disable")
    def disable(target_id: str, client_id: str) -> BaseResponse:
        """Switch a client off: narrowing takes one person and no signature."""
        me = administrator(broker)
        with broker.begin(me.actor) as tx:
            if client_id not in {row.id for row in roster.clients(tx, target_id[:64])}:
                raise JitError(Kind.NOT_FOUND, "There is no such client.")
            sign_ins.disable_client(tx, client_id)
        return redirect(f"/targets/{target_id}/join", 303)

    return pages


def _target(broker: Broker, view: Any, target_id: str) -> TargetFacts:
    policies = broker.policies.active_or_none(view)
    facts = policies.targets.get(target_id) if policies is not None else None
    if facts is None:
        abort(404)
    return facts


def _wanted() -> tuple[str, dict[str, JsonValue]]:
    """Read and check the form; return kind and payload of the act. Raises INVALID."""
    name = request.form.get("name", "").strip()
    if request.form.get("door") == "proxy":
        origin = request.form.get("origin", "").strip().removesuffix("/")
        clients.check_origin(origin)
        clients.check_client(
            name=name, redirect_uris=[f"{origin}{clients.CALLBACK_PATH}"], jwks=None, initiate_login_uri=None,
            backchannel_logout_uri=None, post_logout_redirect_uris=(),
        )  # fmt: skip
        return "client.add_proxied", {"name": name, "origin": origin}
    redirects, goodbyes = _lines("redirect_uris"), _lines("post_logout_redirect_uris")
    start, logout = (request.form.get(part, "").strip() or None for part in ("initiate_login_uri", "logout_uri"))
    jwks = _jwks()
    clients.check_client(
        name=name, redirect_uris=redirects, jwks=jwks, initiate_login_uri=start, backchannel_logout_uri=logout,
        post_logout_redirect_uris=goodbyes,
    )  # fmt: skip
    payload: dict[str, JsonValue] = {"name": name, "redirect_uris": [*redirects]}
    optional: dict[str, JsonValue] = {
        "jwks": jwks,
        "initiate_login_uri": start,
        "backchannel_logout_uri": logout,
        "post_logout_redirect_uris": [*goodbyes] or None,
    }
    return "client.add", payload | {part: value for part, value in optional.items() if value is not None}


def _lines(part: str) -> list[str]:
    return [line.strip() for line in request.form.get(part, "").splitlines() if line.strip()]


def _jwks() -> dict[str, JsonValue] | None:
    text = request.form.get("jwks", "").strip()
    if not text:
        return None
    try:
        found = json.loads(text) if len(text) <= MAX_JWKS else None
    except (ValueError, RecursionError) as error:
        raise JitError(Kind.INVALID, gettext("The key set is not JSON."), field="jwks") from error
    if not isinstance(found, dict):
        raise JitError(Kind.INVALID, gettext("The key set is not JSON."), field="jwks")
    return found
