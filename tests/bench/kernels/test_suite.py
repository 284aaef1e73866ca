"""The comparison at small sizes on the CPU: outputs are checked, and what is wrong is not timed."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from edgefel.bench.kernels import competitors
from edgefel.bench.kernels.problems import AttentionProblem, HeadProblem, PoolingProblem
from edgefel.bench.kernels.suite import compare, speedups, summary
from edgefel.bench.timer import TimingPlan, measure
from edgefel.errors import EdgefelError

pytest.importorskip("triton")

CPU = torch.device("cpu")
SMALL = AttentionProblem(3, 3, 1, 16, 2, torch.float32)
NAMES = (competitors.OURS, "eager", "sdpa-math")
TIMER = partial(measure, plan=TimingPlan(warmup=0, settle_seconds=0, min_runs=1, max_runs=1))


@pytest.mark.parametrize("backward", [False, True])
def test_every_implementation_is_checked_and_timed(backward):
    rows = compare(SMALL, backward, CPU, TIMER, names=NAMES)
    assert [row.implementation for row in rows] == list(NAMES)
    for row in rows:
        assert row.ms_p50 > 0
        assert row.error < 1e-5
        assert row.mode == ("forward+backward" if backward else "forward")
        assert row.gb_per_s == pytest.approx(SMALL.work(backward).bytes / row.ms_p50 / 1e6)


def test_the_heads_arithmetic_too():
    rows = compare(HeadProblem(batch=2), False, CPU, TIMER, names=(competitors.OURS, "eager"))
    assert [row.op for row in rows] == ["reliability_balance"] * 2
    assert all(row.error < 1e-5 for row in rows)


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("heads", [0, 2])
def test_both_poolings_too(heads, backward):
    problem = PoolingProblem(9, 5, 24, heads, 2, torch.float16)
    rows = compare(problem, backward, CPU, TIMER, names=(competitors.OURS, "eager"))
    assert [(row.op, row.implementation) for row in rows] == [
        (problem.op, name) for name in (competitors.OURS, "eager")
    ]
    for row in rows:
        assert row.error < 1e-3
        assert row.ms_p50 > 0
        assert row.mode == ("forward+backward" if backward else "forward")


def test_an_implementation_that_does_not_run_says_why():
    rows = compare(SMALL, False, CPU, TIMER, names=(competitors.OURS, "sdpa-cudnn"))
    assert rows[0].ms_p50 is not None
    assert rows[1].ms_p50 is None
    assert rows[1].note.startswith("does not run: ")


def wrong(call):
    return lambda q, kv, table: call(q, kv, table) + 0.5


def test_a_wrong_competitor_is_not_timed(monkeypatch):
    right = competitors.implementation
    monkeypatch.setattr(
        competitors, "implementation",
        lambda name, *rest: wrong(right(name, *rest)) if name == "sdpa-math" else right(name, *rest),
    )  # fmt: skip
    rows = compare(SMALL, False, CPU, TIMER, names=NAMES)
    assert rows[2].ms_p50 is None
    assert rows[2].note == "wrong; not timed"
    assert rows[2].error > 0.1


def test_if_ours_is_wrong_nothing_is_timed(monkeypatch):
    right = competitors.implementation
    monkeypatch.setattr(
        competitors, "implementation",
        lambda name, *rest: wrong(right(name, *rest)) if name == competitors.OURS else right(name, *rest),
    )  # fmt: skip

    def never(fns):
        raise AssertionError("timed")

    with pytest.raises(EdgefelError, match="wrong by .* nothing was timed"):
        compare(SMALL, False, CPU, never, names=NAMES)


def test_nan_counts_as_wrong(monkeypatch):
    right = competitors.implementation
    monkeypatch.setattr(
        competitors, "implementation",
        lambda name, *rest: (
            (lambda q, kv, table: right(name, *rest)(q, kv, table) * float("nan"))
            if name == "sdpa-math" else right(name, *rest)
        ),
    )  # fmt: skip
    assert compare(SMALL, False, CPU, TIMER, names=NAMES)[2].note == "wrong; not timed"


def test_speedups_are_over_the_fastest_other(rows):
    assert list(speedups(rows).values()) == [2.0, 0.5]
    assert summary(rows) == [
        {"op": "window_cross_attention", "dtype": "fp16", "mode": "forward", "geometric_mean": 1.0, "least": 0.5,
         "problems": 2}
    ]  # fmt: skip
