"""`edgefel data inspect`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgefel.cli import params
from edgefel.cli.console import table_console
from edgefel.cli.optional import require
from edgefel.text import counted
from edgefel.workers import usable_cores

if TYPE_CHECKING:
    from rich.table import Table

    from edgefel.data.dataset import ImageDataset
    from edgefel.data.inspection.inspect import Inspection, InspectionOptions

PROBLEMS = 3  # exit code of --strict
FILES = ("report.json", "balance.png", "contact_sheet.png", "pairs.png")
_SHOWN = 5  # findings of each kind on the screen


@click.command("inspect")
@click.argument("dataset", metavar="DATA", type=click.Path(path_type=Path))
@params.layout
@params.output("New folder for report.json and images of what was found.", required=False)
@click.option("--overwrite", is_flag=True, help="Replace the folder of --output.")
@click.option(
    "--distance",
    type=click.IntRange(0, 10),
    default=4,  # edgefel.data.inspection.duplicates.DISTANCE, which imports OpenCV
    show_default=True,
    help="Bits of 64 in which the hashes of images that look alike may differ.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    help="Most findings of each kind that the report lists; all are counted.",
)
@click.option("--workers", type=click.IntRange(min=1), help="Threads.  [default: one per core]")
@click.option(
    "--strict",
    is_flag=True,
    help="Exit code 3 for leakage across splits, contradicting labels or unreadable files.",
)
@params.json_output
@click.pass_context
def command(
    ctx: click.Context,
    dataset: Path,
    layout: str | None,
    output: Path | None,
    overwrite: bool,
    distance: int,
    limit: int,
    workers: int | None,
    strict: bool,
    as_json: bool,
) -> None:
    """Look for what spoils training and its results, before training.

    Opens every image. Counts classes, splits and groups; finds files that cannot be read or are cut off, faces
    smaller than the models take, copies, images that look alike, and people in more than one split. Exit code 0;
    2: bad input; with --strict 3: leakage across splits, contradicting labels or unreadable files.

    \b
    Examples:
      edgefel data inspect faces
      edgefel data inspect faces -o report
      edgefel data inspect faces --strict --json      in a script
    """
    if output is None:
        params.refuse_alone("overwrite", "output")
    else:
        require("matplotlib", "train", "edgefel data inspect -o")
    from edgefel.data.inspection.inspect import InspectionOptions
    from edgefel.data.open import open_dataset
    from edgefel.files.write import check_free

    if output is not None:
        check_free(output, replace=overwrite)
        _check_replaced(output)
    options = InspectionOptions(distance, limit, workers or usable_cores())
    inspection = _inspect(open_dataset(dataset, layout=layout), options, as_json)
    if output is not None:
        _write(output, inspection, overwrite)
    if as_json:
        click.echo(json.dumps(inspection.to_dict(), indent=2, allow_nan=False, ensure_ascii=False))
    else:
        _show(inspection, output)
    if strict and inspection.problems:
        ctx.exit(PROBLEMS)


def _check_replaced(output: Path) -> None:
    """--overwrite means a report of an earlier run: no images, no home folder."""
    from edgefel.errors import EdgefelError

    strange = {path.name for path in output.iterdir()} - set(FILES) if output.is_dir() else set()
    if strange:
        raise EdgefelError(
            f"{output}: --overwrite replaces reports, and this folder holds {min(strange)}; choose another folder"
        )


def _inspect(dataset: ImageDataset, options: InspectionOptions, quiet: bool) -> Inspection:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from edgefel.data.inspection.inspect import inspect_dataset
    from edgefel.data.open import by_other_votes

    other = by_other_votes(dataset)
    columns = (TextColumn("images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=quiet) as bar:
        task = bar.add_task("images", total=len(dataset))
        return inspect_dataset(
            dataset, options, lambda done: bar.advance(task, done), others=[other] if other else []
        )


def _write(folder: Path, inspection: Inspection, overwrite: bool) -> None:
    """All files or nothing."""
    from edgefel.data.images import write_image
    from edgefel.data.inspection.balance_plot import balance_figure, pairs_sheet
    from edgefel.data.inspection.contact_sheet import dataset_sheet
    from edgefel.files.write import atomic_folder, write_json

    with atomic_folder(folder, replace=overwrite) as temporary:
        _check_replaced(folder)  # again: what came since the start is not replaced
        write_json(temporary / "report.json", inspection.to_dict())
        balance_figure(inspection).savefig(temporary / "balance.png", dpi=120)
        sheets = {"pairs.png": pairs_sheet(inspection)}
        if inspection.sizes is not None:  # there is no sheet of nothing
            sheets["contact_sheet.png"] = dataset_sheet(inspection.dataset)
        for name, sheet in sheets.items():
            if sheet is not None:
                write_image(temporary / name, sheet)


def _show(inspection: Inspection, output: Path | None) -> None:
    table_console().print(_counts_table(inspection))
    for line in _facts(inspection):
        click.echo(line)
    for line in _findings(inspection):
        click.echo(line)
    for problem in inspection.problems:
        click.echo(f"problem: {problem}")
    if not inspection.problems:
        click.echo("no leakage across splits, no contradicting labels, no unreadable files")
    if output is not None:
        click.echo(f"report: {output / 'report.json'}")


def _counts_table(inspection: Inspection) -> Table:
    from rich.table import Table

    table = Table(title=f"{inspection.dataset.root}: {counted(len(inspection.dataset), 'image')}")
    table.add_column("class", no_wrap=True)
    for name in (*inspection.splits, "all", "share"):
        table.add_column(name, justify="right")
    total = max(len(inspection.dataset), 1)
    for name, row in zip(inspection.classes, inspection.counts.tolist(), strict=True):
        table.add_row(name, *map(str, row), str(sum(row)), f"{sum(row) / total:.1%}")
    table.add_section()
    table.add_row("all", *map(str, inspection.counts.sum(0)), str(inspection.counts.sum()), "")
    return table


def _facts(inspection: Inspection) -> list[str]:
    groups, sizes, copies, near = inspection.groups, inspection.sizes, inspection.copies, inspection.near
    spread = f"{groups.smallest} to {counted(groups.largest, 'image')}, median {groups.median:g}"
    lines = [
        f"groups: {groups.number}, of {spread}; {groups.across_splits} in more than one split",
        f"soft labels: {'yes' if inspection.soft_labels else 'no'}; boxes: {inspection.boxes or 'no'}",
    ]
    if sizes is not None:
        smallest, median, largest = sizes.shorter
        lines.append(
            f"shorter side: {smallest} to {counted(largest, 'pixel')}, median {median:g}; "
            f"{counted(sizes.small, 'face')} smaller than 112"
        )
        bins = ", ".join(
            f"{low}{'+' if high is None else f'-{high - 1}'}: {count}"
            for low, high, count in sizes.histogram
            if count
        )
        lines.append(f"  {bins}")
    if inspection.votes is not None:
        lines.append(f"labels: votes of {inspection.votes.file}")
    lines += [
        f"  by {one.file}: {counted(sum(one.per_split.values()), 'image')} "
        f"({', '.join(f'{name} {count}' for name, count in one.per_split.items())}); contradicting: "
        f"{counted(one.copies.contradicting, 'set')} of equal files, "
        f"{counted(one.near.contradicting, 'pair')} alike to look at"
        for one in inspection.by_file
    ]
    at_least = "" if near.complete else "at least "
    return [
        *lines,
        f"grey: {inspection.grey}; of one colour: {inspection.flat}; unreadable: {len(inspection.unreadable)}",
        f"copies: {counted(copies.sets, 'file is', 'files are')} there more than once, "
        f"{copies.superfluous} superfluous; {copies.across_splits} across splits, {copies.contradicting} "
        "under different labels",
        f"look alike (up to {near.distance} of 64 bits): {at_least}{counted(near.pairs, 'pair')}; "
        f"{near.across_splits} across splits, {near.contradicting} under different labels; "
        f"{near.within_group} more inside a group and split",
    ]


def _findings(inspection: Inspection) -> list[str]:
    """The first of each kind, by name."""

    def named(index: int) -> str:
        seen = inspection.describe(index)
        return f"{seen['path']} ({seen['split']}, {seen['label']})"

    samples = inspection.dataset.samples
    kinds = (
        (
            "unreadable",
            len(inspection.unreadable),
            [f"{samples[i].path}: {reason}" for i, reason in [*inspection.unreadable.items()][:_SHOWN]],
        ),
        (
            "group in several splits",
            inspection.groups.across_splits,
            [
                f"{name}: {', '.join(f'{split} {count}' for split, count in counts.items())}"
                for name, counts in inspection.groups.listed[:_SHOWN]
            ],
        ),
        (
            "copies",
            inspection.copies.sets - inspection.copies.within_group,
            [
                " = ".join(named(index) for index in one.indices[:2]) + (", ..." if one.count > 2 else "")
                for one in inspection.copies.listed[:_SHOWN]
            ],
        ),
        (
            "look alike",
            inspection.near.pairs,
            [
                f"{named(one.indices[0])} ~ {named(one.indices[1])}, {one.distance} bits"
                for one in inspection.near.listed[:_SHOWN]
            ],
        ),
    )
    lines = []
    for kind, count, shown in kinds:
        lines += [f"{kind}: {line}" for line in shown]
        if shown and count > len(shown):
            lines.append(f"{kind}: and {count - len(shown)} more")
    return lines
