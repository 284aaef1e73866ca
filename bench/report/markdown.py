"""Result rows as Markdown, for a README: a sentence and a table for each device."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence

from edgefel.bench.report import tables
from edgefel.bench.report.headline import MOST_DROP, choose
from edgefel.bench.report.rows import Collection
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
    "profile": "Profile by groups of operators",
    "roofline": "Roofline: a bound, not a measurement",
}


def render(collection: Collection, most_drop: float = MOST_DROP) -> str:
    """GitHub's Markdown. most_drop: points of accuracy that the recommended row may be below the most accurate."""
    parts = []
    for device, groups in collection.by_device().items():
        rows = [group.newest for group in groups]
        found = choose(rows, most_drop)
        parts += [f"### {plain(device)}", plain(found.text), _table(tables.summary(groups, found.best))]
        others = tables.others(rows)
        for kind, title in _TITLES.items():
            if others[kind].lines:
                parts += [f"#### {title}", _table(others[kind])]
    return "\n\n".join(part for part in parts if part) + "\n"


def markdown_table(
    head: Sequence[str], body: Iterable[Sequence[str]], left: Container[int] = (0,), gap: str = " "
) -> list[str]:
    """Lines of a Markdown table. left: columns of text; numbers stand right. gap: around the dashes of the rule."""
    rule = [f"{gap}---{'' if number in left else ':'}{gap}" for number in range(len(head))]
    return [
        f"| {' | '.join(head)} |".replace("  ", " "),
        f"|{'|'.join(rule)}|",
        *(f"| {' | '.join(row)} |" for row in body),
    ]


def plain(words: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return words.translate(_SPECIAL)


def _table(table: Table) -> str:
    left = [index for index, numeric in enumerate(table.numeric) if not numeric]
    body = (_line(cells, index == table.best) for index, cells in enumerate(table.lines))
    return "\n".join(markdown_table([*map(plain, table.titles)], body, left)) if table.lines else ""


def _line(cells: Sequence[Cell], best: bool) -> list[str]:
    """The recommended line is bold."""
    texts = [plain(cell.text) + (f" ({plain(cell.aside)})" if cell.aside else "") for cell in cells]
    return [f"**{text}**" if best and text != MISSING else text for text in texts]
