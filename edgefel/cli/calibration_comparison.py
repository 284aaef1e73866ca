"""`edgefel calibrate --compare`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefel.cli.console import Bars, print_json, table_console, warn, warn_unreadable
from edgefel.cli.lazy import require
from edgefel.text import counted

if TYPE_CHECKING:
    from edgefel.bench.experiments.calibration.comparison import Comparison

_SHOWN = {
    "macro_f1": "macro F1, %",
    "accuracy": "accuracy, %",
    "tail_accuracy": "accuracy of tail, %",
    "agreement": "agreement, %",
    "sqnr_db": "SQNR, dB",
}


def compare_and_show(
    data: Path,
    output: Path,
    checkpoint: Path,
    options: Mapping[str, Any],
    as_json: bool,
    layout: str | None = None,
) -> None:
    """Runs the comparison, writes the folder `output` and prints the results. Bad input is refused at once."""
    require("export", "edgefel calibrate --compare", "torch", "onnx", "onnxscript", "onnxsim", "matplotlib")
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
    warn(*plan.notes)
    with Bars() as progress:
        progress.start("trace and simplify")
        # the same graph as for the INT8 file for ONNX Runtime
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
    warn_unreadable([path.name for path in comparison.skipped])
    if as_json:
        print_json({"folder": str(output), **document})
    else:
        _show(comparison, output)


def _command(data: Path, layout: str | None, output: Path, checkpoint: Path, options: Any) -> str:
    """The command that repeats the comparison, with the value of every option."""
    words = ["edgefel", "calibrate", "--data", str(data), "--compare"]
    words += ["--checkpoint", str(checkpoint), "-o", str(output)]
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
    from edgefel.bench.experiments.calibration.report import shown, verdicts
    from edgefel.cli.tables import make_table

    seeds = counted(comparison.options.seeds, "seed")
    columns = (">per class", "calibrated on", *(f">{title}" for title in _SHOWN.values()))
    table = make_table(columns, title=f"{output}: means over {seeds} [95 % interval]")
    previous: int | None = None
    for summary in comparison.summaries:
        if summary.per_class != previous:
            table.add_section()
        previous = summary.per_class
        fp32 = summary.per_class is None
        # FP32's agreement and SQNR with itself mean nothing
        cells = [
            "" if fp32 and name in ("agreement", "sqnr_db") else shown(name, summary.measures[name])
            for name in _SHOWN
        ]
        table.add_row("" if fp32 else str(summary.per_class), summary.strategy, *cells)
    table_console().print(table)
    for line in verdicts(comparison):
        click.echo(line)
