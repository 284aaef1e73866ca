"""`edgefel bench pick`: the fastest file and backend of a bundle on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgefel.cli import params
from edgefel.cli.bench import options
from edgefel.cli.console import Bars
from edgefel.cli.param_types import POSITIVE

if TYPE_CHECKING:
    from edgefel.bench.results import Row


def _show(rows: Sequence[Row]) -> None:
    title = f"{rows[0].subject['model']}: one image a call (~: not stable)"
    cells: options.Cells = {
        ">ms (95 % interval)": options.median,
        ">times as fast": options.times,
        ">as": "{ratio[to]:s}",
        "comparison": "{verdict:s}",
        ">agrees": "{agreement!c:.1f} %",
        ">accuracy": "{accuracy!c:.1f} %",
    }
    options.table(sorted(rows, key=_ms), title, ("precision", "backend", ">threads"), cells)


def _ms(row: Row) -> float:
    return float(row.metrics["latency_ms"]["p50"])


@click.command("pick")
@params.bundle_or_shipped
@params.threads
@click.option("--runs", type=POSITIVE, help="Minimum number of timed runs.  [default: 9]")
@options.rows
@params.json_output
def command(bundle: Path, threads: int | None, runs: int | None, output: Path | None, as_json: bool) -> None:
    """Measure which file and backend are the fastest here, and keep the result for `--backend auto`.

    Takes seconds: every file that passed its comparison with PyTorch in every backend that is here, one image a call,
    in turn. Outputs are compared with ONNX Runtime's FP32 file before anything is timed. The result is kept in the
    cache folder for these files, this processor, this number of threads and these versions; `predict`, `run` and
    `Session.open` then go by it. Without BUNDLE, the network that comes with edgefel.

    \b
    Examples:
      edgefel bench pick
      edgefel bench pick bundle --threads 1
    """
    import dataclasses

    from edgefel.bench.pick import PLAN, pick

    plan = (
        PLAN if runs is None else dataclasses.replace(PLAN, min_runs=runs, max_runs=max(runs, PLAN.max_runs))
    )
    with Bars(waiting="preparing") as bars:
        found = pick(bundle, threads, plan, bars.share)
    options.finish(found.rows, output, as_json, _show)
    for name, reason in found.skipped.items():
        click.echo(f"not measured: {name}: {reason}", err=as_json)
    for line in found.advice:
        click.echo(line, err=as_json)
