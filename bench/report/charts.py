"""The charts of the report: rows in, SVG text out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from edgefel.bench.report.formats import megabytes, percent, significant
from edgefel.bench.report.rows import finite, mapping, number, short_names, steadiness, timing
from edgefel.bench.report.svg import (
    LINE,
    Axis,
    Box,
    Spot,
    figure,
    horizontal_axis,
    mark,
    padded,
    place,
    place_labels,
    shortened,
    text,
    vertical_axis,
    width_of,
)
from edgefel.bench.results import Row

WIDTH = 760.0
# classes of the page's style; the ninth of a kind shares the colour of the first
COLOURS = 8
_LARGEST, _SMALLEST = 22.0, 4.0


@dataclass(frozen=True)
class Point:
    """A row in the Pareto plot."""

    row: Row
    name: str
    latency: float
    macro_f1: float
    bytes: float | None
    stable: bool


def pareto_points(rows: Sequence[Row]) -> list[Point]:
    """The rows that have a latency above 0 and a macro F1."""
    chosen = [row for row in rows if timing(row).get("p50") and number(row.metrics, "macro_f1") is not None]
    return [
        Point(
            row,
            name,
            float(timing(row)["p50"]),
            number(row.metrics, "macro_f1") or 0.0,
            number(row.metrics, "file_bytes"),
            steadiness(row)[0] is not False,
        )
        for row, name in zip(chosen, short_names(chosen), strict=True)
    ]


def front(points: Sequence[Point]) -> list[Point]:
    """Points that no other is both at least as fast and at least as good as, the fastest first."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda point: (point.latency, -point.macro_f1)):
        if not kept or point.macro_f1 > kept[-1].macro_f1:
            kept.append(point)
    return kept


def pareto(rows: Sequence[Row], per: str = "an image") -> str:
    """Latency against macro F1; the area of a mark is the file's size, a hollow one is unstable. Empty without rows."""
    points = pareto_points(rows)
    if not points:
        return ""
    best = front(points)
    colours = colour_of(str(point.row.subject.get("backend", "")) for point in points)
    height, top, left, right = 450.0, 76.0, 52.0, WIDTH - 14
    bottom = height - 52
    x = Axis(
        f"latency, median of {per} (ms)", *padded([p.latency for p in points], log=True), left, right, True
    )
    low, high = padded([100 * p.macro_f1 for p in points], least=0.0)
    y = Axis("macro F1 (%)", low, min(high, 102.0), bottom, top)
    largest = max((p.bytes for p in points if p.bytes), default=0.0)
    # the front chooses its labels' places first; small marks are drawn over large ones
    ordered = sorted(points, key=lambda p: (p not in best, p.latency))
    spots = [
        Spot(x.at(p.latency), y.at(100 * p.macro_f1), _radius(p.bytes, largest), shortened(p.name, 240))
        for p in ordered
    ]
    parts = [
        _legend(colours, 2, 16),
        _size_legend(largest),
        horizontal_axis(x, top, bottom),
        vertical_axis(y, left, right),
    ]
    corners = [(x.at(p.latency), y.at(100 * p.macro_f1)) for p in best]
    parts.append(_staircase(corners, right))
    marks = zip(ordered, spots, strict=True)
    for point, spot in sorted(marks, key=lambda pair: -pair[1].radius):
        colour = colours[str(point.row.subject.get("backend", ""))]
        kind = f"c{colour}" + ("" if point.stable else " hollow")
        circle = f'<circle class="dot {kind}" cx="{spot.x:.1f}" cy="{spot.y:.1f}" r="{spot.radius:.1f}"'
        parts.append(mark(circle, _point_hint(point)))
    parts += labels(spots, Box(left + 2, top - 8, right, bottom - 2), _segments(corners, right))
    return figure(WIDTH, height, "Latency against macro F1, file size as area", parts)


def _radius(count: float | None, largest: float) -> float:
    return max(_SMALLEST, _LARGEST * math.sqrt((count or 0) / largest)) if largest else 6.0


def _point_hint(point: Point) -> str:
    return (
        f"{point.row.name}: {significant(point.latency)} ms, macro F1 {percent(point.macro_f1)}, "
        f"{megabytes(point.bytes)}{'' if point.stable else ', unstable'}"
    )


def _staircase(corners: Sequence[tuple[float, float]], right: float) -> str:
    """What the front reaches: a step at each of its points, to the right edge."""
    path = f"M{corners[0][0]:.1f},{corners[0][1]:.1f}"
    for x, y in corners[1:]:
        path += f"H{x:.1f}V{y:.1f}"
    return f'<path class="front" d="{path}H{right:.1f}"/>'


def _segments(corners: Sequence[tuple[float, float]], right: float) -> list[Box]:
    """The staircase's lines, as boxes that labels keep clear of."""
    ends = [*(x for x, _ in corners[1:]), right]
    level = [Box(x, y - 1, end, y + 1) for (x, y), end in zip(corners, ends, strict=True)]
    steep = [Box(x - 1, y, x + 1, before) for (_, before), (x, y) in pairwise(corners)]
    return level + steep


def labels(spots: Sequence[Spot], bounds: Box, lines: Sequence[Box] = ()) -> list[str]:
    """The spots' labels, those for which there is room."""
    places = place_labels(spots, bounds, lines)
    return [
        text(box.left, box.top + 11.5, spot.label, "label")
        for spot, box in zip(spots, places, strict=True)
        if box is not None and spot.label
    ]


def _size_legend(largest: float) -> str:
    if not largest:
        return ""
    words = f"area: file size, largest {megabytes(largest)}; hollow: unstable; line: Pareto front"
    return text(2, 36, words, "note")


def stages(rows: Sequence[Row]) -> str:
    """Stacked bars of the stages' medians, one bar a row. Empty where no row has stages."""
    chosen = [(row, found) for row in rows if (found := _stage_medians(row))]
    if not chosen:
        return ""
    names = short_names([row for row, _ in chosen])
    colours = colour_of(stage for _, found in chosen for stage in found)
    legend, used = wrapped_legend(colours)
    left, right, top = _name_width(names), WIDTH - 70, used + 16
    bottom = top + 34 * len(chosen)
    most = max(sum(found.values()) for _, found in chosen)
    x = Axis("time of a call, sum of the stages' medians (ms)", 0, 1.02 * most or 1.0, left, right)
    parts = [legend, horizontal_axis(x, top, bottom)]
    for index, ((row, found), name) in enumerate(zip(chosen, names, strict=True)):
        y, before = top + 34 * index + 7, 0.0
        parts.append(text(left - 10, y + 15, shortened(name, left - 12), "row-name", "end"))
        total = sum(found.values())
        for stage, value in found.items():
            start, end = x.at(before), x.at(before + value)
            shape = f'<rect class="bar c{colours[stage]}" ' + place(start, y, max(0.5, end - start), 20)
            share = percent(value / total if total else None, 0)
            parts.append(mark(shape, f"{row.name}: {stage} {significant(value)} ms, {share}"))
            before += value
        parts.append(text(x.at(before) + 6, y + 15, f"{significant(before)} ms", "value"))
    return figure(WIDTH, bottom + 52, "Time by stage", parts)


def _stage_medians(row: Row) -> dict[str, float]:
    """Milliseconds by stage; a stage may be a timing or a plain number."""
    found = mapping(row.metrics, "stages_ms")
    values = {
        str(stage): number(value, "p50") if isinstance(value, dict) else number(found, stage)
        for stage, value in found.items()
    }
    return {stage: value for stage, value in values.items() if value is not None and value >= 0}


def distributions(rows: Sequence[Row]) -> str:
    """How far single calls are from their median, one strip a row, from its quantiles. Empty where no row has them."""
    chosen = [(row, found) for row in rows if (found := _relative_quantiles(row))]
    if not chosen:
        return ""
    names = short_names([row for row, _ in chosen])
    left, right, top = _name_width(names), WIDTH - 84, 34.0
    bottom = top + 30 * len(chosen)
    x = Axis("time of a call, of the row's median (%)", *_spread(chosen), left, right)
    parts = [text(2, 14, "band: 5–95 %, box: 25–75 % of the calls; line: least to greatest", "note")]
    parts.append(horizontal_axis(x, top, bottom))
    for index, ((row, found), name) in enumerate(zip(chosen, names, strict=True)):
        y = top + 30 * index + 15
        parts.append(text(left - 10, y + 4, shortened(name, left - 12), "row-name", "end"))
        parts.append(_strip(row, found, x, y))
        parts.append(text(right + 8, y + 4, f"{significant(number(timing(row), 'p50'))} ms", "value"))
    return figure(WIDTH, bottom + 52, "Distribution of the time of single calls", parts)


def _spread(chosen: Sequence[tuple[Row, Sequence[float]]]) -> tuple[float, float]:
    """Ends of the axis: an unstable row, or one slow call in a hundred, must not flatten all the rest."""
    steady = [found for row, found in chosen if steadiness(row)[0] is not False] or [
        found for _, found in chosen
    ]
    low = min(found[0] for found in steady)
    high = min(max(found[-1] for found in steady), max(140.0, 1.1 * max(found[-3] for found in steady)))
    return padded([low, max(high, low + 1)], least=0.0)


def _relative_quantiles(row: Row) -> list[float]:
    """In percent of the median, the least first; empty where the row has none that can be drawn."""
    found = timing(row)
    values = found.get("quantiles")
    median = number(found, "p50")
    if not isinstance(values, list) or len(values) < 5 or not median:
        return []
    numbers = [100 * found_value / median for value in values if (found_value := finite(value)) is not None]
    return sorted(numbers) if len(numbers) == len(values) else []


def _strip(row: Row, found: Sequence[float], x: Axis, y: float) -> str:
    def at(share: float) -> float:
        return x.at(found[round(share * (len(found) - 1))])

    quantile = {share: found[round(share * (len(found) - 1))] for share in (0.05, 0.25, 0.75, 0.95)}
    hint = (
        f"{row.name}: half of the calls within {quantile[0.25]:.1f}–{quantile[0.75]:.1f} % of the median, nine of ten "
        f"within {quantile[0.05]:.1f}–{quantile[0.95]:.1f} %, slowest {found[-1]:.0f} %"
    )
    kind = "" if steadiness(row)[0] is not False else " hollow"
    line = f'<line class="whisker" x1="{at(0):.1f}" x2="{at(1):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
    band = f'<rect class="band" {place(at(0.05), y - 5, max(1.0, at(0.95) - at(0.05)), 10)}/>'
    box = f'<rect class="box{kind}" {place(at(0.25), y - 8, max(1.5, at(0.75) - at(0.25)), 16)}/>'
    median = (
        f'<line class="median" x1="{x.at(100):.1f}" x2="{x.at(100):.1f}" y1="{y - 8:.1f}" y2="{y + 8:.1f}"/>'
    )
    # what lies beyond the axis is an arrow
    beyond = text(x.end + 1, y + 4, "▸", "tick", "end") if found[-1] > x.high else ""
    beyond += text(x.start - 1, y + 4, "◂", "tick") if found[0] < x.low else ""
    # an invisible rectangle over all of it, so that thin lines can be pointed at
    target = f'<rect class="target" {place(at(0), y - 12, max(4.0, at(1) - at(0)), 24)}'
    return line + band + box + median + beyond + mark(target, hint)


def colour_of(names: Iterable[str]) -> dict[str, int]:
    """A colour's number for each name, in the order they appear."""
    return {name: index % COLOURS for index, name in enumerate(dict.fromkeys(names))}


def _legend(colours: dict[str, int], x: float, y: float) -> str:
    parts = []
    for name, colour in colours.items():
        if not name:
            continue
        parts.append(
            f'<rect class="key c{colour}" x="{x:.1f}" y="{y - 9:.1f}" width="10" height="10" rx="2"/>'
        )
        parts.append(text(x + 15, y, name, "legend"))
        x += 32 + width_of(name)
    return "".join(parts)


def wrapped_legend(colours: dict[str, int]) -> tuple[str, float]:
    """The legend over as many lines as it needs, and how far down it reaches."""
    lines: list[dict[str, int]] = [{}]
    used = 0.0
    for name, colour in colours.items():
        needed = 32 + width_of(name)
        if used + needed > WIDTH and lines[-1]:
            lines.append({})
            used = 0.0
        lines[-1][name] = colour
        used += needed
    drawn = [_legend(line, 2, 14 + (LINE + 4) * index) for index, line in enumerate(lines)]
    return "".join(drawn), 14 + (LINE + 4) * (len(lines) - 1)


def _name_width(names: Sequence[str]) -> float:
    """Room for the names at the left, at most a third of the width."""
    return min(WIDTH / 3, max(width_of(name) for name in names) + 16)
