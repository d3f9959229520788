"""How few bytes does a page cost? Compression of pages and of our own static files, and addresses that name the content.

A static address carries the digest of its file, so a browser keeps it for ever and a new release is a new address. Pages are
compressed; answers of the API and of the token endpoints never are: a secret and text that a stranger chose must not share a
compressed body (BREACH). For the same reason the pages that show a secret are left as they are. RFC 9110 sections 8.4 and 12.5.3.
"""

import gzip
from functools import cache
from hashlib import sha256
from pathlib import Path

from flask import Flask, Response, request, url_for

COMPRESSIBLE = frozenset({"text/html", "text/css", "text/javascript", "image/svg+xml", "text/csv"})
SECRET_PAGES = ("/enrol/", "/genesis/")
SMALLEST = 600
"""Bytes below which compressing costs more than it saves."""
FOR_EVER = "public, max-age=31536000, immutable"
FOR_AN_HOUR = "public, max-age=3600"
DIGEST_CHARS = 16
_STATIC = Path(__file__).parent / "static"


def install(app: Flask) -> None:
    """Give templates `asset`, and compress what leaves. Call it before the doors, so that their headers come first."""
    app.add_template_global(asset, "asset")
    app.after_request(compress)


def asset(filename: str) -> str:
    """Return the address of a static file, with the digest of its content."""
    return url_for("static", filename=filename, v=_digest(filename))


def cache_control(filename: str, version: str | None) -> str:
    """Say how long a static file may be kept: for ever under the address of exactly this content."""
    return FOR_EVER if version is not None and version == _digest(filename) else FOR_AN_HOUR


def compress(response: Response) -> Response:
    """Compress a page or a static file for a browser that takes gzip."""
    if response.mimetype not in COMPRESSIBLE or response.status_code != 200 or "Content-Encoding" in response.headers:
        return response
    if request.path.startswith(("/api/", *SECRET_PAGES)):
        return response
    if response.is_streamed and request.endpoint != "static":
        return response  # it goes out as it is read; compressing would gather all of it first
    response.vary.add("Accept-Encoding")
    if request.accept_encodings["gzip"] <= 0:
        return response
    if request.endpoint == "static":
        filename = str((request.view_args or {}).get("filename", ""))
        response.close()  # the open file that would have been sent
        response.direct_passthrough = False
        response.set_data(_small(filename))
        response.set_etag(f"{_digest(filename)}-gzip")
    elif len(body := response.get_data()) >= SMALLEST:
        response.set_data(gzip.compress(body, 6, mtime=0))
    else:
        return response
    response.headers["Content-Encoding"] = "gzip"
    return response


@cache
def _digest(filename: str) -> str:
    path = _STATIC / filename
    return sha256(path.read_bytes()).hexdigest()[:DIGEST_CHARS] if path.is_file() else "none"


@cache
def _small(filename: str) -> bytes:
    return gzip.compress((_STATIC / filename).read_bytes(), 9, mtime=0)
