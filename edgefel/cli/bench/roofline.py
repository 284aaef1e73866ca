"""`edgefel bench roofline`: what a device cannot go below."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgefel.cli import params
from edgefel.cli.bench.common import IntegerList, NameList
from edgefel.cli.console import table_console
from edgefel.cli.optional import require
from edgefel.errors import EdgefelError

if TYPE_CHECKING:
    from rich.table import Table

    from edgefel.bench.results import Row
    from edgefel.bench.roofline.devices import Device
    from edgefel.bench.roofline.project import Projection


@click.command("roofline")
@click.argument("model")
@click.option(
    "--device",
    "names",
    type=NameList(),
    default="orin-nano-super",
    show_default=True,
    help="orin-nano-super, orin-nx, agx-orin, thor, h100, or cpu, whose ceilings are measured now; with commas.",
)
@click.option(
    "--precision",
    "precisions",
    type=NameList(),
    help="fp32, fp16, int8, int8+fp16, with commas.  [default: a bundle's files; fp32,fp16,int8 of a model]",
)
@click.option(
    "--batch", "batches", type=IntegerList(), default="1", show_default=True, help="Images to a call."
)
@click.option("--threads", type=click.IntRange(min=1), help="Of the device cpu.  [default: all cores]")
@click.option(
    "--measured",
    type=click.Path(path_type=Path),
    help="Rows of `bench latency` or `bench compare`: how much of what was measured is the bound.",
)
@click.option(
    "--layers",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    help="Of the heaviest layers to show.",
)
@click.option(
    "--plot", type=click.Path(path_type=Path, dir_okay=False), help="PNG file: a panel for each precision."
)
@params.output("File of JSON lines that rows are added to.", required=False)
@params.json_output
def command(
    model: str,
    names: tuple[str, ...],
    precisions: tuple[str, ...] | None,
    batches: tuple[int, ...],
    threads: int | None,
    measured: Path | None,
    layers: int,
    plot: Path | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """What a device cannot go below: operations and bytes of every layer at its ceilings.

    MODEL is a registered name (random weights, which change nothing here) or a bundle folder. The result is a bound,
    not a measurement. Each layer takes at least its operations at the dense rate for its type, or its bytes at the
    memory's bandwidth, whichever is longer. docs/roofline.md says how they are counted and where the ceilings come
    from.

    \b
    Examples:
      edgefel bench roofline arbex --device orin-nano-super --precision fp16,int8+fp16
      edgefel bench roofline arbex --device agx-orin --batch 1,8 -o roofline.jsonl
      edgefel bench roofline bundle --device cpu --threads 1 --measured results.jsonl --plot roofline.png
    """
    require("onnx", "export", "edgefel bench roofline")
    from edgefel.bench.results import append_results, check_writable
    from edgefel.bench.roofline.networks import load_graphs
    from edgefel.bench.roofline.project import project

    if plot is not None:
        _check_plot(names, batches, plot)
    if output is not None:
        check_writable(output)
    rows = [] if measured is None else _read(measured)
    chosen, threads = _devices(names, threads)
    graphs = load_graphs(model, precisions)
    found = project(graphs, chosen, batches, threads=threads, measured=rows, layers=layers)
    if rows and not any("measured" in one.row.metrics for one in found):
        click.echo(f"{measured}: no row of this model, precision, batch and device", err=True)
    if plot is not None:
        _plot(graphs.model, batches[0], found, plot)
    if output is not None:
        append_results(output, [one.row for one in found])
    if as_json:
        for one in found:
            click.echo(json.dumps(one.row.to_dict(), ensure_ascii=False))
    else:
        _print(found, layers)


def _check_plot(names: Sequence[str], batches: Sequence[int], plot: Path) -> None:
    require("matplotlib", "export", "edgefel bench roofline --plot")
    if len(names) > 1 or len(batches) > 1:
        raise EdgefelError("--plot draws one device at one batch; give one of each")
    if plot.suffix.lower() != ".png":
        raise EdgefelError(f"{plot}: plots are PNG files; give a name that ends with .png")


def _read(path: Path) -> list[Row]:
    from edgefel.bench.results import read_results

    loaded = read_results(path)
    for problem in loaded.problems:
        click.echo(problem, err=True)
    return list(loaded.rows)


def _devices(names: Sequence[str], threads: int | None) -> tuple[list[Device], int | None]:
    """The devices, and the threads of a CPU among them; nothing is measured before all names are known."""
    from edgefel.bench.roofline.devices import find_device
    from edgefel.workers import usable_cores

    published = {name: find_device(name) for name in names if name != "cpu"}
    if "cpu" not in names:
        if threads is not None:
            raise EdgefelError("--threads belongs to --device cpu; give that too, or leave it out")
        return list(published.values()), None
    from edgefel.bench.roofline.cpu import measure_cpu

    threads = threads or usable_cores()
    click.echo(f"measuring the ceilings of {threads} CPU thread{'s' * (threads > 1)}", err=True)
    measured = measure_cpu(threads)
    return [published.get(name, measured) for name in names], threads


def _plot(model: str, batch: int, found: Sequence[Projection], path: Path) -> None:
    from edgefel.bench.roofline.plot import roofline_figure
    from edgefel.files.write import atomic_file

    device = found[0].device
    floors = {one.row.subject["precision"].upper(): one.floor for one in found}
    figure = roofline_figure(f"{model}, batch {batch},", device, floors)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def _print(found: Sequence[Projection], layers: int) -> None:
    console = table_console()
    for name in dict.fromkeys(one.device.name for one in found):
        own = [one for one in found if one.device.name == name]
        console.print(_summary(own))
        for one in own if layers else []:
            console.print(_layers(one.row))
    console.print(found[0].row.notes[0], markup=False, highlight=False)


def _summary(found: Sequence[Projection]) -> Table:
    from rich.table import Table

    device = found[0].device
    rates = ", ".join(f"{kind} {one.per_second / 1e12:.3g} T/s" for kind, one in device.matrix.items())
    table = Table(
        title=f"{device.title} ({device.mode}): {rates}, {device.bandwidth.per_second / 1e9:.4g} GB/s",
        title_justify="left",
    )
    for name in ("model", "precision"):
        table.add_column(name)
    numbers = (
        "batch",
        "GMAC",
        "weights MB",
        "activations MB",
        "floor ms",
        "bound by memory",
        "unfused",
        "ideal",
    )
    for name in numbers:
        table.add_column(name, justify="right")
    table.add_column("measured: share of the bound")
    for one in found:
        metrics, subject = one.row.metrics, one.row.subject
        moved = metrics["bytes"]
        table.add_row(
            subject["model"],
            subject["precision"],
            str(subject["batch"]),
            f"{metrics['macs'] / 1e9:.3f}",
            f"{moved['weights'] / 1e6:.1f}",
            f"{(moved['read'] + moved['written']) / 1e6:.1f}",
            f"{metrics['floor_ms']:.3f}",
            f"{metrics['bound_share']['memory']:.0%}",
            f"{metrics['unfused_floor_ms']:.3f}",
            f"{metrics['ideal_ms']:.3f}",
            ", ".join(
                f"{backend} {value['p50_ms']:.2f} ms: {value['share_of_bound']:.0%}"
                for backend, value in metrics.get("measured", {}).items()
            ),
        )
    return table


def _layers(row: Row) -> Table:
    from rich.table import Table

    subject = row.subject
    table = Table(
        title=f"heaviest layers, {subject['precision']}, batch {subject['batch']}", title_justify="left"
    )
    for name in ("layer", "computes", "type"):
        table.add_column(name, overflow="fold" if name == "layer" else "ellipsis")
    for name in ("MMAC", "MB", "floor µs", "share"):
        table.add_column(name, justify="right")
    table.add_column("bound by")
    for layer in row.metrics["layers"]:
        table.add_row(
            layer["name"],
            layer["op"],
            layer["precision"],
            f"{layer['macs'] / 1e6:.1f}",
            f"{layer['bytes'] / 1e6:.3f}",
            f"{1e3 * layer['floor_ms']:.2f}",
            f"{layer['share']:.1%}",
            layer["bound"],
        )
    return table
