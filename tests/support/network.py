"""Does a test leave the machine? An audit hook that refuses every connection of Python but to loopback.

It is installed once for the process and cannot be removed, as audit hooks cannot.
"""

import ipaddress
import socket
import sys

_NAMES = frozenset({"", "localhost", "localhost.localdomain", "ip6-localhost", socket.gethostname()})


class LeftTheMachine(RuntimeError):
    """A test tried to reach another host."""


def is_loopback(host: str) -> bool:
    """Say whether a host name or address is this machine's own."""
    if host in _NAMES or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _watch(event: str, args: tuple[object, ...]) -> None:
    host: object = None
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = args[1]
        host = address[0] if isinstance(address, tuple) else None
    elif event == "socket.getaddrinfo":
        host = args[0]
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if isinstance(host, str) and not is_loopback(host):
        raise LeftTheMachine(f"tests reach nothing but loopback, and this one wanted {host} ({event})")


def guard() -> None:
    """Install the hook."""
    sys.addaudithook(_watch)
