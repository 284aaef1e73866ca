"""`edgefel parity`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgefel.cli import params
from edgefel.cli.console import table_console
from edgefel.cli.optional import require
from edgefel.text import counted

if TYPE_CHECKING:
    from rich.table import Table

    from edgefel.export.parity.check import BundleCheck
    from edgefel.export.parity.compare import ClassParity, Parity

REFUSED = 3  # exit code: the gate refused a file


@click.command("parity")
@click.argument("bundle", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "--split",
    type=click.Choice(("val", "test", "all")),
    default="test",
    show_default=True,
    help="Which part of the data; all leaves the split train out.",
)
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    help="What the bundle was exported from, if it is no longer where it was.",
)
@click.option(
    "--precision",
    "precisions",
    type=click.Choice(("fp32", "fp16", "int8", "int8+fp16")),
    multiple=True,
    help="File to compare; may be given several times.  [default: all]",
)
@params.layout
@params.limits
@click.option(
    "--images",
    type=click.IntRange(min=1),
    default=2000,
    show_default=True,
    help="Most images to compare on, evenly from the classes.",
)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: all cores]")
@params.seed
@params.output("New folder for parity.json and recall.png.", required=False)
@params.json_output
@click.pass_context
def command(
    ctx: click.Context,
    bundle: Path,
    data: Path,
    split: str,
    checkpoint: Path | None,
    precisions: tuple[str, ...],
    layout: str | None,
    limits: Path | None,
    images: int,
    threads: int | None,
    seed: int,
    output: Path | None,
    as_json: bool,
) -> None:
    """Judge a bundle's files by PyTorch on labelled images.

    DIR is a bundle of `edgefel export`, DATA a labelled data set. Every ONNX file is compared with the
    checkpoint it came from, on images that neither training nor calibration saw, and marked in the manifest:
    pass, warn or fail. The runtime refuses a file that failed. Exit code 0: all pass or warn; 2: bad input;
    3: a file failed.

    \b
    Examples:
      edgefel parity bundle faces
      edgefel parity bundle faces --precision int8 --limits limits.yaml
      edgefel parity bundle AffectNet --layout affectnet-7 --split val
      edgefel parity bundle faces --split val --checkpoint runs/nano -o report
    """
    for module in ("torch", "safetensors", "sklearn"):
        require(module, "export", "edgefel parity")
    if output is not None:
        require("matplotlib", "export", "edgefel parity -o")
    from edgefel.cli.export_progress import RichProgress
    from edgefel.export.parity.check import check_bundle
    from edgefel.export.parity.limits import load_limits
    from edgefel.files.write import check_free

    if output is not None:
        check_free(output)
    chosen = load_limits(limits)
    with RichProgress() as progress:
        check = check_bundle(
            bundle,
            data,
            split=split,
            layout=layout,
            checkpoint=checkpoint,
            precisions=precisions,
            limits=chosen,
            images=images,
            seed=seed,
            threads=threads,
            progress=progress,
        )
    if output is not None:
        _write_report(output, check)
    _show(check, as_json)
    if check.refused:
        ctx.exit(REFUSED)


def _write_report(folder: Path, check: BundleCheck) -> None:
    """Both files or nothing."""
    from edgefel.export.parity.plot import recall_figure
    from edgefel.files.write import atomic_folder, write_json

    with atomic_folder(folder) as temporary:
        write_json(temporary / "parity.json", check.to_dict())
        recall_figure(check).savefig(temporary / "recall.png", dpi=120)


def _show(check: BundleCheck, as_json: bool) -> None:
    for warning in check.warnings:
        click.echo(f"warning: {warning}", err=True)
    if check.skipped:
        named = ", ".join(check.skipped[:3])
        click.echo(f"warning: {counted(len(check.skipped), 'unreadable image')} skipped: {named}", err=True)
    if as_json:
        click.echo(json.dumps(check.to_dict(), indent=2, allow_nan=False))
        return
    console = table_console()
    console.print(_files_table(check))
    console.print(_classes_table(check))
    for name, parity in check.files.items():
        for reason in parity.reasons:
            click.echo(f"{name}: {parity.verdict}: {reason}")
    if check.votes is not None:
        click.echo(f"labels: votes of {check.votes.file}")
    left = check.left_out
    click.echo(
        f"left out: {counted(left.train, 'image')} of the split train, {left.calibration} that calibration used",
        err=True,
    )


def _files_table(check: BundleCheck) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"{check.bundle}: {counted(check.images, 'image')} of {check.data} ({check.split})")
    table.add_column("file", no_wrap=True)
    for name in ("largest dev.", "SQNR dB", "agreement", "KL mean", "accuracy", "macro F1", "ECE"):
        table.add_column(name, justify="right")
    table.add_column("verdict", no_wrap=True)
    for name, parity in check.files.items():
        table.add_row(escape(name), *_numbers(parity), parity.verdict)
    return table


def _numbers(parity: Parity) -> tuple[str, ...]:
    """Cells of one file; changes of accuracy, macro F1 and ECE are against PyTorch, in points."""
    labels, interval = parity.labels, parity.agreement_interval
    if parity.top1_agreement is None or interval is None or labels is None:
        return ("-",) * 7
    return (
        f"{parity.largest_deviation:.1e}",
        "-" if parity.logits_sqnr_db is None else f"{parity.logits_sqnr_db:.1f}",
        f"{parity.top1_agreement:.1%} [{interval[0]:.1%}, {interval[1]:.1%}]",
        f"{parity.kl_mean:.1e}",
        _changed(labels.accuracy_reference, labels.accuracy),
        _changed(labels.macro_f1_reference, labels.macro_f1),
        _changed(labels.ece_reference, labels.ece),
    )


def _changed(before: float, after: float) -> str:
    return f"{100 * after:.1f} ({100 * (after - before):+.1f})"


def _classes_table(check: BundleCheck) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="recall of PyTorch, and its change in points with 95 % interval")
    table.add_column("class", no_wrap=True)
    table.add_column("images", justify="right")
    table.add_column("PyTorch", justify="right")
    columns: list[dict[str, ClassParity]] = []
    for name, parity in check.files.items():
        if parity.labels is not None:
            table.add_column(check.precisions[name], justify="right", no_wrap=True)
            columns.append({row.label: row for row in parity.labels.classes})
    for label in check.labels if columns else ():
        first = columns[0][label]
        recall = "-" if first.recall_reference is None else f"{first.recall_reference:.1%}"
        table.add_row(
            escape(label), str(first.images), recall, *(_change_cell(rows[label]) for rows in columns)
        )
    return table


def _change_cell(row: ClassParity) -> str:
    if row.change is None or row.interval is None:
        return "-"
    return f"{row.change:+.1f} [{row.interval[0]:+.1f}, {row.interval[1]:+.1f}]"
