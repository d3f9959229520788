"""Are the bytes that people sign and the log keeps still the bytes of the first release?

`formats.json` was written once. What is signed or logged can never be written anew, so a failure here means: make a new version
of the format, beside the old one; never change the vectors.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jitaccess.proof.assertion import Assertion, StoredKey, verify_approval, verify_approval_in_set
from jitaccess.proof.canonical import b64u_decode, b64u_encode, salted_digest
from jitaccess.proof.checkpoint import open_checkpoint
from jitaccess.proof.leaf import Leaf
from jitaccess.proof.merkle import Frontier, leaf_hash
from jitaccess.proof.notes import VerifierKey
from jitaccess.proof.statements import (
    ApprovalSetStatement,
    ApprovalStatement,
    ChangeStatement,
    FilingStatement,
    Purpose,
    challenge,
)

HERE = Path(__file__).parent
FORMATS: dict[str, Any] = json.loads((HERE / "formats.json").read_text(encoding="utf-8"))
SET: dict[str, Any] = json.loads((HERE / "approval_set.json").read_text(encoding="utf-8"))
EVIDENCE: dict[str, Any] = json.loads((HERE / "evidence.json").read_text(encoding="utf-8"))


@pytest.mark.covers("R19")
@pytest.mark.parametrize(
    ("name", "kind", "purpose"),
    [
        ("filing", FilingStatement, Purpose.FILE_REQUEST),
        ("approval", ApprovalStatement, Purpose.APPROVAL),
        ("change", ChangeStatement, Purpose.CHANGE),
        ("approval_set", ApprovalSetStatement, Purpose.APPROVAL_SET),
    ],
)
def test_statements_and_their_challenges(
    name: str,
    kind: type[FilingStatement | ApprovalStatement | ChangeStatement | ApprovalSetStatement],
    purpose: Purpose,
) -> None:
    data = FORMATS[name]["bytes"].encode()
    assert kind.parse(data).to_bytes() == data
    assert b64u_encode(challenge(purpose, data)) == FORMATS[name]["challenge"]


def test_the_challenge_of_genesis() -> None:
    assert b64u_encode(challenge(Purpose.GENESIS, b"")) == FORMATS["genesis_challenge_of_empty"]


@pytest.mark.covers("R72")
def test_salted_digests() -> None:
    reason = FORMATS["reason"]
    assert salted_digest(reason["text"], b64u_decode(reason["salt"])) == reason["digest"]


@pytest.mark.covers("R67")
def test_leaves_frontier_and_checkpoint() -> None:
    leaves = [text.encode() for text in FORMATS["leaves"]]
    assert [Leaf.parse(leaf).to_bytes() for leaf in leaves] == leaves
    frontier = Frontier().extend(leaf_hash(leaf) for leaf in leaves)
    assert frontier.to_bytes().hex() == FORMATS["frontier"]
    assert Frontier.from_bytes(bytes.fromhex(FORMATS["frontier"])) == frontier
    key = VerifierKey.parse(FORMATS["vkey"])
    found = open_checkpoint(FORMATS["checkpoint"], [key])
    assert (found.root, found.size, found.pilot) == (frontier.root(), 7, True)
    private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(FORMATS["audit_private_key"]))
    assert found.sign(private) == FORMATS["checkpoint"]  # Ed25519 is deterministic


@pytest.mark.covers("R19", "R23")
def test_the_evidence_of_an_approval() -> None:
    assertion = Assertion.from_json(EVIDENCE["assertion"])
    key = StoredKey(b64u_decode(EVIDENCE["public_key_der"]), -7)
    statement = EVIDENCE["statement"].encode()
    found = verify_approval(statement, assertion, key, origin=EVIDENCE["origin"], rp_id=EVIDENCE["rp_id"])
    assert found.to_bytes() == FORMATS["approval"]["bytes"].encode()
    assert assertion.digest() == FORMATS["assertion_digest"]


@pytest.mark.covers("R19", "R23")
def test_the_evidence_of_approvals_that_were_signed_as_one_set() -> None:
    assertion = Assertion.from_json(SET["assertion"])
    key = StoredKey(b64u_decode(SET["public_key_der"]), -7)
    assert SET["set_statement"] == FORMATS["approval_set"]["bytes"]
    for single in SET["statements"]:
        found = verify_approval_in_set(
            single.encode(), SET["set_statement"].encode(), assertion, key, origin=SET["origin"], rp_id=SET["rp_id"]
        )
        assert found.to_bytes() == single.encode()
