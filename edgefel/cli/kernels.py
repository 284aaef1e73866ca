"""`edgefel kernels`: the fused kernels, ahead of time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgefel.cli import params
from edgefel.cli.console import Bars, print_json, print_table
from edgefel.cli.lazy import require
from edgefel.cli.param_types import PATH
from edgefel.errors import EdgefelError
from edgefel.files.write import check_free
from edgefel.workers import usable_cores

if TYPE_CHECKING:
    from edgefel.kernels.ahead_of_time.compiler import CompiledKernel
    from edgefel.models.config import ModelConfig
    from edgefel.runtime.onnx_functions import FusedNode


@click.group("kernels")
def command() -> None:
    """Compile the fused kernels for the GPU of another machine.

    \b
    Examples:
      edgefel kernels compile -o kernels-orin --arch sm_87
    """


@command.command("compile")
@params.output("Folder to write; must not exist or be empty.")
@click.option(
    "--model",
    default="arbex",
    shell_complete=params.models_or_files,
    help="Name of a model, or a checkpoint folder.",
)
@click.option(
    "--bundle",
    type=PATH,
    help="Bundle of `export --attention plugin`, instead of a model: also the kernels of its fused operators.",
)
@params.arch
@click.option(
    "--dtype",
    type=click.Choice(["fp16", "bf16", "fp32"]),
    default="fp16",
    help="Type of the attention and the token pooling; the head is always FP32.",
)
@params.json_output
def compile_(
    output: Path, model: str, bundle: Path | None, archs: tuple[str, ...], dtype: str, as_json: bool
) -> None:
    """Compile the inference kernels of a model, without a GPU.

    Writes for every target and kernel the cubin, the PTX and a JSON file that describes the launch: argument order
    and types, grid rule, warps, shared memory, and the use of a multiprocessor. A program launches them through the
    CUDA driver, without torch and Triton (see edgefel.runtime.kernels).

    \b
    Examples:
      edgefel kernels compile -o compiled --arch sm_87 --arch sm_110
      edgefel kernels compile -o compiled --model runs/mine --arch sm_87 --dtype fp32 --json
      edgefel kernels compile -o kernels --bundle bundle --arch sm_110
    """
    require("train", "edgefel kernels compile", "torch")
    require("kernels", "edgefel kernels compile", "triton")
    from edgefel.kernels.ahead_of_time.compiler import compile_all, parse_arch, write_kernels
    from edgefel.models.inference_kernels import bundle_kernels

    params.refuse_both("bundle", "model")
    targets = [parse_arch(arch) for arch in dict.fromkeys(archs)]
    config, nodes = (_config(model), []) if bundle is None else _of_bundle(bundle)
    check_free(output)  # before minutes of compiling
    with Bars() as bars:
        specs, advance = bundle_kernels(config, nodes, dtype), bars.follower("compiling")
        kernels = compile_all(specs, targets, workers=usable_cores(), advance=advance)
    write_kernels(kernels, output, config.name)
    if as_json:
        print_json([kernel.describe() for kernel in kernels])
    else:
        print_resources(kernels)
        click.echo(f"wrote {output}", err=True)


def print_resources(kernels: Sequence[CompiledKernel]) -> None:
    """A table of the resources of each kernel."""
    rows = []
    for kernel in kernels:
        row, resources = kernel.describe(), kernel.resources
        rows.append(
            (
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
        )
    numbers = (">warps", ">registers", ">stack B", ">spills B", ">shared KiB", ">blocks/SM", ">occupancy")
    title = "resources of the compiled kernels (occupancy: an estimate from published limits)"
    print_table(("kernel", "target", *numbers), rows, title)


def _config(model: str) -> ModelConfig:
    from edgefel.models.registry import MODELS, model_config

    if model not in MODELS and Path(model).exists():
        from edgefel.models.checkpoint import load_checkpoint

        return load_checkpoint(model).config
    return model_config(model)


def _of_bundle(bundle: Path) -> tuple[ModelConfig, list[FusedNode]]:
    from edgefel.deploy.kernel_files import bundle_nodes
    from edgefel.models.registry import model_config
    from edgefel.runtime.manifest import read_manifest

    manifest = read_manifest(bundle)
    nodes = bundle_nodes(manifest)
    if not nodes:
        raise EdgefelError(
            f"{bundle}: has no fused operators; export it with --attention plugin, or give --model"
        )
    return model_config(manifest.model.name, num_classes=manifest.model.num_classes), nodes
