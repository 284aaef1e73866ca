"""An evaluation as tables and notes for the terminal."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from edgefel.evaluation.evaluate import Evaluation
from edgefel.text import counted


def table(evaluation: Evaluation) -> Table:
    """One row per number; one column, or two where there is a reliability head."""
    columns = evaluation.columns
    result = Table("", *columns, title=f"{evaluation.model}, {counted(evaluation.images, 'image')}")
    for name, pick in (
        ("accuracy", lambda m: f"{m.accuracy:.1%}"),
        ("macro F1", lambda m: f"{m.macro_f1:.3f}"),
        ("ECE (15 bins)", lambda m: f"{m.ece:.3f}"),
    ):
        result.add_row(name, *(pick(metrics) for metrics in columns.values()))
    if (rest := evaluation.without_copies) is not None:
        left = [one for one in (rest.without_head, rest.with_head) if one is not None]
        if rest.images < evaluation.images and left:
            result.add_row(f"accuracy without copies ({rest.images})", *(f"{m.accuracy:.1%}" for m in left))
            result.add_row("macro F1 without copies", *(f"{m.macro_f1:.3f}" for m in left))
    spreads = [evaluation.probabilities.all_without_head, evaluation.probabilities.all_with_head]
    result.add_row("std of probabilities", *(f"{one.std:.4f}" for one in spreads if one is not None))
    result.add_section()
    for index, label in enumerate(evaluation.labels):
        values = [metrics.recall[index] for metrics in columns.values()]
        shown = ["-" if value is None else f"{value:.1%}" for value in values]
        result.add_row(f"recall {escape(label)} ({evaluation.counts[index]})", *shown)
    return result


def coverage_table(evaluation: Evaluation) -> Table:
    """Coverage and accuracy at each threshold of --min-confidence."""
    title = "what abstaining brings (of the smoothed confidence, in edgefel run)"
    result = Table("--min-confidence", title=title)
    for name in ("with a label", "accuracy of those", "least covered class"):
        result.add_column(name, justify="right")
    for threshold in evaluation.coverage.thresholds[::10]:
        shares = zip(threshold.class_coverage, evaluation.labels, strict=True)
        least, name = min((share, name) for share, name in shares if share is not None)
        accuracy = "-" if threshold.accuracy is None else f"{threshold.accuracy:.1%}"
        result.add_row(
            f"{threshold.min_confidence:.1f}", f"{threshold.coverage:.1%}", accuracy, f"{name} {least:.1%}"
        )
    return result


def notes(evaluation: Evaluation) -> list[str]:
    """Lines below the table."""
    lines = [f"labels: votes of {evaluation.votes.file}"] if evaluation.votes is not None else []
    lines += evaluation.copies_lines
    if (scores := evaluation.embedding_clustering) is not None:
        lines.append(f"embedding: {scores}")
    for attribute in evaluation.attributes:
        if (gap := attribute.accuracy_gap) is not None:
            lines.append(
                f"{attribute.name}: accuracy differs by up to {100 * gap.difference:.1f} points ({gap.best} over "
                f"{gap.worst}); 95 % intervals {'overlap' if gap.overlap else 'do not overlap'}"
            )
    if evaluation.with_head is None:
        lines.append(f"{evaluation.model} has no reliability head: there is one set of numbers")
    if evaluation.skipped:
        lines.append(
            f"skipped {counted(len(evaluation.skipped), 'unreadable image')}: {', '.join(evaluation.skipped)}"
        )
    return lines
