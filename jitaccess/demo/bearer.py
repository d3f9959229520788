"""Is one and the same token good, and later not? A second application of the treasury's, which keeps its token in its hand.

The treasury itself never shows a token to anybody. This one runs the same code flow with a client of its own, and then asks with
that very token: introspection, the SDK's verifier with the status list, and the SDK's verifier that introspects.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2

from jitaccess.demo.staff import Staff
from jitaccess.errors import JitError, Kind
from jitaccess.sdk import ClientSecret, FetchedKeys, IntrospectionCheck, StatusCheck, TokenRefused, Verifier
from jitaccess.store.ids import new_secret


@dataclass(slots=True)
class Bearer:
    """An application that holds a token."""

    issuer: str
    audience: str
    callback: str
    credential: ClientSecret
    http: httpx2.Client
    token: str = field(default="", repr=False)

    def fetch(self, person: Staff) -> None:
        """Let a person open the target for this application, and keep the access token; raises CONFLICT with the step that failed."""
        verifier = new_secret()
        query = urlencode(
            {
                "response_type": "code",
                "client_id": self.credential.client_id,
                "redirect_uri": self.callback,
                "scope": "openid",
                "state": new_secret(),
                "nonce": new_secret(),
                "code_challenge": _s256(verifier),
                "code_challenge_method": "S256",
            }
        )
        page = person.get(f"{self.issuer}/oidc/authorize?{query}")
        grant = re.search(r'data-grant="([0-9a-v]{26})"', page.text)
        if grant is None:
            raise _failed("the page offers no access", page.text)
        confirmed = person.ceremony("/oidc/authorize", {"query": query, "grant_id": grant.group(1)})
        if confirmed.status != 200:
            raise _failed("the passkey was not taken", confirmed.text)
        code = parse_qs(urlsplit(str(confirmed.body["redirect"])).query)["code"][0]
        answer = self._ask(
            "/oidc/token",
            {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": self.callback,
                "code_verifier": verifier,
            },
        )
        if answer.status_code != 200:
            raise _failed("no token was given", answer.text)
        self.token = str(answer.json()["access_token"])

    def expires_at(self) -> int:
        """Return when the token itself ends, in seconds since the epoch, as its text says."""
        part = self.token.split(".")[1]
        claims: Mapping[str, object] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        return int(str(claims["exp"]))

    def introspected(self) -> bool:
        """Say whether the broker calls the token active."""
        return self._ask("/oidc/introspect", {"token": self.token}).json().get("active") is True

    def refusals(self) -> Mapping[str, str]:
        """Verify the token with the SDK anew, once by the status list and once by introspection: how -> code, or nothing."""
        keys = FetchedKeys(self.issuer)
        ways = {
            "status list": Verifier(self.issuer, self.audience, keys, status=StatusCheck(self.issuer, keys)),
            "introspection": Verifier(
                self.issuer,
                self.audience,
                keys,
                status=None,
                introspect=IntrospectionCheck(f"{self.issuer}/oidc/introspect", self.credential, max_age_s=0),
            ),
        }
        return {name: self._refusal(verifier) for name, verifier in ways.items()}

    def _refusal(self, verifier: Verifier) -> str:
        try:
            verifier.verify(self.token)
        except TokenRefused as refused:
            return refused.code
        return ""

    def _ask(self, path: str, form: Mapping[str, str]) -> httpx2.Response:
        headers, fields = self.credential.prove()
        return self.http.post(f"{self.issuer}{path}", headers=dict(headers), data={**fields, **form})


def _s256(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def _failed(step: str, text: str) -> JitError:
    return JitError(Kind.CONFLICT, f"The second application got no token: {step} ({text[:200]}).")
