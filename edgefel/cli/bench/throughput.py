"""`edgefel bench throughput`: images per second by number of concurrent callers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefel.cli import params
from edgefel.cli.bench import options
from edgefel.cli.console import Bars
from edgefel.cli.param_types import INTEGERS

if TYPE_CHECKING:
    from edgefel.bench.results import Measured, Row


def _show(rows: Sequence[Row]) -> None:
    title = f"{rows[0].subject['model']}: callers in a closed loop (~: not stable)"
    cells: options.Cells = {
        ">callers": lambda row: str(row.subject["concurrency"]),
        ">images/s": options.images_per_s,
        ">ms p50": "{latency_ms[p50]}",
        ">p90": "{latency_ms[p90]}",
        ">p99": "{latency_ms[p99]}",
        ">cores busy": "{cores_busy:.1f} ({utilisation:.0%})",
        ">": lambda row: "knee" if row.metrics["knee"] else "",
    }
    options.table(rows, title, ("precision", "backend", ">batch", ">threads"), cells)


@click.command("throughput")
@params.bundle_or_shipped
@options.backends
@options.precisions
@params.batch_sizes()
@params.thread_counts("CPU threads per call: 1,2. Several callers use the other cores.", default="1")
@click.option(
    "--concurrency", type=INTEGERS, help="Concurrent callers.  [default: 1,2,4 ... twice the cores]"
)
@options.quick
@params.seconds("5 s for each of a point's two passes; 1 if quick")
@params.force()
@options.results(_show)
def command(bundle: Path, quick: bool, seconds: float | None, bars: Bars, **chosen: Any) -> Measured:
    """Images per second of a bundle's files by number of concurrent callers, and the knee of that curve.

    Every caller calls the model again as soon as its last call has returned. Each number of callers is measured
    twice, on the way up and on the way down; a point is unstable if the two differ by more than 10 %. The knee is the
    fewest callers with 95 % of the best throughput: more of them mostly wait. Without BUNDLE, the network that comes
    with edgefel is measured.

    \b
    Examples:
      edgefel bench throughput bundle --quick
      edgefel bench throughput bundle --precision int8 --batch-sizes 1,8 -o results.jsonl
      edgefel bench throughput bundle --concurrency 1,2,3,4 --json
    """
    from edgefel.bench.throughput import ThroughputOptions, bench_throughput

    duration, warmup = seconds or (1.0 if quick else 5.0), 0.3 if quick else 1.0
    return bench_throughput(bundle, ThroughputOptions(seconds=duration, warmup=warmup, **chosen), bars.share)
