"""The charts of the report: rows in, matplotlib Figures out, None where no row has what is drawn."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgefel.bench.report.labels import Spot, place_labels
from edgefel.bench.report.rows import finite, mapping, number, p50, short_names, steadiness, timing
from edgefel.bench.results import Row
from edgefel.report.figures import (
    LIGHT,
    SMALL_TEXT,
    TEXT,
    WIDTH,
    describe,
    legible,
    new_figure,
    plain_axes,
    title_axes,
)
from edgefel.report.formats import megabytes, percent, significant

# the ninth of a kind shares the colour of the first
_COLOURS = [LIGHT[f"c{index}"] for index in range(8)]
_LARGEST, _SMALLEST = 13.0, 2.4  # radius of a mark, points
_LONGEST = 40  # characters of a name


@dataclass(frozen=True)
class ChartPoint:
    """A row in the Pareto plot. backend: gives the colour."""

    row: Row
    name: str
    latency: float
    macro_f1: float
    bytes: float
    backend: str


def pareto_points(rows: Sequence[Row]) -> list[ChartPoint]:
    """The rows that have a latency above 0 and a macro F1."""
    found = ((row, p50(row), number(row.metrics, "macro_f1")) for row in rows)
    chosen = [(row, ms, f1) for row, ms, f1 in found if ms > 0 and f1 is not None]
    return [
        ChartPoint(
            row, name, ms, f1, max(0.0, _metric(row, "file_bytes")), str(row.subject.get("backend", ""))
        )
        for (row, ms, f1), name in zip(chosen, short_names([row for row, *_ in chosen]), strict=True)
    ]


def front(points: Sequence[ChartPoint]) -> list[ChartPoint]:
    """Points that no other is both at least as fast and at least as good as, the fastest first."""
    kept: list[ChartPoint] = []
    for point in sorted(points, key=lambda point: (point.latency, -point.macro_f1)):
        if not kept or point.macro_f1 > kept[-1].macro_f1:
            kept.append(point)
    return kept


def pareto(rows: Sequence[Row], per: str = "an image") -> Any | None:
    """Latency against macro F1; the area of a mark is the file's size, a hollow one is unstable."""
    points = pareto_points(rows)
    if not points:
        return None
    best = front(points)
    colours = _colour_of(point.backend for point in points)
    named = {name: colour for name, colour in colours.items() if name}
    largest = max(point.bytes for point in points)
    note = f"area: file size, largest {megabytes(largest)}; hollow: unstable; line: Pareto front"
    x, y = f"latency, median of {per} (ms)", "macro F1 (%)"
    figure, axes = _figure(4.4, named, note if largest else "", x, y)
    _limit(axes.xaxis, [point.latency for point in points], log=True)
    _limit(axes.yaxis, [100 * point.macro_f1 for point in points], low=0.0, high=102.0)
    # what the front reaches: a step at each of its points, to the right edge
    reached = np.repeat([*(point.latency for point in best), axes.get_xlim()[1]], 2)[1:-1]
    shares = np.repeat([100 * point.macro_f1 for point in best], 2)
    (line,) = axes.plot(reached, shares, color=LIGHT["soft"], linewidth=0.9, linestyle=(0, (5, 4)), zorder=2)
    spots = []
    # the front chooses its labels' places first; small marks are drawn over large ones
    for point in sorted(points, key=lambda point: (point not in best, point.latency)):
        radius = max(_SMALLEST, _LARGEST * math.sqrt(point.bytes / largest)) if largest else 3.6
        stable = _stable(point.row)
        hint = (
            f"{point.row.name}: {significant(point.latency)} ms, macro F1 {percent(point.macro_f1)}, "
            f"{megabytes(point.bytes or None)}{'' if stable else ', unstable'}"
        )
        at = (point.latency, 100 * point.macro_f1)
        _dot(axes, at, radius, colours[point.backend], hint, hollow=not stable).set_zorder(4 - radius / 100)
        spots.append(Spot(*at, radius, _short(point.name)))
    place_labels(axes, spots, line, fontsize=SMALL_TEXT)
    return figure


def stages(rows: Sequence[Row]) -> Any | None:
    """Stacked bars of the stages' medians, one bar per row."""
    chosen = [(row, found) for row in rows if (found := _stage_medians(row))]
    if not chosen:
        return None
    colours = _colour_of(stage for _, found in chosen for stage in found)
    most = max(sum(found.values()) for _, found in chosen)
    title = "time of a call, sum of the stages' medians (ms)"
    figure, axes = _row_figure([row for row, _ in chosen], 0.28, colours, x=title)
    axes.set_xlim(0, 1.02 * most or 1.0)
    for place, (row, found) in enumerate(chosen):
        total, before = sum(found.values()), 0.0
        for stage, value in found.items():
            (bar,) = axes.barh(place, value, 0.6, before, color=colours[stage])
            part = percent(value / total if total else None, 0)
            describe(bar, "bar", f"{row.name}: {stage} {significant(value)} ms, {part}")
            before += value
        _note(axes, f"{significant(total)} ms", (total, place), "data")
    return figure


def _stage_medians(row: Row) -> dict[str, float]:
    """Milliseconds by stage; a stage may be a timing or a plain number."""
    found = mapping(row.metrics, "stages_ms").items()
    values = {str(name): finite(one.get("p50") if isinstance(one, dict) else one) for name, one in found}
    return {stage: value for stage, value in values.items() if value is not None and value >= 0}


def distributions(rows: Sequence[Row]) -> Any | None:
    """Quantiles of single calls relative to the median of their row, one strip per row."""
    chosen = [(row, found) for row in rows if len(found := _relative_quantiles(row))]
    if not chosen:
        return None
    note = "band: 5–95 %, box: 25–75 % of the calls; line: least to greatest"
    title = "time of a call, of the row's median (%)"
    figure, axes = _row_figure([row for row, _ in chosen], 0.25, {}, note, title)
    # an unstable row, or one slow call in a hundred, must not flatten all the rest
    steady = [found for row, found in chosen if _stable(row)] or [found for _, found in chosen]
    high = min(max(found[-1] for found in steady), max(140.0, 1.1 * max(found[-3] for found in steady)))
    low = min(found[0] for found in steady)
    _limit(axes.xaxis, [low, max(high, low + 1)], low=0.0)
    for place, (row, found) in enumerate(chosen):
        _strip(axes, place, row, found)
        _note(axes, f"{significant(p50(row))} ms", (1, place), axes.get_yaxis_transform())
    return figure


def _relative_quantiles(row: Row) -> Any:
    """In percent of the median, the least first; empty where the row has none that can be drawn."""
    values, median = timing(row).get("quantiles"), p50(row)
    if not isinstance(values, list) or len(values) < 5 or not median:
        return np.empty(0)
    numbers = [finite(value) for value in values]
    return np.empty(0) if None in numbers else 100 * np.sort(np.array(numbers, float)) / median


def _strip(axes: Any, place: int, row: Row, found: Any) -> None:
    low, fifth, quarter, upper, late, high = np.quantile(
        found, (0, 0.05, 0.25, 0.75, 0.95, 1), method="nearest"
    )
    blue, ends = LIGHT["c0"], axes.get_xlim()
    axes.plot((low, high), (place, place), color=LIGHT["soft"], linewidth=0.7)
    axes.barh(place, late - fifth, 0.35, fifth, color=blue, alpha=0.25)
    how = {"color": blue, "alpha": 0.75}
    if not _stable(row):
        how = {"color": LIGHT["paper"], "edgecolor": blue, "linestyle": "--"}
    axes.barh(place, upper - quarter, 0.55, quarter, **how)
    axes.plot((100, 100), (place - 0.28, place + 0.28), color="black", linewidth=1.2)
    for outside, sign, side, align in ((low < ends[0], "◂", 0, "left"), (high > ends[1], "▸", 1, "right")):
        if outside:
            how = {"transform": axes.get_yaxis_transform(), "ha": align, "va": "center"}
            axes.text(side, place, sign, fontsize=SMALL_TEXT, color=LIGHT["soft"], **how)
    # over all of it, so that thin lines can be pointed at
    (target,) = axes.barh(place, high - low, 0.8, low, fill=False, linewidth=0)
    hint = (
        f"{row.name}: half of the calls within {quarter:.1f}–{upper:.1f} % of the median, nine of ten within "
        f"{fifth:.1f}–{late:.1f} %, slowest {high:.0f} %"
    )
    describe(target, "target", hint)


def curves(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """(name, rows) of each subject but for "concurrency", of kind throughput, fewest callers first.

    Rows without a concurrency are a curve of one point.
    """
    groups: dict[str, tuple[Row, list[Row]]] = {}
    for row in rows:
        if row.kind == "throughput" and p50(row) > 0:
            alone = replace(row, subject={k: v for k, v in row.subject.items() if k != "concurrency"})
            groups.setdefault(alone.key, (alone, []))[1].append(row)
    names = short_names([alone for alone, _ in groups.values()])
    callers = [
        sorted(own, key=lambda row: number(row.subject, "concurrency") or 0) for _, own in groups.values()
    ]
    return list(zip(names, callers, strict=True))


def throughput(rows: Sequence[Row]) -> Any | None:
    """Images per second against the median latency, a curve for each subject, the knee ringed."""
    drawn = curves(rows)
    if not drawn:
        return None
    colours = _colour_of(name for name, _ in drawn)
    note = "number: concurrent callers; ring: the knee; hollow: unstable"
    figure, axes = _figure(4.0, colours, note, "throughput (images/s)", "latency of a call, median (ms)")
    speeds, latencies = np.transpose([_place(row) for _, own in drawn for row in own])
    _limit(axes.xaxis, speeds, low=0.0)
    _limit(axes.yaxis, latencies, log=max(latencies) > 10 * min(latencies), low=0.0)
    spots = []
    for name, own in drawn:
        colour = colours[name]
        axes.plot(*np.transpose(list(map(_place, own))), color=colour, linewidth=1.2)
        for row in own:
            at, label = _place(row), str(row.subject.get("concurrency", ""))
            hint = f"{row.name}: {significant(at[0])} images/s at {significant(at[1])} ms"
            knee = row.metrics.get("knee") is True
            if knee:
                (ring,) = axes.plot(*at, "o", markersize=9.6, markerfacecolor="none", color=colour)
                describe(ring, "ring")
                label, hint = f"{label} knee", f"{hint}, the knee"
            _dot(axes, at, 2.4, colour, hint, hollow=not _stable(row))
            spots.append(Spot(*at, 4.8 if knee else 2.4, label))
    spots.sort(key=lambda spot: not spot.label.endswith("knee"))
    place_labels(axes, spots, fontsize=SMALL_TEXT)
    return figure


def _figure(
    height: float, colours: dict[str, str], note: str = "", x: str = "", y: str = ""
) -> tuple[Any, Any]:
    """A Figure and its axes, with a legend of colours and a note above them.

    x, y: titles of the axes with their units; that of y stands level above it, where it reads without turning.
    """
    from matplotlib.patches import Patch

    figure = new_figure(WIDTH, height)
    figure.set_dpi(72)  # a pixel is a point, as in SVG
    axes = figure.subplots()
    plain_axes(axes)
    handles = [Patch(color=colour, label=_short(name)) for name, colour in colours.items()]
    if handles or note:
        sizes = [len(_short(name)) + 6 for name in colours]
        columns = len(sizes) if sum(sizes) <= 100 else max(1, 100 // max(sizes))
        how = {"handles": handles, "title": note or None, "fontsize": TEXT, "title_fontsize": SMALL_TEXT}
        how |= {"alignment": "left", "frameon": False, "handlelength": 0.8, "borderpad": 0.2}
        legend = figure.legend(loc="outside upper left", ncols=columns, **how)
        legend.get_title().set_color(LIGHT["soft"])
    title_axes(axes, x, y)
    return figure, axes


def _limit(
    axis: Any, values: Sequence[float], *, log: bool = False, low: float = -math.inf, high: float = math.inf
) -> None:
    """Ends on which all values lie clear of the edges but within low and high, and round ticks between them."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator

    least, most = min(values), max(values)
    ticks = np.empty(0)
    if log:
        factor = max((most / least) ** 0.08, 1.15)
        ends = least / factor, most * factor
        subs = (1.0,) if ends[1] / ends[0] > 1e4 else (1.0, 2.0, 5.0)
        ticks = np.asarray(LogLocator(subs=subs, numticks=99).tick_values(*ends))
        getattr(axis.axes, f"set_{axis.axis_name}scale")("log")
    else:
        room = 0.1 * (most - least) or 0.1 * abs(most) or 1.0
        ends = max(low, least - room), min(high, most + room)
    within = ticks[(ticks >= ends[0]) & (ticks <= ends[1])]
    few = MaxNLocator(6, steps=(1, 2, 2.5, 5, 10))
    axis.set_major_locator(FixedLocator(within) if len(within) > 2 else few)
    axis.set_minor_locator(FixedLocator([]))
    axis.set_major_formatter(FuncFormatter(_tick))
    axis.axes.set(**{f"{axis.axis_name}lim": ends})


def _tick(value: float, place: int) -> str:
    """The shortest form: "0.5", "20", "1 000"."""
    return f"{value:,.6g}".replace(",", " ") if abs(value) < 1e6 else f"{value:.3g}"


def _dot(axes: Any, at: tuple[float, float], radius: float, colour: str, hint: str, *, hollow: bool) -> Any:
    """A mark with a tooltip."""
    how = {"mfc": LIGHT["paper"], "mec": colour, "mew": 1.2}
    if not hollow:
        how = {"mfc": colour, "mec": LIGHT["paper"], "mew": 0.6, "alpha": 0.72}
    (dot,) = axes.plot(*at, "o", markersize=2 * radius, clip_on=False, **how)
    describe(dot, "dot hollow" if hollow else "dot", hint)
    return dot


def _row_figure(
    rows: Sequence[Row], inches: float, colours: dict[str, str], note: str = "", x: str = ""
) -> tuple[Any, Any]:
    """A figure with a line for each row from the top, with its name at the left."""
    figure, axes = _figure(0.9 + inches * len(rows), colours, note, x)
    names = [_short(name) for name in short_names(rows)]
    axes.set_yticks(range(len(rows)), names, color="black", fontsize=SMALL_TEXT)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    return figure, axes


def _note(axes: Any, text: str, at: tuple[float, float], coordinates: Any) -> None:
    """A number at the right of a place."""
    how = {"textcoords": "offset points", "va": "center", "fontsize": SMALL_TEXT, "color": LIGHT["soft"]}
    axes.annotate(text, at, (4, 0), xycoords=coordinates, annotation_clip=False, **how)


def _colour_of(names: Iterable[str]) -> dict[str, str]:
    """A colour for each name, in the order they appear."""
    return {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(dict.fromkeys(names))}


def _short(name: str) -> str:
    """As much as there is room for, with an ellipsis for the rest."""
    name = legible(name)
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1].rstrip(" ,") + "…"


def _place(row: Row) -> tuple[float, float]:
    """Images per second and milliseconds."""
    return _metric(row, "images_per_s"), p50(row)


def _metric(row: Row, name: str) -> float:
    return number(row.metrics, name) or 0.0


def _stable(row: Row) -> bool:
    return steadiness(row)[0] is not False
