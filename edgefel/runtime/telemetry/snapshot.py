"""The measurements of a run at one moment, and the summary that a run prints at its end."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from edgefel.runtime.telemetry.board import Reading
from edgefel.runtime.telemetry.histogram import Histogram

if TYPE_CHECKING:
    from rich.table import Table

# in processing order; stages with other names are shown after these
STAGES = (
    "capture",
    "detect",
    "align",
    "preprocess",
    "copy in",
    "gpu",
    "copy out",
    "inference",
    "quality",
    "post",
    "total",
)
_COLUMNS = ("p50", "p90", "p99", "max", "mean")


def in_order(stages: Iterable[str]) -> list[str]:
    """Names of stages in display order: those of STAGES first, then the others."""
    names = list(stages)
    return [name for name in STAGES if name in names] + [name for name in names if name not in STAGES]


@dataclass(frozen=True)
class StageTimes:
    """Latency of a stage over the whole run, in milliseconds; percentiles within 1 %. count: times recorded."""

    count: int
    p50: float
    p90: float
    p99: float
    max: float
    mean: float

    @classmethod
    def of(cls, histogram: Histogram) -> StageTimes:
        """The summary of a histogram that is not empty."""
        p50, p90, p99 = (1e3 * seconds for seconds in histogram.percentiles((0.5, 0.9, 0.99)))
        mean = 1e3 * histogram.total / histogram.count
        return cls(histogram.count, p50, p90, p99, 1e3 * histogram.high, mean)

    def to_dict(self) -> dict[str, float]:
        """Plain JSON values, rounded to 0.1 µs."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Snapshot:
    """The result of `Telemetry.snapshot`.

    time: Unix time in seconds. elapsed: seconds since the start. stages: latency by stage, in the order of STAGES.
    counters, gauges: by name. fps: frames per second over the last 5 s; fps_mean: from the first frame of the run to
    the last; both are 0 before the second frame. board: the last reading, None without a board. ram_mb: memory of this
    process in 10^6 bytes. energy_j, power_mean_w: of the whole board since the start; mj_per_inference: that energy per
    inference, which includes everything else the board does; None if no sensor measures the power. hottest_c: the
    highest temperature of the run. throttled_s: seconds in which the board was throttled.
    """

    time: float
    elapsed: float
    stages: Mapping[str, StageTimes]
    counters: Mapping[str, int]
    gauges: Mapping[str, float]
    fps: float
    fps_mean: float
    board: Reading | None
    ram_mb: float | None
    energy_j: float | None
    power_mean_w: float | None
    mj_per_inference: float | None
    hottest_c: float | None
    throttled_s: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "time": round(self.time, 3),
            "elapsed_s": round(self.elapsed, 3),
            "fps": round(self.fps, 2),
            "fps_mean": round(self.fps_mean, 2),
            "stages_ms": {name: times.to_dict() for name, times in self.stages.items()},
            "counters": dict(self.counters),
            "gauges": {name: value if math.isfinite(value) else None for name, value in self.gauges.items()},
            "ram_mb": _round(self.ram_mb, 1),
            "energy_j": _round(self.energy_j, 3),
            "power_mean_w": _round(self.power_mean_w, 3),
            "mj_per_inference": _round(self.mj_per_inference, 3),
            "hottest_c": _round(self.hottest_c, 1),
            "throttled_s": round(self.throttled_s, 1),
            "board": None if self.board is None else self.board.to_dict(),
        }


def _round(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def summary_table(snapshot: Snapshot) -> Table:
    """Latency per stage as a rich table, with frames, drops, memory, power and temperature below it."""
    from rich.table import Table

    table = Table(
        title="latency, ms",
        caption="\n".join(summary_lines(snapshot)),
        caption_justify="left",
        caption_style="",
    )
    table.add_column("stage")
    table.add_column("count", justify="right")
    for name in _COLUMNS:
        table.add_column(name, justify="right")
    for name, times in snapshot.stages.items():
        table.add_row(name, f"{times.count:,}", *(f"{getattr(times, column):.2f}" for column in _COLUMNS))
    return table


def summary_lines(snapshot: Snapshot) -> list[str]:
    """The lines below the table, without unknown values."""
    board, energy, watts = snapshot.board, snapshot.energy_j, snapshot.power_mean_w
    lines = [f"{snapshot.elapsed:.1f} s, {snapshot.fps_mean:.1f} frames per second"]
    if counters := [f"{name} {count:,}" for name, count in snapshot.counters.items() if count]:
        lines.append(", ".join(counters))
    if snapshot.ram_mb is not None:
        lines.append(f"memory {snapshot.ram_mb:,.0f} MB")
    if board is not None and energy is not None and watts is not None:
        each = snapshot.mj_per_inference
        per_inference = "" if each is None else f", {each:.1f} mJ per inference"
        lines.append(f"power {watts:.2f} W, energy {energy:.1f} J{per_inference} ({board.power_source})")
    heat = [] if snapshot.hottest_c is None else [f"hottest {snapshot.hottest_c:.0f} °C"]
    if board is not None and board.power_mode is not None:
        heat.append(f"power mode {board.power_mode}")
    if snapshot.throttled_s > 0:
        by = f" ({', '.join(board.throttled)})" if board is not None and board.throttled else ""
        heat.append(f"throttled for {snapshot.throttled_s:.0f} s{by}")
    return [*lines, ", ".join(heat)] if heat else lines
