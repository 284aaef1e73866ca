"""Tables that keep words and numbers whole, however narrow the terminal is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from edgefel.text import printable

# minimum width of a column that gives way
_LEAST_NAME = 8


def make_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str | Text]] = (),
    title: str = "",
    *,
    title_left: bool = False,
) -> Table:
    """A table of plain text, without rich's markup.

    columns: headers; ">" in front of one right-justifies its column, "~" lets the column give way first (file names).
    """
    table = Table(
        title=Text(title, "table.title") if title else None, title_justify="left" if title_left else "center"
    )
    for column in columns:
        table.add_column(
            Text(column.lstrip(">~")),
            justify="right" if column.startswith(">") else "left",
            overflow="fold" if column.startswith("~") else "ellipsis",
        )
    for row in rows:
        table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    return table


class TableConsole(Console):
    """A console that fits tables to its width."""

    def print(self, *objects: Any, **options: Any) -> None:
        for each in objects:
            if isinstance(each, Table):
                for part in fitted(each, self):
                    super().print(part)
            else:
                super().print(each, **options)


def fitted(table: Table, console: Console) -> list[Table | Text]:
    """The table with columns that fit the console, or its rows as lists.

    Lines break between words. Where that is too wide, columns whose overflow is "fold" (file names) break anywhere;
    next the lines between columns are dropped; finally each row becomes lines of "column: value". Control characters
    are written as escapes.
    """
    cells = [[_text(cell, console) for cell in column.cells] for column in table.columns]
    heads = [_text(column.header, console) for column in table.columns]
    count = len(table.columns)
    for compact, between in ((False, 3 * count + 1), (True, max(0, count - 1))):
        widths = _widths(table.columns, heads, cells, console.width - between)
        if widths is not None:
            return [_table(table, heads, cells, widths, compact)]
    return _records(table, heads, cells)


def _widths(columns: list[Column], heads: list[Text], cells: list[list[Text]], room: int) -> list[int] | None:
    """The width of each column; None where words would have to break."""
    widths, least = [], []
    for column, head, rows in zip(columns, heads, cells, strict=True):
        widths.append(max(_longest(text.plain.splitlines()) for text in (head, *rows)))
        word = max(_longest(text.plain.split()) for text in (head, *rows))
        if column.overflow == "fold":
            word = max(_longest(head.plain.split()), min(word, _LEAST_NAME))
        least.append(word)
    names = [column.overflow == "fold" for column in columns]
    for these in (names, [not name for name in names]):
        while sum(widths) > room and (
            wide := [i for i, on in enumerate(these) if on and widths[i] > least[i]]
        ):
            widths[max(wide, key=lambda i: widths[i])] -= 1
    return widths if sum(widths) <= room else None


def _table(
    table: Table, heads: list[Text], cells: list[list[Text]], widths: list[int], compact: bool
) -> Table:
    made = Table(
        title=table.title,
        title_justify=table.title_justify,
        caption=table.caption,
        show_header=table.show_header,
    )
    if compact:
        made.box, made.pad_edge, made.padding = None, False, (0, 1, 0, 0)
    for column, head, width in zip(table.columns, heads, widths, strict=True):
        made.add_column(head, justify=column.justify, style=column.style, overflow="fold", width=width)
    for number, row in enumerate(zip(*cells, strict=True)):
        made.add_row(*row, style=table.rows[number].style, end_section=table.rows[number].end_section)
    return made


def _records(table: Table, heads: list[Text], cells: list[list[Text]]) -> list[Table | Text]:
    """A block of lines for each row, the first column as its title."""
    made: list[Table | Text] = [Text(str(table.title), "table.title")] if table.title else []
    for first, *others in zip(*cells, strict=True):
        title = heads[0].plain
        made.append(Text.assemble((title, "bold"), " " if title else "", first, overflow="fold"))
        for head, value in zip(heads[1:], others, strict=True):
            if value.plain:
                name = f"  {head.plain}: " if head.plain else "  "
                made.append(Text.assemble(name, value, overflow="fold"))
    return made


def _longest(parts: list[str]) -> int:
    return max(map(cell_len, parts), default=0)


def _text(cell: Any, console: Console) -> Text:
    text = cell
    if not isinstance(cell, Text):
        text = console.render_str(printable(str(cell)), highlight=False, emoji=False)
    clean = printable(text.plain)
    return text if text.plain == clean else Text(clean, text.style)
