"""Figures of single images: class probabilities, and a map of the embedding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from edgefel.evaluation.clustering import LEAST_MAPPED, MOST_MAPPED, draw_stratified, map_features
from edgefel.evaluation.evaluate import Evaluation, Evidence
from edgefel.evaluation.groups import GROUP
from edgefel.evaluation.plots import WITH_HEAD, WITHOUT_HEAD, heading
from edgefel.evaluation.selection import Shown
from edgefel.report.figures import LIGHT, new_figure

_COLUMNS = 3
_THUMBNAIL = 160  # px
_RIGHT, _WRONG = LIGHT["right"], LIGHT["wrong"]
# more values than colours that can be told apart
_MOST_COLOURS = 8
# Okabe & Ito's colours, told apart by the colour-blind, and two greys
_HUES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a800")
_COLOURS = (*_HUES, LIGHT["soft"], "#999999")


def distributions_figure(evaluation: Evaluation, evidence: Evidence, shown: Sequence[Shown]) -> Any:
    """A matplotlib Figure: for each chosen image the face and its class probabilities, before and after the head."""
    rows = -(-len(shown) // _COLUMNS)
    columns = min(_COLUMNS, len(shown))
    figure = new_figure(4.6 * columns, (0.75 + 0.19 * len(evaluation.labels)) * rows + 0.9)
    cells = np.array(figure.subfigures(rows, columns, squeeze=False, wspace=0.02, hspace=0.02)).ravel()
    for cell, one in zip(cells, shown, strict=False):
        _sample(cell, evaluation, evidence, one)
    bars = [("with head", WITH_HEAD), ("without head", WITHOUT_HEAD)]
    if evaluation.with_head is None:
        bars = [("no reliability head", WITH_HEAD)]
    from matplotlib.patches import Patch

    handles = [Patch(color=colour, label=name) for name, colour in bars]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles), fontsize=9, frameon=False)
    figure.suptitle(heading(evaluation) + f": {len(shown)} of them", x=0.01, ha="left", fontsize=11)
    return figure


def _sample(cell: Any, evaluation: Evaluation, evidence: Evidence, one: Shown) -> None:
    sample = evidence.dataset.samples[int(evidence.outputs.indices[one.row])]
    face = cv2.resize(sample.load(), (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
    true = int(evidence.targets[one.row])
    probabilities = evidence.outputs.corrected[one.row]
    predicted = int(probabilities.argmax())
    colour = _RIGHT if predicted == true else _WRONG
    left, right = cell.subplots(1, 2, gridspec_kw={"width_ratios": (1, 1.25)})
    left.imshow(face)
    left.set(xticks=[], yticks=[])
    left.set_xlabel(sample.path.name, fontsize=7, color=LIGHT["soft"])
    left.spines[:].set_color(colour)
    left.spines[:].set_linewidth(2)
    places = np.arange(len(evaluation.labels))
    if evaluation.with_head is None:
        right.barh(places, probabilities, 0.7, color=WITH_HEAD)
    else:
        right.barh(places - 0.2, probabilities, 0.4, color=WITH_HEAD)
        right.barh(places + 0.2, evidence.outputs.primary[one.row], 0.4, color=WITHOUT_HEAD)
    right.set_yticks(places, evaluation.labels, fontsize=7.5)
    right.get_yticklabels()[true].set(color=_RIGHT, fontweight="bold")
    right.set(xlim=(0, 1), ylim=(len(places) - 0.4, -0.6))
    right.tick_params(axis="x", labelsize=7)
    right.set_xlabel("probability", fontsize=7.5)
    right.grid(axis="x", alpha=0.25)
    right.spines[["top", "right"]].set_visible(False)
    names = evaluation.labels
    verdict = "recognized" if predicted == true else f"taken for {names[predicted]}"
    title = f"{one.why}\n{names[true]}, {verdict} ({probabilities.max():.2f})"
    cell.suptitle(title, fontsize=8.5, color=colour)


def embedding_figure(evaluation: Evaluation, evidence: Evidence) -> Any | None:
    """A matplotlib Figure: t-SNE of the embedding, coloured by true class, and by attribute or correctness; None for
    fewer than LEAST_MAPPED images. The scores in the title are of the embedding, not of the map."""
    embeddings = evidence.outputs.embeddings
    if embeddings is None or len(embeddings) < LEAST_MAPPED:
        return None
    drawn = draw_stratified(evidence.targets, MOST_MAPPED)
    points = map_features(embeddings[drawn])
    figure = new_figure(12.5, 5.9)
    left, right = figure.subplots(1, 2)
    targets = [evaluation.labels[int(number)] for number in evidence.targets[drawn]]
    _scatter(left, points, targets, evaluation.labels)
    left.set_title("true class", fontsize=10)
    name, values, order = _second(evaluation, evidence)
    _scatter(right, points, [values[row] for row in drawn], order)
    right.set_title(name, fontsize=10)
    for axis in (left, right):
        axis.set(xticks=[], yticks=[], xlabel="t-SNE 1 (no unit)")
    left.set_ylabel("t-SNE 2 (no unit)")
    part = "all" if len(drawn) == len(embeddings) else f"{len(drawn)}, drawn by class"
    scores = evaluation.embedding_clustering
    judged = "the embedding's clusters cannot be judged"
    if scores is not None:
        judged = f"embedding, {scores.width} dimensions: {scores}"
    title = f"{heading(evaluation)} (shown: {part}); t-SNE with seed 0\n{judged}"
    figure.suptitle(title, fontsize=11)
    return figure


def _second(evaluation: Evaluation, evidence: Evidence) -> tuple[str, Sequence[str], Sequence[str]]:
    """What the right panel shows: title, value of each row, order of the values."""
    for attribute in sorted(evaluation.attributes, key=lambda found: found.name == GROUP):
        values = evidence.values[attribute.name]
        if attribute.values <= _MOST_COLOURS:
            order = sorted(set(values) - {""})
            return attribute.name, [value or "not given" for value in values], [*order, "not given"]
    correct = evidence.outputs.corrected.argmax(1) == evidence.targets
    return "label of the model", ["correct" if hit else "wrong" for hit in correct], ("correct", "wrong")


def _scatter(axis: Any, points: Any, values: Sequence[str], order: Sequence[str]) -> None:
    names = np.array(values)
    two = tuple(order) == ("correct", "wrong")
    colours = ("#b9c4d0", _WRONG) if two else _COLOURS
    size = float(np.clip(4000 / len(points), 6, 30))
    for number, value in enumerate(order):
        own = points[names == value]
        if len(own):
            axis.scatter(
                *own.T,
                s=size,
                alpha=0.75,
                linewidths=0,
                rasterized=True,
                color=colours[number % len(colours)],
                label=f"{value} ({len(own)})",
                zorder=2 + two * number,
            )
    axis.legend(
        fontsize=8, markerscale=1.6, loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=4, frameon=False
    )
