"""How does the server learn a password without seeing it? As a SCRAM verifier, which is made here (RFC 5802 section 3, RFC 7677).

libpq makes one too, but with a loop of its own that takes twice to three times as long as OpenSSL's and lets no other thread of the
program run meanwhile; and with as many rounds as the server says.
"""

from base64 import b64encode
from hashlib import pbkdf2_hmac, sha256
from hmac import digest

SALT_BYTES = 16
"""As many as the server's own."""


def verifier(password: str, rounds: int, salt: bytes) -> str:
    """Return what `PASSWORD` takes: `SCRAM-SHA-256$<rounds>:<salt>$<StoredKey>:<ServerKey>`.

    The password is printable ASCII, which SASLprep leaves as it is; another one would let nobody in, so it raises ValueError.
    """
    if not password.isascii() or not password.isprintable():
        raise ValueError("only printable ASCII is taken as it is")
    salted = pbkdf2_hmac("sha256", password.encode(), salt, rounds)
    stored = sha256(digest(salted, b"Client Key", "sha256")).digest()
    server = digest(salted, b"Server Key", "sha256")
    text = [b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${rounds}:{text[0]}${text[1]}:{text[2]}"
