"""`edgefel export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from edgefel.cli import params
from edgefel.cli.console import table_console
from edgefel.cli.optional import require
from edgefel.cli.parity import REFUSED
from edgefel.errors import EdgefelError

if TYPE_CHECKING:
    from rich.table import Table

    from edgefel.export.options import ExportOptions
    from edgefel.export.precision.search import SearchResult
    from edgefel.export.report import ExportReport


@click.command("export")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@params.output("Folder for the bundle; must not exist or be empty.")
@click.option("--fp32", is_flag=True, help="Write an FP32 ONNX file (the default without a precision).")
@click.option("--fp16", is_flag=True, help="Write an FP16 ONNX file.")
@click.option(
    "--int8",
    is_flag=True,
    help="Write an INT8 ONNX file, calibrated on --data; with --fp16 or --engine also INT8 over FP16.",
)
@click.option(
    "--auto",
    is_flag=True,
    help="Search which layers INT8 costs too much in, and keep these in float (needs --int8 and --data).",
)
@click.option(
    "--max-drop",
    type=click.FloatRange(0, 100),
    default=0.5,
    show_default=True,
    help="Most points of macro recall that --auto may lose.",
)
@click.option(
    "--search-images",
    type=click.IntRange(min=1),
    default=512,
    show_default=True,
    help="Held-out images that --auto searches on; the comparison afterwards takes others.",
)
@click.option("--engine", is_flag=True, help="Build a TensorRT engine of each precision.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Labelled images for calibration and comparison; synthetic faces without it.",
)
@params.layout
@click.option(
    "--per-class",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Calibration images of every class.",
)
@params.group_cap
@click.option(
    "--parity-images",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    help="Held-out images of --data to compare every file on, evenly from the classes.",
)
@params.limits
@click.option(
    "--calibration-set",
    type=click.Path(path_type=Path),
    help="File of `edgefel calibrate`: the images to calibrate on, instead of drawing them from --data.",
)
@click.option(
    "--calibration",
    "method",
    type=click.Choice(["minmax", "percentile", "mse", "entropy"]),
    default="mse",
    show_default=True,
    help="How activation ranges are chosen.",
)
@click.option(
    "--input-size",
    type=click.Choice(["224", "112"]),
    help="112 moves a 224 model's own resample into preprocessing; results stay the same.",
)
@click.option(
    "--attention",
    type=click.Choice(["decomposed", "onnx-attention"]),
    default="decomposed",
    show_default=True,
    help="Attention as products and a softmax, which TensorRT fuses, or as one operator of opset 23.",
)
@click.option(
    "--uint8-input",
    is_flag=True,
    help="Files take uint8 [N, H, W, 3] and normalise themselves: a quarter of the bytes to copy.",
)
@click.option(
    "--keep-output",
    "outputs",
    multiple=True,
    type=click.Choice(["logits", "primary", "probabilities", "confidence", "embedding"]),
    help="Leave out all outputs but these; may be given several times.  [default: all]",
)
@click.option("--opset", type=click.IntRange(19, 20), default=20, show_default=True, help="ONNX opset.")
@click.option(
    "--max-batch",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Largest batch of an engine.",
)
@click.option(
    "--no-cache", is_flag=True, help="Calibrate and build anew, and keep nothing for the next time."
)
@params.seed
@params.json_output
@click.option("--force", is_flag=True, help="Replace the bundle that is in the output folder.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    checkpoint: Path,
    output: Path,
    data: Path | None,
    limits: Path | None,
    as_json: bool,
    force: bool,
    **chosen: Any,
) -> None:
    """Export a checkpoint to ONNX files and TensorRT engines.

    CHECKPOINT is a checkpoint folder, or a run folder of `edgefel train` (its best checkpoint). Every ONNX
    file is compared with PyTorch before the bundle appears under its name, and marked in the manifest: pass,
    warn or fail. The runtime refuses a file that failed. Exit code 0: all pass or warn; 2: bad input, or an
    FP32 file that deviates, and nothing is written; 3: the bundle is written and a file in it failed.

    \b
    Examples:
      edgefel export runs/nano -o bundle
      edgefel export runs/nano -o bundle --fp32 --fp16 --int8 --data faces
      edgefel export runs/arbex -o bundle --int8 --data AffectNet --layout affectnet-7
      edgefel export runs/arbex -o bundle --fp16 --int8 --engine --data faces --input-size 112
      edgefel export runs/arbex -o bundle --int8 --calibration-set calibration.json
      edgefel export runs/arbex -o bundle --int8 --fp16 --auto --max-drop 0.5 --data faces
    """
    for module in ("torch", "onnx", "onnxscript", "onnxsim"):
        require(module, "export", "edgefel export")
    from edgefel.cli.export_progress import RichProgress
    from edgefel.export.bundle import export_bundle
    from edgefel.export.parity.limits import load_limits

    params.refuse_layout_alone("data")
    _check_auto(ctx, chosen["auto"])
    options = _options(**chosen)
    judged_by = load_limits(limits)
    with RichProgress() as progress:
        report = export_bundle(
            checkpoint, output, options, data=data, limits=judged_by, replace=force, progress=progress
        )
    _show(report, output, as_json)
    if report.refused:
        ctx.exit(REFUSED)


def _check_auto(ctx: click.Context, auto: bool) -> None:
    """An option that would do nothing is a mistake of who typed it."""
    for name, flag in (("max_drop", "--max-drop"), ("search_images", "--search-images")):
        if not auto and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise EdgefelError(f"{flag} is for --auto, which is not given; add --auto or leave {flag} out")


def _options(
    fp32: bool,
    fp16: bool,
    int8: bool,
    input_size: str | None,
    calibration_set: Path | None,
    max_batch: int,
    outputs: tuple[str, ...],
    no_cache: bool,
    **same: Any,
) -> ExportOptions:
    """`same`: what the library calls as the command line does."""
    from edgefel.export.options import ExportOptions
    from edgefel.export.tensorrt.engine import EngineOptions

    precisions = tuple(name for name, wanted in (("fp32", fp32), ("fp16", fp16), ("int8", int8)) if wanted)
    if outputs:
        same["outputs"] = outputs
    return ExportOptions(
        precisions=precisions or ("fp32",),
        input_size=None if input_size is None else int(input_size),
        calibration_set=None if calibration_set is None else str(calibration_set),
        engine_options=EngineOptions(max_batch=max_batch),
        cache=not no_cache,
        **same,
    )


def _show(report: ExportReport, output: Path, as_json: bool) -> None:
    from edgefel.export.report import summarize

    rows = summarize(report)
    for warning in report.warnings:
        click.echo(f"warning: {warning}", err=True)
    for row in rows:
        if row["verdict"] == "fail":
            click.echo(f"{row['file']}: fail: {'; '.join(row['reasons'])}", err=True)
    if as_json:
        document = {
            "bundle": str(output),
            "files": rows,
            "warnings": list(report.warnings),
            "refused": report.refused,
            "search": None if report.search is None else report.search.to_dict(),
        }
        click.echo(json.dumps(document, indent=2, allow_nan=False))
        return
    from rich.table import Table

    table = Table(title=f"{output}: {report.manifest.model.name}")
    table.add_column("file", no_wrap=True)
    table.add_column("precision", no_wrap=True)
    for name in ("MB", "largest deviation", "SQNR dB", "agreement"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for row in rows:
        table.add_row(*_cells(row))
    if report.search is not None:
        table_console().print(_ranking(report.search))
        click.echo(f"all layers and mixes: {output / 'layers.json'}, image: {output / 'layers.png'}")
    table_console().print(table)


SHOWN_LAYERS = 12


def _ranking(search: SearchResult) -> Table:
    """The costliest layers, and all that stay in float."""
    from rich.table import Table

    table = Table(
        title=f"what each layer costs alone in INT8; {search.int8_share:.1%} of the multiply-accumulates are INT8"
    )
    table.add_column("layer", overflow="fold")
    for name in ("MMAC", "KL, nats", "SQNR dB", "recall lost"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("is", no_wrap=True)
    table.add_column("why", overflow="fold")
    for rank, decision in enumerate(search.decisions, start=1):
        if rank > SHOWN_LAYERS and decision.int8:
            continue
        cost = decision.cost
        table.add_row(
            cost.node,
            f"{cost.macs / 1e6:.1f}",
            f"{cost.kl:.1e}",
            f"{cost.sqnr_db:.1f}",
            "-" if cost.recall_loss is None else f"{cost.recall_loss:.1f}",
            "INT8" if decision.int8 else "float",
            decision.reason.partition("; ")[2],
        )
    return table


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    # of values that are not finite there is a verdict and nothing else
    measured = row["top1_agreement"] is not None
    return (
        row["file"],
        row["precision"],
        f"{row['megabytes']:.1f}",
        f"{row['max_deviation']:.1e}" if measured else "-",
        "-" if row["logits_sqnr_db"] is None else f"{row['logits_sqnr_db']:.1f}",
        f"{row['top1_agreement']:.1%}" if measured else "-",
        row["verdict"] or "built, not run",
    )
