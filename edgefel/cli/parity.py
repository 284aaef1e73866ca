"""`edgefel parity`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefel.cli import params
from edgefel.cli.console import Bars, print_json, print_table, warn, warn_unreadable
from edgefel.cli.lazy import require
from edgefel.cli.param_types import PATH, POSITIVE
from edgefel.text import counted

if TYPE_CHECKING:
    from edgefel.export.parity.check import BundleCheck
    from edgefel.export.parity.compare import Parity
    from edgefel.export.parity.label_metrics import ClassParity

REFUSED = 3  # exit code: a limit is exceeded


@click.command("parity")
@params.bundle
@params.data("Labelled images to compare on.", required=True)
@params.split("val", "test", "all", default="test", help="Part of the data; all is val and test.")
@click.option("--checkpoint", type=PATH, help="Checkpoint the bundle was exported from, if it was moved.")
@params.precisions(help="Files to compare, such as fp16,int8.  [default: all]")
@params.layout
@params.limits
@click.option(
    "--images", type=POSITIVE, default=2000, help="Maximum number of images, drawn evenly from the classes."
)
@params.threads
@params.seed
@params.output("New folder for parity.json and recall.png.", required=False)
@params.json_output
@click.pass_context
def command(
    ctx: click.Context,
    /,
    bundle: Path,
    data: Path,
    limits: Path | None,
    output: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Compare a bundle's files with PyTorch on labelled images.

    BUNDLE is a bundle of `edgefel export`. Every ONNX file is compared with the checkpoint it came from, on images
    that neither training nor calibration used, and marked in the manifest: pass, warn or fail. The runtime refuses a
    file that failed. Exit code 0: all pass or warn; 2: bad input; 3: a file failed.

    \b
    Examples:
      edgefel parity bundle --data faces
      edgefel parity bundle --data faces --precision int8 --limits limits.yaml
      edgefel parity bundle --data AffectNet --layout affectnet-7 --split val
      edgefel parity bundle --data faces --split val --checkpoint runs/nano -o report
    """
    require("export", "edgefel parity", "torch", "safetensors", "sklearn")
    if output is not None:
        require("export", "edgefel parity -o", "matplotlib")
    from edgefel.export.parity.check import check_bundle
    from edgefel.export.parity.limits import load_limits
    from edgefel.files.write import check_free

    if output is not None:
        check_free(output)
    chosen = load_limits(limits)
    with Bars() as progress:
        check = check_bundle(bundle, data, limits=chosen, progress=progress, **options)
    if output is not None:
        _write_report(output, check)
    _show(check, as_json)
    if check.refused:
        ctx.exit(REFUSED)


def _write_report(folder: Path, check: BundleCheck) -> None:
    """Writes both files or nothing."""
    from edgefel.export.parity.check import recall_figure
    from edgefel.files.write import atomic_folder, write_json

    with atomic_folder(folder) as temporary:
        write_json(temporary / "parity.json", check.to_dict())
        recall_figure(check).savefig(temporary / "recall.png", dpi=120)


def _show(check: BundleCheck, as_json: bool) -> None:
    warn(*check.warnings)
    warn_unreadable(check.skipped)
    if as_json:
        print_json(check.to_dict())
        return
    numbers = (">largest dev.", ">SQNR dB", ">agreement", ">KL mean", ">accuracy", ">macro F1", ">ECE")
    print_table(
        ("file", *numbers, "verdict"),
        [(name, *_numbers(parity), parity.verdict) for name, parity in check.files.items()],
        f"{check.bundle}: {counted(check.images, 'image')} of {check.data} ({check.split})",
    )
    _show_classes(check)
    for name, parity in check.files.items():
        for reason in parity.reasons:
            click.echo(f"{name}: {parity.verdict}: {reason}")
    if check.votes is not None:
        click.echo(f"labels: votes of {check.votes.file}")
    left = check.left_out
    click.echo(
        f"left out: {counted(left['train'], 'image')} of the split train, {left['calibration']} that calibration used",
        err=True,
    )


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


def _show_classes(check: BundleCheck) -> None:
    judged = {
        check.precisions[name]: {row.label: row for row in parity.labels.classes}
        for name, parity in check.files.items()
        if parity.labels is not None
    }
    rows = []
    for label in check.labels if judged else ():
        classes = [by_label[label] for by_label in judged.values()]
        recall = classes[0].recall_reference
        known = "-" if recall is None else f"{recall:.1%}"
        rows.append((label, str(classes[0].images), known, *map(_change_cell, classes)))
    columns = ("class", ">images", ">PyTorch", *(f">{name}" for name in judged))
    print_table(columns, rows, "recall of PyTorch, and its change in points with 95 % interval")


def _change_cell(row: ClassParity) -> str:
    if row.change is None or row.interval is None:
        return "-"
    return f"{row.change:+.1f} [{row.interval[0]:+.1f}, {row.interval[1]:+.1f}]"
