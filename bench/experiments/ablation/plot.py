"""An experiment's outcome beside the papers' figures: measured here on the left, what they say on the right."""

from __future__ import annotations

import itertools
import math
from typing import Any

from edgefel.bench.experiments.ablation.experiment import Variant
from edgefel.bench.experiments.ablation.verdict import MeanInterval, Outcome, interval
from edgefel.report.figures import new_figure
from edgefel.text import counted

_COLOURS = ("#2166ac", "#d6604d", "#4d9221", "#8073ac")
_MARKS = ("o", "s", "^", "D")


def figure(outcome: Outcome, about: str) -> Any:
    """A matplotlib Figure. Raises ValueError where there are no results."""
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
    claimed = {variant.name: MeanInterval(variant.paper["accuracy"], math.nan, 1) for variant in stated}
    seeds = max(found.n for found in measured.values())
    draw = _lines if numeric else _bars
    draw(axes[0], list(variants), measured, experiment.axis)
    axes[0].set_title(f"here: {about}\nmean of {counted(seeds, 'seed')} and 95 % interval", fontsize=9)
    if stated:
        draw(axes[1], list(variants if not numeric else stated), claimed, experiment.axis)
        axes[1].set_title(f"{experiment.source}\nAff-Wild2", fontsize=9)
    drawn.suptitle(experiment.title)
    return drawn


def _lines(axis: Any, variants: list[Variant], values: dict[str, MeanInterval], label: str) -> None:
    names = list(dict.fromkeys(variant.series for variant in variants))
    styles = itertools.cycle(zip(_COLOURS, _MARKS, strict=True))
    for name, (colour, mark) in zip(names, styles, strict=False):
        points = sorted(
            (variant.x, values[variant.name])
            for variant in variants
            if variant.series == name and variant.x is not None and variant.name in values
        )
        axis.errorbar(
            [x for x, _ in points],
            [100 * value.mean for _, value in points],
            yerr=[_half(value) for _, value in points],
            color=colour,
            marker=mark,
            markersize=5,
            capsize=3,
            linewidth=1.4,
            label=name or None,
        )
    if any(names):
        axis.legend(fontsize=8)
    axis.set(xlabel=label, ylabel="accuracy in %")
    axis.grid(alpha=0.3)


def _bars(axis: Any, variants: list[Variant], values: dict[str, MeanInterval], label: str) -> None:
    bar = {"color": _COLOURS[0], "marker": "o", "capsize": 4, "linewidth": 1.6}
    note = {"textcoords": "offset points", "fontsize": 8, "ha": "center"}
    for place, variant in enumerate(variants):
        if value := values.get(variant.name):
            at = (100 * value.mean, place)
            axis.errorbar(*at, xerr=_half(value), **bar)
            axis.annotate(f"{at[0]:.1f}", at, (0, 7), **note)
    axis.set_yticks(range(len(variants)), [variant.name for variant in variants])
    axis.set_ylim(len(variants) - 0.4, -0.6)
    axis.margins(x=0.15)
    axis.set_xlabel("accuracy in %")
    axis.grid(alpha=0.3, axis="x")


def _half(value: MeanInterval) -> float:
    return 100 * value.half if math.isfinite(value.half) else 0.0
