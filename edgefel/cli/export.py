"""`edgefel export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefel.cli import params
from edgefel.cli.console import table_console
from edgefel.cli.optional import require

if TYPE_CHECKING:
    from edgefel.export.bundle import ExportReport


@click.command("export")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@params.output("Folder for the bundle; must not exist or be empty.")
@click.option("--fp32", is_flag=True, help="Write an FP32 ONNX file (the default without a precision).")
@click.option("--fp16", is_flag=True, help="Write an FP16 ONNX file.")
@click.option("--int8", is_flag=True, help="Write an INT8 ONNX file, calibrated on --data.")
@click.option("--engine", is_flag=True, help="Build a TensorRT engine of each precision.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Labelled images for calibration and comparison; synthetic faces without it.",
)
@click.option(
    "--per-class",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Calibration images of every class.",
)
@params.group_cap
@click.option(
    "--calibration-set",
    type=click.Path(path_type=Path),
    help="File of `edgefel calibrate`: the pictures to calibrate on, instead of drawing them from --data.",
)
@click.option(
    "--calibration",
    "method",
    type=click.Choice(["minmax", "percentile", "mse"]),
    default="mse",
    show_default=True,
    help="How activation ranges are chosen.",
)
@click.option(
    "--input-size",
    type=click.Choice(["224", "112"]),
    help="112 moves a 224 model's own resample into preprocessing; results stay the same.",
)
@click.option("--opset", type=click.IntRange(19, 20), default=20, show_default=True, help="ONNX opset.")
@click.option(
    "--max-batch",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Largest batch of an engine.",
)
@params.seed
@params.json_output
@click.option("--force", is_flag=True, help="Replace the bundle that is in the output folder.")
def command(
    checkpoint: Path,
    output: Path,
    fp32: bool,
    fp16: bool,
    int8: bool,
    engine: bool,
    data: Path | None,
    per_class: int,
    group_cap: int,
    calibration_set: Path | None,
    method: str,
    input_size: str | None,
    opset: int,
    max_batch: int,
    seed: int,
    as_json: bool,
    force: bool,
) -> None:
    """Export a checkpoint to ONNX files and TensorRT engines.

    CHECKPOINT is a checkpoint folder, or a run folder of `edgefel train` (its best checkpoint). Every ONNX
    file is compared with PyTorch before the bundle appears under its name.

    \b
    Examples:
      edgefel export runs/nano -o bundle
      edgefel export runs/nano -o bundle --fp32 --fp16 --int8 --data faces
      edgefel export runs/arbex -o bundle --fp16 --int8 --engine --data faces --input-size 112
      edgefel export runs/arbex -o bundle --int8 --calibration-set calibration.json
    """
    for module in ("torch", "onnx", "onnxscript", "onnxsim"):
        require(module, "export", "edgefel export")
    from edgefel.cli.export_progress import RichProgress
    from edgefel.export.bundle import export_bundle
    from edgefel.export.options import ExportOptions
    from edgefel.export.tensorrt_engine import EngineOptions

    chosen = tuple(name for name, wanted in (("fp32", fp32), ("fp16", fp16), ("int8", int8)) if wanted)
    options = ExportOptions(
        precisions=chosen or ("fp32",),
        engine=engine,
        input_size=None if input_size is None else int(input_size),
        opset=opset,
        per_class=per_class,
        group_cap=group_cap,
        calibration_set=None if calibration_set is None else str(calibration_set),
        method=method,  # type: ignore[arg-type]  # click has checked it
        seed=seed,
        engine_options=EngineOptions(max_batch=max_batch),
    )
    with RichProgress() as progress:
        report = export_bundle(checkpoint, output, options, data=data, replace=force, progress=progress)
    _show(report, output, as_json)


def _show(report: ExportReport, output: Path, as_json: bool) -> None:
    from edgefel.export.bundle import summarize

    rows = summarize(report)
    for warning in report.warnings:
        click.echo(f"warning: {warning}", err=True)
    if as_json:
        document = {"bundle": str(output), "files": rows, "warnings": list(report.warnings)}
        click.echo(json.dumps(document, indent=2, allow_nan=False))
        return
    from rich.table import Table

    table = Table(title=f"{output}: {report.manifest.model.name}")
    table.add_column("file", no_wrap=True)
    table.add_column("precision", no_wrap=True)
    for name in ("MB", "largest deviation", "SQNR dB", "agreement"):
        table.add_column(name, justify="right")
    table.add_column("check")
    for row in rows:
        table.add_row(*_cells(row))
    table_console().print(table)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    compared = row["status"] is not None
    return (
        row["file"],
        row["precision"],
        f"{row['megabytes']:.1f}",
        f"{row['max_deviation']:.1e}" if compared else "-",
        f"{row['logits_sqnr_db']:.1f}" if compared else "-",
        f"{row['top1_agreement']:.1%}" if compared else "-",
        row["status"] or "built, not run",
    )
