"""`edgefel bench kernels`: the fused kernels against other implementations."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from edgefel.cli import params
from edgefel.cli.console import Bars, print_json, print_table
from edgefel.cli.lazy import require
from edgefel.cli.param_types import POSITIVE
from edgefel.errors import EdgefelError


@click.command("kernels")
@params.output(
    "Folder for rows (kernels.json) and a plot (kernels.png); nothing is written without it.", required=False
)
@params.batch_sizes("Images per call.", default="1,8,64,256")
@click.option(
    "--dtype",
    "dtypes",
    type=click.Choice(["fp16", "bf16", "fp32"]),
    multiple=True,
    default=("fp16", "bf16", "fp32"),
    help="May be given several times.",
)
@click.option("--runs", type=POSITIVE, default=50, help="Timed runs of each implementation.")
@params.json_output
def command(
    output: Path | None, batches: tuple[int, ...], dtypes: tuple[str, ...], runs: int, as_json: bool
) -> None:
    """The fused kernels against plain PyTorch, torch.compile, SDPA with each backend and FlexAttention.

    Covers the three levels of the full-size model and APViT's poolings, forward and forward+backward, and the head's
    arithmetic. Outputs are checked against float64 before anything is timed; all implementations take turns in one
    run; shares of the roofline refer to ceilings measured in that run. Without a GPU nothing is timed, and the command
    prints the resources of the compiled kernels for each target.

    \b
    Examples:
      edgefel bench kernels -o results
      edgefel bench kernels --batch-sizes 1,64 --dtype fp16 --json
    """
    require("train", "edgefel bench kernels", "torch")
    require("kernels", "edgefel bench kernels", "triton")
    import torch

    from edgefel.bench.kernels.plot import save_plot
    from edgefel.bench.kernels.suite import compile_kernels, measure_kernels
    from edgefel.cli.kernels import print_resources
    from edgefel.files.write import write_json

    if output is not None and output.exists() and not output.is_dir():
        raise EdgefelError(f"{output}: exists and is not a folder; choose another output folder")
    with Bars() as bars:
        if torch.cuda.is_available():
            document = measure_kernels(batches, dtypes, runs, bars)
        else:
            document = compile_kernels(bars.follower("no GPU: compiling"))
    if document["measured"]:
        plain = document | {"rows": [asdict(row) for row in document["rows"]]}
    else:
        plain = document | {"compiled": [kernel.describe() for kernel in document["compiled"]]}
    if output is not None:
        write_json(output / "kernels.json", plain)
        if document["measured"]:
            save_plot(document["rows"], output / "kernels.png", document["device"])
    if as_json:
        print_json(plain)
    elif document["measured"]:
        _print(document)
    else:
        click.echo("No CUDA device: nothing was timed. Resources of the compiled kernels:")
        print_resources(document["compiled"])


def _print(document: dict[str, Any]) -> None:
    numbers = {
        "ms p50": ("ms_p50", ".4f"),
        "p90": ("ms_p90", ".4f"),
        "GB/s": ("gb_per_s", ".0f"),
        "TFLOP/s": ("tflop_per_s", ".1f"),
        "roofline": ("roofline", ".0%"),
        "extra MB": ("extra_mb", ".1f"),
    }
    cells = []
    for row in document["rows"]:
        values = ((getattr(row, name), form) for name, form in numbers.values())
        named = (row.op, row.problem, str(row.batch), row.dtype, row.mode, row.implementation)
        cells.append(
            (*named, *("" if value is None else format(value, form) for value, form in values), row.note)
        )
    names = ("op", "problem", "batch", "type", "mode", "implementation")
    print_table((*names, *(f">{name}" for name in numbers), "note"), cells)
    for row in document["summary"]:
        click.echo(
            f"{row['op']} {row['dtype']} {row['mode']}: {row['geometric_mean']:.2f} times the fastest other "
            f"(geometric mean of {row['problems']}), {row['least']:.2f} at least"
        )
