"""Which targets may ask for tokens, and how do they prove themselves? The register of OAuth clients (RFC 7591 names, no open door).

A client belongs to one target and learns only about tokens for it (R39). Redirect addresses are compared exactly (R37). A secret is made
here, shown once and kept only as a hash; better is a key of the target's own, of which only the public part comes here.
"""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import cast
from urllib.parse import urlsplit

from sqlalchemy import select

from jitaccess.domain.events import EventType
from jitaccess.domain.forwarded import Unclear, read_origin
from jitaccess.errors import JitError, Kind
from jitaccess.proof.canonical import JsonValue, digest_b64u
from jitaccess.sdk.keys import static_keys
from jitaccess.sdk.refusal import TokenRefused
from jitaccess.store.db import Database, Tx, View
from jitaccess.store.ids import hash_secret, new_secret
from jitaccess.store.tables import Client
from jitaccess.told import told

MAX_REDIRECT_URIS = 10
MAX_URI_CHARS = 300
CALLBACK_PATH = "/.jitaccess/callback"
"""Where a proxied application's own address leads back to the broker."""
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class AuthMethod(StrEnum):
    """How a client authenticates."""

    PRIVATE_KEY_JWT = "private_key_jwt"
    CLIENT_SECRET_BASIC = "client_secret_basic"  # noqa: S105 - the name of a method
    FORWARD_AUTH = "forward_auth"
    """It never does: it stands behind a reverse proxy, and the broker itself redeems its codes."""


@dataclass(frozen=True, slots=True)
class ClientFacts:
    """A registered client, as everything above the store sees it."""

    id: str
    target: str
    name: str
    redirect_uris: tuple[str, ...]
    method: AuthMethod
    secret_hash: str | None
    jwks: Mapping[str, JsonValue] | None
    initiate_login_uri: str | None
    backchannel_logout_uri: str | None
    post_logout_redirect_uris: tuple[str, ...]

    @property
    def proxied_origin(self) -> str | None:
        """Return the address of an application behind a reverse proxy, None for every other client."""
        return self.redirect_uris[0].removesuffix(CALLBACK_PATH) if self.method is AuthMethod.FORWARD_AUTH else None

    def knows_secret(self, secret: str) -> bool:
        """Say whether this is the client's secret; False for a client that has none."""
        return self.secret_hash is not None and hmac.compare_digest(self.secret_hash, hash_secret(secret))


def registered(view: View) -> Mapping[str, ClientFacts]:
    """Return the active clients by id; cached by the register's version."""
    return view.cached("clients", _read)


def remembered(db: Database, client_id: str) -> ClientFacts | None:
    """Return a client as this process last read it, which need not be as it is now: for what is worth trying, never for a right."""
    known = db.made.get("clients")
    return cast("Mapping[str, ClientFacts]", known[1]).get(client_id) if known is not None else None


def proxied(view: View) -> Mapping[str, ClientFacts]:
    """Return the active clients behind reverse proxies by their origin; cached by the register's version."""
    return view.cached("proxied_clients", _read_proxied)


def _read_proxied(view: View) -> Mapping[str, ClientFacts]:
    return {client.proxied_origin: client for client in _read(view).values() if client.proxied_origin is not None}


def _read(view: View) -> Mapping[str, ClientFacts]:
    return {
        row.id: ClientFacts(
            row.id,
            row.target,
            row.name,
            tuple(cast("list[str]", row.redirect_uris)),
            AuthMethod(row.auth_method),
            row.secret_hash,
            cast("dict[str, JsonValue] | None", row.jwks),
            row.initiate_login_uri,
            row.backchannel_logout_uri,
            tuple(cast("list[str]", row.post_logout_redirect_uris or [])),
        )
        for row in view.usable(select(Client).where(Client.status == "active"))
    }


def told_at(view: View, client_id: str) -> str | None:
    """Return where a client is told of ends; one that was switched off is told of those that this brought. A broken row tells nobody."""
    row = view.unchecked_get(Client, client_id)
    return row.backchannel_logout_uri if row is not None and view.whole(row) else None


def add_client(
    tx: Tx,
    *,
    target: str,
    name: str,
    redirect_uris: Sequence[str],
    jwks: Mapping[str, JsonValue] | None = None,
    initiate_login_uri: str | None = None,
    backchannel_logout_uri: str | None = None,
    post_logout_redirect_uris: Sequence[str] = (),
    behind_proxy: bool = False,
) -> tuple[Client, str | None]:
    """Register a client. With `jwks` (public P-256 keys) it signs; without, a secret is made: returned here and never again.

    One `behind_proxy` has neither: nothing but the broker redeems its codes (`add_proxied`).

    Raises INVALID with the field.
    """
    check_client(
        name=name,
        redirect_uris=redirect_uris,
        jwks=jwks,
        initiate_login_uri=initiate_login_uri,
        backchannel_logout_uri=backchannel_logout_uri,
        post_logout_redirect_uris=post_logout_redirect_uris,
    )
    if behind_proxy:
        method, secret = AuthMethod.FORWARD_AUTH, None
    elif jwks is not None:
        method, secret = AuthMethod.PRIVATE_KEY_JWT, None
    else:
        method, secret = AuthMethod.CLIENT_SECRET_BASIC, new_secret()
    key = tx.new_id()
    event = tx.record(
        EventType.CLIENT_ADDED,
        subject={"client": key, "target": target},
        body={
            "method": method.value,
            "redirect_uris": digest_b64u(list(redirect_uris)),
            "jwks": digest_b64u(dict(jwks)) if jwks is not None else None,
            **({"backchannel_logout_uri": digest_b64u(backchannel_logout_uri)} if backchannel_logout_uri else {}),
            **(
                {"post_logout_redirect_uris": digest_b64u(list(post_logout_redirect_uris))}
                if post_logout_redirect_uris
                else {}
            ),
        },
    )
    row = tx.insert(
        Client,
        event,
        id=key,
        target=target,
        name=name,
        redirect_uris=list(redirect_uris),
        auth_method=method.value,
        secret_hash=None if secret is None else hash_secret(secret),
        jwks=None if jwks is None else dict(jwks),
        initiate_login_uri=initiate_login_uri,
        backchannel_logout_uri=backchannel_logout_uri,
        post_logout_redirect_uris=list(post_logout_redirect_uris) or None,
        status="active",
        created_at=tx.now,
    )
    return row, secret


def check_client(
    *,
    name: str,
    redirect_uris: Sequence[str],
    jwks: Mapping[str, JsonValue] | None,
    initiate_login_uri: str | None,
    backchannel_logout_uri: str | None,
    post_logout_redirect_uris: Sequence[str],
) -> None:
    """Raise INVALID with the field unless a client could be registered so."""
    if not name.strip() or len(name) > 120 or not name.isprintable():
        raise JitError(Kind.INVALID, "The name must be 1 to 120 printable characters.", field="name")
    if not 0 < len(redirect_uris) <= MAX_REDIRECT_URIS or len(set(redirect_uris)) != len(redirect_uris):
        raise JitError(Kind.INVALID, "Give one to ten different redirect addresses.", field="redirect_uris")
    for uri in redirect_uris:
        check_uri(uri, field="redirect_uris")
    if initiate_login_uri is not None:
        check_uri(initiate_login_uri, field="initiate_login_uri")
    if backchannel_logout_uri is not None:
        check_uri(backchannel_logout_uri, field="backchannel_logout_uri")
    if len(post_logout_redirect_uris) > MAX_REDIRECT_URIS:
        raise JitError(Kind.INVALID, "Give ten addresses at most.", field="post_logout_redirect_uris")
    for uri in post_logout_redirect_uris:
        check_uri(uri, field="post_logout_redirect_uris")
    if jwks is not None:
        _check_public(jwks)


def add_proxied(tx: Tx, *, target: str, name: str, origin: str) -> Client:
    """Register an application behind a reverse proxy by the origin under which people reach it; raises INVALID or CONFLICT."""
    check_origin(origin)
    if origin in proxied(tx):
        raise JitError(Kind.CONFLICT, "This address is registered already; disable that client first.", field="origin")
    client, _ = add_client(
        tx,
        target=target,
        name=name,
        redirect_uris=[f"{origin}{CALLBACK_PATH}"],
        initiate_login_uri=f"{origin}/",
        behind_proxy=True,
    )
    return client


def check_origin(origin: str) -> None:
    """Raise INVALID unless this is the bare origin of an application, and a proxy's question about it would be about this very one."""
    check_uri(origin, field="origin")
    parts = urlsplit(origin)
    if origin != f"{parts.scheme}://{parts.netloc}" or origin != origin.lower():
        raise JitError(
            Kind.INVALID, "Give scheme, host and port only, in lower case, such as https://app.example.", field="origin"
        )
    read = read_origin(parts.scheme, parts.netloc)
    if isinstance(read, Unclear):
        raise JitError(
            Kind.INVALID,
            "The host must be a name of letters, digits, hyphens and single dots, or an IPv4 address: a proxy's question about any "
            "other is refused.",
            field="origin",
        )
    if read != origin:
        # Browsers leave the usual port out (RFC 6454 section 6.2), so no request would ever match.
        raise JitError(
            Kind.INVALID, "Leave out the port where it is the usual one, such as https://app.example.", field="origin"
        )


def check_uri(uri: str, *, field: str) -> None:
    """Raise INVALID unless the address is https, or http on this machine, and has nothing that could be read in two ways."""
    wrong = JitError(
        Kind.INVALID,
        told("%(uri)s must be a full https address (http only on this machine), without #.", uri=repr(uri[:80])),
        field=field,
    )
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError as error:
        raise wrong from error
    clean = uri.isascii() and uri.isprintable() and not set(uri) & set(" \\*#<>\"'`") and len(uri) <= MAX_URI_CHARS
    local = parts.scheme == "http" and parts.hostname in LOOPBACK
    if not clean or not parts.hostname or "@" in parts.netloc or port == 0 or not (parts.scheme == "https" or local):
        raise wrong


def _check_public(jwks: Mapping[str, JsonValue]) -> None:
    keys = jwks.get("keys")
    if not isinstance(keys, list) or any(isinstance(key, dict) and "d" in key for key in keys):
        raise JitError(Kind.INVALID, "Give the public keys only.", field="jwks")
    try:
        static_keys(jwks)
    except TokenRefused as error:
        raise JitError(Kind.INVALID, "Give a JWK Set with P-256 signing keys that have a kid.", field="jwks") from error
