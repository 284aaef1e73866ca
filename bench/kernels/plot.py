"""The comparison as a plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgefel.bench.kernels.competitors import OURS
from edgefel.bench.kernels.suite import KernelRow
from edgefel.files.write import atomic_file
from edgefel.report.figures import new_figure, save_png


def save_plot(rows: Sequence[KernelRow], path: Path, title: str) -> None:
    """A PNG: for each op and mode, time relative to ours (below 1 is faster than ours), by problem and batch."""
    timed = [row for row in rows if row.ms_p50 is not None]
    panels = list(dict.fromkeys((row.op, row.dtype, row.mode) for row in timed))
    if not panels:
        raise ValueError("rows: expected at least one timed row, got none")
    figure = new_figure(11, 3.2 * len(panels))
    for axes, panel in zip(np.atleast_1d(figure.subplots(len(panels), 1)), panels, strict=True):
        _panel(axes, [row for row in timed if (row.op, row.dtype, row.mode) == panel])
        axes.set_title(", ".join(panel), loc="left", fontsize=10)
    figure.suptitle(title, fontsize=11)
    with atomic_file(path) as temporary:
        save_png(figure, temporary)


def _panel(axes: Any, rows: Sequence[KernelRow]) -> None:
    places = list(dict.fromkeys((row.problem, row.batch) for row in rows))
    names = list(dict.fromkeys(row.implementation for row in rows))
    times = {(row.implementation, (row.problem, row.batch)): row.ms_p50 or 0.0 for row in rows}
    ours = {place: times[OURS, place] for place in places if (OURS, place) in times}
    width = 0.8 / len(names)
    for number, name in enumerate(names):
        heights = [times.get((name, place), np.nan) / (ours.get(place) or 1.0) for place in places]
        at = np.arange(len(places)) + (number - (len(names) - 1) / 2) * width
        axes.bar(at, heights, width, label=name)
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.set_xticks(
        np.arange(len(places)), [f"{problem}\nbatch {batch}" for problem, batch in places], fontsize=8
    )
    axes.set_ylabel("time over ours" if ours else "ms")
    axes.set_yscale("log")
    axes.legend(fontsize=7, ncols=len(names))
