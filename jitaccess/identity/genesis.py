"""How does a broker begin? Genesis: local, single use, leaf 0 of the log (design.md section 6a, R74).

The production profile takes three founders with two passkeys each and prints paper recovery keys, k of n. A pilot starts with one founder
and says so on every page and in every checkpoint. One transaction writes everything; leaf 0 names the founders, their public
keys, the recovery keys' hashes, the first policy and the pilot flag. It works on an empty database only.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select

from jitaccess.clock import Clock
from jitaccess.domain.events import EventType
from jitaccess.domain.values import LOCAL
from jitaccess.errors import JitError, Kind
from jitaccess.identity.passkeys import RegisteredKey, store_passkey
from jitaccess.identity.people import ADMINS, AUDITORS, FOUNDERS, add_group, add_member, add_person
from jitaccess.policy.evaluate import PolicySet
from jitaccess.proof.canonical import JsonValue, b64u_encode, sha256_b64u
from jitaccess.settings import Settings
from jitaccess.store.db import Database, PendingEvent, Tx
from jitaccess.store.ids import hash_secret, new_bytes, new_id
from jitaccess.store.migrations import upgrade
from jitaccess.store.seal import Seals
from jitaccess.store.tables import Account, Instance, PolicySetRow, RecoveryKey
from jitaccess.tokens.keys import Purpose, make_key, store_key

FOUNDERS_WANTED, PASSKEYS_WANTED = 3, 2
PAPER_KEYS, PAPER_THRESHOLD = 5, 3
PAPER_BYTES = 20


@dataclass(frozen=True, slots=True)
class FounderDraft:
    """A founder as enrolled before there is a database."""

    name: str
    email: str
    institution: str
    unit: str
    user_handle: str
    """The WebAuthn user.id of the registrations: 32 bytes, base64url."""
    passkeys: tuple[RegisteredKey, ...]


@dataclass(frozen=True, slots=True)
class Genesis:
    """What genesis leaves in the founders' hands."""

    instance_id: str
    founders: tuple[str, ...]
    """Person ids."""
    accounts: tuple[str, ...]
    paper_keys: tuple[str, ...]
    """To be printed once; only hashes are stored."""


def check_founders(founders: Sequence[FounderDraft], *, pilot: bool) -> None:
    """Raise INVALID unless there are as many founders and passkeys as the profile wants."""
    wanted = 1 if pilot else FOUNDERS_WANTED
    if len(founders) != wanted:
        raise JitError(Kind.INVALID, f"This profile starts with {wanted} founder(s); {len(founders)} were given.")
    passkeys = 1 if pilot else PASSKEYS_WANTED
    for founder in founders:
        if len(founder.passkeys) < passkeys:
            raise JitError(Kind.INVALID, f"{founder.name} needs {passkeys} passkey(s).")
    known = [key.credential_id for founder in founders for key in founder.passkeys]
    if len(set(known)) != len(known):
        raise JitError(Kind.INVALID, "One passkey was registered twice.")


def new_user_handle() -> str:
    """Return a fresh WebAuthn user.id."""
    return b64u_encode(new_bytes(32))


def new_paper_key() -> str:
    """Return 160 random bits in groups of four letters that cannot be misread on paper."""
    text = base64.b32encode(new_bytes(PAPER_BYTES)).decode()
    return "-".join(text[at : at + 4] for at in range(0, len(text), 4))


def normal_paper_key(text: str) -> str:
    """Return a paper key as typed, in the form that is hashed."""
    return text.replace("-", "").replace(" ", "").upper()


def genesis(
    settings: Settings,
    clock: Clock,
    wrapping_key: bytes,
    founders: Sequence[FounderDraft],
    *,
    pilot: bool,
    policy: PolicySet | None = None,
) -> Genesis:
    """Create the instance; raises CONFLICT on a database that holds one already."""
    check_founders(founders, pilot=pilot)
    upgrade(settings.store.url)
    origin = settings.log.origin
    keys = [make_key(purpose, origin) for purpose in (Purpose.SEAL, Purpose.TOKEN, Purpose.AUDIT)]
    seals = Seals(keys[0].id, {keys[0].id: keys[0].secret})
    db = Database(settings.store.url, clock, seals)
    try:
        with db.begin(LOCAL) as tx:
            if tx.scalar(select(Instance.id)) is not None:
                raise JitError(Kind.CONFLICT, "This database holds an instance already: genesis happens once.")
            paper = tuple(new_paper_key() for _ in range(PAPER_KEYS))
            instance_id = new_id(tx.now)
            event = tx.record(
                EventType.INSTANCE_CREATED,
                subject={"instance": instance_id},
                body=_leaf_zero(settings, founders, paper, pilot=pilot, policy=policy),
            )
            tx.insert(
                Instance,
                id=instance_id,
                log_origin=origin,
                rp_id=settings.rp_id,
                public_url=settings.server.public_url,
                pilot=pilot,
                created_at=tx.now,
            )
            for key in keys:
                store_key(tx, wrapping_key, key, first=True)
            people = _write_founders(tx, founders)
            for text in paper:
                tx.insert(
                    RecoveryKey,
                    event,
                    id=tx.new_id(),
                    secret_hash=hash_secret(normal_paper_key(text)),
                    threshold=PAPER_THRESHOLD,
                    created_at=tx.now,
                )
            if policy is not None:
                _write_policy(tx, event, policy)
        return Genesis(instance_id, tuple(p for p, _ in people), tuple(a for _, a in people), paper)
    finally:
        db.close()


def _leaf_zero(
    settings: Settings,
    founders: Sequence[FounderDraft],
    paper: Sequence[str],
    *,
    pilot: bool,
    policy: PolicySet | None,
) -> dict[str, JsonValue]:
    people: list[JsonValue] = [
        {
            "institution": founder.institution,
            "passkeys": [
                {"credential_id": key.credential_id, "public_key": sha256_b64u(key.public_key_der)}
                for key in founder.passkeys
            ],
        }
        for founder in founders
    ]
    return {
        "log_origin": settings.log.origin,
        "rp_id": settings.rp_id,
        "public_url": settings.server.public_url,
        "pilot": pilot,
        "founders": people,
        "recovery": {
            "threshold": PAPER_THRESHOLD,
            "hashes": [*sorted(hash_secret(normal_paper_key(text)) for text in paper)],
        },
        "policy_digest": policy.digest if policy is not None else None,
    }


def _write_founders(tx: Tx, founders: Sequence[FounderDraft]) -> list[tuple[str, str]]:
    for group, name in ((FOUNDERS, "Founders"), (ADMINS, "Administrators"), (AUDITORS, "Auditors")):
        add_group(tx, group_id=group, name=name)
    found: list[tuple[str, str]] = []
    for founder in founders:
        person = add_person(
            tx, name=founder.name, email=founder.email, institution=founder.institution, unit=founder.unit
        )
        account_id = tx.new_id()
        event = tx.record(EventType.ACCOUNT_ADDED, subject={"person": person.id, "account": account_id})
        account = tx.insert(
            Account,
            event,
            id=account_id,
            person_id=person.id,
            label=founder.email,
            user_handle=founder.user_handle,
            status="active",
            created_at=tx.now,
        )
        for number, key in enumerate(founder.passkeys, start=1):
            store_passkey(tx, account, key, f"Founder passkey {number}")
        add_member(tx, group_id=FOUNDERS, member_id=person.id)
        found.append((person.id, account.id))
    return found


def _write_policy(tx: Tx, event: PendingEvent, policy: PolicySet) -> None:
    tx.insert(
        PolicySetRow,
        event,
        id=tx.new_id(),
        digest=policy.digest,
        document=dict(policy.document),
        status="active",
        proposed_by="genesis",
        proposed_at=tx.now,
        activated_at=tx.now,
    )
