"""How does an empty folder become the demo's broker? Genesis with three founders, the cast, the shipped policies and the treasury's client.

Everything goes through the same verbs as in production; only the passkeys are software.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jitaccess.clock import Clock
from jitaccess.connectors import config_models
from jitaccess.demo.cast import CAST, FOUNDERS, Role
from jitaccess.demo.soft_passkey import SoftPasskey
from jitaccess.domain.register import RegisterView
from jitaccess.domain.values import LOCAL
from jitaccess.errors import JitError, Kind
from jitaccess.identity.genesis import FounderDraft, Genesis, genesis, new_user_handle
from jitaccess.identity.passkeys import RegisteredKey, check_registration, registration_options, store_passkey
from jitaccess.identity.people import add_account, add_group, add_member, add_person
from jitaccess.identity.site import Site
from jitaccess.policy.evaluate import PolicySet
from jitaccess.policy.load import load
from jitaccess.settings import Settings
from jitaccess.store.db import Database
from jitaccess.store.ids import new_bytes
from jitaccess.store.tables import Account
from jitaccess.tokens.keys import Keyring

GROUPS = (
    ("treasury-staff", "Treasury staff", "mof"),
    ("treasury-releasers", "Treasury releasers", "mof"),
    ("treasury-heads", "Heads of the treasury", "mof"),
    ("infra-finance", "Infrastructure finance", "infra"),
    ("payroll-staff", "Payroll staff", "mof"),
    ("payroll-heads", "Heads of payroll", "mof"),
    ("duty-officers", "Duty officers", "mof"),
    ("cert", "Emergency response team", "nao"),
    ("registry-clerks", "Registry clerks", "civil"),
)


@dataclass(frozen=True, slots=True)
class Seeded:
    """What the seed made: role key -> ids and passkeys."""

    people: Mapping[str, str]
    accounts: Mapping[str, str]
    passkeys: Mapping[str, SoftPasskey]
    """For people who were given a software passkey at once."""
    paper_keys: tuple[str, ...]


def read_policies(folder: Path, register: RegisterView | None = None) -> PolicySet:
    """Read and load a policy folder."""
    texts = {file.name: file.read_text() for file in sorted(folder.glob("*.yaml"))}
    return load(texts, register=register, connectors=config_models())


def soft_key(site: Site, passkey: SoftPasskey, *, user_handle: str, label: str) -> RegisteredKey:
    """Run a real registration of a software passkey and return the checked key."""
    challenge = new_bytes(32)
    options = registration_options(
        site, challenge=challenge, user_handle=user_handle, label=label, name=label, exclude=[]
    )
    found = check_registration(site, challenge=challenge, response=passkey.create(options))
    if isinstance(found, str):
        raise JitError(Kind.INTERNAL, f"The software passkey was refused: {found}.")
    return found


def seed(
    settings: Settings,
    clock: Clock,
    wrapping_key: bytes,
    policy: PolicySet,
    *,
    enrolled: frozenset[str],
    pilot: bool = False,
    extra_groups: tuple[tuple[str, str, str], ...] = (),
) -> Seeded:
    """Create the instance and the cast. `enrolled` names those who get a software passkey now; the others need a link."""
    site = Site(
        instance_id="genesis",
        log_origin=settings.log.origin,
        rp_id=settings.rp_id,
        origin=settings.server.public_url,
        name="jitaccess",
        pilot=pilot,
        sessions=settings.sessions,
    )
    passkeys: dict[str, SoftPasskey] = {}
    made, founders = _genesis(settings, clock, wrapping_key, policy, site, passkeys, pilot=pilot)
    people = dict(zip((role.key for role in founders), made.founders, strict=True))
    accounts = dict(zip((role.key for role in founders), made.accounts, strict=True))
    keyring = Keyring.load(settings.store.url, wrapping_key)
    db = Database(settings.store.url, clock, keyring.seals)
    try:
        with db.begin(LOCAL) as tx:
            for group, name, institution in (*GROUPS, *extra_groups):
                add_group(tx, group_id=group, name=name, institution=institution)
            for role in sorted(CAST, key=lambda role: role.manager is not None):
                people[role.key] = add_person(
                    tx,
                    name=role.name,
                    email=role.email,
                    institution=role.institution,
                    unit=role.unit,
                    manager_id=people.get(role.manager or ""),
                ).id
                accounts[role.key] = add_account(tx, person_id=people[role.key], label=role.email).id
                for group in role.groups:
                    add_member(tx, group_id=group, member_id=people[role.key])
            # The same person with a second account: rules count persons, so it changes nothing (T-05).
            accounts["arta-2"] = add_account(tx, person_id=people["arta"], label="arta.k@mof.example").id
        with db.begin(LOCAL) as tx:
            for key in sorted(enrolled):
                account = tx.require(Account, accounts[key])
                passkeys[key] = SoftPasskey(site.rp_id, site.origin)
                found = soft_key(site, passkeys[key], user_handle=account.user_handle, label=account.label)
                store_passkey(tx, account, found, "Software passkey")
    finally:
        db.close()
    return Seeded(people, accounts, passkeys, made.paper_keys)


def _genesis(
    settings: Settings,
    clock: Clock,
    wrapping_key: bytes,
    policy: PolicySet,
    site: Site,
    passkeys: dict[str, SoftPasskey],
    *,
    pilot: bool,
) -> tuple[Genesis, tuple[Role, ...]]:
    founders = FOUNDERS[:1] if pilot else FOUNDERS
    drafts: list[FounderDraft] = []
    for role in founders:
        handle = new_user_handle()
        keys: list[RegisteredKey] = []
        for number in range(2):
            passkey = SoftPasskey(site.rp_id, site.origin)
            keys.append(soft_key(site, passkey, user_handle=handle, label=role.email))
            if number == 0:
                passkeys[role.key] = passkey
        drafts.append(FounderDraft(role.name, role.email, role.institution, role.unit, handle, tuple(keys)))
    made = genesis(settings, clock, wrapping_key, drafts, pilot=pilot, policy=policy)
    return made, founders
