"""`edgefel evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from edgefel.cli import params
from edgefel.cli.console import table_console
from edgefel.cli.optional import require
from edgefel.errors import EdgefelError

if TYPE_CHECKING:
    from edgefel.evaluation.evaluate import Evaluation


@click.command("evaluate")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path))
@params.layout
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
@click.option(
    "--copies/--no-copies",
    default=True,
    show_default=True,
    help="Also judge without the images that have a copy in another split. It opens the images of all splits once "
    "and keeps their hashes; --no-copies saves the time on a large set.",
)
@click.option(
    "--by",
    metavar="COLUMN",
    multiple=True,
    help="Compare by this column of the data's labels.csv or CSV manifest; repeatable. By default: every known one "
    "that is there (skin, skin_tone, glasses, age, sex, gender, ethnicity, race).",
)
@click.option(
    "--show",
    metavar="PATH",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Draw the distribution of this image of the data; repeatable. By default the most telling images.",
)
@click.option(
    "--grid", type=click.IntRange(1, 60), default=12, show_default=True, help="How many images to draw."
)
@params.output("New folder for report.html, its figures as PNG and evaluation.json.", required=False)
@params.json_output
@click.option("--workers", type=click.IntRange(min=0), default=2, show_default=True, help="Reading threads.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, ...")
def command(
    checkpoint: Path,
    data: Path,
    layout: str | None,
    split: str,
    coverage: bool,
    copies: bool,
    by: tuple[str, ...],
    show: tuple[Path, ...],
    grid: int,
    output: Path | None,
    as_json: bool,
    workers: int,
    device: str,
) -> None:
    """Accuracy, macro F1, recall by class and group, calibration and clustering of a checkpoint.

    CHECKPOINT is a checkpoint folder or a run of edgefel train (its best checkpoint is taken). Every number
    is given with and without the reliability head, and accuracy also without the images that have a copy (an equal
    file, or one that looks alike) in another split. Classes are matched by name; where the data has fewer or more of
    them than the model, the common ones are judged (docs/data.md). Unreadable images are skipped, counted and
    named. With -o all of it is drawn, too: open report.html, one page that needs nothing else.

    \b
    Examples:
      edgefel evaluate runs/nano faces
      edgefel evaluate runs/nano faces --split val -o report
      edgefel evaluate runs/nano faces -o report --by glasses --by skin
      edgefel evaluate runs/nano faces -o report --show images/000007.png --show images/000031.png
      edgefel evaluate runs/nano faces --coverage -o report    and look at report/coverage.png
      edgefel evaluate runs/nano/checkpoints/step-000120 faces --json
    """
    for module in ("torch", "sklearn", "safetensors"):
        require(module, "train", "edgefel evaluate")
    if not output:
        for option in ("show", "grid"):
            params.refuse_alone(option, "output")
    if show and click.get_current_context().get_parameter_source("grid") is ParameterSource.COMMANDLINE:
        raise EdgefelError("--show and --grid both choose the images to draw; give one of them")
    if output:
        require("matplotlib", "train", "edgefel evaluate -o")
    from edgefel.evaluation.run import evaluate_with_progress

    evaluation = evaluate_with_progress(
        checkpoint,
        data,
        None if split == "all" else split,
        output,
        layout=layout,
        by=by or None,
        copies=copies,
        show=show,
        grid=grid,
        workers=workers,
        device=device,
    )
    for line in evaluation.class_notes:
        click.echo(f"warning: {line}", err=True)
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
