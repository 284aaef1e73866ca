"""Result rows as Markdown, for a README: a sentence and a table for each device."""

from __future__ import annotations

from collections.abc import Sequence

from edgefel.bench.report import tables
from edgefel.bench.report.headline import MOST_DROP, choose
from edgefel.bench.report.rows import Collection, repetitions
from edgefel.report.formats import MISSING
from edgefel.report.tables import Cell, Table

# what Markdown would take for its own, or for HTML
_SPECIAL = str.maketrans({sign: f"\\{sign}" for sign in "\\`*_[]|<>#"} | {"\n": " ", "\r": " "})
# titles of the tables of `tables.others`, in their order here
_TITLES = {
    "throughput": "Throughput",
    "recall": "Recall by class",
    "train": "Training",
    "data-path": "Data path",
    "ablation": "Experiments",
    "roofline": "Roofline: a bound, not a measurement",
}


def render(collection: Collection, most_drop: float = MOST_DROP) -> str:
    """GitHub's Markdown. most_drop: points of accuracy that the recommended row may be below the most accurate."""
    groups = list(repetitions(collection.rows).values())
    parts = []
    for device in collection.devices:
        own = [group for group in groups if group.newest.device == device]
        rows = [group.newest for group in own]
        found = choose(rows, most_drop)
        parts += [f"### {plain(device)}", plain(found.text), _table(tables.summary(own, found.best))]
        others = tables.others(rows)
        for kind, title in _TITLES.items():
            if others[kind].lines:
                parts += [f"#### {title}", _table(others[kind])]
    return "\n\n".join(part for part in parts if part) + "\n"


def plain(words: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return words.translate(_SPECIAL)


def _table(table: Table) -> str:
    if not table.lines:
        return ""
    lines = [
        [plain(title) for title in table.titles],
        ["---:" if numeric else "---" for numeric in table.numeric],
        *(_line(cells, index == table.best) for index, cells in enumerate(table.lines)),
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _line(cells: Sequence[Cell], best: bool) -> list[str]:
    """The recommended line is bold."""
    texts = [plain(cell.text) + (f" ({plain(cell.aside)})" if cell.aside else "") for cell in cells]
    return [f"**{text}**" if best and text != MISSING else text for text in texts]
