"""A comparison on disk (`comparison.json`, `comparison.png`) and in words."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from edgefel.bench.experiments.calibration.comparison import (
    MOST_FREQUENT,
    PRIMARY,
    RANDOM,
    REPLICATES,
    STRATEGIES,
    Comparison,
    ComparisonRow,
    Difference,
)
from edgefel.bench.experiments.calibration.intervals import MEASURES, RECALL, TAIL, Interval
from edgefel.files.write import atomic_folder, write_json
from edgefel.report.figures import new_figure
from edgefel.text import counted

FORMAT, VERSION = "edgefel-calibration-comparison", 1
DESIGN = {
    "long_tail": "n_k = r * imbalance^((C-1-k)/(C-1)) training images of the k-th class; the class order is "
    "rotated by the seed, so that over C seeds every class stands at every place once",
    "sets": "per seed and size, all strategies draw the same number of images from the same long tail",
    "file": "judged is the INT8 file that an export writes for ONNX Runtime, with its placement and its asymmetric "
    "uint8 activations",
    "tail": "the rarest third of the classes of a seed's long tail",
    "intervals": f"95 % percentiles of {REPLICATES} two-level bootstrap replicates: seeds and held-out images are "
    "resampled independently, the same for every strategy; each interval stands for itself, without correction "
    "for their number",
    "verdict": f"from the interval of {PRIMARY} over all classes, decided on beforehand",
}
_NAMES = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "agreement": "agreement with FP32",
    "sqnr_db": "SQNR of the logits",
}
_COLOURS = {"balanced": "#1b6ca8", "random": "#e08e0b", "most-frequent": "#9b2d30"}


def comparison_document(
    comparison: Comparison, source: dict[str, Any], versions: dict[str, str], command: str
) -> dict[str, Any]:
    """Everything as JSON values. source: what was compared on what; versions: of the tools; command: to repeat it."""
    plan = comparison.plan
    return {
        "format": FORMAT,
        "version": VERSION,
        "command": command,
        "source": source,
        "options": asdict(plan.options),
        "tools": {**versions, "python": platform.python_version(), "machine": platform.machine()},
        "design": DESIGN,
        "labels": list(plan.labels),
        "classes": plan.matched.to_dict(),
        "held_out": {"split": plan.split, "counts": comparison.held_out},
        "skipped": [path.name for path in comparison.skipped],
        "pools": [
            {"seed": seed, "counts": pool.counts, "order": pool.order, "tail": pool.tail}
            for seed, pool in enumerate(plan.pools, plan.options.seed)
        ],
        "rows": [asdict(row) for row in comparison.rows],
        "summaries": [asdict(summary) for summary in comparison.summaries],
        "differences": [
            {"per_class": one.per_class, "against": one.against, "verdict": one.verdict}
            | {"measures": {name: {**asdict(i), "verdict": i.verdict} for name, i in one.measures.items()}}
            for one in comparison.differences
        ],
        "verdicts": verdicts(comparison),
    }


def write_comparison(folder: Path, comparison: Comparison, document: dict[str, Any]) -> None:
    """Writes comparison.json and comparison.png into a new folder, both or nothing. Raises EdgefelError."""
    with atomic_folder(folder) as temporary:
        write_json(temporary / "comparison.json", document)
        comparison_figure(comparison).savefig(temporary / "comparison.png", dpi=120)


def verdicts(comparison: Comparison) -> list[str]:
    """One sentence per size and opponent: the verdict, the interval behind it, and where else zero is left out."""
    return [_sentence(one, comparison.rows) for one in comparison.differences]


def shown(name: str, interval: Interval, *, signed: bool = False) -> str:
    """`71.2 [70.1, 72.3]`: percentage points, or dB for SQNR; a sign on each number of a difference."""
    if interval.value is None or interval.low is None or interval.high is None:
        return "-"
    form, factor = "+.1f" if signed else ".1f", 1.0 if name.endswith("_db") else 100.0
    value, low, high = (format(factor * end, form) for end in (interval.value, interval.low, interval.high))
    return f"{value} [{low}, {high}]"


def comparison_figure(comparison: Comparison) -> Any:
    """A matplotlib Figure: macro F1 of all classes and of the tail, paired differences, and recall per class."""
    options, labels = comparison.plan.options, comparison.plan.labels
    sizes = options.per_class
    figure = new_figure(11, 4.0 + 2.4 * len(sizes))
    grid = figure.add_gridspec(1 + len(sizes), 3)
    ticks = [f"{size} per class" for size in sizes]
    for column, (name, title) in enumerate(((PRIMARY, "all classes"), (TAIL + PRIMARY, "tail classes"))):
        axis = figure.add_subplot(grid[0, column], title=f"macro F1 of {title}, %")
        _strategies(axis, comparison, [(size, name) for size in sizes], ticks)
    # intervals that overlap say little about files that were judged on the same images: these are paired
    axis = figure.add_subplot(grid[0, 2], title="macro F1, balanced minus other, points")
    for offset, other in ((-0.5, RANDOM), (0.5, MOST_FREQUENT)):
        intervals = [d.measures[PRIMARY] for d in comparison.differences if d.against == other]
        _errorbars(axis, intervals, offset, other)
    axis.axhline(0.0, color="black", linewidth=0.8)
    _finish(axis, ticks)
    for row, size in enumerate(sizes, start=1):
        axis = figure.add_subplot(grid[row, :], title=f"recall, {size} per class, %")
        _strategies(axis, comparison, [(size, RECALL + label) for label in labels], labels)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)
    tail = f"imbalance {options.imbalance:g}" if options.imbalance > 1 else "data as it is"
    figure.suptitle(
        f"INT8 calibrated on three kinds of images: {tail}, {counted(options.seeds, 'seed')}, "
        f"{sum(comparison.held_out.values())} held-out images; 95 % intervals",
        fontsize=11,
    )
    return figure


def _strategies(
    axis: Any, comparison: Comparison, places: Sequence[tuple[int, str]], ticks: Sequence[str]
) -> None:
    """At each place (size, measure), the strategies side by side with their intervals, FP32 as a line."""
    found = {(summary.strategy, summary.per_class): summary.measures for summary in comparison.summaries}
    for offset, strategy in enumerate(STRATEGIES):
        _errorbars(axis, [found[strategy, size][name] for size, name in places], offset - 1, strategy)
    for i, (_, name) in enumerate(places):
        value = found["fp32", None][name].value
        if value is not None:
            axis.hlines(100 * value, i - 0.4, i + 0.4, colors="grey", label="FP32" if i == 0 else None)
    _finish(axis, ticks)


def _errorbars(axis: Any, intervals: Sequence[Interval], offset: float, strategy: str) -> None:
    ends = np.array([(one.value, one.low, one.high) for one in intervals], float)  # NaN is not drawn
    value, low, high = 100 * ends.T
    places = np.arange(len(ends)) + 0.2 * offset
    spread = np.clip([value - low, high - value], 0, None)
    axis.errorbar(places, value, spread, fmt="o", ms=4, capsize=3, color=_COLOURS[strategy], label=strategy)


def _finish(axis: Any, ticks: Sequence[str]) -> None:
    axis.set_xticks(range(len(ticks)), ticks)
    axis.set_xlim(-0.5, len(ticks) - 0.5)
    axis.grid(axis="y", alpha=0.3)
    axis.title.set_fontsize(10)


def _sentence(difference: Difference, rows: Sequence[ComparisonRow]) -> str:
    def said(name: str) -> str:
        plain = name.removeprefix(TAIL)
        title = _NAMES[plain] + (" of the tail" if plain != name else "")
        unit = "dB" if name.endswith("_db") else "points"
        return f"{title} {shown(name, difference.measures[name], signed=True)} {unit}"

    # fewer images than size times classes where a class ran short
    totals = {sum(row.counts.values()) for row in rows if row.per_class == difference.per_class}
    images = (f"{min(totals)} to " if len(totals) > 1 else "") + counted(max(totals), "image")
    clear = [
        said(name)
        for name in (prefix + measure for prefix in ("", TAIL) for measure in MEASURES)
        if name != PRIMARY and difference.measures[name].verdict != "no difference shown"
    ]
    return (
        f"{difference.per_class} per class ({images}), balanced against {difference.against}: "
        f"{difference.verdict} ({said(PRIMARY)})" + (f"; beside it {', '.join(clear)}" if clear else "")
    )
