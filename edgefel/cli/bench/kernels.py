"""`edgefel bench kernels`: the fused kernels against everything that computes the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefel import __version__
from edgefel.cli import params
from edgefel.cli.console import table_console
from edgefel.cli.optional import require
from edgefel.errors import EdgefelError
from edgefel.workers import usable_cores

if TYPE_CHECKING:
    from edgefel.bench.kernels.suite import KernelRow


@click.command("kernels")
@params.output(
    "Folder for rows (kernels.json) and a plot (kernels.png); nothing is written without it.", required=False
)
@click.option(
    "--batch",
    "batches",
    type=click.IntRange(min=1),
    multiple=True,
    default=(1, 8, 64, 256),
    show_default=True,
    help="Images to a call. May be given several times.",
)
@click.option(
    "--dtype",
    "dtypes",
    type=click.Choice(["fp16", "bf16", "fp32"]),
    multiple=True,
    default=("fp16", "bf16", "fp32"),
    show_default=True,
    help="May be given several times.",
)
@click.option("--runs", type=click.IntRange(min=1), default=50, show_default=True, help="Timed runs of each.")
@params.json_output
def command(
    output: Path | None, batches: tuple[int, ...], dtypes: tuple[str, ...], runs: int, as_json: bool
) -> None:
    """The fused kernels against plain PyTorch, torch.compile, SDPA by each backend and FlexAttention.

    The three levels of the full-size model and APViT's poolings, forward and forward+backward, and the head's
    arithmetic. Outputs are checked against float64 before anything is timed; all implementations take turns in
    one run; shares of the roofline refer to ceilings measured in that run. Without a GPU nothing is timed, and the
    command prints what compiling the kernels tells for each target.

    \b
    Examples:
      edgefel bench kernels -o results
      edgefel bench kernels --batch 1 --batch 64 --dtype fp16 --json
    """
    require("torch", "train", "edgefel bench kernels")
    require("triton", "kernels", "edgefel bench kernels")
    import torch

    if output is not None and output.exists() and not output.is_dir():
        raise EdgefelError(f"{output}: exists and is not a folder; choose another output folder")
    document = _measure(batches, dtypes, runs) if torch.cuda.is_available() else _compile()
    if output is not None:
        _write(document, output)
    if as_json:
        click.echo(json.dumps({key: _plain(value) for key, value in document.items()}, indent=2))
    else:
        _print(document)


def _measure(batches: tuple[int, ...], dtypes: tuple[str, ...], runs: int) -> dict[str, Any]:
    """Rows of every comparison on this GPU, and what they were measured on."""
    import torch
    from rich.console import Console
    from rich.progress import Progress

    from edgefel.bench.kernels import gpu, report
    from edgefel.bench.kernels.problems import DTYPES

    rows: list[KernelRow] = []
    ceilings = {name: gpu.measure_ceilings(DTYPES[name]) for name in dtypes}
    steps = list(_comparisons(batches, dtypes, runs, ceilings, torch.device("cuda")))
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("comparing", total=len(steps))
        for label, step in steps:
            progress.update(task, description=label)
            rows += step()
            torch.cuda.empty_cache()
            progress.advance(task)
    return {
        "bench": "kernels",
        "measured": True,
        **gpu.describe_device(),
        "ceilings": {name: found.to_dict() for name, found in ceilings.items()},
        "runs": runs,
        "summary": report.summary(rows),
        "rows": rows,
    }


def _comparisons(
    batches: tuple[int, ...], dtypes: tuple[str, ...], runs: int, ceilings: dict[str, Any], device: Any
) -> Iterator[tuple[str, Any]]:
    """(label, function that makes the rows) of every comparison."""
    from functools import partial
    from itertools import product

    from edgefel.bench.kernels import gpu, suite
    from edgefel.bench.kernels.problems import DTYPES, HeadProblem, poolings, pyramid_levels
    from edgefel.bench.stopwatch import CudaStopwatch
    from edgefel.bench.timer import Plan, measure

    timer = partial(measure, plan=Plan(min_runs=runs, max_runs=runs, seconds=0), stopwatch=CudaStopwatch())
    for dtype, batch, backward in product(dtypes, batches, (False, True)):
        settings = {"memory": gpu.extra_memory, "ceilings": ceilings[dtype]}
        rest: tuple[Any, ...] = (backward, device, timer)
        for level in pyramid_levels(batch, DTYPES[dtype]):
            yield (
                f"{dtype} batch {batch} {level.name}",
                partial(suite.compare_attention, level, *rest, **settings),
            )
        for pooling in poolings(batch, DTYPES[dtype]):
            yield (
                f"{dtype} batch {batch} {pooling.name}",
                partial(suite.compare_pooling, pooling, *rest, **settings),
            )
    for batch in batches:
        yield (
            f"head batch {batch}",
            partial(suite.compare_head, HeadProblem(batch=batch), device, timer, memory=gpu.extra_memory),
        )


def _compile() -> dict[str, Any]:
    """What compiling tells, for every target."""
    import triton
    from rich.console import Console
    from rich.progress import Progress

    from edgefel.kernels.ahead_of_time.compiler import compile_all
    from edgefel.kernels.ahead_of_time.resources import TARGETS
    from edgefel.models.inference_kernels import inference_kernels
    from edgefel.models.registry import model_config

    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("no GPU: compiling")
        compiled = compile_all(
            [spec for name in ("arbex", "apvit") for spec in inference_kernels(model_config(name))],
            list(TARGETS),
            workers=usable_cores(),
            advance=lambda done, total: progress.update(task, completed=done, total=total),
        )
    return {
        "bench": "kernels",
        "measured": False,
        "reason": "no CUDA device: nothing was timed",
        "command": "edgefel bench kernels",
        "versions": {"edgefel": __version__, "triton": triton.__version__},
        "compiled": compiled,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if hasattr(value, "describe"):
        return value.describe()
    return value.to_dict() if hasattr(value, "to_dict") else value


def _write(document: dict[str, Any], output: Path) -> None:
    from edgefel.bench.kernels.report import save_plot
    from edgefel.files.write import write_json

    write_json(output / "kernels.json", {key: _plain(value) for key, value in document.items()})
    if document["measured"]:
        save_plot(document["rows"], output / "kernels.png", document["device"])


def _print(document: dict[str, Any]) -> None:
    if not document["measured"]:
        from edgefel.cli.kernels import print_resources

        click.echo("No CUDA device: nothing was timed. What compiling tells:")
        print_resources(document["compiled"])
        return
    from edgefel.bench.kernels.report import table

    console = table_console()
    console.print(table(document["rows"]))
    for row in document["summary"]:
        console.print(
            f"{row['op']} {row['dtype']} {row['mode']}: {row['geometric_mean']:.2f} times the fastest other "
            f"(geometric mean of {row['problems']}), {row['least']:.2f} at least"
        )
