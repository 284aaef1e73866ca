"""What training runs came to on a test split, as published and without copies, and how they got there.

    python -m edgefel.bench.experiments.trained_runs runs/fer-plus-* --data FER+ > docs/results/fer-plus.json
    python -m edgefel.bench.experiments.trained_runs runs/fer-plus-* > docs/results/fer-plus-starts.json
    python -m edgefel.bench.experiments.trained_runs runs/fer-plus-nano-1 --data FER+ --beside fer-plus.json > new.json

Judges the best checkpoint of each run; without --data, only their curves. Runs of one model that differ in nothing but
their seed are its seeds. --beside: results of other runs, made earlier or on another machine, which are kept.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from edgefel.bench.command import run_bench, versions
from edgefel.errors import EdgefelError
from edgefel.evaluation.evaluate import Evaluation, evaluate
from edgefel.evaluation.metrics import Metrics
from edgefel.evaluation.plots import confusion_panel
from edgefel.files.documents import check_shape, read_json
from edgefel.files.read import open_csv
from edgefel.models.checkpoint import load_checkpoint
from edgefel.models.profile import profile
from edgefel.report.figures import new_figure
from edgefel.training.run_folder import RunFolder

# of metrics.csv, in the rows of validations
CURVE = ("epoch", "seconds", "loss", "accuracy", "val_accuracy", "val_macro_f1", "val_primary_accuracy")
EVALUATED = ("accuracy", "macro_f1", "ece", "recall", "confusion")
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
PATTERNS = ("-", "--", ":")


def curve(run: Path) -> list[dict[str, float]]:
    """A row for each validation of a run; the loss is the mean over the steps of its line of metrics.csv."""
    with open_csv(run / "metrics.csv") as table:
        rows = [dict(zip(table.columns, line, strict=True)) for line in table]
    return [{name: float(row[name]) for name in CURVE} for row in rows if row["val_accuracy"]]


def scores(metrics: Metrics | None) -> dict[str, Any] | None:
    """Plain JSON values; None where nothing was judged."""
    return {name: getattr(metrics, name) for name in EVALUATED} if metrics else None


def describe(run: Path) -> dict[str, Any]:
    """What was trained how, and its curve. Raises EdgefelError for what is not a run."""
    config = RunFolder(run).config()
    return {
        "run": run.name,
        "model": config.model,
        "seed": config.seed,
        "epochs": config.epochs,
        "precision": config.compute.precision,
        "teacher": Path(config.teacher).name if config.teacher else None,
        "init_from": [Path(path).name for path in config.init_from],
        "curve": curve(run),
    }


def judge(run: Path, data: Path, layout: str | None) -> dict[str, Any]:
    """What the best checkpoint of a run came to. Raises EdgefelError where there is none, or no other split."""
    checkpoint = load_checkpoint(run)
    cost = profile(checkpoint.model.config)
    found: Evaluation = evaluate(run, data, "test", layout=layout)
    if found.without_copies is None:
        raise EdgefelError(f"{data}: copies in other splits: {found.copies_unknown}")
    return {
        "parameters": cost.parameters,
        "macs": cost.macs,
        "best_epoch": checkpoint.extra["training"]["epoch"],
        "votes": found.votes and found.votes.file,
        "labels": found.labels,
        "counts": found.counts,
        "images": found.images,
        "as published": scores(found.final),
        "without head": scores(found.without_head),
        "images without copies": found.without_copies.images,
        "without copies": scores(found.without_copies.with_head or found.without_copies.without_head),
    }


def measure(
    runs: Sequence[Path], data: Path | None, layout: str | None, beside: Path | None = None
) -> dict[str, Any]:
    """The document of the results. beside: an earlier one, whose other runs come first."""
    given = {run.name for run in runs}
    earlier = check_shape(read_json(beside), {"runs": [{"run": str}]}, str(beside))["runs"] if beside else []
    kept = [run for run in earlier if run["run"] not in given]
    names = " ".join(f"runs/{name}" for name in (*(run["run"] for run in kept), *(run.name for run in runs)))
    return {
        "command": f"python -m edgefel.bench.experiments.trained_runs {names}{' --data FER+' if data else ''}",
        "versions": versions(torch=torch),
        "runs": kept + [{**describe(run), **(judge(run, data, layout) if data else {})} for run in runs],
    }


def curves_figure(document: Mapping[str, Any]) -> Any:
    """Accuracy on the split val by epoch, a line for each run."""
    figure = new_figure(7.0, 4.2)
    axis = figure.subplots()
    models = list(dict.fromkeys(kind(run) for run in document["runs"]))
    for run in document["runs"]:
        rows, colour = run["curve"], COLOURS[models.index(kind(run)) % len(COLOURS)]
        label = f"{kind(run)}, seed {run['seed']}"
        # a colour for each model, a pattern for each of its seeds
        style = {"color": colour, "linewidth": 1.4, "linestyle": PATTERNS[run["seed"] % len(PATTERNS)]}
        axis.plot(
            [row["epoch"] for row in rows], [100 * row["val_accuracy"] for row in rows], label=label, **style
        )
    axis.set(xlabel="epoch", ylabel="accuracy on the split val in %")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, loc="lower right")
    return figure


def kind(run: Mapping[str, Any]) -> str:
    """The model, and what taught it."""
    return f"{run['model']}, taught by {run['teacher']}" if run["teacher"] else str(run["model"])


def confusion_figure(run: Mapping[str, Any]) -> Any:
    """Counts in the cells, colour by share of the row."""
    side = 1.6 + 0.62 * len(run["labels"])
    figure = new_figure(side + 1.4, side + 0.6)
    axis = figure.subplots()
    published = Metrics(**run["as published"])
    image = confusion_panel(axis, f"{kind(run)}, seed {run['seed']}", published, tuple(run["labels"]))
    axis.set_ylabel("true")
    figure.colorbar(image, ax=axis, shrink=0.8, label="share of the true class")
    return figure


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--layout")
    parser.add_argument(
        "--beside", type=Path, metavar="FILE", help="earlier results; their other runs are kept"
    )
    sys.exit(run_bench(parser, measure))
