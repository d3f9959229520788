"""Who signs a developer's test tokens? An issuer of the developer's own: a key in a folder, tokens, and a list of those that ended.

Its name is an address of this machine's loopback that ends in `never-trusted`, as does every key id: no broker signs with such a key and no
target outside of this machine could fetch it. What ended is a file of the folder, so that every command sees the same.
"""

import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from jitaccess.sdk.mark import MARK
from jitaccess.sdk.status import pack
from jitaccess.sdk.tokens import DETAILS_TYPE, MAX_LIFE_S, Inputs

LIST_BITS = 2**16
LIST_LIFE_S = 60
LIST_TTL_S = 5
STATUS_PATH = "/oidc/status/dev"
_KEY, _ENDED = "key.json", "ended"


class NoIssuer(Exception):
    """The folder cannot be used; the message is one sentence for the developer."""


@dataclass(frozen=True, slots=True)
class DevIssuer:
    """Mints tokens that only an application set up for it accepts."""

    folder: Path
    port: int
    key: ECKey = field(repr=False)

    @classmethod
    def open(cls, folder: Path, port: int) -> "DevIssuer":
        """Take the key of a folder, or make folder and key; raises NoIssuer."""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (folder / ".gitignore").write_text("*\n")
            return cls(folder, port, _key(folder / _KEY))
        except (OSError, ValueError, JoseError) as error:
            raise NoIssuer(f"Cannot use {folder} for a test key: {error}.") from error

    @property
    def issuer(self) -> str:
        """Return the `iss` of its tokens."""
        return f"http://127.0.0.1:{self.port}/{MARK}"

    @property
    def list_uri(self) -> str:
        """Return the address of its one status list."""
        return f"{self.issuer}{STATUS_PATH}"

    def jwks(self) -> dict[str, Any]:
        """Return its public key as a JWK Set."""
        public = self.key.as_dict(private=False)
        return {"keys": [{**public, "kid": str(self.key.kid), "use": "sig", "alg": "ES256"}]}

    def metadata(self) -> dict[str, str]:
        """Return what discovery tells of it: where keys and lists are, and nothing to sign in with."""
        return {
            "issuer": self.issuer,
            "jwks_uri": f"{self.issuer}/.well-known/jwks.json",
            "status_list_aggregation_endpoint": f"{self.issuer}/oidc/status",
        }

    def claims(
        self,
        *,
        audience: str,
        target: str,
        entitlement: str,
        now: float,
        inputs: Inputs | None = None,
        life_s: int = 300,
    ) -> dict[str, Any]:
        """Return the claims of a good token, as a broker words them; `life_s` is 1 to 900."""
        begins, life_s = int(now), min(max(life_s, 1), MAX_LIFE_S)
        grant = f"dev-{uuid.uuid4().hex}"
        details = {
            "type": DETAILS_TYPE,
            "target": target,
            "entitlement": entitlement,
            "inputs": dict(inputs or {}),
            "grant": grant,
            "ends_at": begins + life_s,
        }
        return {
            "iss": self.issuer,
            "aud": audience,
            "sub": "dev-person",
            "client_id": "dev-client",
            "jti": f"dev-{uuid.uuid4().hex}",
            "iat": begins,
            "nbf": begins,
            "exp": begins + life_s,
            "auth_time": begins,
            "acr": "phrh",
            "amr": ["hwk", "user"],
            "scope": "openid",
            "authorization_details": [details],
            "status": {"status_list": {"idx": self._free_bit(), "uri": self.list_uri}},
        }

    def mint(self, claims: Mapping[str, Any], *, typ: str = "at+jwt") -> str:
        """Sign claims as a JWT of one kind."""
        header = {"alg": "ES256", "typ": typ, "kid": str(self.key.kid)}
        return jwt.encode(header, dict(claims), self.key, algorithms=["ES256"])

    def status_list(self, now: float) -> str:
        """Return the list of what has ended, signed; it lives a minute."""
        begins = int(now)
        claims = {
            "iss": self.issuer,
            "sub": self.list_uri,
            "iat": begins,
            "exp": begins + LIST_LIFE_S,
            "ttl": LIST_TTL_S,
            "status_list": {"bits": 1, "lst": pack(self.ended(), LIST_BITS)},
        }
        return self.mint(claims, typ="statuslist+jwt")

    def end(self, claims: Mapping[str, Any]) -> None:
        """Let a token of this issuer end now; raises NoIssuer for one of another."""
        match claims.get("status"):
            case {"status_list": {"idx": int(index), "uri": self.list_uri}} if 0 <= index < LIST_BITS:
                with (self.folder / _ENDED).open("a") as file:
                    file.write(f"{index}\n")
            case _:
                raise NoIssuer("This token names no status list of this issuer.")

    def ended(self) -> set[int]:
        """Return the bits of what has ended."""
        file = self.folder / _ENDED
        lines = file.read_text().split() if file.exists() else []
        return {int(line) for line in lines if line.isdigit() and int(line) < LIST_BITS}

    def _free_bit(self) -> int:
        """Return a bit by chance that nothing ended on; two tokens of one developer hardly ever share one."""
        ended = self.ended()
        while (index := uuid.uuid4().int % LIST_BITS) in ended:
            if len(ended) >= LIST_BITS:
                raise NoIssuer(f"Everything in {self.folder / _ENDED} has ended: remove that file.")
        return index


def _key(file: Path) -> ECKey:
    if not file.exists():
        fresh = ECKey.generate_key("P-256")
        kid = f"{MARK}-{fresh.thumbprint()[:16]}"
        text = json.dumps({**fresh.as_dict(private=True), "kid": kid})
        # Made for the owner alone from the first byte on.
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(text)
    found = ECKey.import_key(json.loads(file.read_text()))
    if not found.is_private or not str(found.kid).startswith(MARK):
        raise ValueError(f"{file} holds no private key of this issuer")
    return found
