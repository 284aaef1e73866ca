"""`edgefel bench latency`: milliseconds of a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefel.cli import params
from edgefel.cli.bench import options
from edgefel.cli.bench.options import number
from edgefel.cli.console import Bars, print_table

if TYPE_CHECKING:
    from edgefel.bench.results import Row

_NAMES = ("precision", "backend", "batch", "threads")
_COLUMNS = ("precision", "backend", ">batch", ">threads")


@click.command("latency")
@params.bundle
@options.backends
@params.precisions(help="Files, such as fp32,int8.  [default: all]")
@params.batch_sizes()
@params.thread_counts("CPU threads per call: 1,2.  [default: all cores]")
@options.timing
@click.option("--stages/--no-stages", default=True, help="Also time each stage from an image to labels.")
@params.min_face
@click.option("--flush", is_flag=True, help="Overwrite the caches before every call.")
@options.memory
@params.force()
@options.rows
@params.json_output
def command(
    bundle: Path,
    backends: tuple[str, ...] | None,
    precisions: tuple[str, ...],
    threads: tuple[int, ...] | None,
    force: bool,
    output: Path | None,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Latency of every file of a bundle in every backend that is here.

    Times the model alone and, stage by stage, the way from a synthetic image with as many faces as the batch to their
    labels. All files and backends take turns in one run. Outputs are compared with ONNX Runtime's FP32 file before
    anything is timed.

    \b
    Examples:
      edgefel bench latency bundle --quick
      edgefel bench latency bundle --batch-sizes 1,8,32 --threads 1,2 -o results.jsonl
      edgefel bench latency bundle --backend openvino --precision int8 --json
    """
    from edgefel.bench.latency import LatencyOptions, bench_latency
    from edgefel.bench.sessions import Selection
    from edgefel.workers import usable_cores

    selection = Selection(backends, precisions or None, force)
    wanted = LatencyOptions(selection, threads=threads or (usable_cores(),), **chosen)
    with Bars(waiting="preparing") as bars:
        measured = bench_latency(bundle, wanted, bars.share)
    options.finish(measured.rows, output, as_json, _show, measured.skipped)


def _show(rows: Sequence[Row]) -> None:
    numbers = (">p95", ">p99", ">images/s", ">x ORT FP32", ">MB file", ">MB peak", ">mJ/image")
    title = f"{rows[0].subject['model']}: the model alone (~: not stable)"
    print_table((*_COLUMNS, ">ms (95 % interval)", *numbers), map(_cells, rows), title)
    staged = [row for row in rows if "stages_ms" in row.metrics]
    names = list(dict.fromkeys(name for row in staged for name in row.metrics["stages_ms"]))
    cells = []
    for row in staged:
        stages = row.metrics["stages_ms"]
        medians = [number(stages[name]["p50"]) if name in stages else "-" for name in names]
        whole = options.interval(row.metrics["end_to_end_ms"])
        cells.append((*options.subject(row, *_NAMES), *medians, whole))
    if cells:
        columns = (*_COLUMNS, *(f">{name}" for name in names), ">all (95 % interval)")
        print_table(columns, cells, "from an image to labels: median milliseconds of a call")


def _cells(row: Row) -> tuple[str, ...]:
    metrics, timing = row.metrics, row.metrics["latency_ms"]
    return (
        *options.subject(row, *_NAMES),
        options.interval(timing),
        *map(number, (timing["p95"], timing["p99"], metrics["images_per_s"])),
        options.times(metrics.get("ratio")),
        number(metrics["file_bytes"] / 1e6),
        *map(number, (metrics.get("peak_memory_mb"), metrics.get("energy_mj"))),
    )
