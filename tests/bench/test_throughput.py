"""Throughput with more and more callers: a closed loop around a server whose capacity is known, and a real bundle."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefel.bench import throughput
from edgefel.bench.results import append_results, read_results
from edgefel.bench.throughput import (
    LoadPoint,
    Pass,
    ThroughputOptions,
    bench_throughput,
    knee,
    run_callers,
    summarize,
    sweep,
)
from edgefel.errors import EdgefelError

BUNDLE = Path(__file__).parent.parent / "bundles" / "nano-synthetic"
S = 10**9


class Server:
    """`width` calls at once, first come, first served; each takes 10 ms and no processor."""

    def __init__(self, width: int) -> None:
        self._workers = ThreadPoolExecutor(width)

    def call(self) -> None:
        self._workers.submit(time.sleep, 0.01).result()


def point(callers: int, *rates: float) -> LoadPoint:
    return LoadPoint(callers, tuple(Pass(rate, (10**6, 10**6), 1.0) for rate in rates))


def test_the_curve_ends_at_the_servers_width_and_waiting_begins_there():
    # bounds that hold on a machine of any speed: a call of 10 ms may be late, never early
    server = Server(2)
    points = sweep([server.call] * 8, (1, 2, 4, 8), seconds=0.3, warmup=0.05)
    for one in points:
        served = min(one.callers, 2)
        assert one.calls_per_s <= 1.05 * served / 0.01
        # the queue is first come, first served: everybody ahead is served before
        assert one.latency.p50 >= 0.95 * 10 * one.callers / served
        # Little's law, which nothing in the code computes with
        waiting = one.calls_per_s * one.latency.mean / 1e3
        assert waiting == pytest.approx(one.callers, rel=0.3)
        assert one.cores_busy < 0.7


def test_busy_cores_are_counted():
    def work() -> None:
        end = time.thread_time() + 0.01
        while time.thread_time() < end:
            pass

    found = run_callers([work], seconds=0.6, warmup=0.0)
    # each call uses 10 ms of processor time, however many strangers there are
    assert found.cores_busy == pytest.approx(0.01 * found.calls_per_s, rel=0.25)


def test_points_are_visited_on_the_way_up_and_down(monkeypatch):
    visited, shares = [], []

    def fake(calls, *, seconds, warmup):
        visited.append(len(calls))
        return Pass(float(len(visited)), (10**6,), 1.0)

    monkeypatch.setattr(throughput, "run_callers", fake)
    points = sweep([lambda: None] * 4, (1, 2, 4), seconds=1.0, warmup=0.0, advance=shares.append)
    assert visited == [1, 2, 4, 4, 2, 1]
    # what drifts evenly is the same in the mean of every point
    assert [one.calls_per_s for one in points] == [3.5, 3.5, 3.5]
    assert shares[-1] == 1.0


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({1: 50, 2: 96, 4: 100, 8: 99}, 2),
        ({1: 50, 2: 94, 4: 100, 8: 99}, 4),
        ({1: 100, 2: 90, 4: 80}, 1),
        ({3: 10}, 3),
    ],
    ids=["within 5 %", "not quite", "falling", "one point"],
)
def test_the_knee_is_the_fewest_callers_near_the_best(rates, expected):
    assert knee([point(callers, rate) for callers, rate in rates.items()]) == expected


@given(st.dictionaries(st.integers(1, 64), st.floats(0.1, 1e4), min_size=1), st.floats(0.01, 100))
@settings(deadline=None, max_examples=50)
def test_the_knee_does_not_depend_on_the_unit(rates, factor):
    found = knee([point(callers, rate) for callers, rate in rates.items()])
    assert rates[found] >= 0.95 * max(rates.values()) * (1 - 1e-9)
    # images a minute or calls a second; a rounding of the border aside
    scaled = knee([point(callers, factor * rate) for callers, rate in rates.items()])
    assert factor * rates[scaled] == pytest.approx(factor * rates[found], rel=0.06)


def test_passes_that_differ_by_more_than_a_tenth_are_unstable():
    assert point(1, 100, 109).verdict.stable
    verdict = point(1, 112, 100).verdict
    assert not verdict.stable
    assert verdict.reason == "the throughput of the two passes differs by 12%"


def test_a_call_across_the_border_counts_by_its_share():
    spans = [(0, 2 * S), (2 * S, 4 * S), (4 * S, 6 * S), (6 * S, 8 * S)]
    found = summarize(spans, 1 * S, 5 * S, 6.0)
    # half of the first, the second, half of the third
    assert found.calls_per_s == pytest.approx(2 / 4)
    assert found.latencies == (2 * S, 2 * S)
    assert found.cores_busy == 1.5


def test_no_call_in_time_is_an_error():
    with pytest.raises(EdgefelError, match="not a single call ended"):
        summarize([(0, 10 * S)], 1 * S, 2 * S, 1.0)


def test_slow_calls_get_the_time_they_need():
    """Three calls of 60 ms, though the pass was to last 1 ms."""
    found = run_callers([lambda: time.sleep(0.06)] * 2, seconds=0.001, warmup=0.0)
    assert len(found.latencies) >= 6
    assert min(found.latencies) >= 0.06 * S
    assert 0 < found.calls_per_s <= 1.05 * 2 / 0.06


def test_what_a_call_raises_ends_the_pass():
    def fail() -> None:
        raise EdgefelError("the model is gone")

    before = threading.active_count()
    with pytest.raises(EdgefelError, match="the model is gone"):
        run_callers([lambda: time.sleep(0.001), fail], seconds=60, warmup=60)
    assert threading.active_count() == before


def test_many_durations_are_thinned_for_intervals_alone():
    many = LoadPoint(1, (Pass(1.0, tuple(range(1, 100_001)), 1.0),)).latency
    assert many.runs == 100_000
    assert len(many.durations) == 2000
    assert many.p99 == pytest.approx(0.099, rel=1e-3)


def test_points_by_default_double_up_to_twice_the_cores(monkeypatch):
    monkeypatch.setattr(throughput, "usable_cores", lambda: 6)
    assert ThroughputOptions().points == (1, 2, 4, 8)
    monkeypatch.setattr(throughput, "usable_cores", lambda: 1)
    assert ThroughputOptions().points == (1, 2, 4)
    assert ThroughputOptions(concurrency=(8, 1, 8)).points == (1, 8)


def test_rows_of_a_bundle(tmp_path):
    options = ThroughputOptions(("onnxruntime",), batches=(3,), concurrency=(1, 2), seconds=0.1, warmup=0.0)
    swept = bench_throughput(BUNDLE, options)
    assert [row.subject["concurrency"] for row in swept.rows] == [1, 2]
    assert sum(row.metrics["knee"] for row in swept.rows) == 1
    for row in swept.rows:
        metrics = row.metrics
        assert row.subject == {
            "model": "arbex-nano",
            "precision": "fp32",
            "backend": "onnxruntime",
            "batch": 3,
            "threads": 1,
            "concurrency": row.subject["concurrency"],
        }
        assert metrics["images_per_s"] == pytest.approx(sum(metrics["images_per_s_passes"]) / 2)
        # three faces to a call
        little = metrics["images_per_s"] / 3 * metrics["latency_ms"]["mean"] / 1e3
        assert little == pytest.approx(row.subject["concurrency"], rel=0.5)
        assert 0 < metrics["utilisation"] <= 1.1
        assert metrics["latency_ms"]["stable"] == (not any("passes" in note for note in row.notes))
    append_results(tmp_path / "rows.jsonl", swept.rows)
    assert read_results(tmp_path / "rows.jsonl").rows == swept.rows


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurrency": (0,)}, "concurrency 0: give numbers of at least 1"),
        ({"batches": ()}, "batches none"),
        ({"seconds": 0.0}, "give more than 0"),
        ({"seconds": float("nan")}, "give more than 0"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(EdgefelError, match=message):
        ThroughputOptions(**options)
