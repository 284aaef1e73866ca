"""What the benches share: their options, the output of rows, numbers in tables."""

from __future__ import annotations

import dataclasses
import functools
import json
import string
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefel.cli.console import Bars, print_table
from edgefel.cli.param_types import PATH, POSITIVE, joined, name_list
from edgefel.cli.params import BACKENDS, PRECISIONS, json_output, seconds
from edgefel.report.formats import MISSING, interval, significant

if TYPE_CHECKING:
    from edgefel.bench.results import Row
    from edgefel.bench.timer import TimingPlan

    Cells = Mapping[str, str | Callable[[Row], str]]

backends = click.option(
    "--backend",
    "backends",
    type=name_list(BACKENDS),
    help="Backends, such as openvino,onnxruntime. A named one is measured, or is an error.  [default: all here]",
)
precisions = click.option(
    "--precision",
    "precisions",
    type=name_list(PRECISIONS),
    multiple=True,
    callback=lambda ctx, param, value: joined(ctx, param, value) or None,
    help="Files, such as fp32,int8.  [default: all]",
)
quick = click.option("--quick", is_flag=True, help="Few runs: a first look, with wide intervals.")
runs = click.option("--runs", type=POSITIVE, help="Minimum number of timed runs.  [default: 50; 8 if quick]")
memory = click.option(
    "--memory/--no-memory", default=True, help="Measure peak memory, in a separate process for each row."
)


def _check_writable(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    from edgefel.bench.results import check_writable

    if value is not None:
        check_writable(value)
    return value


rows = click.option(
    "-o",
    "--output",
    type=PATH,
    callback=_check_writable,
    help="JSON Lines file that rows are appended to.",
)


def make_plan(quick: bool, runs: int | None, seconds: float | None = None) -> TimingPlan:
    """The full or the quick plan, with another number of runs or time (and no longer a warm-up) if given."""
    from edgefel.bench.timer import FULL, QUICK

    plan = QUICK if quick else FULL
    if runs is not None:
        plan = dataclasses.replace(plan, min_runs=runs, max_runs=max(runs, plan.max_runs))
    if seconds is None:
        return plan
    return dataclasses.replace(plan, seconds=seconds, settle_seconds=min(plan.settle_seconds, seconds))


def timing(function: Callable[..., None]) -> Callable[..., None]:
    """`--quick`, `--runs` and `--seconds`, which reach the command as its `plan`."""

    @functools.wraps(function)
    def planned(quick: bool, runs: int | None, seconds: float | None, **others: Any) -> None:
        function(plan=make_plan(quick, runs, seconds), **others)

    return quick(runs(seconds("10 s for each; 2 if quick")(planned)))


def results(show: Callable[[Sequence[Row]], None]) -> Callable[[Callable[..., Any]], Callable[..., None]]:
    """`-o` and `--json` for a command that gets `bars` and returns rows, or a `Measured`, which `show` prints."""

    def decorator(function: Callable[..., Any]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(output: Path | None, as_json: bool, **chosen: Any) -> None:
            with Bars(waiting="preparing") as bars:
                found = function(bars=bars, **chosen)
            finish(getattr(found, "rows", found), output, as_json, show)
            for name, reason in getattr(found, "skipped", {}).items():
                click.echo(f"not measured: {name}: {reason}", err=as_json)

        return rows(json_output(command))

    return decorator


def finish(
    rows: Sequence[Row], output: Path | None, as_json: bool, show: Callable[[Sequence[Row]], None]
) -> None:
    """Appends the rows to the file, then prints them: as JSON lines, or with `show`, followed by their notes."""
    from edgefel.bench.results import append_results

    if output is not None:
        append_results(output, rows)
    if as_json:
        for row in rows:
            click.echo(json.dumps(row.to_dict(), ensure_ascii=False, allow_nan=False))
    else:
        show(rows)
        _show_notes(rows)


def _show_notes(rows: Sequence[Row]) -> None:
    """Each note once, with the names of its rows unless it is on all of them."""
    by_note: dict[str, list[str]] = {}
    for row in rows:
        for note in row.notes:
            by_note.setdefault(note, []).append(row.name)
    for note, names in by_note.items():
        click.echo(note if len(names) == len(rows) else f"{'; '.join(names)}: {note}")


class _Cell(string.Formatter):
    """`significant` where no format is given; !M, !G and !c: in millions, billions and hundredths."""

    def convert_field(self, value: Any, conversion: Any) -> Any:
        return value / {"M": 1e6, "G": 1e9, "c": 0.01}[conversion] if conversion else value

    def format_field(self, value: Any, format_spec: str) -> str:
        return format(value, format_spec) if format_spec else significant(value)


def table(rows: Sequence[Row], title: str, subject: Sequence[str], cells: Cells, **how: Any) -> None:
    """Prints a line for each row.

    subject: headers that are fields of the subject, as `print_table` takes them. cells: header -> a format of metrics,
    such as "{latency_ms[p50]:.2f}", or a function of the row; a dash where there is no such metric. how: as for
    `print_table`.
    """

    def cell(row: Row, what: str | Callable[[Row], str]) -> str:
        try:
            return what(row) if callable(what) else _Cell().format(what, **row.metrics)
        except KeyError:
            return MISSING

    lines = []
    for row in rows:
        fields = [row.subject[name.lstrip(">~")] for name in subject]
        known = (MISSING if field is None else str(field) for field in fields)
        lines.append([*known, *(cell(row, what) for what in cells.values())])
    print_table((*subject, *cells), lines, title, **how)


def estimate(value: float, ends: Sequence[float]) -> str:
    """A number and its interval for a table, "12.3 (12.1–12.6)"."""
    low, high = ends
    return f"{significant(value)} ({interval((low, high), value)})"


def median(row: Row, metric: str = "latency_ms") -> str:
    """Median of a timing, with its interval and a mark if it is not stable."""
    timing = row.metrics[metric]
    return estimate(timing["p50"], timing["p50_interval"]) + mark(timing)


def times(row: Row) -> str:
    """The ratio of a row, with its interval and a mark if it is not stable."""
    ratio = row.metrics["ratio"]
    return estimate(ratio["value"], ratio["interval"]) + mark(ratio)


def images_per_s(row: Row) -> str:
    """With a mark if it is not stable."""
    return significant(row.metrics["images_per_s"]) + mark(row.metrics["latency_ms"])


def mark(measured: Mapping[str, Any]) -> str:
    """Of a timing or ratio that is not stable."""
    return "" if measured["stable"] else " ~"
