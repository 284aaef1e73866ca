"""Intervals, verdicts and ratios, on durations whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefel.bench.statistics import independent_runs, judge, mean_interval, median_interval, ratio

durations = st.lists(st.floats(0.01, 1e4), min_size=1, max_size=60)
factors = st.floats(0.01, 100)


def noisy(rng: np.random.Generator, runs: int, memory: float, spread: float = 0.03) -> np.ndarray:
    """Durations of median 10 whose noise remembers: correlation `memory` from one run to the next (AR(1))."""
    noise = np.empty(runs)
    noise[0] = rng.normal()
    for index in range(1, runs):
        noise[index] = memory * noise[index - 1] + math.sqrt(1 - memory**2) * rng.normal()
    return 10 * np.exp(spread * noise)


@given(durations)
@settings(max_examples=40, deadline=None)
def test_intervals_hold_their_statistic_and_lie_within_the_data(values):
    for interval, statistic in ((median_interval, np.median), (mean_interval, np.mean)):
        low, high = interval(values)
        slack = 1e-9 * max(values)
        assert min(values) - slack <= low <= high <= max(values) + slack
        # a percentile interval of few values may lie beside its statistic, never beyond the data
        if len(set(values)) == 1:
            assert low == pytest.approx(statistic(values)) == high


@given(durations, factors)
@settings(max_examples=40, deadline=None)
def test_another_unit_changes_no_verdict_and_scales_intervals(values, factor):
    scaled = [factor * value for value in values]
    assert median_interval(scaled) == pytest.approx([factor * end for end in median_interval(values)])
    assert mean_interval(scaled) == pytest.approx([factor * end for end in mean_interval(values)])


@given(st.lists(st.tuples(st.floats(0.1, 100), st.floats(0.1, 100)), min_size=2, max_size=40))
@settings(max_examples=40, deadline=None)
def test_a_ratio_the_other_way_round_is_its_reciprocal(pairs):
    slow, fast = zip(*pairs, strict=True)
    one, other = ratio(slow, fast), ratio(fast, slow)
    assert one.value == pytest.approx(1 / other.value)
    # a percentile between two neighbours is interpolated, and the reciprocal of a mean is no mean of reciprocals: both
    # ways round lie within what single runs say, not in the same point there
    quotients = sorted(a / b for a, b in pairs)
    for here, there in ((one.low, 1 / other.high), (one.high, 1 / other.low)):
        assert quotients[0] * (1 - 1e-9) <= min(here, there) <= max(here, there) <= quotients[-1] * (1 + 1e-9)
    assert one.low <= one.high
    assert other.low <= other.high


@pytest.mark.parametrize("seed", range(4))
def test_of_many_runs_the_interval_the_other_way_round_is_the_reciprocal_too(seed):
    """With hundreds of runs neighbours are close, and where between them a percentile lies matters no more."""
    rng = np.random.default_rng(seed)
    slow, fast = noisy(rng, 400, 0.0), 0.5 * noisy(rng, 400, 0.0)
    one, other = ratio(slow, fast), ratio(fast, slow)
    assert (one.low, one.high) == pytest.approx((1 / other.high, 1 / other.low), rel=0.01)


def test_what_is_always_the_same_has_no_width():
    assert median_interval([3.0] * 20) == (3.0, 3.0)
    assert mean_interval([3.0] * 20) == (3.0, 3.0)
    assert judge([3.0] * 20).stable
    found = ratio([6.0] * 20, [3.0] * 20)
    assert (found.value, found.low, found.high) == (2.0, 2.0, 2.0)
    assert found.to_dict() == {"value": 2.0, "interval": [2.0, 2.0], "stable": True, "reason": ""}


@pytest.mark.parametrize("memory", [0.0, 0.5])
def test_the_interval_covers_the_true_median(memory):
    """Nominal 95 %; blocks of sqrt(n) lose a little of it where runs resemble their neighbours."""
    rng = np.random.default_rng(1)
    covered = sum(
        low <= 10 <= high for low, high in (median_interval(noisy(rng, 100, memory)) for _ in range(200))
    )
    assert covered >= 170


def test_neighbours_that_resemble_each_other_widen_the_interval():
    """Resampling single runs would give both the same width."""
    rng = np.random.default_rng(2)

    def width(memory: float) -> float:
        ends = [median_interval(noisy(rng, 100, memory)) for _ in range(30)]
        return float(np.mean([high - low for low, high in ends]))

    assert width(0.8) > 1.5 * width(0.0)


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.7, 0.9, 0.97])
def test_two_runs_of_the_same_thing_agree_or_are_marked(memory):
    """In 95 of 100 cases at least: the intervals of the medians overlap, or one of the runs is called unstable."""
    rng = np.random.default_rng(3)
    fine = 0
    for _ in range(100):
        first, second = noisy(rng, 60, memory), noisy(rng, 60, memory)
        (a, b), (c, d) = median_interval(first), median_interval(second)
        fine += (a <= d and c <= b) or not (judge(first).stable and judge(second).stable)
    assert fine >= 95


@pytest.mark.parametrize("memory", [0.0, 0.9])
def test_two_ratios_of_the_same_things_agree_or_are_marked(memory):
    """The same of ratios, where the machine's slow moments hit both things at once."""
    rng = np.random.default_rng(4)

    def measured():
        machine = noisy(rng, 60, memory, spread=0.1) / 10
        return ratio(2 * machine * noisy(rng, 60, 0.0), machine * noisy(rng, 60, 0.0))

    fine = 0
    for _ in range(100):
        one, other = measured(), measured()
        overlap = one.low <= other.high and other.low <= one.high
        fine += overlap or not (one.verdict.stable and other.verdict.stable)
        assert one.value == pytest.approx(2.0, rel=0.1)
    assert fine >= 95


def test_independent_runs_are_counted():
    rng = np.random.default_rng(6)
    assert independent_runs(np.full(20, 3.0)) == 20
    assert np.mean([independent_runs(noisy(rng, 60, 0.0)) for _ in range(50)]) > 45
    # the correlation's sum: (1 - r) / (1 + r) of them
    assert np.mean([independent_runs(noisy(rng, 400, 0.8)) for _ in range(50)]) == pytest.approx(
        400 / 9, rel=0.25
    )


def test_a_single_run_and_a_clock_that_stands_still():
    assert judge([3.0]).reason == "a single run says nothing of the next"
    assert "too coarse" in judge([0.0] * 20).reason


def test_slow_moments_that_hit_both_cancel_in_the_ratio():
    """The machine is half as fast in the second half: single timings are unstable, their ratio is not."""
    rng = np.random.default_rng(5)
    machine = np.repeat([1.0, 2.0], 40)
    slow, fast = 3 * machine * noisy(rng, 80, 0.0, 0.01), machine * noisy(rng, 80, 0.0, 0.01)
    assert not judge(slow).stable
    assert not judge(fast).stable
    # the median of a mixture of two levels jumps between them when resampled, so width decides, not drift
    paired = ratio(slow, fast)
    assert paired.value == pytest.approx(3.0, rel=0.02)
    assert "halves" not in paired.verdict.reason


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([5.0], "a single run says nothing of the next"),
        ([10.0] * 30 + [12.0] * 30, "the halves of the run differ from its median by"),
        ([8.0, 9.0, 10.0, 11.0, 12.0] * 2, "the interval reaches"),
    ],
    ids=["single", "drift", "width"],
)
def test_what_is_not_stable_says_why(values, reason):
    verdict = judge(values)
    assert not verdict.stable
    assert verdict.reason.startswith(reason)


def test_the_same_durations_give_the_same_numbers():
    values = noisy(np.random.default_rng(6), 50, 0.5)
    assert median_interval(values) == median_interval(values)


@pytest.mark.parametrize(("slow", "fast"), [([1.0], [1.0, 2.0]), ([], [])])
def test_a_ratio_needs_pairs(slow, fast):
    with pytest.raises(ValueError, match="a ratio needs as many of both"):
        ratio(slow, fast)


def test_no_durations():
    with pytest.raises(ValueError, match="nothing was timed"):
        median_interval([])
