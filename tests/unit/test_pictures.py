"""Do the drawings say what the numbers say, in well-formed SVG that a screen reader can tell?"""

import re
from typing import cast
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from jitaccess.web import pictures
from jitaccess.web.pictures import Bar, BarKind, Month, Picture

SVG = "{http://www.w3.org/2000/svg}"
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
T0 = 1_800_000_000


def parsed(picture: Picture) -> ElementTree.Element:
    """Read a drawing as XML, which refuses whatever is not well-formed."""
    return ElementTree.fromstring(str(picture.svg))


def of_class(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    """Give the elements that have a class."""
    return [found for found in root.iter() if name in found.get("class", "").split()]


def timeline(*bars: Bar) -> Picture:
    """Draw bars over a day."""
    return pictures.timeline(
        bars,
        start_s=T0,
        end_s=T0 + 86_400,
        now_s=T0 + 43_200,
        ticks=[(T0, "00:00")],
        title="Access",
        description="d",
        heads=("System", "What", "From", "Until"),
        times={at: str(at) for bar in bars for at in (bar.start_s, bar.end_s)},
    )


def test_every_picture_has_a_name_a_description_and_no_inline_style() -> None:
    for picture in samples():
        root = parsed(picture)
        assert root.get("role") == "img"
        assert picture.title in root.get("aria-label", "")
        assert [child.tag for child in list(root)[:2]] == ["title", "desc"]
        assert "style=" not in str(picture.svg)
        assert "on" not in {key[:2] for found in root.iter() for key in found.attrib}


def samples() -> list[Picture]:
    """Give one of each."""
    bar = Bar("Treasury", T0 + 60, T0 + 3600, BarKind.RETURNED, "Arta: viewer")
    return [
        timeline(bar),
        heat({(0, 9): 3, (6, 23): 1}),
        latency([60, 90, 600]),
        pictures.matrix({("Blerim", "Arta"): 4}, title="t", description="d", heads=("a", "r", "n")),
        pictures.months(
            [Month("Nov", 12, 0.25, 3)], title="t", description="d", heads=("", "", "", ""), labels=("a", "b")
        ),
        strip([(T0, 120, "Treasury")]),
    ]


def heat(counts: dict[tuple[int, int], int]) -> Picture:
    """Draw a week of office hours."""
    inside = frozenset((day, hour) for day in range(5) for hour in range(8, 17))
    return pictures.heat_map(counts, inside=inside, days=DAYS, title="t", description="d", out_of_hours="out of hours")


def latency(seconds: list[float]) -> Picture:
    """Draw how long approvals took."""
    return pictures.latency(
        seconds,
        title="t",
        description="d",
        marks={60.0: "1 min", 3600.0: "1 h"},
        median="half",
        p90="nine of ten",
        heads=("Share", "Within"),
        texts={0.5: "x", 0.9: "y"},
    )


def strip(lags: list[tuple[int, int, str]]) -> Picture:
    """Draw revocations."""
    return pictures.lag_strip(
        lags,
        limit_ms=5000,
        title="t",
        description="d",
        limit="limit",
        heads=("", "", ""),
        times={a: "" for a, _, _ in lags},
    )


def test_a_bar_is_as_long_as_its_grant_and_overlapping_ones_lie_below_each_other() -> None:
    half = Bar("Treasury", T0, T0 + 43_200, BarKind.ENDED, "one")
    over = Bar("Treasury", T0 + 21_600, T0 + 64_800, BarKind.OPEN, "two")
    after = Bar("Treasury", T0 + 43_200, T0 + 86_400, BarKind.CUT, "three")
    bars = of_class(parsed(timeline(half, over, after)), "bar")
    width = [float(bar.get("width", 0)) for bar in bars]
    assert width == pytest.approx([pictures.WIDTH / 2] * 3, abs=0.1)
    y = {bar.findtext("title"): bar.get("y") for bar in bars}
    assert y["one"] == y["three"] != y["two"]


def test_the_table_holds_every_bar_also_beyond_the_drawn_lanes() -> None:
    bars = [Bar(f"System {n:02d}", T0, T0 + 60, BarKind.ENDED, "x") for n in range(pictures.MOST_LANES + 5)]
    picture = timeline(*bars)
    assert len(of_class(parsed(picture), "bar")) == pictures.MOST_LANES
    assert len(picture.table.rows) == len(bars)


@given(st.text(max_size=30))
def test_text_of_people_stays_text(text: str) -> None:
    text = "".join(letter for letter in text if letter.isprintable())
    picture = timeline(Bar(text, T0, T0 + 9, BarKind.ENDED, f"<script>{text}</script>"))
    assert "<script" not in picture.svg
    assert isinstance(picture.svg, Markup)
    parsed(picture)


def test_what_is_no_markup_is_escaped_wherever_it_is_put() -> None:
    plain = cast(Markup, "<b>")  # a mistake that a type checker would find; the page must be safe all the same
    assert pictures.element("g", plain, class_='x"><i>') == Markup('<g class="x&#34;&gt;&lt;i&gt;">&lt;b&gt;</g>')


def test_out_of_hours_is_outlined_and_the_busiest_hour_is_darkest() -> None:
    picture = heat({(0, 9): 10, (1, 9): 1, (6, 23): 2})
    root = parsed(picture)
    titles = {cell.findtext("title"): cell.get("class", "").split() for cell in of_class(root, "cell") if list(cell)}
    assert titles["Mon 9:00: 10"] == ["cell", f"h{pictures.LEVELS}"]
    assert "outside" in titles["Sun 23:00: 2"]
    assert "outside" not in titles["Tue 9:00: 1"]
    assert len(of_class(root, "outside")) == 7 * 24 - 5 * 9
    assert picture.table.rows[6][24] == "2 (out of hours)"


def test_without_declared_hours_nothing_is_out_of_hours() -> None:
    picture = pictures.heat_map({(6, 3): 1}, inside=None, days=DAYS, title="t", description="d", out_of_hours="out")
    assert not of_class(parsed(picture), "outside")
    assert picture.table.rows[6][4] == "1"


def test_median_and_ninth_decile_are_the_nearest_ranks() -> None:
    ordered = list(range(1, 11))
    assert pictures.quantile(ordered, 0.5) == 5
    assert pictures.quantile(ordered, 0.9) == 9
    assert pictures.quantile([7], 0.9) == 7
    assert pictures.quantile([], 0.5) == 0


@given(st.lists(st.floats(min_value=0, max_value=10**7), max_size=200))
def test_the_curve_rises_from_left_to_right_inside_the_drawing(seconds: list[float]) -> None:
    curve = of_class(parsed(latency(seconds)), "curve")
    assert len(curve) == (1 if seconds else 0)
    if curve:
        path = curve[0].get("d", "")
        x = [float(found) for found in re.findall(r"[HL]([\d.]+)", path)]
        y = [float(found) for found in re.findall(r"(?:V|L[\d.]+ )([\d.]+)", path)]
        assert x == sorted(x)
        assert y == sorted(y, reverse=True)
        assert all(0 <= value <= pictures.WIDTH for value in x)
        assert len(path) < 3_000


def test_a_matrix_keeps_the_busiest_and_its_table_everybody() -> None:
    counts = {(f"A{n:02d}", f"R{n:02d}"): n + 1 for n in range(30)}
    picture = pictures.matrix(counts, title="t", description="d", heads=("a", "r", "n"))
    drawn = [found.text for found in of_class(parsed(picture), "count")]
    assert drawn == [str(30 - n) for n in range(pictures.MOST_NAMES)]
    assert len(picture.table.rows) == 30
    assert picture.table.rows[0] == ("A29", "R29", "30")


def test_months_keep_their_proportion() -> None:
    picture = pictures.months(
        [Month("Oct", 40, 0.5, 3), Month("Nov", 80, 1.0, 3)],
        title="t",
        description="d",
        heads=("", "", "", ""),
        labels=("a", "b"),
    )
    heights = [float(bar.get("height", 0)) for bar in of_class(parsed(picture), "bar")[2:]]
    assert heights[2] == pytest.approx(2 * heights[0], abs=0.2)
    assert heights[1] < heights[3] < heights[0] / 10
    assert picture.table.rows[1] == ("Nov", "80", "1.00", "3")


def test_a_late_revocation_stands_out() -> None:
    dots = of_class(parsed(strip([(T0, 30, "a"), (T0 + 5, 9_000, "b")])), "dot")
    assert [dot.get("class") for dot in dots] == ["dot", "dot late"]
    assert float(dots[1].get("cy", 0)) < float(dots[0].get("cy", 0))


@pytest.mark.parametrize("empty", [timeline(), heat({}), latency([]), strip([])])
def test_nothing_gives_an_empty_drawing_and_table(empty: Picture) -> None:
    parsed(empty)
    assert not of_class(parsed(empty), "bar") + of_class(parsed(empty), "dot")
