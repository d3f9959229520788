"""What has been done to JWTs? Every forgery that verifiers fell for, made from one good token and a key that signs for an attack.

For the broker's own tests and for `jitaccess dev check`, which tries them on an application; nothing that verifies imports this. The
forms cover the algorithm (none, HMAC with the public key, another curve), keys that a token brings or names (jwk, jku, x5u, x5c, kid),
critical headers, wrong types, serialisations with two signatures, and tokens cut or bent by a bit (R32, R33, T-20).
"""

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from joserfc import jws
from joserfc.jwk import ECKey

POLL_S = 0.02
"""How soon a listener notices that it is to stop."""


def b64u(raw: bytes) -> str:
    """Encode without padding."""
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and claims of a token, unverified."""
    head, body = (json.loads(base64.urlsafe_b64decode(part + "===")) for part in token.split(".")[:2])
    return head, body


def sign(key: ECKey, header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
    """Sign past every check: what a stolen signing oracle could make."""
    return sign_text(key, json.dumps(header), json.dumps(claims))


def sign_text(key: ECKey, header: str, claims: str) -> str:
    """Sign a header and claims as they stand."""
    text = f"{b64u(header.encode())}.{b64u(claims.encode())}"
    return f"{text}.{b64u(jws.JWSRegistry(algorithms=['ES256']).get_alg('ES256').sign(text.encode(), key))}"


NO_TOKENS = ("x", "a.b.c", "null", "e30.e30.", "%00", "A" * 9_000)
"""What is no token at all."""


def unsigned(claims: Mapping[str, Any]) -> str:
    """Return a token with these claims that nobody signed."""
    return f"{b64u(json.dumps({'alg': 'none', 'typ': 'at+jwt'}).encode())}.{b64u(json.dumps(claims).encode())}."


class Family(StrEnum):
    """Which mistake of a verifier a forgery is for."""

    UNSIGNED = "unsigned"
    PUBLIC_KEY_AS_SECRET = "public_key_as_secret"  # noqa: S105 - the name of an attack
    STRANGERS_KEY = "strangers_key"
    CRITICAL = "critical"
    OTHER_KIND = "other_kind"
    CUT = "cut"
    TWIN = "twin"
    ODD = "odd"
    """Signed with the true key, as no issuer would sign: not within anybody's reach, and refused all the same by the SDK."""


@dataclass(frozen=True, slots=True)
class Forgery:
    """One token that must not be accepted."""

    name: str
    text: str
    family: Family


@dataclass(slots=True)
class Listener:
    """Counts everybody who comes to fetch what a token named."""

    url: str
    asked: list[str] = field(default_factory=list)


@contextmanager
def listener(jwks: Mapping[str, Any]) -> Iterator[Listener]:
    """Serve an attacker's keys on loopback and note every request."""
    found = Listener("")

    class Noting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            body = json.dumps(jwks).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Noting)
    thread = threading.Thread(target=server.serve_forever, args=(POLL_S,), daemon=True)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_address[1]}/keys"
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def forgeries(good: str, key: ECKey, listening: str) -> list[Forgery]:
    """Return every forgery of a good token. `key` is the real private key, for attacks in which only the header or form is wrong;
    `listening` an address that a token may name."""
    head, body = parts(good)
    stranger = ECKey.generate_key("P-256", {"kid": head["kid"]})
    return [
        *_unsigned(good, head),
        *_public_key_as_secret(good, key, head),
        *_brought_keys(key, stranger, head, body, listening),
        *_headers(key, head, body),
        *_cut(good),
        *_twins(good, key, head, body),
        *_odd_texts(key, head, body),
    ]


def _unsigned(good: str, head: dict[str, Any]) -> Iterator[Forgery]:
    _, second, signature = good.split(".")
    for name in ("none", "None", "nOnE", "NONE", "", None):
        text = f"{b64u(json.dumps(head | {'alg': name}).encode())}.{second}."
        yield Forgery(f"alg {name!r} without a signature", text, Family.UNSIGNED)
    text = f"{b64u(json.dumps(head | {'alg': 'none'}).encode())}.{second}.{signature}"
    yield Forgery("alg none with the old signature", text, Family.UNSIGNED)


def _public_key_as_secret(good: str, key: ECKey, head: dict[str, Any]) -> Iterator[Forgery]:
    second = good.split(".")[1]
    for name, secret in _public_forms(key).items():
        for algorithm in ("HS256", "HS384", "HS512"):
            text = f"{b64u(json.dumps(head | {'alg': algorithm}).encode())}.{second}"
            mac = hmac.digest(secret, text.encode(), algorithm.replace("HS", "sha"))
            yield Forgery(f"{algorithm} with {name}", f"{text}.{b64u(mac)}", Family.PUBLIC_KEY_AS_SECRET)


def _public_forms(key: ECKey) -> dict[str, bytes]:
    public = key.as_dict(private=False)
    return {
        "the public key in PEM": key.as_pem(private=False),
        "the public key in DER": key.as_der(private=False),
        "the public JWK": json.dumps(public, separators=(",", ":"), sort_keys=True).encode(),
        "the key id": str(key.kid).encode(),
        "nothing": b"",
    }


def _brought_keys(
    key: ECKey, stranger: ECKey, head: dict[str, Any], body: dict[str, Any], listening: str
) -> Iterator[Forgery]:
    theirs = {**stranger.as_dict(private=False), "kid": head["kid"]}
    brought: dict[str, dict[str, Any]] = {
        "jwk": {"jwk": theirs},
        "jku": {"jku": listening},
        "x5u": {"x5u": listening},
        "x5c": {"x5c": [b64u(b"certificate")]},
        "x5t": {"x5t": b64u(hashlib.sha1(b"certificate", usedforsecurity=False).digest())},
        "kid as an address": {"kid": listening},
        "kid as a path": {"kid": "../../../../dev/null"},
        "kid as SQL": {"kid": "x' UNION SELECT 'y"},
        "kid missing": {"kid": None},
        "kid as a list": {"kid": [head["kid"]]},
    }
    for name, change in brought.items():
        header = {field: value for field, value in (head | change).items() if value is not None}
        yield Forgery(f"{name}, a stranger's signature", sign(stranger, header, body), Family.STRANGERS_KEY)
        if name in ("jwk", "jku", "x5u", "x5c", "kid missing", "kid as a list"):
            yield Forgery(f"{name}, the true signature", sign(key, header, body), Family.ODD)
    yield Forgery("a stranger's key under the true kid", sign(stranger, head, body), Family.STRANGERS_KEY)


def _headers(key: ECKey, head: dict[str, Any], body: dict[str, Any]) -> Iterator[Forgery]:
    critical: dict[str, dict[str, Any]] = {
        "crit exp": {"crit": ["exp"]},
        "crit b64": {"crit": ["b64"], "b64": False},
        "crit of nothing": {"crit": []},
        "crit unknown": {"crit": ["x"], "x": 1},
    }
    for name, change in critical.items():
        yield Forgery(name, sign(key, head | change, body), Family.CRITICAL)
    for typ in ("dpop+jwt", "secevent+jwt", "JOSE", 7):
        yield Forgery(f"typ {typ!r}", sign(key, head | {"typ": typ}, body), Family.OTHER_KIND)
    for name, change in {"zip": {"zip": "DEF"}, "cty": {"cty": "JWT"}}.items():
        yield Forgery(name, sign(key, head | change, body), Family.ODD)
    for algorithm in ("ES384", "ES512", "RS256", "PS256", "EdDSA", "Ed25519", "es256"):
        yield Forgery(f"alg {algorithm}", sign(key, head | {"alg": algorithm}, body), Family.ODD)


def _cut(good: str) -> Iterator[Forgery]:
    first, second, signature = good.split(".")
    texts = {
        "cut by a letter": good[:-1],
        "cut by a byte": good[:-2],
        "half a signature": f"{first}.{second}.{signature[:43]}",
        "no signature": f"{first}.{second}.",
        "two parts": f"{first}.{second}",
        "claims cut": f"{first}.{second[:-4]}.{signature}",
        "r and s zero": f"{first}.{second}.{b64u(bytes(64))}",
        "nothing": "",
        "very long": "x." * 9_000,
    }
    return (Forgery(name, text, Family.CUT) for name, text in texts.items())


def _twins(good: str, key: ECKey, head: dict[str, Any], body: dict[str, Any]) -> Iterator[Forgery]:
    """Give texts that a loose reader takes for the good token, though they are others."""
    first, second, signature = good.split(".")
    other = sign(key, head, body).rpartition(".")[2]
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    # The last letter of 64 bytes carries two bits that mean nothing: another letter there is another text for the same bytes.
    twin = signature[:-1] + letters[letters.index(signature[-1]) ^ 1]
    general = {
        "payload": second,
        "signatures": [{"protected": first, "signature": signature}, {"protected": first, "signature": other}],
    }
    texts = {
        "four parts": f"{good}.{other}",
        "five parts": f"{good}.{second}.{signature}",
        "a dot more": f"{good}.",
        "padding": f"{first}.{second}.{signature}==",
        "a space": f"{good} ",
        "a line": f"{first}.\n{second}.{signature}",
        "the same signature in other letters": f"{first}.{second}.{twin}",
        "two signatures, general JSON": json.dumps(general),
        "one signature, flattened JSON": json.dumps({"payload": second, "protected": first, "signature": signature}),
    }
    return (Forgery(name, text, Family.TWIN) for name, text in texts.items())


def _odd_texts(key: ECKey, head: dict[str, Any], body: dict[str, Any]) -> Iterator[Forgery]:
    spoken_twice = json.dumps(head)[:-1] + ', "alg": "none"}'
    claim_twice = json.dumps(body)[:-1] + ', "iss": "https://evil.example"}'
    texts = {
        "alg said twice": sign_text(key, spoken_twice, json.dumps(body)),
        "a claim said twice": sign_text(key, json.dumps(head), claim_twice),
        "claims that are a list": sign_text(key, json.dumps(head), "[]"),
        "claims that are no JSON": sign_text(key, json.dumps(head), '{"exp": NaN}'),
    }
    return (Forgery(name, text, Family.ODD) for name, text in texts.items())
