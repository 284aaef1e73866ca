"""The figure of a parity report: what each file does to every class's recall."""

from __future__ import annotations

from typing import Any

from edgefel.export.parity.check import BundleCheck
from edgefel.export.parity.compare import ClassParity
from edgefel.figures import new_figure
from edgefel.text import counted

_COLOURS = {"fp32": "#4c72b0", "fp16": "#55a868", "int8": "#c44e52", "int8+fp16": "#8172b2"}


def recall_figure(check: BundleCheck) -> Any:
    """A matplotlib Figure: change of recall in points with its 95 % interval, a group per class, a colour per
    file; the dashed line is the limit, where there is one and the same. A hollow mark is of a class too small to judge.

    Drawn on a canvas of its own: no window, no global state, and no display is needed.
    """
    figure = new_figure(2.2 + 1.25 * len(check.labels), 4.2)
    axis = figure.subplots()
    axis.axhline(0.0, color="0.4", linewidth=0.8)
    losses = (parity.limits.max_recall_loss for parity in check.files.values())
    limits = {loss for loss in losses if loss is not None}
    if len(limits) == 1:
        axis.axhline(-limits.pop(), color="0.4", linewidth=0.8, linestyle="--", label="limit")
    step = 0.8 / max(1, len(check.files))
    for number, (name, parity) in enumerate(check.files.items()):
        offset = step * (number - (len(check.files) - 1) / 2)
        precision = check.precisions[name]
        colour = _COLOURS[precision]
        axis.plot([], [], "o", color=colour, label=f"{precision} ({parity.verdict})")
        for position, row in enumerate(parity.labels.classes if parity.labels else ()):
            _mark(axis, position + offset, row, colour, hollow=row.images < parity.limits.min_per_class)
    first = next(iter(check.files.values()))
    counts = {row.label: row.images for row in first.labels.classes} if first.labels else {}
    ticks = [f"{label}\n{counted(counts.get(label, 0), 'image')}" for label in check.labels]
    axis.set_xticks(range(len(check.labels)), ticks, fontsize=9)
    axis.set_ylabel("change of recall, points")
    axis.set_title(f"against PyTorch FP32: {counted(check.images, 'image')}, 95 % intervals", fontsize=10)
    axis.legend(fontsize=8, ncols=len(check.files) + 1, loc="best")
    return figure


def _mark(axis: Any, x: float, row: ClassParity, colour: str, *, hollow: bool) -> None:
    if row.change is None or row.interval is None:
        return
    low, high = row.interval
    axis.plot([x, x], [low, high], color=colour, linewidth=1.5)
    axis.plot([x], [row.change], "o", color=colour, markerfacecolor="white" if hollow else colour)
