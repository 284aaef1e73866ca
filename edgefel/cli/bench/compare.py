"""`edgefel bench compare`: models and backends against each other in one run."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgefel.cli import params
from edgefel.cli.bench.common import BenchProgress, IntegerList, NameList, timing_plan
from edgefel.cli.bench.options import finish
from edgefel.cli.console import table_console
from edgefel.cli.optional import require
from edgefel.errors import EdgefelError
from edgefel.files.unfinished import claimed_folder
from edgefel.text import counted

if TYPE_CHECKING:
    from rich.table import Table

    from edgefel.bench.compare.run import Options
    from edgefel.bench.compare.subjects import Subject
    from edgefel.bench.results import Measured, Row

PRECISIONS = ("fp32", "fp16", "int8")
QUICK_BASELINE = "poster-v2"
QUICK_MODELS = ("arbex", QUICK_BASELINE)
QUICK_PRECISIONS = ("fp32", "int8")
QUICK_BACKENDS = ("pytorch", "onnxruntime", "openvino")


@click.command("compare")
@click.argument("models", nargs=-1)
@click.option("--data", type=click.Path(path_type=Path), help="Labelled images: accuracy of trained models.")
@params.layout
@click.option("--images", type=int, default=700, show_default=True, help="Images of them, evenly by class.")
@click.option(
    "--precision",
    "precisions",
    type=NameList(PRECISIONS),
    help="Of the exported files, with commas.  [default: fp32,fp16,int8]",
)
@click.option(
    "--backend",
    "backends",
    type=NameList(),
    help="pytorch, torch.compile and the runtime's, with commas; every one that is here by default.",
)
@click.option("--batch", "batches", type=IntegerList(), default="1", show_default=True, help="Batches.")
@click.option(
    "--threads", type=IntegerList(), default="1", show_default=True, help="CPU threads of one call."
)
@click.option(
    "--baseline", help='What ratios refer to, such as "poster-v2 fp32 pytorch", which is the default.'
)
@click.option("--no-memory", is_flag=True, help="Leave out the processes that measure peak memory.")
@click.option(
    "--quick",
    is_flag=True,
    help="arbex in FP32 and INT8 against PyTorch's poster-v2, few runs: three minutes on two cores.",
)
@click.option("--runs", type=int, help="Timed runs of each at least.  [default: 50; with --quick 8]")
@params.output("File of JSON lines that rows are added to.", required=False)
@params.json_output
def command(
    models: tuple[str, ...],
    data: Path | None,
    layout: str | None,
    images: int,
    precisions: tuple[str, ...] | None,
    backends: tuple[str, ...] | None,
    batches: tuple[int, ...],
    threads: tuple[int, ...],
    baseline: str | None,
    no_memory: bool,
    quick: bool,
    runs: int | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Models and backends against each other in one run: speed, accuracy, size, memory.

    MODELS are registered names (random weights: speed alone), run folders or checkpoints (exported first; accuracy on
    --data), and bundles. Without one, every registered model. All take turns, A B A B, so that ratios come from one
    run; outputs are compared with PyTorch's before anything is timed.

    \b
    Examples:
      edgefel bench compare --quick
      edgefel bench compare -o results.jsonl --threads 1,2
      edgefel bench compare runs/nano --data faces -o results.jsonl
      edgefel bench compare runs/raf-db --data RAF-DB --layout raf-db
      edgefel bench compare bundle --backend onnxruntime,openvino --batch 1,8
    """
    params.refuse_layout_alone("data")
    require("torch", "train", "edgefel bench compare")
    require("onnx", "export", "edgefel bench compare")
    from edgefel.bench.compare.run import Options, compare
    from edgefel.bench.results import check_writable

    if output is not None:
        check_writable(output)
    options = Options(
        precisions=precisions or (QUICK_PRECISIONS if quick else PRECISIONS),
        backends=backends,
        batches=batches,
        threads=threads,
        plan=timing_plan(quick, runs),
        baseline=baseline,
        data=data,
        layout=layout,
        images=images,
        memory=not no_memory,
        leave_out=("torch.compile",) if quick else (),
    )
    with claimed_folder(Path(tempfile.gettempdir(), "edgefel-bench"), sole=False) as work:
        subjects = _prepare(models or _all_models(quick), work, options, quick)
        with BenchProgress() as progress:
            found = compare(subjects, options, progress.show)
    finish(found.rows, output, as_json, lambda: _print(found), found.skipped)


def _all_models(quick: bool) -> Sequence[str]:
    from edgefel.models.registry import list_models

    return QUICK_MODELS if quick else list_models()


def _prepare(models: Sequence[str], work: Path, options: Options, quick: bool) -> list[Subject]:
    """Every model in every form that is compared."""
    from edgefel.bench.compare.subjects import prepare
    from edgefel.cli.export_progress import RichProgress

    subjects: list[Subject] = []
    for number, model in enumerate(models):
        folder = work / str(number)
        folder.mkdir()
        click.echo(f"preparing {model}", err=True)
        with RichProgress() as progress:
            export = not (quick and model == QUICK_BASELINE)
            subject = prepare(
                model,
                folder,
                options.precisions,
                options.data,
                progress,
                export=export,
                layout=options.layout,
            )
        if subject.name in {other.name for other in subjects}:
            raise EdgefelError(
                f"{model}: another one is called {subject.name} too; compare them one after the other"
            )
        subjects.append(subject)
    return subjects


def _print(found: Measured) -> None:
    from edgefel.bench.report.headline import choose

    console = table_console()
    for group in _groups(found.rows):
        console.print(_table(group))
    if not all(row.metrics["ratio"]["stable"] for row in found.rows):
        console.print(
            "not stable: the ratio's interval is wider than 5 %, or the halves of the run differ by more; the "
            "rows (-o, --json) say which"
        )
    console.print(choose(found.rows).text, markup=False, highlight=False)
    device = found.rows[0].environment
    console.print(
        f"{device['device']}; commit {device['commit'] or 'unknown'}", markup=False, highlight=False
    )


def _groups(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows that took turns."""
    groups: dict[tuple[int, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.subject["batch"], row.subject["threads"]), []).append(row)
    return list(groups.values())


def _table(rows: Sequence[Row]) -> Table:
    from rich.table import Table

    first = rows[0]
    threads = first.subject["threads"]
    table = Table(
        title=f"batch {first.subject['batch']}, {counted(threads, 'thread')}; times as fast as "
        f"{first.metrics['ratio']['to']}",
        title_justify="left",
    )
    for name in ("model", "precision", "backend"):
        table.add_column(name)
    judged = any("accuracy" in row.metrics for row in rows)
    columns = ["ms p50", "p99", "times as fast", "95 %", "MB", "peak MB"]
    columns += ["accuracy", "macro F1", "worst class"] if judged else []
    for name in columns:
        table.add_column(name, justify="right")
    table.add_column("stable")
    for row in rows:
        table.add_row(*_cells(row, judged))
    return table


def _cells(row: Row, judged: bool) -> list[str]:
    metrics, subject = row.metrics, row.subject
    latency, ratio = metrics["latency_ms"], metrics["ratio"]
    low, high = ratio["interval"]
    memory = metrics.get("peak_memory_mb")
    cells = [
        *(subject[name] for name in ("model", "precision", "backend")),
        f"{latency['p50']:.2f}",
        f"{latency['p99']:.2f}",
        f"{ratio['value']:.2f}",
        f"{low:.2f} to {high:.2f}",
        f"{metrics['file_bytes'] / 1e6:.1f}",
        "" if memory is None else f"{memory:.0f}",
    ]
    if judged:
        recall = {name: share for name, share in metrics.get("recall", {}).items() if share is not None}
        worst = min(recall, key=lambda name: recall[name], default=None)
        cells += [
            f"{100 * metrics['accuracy']:.1f} %" if "accuracy" in metrics else "",
            f"{100 * metrics['macro_f1']:.1f} %" if "macro_f1" in metrics else "",
            "" if worst is None else f"{worst} {100 * recall[worst]:.0f} %",
        ]
    return [*cells, "yes" if ratio["stable"] else "no"]
