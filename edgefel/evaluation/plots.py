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


def coverage_figure(evaluation: Evaluation) -> Any:
    """A matplotlib Figure: accuracy of the pictures that keep a label against their share, and both against the
    threshold; below, who pays for it: the share of each class that keeps a label."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    coverage = evaluation.coverage
    figure = Figure(figsize=(11.5, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    left.plot(*zip(*coverage.curve, strict=True), color="#2166ac", label="by confidence")
    left.axhline(coverage.curve[-1][1], color="#999999", linestyle=":", label="dropping pictures at random")
    shown = 2.0
    for threshold in coverage.thresholds[::10]:
        if threshold.accuracy is None or shown - threshold.coverage < 0.01:
            continue  # none is left, or on top of the one before
        shown = threshold.coverage
        point = (shown, threshold.accuracy)
        left.plot(*point, "o", color="#2166ac", markersize=4)
        left.annotate(
            f"{threshold.min_confidence:.1f}", point, (3, 5), textcoords="offset points", fontsize=8
        )
    left.set(xlabel="coverage: share of pictures with a label", ylabel="accuracy of those", xlim=(0, 1.02))
    left.set_title("accuracy against coverage; the numbers are --min-confidence", fontsize=10)
    left.legend(loc="lower left", fontsize=8)
    left.grid(alpha=0.3)
    steps = [threshold.min_confidence for threshold in coverage.thresholds]
    for number, name in enumerate(evaluation.labels):
        shares = [threshold.class_coverage[number] for threshold in coverage.thresholds]
        if shares[0] is not None:
            right.plot(steps, shares, linewidth=1.2, label=name)
    overall = [threshold.coverage for threshold in coverage.thresholds]
    right.plot(steps, overall, color="black", linewidth=2, label="all")
    right.set(xlabel="--min-confidence", ylabel="share with a label", xlim=(0, 1), ylim=(0, 1.02))
    right.set_title("who becomes unsure", fontsize=10)
    right.legend(fontsize=8)
    right.grid(alpha=0.3)
    figure.suptitle(f"{evaluation.model}, {evaluation.split} split, {evaluation.pictures} pictures")
    return figure
