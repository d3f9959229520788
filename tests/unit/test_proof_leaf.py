"""What is an entry of the log? One form, read strictly, without personal text."""

from typing import Any

import pytest

from jitaccess.proof.canonical import canonical, parse_canonical
from jitaccess.proof.errors import ProofError
from jitaccess.proof.leaf import Leaf

ACTOR = {"kind": "person", "person": "p1", "account": "a1", "client": None}
LEAF = Leaf(
    id="0001", at_us=1_795_424_400_000_000, type="request.filed", ev=1, actor=ACTOR, subject={"request": "r1"},
    body={"duration_s": 600, "codes": ["a", None, True]}, texts={"reason": "digest"},
    rows=(("access_request", "r1", 1, "digest"),),
)  # fmt: skip


def changed(**values: Any) -> bytes:
    document = parse_canonical(LEAF.to_bytes())
    assert isinstance(document, dict)
    return canonical({key: value for key, value in {**document, **values}.items() if value is not ...})


@pytest.mark.covers("R67")
def test_a_leaf_is_read_back_from_its_exact_bytes() -> None:
    assert Leaf.parse(LEAF.to_bytes()) == LEAF
    assert LEAF.to_bytes() == (
        b'{"actor":{"account":"a1","client":null,"kind":"person","person":"p1"},"at_us":1795424400000000,'
        b'"body":{"codes":["a",null,true],"duration_s":600},"ev":1,"id":"0001",'
        b'"rows":[["access_request","r1",1,"digest"]],"subject":{"request":"r1"},"texts":{"reason":"digest"},'
        b'"type":"request.filed","v":1}'
    )


@pytest.mark.covers("R67")
def test_a_leaf_never_holds_a_line_break() -> None:
    leaf = Leaf(id="1", at_us=0, type="t", ev=1, actor=ACTOR, subject={}, body={"text": "a\nb\r\u2028"})
    assert b"\n" not in leaf.to_bytes()
    assert b"\r" not in leaf.to_bytes()


@pytest.mark.covers("R67")
@pytest.mark.parametrize(
    "values",
    [
        {"v": 2}, {"v": True}, {"v": ...}, {"extra": 1}, {"id": 1}, {"type": None}, {"at_us": -1}, {"at_us": True},
        {"ev": "1"}, {"actor": []}, {"actor": {**ACTOR, "kind": "robot"}}, {"actor": {"kind": "person"}},
        {"actor": {**ACTOR, "person": 1}}, {"subject": {"request": None}}, {"subject": "x"}, {"body": []},
        {"texts": {"reason": None}}, {"rows": {}}, {"rows": [["t", "k", True, "d"]]}, {"rows": [["t", "k", -1, "d"]]},
        {"rows": [["t", "k", 1]]},
    ],
)  # fmt: skip
def test_anything_else_is_no_leaf(values: dict[str, Any]) -> None:
    with pytest.raises(ProofError) as caught:
        Leaf.parse(changed(**values))
    assert caught.value.reason == "not_a_leaf"
    with pytest.raises(ProofError):
        Leaf.parse(b"[]")
