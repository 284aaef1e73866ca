"""`edgefel bench kernels`: the fused kernels against other implementations, or a bound from their machine code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefel.cli import params
from edgefel.cli.bench import options
from edgefel.cli.console import Bars, print_json, print_table
from edgefel.cli.lazy import require
from edgefel.cli.param_types import INTEGERS, POSITIVE, name_list
from edgefel.errors import EdgefelError
from edgefel.workers import usable_cores

if TYPE_CHECKING:
    from edgefel.bench.kernels.run import Selection
    from edgefel.bench.results import Row

# files of the output folder
MEASURED, MODEL, COMPILED, PLOT = "kernels.jsonl", "kernel-model.jsonl", "kernels.json", "kernels.png"
_MODEL_BATCHES = (256, 1)


@click.command("kernels")
@params.output(
    "Folder: kernels.jsonl gets rows as they come, kernels.png a plot; kernel-model.jsonl the rows of --model; "
    "kernels.json what is compiled without a GPU.",
    required=False,
)
@click.option(
    "--batch",
    "--batch-sizes",
    "batches",
    type=INTEGERS,
    help="Images per call, such as 256,64,8,1.  [default: 64,1; of --model 256,1]",
)
@click.option(
    "--dtype",
    "dtypes",
    type=click.Choice(["fp16", "bf16", "fp32"]),
    multiple=True,
    default=("fp16",),
    help="May be given several times.",
)
@click.option(
    "--level",
    "levels",
    type=INTEGERS,
    help="Levels of the pyramid, such as 1,2: attention alone.  [default: every op]",
)
@click.option(
    "--impl", "names", type=name_list(), help="Implementations, such as edgefel,sdpa-cudnn.  [default: all]"
)
@click.option("--mode", "modes", type=name_list(("forward", "forward+backward")), help="[default: both]")
@click.option("--runs", type=POSITIVE, default=50, help="Timed runs of each implementation.")
@click.option("--model", is_flag=True, help="Count instructions instead of timing; no GPU is needed.")
@click.option(
    "--arch",
    "archs",
    multiple=True,
    default=("sm_87", "sm_90", "sm_110", "sm_120"),
    metavar="sm_NN",
    help="Target of --model. May be given several times.",
)
@params.json_output
def command(
    output: Path | None, model: bool, as_json: bool, runs: int, archs: tuple[str, ...], **chosen: Any
) -> None:
    """The fused kernels against plain PyTorch, torch.compile, SDPA with each backend and FlexAttention.

    Covers the three levels of the full-size model and APViT's poolings, forward and forward+backward, and the head's
    arithmetic. Outputs are checked against float64 before anything is timed; all implementations take turns in one
    run; shares of the roofline refer to ceilings measured in that run. A run that is repeated with the same folder
    goes on where it stopped. Without a GPU nothing is timed, and the command prints the resources of the compiled
    kernels for each target.

    --model compiles our kernels, counts the instructions of their machine code, and gives a lower bound on their
    time: docs/kernels-model.md.

    \b
    Examples:
      edgefel bench kernels -o results
      edgefel bench kernels --batch 64,1 --level 1 --impl edgefel,sdpa-cudnn,flex --json
      edgefel bench kernels --model --arch sm_90 --level 1
    """
    require("train", "edgefel bench kernels", "torch")
    require("kernels", "edgefel bench kernels", "triton")
    import torch

    if output is not None and output.exists() and not output.is_dir():
        raise EdgefelError(f"{output}: exists and is not a folder; choose another output folder")
    selection = _selection(**chosen)  # raises an error for what cannot be chosen
    if not model:
        if params.given("archs"):
            raise EdgefelError("--arch belongs to --model; give that too, or leave it out")
        if torch.cuda.is_available():
            _measure(selection, runs, output, as_json)
        else:
            _compile(output, as_json)
        return
    if params.given("names") or params.given("modes"):
        raise EdgefelError("--impl and --mode choose what is timed; --model counts all of our kernels")
    _model(chosen["batches"] or _MODEL_BATCHES, chosen["dtypes"], chosen["levels"], archs, output, as_json)


def _selection(**chosen: Any) -> Selection:
    from edgefel.bench.kernels.run import Selection

    return Selection(**{name: value for name, value in chosen.items() if value is not None})


def _measure(selection: Selection, runs: int, output: Path | None, as_json: bool) -> None:
    from edgefel.bench.kernels.plot import save_plot
    from edgefel.bench.kernels.run import cuda_rig, kernel_rows, measure_kernels

    with Bars() as bars:
        rig = cuda_rig(runs)
        rows = measure_kernels(selection, rig, output and output / MEASURED, bars)
    found = kernel_rows(rows)
    if output is not None and any(row.ms_p50 is not None for row in found):
        save_plot(found, output / PLOT, rig.environment["device"])
    if as_json:
        _print_lines(rows)
    else:
        _print_measured(found)


def _print_lines(rows: Sequence[Row]) -> None:
    for row in rows:
        click.echo(json.dumps(row.to_dict(), ensure_ascii=False, allow_nan=False))


def _compile(output: Path | None, as_json: bool) -> None:
    from edgefel.bench.kernels.suite import compile_kernels
    from edgefel.cli.kernels import print_resources
    from edgefel.files.write import write_json

    with Bars() as bars:
        document = compile_kernels(bars.follower("no GPU: compiling"))
    plain = document | {"compiled": [kernel.describe() for kernel in document["compiled"]]}
    if output is not None:
        write_json(output / COMPILED, plain)
    if as_json:
        print_json(plain)
    else:
        click.echo("No CUDA device: nothing was timed. Resources of the compiled kernels:")
        print_resources(document["compiled"])


def _model(
    batches: Sequence[int],
    dtypes: Sequence[str],
    levels: Sequence[int] | None,
    archs: Sequence[str],
    output: Path | None,
    as_json: bool,
) -> None:
    from edgefel.bench.kernels.model.compiled import model_rows
    from edgefel.bench.kernels.model.gpus import find_gpu
    from edgefel.bench.kernels.model.launches import our_launches
    from edgefel.bench.kernels.problems import DTYPES
    from edgefel.bench.results import append_results

    targets = [find_gpu(arch) for arch in dict.fromkeys(archs)]
    launches = {
        arch: [launch for dtype in dtypes for launch in our_launches(batches, DTYPES[dtype], arch, levels)]
        for arch in targets
    }
    with Bars() as bars:
        rows = model_rows(launches, workers=usable_cores(), advance=bars.follower("counting"))
    if output is not None:
        append_results(output / MODEL, rows)
    if as_json:
        _print_lines(rows)
    else:
        _print_model(rows)


def _print_model(rows: Sequence[Row]) -> None:
    from edgefel.bench.kernels.model.pipes import PIPES

    named: options.Cells = {
        "kernel": lambda row: f"{row.subject['op']} {row.subject['kernel'].removesuffix('_kernel')}",
        "problem": lambda row: row.subject["problem"],
    }
    counts: options.Cells = {
        **named,
        "unit": "{unit:s}",
        ">all": "{instructions_per_unit:.1f}",
        **{f">{name}": f"{{by_pipe[{name}]:.1f}}" for name in PIPES},
    }
    limits: options.Cells = {
        **named,
        ">batch": lambda row: str(row.subject["batch"]),
        ">regs": "{registers:d}",
        ">KiB": lambda row: f"{row.metrics['shared_bytes'] / 1024:.1f}",
        ">spills": "{spill_bytes:d}",
        ">blocks": "{blocks_per_multiprocessor:d}",
        ">L2 MB": "{l2_bytes!M:.1f}",
        ">DRAM MB": "{dram_bytes!M:.1f}",
        ">us": "{bound_us:.1f}",
        "by": "{bound_by:s}",
    }
    for target in dict.fromkeys(row.subject["target"] for row in rows):
        same = [row for row in rows if row.subject["target"] == target]
        gpu = same[0].metrics["gpu"]
        # a batch of one may leave no loop to count
        once = [row for row in same if row.subject["batch"] == same[0].subject["batch"]]
        options.table(
            once, f"{target}: instructions of the inner loop for one unit", (), counts, title_left=True
        )
        title = (
            f"{target}: lower bounds for {gpu['title']}, {gpu['multiprocessors']} multiprocessors at "
            f"{gpu['megahertz']:g} MHz"
        )
        options.table(same, title, (), limits, title_left=True)


def _print_measured(found: Sequence[Any]) -> None:
    from edgefel.bench.kernels.suite import summary

    numbers = {
        "ms p50": ("ms_p50", ".4f"),
        "p90": ("ms_p90", ".4f"),
        "GB/s": ("gb_per_s", ".0f"),
        "TFLOP/s": ("tflop_per_s", ".1f"),
        "roofline": ("roofline", ".0%"),
        "extra MB": ("extra_mb", ".1f"),
    }
    cells = []
    for row in found:
        values = ((getattr(row, name), form) for name, form in numbers.values())
        named = (row.op, row.problem, str(row.batch), row.dtype, row.mode, row.implementation)
        cells.append(
            (*named, *("" if value is None else format(value, form) for value, form in values), row.note)
        )
    names = ("op", "problem", "batch", "type", "mode", "implementation")
    print_table((*names, *(f">{name}" for name in numbers), "note"), cells)
    for row in summary(found):
        click.echo(
            f"{row['op']} {row['dtype']} {row['mode']}: {row['geometric_mean']:.2f} times the fastest other "
            f"(geometric mean of {row['problems']}), {row['least']:.2f} at least"
        )
