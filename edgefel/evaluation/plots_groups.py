"""Figure of accuracy and recall per group."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgefel.evaluation.evaluate import Evaluation, Evidence
from edgefel.evaluation.groups import LEAST_IMAGES, Attribute, value_accuracies
from edgefel.evaluation.plots import BLACK, WHITE, WITH_HEAD, WITHOUT_HEAD, heading
from edgefel.report.figures import LIGHT, new_figure

# values in a panel: with more, the least and the most accurate ones
_MOST_VALUES = 12


def groups_figure(evaluation: Evaluation, evidence: Evidence) -> Any | None:
    """A matplotlib Figure: for each attribute, accuracy by value with 95 % intervals and recall by class, or, with too
    few images of each value, how the accuracy is spread over the values. None without attributes."""
    attributes = evaluation.attributes
    if not attributes:
        return None
    shown = [max(4, min(_MOST_VALUES, len(found.scores))) for found in attributes]
    figure = new_figure(12.5, 0.34 * sum(shown) + 1.35 * len(shown) + 0.6)
    ratios = [count + 3 for count in shown]
    axes = figure.subplots(
        len(attributes), 2, squeeze=False, gridspec_kw={"height_ratios": ratios, "width_ratios": (1, 1.3)}
    )
    for (left, right), attribute in zip(axes, attributes, strict=True):
        if len(attribute.scores) < 2:
            _spread(left, evidence, attribute)
            right.axis("off")
            text = f"fewer than two values of {attribute.name!r} have {LEAST_IMAGES} images:\n"
            text += "single values are not compared"
            soft = LIGHT["soft"]
            right.text(0.02, 0.5, text, va="center", fontsize=9, color=soft, transform=right.transAxes)
        else:
            _accuracies(left, evaluation, attribute)
            _recalls(right, evaluation, attribute)
    figure.suptitle(f"{heading(evaluation)}: accuracy and recall per group")
    return figure


def _spread(axis: Any, evidence: Evidence, attribute: Attribute) -> None:
    correct = evidence.outputs.corrected.argmax(1) == evidence.targets
    accuracies = value_accuracies(evidence.values[attribute.name], correct)
    axis.hist(accuracies, np.linspace(0, 1, 11), color=WITHOUT_HEAD, edgecolor="white")
    axis.axvline(attribute.spread_mean, color=WITH_HEAD, linestyle=":")
    axis.set(xlim=(0, 1), xlabel="accuracy of one value (share)", ylabel="values")
    axis.set_title(
        f"{attribute.name}: {attribute.values} values, accuracy {attribute.spread_mean:.2f} ± "
        f"{attribute.spread_std:.2f} (standard deviation)",
        fontsize=10,
    )


def _chosen(attribute: Attribute) -> list[Any]:
    """Scores from the least to the most accurate; of many the ends."""
    ordered = sorted(attribute.scores, key=lambda score: score.accuracy.value)
    if len(ordered) <= _MOST_VALUES:
        return ordered
    return ordered[: _MOST_VALUES // 2] + ordered[-(_MOST_VALUES // 2) :]


def _accuracies(axis: Any, evaluation: Evaluation, attribute: Attribute) -> None:
    chosen = _chosen(attribute)
    for place, score in enumerate(chosen):
        share = score.accuracy
        axis.plot((share.low, share.high), (place, place), color=WITH_HEAD, linewidth=2)
        axis.plot(share.value, place, "o", color=WITH_HEAD, markersize=6)
    names = [f"{score.value} ({score.accuracy.images})" for score in chosen]
    axis.set_yticks(range(len(chosen)), names, fontsize=8)
    axis.axvline(evaluation.final.accuracy, color=LIGHT["soft"], linestyle=":", linewidth=1)
    axis.set_ylim(-0.6, len(chosen) - 0.4)
    axis.set_xlabel("accuracy (share, 95 % Wilson interval; dotted: all)", fontsize=9)
    axis.grid(axis="x", alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    title = attribute.name
    if (gap := attribute.accuracy_gap) is not None:
        title += f": gap {100 * gap.difference:.1f} points, intervals {'overlap' if gap.overlap else 'apart'}"
    axis.set_title(title, fontsize=10)


def _recalls(axis: Any, evaluation: Evaluation, attribute: Attribute) -> None:
    chosen = _chosen(attribute)
    recalls = [[np.nan if share is None else share.value for share in score.recall] for score in chosen]
    axis.set_facecolor(WHITE)
    axis.imshow(np.array(recalls), cmap="RdYlBu", vmin=0, vmax=1, aspect="auto", origin="lower", alpha=0.75)
    for row, score in enumerate(chosen):
        for column, share in enumerate(score.recall):
            text = "–" if share is None else f"{share.hits}/{share.images}"
            axis.text(column, row, text, ha="center", va="center", fontsize=7.5, color=BLACK)
    axis.set_xticks(range(len(evaluation.labels)), evaluation.labels, fontsize=8)
    axis.set_yticks([])
    axis.set_xlabel("true class; numbers: recognized / images", fontsize=9)
    axis.set_title("recall by class: red 0, dark blue 1 (share)", fontsize=10)
