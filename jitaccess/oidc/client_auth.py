"""Is it really this target that asks? Client authentication at the token, introspection and revocation endpoints (R39).

`private_key_jwt` (RFC 7523 with an ES256 key of the client's own; one audience: the issuer, or the token endpoint as OpenID Connect Core
section 9 has it; short; each `jti` once) or `client_secret_basic`. Exactly one of them, the one the client is registered for. Failures are
counted by address and claimed client; above the limit of a minute they are told so and no longer written down (R66). Only failures are:
whoever proves to be a client is heard, also when others behind the same address fail all the time, or nobody could revoke anything.
"""

import hashlib
import json
import threading
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import unquote_plus

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from jitaccess.broker.clients import AuthMethod, ClientFacts, registered
from jitaccess.broker.context import Broker
from jitaccess.clock import from_epoch_s
from jitaccess.domain.events import EventType
from jitaccess.domain.values import SYSTEM, Actor, ActorKind
from jitaccess.errors import JitError, Kind
from jitaccess.proof.canonical import b64u_decode
from jitaccess.proof.errors import ProofError
from jitaccess.sdk.client import ASSERTION_TYPE
from jitaccess.sdk.keys import static_keys
from jitaccess.store.db import View
from jitaccess.store.tables import Challenge

MAX_ASSERTION_BYTES = 8 * 1024
MAX_ASSERTION_LIFE_S = 300
MAX_SKEW_S = 60
MAX_JTI_CHARS = 128
FAILURES_PER_MINUTE = 30
CLIENTS_PER_ADDRESS = 10
"""So many times the limit may an address fail under changing names."""
MOST_KEYS = 20_000
ASSERTION_TYPES = ("JWT", "client-authentication+jwt")
"""What clients write today, and the type that draft-ietf-oauth-rfc7523bis gives these assertions."""
UNPROVED = "No key that is registered for the client in sub verifies the assertion (ES256; with several keys kid names the one)."
"""Said of an unknown client, an unknown key and a wrong signature alike: who holds no key learns nothing about clients and keys."""


class ClientRefused(Exception):
    """Who asks has not proved to be a client; `code` is the error of RFC 6749 section 5.2."""

    def __init__(self, status: int, code: str, description: str) -> None:
        super().__init__(description)
        self.status, self.code, self.description = status, code, description


@dataclass(slots=True)
class FailureLimit:
    """Counts failed attempts within a minute, in this process: of an address as one client, and of an address as whomever."""

    limit: int = FAILURES_PER_MINUTE
    _minute: int = 0
    _counts: dict[tuple[str, str], int] = field(default_factory=dict)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def failed(self, address: str, client_id: str, now_s: int) -> bool:
        """Count one failure; return whether there were too many already."""
        with self._guard:
            if self._minute != now_s // 60:
                self._minute = now_s // 60
                self._counts.clear()
            one, every = self._count((address, client_id)), self._count((address, ""))
        return one > self.limit or every > self.limit * CLIENTS_PER_ADDRESS

    def _count(self, key: tuple[str, str]) -> int:
        """Return how many there were with this one; a key for which there is no more room counts as one too many."""
        if key not in self._counts and len(self._counts) >= MOST_KEYS:
            return self.limit * CLIENTS_PER_ADDRESS + 1
        found = self._counts[key] = self._counts.get(key, 0) + 1
        return found


def claimed_id(form: Mapping[str, str], authorization: Any) -> str:
    """Return which client somebody says to be, in at most 64 characters; believed by nobody, only counted by."""
    if authorization is not None and authorization.type == "basic":
        return str(authorization.username or "-")[:64]
    segments = form.get("client_assertion", "")[:MAX_ASSERTION_BYTES].split(".")
    try:
        return str(_unverified(segments[1]).get("sub") or "-")[:64] if len(segments) == 3 else "-"
    except ClientRefused:
        return "-"


def actor_of(client: ClientFacts) -> Actor:
    """Return the actor that events name."""
    return Actor(ActorKind.CLIENT, client_id=client.id)


def authenticate(
    broker: Broker, *, form: Mapping[str, str], authorization: Any, view: View | None = None
) -> ClientFacts:
    """Return the client that proved itself; raises ClientRefused. `authorization` is Werkzeug's parsed header or None; `view` is
    one that the caller reads in anyway."""
    asserted = form.get("client_assertion")
    basic = authorization is not None and authorization.type == "basic"
    if basic and asserted is not None:
        raise _unclear("Use one way of client authentication, not two.")
    if "client_secret" in form:
        raise _unclear("A client secret belongs into the Authorization header.")
    if asserted is not None:
        client = _by_key(broker, form.get("client_assertion_type"), asserted)
    elif basic:
        # RFC 6749 section 2.3.1: both are form-encoded; our ids and secrets hold neither "%" nor "+", so plain ones read the same.
        name, secret = (unquote_plus(part or "") for part in (authorization.username, authorization.password))
        client = _by_secret(broker, view, name, secret)
    else:
        raise _wrong()
    if form.get("client_id", client.id) != client.id:
        raise _wrong("client_id names another client than the one that proved itself.")
    return client


def _wrong(description: str = "Client authentication failed.") -> ClientRefused:
    return ClientRefused(401, "invalid_client", description)


def _unclear(description: str) -> ClientRefused:
    return ClientRefused(400, "invalid_request", description)


def _by_secret(broker: Broker, view: View | None, client_id: str, secret: str) -> ClientFacts:
    with nullcontext(view) if view is not None else broker.read() as reading:
        client = registered(reading).get(client_id)
    if client is None or client.method is not AuthMethod.CLIENT_SECRET_BASIC or not client.knows_secret(secret):
        raise _wrong()
    return client


def _by_key(broker: Broker, assertion_type: str | None, assertion: str) -> ClientFacts:
    """Check a client assertion.

    1 shape and header: ES256, nothing that brings or fetches a key · 2 the client it claims · 3 signature under that client's own key ·
    4 issuer and subject are the client, the audience is this broker, short and now · 5 the jti was never seen.

    What 1 refuses says why: it rests on what was sent alone. So do 4 and 5: who holds the key is told what to mend. 2 and 3 say one thing.
    """
    if assertion_type != ASSERTION_TYPE:  # 1
        raise _wrong(f"client_assertion_type must be {ASSERTION_TYPE}.")
    parts = assertion.split(".")
    if len(assertion) > MAX_ASSERTION_BYTES or not assertion.isascii() or len(parts) != 3:
        raise _wrong("client_assertion is no signed JWT in compact form.")
    header, unverified = _unverified(parts[0]), _unverified(parts[1])
    if header.get("alg") != "ES256" or not header.keys() <= {"alg", "typ", "kid"}:
        raise _wrong("The assertion's header must say alg ES256, and beside it only typ and kid.")
    if header.get("typ", "JWT") not in ASSERTION_TYPES:
        raise _wrong("The assertion's typ must be JWT or client-authentication+jwt, or be left out.")
    with broker.read() as view:
        now = view.now.timestamp()
        client = registered(view).get(str(unverified.get("sub")))  # 2
    key = _key_of(client, header) if client is not None else None
    if client is None or key is None:
        raise _wrong(UNPROVED)
    try:
        if len(b64u_decode(parts[2])) != 64:
            raise _wrong(UNPROVED)
        jws.deserialize_compact(assertion, key, algorithms=["ES256"])  # 3
    except (JoseError, ProofError, ValueError) as error:
        raise _wrong(UNPROVED) from error
    claims = unverified  # the signature just proved these very bytes
    amiss = _amiss(claims, client.id, broker.site.origin, now)  # 4
    if amiss is not None:
        raise _wrong(amiss)
    if not _first_use(broker, client, claims):  # 5
        raise _wrong("This jti was used before: make an assertion anew for each request.")
    return client


def _key_of(client: ClientFacts, header: Mapping[str, Any]) -> ECKey | None:
    """Return the client's key that a header names; without a kid the one there is, if there is one only."""
    if client.method is not AuthMethod.PRIVATE_KEY_JWT or client.jwks is None:
        return None
    find = static_keys(client.jwks)
    if "kid" in header:
        return find(header["kid"]) if isinstance(header["kid"], str) else None
    kids = {str(entry["kid"]) for entry in cast("list[Any]", client.jwks["keys"]) if "kid" in entry}
    fitting = [key for key in map(find, sorted(kids)) if key is not None]
    return fitting[0] if len(fitting) == 1 else None


def _unverified(segment: str) -> dict[str, Any]:
    try:
        value = json.loads(b64u_decode(segment), object_pairs_hook=_no_twins)
    except (ProofError, ValueError, RecursionError) as error:
        raise _wrong("The assertion's header or claims cannot be read.") from error
    if not isinstance(value, dict):
        raise _wrong("The assertion's header or claims cannot be read.")
    return value


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _amiss(claims: Mapping[str, Any], client_id: str, issuer: str, now: float) -> str | None:
    """Say what is wrong with the claims of an assertion whose signature holds, or None."""
    if claims.get("iss") != client_id or claims.get("sub") != client_id:
        return "iss and sub must both be the client's id."
    audience = claims.get("aud")
    alone = audience[0] if isinstance(audience, list) and len(audience) == 1 else audience
    if alone not in (issuer, f"{issuer}/oidc/token"):
        return f"aud must be {issuer} (better) or {issuer}/oidc/token, and nobody else."
    exp, jti = claims.get("exp"), claims.get("jti")
    if not _whole(exp) or not now < cast(int, exp) <= now + MAX_ASSERTION_LIFE_S:
        return f"exp must be whole UTC seconds, ahead of now by {MAX_ASSERTION_LIFE_S} at most."
    for name in ("iat", "nbf"):
        if name in claims and not (_whole(claims[name]) and claims[name] <= now + MAX_SKEW_S):
            return f"{name} must be whole UTC seconds and not ahead of now."
    if not (isinstance(jti, str) and 0 < len(jti) <= MAX_JTI_CHARS and jti.isascii()):
        return f"jti must be 1 to {MAX_JTI_CHARS} ASCII characters."  # a lone surrogate has no bytes to hash
    return None


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _first_use(broker: Broker, client: ClientFacts, claims: Mapping[str, Any]) -> bool:
    """Remember a jti until its assertion is over; False when it was used before. A unique key decides, in any process."""
    digest = hashlib.sha256(str(claims["jti"]).encode()).hexdigest()
    try:
        with broker.begin(actor_of(client)) as tx:
            tx.insert(
                Challenge,
                id=tx.new_id(),
                challenge_b64u=f"client_assertion/{client.id}/{digest}",
                purpose="client_assertion",
                created_at=tx.now,
                expires_at=from_epoch_s(int(claims["exp"])),
            )
    except JitError as error:
        if error.kind is Kind.CONFLICT:
            return False
        raise
    return True


def record_failure(broker: Broker, endpoint: str) -> None:
    """Tell the log that somebody failed to be a client."""
    with broker.begin(SYSTEM) as tx:
        tx.record(EventType.TOKEN_REFUSED, body={"reason": "client_authentication", "endpoint": endpoint})
