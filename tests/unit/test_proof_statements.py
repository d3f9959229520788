"""What does a signature bind? Every field of a statement, its purpose and its exact bytes; nothing else is read as one."""

import hashlib
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest

from jitaccess.proof.canonical import b64u_encode, canonical, parse_canonical
from jitaccess.proof.errors import ProofError
from jitaccess.proof.statements import (
    MAX_STATEMENT_BYTES,
    ApprovalSetStatement,
    ApprovalStatement,
    ChangeStatement,
    FilingStatement,
    Purpose,
    Statement,
    Verdict,
    as_json,
    challenge,
    differences,
)

DIGEST = b64u_encode(bytes(range(32)))
OTHER_DIGEST = b64u_encode(bytes(32))
NONCE = b64u_encode(bytes(16))
FILING = FilingStatement(
    instance="inst", log_origin="example.org/log", request_id="req", requester="arta", credential_id="Y3JlZA",
    target="treasury", target_config_digest=DIGEST, entitlement="releaser",
    inputs={"amount_cents": 125_000_000, "order": "TR-1", "urgent": False}, reason_digest=DIGEST, duration_s=600,
    policy_digest=DIGEST, holder_jkt=None, earliest_start=1_795_424_400, file_by=1_795_424_700, nonce=NONCE,
)  # fmt: skip
APPROVAL = ApprovalStatement(
    instance="inst", log_origin="example.org/log", request_id="req", requester="arta",
    requester_assertion_digest=DIGEST, target="treasury", target_config_digest=DIGEST, entitlement="releaser",
    inputs={"amount_cents": 125_000_000, "order": "TR-1"}, terms={"max_s": 600, "steps": [{"count": 1}]},
    policy_digest=DIGEST, holder_jkt=None, earliest_start=1_795_424_400, latest_end=1_795_428_000, max_duration_s=600,
    approve_by=1_795_426_000, approver="blerim", credential_id="Y3JlZA", step="line", verdict="approve", nonce=NONCE,
)  # fmt: skip
CHANGE = ChangeStatement(
    instance="inst", log_origin="example.org/log", change_id="chg", kind="policy.activate", subject="set",
    subject_digest=DIGEST, before_digest=None, by="agim", credential_id="Y3JlZA", approve_by=1_795_426_000, nonce=NONCE,
)  # fmt: skip
SET = ApprovalSetStatement(
    instance="inst", log_origin="example.org/log", approver="blerim", credential_id="Y3JlZA",
    approvals=(DIGEST, OTHER_DIGEST), approve_by=1_795_426_000, nonce=NONCE,
)  # fmt: skip
ALL: tuple[Statement, ...] = (FILING, APPROVAL, CHANGE, SET)
LATER = {"extends", "deputy_of", "deputation_digest"}
"""Members that came after the first release: absent when unused."""
EVERY_FIELD = [(statement, field.name) for statement in ALL for field in fields(statement)]


def name(value: object) -> str:
    return value if isinstance(value, str) else type(value).__name__


def parse(statement: Statement, data: bytes) -> Statement:
    readers: dict[str, Callable[[bytes], Statement]] = {
        "FilingStatement": FilingStatement.parse,
        "ApprovalStatement": ApprovalStatement.parse,
        "ChangeStatement": ChangeStatement.parse,
        "ApprovalSetStatement": ApprovalSetStatement.parse,
    }
    return readers[type(statement).__name__](data)


def changed(statement: Statement, **values: Any) -> bytes:
    document: dict[str, Any] = {**as_json(statement), **values}
    return canonical({key: value for key, value in document.items() if value is not ...})


def refused(statement: Statement, data: bytes) -> tuple[str, str | None]:
    with pytest.raises(ProofError) as caught:
        parse(statement, data)
    return caught.value.reason, caught.value.field


@pytest.mark.covers("R19")
@pytest.mark.parametrize("statement", ALL, ids=name)
def test_a_statement_is_read_back_from_its_exact_bytes(statement: Statement) -> None:
    data = statement.to_bytes()
    assert parse(statement, data) == statement
    values = {field.name: getattr(statement, field.name) for field in fields(statement)}
    values = {key: value for key, value in values.items() if value is not None or key not in LATER}
    lists = {key: list(value) for key, value in values.items() if isinstance(value, tuple)}
    assert parse_canonical(data) == {"v": 1, **values, **lists}


@pytest.mark.covers("R19", "R3")
def test_the_challenge_binds_purpose_and_bytes() -> None:
    data = APPROVAL.to_bytes()
    assert challenge(Purpose.APPROVAL, data) == hashlib.sha256(b"jitaccess/approval/v1\x00" + data).digest()
    assert len({challenge(purpose, data) for purpose in Purpose}) == len(Purpose)
    assert [purpose.value for purpose in Purpose] == [
        "file-request", "approval", "change", "genesis", "veto", "approval-set", "deputy",
    ]  # fmt: skip


@pytest.mark.covers("R19", "R20")
@pytest.mark.parametrize(("statement", "field"), EVERY_FIELD, ids=name)
def test_every_field_changes_what_is_signed_and_is_named(statement: Statement, field: str) -> None:
    value = getattr(statement, field)
    other: object = f"{value or ''}x"
    match value:
        case int():
            other = value + 1
        case dict():
            other = {**value, "x": 1}
        case tuple():
            other = value[::-1]
    altered = replace(statement, **{field: other})
    assert altered.to_bytes() != statement.to_bytes()
    assert differences(statement, altered) == ((f"{field}.x",) if isinstance(value, dict) else (field,))


@pytest.mark.covers("R20")
def test_differences_are_named_down_to_the_value() -> None:
    other = replace(
        APPROVAL, inputs={"amount_cents": 1, "place": "x"}, terms={"max_s": 600, "steps": [{"count": True}]}
    )
    assert differences(APPROVAL, other) == ("inputs.amount_cents", "inputs.order", "inputs.place", "terms.steps")
    assert differences(APPROVAL, replace(APPROVAL, verdict=Verdict.APPROVE)) == ()
    assert differences(FILING, replace(FILING, inputs={**FILING.inputs, "urgent": 0})) == ("inputs.urgent",)
    assert differences(FILING, CHANGE) == ("purpose",)


@pytest.mark.covers("R19")
@pytest.mark.parametrize(("statement", "field"), EVERY_FIELD, ids=name)
def test_a_field_of_another_type_is_refused(statement: Statement, field: str) -> None:
    for wrong in ([], "" if field not in {"inputs", "terms"} else "x", True):
        assert refused(statement, changed(statement, **{field: wrong})) == ("bad_field", field)
    if field in LATER:
        assert parse(statement, changed(statement, **{field: ...})) == statement
    else:
        assert refused(statement, changed(statement, **{field: ...})) == ("not_a_statement", None)


@pytest.mark.covers("R19")
@pytest.mark.parametrize("statement", ALL, ids=name)
@pytest.mark.parametrize("version", [2, True, "1", None])
def test_another_version_and_other_fields_are_refused(statement: Statement, version: object) -> None:
    assert refused(statement, changed(statement, v=version))[0] == "not_a_statement"
    assert refused(statement, changed(statement, extra=1))[0] == "not_a_statement"
    assert refused(statement, b"[]")[0] == "not_a_statement"
    assert refused(statement, statement.to_bytes() + b"\n")[0] == "not_canonical"


@pytest.mark.covers("R19", "R21")
@pytest.mark.parametrize(
    ("statement", "values", "reason", "field"),
    [
        (FILING, {"duration_s": 0}, "bad_bounds", "duration_s"),
        (FILING, {"duration_s": -1}, "bad_field", "duration_s"),
        (FILING, {"file_by": 0}, "bad_bounds", "file_by"),
        (FILING, {"nonce": b64u_encode(bytes(15))}, "bad_nonce", "nonce"),
        (FILING, {"nonce": "not base64url"}, "bad_field", "nonce"),
        (FILING, {"credential_id": "YQ=="}, "bad_field", "credential_id"),
        (FILING, {"reason_digest": b64u_encode(bytes(31))}, "bad_field", "reason_digest"),
        (FILING, {"inputs": {"a": None}}, "bad_field", "inputs"),
        (FILING, {"inputs": {"a": ["x"]}}, "bad_field", "inputs"),
        (APPROVAL, {"latest_end": APPROVAL.earliest_start}, "bad_bounds", "latest_end"),
        (APPROVAL, {"max_duration_s": 0}, "bad_bounds", "max_duration_s"),
        (APPROVAL, {"approve_by": 0}, "bad_bounds", "approve_by"),
        (APPROVAL, {"verdict": "maybe"}, "bad_verdict", "verdict"),
        (APPROVAL, {"approver": "arta"}, "self_approval", "approver"),
        (APPROVAL, {"requester_assertion_digest": "x" * 43}, "bad_field", "requester_assertion_digest"),
        (SET, {"approvals": [DIGEST]}, "bad_set", "approvals"),
        (SET, {"approvals": [DIGEST, DIGEST]}, "bad_set", "approvals"),
        (SET, {"approvals": [b64u_encode(bytes([n]) * 32) for n in range(21)]}, "bad_set", "approvals"),
        (SET, {"approvals": [DIGEST, "short"]}, "bad_field", "approvals"),
        (SET, {"approvals": [DIGEST, 1]}, "bad_field", "approvals"),
        (SET, {"approve_by": 0}, "bad_bounds", "approve_by"),
        (CHANGE, {"approve_by": 0}, "bad_bounds", "approve_by"),
        (CHANGE, {"before_digest": "short"}, "bad_field", "before_digest"),
    ],
)
def test_what_cannot_be_meant_is_refused(statement: Statement, values: dict[str, Any], reason: str, field: str) -> None:
    assert refused(statement, changed(statement, **values)) == (reason, field)


def test_optional_fields_are_null_or_text() -> None:
    for statement, field, value in ((FILING, "holder_jkt", "thumbprint"), (CHANGE, "before_digest", OTHER_DIGEST)):
        assert parse(statement, changed(statement, **{field: value})) == replace(statement, **{field: value})


@pytest.mark.covers("R66")
def test_a_statement_has_a_largest_size() -> None:
    large = replace(FILING, inputs={"text": "x" * MAX_STATEMENT_BYTES})
    with pytest.raises(ProofError, match="16 KiB"):
        large.to_bytes()
    assert refused(FILING, b" " * (MAX_STATEMENT_BYTES + 1))[0] == "too_large"
