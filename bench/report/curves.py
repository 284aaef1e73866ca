"""Throughput against latency as more callers ask at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgefel.bench.report.charts import WIDTH, colour_of, labels, wrapped_legend
from edgefel.bench.report.formats import significant
from edgefel.bench.report.rows import finite, number, short_names, steadiness, timing
from edgefel.bench.report.svg import (
    Axis,
    Box,
    Spot,
    figure,
    horizontal_axis,
    mark,
    padded,
    text,
    vertical_axis,
)
from edgefel.bench.results import Row


@dataclass(frozen=True)
class Curve:
    """Rows of one subject but for "concurrency", fewest callers first."""

    name: str
    rows: tuple[Row, ...]


def curves(rows: Sequence[Row]) -> list[Curve]:
    """Rows of kind throughput by what was asked. Rows without a concurrency are a curve of one point."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row.kind == "throughput" and timing(row).get("p50"):
            rest = {name: value for name, value in row.subject.items() if name != "concurrency"}
            groups.setdefault(json.dumps(rest, sort_keys=True), []).append(row)
    firsts = [_without_concurrency(found[0]) for found in groups.values()]
    return [
        Curve(name, tuple(sorted(found, key=lambda row: finite(row.subject.get("concurrency")) or 0)))
        for name, found in zip(short_names(firsts), groups.values(), strict=True)
    ]


def _without_concurrency(row: Row) -> Row:
    return replace(row, subject={name: value for name, value in row.subject.items() if name != "concurrency"})


def is_knee(row: Row) -> bool:
    """Whether the row is the one beyond which more callers only wait."""
    return row.metrics.get("knee") is True


def throughput(rows: Sequence[Row]) -> str:
    """Images a second against the median latency, a curve for each subject, the knee ringed. Empty without rows."""
    drawn = curves(rows)
    if not drawn:
        return ""
    every = [row for curve in drawn for row in curve.rows]
    colours = colour_of(curve.name for curve in drawn)
    legend, used = wrapped_legend(colours)
    top, left, right = used + 62, 52.0, WIDTH - 14
    bottom = top + 300
    speeds, latencies = [_speed(row) for row in every], [_latency(row) for row in every]
    x = Axis("throughput (images/s)", *padded(speeds, least=0.0), left, right)
    log = max(latencies) > 10 * min(latencies)
    ends = padded(latencies, log=True) if log else padded(latencies, least=0.0)
    y = Axis("latency of a call, median (ms)", *ends, bottom, top, log)
    parts = [
        legend,
        text(2, used + 22, "number: concurrent callers; ring: the knee; hollow: unstable", "note"),
    ]
    parts += [horizontal_axis(x, top, bottom), vertical_axis(y, left, right)]
    spots: list[Spot] = []
    for curve in drawn:
        places = [(x.at(_speed(row)), y.at(_latency(row))) for row in curve.rows]
        line = " ".join(f"{px:.1f},{py:.1f}" for px, py in places)
        parts.append(f'<polyline class="curve c{colours[curve.name]}" points="{line}"/>')
        for row, (px, py) in zip(curve.rows, places, strict=True):
            parts.append(_dot(row, px, py, colours[curve.name]))
            label = str(row.subject.get("concurrency", "")) + (" knee" if is_knee(row) else "")
            spots.append(Spot(px, py, 8 if is_knee(row) else 4, label))
    spots.sort(key=lambda spot: not spot.label.endswith("knee"))
    parts += labels(spots, Box(left, top - 8, right, bottom))
    return figure(WIDTH, bottom + 52, "Latency against throughput with more and more callers", parts)


def _dot(row: Row, x: float, y: float, colour: int) -> str:
    ring = f'<circle class="ring c{colour}" cx="{x:.1f}" cy="{y:.1f}" r="8"/>' if is_knee(row) else ""
    kind = f"c{colour}" + (" hollow" if steadiness(row)[0] is False else "")
    hint = f"{row.name}: {significant(_speed(row))} images/s at {significant(_latency(row))} ms"
    return ring + mark(
        f'<circle class="dot {kind}" cx="{x:.1f}" cy="{y:.1f}" r="4"', hint + (", the knee" if ring else "")
    )


def _speed(row: Row) -> float:
    return number(row.metrics, "images_per_s") or 0.0


def _latency(row: Row) -> float:
    return float(timing(row)["p50"])
