"""Which keys does this broker hold, and which still verify? The keyring (R35).

Three purposes, never mixed: `token` (ES256, P-256), `audit` (Ed25519, signs checkpoints), `seal` (32 bytes, HMAC-SHA-256). Private
parts are in the database only wrapped: AES-256-GCM under the wrapping key, a file outside the database, with the key's id and
purpose as additional data. Rotation keeps the old token key verifying for an overlap, then refuses it; an audit rotation is
announced in the log; seal keys are accepted until every row is sealed anew.
"""

import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from joserfc.jwk import ECKey
from sqlalchemy import create_engine, func, inspect, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from jitaccess.domain.events import EventType
from jitaccess.errors import JitError, Kind
from jitaccess.proof.canonical import JsonValue
from jitaccess.proof.notes import VerifierKey
from jitaccess.store.db import PendingEvent, Tx, View
from jitaccess.store.ids import new_bytes
from jitaccess.store.seal import Seals, row_digest
from jitaccess.store.tables import Base, Event, KeyRecord, Sealed

log = logging.getLogger(__name__)
WRAPPING_KEY_BYTES = 32
_NONCE_BYTES = 12
_HEADER = b"JK1"
"""Version of the wrapped form: header, 12-byte nonce, AES-256-GCM ciphertext with tag."""


class Purpose(StrEnum):
    """What a key is for."""

    TOKEN = "token"  # noqa: S105 - the name of a purpose
    AUDIT = "audit"
    SEAL = "seal"


class Status(StrEnum):
    """Whether a key still signs or verifies."""

    ACTIVE = "active"
    OVERLAP = "overlap"
    RETIRED = "retired"


def create_wrapping_key(path: Path) -> bytes:
    """Write a fresh wrapping key, mode 0600; raises CONFIGURATION rather than overwrite one."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = new_bytes(WRAPPING_KEY_BYTES)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise JitError(Kind.CONFIGURATION, f"There is a wrapping key at {path} already; move it away first.") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    return key


def read_wrapping_key(path: Path) -> bytes:
    """Read the wrapping key; raises CONFIGURATION when it is absent, too open or of another length."""
    try:
        mode = path.stat().st_mode
        key = path.read_bytes()
    except OSError as error:
        raise JitError(Kind.CONFIGURATION, f"Cannot read the wrapping key {path}: {error.strerror}.") from error
    if mode & 0o077:
        raise JitError(Kind.CONFIGURATION, f"The wrapping key {path} can be read by others: chmod 600 it.")
    if len(key) != WRAPPING_KEY_BYTES:
        raise JitError(Kind.CONFIGURATION, f"The wrapping key {path} is not {WRAPPING_KEY_BYTES} bytes long.")
    return key


def wrap(wrapping_key: bytes, key_id: str, purpose: str, secret: bytes) -> bytes:
    """Encrypt a private key for the database."""
    nonce = new_bytes(_NONCE_BYTES)
    return _HEADER + nonce + AESGCM(wrapping_key).encrypt(nonce, secret, _aad(key_id, purpose))


def unwrap(wrapping_key: bytes, key_id: str, purpose: str, wrapped: bytes) -> bytes:
    """Decrypt a private key; raises CONFIGURATION when the wrapping key is another one or the row was swapped."""
    start = len(_HEADER)
    try:
        if wrapped[:start] != _HEADER:
            raise InvalidTag
        nonce, sealed = wrapped[start : start + _NONCE_BYTES], wrapped[start + _NONCE_BYTES :]
        return AESGCM(wrapping_key).decrypt(nonce, sealed, _aad(key_id, purpose))
    except (InvalidTag, ValueError) as error:
        raise JitError(Kind.CONFIGURATION, "The wrapping key does not open this database's keys.") from error


def _aad(key_id: str, purpose: str) -> bytes:
    return f"jitaccess/key/{purpose}/{key_id}".encode()


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made: what goes into its row, and its private bytes."""

    id: str
    purpose: Purpose
    public: Mapping[str, JsonValue]
    secret: bytes

    def announced(self) -> dict[str, JsonValue]:
        """Return what the log says of it; the offline verifier learns new checkpoint keys from `vkey`."""
        return {
            "purpose": self.purpose.value,
            "key": self.id,
            **({"vkey": self.public["vkey"]} if "vkey" in self.public else {}),
        }


def make_key(purpose: Purpose, origin: str) -> NewKey:
    """Make a key pair (or a seal key). The id is the RFC 7638 thumbprint, the C2SP key id or random."""
    match purpose:
        case Purpose.TOKEN:
            private = ec.generate_private_key(ec.SECP256R1())
            der = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
            jwk = ECKey.import_key(private)
            return NewKey(jwk.thumbprint(), purpose, cast("dict[str, JsonValue]", jwk.as_dict(private=False)), der)
        case Purpose.AUDIT:
            signer = Ed25519PrivateKey.generate()
            vkey = VerifierKey(origin, signer.public_key().public_bytes_raw())
            return NewKey(f"audit-{vkey.key_id.hex()}", purpose, {"vkey": vkey.to_text()}, signer.private_bytes_raw())
        case Purpose.SEAL:
            return NewKey(f"seal-{new_bytes(6).hex()}", purpose, {}, new_bytes(32))


@dataclass(frozen=True, slots=True)
class _Held:
    """What was read at one moment."""

    register_version: int
    seals: Seals
    token_active: ECKey
    token_verifying: Mapping[str, ECKey]
    audit_origin: str
    audit_signers: tuple[Ed25519PrivateKey, ...]
    vkeys: tuple[str, ...]


class Keyring:
    """All keys of one instance, unwrapped in memory."""

    def __init__(self, url: str, wrapping_key: bytes, held: _Held) -> None:
        self._url = url
        self._wrapping_key = wrapping_key
        self._held = held
        self._guard = threading.Lock()
        held.seals.ask = self._learn_seals

    @classmethod
    def load(cls, url: str, wrapping_key: bytes) -> "Keyring":
        """Read the keys of a database; raises CONFIGURATION or SEAL_BROKEN.

        The seal keys are unwrapped first (nobody without the wrapping key can make one), then every record's seal is checked.
        """
        return cls(url, wrapping_key, _read(_records(url), wrapping_key, 0))

    @property
    def seals(self) -> Seals:
        """Return the seal keys."""
        return self._held.seals

    @property
    def wrapping_key(self) -> bytes:
        """Return the key under which new keys are wrapped."""
        return self._wrapping_key

    def refresh(self, view: View) -> None:
        """Read the keys again when the register changed since (another process rotated one)."""
        version = view.register_version()
        if version != self._held.register_version:
            with self._guard:
                # Unchecked here: `_read` checks each record under the seal keys that it has just unwrapped.
                self._take(_read(view.unchecked_all(_IN_ORDER), self._wrapping_key, version))

    def _learn_seals(self) -> None:
        """Read the keys again because a row bears the id of a seal key that is not known here."""
        try:
            self._take(_read(_records(self._url), self._wrapping_key, self._held.register_version))
        except JitError as error:
            log.error("keys could not be read again: %s", error.message)

    def _take(self, fresh: _Held) -> None:
        """Hold fresh keys. The seals stay one object, which the store holds too."""
        self._held.seals.adopt(fresh.seals)
        self._held = replace(fresh, seals=self._held.seals)

    def token_key(self) -> ECKey:
        """Return the private key that signs tokens; its `kid` is set."""
        return self._held.token_active

    def token_keys(self) -> Mapping[str, ECKey]:
        """Return kid -> public key of all that still verify: active and in overlap, none that is retired."""
        return self._held.token_verifying

    def jwks(self) -> dict[str, JsonValue]:
        """Return the public JWK Set (RFC 7517)."""
        keys: list[JsonValue] = [
            {**cast("dict[str, JsonValue]", key.as_dict(private=False)), "kid": kid, "use": "sig", "alg": "ES256"}
            for kid, key in self._held.token_verifying.items()
        ]
        return {"keys": keys}

    def audit_signers(self) -> tuple[Ed25519PrivateKey, ...]:
        """Return the keys that sign checkpoints: the active one first, then those in overlap.

        The old key's signature over the entry that announces the new one is what lets a verifier who knows the old one follow.
        """
        return self._held.audit_signers

    def vkeys(self) -> tuple[str, ...]:
        """Return the vkey texts of all audit keys this log ever had, newest last."""
        return self._held.vkeys


_IN_ORDER = select(KeyRecord).order_by(KeyRecord.created_at, KeyRecord.id)


def _records(url: str) -> list[KeyRecord]:
    engine = create_engine(url)
    try:
        with Session(engine) as session:
            return list(session.scalars(_IN_ORDER))
    except SQLAlchemyError as error:
        raise JitError(
            Kind.UNAVAILABLE, "The keys cannot be read from the database: check that it is there."
        ) from error
    finally:
        engine.dispose()


def _read(records: list[KeyRecord], wrapping_key: bytes, version: int) -> _Held:
    if not records:
        raise JitError(Kind.CONFIGURATION, "This database holds no keys yet: run `jitaccess init` first.")
    seal_keys: dict[str, bytes] = {}
    active_seal = ""
    for record in records:
        if record.purpose == Purpose.SEAL and record.status != Status.RETIRED:
            seal_keys[record.id] = unwrap(wrapping_key, record.id, record.purpose, record.wrapped)
            if record.status == Status.ACTIVE:
                active_seal = record.id
    if not active_seal:
        raise JitError(Kind.CONFIGURATION, "No seal key is active.")
    seals = Seals(active_seal, seal_keys)
    tokens: dict[str, ECKey] = {}
    token_active: ECKey | None = None
    signers: list[Ed25519PrivateKey] = []
    audit_active = False
    vkeys: list[str] = []
    for record in records:
        _check_seal(record, seals)
        public = cast("dict[str, str]", record.public)
        if record.purpose == Purpose.AUDIT:
            vkeys.append(public["vkey"])
        if record.status == Status.RETIRED:
            continue
        if record.purpose == Purpose.TOKEN:
            tokens[record.id] = ECKey.import_key({**public, "kid": record.id})
            if record.status == Status.ACTIVE:
                der = unwrap(wrapping_key, record.id, record.purpose, record.wrapped)
                private = load_der_private_key(der, None)
                token_active = ECKey.import_key(cast("ec.EllipticCurvePrivateKey", private), {"kid": record.id})
        elif record.purpose == Purpose.AUDIT:
            raw = unwrap(wrapping_key, record.id, record.purpose, record.wrapped)
            active = record.status == Status.ACTIVE
            signers.insert(0 if active else len(signers), Ed25519PrivateKey.from_private_bytes(raw))
            audit_active = audit_active or active
    if token_active is None or not audit_active:
        raise JitError(Kind.CONFIGURATION, "A token key or an audit key is missing.")
    origin = VerifierKey.parse(vkeys[-1]).name
    return _Held(version, seals, token_active, tokens, origin, tuple(signers), tuple(vkeys))


def _check_seal(record: KeyRecord, seals: Seals) -> None:
    content = {
        "id": record.id,
        "purpose": record.purpose,
        "status": record.status,
        "public": record.public,
        "created_at": record.created_at,
        "retires_at": record.retires_at,
    }
    digest = row_digest("key_record", record.id, record.version, content)
    if not seals.holds(record.seal, "key_record", record.id, record.version, record.event_id, digest):
        raise JitError(Kind.SEAL_BROKEN, "A key record was changed outside the broker; it is not used.", key=record.id)


def store_key(tx: Tx, wrapping_key: bytes, key: NewKey, *, first: bool) -> PendingEvent:
    """Write a key's row as the active one of its purpose; the event tells of it with its public part."""
    event = tx.record(EventType.KEYS_CREATED if first else EventType.KEYS_ROTATED, body=key.announced())
    tx.insert(
        KeyRecord,
        event,
        id=key.id,
        purpose=key.purpose.value,
        status=Status.ACTIVE.value,
        public=dict(key.public),
        wrapped=wrap(wrapping_key, key.id, key.purpose.value, key.secret),
        created_at=tx.now,
    )
    return event


def rotate(tx: Tx, keyring: Keyring, purpose: Purpose, *, origin: str, overlap: timedelta) -> tuple[str, PendingEvent]:
    """Make a new active key; the old one goes into overlap until it is retired. Return the new key's id and its event.

    What else a rotation needs (a checkpoint by both keys, rows sealed anew) is in `audit.rotation`, which callers use.
    """
    key = make_key(purpose, origin)
    announced = store_key(tx, keyring.wrapping_key, key, first=False)
    for record in _with_status(tx, purpose, Status.ACTIVE):
        if record.id != key.id:
            event = tx.record(
                EventType.KEYS_RETIRED, body={"purpose": purpose.value, "key": record.id, "overlap": True}
            )
            tx.update(record, event, status=Status.OVERLAP.value, retires_at=tx.now + overlap)
    return key.id, announced


def retire_due(tx: Tx) -> int:
    """Retire keys whose overlap is over; return how many.

    A seal key first gives up the rows that another process still wrote with it, at most `RESEAL_BATCH` of a table a call.
    """
    done = 0
    for record in _due(tx, tx.now):
        if record.purpose != Purpose.SEAL or _left_behind(tx, record.id) == 0:
            retire(tx, record)
            done += 1
    return done


def due_for_retirement(view: View, now: datetime) -> bool:
    """Say whether `retire_due` would do anything."""
    return bool(_due(view, now))


RESEAL_BATCH = 500


def seal_table_anew(tx: Tx, model: type[Base], old: str, *, after: str = "") -> tuple[int, str]:
    """Seal the next rows of one table that bear an old seal key with the active one.

    Return how many, and the last key looked at, from which to go on; "" when the table is done. Broken rows stay as they are.
    """
    columns = inspect(model).columns
    key = inspect(model).primary_key[0]
    rows = tx.unchecked_all(
        select(model)
        .where(columns["seal"].startswith(f"{old}.", autoescape=True), key > after)
        .order_by(key)
        .limit(RESEAL_BATCH)
        .with_for_update()
    )
    done = tx.seal_anew(rows)
    if done:
        tx.record(EventType.KEYS_ROTATED, body={"purpose": "seal", "table": model.__tablename__, "rows": done})
    return done, "" if len(rows) < RESEAL_BATCH else str(getattr(rows[-1], str(key.key)))


def sealed_models() -> list[type[Base]]:
    """Return every class whose rows bear seals, in a fixed order."""
    found = [cast("type[Base]", m.class_) for m in Base.registry.mappers if issubclass(m.class_, Sealed)]
    return sorted(found, key=lambda model: model.__tablename__)


def _left_behind(tx: Tx, old: str) -> int:
    """Seal anew what still bears an old key; return how much was found: with none, the key may go."""
    waiting = tx.scalar(
        select(func.count()).select_from(Event).where(Event.idx.is_(None), Event.seal.startswith(f"{old}."))
    )
    return int(waiting or 0) + sum(seal_table_anew(tx, model, old)[0] for model in sealed_models())


def _due(view: View, now: datetime) -> list[KeyRecord]:
    overlap = view.all(select(KeyRecord).where(KeyRecord.status == Status.OVERLAP.value))
    return [record for record in overlap if record.retires_at is not None and record.retires_at <= now]


def _with_status(view: View, purpose: Purpose, status: Status) -> list[KeyRecord]:
    return view.all(select(KeyRecord).where(KeyRecord.purpose == purpose.value, KeyRecord.status == status.value))


def retire(tx: Tx, record: KeyRecord) -> None:
    """Retire one key: it neither signs nor verifies from here on, and its private part is gone."""
    event = tx.record(EventType.KEYS_RETIRED, body={"purpose": record.purpose, "key": record.id, "overlap": False})
    tx.update(record, event, status=Status.RETIRED.value, retires_at=tx.now, wrapped=b"")


def listing(view: View) -> list[str]:
    """Return a line a key: purpose, id, status, when made."""
    records = view.all(select(KeyRecord).order_by(KeyRecord.purpose, KeyRecord.created_at))
    return [f"{row.purpose:6} {row.id} {row.status} made {row.created_at:%Y-%m-%d %H:%M} UTC" for row in records]
