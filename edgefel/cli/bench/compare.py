"""`edgefel bench compare`: models and backends against each other in one run."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefel.cli import params
from edgefel.cli.bench import options
from edgefel.cli.console import Bars, table_console
from edgefel.cli.lazy import require
from edgefel.cli.param_types import name_list
from edgefel.errors import EdgefelError
from edgefel.files.unfinished import claimed_folder
from edgefel.report.formats import MISSING
from edgefel.text import counted

if TYPE_CHECKING:
    from edgefel.bench.results import Measured, Row

PRECISIONS = ("fp32", "fp16", "int8")
QUICK_BASELINE = "poster-v2"
QUICK_MODELS = ("arbex", QUICK_BASELINE)
QUICK_PRECISIONS = ("fp32", "int8")


def _show(rows: Sequence[Row]) -> None:
    from edgefel.bench.report.headline import choose

    groups: dict[tuple[int, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.subject["batch"], row.subject["threads"]), []).append(row)
    for (batch, threads), turns in groups.items():
        title = (
            f"batch {batch}, {counted(threads, 'thread')}; times as fast as {turns[0].metrics['ratio']['to']}"
        )
        options.table(turns, title, ("model", "precision", "backend"), _cells(turns), title_left=True)
    console = table_console()
    if not all(row.metrics["ratio"]["stable"] for row in rows):
        console.print(
            "not stable: the ratio's interval is wider than 5 %, or the halves of the run differ by more; the "
            "rows (-o, --json) say which"
        )
    device = rows[0].environment
    for line in (choose(rows).text, f"{device['device']}; commit {device['commit'] or 'unknown'}"):
        console.print(line, markup=False, highlight=False)


def _cells(rows: Sequence[Row]) -> options.Cells:
    cells: options.Cells = {
        ">ms p50": "{latency_ms[p50]:.2f}",
        ">p99": "{latency_ms[p99]:.2f}",
        ">times as fast": "{ratio[value]:.2f}",
        ">95 %": "{ratio[interval][0]:.2f} to {ratio[interval][1]:.2f}",
        ">MB": "{file_bytes!M:.1f}",
        ">peak MB": "{peak_memory_mb:.0f}",
    }
    stable: options.Cells = {"stable": lambda row: "yes" if row.metrics["ratio"]["stable"] else "no"}
    if not any("accuracy" in row.metrics for row in rows):
        return {**cells, **stable}

    def worst(row: Row) -> str:
        recall = {name: share for name, share in row.metrics["recall"].items() if share is not None}
        name = min(recall, key=lambda name: recall[name], default=None)
        return MISSING if name is None else f"{name} {100 * recall[name]:.0f} %"

    return {
        **cells,
        ">accuracy": "{accuracy!c:.1f} %",
        ">macro F1": "{macro_f1!c:.1f} %",
        ">worst class": worst,
        **stable,
    }


def _torch_alone(backends: Sequence[str] | None) -> bool:
    """Whether no exported file is needed, which takes a minute to make."""
    from edgefel.bench.compare.contenders import PYTORCH
    from edgefel.bench.compare.cuda import CUDA

    return backends is not None and set(backends) <= {*PYTORCH, *CUDA}


@click.command("compare")
@click.argument("models", nargs=-1, shell_complete=params.models_or_files)
@params.data("Labelled images: accuracy of trained models.")
@params.layout
@click.option("--images", type=int, default=700, help="Number of images, drawn evenly from the classes.")
@params.precisions(PRECISIONS, help="Exported files.  [default: fp32,fp16,int8]")
@click.option(
    "--backend",
    "backends",
    type=name_list(),
    help="pytorch, torch.compile, the runtime's backends, and on a GPU pytorch-cuda, torch.compile-cuda, edgefel-cuda, "
    "edgefel-compile-cuda; comma-separated.  [default: all here]",
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
@options.results(_show)
def command(
    models: tuple[str, ...],
    precisions: tuple[str, ...],
    quick: bool,
    runs: int | None,
    bars: Bars,
    **chosen: Any,
) -> Measured:
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
      edgefel bench compare arbex --backend pytorch-cuda,edgefel-cuda --precision fp16 --batch-sizes 1,64
    """
    params.refuse_layout_alone()
    require("train", "edgefel bench compare", "torch")
    require("export", "edgefel bench compare", "onnx")
    from edgefel.bench.compare.contenders import Subject, prepare
    from edgefel.bench.compare.run import CompareOptions, compare
    from edgefel.models.registry import list_models

    wanted = CompareOptions(
        precisions=precisions or (QUICK_PRECISIONS if quick else PRECISIONS),
        plan=options.make_plan(quick, runs),
        leave_out=("torch.compile",) if quick else (),
        **chosen,
    )
    with claimed_folder(Path(tempfile.gettempdir(), "edgefel-bench"), sole=False) as work:
        subjects: list[Subject] = []
        for number, model in enumerate(models or (QUICK_MODELS if quick else list_models())):
            folder = work / str(number)
            folder.mkdir()
            click.echo(f"preparing {model}", err=True)
            export = not (quick and model == QUICK_BASELINE) and not _torch_alone(wanted.backends)
            subject = prepare(
                model, folder, wanted.precisions, wanted.data, bars, export=export, layout=wanted.layout
            )
            if subject.name in {other.name for other in subjects}:
                raise EdgefelError(
                    f"{model}: another one is called {subject.name} too; compare them one after the other"
                )
            subjects.append(subject)
        return compare(subjects, wanted, bars.share)
