"""Pictures of an evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgefel.evaluation.evaluate import Evaluation
from edgefel.evaluation.metrics import Metrics


def confusion_figure(evaluation: Evaluation) -> Any:
    """A matplotlib Figure: counts in the cells, colour by share of the row; with and without the head.

    Drawn on a canvas of its own: no window, no global state, and no display is needed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels: list[tuple[str, Metrics]] = []
    if evaluation.with_head is not None:
        panels = [
            ("without reliability head", evaluation.without_head),
            ("with reliability head", evaluation.with_head),
        ]
    else:
        panels = [("no reliability head", evaluation.without_head)]
    side = 1.6 + 0.62 * len(evaluation.labels)
    figure = Figure(figsize=(side * len(panels) + 0.8, side + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, metrics) in zip(axes, panels, strict=True):
        image = _panel(axis, title, metrics, evaluation.labels)
    axes[0].set_ylabel("true")
    figure.colorbar(image, ax=list(axes), shrink=0.8, label="share of the true class")
    figure.suptitle(f"{evaluation.model}, {evaluation.split} split, {evaluation.pictures} pictures")
    return figure


def _panel(axis: Any, title: str, metrics: Metrics, labels: tuple[str, ...]) -> Any:
    counts = np.array(metrics.confusion)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(labels))
    axis.set_xticks(ticks, labels, rotation=45, ha="right", rotation_mode="anchor")
    axis.set_yticks(ticks, labels)
    axis.set_xlabel("predicted")
    axis.set_title(f"{title}\naccuracy {metrics.accuracy:.1%}, macro F1 {metrics.macro_f1:.3f}", fontsize=10)
    for row in ticks:
        for column in ticks:
            dark = shares[row, column] > 0.5
            axis.text(
                column,
                row,
                str(counts[row, column]),
                ha="center",
                va="center",
                fontsize=8,
                color="white" if dark else "black",
            )
    return image
