"""`edgefel data inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgefel.cli import params
from edgefel.cli.console import Bars, print_json, say_lost, table_console
from edgefel.cli.lazy import require
from edgefel.errors import EdgefelError
from edgefel.text import counted

if TYPE_CHECKING:
    from edgefel.data.inspection.inspect import Inspection

PROBLEMS = 3  # exit code of --strict
FILES = ("report.json", "balance.png", "contact_sheet.png", "pairs.png")


@click.command("inspect")
@params.data_argument
@params.layout
@params.output("New folder for report.json and images of the findings.", required=False)
@params.overwrite("Replace the folder of --output.")
@click.option(
    "--distance",
    type=click.IntRange(0, 10),
    default=4,  # edgefel.data.inspection.duplicates.DISTANCE, which imports OpenCV
    help="Maximum number of bits (of 64) in which the hashes of near-duplicate images differ.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=1000,
    help="Maximum number of findings of each kind to list in the report; all are counted.",
)
@params.detector_model
@params.cluster
@click.option(
    "--strict",
    is_flag=True,
    help="Exit code 3 for leakage across splits, contradicting labels or unreadable files.",
)
@params.json_output
@click.pass_context
def command(
    ctx: click.Context,
    data: Path,
    layout: str | None,
    output: Path | None,
    overwrite: bool,
    distance: int,
    limit: int,
    detector_model: Path | None,
    workers: int | None,
    cluster: str | None,
    strict: bool,
    as_json: bool,
) -> None:
    """Find problems of a data set before training on it.

    Opens every image. Counts classes, splits and groups; finds unreadable and truncated files, faces smaller than the
    models' input, copies, near-duplicates, and people in more than one split; measures on up to 256 images where the
    eyes lie, by OpenCV's cascades, or by YuNet with --detector-model. Exit code 0; 2: bad input; with
    --strict 3: leakage across splits, contradicting labels or unreadable files.

    \b
    Examples:
      edgefel data inspect faces
      edgefel data inspect faces -o report
      edgefel data inspect faces --strict --json      in a script
      edgefel data inspect faces --cluster auto       on the machines of a Ray cluster
      edgefel data inspect s3://bucket/faces.parquet
    """
    if output is None:
        params.refuse_alone("overwrite", "output")
    else:
        require("train", "edgefel data inspect -o", "matplotlib")
    from edgefel.data.inspection.inspect import InspectionOptions, inspect_dataset
    from edgefel.data.open import by_other_votes, open_dataset
    from edgefel.files.write import check_free
    from edgefel.runtime.faces import crop_detector
    from edgefel.tasks.choose import open_runner

    find = crop_detector(detector_model)
    if output is not None:
        check_free(output, replace=overwrite)
        _check_replaced(output)
    dataset = open_dataset(data, layout=layout)
    other = by_other_votes(dataset)
    options = InspectionOptions(distance, limit)
    others = [other] if other else []
    with open_runner(cluster, workers) as runner, Bars(transient=as_json) as bars:
        advance = bars.counter("images", len(dataset))
        inspection = inspect_dataset(dataset, options, advance, others=others, find=find, runner=runner)
    say_lost(runner)
    if output is not None:
        _write(output, inspection, overwrite)
    if as_json:
        print_json(inspection.to_dict())
    else:
        _show(inspection, output)
    if strict and inspection.problems:
        ctx.exit(PROBLEMS)


def _check_replaced(output: Path) -> None:
    """Refuses to replace a folder that holds anything but the report of an earlier run."""
    strange = {path.name for path in output.iterdir()} - set(FILES) if output.is_dir() else set()
    if strange:
        raise EdgefelError(
            f"{output}: --overwrite replaces reports, and this folder holds {min(strange)}; choose another folder"
        )


def _write(folder: Path, inspection: Inspection, overwrite: bool) -> None:
    """Writes all files or nothing."""
    from edgefel.data.images import write_image
    from edgefel.data.inspection.contact_sheet import dataset_sheet
    from edgefel.data.inspection.report import balance_figure, pairs_sheet
    from edgefel.files.write import atomic_folder, write_json

    with atomic_folder(folder, replace=overwrite) as temporary:
        _check_replaced(folder)  # again: files added since the start are not replaced
        write_json(temporary / "report.json", inspection.to_dict())
        balance_figure(inspection).savefig(temporary / "balance.png", dpi=120)
        sheets = {"pairs.png": pairs_sheet(inspection)}
        if inspection.sizes is not None:  # some image is readable
            sheets["contact_sheet.png"] = dataset_sheet(inspection.dataset)
        for name, sheet in sheets.items():
            if sheet is not None:
                write_image(temporary / name, sheet)


def _show(inspection: Inspection, output: Path | None) -> None:
    from edgefel.cli.tables import make_table
    from edgefel.data.inspection.report import facts, findings

    counts, total = inspection.counts, max(len(inspection.dataset), 1)
    numbers = [f">{name}" for name in (*inspection.splits, "all", "share")]
    rows = [
        (name, *map(str, row), str(sum(row)), f"{sum(row) / total:.1%}")
        for name, row in zip(inspection.classes, counts.tolist(), strict=True)
    ]
    title = f"{inspection.dataset.root}: {counted(len(inspection.dataset), 'image')}"
    table = make_table(("class", *numbers), rows, title)
    table.add_section()
    table.add_row("all", *map(str, counts.sum(0)), str(counts.sum()), "")
    table_console().print(table)
    for line in (*facts(inspection), *findings(inspection)):
        click.echo(line)
    for problem in inspection.problems:
        click.echo(f"problem: {problem}")
    if not inspection.problems:
        click.echo("no leakage across splits, no contradicting labels, no unreadable files")
    if output is not None:
        click.echo(f"report: {output / 'report.json'}")
