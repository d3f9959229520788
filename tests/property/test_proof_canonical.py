"""For any value and any bytes: one value has one form, and only that form is read."""

import contextlib
import json

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from jitaccess.proof.canonical import (
    MAX_INTEGER,
    JsonValue,
    b64u_decode,
    b64u_encode,
    canonical,
    parse_canonical,
)
from jitaccess.proof.errors import ProofError
from jitaccess.proof.leaf import Leaf
from jitaccess.proof.notes import open_note
from jitaccess.proof.statements import ApprovalStatement, ChangeStatement, FilingStatement

SCALARS = st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | st.text(max_size=8)
VALUES: st.SearchStrategy[JsonValue] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.covers("R19", "R67")
@given(VALUES)
def test_a_value_is_read_back_from_its_one_form(value: JsonValue) -> None:
    data = canonical(value)
    assert parse_canonical(data) == value == json.loads(data)
    assert canonical(parse_canonical(data)) == data
    assert b"\n" not in data


@pytest.mark.covers("R19", "R67")
@given(VALUES)
def test_the_form_is_the_one_of_rfc_8785(value: JsonValue) -> None:
    assert canonical(value) == rfc8785.dumps(value)  # type: ignore[arg-type] # the same recursive type by another name


@given(
    VALUES,
    st.sampled_from([1.5, MAX_INTEGER + 1, -MAX_INTEGER - 1, "\ud800", {1: 2}, {"\udc00": 1}, b"x", {1}, float("nan")]),
    st.lists(st.booleans(), max_size=4),
)
def test_what_is_refused_is_refused_wherever_it_stands(value: JsonValue, wrong: object, way: list[bool]) -> None:
    for as_list in way:
        wrong = [value, wrong] if as_list else {"a": value, "b": wrong}
    with pytest.raises(ProofError):
        canonical(wrong)


@pytest.mark.parametrize("scalar", [1, "a", None, "é"])
def test_thirty_two_levels_are_written_and_one_more_is_not(scalar: JsonValue) -> None:
    value = scalar
    for _ in range(32):
        value = [value]
    assert canonical(value) == rfc8785.dumps(value)  # type: ignore[arg-type] # as above
    for deeper in ([value], {"a": value}):
        with pytest.raises(ProofError):
            canonical(deeper)


@pytest.mark.covers("R19")
@given(VALUES)
def test_other_spellings_of_a_value_are_refused(value: JsonValue) -> None:
    data = canonical(value)
    for other in (json.dumps(value, indent=1).encode(), json.dumps(value).encode(), data + b" ", b" " + data):
        if other != data:
            with pytest.raises(ProofError):
                parse_canonical(other)


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 9), min_size=2, max_size=6))
def test_keys_stand_in_the_order_of_utf_16(value: dict[str, int]) -> None:
    keys = list(json.loads(canonical(value)))
    assert keys == sorted(value, key=lambda key: key.encode("utf-16-be"))


@pytest.mark.covers("R66")
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused_in_one_way(data: bytes) -> None:
    with contextlib.suppress(ProofError):
        assert canonical(parse_canonical(data)) == data
    for read in (Leaf.parse, FilingStatement.parse, ApprovalStatement.parse, ChangeStatement.parse):
        with pytest.raises(ProofError):
            read(data)


@given(st.text(max_size=80))
def test_any_text_is_a_note_of_nobody(text: str) -> None:
    with pytest.raises(ProofError):
        open_note(text, [])


@given(st.text(alphabet="ABYZabyz0189-_+/= \n", max_size=12))
def test_base64url_has_one_spelling(text: str) -> None:
    try:
        assert b64u_encode(b64u_decode(text)) == text
    except ProofError:
        assert len(text) % 4 != 0 or set(text) & set("+/= \n")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=12),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
        max_leaves=12,
    )
)
def test_the_quick_way_gives_the_bytes_of_rfc_8785(value: object) -> None:
    try:
        found = canonical(value)
    except ProofError:
        return
    assert found == rfc8785.dumps(value)  # type: ignore[arg-type] # what canonical takes, rfc8785 takes
