"""May the broker call this address, and what came of it? One bounded POST to a target's own endpoint, guarded against SSRF.

The name is resolved once; every address it has must be allowed, and the connection goes to exactly the one that was checked, so that a
second answer of the name server changes nothing. TLS with the system's anchors; plain HTTP only to this machine, and only where the
broker itself is on it. No redirects, no proxies, no cookies; what comes back is read in bounds and not shown to anybody.
"""

import http.client
import ipaddress
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from jitaccess.errors import JitError, Kind
from jitaccess.told import told

TIMEOUT_S = 5.0
MAX_ANSWER_BYTES = 4096
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class NotDelivered(Exception):
    """The call did not succeed; the message is a short code for the record, without anything the other side said."""


@dataclass(frozen=True, slots=True)
class Reach:
    """Where calls may go besides public addresses."""

    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    loopback: bool = False

    @classmethod
    def of(cls, networks: Sequence[str], *, loopback: bool) -> "Reach":
        """Read networks in CIDR form; raises CONFIGURATION."""
        try:
            return cls(tuple(ipaddress.ip_network(text) for text in networks), loopback)
        except ValueError as error:
            raise JitError(
                Kind.CONFIGURATION,
                told("outbound.networks: %(error)s. Write networks such as 10.20.0.0/16.", error=str(error)),
            ) from error

    def allows(self, text: str) -> bool:
        """Say whether an address may be called."""
        address: Address = ipaddress.ip_address(text.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address):
            inner = address.ipv4_mapped
            if inner is not None:
                address = inner
            elif address.sixtofour is not None or address.teredo is not None or address in _NAT64:
                return False  # an IPv4 address in disguise, whose end cannot be judged
        if any(address in network for network in self.networks if network.version == address.version):
            return True
        if address.is_loopback:
            return self.loopback
        return address.is_global and not address.is_multicast


class _Pinned(http.client.HTTPConnection):
    """A connection to an address that was checked, whatever its name resolves to by now."""

    def __init__(self, host: str, port: int, address: str, context: ssl.SSLContext | None) -> None:
        super().__init__(host, port, timeout=TIMEOUT_S)
        self._address = address
        self._tls = context

    def connect(self) -> None:
        """Connect; with TLS the certificate must be for the name."""
        plain = socket.create_connection((self._address, self.port), self.timeout)
        self.sock = plain if self._tls is None else self._tls.wrap_socket(plain, server_hostname=self.host)


def post_form(url: str, form: Mapping[str, str], reach: Reach) -> int:
    """POST a form and return the status; raises NotDelivered. Called outside any Tx."""
    return post(url, urlencode(form).encode(), {"Content-Type": "application/x-www-form-urlencoded"}, reach)


def post(url: str, body: bytes, headers: Mapping[str, str], reach: Reach) -> int:
    """POST a body and return the status; raises NotDelivered. Called outside any Tx."""
    parts = urlsplit(url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise NotDelivered("bad_address") from error
    host = parts.hostname or ""
    address = _resolve(host, port, reach)
    if parts.scheme == "https":
        context: ssl.SSLContext | None = ssl.create_default_context()
    elif parts.scheme == "http" and ipaddress.ip_address(address).is_loopback:
        context = None
    else:
        raise NotDelivered("not_https")
    path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
    connection = _Pinned(host, port, address, context)
    try:
        connection.request("POST", path, body, {"Accept": "*/*", "User-Agent": "jitaccess", **headers})
        with connection.getresponse() as response:
            response.read(MAX_ANSWER_BYTES)
            return response.status
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NotDelivered(type(error).__name__) from error
    finally:
        connection.close()


def _resolve(host: str, port: int, reach: Reach) -> str:
    """Return the first address of a name, all of whose addresses are allowed."""
    try:
        found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError) as error:
        raise NotDelivered("unknown_host") from error
    if not found or not all(reach.allows(address) for address in found):
        raise NotDelivered("address_not_allowed")
    return found[0]
