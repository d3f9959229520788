"""Can a cell of an export become a formula, and is everything in it?"""

import csv
import io
import json
from datetime import UTC, datetime
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitaccess.broker.inspection import Line, Said, Stopped
from jitaccess.language import Language
from jitaccess.web import exports

LINE = Line(
    request_id="r1",
    filed_at=datetime(2026, 11, 23, 9, 0, tzinfo=UTC),
    person_id="p1",
    target="treasury",
    entitlement="viewer",
    inputs={"order": "TR-000417"},
    duration_s=600,
    reason='=HYPERLINK("http://example.org";"look")',
    state="APPROVED",
    decided_at=None,
    policy_digest="d",
    approvals=(
        Said("line", "p2", "approve", deputy_of="p3", max_duration_s=300, set_id="s1"),
        Said("owner", "p4", "deny", signed=False),
    ),
    vetoes=(Stopped("p4", False),),
    extends="g0",
)


@pytest.mark.covers("R18")
@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "  =1", "|calc", "＝1+1", "＠SUM(A1)"])
def test_what_a_spreadsheet_would_run_is_neutralised(cell: str) -> None:
    assert exports.neutral(cell) == f"'{cell}"


@given(st.text(max_size=40))
def test_no_cell_begins_like_a_formula_and_harmless_ones_stay(cell: str) -> None:
    found = exports.neutral(cell)
    assert not found.startswith(exports.DANGEROUS)
    assert found.replace("'", "") == cell.replace("'", "")
    if cell.replace(" ", "").isalnum():
        assert found == cell


CELLS = st.lists(st.text(st.sampled_from('a=+-@|＝＠;,\t\n\r" '), max_size=12), min_size=1, max_size=4)


@pytest.mark.covers("R18")
@given(CELLS, st.sampled_from(",;\t"), st.sampled_from(list(Language)))
def test_nothing_becomes_a_formula_wherever_a_spreadsheet_parts_cells(
    row: list[str], parting: str, language: Language
) -> None:
    with patch.object(exports, "language_now", lambda: language):
        text = exports.as_csv(["a"], [row])
    for line in csv.reader(io.StringIO(text.removeprefix(exports.BOM), newline=""), delimiter=parting):
        assert not [cell for cell in line if cell.lstrip(" ").startswith(("=", "+", "-", "@", "|", "＝", "＠"))]


@pytest.mark.parametrize(("language", "parting"), [(Language.EN, ","), (Language.SQ, ";"), (Language.SR, ";")])
def test_cells_are_parted_as_spreadsheets_in_the_readers_language_do_it(language: Language, parting: str) -> None:
    with patch.object(exports, "language_now", lambda: language):
        text = exports.as_csv(["a", "b"], [["1", "2"]])
    assert text == f'{exports.BOM}"a"{parting}"b"\r\n"1"{parting}"2"\r\n'


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20),
        min_size=1,
        max_size=6,
    )
)
def test_csv_is_read_back_as_it_was_written(row: list[str]) -> None:
    text = exports.as_csv(["a"] * len(row), [row])
    assert list(csv.reader(io.StringIO(text, newline="")))[1] == [exports.neutral(cell) for cell in row]


def test_a_request_is_told_whole_in_csv_and_json() -> None:
    columns = [*exports.COLUMNS, *(f"{name}_iso" for name in exports.MOMENTS)]
    cells = dict(zip(columns, exports.cells(LINE, {"p1": "Arta", "p2": "Blerim"}), strict=True))
    assert len(exports.heads()) == len(columns)
    assert cells["person"] == "Arta"
    assert cells["filed"] == "23 Nov 2026, 09:00:00 UTC"
    assert cells["filed_iso"] == "2026-11-23T09:00:00Z"
    assert cells["verdicts"] == (
        "line: Blerim approve (in the place of p3, shortened to 5 min); owner: p4 deny (not signed)"
    )
    assert cells["vetoes"] == "p4 (not signed)"
    assert (cells["extends"], cells["sets"]) == ("g0", "s1")
    assert cells["decided"] == cells["decided_iso"] == cells["grant"] == ""
    assert exports.as_csv(columns, [tuple(cells.values())]).count("'=HYPERLINK") == 1
    document = exports.document(LINE, {"p1": "Arta"})
    assert document["reason"] == LINE.reason
    assert document["filed_at"] == 1_795_424_400
    assert document["decided_at"] is None
    assert [(one["deputy_of"], one["signed"], one["max_duration_s"]) for one in document["verdicts"]] == [
        ("p3", True, 300),
        (None, False, None),
    ]
    assert document["extends"] == "g0"
    assert [one["set"] for one in document["verdicts"]] == ["s1", None]
    assert document["vetoes"] == [{"person_id": "p4", "person": None, "signed": False}]


def test_an_export_as_json_is_one_object_that_ends_with_its_completeness() -> None:
    for documents in ([], [{"request": "r1"}, {"request": "r2"}]):
        text = "".join(exports.json_lines({"format": "f"}, iter(documents)))
        assert json.loads(text) == {"format": "f", "requests": documents, "complete": True}
    with pytest.raises(ValueError, match="Expecting"):
        json.loads("".join(list(exports.json_lines({"format": "f"}, iter(documents)))[:-1]))


def test_a_spreadsheet_learns_that_the_file_is_utf_8() -> None:
    assert exports.as_csv(["emri"], [["Gjinë"]]).encode()[:3] == b"\xef\xbb\xbf"
