"""How does Authlib see a registered target? An adapter over `broker.clients`; registering is `add_client`, from there."""

from dataclasses import dataclass

from jitaccess.broker.clients import AuthMethod, ClientFacts, add_client
from jitaccess.broker.sign_ins import disable_client

__all__ = ["SCOPES", "OAuthClient", "add_client", "disable_client"]
SCOPES = ("openid", "profile")
GRANT_TYPES = frozenset({"authorization_code", "refresh_token"})


@dataclass(frozen=True, slots=True)
class OAuthClient:
    """What Authlib asks a client (its `ClientMixin`, without inheritance)."""

    facts: ClientFacts

    @property
    def client_id(self) -> str:
        """Return the id."""
        return self.facts.id

    def get_client_id(self) -> str:
        """Return the id."""
        return self.facts.id

    def get_default_redirect_uri(self) -> None:
        """There is none: every request names its address."""
        return

    def get_allowed_scope(self, scope: str | None) -> str:
        """Return what is asked for and known, in our order; what is unknown is left out (RFC 6749 section 3.3)."""
        asked = set((scope or "").split())
        return " ".join(name for name in SCOPES if name in asked)

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        """Compare exactly, as text (R37)."""
        return redirect_uri in self.facts.redirect_uris

    def check_client_secret(self, client_secret: str) -> bool:
        """Compare in constant time."""
        return self.facts.knows_secret(client_secret)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        """A client has one method, for every endpoint."""
        return AuthMethod(self.facts.method).value == method

    def check_response_type(self, response_type: str) -> bool:
        """Only the code flow."""
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        """Code and refresh."""
        return grant_type in GRANT_TYPES
