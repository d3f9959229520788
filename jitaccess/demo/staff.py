"""A member of staff at a keyboard: a real HTTP client with a software passkey.

Speaks only to the JSON API and the OIDC pages that a browser would use, over real sockets. It keeps its own cookies, because
`Secure` cookies are not sent to http by ordinary client libraries while browsers do send them to localhost.
"""

import re
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx2

from jitaccess.demo.soft_passkey import SoftPasskey

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    body: Json
    text: str
    location: str

    @property
    def code(self) -> str:
        """Return the problem code, or nothing."""
        return str(self.body.get("code", ""))

    @property
    def detail(self) -> str:
        """Return the sentence for people, or nothing."""
        return str(self.body.get("detail", ""))


@dataclass(slots=True)
class Staff:
    """One person with one passkey and one browser."""

    name: str
    base: str
    """The broker's origin, `http://localhost:8000`."""
    passkey: SoftPasskey
    http: httpx2.Client
    cookies: dict[str, dict[str, str]] = field(default_factory=dict)
    """Host and port -> cookies; a real browser shares them between ports, two names never clash here."""

    # -- plain HTTP

    def send(self, method: str, url: str, *, body: Json | None = None, form: Json | None = None) -> Answer:
        """Send one request as a browser would, without following redirects."""
        parts = urlsplit(urljoin(self.base, url))
        place = parts.netloc
        headers = {"Sec-Fetch-Site": "same-origin"}
        if method != "GET":
            headers["Origin"] = f"{parts.scheme}://{parts.netloc}"
        jar = self.cookies.setdefault(place, {})
        if jar:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in jar.items())
        response = self.http.request(method, parts.geturl(), headers=headers, json=body, data=form)
        for line in response.headers.get_list("set-cookie"):
            for name, morsel in SimpleCookie(line).items():
                if morsel.value and morsel["max-age"] != "0":
                    jar[name] = morsel.value
                else:
                    jar.pop(name, None)
        is_json = "json" in response.headers.get("content-type", "")
        found = response.json() if is_json else {}
        return Answer(
            response.status_code,
            found if isinstance(found, dict) else {"list": found},
            response.text,
            response.headers.get("location", ""),
        )

    def get(self, url: str) -> Answer:
        """GET without following redirects."""
        return self.send("GET", url)

    def post(self, url: str, body: Json | None = None) -> Answer:
        """POST a JSON body."""
        return self.send("POST", url, body=body or {})

    # -- ceremonies

    def ceremony(self, path: str, body: Json | None = None) -> Answer:
        """Begin a ceremony at `<path>/begin`, answer it with the passkey at `<path>/complete`; stop at the first refusal."""
        begun = self.post(f"{path}/begin", body)
        if begun.status != 200:
            return begun
        return self.post(
            f"{path}/complete",
            {"challenge_id": begun.body["challenge_id"], "response": self.passkey.get(begun.body["options"])},
        )

    def enrol(self, link: str) -> Answer:
        """Use an enrolment link: make the passkey and register it."""
        token = link.rstrip("/").rsplit("/", 1)[-1]
        begun = self.post("/api/enrol/begin", {"token": token})
        if begun.status != 200:
            return begun
        return self.post(
            "/api/enrol/complete",
            {
                "challenge_id": begun.body["challenge_id"],
                "response": self.passkey.create(begun.body["options"]),
                "name": "Software passkey",
                "token": token,
            },
        )

    def sign_in(self) -> Answer:
        """Sign in with the discoverable passkey."""
        return self.ceremony("/api/sign-in")

    def ask(self, target: str, entitlement: str, *, duration_s: int, reason: str, inputs: Json | None = None) -> Answer:
        """File a request: sign the filing statement."""
        return self.ceremony(
            "/api/requests",
            {
                "target": target,
                "entitlement": entitlement,
                "inputs": inputs or {},
                "duration_s": duration_s,
                "reason": reason,
            },
        )

    def approve(self, request_id: str) -> Answer:
        """Open the link's page and sign the exact request."""
        page = self.get(f"/approvals/{request_id}")
        if page.status != 200:
            return page
        return self.ceremony(f"/api/requests/{request_id}/approval", {"verdict": "approve"})

    # -- the target

    def open_target(self, start: str) -> Answer:
        """Click "Open": start at the target, confirm at the broker with the passkey, come back with a code.

        Returns the target's last answer, or the broker's refusal.
        """
        begun = self.get(start)
        if begun.status not in (302, 303):
            return begun
        authorize = begun.location
        page = self.get(authorize)
        if page.status != 200:
            return page
        query = urlsplit(authorize).query
        grant = re.search(r'data-grant="([0-9a-v]{26})"', page.text)
        if grant is None:
            return page
        confirmed = self.ceremony("/oidc/authorize", {"query": query, "grant_id": grant.group(1)})
        if confirmed.status != 200:
            return confirmed
        back = self.get(str(confirmed.body["redirect"]))
        return self.get(urljoin(start, back.location)) if back.status in (302, 303) else back

    def release(self, treasury: str, order: str) -> Answer:
        """Press "release" in the treasury, with its page's own form token."""
        page = self.get(f"{treasury}/")
        found = re.search(r'name="csrf" value="([^"]+)"', page.text)
        token = found.group(1) if found else ""
        return self.send("POST", f"{treasury}/orders/{order}/release", form={"csrf": token})
