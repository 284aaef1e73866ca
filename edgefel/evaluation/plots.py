"""The figures of an evaluation: matplotlib Figures, drawn without a display."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgefel.evaluation.evaluate import Evaluation, Evidence
from edgefel.evaluation.groups import GROUP, LEAST_IMAGES, Attribute, value_accuracies
from edgefel.evaluation.metrics import FloatArray, Metrics, ReliabilityBin, draw_stratified
from edgefel.evaluation.selection import Shown
from edgefel.report.figures import LIGHT, new_figure
from edgefel.text import counted

# t-SNE of more takes minutes and shows no more
MOST_MAPPED = 3000
# below it there are no neighbourhoods to keep
LEAST_MAPPED = 10
WITHOUT_HEAD, WITH_HEAD = LIGHT["without-head"], LIGHT["with-head"]
# on a colour map, which is the same in light and dark
BLACK, WHITE = "#010101", "#fefefe"
_COLUMNS = 3
_THUMBNAIL = 160  # px
_RIGHT, _WRONG = LIGHT["right"], LIGHT["wrong"]
# more values than colours that can be told apart
_MOST_COLOURS = 8
# Okabe & Ito's colours, told apart by the colour-blind, and two greys
_HUES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a800")
_COLOURS = (*_HUES, LIGHT["soft"], "#999999")
# values in a panel: with more, the least and the most accurate ones
_MOST_VALUES = 12


def _heading(evaluation: Evaluation) -> str:
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
    """Counts in the cells, colour by share of the row; with and without the head."""
    panels = _panels(evaluation)
    side = 1.6 + 0.62 * len(evaluation.labels)
    figure = new_figure(side * len(panels) + 0.8, side + 0.6)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, metrics, _) in zip(axes, panels, strict=True):
        image = confusion_panel(axis, title, metrics, evaluation.labels)
    axes[0].set_ylabel("true")
    figure.colorbar(image, ax=list(axes), shrink=0.8, label="share of the true class")
    figure.suptitle(_heading(evaluation))
    return figure


def confusion_panel(axis: Any, title: str, metrics: Metrics, labels: tuple[str, ...]) -> Any:
    """One matrix; returns the mappable of its colours."""
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
    """Accuracy of the images that keep a label against their share, and both against the
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
    shares = zip(*(threshold.class_coverage for threshold in coverage.thresholds), strict=True)
    for name, kept in zip(evaluation.labels, shares, strict=True):
        if kept[0] is not None:
            right.plot(steps, kept, linewidth=1.2, label=name)
    overall = [threshold.coverage for threshold in coverage.thresholds]
    right.plot(steps, overall, color="black", linewidth=2, label="all")
    right.set(xlabel="--min-confidence", ylabel="share with a label", xlim=(0, 1), ylim=(0, 1.02))
    right.set_title("coverage of each class", fontsize=10)
    right.legend(fontsize=8)
    right.grid(alpha=0.3)
    figure.suptitle(_heading(evaluation))
    return figure


def reliability_figure(evaluation: Evaluation) -> Any:
    """Accuracy against confidence in the bins of the ECE, and below how many images each holds;
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
    figure.suptitle(_heading(evaluation))
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
    bars = axis.bar(lows, heights, bins[0].high, align="edge", color=LIGHT["c7"], edgecolor="white")
    axis.bar_label(bars, [str(count or "") for count in heights], fontsize=7)
    axis.set(ylim=(0, max(heights) * 1.2), xlabel="confidence (top probability)")
    axis.spines[["top", "right"]].set_visible(False)


def distributions_figure(evaluation: Evaluation, evidence: Evidence, shown: Sequence[Shown]) -> Any:
    """For each chosen image, the face and its class probabilities, before and after the head."""
    rows = -(-len(shown) // _COLUMNS)
    columns = min(_COLUMNS, len(shown))
    figure = new_figure(4.6 * columns, (0.75 + 0.19 * len(evaluation.labels)) * rows + 0.9)
    cells = np.array(figure.subfigures(rows, columns, squeeze=False, wspace=0.02, hspace=0.02)).ravel()
    for cell, one in zip(cells, shown, strict=False):
        _sample(cell, evaluation, evidence, one)
    from matplotlib.patches import Patch

    bars = {"with head": WITH_HEAD, "without head": WITHOUT_HEAD}
    if evaluation.with_head is None:
        bars = {"no reliability head": WITH_HEAD}
    handles = [Patch(color=colour, label=name) for name, colour in bars.items()]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles), fontsize=9, frameon=False)
    figure.suptitle(f"{_heading(evaluation)}: {len(shown)} of them", x=0.01, ha="left", fontsize=11)
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
    """t-SNE of the embedding, coloured by true class, and by attribute or correctness; None for
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
    figure.suptitle(f"{_heading(evaluation)} (shown: {part}); t-SNE with seed 0\n{judged}", fontsize=11)
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


def map_features(features: FloatArray, seed: int = 0) -> NDArray[np.float32]:
    """t-SNE of `features` [N, D] into the plane [N, 2], N at least LEAST_MAPPED, started from the principal axes.

    van der Maaten & Hinton 2008. Distances between groups on the map mean nothing; neighbourhoods do.
    """
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(features) - 1) / 3)
    mapper: Any = TSNE(n_components=2, perplexity=perplexity, init="pca", random_state=seed)
    return np.asarray(mapper.fit_transform(features), np.float32)


def groups_figure(evaluation: Evaluation, evidence: Evidence) -> Any | None:
    """For each attribute, accuracy by value with 95 % intervals and recall by class, or, with too
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
            few = f"fewer than two values of {attribute.name!r} have {LEAST_IMAGES} images:"
            style = {"va": "center", "fontsize": 9, "color": LIGHT["soft"], "transform": right.transAxes}
            right.text(0.02, 0.5, f"{few}\nsingle values are not compared", **style)
        else:
            _accuracies(left, evaluation, attribute)
            _recalls(right, evaluation, attribute)
    figure.suptitle(f"{_heading(evaluation)}: accuracy and recall per group")
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
    half = _MOST_VALUES // 2
    return ordered if len(ordered) <= _MOST_VALUES else ordered[:half] + ordered[-half:]


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
