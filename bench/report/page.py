"""Result rows as one self-contained page: what to run, tables, charts, and what all of it was measured on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from edgefel.bench.report import charts, tables
from edgefel.bench.report.headline import MOST_DROP, choose, per_call, spoken
from edgefel.bench.report.rows import RUNNING, Collection, Repeated, batch_size, steadiness
from edgefel.bench.results import Row
from edgefel.report.figures import to_svg
from edgefel.report.formats import MISSING
from edgefel.report.pages import render_page


def render(collection: Collection, most_drop: float = MOST_DROP) -> str:
    """The page as HTML. most_drop: points of accuracy below the most accurate that the recommended row may be."""
    groups = collection.by_device()
    times = sorted(row.time[:10] for row in collection.rows)
    return render_page(
        "bench.html.j2",
        devices=[_device(name, own, most_drop) for name, own in groups.items()],
        results=sum(map(len, groups.values())),
        when=times[0] if times[0] == times[-1] else f"{times[0]} to {times[-1]}",
        problems=collection.problems,
        most_drop=most_drop,
        commands=list(dict.fromkeys(row.command for row in collection.rows)),
        files=collection.files,
        rows=[row.to_dict() for row in collection.rows],
        missing=MISSING,
    )


def _device(name: str, groups: Sequence[Repeated], most_drop: float) -> dict[str, object]:
    """What the template shows of one device."""
    rows = [group.newest for group in groups]
    running = [row for row in rows if row.kind in RUNNING]
    headline = choose(rows, most_drop)
    return {
        "name": name,
        "headline": headline,
        "tables": {"summary": tables.summary(groups, headline.best), **tables.others(rows)},
        "older": sum(len(group.rows) - 1 for group in groups),
        "remarks": _remarks(rows),
        "pareto": _pareto(running),
        "stages": _svg(charts.stages, rows, "Time by stage"),
        "distributions": _svg(charts.distributions, running, "Distribution of the time of single calls"),
        "throughput": _svg(charts.throughput, rows, "Latency against throughput with more and more callers"),
        "environment": _environment(rows),
    }


def _svg(draw: Callable[[Sequence[Row]], Any], rows: Sequence[Row], label: str) -> str:
    figure = draw(rows)
    return "" if figure is None else to_svg(figure, label)


def _pareto(running: Sequence[Row]) -> dict[str, str]:
    """One chart by title for each batch: milliseconds of different batches are no alternatives to each other."""
    batches: dict[float, list[Row]] = {}
    for row in running:
        batches.setdefault(batch_size(row), []).append(row)
    found = {}
    for batch, own in sorted(batches.items()):
        title = "Latency against macro F1" + (f", batch {batch:g}" if len(batches) > 1 else "")
        draw = partial(charts.pareto, per=per_call(batch))
        found[title] = _svg(draw, own, "Latency against macro F1, file size as area")
    return {title: svg for title, svg in found.items() if svg}


def _remarks(rows: Iterable[Row]) -> dict[str, list[str]]:
    """Rows by why they are unstable, and by their notes: tooltips alone would be lost on paper."""
    lines: dict[str, dict[str, None]] = {}
    for row in rows:
        stable, reason = steadiness(row)
        batch = row.subject.get("batch")
        name = spoken(row) + ("" if batch in (None, 1) else f", batch {batch}")
        for line in ([f"unstable: {reason}"] if stable is False else []) + [str(note) for note in row.notes]:
            lines.setdefault(line, {})[name] = None
    return {line: list(names) for line, names in lines.items()}


def _environment(rows: Iterable[Row]) -> dict[str, list[str]]:
    """All values that the rows' environments have, by name."""
    found: dict[str, dict[str, None]] = {}
    for row in rows:
        for name, value in _flat(row.environment):
            found.setdefault(name, {})[value] = None
    return {name: list(values) for name, values in found.items()}


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Names such as "versions torch" of nested values, with these as text."""
    for name, value in values.items():
        path = f"{before} {name}".strip().replace("_", " ")
        if isinstance(value, Mapping):
            yield from _flat(value, path)
        elif isinstance(value, (list, tuple)):
            yield path, ", ".join(map(str, value)) or MISSING
        else:
            yield path, MISSING if value is None else str(value)
