"""What do the numbers look like? Inline SVG with a table twin: pure functions from numbers to markup, without a script.

Every picture is read out by its title and description, and the table beside it holds the same numbers, so nobody needs to see it.
Colours come from classes of the style sheet, so that light and dark both hold and no inline style is needed (content security
policy). All words arrive as arguments, in the reader's language; user text is escaped by markupsafe. SVG 2, WAI-ARIA 1.2 `img`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, lru_cache

from markupsafe import Markup, escape

WIDTH = 420
"""Units of every drawing; at 328 CSS pixels (a phone of 360) its text is still 10 pixels high."""
TEXT = 13
LEVELS = 5
"""Shades of a heat map above empty."""
MOST_LANES, MOST_ROWS_A_LANE = 20, 5
MOST_NAMES = 12
"""Rows and columns of a matrix; the busiest stay."""
Number = int | float


@dataclass(frozen=True, slots=True)
class Table:
    """The same numbers for those who read instead of look."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawing and its table."""

    title: str
    svg: Markup
    table: Table


class BarKind(StrEnum):
    """How a grant stands or ended."""

    READY = "ready"
    OPEN = "open"
    ENDED = "ended"
    RETURNED = "returned"
    CUT = "cut"


@dataclass(frozen=True, slots=True)
class Bar:
    """One grant on a timeline; seconds since the epoch."""

    lane: str
    start_s: int
    end_s: int
    kind: BarKind
    label: str
    """What the pointer and the table say."""


def element(name: str, *inside: Markup, **attributes: str | Number) -> Markup:
    """Return one SVG element; `_` in a name stands for `-`, a trailing `_` is dropped (`class_`)."""
    given = "".join([f' {_attribute(key)}="{_value(value)}"' for key, value in attributes.items()])
    # Put together as plain text, because a page draws thousands: the names are ours, every value and part is escaped here.
    parts = "".join([part if type(part) is Markup else escape(part) for part in inside])
    return Markup(f"<{name}{given}>{parts}</{name}>")  # noqa: S704


@cache
def _attribute(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _value(value: str | Number) -> str:
    return _escaped(value) if isinstance(value, str) else _short(value)


_escaped = lru_cache(maxsize=1024)(escape)
"""Remembered, because most attributes of a picture are the same few classes."""


def _short(value: str | Number) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def words(text: str, x: Number, y: Number, **attributes: str | Number) -> Markup:
    """Return a line of text."""
    return element("text", escape(text), x=x, y=y, **attributes)


def drawing(title: str, description: str, height: Number, parts: Sequence[Markup]) -> Markup:
    """Return a whole SVG with its title and description."""
    return element(
        "svg",
        element("title", escape(title)),
        element("desc", escape(description)),
        *parts,
        viewBox=f"0 0 {WIDTH} {_short(height)}",
        class_="picture",
        role="img",
        aria_label=f"{title}. {description}",
    )


def _clip(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


# ---------------------------------------------------------------- grants over time


def timeline(
    bars: Sequence[Bar],
    *,
    start_s: int,
    end_s: int,
    now_s: int,
    ticks: Sequence[tuple[int, str]],
    title: str,
    description: str,
    heads: tuple[str, ...],
    times: Mapping[int, str],
) -> Picture:
    """Draw grants as bars, one lane a target; overlapping ones lie below each other.

    `ticks` are (instant, words) marks of the axis; `times` gives the words of every start and end for the table.
    """
    lanes: dict[str, list[Bar]] = {}
    for bar in sorted(bars, key=lambda bar: (bar.start_s, bar.end_s)):
        lanes.setdefault(bar.lane, []).append(bar)
    span = max(end_s - start_s, 1)

    def x(at_s: int) -> float:
        return WIDTH * min(max((at_s - start_s) / span, 0.0), 1.0)

    parts: list[Markup] = []
    top: float = 18
    for at_s, text in ticks:
        parts.append(words(text, min(x(at_s) + 2, WIDTH - 30), 11, class_="axis"))
    for name in sorted(lanes)[:MOST_LANES]:
        parts.append(words(_clip(name, 52), 0, top + TEXT, class_="lane"))
        top += TEXT + 5
        rows = _packed(lanes[name])
        for number, row in enumerate(rows[:MOST_ROWS_A_LANE]):
            for bar in row:
                width = max(x(bar.end_s) - x(bar.start_s), 2.0)
                parts.append(
                    element(
                        "rect",
                        element("title", escape(bar.label)),
                        x=min(x(bar.start_s), WIDTH - 2.0),
                        y=top + number * 9,
                        width=width,
                        height=7,
                        rx=2,
                        class_=f"bar {bar.kind.value}",
                    )
                )
        top += 9 * min(len(rows), MOST_ROWS_A_LANE) + 6
    marks = [element("line", x1=x(at_s), x2=x(at_s), y1=14, y2=top, class_="tick") for at_s, _ in ticks]
    if start_s <= now_s <= end_s:
        marks.append(element("line", x1=x(now_s), x2=x(now_s), y1=14, y2=top, class_="now"))
    rows_ = tuple(
        (bar.lane, bar.label, times[bar.start_s], times[bar.end_s])
        for bar in sorted(bars, key=lambda bar: (bar.lane, bar.start_s))
    )
    return Picture(title, drawing(title, description, top + 4, [*marks, *parts]), Table(heads, rows_))


def _packed(bars: Sequence[Bar]) -> list[list[Bar]]:
    """Return rows of bars that do not overlap; `bars` come by their start."""
    rows: list[list[Bar]] = []
    for bar in bars:
        row = next((found for found in rows if found[-1].end_s <= bar.start_s), None)
        if row is None:
            rows.append([bar])
        else:
            row.append(bar)
    return rows


# ---------------------------------------------------------------- hour and weekday


def heat_map(
    counts: Mapping[tuple[int, int], int],
    *,
    inside: frozenset[tuple[int, int]] | None,
    days: Sequence[str],
    title: str,
    description: str,
    out_of_hours: str,
) -> Picture:
    """Draw how often something began, by weekday (0 is Monday) and hour; cells outside `inside` are outlined.

    `inside` None means that no hours are declared: nothing is out of hours.
    """
    left, cell, top = 40, (WIDTH - 40) / 24, 16
    most = max(counts.values(), default=0)
    parts = [words(str(hour), left + hour * cell + 1, 11, class_="axis") for hour in range(0, 24, 3)]
    for day, name in enumerate(days):
        y = top + day * 18
        parts.append(words(_clip(name, 5), 0, y + 13, class_="lane"))
        for hour in range(24):
            count = counts.get((day, hour), 0)
            outside = inside is not None and (day, hour) not in inside
            level = 0 if most == 0 or count == 0 else 1 + (LEVELS - 1) * count // most
            if level == 0 and not outside:
                continue
            note = (element("title", escape(f"{name} {hour}:00: {count}")),) if count else ()
            parts.append(
                element(
                    "rect",
                    *note,
                    x=left + hour * cell + 1,
                    y=y + 1,
                    width=cell - 2,
                    height=16,
                    class_=f"cell h{level}{' outside' if outside else ''}",
                )
            )
    rows = tuple(
        (
            name,
            *(
                f"{counts.get((day, hour), 0)}"
                + (
                    f" ({out_of_hours})"
                    if inside is not None and (day, hour) not in inside and counts.get((day, hour))
                    else ""
                )
                for hour in range(24)
            ),
        )
        for day, name in enumerate(days)
    )
    heads = ("", *(str(hour) for hour in range(24)))
    return Picture(title, drawing(title, description, top + 7 * 18 + 4, parts), Table(heads, rows))


# ---------------------------------------------------------------- how long approval takes


def quantile(ordered: Sequence[Number], q: float) -> float:
    """Return the q-quantile of ordered values by nearest rank; 0 for none."""
    return float(ordered[min(len(ordered) - 1, math.ceil(q * len(ordered)) - 1)]) if ordered else 0.0


def latency(
    seconds: Sequence[Number],
    *,
    title: str,
    description: str,
    marks: Mapping[float, str],
    median: str,
    p90: str,
    heads: tuple[str, str],
    texts: Mapping[float, str],
) -> Picture:
    """Draw which share of approvals came within which time (logarithmic), with the median and the ninth decile.

    `marks` are seconds with their words for the axis; `texts` gives the words of the quantiles in the table.
    """
    ordered = sorted(max(float(value), 1.0) for value in seconds)
    left, right, top, bottom = 34.0, WIDTH - 6.0, 10.0, 150.0
    low, high = 0.0, math.log10(max([*ordered, *marks, 10.0]))

    def x(value: float) -> float:
        return left + (right - left) * (math.log10(max(value, 1.0)) - low) / (high - low)

    def y(share: float) -> float:
        return bottom - (bottom - top) * share

    parts = [words(f"{int(share * 100)} %", 0, y(share) + 4, class_="axis") for share in (0.0, 0.5, 1.0)]
    parts += [element("line", x1=left, x2=right, y1=y(share), y2=y(share), class_="tick") for share in (0.0, 0.5, 1.0)]
    for value, text in sorted(marks.items()):
        parts.append(words(text, min(x(value), WIDTH - 40), bottom + 14, class_="axis"))
        parts.append(element("line", x1=x(value), x2=x(value), y1=bottom, y2=bottom + 3, class_="tick"))
    if ordered:
        points = [(x(value), y((number + 1) / len(ordered))) for number, value in _thinned(ordered)]
        path = f"M{_short(points[0][0])} {_short(bottom)}" + "".join(
            f"V{_short(py)}H{_short(px)}" if number else f"L{_short(px)} {_short(py)}"
            for number, (px, py) in enumerate(points)
        )
        parts.append(element("path", d=path, class_="curve"))
        for q, text in ((0.5, median), (0.9, p90)):
            at = x(quantile(ordered, q))
            parts.append(element("line", x1=at, x2=at, y1=top, y2=bottom, class_="now"))
            parts.append(words(text, min(at + 3, WIDTH - 90), y(q) - 4, class_="note"))
    rows = tuple((f"{int(q * 100)} %", texts[q]) for q in sorted(texts))
    return Picture(title, drawing(title, description, bottom + 20, parts), Table(heads, rows))


def _thinned(ordered: Sequence[float]) -> list[tuple[int, float]]:
    """Return at most 60 (rank, value), the last always among them: more would not be seen."""
    step = max(1, math.ceil(len(ordered) / 60))
    found = [(number, value) for number, value in enumerate(ordered) if number % step == 0]
    if found[-1][0] != len(ordered) - 1:
        found.append((len(ordered) - 1, ordered[-1]))
    return found


# ---------------------------------------------------------------- who approves whom


def matrix(
    counts: Mapping[tuple[str, str], int], *, title: str, description: str, heads: tuple[str, str, str]
) -> Picture:
    """Draw how often each approver (row) signed for each requester (column); the busiest of each."""
    approvers = _busiest({row: 0 for row, _ in counts}, counts, 0)
    requesters = _busiest({column: 0 for _, column in counts}, counts, 1)
    most = max(counts.values(), default=0)
    left, slant = 130.0, 74.0
    cell = min((WIDTH - left) / max(len(requesters), 1), 34.0)
    parts: list[Markup] = []
    for number, name in enumerate(requesters):
        at = left + number * cell + cell / 2
        parts.append(
            words(_clip(name, 14), at, slant - 6, class_="axis", transform=f"rotate(-45 {_short(at)} {slant - 6:.0f})")
        )
    for line, name in enumerate(approvers):
        y = slant + line * 20
        parts.append(words(_clip(name, 19), 0, y + 14, class_="lane"))
        for number, other in enumerate(requesters):
            count = counts.get((name, other), 0)
            level = 0 if count == 0 else 1 + (LEVELS - 1) * count // most
            parts.append(
                element(
                    "rect",
                    x=left + number * cell + 1,
                    y=y + 1,
                    width=cell - 2,
                    height=18,
                    class_=f"cell h{level}",
                )
            )
            if count:
                dark = " light" if level >= 4 else ""
                parts.append(
                    words(str(count), left + (number + 0.5) * cell, y + 14, class_=f"count{dark}", text_anchor="middle")
                )
    rows = tuple((a, r, str(n)) for (a, r), n in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
    return Picture(title, drawing(title, description, slant + 20 * len(approvers) + 4, parts), Table(heads, rows))


def _busiest(names: Mapping[str, int], counts: Mapping[tuple[str, str], int], side: int) -> list[str]:
    totals = dict(names)
    for pair, count in counts.items():
        totals[pair[side]] += count
    return sorted(sorted(totals), key=lambda name: -totals[name])[:MOST_NAMES]


# ---------------------------------------------------------------- standing rights and just-in-time ones


@dataclass(frozen=True, slots=True)
class Month:
    """Rights in a month."""

    name: str
    could: int
    """Rights (person and entitlement) that rules let people ask for: what they would hold all the time without the broker."""
    open: float
    """Rights open at an average moment."""
    standing: int
    """Rights that need no asking: administrators, auditors and founders."""


def months(
    found: Sequence[Month], *, title: str, description: str, heads: tuple[str, str, str, str], labels: tuple[str, str]
) -> Picture:
    """Draw, for each month, rights that would stand without the broker beside those that were open at an average moment."""
    bottom, top = 130.0, 22.0
    most = max((max(month.could, month.standing, month.open) for month in found), default=0) or 1
    wide = WIDTH / max(len(found), 1)
    parts = [
        element("rect", x=0, y=2, width=9, height=9, class_="bar ended"),
        words(labels[0], 13, 11, class_="axis"),
        element("rect", x=215, y=2, width=9, height=9, class_="bar open"),
        words(labels[1], 228, 11, class_="axis"),
    ]
    for number, month in enumerate(found):
        x = number * wide
        for offset, value, kind, text in (
            (0.08, float(month.could), "ended", str(month.could)),
            (0.52, month.open, "open", f"{month.open:.1f}"),
        ):
            height = max((bottom - top - 14) * value / most, 1.0 if value else 0.0)
            parts.append(
                element(
                    "rect",
                    x=x + offset * wide,
                    y=bottom - height,
                    width=wide * 0.4,
                    height=height,
                    class_=f"bar {kind}",
                )
            )
            parts.append(
                words(text, x + (offset + 0.2) * wide, bottom - height - 3, class_="count", text_anchor="middle")
            )
        parts.append(words(month.name, x + wide / 2, bottom + 14, class_="axis", text_anchor="middle"))
    rows = tuple((month.name, str(month.could), f"{month.open:.2f}", str(month.standing)) for month in found)
    return Picture(title, drawing(title, description, bottom + 20, parts), Table(heads, rows))


# ---------------------------------------------------------------- how long revocation took


def lag_strip(
    lags: Sequence[tuple[int, int, str]],
    *,
    limit_ms: int,
    title: str,
    description: str,
    limit: str,
    heads: tuple[str, str, str],
    times: Mapping[int, str],
) -> Picture:
    """Draw (ended at, milliseconds until gone, what): it should be a flat line at the bottom, far below the limit."""
    left, right, top, bottom = 44.0, WIDTH - 8.0, 10.0, 110.0
    start = min((at for at, _, _ in lags), default=0)
    span = max(max((at for at, _, _ in lags), default=0) - start, 1)
    high = math.log10(max([limit_ms * 2, *(ms for _, ms, _ in lags)]))

    def y(ms: Number) -> float:
        return bottom - (bottom - top) * math.log10(max(ms, 1)) / high

    parts = [
        words("1 ms", 0, bottom + 4, class_="axis"),
        words("1 s", 0, y(1000) + 4, class_="axis"),
        element("line", x1=left, x2=right, y1=bottom, y2=bottom, class_="tick"),
        element("line", x1=left, x2=right, y1=y(limit_ms), y2=y(limit_ms), class_="limit"),
        words(limit, left + 2, y(limit_ms) - 3, class_="note"),
    ]
    for at, ms, text in lags:
        parts.append(
            element(
                "circle",
                element("title", escape(text)),
                cx=left + (right - left) * (at - start) / span,
                cy=y(ms),
                r=2.5,
                class_="dot late" if ms > limit_ms else "dot",
            )
        )
    rows = tuple((times[at], text, f"{ms} ms") for at, ms, text in lags)
    return Picture(title, drawing(title, description, bottom + 10, parts), Table(heads, rows))
