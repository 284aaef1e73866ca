"""The comparison as a table and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgefel.bench.kernels.competitors import OURS
from edgefel.bench.kernels.suite import KernelRow, speedups
from edgefel.files.write import atomic_file
from edgefel.report.figures import new_figure

if TYPE_CHECKING:
    from rich.table import Table

# column of the table, field of a row, format
_NUMBERS = (
    *(("ms p50", "ms_p50", ".4f"), ("p90", "ms_p90", ".4f"), ("GB/s", "gb_per_s", ".0f")),
    *(("TFLOP/s", "tflop_per_s", ".1f"), ("roofline", "roofline", ".0%"), ("extra MB", "extra_mb", ".1f")),
)


def table(rows: Sequence[KernelRow]) -> Table:
    """All rows; what was not timed says why."""
    from rich.table import Table

    made = Table("op", "problem", "batch", "type", "mode", "implementation")
    for column, _, _ in _NUMBERS:
        made.add_column(column, justify="right")
    made.add_column("note")
    for row in rows:
        values = ((getattr(row, name), how) for _, name, how in _NUMBERS)
        numbers = ("" if value is None else format(value, how) for value, how in values)
        named = (row.op, row.problem, str(row.batch), row.dtype, row.mode, row.implementation)
        made.add_row(*named, *numbers, row.note)
    return made


def summary(rows: Sequence[KernelRow]) -> list[dict[str, Any]]:
    """For each op, type and mode: geometric mean and least of ours over the fastest other implementation."""
    groups: dict[tuple[str, str, str], list[float]] = {}
    for (op, _, _, dtype, mode), ratio in speedups(rows).items():
        groups.setdefault((op, dtype, mode), []).append(ratio)
    return [
        {
            "op": op,
            "dtype": dtype,
            "mode": mode,
            "geometric_mean": round(float(np.exp(np.mean(np.log(ratios)))), 3),
            "least": round(min(ratios), 3),
            "problems": len(ratios),
        }
        for (op, dtype, mode), ratios in groups.items()
    ]


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
        figure.savefig(temporary, dpi=120, format="png")


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
