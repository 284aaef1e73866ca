"""What the benches share: their options, the output of rows, numbers in tables."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefel.cli.param_types import PATH, POSITIVE, name_list
from edgefel.cli.params import BACKENDS, seconds

if TYPE_CHECKING:
    from edgefel.bench.results import Row
    from edgefel.bench.timer import TimingPlan

backends = click.option(
    "--backend",
    "backends",
    type=name_list(BACKENDS),
    help="Backends, such as openvino,onnxruntime. A named one is measured, or is an error.  [default: all here]",
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
    """The full or the quick plan, with another number of runs or time if given."""
    from edgefel.bench.timer import FULL, QUICK

    plan = QUICK if quick else FULL
    if runs is not None:
        plan = dataclasses.replace(plan, min_runs=runs, max_runs=max(runs, plan.max_runs))
    return plan if seconds is None else dataclasses.replace(plan, seconds=seconds)


def timing(function: Callable[..., None]) -> Callable[..., None]:
    """`--quick`, `--runs` and `--seconds`, which reach the command as its `plan`."""

    @functools.wraps(function)
    def planned(quick: bool, runs: int | None, seconds: float | None, **others: Any) -> None:
        function(plan=make_plan(quick, runs, seconds), **others)

    return quick(runs(seconds("10 s for each; 2 if quick")(planned)))


def print_rows(rows: Iterable[Row]) -> None:
    """A line of JSON each."""
    for row in rows:
        click.echo(json.dumps(row.to_dict(), ensure_ascii=False, allow_nan=False))


def finish(
    rows: Sequence[Row],
    output: Path | None,
    as_json: bool,
    show: Callable[[Sequence[Row]], None],
    skipped: Mapping[str, str] | None = None,
) -> None:
    """Appends the rows to the file, then prints them: as JSON lines, or with `show`, followed by their notes and by
    what was not measured."""
    from edgefel.bench.results import append_results

    if output is not None:
        append_results(output, rows)
    if as_json:
        print_rows(rows)
    else:
        show(rows)
        _show_notes(rows)
    for name, reason in (skipped or {}).items():
        click.echo(f"not measured: {name}: {reason}", err=as_json)


def _show_notes(rows: Sequence[Row]) -> None:
    """Each note once, with the names of its rows unless it is on all of them."""
    by_note: dict[str, list[str]] = {}
    for row in rows:
        for note in row.notes:
            by_note.setdefault(note, []).append(row.name)
    for note, names in by_note.items():
        click.echo(note if len(names) == len(rows) else f"{'; '.join(names)}: {note}")


def subject(row: Row, *names: str) -> list[str]:
    """Cells of what was measured."""
    return [str(row.subject[name]) for name in names]


def interval(timing: Mapping[str, Any]) -> str:
    """Median and interval of a timing for a table, "12.3 (12.1-12.6)", with a mark if it is not stable."""
    low, high = timing["p50_interval"]
    mark = "" if timing["stable"] else " ~"
    return f"{number(timing['p50'])} ({number(low)}-{number(high)}){mark}"


def times(ratio: Mapping[str, Any] | None) -> str:
    """A ratio for a table, "1.52 (1.49-1.55)"; "-" for None."""
    if ratio is None:
        return "-"
    low, high = ratio["interval"]
    return f"{ratio['value']:.2f} ({low:.2f}-{high:.2f})" + ("" if ratio["stable"] else " ~")


def number(value: float | None) -> str:
    """Three significant digits, without exponents; "-" for None."""
    if value is None:
        return "-"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"
