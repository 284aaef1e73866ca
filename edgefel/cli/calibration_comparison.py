"""`edgefel calibrate --compare`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from edgefel.cli.console import table_console
from edgefel.cli.export_progress import RichProgress
from edgefel.cli.optional import require
from edgefel.text import counted

if TYPE_CHECKING:
    from edgefel.bench.experiments.calibration.comparison import Comparison

_SHOWN = ("macro_f1", "accuracy", "tail_accuracy", "agreement", "sqnr_db")
_TITLES = ("macro F1, %", "accuracy, %", "accuracy of tail, %", "agreement, %", "SQNR, dB")


def compare_and_show(
    data: Path,
    output: Path,
    checkpoint: Path,
    options: Mapping[str, Any],
    as_json: bool,
    layout: str | None = None,
) -> None:
    """Runs the comparison, writes the folder `output` and prints what came out. Bad input is refused at once."""
    for module in ("torch", "onnx", "onnxscript", "onnxsim", "matplotlib"):
        require(module, "export", "edgefel calibrate --compare")
    from edgefel.bench.experiments.calibration.comparison import (
        ComparisonOptions,
        compare_strategies,
        plan_comparison,
    )
    from edgefel.bench.experiments.calibration.report import comparison_document, write_comparison
    from edgefel.data.open import open_dataset
    from edgefel.data.preprocessing import Preprocessing
    from edgefel.export.bundle import tool_versions
    from edgefel.export.onnx.passes import spread_prelu
    from edgefel.export.onnx.trace import export_onnx
    from edgefel.files.write import check_free, sha256
    from edgefel.models.checkpoint import WEIGHTS_FILE, load_checkpoint

    chosen = ComparisonOptions(**options)
    check_free(output)
    dataset = open_dataset(data, layout=layout)
    loaded = load_checkpoint(checkpoint)
    preprocessing = Preprocessing.from_dict(loaded.preprocessing)
    plan = plan_comparison(dataset, loaded.labels, chosen)
    for line in plan.notes:
        click.echo(f"warning: {line}", err=True)
    with _TimeLeft() as progress:
        progress.start("trace and simplify")
        # as the INT8 file for ONNX Runtime starts from
        graph, _ = spread_prelu(export_onnx(loaded.model, input_size=preprocessing.output_size))
        comparison = compare_strategies(graph, preprocessing, plan, progress)
    source = {
        "checkpoint": loaded.path.name,
        "sha256": sha256(loaded.path / WEIGHTS_FILE),
        "model": loaded.config.name,
        "data": data.name,
        **({} if dataset.votes is None else {"votes": dataset.votes.file}),
    }
    if dataset.votes is not None:
        layout = dataset.votes.layout
    command = _command(data, layout, output, checkpoint, chosen)
    document = comparison_document(comparison, source, tool_versions(), command)
    write_comparison(output, comparison, document)
    if comparison.skipped:
        named = ", ".join(path.name for path in comparison.skipped[:3])
        click.echo(
            f"warning: {counted(len(comparison.skipped), 'unreadable image')} skipped: {named}", err=True
        )
    if as_json:
        click.echo(json.dumps({"folder": str(output), **document}, indent=2, allow_nan=False))
    else:
        _show(comparison, output)


class _TimeLeft(RichProgress):
    """With the time that is left instead of the time that has passed: a comparison takes minutes."""

    def __init__(self) -> None:
        super().__init__()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bars = Bars(*columns, console=Console(stderr=True))


def _command(data: Path, layout: str | None, output: Path, checkpoint: Path, options: Any) -> str:
    """The line that repeats the comparison, with every value that was in force."""
    words = [
        "edgefel",
        "calibrate",
        str(data),
        "--compare",
        "--checkpoint",
        str(checkpoint),
        "-o",
        str(output),
    ]
    if layout is not None:
        words += ["--layout", layout]
    for size in options.per_class:
        words += ["--per-class", str(size)]
    for name in ("seeds", "imbalance", "method", "images", "group_cap", "seed"):
        value = getattr(options, name)
        if value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)


def _show(comparison: Comparison, output: Path) -> None:
    from rich.table import Table

    from edgefel.bench.experiments.calibration.report import shown, verdicts

    table = Table(title=f"{output}: means over {counted(comparison.options.seeds, 'seed')} [95 % interval]")
    table.add_column("per class", justify="right")
    table.add_column("calibrated on", no_wrap=True)
    for title in _TITLES:
        table.add_column(title, justify="right", no_wrap=True)
    previous: int | None = None
    for summary in comparison.summaries:
        if summary.per_class != previous:
            table.add_section()
        previous = summary.per_class
        fp32 = summary.per_class is None
        # FP32 agrees with itself: nothing is measured by saying so
        cells = [
            ""
            if fp32 and name not in ("macro_f1", "accuracy", "tail_accuracy")
            else shown(name, summary.measures[name])
            for name in _SHOWN
        ]
        table.add_row("" if fp32 else str(summary.per_class), summary.strategy, *cells)
    table_console().print(table)
    for line in verdicts(comparison):
        click.echo(line)
