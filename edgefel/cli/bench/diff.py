"""`edgefel bench diff`: two runs of the same device against each other, for CI."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgefel.cli import params
from edgefel.cli.bench.options import estimate
from edgefel.cli.console import print_json, say, table_console, warn
from edgefel.cli.param_types import PATH, SHARE
from edgefel.cli.parity import REFUSED
from edgefel.report.formats import points

if TYPE_CHECKING:
    from edgefel.bench.diff import Diff, RowChange, Side


@click.command("diff")
@click.argument("before", metavar="A", type=PATH)
@click.argument("after", metavar="B", type=PATH)
@click.option("--fail-over", type=SHARE, default="5%", help="Maximum increase of the median.")
@params.max_drop("Maximum decrease of accuracy or macro F1, in points.", default=1.0)
@click.option("--strict", is_flag=True, help="Also judge unstable rows, and rows without an interval.")
@params.json_output
@click.pass_context
def command(
    ctx: click.Context,
    before: Path,
    after: Path,
    fail_over: float,
    max_drop: float,
    strict: bool,
    as_json: bool,
) -> None:
    """Compare result rows of A with those of B, files or folders of *.jsonl, of the same device.

    A row is slower if its median grew by more than --fail-over and the 95 % intervals of the two medians do not
    overlap. An interval covers the scatter within a run; for rows that were measured in several runs, it spans the
    intervals of all of them, and so also covers the differences between runs. Unstable rows are listed and fail
    nothing unless --strict. File size and memory are shown but not judged.

    Exit code 0: nothing is over a limit; 3: something is; 2: bad input, such as files of different devices.

    \b
    Examples:
      edgefel bench diff before.jsonl after.jsonl --fail-over 5%
      edgefel bench diff main/ branch/ --fail-over 0.1 --json
    """
    from edgefel.bench.diff import DiffLimits, compare
    from edgefel.bench.report.rows import collect

    first, second = collect([before]), collect([after])
    problems = [*first.problems, *second.problems]
    warn(*problems)
    diff = compare(first, second, DiffLimits(fail_over, max_drop, strict))
    if as_json:
        print_json({**diff.to_dict(), "problems": problems})
    else:
        _print(diff)
    if diff.failures:
        ctx.exit(REFUSED)


def _print(diff: Diff) -> None:
    from edgefel.cli.tables import make_table

    console = table_console()
    columns = ("~measurement", ">A (ms)", ">B (ms)", ">B / A", ">accuracy", ">macro F1", ">file", ">memory")
    title = "; ".join(dict.fromkeys(change.device for change in diff.changes))
    table = make_table((*columns, "verdict"), map(_cells, diff.changes), title)
    for row, change in zip(table.rows, diff.changes, strict=True):
        row.style = {"slower": "red", "faster": "green"}.get(change.verdict)
    console.print(table)
    reasons = [f"{one.name}: {one.verdict}: {one.reason}" for one in diff.changes if one.reason]
    say(console, *reasons)
    say(console, *(f"only in A: {name}" for name in diff.only_before))
    say(console, *(f"only in B: {name}" for name in diff.only_after))
    say(console, *(f"FAIL {line}" for line in diff.failures), style="red")
    if not diff.failures:
        console.print("nothing is over a limit")


def _cells(change: RowChange) -> tuple[str, ...]:
    quality = ["" if value is None else points(value / 100) for value in (change.accuracy, change.macro_f1)]
    worse = len(change.failures) > (change.verdict == "slower")
    return (
        change.name,
        _time(change.before),
        _time(change.after),
        "" if change.ratio is None else f"{change.ratio:.3f}",
        *quality,
        _grown(change.file_bytes),
        _grown(change.peak_memory_mb),
        change.verdict + (", less accurate" if worse else ""),
    )


def _time(side: Side | None) -> str:
    return "" if side is None else estimate(side.value, (side.low, side.high))


def _grown(values: tuple[float, float] | None) -> str:
    if values is None:
        return ""
    before, after = values
    return f"{after / before - 1:+.1%}" if before else "new"
