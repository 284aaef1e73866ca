"""`edgefel bench compare`: models and backends against each other in one run."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefel.cli import params
from edgefel.cli.bench import options
from edgefel.cli.console import Bars, print_table, table_console
from edgefel.cli.lazy import require
from edgefel.cli.param_types import name_list
from edgefel.errors import EdgefelError
from edgefel.files.unfinished import claimed_folder
from edgefel.text import counted

if TYPE_CHECKING:
    from edgefel.bench.compare.run import CompareOptions
    from edgefel.bench.compare.subjects import Subject
    from edgefel.bench.results import Row

PRECISIONS = ("fp32", "fp16", "int8")
QUICK_BASELINE = "poster-v2"
QUICK_MODELS = ("arbex", QUICK_BASELINE)
QUICK_PRECISIONS = ("fp32", "int8")


@click.command("compare")
@click.argument("models", nargs=-1)
@params.data("Labelled images: accuracy of trained models.")
@params.layout
@click.option("--images", type=int, default=700, help="Number of images, drawn evenly from the classes.")
@params.precisions(PRECISIONS, help="Exported files.  [default: fp32,fp16,int8]")
@click.option(
    "--backend",
    "backends",
    type=name_list(),
    help="pytorch, torch.compile and the runtime's backends, comma-separated.  [default: all here]",
)
@params.batch_sizes()
@params.thread_counts("CPU threads per call.", default="1")
@click.option("--baseline", help='What ratios refer to.  [default: "poster-v2 fp32 pytorch"]')
@options.memory
@click.option(
    "--quick",
    is_flag=True,
    help="arbex in FP32 and INT8 against PyTorch's poster-v2, few runs: three minutes on two cores.",
)
@options.runs
@options.rows
@params.json_output
def command(
    models: tuple[str, ...],
    precisions: tuple[str, ...],
    quick: bool,
    runs: int | None,
    output: Path | None,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Models and backends in one run: speed, accuracy, size, memory.

    MODELS are registered names (random weights: speed alone), run folders or checkpoints (exported first; accuracy on
    --data), and bundles. Without one, every registered model. All take turns, A B A B, so that ratios come from one
    run; outputs are compared with PyTorch's before anything is timed.

    \b
    Examples:
      edgefel bench compare --quick
      edgefel bench compare -o results.jsonl --threads 1,2
      edgefel bench compare runs/nano --data faces -o results.jsonl
      edgefel bench compare runs/raf-db --data RAF-DB --layout raf-db
      edgefel bench compare bundle --backend onnxruntime,openvino --batch-sizes 1,8
    """
    params.refuse_layout_alone()
    require("train", "edgefel bench compare", "torch")
    require("export", "edgefel bench compare", "onnx")
    from edgefel.bench.compare.run import CompareOptions, compare
    from edgefel.models.registry import list_models

    wanted = CompareOptions(
        precisions=precisions or (QUICK_PRECISIONS if quick else PRECISIONS),
        plan=options.make_plan(quick, runs),
        leave_out=("torch.compile",) if quick else (),
        **chosen,
    )
    with claimed_folder(Path(tempfile.gettempdir(), "edgefel-bench"), sole=False) as work:
        subjects = _prepare(models or (QUICK_MODELS if quick else list_models()), work, wanted, quick)
        with Bars(waiting="preparing") as bars:
            found = compare(subjects, wanted, bars.share)
    options.finish(found.rows, output, as_json, _print, found.skipped)


def _prepare(models: Sequence[str], work: Path, wanted: CompareOptions, quick: bool) -> list[Subject]:
    from edgefel.bench.compare.subjects import prepare

    subjects: list[Subject] = []
    for number, model in enumerate(models):
        folder = work / str(number)
        folder.mkdir()
        click.echo(f"preparing {model}", err=True)
        export = not (quick and model == QUICK_BASELINE)
        with Bars() as bars:
            subject = prepare(
                model, folder, wanted.precisions, wanted.data, bars, export=export, layout=wanted.layout
            )
        if subject.name in {other.name for other in subjects}:
            raise EdgefelError(
                f"{model}: another one is called {subject.name} too; compare them one after the other"
            )
        subjects.append(subject)
    return subjects


def _print(rows: Sequence[Row]) -> None:
    from edgefel.bench.report.headline import choose

    groups: dict[tuple[int, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.subject["batch"], row.subject["threads"]), []).append(row)
    for (batch, threads), turns in groups.items():
        judged = any("accuracy" in row.metrics for row in turns)
        quality = (">accuracy", ">macro F1", ">worst class") if judged else ()
        numbers = (">ms p50", ">p99", ">times as fast", ">95 %", ">MB", ">peak MB")
        to = turns[0].metrics["ratio"]["to"]
        print_table(
            ("model", "precision", "backend", *numbers, *quality, "stable"),
            [_cells(row, judged) for row in turns],
            f"batch {batch}, {counted(threads, 'thread')}; times as fast as {to}",
            title_left=True,
        )
    console = table_console()
    if not all(row.metrics["ratio"]["stable"] for row in rows):
        console.print(
            "not stable: the ratio's interval is wider than 5 %, or the halves of the run differ by more; the "
            "rows (-o, --json) say which"
        )
    device = rows[0].environment
    for line in (choose(rows).text, f"{device['device']}; commit {device['commit'] or 'unknown'}"):
        console.print(line, markup=False, highlight=False)


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
