"""The timer, driven by a clock that only moves when the timed function says so."""

from __future__ import annotations

import numpy as np
import pytest

from edgefel.bench.timer import Timing, interleave, time_callable


class FakeClock:
    """Nanoseconds that advance by what a call costs; `calls` records the order."""

    def __init__(self) -> None:
        self.now = 10**12
        self.calls: list[str] = []

    def __call__(self) -> int:
        return self.now

    def work(self, name: str, *costs_ms: float):
        costs = iter(costs_ms)
        last = costs_ms[-1]

        def fn() -> None:
            self.calls.append(name)
            self.now += round(next(costs, last) * 1e6)

        return fn


def test_warm_up_is_run_and_not_timed():
    clock = FakeClock()
    timing = time_callable(
        clock.work("a", 900, 900, 1, 2, 3), warmup=2, min_runs=3, max_seconds=0, clock=clock
    )
    assert len(clock.calls) == 5
    assert timing == Timing(p50=2.0, p90=2.8, p99=pytest.approx(2.98), mean=2.0, min=1.0, runs=3)


def test_percentiles_are_in_milliseconds():
    timing = Timing.from_nanoseconds([round(ms * 1e6) for ms in range(1, 102)])
    assert (timing.p50, timing.p90, timing.p99) == (51.0, 91.0, 100.0)
    assert (timing.mean, timing.min, timing.runs) == (51.0, 1.0, 101)


def test_min_runs_wins_over_max_seconds():
    clock = FakeClock()
    assert time_callable(clock.work("a", 5000), warmup=0, min_runs=4, max_seconds=1, clock=clock).runs == 4


def test_goes_on_until_max_seconds():
    clock = FakeClock()
    assert time_callable(clock.work("a", 100), warmup=3, min_runs=2, max_seconds=1, clock=clock).runs == 10


def test_max_runs_ends_it():
    clock = FakeClock()
    timing = time_callable(clock.work("a", 1), warmup=0, min_runs=2, max_seconds=60, max_runs=7, clock=clock)
    assert timing.runs == 7


def test_interleave_alternates_and_separates():
    clock = FakeClock()
    fns = {"a": clock.work("a", 1), "b": clock.work("b", 10, 30)}
    timings = interleave(fns, warmup=1, min_runs=3, max_seconds=0, clock=clock)
    assert clock.calls == ["a", "b"] * 4
    assert timings["a"].p50 == 1.0
    assert timings["b"].p50 == 30.0
    assert {timing.runs for timing in timings.values()} == {3}


def test_to_dict_names_every_field():
    assert set(Timing.from_nanoseconds([1]).to_dict()) == {"p50", "p90", "p99", "mean", "min", "runs"}


def test_real_clock():
    timing = time_callable(lambda: np.zeros(10).sum(), warmup=1, min_runs=5, max_seconds=0)
    assert 0 < timing.min <= timing.p50 <= timing.p90 <= timing.p99


@pytest.mark.parametrize(
    "options",
    [{"min_runs": 0}, {"warmup": -1}, {"min_runs": 5, "max_runs": 4}],
    ids=["runs", "warmup", "max"],
)
def test_impossible_limits(options):
    with pytest.raises(ValueError, match="min_runs"):
        time_callable(lambda: None, **options)


def test_nothing_to_time():
    with pytest.raises(ValueError, match="nothing to time"):
        interleave({})
    with pytest.raises(ValueError, match="nothing was timed"):
        Timing.from_nanoseconds([])
