"""The OAuth 2.0 core, on Authlib: which codes and tokens are given for what (RFC 6749, RFC 7636, RFC 9700, OpenID Connect Core).

Authlib lives only in this package, and its defaults are not ours: PKCE is required and S256 only, codes live 60 seconds, are kept
after use, and a second use ends everything that came from the first (R36); refresh tokens rotate, and a second use ends the family (R40).
One `Provider` serves one request inside one transaction: what is refused is recorded and committed with its event.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn, cast

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import InvalidGrantError, InvalidRequestError, OAuth2Request
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant, RefreshTokenGrant
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc9207 import IssuerParameter
from sqlalchemy import bindparam, select

from jitaccess.broker.clients import ClientFacts, registered
from jitaccess.broker.context import Broker
from jitaccess.broker.issue import LIVE_OF_GRANT, Evidence, Issued, evidence, mint, ready, refuse
from jitaccess.broker.logout import end_family
from jitaccess.broker.verify import REFRESH_BY_SECRET, signers_refused
from jitaccess.clock import to_epoch_s
from jitaccess.domain.events import EventType
from jitaccess.domain.values import Refused
from jitaccess.errors import Kind
from jitaccess.identity.passkeys import VerifiedAssertion
from jitaccess.identity.people import register
from jitaccess.oidc.clients import OAuthClient
from jitaccess.store.db import Tx, View
from jitaccess.store.find import Find
from jitaccess.store.ids import hash_secret, new_secret
from jitaccess.store.tables import AuthorizationCode, Grant, Lease, Passkey, Token, WebSession
from jitaccess.tokens.access import SignIn, mint_id
from jitaccess.tokens.status import StatusRef

CODE_LIFE = timedelta(seconds=60)
BY_CODE = Find(
    AuthorizationCode, select(AuthorizationCode).where(AuthorizationCode.code_hash == bindparam("code_hash"))
)
GRANT_OF_CODE = Find(
    Grant,
    select(Grant).where(
        Grant.id
        == select(AuthorizationCode.grant_id)
        .where(AuthorizationCode.code_hash == bindparam("code_hash"))
        .scalar_subquery()
    ),
)
GRANT_OF_REFRESH = Find(
    Grant,
    select(Grant).where(
        Grant.id
        == select(Token.grant_id)
        .where(Token.secret_hash == bindparam("secret_hash"), Token.kind == "refresh")
        .scalar_subquery()
    ),
)
"""Whose row to lock before a code or token is taken; nothing is decided by it."""
CHALLENGE_S256 = re.compile(r"\A[A-Za-z0-9_-]{43}\Z")
ACR_HARDWARE, ACR_SYNCED = "phrh", "phr"
"""OpenID Connect EAP ACR Values: phishing-resistant, with and without a key that stays in one device."""
NO_GRANT = Refused(Kind.GONE, "grant_ended", "This access has ended. Ask for it anew.")


def acr_of(passkey: Passkey) -> str:
    """Return the `acr` that an assertion of this passkey gives."""
    return ACR_SYNCED if passkey.backup_eligible else ACR_HARDWARE


def sign_in_of(verified: VerifiedAssertion) -> SignIn:
    """Say truly how the person just authenticated (R38; RFC 8176): hwk for a key that stays in one device, swk for a synced one."""
    key = "swk" if verified.passkey.backup_eligible else "hwk"
    return SignIn(verified.at, acr_of(verified.passkey), (key, "user"))


@dataclass(frozen=True, slots=True)
class GrantUser:
    """For whom a code is made: a person who just signed to open this grant."""

    grant: Grant
    lease: Lease
    session_id: str
    sign_in: SignIn
    passkey_id: str


@dataclass(frozen=True, slots=True)
class Redeemed:
    """What stands behind a redeemed code or refresh token, verified anew; Authlib's "user" at the token endpoint."""

    found: Evidence
    lease: Lease
    family: str
    session_id: str | None
    sign_in: SignIn
    passkey_id: str | None
    nonce: str | None
    refreshed: bool


def sign_in_behind(row: AuthorizationCode | Token) -> SignIn:
    """Return how the person signed in from whom a code or token comes."""
    return SignIn(row.auth_at, row.acr, tuple(cast("list[str]", row.amr)))


def issue(tx: Tx, broker: Broker, client_id: str, user: Redeemed, scope: str, status: StatusRef | None) -> Issued:
    """Make the tokens of what was redeemed in this very Tx."""
    return mint(
        tx,
        broker,
        found=user.found,
        lease=user.lease,
        client_id=client_id,
        family=user.family,
        scope=scope,
        sign_in=user.sign_in,
        passkey_id=user.passkey_id,
        session_id=user.session_id,
        refreshed=user.refreshed,
        status=status,
    )


def said(view: View, broker: Broker, client_id: str, user: Redeemed, issued: Issued) -> dict[str, Any]:
    """Return the fields of one answer (RFC 6749 section 5.1)."""
    answer: dict[str, Any] = {
        "token_type": "Bearer",
        "access_token": issued.access.text,
        "expires_in": to_epoch_s(issued.access.expires_at) - to_epoch_s(view.now),
        "refresh_token": issued.refresh,
        "scope": issued.scope,
        "authorization_details": [dict(issued.details)],
    }
    scopes = issued.scope.split()
    if "openid" in scopes:
        person = user.found.grant.person_id
        answer["id_token"] = mint_id(
            broker.keyring.token_key(),
            issuer=broker.site.origin,
            client_id=client_id,
            person_id=person,
            name=register(view).persons[person].name if "profile" in scopes else None,
            sid=user.family,
            nonce=user.nonce,
            access_token=issued.access.text,
            sign_in=user.sign_in,
            now=view.now,
        )
    return answer


class StoredRequest(OAuth2Request):  # type: ignore[misc] # Authlib has no types
    """An authorization request as it was validated and kept with the challenge."""

    def __init__(self, origin: str, parameters: Mapping[str, str]) -> None:
        super().__init__("GET", f"{origin}/oidc/authorize")
        self.payload = BasicOAuth2Payload(dict(parameters))


class FormRequest(StoredRequest):
    """A token request: the form, already bounded, and no trust in the Host header."""

    def __init__(self, origin: str, form: Mapping[str, str], client: OAuthClient) -> None:
        super().__init__(origin, form)
        self.method = "POST"
        self._form = dict(form)
        self.client = client

    @property
    def form(self) -> dict[str, str]:
        """Return the body's fields."""
        return self._form


class S256Only(CodeChallenge):  # type: ignore[misc] # Authlib has no types
    """PKCE, required, with S256 alone (R36, RFC 9700 section 2.1.1)."""

    SUPPORTED_CODE_CHALLENGE_METHOD = ("S256",)
    DEFAULT_CODE_CHALLENGE_METHOD = "S256"

    def validate_code_challenge(self, grant: Any, redirect_uri: str) -> None:
        """Refuse a missing challenge and every other method; the method has to be said."""
        sent = grant.request.payload.data
        if sent.get("code_challenge_method") != "S256" or not CHALLENGE_S256.match(sent.get("code_challenge") or ""):
            raise InvalidRequestError("PKCE with code_challenge_method=S256 is required.")

    def get_authorization_code_challenge(self, authorization_code: "StoredCode") -> str:
        """Return the stored challenge."""
        return authorization_code.row.challenge_s256

    def get_authorization_code_challenge_method(self, authorization_code: "StoredCode") -> str:
        """There is only one."""
        return "S256"


@dataclass(frozen=True, slots=True)
class StoredCode:
    """A code's row as Authlib asks it."""

    row: AuthorizationCode

    def get_redirect_uri(self) -> str:
        """Return the address it was made for."""
        return self.row.redirect_uri

    def get_scope(self) -> str:
        """Return the scope it was made for."""
        return self.row.scope


@dataclass(frozen=True, slots=True)
class StoredRefresh:
    """A refresh token's row as Authlib asks it."""

    row: Token

    def get_scope(self) -> str:
        """Return the scope it was made for."""
        return self.row.scope

    def check_client(self, client: OAuthClient) -> bool:
        """It belongs to one client."""
        return self.row.client_id == client.client_id


class Provider(AuthorizationServer):  # type: ignore[misc] # Authlib has no types
    """Authlib's server for one request in one transaction."""

    def __init__(
        self, broker: Broker, tx: View, client: OAuthClient | None = None, status: StatusRef | None = None
    ) -> None:
        super().__init__()
        self._status = status
        self.broker = broker
        self.view = tx
        self._client = client
        self.issued: Issued | None = None
        self.register_grant(CodeGrant, [S256Only(required=True)])
        self.register_grant(RefreshGrant)
        self.register_extension(_Issuer(broker.site.origin))

    @property
    def tx(self) -> Tx:
        """Return the transaction; a page only reads and has none."""
        return cast(Tx, self.view)

    def query_client(self, client_id: str) -> OAuthClient | None:
        """Look a client up."""
        found = registered(self.view).get(client_id)
        return None if found is None else OAuthClient(found)

    def authenticate_client(self, request: Any, methods: Any, endpoint: str = "token") -> OAuthClient:
        """Return who was authenticated before the transaction began."""
        if self._client is None:
            raise RuntimeError("the endpoint authenticates the client first")
        request.auth_method = self._client.facts.method.value
        return self._client

    def create_oauth2_request(self, request: Any) -> Any:
        """Requests are built by the endpoints, never from the environment."""
        return request

    def save_token(self, token: Mapping[str, Any], request: Any) -> None:
        """The rows were written when the token was made."""

    def generate_token(
        self,
        grant_type: str,
        client: OAuthClient,
        user: Redeemed | None = None,
        scope: str | None = None,
        expires_in: int | None = None,
        include_refresh_token: bool = True,
    ) -> dict[str, Any]:
        """Make the tokens of one answer (RFC 6749 section 5.1)."""
        if user is None:
            raise InvalidGrantError("Nothing stands behind this.")
        self.issued = issue(self.tx, self.broker, client.client_id, user, scope or "", self._status)
        return said(self.view, self.broker, client.client_id, user, self.issued)

    def redeem(
        self,
        grant_id: str,
        *,
        family: str,
        session_id: str | None,
        sign_in: SignIn,
        passkey_id: str | None,
        nonce: str | None,
        client: ClientFacts,
        refreshed: bool,
    ) -> Redeemed:
        """Verify the grant anew before anything is made under it; a refusal is recorded and raised as invalid_grant."""
        tx = self.tx
        grant = tx.get(Grant, grant_id)
        if grant is None or grant.target != client.target:
            self._refuse(None, NO_GRANT)
        found = ready(self.broker) or evidence(tx, self.broker, grant)
        if isinstance(found, Refused):
            self._refuse(grant, found)
        lease = next(iter(tx.find(LIVE_OF_GRANT, grant_id=grant.id)), None)
        if lease is None:
            self._refuse(grant, NO_GRANT)
        gone = signers_refused(tx, grant.person_id, grant.account_id, lease.passkey_id, passkey_id)
        if gone is not None:
            self._refuse(grant, gone)
        return Redeemed(found, lease, family, session_id, sign_in, passkey_id, nonce, refreshed)

    def _refuse(self, grant: Grant | None, refused: Refused) -> NoReturn:
        refuse(self.tx, grant.person_id if grant is not None else None, grant, refused)
        raise InvalidGrantError(f"Nothing can be issued under this access now: {refused.code}.")

    def note(self, type_: EventType, reason: str, **subject: str | None) -> None:
        """Record why a code or token was not taken."""
        client = self._client.client_id if self._client is not None else None
        self.tx.record(type_, subject={"client": client, **subject}, body={"reason": reason})


class CodeGrant(AuthorizationCodeGrant):  # type: ignore[misc] # Authlib has no types
    """Authorization codes: one client, one address, one challenge, one use, 60 seconds."""

    server: Provider
    request: Any

    def generate_authorization_code(self) -> str:
        """Return 256 random bits."""
        return new_secret()

    def save_authorization_code(self, code: str, request: Any) -> None:
        """Write the code's row, in the transaction in which the person's signature was checked."""
        tx, user, sent = self.server.tx, cast(GrantUser, request.user), request.payload.data
        key = tx.new_id()
        event = tx.record(
            EventType.CODE_ISSUED,
            subject={
                "request": user.grant.request_id,
                "grant": user.grant.id,
                "lease": user.lease.id,
                "person": user.grant.person_id,
                "target": user.grant.target,
                "client": request.client.client_id,
                "code": key,
            },
            body={"acr": user.sign_in.acr},
        )
        tx.insert(
            AuthorizationCode,
            event,
            id=key,
            code_hash=hash_secret(code),
            client_id=request.client.client_id,
            grant_id=user.grant.id,
            person_id=user.grant.person_id,
            session_id=user.session_id,
            family=tx.new_id(),
            redirect_uri=request.payload.redirect_uri,
            challenge_s256=sent["code_challenge"],
            scope=request.scope,
            nonce=sent.get("nonce"),
            auth_at=user.sign_in.at,
            acr=user.sign_in.acr,
            amr=[*user.sign_in.amr],
            created_at=tx.now,
            expires_at=tx.now + CODE_LIFE,
            passkey_id=user.passkey_id,
        )

    def query_authorization_code(self, code: str, client: OAuthClient) -> StoredCode | None:
        """Take a code for its one use. What follows may still refuse; the code is spent all the same."""
        server = self.server
        row = next(iter(server.tx.find(BY_CODE, code_hash=hash_secret(code))), None)
        if row is None:
            server.note(EventType.CODE_REFUSED, "unknown")
            return None
        if row.client_id != client.client_id:
            server.note(EventType.CODE_REFUSED, "another_client", code=row.id, grant=row.grant_id)
            return None
        if row.used_at is not None:
            end_family(
                server.tx, row.family, EventType.CODE_REUSED, client_id=client.client_id, tell_client="code_reused"
            )
            return None
        late = server.tx.now >= row.expires_at
        if late:
            server.note(EventType.CODE_REFUSED, "expired", code=row.id, grant=row.grant_id)
        event = server.tx.record(
            EventType.CODE_REDEEMED, subject={"client": client.client_id, "code": row.id, "grant": row.grant_id}
        )
        server.tx.update(row, event, expect={"used_at": None}, used_at=server.tx.now)
        if late:
            return None
        # Asked after the code was spent: who signs out at this moment waits for that row, so one of the two sees the other.
        server.tx.settle()
        session = server.tx.get(WebSession, row.session_id)
        if session is None or session.ended_at is not None or server.tx.now >= session.expires_at:
            server.note(EventType.CODE_REFUSED, "session_ended", code=row.id, grant=row.grant_id)
            return None
        return StoredCode(row)

    def authenticate_user(self, authorization_code: StoredCode) -> Redeemed:
        """Verify the grant behind a code anew."""
        row = authorization_code.row
        return self.server.redeem(
            row.grant_id,
            family=row.family,
            session_id=row.session_id,
            sign_in=sign_in_behind(row),
            passkey_id=row.passkey_id,
            nonce=row.nonce,
            client=self.request.client.facts,
            refreshed=False,
        )

    def delete_authorization_code(self, authorization_code: StoredCode) -> None:
        """Codes are kept, so that reuse is noticed."""


class RefreshGrant(RefreshTokenGrant):  # type: ignore[misc] # Authlib has no types
    """Refresh tokens: rotate at each use; the grant is verified anew each time; none outlives it."""

    INCLUDE_NEW_REFRESH_TOKEN = True
    server: Provider
    request: Any

    def authenticate_refresh_token(self, refresh_token: str) -> StoredRefresh | None:
        """Look a refresh token up; a second use ends the family."""
        server = self.server
        row = next(iter(server.tx.find(REFRESH_BY_SECRET, secret_hash=hash_secret(refresh_token))), None)
        client_id = self.request.client.client_id
        if row is None:
            server.note(EventType.TOKEN_REFUSED, "unknown")
        elif row.client_id != client_id:
            server.note(EventType.TOKEN_REFUSED, "another_client", token=row.id, grant=row.grant_id)
        elif row.used_at is not None:
            end_family(server.tx, row.family, EventType.TOKEN_REUSED, client_id=client_id, tell_client="token_reused")
        elif row.ended_at is not None or server.tx.now >= row.expires_at:
            server.note(EventType.TOKEN_REFUSED, "ended", token=row.id, grant=row.grant_id)
        else:
            return StoredRefresh(row)
        return None

    def authenticate_user(self, refresh_token: StoredRefresh) -> Redeemed:
        """Verify the grant behind a refresh token anew."""
        row = refresh_token.row
        return self.server.redeem(
            row.grant_id,
            family=row.family,
            session_id=row.session_id,
            sign_in=sign_in_behind(row),
            passkey_id=row.passkey_id,
            nonce=None,
            client=self.request.client.facts,
            refreshed=True,
        )

    def revoke_old_credential(self, refresh_token: StoredRefresh) -> None:
        """Spend the old token, in the transaction that made the new one: a refusal before this leaves it good."""
        issued = self.server.issued
        if issued is None:
            raise InvalidGrantError("Nothing was issued.")
        tx = self.server.tx
        tx.update(refresh_token.row, issued.event, expect={"used_at": None}, used_at=tx.now)


class _Issuer(IssuerParameter):  # type: ignore[misc] # Authlib has no types
    """`iss` in every answer of the authorization endpoint (RFC 9207)."""

    def __init__(self, issuer: str) -> None:
        self._issuer = issuer

    def get_issuer(self) -> str:
        """Return the issuer."""
        return self._issuer
