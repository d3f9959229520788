"""What is kept: one class a table. These rows are the records; there is no second set of entities.

A class derived from `Sealed` confers power and carries version, event id and seal (see `store.seal`); its `UNSEALED` names
the columns that only do book-keeping. Rows of `EVIDENCE_FREE` tables may change without an event; every other change needs one.
Times are aware UTC, stored as integer microseconds; JSON is stored as canonical text.
"""

import json
from datetime import datetime
from typing import ClassVar

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, LargeBinary, String, Text, UniqueConstraint, text
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from jitaccess.clock import from_epoch_us, to_epoch_us
from jitaccess.proof.canonical import JsonValue


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC datetime as microseconds since the epoch: the same number on every database, exact and comparable."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Refuse naive datetimes; store microseconds."""
        return self.to_driver(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """Return an aware datetime."""
        return self.from_driver(value)

    @staticmethod
    def to_driver(value: datetime | None) -> int | None:
        """Do the same for every database."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("naive datetime")
        return to_epoch_us(value)

    @staticmethod
    def from_driver(value: int | None) -> datetime | None:
        """Do the same for every database."""
        return None if value is None else from_epoch_us(value)


class Json(TypeDecorator[JsonValue]):
    """A JSON value as compact text with sorted keys."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: JsonValue, dialect: Dialect) -> str | None:
        """Write compact JSON; None stays NULL."""
        return self.to_driver(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> JsonValue:
        """Read what was written."""
        return self.from_driver(value)

    @staticmethod
    def to_driver(value: JsonValue) -> str | None:
        """Do the same for every database."""
        return None if value is None else _write_json(value)

    @staticmethod
    def from_driver(value: str | None) -> JsonValue:
        """Do the same for every database."""
        return None if value is None else _read_json(value)


_write_json = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
_read_json = json.JSONDecoder().decode


class Base(DeclarativeBase):
    """The one declarative base."""

    type_annotation_map: ClassVar[dict[object, object]] = {datetime: UtcDateTime(), str: Text()}


class Sealed:
    """Mixin of tables whose rows confer power."""

    UNSEALED: ClassVar[frozenset[str]] = frozenset()
    LATER: ClassVar[frozenset[str]] = frozenset()
    """Columns that a later release added: left out of the seal while NULL, so that older rows keep theirs (ADR 0014)."""
    EVENTLESS: ClassVar[bool] = False
    """Sealed under its own key instead of an event's id: for rows that carry no evidence but decide what is signed (ADR 0038)."""

    version: Mapped[int] = mapped_column(Integer, default=0)
    event_id: Mapped[str | None] = mapped_column(String(26))
    seal: Mapped[str | None]


def _key() -> Mapped[str]:
    return mapped_column(String(64), primary_key=True)


# ---------------------------------------------------------------- instance, keys


class Instance(Base):
    """The one row that says which broker this is. Written at genesis, bound by leaf 0."""

    __tablename__ = "instance"
    id: Mapped[str] = _key()
    log_origin: Mapped[str]
    rp_id: Mapped[str]
    public_url: Mapped[str]
    pilot: Mapped[bool]
    created_at: Mapped[datetime]


class KeyRecord(Sealed, Base):
    """A signing or sealing key; the private part is encrypted under a key outside the database (R35)."""

    __tablename__ = "key_record"
    UNSEALED = frozenset({"wrapped"})
    id: Mapped[str] = _key()
    purpose: Mapped[str]
    """token | audit | seal | secret"""
    status: Mapped[str]
    """active | overlap | retired"""
    public: Mapped[JsonValue] = mapped_column(Json)
    wrapped: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime]
    retires_at: Mapped[datetime | None]


# ---------------------------------------------------------------- people


class Person(Sealed, Base):
    """A natural person on the staff register."""

    __tablename__ = "person"
    LATER = frozenset({"enabled_at"})
    id: Mapped[str] = _key()
    name: Mapped[str]
    email: Mapped[str]
    institution: Mapped[str]
    unit: Mapped[str]
    manager_id: Mapped[str | None]
    status: Mapped[str]
    """active | disabled"""
    language: Mapped[str]
    salt: Mapped[str]
    """16 random bytes, base64url: keeps the digest in the log from giving the person away once the row is deleted."""
    created_at: Mapped[datetime]
    enabled_at: Mapped[datetime | None]
    """When the person was last switched on again."""


class Account(Sealed, Base):
    """A sign-in identity of a person; rules count persons, never accounts."""

    __tablename__ = "account"
    id: Mapped[str] = _key()
    person_id: Mapped[str] = mapped_column(ForeignKey("person.id"), index=True)
    label: Mapped[str]
    user_handle: Mapped[str] = mapped_column(unique=True)
    """WebAuthn user.id: 32 random bytes, base64url."""
    status: Mapped[str]
    created_at: Mapped[datetime]


class Passkey(Sealed, Base):
    """A WebAuthn credential. Rows are never deleted, so a credential id is never accepted twice (R5)."""

    __tablename__ = "passkey"
    UNSEALED = frozenset({"sign_count", "backed_up", "last_used_at"})
    id: Mapped[str] = _key()
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"), index=True)
    person_id: Mapped[str] = mapped_column(ForeignKey("person.id"), index=True)
    credential_id: Mapped[str] = mapped_column(unique=True)
    """base64url as the authenticator gave it."""
    cose_key: Mapped[bytes] = mapped_column(LargeBinary)
    public_key_der: Mapped[bytes] = mapped_column(LargeBinary)
    algorithm: Mapped[int]
    aaguid: Mapped[str]
    name: Mapped[str]
    provider: Mapped[str]
    transports: Mapped[JsonValue] = mapped_column(Json)
    backup_eligible: Mapped[bool]
    attested: Mapped[bool]
    status: Mapped[str]
    """active | removed | blocked"""
    created_at: Mapped[datetime]
    sign_count: Mapped[int] = mapped_column(BigInteger)
    backed_up: Mapped[bool]
    last_used_at: Mapped[datetime | None]


class Group(Sealed, Base):
    """A named set of persons, compared by id and never by name (T-03)."""

    __tablename__ = "person_group"
    id: Mapped[str] = _key()
    name: Mapped[str]
    institution: Mapped[str | None]
    created_at: Mapped[datetime]


class Membership(Sealed, Base):
    """A person or a group inside a group (T-02)."""

    __tablename__ = "membership"
    id: Mapped[str] = mapped_column(String(160), primary_key=True)
    """`<group>/<member>`"""
    group_id: Mapped[str] = mapped_column(ForeignKey("person_group.id"), index=True)
    member_kind: Mapped[str]
    """person | group"""
    member_id: Mapped[str] = mapped_column(index=True)
    status: Mapped[str]
    """active | ended"""
    since_at: Mapped[datetime]


class Enrolment(Sealed, Base):
    """A one-use link that lets one account add a passkey (R8)."""

    __tablename__ = "enrolment"
    id: Mapped[str] = _key()
    token_hash: Mapped[str] = mapped_column(unique=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    purpose: Mapped[str]
    """enrol | recover"""
    created_by: Mapped[str]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class WebSession(Sealed, Base):
    """A signed-in browser or API client; the cookie's secret is stored only as a hash (R13)."""

    __tablename__ = "web_session"
    id: Mapped[str] = _key()
    secret_hash: Mapped[str] = mapped_column(unique=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"), index=True)
    person_id: Mapped[str] = mapped_column(ForeignKey("person.id"), index=True)
    passkey_id: Mapped[str] = mapped_column(ForeignKey("passkey.id"))
    created_at: Mapped[datetime]
    auth_at: Mapped[datetime]
    """When the person last gave an assertion in this session; `auth_time` of tokens."""
    expires_at: Mapped[datetime]
    idle_s: Mapped[int]
    ended_at: Mapped[datetime | None]
    cause: Mapped[str | None]


class SessionActivity(Base):
    """When a session was last seen; carries no evidence."""

    __tablename__ = "session_activity"
    session_id: Mapped[str] = _key()
    seen_at: Mapped[datetime]


class Challenge(Sealed, Base):
    """A WebAuthn challenge: one ceremony, one purpose, one use, five minutes (R3); carries no evidence, and is sealed all the same."""

    __tablename__ = "challenge"
    UNSEALED = frozenset({"spent_at"})
    EVENTLESS = True
    id: Mapped[str] = _key()
    challenge_b64u: Mapped[str] = mapped_column(unique=True)
    purpose: Mapped[str]
    """sign_in | step_up | register | file-request | approval | change | genesis | open"""
    session_id: Mapped[str | None]
    account_id: Mapped[str | None]
    subject_id: Mapped[str | None]
    """What the ceremony is about: request id, enrolment id, grant id, change id."""
    allowed: Mapped[JsonValue] = mapped_column(Json)
    """Credential ids (base64url) that may answer; null means discoverable."""
    statement: Mapped[bytes | None] = mapped_column(LargeBinary)
    """Exact bytes to be signed where the purpose is a statement's."""
    extra: Mapped[JsonValue] = mapped_column(Json)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    spent_at: Mapped[datetime | None]


class Hold(Sealed, Base):
    """A lock: refuses new acts and ends live ones."""

    __tablename__ = "hold"
    id: Mapped[str] = _key()
    kind: Mapped[str]
    """person | passkey | target | grant | institution | instance"""
    subject_id: Mapped[str] = mapped_column(index=True)
    cause: Mapped[str]
    placed_by: Mapped[str]
    placed_at: Mapped[datetime]
    released_by: Mapped[str | None]
    released_at: Mapped[datetime | None]


class RecoveryKey(Sealed, Base):
    """One of n paper keys printed at genesis or later; k of them start a recovery, its end spends them."""

    __tablename__ = "recovery_key"
    LATER = frozenset({"recovery_id"})
    id: Mapped[str] = _key()
    secret_hash: Mapped[str] = mapped_column(unique=True)
    threshold: Mapped[int]
    created_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    recovery_id: Mapped[str | None] = mapped_column(String(64))
    """The recovery that it was presented for; null again once that was stopped."""


class Recovery(Sealed, Base):
    """A replacement of an account's passkeys: told to all whom it concerns, delayed, and stopped by one of them."""

    __tablename__ = "recovery"
    LATER = frozenset({"change_id"})
    id: Mapped[str] = _key()
    account_id: Mapped[str] = mapped_column(ForeignKey("account.id"))
    status: Mapped[str]
    """waiting | vetoed | finished"""
    started_at: Mapped[datetime]
    ripe_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    ended_by: Mapped[str | None]
    change_id: Mapped[str | None] = mapped_column(String(64))
    """The signed change that began it; null: paper keys on the broker's host."""


# ---------------------------------------------------------------- policy and changes


class PolicySetRow(Sealed, Base):
    """A policy set as its canonical document; exactly one is active."""

    __tablename__ = "policy_set"
    id: Mapped[str] = _key()
    digest: Mapped[str] = mapped_column(index=True)
    document: Mapped[JsonValue] = mapped_column(Json)
    status: Mapped[str] = mapped_column(index=True)
    """proposed | active | retired"""
    proposed_by: Mapped[str]
    proposed_at: Mapped[datetime]
    activated_at: Mapped[datetime | None]


class Change(Sealed, Base):
    """A change that needs signatures before it takes effect."""

    __tablename__ = "change"
    id: Mapped[str] = _key()
    kind: Mapped[str]
    subject_id: Mapped[str]
    subject_digest: Mapped[str]
    before_digest: Mapped[str | None]
    payload: Mapped[JsonValue] = mapped_column(Json)
    """What will be done, exactly; `subject_digest` is its digest."""
    required: Mapped[int]
    """Signatures of different persons that it needs."""
    status: Mapped[str]
    """pending | applied | rejected | expired"""
    created_by: Mapped[str]
    created_at: Mapped[datetime]
    approve_by: Mapped[datetime]
    decided_at: Mapped[datetime | None]


class ChangeSignature(Sealed, Base):
    """One person's signature on a change."""

    __tablename__ = "change_signature"
    __table_args__ = (UniqueConstraint("change_id", "person_id"),)
    id: Mapped[str] = _key()
    change_id: Mapped[str] = mapped_column(ForeignKey("change.id"), index=True)
    person_id: Mapped[str]
    passkey_id: Mapped[str]
    statement: Mapped[bytes] = mapped_column(LargeBinary)
    assertion: Mapped[JsonValue] = mapped_column(Json)
    signed_at: Mapped[datetime]


class Client(Sealed, Base):
    """A target's registration as an OAuth client."""

    __tablename__ = "client"
    LATER = frozenset({"backchannel_logout_uri", "post_logout_redirect_uris"})
    id: Mapped[str] = _key()
    target: Mapped[str] = mapped_column(index=True)
    name: Mapped[str]
    redirect_uris: Mapped[JsonValue] = mapped_column(Json)
    auth_method: Mapped[str]
    """private_key_jwt | client_secret_basic"""
    secret_hash: Mapped[str | None]
    jwks: Mapped[JsonValue] = mapped_column(Json)
    initiate_login_uri: Mapped[str | None]
    backchannel_logout_uri: Mapped[str | None]
    """Where the broker tells that a sign-in is over."""
    post_logout_redirect_uris: Mapped[JsonValue] = mapped_column(Json)
    """Where people may be sent after signing out; NULL is none."""
    status: Mapped[str]
    created_at: Mapped[datetime]


# ---------------------------------------------------------------- requests, approvals, grants, leases


class AccessRequest(Base):
    """A person asks for an entitlement, a duration, a reason. Its power is in the signed statement, not in this row."""

    __tablename__ = "access_request"
    __table_args__ = (
        Index("access_request_state_due", "state", "approve_by"),
        Index("access_request_same", "person_id", "target", "entitlement", "created_at"),
        Index("access_request_right", "target", "entitlement", "created_at"),
        Index("access_request_created", "created_at"),
        Index("access_request_decided", "state", "created_at", "decided_at"),
        Index("access_request_escalate", "state", "escalate_at"),
    )
    id: Mapped[str] = _key()
    person_id: Mapped[str] = mapped_column(ForeignKey("person.id"), index=True)
    account_id: Mapped[str]
    target: Mapped[str] = mapped_column(index=True)
    target_config_digest: Mapped[str]
    entitlement: Mapped[str]
    inputs: Mapped[JsonValue] = mapped_column(Json)
    duration_s: Mapped[int]
    reason: Mapped[str | None]
    reason_salt: Mapped[str]
    terms: Mapped[JsonValue] = mapped_column(Json)
    decision: Mapped[JsonValue] = mapped_column(Json)
    policy_digest: Mapped[str]
    earliest_start: Mapped[datetime]
    latest_end: Mapped[datetime]
    approve_by: Mapped[datetime]
    state: Mapped[str]
    filing_statement: Mapped[bytes] = mapped_column(LargeBinary)
    filing_assertion: Mapped[JsonValue] = mapped_column(Json)
    filing_assertion_digest: Mapped[str]
    filing_passkey_id: Mapped[str]
    created_at: Mapped[datetime]
    decided_at: Mapped[datetime | None]
    extends: Mapped[str | None] = mapped_column(String(64))
    """The grant that this request would continue."""
    escalate_at: Mapped[datetime | None]
    """When other people are asked next, while it is PENDING."""


class Asked(Sealed, Base):
    """Who was asked to sign a step, each time that people were asked; where no others may sign, this says who may."""

    __tablename__ = "asked"
    id: Mapped[str] = mapped_column(String(160), primary_key=True)
    """`<request>/<step>/<number>`"""
    request_id: Mapped[str] = mapped_column(ForeignKey("access_request.id"), index=True)
    step: Mapped[str]
    how: Mapped[str]
    """everybody | drawn | escalated"""
    people: Mapped[JsonValue] = mapped_column(Json)
    asked_at: Mapped[datetime]


class Approval(Sealed, Base):
    """One approver's verdict with its evidence; a refusal after an approval is a row of its own (ADR 0050)."""

    __tablename__ = "approval"
    LATER = frozenset({"set_id", "deputy_of", "deputation_id", "lost_at"})
    __table_args__ = (
        Index(
            "approval_one_of_a_kind",
            "request_id",
            "person_id",
            "verdict",
            unique=True,
            sqlite_where=text("lost_at IS NULL"),
            postgresql_where=text("lost_at IS NULL"),
        ),
        Index("approval_given", "verdict", "given_at", "person_id", "request_id"),
    )
    id: Mapped[str] = _key()
    request_id: Mapped[str] = mapped_column(ForeignKey("access_request.id"), index=True)
    person_id: Mapped[str] = mapped_column(index=True)
    account_id: Mapped[str]
    institution: Mapped[str]
    """The approver's institution at the time of the verdict."""
    step: Mapped[str]
    verdict: Mapped[str]
    """approve | deny"""
    passkey_id: Mapped[str | None]
    statement: Mapped[bytes | None] = mapped_column(LargeBinary)
    assertion: Mapped[JsonValue] = mapped_column(Json)
    given_at: Mapped[datetime]
    signed_at: Mapped[datetime | None]
    set_id: Mapped[str | None] = mapped_column(String(64))
    """The set that it was signed with; `assertion` is then the set's."""
    deputy_of: Mapped[str | None] = mapped_column(String(64))
    """The person in whose place it was given, under this deputation."""
    deputation_id: Mapped[str | None] = mapped_column(String(64))
    lost_at: Mapped[datetime | None]
    """When it stopped to count, because who gave it lost the right before the request was decided (ADR 0062)."""


class ApprovalSet(Sealed, Base):
    """Several approvals that one person signed at once; each is an Approval of its own with its exact statement (ADR 0011)."""

    __tablename__ = "approval_set"
    id: Mapped[str] = _key()
    person_id: Mapped[str] = mapped_column(index=True)
    account_id: Mapped[str]
    passkey_id: Mapped[str]
    statement: Mapped[bytes] = mapped_column(LargeBinary)
    assertion: Mapped[JsonValue] = mapped_column(Json)
    signed_at: Mapped[datetime]


class Grant(Sealed, Base):
    """The window in which a person may draw credentials. `starts_at <= now < ends_at` while ACTIVE."""

    __tablename__ = "access_grant"
    UNSEALED = frozenset({"warn_at"})
    LATER = frozenset({"not_before", "extends", "closes_at", "course"})
    __table_args__ = (
        Index("access_grant_state_end", "state", "ends_at"),
        Index("access_grant_state_activate", "state", "activate_by"),
        Index("access_grant_state_start", "state", "not_before"),
        Index("access_grant_state_warn", "state", "warn_at"),
        Index("access_grant_extends", "extends"),
        Index("access_grant_person", "person_id", "state"),
        Index("access_grant_created", "created_at"),
    )
    id: Mapped[str] = _key()
    request_id: Mapped[str] = mapped_column(ForeignKey("access_request.id"), index=True)
    person_id: Mapped[str]
    account_id: Mapped[str]
    target: Mapped[str]
    entitlement: Mapped[str]
    state: Mapped[str]
    duration_s: Mapped[int]
    starts_at: Mapped[datetime | None]
    ends_at: Mapped[datetime | None]
    activate_by: Mapped[datetime | None]
    latest_end: Mapped[datetime]
    """The bound the approvers signed: no end ever lies beyond it."""
    policy_digest: Mapped[str]
    approvals_digest: Mapped[str]
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    cause: Mapped[str | None]
    not_before: Mapped[datetime | None]
    """A scheduled start: nothing is opened before."""
    extends: Mapped[str | None] = mapped_column(String(64))
    """The grant that this one continues; that one's end never moves."""
    closes_at: Mapped[datetime | None]
    """Where the end is soft: from here on nothing new is opened, what is open runs on until `ends_at`."""
    course: Mapped[JsonValue] = mapped_column(Json)
    """What of the terms is needed while the grant lives and when it ends (`policy.course`); NULL when nothing is."""
    warn_at: Mapped[datetime | None]
    """When the person is told that the end is near; NULL once told. Book-keeping."""


class Deputation(Sealed, Base):
    """A person signs in another's place for a bounded time; signed by the one whose place it is."""

    __tablename__ = "deputation"
    id: Mapped[str] = _key()
    delegator_id: Mapped[str] = mapped_column(index=True)
    deputy_id: Mapped[str] = mapped_column(index=True)
    account_id: Mapped[str]
    passkey_id: Mapped[str]
    statement: Mapped[bytes] = mapped_column(LargeBinary)
    assertion: Mapped[JsonValue] = mapped_column(Json)
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    """As signed; it never moves."""
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    """When it was ended early."""
    ended_by: Mapped[str | None]


class Veto(Sealed, Base):
    """Somebody stopped a grant while it waited; it counts at once, its signature follows."""

    __tablename__ = "veto"
    __table_args__ = (UniqueConstraint("grant_id", "person_id"),)
    id: Mapped[str] = _key()
    grant_id: Mapped[str] = mapped_column(ForeignKey("access_grant.id"), index=True)
    person_id: Mapped[str]
    account_id: Mapped[str]
    given_at: Mapped[datetime]
    passkey_id: Mapped[str | None]
    statement: Mapped[bytes | None] = mapped_column(LargeBinary)
    assertion: Mapped[JsonValue] = mapped_column(Json)
    signed_at: Mapped[datetime | None]


class Lease(Sealed, Base):
    """One issued credential and its end."""

    __tablename__ = "lease"
    __table_args__ = (Index("lease_state_end", "state", "ends_at"), Index("lease_state_next", "state", "next_at"))
    LATER = frozenset({"passkey_id"})
    UNSEALED = frozenset({"attempts", "next_at", "claimed_by", "claimed_until", "last_error"})
    id: Mapped[str] = _key()
    grant_id: Mapped[str] = mapped_column(ForeignKey("access_grant.id"), index=True)
    person_id: Mapped[str] = mapped_column(index=True)
    target: Mapped[str] = mapped_column(index=True)
    connector: Mapped[str]
    effect: Mapped[JsonValue] = mapped_column(Json)
    state: Mapped[str]
    created_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    cause: Mapped[str | None]
    ended_at: Mapped[datetime | None]
    """When REVOKING began: from here on nothing verifies."""
    revoked_at: Mapped[datetime | None]
    """When the target was read back clean."""
    proof: Mapped[JsonValue] = mapped_column(Json)
    attempts: Mapped[int]
    next_at: Mapped[datetime | None]
    claimed_by: Mapped[str | None]
    claimed_until: Mapped[datetime | None]
    last_error: Mapped[str | None]
    passkey_id: Mapped[str | None] = mapped_column(String(64))
    """The passkey of the session in which it was opened: without it nothing here stands any more."""


class TargetAccount(Sealed, Base):
    """An account on a target that no lease made: what was last known of it, and what is wrong with it (R57)."""

    __tablename__ = "target_account"
    id: Mapped[str] = _key()
    """Hex SHA-256 over target and name: names on targets may be longer than a key."""
    target: Mapped[str] = mapped_column(index=True)
    name: Mapped[str]
    rights: Mapped[JsonValue] = mapped_column(Json)
    """Sorted, in the target's words; of an account with a finding those from before."""
    fingerprint: Mapped[str]
    first_seen_at: Mapped[datetime]
    gone_at: Mapped[datetime | None]
    finding: Mapped[str | None]
    extra: Mapped[JsonValue] = mapped_column(Json)
    found_at: Mapped[datetime | None]
    acted: Mapped[str | None]
    """held | removed | cannot"""
    statement: Mapped[str | None]
    """What the target's owner still has to run."""


class Posting(Sealed, Base):
    """An entry of the board of a target whose hosts come and fetch; the one without a name holds the board's number."""

    __tablename__ = "posting"
    id: Mapped[str] = _key()
    """Hex SHA-256 over target and name."""
    target: Mapped[str]
    name: Mapped[str]
    number: Mapped[int] = mapped_column(BigInteger)
    """The board's number when it was written."""
    value: Mapped[JsonValue] = mapped_column(Json)
    until: Mapped[datetime | None]
    """Until when it is given to hosts; the row stays, for a name is used once."""
    __table_args__ = (
        Index("ix_posting_target_number", "target", "number"),
        Index("ix_posting_target_until", "target", "until"),
    )


class HostReport(Base):
    """The newest report of a host, as it came: its signature is checked at every use."""

    __tablename__ = "host_report"
    id: Mapped[str] = _key()
    """Hex SHA-256 over target and host."""
    target: Mapped[str] = mapped_column(index=True)
    host: Mapped[str]
    sequence: Mapped[int] = mapped_column(BigInteger)
    text: Mapped[str]
    signature: Mapped[str]
    received_at: Mapped[datetime]


class AuthorizationCode(Sealed, Base):
    """An OAuth authorization code: one use, 60 seconds, kept after use so that reuse is noticed (R36)."""

    __tablename__ = "authorization_code"
    LATER = frozenset({"passkey_id"})
    id: Mapped[str] = _key()
    code_hash: Mapped[str] = mapped_column(unique=True)
    client_id: Mapped[str]
    grant_id: Mapped[str]
    person_id: Mapped[str]
    session_id: Mapped[str]
    family: Mapped[str]
    redirect_uri: Mapped[str]
    challenge_s256: Mapped[str]
    scope: Mapped[str]
    nonce: Mapped[str | None]
    auth_at: Mapped[datetime]
    acr: Mapped[str]
    amr: Mapped[JsonValue] = mapped_column(Json)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    passkey_id: Mapped[str | None] = mapped_column(String(64))
    """The passkey that signed in for it; NULL in rows from before: then the lease's counts alone."""


class PendingAuthorization(Base):
    """What an application asked before its person had access; it confers nothing."""

    __tablename__ = "pending_authorization"
    id: Mapped[str] = _key()
    person_id: Mapped[str] = mapped_column(index=True)
    client_id: Mapped[str]
    entitlement: Mapped[str]
    parameters: Mapped[JsonValue] = mapped_column(Json)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class Token(Sealed, Base):
    """A token minted under a lease, known by its jti or, for refresh tokens, by the hash of its secret."""

    __tablename__ = "token"
    __table_args__ = (Index("token_family", "family"), Index("token_status", "status_list", "expires_at"))
    LATER = frozenset({"status_list", "status_idx", "passkey_id"})
    id: Mapped[str] = _key()
    """`jti` of an access token; an id of its own for a refresh token."""
    kind: Mapped[str]
    """access | refresh"""
    secret_hash: Mapped[str | None] = mapped_column(unique=True)
    lease_id: Mapped[str] = mapped_column(index=True)
    grant_id: Mapped[str]
    client_id: Mapped[str]
    session_id: Mapped[str | None]
    family: Mapped[str]
    scope: Mapped[str]
    auth_at: Mapped[datetime]
    acr: Mapped[str]
    amr: Mapped[JsonValue] = mapped_column(Json)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    """A refresh token is used once; a second use ends the family (R40)."""
    ended_at: Mapped[datetime | None]
    status_list: Mapped[str | None]
    """Id of the status list that tells of this access token's end."""
    status_idx: Mapped[int | None]
    """Its bit there: given to one token, once."""
    passkey_id: Mapped[str | None] = mapped_column(String(64))
    """The passkey that signed in, the same in a whole family; NULL in rows from before: then the lease's counts alone."""


class StatusListRow(Base):
    """A Token Status List: how many of its bits were given out. Bits only ever take away, so this carries no evidence."""

    __tablename__ = "status_list"
    id: Mapped[str] = _key()
    size: Mapped[int]
    """Bits in the list."""
    given: Mapped[int]
    """Bits given to tokens, or to a process for its next tokens; never given again."""
    created_at: Mapped[datetime]
    full_at: Mapped[datetime | None]
    """When the last bit was given; nothing refers to the list once a token's longest life is over since."""


# ---------------------------------------------------------------- outbox, book-keeping


class Outbox(Base):
    """A notice to be sent, written by the transaction that caused it; rendered when sent, so it holds no text."""

    __tablename__ = "outbox"
    __table_args__ = (
        Index("outbox_due", "channel", "sent_at", "next_at"),
        Index("outbox_subject", "subject_id", "kind"),
        Index("outbox_person", "person_id", "kind", "created_at"),
    )
    id: Mapped[str] = _key()
    kind: Mapped[str]
    person_id: Mapped[str]
    subject_id: Mapped[str]
    created_at: Mapped[datetime]
    attempts: Mapped[int]
    next_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]
    last_error: Mapped[str | None]
    """The kind of the last failure, never its text: that may hold an address or a secret."""
    channel: Mapped[str | None]
    """Null until the notice is given to the person's channels, one row each."""


class Preference(Base):
    """How a person wants to be spoken to; carries no power and no evidence."""

    __tablename__ = "preference"
    person_id: Mapped[str] = _key()
    language: Mapped[str | None]
    zone: Mapped[str | None]
    digest: Mapped[str | None]
    """At once (empty), hour | day"""
    digest_minute: Mapped[int | None]
    quiet_from: Mapped[int | None]
    """Minutes of the day in the person's zone."""
    quiet_to: Mapped[int | None]
    addresses: Mapped[JsonValue] = mapped_column(Json)
    """Channel name -> the person's address there."""


class LogoutNotice(Base):
    """That a client is to be told of one sign-in's end, written by the transaction that ended it; kept with what became of it."""

    __tablename__ = "logout_notice"
    __table_args__ = (Index("logout_notice_due", "done_at", "next_at"),)
    id: Mapped[str] = _key()
    client_id: Mapped[str]
    grant_id: Mapped[str]
    sid: Mapped[str]
    """The sign-in: the family of its tokens, and `sid` of its ID tokens."""
    person_id: Mapped[str]
    cause: Mapped[str]
    created_at: Mapped[datetime]
    attempts: Mapped[int]
    next_at: Mapped[datetime]
    done_at: Mapped[datetime | None]
    """When it was delivered or given up."""
    delivered: Mapped[bool | None]
    last_error: Mapped[str | None]


class TargetTest(Base):
    """What the last test of a target found; shown to administrators, bound to nothing. Its event says that there was one."""

    __tablename__ = "target_test"
    id: Mapped[str] = _key()
    """The target."""
    tested_by: Mapped[str]
    tested_at: Mapped[datetime]
    findings: Mapped[JsonValue] = mapped_column(Json)
    """A list of {step, about, outcome, seen}, as `broker.joining` words them."""


class DecisionPace(Base):
    """How long an approver looked before deciding; book-keeping, kept for a while and bound to nothing."""

    __tablename__ = "decision_pace"
    __table_args__ = (Index("decision_pace_person", "person_id", "decided_at"),)
    id: Mapped[str] = _key()
    person_id: Mapped[str]
    request_id: Mapped[str]
    verdict: Mapped[str]
    took_ms: Mapped[int] = mapped_column(BigInteger)
    decided_at: Mapped[datetime]


class RefusalSeen(Base):
    """The requester saw that a request was refused: it leaves the start page. Book-keeping, bound to nothing."""

    __tablename__ = "refusal_seen"
    request_id: Mapped[str] = _key()
    seen_at: Mapped[datetime]


class RateCount(Base):
    """A fixed-window count for rate limits."""

    __tablename__ = "rate_count"
    id: Mapped[str] = mapped_column(String(200), primary_key=True)
    window_at: Mapped[datetime]
    count: Mapped[int]


class KeptAnswer(Base):
    """The answer that belongs to an idempotency key of a person; kept for a day."""

    __tablename__ = "kept_answer"
    id: Mapped[str] = _key()
    """Hex SHA-256 of person and key."""
    act: Mapped[str]
    """Hex SHA-256 of what was asked for."""
    status: Mapped[int | None]
    """HTTP status; None while the act runs, and for ever if it was interrupted."""
    body: Mapped[bytes | None] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(index=True)


class RegisterVersion(Base):
    """The one row whose number grows whenever people, groups, holds or the active policy change; caches key on it."""

    __tablename__ = "register_version"
    id: Mapped[int] = mapped_column(primary_key=True)
    n: Mapped[int] = mapped_column(BigInteger)


class Heartbeat(Base):
    """That a part of the program is alive, and the highest time it has seen."""

    __tablename__ = "heartbeat"
    id: Mapped[str] = _key()
    beat_at: Mapped[datetime]


# ---------------------------------------------------------------- the log


class Event(Base):
    """One leaf of the log with the columns that queries need. `idx` is null until it is numbered."""

    __tablename__ = "event"
    __table_args__ = (
        Index("event_unnumbered", "id", sqlite_where=text("idx IS NULL"), postgresql_where=text("idx IS NULL")),
        Index("event_type_number", "type", "idx"),
        Index("event_person_number", "person_id", "idx"),
        Index("event_request_type", "request_id", "type"),
    )
    id: Mapped[str] = _key()
    idx: Mapped[int | None] = mapped_column(BigInteger, unique=True)
    at: Mapped[datetime] = mapped_column(index=True)
    type: Mapped[str]
    person_id: Mapped[str | None]
    """Who acted."""
    request_id: Mapped[str | None]
    grant_id: Mapped[str | None] = mapped_column(index=True)
    target: Mapped[str | None] = mapped_column(index=True)
    leaf: Mapped[str]
    """The exact canonical JSON; its UTF-8 bytes are the leaf."""
    leaf_hash: Mapped[bytes] = mapped_column(LargeBinary)
    seal: Mapped[str]
    """MAC over id and leaf hash: what protects an event between commit and numbering."""


class RowVersion(Base):
    """An index of the log: each version after the first that an event says it wrote of a sealed row (ADR 40)."""

    __tablename__ = "row_version"
    __table_args__ = ({"sqlite_with_rowid": False},)
    row_table: Mapped[str] = mapped_column(String(32), primary_key=True)
    row_key: Mapped[str] = mapped_column(String(160), primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)


class EventText(Base):
    """Personal text of an event, bound to its leaf by a salted hash, deletable by retention (R72)."""

    __tablename__ = "event_text"
    event_id: Mapped[str] = _key()
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    salt: Mapped[str]
    text: Mapped[str]


class LogHead(Base):
    """The size and compact range of the Merkle tree; extended by compare-and-set on the size."""

    __tablename__ = "log_head"
    id: Mapped[int] = mapped_column(primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    frontier: Mapped[bytes] = mapped_column(LargeBinary)


class CheckpointRow(Base):
    """A signed checkpoint (C2SP signed note)."""

    __tablename__ = "checkpoint"
    size: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    note: Mapped[str]
    at: Mapped[datetime]


EVIDENCE_FREE: frozenset[str] = frozenset(
    {
        "session_activity",
        "challenge",
        "outbox",
        "preference",
        "logout_notice",
        "pending_authorization",
        "rate_count",
        "refusal_seen",
        "decision_pace",
        "target_test",
        "kept_answer",
        "heartbeat",
        "host_report",
        "register_version",
        "status_list",
        "event_text",
        "log_head",
        "checkpoint",
        "event",
        "row_version",
    }
)
"""Tables whose rows carry no evidence, or are the evidence itself: changing them needs no event (design.md section 5)."""

REGISTER: frozenset[str] = frozenset(
    {"person", "account", "passkey", "person_group", "membership", "hold", "policy_set", "client", "key_record"}
)
"""The register: whoever caches what was made of it asks for its version, which grows with every change of these tables."""

REDERIVED: frozenset[str] = REGISTER | {
    "recovery_key",
    "recovery",
    "enrolment",
    "change",
    "change_signature",
    "deputation",
    "target_account",
}
"""The small tables that are re-derived from the log at start and every minute (design.md section 5)."""

OBSERVED: frozenset[str] = frozenset({"target_account"})
"""What was seen outside and gives no right: a row that somebody changed or deleted is written anew from what is seen now."""
