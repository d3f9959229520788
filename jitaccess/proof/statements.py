"""What exactly does a person sign? The statements, version 1, and the challenge that binds a passkey to one.

A WebAuthn assertion signs its challenge; ours is SHA-256("jitaccess/<purpose>/v1" || 0x00 || RFC 8785 form of the statement), so
one purpose can never pass for another. A statement is one object with exactly the fields of its class, and `v`, 1; fields that came
after the first release stand in it only where they are used. `..._digest` is base64url SHA-256, `credential_id` and `nonce` (16
bytes or more) base64url, ids and names text that is not empty. It carries absolute time bounds because WebAuthn carries no time,
whole UTC seconds, integers only, digests instead of personal text, and no words of any language. The exact bytes are stored and
hashed again at every check; `parse` accepts only those bytes.
Spec: WebAuthn Level 3 section 7.2 step 11, RFC 8785.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TypeVar, cast

from jitaccess.proof.canonical import JsonValue, b64u_decode, canonical, parse_canonical
from jitaccess.proof.errors import ProofError

STATEMENT_VERSION = 1
NONCE_BYTES = 16
DIGEST_BYTES = 32
MAX_STATEMENT_BYTES = 16 * 1024
MIN_SET, MAX_SET = 2, 20
"""How many approvals one signature may carry: each of them is shown."""
Inputs = Mapping[str, str | int | bool]


class Purpose(StrEnum):
    """What a signature is for; part of the challenge."""

    FILE_REQUEST = "file-request"
    APPROVAL = "approval"
    CHANGE = "change"
    GENESIS = "genesis"
    VETO = "veto"
    APPROVAL_SET = "approval-set"
    DEPUTY = "deputy"


class Verdict(StrEnum):
    """What an approver says."""

    APPROVE = "approve"
    DENY = "deny"


def challenge(purpose: Purpose, statement: bytes) -> bytes:
    """Return the 32-byte WebAuthn challenge that binds an assertion to one statement of one purpose."""
    return hashlib.sha256(f"jitaccess/{purpose.value}/v1\0".encode() + statement).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class FilingStatement:
    """A requester's "I ask for this". Times are UTC seconds; `reason_digest` is a salted digest of the reason's text."""

    instance: str
    log_origin: str
    request_id: str
    requester: str
    credential_id: str
    target: str
    target_config_digest: str
    entitlement: str
    inputs: Inputs
    reason_digest: str
    duration_s: int
    policy_digest: str
    holder_jkt: str | None
    earliest_start: int
    file_by: int
    nonce: str
    extends: str | None = None
    """The grant that this request would continue."""

    def to_bytes(self) -> bytes:
        """Return the exact bytes to sign over."""
        return _write(self)

    @classmethod
    def parse(cls, data: bytes) -> "FilingStatement":
        """Read the exact bytes strictly; raises ProofError."""
        found = _read(cls, data)
        if found.duration_s == 0:
            raise ProofError("bad_bounds", "a filing needs a duration", "duration_s")
        if found.file_by == 0:
            raise ProofError("bad_bounds", "a filing is open for a bounded time", "file_by")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalStatement:
    """An approver's verdict on one exact request, as one step, within absolute bounds."""

    instance: str
    log_origin: str
    request_id: str
    requester: str
    requester_assertion_digest: str
    target: str
    target_config_digest: str
    entitlement: str
    inputs: Inputs
    terms: Mapping[str, JsonValue]
    policy_digest: str
    holder_jkt: str | None
    earliest_start: int
    latest_end: int
    max_duration_s: int
    approve_by: int
    approver: str
    credential_id: str
    step: str
    verdict: str
    nonce: str
    extends: str | None = None
    """The grant that would be continued."""
    deputy_of: str | None = None
    """The person in whose place the approver signs; then `deputation_digest` is that of the signed deputation."""
    deputation_digest: str | None = None

    def to_bytes(self) -> bytes:
        """Return the exact bytes to sign over."""
        return _write(self)

    @classmethod
    def parse(cls, data: bytes) -> "ApprovalStatement":
        """Read the exact bytes strictly; raises ProofError."""
        found = _read(cls, data)
        if found.verdict not in {verdict.value for verdict in Verdict}:
            raise ProofError("bad_verdict", "a verdict is approve or deny", "verdict")
        if not found.earliest_start < found.latest_end:
            raise ProofError("bad_bounds", "the window is empty", "latest_end")
        if found.max_duration_s == 0:
            raise ProofError("bad_bounds", "an approval needs a duration", "max_duration_s")
        if found.approve_by == 0:
            raise ProofError("bad_bounds", "an approval is open for a bounded time", "approve_by")
        if found.approver == found.requester:
            raise ProofError("self_approval", "requester and approver are one person", "approver")
        if (found.deputy_of is None) != (found.deputation_digest is None):
            raise ProofError(
                "bad_field", "a deputy signs under a deputation, and only a deputy does", "deputation_digest"
            )
        if found.deputy_of in {found.requester, found.approver}:
            raise ProofError("self_approval", "a deputy signs neither for the requester nor for himself", "deputy_of")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeStatement:
    """A signature on one change of the broker itself: `subject_digest` binds what it will be, `before_digest` what it was."""

    instance: str
    log_origin: str
    change_id: str
    kind: str
    subject: str
    subject_digest: str
    before_digest: str | None
    by: str
    credential_id: str
    approve_by: int
    nonce: str

    def to_bytes(self) -> bytes:
        """Return the exact bytes to sign over."""
        return _write(self)

    @classmethod
    def parse(cls, data: bytes) -> "ChangeStatement":
        """Read the exact bytes strictly; raises ProofError."""
        found = _read(cls, data)
        if found.approve_by == 0:
            raise ProofError("bad_bounds", "a change is open for a bounded time", "approve_by")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class DeputyStatement:
    """A person's "this one signs in my place", for a bounded time: `starts_at <= now < ends_at`, UTC seconds."""

    instance: str
    log_origin: str
    deputation_id: str
    delegator: str
    deputy: str
    credential_id: str
    starts_at: int
    ends_at: int
    sign_by: int
    nonce: str

    def to_bytes(self) -> bytes:
        """Return the exact bytes to sign over."""
        return _write(self)

    @classmethod
    def parse(cls, data: bytes) -> "DeputyStatement":
        """Read the exact bytes strictly; raises ProofError."""
        found = _read(cls, data)
        if not found.starts_at < found.ends_at:
            raise ProofError("bad_bounds", "the deputation is empty", "ends_at")
        if found.sign_by == 0:
            raise ProofError("bad_bounds", "a deputation is signed within a bounded time", "sign_by")
        if found.deputy == found.delegator:
            raise ProofError("own_deputy", "nobody is his own deputy", "deputy")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class VetoStatement:
    """A signature under a veto that was given before: it stopped one grant while that waited."""

    instance: str
    log_origin: str
    grant_id: str
    request_id: str
    approvals_digest: str
    vetoer: str
    credential_id: str
    given_at: int
    sign_by: int
    nonce: str

    def to_bytes(self) -> bytes:
        """Return the exact bytes to sign over."""
        return _write(self)

    @classmethod
    def parse(cls, data: bytes) -> "VetoStatement":
        """Read the exact bytes strictly; raises ProofError."""
        found = _read(cls, data)
        if found.sign_by == 0:
            raise ProofError("bad_bounds", "a veto is open for its signature for a bounded time", "sign_by")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalSetStatement:
    """Several approvals signed at once: the digest of the exact bytes of every single ApprovalStatement, in the order shown."""

    instance: str
    log_origin: str
    approver: str
    credential_id: str
    approvals: tuple[str, ...]
    approve_by: int
    """The earliest `approve_by` of them."""
    nonce: str

    def to_bytes(self) -> bytes:
        """Return the exact bytes to sign over."""
        return _write(self)

    @classmethod
    def parse(cls, data: bytes) -> "ApprovalSetStatement":
        """Read the exact bytes strictly; raises ProofError."""
        found = _read(cls, data)
        if not MIN_SET <= len(found.approvals) <= MAX_SET or len(set(found.approvals)) != len(found.approvals):
            raise ProofError("bad_set", f"a set holds {MIN_SET} to {MAX_SET} different approvals", "approvals")
        if found.approve_by == 0:
            raise ProofError("bad_bounds", "an approval is open for a bounded time", "approve_by")
        return found


Statement = (
    FilingStatement | ApprovalStatement | ChangeStatement | VetoStatement | ApprovalSetStatement | DeputyStatement
)
S = TypeVar(
    "S", FilingStatement, ApprovalStatement, ChangeStatement, VetoStatement, ApprovalSetStatement, DeputyStatement
)
_OPTIONAL = frozenset({"holder_jkt", "before_digest"})
_LATER = frozenset({"extends", "deputy_of", "deputation_digest"})
"""Members that came after the first release: absent when unused, so that older bytes stay what they are; never null."""
_WHOLE = frozenset({"duration_s", "earliest_start", "file_by", "latest_end", "max_duration_s", "approve_by"}) | {
    "given_at",
    "sign_by",
    "starts_at",
    "ends_at",
}
_OBJECTS = frozenset({"inputs", "terms"})
_DIGEST_LISTS = frozenset({"approvals"})
_DIGESTS = frozenset(
    {
        "requester_assertion_digest",
        "target_config_digest",
        "reason_digest",
        "policy_digest",
        "subject_digest",
        "before_digest",
        "approvals_digest",
        "deputation_digest",
    }
)


def as_json(statement: Statement) -> dict[str, JsonValue]:
    """Return a statement as the JSON object that is signed."""
    value: dict[str, JsonValue] = {"v": STATEMENT_VERSION}
    for field in fields(statement):
        found = getattr(statement, field.name)
        if found is None and field.name in _LATER:
            continue
        if field.name in _DIGEST_LISTS:
            found = list(found)
        value[field.name] = dict(found) if field.name in _OBJECTS else found
    return value


def _write(statement: Statement) -> bytes:
    data = canonical(as_json(statement))
    if len(data) > MAX_STATEMENT_BYTES:
        raise ProofError("too_large", "a statement is at most 16 KiB")
    return data


def _read(kind: type[S], data: bytes) -> S:
    if len(data) > MAX_STATEMENT_BYTES:
        raise ProofError("too_large", "a statement is at most 16 KiB")
    value = parse_canonical(data)
    names = {field.name for field in fields(kind)}
    if (
        not isinstance(value, dict)
        or not (names - _LATER) | {"v"} <= set(value) <= names | {"v"}
        or not _is(value["v"], STATEMENT_VERSION)
    ):
        raise ProofError("not_a_statement", f"not a {kind.__name__} of version 1")
    for name in names & set(value):
        _check_field(name, value[name])
    del value["v"]
    for name in names & _DIGEST_LISTS:
        value[name] = cast("JsonValue", tuple(cast("list[str]", value[name])))
    return kind(**cast("dict[str, object]", value))  # type: ignore[arg-type] # every field was checked above


def _is(value: JsonValue, number: int) -> bool:
    """Compare with an integer; `true` is no 1."""
    return not isinstance(value, bool) and value == number


def _check_field(name: str, value: JsonValue) -> None:
    if name in _WHOLE:
        good = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    elif name == "inputs":
        good = isinstance(value, dict) and all(isinstance(part, str | int) for part in value.values())
    elif name == "terms":
        good = isinstance(value, dict)
    elif name in _DIGEST_LISTS:
        good = isinstance(value, list) and bool(value) and all(isinstance(part, str) for part in value)
        for part in value if good and isinstance(value, list) else ():
            _check_bytes("approvals", cast(str, part))
    elif name in _OPTIONAL and value is None:
        good = True
    else:
        good = isinstance(value, str) and bool(value)
    if not good:
        raise ProofError("bad_field", f"{name} has the wrong type or is empty", name)
    if isinstance(value, str):
        _check_bytes(name, value)


def _check_bytes(name: str, text: str) -> None:
    """Check what stands for bytes: digests, the nonce, the credential's id."""
    if name not in _DIGESTS | _DIGEST_LISTS | {"nonce", "credential_id"}:
        return
    try:
        length = len(b64u_decode(text))
    except ProofError as error:
        raise ProofError("bad_field", f"{name} is not base64url without padding", name) from error
    if name == "nonce" and length < NONCE_BYTES:
        raise ProofError("bad_nonce", "a nonce has at least 16 bytes", name)
    if name in _DIGESTS | _DIGEST_LISTS and length != DIGEST_BYTES:
        raise ProofError("bad_field", f"{name} is not a SHA-256 digest", name)


def differences(signed: Statement, wanted: Statement) -> tuple[str, ...]:
    """Return the dotted names of the fields in which two statements of one kind differ, in alphabetical order."""
    if type(signed) is not type(wanted):
        return ("purpose",)
    return tuple(sorted(_differ("", as_json(signed), as_json(wanted))))


def _differ(path: str, left: JsonValue, right: JsonValue) -> set[str]:
    if isinstance(left, dict) and isinstance(right, dict):
        found: set[str] = set()
        for name in set(left) | set(right):
            here = f"{path}.{name}" if path else name
            if name not in left or name not in right:
                found.add(here)
            else:
                found |= _differ(here, left[name], right[name])
        return found
    return set() if canonical(left) == canonical(right) else {path}  # by their bytes: True is no 1, also inside lists
