"""`edgefel bench train`: images per second and memory of training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgefel.cli import params
from edgefel.cli.bench import options
from edgefel.cli.bench.common import BenchProgress, IntegerList, NameList
from edgefel.cli.console import table_console
from edgefel.cli.optional import require

if TYPE_CHECKING:
    from edgefel.bench.results import Row


@click.command("train")
@click.option(
    "--model", default="arbex", show_default=True, help="A registered model; edgefel models lists them."
)
@click.option(
    "--batch",
    "batches",
    type=IntegerList(),
    default="8",
    show_default=True,
    help="Images of one step: 8,32.",
)
@click.option(
    "--precision",
    "precisions",
    type=NameList(("fp32", "bf16", "fp16")),
    default="fp32",
    show_default=True,
    help="Of the arithmetic: fp32,bf16. Weights are FP32.",
)
@click.option(
    "--attention",
    "attentions",
    type=NameList(("auto", "reference", "triton")),
    help="Plain PyTorch and the fused kernels.  [default: both on a GPU, reference on a CPU]",
)
@click.option(
    "--accelerator",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="Where.",
)
@params.threads
@click.option(
    "--data", type=click.Path(path_type=Path), help="A data set: time the path from its files as well."
)
@options.quick
@options.runs
@options.seconds("10 s of each; 2 if quick")
@options.memory
@options.rows
@params.json_output
def command(
    model: str,
    batches: tuple[int, ...],
    precisions: tuple[str, ...],
    attentions: tuple[str, ...] | None,
    accelerator: str,
    threads: int | None,
    data: Path | None,
    quick: bool,
    runs: int | None,
    seconds: float | None,
    memory: bool,
    output: Path | None,
    as_json: bool,
) -> None:
    """Images per second and memory of the training step: augmentation, forward, losses, backward, Adam.

    On synthetic images that are in memory. Precisions and attentions of one batch take turns in one run, after the
    losses of their first steps were compared.

    \b
    Examples:
      edgefel bench train --model arbex-nano --quick
      edgefel bench train --batch 8,32 --precision fp32,bf16 -o results.jsonl
      edgefel bench train --attention reference,triton --json
    """
    require("torch", "train", "edgefel bench train")
    from edgefel.bench.results import check_writable

    if output is not None:
        check_writable(output)
    plan = options.make_plan(quick, runs, seconds)
    from edgefel.bench.training import Options, bench_training

    wanted = Options(model, batches, precisions, attentions, accelerator, threads, plan, data, memory)
    with BenchProgress() as progress:
        rows = bench_training(wanted, progress.show)
    options.finish(rows, output, as_json, lambda: show(rows))


def show(rows: Sequence[Row]) -> None:
    """One table."""
    from rich.table import Table

    table = Table(title=f"{rows[0].subject['model']}: one training step (~: not stable)")
    for name in ("precision", "attention", "on", "batch", "threads", "images/s", "ms (95 % interval)"):
        table.add_column(name, justify="left" if name in ("precision", "attention", "on") else "right")
    for name in ("times as fast", "as", "MB peak", "images/s from files"):
        table.add_column(name, justify="right")
    for row in rows:
        metrics, subject = row.metrics, row.subject
        ratio = metrics.get("ratio")
        table.add_row(
            *(str(subject[name]) for name in ("precision", "attention", "accelerator", "batch", "threads")),
            options.number(metrics["images_per_s"]),
            options.interval(metrics["latency_ms"]),
            options.times(ratio),
            ratio["to"] if ratio else "-",
            options.number(metrics.get("peak_memory_mb")),
            options.number(metrics.get("images_per_s_from_files")),
        )
    table_console().print(table)
