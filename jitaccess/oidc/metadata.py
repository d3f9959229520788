"""Where is what, and which keys verify? Discovery (OpenID Connect Discovery, RFC 8414) and the JWK Set."""

from jitaccess.broker.context import Broker
from jitaccess.oidc.clients import SCOPES
from jitaccess.oidc.provider import ACR_HARDWARE, ACR_SYNCED
from jitaccess.proof.canonical import JsonValue
from jitaccess.sdk.tokens import DETAILS_TYPE


def metadata(broker: Broker) -> dict[str, JsonValue]:
    """Return the metadata document: only what is so."""
    issuer = broker.site.origin
    methods: list[JsonValue] = ["private_key_jwt", "client_secret_basic"]
    found: dict[str, JsonValue] = {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/oidc/authorize",
        "token_endpoint": f"{issuer}/oidc/token",
        "userinfo_endpoint": f"{issuer}/oidc/userinfo",
        "introspection_endpoint": f"{issuer}/oidc/introspect",
        "revocation_endpoint": f"{issuer}/oidc/revoke",
        "end_session_endpoint": f"{issuer}/oidc/logout",
        "backchannel_logout_supported": True,
        "backchannel_logout_session_supported": True,
        "status_list_aggregation_endpoint": f"{issuer}/oidc/status",
        "jwks_uri": f"{issuer}/.well-known/jwks.json",
        "scopes_supported": [*SCOPES],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "code_challenge_methods_supported": ["S256"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "acr_values_supported": [ACR_HARDWARE, ACR_SYNCED],
        "prompt_values_supported": ["none", "login", "consent", "select_account"],
        "claims_supported": [
            "iss",
            "sub",
            "aud",
            "exp",
            "iat",
            "sid",
            "nonce",
            "at_hash",
            "auth_time",
            "acr",
            "amr",
            "name",
        ],
        "authorization_details_types_supported": [DETAILS_TYPE],
        "authorization_response_iss_parameter_supported": True,
        "claims_parameter_supported": False,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
    }
    for endpoint in ("token", "introspection", "revocation"):
        found[f"{endpoint}_endpoint_auth_methods_supported"] = methods
        found[f"{endpoint}_endpoint_auth_signing_alg_values_supported"] = ["ES256"]
    return found
