"""`edgefel bench throughput`: images per second with more and more callers."""

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


@click.command("throughput")
@options.bundle
@options.backends
@options.precisions
@options.batches
@click.option(
    "--threads",
    type=IntegerList(),
    default="1",
    show_default=True,
    help="CPU threads of one call: 1,2. Callers are to fill the cores.",
)
@click.option(
    "--concurrency", type=IntegerList(), help="Callers at once.  [default: 1,2,4 ... twice the cores]"
)
@options.quick
@options.seconds("5 s for each of a point's two passes; 1 if quick")
@params.force
@options.rows
@params.json_output
def command(
    bundle: Path,
    backends: tuple[str, ...] | None,
    precisions: tuple[str, ...] | None,
    batches: tuple[int, ...],
    threads: tuple[int, ...],
    concurrency: tuple[int, ...] | None,
    quick: bool,
    seconds: float | None,
    force: bool,
    output: Path | None,
    as_json: bool,
) -> None:
    """Images per second of a bundle's files with more and more callers at once, and the knee of that curve.

    Every caller calls the model again as soon as its last call has returned. Every number of callers is looked at
    twice, on the way up and on the way down; a point is unstable if the two differ by more than 10 %. The knee is the
    fewest callers with 95 % of the best throughput: more of them mostly wait.

    \b
    Examples:
      edgefel bench throughput bundle --quick
      edgefel bench throughput bundle --precision int8 --batch 1,8 -o results.jsonl
      edgefel bench throughput bundle --concurrency 1,2,3,4 --json
    """
    from edgefel.bench.results import check_writable

    if output is not None:
        check_writable(output)
    from edgefel.bench.sessions import Selection
    from edgefel.bench.throughput import Options, bench_throughput

    wanted = Options(
        Selection(backends, precisions, force),
        concurrency,
        batches,
        threads,
        seconds or (1.0 if quick else 5.0),
        0.3 if quick else 1.0,
    )
    with BenchProgress() as progress:
        swept = bench_throughput(bundle, wanted, progress.show)
    options.finish(swept.rows, output, as_json, lambda: show(swept.rows), swept.skipped)


def show(rows: Sequence[Row]) -> None:
    """One table; the knees are marked."""
    from rich.table import Table

    table = Table(title=f"{rows[0].subject['model']}: callers in a closed loop (~: not stable)")
    for name in ("precision", "backend", "batch", "threads", "callers", "images/s"):
        table.add_column(name, justify="left" if name in ("precision", "backend") else "right")
    for name in ("ms p50", "p90", "p99", "cores busy", ""):
        table.add_column(name, justify="right")
    for row in rows:
        metrics, timing = row.metrics, row.metrics["latency_ms"]
        table.add_row(
            *(str(row.subject[name]) for name in ("precision", "backend", "batch", "threads", "concurrency")),
            options.number(metrics["images_per_s"]) + ("" if timing["stable"] else " ~"),
            *(options.number(timing[name]) for name in ("p50", "p90", "p99")),
            f"{metrics['cores_busy']:.1f} ({metrics['utilisation']:.0%})",
            "knee" if metrics["knee"] else "",
        )
    table_console().print(table)
