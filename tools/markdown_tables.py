"""How a table of the docs is made: results by name, cells by format strings, places in pages by marks."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgefel.bench.report.markdown import markdown_table
from edgefel.bench.results import read_results
from edgefel.files.documents import read_json

ROOT = Path(__file__).resolve().parent.parent
RESULTS, IMAGES = ROOT / "docs" / "results", ROOT / "docs" / "images"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
# name in the pages -> the function that makes the table
TABLES: dict[str, Callable[[], str]] = {}

Values = Mapping[str, Any]
Cell = str | Callable[[Any], str]
_PLACE = re.compile(r"(<!-- results: ([^>]*) -->\n)(?:.*?\n)??(<!-- end of results: \2 -->)", re.DOTALL)
_UNITS = {"M": 1e6, "G": 1e9, "T": 1e12, "c": 1e-2}


def table(name: str, source: str, kind: str | None = None) -> Callable[[Any], Any]:
    """Registers a function of the results in `source` (of its rows of one kind) as the table of that name."""

    def register(make: Callable[[Any], str]) -> Callable[[Any], str]:
        TABLES[name] = lambda: make(load(source, kind))
        return make

    return register


def load(source: str, kind: str | None = None) -> Any:
    """A JSON document, or the rows of a JSON Lines file: subject and metrics by name; mark: " ~" if not stable.

    All have their "command" and, as "results", the name of the file; a document also "made_by", which links both.
    """
    if source.endswith(".json"):
        document = read_json(RESULTS / source)
        made_by = f"`{document['command']}`; [{source}](results/{source})"
        return {**document, "results": source, "made_by": made_by}
    rows = []
    for row in read_results(RESULTS / source).rows:
        if kind in (None, row.kind):
            mark = "" if row.metrics.get("latency_ms", {}).get("stable", True) else " ~"
            more = {"mark": mark, "row": row, "command": row.command, "results": source}
            rows.append({**row.subject, **row.metrics, **more})
    return rows


class _Formatter(string.Formatter):
    def convert_field(self, value: Any, conversion: Any) -> Any:
        if conversion in _UNITS:
            return value / _UNITS[conversion]
        return super().convert_field(value, conversion)


def text(form: Cell, values: Any) -> str:
    """By a function, or by a format string with the names of a mapping. `{bytes!M:.1f}` is in millions (also !G, !T),
    `{share!c:.1f}` in hundredths. Empty if the first field is None."""
    if callable(form):
        return form(values)
    if (field := next(_Formatter().parse(form))[1]) and _Formatter().get_field(field, values, values)[
        0
    ] is None:
        return ""
    return _Formatter().vformat(form, values, values)


def grid(
    rows: Iterable[Any], columns: Mapping[str, Cell], left: Sequence[int] = (0,), gap: str = " "
) -> list[str]:
    """A table with a row for each of `rows`; see `markdown_table`."""
    body = [[text(form, row) for form in columns.values()] for row in rows]
    return markdown_table([heading.strip("^") for heading in columns], body, left, gap)


def paragraphs(*parts: str | Sequence[str]) -> str:
    """Text and the lines of tables, an empty line between two of them."""
    return "\n\n".join(part if isinstance(part, str) else "\n".join(part) for part in parts)


def numbers(*rows: Values) -> str:
    """Where rows or a document are, and the commands that made them."""
    file, commands = rows[0]["results"], dict.fromkeys(f"`{row['command']}`" for row in rows)
    return f"Numbers: [results/{file}](results/{file}), made by {' and '.join(commands)}."


def device(rows: Sequence[Values]) -> str:
    """What the rows were measured on, and their `numbers`."""
    return f"{rows[0]['row'].device}. {numbers(*rows)}"


def names_in(page: str) -> list[str]:
    """Of the tables that a page has a place for."""
    return [name for _, name, _ in _PLACE.findall(page)]


def filled(page: str) -> str:
    """The page with all of its tables made again. Raises KeyError for a place that names no table."""
    return _PLACE.sub(lambda place: f"{place[1]}{TABLES[place[2]]()}\n{place[3]}", page)
