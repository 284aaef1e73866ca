"""The comparison at small sizes on the CPU: outputs are checked, and what is wrong is not timed."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from edgefel.bench.kernels import competitors, report
from edgefel.bench.kernels.gpu import Ceilings
from edgefel.bench.kernels.problems import (
    AttentionProblem,
    HeadProblem,
    PoolingProblem,
    Work,
    poolings,
    pyramid_levels,
)
from edgefel.bench.kernels.suite import KernelRow, compare, speedups
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


def test_floors_of_the_full_model():
    level1, _, level3 = pyramid_levels(256, torch.float16)
    forward = level1.work(backward=False)
    # ../docs/kernels.md: four maps of 256 * 784 * 64 * 2 bytes, and the table
    assert forward.bytes == 4 * 256 * 784 * 64 * 2 + 55 * 55 * 2 * 2
    assert forward.flops == 4 * 256 * 2 * 784**2 * 32
    assert forward.exponentials == 256 * 2 * 784**2
    assert level1.work(backward=True).flops == 3.5 * forward.flops
    assert (level3.window, level3.heads, level3.width) == (7, 8, 32)


def test_floors_of_the_poolings():
    patches, first, last = poolings(64, torch.float16)
    assert [(p.op, p.name) for p in (patches, first, last)] == [
        ("pool_patches", "196 to 160"),
        ("pool_tokens", "160 to 144"),
        ("pool_tokens", "116 to 104"),
    ]
    # ../kernels/token_pooling/README.md: all patches and positions in, what is kept out
    assert patches.work(False) == Work(2 * (64 * (196 + 160) * 768 + 196 * 768), 0, 0)
    assert patches.work(True).bytes == 2 * patches.work(False).bytes
    # what is kept in and out, and one row of the products of 8 heads
    assert first.work(False) == Work(2 * 64 * (2 * 145 * 768 + 8 * 160), 0, 0)
    assert first.work(True).bytes == first.work(False).bytes + 2 * 64 * (145 + 161) * 768


def test_the_slowest_part_of_the_work_is_the_floor():
    ceilings = Ceilings(bytes_per_s=1e9, flops_per_s=1e12, exponentials_per_s=1e10)
    assert ceilings.floor_ms(Work(bytes=2e9, flops=1e12, exponentials=1e10)) == 2000
    assert ceilings.floor_ms(Work(bytes=1e9, flops=1e12, exponentials=3e10)) == 3000


def rows() -> list[KernelRow]:
    times = {("level 1", 1): (1.0, 2.0, 3.0), ("level 1", 8): (2.0, 1.0, None)}
    return [
        KernelRow(
            "window_cross_attention", problem, batch, "fp16", "forward", name, ms_p50=ms, ms_p90=ms, note="x"
        )
        for (problem, batch), group in times.items()
        for name, ms in zip((competitors.OURS, "eager", "flex"), group, strict=True)
    ]


def test_speedups_are_over_the_fastest_other():
    assert list(speedups(rows()).values()) == [2.0, 0.5]
    assert report.summary(rows()) == [
        {"op": "window_cross_attention", "dtype": "fp16", "mode": "forward", "geometric_mean": 1.0, "least": 0.5,
         "problems": 2}
    ]  # fmt: skip


def test_table_and_plot(tmp_path):
    assert report.table(rows()).row_count == 6
    report.save_plot(rows(), tmp_path / "plot.png", "a GPU")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="at least one timed row"):
        report.save_plot([KernelRow("op", "p", 1, "fp16", "forward", "eager")], tmp_path / "none.png", "")
    assert not (tmp_path / "none.png").exists()
