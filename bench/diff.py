"""What became slower, less accurate or larger between two runs on one device."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from edgefel.bench.report.rows import (
    Collection,
    Repeated,
    finite,
    mapping,
    number,
    pair,
    repetitions,
    steadiness,
    timing,
)
from edgefel.bench.results import Row
from edgefel.errors import EdgefelError

# bounds measure nothing, and experiments no speed
WITHOUT_SPEED = ("roofline", "kernel-model", "ablation")

SLOWER, FASTER, NOISE, SAME = "slower", "faster", "noise", "same"
UNSTABLE, UNKNOWN = "unstable", "no interval"


@dataclass(frozen=True)
class DiffLimits:
    """Largest changes allowed.

    slower: share by which the median may grow, 0.05 for 5 %. drop: points by which accuracy or macro F1 may
    fall. strict: judge unstable rows and rows without an interval, too. Raises EdgefelError for negative numbers.
    """

    slower: float = 0.05
    drop: float = 1.0
    strict: bool = False

    def __post_init__(self) -> None:
        for name in ("slower", "drop"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise EdgefelError(f"limit '{name}' is {getattr(self, name)}: give a number of at least 0")


@dataclass(frozen=True)
class Side:
    """One file's measurement in ms: median of the repetitions' medians, hull of their intervals."""

    value: float
    low: float
    high: float
    runs: int
    stable: bool
    reason: str
    has_interval: bool


@dataclass(frozen=True)
class RowChange:
    """One measurement in both files.

    ratio: B's time by A's, above 1 is slower; None where one has no time. verdict: of the time. accuracy,
    macro_f1: B minus A, in points. file_bytes, peak_memory_mb: (A, B). failures: a line for each limit exceeded.
    """

    name: str
    device: str
    verdict: str
    ratio: float | None
    before: Side | None
    after: Side | None
    reason: str
    accuracy: float | None
    macro_f1: float | None
    file_bytes: tuple[float, float] | None
    peak_memory_mb: tuple[float, float] | None
    failures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Diff:
    """Changes, names of rows in only one file, and how many rows without a speed were left out."""

    limits: DiffLimits
    changes: tuple[RowChange, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    left_out: int

    @property
    def failures(self) -> list[str]:
        """Every change over a limit, with its measurement."""
        return [f"{change.name}: {line}" for change in self.changes for line in change.failures]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "failures": self.failures}


def compare(before: Collection, after: Collection, limits: DiffLimits) -> Diff:
    """Matches rows by what was measured and judges each pair.

    A row is slower if the median grew by more than the limit and the 95 % intervals of the medians do not
    overlap: scatter within runs is no failure. The interval of repeated rows reaches from the lowest end to
    the highest. Raises EdgefelError for files of different devices, and for files with nothing in common.
    """
    sides = _measurements(before), _measurements(after)
    names = [", ".join(map(str, side.files)) for side in (before, after)]
    devices = [dict.fromkeys(row.device for row in rows) for rows in sides]
    if all(devices) and set(devices[0]) != set(devices[1]):
        one, other = (" and ".join(f"'{name}'" for name in found) for found in devices)
        raise EdgefelError(
            f"{names[0]} is of {one}, {names[1]} of {other}: "
            "times of different devices cannot be compared; measure both on the same one"
        )
    a, b = map(repetitions, sides)
    common = [name for name in a if name in b]
    if not common:
        raise EdgefelError(
            f"{names[0]} and {names[1]} have no measurement in common; compare runs of the same command"
        )
    return Diff(
        limits,
        tuple(_change(a[name], b[name], limits) for name in common),
        tuple(a[name].newest.name for name in a if name not in b),
        tuple(b[name].newest.name for name in b if name not in a),
        sum(_is_without_speed(row) for side in (before, after) for row in side.rows),
    )


def _measurements(collection: Collection) -> list[Row]:
    """Rows with a speed; the end-to-end time of a row becomes a row of its own."""
    found = []
    for row in collection.rows:
        if _is_without_speed(row):
            continue
        found.append(row)
        if whole := mapping(row.metrics, "end_to_end_ms"):
            subject = {**row.subject, "scope": "end to end"}
            found.append(replace(row, subject=subject, metrics={"latency_ms": whole}))
    return found


def _is_without_speed(row: Row) -> bool:
    """Of a kind that measures none, or a profile that only counts nodes."""
    return row.kind in WITHOUT_SPEED or (row.kind == "profile" and not timing(row))


def _change(before: Repeated, after: Repeated, limits: DiffLimits) -> RowChange:
    a, b = before.newest, after.newest
    first, second = _side(before.rows), _side(after.rows)
    verdict, reason, ratio = _judge(first, second, limits)
    failures = []
    if verdict == SLOWER and ratio is not None:
        failures.append(f"{ratio - 1:.1%} slower, at most {limits.slower:.1%} is allowed")
    quality: dict[str, float | None] = {}
    for name in ("accuracy", "macro_f1"):
        ends = _both(a, b, name)
        quality[name] = change = None if ends is None else 100 * (ends[1] - ends[0])
        # a hair more, since 0.90 - 0.89 is not 0.01
        if change is not None and -change > limits.drop + 1e-9:
            failures.append(
                f"{name.replace('_', ' ')} fell by {-change:.2f} points, at most {limits.drop:g} are allowed"
            )
    return RowChange(
        *(a.name, a.device, verdict, ratio, first, second, reason),
        accuracy=quality["accuracy"],
        macro_f1=quality["macro_f1"],
        file_bytes=_both(a, b, "file_bytes"),
        peak_memory_mb=_both(a, b, "peak_memory_mb"),
        failures=tuple(failures),
    )


def _side(rows: Sequence[Row]) -> Side | None:
    """What all repetitions say together."""
    found = [side for row in rows if (side := _single(row)) is not None]
    if not found:
        return None
    reasons = [side.reason for side in found if not side.stable]
    return Side(
        statistics.median(side.value for side in found),
        min(side.low for side in found),
        max(side.high for side in found),
        len(found),
        stable=not reasons,
        reason=reasons[0] if reasons else "",
        # repetitions tell how far runs are apart even where single rows have no interval
        has_interval=len(found) > 1 or found[0].has_interval,
    )


def _single(row: Row) -> Side | None:
    """Milliseconds of a call, or of an image where the row has only images per second."""
    found, speed = timing(row), number(row.metrics, "images_per_s")
    if value := max(0.0, finite(found.get("p50")) or 0.0):
        # of the latency alone: the other side of a ratio is not part of this comparison
        ends, stable, reason = pair(found.get("p50_interval")), found.get("stable"), found.get("reason")
    elif speed:
        value, ends, (stable, reason) = 1e3 / speed, None, steadiness(row)
    else:
        return None
    low, high = ends or (value, value)
    return Side(
        value, min(value, low), max(value, high), 1, stable is not False, str(reason or ""), ends is not None
    )


def _judge(before: Side | None, after: Side | None, limits: DiffLimits) -> tuple[str, str, float | None]:
    """(verdict, why where it needs saying, ratio)."""
    if before is None or after is None:
        return UNKNOWN, "one of the rows has no time", None
    ratio = after.value / before.value
    if not limits.strict:
        for word, side in (("A", before), ("B", after)):
            if not side.stable:
                return UNSTABLE, f"{word}: {side.reason}", ratio
        if not (before.has_interval and after.has_interval):
            return UNKNOWN, "a row says nothing of its scatter; repeat it", ratio
    apart = after.low > before.high or after.high < before.low
    if 1 / (1 + limits.slower) <= ratio <= 1 + limits.slower:
        return SAME, "", ratio
    if not apart:
        return NOISE, "over the limit, but the intervals overlap", ratio
    return (SLOWER if ratio > 1 else FASTER), "", ratio


def _both(before: Row, after: Row, name: str) -> tuple[float, float] | None:
    a, b = (number(row.metrics, name) for row in (before, after))
    return None if a is None or b is None else (a, b)
