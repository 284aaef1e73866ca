"""Figures of the numbers of an evaluation: confusion, coverage, reliability."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgefel.evaluation.evaluate import Evaluation
from edgefel.evaluation.metrics import Metrics, ReliabilityBin
from edgefel.figures import new_figure
from edgefel.text import counted

WITHOUT_HEAD, WITH_HEAD = "#8fb3d9", "#14508c"


def heading(evaluation: Evaluation) -> str:
    """What every figure is about."""
    return f"{evaluation.model}, {evaluation.split} split, {counted(evaluation.images, 'image')}"


def confusion_figure(evaluation: Evaluation) -> Any:
    """A matplotlib Figure: counts in the cells, colour by share of the row; with and without the head."""
    panels: list[tuple[str, Metrics]] = []
    if evaluation.with_head is not None:
        panels = [
            ("without reliability head", evaluation.without_head),
            ("with reliability head", evaluation.with_head),
        ]
    else:
        panels = [("no reliability head", evaluation.without_head)]
    side = 1.6 + 0.62 * len(evaluation.labels)
    figure = new_figure(side * len(panels) + 0.8, side + 0.6)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, metrics) in zip(axes, panels, strict=True):
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
    """A matplotlib Figure: accuracy of the images that keep a label against their share, and both against the
    threshold; below, who pays for it: the share of each class that keeps a label."""
    coverage = evaluation.coverage
    figure = new_figure(11.5, 4.8)
    left, right = figure.subplots(1, 2)
    left.plot(*zip(*coverage.curve, strict=True), color="#2166ac", label="by confidence")
    left.axhline(coverage.curve[-1][1], color="#999999", linestyle=":", label="dropping images at random")
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
    right.set_title("who becomes unsure", fontsize=10)
    right.legend(fontsize=8)
    right.grid(alpha=0.3)
    figure.suptitle(heading(evaluation))
    return figure


def reliability_figure(evaluation: Evaluation) -> Any:
    """A matplotlib Figure: accuracy against confidence in the bins of the ECE, and below how many images each holds;
    a panel without and one with the head, or one where there is none."""
    panels = [("no reliability head", evaluation.reliability_without_head, evaluation.without_head.ece)]
    if evaluation.with_head is not None and evaluation.reliability_with_head is not None:
        panels = [
            ("without reliability head", evaluation.reliability_without_head, evaluation.without_head.ece),
            ("with reliability head", evaluation.reliability_with_head, evaluation.with_head.ece),
        ]
    figure = new_figure(5.2 * len(panels), 6.0)
    axes = figure.subplots(
        2, len(panels), squeeze=False, sharex=True, sharey="row", gridspec_kw={"height_ratios": (3, 1)}
    )
    for column, (title, bins, ece) in enumerate(panels):
        _diagram(axes[0][column], bins)
        axes[0][column].set_title(f"{title}: ECE {ece:.3f}", fontsize=11)
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
        axis.plot(
            (part.confidence, part.confidence),
            (part.accuracy, part.confidence),
            color="#c2410c",
            linewidth=1.6,
            label=None if number else "gap to the confidence",
        )
        axis.plot(part.confidence, part.accuracy, "o", color=WITH_HEAD, markersize=4)
    axis.plot((0, 1), (0, 1), linestyle=":", color="#555555", label="perfect calibration")
    axis.set(xlim=(0, 1), ylim=(0, 1.02))
    axis.grid(alpha=0.25)


def _counts(axis: Any, bins: tuple[ReliabilityBin, ...]) -> None:
    heights = [part.images for part in bins]
    axis.bar(
        [part.low for part in bins], heights, bins[0].high, align="edge", color="#9aa3ad", edgecolor="white"
    )
    for part in bins:
        if part.images:
            middle = (part.low + part.high) / 2
            axis.text(middle, part.images, str(part.images), ha="center", va="bottom", fontsize=7)
    axis.set_ylim(0, max(heights) * 1.2)
    axis.set_xlabel("confidence (top probability)")
    axis.spines[["top", "right"]].set_visible(False)
