"""The timer: warms up until stable, repeats, and reports milliseconds per call with intervals and stability."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import cv2
import numpy as np

from edgefel.bench import statistics
from edgefel.errors import EdgefelError

# rounds whose medians are compared to tell whether warming up is over, and how much they may differ
_SETTLING_ROUNDS, _SETTLED = 5, 0.03
_QUANTILES = 41
# larger than any last-level cache, so that every run finds its inputs in memory
FLUSH_BYTES = 256 << 20
K = TypeVar("K")
Call = Callable[[], Any]
# nanoseconds that a call takes until its work is done
Stopwatch = Callable[[Call], int]
# what is going on, and the share of it that is done, 0 to 1
Advance = Callable[[str, float], None]


def cpu_stopwatch(clock: Callable[[], int] = time.perf_counter_ns, *, flush: bool = False) -> Stopwatch:
    """`perf_counter`; flush: writes over the caches before each call, outside the measured time."""
    caches = np.zeros(FLUSH_BYTES // 8, np.int64) if flush else None

    def stopwatch(fn: Call) -> int:
        nonlocal caches
        if caches is not None:
            caches += 1
        start = clock()
        fn()
        return clock() - start

    return stopwatch


def cuda_stopwatch(*, flush: bool = True) -> Stopwatch:
    """CUDA events of torch's current stream, on which the call must queue its work.

    flush: writes over the cache before each call. That also keeps the GPU busy while Python prepares the
    launch, so that only the GPU's time is measured.
    """
    import torch

    cache = torch.empty(FLUSH_BYTES, dtype=torch.int8, device="cuda") if flush else None

    def stopwatch(fn: Call) -> int:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        if cache is not None:
            cache.zero_()
        start.record()
        fn()
        end.record()
        end.synchronize()
        return round(1e6 * start.elapsed_time(end))

    return stopwatch


@dataclass(frozen=True)
class TimingPlan:
    """How long something is timed.

    warmup: least number of untimed calls; more follow until two consecutive groups of five agree within 3 %,
    for `settle_seconds` at most. Then at least `min_runs` timed calls, and more until `seconds` were spent on
    each callable or `max_runs` are done. Raises EdgefelError for numbers that leave nothing to time.
    """

    warmup: int = 5
    settle_seconds: float = 5.0
    min_runs: int = 50
    seconds: float = 10.0
    max_runs: int = 2000

    def __post_init__(self) -> None:
        counts = self.warmup >= 0 and 1 <= self.min_runs <= self.max_runs
        if not (counts and self.seconds >= 0 and self.settle_seconds >= 0):  # NaN too
            raise EdgefelError(f"{self}: need 1 <= min_runs <= max_runs, and 0 or more of the others")

    @classmethod
    def of(cls, min_runs: int, seconds: float) -> TimingPlan:
        """At least so many runs and so many seconds for each, with no longer a warm-up."""
        return cls(min_runs=min_runs, seconds=seconds, settle_seconds=min(cls.settle_seconds, seconds))

    @classmethod
    def exactly(cls, runs: int) -> TimingPlan:
        """A fixed number of runs."""
        return cls(min_runs=runs, max_runs=runs, seconds=0)


FULL = TimingPlan()
QUICK = TimingPlan(warmup=2, settle_seconds=1.0, min_runs=8, seconds=2.0)


@dataclass(frozen=True)
class Timing:
    """Milliseconds per call over `runs` timed calls; percentiles interpolate linearly. durations: in order."""

    p50: float
    p90: float
    p95: float
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
        p50, p90, p95, p99 = (float(value) for value in np.percentile(ms, (50, 90, 95, 99)))
        return cls(p50, p90, p95, p99, float(ms.mean()), float(ms.min()), len(durations), tuple(ms.tolist()))

    @property
    def verdict(self) -> statistics.Stability:
        """Whether the same would be measured again."""
        return statistics.judge(self.durations)

    def speed(self, images: int) -> dict[str, Any]:
        """Metrics of a row: the images of a call per second, and the latency of the call."""
        return {"images_per_s": 1e3 * images / self.p50, "latency_ms": self.to_dict()}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: percentiles, 95 % intervals of median and mean, stability, and 41 quantiles."""
        verdict = self.verdict
        quantiles = np.quantile(self.durations, np.linspace(0, 1, _QUANTILES))
        return {
            **{name: getattr(self, name) for name in ("p50", "p90", "p95", "p99", "mean", "min", "runs")},
            "p50_interval": list(statistics.median_interval(self.durations)),
            "mean_interval": list(statistics.mean_interval(self.durations)),
            "stable": verdict.stable,
            "reason": verdict.reason,
            "quantiles": [round(float(value), 6) for value in quantiles],
        }


def measure(
    fns: Mapping[K, Call],
    plan: TimingPlan = FULL,
    stopwatch: Stopwatch | None = None,
    advance: Callable[[float], None] = lambda share: None,
) -> dict[K, Timing]:
    """Times several callables in turn, A B A B, so that ratios of their timings come from one run.

    All get the same number of runs. stopwatch: `cpu_stopwatch()` by default, for callables that return when
    their work is done. advance: called with the share done, 0 to 1.
    """
    if not fns:
        raise ValueError("nothing to time: give at least one callable")
    watch = stopwatch or cpu_stopwatch()
    _warm_up(fns, plan, watch)
    durations: dict[K, list[int]] = {name: [] for name in fns}
    spent, runs, limit = 0, 0, plan.seconds * len(fns) * 1e9
    while runs < plan.min_runs or (runs < plan.max_runs and spent < limit):
        spent += _round(fns, watch, durations)
        runs += 1
        longest = max(runs / plan.max_runs, spent / limit if limit else 1.0)
        advance(min(1.0, runs / plan.min_runs, longest))
    return {name: Timing.from_nanoseconds(values) for name, values in durations.items()}


def ratio_to(timings: Mapping[K, Timing], base: K, own: K, name: str | None = None) -> dict[str, Any]:
    """A row's "ratio": how many times as fast `own` is as `base`, which took turns with it. name: for `base`."""
    found = statistics.ratio(timings[base].durations, timings[own].durations)
    return {**found.to_dict(), "to": name or str(base)}


@contextmanager
def opencv_threads(threads: int) -> Iterator[None]:
    """OpenCV on so many threads inside the block; their number is the process's and not a call's."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(threads)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def time_callable(fn: Call, plan: TimingPlan = FULL, stopwatch: Stopwatch | None = None) -> Timing:
    """Times one callable."""
    return measure({"fn": fn}, plan, stopwatch)["fn"]


def _warm_up(fns: Mapping[K, Call], plan: TimingPlan, watch: Stopwatch) -> None:
    """Until the last five rounds of every callable took as long as the five before them."""
    rounds: dict[K, list[int]] = {name: [] for name in fns}
    spent, done = 0, 0
    while done < plan.warmup or (spent < plan.settle_seconds * len(fns) * 1e9 and not _settled(rounds)):
        spent += _round(fns, watch, rounds)
        done += 1


def _round(fns: Mapping[K, Call], watch: Stopwatch, durations: Mapping[K, list[int]]) -> int:
    """Times every callable once; returns the sum in ns."""
    for name, fn in fns.items():
        durations[name].append(watch(fn))
    return sum(own[-1] for own in durations.values())


def _settled(rounds: Mapping[K, Sequence[int]]) -> bool:
    for durations in rounds.values():
        if len(durations) < 2 * _SETTLING_ROUNDS:
            return False
        before, now = np.median(np.reshape(durations[-2 * _SETTLING_ROUNDS :], (2, -1)), axis=1)
        if abs(now - before) > _SETTLED * before:
            return False
    return True
