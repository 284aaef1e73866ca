"""`edgefel evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgefel.cli import params
from edgefel.cli.console import table_console
from edgefel.cli.optional import require

if TYPE_CHECKING:
    from edgefel.evaluation.evaluate import Evaluation


@click.command("evaluate")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "--split",
    type=click.Choice(("train", "val", "test", "all")),
    default="test",
    show_default=True,
    help="Which part of the data.",
)
@click.option(
    "--coverage",
    is_flag=True,
    help="Also print what abstaining below a confidence brings: to choose edgefel run's --min-confidence.",
)
@params.output("New folder for evaluation.json, confusion.png and coverage.png.", required=False)
@params.json_output
@click.option("--workers", type=click.IntRange(min=0), default=2, show_default=True, help="Reading threads.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, ...")
def command(
    checkpoint: Path,
    data: Path,
    split: str,
    coverage: bool,
    output: Path | None,
    as_json: bool,
    workers: int,
    device: str,
) -> None:
    """Accuracy, macro F1, per-class recall and calibration of a checkpoint.

    CHECKPOINT is a checkpoint folder or a run of edgefel train (its best checkpoint is taken). Every number
    is given with and without the reliability head. Unreadable pictures are skipped, counted and named.

    \b
    Examples:
      edgefel evaluate runs/nano faces
      edgefel evaluate runs/nano faces --split val -o report
      edgefel evaluate runs/nano faces --coverage -o report    and look at report/coverage.png
      edgefel evaluate runs/nano/checkpoints/step-000120 faces --json
    """
    for module in ("torch", "sklearn", "safetensors"):
        require(module, "train", "edgefel evaluate")
    if output:
        require("matplotlib", "train", "edgefel evaluate -o")
    from edgefel.evaluation.run import evaluate_with_progress

    evaluation = evaluate_with_progress(
        checkpoint, data, None if split == "all" else split, output, workers=workers, device=device
    )
    if as_json:
        click.echo(json.dumps(evaluation.to_dict(), indent=2, allow_nan=False))
        return
    _print(evaluation, coverage)


def _print(evaluation: Evaluation, coverage: bool) -> None:
    from edgefel.evaluation.run import coverage_table, notes, table

    table_console().print(table(evaluation))
    if coverage:
        table_console().print(coverage_table(evaluation))
    for line in notes(evaluation):
        click.echo(line)
