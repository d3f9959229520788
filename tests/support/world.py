"""A ready broker for tests: genesis done, the cast of the demo with software passkeys, the shipped policies active.

One prepared database is copied for each test, so a world costs milliseconds. Time is a FrozenClock; `world.advance` moves it.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text

from jitaccess.app import open_broker
from jitaccess.broker import approve, changes, hold, request, strictness
from jitaccess.broker.approve import UNCHANGED, Approved, Choice
from jitaccess.broker.context import Broker
from jitaccess.broker.hold import HoldKind
from jitaccess.broker.request import Ask, Filed
from jitaccess.broker.sweep import Ticker
from jitaccess.broker.targets import Targets
from jitaccess.clock import FrozenClock
from jitaccess.connectors.contract import ConnectorKind
from jitaccess.demo.seed import Seeded, read_policies, seed
from jitaccess.demo.soft_passkey import SoftPasskey
from jitaccess.domain.values import LOCAL, SYSTEM, Refused
from jitaccess.identity import passkeys, sessions
from jitaccess.identity.passkeys import Ceremony
from jitaccess.identity.sessions import Current
from jitaccess.settings import Keys, Log, Mail, Server, Sessions, Settings, Store
from jitaccess.store.tables import Hold, Person
from jitaccess.tokens.keys import create_wrapping_key

START = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[2]
ORIGIN = "http://localhost:8000"
EVERYBODY = frozenset({"arta", "arta-2", "blerim", "drita", "jelena"})
RELEASE: Mapping[str, Any] = {"order": "TR-000417", "amount_cents": 125_000_000}


def settings_for(url: str, folder: Path, **changes: Any) -> Settings:
    """Return settings of a test instance."""
    values: dict[str, Any] = {
        "server": Server(public_url=ORIGIN),
        "store": Store(url=url),
        "keys": Keys(wrapping_key_file=folder / "wrapping.key"),
        "log": Log(origin="test.example/jitaccess"),
        "mail": Mail(transport="folder", folder=folder / "mail"),
        "sessions": Sessions(new_account_s=0),
    }
    return Settings(**(values | changes))


@dataclass(slots=True)
class World:
    """A broker and everybody in it."""

    broker: Broker
    clock: FrozenClock
    seeded: Seeded
    folder: Path
    ticker: Ticker | None = None
    _signed_in: dict[str, Current] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)

    def person(self, key: str) -> str:
        """Return a person's id."""
        return self.seeded.people[key]

    def passkey(self, key: str) -> SoftPasskey:
        """Return a person's software passkey."""
        return self.seeded.passkeys[key]

    def advance(self, by: timedelta) -> None:
        """Move time on."""
        self.clock.advance(by)

    def sweep(self) -> None:
        """Let the sweep look now."""
        if self.ticker is None:
            self.ticker = Ticker(self.broker)
        self.ticker.look_now()

    def sign_in(self, key: str) -> Current:
        """Sign a person in through a real ceremony; a fresh session each time."""
        site = self.broker.site
        with self.broker.begin(SYSTEM) as tx:
            ceremony = passkeys.begin_sign_in(tx, site)
        response = self.passkey(key).get(ceremony.options)
        with self.broker.begin(SYSTEM) as tx:
            found = passkeys.complete_sign_in(tx, site, challenge_id=ceremony.challenge_id, response=response)
            assert not isinstance(found, Refused), found
            row, secret = sessions.open_session(
                tx, found.passkey, strictness.bounds(tx, self.broker, found.passkey.person_id)
            )
        self.secrets[row.id] = secret
        current = self.resolved(row.id)
        assert current is not None
        return current

    def resolved(self, session_id: str) -> Current | None:
        """Return what a session that was opened here is good for now."""
        with self.broker.read() as view:
            return sessions.resolve(view, self.secrets[session_id], strictness.bounds_of(self.broker))

    def current(self, key: str) -> Current:
        """Return a person's session, signing in at first use and again when it is over."""
        known = self._signed_in.get(key)
        if known is not None:
            fresh = self.resolved(known.session.id)
            if fresh is not None:
                return fresh
        self._signed_in[key] = self.sign_in(key)
        return self._signed_in[key]

    def answer(self, key: str, ceremony: Ceremony) -> dict[str, Any]:
        """Answer a ceremony with a person's passkey."""
        return self.passkey(key).get(ceremony.options)

    def begin_filing(self, key: str, ask: Ask) -> Ceremony | Refused:
        """Begin filing."""
        current = self.current(key)
        with self.broker.begin(current.actor) as tx:
            return request.begin_filing(tx, self.broker, current, ask)

    def file(
        self,
        key: str = "arta",
        target: str = "treasury",
        entitlement: str = "viewer",
        *,
        duration_s: int | None = 600,
        inputs: Mapping[str, Any] | None = None,
        reason: str = "quarterly payments",
    ) -> Filed | Refused:
        """File a request, signed."""
        wanted = RELEASE if inputs is None and entitlement == "releaser" else inputs or {}
        ask = Ask(target, entitlement, wanted, duration_s, reason)
        begun = self.begin_filing(key, ask)
        if isinstance(begun, Refused):
            return begun
        current = self.current(key)
        with self.broker.begin(current.actor, lock=[(Person, current.person.id)]) as tx:
            return request.complete_filing(
                tx, self.broker, current, challenge_id=begun.challenge_id, response=self.answer(key, begun)
            )

    def filed(self, *args: Any, **kwargs: Any) -> Filed:
        """File a request that must be taken."""
        found = self.file(*args, **kwargs)
        assert isinstance(found, Filed), found
        return found

    def approve(self, key: str, request_id: str, choice: Choice = UNCHANGED) -> Approved | Refused:
        """Approve a request, signed."""
        current = self.current(key)
        with self.broker.begin(current.actor) as tx:
            begun = approve.begin_approval(tx, self.broker, current, request_id=request_id, choice=choice)
        if isinstance(begun, Refused):
            return begun
        response = self.answer(key, begun)
        with self.broker.begin(current.actor, lock=approve.lock_of(self.broker, [request_id])) as tx:
            return approve.complete_approval(
                tx, self.broker, current, request_id=request_id, challenge_id=begun.challenge_id, response=response
            )

    def approved(self, key: str, request_id: str, choice: Choice = UNCHANGED) -> Approved:
        """Approve a request that must take it."""
        found = self.approve(key, request_id, choice)
        assert isinstance(found, Approved), found
        return found

    def released(self, **kwargs: Any) -> Approved:
        """File and fully approve a release; return the last approval, with its grant."""
        filed = self.filed(entitlement="releaser", **kwargs)
        self.approved("blerim", filed.request.id)
        return self.approved("drita", filed.request.id)

    def begin_change(self, key: str, kind: str, subject: str, payload: Mapping[str, Any] | None = None) -> Any:
        """Begin signing an administrative act; return the ceremony or why not."""
        current = self.current(key)
        with self.broker.begin(current.actor) as tx:
            return changes.begin(tx, self.broker, current, kind=kind, subject=subject, payload=dict(payload or {}))

    def complete_change(self, key: str, begun: Ceremony) -> changes.Applied | Refused:
        """Sign an administrative act that was begun."""
        current, response = self.current(key), self.answer(key, begun)
        with self.broker.begin(current.actor) as tx:
            return changes.complete(tx, self.broker, current, challenge_id=begun.challenge_id, response=response)

    def change(
        self, key: str, kind: str, subject: str, payload: Mapping[str, Any] | None = None
    ) -> changes.Applied | Refused:
        """Sign an administrative act."""
        begun = self.begin_change(key, kind, subject, payload)
        return begun if isinstance(begun, Refused) else self.complete_change(key, begun)

    def hold(self, key: str) -> Hold:
        """Put a person on hold from the broker's own shell."""
        with self.broker.begin(LOCAL) as tx:
            row, _ = hold.place(
                tx,
                self.broker,
                kind=HoldKind.PERSON,
                subject_id=self.person(key),
                cause="a test",
                by="local",
                sure=True,
            )
        assert not isinstance(row, Refused)
        return row

    def use_kind(self, kind: ConnectorKind) -> None:
        """Let this world know one more kind of target."""
        known = self.broker.targets
        self.broker = replace(
            self.broker,
            targets=Targets({**known.kinds, kind.name: kind}, known.surroundings, at_once=4, boards=known.boards),
        )

    def sql(self, statement: str, **values: Any) -> None:
        """Change the database behind the broker's back, as its owner could."""
        engine = create_engine(self.broker.settings.store.url)
        with engine.begin() as connection:
            connection.execute(text(statement), values)
        engine.dispose()

    def close(self) -> None:
        """Give everything back."""
        if self.ticker is not None:
            self.ticker.stop()
        self.broker.targets.close()
        self.broker.db.close()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A seeded database that is copied for each world."""

    folder: Path
    seeded: Seeded


def prepare(
    url: str, folder: Path, *, policies: Path = ROOT / "policies", now: datetime = START, pilot: bool = False
) -> Prepared:
    """Seed a database once, with the policies of a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    wrapping_key = create_wrapping_key(folder / "wrapping.key")
    policy = read_policies(policies)
    settings = settings_for(url, folder)
    return Prepared(folder, seed(settings, FrozenClock(now), wrapping_key, policy, enrolled=EVERYBODY, pilot=pilot))


def open_world(url: str, prepared: Prepared, folder: Path, *, clock: Any = None, **changes: Any) -> World:
    """Open a world on a database that already holds the prepared instance; `clock`: another than a frozen one."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "wrapping.key").exists():
        shutil.copy(prepared.folder / "wrapping.key", folder / "wrapping.key")
    clock = clock or FrozenClock(START + timedelta(minutes=1))
    broker = open_broker(settings_for(url, folder, **changes), clock)
    broker.may_grant.set()
    copies = {key: _copy(passkey) for key, passkey in prepared.seeded.passkeys.items()}
    seeded = Seeded(prepared.seeded.people, prepared.seeded.accounts, copies, prepared.seeded.paper_keys)
    return World(broker, clock, seeded, folder)


def _copy(passkey: SoftPasskey) -> SoftPasskey:
    return SoftPasskey(
        passkey.rp_id,
        passkey.origin,
        counter=passkey.counter,
        user_handle=passkey.user_handle,
        credential_id=passkey.credential_id,
        key=passkey.key,
    )
