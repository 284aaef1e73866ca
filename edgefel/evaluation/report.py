"""Writes an evaluation as a folder: the numbers, the figures, and a self-contained page that holds all of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgefel.evaluation.evaluate import Evaluation, Evidence
from edgefel.evaluation.groups import LEAST_IMAGES, LEAST_OF_CLASS, Attribute, Share
from edgefel.evaluation.metrics import Metrics
from edgefel.evaluation.plots import (
    LEAST_MAPPED,
    confusion_figure,
    coverage_figure,
    distributions_figure,
    embedding_figure,
    groups_figure,
    reliability_figure,
)
from edgefel.evaluation.selection import Shown, choose_images
from edgefel.files.write import atomic_folder, write_json, write_text
from edgefel.progress import SILENT, Progress
from edgefel.report.figures import save_png, to_svg
from edgefel.report.formats import MISSING, percent
from edgefel.report.pages import render_page
from edgefel.report.tables import Cell, Table, share, table_of, word
from edgefel.text import counted


@dataclass(frozen=True)
class Figure:
    """A figure of the page. name: of its file, without .png. draw: gives a matplotlib Figure, or None where there is
    nothing to draw; then `lacking` says why."""

    name: str
    title: str
    caption: str
    draw: Callable[[], Any | None]
    lacking: str = ""


def write_evaluation(
    folder: str | os.PathLike[str],
    evaluation: Evaluation,
    evidence: Evidence,
    *,
    grid: int = 12,
    progress: Progress = SILENT,
) -> None:
    """Writes report.html, evaluation.json and the figures as PNG into a new folder, all or nothing.

    grid: number of images in distributions.png, the most telling ones (`choose_images`), unless some were asked for.
    Raises EdgefelError if the folder is there.
    """
    head = evaluation.with_head is not None
    shown = evidence.shown or choose_images(evidence.outputs, evidence.targets, grid, head=head)
    figures: list[tuple[Figure, str]] = []
    with atomic_folder(folder) as temporary:
        write_json(temporary / "evaluation.json", evaluation.to_dict())
        for figure in _figures(evaluation, evidence, shown):
            progress.start(f"drawing {figure.name}")
            drawn = figure.draw()
            if drawn is not None:
                save_png(drawn, temporary / f"{figure.name}.png")
            figures.append((figure, "" if drawn is None else to_svg(drawn, figure.title)))
        write_text(temporary / "report.html", render(evaluation, figures))


def _figures(evaluation: Evaluation, evidence: Evidence, shown: Sequence[Shown]) -> tuple[Figure, ...]:
    coverage = evaluation.coverage
    return (
        Figure(
            "confusion",
            "Confusion matrix",
            "Images by true and predicted class. Colour: share of the true class.",
            lambda: confusion_figure(evaluation),
        ),
        Figure(
            "distributions",
            "Images and their distributions",
            "The class probabilities of single images. The true class is green; a red frame is a wrong label. These "
            "are chosen examples, not typical ones.",
            lambda: distributions_figure(evaluation, evidence, shown) if shown else None,
            "No images were to be shown.",
        ),
        Figure(
            "reliability",
            "Reliability diagram",
            "Accuracy against the top probability, in 15 bins. The gaps, weighted by the images in each bin, add up "
            "to the ECE.",
            lambda: reliability_figure(evaluation),
        ),
        Figure(
            "coverage",
            "Risk and coverage",
            "Accuracy of what is left when the least confident images are called unsure. Area under error against "
            f"coverage (AURC) {coverage.risk_area:.4f}; the least possible at this accuracy is "
            f"{coverage.best_risk_area:.4f}.",
            lambda: coverage_figure(evaluation),
        ),
        Figure(
            "embedding",
            "Embedding",
            "t-SNE of what the anchors are compared with. Only neighbourhoods mean something on this map, not "
            "distances or sizes; the two scores are of the embedding itself.",
            lambda: embedding_figure(evaluation, evidence),
            f"The embedding is not drawn: a map needs at least {LEAST_MAPPED} images.",
        ),
        Figure(
            "groups",
            "Groups",
            "Accuracy and recall by what is known of the people. Intervals are 95 % Wilson intervals.",
            lambda: groups_figure(evaluation, evidence),
            "There is nothing to compare by: no two images share a group, and no attribute has two values.",
        ),
    )


def render(evaluation: Evaluation, figures: Sequence[tuple[Figure, str]]) -> str:
    """The page as HTML. figures: each with its SVG, which is empty where there was nothing to draw."""
    return render_page(
        "evaluation.html.j2",
        evaluation=evaluation,
        figures=figures,
        answer=_answer(evaluation),
        about=f"{evaluation.split} split of {evaluation.dataset}, {counted(evaluation.images, 'image')}",
        summary=_summary(evaluation),
        recall=_recall(evaluation),
        probabilities=_probabilities(evaluation),
        attributes=[_attribute(evaluation, attribute) for attribute in evaluation.attributes],
    )


def _answer(evaluation: Evaluation) -> str:
    final, before = evaluation.final, evaluation.without_head
    answer = f"{percent(final.accuracy)} accuracy, macro F1 {final.macro_f1:.3f}"
    if evaluation.with_head is None:
        return f"{answer}. The model has no reliability head: there is one set of numbers, and nothing on corrections"
    return (
        f"{answer}; the reliability head changes accuracy by {100 * (final.accuracy - before.accuracy):+.1f} points "
        f"and the calibration error (ECE) by {final.ece - before.ece:+.3f}"
    )


def _summary(evaluation: Evaluation) -> Table:
    columns = evaluation.columns
    shown: tuple[tuple[str, Callable[[Metrics], str]], ...] = (
        ("accuracy", lambda metrics: percent(metrics.accuracy)),
        ("macro F1", lambda metrics: f"{metrics.macro_f1:.3f}"),
        ("ECE (15 bins)", lambda metrics: f"{metrics.ece:.3f}"),
    )
    lines = [[name, *(pick(metrics) for metrics in columns.values())] for name, pick in shown]
    # of what the model predicts; what follows is of the network, whatever corrects it
    area = [*[MISSING] * (len(columns) - 1), f"{evaluation.coverage.risk_area:.4f}"]
    lines.append(["AURC (area under error against coverage)", *area])
    clusterings = {"embedding": evaluation.embedding_clustering, "logits": evaluation.logits_clustering}
    for name, scores in clusterings.items():
        if scores is not None:
            bouldin, harabasz = f"{scores.davies_bouldin:.3f}", f"{scores.calinski_harabasz:.1f}"
            lines.append([f"Davies-Bouldin, {name} (lower is better)", *[bouldin] * len(columns)])
            lines.append([f"Calinski-Harabasz, {name} (higher is better)", *[harabasz] * len(columns)])
    return table_of(["", *columns], [list(map(Cell, line)) for line in lines])


def _recall(evaluation: Evaluation) -> Table:
    columns = evaluation.columns
    least = min(value for value in evaluation.final.recall if value is not None)
    lines = []
    for number, label in enumerate(evaluation.labels):
        values = [metrics.recall[number] for metrics in columns.values()]
        cells = [word(label), Cell(str(evaluation.counts[number]), evaluation.counts[number])]
        cells += [share(value) for value in values[:-1]]
        cells.append(share(values[-1], strong=values[-1] == least))
        if len(values) == 2:
            before, after = values
            change = None if before is None or after is None else after - before
            cells.append(Cell() if change is None else Cell(f"{100 * change:+.1f}", change))
        lines.append(cells)
    names = ["recall"] if len(columns) == 1 else [f"recall {name}" for name in columns] + ["change (points)"]
    return table_of(["class", "images", *names], lines)


def _probabilities(evaluation: Evaluation) -> Table:
    found = evaluation.probabilities
    rows = {
        "all, without head": found.all_without_head,
        "all, with head": found.all_with_head,
        "drawn by class, without head": found.drawn_without_head,
        "drawn by class, with head": found.drawn_with_head,
    }
    names = ("std", "highest", "lowest", "pooled_std", "pooled_highest", "pooled_lowest")
    lines = []
    for row, spread in rows.items():
        if spread is not None:
            title = row.removesuffix(", without head") if evaluation.with_head is None else row
            cells = [Cell(f"{value:.4f}", value) for value in (getattr(spread, name) for name in names)]
            lines.append([word(title), Cell(str(spread.images), spread.images), *cells])
    return table_of(["images", "number", *(name.replace("_", " ") for name in names)], lines)


def _attribute(evaluation: Evaluation, attribute: Attribute) -> dict[str, object]:
    """Name, note, and the tables of the gaps and of the scores, where values are compared."""
    unknown = f", {counted(attribute.unknown, 'image')} without one" if attribute.unknown else ""
    spread = (
        f"{counted(attribute.values, 'value')}{unknown}. "
        f"Accuracy over the values: mean {percent(attribute.spread_mean)}, standard deviation "
        f"{100 * attribute.spread_std:.1f} points, from {percent(attribute.spread_least)} to "
        f"{percent(attribute.spread_greatest)}. "
    )
    if attribute.accuracy_gap is None:
        note = f"{spread}Fewer than two of them have {LEAST_IMAGES} images: none is compared alone."
        return {"name": attribute.name, "note": note, "gaps": None}
    note = (
        f"{spread}Values with at least {LEAST_IMAGES} images; recall gaps where two have at least "
        f"{LEAST_OF_CLASS} of the class. Where intervals are apart the gap is more than chance, unless it is the "
        "largest of a great many."
    )
    gaps = [
        [
            Cell(gap.of if gap.of == "accuracy" else f"recall {gap.of}", gap.of),
            word(gap.best),
            word(gap.worst),
            Cell(f"{100 * gap.difference:.1f}", gap.difference),
            Cell("overlap" if gap.overlap else "apart", str(gap.overlap), strong=not gap.overlap),
        ]
        for gap in (attribute.accuracy_gap, *attribute.recall_gaps)
    ]
    scores = [
        [word(score.value), *(_interval(found) for found in (score.accuracy, *score.recall))]
        for score in attribute.scores
    ]
    names = [attribute.name, "accuracy", *(f"recall {label}" for label in evaluation.labels)]
    return {
        "name": attribute.name,
        "note": note,
        "gaps": table_of(["largest gap of", "best", "worst", "gap (points)", "95 % intervals"], gaps),
        "scores": table_of(names, scores),
    }


def _interval(found: Share | None) -> Cell:
    if found is None:
        return Cell()
    return Cell(f"{percent(found.value)} ({100 * found.low:.0f}–{100 * found.high:.0f})", found.value)
