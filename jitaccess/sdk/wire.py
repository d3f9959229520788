"""How does a target reach the broker? One bounded HTTP exchange: no redirects, no proxies, no surprises.

TLS with the system's anchors, or plain HTTP to this machine's own loopback; anything else is refused before a connection is opened.
"""

import http.client
import json
import ssl
from collections.abc import Mapping
from urllib.parse import SplitResult, urlencode, urlsplit

from jitaccess.sdk.refusal import TokenRefused

MAX_ANSWER_BYTES = 64 * 1024
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def exchange(
    url: str,
    *,
    timeout_s: float,
    form: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, object]:
    """GET a URL, or POST a form to it; return the status and the parsed JSON. Raises TokenRefused `unreachable`."""
    sent = {"Accept": "application/json", **(headers or {})}
    status, raw = fetch(url, timeout_s=timeout_s, form=form, headers=sent, most=MAX_ANSWER_BYTES)
    try:
        return status, json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _unreachable() from error


def fetch(
    url: str,
    *,
    timeout_s: float,
    headers: Mapping[str, str],
    most: int,
    form: Mapping[str, str] | None = None,
) -> tuple[int, bytes]:
    """GET a URL, or POST a form to it; return the status and at most `most` bytes. Raises TokenRefused `unreachable`."""
    parts = urlsplit(url)
    connection = _connect(parts, timeout_s)
    body = None if form is None else urlencode(form)
    sent = dict(headers)
    if body is not None:
        sent["Content-Type"] = "application/x-www-form-urlencoded"
    try:
        connection.request("GET" if body is None else "POST", parts.path or "/", body, sent)
        with connection.getresponse() as response:
            raw = response.read(most + 1)
        if len(raw) > most:
            raise TokenRefused("unreachable", "The broker's answer is too large.")
        return response.status, raw
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _unreachable() from error
    finally:
        connection.close()


def _unreachable() -> TokenRefused:
    return TokenRefused("unreachable", "The broker cannot be reached, so nothing is accepted now.")


def _connect(parts: SplitResult, timeout_s: float) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    try:
        port = parts.port
    except ValueError as error:
        raise TokenRefused("unreachable", "The broker's address has no usable port.") from error
    if parts.username is not None or parts.query or parts.fragment:
        raise TokenRefused("unreachable", "The broker's address must be scheme, host, port and path.")
    if parts.scheme == "https" and host:
        return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=ssl.create_default_context())
    if parts.scheme == "http" and host in _LOOPBACK:
        return http.client.HTTPConnection(host, port, timeout=timeout_s)
    raise TokenRefused("unreachable", "The broker's address must be https, or http on this machine.")
