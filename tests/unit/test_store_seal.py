"""Does a seal belong to exactly one row at one version, and to nobody without its key?"""

from datetime import UTC, datetime

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from jitaccess.proof.canonical import sha256_b64u
from jitaccess.store.seal import UNKNOWN_LIMIT, Seals, row_digest, sealed_content

ROW = ("grant", "g1", 3, "e1", "digest")
KEY, OTHER = b"k" * 32, b"o" * 32
ASCII_NAME = st.from_regex(r"\A[a-z_]{1,8}\Z")
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ASCII_NAME, inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.covers("R71")
def test_a_seal_holds_for_its_row() -> None:
    seals = Seals("a", {"a": KEY})
    assert seals.holds(seals.make(*ROW), *ROW)


@pytest.mark.parametrize("part", range(5))
def test_a_seal_of_a_row_with_one_other_part_does_not_hold(part: int) -> None:
    seals = Seals("a", {"a": KEY})
    other: list[object] = list(ROW)
    other[part] = 4 if part == 2 else "other"
    assert not seals.holds(seals.make(*ROW), *other)  # type: ignore[arg-type] # one part is exchanged


@pytest.mark.parametrize("seal", [None, "", "a", "a.", ".", "b.AAAA", "a.é", "a." + "A" * 43])
def test_absent_malformed_and_foreign_seals_do_not_hold(seal: str | None) -> None:
    assert not Seals("a", {"a": KEY}).holds(seal, *ROW)


def test_parts_that_run_into_each_other_give_other_seals() -> None:
    seals = Seals("a", {"a": KEY})
    assert seals.make("ab", "c", 1, "e", "d") != seals.make("a", "bc", 1, "e", "d")


def test_an_old_key_is_accepted_and_never_writes() -> None:
    old = Seals("a", {"a": KEY})
    both = Seals("b", {"a": KEY, "b": OTHER})
    assert both.holds(old.make(*ROW), *ROW)
    assert both.make(*ROW).startswith("b.")


def test_an_unknown_key_is_asked_for_once_and_then_known() -> None:
    seals, asked = Seals("a", {"a": KEY}), []

    def ask() -> None:
        asked.append(1)
        seals.adopt(Seals("b", {"a": KEY, "b": OTHER}))

    seals.ask = ask
    written_elsewhere = Seals("b", {"b": OTHER}).make(*ROW)
    assert seals.holds(written_elsewhere, *ROW)
    assert seals.holds(written_elsewhere, *ROW)
    assert asked == [1]
    assert seals.active == "b"


def test_forged_key_ids_do_not_cost_a_look_up_each() -> None:
    seals, asked = Seals("a", {"a": KEY}), []
    seals.ask = lambda: asked.append(1)
    for number in range(UNKNOWN_LIMIT + 50):
        assert not seals.holds(f"forged{number}.AAAA", *ROW)
        assert not seals.holds(f"forged{number}.AAAA", *ROW)
    assert len(asked) == UNKNOWN_LIMIT


@given(st.dictionaries(ASCII_NAME, PLAIN, max_size=6))
def test_the_quick_form_of_a_row_is_the_canonical_one(content: dict[str, object]) -> None:
    assert row_digest("t", "k", 1, content) == sha256_b64u(rfc8785.dumps(["t", "k", 1, content]))  # type: ignore[list-item] # JSON


def test_times_and_bytes_have_one_form() -> None:
    at = datetime(2026, 11, 23, 9, 0, 0, 1, tzinfo=UTC)
    same = {"at": 1795424400000001, "key": "AAE"}
    assert row_digest("t", "k", 1, {"at": at, "key": b"\x00\x01"}) == row_digest("t", "k", 1, same)


def test_a_column_added_later_is_sealed_only_where_it_says_something() -> None:
    names, later = ("id", "state", "not_before"), frozenset({"not_before"})
    old = {"id": "g", "state": "ACTIVE", "not_before": None}
    assert sealed_content(names, later, old) == {"id": "g", "state": "ACTIVE"}
    assert sealed_content(names, later, old | {"not_before": 7}) == {"id": "g", "state": "ACTIVE", "not_before": 7}
    assert sealed_content(names, frozenset(), old) == old
