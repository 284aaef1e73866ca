"""`edgefel bench roofline`: a lower bound on latency."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgefel.cli import params
from edgefel.cli.bench import options
from edgefel.cli.console import print_table
from edgefel.cli.lazy import require
from edgefel.cli.param_types import PATH, name_list
from edgefel.errors import EdgefelError
from edgefel.text import counted

if TYPE_CHECKING:
    from edgefel.bench.results import Row
    from edgefel.bench.roofline.bound import Projection
    from edgefel.bench.roofline.devices import DeviceSpec


@click.command("roofline")
@click.argument("model", shell_complete=params.models_or_files)
@click.option(
    "--device",
    "names",
    type=name_list(),
    default="orin-nano-super",
    help="Comma-separated: orin-nano-super, orin-nx, agx-orin, thor, h100, or cpu, whose ceilings are measured now.",
)
@params.precisions(
    None, help="fp32, fp16, int8, int8+fp16.  [default: a bundle's files; fp32,fp16,int8 of a model]"
)
@params.batch_sizes("Images per call.")
@params.threads
@click.option(
    "--measured",
    type=PATH,
    help="Rows of `bench latency` or `bench compare`: their share of the bound is shown.",
)
@click.option(
    "--layers", type=click.IntRange(min=0), default=5, help="Number of the heaviest layers to show."
)
@click.option(
    "--plot", type=click.Path(path_type=Path, dir_okay=False), help="PNG file: a panel for each precision."
)
@options.rows
@params.json_output
def command(
    model: str,
    names: tuple[str, ...],
    precisions: tuple[str, ...],
    batches: tuple[int, ...],
    threads: int | None,
    measured: Path | None,
    layers: int,
    plot: Path | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Lower bound on latency from the operations and bytes of every layer.

    MODEL is a registered name (the random weights have no influence) or a bundle folder. The result is a bound, not a
    measurement. Each layer takes at least its operations at the dense rate for its type, or its bytes at the memory
    bandwidth, whichever is longer. docs/roofline.md describes the counting and the sources of the ceilings.

    \b
    Examples:
      edgefel bench roofline arbex --device orin-nano-super --precision fp16,int8+fp16
      edgefel bench roofline arbex --device agx-orin --batch-sizes 1,8 -o roofline.jsonl
      edgefel bench roofline bundle --device cpu --threads 1 --measured results.jsonl --plot roofline.png
    """
    require("export", "edgefel bench roofline", "onnx")
    from edgefel.bench.results import read_results
    from edgefel.bench.roofline.bound import project
    from edgefel.bench.roofline.graph import load_graphs

    if plot is not None:
        _check_plot(names, batches, plot)
    loaded = None if measured is None else read_results(measured)
    for problem in loaded.problems if loaded else ():
        click.echo(problem, err=True)
    rows = loaded.rows if loaded else ()
    chosen, threads = _devices(names, threads)
    graphs = load_graphs(model, precisions or None)
    found = project(graphs, chosen, batches, threads=threads, measured=rows, layers=layers)
    if rows and not any("measured" in one.row.metrics for one in found):
        click.echo(f"{measured}: no row of this model, precision, batch and device", err=True)
    if plot is not None:
        _plot(graphs.model, batches[0], found, plot)
    options.finish([one.row for one in found], output, as_json, lambda _: _show(found, layers))


def _check_plot(names: Sequence[str], batches: Sequence[int], plot: Path) -> None:
    require("export", "edgefel bench roofline --plot", "matplotlib")
    if len(names) > 1 or len(batches) > 1:
        raise EdgefelError("--plot draws one device at one batch; give one of each")
    if plot.suffix.lower() != ".png":
        raise EdgefelError(f"{plot}: plots are PNG files; give a name that ends with .png")


def _devices(names: Sequence[str], threads: int | None) -> tuple[list[DeviceSpec], int | None]:
    """The devices, and the threads if one of them is the CPU. All names are checked before anything is measured."""
    from edgefel.bench.roofline.devices import find_device
    from edgefel.workers import usable_cores

    published = {name: find_device(name) for name in names if name != "cpu"}
    if "cpu" not in names:
        if threads is not None:
            raise EdgefelError("--threads belongs to --device cpu; give that too, or leave it out")
        return list(published.values()), None
    from edgefel.bench.roofline.cpu import measure_cpu

    threads = threads or usable_cores()
    click.echo(f"measuring the ceilings of {counted(threads, 'CPU thread')}", err=True)
    measured = measure_cpu(threads)
    return [published.get(name, measured) for name in names], threads


def _plot(model: str, batch: int, found: Sequence[Projection], path: Path) -> None:
    from edgefel.bench.roofline.plot import roofline_figure
    from edgefel.files.write import atomic_file
    from edgefel.report.figures import save_png

    floors = {one.row.subject["precision"].upper(): one.floor for one in found}
    with atomic_file(path) as temporary:
        save_png(roofline_figure(f"{model}, batch {batch},", found[0].device, floors), temporary)


def _show(found: Sequence[Projection], layers: int) -> None:
    for _, each in groupby(found, lambda one: one.device.name):
        own = list(each)
        _show_device(own[0].device, [one.row for one in own])
        for one in own if layers else []:
            _show_layers(one.row)


def _show_device(device: DeviceSpec, rows: Sequence[Row]) -> None:
    def activations(row: Row) -> str:
        return f"{(row.metrics['bytes']['read'] + row.metrics['bytes']['written']) / 1e6:.1f}"

    def shares(row: Row) -> str:
        measured = row.metrics.get("measured", {}).items()
        return ", ".join(
            f"{name} {one['p50_ms']:.2f} ms: {one['share_of_bound']:.0%}" for name, one in measured
        )

    cells: options.Cells = {
        ">GMAC": "{macs!G:.3f}",
        ">weights MB": "{bytes[weights]!M:.1f}",
        ">activations MB": activations,
        ">floor ms": "{floor_ms:.3f}",
        ">bound by memory": "{bound_share[memory]:.0%}",
        ">unfused": "{unfused_floor_ms:.3f}",
        ">ideal": "{ideal_ms:.3f}",
        "measured: share of the bound": shares,
    }
    rates = ", ".join(f"{kind} {one.per_second / 1e12:.3g} T/s" for kind, one in device.matrix.items())
    title = f"{device.title} ({device.mode}): {rates}, {device.bandwidth.per_second / 1e9:.4g} GB/s"
    options.table(rows, title, ("model", "precision", ">batch"), cells, title_left=True)


def _show_layers(row: Row) -> None:
    cells = [
        (
            layer["name"],
            layer["op"],
            layer["precision"],
            f"{layer['macs'] / 1e6:.1f}",
            f"{layer['bytes'] / 1e6:.3f}",
            f"{1e3 * layer['floor_ms']:.2f}",
            f"{layer['share']:.1%}",
            layer["bound"],
        )
        for layer in row.metrics["layers"]
    ]
    columns = ("~layer", "computes", "type", ">MMAC", ">MB", ">floor µs", ">share", "bound by")
    title = f"heaviest layers, {row.subject['precision']}, batch {row.subject['batch']}"
    print_table(columns, cells, title, title_left=True)
