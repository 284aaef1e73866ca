"""What latency, throughput and train share: their options, what becomes of rows, numbers in tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgefel.cli import params
from edgefel.cli.bench.common import IntegerList, NameList, timing_plan

if TYPE_CHECKING:
    from edgefel.bench.results import Row
    from edgefel.bench.timer import Plan

Function = TypeVar("Function", bound=Callable[..., Any])

BACKENDS = ("tensorrt", "onnxruntime-cuda", "openvino", "onnxruntime", "onnxruntime-tensorrt")
PRECISIONS = ("fp32", "fp16", "int8", "int8+fp16")


bundle = click.argument("bundle", metavar="DIR", type=click.Path(path_type=Path))
backends = click.option(
    "--backend",
    "backends",
    type=NameList(BACKENDS),
    help="Backends, such as openvino,onnxruntime. One that is named is measured or is an error.  [default: all here]",
)
precisions = click.option(
    "--precision", "precisions", type=NameList(PRECISIONS), help="Files, such as fp32,int8.  [default: all]"
)
batches = click.option(
    "--batch",
    "batches",
    type=IntegerList(),
    default="1",
    show_default=True,
    help="Faces of one call: 1,8,32.",
)
quick = click.option("--quick", is_flag=True, help="Few runs: a first look, whose intervals are wide.")
runs = click.option(
    "--runs", type=click.IntRange(min=1), help="Timed runs at least.  [default: 50; 8 if quick]"
)
memory = click.option(
    "--memory/--no-memory",
    default=True,
    show_default=True,
    help="Peak memory, in a process of its own for each row.",
)
rows = params.output("JSON Lines file that rows are added to.", required=False)


def seconds(default: str) -> Callable[[Function], Function]:
    """`--seconds`, with what its default is said to be."""
    return click.option(
        "--seconds", type=params.FiniteRange(0, min_open=True), help=f"How long. [default: {default}]"
    )


def make_plan(quick: bool, runs: int | None, seconds: float | None) -> Plan:
    """`timing_plan` with another time to spend on each, if one is given."""
    import dataclasses

    plan = timing_plan(quick, runs)
    return plan if seconds is None else dataclasses.replace(plan, seconds=seconds)


def finish(
    rows: Sequence[Row],
    output: Path | None,
    as_json: bool,
    show: Callable[[], None],
    skipped: Mapping[str, str] | None = None,
) -> None:
    """Adds the rows to the file, then prints them: as JSON lines, or by `show` with what was not measured below."""
    from edgefel.bench.results import append_results

    if output is not None:
        append_results(output, rows)
    if as_json:
        for row in rows:
            click.echo(json.dumps(row.to_dict(), ensure_ascii=False, allow_nan=False))
    else:
        show()
        show_notes(rows)
    for name, reason in (skipped or {}).items():
        click.echo(f"not measured: {name}: {reason}", err=as_json)


def show_notes(rows: Sequence[Row]) -> None:
    """Notes below a table, each once with the rows that it is on; all of them need no names."""
    by_note: dict[str, list[str]] = {}
    for row in rows:
        for note in row.notes:
            by_note.setdefault(note, []).append(row.name)
    for note, names in by_note.items():
        click.echo(note if len(names) == len(rows) else f"{'; '.join(names)}: {note}")


def interval(timing: Mapping[str, Any]) -> str:
    """Median and interval of a timing for a table, "12.3 (12.1-12.6)", with a mark if it is not stable."""
    low, high = timing["p50_interval"]
    mark = "" if timing["stable"] else " ~"
    return f"{number(timing['p50'])} ({number(low)}-{number(high)}){mark}"


def times(ratio: Mapping[str, Any] | None) -> str:
    """A ratio for a table, "1.52 (1.49-1.55)"; "-" where there is none."""
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
