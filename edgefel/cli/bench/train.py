"""`edgefel bench train`: images per second and memory of training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from edgefel.cli import params
from edgefel.cli.bench import options
from edgefel.cli.console import Bars
from edgefel.cli.lazy import require
from edgefel.cli.param_types import name_list

if TYPE_CHECKING:
    from edgefel.bench.results import Row


def _show(rows: Sequence[Row]) -> None:
    title = f"{rows[0].subject['model']}: one training step (~: not stable)"
    cells: options.Cells = {
        ">images/s": "{images_per_s}",
        ">ms (95 % interval)": options.median,
        ">times as fast": options.times,
        ">as": "{ratio[to]:s}",
        ">MB peak": "{peak_memory_mb}",
        ">images/s from files": "{images_per_s_from_files}",
    }
    options.table(rows, title, ("precision", "attention", "accelerator", ">batch", ">threads"), cells)


@click.command("train")
@click.option(
    "--model",
    default="arbex",
    shell_complete=params.models,
    help="A registered model; `edgefel models` lists them.",
)
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
@options.results(_show)
def command(bars: Bars, **chosen: Any) -> Sequence[Row]:
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

    return bench_training(TrainingOptions(**chosen), bars.share)
