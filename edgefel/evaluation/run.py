"""An evaluation for people: progress while it runs, a table afterwards."""

from __future__ import annotations

from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from edgefel.data.folder import open_dataset
from edgefel.errors import EdgefelError
from edgefel.evaluation.evaluate import Evaluation, check_classes, evaluate, write_evaluation
from edgefel.evaluation.metrics import Metrics
from edgefel.models.checkpoint import load_checkpoint


def evaluate_with_progress(
    checkpoint: Path,
    data: Path,
    split: str | None,
    output: Path | None = None,
    *,
    workers: int = 2,
    device: str = "cpu",
) -> Evaluation:
    """`evaluate` with a bar on stderr; writes into `output` if given. Bad input is refused at once."""
    if output and output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise EdgefelError(f"{output}: exists and is not an empty folder; choose another output folder")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise EdgefelError(f"device {device!r} is not available here ({reason}); try --device cpu") from None
    loaded, dataset = load_checkpoint(checkpoint), open_dataset(data, split)
    check_classes(loaded, dataset)
    columns = (TextColumn("evaluating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("evaluate", total=len(dataset))
        evaluation = evaluate(
            loaded, data, split, workers=workers, device=device, advance=lambda n: bar.advance(task, n)
        )
    if output:
        write_evaluation(output, evaluation)
    return evaluation


def table(evaluation: Evaluation) -> Table:
    """One row per number; one column, or two where there is a reliability head."""
    columns: list[tuple[str, Metrics]] = [("without head", evaluation.without_head)]
    if evaluation.with_head is not None:
        columns.append(("with head", evaluation.with_head))
    else:
        columns = [("value", evaluation.without_head)]
    result = Table(
        "", *(name for name, _ in columns), title=f"{evaluation.model}, {evaluation.pictures} pictures"
    )
    for name, pick in (
        ("accuracy", lambda m: f"{m.accuracy:.1%}"),
        ("macro F1", lambda m: f"{m.macro_f1:.3f}"),
        ("ECE (15 bins)", lambda m: f"{m.ece:.3f}"),
    ):
        result.add_row(name, *(pick(metrics) for _, metrics in columns))
    result.add_section()
    for index, label in enumerate(evaluation.labels):
        values = [metrics.recall[index] for _, metrics in columns]
        shown = ["-" if value is None else f"{value:.1%}" for value in values]
        result.add_row(f"recall {label} ({evaluation.counts[index]})", *shown)
    return result


def coverage_table(evaluation: Evaluation) -> Table:
    """What each threshold of --min-confidence would keep, and how accurate that is."""
    result = Table(
        "--min-confidence", title="what abstaining brings (of the smoothed confidence, in edgefel run)"
    )
    for name in ("with a label", "accuracy of those", "least covered class"):
        result.add_column(name, justify="right")
    for threshold in evaluation.coverage.thresholds[::10]:
        shares = [
            (share, name)
            for share, name in zip(threshold.class_coverage, evaluation.labels, strict=True)
            if share is not None
        ]
        least, name = min(shares)
        accuracy = "-" if threshold.accuracy is None else f"{threshold.accuracy:.1%}"
        result.add_row(
            f"{threshold.min_confidence:.1f}", f"{threshold.coverage:.1%}", accuracy, f"{name} {least:.1%}"
        )
    return result


def notes(evaluation: Evaluation) -> list[str]:
    """What the table does not say."""
    lines = []
    if evaluation.with_head is None:
        lines.append(f"{evaluation.model} has no reliability head: there is one set of numbers")
    if evaluation.skipped:
        lines.append(
            f"skipped {len(evaluation.skipped)} unreadable pictures: {', '.join(evaluation.skipped)}"
        )
    return lines
