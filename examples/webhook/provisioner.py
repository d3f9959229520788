"""A small provisioner, whole: an application with accounts of its own, and the address at which jitaccess makes and ends them.

    python -m examples.webhook.provisioner --port 8100 --state FOLDER        (the key to check with is in FOLDER/check_with)

POST /jitaccess is for the broker. POST /sign-in and GET /vault are the application itself: whoever signed in with an account that is
live may open the vault. Standard library only, besides Ed25519 in signatures.py. What to keep when you write your own:

1. The signature is checked over the bytes that came in, before anything else; what is not good gets 401.
2. The deadline and the free name are looked at inside the transaction that makes the account.
3. `cut` and `clean` do their work each time, and answer with what they read *afterwards*.
4. The end is enforced here too, so that a dead broker leaves nothing open.
5. No secret is stored: only a digest of it, which is good enough because it was drawn at random (256 bits).
"""

import argparse
import base64
import hashlib
import hmac
import json
import secrets
import sqlite3
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from examples.webhook.signatures import Refused, verify

MAX_BODY = 64 * 1024
NOTE = "The password is asked for; the answer holds a token for /vault."
TABLES = """
CREATE TABLE IF NOT EXISTS account (
  name TEXT PRIMARY KEY, digest TEXT NOT NULL, grants TEXT NOT NULL, ends_at REAL, locked INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS session (digest TEXT PRIMARY KEY, name TEXT NOT NULL);
CREATE VIEW IF NOT EXISTS live AS SELECT * FROM account
  WHERE NOT locked AND (ends_at IS NULL OR ends_at > (julianday('now') - 2440587.5) * 86400.0);
"""


def digest_of(secret: str) -> str:
    """Return what is stored of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


class Accounts:
    """The application's accounts and sessions."""

    def __init__(self, folder: Path) -> None:
        self.key_file = folder / "check_with"
        self._file = folder / "accounts.db"
        with self.opened() as store:
            store.executescript(TABLES)

    @contextmanager
    def opened(self) -> Iterator[sqlite3.Connection]:
        """Give the store in a transaction that takes the write lock at once."""
        store = sqlite3.connect(self._file, timeout=10, isolation_level=None)
        try:
            store.execute("BEGIN IMMEDIATE")
            yield store
            store.commit()
        finally:
            store.close()

    def check_with(self) -> list[str]:
        """Return the key that messages are checked with."""
        return [self.key_file.read_text().strip()]

    # -- what people do

    def sign_in(self, name: str, secret: str) -> str | None:
        """Return a session's secret, or None."""
        with self.opened() as store:
            row = store.execute("SELECT digest FROM live WHERE name = ?", (name,)).fetchone()
            if row is None or not hmac.compare_digest(row[0], digest_of(secret)):
                return None
            token = secrets.token_urlsafe(32)
            store.execute("INSERT INTO session VALUES (?, ?)", (digest_of(token), name))
            return token

    def grants_of(self, token: str) -> list[str]:
        """Return what a session may do; nothing when its account is locked, gone or over."""
        query = "SELECT l.grants FROM session s JOIN live l USING (name) WHERE s.digest = ?"
        with self.opened() as store:
            row = store.execute(query, (digest_of(token),)).fetchone()
        return json.loads(row[0]) if row is not None else []

    # -- what jitaccess asks for

    def answer(self, message: Mapping[str, Any]) -> dict[str, Any] | None:
        """Do what a message says; return the answer, or None for a type that is not known."""
        acts = {
            "access.apply": self._apply,
            "access.bury": self._bury,
            "access.cut": self._cut,
            "access.clean": self._clean,
            "access.read": lambda asked: self._state(asked["account"]),
            "access.observe": self._observe,
            "access.quarantine": self._quarantine,
            "access.rotate": self._rotate,
            "access.probe": lambda asked: {"findings": []},
        }
        act = acts.get(str(message.get("type")))
        return act(message) if act is not None else None

    def _apply(self, message: Mapping[str, Any]) -> dict[str, Any]:
        lease = message["lease"]
        name, secret = lease["account"], secrets.token_urlsafe(32)
        ends_at = datetime.fromisoformat(lease["ends_at"]).timestamp()
        deadline = datetime.fromisoformat(message["deadline"]).timestamp()
        with self.opened() as store:
            if time.time() >= min(deadline, ends_at):
                return {"result": "not_made", "reason": "too_late"}
            row = (name, digest_of(secret), json.dumps(lease["grants"]), ends_at)
            if store.execute("INSERT OR IGNORE INTO account VALUES (?, ?, ?, ?, 0)", row).rowcount == 0:
                return {"result": "not_made", "reason": "name_taken"}
        return {
            "result": "made",
            "id": name,
            "username": name,
            "secret": secret,
            "note": NOTE,
        }

    def _bury(self, message: Mapping[str, Any]) -> dict[str, Any]:
        name = message["lease"]["account"]
        with self.opened() as store:
            store.execute("INSERT OR IGNORE INTO account VALUES (?, '', '[]', 0, 1)", (name,))
        return self._state(name)

    def _cut(self, message: Mapping[str, Any]) -> dict[str, Any]:
        return self._locked(message["lease"]["account"])

    def _locked(self, name: str) -> dict[str, Any]:
        with self.opened() as store:
            store.execute("UPDATE account SET locked = 1, digest = '' WHERE name = ?", (name,))
            store.execute("DELETE FROM session WHERE name = ?", (name,))
        return self._state(name)

    def _clean(self, message: Mapping[str, Any]) -> dict[str, Any]:
        return self._gone(message["lease"]["account"])

    def _gone(self, name: str) -> dict[str, Any]:
        with self.opened() as store:
            store.execute("DELETE FROM session WHERE name = ?", (name,))
            store.execute("DELETE FROM account WHERE name = ?", (name,))
        return self._state(name)

    def _state(self, name: str) -> dict[str, Any]:
        with self.opened() as store:
            row = store.execute("SELECT locked FROM account WHERE name = ?", (name,)).fetchone()
            (sessions,) = store.execute("SELECT COUNT(*) FROM session WHERE name = ?", (name,)).fetchone()
        return {"state": "absent" if row is None else "locked" if row[0] else "active", "sessions": sessions}

    def _observe(self, message: Mapping[str, Any]) -> dict[str, Any]:
        with self.opened() as store:
            rows = store.execute("SELECT name, digest, grants, ends_at, locked FROM account").fetchall()
            counts = dict(store.execute("SELECT name, COUNT(*) FROM session GROUP BY name").fetchall())
        accounts = [
            {
                "name": name,
                "rights": json.loads(grants),
                "sessions": counts.get(name, 0),
                "enabled": not locked,
                "expires_at": None if ends_at is None else datetime.fromtimestamp(ends_at, UTC).isoformat(),
                "fingerprint": digest_of(digest),
                "owns": [],
            }
            for name, digest, grants, ends_at, locked in rows
        ]
        return {"accounts": accounts, "coverage": ["accounts", "grants", "sessions", "expiry", "keys"]}

    def _quarantine(self, message: Mapping[str, Any]) -> dict[str, Any]:
        state = (self._gone if message["remove"] else self._locked)(message["account"])
        return {"done": state["state"] != "active" and not state["sessions"], "statement": ""}

    def _rotate(self, message: Mapping[str, Any]) -> dict[str, Any]:
        # Beside the old one first, then in its place: a crash leaves one of both, whole.
        beside = self.key_file.with_suffix(".next")
        beside.write_text(message["check_with"])
        beside.replace(self.key_file)
        return {"rotated": True}


class Door(BaseHTTPRequestHandler):
    """HTTP, for both."""

    accounts: Accounts
    timeout = 10

    def do_POST(self) -> None:
        """Take a message of the broker, or a sign-in."""
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > MAX_BODY:
            self._say(413, {})
            return
        body = self.rfile.read(int(length))
        if self.path == "/jitaccess":
            self._tell(body)
        elif self.path == "/sign-in":
            self._sign_in()
        else:
            self._say(404, {})

    def _sign_in(self) -> None:
        scheme, _, text = self.headers.get("Authorization", "").partition(" ")
        try:
            name, _, secret = base64.b64decode(text, validate=True).decode().partition(":")
        except ValueError:
            name = secret = ""
        token = self.accounts.sign_in(name, secret) if scheme == "Basic" else None
        self._say(200 if token else 401, {"token": token} if token else {})

    def _tell(self, body: bytes) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            message_id = verify(headers, body, self.accounts.check_with(), time.time())
        except Refused:
            self._say(401, {})
            return
        said = self.accounts.answer(json.loads(body))
        self._say(400 if said is None else 200, {"answers": message_id, **(said or {})})

    def do_GET(self) -> None:
        """Open the vault to whoever may."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        may = "open:vault" in self.accounts.grants_of(token)
        self._say(200 if may else 403, {"vault": "open"} if may else {})

    def _say(self, status: int, said: Mapping[str, Any]) -> None:
        text = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args: object) -> None:
        """Say nothing: what is logged of a request could be a secret."""


class Doorway(ThreadingHTTPServer):
    """Lets as many wait at the door as the broker sends at once; with the five of the library the others are turned away."""

    request_queue_size = 64


def main() -> None:
    """Serve on this machine; with --certificate over TLS."""
    asked = argparse.ArgumentParser(description="A small provisioner for jitaccess.")
    asked.add_argument("--port", type=int, required=True)
    asked.add_argument("--state", type=Path, required=True)
    asked.add_argument("--certificate", type=Path)
    asked.add_argument("--key", type=Path)
    given = asked.parse_args()
    Door.accounts = Accounts(given.state)
    server = Doorway(("127.0.0.1", given.port), Door)
    if given.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(given.certificate, given.key)
        # The handshake is the thread's matter: one who is slow about it keeps nobody else waiting.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    print(f"The provisioner listens on 127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
