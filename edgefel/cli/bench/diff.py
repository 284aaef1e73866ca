"""`edgefel bench diff`: two runs of the same device against each other, for CI."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgefel.cli import params
from edgefel.cli.console import table_console
from edgefel.cli.parity import REFUSED

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from edgefel.bench.diff import Change, Diff, Side


def parse_share(ctx: click.Context, param: click.Parameter, value: str) -> float:
    """Callback of an option such as `--fail-over 5%`, or 0.05: the share."""
    text = value.strip()
    try:
        share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        share = math.nan
    if not math.isfinite(share) or share < 0:
        raise click.BadParameter(f"{value!r} is no share of at least 0; give it as 5% or 0.05", ctx, param)
    if share >= 1 and not text.endswith("%"):
        raise click.BadParameter(
            f"{value!r} would be {share:.0%}; give it as {text}% if it is percent", ctx, param
        )
    return share


@click.command("diff")
@click.argument("before", metavar="A", type=click.Path(path_type=Path))
@click.argument("after", metavar="B", type=click.Path(path_type=Path))
@click.option(
    "--fail-over",
    callback=parse_share,
    default="5%",
    show_default=True,
    metavar="SHARE",
    help="By how much the median may grow.",
)
@click.option(
    "--max-drop",
    type=params.FiniteRange(0, 100),
    default=1.0,
    show_default=True,
    help="Points by which accuracy or macro F1 may fall.",
)
@click.option(
    "--strict", is_flag=True, help="Judge unstable rows, and rows without an interval, like the others."
)
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
    overlap. An interval covers the scatter within a run; rows that were measured several times, in runs of their own,
    have one from the lowest end to the highest, which also covers how runs differ. Unstable rows are listed and fail
    nothing unless --strict. File size and memory are shown and not judged.

    Exit code 0: nothing is over a limit; 3: something is; 2: bad input, such as files of different devices.

    \b
    Examples:
      edgefel bench diff before.jsonl after.jsonl --fail-over 5%
      edgefel bench diff main/ branch/ --fail-over 0.1 --json
    """
    from edgefel.bench.diff import Limits, compare
    from edgefel.bench.report.rows import collect

    first, second = collect([before]), collect([after])
    problems = [*first.problems, *second.problems]
    for line in problems:
        click.echo(f"warning: {line}", err=True)
    diff = compare(first, second, Limits(fail_over, max_drop, strict))
    if as_json:
        click.echo(json.dumps({**diff.to_dict(), "problems": problems}, indent=2, ensure_ascii=False))
    else:
        _print(diff)
    if diff.failures:
        ctx.exit(REFUSED)


def _print(diff: Diff) -> None:
    console = table_console()
    console.print(_table(diff))
    for change in diff.changes:
        if change.reason:
            _line(console, f"{change.name}: {change.verdict}: {change.reason}")
    for where, names in (("A", diff.only_before), ("B", diff.only_after)):
        for name in names:
            _line(console, f"only in {where}: {name}")
    for line in diff.failures:
        _line(console, f"FAIL {line}", style="red")
    if not diff.failures:
        console.print("nothing is over a limit")


def _line(console: Console, text: str, style: str | None = None) -> None:
    """As it is, and not broken where the terminal ends."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def _table(diff: Diff) -> Table:
    from rich.markup import escape
    from rich.table import Table

    from edgefel.report.formats import points

    table = Table(title=escape("; ".join(dict.fromkeys(change.device for change in diff.changes))))
    table.add_column("measurement", overflow="fold")
    for name in ("A (ms)", "B (ms)", "B / A", "accuracy", "macro F1", "file", "memory"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    styles = {"slower": "red", "faster": "green"}
    for change in diff.changes:
        quality = [
            "" if value is None else points(value / 100) for value in (change.accuracy, change.macro_f1)
        ]
        table.add_row(
            escape(change.name),
            _time(change.before),
            _time(change.after),
            "" if change.ratio is None else f"{change.ratio:.3f}",
            *quality,
            _grown(change.file_bytes),
            _grown(change.peak_memory_mb),
            _verdict(change),
            style=styles.get(change.verdict),
        )
    return table


def _verdict(change: Change) -> str:
    worse = len(change.failures) > (change.verdict == "slower")
    return change.verdict + (", less accurate" if worse else "")


def _time(side: Side | None) -> str:
    from edgefel.report.formats import interval, significant

    if side is None:
        return ""
    return f"{significant(side.value)} ({interval((side.low, side.high), side.value)})"


def _grown(values: tuple[float, float] | None) -> str:
    if values is None:
        return ""
    before, after = values
    return f"{after / before - 1:+.1%}" if before else "new"
