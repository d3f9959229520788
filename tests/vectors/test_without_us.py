"""Can somebody who trusts no line of ours check an approval and its entry in the log? `without_us.py`, run apart, does."""

import ast
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
PROGRAM = HERE / "without_us.py"
Damage = Callable[[dict[str, Any]], None]


def run(evidence: Path) -> tuple[int, str]:
    """Run the program isolated, so that it cannot import from this tree."""
    done = subprocess.run([sys.executable, "-I", PROGRAM, evidence], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def put(name: str, old: str, new: str) -> Damage:
    def damage(evidence: dict[str, Any]) -> None:
        assert old in evidence[name]
        evidence[name] = evidence[name].replace(old, new, 1)

    return damage


def number(evidence: dict[str, Any]) -> None:
    evidence["index"] = 4


def path(evidence: dict[str, Any]) -> None:
    evidence["path"].reverse()


def signature(evidence: dict[str, Any]) -> None:
    evidence["assertion"]["signature"] = evidence["assertion"]["signature"][:-4] + "AAAA"


def test_it_uses_nothing_of_ours() -> None:
    tree = ast.parse(PROGRAM.read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} == {"base64", "hashlib", "json", "sys", "cryptography"}


@pytest.mark.covers("R23", "R70")
def test_the_evidence_verifies_with_a_program_that_is_not_ours() -> None:
    code, said = run(HERE / "evidence.json")
    assert (code, said) == (0, "06fk0000000000000000000004 approve 06fk0000000000000000000002\n")


@pytest.mark.covers("R23", "R70")
def test_a_set_of_approvals_verifies_with_it_too() -> None:
    code, said = run(HERE / "approval_set.json")
    approver = "06fk0000000000000000000004"
    assert code == 0
    assert said.splitlines() == [
        f"{approver} approve 06fk0000000000000000000002",
        f"{approver} approve 06fk0000000000000000000009",
    ]


def other_single(evidence: dict[str, Any]) -> None:
    evidence["statements"][1] = evidence["statements"][1].replace('"amount_cents":4200', '"amount_cents":42000')


def one_left_out(evidence: dict[str, Any]) -> None:
    del evidence["statements"][1]


@pytest.mark.covers("R23")
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (other_single, "lists other approvals"),
        (one_left_out, "lists other approvals"),
        (put("set_statement", '"approve_by":1', '"approve_by":2'), "signed something else"),
        (signature, "does not hold"),
    ],
)
def test_it_tells_what_of_a_set_does_not_hold(tmp_path: Path, damage: Damage, words: str) -> None:
    evidence = json.loads((HERE / "approval_set.json").read_text(encoding="utf-8"))
    damage(evidence)
    (tmp_path / "evidence.json").write_text(json.dumps(evidence), encoding="utf-8")
    code, said = run(tmp_path / "evidence.json")
    assert code == 1
    assert words in said


@pytest.mark.covers("R23", "R70")
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (put("statement", '"amount_cents":125000000', '"amount_cents":925000000'), "signed something else"),
        (put("statement", '"verdict":"approve"', '"verdict":"deny"'), "signed something else"),
        (put("origin", "jit.", "tij."), "signed elsewhere"),
        (put("rp_id", "jit.", "tij."), "signed for another site"),
        (signature, "does not hold"),
        (put("leaf", '"ev":1', '"ev":2'), "not in that tree"),
        (number, "not in that tree"),
        (path, "not in that tree"),
        (put("checkpoint", "\n7\n", "\n8\n"), "does not hold"),
    ],
    ids=["amount", "verdict", "origin", "rp_id", "signature", "leaf", "index", "path", "checkpoint"],
)
def test_it_tells_what_does_not_hold(tmp_path: Path, damage: Damage, words: str) -> None:
    evidence = json.loads((HERE / "evidence.json").read_text(encoding="utf-8"))
    damage(evidence)
    (tmp_path / "evidence.json").write_text(json.dumps(evidence), encoding="utf-8")
    code, said = run(tmp_path / "evidence.json")
    assert code == 1
    assert words in said
