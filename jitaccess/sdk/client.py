"""How does a target prove to the broker that it is that target? Client authentication (RFC 6749 section 2.3.1, RFC 7523).

Prefer `ClientKey`: the private key never leaves the target. A `ClientSecret` is sent only in the Authorization header.
"""

import base64
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import quote_plus

from joserfc import jwt
from joserfc.jwk import ECKey

from jitaccess.sdk.wall import wall_time

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_LIFE_S = 60


class ClientCredential(Protocol):
    """What a target authenticates with."""

    @property
    def client_id(self) -> str:
        """Return the id under which the broker knows this target."""
        ...

    def prove(self) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """Return (headers, form fields) to add to one request; made anew for each."""
        ...


@dataclass(frozen=True, slots=True)
class ClientSecret:
    """`client_secret_basic`."""

    client_id: str
    secret: str = field(repr=False)

    def prove(self) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """Return the Authorization header (RFC 6749 section 2.3.1: both parts form-encoded)."""
        pair = f"{quote_plus(self.client_id)}:{quote_plus(self.secret)}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}, {}


@dataclass(frozen=True, slots=True)
class ClientKey:
    """`private_key_jwt` with an ES256 key. `audience` is the issuer."""

    client_id: str
    key: ECKey = field(repr=False)
    audience: str
    clock: Callable[[], float] = wall_time

    def prove(self) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """Return a fresh one-use assertion that lives a minute."""
        now = int(self.clock())
        header = {"alg": "ES256", "typ": "JWT", **({"kid": self.key.kid} if self.key.kid else {})}
        claims = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": self.audience,
            "iat": now,
            "exp": now + ASSERTION_LIFE_S,
            "jti": uuid.uuid4().hex,
        }
        assertion = jwt.encode(header, claims, self.key, algorithms=["ES256"])
        return {}, {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
