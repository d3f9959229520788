"""What is really there, and does a live lease explain it? An oracle that shares no code with the broker.

It imports nothing of ours (a test sees to that): the broker's database is read with sqlite3, the target with psycopg, as their owners. Each
thing that is wrong is one sentence; an empty list means that all is well.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg

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


def leases(database: Path) -> dict[str, Lease]:
    """Return the leases by the name of the account that each was to make."""
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT id, state, ends_at, proof FROM lease").fetchall()
    return {
        f"jit-{key}": Lease(state, ends / 1e6, json.loads(proof or "null") or {}) for key, state, ends, proof in rows
    }


def tracked(database: Path, owner: str) -> list[str]:
    """Say what is wrong at any moment, also right after a crash: an account that no unfinished lease names."""
    known = leases(database)
    return [
        f"{name} is on the target, and {'its lease is ' + known[name].state if name in known else 'no lease names it'}"
        for name in roles(owner)
        if name not in known or known[name].state in OVER
    ]


def explained(database: Path, owner: str, now: datetime) -> list[str]:
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


def reachable(folder: Path, name: str, conninfo: str) -> list[str]:
    """Say what is wrong with the broker's own secret at any moment: one of the two files must open the target."""
    given = [file.read_text() for file in (folder / name, folder / f"{name}.next") if file.exists()]
    return [] if any(_opens(conninfo, secret) for secret in given) else ["no secret of the broker's opens the target"]


def exchanged(folder: Path, name: str, conninfo: str) -> list[str]:
    """Say what is wrong after an exchange was finished: one file, and it opens the target."""
    wrong = [f"{name}.next is left"] if (folder / f"{name}.next").exists() else []
    return wrong + (
        [] if _opens(conninfo, (folder / name).read_text()) else ["the broker's secret does not open the target"]
    )


def _opens(conninfo: str, secret: str) -> bool:
    try:
        psycopg.connect(conninfo, password=secret).close()
    except psycopg.OperationalError:
        return False
    return True
