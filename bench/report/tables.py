"""The tables of the report, as columns that the page and the Markdown share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from edgefel.bench.report.formats import (
    MISSING,
    interval,
    percent,
    significant,
    times,
)
from edgefel.bench.report.rows import (
    NAMING,
    RUNNING,
    Repeated,
    finite,
    mapping,
    number,
    pair,
    steadiness,
    timing,
    varying,
)
from edgefel.bench.results import Row
from edgefel.text import counted


@dataclass(frozen=True)
class Cell:
    """text: as it is read. order: what the column is sorted by, None for a missing value, which is always last.
    aside: smaller, after the text, such as an interval. hint: more, when pointed at. strong: what stands out."""

    text: str
    order: float | str | None = None
    aside: str = ""
    hint: str = ""
    strong: bool = False


@dataclass(frozen=True)
class Column:
    """title: with the unit. numeric: aligned right, and sorted as numbers."""

    title: str
    cell: Callable[[Row], Cell]
    numeric: bool = True


@dataclass(frozen=True)
class Table:
    """Columns, and a line of cells for each row; best: index of the line that is pointed out."""

    columns: tuple[Column, ...]
    lines: tuple[tuple[Cell, ...], ...]
    best: int | None = None


def summary(groups: Sequence[Repeated], best: Row | None = None) -> Table:
    """Models that were run: the fastest first within a batch. best: its line is pointed out."""
    chosen = sorted(
        (group for group in groups if group.newest.kind in RUNNING),
        key=lambda group: (finite(group.newest.subject.get("batch")) or 0, timing(group.newest)["p50"]),
    )
    rows = [group.newest for group in chosen]
    counts = {id(group.newest): len(group.rows) for group in chosen}
    columns = [
        *_subject_columns(rows, ("model", "precision", "backend", "batch", "threads")),
        *_speed_columns(named=len({mapping(row.metrics, "ratio").get("to") for row in rows} - {None}) > 1),
        *_quality_columns(),
        Column("rows", lambda row: _count(counts[id(row)])) if max(counts.values(), default=1) > 1 else None,
        Column("stable", _stable, numeric=False),
    ]
    if len({row.kind for row in rows}) > 1:
        columns.insert(-1, Column("bench", lambda row: _word(row.kind), numeric=False))
    return make_table(rows, columns, best)


def training(rows: Sequence[Row]) -> Table:
    """Rows of kind train."""
    return make_table(
        [row for row in rows if row.kind == "train"],
        [
            *_subject_columns([row for row in rows if row.kind == "train"]),
            Column("images/s", lambda row: _number(number(row.metrics, "images_per_s"))),
            Column("step p50 (ms)", _p50),
            Column("ratio", _ratio),
            Column("peak memory (MB)", lambda row: _number(number(row.metrics, "peak_memory_mb"))),
            Column("stable", _stable, numeric=False),
        ],
    )


def data_path(rows: Sequence[Row]) -> Table:
    """Rows of kind data-path."""
    chosen = [row for row in rows if row.kind == "data-path"]
    return make_table(
        chosen,
        [
            *_subject_columns(chosen),
            Column("images/s", lambda row: _number(number(row.metrics, "images_per_s"))),
            Column("p50 (ms)", _p50),
            Column("stable", _stable, numeric=False),
        ],
    )


def experiments(rows: Sequence[Row]) -> Table:
    """Rows of kind ablation: single runs; their means and verdicts are those of `edgefel ablate`."""
    chosen = [row for row in rows if row.kind == "ablation"]
    return make_table(
        chosen,
        [
            *_subject_columns(chosen),
            Column("accuracy", lambda row: _share(number(row.metrics, "accuracy"))),
            Column("macro F1", lambda row: _number(number(row.metrics, "macro_f1"))),
            Column("ECE", lambda row: _number(number(row.metrics, "ece"))),
            Column(
                "without the head",
                lambda row: _share(number(mapping(row.metrics, "primary"), "accuracy")),
            ),
        ],
    )


def roofline(rows: Sequence[Row]) -> Table:
    """Rows of kind roofline: bounds, not measurements."""
    chosen = [row for row in rows if row.kind == "roofline"]
    return make_table(
        chosen,
        [
            *_subject_columns(chosen),
            Column("floor (ms)", lambda row: _number(number(row.metrics, "floor_ms"))),
            Column("parameters (M)", lambda row: _number(_scaled(number(row.metrics, "parameters"), 1e6))),
            Column("operations (GMAC)", lambda row: _number(_scaled(number(row.metrics, "macs"), 1e9))),
            Column("floor without fusion (ms)", lambda row: _number(number(row.metrics, "unfused_floor_ms"))),
            Column("reached", _reached),
        ],
    )


def throughput(rows: Sequence[Row]) -> Table:
    """Rows of kind throughput, fewest callers first."""
    chosen = sorted(
        (row for row in rows if row.kind == "throughput"),
        key=lambda row: finite(row.subject.get("concurrency")) or 0,
    )
    return make_table(
        chosen,
        [
            *_subject_columns(chosen),
            Column("images/s", lambda row: _number(number(row.metrics, "images_per_s"))),
            Column("p50 (ms)", _p50),
            Column("p99 (ms)", lambda row: _number(number(timing(row), "p99"))),
            Column("knee", lambda row: _word("knee" if row.metrics.get("knee") is True else MISSING), False),
            Column("stable", _stable, numeric=False),
        ],
    )


def recall(rows: Sequence[Row]) -> Table:
    """Share of each class's images that got its label; the worst class of each row stands out."""
    chosen = [row for row in rows if row.kind in RUNNING and mapping(row.metrics, "recall")]
    classes = dict.fromkeys(str(name) for row in chosen for name in mapping(row.metrics, "recall"))
    columns = [Column(name, _recall_of(name)) for name in classes]
    images = Column("images", lambda row: _number(number(row.metrics, "images")))
    return make_table(
        chosen, [*_subject_columns(chosen, NAMING), *columns, Column("worst class", _worst, False), images]
    )


def make_table(rows: Sequence[Row], columns: Sequence[Column | None], best: Row | None = None) -> Table:
    """Without the columns in which no row has a value."""
    kept = [column for column in columns if column is not None]
    kept = [column for column in kept if any(column.cell(row).text != MISSING for row in rows)]
    lines = tuple(tuple(column.cell(row) for column in kept) for row in rows)
    index = next((index for index, row in enumerate(rows) if row is best), None)
    return Table(tuple(kept), lines, index)


def to_html(table: Table, name: str, *, sortable: bool = True) -> str:
    """name: what the table is, for screen readers. Empty without lines."""
    if not table.lines:
        return ""
    head = "".join(
        f'<th scope="col"{" class=n" if column.numeric else ""}>{escape(column.title)}</th>'
        for column in table.columns
    )
    body = "".join(
        f"<tr{' class=best' if index == table.best else ''}>"
        + "".join(_cell(cell, column) for cell, column in zip(line, table.columns, strict=True))
        + "</tr>"
        for index, line in enumerate(table.lines)
    )
    kind = ' class="sortable"' if sortable else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(name)}"><table{kind}>'
        f"<caption>{escape(name)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(cell: Cell, column: Column) -> str:
    order = "" if cell.order is None else f' data-order="{escape(str(cell.order))}"'
    hint = f' title="{escape(cell.hint)}"' if cell.hint else ""
    kinds = " ".join(kind for kind, on in (("n", column.numeric), ("strong", cell.strong)) if on)
    aside = f" <small>{escape(cell.aside)}</small>" if cell.aside else ""
    kinds = f' class="{kinds}"' if kinds else ""
    return f"<td{kinds}{order}{hint}>{escape(cell.text)}{aside}</td>"


def _subject_columns(
    rows: Sequence[Row], first: Sequence[str] = ("model", "precision", "backend")
) -> list[Column]:
    """The fields by which rows are told apart, the usual ones first."""
    fields = dict.fromkeys([*first, *varying(rows), *(field for row in rows for field in row.subject)])
    numeric = {
        field for field in fields if all(finite(row.subject.get(field, 0)) is not None for row in rows)
    }
    return [Column(field.replace("_", " "), _subject_of(field), field in numeric) for field in fields]


def _subject_of(field: str) -> Callable[[Row], Cell]:
    return lambda row: _word(row.subject.get(field))


def _speed_columns(*, named: bool) -> list[Column]:
    def percentile(name: str) -> Callable[[Row], Cell]:
        return lambda row: _number(number(timing(row), name))

    return [
        Column("p50 (ms)", _p50),
        Column("p90 (ms)", percentile("p90")),
        Column("p99 (ms)", percentile("p99")),
        Column(
            "end to end p50 (ms)", lambda row: _number(number(mapping(row.metrics, "end_to_end_ms"), "p50"))
        ),
        Column("times as fast", lambda row: _ratio(row, named)),
    ]


def _quality_columns() -> list[Column]:
    def share(name: str) -> Callable[[Row], Cell]:
        return lambda row: _share(number(row.metrics, name))

    def value(name: str, per: float = 1.0) -> Callable[[Row], Cell]:
        return lambda row: _number(_scaled(number(row.metrics, name), per))

    return [
        Column("accuracy", share("accuracy")),
        Column("macro F1", share("macro_f1")),
        Column("file (MB)", value("file_bytes", 1e6)),
        Column("peak memory (MB)", value("peak_memory_mb")),
        Column("energy (mJ/image)", value("energy_mj")),
    ]


def _p50(row: Row) -> Cell:
    found = timing(row)
    value = number(found, "p50")
    return Cell(significant(value), value, interval(pair(found.get("p50_interval")), value))


def _ratio(row: Row, named: bool = False) -> Cell:
    """named: say beside the interval what it refers to, where that differs from row to row."""
    found: Mapping[str, Any] = mapping(row.metrics, "ratio")
    value = number(found, "value")
    to = str(found.get("to") or "").removeprefix(f"{row.subject.get('model')} ")
    to = f"against {to}" if to else ""
    detail = interval(pair(found.get("interval")), value)
    return Cell(times(value), value, f"{detail}\n{to}" if named and to else detail, to)


def _stable(row: Row) -> Cell:
    stable, reason = steadiness(row)
    if stable is None:
        return Cell(MISSING)
    return Cell("yes", "a") if stable else Cell("no", "b", hint=reason, strong=True)


def _reached(row: Row) -> Cell:
    """The floor's share of what was measured, of each backend where there are several."""
    by_backend = mapping(row.metrics, "measured")
    shares = {name: number(mapping(by_backend, name), "share_of_bound") for name in by_backend}
    known = {name: share for name, share in shares.items() if share is not None}
    if not known:
        return _share(number(row.metrics, "share_of_bound"))
    return Cell(", ".join(f"{name} {percent(share)}" for name, share in known.items()), max(known.values()))


def _recall_of(name: str) -> Callable[[Row], Cell]:
    def cell(row: Row) -> Cell:
        found = mapping(row.metrics, "recall")
        value = number(found, name)
        return Cell(percent(value), value, strong=value is not None and value == _least(found))

    return cell


def _worst(row: Row) -> Cell:
    found = mapping(row.metrics, "recall")
    least = _least(found)
    worst = [str(name) for name in found if least is not None and number(found, name) == least]
    return Cell(", ".join(worst) or MISSING, least)


def _least(found: Mapping[str, Any]) -> float | None:
    return min((value for name in found if (value := number(found, name)) is not None), default=None)


def _word(value: object) -> Cell:
    if value is None or value == "":
        return Cell(MISSING)
    found = finite(value)
    return Cell(str(value), str(value) if found is None else found)


def _number(value: float | None) -> Cell:
    return Cell(significant(value), value)


def _share(value: float | None) -> Cell:
    return Cell(percent(value), value)


def _count(count: int) -> Cell:
    return Cell(str(count), count, hint=f"the newest of {counted(count, 'row')} is shown")


def _scaled(value: float | None, by: float) -> float | None:
    return None if value is None else value / by
