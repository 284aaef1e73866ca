"""The tables of the report, which the page and the Markdown share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce

from edgefel.bench.profile.names import GROUPS
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
from edgefel.report import tables as cells
from edgefel.report.formats import MISSING, interval, percent, significant, times
from edgefel.report.tables import Cell, Table
from edgefel.text import counted


@dataclass(frozen=True)
class Column:
    """title: with the unit. numeric: aligned right, and sorted as numbers."""

    title: str
    cell: Callable[[Row], Cell]
    numeric: bool = True


def summary(groups: Sequence[Repeated], best: Row | None = None) -> Table:
    """Models that were run, by batch, then the fastest first. best: the line to highlight."""
    chosen = sorted(
        (group for group in groups if group.newest.kind in RUNNING),
        key=lambda group: (finite(group.newest.subject.get("batch")) or 0, timing(group.newest)["p50"]),
    )
    rows = [group.newest for group in chosen]
    counts = {id(group.newest): len(group.rows) for group in chosen}
    named = len({mapping(row.metrics, "ratio").get("to") for row in rows} - {None}) > 1
    columns = [
        *_subject_columns(rows, (*NAMING, "batch", "threads")),
        _P50,
        _value("p90 (ms)", "latency_ms", "p90"),
        _value("p99 (ms)", "latency_ms", "p99"),
        _value("end to end p50 (ms)", "end_to_end_ms", "p50"),
        Column("times as fast", lambda row: _ratio(row, named)),
        _share("accuracy", "accuracy"),
        _share("macro F1", "macro_f1"),
        _value("file (MB)", "file_bytes", per=1e6),
        _value("peak memory (MB)", "peak_memory_mb"),
        _value("energy (mJ/image)", "energy_mj"),
    ]
    if max(counts.values(), default=1) > 1:
        columns.append(Column("rows", lambda row: _count(counts[id(row)])))
    if len({row.kind for row in rows}) > 1:
        columns.append(Column("bench", lambda row: _word(row.kind), numeric=False))
    return _table(rows, [*columns, _STABLE], best)


def others(rows: Sequence[Row]) -> dict[str, Table]:
    """ "recall", and a table for each kind of row in _COLUMNS; rows are in the order of their callers, if any."""
    ordered = sorted(rows, key=lambda row: finite(row.subject.get("concurrency")) or 0)
    found = {"recall": _recall([row for row in rows if row.kind in RUNNING])}
    for kind, columns in _COLUMNS.items():
        chosen = [row for row in ordered if row.kind == kind]
        found[kind] = _table(chosen, [*_subject_columns(chosen), *columns])
    return found


def _recall(rows: Sequence[Row]) -> Table:
    """Share of each class's images that got its label; the worst class of each row stands out."""
    chosen = [row for row in rows if mapping(row.metrics, "recall")]
    classes = dict.fromkeys(str(name) for row in chosen for name in mapping(row.metrics, "recall"))
    columns = [
        *_subject_columns(chosen, NAMING),
        *(Column(name, _recall_of(name)) for name in classes),
        Column("worst class", _worst, numeric=False),
        _value("images", "images"),
    ]
    return _table(chosen, columns)


def _table(rows: Sequence[Row], columns: Sequence[Column], best: Row | None = None) -> Table:
    """Without the columns in which no row has a value."""
    kept = [column for column in columns if any(column.cell(row).text != MISSING for row in rows)]
    return Table(
        tuple(column.title for column in kept),
        tuple(column.numeric for column in kept),
        tuple(tuple(column.cell(row) for column in kept) for row in rows),
        next((index for index, row in enumerate(rows) if row is best), None),
    )


def _subject_columns(rows: Sequence[Row], first: Sequence[str] = NAMING) -> list[Column]:
    """The fields by which rows are told apart, the usual ones first."""
    fields = dict.fromkeys([*first, *varying(rows), *(field for row in rows for field in row.subject)])
    return [
        Column(
            field.replace("_", " "),
            partial(_subject, field),
            numeric=all(finite(row.subject.get(field, 0)) is not None for row in rows),
        )
        for field in fields
    ]


def _subject(field: str, row: Row) -> Cell:
    return _word(row.subject.get(field))


def _at(row: Row, path: Sequence[str]) -> float | None:
    """The number at a path in the metrics."""
    return number(reduce(mapping, path[:-1], row.metrics), path[-1])


def _value(title: str, *path: str, per: float = 1.0) -> Column:
    def cell(row: Row) -> Cell:
        value = _at(row, path)
        return cells.number(None if value is None else value / per)

    return Column(title, cell)


def _share(title: str, *path: str) -> Column:
    return Column(title, lambda row: cells.share(_at(row, path)))


def _p50(row: Row) -> Cell:
    value = number(timing(row), "p50")
    return Cell(significant(value), value, interval(pair(timing(row).get("p50_interval")), value))


def _ratio(row: Row, named: bool = False) -> Cell:
    """named: say beside the interval what it refers to, where that differs from row to row."""
    found = mapping(row.metrics, "ratio")
    value = number(found, "value")
    to = str(found.get("to") or "").removeprefix(f"{row.subject.get('model')} ")
    to = f"against {to}" if to else ""
    detail = interval(pair(found.get("interval")), value)
    return Cell(times(value), value, f"{detail}\n{to}" if named and to else detail, to)


def _stable(row: Row) -> Cell:
    stable, reason = steadiness(row)
    if stable is None:
        return Cell()
    return Cell("yes", "a") if stable else Cell("no", "b", hint=reason, strong=True)


def _reached(row: Row) -> Cell:
    """The floor's share of what was measured, of each backend where there are several."""
    by_backend = mapping(row.metrics, "measured")
    shares = {name: number(mapping(by_backend, name), "share_of_bound") for name in by_backend}
    known = {name: share for name, share in shares.items() if share is not None}
    if not known:
        return cells.share(number(row.metrics, "share_of_bound"))
    return Cell(", ".join(f"{name} {percent(share)}" for name, share in known.items()), max(known.values()))


def _recalls(row: Row) -> dict[str, float]:
    """By class, of those that have a number."""
    found = mapping(row.metrics, "recall")
    return {name: value for name in found if (value := number(found, name)) is not None}


def _recall_of(name: str) -> Callable[[Row], Cell]:
    def cell(row: Row) -> Cell:
        found = _recalls(row)
        return cells.share(found.get(name), strong=name in found and found[name] == min(found.values()))

    return cell


def _worst(row: Row) -> Cell:
    found = _recalls(row)
    least = min(found.values(), default=None)
    return Cell(", ".join(name for name in found if found[name] == least) or MISSING, least)


def _word(value: object) -> Cell:
    if value is None or value == "":
        return Cell()
    found = finite(value)
    return Cell(str(value), str(value) if found is None else found)


def _count(count: int) -> Cell:
    return Cell(str(count), count, hint=f"the newest of {counted(count, 'row')} is shown")


_IMAGES, _P50 = _value("images/s", "images_per_s"), Column("p50 (ms)", _p50)
_STABLE = Column("stable", _stable, numeric=False)
_PARTS = (("ms", "ms"), ("nodes", "nodes"))
_COLUMNS = {
    "throughput": (
        _IMAGES,
        _P50,
        _value("p99 (ms)", "latency_ms", "p99"),
        Column("knee", lambda row: _word("knee" if row.metrics.get("knee") is True else None), numeric=False),
        _STABLE,
    ),
    "train": (
        _IMAGES,
        replace(_P50, title="step p50 (ms)"),
        Column("ratio", _ratio),
        _value("peak memory (MB)", "peak_memory_mb"),
        _STABLE,
    ),
    "data-path": (_IMAGES, _P50, _STABLE),
    # single runs; their means and verdicts are those of `edgefel ablate`
    "ablation": (
        _share("accuracy", "accuracy"),
        _value("macro F1", "macro_f1"),
        _value("ECE", "ece"),
        _share("without the head", "primary", "accuracy"),
    ),
    "profile": (
        _P50,
        _value("with the profiler (ms)", "profiled_ms"),
        _value("nodes", "nodes"),
        *(_value(f"{group} ({unit})", "groups", group, name) for group in GROUPS for name, unit in _PARTS),
        _value("products (GOP/s)", "groups", "products", "gops"),
    ),
    # bounds, not measurements
    "roofline": (
        _value("floor (ms)", "floor_ms"),
        _value("parameters (M)", "parameters", per=1e6),
        _value("operations (GMAC)", "macs", per=1e9),
        _value("floor without fusion (ms)", "unfused_floor_ms"),
        Column("reached", _reached),
    ),
}
