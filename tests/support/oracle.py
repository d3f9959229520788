"""What is really there, and does a live lease explain it? An oracle that shares no code with the broker.

It imports nothing of ours (a test sees to that): the broker's database is read with sqlite3 or psycopg, the target with its plain driver,
as their owners. Each thing that is wrong is one sentence; an empty list means that all is well.
"""

import base64
import hashlib
import hmac
import json
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import ldap3
import psycopg
import pymysql
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

LIVE = ("ISSUING", "ACTIVE")
UNFINISHED = ("ISSUING", "REVOKING", "STUCK")
OVER = ("REVOKED", "FAILED", "CLOSED")
KNOWN = frozenset({"postgres", "app_write", "jit_broker", "jit_quarantine"})
"""Roles that were there before any lease."""


@dataclass(frozen=True, slots=True)
class Role:
    """A role on the target."""

    login: bool
    until: float | None
    """Seconds since the epoch."""
    sessions: int
    prepared: int


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease in the broker's database."""

    state: str
    ends_at: float
    proof: Mapping[str, Any]


def roles(owner: str) -> dict[str, Role]:
    """Return the roles on the target that were not there at first; `owner` is the conninfo of the server's owner."""
    with psycopg.connect(owner, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT rolname, rolcanlogin, extract(epoch FROM rolvaliduntil)::float8, "
            "(SELECT count(*) FROM pg_stat_activity WHERE usename = rolname), "
            "(SELECT count(*) FROM pg_prepared_xacts WHERE owner = rolname) FROM pg_roles WHERE rolname !~ '^pg_'"
        ).fetchall()
    return {str(name): Role(*rest) for name, *rest in rows if name not in KNOWN}


def rows_of(database: str, statement: str) -> list[Any]:
    """Read the broker's database: the path of a SQLite file, or the address of a PostgreSQL database."""
    if database.startswith("postgresql:"):
        with psycopg.connect(database) as connection:
            return connection.execute(statement.encode()).fetchall()
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(statement).fetchall()


def leases(database: str) -> dict[str, Lease]:
    """Return the leases by the name of the account that each was to make."""
    rows = rows_of(database, "SELECT id, state, ends_at, proof FROM lease")
    return {
        f"jit-{key}": Lease(state, ends / 1e6, json.loads(proof or "null") or {}) for key, state, ends, proof in rows
    }


def tracked(database: str, owner: str) -> list[str]:
    """Say what is wrong at any moment, also right after a crash: an account that no unfinished lease names."""
    return _untracked(leases(database), roles(owner))


def _untracked(known: Mapping[str, Lease], there: Mapping[str, Role]) -> list[str]:
    return [
        f"{name} is on the target, and {'its lease is ' + known[name].state if name in known else 'no lease names it'}"
        for name in there
        if name not in known or known[name].state in OVER
    ]


def explained(database: str, owner: str, now: datetime) -> list[str]:
    """Say what is wrong once the broker has had time to recover: here nothing may be unfinished either."""
    return [*tracked(database, owner), *_wrong(leases(database), roles(owner), now.timestamp())]


def _wrong(known: Mapping[str, Lease], there: Mapping[str, Role], now: float) -> Iterator[str]:
    for name, lease in known.items():
        role = there.get(name)
        if lease.state in UNFINISHED:
            yield f"the lease of {name} is still {lease.state}"
        if lease.state in LIVE and lease.ends_at <= now:
            yield f"the lease of {name} has outlived its end"
        if lease.state == "REVOKED" and {"cut", "clean"} - lease.proof.keys():
            yield f"the lease of {name} is REVOKED without proof"
        if lease.state == "ACTIVE" and lease.ends_at > now and (role is None or not role.login):
            yield f"{name} was given out, its lease lives, and it cannot log in"
        if role is None:
            continue
        if role.until is None or role.until > lease.ends_at:
            yield f"{name} ends on the target later than its lease"
        if lease.state not in LIVE and (role.sessions or role.prepared):
            yield f"{name} has {role.sessions} sessions and {role.prepared} prepared transactions after its end"


def reachable(folder: Path, name: str, opens: Callable[[str], bool]) -> list[str]:
    """Say what is wrong with the broker's own secret at any moment: one of the two files must open the target."""
    given = [file.read_text() for file in (folder / name, folder / f"{name}.next") if file.exists()]
    return [] if any(opens(secret) for secret in given) else ["no secret of the broker's opens the target"]


def exchanged(folder: Path, name: str, opens: Callable[[str], bool]) -> list[str]:
    """Say what is wrong after an exchange was finished: one file, and it opens the target."""
    wrong = [f"{name}.next is left"] if (folder / f"{name}.next").exists() else []
    return wrong + ([] if opens((folder / name).read_text()) else ["the broker's secret does not open the target"])


def opens_postgresql(conninfo: str, secret: str) -> bool:
    """Say whether a PostgreSQL server lets somebody in."""
    try:
        psycopg.connect(conninfo, password=secret).close()
    except psycopg.OperationalError:
        return False
    return True


# ---------------------------------------------------------------- directories


@dataclass(frozen=True, slots=True)
class Membership:
    """A membership that a lease was to give."""

    member: str
    state: str
    ends_at: float
    existed: bool


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory as its owner sees it."""

    port: int
    admin: str
    password: str
    group: str
    before: frozenset[str]
    """Who was a member before any lease."""

    def _line(self, who: str, password: str) -> ldap3.Connection:
        server = ldap3.Server("127.0.0.1", self.port, get_info=ldap3.NONE)
        return ldap3.Connection(server, who, password, auto_bind=True, check_names=False)

    def members(self) -> set[str]:
        """Return whom the group shows to everybody, but for those who were there before."""
        line = self._line(self.admin, self.password)
        line.search(self.group, "(objectClass=*)", ldap3.BASE, attributes=["member"])
        found = {member for member in line.response[0]["attributes"]["member"] if member}
        line.unbind()
        return found - self.before

    def missing(self) -> list[str]:
        """Say who was there before any lease and is there no more."""
        line = self._line(self.admin, self.password)
        line.search(self.group, "(objectClass=*)", ldap3.BASE, attributes=["member"])
        left = self.before - set(line.response[0]["attributes"]["member"])
        line.unbind()
        return [f"{member} was a member before any lease, and is none now" for member in sorted(left)]

    def opens(self, who: str, secret: str) -> bool:
        """Say whether the directory lets somebody in."""
        try:
            self._line(who, secret).unbind()
        except ldap3.core.exceptions.LDAPException:
            return False
        return True


def memberships(database: str) -> list[Membership]:
    """Return what the leases were to give."""
    rows = rows_of(database, "SELECT state, ends_at, effect FROM lease")
    found = [(state, ends, json.loads(effect)["detail"]) for state, ends, effect in rows]
    return [Membership(what["member"], state, ends / 1e6, bool(what.get("existed"))) for state, ends, what in found]


def tracked_members(database: str, directory: Directory) -> list[str]:
    """Say what is wrong at any moment: a member whom no unfinished lease names, or one of before who is gone."""
    named = {one.member for one in memberships(database) if one.state not in OVER}
    wrong = [f"{member} is a member, and no unfinished lease says so" for member in directory.members() - named]
    return wrong + directory.missing()


def explained_members(database: str, directory: Directory, now: datetime) -> list[str]:
    """Say what is wrong once the broker has had time to recover."""
    given, wrong = memberships(database), tracked_members(database, directory)
    members = directory.members() | directory.before
    for one in given:
        if one.state in UNFINISHED:
            wrong.append(f"a lease of {one.member} is still {one.state}")
        if one.state in LIVE and one.ends_at <= now.timestamp():
            wrong.append(f"a lease of {one.member} has outlived its end")
        if one.state == "ACTIVE" and one.member not in members:
            wrong.append(f"{one.member} has a live lease and is no member")
    return wrong


# ---------------------------------------------------------------- MariaDB


@dataclass(frozen=True, slots=True)
class Maria:
    """A MariaDB server as its owner sees it, by the socket; and where the broker comes in."""

    socket: str
    owner: str
    port: int

    def _rows(self, statement: str) -> list[tuple[Any, ...]]:
        with (
            pymysql.connect(unix_socket=self.socket, user=self.owner, autocommit=True) as line,
            line.cursor() as cursor,
        ):
            cursor.execute(statement)
            return [*cursor.fetchall()]

    def accounts(self) -> dict[str, Role]:
        """Return the accounts that leases made."""
        busy: dict[str, int] = {}
        for user, count in self._rows("SELECT USER, COUNT(*) FROM information_schema.PROCESSLIST GROUP BY USER"):
            busy[str(user)] = int(count)
        ends = self._rows(
            "SELECT account, UNIX_TIMESTAMP(CONVERT_TZ(ends_at, '+00:00', @@time_zone)) FROM jitaccess.lease"
        )
        until = {str(name): float(end) if end is not None else None for name, end in ends}
        found = self._rows(
            "SELECT User, JSON_VALUE(Priv, '$.account_locked') FROM mysql.global_priv WHERE User LIKE 'jit-%'"
        )
        return {
            str(user): Role(str(locked) not in ("1", "true"), until.get(str(user)), busy.get(str(user), 0), 0)
            for user, locked in found
        }

    def opens(self, secret: str) -> bool:
        """Say whether the server takes this for the broker's password."""
        try:
            pymysql.connect(host="127.0.0.1", port=self.port, user="jit_broker", password=secret).close()
        except pymysql.Error:
            return False
        return True


# ---------------------------------------------------------------- provisioners


@dataclass(frozen=True, slots=True)
class Provisioner:
    """The shipped example of a provisioner, as its owner sees it: its own file; and where the broker comes in."""

    folder: Path
    port: int

    def _rows(self, statement: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.folder / "accounts.db", timeout=10)) as store, store:
            return store.execute(statement).fetchall()

    def accounts(self) -> dict[str, Role]:
        """Return the accounts; one without grants that nobody can use is a name that was taken, and a locked one."""
        found = self._rows(
            "SELECT name, locked, ends_at, (SELECT COUNT(*) FROM session s WHERE s.name = a.name) FROM account a"
        )
        return {str(name): Role(not locked, ends, int(count), 0) for name, locked, ends, count in found}

    def forget(self) -> None:
        """Begin anew."""
        self._rows("DELETE FROM session")
        self._rows("DELETE FROM account")

    def opens(self, secret: str) -> bool:
        """Say whether it takes a message that this key signs (Standard Webhooks 1.0, symmetric)."""
        key = base64.urlsafe_b64decode(secret + "=")
        body, name, at = (
            b'{"account":"jit-oracle","type":"access.read"}',
            f"oracle_{time.time_ns()}",
            str(int(time.time())),
        )
        mac = hmac.new(key, b".".join([name.encode(), at.encode(), body]), hashlib.sha256).digest()
        headers = {
            "webhook-id": name,
            "webhook-timestamp": at,
            "webhook-signature": "v1," + base64.b64encode(mac).decode(),
        }
        asked = urllib.request.Request(f"http://127.0.0.1:{self.port}/jitaccess", body, headers)
        try:
            urllib.request.urlopen(asked, timeout=10).close()
        except urllib.error.HTTPError as error:
            if error.code != 401:
                raise
            return False
        return True


# ---------------------------------------------------------------- hosts


def authority_line(secret: str) -> str:
    """Return the authority of a secret as hosts write it down: an Ed25519 key from HKDF (RFC 5869) with SHA-256."""
    drawn = base64.urlsafe_b64decode(secret.strip() + "=" * (-len(secret.strip()) % 4))
    inner = hmac.new(bytes(32), drawn, hashlib.sha256).digest()
    seed = hmac.new(inner, b"jitaccess ssh_ca authority v1\x01", hashlib.sha256).digest()
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    blob = b"".join(len(part).to_bytes(4) + part for part in (b"ssh-ed25519", public))
    return f"ssh-ed25519 {base64.b64encode(blob).decode()}"


# ---------------------------------------------------------------- whatever is named after its lease


def tracked_entries(database: str, there: Mapping[str, Role]) -> list[str]:
    """Say what is wrong at any moment with what is there."""
    return _untracked(leases(database), there)


def explained_entries(database: str, there: Mapping[str, Role], now: datetime) -> list[str]:
    """Say what is wrong with what is there once the broker has had time to recover."""
    known = leases(database)
    return [*_untracked(known, there), *_wrong(known, there, now.timestamp())]


def states(database: str) -> list[str]:
    """Return the state of every lease."""
    return [str(state) for (state,) in rows_of(database, "SELECT state FROM lease")]
