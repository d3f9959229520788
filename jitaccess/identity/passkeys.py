"""Did this person's passkey answer this ceremony? WebAuthn at the door, on py_webauthn (R1-R7).

Every challenge is a row written before it is sent, bound to one purpose, one browser or session and, where known, one account; it lives
at most five minutes and is spent by its first answer, good or bad. py_webauthn checks; this room adds what it leaves out:
user verification always, no cross-origin or framed ceremony, user handle and allowed credentials enforced on the server, credential
ids never seen before, backup flags that never change, and a counter that must rise. Stored evidence is checked by `proof.assertion`
too, and both must agree. Refusals are values; sign-in answers every cause with the same words (R11).
"""

import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.resources import files
from typing import Any, Protocol, cast

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import bindparam, func, select
from webauthn import (
    generate_authentication_options,
    generate_registration_options,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.helpers import (
    decode_credential_public_key,
    decoded_public_key_to_cryptography,
    options_to_json_dict,
    parse_attestation_object,
)
from webauthn.helpers.cose import COSEAlgorithmIdentifier
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AttestationFormat,
    AuthenticatorSelectionCriteria,
    CredentialDeviceType,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from jitaccess.domain.events import EventType
from jitaccess.domain.values import Refused
from jitaccess.errors import Kind
from jitaccess.identity.people import may_act
from jitaccess.identity.sessions import Current, end_all
from jitaccess.identity.site import Site
from jitaccess.proof.assertion import EDDSA, ES256, RS256, Assertion, StoredKey, check_assertion
from jitaccess.proof.canonical import JsonValue, b64u_decode, b64u_encode
from jitaccess.proof.errors import ProofError
from jitaccess.proof.statements import Purpose
from jitaccess.proof.statements import challenge as statement_challenge
from jitaccess.store.db import Tx, View
from jitaccess.store.find import Find
from jitaccess.store.ids import new_bytes
from jitaccess.store.tables import Account, Challenge, Passkey, Person

CHALLENGE_BYTES = 32
ALGORITHMS = (ES256, EDDSA, RS256)
FORMATS = frozenset(
    {AttestationFormat.NONE, AttestationFormat.PACKED, AttestationFormat.FIDO_U2F, AttestationFormat.APPLE}
)
"""Attestation formats taken; without roots to check them against none counts as attested."""
SIGN_IN, REGISTER, STEP_UP, OPEN = "sign_in", "register", "step_up", "open"
STATEMENT_PURPOSES = {purpose.value: purpose for purpose in Purpose}
MAX_NAME = 60
BY_CREDENTIAL = Find(Passkey, select(Passkey).where(Passkey.credential_id == bindparam("credential_id")))
PROVIDERS: Mapping[str, str] = json.loads(files("jitaccess.identity").joinpath("providers.json").read_text())
"""AAGUID -> provider's name, for people; it decides nothing."""
Response = Mapping[str, Any]


class Gate(Protocol):
    """Says why an account may not take a passkey now, or None."""

    def __call__(self, view: View, /, *, person_id: str, account_id: str) -> Refused | None: ...


@dataclass(frozen=True, slots=True)
class Ceremony:
    """What the browser needs: the challenge's id and the WebAuthn options as JSON."""

    challenge_id: str
    options: dict[str, Any]
    statement: bytes | None = None


@dataclass(frozen=True, slots=True)
class VerifiedAssertion:
    """A good answer to a ceremony; only this room makes one."""

    passkey: Passkey
    assertion: dict[str, str]
    statement: bytes | None
    subject_id: str | None
    extra: JsonValue
    at: datetime
    purpose: str
    """What the ceremony was for; part of the challenge that was signed where there is a statement."""


@dataclass(frozen=True, slots=True)
class RegisteredKey:
    """A new credential that passed registration."""

    credential_id: str
    cose_key: bytes
    public_key_der: bytes
    algorithm: int
    aaguid: str
    transports: tuple[str, ...]
    backup_eligible: bool
    backed_up: bool
    sign_count: int

    @property
    def provider(self) -> str:
        """Return the provider's name for people."""
        return PROVIDERS.get(self.aaguid, "")


# ---------------------------------------------------------------- challenges


def _new_challenge(
    tx: Tx,
    site: Site,
    *,
    purpose: str,
    session_id: str | None,
    account_id: str | None = None,
    subject_id: str | None = None,
    allowed: list[str] | None = None,
    statement: bytes | None = None,
    extra: JsonValue = None,
) -> Challenge:
    kind = STATEMENT_PURPOSES.get(purpose)
    if (kind is None) != (statement is None):
        raise ValueError("a statement goes with a statement's purpose, and only with it")
    value = new_bytes(CHALLENGE_BYTES) if kind is None else statement_challenge(kind, cast(bytes, statement))
    return tx.insert(
        Challenge,
        id=tx.new_id(),
        challenge_b64u=b64u_encode(value),
        purpose=purpose,
        session_id=session_id,
        account_id=account_id,
        subject_id=subject_id,
        allowed=allowed,
        statement=statement,
        extra=extra,
        created_at=tx.now,
        expires_at=tx.now + timedelta(seconds=site.sessions.challenge_s),
    )


def _spend(tx: Tx, challenge_id: str, *, purpose: str, session_id: str | None) -> Challenge | Refused:
    """Take a challenge for its one answer; it is spent whatever the answer is, also where an exception undoes all else (R3).

    The one place where any ceremony completes.
    """
    row = tx.get(Challenge, challenge_id) if len(challenge_id) <= 64 else None
    if row is None:
        return _stale("challenge_unknown")
    if row.spent_at is not None:
        return _stale("challenge_spent")
    tx.update(row, expect={"spent_at": None}, spent_at=tx.now)
    tx.if_undone(lambda again: _spend_again(again, challenge_id))
    if row.purpose != purpose:
        return _stale("challenge_of_another_purpose")
    if not hmac.compare_digest(row.session_id or "", session_id or ""):
        return _stale("challenge_of_another_session")
    if tx.now >= row.expires_at:
        return _stale("challenge_expired")
    return row


def _spend_again(tx: Tx, challenge_id: str) -> None:
    row = tx.get(Challenge, challenge_id)
    if row is not None and row.spent_at is None:
        tx.update(row, expect={"spent_at": None}, spent_at=tx.now)


def _stale(code: str) -> Refused:
    return Refused(Kind.FORBIDDEN, code, "This sign-in window is no longer open. Start again.")


# ---------------------------------------------------------------- registration


def registration_options(
    site: Site, *, challenge: bytes, user_handle: str, label: str, name: str, exclude: list[str]
) -> dict[str, Any]:
    """Return creation options: discoverable, user verification required, no attestation asked for."""
    options = generate_registration_options(
        rp_id=site.rp_id,
        rp_name=site.name,
        user_id=b64u_decode(user_handle),
        user_name=label,
        user_display_name=name,
        challenge=challenge,
        timeout=site.sessions.challenge_s * 1000,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED,
            require_resident_key=True,
            user_verification=UserVerificationRequirement.REQUIRED,
        ),
        exclude_credentials=[PublicKeyCredentialDescriptor(id=b64u_decode(known)) for known in exclude],
        supported_pub_key_algs=[COSEAlgorithmIdentifier(number) for number in ALGORITHMS],
    )
    return options_to_json_dict(options) | {"extensions": {"credProps": True}}


def begin_registration(
    tx: Tx, site: Site, *, account: Account, session_id: str | None = None, enrolment_id: str | None = None
) -> Ceremony:
    """Begin adding a passkey to an account."""
    known = tx.all(select(Passkey).where(Passkey.account_id == account.id))
    row = _new_challenge(
        tx, site, purpose=REGISTER, session_id=session_id, account_id=account.id, subject_id=enrolment_id
    )
    person = tx.require(Person, account.person_id)
    options = registration_options(
        site,
        challenge=b64u_decode(row.challenge_b64u),
        user_handle=account.user_handle,
        label=account.label,
        name=person.name,
        exclude=[passkey.credential_id for passkey in known],
    )
    return Ceremony(row.id, options)


def check_registration(site: Site, *, challenge: bytes, response: Response) -> RegisteredKey | str:
    """Check a registration answer; return the key, or the code of the refusal (R1, R2, R5, R6)."""
    framed = _framed(response)
    if framed is not None:
        return framed
    try:
        verified = verify_registration_response(
            credential=dict(response),
            expected_challenge=challenge,
            expected_rp_id=site.rp_id,
            expected_origin=site.origin,
            require_user_presence=True,
            require_user_verification=True,
            supported_pub_key_algs=[COSEAlgorithmIdentifier(number) for number in ALGORITHMS],
        )
        decoded = decode_credential_public_key(verified.credential_public_key)
        public = decoded_public_key_to_cryptography(decoded)
        counter = parse_attestation_object(verified.attestation_object).auth_data.sign_count
    except (WebAuthnException, ValueError, KeyError, TypeError, AttributeError) as error:
        return _why(error)
    if verified.fmt not in FORMATS:
        return "attestation_format"
    transports = cast("dict[str, Any]", response.get("response", {})).get("transports", [])
    eligible = verified.credential_device_type is CredentialDeviceType.MULTI_DEVICE
    if verified.credential_backed_up and not eligible:
        return "backup_flags"
    return RegisteredKey(
        credential_id=b64u_encode(verified.credential_id),
        cose_key=verified.credential_public_key,
        public_key_der=public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        algorithm=int(decoded.alg),
        aaguid=verified.aaguid,
        transports=tuple(str(part)[:20] for part in transports[:8]) if isinstance(transports, list) else (),
        backup_eligible=eligible,
        backed_up=verified.credential_backed_up,
        sign_count=counter,
    )


def complete_registration(
    tx: Tx,
    site: Site,
    *,
    challenge_id: str,
    response: Response,
    name: str,
    session_id: str | None = None,
    enrolment_id: str | None = None,
    gate: Gate = may_act,
) -> Passkey | Refused:
    """Finish adding a passkey; the caller has checked that the person may (a fresh assertion, or an enrolment link).

    `gate` says whether the account may take one now: the gate of every act, but for recovery links.
    """
    row = _spend(tx, challenge_id, purpose=REGISTER, session_id=session_id)
    if isinstance(row, Challenge) and row.subject_id != enrolment_id:
        row = _stale("challenge_of_another_link")
    if isinstance(row, Refused):
        return _refuse_registration(tx, None, row.code)
    found = check_registration(site, challenge=b64u_decode(row.challenge_b64u), response=response)
    if isinstance(found, str):
        return _refuse_registration(tx, row.account_id, found)
    if tx.scalar(select(Passkey.id).where(Passkey.credential_id == found.credential_id)) is not None:
        return _refuse_registration(tx, row.account_id, "credential_known")
    account = tx.require(Account, row.account_id)
    refused = gate(tx, person_id=account.person_id, account_id=account.id)
    if refused is not None:
        return refused
    return store_passkey(tx, account, found, name)


def store_passkey(tx: Tx, account: Account, key: RegisteredKey, name: str) -> Passkey:
    """Write a passkey that passed registration."""
    shown = "".join(letter for letter in name if letter.isprintable()).strip()[:MAX_NAME]
    passkey_id = tx.new_id()
    event = tx.record(
        EventType.PASSKEY_ADDED,
        subject={"person": account.person_id, "account": account.id, "passkey": passkey_id},
        body={"aaguid": key.aaguid, "algorithm": key.algorithm, "backup_eligible": key.backup_eligible},
    )
    return tx.insert(
        Passkey,
        event,
        id=passkey_id,
        account_id=account.id,
        person_id=account.person_id,
        credential_id=key.credential_id,
        cose_key=key.cose_key,
        public_key_der=key.public_key_der,
        algorithm=key.algorithm,
        aaguid=key.aaguid,
        name=shown or key.provider or "Passkey",
        provider=key.provider,
        transports=[*key.transports],
        backup_eligible=key.backup_eligible,
        attested=False,
        status="active",
        created_at=tx.now,
        sign_count=key.sign_count,
        backed_up=key.backed_up,
    )


def _refuse_registration(tx: Tx, account_id: str | None, code: str) -> Refused:
    tx.record(EventType.ENROLMENT_REFUSED, subject={"account": account_id}, body={"reason": code})
    messages = {
        "credential_known": "This passkey is registered already. Choose another one.",
        "user_not_verified": "The passkey did not ask for your fingerprint, face or PIN. Use one that does.",
    }
    return Refused(Kind.FORBIDDEN, code, messages.get(code, "The passkey could not be registered. Start again."))


# ---------------------------------------------------------------- assertions


def begin_sign_in(tx: Tx, site: Site, *, browser: str | None = None) -> Ceremony:
    """Begin signing in with a discoverable passkey; works with the browser's autofill (conditional mediation)."""
    row = _new_challenge(tx, site, purpose=SIGN_IN, session_id=browser)
    return Ceremony(row.id, _request_options(site, row))


def begin_assertion(
    tx: Tx,
    site: Site,
    current: Current,
    *,
    purpose: str,
    subject_id: str | None = None,
    statement: bytes | None = None,
    extra: JsonValue = None,
    among: Sequence[Passkey] = (),
) -> Ceremony:
    """Begin an act of a signed-in person; only the session's own passkey, or one of those named, may answer."""
    wanted = among or [current.passkey]
    row = _new_challenge(
        tx,
        site,
        purpose=purpose,
        session_id=current.session.id,
        account_id=current.account.id,
        subject_id=subject_id,
        allowed=[passkey.credential_id for passkey in wanted],
        statement=statement,
        extra=extra,
    )
    return Ceremony(row.id, _request_options(site, row), statement)


def _request_options(site: Site, row: Challenge) -> dict[str, Any]:
    allowed = cast("list[str] | None", row.allowed)
    options = generate_authentication_options(
        rp_id=site.rp_id,
        challenge=b64u_decode(row.challenge_b64u),
        timeout=site.sessions.challenge_s * 1000,
        allow_credentials=[PublicKeyCredentialDescriptor(id=b64u_decode(known)) for known in allowed or ()],
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    return options_to_json_dict(options)


def complete_sign_in(
    tx: Tx, site: Site, *, challenge_id: str, response: Response, browser: str | None = None
) -> VerifiedAssertion | Refused:
    """Check a sign-in; the caller opens the session. Every refusal looks the same outside (R11)."""
    row = _spend(tx, challenge_id, purpose=SIGN_IN, session_id=browser)
    if isinstance(row, Refused):
        return _refuse(tx, SIGN_IN, None, row.code)
    passkey = _passkey_of(tx, response)
    if passkey is None:
        return _refuse(tx, SIGN_IN, None, "credential_unknown")
    account = tx.require(Account, passkey.account_id)
    handle = cast("dict[str, Any]", response.get("response") or {}).get("userHandle")
    if not isinstance(handle, str) or not hmac.compare_digest(handle.encode(), account.user_handle.encode()):
        return _refuse(tx, SIGN_IN, passkey, "user_handle")
    return _verify(tx, site, row, passkey, response)


def complete_assertion(
    tx: Tx, site: Site, current: Current, *, purpose: str, challenge_id: str, response: Response
) -> VerifiedAssertion | Refused:
    """Check the answer to `begin_assertion` of the same purpose in the same session."""
    row = _spend(tx, challenge_id, purpose=purpose, session_id=current.session.id)
    if isinstance(row, Refused):
        return _refuse(tx, purpose, None, row.code)
    passkey = _passkey_of(tx, response)
    if passkey is None or passkey.credential_id not in (cast("list[str] | None", row.allowed) or ()):
        return _refuse(tx, purpose, passkey, "credential_not_allowed")
    if passkey.account_id != current.account.id or row.account_id != current.account.id:
        return _refuse(tx, purpose, passkey, "credential_of_another_account")
    handle = cast("dict[str, Any]", response.get("response") or {}).get("userHandle")
    if handle is not None and handle != current.account.user_handle:
        return _refuse(tx, purpose, passkey, "user_handle")
    return _verify(tx, site, row, passkey, response)


def _passkey_of(view: View, response: Response) -> Passkey | None:
    credential_id = response.get("id")
    if not isinstance(credential_id, str) or len(credential_id) > 1400:
        return None
    found = view.find(BY_CREDENTIAL, credential_id=credential_id)
    return found[0] if found else None


def _verify(tx: Tx, site: Site, row: Challenge, passkey: Passkey, response: Response) -> VerifiedAssertion | Refused:
    """Check one assertion with both verifiers, then counter and flags; note the use."""
    if passkey.status != "active":
        return _refuse(tx, row.purpose, passkey, "passkey_not_active")
    framed = _framed(response)
    if framed is not None:
        return _refuse(tx, row.purpose, passkey, framed)
    challenge = b64u_decode(row.challenge_b64u)
    if row.statement is not None:
        # The row is only book-keeping: what counts is the hash of the exact bytes, computed again here.
        challenge = statement_challenge(STATEMENT_PURPOSES[row.purpose], row.statement)
    try:
        checked = verify_authentication_response(
            credential=dict(response),
            expected_challenge=challenge,
            expected_rp_id=site.rp_id,
            expected_origin=site.origin,
            credential_public_key=passkey.cose_key,
            credential_current_sign_count=0,  # the counter is judged below, with its own consequence
            require_user_verification=True,
        )
        assertion = _assertion(response)
        again = check_assertion(
            assertion,
            StoredKey(passkey.public_key_der, passkey.algorithm),
            challenge=challenge,
            origin=site.origin,
            rp_id=site.rp_id,
        )
    except (WebAuthnException, ProofError, ValueError, KeyError, TypeError, AttributeError) as error:
        return _refuse(tx, row.purpose, passkey, _why(error))
    if again.sign_count != checked.new_sign_count or again.backed_up != checked.credential_backed_up:
        return _refuse(tx, row.purpose, passkey, "verifiers_disagree")
    if again.backup_eligible != passkey.backup_eligible:
        return _refuse(tx, row.purpose, passkey, "backup_eligibility_changed")
    if (again.sign_count or passkey.sign_count) and again.sign_count <= passkey.sign_count:
        return _block_clone(tx, row.purpose, passkey)
    refused = may_act(tx, person_id=passkey.person_id, account_id=passkey.account_id, passkey_id=passkey.id)
    if refused is not None:
        return _refuse(tx, row.purpose, passkey, refused.code)
    tx.update(passkey, sign_count=again.sign_count, backed_up=again.backed_up, last_used_at=tx.now)
    return VerifiedAssertion(
        passkey, assertion.to_json(), row.statement, row.subject_id, row.extra, tx.now, row.purpose
    )


def _assertion(response: Response) -> Assertion:
    parts = cast("dict[str, str]", response["response"])
    return Assertion(
        b64u_decode(parts["clientDataJSON"]), b64u_decode(parts["authenticatorData"]), b64u_decode(parts["signature"])
    )


def _framed(response: Response) -> str | None:
    """Refuse ceremonies inside another site's frame, which py_webauthn 3 lets pass (R2)."""
    try:
        client = json.loads(b64u_decode(cast("dict[str, str]", response["response"])["clientDataJSON"]))
        if client.get("crossOrigin", False) is not False or "topOrigin" in client:
            return "cross_origin"
    except (ProofError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "malformed"
    return None


def _why(error: Exception) -> str:
    if isinstance(error, ProofError):
        return error.reason
    text = str(error).lower()
    for part, code in (
        ("user verification", "user_not_verified"),
        ("user presence", "user_not_present"),
        ("user was not", "user_not_present"),
        ("could not be verified", "user_not_verified"),
        ("challenge", "wrong_challenge"),
        ("origin", "wrong_origin"),
        ("rp id", "wrong_rp_id"),
        ("rpid", "wrong_rp_id"),
        ("signature", "bad_signature"),
        ("algorithm", "algorithm"),
        ("backup", "backup_flags"),
        ("backed up", "backup_flags"),
    ):
        if part in text:
            return code
    return "malformed"


def _block_clone(tx: Tx, purpose: str, passkey: Passkey) -> Refused:
    """A counter that does not rise means two copies of one passkey: block it, end its sessions, alarm (R6)."""
    event = tx.record(
        EventType.PASSKEY_BLOCKED,
        subject={"person": passkey.person_id, "passkey": passkey.id},
        body={"reason": "counter_did_not_rise"},
    )
    tx.update(passkey, event, status="blocked")
    tx.record(EventType.ALARM_RAISED, subject={"person": passkey.person_id}, body={"what": "passkey_cloned"})
    end_all(tx, passkey_id=passkey.id, cause="passkey_blocked")
    return _refuse(tx, purpose, passkey, "counter_did_not_rise")


def _refuse(tx: Tx, purpose: str, passkey: Passkey | None, code: str) -> Refused:
    type_ = EventType.SIGN_IN_REFUSED if purpose == SIGN_IN else EventType.STEP_UP_REFUSED
    subject = {"person": passkey.person_id, "passkey": passkey.id} if passkey is not None else {}
    tx.record(type_, subject=subject, body={"purpose": purpose, "reason": code})
    if purpose == SIGN_IN:
        return Refused(Kind.UNAUTHENTICATED, "sign_in_failed", "Signing in did not work. Try again.")
    return Refused(Kind.FORBIDDEN, code, "The passkey's answer was not accepted. Try again.")


# ---------------------------------------------------------------- care


def list_for(view: View, account_id: str) -> list[Passkey]:
    """Return an account's passkeys that were not removed, oldest first."""
    return view.all(
        select(Passkey)
        .where(Passkey.account_id == account_id, Passkey.status != "removed")
        .order_by(Passkey.created_at)
    )


def usable_of(view: View, person_id: str) -> list[Passkey]:
    """Return the passkeys with which a person may act now, of all accounts, oldest first."""
    found = view.usable(select(Passkey).where(Passkey.person_id == person_id).order_by(Passkey.created_at))
    return [
        passkey
        for passkey in found
        if may_act(view, person_id=person_id, account_id=passkey.account_id, passkey_id=passkey.id) is None
    ]


def forgotten(view: View, credential_id: str) -> bool:
    """Say whether a browser may forget this passkey: it never was one of ours, or it was removed."""
    status = view.scalar(select(Passkey.status).where(Passkey.credential_id == credential_id))
    return status is None or status == "removed"


def active_count(view: View, account_id: str) -> int:
    """Return how many passkeys of an account can be used."""
    found = view.scalar(select(func.count()).where(Passkey.account_id == account_id, Passkey.status == "active"))
    return int(found)


def rename(tx: Tx, passkey: Passkey, name: str) -> None:
    """Give a passkey another name."""
    shown = "".join(letter for letter in name if letter.isprintable()).strip()[:MAX_NAME] or "Passkey"
    event = tx.record(EventType.PASSKEY_RENAMED, subject={"person": passkey.person_id, "passkey": passkey.id})
    tx.update(passkey, event, name=shown)


def remove(tx: Tx, passkey: Passkey) -> Refused | None:
    """Remove a passkey and end its sessions; the last one stays, because nobody may be locked out silently (R7)."""
    active = [known for known in list_for(tx, passkey.account_id) if known.status == "active"]
    if passkey.status == "active" and len(active) < 2:
        message = "This is your last passkey. Add another one first."
        return Refused(Kind.CONFLICT, "last_passkey", message)
    event = tx.record(EventType.PASSKEY_REMOVED, subject={"person": passkey.person_id, "passkey": passkey.id})
    tx.update(passkey, event, status="removed")
    end_all(tx, passkey_id=passkey.id, cause="passkey_removed")
    return None
