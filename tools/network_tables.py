"""Tables of the networks that come with edgefel: docs/networks.md and the model card."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Any

from markdown_tables import Cell, Values, grid, paragraphs, table, text

from edgefel.bench.experiments.trained_runs import kind
from edgefel.evaluation.groups import wilson

# on FER+ test by the majority of votes; arXiv 1608.01041 and 2106.16126
PUBLISHED = (
    {"name": "VGG13 (Barsoum et al. 2016)", "parameters": 8.75e6, "accuracy": "85.0", "found": True},
    {"name": "EmoXNetLite", "parameters": None, "accuracy": "82.1"},
    {"name": "EmoXNet, an ensemble", "parameters": None, "accuracy": "85.1"},
)


def by_kind(document: Values) -> dict[str, list[Values]]:
    """Runs that differ in nothing but their seed."""
    found: dict[str, list[Values]] = {}
    for run in document["runs"]:
        found.setdefault(kind(run), []).append(run)
    return found


def over_seeds(runs: Sequence[Values], part: str, name: str, scale: float, form: str) -> str:
    """The mean, and with several seeds the least and the greatest."""
    values = [scale * run[part][name] for run in runs]
    if len(values) == 1:
        return format(values[0], form)
    return f"{mean(values):{form}} ({min(values):{form}} to {max(values):{form}})"


@table("networks", "fer-plus.json")
def networks(document: Values) -> str:
    rows: list[dict[str, Any]] = []
    for name, runs in by_kind(document).items():
        row = {
            "name": f"`{name}`",
            "seeds": len(runs),
            **{key: runs[0][key] for key in ("parameters", "macs")},
        }
        for part in ("as published", "without copies"):
            row[part] = over_seeds(runs, part, "accuracy", 100, ".1f")
            row[f"{part}, f1"] = over_seeds(runs, part, "macro_f1", 1, ".3f")
        row["without head"] = over_seeds(runs, "without head", "accuracy", 100, ".1f")
        rows.append(row)
    columns: dict[str, Cell] = {
        "network": "{name}",
        "parameters": "{parameters!M:.2f} M",
        "GMAC": "{macs!G:.3f}",
        "seeds": "{seeds}",
        "accuracy, %": "{as published}",
        "macro F1": "{as published, f1}",
        "without copies: accuracy, %": "{without copies}",
        "macro F1 ": "{without copies, f1}",
        "without the head: accuracy, %": "{without head}",
    }
    first = document["runs"][0]
    return paragraphs(
        grid(rows, columns),
        f"{first['images']} images of FER+ test, {len(first['labels'])} classes by {first['votes']}; "
        f"{first['images without copies']} of them have no copy in another split. Mean over the seeds, with the least "
        f"and the greatest. Made by {document['made_by']}.",
    )


@table("network by class", "fer-plus.json")
def by_class(document: Values) -> str:
    """Recall of each class, of the first seed of each network."""
    first = {name: runs[0] for name, runs in by_kind(document).items()}
    labels, counts = next(iter(first.values()))["labels"], next(iter(first.values()))["counts"]
    rows = []
    for number, (label, count) in enumerate(zip(labels, counts, strict=True)):
        row: dict[str, Any] = {"label": label, "images": count}
        for name, run in first.items():
            share = wilson(run["as published"]["confusion"][number][number], count)
            row[name] = text("{value!c:.1f} ({low!c:.1f} to {high!c:.1f})", vars(share))
        rows.append(row)
    columns: dict[str, Cell] = {"class": "{label}", "images": "{images}"}
    columns |= {f"`{name}`: recall, %": f"{{{name}}}" for name in first}
    return paragraphs(grid(rows, columns), f"With 95 % intervals. Made by {document['made_by']}.")


@table("network starts", "fer-plus-starts.json")
def starts(document: Values) -> str:
    """Accuracy on val after the first epochs, by what a run starts from."""
    rows: dict[int, dict[str, Any]] = {}
    for run in document["runs"]:
        name = "synthetic faces first" if run["init_from"] else "random weights"
        for point in run["curve"]:
            rows.setdefault(int(point["epoch"]), {"epoch": int(point["epoch"])})[name] = point
    both = [row for row in rows.values() if len(row) == 1 + len(document["runs"])]
    columns: dict[str, Cell] = {"epoch": "{epoch}"}
    for name in (key for key in both[0] if key != "epoch"):
        columns[f"{name}: val accuracy, %"] = f"{{{name}[val_accuracy]!c:.1f}}"
        columns[f"{name}: without head, %"] = f"{{{name}[val_primary_accuracy]!c:.1f}}"
    return paragraphs(grid(both, columns), f"Made by {document['made_by']}.")
