"""`edgefel bench quantizers`: post-training quantizers on the same file, images and judge."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefel.cli import params
from edgefel.cli.bench import options
from edgefel.cli.console import Bars, table_console
from edgefel.cli.lazy import require
from edgefel.cli.param_types import POSITIVE, name_list
from edgefel.files.unfinished import claimed_folder
from edgefel.report.formats import MISSING

if TYPE_CHECKING:
    from edgefel.bench.results import Row

TOOLS = ("edgefel", "nncf", "onnxruntime", "modelopt")


def _show(rows: Sequence[Row]) -> None:
    from edgefel.bench.quantizers.run import standing

    def worst(row: Row) -> str:
        found = row.metrics.get("worst_class")
        return MISSING if found is None else f"{found['label']} {found['change']:+.1f}"

    def tensorrt(row: Row) -> str:
        builds = (row.metrics.get("tensorrt") or {}).get("builds")
        return MISSING if builds is None else "builds" if builds else "refused"

    cells: options.Cells = {
        ">agreement": "{agreement!c:.2f} %",
        ">SQNR dB": "{sqnr_db:.1f}",
        ">KL": "{kl_mean:.1e}",
        ">worst class": worst,
        "verdict": "{verdict:s}",
        ">MB": "{file_bytes!M:.2f}",
        **{f">x {name}": f"{{speed[{name}][value]:.2f}}" for name in ("onnxruntime", "openvino")},
        "TensorRT": tensorrt,
    }
    options.table(
        rows,
        f"{rows[0].subject['model']}: INT8 by post-training quantization",
        ("quantizer", "~settings"),
        cells,
    )
    table_console().print(standing(rows), markup=False, highlight=False)


@click.command("quantizers")
@click.argument("model", required=False)
@params.data("Labelled images to calibrate and judge on.  [default: synthetic faces]")
@params.layout
@click.option("--per-class", type=POSITIVE, default=64, help="Calibration images per class.")
@params.group_cap
@click.option("--images", type=POSITIVE, default=1000, help="Held-out images to judge the files on.")
@click.option(
    "--calibration",
    "method",
    type=click.Choice(["sqnr", "mse", "minmax", "percentile", "entropy"]),
    default="sqnr",
    help="How edgefel chooses ranges.",
)
@click.option(
    "--tool",
    "tools",
    type=name_list(TOOLS),
    help="edgefel, nncf, onnxruntime, modelopt; comma-separated.  [default: all]",
)
@click.option("--threads", type=POSITIVE, default=1, help="CPU threads of a timed call.")
@click.option("--engines/--no-engines", default=True, help="Have TensorRT build each file.")
@options.quick
@options.runs
@params.seed
@options.results(_show)
def command(
    model: str | None, quick: bool, runs: int | None, bars: Bars, layout: str | None, **chosen: Any
) -> Sequence[Row]:
    """INT8 by edgefel, NNCF, ONNX Runtime and NVIDIA ModelOpt: agreement with FP32, size, speed.

    MODEL is a bundle, a checkpoint or run folder, or a registered name (random weights); by default the network that
    comes with edgefel. All tools quantize its FP32 file, calibrated on the same images, and each file is judged as
    `edgefel parity` judges an INT8 file, by FP32. Speed is a ratio to FP32 in the same runtime, all files taking turns.
    A tool that is not installed gets a row that says how to install it.

    \b
    Examples:
      edgefel bench quantizers --data FER+ -o quantizers.jsonl
      edgefel bench quantizers runs/nano --data faces --tool edgefel,nncf
      edgefel bench quantizers arbex --data faces --per-class 16 --images 256
    """
    params.refuse_layout_alone()
    require("export", "edgefel bench quantizers", "torch", "onnx")
    from edgefel.bench.compare.contenders import prepare
    from edgefel.bench.quantizers.run import QuantizerOptions, bench_quantizers
    from edgefel.runtime.shipped import shipped_bundle

    wanted = QuantizerOptions(plan=options.make_plan(quick, runs), layout=layout, **chosen)
    with claimed_folder(Path(tempfile.gettempdir(), "edgefel-bench"), sole=False) as work:
        subject = prepare(model or str(shipped_bundle()), work, ("fp32",), progress=bars)
        return bench_quantizers(subject, wanted, bars.share)
