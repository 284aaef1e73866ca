"""The timer, driven by a clock that only moves when the timed function says so."""

from __future__ import annotations

from itertools import chain, repeat

import numpy as np
import pytest

from edgefel.bench.timer import (
    FULL,
    QUICK,
    Stopwatch,
    Timing,
    TimingPlan,
    cpu_stopwatch,
    measure,
    time_callable,
)
from edgefel.errors import EdgefelError

MS = 1_000_000


class FakeClock:
    """Nanoseconds that advance by what a call costs; `calls` records the order."""

    def __init__(self) -> None:
        self.now = 10**12
        self.calls: list[str] = []

    def __call__(self) -> int:
        return self.now

    @property
    def stopwatch(self) -> Stopwatch:
        return cpu_stopwatch(self)

    def work(self, name: str, *costs_ms: float):
        """A function that costs these milliseconds, the last of them from then on."""
        costs = chain(costs_ms, repeat(costs_ms[-1]))

        def fn() -> None:
            self.calls.append(name)
            self.now += round(next(costs) * MS)

        return fn


def fixed(runs: int, warmup: int = 0) -> TimingPlan:
    """That many runs, whatever they take."""
    return TimingPlan(warmup, settle_seconds=0, min_runs=runs, seconds=0, max_runs=runs)


def test_warm_up_is_run_and_not_timed():
    clock = FakeClock()
    timing = time_callable(clock.work("a", 900, 900, 1, 2, 3), fixed(3, warmup=2), clock.stopwatch)
    assert len(clock.calls) == 5
    assert timing.durations == (1.0, 2.0, 3.0)
    assert (timing.p50, timing.p90, timing.mean, timing.min, timing.runs) == (2.0, 2.8, 2.0, 1.0, 3)


def test_warming_up_goes_on_until_two_fives_agree():
    """Clocks rise and caches fill for 13 calls; the first ten alike are 14 to 23, and none before them is timed."""
    clock = FakeClock()
    slow = [50 - 3 * index for index in range(13)]
    plan = TimingPlan(warmup=2, settle_seconds=60, min_runs=4, seconds=0, max_runs=4)
    timing = time_callable(clock.work("a", *slow, 10), plan, clock.stopwatch)
    assert timing.durations == (10.0,) * 4
    # medians settle when three of the earlier five are settled
    assert 10 + len(slow) - 2 <= len(clock.calls) - 4 <= 10 + len(slow)


def test_warming_up_waits_for_the_slowest_to_settle():
    clock = FakeClock()
    fns = {"a": clock.work("a", 1), "b": clock.work("b", *range(60, 30, -1), 5)}
    plan = TimingPlan(warmup=2, settle_seconds=60, min_runs=2, seconds=0, max_runs=2)
    timings = measure(fns, plan, clock.stopwatch)
    assert timings["b"].durations == (5.0, 5.0)
    assert clock.calls == ["a", "b"] * (len(clock.calls) // 2)


def test_what_never_settles_is_warmed_up_for_a_limited_time():
    clock = FakeClock()
    costs = [float(100 * 1.1**index) for index in range(60)]
    plan = TimingPlan(warmup=1, settle_seconds=1.0, min_runs=1, seconds=0, max_runs=1)
    timing = time_callable(clock.work("a", *costs), plan, clock.stopwatch)
    spent = np.cumsum(costs)
    assert len(clock.calls) == int(np.searchsorted(spent, 1000)) + 2
    assert timing.runs == 1


def test_min_runs_wins_over_the_time():
    clock = FakeClock()
    plan = TimingPlan(0, 0, min_runs=4, seconds=1)
    assert time_callable(clock.work("a", 5000), plan, clock.stopwatch).runs == 4


def test_goes_on_until_the_time_is_spent_on_each():
    clock = FakeClock()
    fns = {"a": clock.work("a", 150), "b": clock.work("b", 50)}
    timings = measure(fns, TimingPlan(3, 0, min_runs=2, seconds=1), clock.stopwatch)
    assert {timing.runs for timing in timings.values()} == {10}


def test_max_runs_ends_it():
    clock = FakeClock()
    plan = TimingPlan(0, 0, min_runs=2, seconds=60, max_runs=7)
    assert time_callable(clock.work("a", 1), plan, clock.stopwatch).runs == 7


def test_turns_alternate_and_are_told_apart():
    clock = FakeClock()
    fns = {"a": clock.work("a", 1), "b": clock.work("b", 10, 30)}
    timings = measure(fns, fixed(3, warmup=1), clock.stopwatch)
    assert clock.calls == ["a", "b"] * 4
    assert timings["a"].p50 == 1.0
    assert timings["b"].p50 == 30.0
    assert {timing.runs for timing in timings.values()} == {3}


def test_progress_rises_to_the_whole():
    clock = FakeClock()
    shares: list[float] = []
    measure(
        {"a": clock.work("a", 100)}, TimingPlan(0, 0, min_runs=2, seconds=1), clock.stopwatch, shares.append
    )
    assert shares == pytest.approx([0.1 * turn for turn in range(1, 11)])


def test_the_published_plans_are_the_promised_ones():
    """50 runs and 10 s at least: what rows say of themselves rests on it."""
    assert (FULL.min_runs, FULL.seconds) == (50, 10.0)
    assert QUICK.min_runs < FULL.min_runs
    clock = FakeClock()
    assert time_callable(clock.work("a", 1000), FULL, clock.stopwatch).runs == 50
    assert time_callable(clock.work("a", 20), FULL, clock.stopwatch).runs == 500


def test_percentiles_are_in_milliseconds():
    timing = Timing.from_nanoseconds([ms * MS for ms in range(1, 102)])
    assert (timing.p50, timing.p90, timing.p95, timing.p99) == (51.0, 91.0, 96.0, 100.0)
    assert (timing.mean, timing.min, timing.runs) == (51.0, 1.0, 101)


def test_to_dict_tells_the_distribution_and_whether_to_believe_it():
    steady = Timing.from_nanoseconds([MS * (100 + index % 3) for index in range(60)]).to_dict()
    assert set(steady) == {
        *("p50", "p90", "p95", "p99", "mean", "min", "runs"),
        *("p50_interval", "mean_interval", "stable", "reason", "quantiles"),
    }
    assert (steady["stable"], steady["reason"]) == (True, "")
    assert len(steady["quantiles"]) == 41
    assert (steady["quantiles"][0], steady["quantiles"][20], steady["quantiles"][-1]) == (100.0, 101.0, 102.0)
    low, high = steady["mean_interval"]
    assert 100 <= low <= 101.0 <= high <= 102
    drifting = Timing.from_nanoseconds([MS * (100 + index) for index in range(60)])
    assert not drifting.verdict.stable
    assert "halves" in drifting.to_dict()["reason"]


def test_the_real_clock():
    timing = time_callable(lambda: np.zeros(10).sum(), fixed(5, warmup=1))
    assert 0 < timing.min <= timing.p50 <= timing.p90 <= timing.p95 <= timing.p99


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_runs": 0}, "min_runs=0, .*: need 1 <= min_runs"),
        ({"warmup": -1}, "warmup=-1, .* 0 or more of the others"),
        ({"min_runs": 5, "max_runs": 4}, "min_runs <= max_runs"),
        ({"seconds": float("nan")}, "seconds=nan, .* 0 or more"),
        ({"settle_seconds": -1.0}, "settle_seconds=-1.0, .* 0 or more"),
    ],
    ids=["runs", "warmup", "max", "seconds", "settling"],
)
def test_impossible_plans(options, message):
    with pytest.raises(EdgefelError, match=message):
        TimingPlan(**options)


def test_nothing_to_time():
    with pytest.raises(ValueError, match="nothing to time"):
        measure({})
    with pytest.raises(ValueError, match="nothing was timed"):
        Timing.from_nanoseconds([])
