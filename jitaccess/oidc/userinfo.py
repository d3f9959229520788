"""Who is it that was let in? The UserInfo endpoint (OpenID Connect Core section 5.3, RFC 6750).

The bearer token is the access token that the client got for its target; it must be good at this moment, by the same check that
introspection makes. The answer repeats what the ID token said and nothing more.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from jitaccess.broker import verify
from jitaccess.broker.context import Broker
from jitaccess.identity.people import register
from jitaccess.proof.canonical import JsonValue
from jitaccess.sdk import TokenRefused
from jitaccess.sdk.signed import Signed, text_of
from jitaccess.sdk.tokens import ACCESS_TYPES
from jitaccess.store.db import SealBroken

REALM = 'Bearer realm="jitaccess"'


@dataclass(frozen=True, slots=True)
class BearerError:
    """A refusal as RFC 6750 section 3 wants it; `code` is None when there was no token at all."""

    status: int
    code: str | None
    description: str = ""

    def challenge(self) -> str:
        """Return the WWW-Authenticate header."""
        if self.code is None:
            return REALM
        return f'{REALM}, error="{self.code}", error_description="{self.description}"'


def bearer(authorization: str | None, form: Mapping[str, str] | None) -> str | BearerError:
    """Return the token of a request: from the header or, in a form, from the body; never from the address, never twice."""
    in_body = None if form is None else form.get("access_token")
    if authorization is None:
        return in_body or BearerError(401, None)
    scheme, _, token = authorization.partition(" ")
    if in_body is not None or scheme.lower() != "bearer" or not token:
        return BearerError(400, "invalid_request", "Send one bearer token, in one place.")
    return token


def claims(broker: Broker, token: str) -> dict[str, JsonValue] | BearerError:
    """Return the claims about the person of a good access token with the scope openid."""
    wrong = BearerError(401, "invalid_token", "This token is not good now.")
    try:
        with broker.read() as view:
            broker.keyring.refresh(view)  # another process may have retired the key that signed
            signed = Signed(broker.keyring.token_keys().get).claims(token, ACCESS_TYPES)
            answer = verify.introspect(view, broker, text_of(signed, "client_id"), token)
            if answer["active"] is not True or answer["client_id"] != signed["client_id"]:
                return wrong
            scopes = str(answer["scope"]).split()
            if "openid" not in scopes:
                return BearerError(403, "insufficient_scope", "This token was not asked for with the scope openid.")
            person = str(answer["sub"])
            found: dict[str, JsonValue] = {"sub": person}
            if "profile" in scopes:
                found["name"] = register(view).persons[person].name
            return found
    except (TokenRefused, SealBroken):
        return wrong
