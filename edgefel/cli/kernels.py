"""`edgefel kernels`: the fused kernels, ahead of time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgefel.cli import params
from edgefel.cli.console import table_console
from edgefel.cli.optional import require
from edgefel.files.write import check_free
from edgefel.workers import usable_cores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgefel.kernels.ahead_of_time.compiler import CompiledKernel
    from edgefel.models.config import ModelConfig


@click.group("kernels")
def command() -> None:
    """Compile the fused kernels for a GPU that is elsewhere.

    \b
    Examples:
      edgefel kernels compile -o kernels-orin --arch sm_87
    """


@command.command("compile")
@params.output("Folder to write; must not exist or be empty.")
@click.option(
    "--model", "model", default="arbex", show_default=True, help="A model's name, or a checkpoint's folder."
)
@params.arch
@params.dtype
@params.json_output
def compile_(output: Path, model: str, archs: tuple[str, ...], dtype: str, as_json: bool) -> None:
    """Compile the inference kernels of a model, without a GPU.

    Writes for every target and kernel the cubin, the PTX and a JSON file that says how to launch it: argument
    order and types, grid rule, warps, shared memory, and what it takes of a multiprocessor. A program launches
    them through the CUDA driver, with neither torch nor Triton (edgefel.runtime.kernels does).

    \b
    Examples:
      edgefel kernels compile -o compiled --arch sm_87 --arch sm_110
      edgefel kernels compile -o compiled --model runs/mine --arch sm_87 --dtype fp32 --json
    """
    require("torch", "train", "edgefel kernels compile")
    require("triton", "kernels", "edgefel kernels compile")
    from rich.console import Console
    from rich.progress import Progress

    from edgefel.kernels.ahead_of_time.compiler import compile_all, parse_arch, write_kernels
    from edgefel.models.inference_kernels import inference_kernels

    targets = [parse_arch(arch) for arch in dict.fromkeys(archs)]
    config = _config(model)
    check_free(output)  # before minutes of compiling
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("compiling")
        kernels = compile_all(
            inference_kernels(config, dtype),
            targets,
            workers=usable_cores(),
            advance=lambda done, total: progress.update(task, completed=done, total=total),
        )
    write_kernels(kernels, output, config.name)
    if as_json:
        click.echo(json.dumps([kernel.describe() for kernel in kernels], indent=2))
    else:
        print_resources(kernels)
        click.echo(f"wrote {output}", err=True)


def print_resources(kernels: Sequence[CompiledKernel]) -> None:
    """A table of what each kernel takes."""
    from rich.table import Table

    table = Table(
        "kernel", "target", title="what compiling tells (occupancy: an estimate from published limits)"
    )
    for column in ("warps", "registers", "stack B", "spills B", "shared KiB", "blocks/SM", "occupancy"):
        table.add_column(column, justify="right")
    for kernel in kernels:
        row, resources = kernel.describe(), kernel.resources
        table.add_row(
            row["name"],
            row["arch"],
            str(row["warps"]),
            str(resources.registers),
            str(resources.stack_bytes),
            str(resources.spill_store_bytes + resources.spill_load_bytes),
            f"{resources.shared_bytes / 1024:.1f}",
            str(row["blocks_per_multiprocessor"]),
            f"{row['occupancy']:.0%}",
        )
    table_console().print(table)


def _config(model: str) -> ModelConfig:
    from edgefel.models.registry import MODELS, model_config

    if model not in MODELS and Path(model).exists():
        from edgefel.models.checkpoint import load_checkpoint

        return load_checkpoint(model).config
    return model_config(model)
