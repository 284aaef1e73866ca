"""`edgefel bench throughput`: images per second by number of concurrent callers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefel.cli import params
from edgefel.cli.bench import options
from edgefel.cli.bench.options import number
from edgefel.cli.console import Bars, print_table
from edgefel.cli.param_types import INTEGERS

if TYPE_CHECKING:
    from edgefel.bench.results import Row


@click.command("throughput")
@params.bundle
@options.backends
@params.precisions(help="Files, such as fp32,int8.  [default: all]")
@params.batch_sizes()
@params.thread_counts("CPU threads per call: 1,2. Several callers use the other cores.", default="1")
@click.option(
    "--concurrency", type=INTEGERS, help="Concurrent callers.  [default: 1,2,4 ... twice the cores]"
)
@options.quick
@params.seconds("5 s for each of a point's two passes; 1 if quick")
@params.force()
@options.rows
@params.json_output
def command(
    bundle: Path,
    backends: tuple[str, ...] | None,
    precisions: tuple[str, ...],
    quick: bool,
    seconds: float | None,
    force: bool,
    output: Path | None,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Images per second of a bundle's files by number of concurrent callers, and the knee of that curve.

    Every caller calls the model again as soon as its last call has returned. Each number of callers is measured
    twice, on the way up and on the way down; a point is unstable if the two differ by more than 10 %. The knee is the
    fewest callers with 95 % of the best throughput: more of them mostly wait.

    \b
    Examples:
      edgefel bench throughput bundle --quick
      edgefel bench throughput bundle --precision int8 --batch-sizes 1,8 -o results.jsonl
      edgefel bench throughput bundle --concurrency 1,2,3,4 --json
    """
    from edgefel.bench.sessions import Selection
    from edgefel.bench.throughput import ThroughputOptions, bench_throughput

    selection = Selection(backends, precisions or None, force)
    duration, warmup = seconds or (1.0 if quick else 5.0), 0.3 if quick else 1.0
    wanted = ThroughputOptions(selection, seconds=duration, warmup=warmup, **chosen)
    with Bars(waiting="preparing") as bars:
        swept = bench_throughput(bundle, wanted, bars.share)
    options.finish(swept.rows, output, as_json, _show, swept.skipped)


def _show(rows: Sequence[Row]) -> None:
    names = ("precision", "backend", "batch", "threads", "concurrency")
    cells = []
    for row in rows:
        metrics, timing = row.metrics, row.metrics["latency_ms"]
        cells.append(
            (
                *options.subject(row, *names),
                number(metrics["images_per_s"]) + ("" if timing["stable"] else " ~"),
                *(number(timing[name]) for name in ("p50", "p90", "p99")),
                f"{metrics['cores_busy']:.1f} ({metrics['utilisation']:.0%})",
                "knee" if metrics["knee"] else "",
            )
        )
    left = ("precision", "backend", ">batch", ">threads", ">callers", ">images/s")
    title = f"{rows[0].subject['model']}: callers in a closed loop (~: not stable)"
    print_table((*left, ">ms p50", ">p90", ">p99", ">cores busy", ">"), cells, title)
