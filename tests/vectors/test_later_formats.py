"""Are the statements, and the members of statements, that came after the first release still the bytes that were first signed?

`later_formats.json` was written once, beside `formats.json`, which knows nothing of them and stays valid.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from jitaccess.proof.canonical import b64u_encode, sha256_b64u
from jitaccess.proof.errors import ProofError
from jitaccess.proof.statements import (
    ApprovalStatement,
    DeputyStatement,
    FilingStatement,
    Purpose,
    VetoStatement,
    challenge,
)

LATER: dict[str, Any] = json.loads((Path(__file__).parent / "later_formats.json").read_text(encoding="utf-8"))
Kind = type[FilingStatement | ApprovalStatement | DeputyStatement | VetoStatement]


@pytest.mark.covers("R19")
@pytest.mark.parametrize(
    ("name", "kind", "purpose"),
    [
        ("filing_of_an_extension", FilingStatement, Purpose.FILE_REQUEST),
        ("approval_of_an_extension", ApprovalStatement, Purpose.APPROVAL),
        ("approval_of_a_deputy", ApprovalStatement, Purpose.APPROVAL),
        ("deputation", DeputyStatement, Purpose.DEPUTY),
        ("veto", VetoStatement, Purpose.VETO),
    ],
)
def test_later_statements_and_their_challenges(name: str, kind: Kind, purpose: Purpose) -> None:
    data = LATER[name]["bytes"].encode()
    assert kind.parse(data).to_bytes() == data
    assert b64u_encode(challenge(purpose, data)) == LATER[name]["challenge"]


def test_a_deputys_approval_names_the_deputation_by_its_exact_bytes() -> None:
    signed = ApprovalStatement.parse(LATER["approval_of_a_deputy"]["bytes"].encode())
    assert signed.deputation_digest == sha256_b64u(LATER["deputation"]["bytes"].encode())


@pytest.mark.parametrize("name", ["extends", "deputy_of", "deputation_digest"])
def test_a_later_member_is_absent_or_says_something_and_is_never_null(name: str) -> None:
    value = json.loads(LATER["approval_of_a_deputy"]["bytes"]) | {name: None}
    with pytest.raises(ProofError):
        ApprovalStatement.parse(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())
