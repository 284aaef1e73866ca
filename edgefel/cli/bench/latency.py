"""`edgefel bench latency`: milliseconds of a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgefel.cli import params
from edgefel.cli.bench import options
from edgefel.cli.bench.common import BenchProgress, IntegerList
from edgefel.cli.console import table_console

if TYPE_CHECKING:
    from edgefel.bench.results import Row


@click.command("latency")
@options.bundle
@options.backends
@options.precisions
@options.batches
@click.option("--threads", type=IntegerList(), help="CPU threads of one call: 1,2.  [default: all cores]")
@options.quick
@options.runs
@options.seconds("10 s of each; 2 if quick")
@click.option(
    "--stages/--no-stages",
    default=True,
    show_default=True,
    help="Also from an image to labels, stage by stage.",
)
@params.min_face
@click.option("--flush", is_flag=True, help="Write over the caches before every call.")
@options.memory
@params.force
@options.rows
@params.json_output
def command(
    bundle: Path,
    backends: tuple[str, ...] | None,
    precisions: tuple[str, ...] | None,
    batches: tuple[int, ...],
    threads: tuple[int, ...] | None,
    quick: bool,
    runs: int | None,
    seconds: float | None,
    stages: bool,
    min_face: float | None,
    flush: bool,
    memory: bool,
    force: bool,
    output: Path | None,
    as_json: bool,
) -> None:
    """Milliseconds of every file of a bundle in every backend that is here.

    The model alone, and from a synthetic image with as many faces as the batch to their labels, stage by stage. All
    files and backends take turns in one run. Outputs are compared with ONNX Runtime's FP32 file before anything is
    timed.

    \b
    Examples:
      edgefel bench latency bundle --quick
      edgefel bench latency bundle --batch 1,8,32 --threads 1,2 -o results.jsonl
      edgefel bench latency bundle --backend openvino --precision int8 --json
    """
    from edgefel.bench.results import check_writable

    if output is not None:
        check_writable(output)
    plan = options.make_plan(quick, runs, seconds)
    from edgefel.bench.latency import Options, bench_latency
    from edgefel.bench.sessions import Selection
    from edgefel.workers import usable_cores

    wanted = Options(
        Selection(backends, precisions, force),
        batches,
        threads or (usable_cores(),),
        plan,
        stages,
        memory,
        flush,
        min_face,
    )
    with BenchProgress() as progress:
        measured = bench_latency(bundle, wanted, progress.show)
    options.finish(measured.rows, output, as_json, lambda: show(measured.rows), measured.skipped)


def show(rows: Sequence[Row]) -> None:
    """Tables of the model alone, and of the stages."""
    from rich.table import Table

    console = table_console()
    table = Table(title=f"{rows[0].subject['model']}: the model alone (~: not stable)")
    for name in ("precision", "backend", "batch", "threads", "ms (95 % interval)", "p95", "p99", "images/s"):
        table.add_column(name, justify="left" if name in ("precision", "backend") else "right")
    for name in ("x ORT FP32", "MB file", "MB peak", "mJ/image"):
        table.add_column(name, justify="right")
    for row in rows:
        metrics, timing = row.metrics, row.metrics["latency_ms"]
        table.add_row(
            *_named(row),
            options.interval(timing),
            options.number(timing["p95"]),
            options.number(timing["p99"]),
            options.number(metrics["images_per_s"]),
            options.times(metrics.get("ratio")),
            options.number(metrics["file_bytes"] / 1e6),
            options.number(metrics.get("peak_memory_mb")),
            options.number(metrics.get("energy_mj")),
        )
    console.print(table)
    staged = [row for row in rows if "stages_ms" in row.metrics]
    if not staged:
        return
    names = list(dict.fromkeys(name for row in staged for name in row.metrics["stages_ms"]))
    table = Table(title="from an image to labels: median milliseconds of a call")
    for name in ("precision", "backend", "batch", "threads", *names, "all (95 % interval)"):
        table.add_column(name, justify="left" if name in ("precision", "backend") else "right")
    for row in staged:
        stages = row.metrics["stages_ms"]
        cells = [options.number(stages[name]["p50"]) if name in stages else "-" for name in names]
        table.add_row(*_named(row), *cells, options.interval(row.metrics["end_to_end_ms"]))
    console.print(table)


def _named(row: Row) -> list[str]:
    return [str(row.subject[name]) for name in ("precision", "backend", "batch", "threads")]
