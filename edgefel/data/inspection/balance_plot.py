"""Plots of an inspection: class balance, and similar images side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefel.data.inspection.contact_sheet import contact_sheet
from edgefel.data.inspection.inspect import Inspection
from edgefel.report.figures import new_figure
from edgefel.text import counted

_COLOURS = {"train": "#2166ac", "val": "#67a9cf", "test": "#ef8a62"}
_OTHER = "#999999"
_NAME, _GUTTER = 26, 250  # characters of a name, and the pixels that they take


def balance_figure(inspection: Inspection) -> Any:
    """A matplotlib Figure, without a display: a bar per class, stacked by split, with its count and share."""
    counts = inspection.counts
    figure = new_figure(2.2 + 0.9 * len(inspection.classes), 4.4)
    axis = figure.subplots()
    positions = np.arange(len(inspection.classes))
    bottom = np.zeros(len(positions), np.int64)
    for number, split in enumerate(inspection.splits):
        axis.bar(positions, counts[:, number], 0.7, bottom, color=_COLOURS.get(split, _OTHER), label=split)
        bottom += counts[:, number]
    for position, count in zip(positions, bottom, strict=True):
        text = f"{count:,}\n{count / max(bottom.sum(), 1):.1%}"
        axis.annotate(
            text, (position, count), (0, 2), textcoords="offset points", ha="center", va="bottom", fontsize=8
        )
    axis.set_xticks(positions, inspection.classes, rotation=30, ha="right", rotation_mode="anchor")
    axis.set(xlabel="class", ylabel="images", ylim=(0, max(1.0, 1.16 * float(bottom.max()))))
    axis.set_title(f"{inspection.dataset.root.name}: {counted(int(bottom.sum()), 'image')}", fontsize=10)
    figure.legend(title="split", fontsize=8, loc="outside right upper")
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def pairs_sheet(inspection: Inspection, rows: int = 40, side: int = 112) -> NDArray[np.uint8] | None:
    """The first pairs that look alike, RGB: a row for each, with name, split and label of both. None without pairs."""
    pairs = inspection.near.listed[:rows]
    if not pairs:
        return None
    named = []
    for pair in pairs:
        lines = [_described(inspection, index) for index in pair.indices]
        named.append(("\n".join(lines), [inspection.dataset.load(index) for index in pair.indices]))
    return contact_sheet(named, 2, side, _GUTTER)


def _described(inspection: Inspection, index: int) -> str:
    """Two lines: the end of the image's name; its split and label. OpenCV draws ASCII only."""
    seen = inspection.describe(index)
    name = Path(seen["path"]).name.encode("ascii", "replace").decode()
    return f"{name[-_NAME:]}\n  {seen['split']}, {seen['label']}"
