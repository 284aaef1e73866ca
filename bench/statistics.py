"""Intervals and stability of durations in a time series."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

RESAMPLES = 1000
LEVEL = 0.95
# how far the halves of a run may be apart, and how wide half the interval may be, as shares of the median
MOST_DRIFT, MOST_WIDTH = 0.05, 0.05
# With fewer independent runs than this, an interval by blocks of neighbours is too narrow: without the limit, 6 of 100
# pairs of runs of the same thing had intervals apart at a correlation of 0.7, with it 3 (tests/bench/test_statistics).
LEAST_INDEPENDENT = 10


@dataclass(frozen=True)
class Stability:
    """Whether a measurement is repeatable, and the reason in one line where it is not."""

    stable: bool
    reason: str = ""

    @property
    def notes(self) -> list[str]:
        """The note of a row that is not stable."""
        return [] if self.stable else [f"unstable: {self.reason}"]


@dataclass(frozen=True)
class Ratio:
    """Speed-up: ratio of the medians of two things timed in turn, with its 95 % interval."""

    value: float
    low: float
    high: float
    verdict: Stability

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "value": self.value,
            "interval": [self.low, self.high],
            "stable": self.verdict.stable,
            "reason": self.verdict.reason,
        }


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the median of durations in the order they were taken."""
    return _interval(np.median(np.asarray(values)[_drawn(len(values))], axis=1))


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of their mean."""
    return _interval(np.asarray(values)[_drawn(len(values))].mean(axis=1))


def judge(values: Sequence[float]) -> Stability:
    """Stable: the medians of both halves and the ends of the interval are within 5 % of the median, and the
    runs are independent enough (`independent_runs`)."""
    data = np.asarray(values, dtype=np.float64)
    halves = [float(np.median(half)) for half in np.array_split(data, 2) if len(half)]
    return _verdict(data, float(np.median(data)), halves, *median_interval(values))


def ratio(slow: Sequence[float], fast: Sequence[float]) -> Ratio:
    """Speed-up of `fast` over `slow`; runs of the same index were neighbours in time.

    Blocks of neighbouring pairs are resampled, since a machine is slow for seconds rather than for single
    runs. Raises ValueError for different numbers of runs, or none.
    """
    a, b = (np.asarray(values, dtype=np.float64) for values in (slow, fast))
    if len(a) != len(b) or not len(a):
        raise ValueError(f"{len(a)} and {len(b)} runs: a ratio needs as many of both, and at least one")
    drawn = _drawn(len(a))
    low, high = _interval(np.median(a[drawn], axis=1) / np.median(b[drawn], axis=1))
    value = float(np.median(a) / np.median(b))
    pairs = zip(np.array_split(a, 2), np.array_split(b, 2), strict=True)
    halves = [float(np.median(one) / np.median(other)) for one, other in pairs if len(one)]
    return Ratio(value, low, high, _verdict(a / b, value, halves, low, high))


def independent_runs(values: Values) -> float:
    """Effective number of independent runs, for noise with AR(1) correlation.

    The correlation of neighbours is corrected for the bias of short series (Kendall, "Note on bias in the
    estimation of autocorrelation", 1954).
    """
    count = len(values)
    distances = values - np.median(values)
    power = float((distances**2).sum())
    if power == 0 or count < 2:
        return float(count)
    found = float((distances[1:] * distances[:-1]).sum()) / power
    correlation = min(0.99, max(0.0, found + (1 + 4 * found) / count))
    lags = np.arange(1, count)
    return float(count / (1 + 2 * ((1 - lags / count) * correlation**lags).sum()))


def _verdict(series: Values, whole: float, halves: Sequence[float], low: float, high: float) -> Stability:
    if len(halves) < 2:
        return Stability(False, "a single run says nothing of the next")
    if not whole > 0:
        return Stability(False, "the clock is too coarse for it: its median is 0")
    if (drift := max(abs(half / whole - 1) for half in halves)) > MOST_DRIFT:
        return Stability(False, f"the halves of the run differ from its median by {drift:.0%}")
    if (width := max(whole - low, high - whole) / whole) > MOST_WIDTH:
        return Stability(False, f"the interval reaches {width:.0%} from the median")
    if len(series) >= LEAST_INDEPENDENT and (independent := independent_runs(series)) < LEAST_INDEPENDENT:
        return Stability(
            False, f"runs resemble their neighbours: {len(series)} of them say as much as {independent:.0f}"
        )
    return Stability(True)


def _drawn(count: int) -> npt.NDArray[np.intp]:
    """Indices [RESAMPLES, count] of circular blocks of about sqrt(count) neighbours, with a fixed seed.

    Politis and Romano, "A circular block-resampling procedure for stationary data", 1992.
    """
    if count < 1:
        raise ValueError("no durations: nothing was timed")
    length = max(1, round(math.sqrt(count)))
    blocks = -(-count // length)
    starts = np.random.default_rng(0).integers(0, count, (RESAMPLES, blocks, 1))
    return ((starts + np.arange(length)) % count).reshape(RESAMPLES, -1)[:, :count]


def _interval(statistics: Values) -> tuple[float, float]:
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(statistics, (tail, 100 - tail))
    return float(low), float(high)
