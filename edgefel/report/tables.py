"""Tables as the pages and the Markdown share them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgefel.report.formats import MISSING, percent, significant


@dataclass(frozen=True)
class Cell:
    """text: as it is read. order: what the column is sorted by, None for a missing value, which is always last.
    aside: smaller, after the text, such as an interval. hint: the tooltip. strong: whether it stands out."""

    text: str = MISSING
    order: float | str | None = None
    aside: str = ""
    hint: str = ""
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """titles: with the unit. numeric: which columns are aligned right and sorted as numbers. lines: a cell for each
    title. best: index of the line that is pointed out."""

    titles: tuple[str, ...]
    numeric: tuple[bool, ...]
    lines: tuple[tuple[Cell, ...], ...]
    best: int | None = None


def table_of(titles: Sequence[str], lines: Sequence[Sequence[Cell]]) -> Table:
    """A table whose first column holds names; the others hold numbers where no cell is ordered by text."""
    numeric = tuple(
        column > 0 and not any(isinstance(line[column].order, str) for line in lines)
        for column in range(len(titles))
    )
    return Table(tuple(titles), numeric, tuple(map(tuple, lines)))


def word(text: str) -> Cell:
    """A name."""
    return Cell(text, text)


def number(value: float | None) -> Cell:
    """Three significant digits."""
    return Cell(significant(value), value)


def share(value: float | None, *, strong: bool = False) -> Cell:
    """A share from 0 to 1 in percent."""
    return Cell(percent(value), value, strong=strong)
