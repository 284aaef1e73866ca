"""`edgefel evaluate`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from edgefel.cli import params
from edgefel.cli.console import Bars, print_json, say_lost, table_console, warn
from edgefel.cli.lazy import require
from edgefel.cli.param_types import PATH, PATH_OR_ADDRESS


@click.command("evaluate")
@params.checkpoint
@params.data("Labelled images to evaluate on.", type=PATH_OR_ADDRESS, required=True)
@params.layout
@params.split("train", "val", "test", "all", default="test", help="Part of the data.")
@click.option(
    "--coverage",
    is_flag=True,
    help="Also print the accuracy when faces of low confidence are rejected: to choose edgefel run's --min-confidence.",
)
@click.option(
    "--copies/--no-copies",
    default=True,
    help="Also evaluate without the images that have a copy in another split. Opens the images of all splits once "
    "and keeps their hashes; --no-copies saves the time on a large set.",
)
@click.option(
    "--by",
    metavar="COLUMN",
    multiple=True,
    help="Compare groups by this column of the data's labels.csv or CSV manifest; repeatable.  [default: all known "
    "columns present (skin, skin_tone, glasses, age, sex, gender, ethnicity, race)]",
)
@click.option(
    "--show",
    type=PATH,
    multiple=True,
    help="Draw the distribution of this image of the data; repeatable.  [default: the most informative images]",
)
@click.option("--grid", type=click.IntRange(1, 60), default=12, help="Number of images to draw.")
@params.output("New folder for report.html, its figures as PNG and evaluation.json.", required=False)
@params.json_output
@click.option(
    "--workers", type=click.IntRange(min=0), default=2, help="Reading threads; unused with --cluster."
)
@params.cluster_alone
@click.option("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
def command(
    checkpoint: Path,
    data: Path,
    split: str,
    coverage: bool,
    by: tuple[str, ...],
    grid: int,
    output: Path | None,
    as_json: bool,
    cluster: str | None,
    **options: Any,
) -> None:
    """Accuracy, macro F1, recall by class and group, calibration and clustering of a checkpoint.

    CHECKPOINT is a checkpoint folder or a run of `edgefel train` (its best checkpoint). Every number is given with
    and without the reliability head, and accuracy also without the images that have a copy (an identical or
    near-identical file) in another split. Classes are matched by name; where the data and the model differ in their
    classes, the common ones are evaluated (docs/data.md). Unreadable images are skipped, counted and named. With -o,
    writes a self-contained page, report.html.

    \b
    Examples:
      edgefel evaluate runs/nano --data faces
      edgefel evaluate runs/nano --data faces --split val -o report
      edgefel evaluate runs/nano --data faces -o report --by glasses --by skin
      edgefel evaluate runs/nano --data faces -o report --show images/000007.png --show images/000031.png
      edgefel evaluate runs/nano --data faces --coverage -o report    and look at report/coverage.png
      edgefel evaluate runs/nano/checkpoints/step-000120 --data faces --json
      edgefel evaluate runs/nano --data s3://bucket/shards --cluster auto
    """
    require("train", "edgefel evaluate", "torch", "sklearn", "safetensors")
    if not output:
        for option in ("show", "grid"):
            params.refuse_alone(option, "output")
    params.refuse_both("show", "grid")
    if output:
        require("report", "edgefel evaluate -o", "jinja2", "matplotlib")
    from edgefel.evaluation.evaluate import evaluate_with_evidence
    from edgefel.evaluation.terminal import coverage_table, notes, table
    from edgefel.files.write import check_free
    from edgefel.tasks.choose import open_runner

    part = None if split == "all" else split
    if output:
        check_free(output)
    with ExitStack() as stack:
        runner = stack.enter_context(open_runner(cluster)) if cluster else None
        progress = stack.enter_context(Bars(transient=True))
        evaluation, evidence = evaluate_with_evidence(
            checkpoint, data, part, by=by or None, progress=progress, runner=runner, **options
        )
        if output:
            from edgefel.evaluation.report import write_evaluation

            write_evaluation(output, evaluation, evidence, grid=grid, progress=progress)
    if runner is not None:
        say_lost(runner)
    warn(*evaluation.class_notes)
    if as_json:
        print_json(evaluation.to_dict())
        return
    console = table_console()
    console.print(table(evaluation))
    if coverage:
        console.print(coverage_table(evaluation))
    for line in notes(evaluation):
        click.echo(line)
