"""The figures of the report: matplotlib Figures, drawn without a display."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgefel.report.figures import (
    LIGHT,
    SMALL_TEXT,
    TEXT,
    WIDTH,
    describe,
    new_figure,
    plain_axes,
    title_axes,
)
from edgefel.report.formats import clock, percent
from edgefel.runtime.results import UNSURE
from edgefel.runtime.stream.report.record import StreamRecord
from edgefel.runtime.stream.report.shares import Values
from edgefel.runtime.stream.report.timeline import Person, Segment

# the hues that the overlay gives to the classes, by the colours of the pages
_HUES = ("c7", "c5", "c0", "c6", "c4", "c2", "c1", "c3")
# with more segments or cuts their marks would hide each other, and each would be a stop of the keyboard
MOST_HINTS = 24
_MOST_CUTS = 60
# largest distances of ticks in seconds: round parts of minutes and hours
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)
_MOST_TICKS = 8
_HATCH = "////"
# height of a label's row, and the probability that is too low to be drawn on it
_ROW, _LEAST_SHOWN = 0.84, 0.02
_MOST_STEPS = 256


def colours(labels: Sequence[str]) -> dict[str, str]:
    """The colour of each class, and of "unsure"."""
    found = {label: LIGHT[_HUES[number % len(_HUES)]] for number, label in enumerate(labels)}
    return found | {UNSURE: LIGHT["soft"]}


def overview(record: StreamRecord) -> Any | None:
    """Who was seen when, and with which label; cuts as lines. None where nobody was seen."""
    people = record.people
    if not people:
        return None
    shown = {segment.label for person in people for segment in person.segments}
    hues = {label: hue for label, hue in colours(record.labels).items() if label in shown}
    figure = new_figure(WIDTH, 0.9 + 0.27 * len(people))
    figure.set_dpi(72)  # a pixel is a point, as in SVG
    axes = figure.subplots()
    plain_axes(axes)
    hints = sum(len(person.segments) for person in people) <= MOST_HINTS
    for place, person in enumerate(people):
        hint = f"person {person.number}: " if hints else None
        _bars(axes, person.segments, place, 0.62, hues, hint)
    for cut in record.cuts if record.cut_count <= _MOST_CUTS else ():
        axes.axvline(cut, color=LIGHT["soft"], linewidth=0.8, linestyle=(0, (3, 2)), zorder=0.9)
    axes.set_yticks(range(len(people)), [f"person {person.number}" for person in people], color="black")
    axes.set_ylim(len(people) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    _time(axes, record.began, record.ended)
    note = "dashed: cuts" if record.cut_count <= _MOST_CUTS else f"{record.cut_count} cuts are not drawn"
    _legend(figure, hues, note if record.cut_count else None)
    return figure


def timeline(person: Person, thresholds: tuple[float, float] = (0.0, 0.0)) -> Any:
    """One person: label, probabilities, shares with their intervals, confidence and quality.

    thresholds: confidence and quality below which the person was "unsure".
    """
    labels = [label for label in person.labels if label != UNSURE or _was(person, UNSURE)]
    hues = colours(person.labels[:-1])
    rows = len(labels)
    figure = new_figure(WIDTH, 1.75 + 0.29 * rows)
    figure.set_dpi(72)
    grid = {"width_ratios": (4.2, 1), "height_ratios": (0.29 * rows, 0.72)}
    (upper, right), (lower, rest) = figure.subplots(2, 2, gridspec_kw=grid)
    rest.axis("off")
    for axes in (upper, right, lower):
        plain_axes(axes)
    edges, averages = person.averages(_MOST_STEPS)
    _labels(upper, person, labels, edges, averages, hues)
    _shares(right, person, labels, hues)
    _certainty(lower, edges, averages, thresholds)
    # beside its axes, where it would make room for itself, it would push the shares away
    how = {"loc": "upper left", "frameon": False, "fontsize": SMALL_TEXT, "borderaxespad": 0, "borderpad": 0}
    rest.legend(*lower.get_legend_handles_labels(), handlelength=1.8, **how)
    for axes in (upper, lower):
        _time(axes, person.began, person.last)
    upper.tick_params(labelbottom=False)
    upper.set_xlabel("")
    title_axes(upper, "", "label (block) and probability (area, 0–1)")
    return figure


def _labels(
    axes: Any, person: Person, labels: Sequence[str], edges: Values, averages: Values, hues: Mapping[str, str]
) -> None:
    """A row for each label: a block while it was shown, and on it the probability as an area."""
    hints = len(person.segments) <= MOST_HINTS
    for place, label in enumerate(labels):
        own = [segment for segment in person.segments if segment.label == label]
        _bars(axes, own, place, _ROW, hues, "" if hints else None, alpha=0.3)
        if label == UNSURE:
            continue
        _area(axes, edges, averages[:, person.labels.index(label)], place, hues[label])
    axes.set_yticks(range(len(labels)), labels, color="black", fontsize=SMALL_TEXT)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")


def _area(axes: Any, edges: Values, values: Values, place: int, colour: str) -> None:
    """Steps of a height from 0 to 1 in a row; what nobody would see of them is left out."""
    seen = values >= _LEAST_SHOWN  # not where it is NaN
    (turns,) = np.nonzero(np.diff(seen, prepend=False, append=False))
    floor, shapes = place + _ROW / 2, []
    for begin, end in turns.reshape(-1, 2):
        times = np.repeat(edges[begin : end + 1], 2)
        heights = np.concatenate(([0], np.repeat(values[begin:end], 2), [0]))
        shapes.append(np.column_stack((times, floor - _ROW * heights)))
    # the blocks below it have the tooltips
    describe(_add_shapes(axes, shapes, facecolor=colour), "area")


def _shares(axes: Any, person: Person, labels: Sequence[str], hues: Mapping[str, str]) -> None:
    found = {share.label: share for share in person.shares}
    for place, label in enumerate(labels):
        share = found[label]
        axes.barh(place, share.value, 0.5, **_fill(label, hues))
        ink = "black" if share.seconds else LIGHT["soft"]
        axes.plot((share.low, share.high), (place, place), color=ink, linewidth=1.1 if share.seconds else 0.6)
        style = {"va": "center", "ha": "left", "fontsize": SMALL_TEXT, "color": ink}
        axes.text(1.06, place, percent(share.value, 0), **style)
    axes.set(xlim=(0, 1), ylim=(len(labels) - 0.5, -0.5), yticks=[])
    axes.set_xticks((0, 0.5, 1), ("0", "50", "100"))
    axes.grid(visible=False, axis="y")
    title_axes(axes, "", "share (%)")


def _certainty(axes: Any, edges: Values, averages: Values, thresholds: tuple[float, float]) -> None:
    steps = np.repeat(edges, 2)[1:-1]
    looks = (("confidence", -2, LIGHT["c0"], "-"), ("quality", -1, LIGHT["gap"], (0, (4, 1.5))))
    for (name, column, colour, dashes), least in zip(looks, thresholds, strict=True):
        axes.plot(
            steps,
            np.repeat(averages[:, column], 2),
            color=colour,
            linestyle=dashes,
            linewidth=1.2,
            label=name,
        )
        if least:
            axes.axhline(least, color=colour, linewidth=0.7, linestyle=":")
    axes.set_ylim(0, 1.02)
    axes.set_yticks((0, 0.5, 1), ("0", "0.5", "1"))
    axes.tick_params(axis="x", pad=7)  # clear of the 0
    title_axes(axes, "", "confidence and quality (0–1)")


def _bars(
    axes: Any,
    segments: Sequence[Segment],
    place: int,
    height: float,
    hues: Mapping[str, str],
    hint: str | None,
    alpha: float = 1.0,
) -> None:
    """A bar for each segment. hint: what its tooltip begins with; None: no tooltips, but one artist for each label."""
    if hint is not None:
        for segment in segments:
            how = _fill(segment.label, hues, alpha)
            (bar,) = axes.barh(place, segment.end - segment.begin, height, segment.begin, **how)
            text = f"{hint}{segment.label}, {clock(segment.begin)} to {clock(segment.end)}"
            describe(bar, "bar", text)
        return
    low, high = place - height / 2, place + height / 2
    for label in dict.fromkeys(segment.label for segment in segments):
        own = (segment for segment in segments if segment.label == label)
        shapes = [((one.begin, low), (one.begin, high), (one.end, high), (one.end, low)) for one in own]
        _add_shapes(axes, shapes, **_fill(label, hues, alpha))


def _fill(label: str, hues: Mapping[str, str], alpha: float = 1.0) -> dict[str, Any]:
    """Grey is one of the classes: "unsure" is told apart by a pattern."""
    if label == UNSURE:
        return {"facecolor": LIGHT["line"], "edgecolor": hues[label], "hatch": _HATCH, "linewidth": 0}
    return {"facecolor": hues[label], "alpha": alpha, "linewidth": 0}


def _add_shapes(axes: Any, shapes: Sequence[Any], **how: Any) -> Any:
    """Polygons as one artist; matplotlib takes milliseconds for each."""
    from matplotlib.collections import PolyCollection

    shape = PolyCollection(shapes, **({"linewidth": 0} | how))
    axes.add_collection(shape, autolim=False)
    return shape


def _was(person: Person, label: str) -> bool:
    return any(share.label == label and share.seconds > 0 for share in person.shares)


def _time(axes: Any, began: float, ended: float) -> None:
    """Ends and ticks of an axis of time, in seconds of the stream."""
    span = max(ended - began, 0.1)
    step = next((step for step in _STEPS if span / step <= _MOST_TICKS), _STEPS[-1])
    first = math.ceil(began / step - 1e-6)
    ticks = [number * step for number in range(first, math.floor((began + span) / step + 1e-6) + 1)]
    decimals = 1 if step < 1 else 0
    axes.set_xticks(ticks, [clock(tick, decimals) for tick in ticks])
    axes.set_xlim(began, began + span)
    hours = "h:" if ticks and ticks[-1] >= 3600 else ""
    title_axes(axes, f"time ({hours}min:s)")


def _legend(figure: Any, hues: Mapping[str, str], note: str | None) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(label=label, **_fill(label, hues)) for label in hues]
    how = {"handles": handles, "title": note, "fontsize": TEXT, "title_fontsize": SMALL_TEXT}
    how |= {"alignment": "left", "frameon": False, "handlelength": 0.9, "borderpad": 0.2}
    legend = figure.legend(loc="outside upper left", ncols=min(8, len(handles)), **how)
    legend.get_title().set_color(LIGHT["soft"])
