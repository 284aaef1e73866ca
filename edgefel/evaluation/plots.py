"""Figures of the numbers of an evaluation: confusion, coverage, reliability."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgefel.evaluation.evaluate import Evaluation
from edgefel.evaluation.metrics import Metrics, ReliabilityBin
from edgefel.report.figures import LIGHT, new_figure
from edgefel.text import counted

WITHOUT_HEAD, WITH_HEAD = LIGHT["without-head"], LIGHT["with-head"]
# on a colour map, which is the same in light and dark
BLACK, WHITE = "#010101", "#fefefe"


def heading(evaluation: Evaluation) -> str:
    """The common start of the figures' titles."""
    return f"{evaluation.model}, {evaluation.split} split, {counted(evaluation.images, 'image')}"


def _panels(evaluation: Evaluation) -> list[tuple[str, Metrics, tuple[ReliabilityBin, ...]]]:
    """Title, metrics and bins without and with the reliability head; one of them where there is none."""
    without = (evaluation.without_head, evaluation.reliability_without_head)
    if evaluation.with_head is None or evaluation.reliability_with_head is None:
        return [("no reliability head", *without)]
    return [
        ("without reliability head", *without),
        ("with reliability head", evaluation.with_head, evaluation.reliability_with_head),
    ]


def confusion_figure(evaluation: Evaluation) -> Any:
    """A matplotlib Figure: counts in the cells, colour by share of the row; with and without the head."""
    panels = _panels(evaluation)
    side = 1.6 + 0.62 * len(evaluation.labels)
    figure = new_figure(side * len(panels) + 0.8, side + 0.6)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, metrics, _) in zip(axes, panels, strict=True):
        image = _panel(axis, title, metrics, evaluation.labels)
    axes[0].set_ylabel("true")
    figure.colorbar(image, ax=list(axes), shrink=0.8, label="share of the true class")
    figure.suptitle(heading(evaluation))
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
    for (row, column), count in np.ndenumerate(counts):
        colour = WHITE if shares[row, column] > 0.5 else BLACK
        axis.text(column, row, str(count), ha="center", va="center", fontsize=8, color=colour)
    return image


def coverage_figure(evaluation: Evaluation) -> Any:
    """A matplotlib Figure: accuracy of the images that keep a label against their share, and both against the
    threshold, with the share of each class that keeps a label."""
    coverage = evaluation.coverage
    figure = new_figure(11.5, 4.8)
    left, right = figure.subplots(1, 2)
    left.plot(*zip(*coverage.curve, strict=True), color=WITH_HEAD, label="by confidence")
    left.axhline(coverage.curve[-1][1], color=LIGHT["soft"], linestyle=":", label="dropping images at random")
    shown = 2.0
    for threshold in coverage.thresholds[::10]:
        if threshold.accuracy is None or shown - threshold.coverage < 0.01:
            continue  # none is left, or on top of the one before
        shown = threshold.coverage
        point = (shown, threshold.accuracy)
        left.plot(*point, "o", color=WITH_HEAD, markersize=4)
        text = f"{threshold.min_confidence:.1f}"
        left.annotate(text, point, (3, 5), textcoords="offset points", fontsize=8)
    left.set(xlabel="coverage: share of images with a label", ylabel="accuracy of those", xlim=(0, 1.02))
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
    right.set_title("coverage of each class", fontsize=10)
    right.legend(fontsize=8)
    right.grid(alpha=0.3)
    figure.suptitle(heading(evaluation))
    return figure


def reliability_figure(evaluation: Evaluation) -> Any:
    """A matplotlib Figure: accuracy against confidence in the bins of the ECE, and below how many images each holds;
    a panel without and one with the head, or one where there is none."""
    panels = _panels(evaluation)
    figure = new_figure(5.2 * len(panels), 6.0)
    axes = figure.subplots(
        2, len(panels), squeeze=False, sharex=True, sharey="row", gridspec_kw={"height_ratios": (3, 1)}
    )
    for column, (title, metrics, bins) in enumerate(panels):
        _diagram(axes[0][column], bins)
        axes[0][column].set_title(f"{title}: ECE {metrics.ece:.3f}", fontsize=11)
        _counts(axes[1][column], bins)
    axes[0][0].set_ylabel("accuracy (share of correct labels)")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    axes[1][0].set_ylabel("images per bin")
    figure.suptitle(heading(evaluation))
    return figure


def _diagram(axis: Any, bins: tuple[ReliabilityBin, ...]) -> None:
    filled = [part for part in bins if part.accuracy is not None]
    low, width = [part.low for part in filled], bins[0].high
    accuracy = [part.accuracy for part in filled]
    axis.bar(low, accuracy, width, align="edge", color=WITHOUT_HEAD, edgecolor="white", label="accuracy")
    for number, part in enumerate(filled):
        if part.accuracy is None or part.confidence is None:
            continue
        # the gap itself, drawn where the confidence is: its length times the bin's share adds up to the ECE
        ends = (part.confidence, part.confidence), (part.accuracy, part.confidence)
        label = None if number else "gap to the confidence"
        axis.plot(*ends, color=LIGHT["gap"], linewidth=1.6, label=label)
        axis.plot(part.confidence, part.accuracy, "o", color=WITH_HEAD, markersize=4)
    axis.plot((0, 1), (0, 1), linestyle=":", color=LIGHT["soft"], label="perfect calibration")
    axis.set(xlim=(0, 1), ylim=(0, 1.02))
    axis.grid(alpha=0.25)


def _counts(axis: Any, bins: tuple[ReliabilityBin, ...]) -> None:
    lows, heights = [part.low for part in bins], [part.images for part in bins]
    axis.bar(lows, heights, bins[0].high, align="edge", color=LIGHT["c7"], edgecolor="white")
    for part in bins:
        if part.images:
            middle = (part.low + part.high) / 2
            axis.text(middle, part.images, str(part.images), ha="center", va="bottom", fontsize=7)
    axis.set(ylim=(0, max(heights) * 1.2), xlabel="confidence (top probability)")
    axis.spines[["top", "right"]].set_visible(False)
