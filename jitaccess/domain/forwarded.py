"""What is a reverse proxy asking about? One request of somebody else's, read from one header convention and nothing else.

Whoever may be understood in two ways is refused (R41, R44): a header that is missing, stands twice or contradicts another; a path that
two servers could read differently (dot segments, encoded slashes, `//`, `;`, NUL, a fragment, anything but printable ASCII and, once
decoded, UTF-8). The proxy and the backend read the address for themselves; a check of another reading would be worth nothing
(CVE-2026-40575, CVE-2026-33494).
One thing cannot be seen from here: WSGI gives `X-Forwarded_Uri` and `X-Forwarded-Uri` one name (PEP 3333), and the later one wins. Only the
proxy can take such twins away, and the shipped configurations do.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType

HEADERS = ("X-Jit-User", "X-Jit-Target", "X-Jit-Entitlement", "X-Jit-Grant", "X-Jit-Ends-At", "X-Jit-Token")
"""What a backend may read; on every answer, so that a proxy that copies them always overwrites what a client sent."""
APP_COOKIE = "__Host-jit-app"
METHOD, PROTO, HOST, URI = "x-forwarded-method", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-uri"
CONVENTION = (METHOD, PROTO, HOST, URI)
CONFLICTING = frozenset({"forwarded", "x-original-url", "x-original-uri", "x-original-method", "x-rewrite-url"})
"""Other ways to say the same; a request that carries one could be read by somebody in another way."""
FOREIGN_NAMES = (
    *(f"X-Forwarded-{name}" for name in ("User", "Email", "Groups", "Preferred-Username", "Access-Token", "Id-Token")),
    *(f"X-Auth-Request-{name}" for name in ("User", "Email", "Groups", "Preferred-Username", "Access-Token", "Redirect")),
    *(f"Remote-{name}" for name in ("User", "Name", "Email", "Groups")),
    *(f"X-Remote-{name}" for name in ("User", "Group", "Groups", "Email")),
    *(f"X-Authentik-{name}" for name in ("Username", "Groups", "Email", "Name", "Uid", "Jwt")),
    *(f"X-Pomerium-{name}" for name in ("Claim-Email", "Claim-Groups", "Jwt-Assertion")),
    *(f"X-Goog-{name}" for name in ("Authenticated-User-Email", "Authenticated-User-Id", "Iap-Jwt-Assertion")),
    *(f"Cf-Access-{name}" for name in ("Authenticated-User-Email", "Jwt-Assertion")),
    *(f"X-Ms-{name}" for name in ("Client-Principal", "Client-Principal-Name", "Client-Principal-Id")),
    *(f"X-Amzn-Oidc-{name}" for name in ("Identity", "Data", "Accesstoken")),
    "X-Webauth-User", "X-Authenticated-User", "X-User", "X-Username", "X-Email", "X-Client-Cert", "Ssl-Client-Cert",
    "X-Forwarded-Client-Cert", "X-Ssl-Client-Cert", "X-Ssl-Client-S-Dn", "X-Ssl-Client-Verify", "Proxy",
)  # fmt: skip
"""How other proxies say who one is (oauth2-proxy, Authelia, authentik, Pomerium and the clouds'). An application that once stood behind
one of them may believe such a header still, so the shipped configurations take a client's away; `Proxy` is httpoxy (CVE-2016-5385)."""
MAX_URI = 4096
_METHOD = re.compile(r"\A[A-Z]{3,20}\Z")
_HOST = re.compile(
    r"\A[a-z0-9](?:[a-z0-9-]{0,62})(?:\.[a-z0-9](?:[a-z0-9-]{0,62}))*(?::[1-9][0-9]{0,4})?\Z", re.IGNORECASE
)
_ESCAPE = re.compile(r"%(.{0,2})")
_OCTET = re.compile(rb"%([0-9A-Fa-f]{2})")
_HEX = re.compile(r"\A[0-9A-Fa-f]{2}\Z")
_NEVER_ESCAPED = frozenset({"2f", "5c", "2e", "25", "3b", "23", "3f"}) | {f"{code:02x}" for code in (*range(32), 127)}
"""Slash, backslash, dot, per cent, semicolon, number sign, question mark and control characters."""
_STANDARD_PORT: Mapping[str, str] = MappingProxyType({"http": ":80", "https": ":443"})


@dataclass(frozen=True, slots=True)
class Forwarded:
    """A request that reads in one way only."""

    method: str
    origin: str
    """`scheme://host[:port]`, in lower case, without the scheme's own port."""
    uri: str
    """Path and query, as sent."""


@dataclass(frozen=True, slots=True)
class Unclear:
    """Why it does not; for the broker's log, never for the client."""

    reason: str


def spellings(name: str) -> list[str]:
    """Return a name with every choice of `-` and `_`: WSGI, CGI and many backends read them all alike."""
    first, *rest = name.split("-")
    return ["".join((first, *several)) for several in product(*((f"-{part}", f"_{part}") for part in rest))]


def read_forwarded(headers: Iterable[tuple[str, str]]) -> Forwarded | Unclear:
    """Read the request behind a proxy's question from the headers of the question, all of them."""
    found: dict[str, str] = {}
    for name, value in headers:
        key = name.lower()
        if key in CONFLICTING:
            return Unclear(f"conflicting {key}")
        if key in CONVENTION:
            if key in found:
                return Unclear(f"repeated {key}")
            found[key] = value
    missing = [name for name in CONVENTION if not found.get(name)]
    if missing:
        return Unclear(f"missing {missing[0]}")
    method, scheme, host, uri = (found[name] for name in CONVENTION)
    if not _METHOD.match(method):
        return Unclear("method")
    origin = read_origin(scheme, host)
    if isinstance(origin, Unclear):
        return origin
    reason = unclear_uri(uri)
    if reason is not None:
        return Unclear(reason)
    return Forwarded(method, origin, uri)


def read_origin(scheme: str, host: str) -> str | Unclear:
    """Return `scheme://host[:port]` as an application is registered and found by: in lower case, without the scheme's own port.

    The one reader of both: an address that this does not return as it stands is matched by no request.
    """
    if scheme not in _STANDARD_PORT:
        return Unclear("proto")
    if not _HOST.match(host) or len(host) > 253:
        return Unclear("host")
    return f"{scheme}://{host.lower().removesuffix(_STANDARD_PORT[scheme])}"


def unclear_uri(uri: str) -> str | None:
    """Say why a path with its query could be read in two ways; None when it cannot."""
    if not uri.startswith("/") or len(uri) > MAX_URI or not uri.isascii() or not uri.isprintable() or " " in uri:
        return "uri is not one printable path"
    if "#" in uri or "\\" in uri:
        return "uri has a fragment or a backslash"
    if re.search(r",\s*/", uri):
        return "uri may be two"  # how servers join a header that was sent twice (RFC 9110 section 5.3)
    path, _, query = uri.partition("?")
    if "//" in path or ";" in path or {".", ".."} & set(path.split("/")):
        return "path has an empty or dot segment or a parameter"
    for part, forbidden in ((path, _NEVER_ESCAPED), (query, frozenset[str]())):
        for escape in _ESCAPE.findall(part):
            if not _HEX.match(escape) or escape.lower() in forbidden:
                return "uri has an escape that is read in different ways"
    try:
        _OCTET.sub(lambda octet: bytes([int(octet[1], 16)]), path.encode()).decode()
    except UnicodeDecodeError:  # such as %c0%ae, which some decoders take for a dot (RFC 3629 section 10)
        return "path is no UTF-8"
    return None
