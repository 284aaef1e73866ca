"""An experiment's outcome beside the papers' figures: measured here on the left, what they say on the right."""

from __future__ import annotations

import math
from typing import Any

from edgefel.bench.experiments.ablation.experiment import Variant
from edgefel.bench.experiments.ablation.verdict import Interval, Outcome, interval
from edgefel.report.figures import new_figure
from edgefel.text import counted

_COLOURS = ("#2166ac", "#d6604d", "#4d9221", "#8073ac")
_MARKS = ("o", "s", "^", "D")


def figure(outcome: Outcome, about: str) -> Any:
    """A matplotlib Figure on a canvas of its own. Raises ValueError where there are no results."""
    variants = outcome.variants
    if not variants:
        raise ValueError("no results")
    experiment = outcome.experiment
    stated = [variant for variant in experiment.variants if "accuracy" in variant.paper]
    panels = 2 if stated else 1
    numeric = bool(experiment.axis)
    drawn = new_figure(5.4 * panels + 0.4, 4.2 if numeric else 1.6 + 0.42 * len(variants))
    axes = drawn.subplots(1, panels, squeeze=False, sharey=not numeric)[0]
    measured = {variant.name: interval(outcome.values(variant.name, "accuracy")) for variant in variants}
    claimed = {variant.name: Interval(variant.paper["accuracy"], math.nan, 1) for variant in stated}
    seeds = max(found.n for found in measured.values())
    draw = _lines if numeric else _bars
    draw(axes[0], list(variants), measured, experiment.axis)
    axes[0].set_title(f"here: {about}\nmean of {counted(seeds, 'seed')} and 95 % interval", fontsize=9)
    if stated:
        draw(axes[1], list(variants if not numeric else stated), claimed, experiment.axis)
        axes[1].set_title(f"{experiment.source}\nAff-Wild2", fontsize=9)
    drawn.suptitle(experiment.title)
    return drawn


def _lines(axis: Any, variants: list[Variant], values: dict[str, Interval], label: str) -> None:
    names = list(dict.fromkeys(variant.series for variant in variants))
    for number, name in enumerate(names):
        points = sorted(
            (variant.x, values[variant.name])
            for variant in variants
            if variant.series == name and variant.x is not None and variant.name in values
        )
        axis.errorbar(
            [x for x, _ in points],
            [100 * value.mean for _, value in points],
            yerr=[_half(value) for _, value in points],
            color=_COLOURS[number % len(_COLOURS)],
            marker=_MARKS[number % len(_MARKS)],
            markersize=5,
            capsize=3,
            linewidth=1.4,
            label=name or None,
        )
    if any(names):
        axis.legend(fontsize=8)
    axis.set(xlabel=label, ylabel="accuracy in %")
    axis.grid(alpha=0.3)


def _bars(axis: Any, variants: list[Variant], values: dict[str, Interval], label: str) -> None:
    places = range(len(variants))
    for place, variant in zip(places, variants, strict=True):
        if variant.name in values:
            value = values[variant.name]
            axis.errorbar(
                100 * value.mean,
                place,
                xerr=_half(value),
                color=_COLOURS[0],
                marker="o",
                capsize=4,
                linewidth=1.6,
            )
            axis.annotate(
                f"{100 * value.mean:.1f}",
                (100 * value.mean, place),
                (0, 7),
                textcoords="offset points",
                fontsize=8,
                ha="center",
            )
    axis.set_yticks(places, [variant.name for variant in variants])
    axis.set_ylim(len(variants) - 0.4, -0.6)
    axis.margins(x=0.15)
    axis.set_xlabel("accuracy in %")
    axis.grid(alpha=0.3, axis="x")


def _half(value: Interval) -> float:
    return 100 * value.half if math.isfinite(value.half) else 0.0
