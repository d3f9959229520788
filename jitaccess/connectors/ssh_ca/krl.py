"""How is it written down which certificates and keys OpenSSH must refuse? A key revocation list, PROTOCOL.krl of OpenSSH.

Serials stand in a section for every authority (an empty CA key), so that a list also holds while two authorities are trusted. Keys in
the clear are refused by their SHA-256 (a section of OpenSSH 7.9 and later). See docs/adr/0030.
"""

import base64
import struct
from collections.abc import Iterable
from datetime import datetime

from jitaccess.connectors.ssh_ca.wire import string

_MAGIC = 0x5353484B524C0A00
"""`SSHKRL\\n\\0` as a number."""
_FORMAT = 1
_CERTIFICATES, _SHA256 = 1, 5
_SERIAL_LIST = 0x20
_CHUNK = 4_096
"""Serials a sub-section; OpenSSH takes any number, a reader that is bounded does not."""


def write(*, number: int, at: datetime, serials: Iterable[int], fingerprints: Iterable[str] = ()) -> bytes:
    """Return a list. `number`: its version, uint64; `serials`: of certificates, 1 to 2^64-1; `fingerprints`: `SHA256:` and base64."""
    head = struct.pack(">QIQQQ", _MAGIC, _FORMAT, number, int(at.timestamp()), 0)
    found = head + string(b"") + string(b"jitaccess")
    ordered = sorted(set(serials))
    if ordered and not 0 < ordered[0] <= ordered[-1] < 2**64:
        raise ValueError("a serial is a number from 1 to 2^64-1")
    if ordered:
        found += _section(_CERTIFICATES, string(b"") + string(b"") + b"".join(_lists(ordered)))
    digests = sorted({base64.b64decode(text.removeprefix("SHA256:") + "=", validate=True) for text in fingerprints})
    if any(len(digest) != 32 for digest in digests):
        raise ValueError("a fingerprint is SHA256: and 43 characters")
    if digests:
        found += _section(_SHA256, b"".join(map(string, digests)))
    return found


def _lists(serials: list[int]) -> Iterable[bytes]:
    for start in range(0, len(serials), _CHUNK):
        part = serials[start : start + _CHUNK]
        yield _section(_SERIAL_LIST, struct.pack(f">{len(part)}Q", *part))


def _section(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + string(content)
