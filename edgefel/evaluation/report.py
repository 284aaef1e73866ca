"""Writes an evaluation as a folder: the numbers, the figures, and a page that holds all of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgefel.evaluation.clustering import LEAST_MAPPED
from edgefel.evaluation.evaluate import Evaluation, Evidence
from edgefel.evaluation.page import SourceImage, render
from edgefel.evaluation.plots import confusion_figure, coverage_figure, reliability_figure
from edgefel.evaluation.plots_groups import groups_figure
from edgefel.evaluation.plots_samples import distributions_figure, embedding_figure
from edgefel.evaluation.selection import Shown, choose_images
from edgefel.files.write import atomic_folder, write_json, write_text

_DPI = 120
GRID = 12


@dataclass(frozen=True)
class _Figure:
    """name: of the file, without .png. draw: None where there is nothing to draw, and then `lacking` says why."""

    name: str
    title: str
    caption: str
    draw: Callable[[], Any | None]
    lacking: str = ""


def write_evaluation(
    folder: str | os.PathLike[str],
    evaluation: Evaluation,
    evidence: Evidence,
    shown: Sequence[Shown] | None = None,
    *,
    grid: int = GRID,
    advance: Callable[[str], None] = lambda figure: None,
) -> None:
    """Writes report.html, evaluation.json and the figures as PNG into a new folder, all or nothing.

    shown: the images of distributions.png, by default the `grid` most telling ones (`choose_images`). `advance` is
    told the name of each figure before it is drawn. Raises EdgefelError if the folder is there.
    """
    if shown is None:
        head = evaluation.with_head is not None
        shown = choose_images(evidence.outputs, evidence.targets, grid, head=head)
    images: list[SourceImage] = []
    with atomic_folder(folder) as temporary:
        write_json(temporary / "evaluation.json", evaluation.to_dict())
        for figure in _figures(evaluation, evidence, shown):
            advance(figure.name)
            drawn = figure.draw()
            file = temporary / f"{figure.name}.png"
            if drawn is not None:
                drawn.savefig(file, dpi=_DPI)
            png = None if drawn is None else file.read_bytes()
            images.append(SourceImage(figure.name, figure.title, figure.caption, png, figure.lacking))
        write_text(temporary / "report.html", render(evaluation, images))


def figure_names() -> tuple[str, ...]:
    """Of all figures, in the order in which they are drawn."""
    return ("confusion", "distributions", "reliability", "coverage", "embedding", "groups")


def _figures(evaluation: Evaluation, evidence: Evidence, shown: Sequence[Shown]) -> tuple[_Figure, ...]:
    coverage = evaluation.coverage
    return (
        _Figure(
            "confusion",
            "Confusion matrix",
            "Images by true and predicted class. Colour: share of the true class.",
            lambda: confusion_figure(evaluation),
        ),
        _Figure(
            "distributions",
            "Images and their distributions",
            "The class probabilities of single images. The true class is green; a red frame is a wrong label. These "
            "are chosen examples, not typical ones.",
            lambda: distributions_figure(evaluation, evidence, shown) if shown else None,
            "No images were to be shown.",
        ),
        _Figure(
            "reliability",
            "Reliability diagram",
            "Accuracy against the top probability, in 15 bins. The gaps, weighted by the images in each bin, add up "
            "to the ECE.",
            lambda: reliability_figure(evaluation),
        ),
        _Figure(
            "coverage",
            "Risk and coverage",
            "Accuracy of what is left when the least confident images are called unsure. Area under error against "
            f"coverage (AURC) {coverage.risk_area:.4f}; the least possible at this accuracy is "
            f"{coverage.best_risk_area:.4f}.",
            lambda: coverage_figure(evaluation),
        ),
        _Figure(
            "embedding",
            "Embedding",
            "t-SNE of what the anchors are compared with. Only neighbourhoods mean something on this map, not "
            "distances or sizes; the two scores are of the embedding itself.",
            lambda: embedding_figure(evaluation, evidence),
            f"The embedding is not drawn: a map needs at least {LEAST_MAPPED} images.",
        ),
        _Figure(
            "groups",
            "Groups",
            "Accuracy and recall by what is known of the people. Intervals are 95 % Wilson intervals.",
            lambda: groups_figure(evaluation, evidence),
            "There is nothing to compare by: no two images share a group, and no attribute has two values.",
        ),
    )
