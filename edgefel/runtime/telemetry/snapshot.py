"""The measurements of a run at one moment."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgefel.runtime.telemetry.board import Reading
from edgefel.runtime.telemetry.histogram import Histogram

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
    "post",
    "total",
)


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
            "stages_ms": {name: _rounded(asdict(times)) for name, times in self.stages.items()},
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


def _rounded(times: dict[str, Any]) -> dict[str, Any]:
    """Milliseconds rounded to 0.1 µs; the count is unchanged."""
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in times.items()}
