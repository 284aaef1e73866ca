"""Percentiles of the histogram beside NumPy's."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgefel.runtime.telemetry.histogram import Histogram

FRACTIONS = (0.0, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0)
RNG = np.random.default_rng(7)
LATENCIES = {
    "log-normal around 3 ms": RNG.lognormal(np.log(3e-3), 0.7, 20011),
    "uniform from 1 to 40 ms": RNG.uniform(1e-3, 40e-3, 5003),
    "two modes": np.concatenate([RNG.normal(2e-3, 1e-4, 900), RNG.normal(0.5, 1e-2, 100)]),
    "microseconds to minutes": 10 ** RNG.uniform(-6, 2, 4001),
    "seven": RNG.lognormal(np.log(3e-3), 1.5, 7),
    "one": np.array([0.0123]),
    "all the same": np.full(50, 4.2e-3),
}


def histogram_of(durations) -> Histogram:
    histogram = Histogram()
    for seconds in durations:
        histogram.add(float(seconds))
    return histogram


@pytest.mark.parametrize("case", LATENCIES)
def test_percentiles_are_numpys_within_one_percent(case):
    durations = LATENCIES[case]
    found = histogram_of(durations).percentiles(FRACTIONS)
    expected = np.percentile(durations, [100 * fraction for fraction in FRACTIONS])
    np.testing.assert_allclose(found, expected, rtol=0.0101)


def test_count_sum_and_extremes_are_exact():
    durations = LATENCIES["two modes"]
    histogram = histogram_of(durations)
    assert (histogram.count, histogram.low, histogram.high) == (1000, durations.min(), durations.max())
    assert histogram.total == pytest.approx(durations.sum(), rel=1e-12)


def test_durations_beyond_the_buckets_are_counted_and_their_extremes_kept():
    histogram = histogram_of([0.0, 1e-9, 1e9])
    assert histogram.count == 3
    assert histogram.percentiles((0.0,)) == (pytest.approx(0.0, abs=2e-7),)
    assert histogram.high == 1e9


def test_nothing_counted_is_zeros():
    assert Histogram().percentiles((0.5, 0.99)) == (0.0, 0.0)


@pytest.mark.parametrize("seconds", [-1e-9, math.nan, math.inf])
def test_a_duration_that_is_none_is_refused_and_not_counted(seconds):
    histogram = Histogram()
    with pytest.raises(ValueError, match="must be 0 or more, and finite"):
        histogram.add(seconds)
    assert histogram.count == 0


def test_a_copy_stays_as_it_was():
    histogram = histogram_of([1e-3, 2e-3])
    twin = histogram.copy()
    for _ in range(9):
        histogram.add(1e-6)
    assert (twin.count, twin.low) == (2, 1e-3)
    assert twin.percentiles((1.0,)) == (pytest.approx(2e-3, rel=0.011),)
