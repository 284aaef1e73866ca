"""`edgefel bench train`: images per second and memory of training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefel.cli import params
from edgefel.cli.bench import options
from edgefel.cli.bench.options import number
from edgefel.cli.console import Bars, print_table
from edgefel.cli.lazy import require
from edgefel.cli.param_types import name_list

if TYPE_CHECKING:
    from edgefel.bench.results import Row


@click.command("train")
@click.option("--model", default="arbex", help="A registered model; `edgefel models` lists them.")
@params.batch_sizes("Images per step: 8,32.", default="8")
@params.precisions(
    ("fp32", "bf16", "fp16"), default="fp32", help="Precision of the arithmetic: fp32,bf16. Weights are FP32."
)
@click.option(
    "--attention",
    "attentions",
    type=name_list(("auto", "reference", "triton")),
    help="Plain PyTorch and the fused kernels.  [default: both on a GPU, reference on a CPU]",
)
@click.option(
    "--accelerator",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    help="Hardware to train on.",
)
@params.threads
@params.data("A data set: also time the path from its files.")
@options.timing
@options.memory
@options.rows
@params.json_output
def command(output: Path | None, as_json: bool, **chosen: Any) -> None:
    """Images per second and memory of the training step: augmentation, forward, losses, backward, Adam.

    Runs on synthetic images in memory. Precisions and attentions of one batch take turns in one run, after the losses
    of their first steps were compared.

    \b
    Examples:
      edgefel bench train --model arbex-nano --quick
      edgefel bench train --batch-sizes 8,32 --precision fp32,bf16 -o results.jsonl
      edgefel bench train --attention reference,triton --json
    """
    require("train", "edgefel bench train", "torch")
    from edgefel.bench.training import TrainingOptions, bench_training

    with Bars(waiting="preparing") as bars:
        rows = bench_training(TrainingOptions(**chosen), bars.share)
    options.finish(rows, output, as_json, _show)


def _show(rows: Sequence[Row]) -> None:
    cells = []
    for row in rows:
        metrics = row.metrics
        ratio = metrics.get("ratio")
        cells.append(
            (
                *options.subject(row, "precision", "attention", "accelerator", "batch", "threads"),
                number(metrics["images_per_s"]),
                options.interval(metrics["latency_ms"]),
                options.times(ratio),
                ratio["to"] if ratio else "-",
                number(metrics.get("peak_memory_mb")),
                number(metrics.get("images_per_s_from_files")),
            )
        )
    left = ("precision", "attention", "on", ">batch", ">threads", ">images/s", ">ms (95 % interval)")
    title = f"{rows[0].subject['model']}: one training step (~: not stable)"
    print_table((*left, ">times as fast", ">as", ">MB peak", ">images/s from files"), cells, title)
