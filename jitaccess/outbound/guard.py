"""May the broker call this address, and what came of it? One bounded call of a target's own endpoint, guarded against SSRF.

The name is resolved once; every address it has must be allowed, and the connection goes to exactly the one that was checked, so that a
second answer of the name server changes nothing. TLS with the system's anchors or configured ones; plain HTTP only to this machine, and
only where the broker itself is on it. No redirects, no proxies, no cookies. What comes back is read in bounds: of size, of each wait,
and of the whole call, so that an answer that drips holds nobody.
"""

import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from jitaccess.errors import JitError, Kind
from jitaccess.told import told

TIMEOUT_S = 5.0
"""How long a connection, and each wait for bytes, may take."""
WHOLE_LIMIT_S = 10.0
MAX_ANSWER_BYTES = 4096
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class NotDelivered(Exception):
    """The call did not succeed; the message is a short code for the record, without anything the other side said.

    `begun`: whether a byte of the request may have left; where it is False the other side proves to know nothing.
    """

    def __init__(self, code: str, *, begun: bool = True) -> None:
        super().__init__(code)
        self.begun = begun


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


@dataclass(frozen=True, slots=True)
class Answer:
    """What the other side said; nobody has judged it yet."""

    status: int
    content_type: str
    """Without parameters, in lower case."""
    unverified_body: bytes
    location: str = ""
    """Where a redirect would lead; nobody follows it."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much patience a call has, and whom it believes."""

    wait_s: float = TIMEOUT_S
    whole_s: float = WHOLE_LIMIT_S
    answer_bytes: int = MAX_ANSWER_BYTES
    root_ca: str = ""
    """File with the authorities that may sign the server's certificate; empty: the system's."""


ORDINARY = Bounds()


class _Pinned(http.client.HTTPConnection):
    """A connection to an address that was checked, whatever its name resolves to by now."""

    def __init__(self, host: str, port: int, address: str, context: ssl.SSLContext | None, wait_s: float) -> None:
        super().__init__(host, port, timeout=wait_s)
        self.too_slow = False
        self._address = address
        self._tls = context

    def connect(self) -> None:
        """Connect; with TLS the certificate must be for the name."""
        plain = socket.create_connection((self._address, self.port), self.timeout)
        try:
            self.sock = plain if self._tls is None else self._tls.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise

    def shut(self) -> None:
        """Break the connection under a caller that waits on it; what it had read by then looks like a whole answer, and is none."""
        self.too_slow = True
        with suppress(OSError, AttributeError):
            self.sock.shutdown(socket.SHUT_RDWR)


def post_form(url: str, form: Mapping[str, str], reach: Reach) -> int:
    """POST a form and return the status; raises NotDelivered. Called outside any Tx."""
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return call(url, urlencode(form).encode(), headers, reach).status


def post(url: str, body: bytes, headers: Mapping[str, str], reach: Reach) -> int:
    """POST a body and return the status; raises NotDelivered. Called outside any Tx."""
    return call(url, body, headers, reach).status


def get(url: str, headers: Mapping[str, str], reach: Reach, bounds: Bounds = ORDINARY) -> Answer:
    """GET an address and return what came back, as `call` does; raises NotDelivered. Called outside any Tx."""
    return call(url, None, headers, reach, bounds)


def call(url: str, body: bytes | None, headers: Mapping[str, str], reach: Reach, bounds: Bounds = ORDINARY) -> Answer:
    """POST a body, or GET where there is none, and return what came back, never more than `answer_bytes` of it; raises NotDelivered.

    Called outside any Tx. A longer body is cut off by one byte beyond the limit, so that the caller can tell. No status is an error here.
    """
    connection, path = _prepared(url, reach, bounds)
    watch = threading.Timer(bounds.whole_s, connection.shut)
    watch.daemon = True
    watch.start()
    try:
        try:
            connection.connect()
        except (OSError, ValueError) as error:
            raise NotDelivered(type(error).__name__, begun=False) from error
        sent = {"Accept": "*/*", "User-Agent": "jitaccess", **headers}
        connection.request("GET" if body is None else "POST", path, body, sent)
        with connection.getresponse() as response:
            kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            location = response.headers.get("Location", "")
            answer = Answer(response.status, kind, response.read(bounds.answer_bytes + 1), location)
        if connection.too_slow:
            raise NotDelivered("too_slow")
        return answer
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NotDelivered(type(error).__name__) from error
    finally:
        watch.cancel()
        connection.close()


def _prepared(url: str, reach: Reach, bounds: Bounds) -> tuple[_Pinned, str]:
    """Return a connection that is not open yet, to an address that may be called, and the path; raises NotDelivered."""
    parts = urlsplit(url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise NotDelivered("bad_address", begun=False) from error
    host = parts.hostname or ""
    address = _resolve(host, port, reach)
    if parts.scheme == "https":
        try:
            context: ssl.SSLContext | None = ssl.create_default_context(cafile=bounds.root_ca or None)
        except OSError as error:
            raise NotDelivered("no_root_ca", begun=False) from error
    elif parts.scheme == "http" and ipaddress.ip_address(address).is_loopback:
        context = None
    else:
        raise NotDelivered("not_https", begun=False)
    path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
    return _Pinned(host, port, address, context, bounds.wait_s), path


def _resolve(host: str, port: int, reach: Reach) -> str:
    """Return the first address of a name, all of whose addresses are allowed."""
    try:
        found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError) as error:
        raise NotDelivered("unknown_host", begun=False) from error
    if not found or not all(reach.allows(address) for address in found):
        raise NotDelivered("address_not_allowed", begun=False)
    return found[0]
