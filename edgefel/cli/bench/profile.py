"""`edgefel bench profile`: where a session's time goes, by groups of operators."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefel.cli import params
from edgefel.cli.bench import options
from edgefel.cli.console import Bars, print_table
from edgefel.cli.lazy import require
from edgefel.cli.param_types import POSITIVE
from edgefel.files.unfinished import claimed_folder
from edgefel.report.formats import MISSING, significant

if TYPE_CHECKING:
    from edgefel.bench.results import Measured, Row

# of a registered model
PRECISIONS = ("fp32", "int8")


def _show(by: str, rows: Sequence[Row]) -> None:
    timed = [row for row in rows if "latency_ms" in row.metrics]
    for row in timed:
        _show_times(row, by)
    if len(timed) < len(rows):
        _show_counts([row for row in rows if row not in timed], by)


def _show_times(row: Row, by: str) -> None:
    metrics = row.metrics
    own = metrics["latency_ms"]["p50"]
    title = (
        f"{row.name}: {significant(own)} ms a call, {significant(metrics['profiled_ms'])} with the profiler; "
        f"{metrics['nodes']} nodes, {significant(metrics['nodes_ms'])} ms an image"
    )
    columns = [*_columns(by), ">nodes", ">ms", ">share", *([">GOP/s"] if by == "group" else [])]
    lines = []
    for names, part in _parts(row, by):
        lines.append([*names, str(part["nodes"]), f"{part['ms']:.3f}", f"{part['share']:.1%}"])
        if by == "group":
            lines[-1].append(significant(part["gops"]) if "gops" in part else MISSING)
    print_table(columns, lines, title, title_left=True)
    slowest = [
        (one["name"], one["op"], one["group"], f"{one['ms']:.3f}") for one in metrics.get("slowest", ())
    ]
    if slowest:
        print_table(("~node", "operator", "group", ">ms"), slowest, "the slowest nodes", title_left=True)


def _show_counts(rows: Sequence[Row], by: str) -> None:
    """A column of nodes for each file and backend."""
    counts = [{names: part["nodes"] for names, part in _parts(row, by)} for row in rows]
    names = dict.fromkeys(name for found in counts for name in found)
    lines = [(*name, *(str(found.get(name, 0)) for found in counts)) for name in names]
    total = ("all", *[""] * (len(_columns(by)) - 1), *(str(row.metrics["nodes"]) for row in rows))
    models = len({row.subject["model"] for row in rows}) > 1
    heads = [
        " ".join(str(row.subject[field]) for field in ("model", "precision", "backend")[not models :])
        for row in rows
    ]
    title = f"{', '.join(dict.fromkeys(row.subject['model'] for row in rows))}: nodes that are executed"
    print_table((*_columns(by), *(f">{head}" for head in heads)), [*lines, total], title, title_left=True)


def _columns(by: str) -> tuple[str, str]:
    return ("group", "~what") if by == "group" else ("operator", "group")


def _parts(row: Row, by: str) -> list[tuple[tuple[str, str], dict[str, Any]]]:
    """The two names of a line of the table, and its numbers."""
    from edgefel.bench.profile.names import GROUPS

    if by == "operator":
        return [((one["op"], one["group"]), one) for one in row.metrics["operators"]]
    return [((name, GROUPS.get(name, "")), part) for name, part in row.metrics["groups"].items()]


@click.command("profile")
@click.argument("models", nargs=-1, shell_complete=params.models_or_files)
@options.backends
@options.precisions
@params.batch_sizes()
@params.thread_counts("CPU threads per call.", default="1")
@click.option(
    "--by",
    type=click.Choice(["group", "operator"]),
    default="group",
    help="Lines of the table: groups of operators, or single operators.",
)
@click.option("--top", type=click.IntRange(min=0), default=0, help="Number of the slowest nodes to list.")
@click.option("--count", is_flag=True, help="Only count the nodes that are executed; nothing is timed.")
@click.option("--runs", type=POSITIVE, help="Minimum number of timed runs.  [default: 20]")
@params.force()
@options.rows
@params.json_output
def command(
    models: tuple[str, ...],
    by: str,
    runs: int | None,
    threads: tuple[int, ...],
    output: Path | None,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Where the time of a call goes: convolutions, quantizing, activations, layout, attention.

    MODELS are as of `bench compare`: bundles, checkpoints and run folders, registered names (random weights); by
    default the network that comes with edgefel. ONNX Runtime's and OpenVINO's own profilers say what every node takes
    that they execute after their fusions. Each file is open twice, with the profiler and without, and the two take
    turns, so that the table shows what profiling adds. Times are medians, OpenVINO's means. docs/int8-profile.md says
    what each group is.

    With --count nothing is timed, and each file is counted in the backends that it is made for, also one whose INT8
    this processor computes wrongly.

    \b
    Examples:
      edgefel bench profile bundle --backend onnxruntime --top 10
      edgefel bench profile arbex --precision int8,int8+fp16 --threads 1,2 -o profile.jsonl
      edgefel bench profile bundle --by operator --json
      edgefel bench profile arbex --count
    """
    require("export", "edgefel bench profile", "onnx")
    import dataclasses
    from functools import partial

    from edgefel.bench.profile.run import PLAN, ProfileOptions

    plan = PLAN
    if runs is not None:
        plan = dataclasses.replace(PLAN, min_runs=runs, max_runs=max(runs, PLAN.max_runs))
    wanted = ProfileOptions(threads=threads, plan=plan, **chosen)
    with Bars(waiting="preparing") as bars:
        measured = [_measured(model, wanted, bars) for model in models or (None,)]
    options.finish([row for one in measured for row in one.rows], output, as_json, partial(_show, by))
    for one in measured:
        for name, reason in one.skipped.items():
            click.echo(f"not measured: {name}: {reason}", err=as_json)


def _measured(model: str | None, wanted: Any, bars: Bars) -> Measured:
    """Rows of one of the models, which is exported first where it is no bundle."""
    from edgefel.bench.profile.run import bench_profile
    from edgefel.runtime.manifest import MANIFEST_NAME
    from edgefel.runtime.shipped import shipped_bundle

    if model is None or Path(model, MANIFEST_NAME).is_file():
        return bench_profile(model or shipped_bundle(), wanted, bars.share)
    require("export", f"profiling {model}", "torch")
    from edgefel.bench.compare.contenders import prepare

    with claimed_folder(Path(tempfile.gettempdir(), "edgefel-bench"), sole=False) as work:
        # INT8 is written for ONNX Runtime and for OpenVINO, as two precisions
        asked = wanted.precisions or PRECISIONS
        made = tuple(dict.fromkeys("int8" if name == "int8+fp16" else name for name in asked))
        subject = prepare(model, work, made, progress=bars)
        return bench_profile(subject.folder, wanted, bars.share)
