"""`edgefel export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefel.cli import params
from edgefel.cli.console import Bars, print_json, print_table, warn
from edgefel.cli.export_web import export_web, required, web_options
from edgefel.cli.lazy import require
from edgefel.cli.param_types import PATH, POSITIVE
from edgefel.cli.parity import REFUSED

if TYPE_CHECKING:
    from edgefel.export.bundle import ExportReport
    from edgefel.export.options import ExportOptions
    from edgefel.export.precision.search import SearchResult

SHOWN_LAYERS = 12


@click.command("export")
@params.checkpoint_or_none
@params.output("Folder for the bundle, or the page; must not exist or be empty.")
@click.option("--fp32", is_flag=True, help="Write an FP32 ONNX file (the default without a precision).")
@click.option("--fp16", is_flag=True, help="Write an FP16 ONNX file.")
@click.option(
    "--int8",
    is_flag=True,
    help="Write an INT8 ONNX file, calibrated on --data; with --fp16 or --engine also INT8 over FP16.",
)
@click.option(
    "--fp8",
    is_flag=True,
    help="Write an FP8 ONNX file for TensorRT on Ada, Thor and later GPUs, calibrated on --data.",
)
@click.option(
    "--weights",
    multiple=True,
    type=click.Choice(["int8", "int4"]),
    help="Write an ONNX file for TensorRT with these weights and FP16 activations; may be given twice.",
)
@click.option(
    "--auto",
    is_flag=True,
    help="Find the layers where INT8 loses too much and keep them in float (needs --int8 and --data).",
)
@params.max_drop("Maximum loss of macro recall with --auto, in points.", default=0.5)
@click.option(
    "--search-images",
    type=POSITIVE,
    default=512,
    help="Held-out images that --auto searches on; the comparison afterwards takes others.",
)
@click.option("--engine", is_flag=True, help="Build a TensorRT engine of each precision.")
@params.data("Labelled images for calibration and comparison.  [default: synthetic faces]")
@params.layout
@click.option("--per-class", type=POSITIVE, default=64, help="Calibration images per class.")
@params.group_cap
@click.option(
    "--parity-images",
    type=POSITIVE,
    default=256,
    help="Held-out images of --data to compare every file on, drawn evenly from the classes.",
)
@params.limits
@click.option(
    "--calibration-set",
    type=PATH,
    help="File of `edgefel calibrate`: the images to calibrate on, instead of drawing them from --data.",
)
@click.option(
    "--calibration",
    "method",
    type=click.Choice(["sqnr", "mse", "minmax", "percentile", "entropy"]),
    default="sqnr",
    help="How activation ranges are chosen. A checkpoint of `edgefel train --qat` has ranges, which are used unless "
    "this or --calibration-set is given.",
)
@click.option(
    "--input-size",
    type=click.Choice(["224", "112"]),
    help="112 moves a 224 model's own resampling into preprocessing; results stay the same.",
)
@click.option(
    "--attention",
    type=click.Choice(["decomposed", "onnx-attention", "plugin"]),
    default="decomposed",
    help="Attention as products and a softmax, which TensorRT fuses, as one operator of opset 23, or, with the head, "
    "as nodes that `edgefel engine --kernels` computes by our kernels.",
)
@click.option(
    "--uint8-input",
    is_flag=True,
    help="Files take uint8 [N, H, W, 3] and normalise it themselves: a quarter of the bytes to copy.",
)
@click.option(
    "--keep-output",
    "outputs",
    multiple=True,
    type=click.Choice(["logits", "primary", "probabilities", "confidence", "embedding"]),
    help="Write only this output; may be given several times.  [default: all]",
)
@click.option("--opset", type=click.IntRange(19, 20), default=20, help="ONNX opset.")
@params.max_batch(default=8)
@web_options
@params.no_cache
@params.seed
@params.json_output
@params.overwrite("Replace what is in the output folder.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    checkpoint: Path | None,
    output: Path,
    page: dict[str, Any],
    data: Path | None,
    limits: Path | None,
    as_json: bool,
    overwrite: bool,
    **chosen: Any,
) -> None:
    """Export a checkpoint to ONNX files and TensorRT engines, or a network to a page.

    CHECKPOINT is a checkpoint folder, or a run folder of `edgefel train` (its best checkpoint). Every ONNX
    file is compared with PyTorch before the bundle appears under its name, and marked in the manifest: pass,
    warn or fail. The runtime refuses a file that failed. Exit code 0: all pass or warn; 2: bad input, or an
    FP32 file that deviates, and nothing is written; 3: the bundle is written and a file in it failed.

    With --web the output is a page that labels the camera and images inside the browser, by a checkpoint, a bundle or
    the network that comes with edgefel; nothing leaves the browser.

    \b
    Examples:
      edgefel export runs/nano -o bundle
      edgefel export runs/nano -o bundle --fp32 --fp16 --int8 --data faces
      edgefel export runs/arbex -o bundle --int8 --data AffectNet --layout affectnet-7
      edgefel export runs/arbex -o bundle --fp16 --int8 --engine --data faces --input-size 112
      edgefel export runs/arbex -o bundle --int8 --calibration-set calibration.json
      edgefel export runs/arbex -o bundle --int8 --fp16 --auto --max-drop 0.5 --data faces
      edgefel export runs/arbex -o bundle --fp8 --weights int4 --data faces
      edgefel export --web -o page
      edgefel export bundle --web --int8 -o page
    """
    params.refuse_layout_alone()
    for option in ("max_drop", "search_images"):
        params.refuse_alone(option, "auto")

    def export(source: Path, bundle: Path, replace: bool) -> ExportReport:
        require("export", "edgefel export", "torch", "onnx", "onnxscript", "onnxsim")
        from edgefel.export.bundle import export_bundle
        from edgefel.export.parity.limits import load_limits

        options = _options(recalibrate=params.given("method") or params.given("calibration_set"), **chosen)
        judged_by = load_limits(limits)
        with Bars() as progress:
            report = export_bundle(
                source, bundle, options, data=data, limits=judged_by, replace=replace, progress=progress
            )
        warn(*report.warnings)
        for note in report.notes:
            click.echo(note, err=True)
        return report

    if page["web"]:
        export_web(checkpoint, output, page, export, as_json=as_json, overwrite=overwrite)
        return
    report = export(required(checkpoint), output, overwrite)
    _show(report, output, as_json)
    if report.refused:
        ctx.exit(REFUSED)


def _options(
    fp32: bool,
    fp16: bool,
    int8: bool,
    fp8: bool,
    weights: tuple[str, ...],
    input_size: str | None,
    calibration_set: Path | None,
    max_batch: int,
    outputs: tuple[str, ...],
    no_cache: bool,
    **same: Any,
) -> ExportOptions:
    """same: options that have the same name in the library."""
    from edgefel.export.options import ExportOptions
    from edgefel.export.tensorrt.engine import EngineOptions

    chosen = {"fp32": fp32, "fp16": fp16, "int8": int8, "fp8": fp8}
    chosen |= {"w8a16": "int8" in weights, "w4a16": "int4" in weights}
    precisions = tuple(name for name, wanted in chosen.items() if wanted)
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
    from edgefel.export.bundle import summarize

    rows = summarize(report)
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
        print_json(document)
        return
    if report.search is not None:
        _show_layers(report.search)
        click.echo(f"all layers and mixes: {output / 'layers.json'}, image: {output / 'layers.png'}")
    columns = ("file", "precision", ">MB", ">largest deviation", ">SQNR dB", ">agreement", "verdict")
    print_table(columns, map(_cells, rows), f"{output}: {report.manifest.model.name}")
    for row in rows:
        if row["before"] is not None:
            click.echo(f"{row['file']}, beside the network before training for INT8: {_beside(row)}")


def _beside(row: dict[str, Any]) -> str:
    before = row["before"]
    low, high = before["agreement_interval"]
    parts = [f"agrees on {before['top1_agreement']:.1%} [{low:.1%}, {high:.1%}]"]
    parts.append(f"in FP32 on {before['fp32_agreement']:.1%}")
    parts.append(f"KL {before['kl_mean']:.1e} nats")
    if before["logits_sqnr_db"] is not None:
        parts.append(f"SQNR {before['logits_sqnr_db']:.1f} dB")
    if before["accuracy"] is not None:
        parts.append(f"accuracy {row['accuracy']:.1%}, before {before['accuracy']:.1%}")
    return ", ".join(parts)


def _show_layers(search: SearchResult) -> None:
    """Prints the costliest layers, and all that stay in float."""
    rows = []
    for rank, decision in enumerate(search.decisions, start=1):
        if rank > SHOWN_LAYERS and decision.int8:
            continue
        cost = decision.cost
        rows.append(
            (
                cost.node,
                f"{cost.macs / 1e6:.1f}",
                f"{cost.kl:.1e}",
                f"{cost.sqnr_db:.1f}",
                "-" if cost.recall_loss is None else f"{cost.recall_loss:.1f}",
                "INT8" if decision.int8 else "float",
                decision.reason.partition("; ")[2],
            )
        )
    print_table(
        ("~layer", ">MMAC", ">KL, nats", ">SQNR dB", ">recall lost", "is", "~why"),
        rows,
        f"what each layer costs alone in INT8; {search.int8_share:.1%} of the multiply-accumulates are INT8",
    )


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    # values that are not finite have only a verdict
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
