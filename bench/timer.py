"""The one timer: warm up, repeat, report milliseconds per call."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

Clock = Callable[[], int]


@dataclass(frozen=True)
class Timing:
    """Milliseconds per call over `runs` timed calls; percentiles interpolate linearly. durations: of each call, in
    order, for intervals of ratios; not part of `to_dict`."""

    p50: float
    p90: float
    p99: float
    mean: float
    min: float
    runs: int
    durations: tuple[float, ...] = field(default=(), repr=False, compare=False)

    @classmethod
    def from_nanoseconds(cls, durations: Sequence[int]) -> Timing:
        """Summary of one duration (ns) per call; raises ValueError when there is none."""
        if not durations:
            raise ValueError("no durations: nothing was timed")
        ms = np.asarray(durations, dtype=np.float64) / 1e6
        p50, p90, p99 = (float(value) for value in np.percentile(ms, (50, 90, 99)))
        return cls(p50, p90, p99, float(ms.mean()), float(ms.min()), len(durations), tuple(ms.tolist()))

    def to_dict(self) -> dict[str, float | int]:
        """Plain JSON values."""
        return {name: value for name, value in asdict(self).items() if name != "durations"}


def time_callable(
    fn: Callable[[], Any],
    *,
    warmup: int = 5,
    min_runs: int = 20,
    max_seconds: float = 5.0,
    max_runs: int = 1000,
    clock: Clock = time.perf_counter_ns,
) -> Timing:
    """Times `fn()`, which must return only when its work is done (synchronise a GPU inside it).

    After `warmup` untimed calls it is timed `min_runs` times at least, whatever that takes, and then on
    until `max_seconds` have been spent on timed calls or `max_runs` are done.
    """
    return interleave(
        {"fn": fn}, warmup=warmup, min_runs=min_runs, max_seconds=max_seconds, max_runs=max_runs, clock=clock
    )["fn"]


def interleave(
    fns: Mapping[str, Callable[[], Any]],
    *,
    warmup: int = 5,
    min_runs: int = 20,
    max_seconds: float = 10.0,
    max_runs: int = 1000,
    clock: Clock = time.perf_counter_ns,
) -> dict[str, Timing]:
    """Times several callables in turn, A B A B, so that ratios of their timings come from one run.

    All get the same number of runs. Limits as in `time_callable`; `max_seconds` is for all together.
    """
    if not fns:
        raise ValueError("nothing to time: give at least one callable")
    if min_runs < 1 or warmup < 0 or max_runs < min_runs:
        raise ValueError(
            f"need warmup >= 0 and 1 <= min_runs <= max_runs, got {warmup}, {min_runs}, {max_runs}"
        )
    for _ in range(warmup):
        for fn in fns.values():
            fn()
    durations: dict[str, list[int]] = {name: [] for name in fns}
    spent, runs = 0, 0
    while runs < min_runs or (runs < max_runs and spent < max_seconds * 1e9):
        for name, fn in fns.items():
            start = clock()
            fn()
            duration = clock() - start
            durations[name].append(duration)
            spent += duration
        runs += 1
    return {name: Timing.from_nanoseconds(values) for name, values in durations.items()}
