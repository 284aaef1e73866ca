"""`edgefel bench latency`: milliseconds of a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefel.cli import params
from edgefel.cli.bench import options
from edgefel.cli.console import Bars

if TYPE_CHECKING:
    from edgefel.bench.results import Measured, Row


def _show(rows: Sequence[Row]) -> None:
    subject = ("precision", "backend", ">batch", ">threads")
    model_alone: options.Cells = {
        ">ms (95 % interval)": options.median,
        ">p95": "{latency_ms[p95]}",
        ">p99": "{latency_ms[p99]}",
        ">images/s": "{images_per_s}",
        ">x ORT FP32": options.times,
        ">MB file": "{file_bytes!M}",
        ">MB peak": "{peak_memory_mb}",
        ">mJ/image": "{energy_mj}",
    }
    options.table(rows, f"{rows[0].subject['model']}: the model alone (~: not stable)", subject, model_alone)
    staged = [row for row in rows if "stages_ms" in row.metrics]
    stages = dict.fromkeys(name for row in staged for name in row.metrics["stages_ms"])
    cells: options.Cells = {
        **{f">{name}": f"{{stages_ms[{name}][p50]}}" for name in stages},
        ">all (95 % interval)": lambda row: options.median(row, "end_to_end_ms"),
    }
    if staged:
        options.table(staged, "from an image to labels: median milliseconds of a call", subject, cells)


@click.command("latency")
@params.bundle_or_shipped
@options.backends
@options.precisions
@params.batch_sizes()
@params.thread_counts("CPU threads per call: 1,2.  [default: all cores]")
@options.timing
@click.option("--stages/--no-stages", default=True, help="Also time each stage from an image to labels.")
@params.min_face
@click.option("--flush", is_flag=True, help="Overwrite the caches before every call.")
@options.memory
@params.force()
@options.results(_show)
def command(bundle: Path, threads: tuple[int, ...] | None, bars: Bars, **chosen: Any) -> Measured:
    """Latency of every file of a bundle in every backend that is here.

    Times the model alone and, stage by stage, the way from a synthetic image with as many faces as the batch to their
    labels. All files and backends take turns in one run. Outputs are compared with ONNX Runtime's FP32 file before
    anything is timed. Without BUNDLE, those of the network that comes with edgefel.

    \b
    Examples:
      edgefel bench latency bundle --quick
      edgefel bench latency bundle --batch-sizes 1,8,32 --threads 1,2 -o results.jsonl
      edgefel bench latency bundle --backend openvino --precision int8 --json
    """
    from edgefel.bench.latency import LatencyOptions, bench_latency
    from edgefel.workers import usable_cores

    wanted = LatencyOptions(threads=threads or (usable_cores(),), **chosen)
    return bench_latency(bundle, wanted, bars.share)
