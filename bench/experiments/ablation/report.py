"""An experiment's outcome as rows of the console's table, as Markdown, as JSON and as a plot."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgefel.bench.experiments.ablation.experiment import METRICS, Variant
from edgefel.bench.experiments.ablation.verdict import Judged, MeanInterval, Outcome, summary
from edgefel.bench.report.markdown import markdown_table
from edgefel.report.figures import new_figure
from edgefel.text import counted

COLUMNS = ("variant", "accuracy", "paper", "macro F1", "paper", "ECE", "without the head", "runs")
CLAIM_COLUMNS = ("claim of the paper", "difference here", "in the paper", "verdict")
_STYLES = (("#2166ac", "o"), ("#d6604d", "s"), ("#4d9221", "^"), ("#8073ac", "D"))


def rows(outcome: Outcome) -> list[tuple[str, ...]]:
    """A row for each variant with results, of COLUMNS; columns of the papers are "" where they give nothing."""

    def row(variant: Variant) -> tuple[str, ...]:
        name, paper, diverged = variant.name, variant.paper, _diverged(outcome, variant)
        return (
            name,
            _number(outcome.mean(name, "accuracy"), ".1f", 100, " %"),
            f"{100 * paper['accuracy']:.2f}" if "accuracy" in paper else "",
            _number(outcome.mean(name, "macro_f1"), ".3f"),
            f"{paper['macro_f1']:.3f}" if "macro_f1" in paper else "",
            _number(outcome.mean(name, "ece"), ".3f"),
            _number(outcome.mean(name, "accuracy", "primary"), ".1f", 100, " %"),
            f"{len(outcome.results[name])}" + (f", {diverged} diverged" if diverged else ""),
        )

    return [row(variant) for variant in outcome.variants]


def _diverged(outcome: Outcome, variant: Variant) -> int:
    return sum(bool(result["diverged"]) for result in outcome.results[variant.name].values())


def claims(outcome: Outcome) -> list[tuple[str, ...]]:
    """A row for each claim: itself, the difference here, the papers' and the verdict."""

    def row(judged: Judged) -> tuple[str, ...]:
        accuracy, beside = judged.claim.metric == "accuracy", judged.beside_paper
        scale, here, paper = (100, "+.1f", "+.2f") if accuracy else (1, "+.3f", "+.3f")
        return (
            str(judged.claim),
            "" if judged.difference is None else _number(judged.difference, here, scale),
            "" if judged.paper is None else format(scale * judged.paper, paper),
            judged.verdict + (f", {beside} than in the paper" if beside in ("less", "more") else ""),
        )

    return [row(judged) for judged in outcome.judged()]


def markdown(outcome: Outcome, about: str) -> str:
    """Table, claims and verdict. about: what was trained on what."""
    experiment, tau = outcome.experiment, outcome.rank_agreement()
    agreement = "" if tau is None else f" Kendall's tau between its accuracies and ours: {tau:.2f}."
    head = [f"## {experiment.title}", f"{experiment.source}. {about}", *filter(None, [experiment.note])]
    tables = markdown_table(COLUMNS, rows(outcome)), markdown_table(CLAIM_COLUMNS, claims(outcome), {0, 3})
    return "\n\n".join([*head, *map("\n".join, tables), f"**{summary(outcome)}**{agreement}\n"])


def _number(value: MeanInterval, form: str, scale: float = 1, unit: str = "") -> str:
    half = f" ± {format(scale * value.half, form.lstrip('+'))}" if math.isfinite(value.half) else ""
    return format(scale * value.mean, form) + unit + half


def to_dict(outcome: Outcome) -> dict[str, Any]:
    """Plain JSON values of everything that the Markdown says."""

    def entry(variant: Variant) -> dict[str, Any]:
        metrics = {name: outcome.mean(variant.name, name).to_dict() for name in METRICS}
        return {
            "paper": dict(variant.paper),
            "diverged": _diverged(outcome, variant),
            **metrics,
            "without_head": outcome.mean(variant.name, "accuracy", "primary").to_dict(),
            "seeds": sorted(outcome.results[variant.name]),
        }

    return {
        "experiment": outcome.experiment.name,
        "source": outcome.experiment.source,
        "variants": {variant.name: entry(variant) for variant in outcome.variants},
        "claims": [judged.to_dict() for judged in outcome.judged()],
        "rank_agreement": outcome.rank_agreement(),
        "verdict": summary(outcome),
    }


def figure(outcome: Outcome, about: str) -> Any:
    """A matplotlib Figure. Raises ValueError where there are no results."""
    experiment, variants = outcome.experiment, outcome.variants
    if not variants:
        raise ValueError("no results")
    measured = {variant.name: outcome.mean(variant.name, "accuracy") for variant in variants}
    seeds = max(found.n for found in measured.values())
    stated = [variant for variant in experiment.variants if "accuracy" in variant.paper]
    claimed = {variant.name: MeanInterval(variant.paper["accuracy"], math.nan, 1) for variant in stated}
    panels = 2 if stated else 1
    numeric = bool(experiment.axis)
    drawn = new_figure(5.4 * panels + 0.4, 4.2 if numeric else 1.6 + 0.42 * len(variants))
    axes = drawn.subplots(1, panels, squeeze=False, sharey=not numeric)[0]
    draw = _lines if numeric else _bars
    draw(axes[0], variants, measured, experiment.axis)
    axes[0].set_title(f"here: {about}\nmean of {counted(seeds, 'seed')} and 95 % interval", fontsize=9)
    if stated:
        draw(axes[1], stated if numeric else variants, claimed, experiment.axis)
        axes[1].set_title(f"{experiment.source}\nAff-Wild2", fontsize=9)
    drawn.suptitle(experiment.title)
    return drawn


def _lines(axis: Any, variants: Sequence[Variant], values: dict[str, MeanInterval], label: str) -> None:
    names = list(dict.fromkeys(variant.series for variant in variants))
    for name, (colour, mark) in zip(names, itertools.cycle(_STYLES), strict=False):
        own = [one for one in variants if one.series == name and one.x is not None and one.name in values]
        points = sorted((one.x, 100 * values[one.name].mean, _half(values[one.name])) for one in own)
        style = {"color": colour, "marker": mark, "markersize": 5, "capsize": 3, "linewidth": 1.4}
        axis.errorbar(*np.array(points, float).reshape(-1, 3).T, label=name or None, **style)
    if any(names):
        axis.legend(fontsize=8)
    axis.set(xlabel=label, ylabel="accuracy in %")
    axis.grid(alpha=0.3)


def _bars(axis: Any, variants: Sequence[Variant], values: dict[str, MeanInterval], label: str) -> None:
    bar = {"color": "#2166ac", "marker": "o", "capsize": 4, "linewidth": 1.6}
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
